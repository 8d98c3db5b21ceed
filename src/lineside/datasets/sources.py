"""Open a labelled source: find its format, its pictures, and say everything that was left out.

1. A picture is looked for by its written name in the source's own folder, then in each direct
   sub-folder, or only in ``images`` when that is given. A name never leads out of these folders, by
   dots or by links.
2. Every picture is decoded once: what could not be trained on is named here, not hours later.
3. Nothing is listed ahead. Pictures are opened one after the other (of a bucket, a few at once),
   and of a choice only the chosen ones.
4. A mask or template that cannot be used takes its picture with it; a mask has its picture's size.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from lineside.core import InvalidError, NotFoundError, digest_of
from lineside.datasets.archives import ARCHIVES, ArchiveTree
from lineside.datasets.choice import Choice, chosen
from lineside.datasets.formats import (
    BOXES,
    POINTS,
    Asked,
    Entry,
    Listing,
    Objects,
    Row,
    left_out,
    none_here,
    read_objects,
    reader_for,
)
from lineside.datasets.grouping import grouped
from lineside.datasets.samples import Import, Sample, Skipped, merge_same_pictures
from lineside.datasets.shelf import Shelf
from lineside.datasets.trees import MOST_LIST_BYTES, FolderTree, Tree
from lineside.datasets.turns import in_order
from lineside.store import open_objects

_BUCKET = "s3://"
_FETCHES_AT_ONCE = 8
_THREADS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Settings of a reading that few sources need.

    Attributes:
        choice: which pictures are wanted.
        every: of a video, each so many frames one picture.
        keep: a folder for what is fetched from a bucket, so that nothing is fetched twice.
    """

    choice: Choice = field(default_factory=Choice)
    every: int = 1
    keep: Path | None = None


def load_source(
    src: Path | str,
    *,
    labels: Sequence[str] = (),
    format: str = "auto",  # noqa: A002  the command line's word
    images: Path | None = None,
    group: str = "",
    reading: Reading | None = None,
) -> Import:
    """Read a labelled source: a list file, a table, a folder, an archive or a bucket of either.

    Args:
        src: a file such as ``train.lst`` or ``labels.csv``, a folder that holds them or class
            folders, a ``.zip`` or ``.tar`` of such a folder, or ``s3://bucket/prefix``. A folder's
            list files are read together; ``train`` and ``valid`` in their names are their rows'
            parts.
        labels: the wanted names, in the order of a list file's label columns; empty takes what the
            source has.
        format: one of ``FORMATS``, or ``auto``.
        images: where the pictures are, if not beside the list.
        group: a rule of ``grouped``.
        reading: what is wanted of it.

    Raises:
        NotFoundError: there is no such file or folder.
        InvalidError: nothing in it can be read as a labelled source.
    """
    reading = reading or Reading()
    asked = _asked(src, labels=labels, every=reading.every)
    name, reader = reader_for(asked, format)
    listing = reader.listing(asked)
    shelf = Shelf(
        tree=asked.tree,
        images=FolderTree(images) if images is not None else None,
        objects=_objects(asked.tree),
        keep=reading.keep if _in_bucket(src) else None,
    )
    entries = _wanted(listing, reading.choice)
    threads = _FETCHES_AT_ONCE if _in_bucket(src) else _THREADS
    entries = entries if _in_bucket(src) else _read_in_turn(entries, skipped=listing.skipped)
    samples = _opened(entries, shelf=shelf, skipped=listing.skipped, threads=threads)
    if not samples and not listing.skipped and name == format:
        raise none_here(asked, format)
    ordered = sorted(samples, key=lambda sample: sample.name) if listing.sorts else samples
    if listing.sorts:
        listing.skipped.sort(key=lambda line: line.where)
    merged, doubles = merge_same_pictures(ordered)
    beside = shelf.objects.skipped if shelf.objects is not None else ()
    return Import(
        samples=grouped(merged, rule=group),
        skipped=(*listing.skipped, *beside, *shelf.notes, *doubles),
        format=name,
        reader=shelf.read,
    )


