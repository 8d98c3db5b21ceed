"""COCO annotations: boxes, polygons and run lengths over pictures, one JSON file a part.

1. The file stands in the root or in ``annotations/``, the pictures at most two folders deep;
   ``train``, ``val`` and ``test`` in its name are its pictures' part. Several files of one folder
   are read together.
2. A box is ``[x, y, width, height]`` in pixels. An object without a box of some area, segments or
   one key point takes its picture with it: without the object the picture would look good.
3. Segments (polygons, run lengths as numbers or as text) are drawn into one mask of the picture
   beside the boxes. An object with segments and no box gets the box around them.
4. A crowd (``iscrowd`` 1) is no single object: its segments go into the mask and it gets no box.
5. Every picture of the file was looked at: one without annotations shows nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from lineside.core import InvalidError, decode_fast
from lineside.datasets.formats.folders import part_in
from lineside.datasets.formats.rle import (
    Mask,
    box_of,
    mask_of_polygon,
    mask_of_runs,
    mask_png,
    uncompressed,
)
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth
from lineside.datasets.samples import Marked, Part, Skipped
from lineside.datasets.trees import MOST_LIST_BYTES, Tree, suffix_of

_MOST_PIXELS = 40_000_000
_HEAD = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Run lengths of a mask."""

    size: tuple[int, int]
    counts: str | list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of the file."""

    id: int
    file_name: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A category."""

    id: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """An object on a picture."""

    image_id: int
    category_id: int
    id: int = 0
    bbox: tuple[float, ...] = ()
    segmentation: list[list[float]] | Runs | None = None
    iscrowd: int = 0
    area: float = 0.0
    keypoints: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole file; what else stands there is passed over."""

    images: list[Picture]
    categories: list[Thing] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)


def looks_like_coco(tree: Tree) -> bool:
    """Return whether a tree holds a JSON file with pictures and annotations."""
    return any(True for _ in coco_files(tree))


def coco_files(tree: Tree) -> Iterator[str]:
    """The annotation files of a tree."""
    folders = ["annotations"] if "annotations" in tree.folders() else []
    for folder in (*folders, ""):
        for name in sorted(one for one in tree.files(folder) if suffix_of(one) == ".json"):
            with tree.open(name, most=MOST_LIST_BYTES) as file:
                head = file.read(_HEAD)
            if b'"images"' in head or b'"annotations"' in head:
                yield name
        if folder and any(suffix_of(one) == ".json" for one in tree.files(folder)):
            return


def list_coco(tree: Tree, name: str, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of one annotation file."""
    raw = tree.read(name, most=MOST_LIST_BYTES)
    document = decode_fast(Document, raw, where=name)
    things = {thing.id: thing.name for thing in document.categories}
    reading = _Reading(
        where=PurePosixPath(name).name,
        truth=Truth(tuple(labels) or tuple(sorted(set(things.values())))),
        things=things,
        annotated=_by_picture(document.annotations),
        part=part_in(PurePosixPath(name).stem),
        folder=_deep_folder(tree, document.images),
    )
    return Listing(format="coco", entries=reading.entries(document.images), skipped=reading.skipped)


def _deep_folder(tree: Tree, pictures: Sequence[Picture]) -> str:
    """Where the pictures are when they stand two folders deep; empty for nearer ones."""
    first = next((picture.file_name for picture in pictures), "")
    if not first or first.startswith("/") or ".." in PurePosixPath(first).parts:
        return ""
    near = ["", *(f"{folder}/" for folder in tree.folders())]
    if any(tree.has(folder + first) for folder in near):
        return ""
    deep = (f"{inner}/" for folder in tree.folders() for inner in tree.folders(folder))
    return next((folder for folder in deep if tree.has(folder + first)), "")


