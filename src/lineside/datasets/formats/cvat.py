"""CVAT for images 1.1: an XML file of shapes and tags for many pictures.

1. The files stand in the root, the pictures there, in ``images/`` or in ``images/<subset>/``. Its
   subset is a picture's part where it is called train, validation or test.
2. ``tag`` is a label of the whole picture; ``box`` (turned ones too), ``polygon``, ``polyline``,
   ``points``, ``ellipse`` and ``mask`` mark objects. Run lengths of a mask go along its rows, first
   of 0, and fill ``width`` times ``height``.
3. Every picture of the file was looked at: one without shapes and tags shows nothing.
4. A shape that cannot be read takes its picture with it: without it the picture would look good.
5. Document types and entities are refused. So are tracks, which videos have.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from lineside.core import InvalidError
from lineside.datasets.formats.folders import part_named
from lineside.datasets.formats.rle import Mask, mask_of_runs
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth, number
from lineside.datasets.formats.shapes import (
    Shape,
    box_shape,
    ellipse_shape,
    line_shape,
    mark_object,
    mask_maker,
    mask_shape,
    point_shape,
    polygon_shape,
    rotate,
    unwanted_notes,
    wanted_name,
)
from lineside.datasets.formats.voc import parse_xml
from lineside.datasets.samples import Marked
from lineside.datasets.trees import Tree, head_of, joined, suffix_of

_MOST_BYTES = 128 * 1024 * 1024  # about five times that in memory
_MOST_PIXELS = 40_000_000
_ROOT = re.compile(rb"<annotations[\s>]")


def cvat_files(tree: Tree) -> list[str]:
    """The XML files of the root that CVAT wrote, in order."""
    names = sorted(name for name in tree.files() if suffix_of(name) == ".xml")
    return [name for name in names if _ROOT.search(head_of(tree, name))]


def list_cvat(tree: Tree, name: str, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of one file."""
    root = parse_xml(tree.read(name, most=_MOST_BYTES), where=name)
    if root.tag != "annotations" or root.find("track") is not None:
        found = "tracks of a video" if root.tag == "annotations" else f"<{root.tag[:40]}>"
        raise InvalidError(
            f"{found} where the images of CVAT are expected", where=name,
            fix="Export it from CVAT as 'CVAT for images 1.1'.",
        )  # fmt: skip
    images = root.findall("image")
    names = {found.text or "" for found in root.findall("meta//labels/label/name")}
    names |= {shape.get("label", "") for image in images for shape in image}
    reading = _Reading(
        tree=tree,
        where=PurePosixPath(name).name,
        truth=Truth(tuple(labels) or tuple(sorted(names - {""}))),
    )
    listing = Listing(format="cvat", entries=iter(()))

    def entries() -> Iterator[Entry]:
        for image in images:
            file = image.get("name", "")
            where = f"{reading.where}: image {file or image.get('id', '')}"
            yield Entry(file=file, where=where, row=partial(reading.row, image, where))
        listing.skipped.extend(unwanted_notes(reading.unwanted, where=reading.where))

    return replace(listing, entries=entries())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    tree: Tree
    where: str
    truth: Truth
    unwanted: Counter[str] = field(default_factory=Counter)

    def row(self, image: Element, where: str) -> Row:
        size = (_whole(image, "width"), _whole(image, "height"))
        if min(size) <= 0:
            raise InvalidError(f"a picture of {size[0]} x {size[1]} pixels")
        held: set[str] = set()
        shapes: list[Shape] = []
        marks: list[Marked] = []
        for place, element in enumerate(image, start=1):
            try:
                label = wanted_name(element.get("label", ""), self.truth, self.unwanted)
                if label:
                    held.add(label)
                    found = _shapes(element) if element.tag != "tag" else []
                    shapes += found
                    marks += [mark_object(shape, label, size=size) for shape in found]
            except InvalidError as error:
                fix = error.fix or "Draw it again in CVAT, or delete it."
                what = f"{element.tag[:40]} ({place} of this image)"
                raise InvalidError(f"{what}: {error.message}", fix=fix) from error
        tagged = image.find("tag") is not None
        return Row(
            where=where,
            file=self.picture(image),
            labels=tuple(sorted(held)),
            known=self.truth.judged(held, over=self.truth.wanted),
            split=part_named(image.get("subset", "")),
            marked=tuple(marks) if marks or not tagged else None,
            drawn=mask_maker(shapes),
            size=size,
        )

    def picture(self, image: Element) -> str:
        """The picture's file; its written name where it is not found from here."""
        name = image.get("name", "")
        if not name:
            raise InvalidError("an image without name", fix="Write its name.")
        folders = [f"images/{image.get('subset')}"] if image.get("subset") else []
        folders += ["", "images", "images/default"]
        found = (joined(folder, name) for folder in folders)
        return next((one for one in found if self.tree.has(one)), name)


def _shapes(element: Element) -> list[Shape]:
    """The objects of an element; of points each is one."""
    match element.tag:
        case "box":
            return [_box(element)]
        case "polygon":
            return [polygon_shape(_points(element))]
        case "polyline":
            return [line_shape(_points(element))]
        case "points":
            numbers = _points(element)
            return [point_shape(numbers[at : at + 2]) for at in range(0, len(numbers), 2)]
        case "ellipse":
            cx, cy, rx, ry = (_number(element, word) for word in ("cx", "cy", "rx", "ry"))
            return [ellipse_shape((cx, cy), (rx, ry), degrees=_rotation(element))]
        case "mask":
            return [_mask(element)]
        case kind:
            raise InvalidError(
                f"{kind[:40]!r} is not read",
                fix="Known: tag, box, polygon, polyline, points, ellipse, mask.",
            )


def _box(element: Element) -> Shape:
    x0, y0, x1, y1 = (_number(element, word) for word in ("xtl", "ytl", "xbr", "ybr"))
    degrees = _rotation(element)
    if not degrees:
        return box_shape([x0, y0, x1, y1])
    across, down = (x1 - x0) / 2, (y1 - y0) / 2
    offsets = [-across, -down, across, -down, across, down, -across, down]
    return polygon_shape(rotate(offsets, centre=(x0 + across, y0 + down), degrees=degrees))


def _mask(element: Element) -> Shape:
    left, top, width, height = (
        _whole(element, word) for word in ("left", "top", "width", "height")
    )
    if width <= 0 or height <= 0 or width * height > _MOST_PIXELS:
        raise InvalidError(f"a mask of {width} x {height} pixels")
    make = partial(_unpacked, element.get("rle", ""), width, height)
    return mask_shape(make, left=left, top=top)


def _unpacked(rle: str, width: int, height: int) -> Mask:
    if rle.count(",") > width * height:
        raise InvalidError(f"runs that do not fill {width} x {height} pixels")
    runs = [_whole_of(word.strip()) for word in rle.split(",")]
    return mask_of_runs(runs, width=height, height=width).T  # along the rows, not the columns


def _points(element: Element) -> list[float]:
    pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidError("points that are no pairs 'x,y;x,y'")
    return [number(value.strip()) for pair in pairs for value in pair]


def _rotation(element: Element) -> float:
    return number(element.get("rotation", "0"))


def _number(element: Element, word: str) -> float:
    written = element.get(word)
    if written is None:
        raise InvalidError(f"{word} is missing")
    return number(written)


def _whole(element: Element, word: str) -> int:
    return _whole_of(element.get(word, ""), word=word)


def _whole_of(written: str, *, word: str = "rle") -> int:
    if not (written.isascii() and written.isdigit() and len(written) < 10):
        raise InvalidError(f"{word} {written[:40]!r} is not a whole number")
    return int(written)