def plan_source(
    src: Path | str,
    *,
    labels: Sequence[str] = (),
    format: str = "auto",  # noqa: A002  the command line's word
    group: str = "",
    reading: Reading | None = None,
) -> Import:
    """What a source says of its pictures, none of which has to be there.

    For planning splits and groups of what is not fetched yet. A sample's digest is that of its
    name, so nothing is found to be the same picture, and nothing can be read.
    """
    reading = reading or Reading()
    asked = _asked(src, labels=labels, every=reading.every)
    name, reader = reader_for(asked, format)
    listing = reader.listing(asked)
    entries = _wanted(listing, reading.choice)
    samples = list(_planned(entries, skipped=listing.skipped))
    if listing.sorts:
        samples.sort(key=lambda sample: sample.name)
    return Import(
        samples=grouped(samples, rule=group),
        skipped=tuple(listing.skipped),
        format=name,
        reader=_not_opened,
    )


def _in_bucket(src: Path | str) -> bool:
    return isinstance(src, str) and src.startswith(_BUCKET)


def _asked(src: Path | str, *, labels: Sequence[str], every: int) -> Asked:
    if _in_bucket(src):
        return Asked(tree=open_objects(str(src)), labels=tuple(labels), every=every)
    path = Path(src)
    if not path.exists():
        raise NotFoundError("no such file or folder", where=str(src), fix="Check the path.")
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        return Asked(tree=_archive(path), labels=tuple(labels), every=every)
    if path.is_file():
        # COCO keeps its files in a folder beside that of the pictures.
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        file = path.relative_to(root).as_posix()
        return Asked(tree=FolderTree(root), file=file, labels=tuple(labels), every=every)
    return Asked(tree=FolderTree(path), labels=tuple(labels), every=every)


def _archive(path: Path) -> Tree:
    """The archive; where it holds one folder and nothing else, that folder."""
    tree = ArchiveTree(path)
    folders = tree.folders()
    alone = len(folders) == 1 and not any(tree.files())
    return ArchiveTree(path, below=folders[0]) if alone else tree


def _wanted(listing: Listing, choice: Choice) -> Iterator[Entry]:
    of_id = listing.of_id
    if choice.ids is not None and of_id is not None:
        named = chain.from_iterable(_of_word(word, listing) for word in choice.ids)
        return chosen(named, replace(choice, ids=None))
    return chosen(listing.entries, choice)


def _of_word(word: str, listing: Listing) -> Iterator[Entry]:
    found = False
    for entry in listing.of_id(word) if listing.of_id is not None else ():
        found = True
        yield entry
    if not found:
        listing.skipped.append(Skipped(where=word, reason="no picture of this id"))


def _read_in_turn(entries: Iterable[Entry], *, skipped: list[Skipped]) -> Iterator[Entry]:
    """Entries whose rows are read, so that what a reading reports comes in one order."""
    for entry in entries:
        try:
            row = entry.row()
        except (InvalidError, NotFoundError) as error:
            skipped.append(left_out(entry.where, error))
        else:
            yield replace(entry, row=partial(_same, row))


def _same(row: Row) -> Row:
    return row


def _opened(
    entries: Iterable[Entry], *, shelf: Shelf, skipped: list[Skipped], threads: int
) -> list[Sample]:
    def look(entry: Entry) -> Sample | Skipped:
        try:
            return shelf.sample(entry.row())
        except (InvalidError, NotFoundError) as error:
            return left_out(entry.where, error)

    samples: list[Sample] = []
    for found in in_order(look, entries, threads=threads):
        if isinstance(found, Sample):
            samples.append(found)
        else:
            skipped.append(found)
    return samples


def _planned(entries: Iterable[Entry], *, skipped: list[Skipped]) -> Iterator[Sample]:
    for entry in entries:
        try:
            row = entry.row()
        except (InvalidError, NotFoundError) as error:
            skipped.append(left_out(entry.where, error))
            continue
        yield Sample(
            name=row.file,
            digest=digest_of(row.file.encode()),
            labels=row.labels,
            known=row.known,
            group=row.group,
            split=row.split,
            captured_at=row.captured_at,
            mask=row.mask,
            count=row.count,
            facts=row.facts,
        )


def _not_opened(digest: str) -> bytes:
    raise NotFoundError("the picture was planned with, not opened", where=digest)


def _objects(tree: Tree) -> Objects | None:
    """Objects marked in tables beside the source."""
    found = {
        name: tree.read(name, most=MOST_LIST_BYTES) for name in (BOXES, POINTS) if tree.has(name)
    }
    return read_objects(boxes=found.get(BOXES), points=found.get(POINTS))
