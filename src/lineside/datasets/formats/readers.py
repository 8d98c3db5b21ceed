"""Every format that is read, by its word, in the order in which a source is tried for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from lineside.core import InvalidError
from lineside.datasets.formats.abid import list_abid, looks_like_abid
from lineside.datasets.formats.captures import capture_files, list_captures, looks_like_captures
from lineside.datasets.formats.coco import coco_files, list_coco, looks_like_coco
from lineside.datasets.formats.folders import list_folders, looks_like_folders, part_in
from lineside.datasets.formats.lst import classes_in, list_lst, list_records
from lineside.datasets.formats.masks import list_masks, looks_like_masks
from lineside.datasets.formats.rows import Entry, Listing
from lineside.datasets.formats.table import list_table
from lineside.datasets.formats.video import SUFFIXES as VIDEOS
from lineside.datasets.formats.video import list_video, looks_like_video
from lineside.datasets.formats.voc import list_voc, looks_like_voc
from lineside.datasets.formats.yolo import list_yolo, looks_like_yolo
from lineside.datasets.trees import MOST_LIST_BYTES, Tree, suffix_of

LABELS = "labels.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is read, and how.

    Attributes:
        tree: where it lies.
        file: the one file named; "" for the whole tree.
        labels: the wanted names.
        every: of a video, each so many frames one picture.
    """

    tree: Tree
    file: str = ""
    labels: Sequence[str] = ()
    every: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How a format is known and read.

    Attributes:
        found: whether a tree looks like it.
        listing: the pictures.
        suffixes: of files that are this format by themselves.
    """

    found: Callable[[Tree], bool]
    listing: Callable[[Asked], Listing]
    suffixes: tuple[str, ...] = ()


def reader_for(asked: Asked, word: str) -> tuple[str, Reader]:
    """The format of a source: the one asked for, or the first that it looks like.

    Raises:
        InvalidError: it is none of them.
    """
    if word not in ("auto", *FORMATS):
        raise InvalidError(f"format {word!r} is unknown", fix=f"Known: auto, {', '.join(FORMATS)}.")
    if word in FORMATS and not asked.file:
        return word, FORMATS[word]
    for name, reader in FORMATS.items():
        if word in ("auto", name) and _fits(asked, reader):
            return name, reader
    raise none_here(asked, word)


def none_here(asked: Asked, word: str) -> InvalidError:
    """That there is nothing of this format."""
    what = "file" if asked.file else "folder"
    of = "any known format" if word == "auto" else f"format {word}"
    return InvalidError(
        f"no labelled pictures of {of} in this {what}",
        where=f"{asked.tree.where}/{asked.file}".rstrip("/"),
        fix="A folder holds .lst files, a labels.csv, or one folder of pictures per class; all "
        "forms stand in docs/reference/formats.md.",
    )


def _fits(asked: Asked, reader: Reader) -> bool:
    if asked.file:
        return suffix_of(asked.file) in reader.suffixes
    return reader.found(asked.tree)


def _named(asked: Asked, suffix: str) -> list[str]:
    """The file named, or all of the tree's own of one suffix, in order."""
    if asked.file:
        return [asked.file]
    return sorted(name for name in asked.tree.files() if suffix_of(name) == suffix)


def _joined(name: str, listings: Sequence[Listing]) -> Listing:
    """Several files of one format as one source."""
    whole = Listing(format=name, entries=iter(()))

    def entries() -> Iterator[Entry]:
        for one in listings:
            yield from one.entries
            whole.skipped.extend(one.skipped)

    return replace(whole, entries=entries())


def _lists(asked: Asked) -> Listing:
    return _joined(
        "lst",
        [
            list_lst(
                partial(asked.tree.open, name, most=MOST_LIST_BYTES),
                where=PurePosixPath(name).name,
                labels=asked.labels or classes_in(asked.tree, name),
                split=part_in(PurePosixPath(name).stem),
            )
            for name in _named(asked, ".lst")
        ],
    )


def _coco(asked: Asked) -> Listing:
    names = [asked.file] if asked.file else list(coco_files(asked.tree))
    return _joined("coco", [list_coco(asked.tree, name, labels=asked.labels) for name in names])


def _captures(asked: Asked) -> Listing:
    names = [asked.file] if asked.file else capture_files(asked.tree)
    return _joined("captures", [list_captures(asked.tree, name) for name in names])


def _videos(asked: Asked) -> Listing:
    found = sorted(name for name in asked.tree.files() if suffix_of(name) in VIDEOS)
    names = [asked.file] if asked.file else found
    listings = [list_video(asked.tree, name, every=asked.every) for name in names]
    return _joined("video", listings)


def _records(asked: Asked) -> Listing:
    return _joined(
        "records",
        [list_records(asked.tree, name, labels=asked.labels) for name in _named(asked, ".rec")],
    )


def _table(asked: Asked) -> Listing:
    name = asked.file or LABELS
    opening = partial(asked.tree.open, name, most=MOST_LIST_BYTES)
    return list_table(opening, where=PurePosixPath(name).name, labels=asked.labels)


def _has(suffix: str) -> Callable[[Tree], bool]:
    return lambda tree: any(suffix_of(name) == suffix for name in tree.files())


FORMATS: Mapping[str, Reader] = {
    "records": Reader(found=_has(".rec"), listing=_records, suffixes=(".rec",)),
    "lst": Reader(found=_has(".lst"), listing=_lists, suffixes=(".lst",)),
    "csv": Reader(found=lambda tree: tree.has(LABELS), listing=_table, suffixes=(".csv",)),
    "coco": Reader(found=looks_like_coco, listing=_coco, suffixes=(".json",)),
    "voc": Reader(
        found=looks_like_voc, listing=lambda asked: list_voc(asked.tree, labels=asked.labels)
    ),
    "yolo": Reader(
        found=looks_like_yolo,
        listing=lambda asked: list_yolo(asked.tree, asked.file, labels=asked.labels),
        suffixes=(".yaml", ".yml"),
    ),
    "masks": Reader(
        found=looks_like_masks, listing=lambda asked: list_masks(asked.tree, labels=asked.labels)
    ),
    "abid": Reader(found=looks_like_abid, listing=lambda asked: list_abid(asked.tree)),
    "captures": Reader(found=looks_like_captures, listing=_captures, suffixes=(".jsonl",)),
    "video": Reader(found=looks_like_video, listing=_videos, suffixes=VIDEOS),
    "folders": Reader(
        found=looks_like_folders,
        listing=lambda asked: list_folders(asked.tree, labels=asked.labels),
    ),
}
