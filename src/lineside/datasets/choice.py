"""Which pictures of a source are wanted: all, those of a list of ids, or a seeded sample.

A sample is the pictures whose names hash lowest with the seed: the same on every machine and in any
order of listing, and with a larger number the same ones and more.
"""

import csv
import hashlib
import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lineside.core import InvalidError, NotFoundError
from lineside.datasets.formats.rows import Entry
from lineside.datasets.trees import stem_of

_MOST_IDS_BYTES = 256 * 1024 * 1024
_ID_COLUMNS = ("id", "file", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of a source is wanted.

    Attributes:
        ids: names of pictures, with or without folder and suffix; a number also matches the same
            number padded with zeros. None takes all.
        most: how many to sample; 0 takes all.
        seed: another seed, another sample.
    """

    ids: tuple[str, ...] | None = None
    most: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise InvalidError(f"a sample of {self.most} pictures", fix="Ask for one or more.")
        if self.ids is not None and not self.ids:
            raise InvalidError("no ids", fix="Name one in each line.")

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.ids is None and not self.most


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids in a file: one in each line, or the column ``id``, ``file`` or ``name`` of a CSV.

    Raises:
        NotFoundError: no such file.
        InvalidError: it is no text, or holds none.
    """
    try:
        if path.stat().st_size > _MOST_IDS_BYTES:
            raise InvalidError("a list of ids above 256 MiB", where=str(path), fix="Split it.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8 text", where=str(path), fix="Save it as UTF-8.") from error
    found = list(_column(text))
    if not any(found):
        raise InvalidError("no ids in it", where=str(path), fix="Name one in each line.")
    return tuple(dict.fromkeys(word for word in found if word))


def _column(text: str) -> Iterator[str]:
    """The id column of a table, or the lines as they stand."""
    header = [cell.strip() for cell in text.partition("\n")[0].split(",")]
    name = next((name for name in _ID_COLUMNS if name in header), "")
    if not name:
        yield from (line.strip() for line in text.splitlines())
        return
    rows = csv.DictReader(io.StringIO(text.partition("\n")[2], newline=""), fieldnames=header)
    for row in rows:
        yield (row[name] or "").strip()


def plain_number(word: str) -> str:
    """``2`` for ``00002``; other words as they stand."""
    return str(int(word)) if word.isascii() and word.isdigit() else word


def chosen(entries: Iterable[Entry], choice: Choice) -> Iterator[Entry]:
    """The wanted entries; of a sample in the order of their names, else as they come."""
    kept = iter(entries)
    if choice.ids is not None:
        kept = _named(kept, choice.ids)
    if choice.most:
        lowest = heapq.nsmallest(choice.most, kept, key=lambda entry: _rank(entry.file, choice))
        return iter(sorted(lowest, key=lambda entry: entry.file))
    return kept


def _named(entries: Iterator[Entry], ids: Sequence[str]) -> Iterator[Entry]:
    wanted = {form for word in ids for form in (word, plain_number(word))}
    return (entry for entry in entries if not wanted.isdisjoint(_forms(entry.file)))


def _forms(file: str) -> tuple[str, str, str, str]:
    """What a person may write for a picture."""
    stem = stem_of(file)
    return file, PurePosixPath(file).name, stem, plain_number(stem)


def _rank(file: str, choice: Choice) -> bytes:
    return hashlib.sha256(f"{choice.seed}\n{file}".encode()).digest()
