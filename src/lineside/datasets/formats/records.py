"""Record files (``.rec``) as a source: pictures and labels of one file, never unpacked.

1. A single label is a class number; its name is that of the wanted labels, else of the classes kept
   beside the file, else ``class-4``. A vector of labels is a column of 0 or 1 per name.
2. ``train``, ``val`` and ``test`` in a file's name are its records' part.
3. A damaged stretch is reported with its offset and the reading goes on behind it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from lineside.core import InvalidError
from lineside.datasets.classes import class_files, parse_classes, picture_suffix
from lineside.datasets.formats.folders import part_in
from lineside.datasets.formats.lst import list_labels
from lineside.datasets.formats.rows import Entry, Listing, Row, left_out, said
from lineside.datasets.recordio import Damage, Record, read_at, scan, unpack_image
from lineside.datasets.samples import Skipped
from lineside.datasets.trees import MOST_NOTE_BYTES, FolderTree, Tree


def list_records(tree: Tree, name: str, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of a record file, in its order."""
    if not isinstance(tree, FolderTree):
        raise InvalidError(
            "record files are read from folders", where=tree.where, fix="Copy it to this machine."
        )
    path = tree.path(name)
    names = tuple(labels) or classes_in(tree, name)
    listing = Listing(format="records", entries=iter(()))

    def entries() -> Iterator[Entry]:
        with path.open("rb") as file:
            for found in scan(file):
                place = f"{path.name}: byte {found.offset}"
                if isinstance(found, Damage):
                    listing.skipped.append(Skipped(where=place, reason=found.reason))
                    continue
                try:
                    row = _row(path, found, labels=names)
                except InvalidError as error:
                    listing.skipped.append(left_out(place, error))
                else:
                    yield said(row)

    return replace(listing, entries=entries())


def classes_in(tree: Tree, name: str) -> tuple[str, ...]:
    """The class names kept beside a list or record file; empty for none."""
    folder = PurePosixPath(name).parent
    for file in class_files(PurePosixPath(name).stem):
        beside = (folder / file).as_posix()
        if tree.has(beside):
            return parse_classes(tree.read(beside, most=MOST_NOTE_BYTES), where=beside)
    return ()


def _row(path: Path, found: Record, *, labels: Sequence[str]) -> Row:
    where = f"{path.name}: byte {found.offset}"
    record = unpack_image(found.payload, where=where)
    held, known = list_labels([f"{value:g}" for value in record.labels], labels=labels)
    return Row(
        where=where,
        file=f"{path.stem}/{record.id}{picture_suffix(record.picture)}",
        labels=held,
        known=known,
        split=part_in(path.stem),
        facts={"id": str(record.id)},
        picture=partial(_picture, path, found.offset, number=record.id),
    )


def _picture(path: Path, offset: int, *, number: int) -> bytes:
    return read_at(path, offset, number=number).picture