def _by_picture(annotations: Sequence[Annotation]) -> Mapping[int, list[Annotation]]:
    annotated: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        annotated[annotation.image_id].append(annotation)
    return annotated


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    where: str
    truth: Truth
    things: Mapping[int, str]
    annotated: Mapping[int, list[Annotation]]
    part: Part
    folder: str
    skipped: list[Skipped] = field(default_factory=list)
    unwanted: Counter[str] = field(default_factory=Counter)

    def entries(self, pictures: Sequence[Picture]) -> Iterator[Entry]:
        ids: set[int] = set()
        for picture in pictures:
            where = f"{self.where}: image {picture.id}"
            if picture.id in ids:
                self.skipped.append(Skipped(where=where, reason="the id stands already"))
                continue
            ids.add(picture.id)
            file = self.folder + picture.file_name
            yield Entry(file=file, where=where, row=partial(self.row, picture, where))
        for label, count in sorted(self.unwanted.items()):
            reason = f"{count} annotations are of {label!r}, which is not wanted"
            self.skipped.append(Skipped(where=self.where, reason=reason))
        lost = [one for n, found in self.annotated.items() if n not in ids for one in found]
        if lost:
            reason = (
                f"{len(lost)} annotations are of images that the file does not name, such as"
                f" annotation {lost[0].id} of image {lost[0].image_id}"
            )
            self.skipped.append(Skipped(where=self.where, reason=reason))

    def row(self, picture: Picture, where: str) -> Row:
        marked: list[Marked] = []
        drawn: list[Annotation] = []
        held: set[str] = set()
        for annotation in self.annotated.get(picture.id, ()):
            if not self.wants(annotation):
                continue
            try:
                mark = self.mark(annotation, picture)
            except InvalidError as error:
                raise InvalidError(
                    f"annotation {annotation.id}: {error.message}",
                    fix="Correct or delete it.",
                ) from error
            held.add(self.name(annotation))
            marked += [mark] if mark is not None else []
            drawn += [annotation] if annotation.segmentation else []
        return Row(
            where=where,
            file=self.folder + picture.file_name,
            labels=tuple(sorted(held)),
            known=self.truth.judged(held, over=self.truth.wanted),
            split=self.part,
            marked=tuple(marked),
            size=(picture.width, picture.height) if picture.width and picture.height else None,
            drawn=partial(draw, tuple(drawn)) if drawn else None,
        )

    def wants(self, annotation: Annotation) -> bool:
        """Return whether its category is wanted; one that is not is reported elsewhere."""
        written = self.things.get(annotation.category_id)
        try:
            self.truth.name(written or "")
        except InvalidError:
            self.unwanted.update([written] if written is not None else [])
            return written is None
        return True

    def name(self, annotation: Annotation) -> str:
        written = self.things.get(annotation.category_id)
        if written is None:
            raise InvalidError(f"category {annotation.category_id} is not among the categories")
        return self.truth.name(written)

    def mark(self, annotation: Annotation, picture: Picture) -> Marked | None:
        label = self.name(annotation)
        if annotation.iscrowd:
            return None
        corners = _corners(annotation, picture)
        mark = Marked(
            label=label, x0_px=corners[0], y0_px=corners[1], x1_px=corners[2], y1_px=corners[3]
        )
        known = picture.width > 0 and picture.height > 0
        return mark.cut_at(picture.width, height=picture.height) if known else mark


def _corners(annotation: Annotation, picture: Picture) -> tuple[float, float, float, float]:
    box, points = annotation.bbox, annotation.keypoints
    if len(box) == 4 and min(box[2:]) > 0 and np.isfinite(box).all():
        return box[0], box[1], box[0] + box[2], box[1] + box[3]
    if len(points) == 3 and points[2] > 0:
        return points[0], points[1], points[0], points[1]
    if annotation.segmentation:
        found = box_of(draw_one(annotation, width=picture.width, height=picture.height))
        if found is not None:
            x0, y0, x1, y1 = found
            return float(x0), float(y0), float(x1), float(y1)
    raise InvalidError(
        f"neither a box of some area, nor segments, nor one key point: bbox {list(box)}"
    )


def draw(annotations: Sequence[Annotation], width: int, height: int) -> bytes:
    """The mask of all segments, as PNG; ``InvalidError`` where one is not of this size."""
    mask = np.zeros((height, width), np.bool_)
    for annotation in annotations:
        mask |= draw_one(annotation, width=width, height=height)
    return mask_png(mask)


def draw_one(annotation: Annotation, *, width: int, height: int) -> Mask:
    """The mask of one object's segments."""
    if not 0 < width * height <= _MOST_PIXELS:
        raise InvalidError(f"segments on a picture of {width} x {height} pixels")
    mask = np.zeros((height, width), np.bool_)
    match annotation.segmentation:
        case Runs(size=size, counts=counts):
            if size != (height, width):
                raise InvalidError(
                    f"run lengths of {size[1]} x {size[0]} pixels on {width} x {height}"
                )
            runs = uncompressed(counts) if isinstance(counts, str) else counts
            mask |= mask_of_runs(runs, width=width, height=height)
        case None:
            pass
        case polygons:
            for polygon in polygons:
                mask |= mask_of_polygon(polygon, width=width, height=height)
    return mask
