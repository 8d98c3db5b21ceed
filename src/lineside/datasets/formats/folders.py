"""Class folders: the folder's name is the label of every picture in it.

``<class>/picture`` or ``<part>/<class>/picture`` with parts called train, valid and test; one level
``images/`` above the classes is passed through.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lineside.core import InvalidError
from lineside.datasets.formats.rows import Row, Source, Truth
from lineside.datasets.samples import Part, Skipped, part_of

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


def looks_like_folders(root: Path) -> bool:
    """Whether a folder holds class folders with pictures (possibly one level further in)."""
    return any(True for _, folder in _classes(root) for _ in _pictures(folder))


def read_folders(root: Path, *, labels: Sequence[str] = ()) -> Source:
    """Read a folder of class folders; pictures in the order of their names."""
    found = [(part, folder) for part, folder in _classes(root) if any(_pictures(folder))]
    truth = Truth(tuple(labels) or tuple(sorted({folder.name for _, folder in found})))
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for part, folder in found:
        where = folder.relative_to(root).as_posix()
        try:
            held = (truth.name(folder.name),)
        except InvalidError as error:
            skipped.append(Skipped(where=where, reason=f"{error.message} {error.fix}"))
            continue
        known = truth.judged(held, over=truth.wanted)
        for picture in _pictures(folder):
            name = picture.relative_to(root).as_posix()
            rows.append(Row(where=name, file=name, labels=held, known=known, split=part))
    return Source(format="folders", rows=tuple(rows), skipped=tuple(skipped))


def _classes(root: Path) -> Iterator[tuple[Part, Path]]:
    for folder in _folders(root):
        try:
            part = part_of(folder.name)
        except InvalidError:
            part = Part.OPEN
        if part is not Part.OPEN or folder.name == "images":
            yield from ((part, inner) for inner in _folders(folder))
        else:
            yield part, folder


def _folders(root: Path) -> list[Path]:
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
            yield path
