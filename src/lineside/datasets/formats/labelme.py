"""labelme: a JSON file of shapes for each picture.

1. ``a.json`` speaks of the picture that its ``imagePath`` names, from where the file is; else of
   the picture of that name beside it or in ``images/``. ``imageData`` is passed over.
2. Folders ``train``, ``val`` and ``test`` above a file say the picture's part.
3. Shapes are ``polygon``, ``rectangle``, ``circle`` (centre and a point of the rim), ``point``,
   ``line``, ``linestrip`` and ``mask`` (two pixels, both inside, and a PNG between them).
4. ``flags`` that hold are labels of the whole picture; the others do not hold.
5. A shape that cannot be read takes its picture with it: without it the picture would look good.
"""

import binascii
import math
import posixpath
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from lineside.core import InvalidError, decode_fast
from lineside.datasets.formats.folders import PICTURE_SUFFIXES, part_named, with_bare
from lineside.datasets.formats.rle import Mask
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth
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
    unwanted_notes,
    wanted_name,
)
from lineside.datasets.samples import Marked, Part
from lineside.datasets.trees import (
    MOST_PICTURE_BYTES,
    Tree,
    head_of,
    joined,
    stem_of,
    suffix_of,
    walk,
)
from lineside.vision import decode_picture

_MOST_BYTES = 2 * MOST_PICTURE_BYTES  # with the picture inside, in base 64
_LOOKED_AT = 2_000
_DEPTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelmeShape:
    """A shape as it is written."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelmeFile:
    """A file of one picture; what else stands there is passed over."""

    shapes: list[LabelmeShape]
    imagePath: str = ""  # noqa: N815  as labelme writes it
    imageWidth: int | None = None  # noqa: N815
    imageHeight: int | None = None  # noqa: N815
    flags: dict[str, bool] | None = None


def looks_like_labelme(tree: Tree) -> bool:
    """Return whether the first JSON file of the root or of a folder in it holds shapes."""
    for folder in ("", *tree.folders()[:_LOOKED_AT]):
        notes = (name for name in tree.files(folder) if suffix_of(name) == ".json")
        first = min(notes, default="")
        if first:
            head = head_of(tree, first)
            return b'"shapes"' in head and b'"images"' not in head
    return False


def list_labelme(tree: Tree, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures that have a JSON file."""
    listing = Listing(format="labelme", entries=iter(()), sorts=True)
    reading = _Reading(tree=tree, truth=Truth(tuple(labels)))

    def entries() -> Iterator[Entry]:
        for name in walk(tree, depth=_DEPTH):
            if suffix_of(name) == ".json":
                yield Entry(file=stem_of(name), where=name, row=partial(reading.row, name))
        listing.skipped.extend(unwanted_notes(reading.unwanted, where=tree.where))

    found = replace(listing, entries=entries())
    return with_bare(found, tree, lacking="JSON file", depth=_DEPTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    tree: Tree
    truth: Truth
    unwanted: Counter[str] = field(default_factory=Counter)

    def row(self, name: str) -> Row:
        document = decode_fast(LabelmeFile, self.tree.read(name, most=_MOST_BYTES), where=name)
        width, height = document.imageWidth or 0, document.imageHeight or 0
        size = (width, height) if width > 0 and height > 0 else None
        shapes: list[Shape] = []
        marks: list[Marked] = []
        for place, written in enumerate(document.shapes):
            try:
                label = wanted_name(written.label, self.truth, self.unwanted)
                shape = _shape(written)
                marks += [mark_object(shape, label, size=size)] if label else []
                shapes += [shape] if label else []
            except InvalidError as error:
                fix = error.fix or "Draw it again in labelme, or delete it."
                raise InvalidError(f"shapes[{place}]: {error.message}", fix=fix) from error
        flags = self.flags(document)
        held = {mark.label for mark in marks} | {flag for flag, holds in flags.items() if holds}
        known = self.truth.judged(held, over=self.truth.wanted) if self.truth.wanted else ()
        return Row(
            where=name,
            file=self.picture(name, document.imagePath),
            labels=tuple(sorted(held)),
            known=tuple(sorted({*known, *held, *flags})),
            split=_part(name),
            marked=tuple(marks) if marks or not any(flags.values()) else None,
            drawn=mask_maker(shapes),
            size=size,
        )

    def flags(self, document: LabelmeFile) -> dict[str, bool]:
        """The flags of wanted names."""
        flags: dict[str, bool] = {}
        for flag, holds in (document.flags or {}).items():
            label = wanted_name(flag, self.truth, self.unwanted if holds else Counter())
            if label:
                flags[label] = holds
        return flags

    def picture(self, name: str, written: str) -> str:
        """The picture of a file; the bare name where it is not found from here."""
        folder = posixpath.dirname(name)
        path = PurePosixPath(written.replace("\\", "/"))
        near = posixpath.normpath(joined(folder, str(path)))
        stem = stem_of(name)
        names = [path.name] if path.suffix.lower() in PICTURE_SUFFIXES else []
        names += [stem + suffix for suffix in (*PICTURE_SUFFIXES, ".JPG", ".PNG")]
        beside = [joined(folder, one) for one in names]
        beside += [f"images/{one}" for one in names] if "images" in self.tree.folders() else []
        first = [near] if names[0] == path.name and near[0] not in "./" else []
        return next((one for one in first + beside if self.tree.has(one)), names[0])


def _part(name: str) -> Part:
    parts = (part_named(folder) for folder in PurePosixPath(name).parts[:-1])
    return next((part for part in parts if part is not Part.OPEN), Part.OPEN)


def _shape(written: LabelmeShape) -> Shape:
    numbers = [value for point in written.points for value in point]
    match written.shape_type or "polygon":
        case "polygon":
            return polygon_shape(numbers)
        case "rectangle":
            return box_shape(numbers)
        case "point":
            return point_shape(numbers)
        case "line" | "linestrip":
            return line_shape(numbers)
        case "circle" if len(numbers) == 4:
            radius = math.dist(numbers[:2], numbers[2:])
            return ellipse_shape((numbers[0], numbers[1]), (radius, radius))
        case "mask" if len(numbers) == 4 and written.mask:
            box_shape(numbers)
            left, top = int(numbers[0]), int(numbers[1])
            return mask_shape(partial(_unpacked, written.mask), left=left, top=top)
        case "circle" | "mask" as kind:
            raise InvalidError(f"a {kind} without its two points or its content")
        case kind:
            raise InvalidError(
                f"shape_type {kind[:40]!r} is unknown",
                fix="Known: polygon, rectangle, circle, point, line, linestrip, mask.",
            )


def _unpacked(text: str) -> Mask:
    try:
        encoded = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(f"a mask that is no base 64: {error}") from error
    picture = decode_picture(encoded, max_bytes=MOST_PICTURE_BYTES)
    return np.asarray(picture.any(axis=2), np.bool_)
