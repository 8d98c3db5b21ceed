"""The output of a writer: the folder, the images' new names, and the notes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lineside.core import Digest
from lineside.datasets.recordio import picture_suffix
from lineside.datasets.samples import Part, Sample, Skipped
from lineside.vision import picture_size

_KEPT = frozenset("-_. ,()+@")
_LONGEST_NAME = 120
PART_WORDS = {Part.OPEN: "", Part.TRAIN: "train", Part.VALID: "val", Part.TEST: "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A picture on its way out.

    Attributes:
        file: its new name, without folder; no two share their stem.
    """

    sample: Sample
    file: str
    width_px: int
    height_px: int

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return PurePosixPath(self.file).stem

    @property
    def part(self) -> str:
        """``train``, ``val``, ``test`` or ``""``."""
        return PART_WORDS[self.sample.split]


@dataclass(slots=True, kw_only=True)
class Output:
    """The folder that is written, and where bytes come from."""

    folder: Path
    files: Callable[[Digest], bytes]
    notes: list[Skipped] = field(default_factory=list)

    def put(self, name: str, data: bytes) -> None:
        """Write a file below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def say(self, item: Outgoing, reason: str) -> None:
        """Note that a picture, or something of it, was left out."""
        self.notes.append(Skipped(where=item.sample.name, reason=reason))

    def say_count(self, count: int, reason: str) -> None:
        """Note something that befell so many pictures."""
        if count:
            self.notes.append(Skipped(where=f"{count} pictures", reason=reason))


def outgoing(
    samples: Iterable[Sample], *, files: Callable[[Digest], bytes]
) -> Iterator[tuple[Outgoing, bytes]]:
    """Each picture with its new name and its bytes, in the order given."""
    taken: Counter[str] = Counter()
    for sample in samples:
        encoded = files(sample.digest)
        stem = _plain(PurePosixPath(sample.name).stem) or "picture"
        if taken[stem.lower()]:
            stem = f"{stem}-{sample.digest.removeprefix('sha256:')[:12]}"
        taken[stem.lower()] += 1
        width, height = picture_size(encoded)
        file = stem + picture_suffix(encoded)
        yield Outgoing(sample=sample, file=file, width_px=width, height_px=height), encoded


def _plain(stem: str) -> str:
    """A name that every system and every list file takes."""
    kept = "".join(letter if letter.isalnum() or letter in _KEPT else "_" for letter in stem)
    return kept.strip(" .")[:_LONGEST_NAME]


def label_names(items: Sequence[Outgoing]) -> tuple[str, ...]:
    """Every label that holds on some picture, sorted."""
    return tuple(sorted({label for item in items for label in item.sample.labels}))


def marked_names(items: Sequence[Outgoing]) -> tuple[str, ...]:
    """Every name that an object bears, sorted."""
    return tuple(sorted({mark.label for item in items for mark in item.sample.marked or ()}))


def note_unmarked(items: Sequence[Outgoing], output: Output) -> None:
    """Note what a format that holds objects alone leaves out."""
    bare = sum(item.sample.marked is None for item in items)
    output.say_count(bare, "nobody marked objects on them; in this format they show none")
    lost = sum(
        not set(item.sample.labels) <= {mark.label for mark in item.sample.marked or ()}
        for item in items
    )
    output.say_count(lost, "have labels that no object on them bears; this format holds objects")
    counted = sum(
        item.sample.count is not None and item.sample.count != len(item.sample.marked or ())
        for item in items
    )
    output.say_count(counted, "have another count than objects marked; this format holds objects")


def by_part(items: Sequence[Outgoing]) -> dict[str, list[Outgoing]]:
    """The pictures of each part, by its word."""
    parts: dict[str, list[Outgoing]] = {}
    for item in items:
        parts.setdefault(item.part, []).append(item)
    return parts
