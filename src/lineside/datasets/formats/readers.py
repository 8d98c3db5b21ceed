"""Every format that is read, by its word, in the order in which a source is tried for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from lineside.core import InvalidError
from lineside.datasets.formats.abid import list_abid, looks_like_abid
from lineside.datasets.formats.captures import capture_files, list_captures, looks_like_captures
from lineside.datasets.formats.coco import coco_files, list_coco, looks_like_coco
from lineside.datasets.formats.cvat import cvat_files, list_cvat
from lineside.datasets.formats.folders import (
    list_folders,
    list_masks,
    looks_like_folders,
    looks_like_masks,
    part_in,
    with_bare,
)
from lineside.datasets.formats.labelme import list_labelme, looks_like_labelme
from lineside.datasets.formats.lst import classes_in, list_lst, list_records
from lineside.datasets.formats.rows import Entry, Listing
from lineside.datasets.formats.table import list_table
from lineside.datasets.formats.video import SUFFIXES as VIDEOS
from lineside.datasets.formats.video import list_video, looks_like_video
from lineside.datasets.formats.voc import list_voc, looks_like_voc
from lineside.datasets.formats.yolo import list_yolo, looks_like_yolo
from lineside.datasets.trees import MOST_LIST_BYTES, Tree, suffix_of

LABELS = "labels.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """The choice of what is read, and in which form.

    Attributes:
        tree: where it lies.
        file: the one file named; "" for the whole tree.
        labels: the wanted names.
        every: of a video, each so many frames one picture.
        is_whole: all of it is wanted, so that what has no partner in it is reported.
    """

    tree: Tree
    file: str = ""
    labels: Sequence[str] = ()
    every: int = 1
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A format: its test and its reader.

    Attributes:
        found: whether a tree looks like it.
        listing: the pictures.
        suffixes: of files that are this format by themselves.
    """

    found: Callable[[Tree], bool]
    listing: Callable[[SourceRequest], Listing]
    suffixes: tuple[str, ...] = ()


def reader_for(request: SourceRequest, word: str) -> tuple[str, Reader]:
    """The format of a source: the one asked for, or the first that it looks like.

    Raises:
        InvalidError: it is none of them.
    """
    if word not in ("auto", *FORMATS):
        raise InvalidError(f"format {word!r} is unknown", fix=f"Known: auto, {', '.join(FORMATS)}.")
    if word in FORMATS and not request.file:
        return word, FORMATS[word]
    for name, reader in FORMATS.items():
        if word in ("auto", name) and _fits(request, reader):
            return name, reader
    raise none_here(request, word)


def none_here(request: SourceRequest, word: str) -> InvalidError:
    """That there is nothing of this format."""
    what = "file" if request.file else "folder"
    of = "any known format" if word == "auto" else f"format {word}"
    return InvalidError(
        f"no labelled pictures of {of} in this {what}",
        where=f"{request.tree.where}/{request.file}".rstrip("/"),
        fix="A folder holds .lst files, a labels.csv, or one folder of pictures per class; all "
        "forms stand in docs/reference/formats.md.",
    )


def _fits(request: SourceRequest, reader: Reader) -> bool:
    if request.file:
        return suffix_of(request.file) in reader.suffixes
    return reader.found(request.tree)


def _named(request: SourceRequest, suffix: str) -> list[str]:
    """The file named, or all of the tree's own of one suffix, in order."""
    if request.file:
        return [request.file]
    return sorted(name for name in request.tree.files() if suffix_of(name) == suffix)


def _joined(name: str, listings: Sequence[Listing]) -> Listing:
    """Several files of one format as one source."""
    whole = Listing(format=name, entries=iter(()))

    def entries() -> Iterator[Entry]:
        for one in listings:
            yield from one.entries
            whole.skipped.extend(one.skipped)

    return replace(whole, entries=entries())


def _lists(request: SourceRequest) -> Listing:
    return _joined(
        "lst",
        [
            list_lst(
                partial(request.tree.open, name, most=MOST_LIST_BYTES),
                where=PurePosixPath(name).name,
                labels=request.labels or classes_in(request.tree, name),
                split=part_in(PurePosixPath(name).stem),
            )
            for name in _named(request, ".lst")
        ],
    )


def _coco(request: SourceRequest) -> Listing:
    names = [request.file] if request.file else list(coco_files(request.tree))
    found = [list_coco(request.tree, name, labels=request.labels) for name in names]
    return with_bare(_joined("coco", found), request.tree, lacking="entry in the file")


def _cvat(request: SourceRequest) -> Listing:
    names = [request.file] if request.file else cvat_files(request.tree)
    if not names:
        raise none_here(request, "cvat")
    found = [list_cvat(request.tree, name, labels=request.labels) for name in names]
    return with_bare(_joined("cvat", found), request.tree, lacking="image element")


def _captures(request: SourceRequest) -> Listing:
    names = [request.file] if request.file else capture_files(request.tree)
    return _joined("captures", [list_captures(request.tree, name) for name in names])


def _videos(request: SourceRequest) -> Listing:
    found = sorted(name for name in request.tree.files() if suffix_of(name) in VIDEOS)
    names = [request.file] if request.file else found
    listings = [list_video(request.tree, name, every=request.every) for name in names]
    return _joined("video", listings)


def _records(request: SourceRequest) -> Listing:
    return _joined(
        "records",
        [
            list_records(request.tree, name, labels=request.labels)
            for name in _named(request, ".rec")
        ],
    )


def _table(request: SourceRequest) -> Listing:
    name = request.file or LABELS
    opening = partial(request.tree.open, name, most=MOST_LIST_BYTES)
    return list_table(opening, where=PurePosixPath(name).name, labels=request.labels)


def _has(suffix: str) -> Callable[[Tree], bool]:
    return lambda tree: any(suffix_of(name) == suffix for name in tree.files())


FORMATS: Mapping[str, Reader] = {
    "records": Reader(found=_has(".rec"), listing=_records, suffixes=(".rec",)),
    "lst": Reader(found=_has(".lst"), listing=_lists, suffixes=(".lst",)),
    "csv": Reader(found=lambda tree: tree.has(LABELS), listing=_table, suffixes=(".csv",)),
    "coco": Reader(found=looks_like_coco, listing=_coco, suffixes=(".json",)),
    "voc": Reader(
        found=looks_like_voc, listing=lambda request: list_voc(request.tree, labels=request.labels)
    ),
    "yolo": Reader(
        found=looks_like_yolo,
        listing=lambda request: list_yolo(request.tree, request.file, labels=request.labels),
        suffixes=(".yaml", ".yml"),
    ),
    "masks": Reader(
        found=looks_like_masks,
        listing=lambda request: list_masks(request.tree, labels=request.labels),
    ),
    "abid": Reader(found=looks_like_abid, listing=lambda request: list_abid(request.tree)),
    "captures": Reader(found=looks_like_captures, listing=_captures, suffixes=(".jsonl",)),
    "video": Reader(found=looks_like_video, listing=_videos, suffixes=VIDEOS),
    "cvat": Reader(found=lambda tree: bool(cvat_files(tree)), listing=_cvat, suffixes=(".xml",)),
    "folders": Reader(
        found=looks_like_folders,
        listing=lambda request: list_folders(request.tree, labels=request.labels),
    ),
    "labelme": Reader(
        found=looks_like_labelme,
        listing=lambda request: list_labelme(request.tree, labels=request.labels),
    ),
}
