"""Pascal VOC: an XML file of boxes for each picture.

1. ``Annotations/a.xml`` speaks of ``JPEGImages/a.jpg`` (or of the picture it names, there, in
   ``images/`` or beside it). ``ImageSets/Main/train.txt`` and its like say the parts; a number
   behind a name (whether a class is shown) is passed over.
2. Corners are whole pixels counted from 1, the far one inside the box: ``xmin`` 1 and ``xmax`` 10
   are the first ten columns.
3. ``SegmentationClass/a.png`` is the picture's mask, where it is there: 0 is nothing, 255 is not
   judged, all between is defect.
4. Document types and entities are refused: no annotation needs them, and they are how XML is made
   to fill a memory.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from lineside.core import InvalidError, NotFoundError
from lineside.datasets.formats.folders import PICTURE_SUFFIXES, part_named, with_bare
from lineside.datasets.formats.rle import mask_png
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth, number
from lineside.datasets.samples import Marked, Part
from lineside.datasets.trees import (
    MOST_LIST_BYTES,
    MOST_NOTE_BYTES,
    MOST_PICTURE_BYTES,
    Tree,
    composed,
    head_of,
    stem_of,
    suffix_of,
)
from lineside.vision import decode_picture

_NOTES, _PICTURES, _MASKS = "Annotations", "JPEGImages", "SegmentationClass"
_SETS = "ImageSets/Main"
_SHOWN = re.compile(r"\s+(-1|0|1)$")
_VOID = 255
_ROOT = re.compile(rb"<annotation[\s>]")
# Elements and attributes, each some 100 bytes of memory: five bytes of a file can make one.
_MOST_NODES = 10_000_000


def looks_like_voc(tree: Tree) -> bool:
    """Return whether a tree holds annotations as Pascal VOC writes them."""
    folder = _notes_of(tree)
    first = next((name for name in tree.files(folder) if suffix_of(name) == ".xml"), "")
    return bool(first) and _ROOT.search(head_of(tree, first)) is not None


def list_voc(tree: Tree, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures that have an annotation."""
    folders = tuple(tree.folders())
    reading = _Reading(tree=tree, labels=tuple(labels), folders=folders, parts=_parts(tree))

    def entry(name: str) -> Entry:
        return Entry(file=stem_of(name), where=name, row=partial(reading.row, name))

    def entries() -> Iterator[Entry]:
        for name in tree.files(_notes_of(tree)):
            if suffix_of(name) == ".xml":
                yield entry(name)

    listing = Listing(format="voc", entries=entries(), sorts=True)
    return with_bare(listing, tree, lacking="annotation", folder=_PICTURES, depth=0)


def _notes_of(tree: Tree) -> str:
    return _NOTES if _NOTES in tree.folders() else ""


def _parts(tree: Tree) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for name in sorted(tree.files(_SETS)):
        part = part_named(stem_of(name))
        if part is Part.OPEN:
            continue
        text = tree.read(name, most=MOST_LIST_BYTES).decode("utf-8", errors="replace")
        for line in text.splitlines():
            parts.setdefault(composed(_SHOWN.sub("", line.strip())), part)
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    tree: Tree
    labels: tuple[str, ...]
    folders: tuple[str, ...]
    parts: dict[str, Part]

    def row(self, name: str) -> Row:
        root = parse_xml(self.tree.read(name, most=MOST_NOTE_BYTES), where=name)
        truth = Truth(self.labels)
        marked = tuple(_mark(found, truth=truth) for found in root.iter("object"))
        held = {mark.label for mark in marked}
        mask = f"{_MASKS}/{stem_of(name)}.png"
        drawn = _MASKS in self.folders and self.tree.has(mask)
        return Row(
            where=name,
            file=self.picture(name, written=_text(root, "filename")),
            labels=tuple(sorted(held)),
            known=truth.judged(held, over=truth.wanted) if self.labels else tuple(sorted(held)),
            split=self.parts.get(composed(stem_of(name)), Part.OPEN),
            marked=marked,
            mask=mask if drawn else "",
            drawn=partial(_lifted, self.tree, mask) if drawn else None,
            size=_size(root),
        )

    def picture(self, name: str, *, written: str) -> str:
        stem = stem_of(name)
        bare = PurePosixPath(written.replace("\\", "/")).name
        names = [bare] if PurePosixPath(bare).suffix.lower() in PICTURE_SUFFIXES else []
        names += [stem + suffix for suffix in (*PICTURE_SUFFIXES, ".JPG", ".PNG")]
        for folder in (_PICTURES, "images", ""):
            if folder and folder not in self.folders:
                continue
            for one in names:
                found = f"{folder}/{one}" if folder else one
                if self.tree.has(found):
                    return found
        raise NotFoundError(f"no picture {names[0]} of this annotation")


def _mark(found: Element, *, truth: Truth) -> Marked:
    label = truth.name(_text(found, "name"))
    box = found.find("bndbox")
    if box is None or not label:
        raise InvalidError("an object without name or box")
    x0, y0, x1, y1 = (number(_text(box, word)) for word in ("xmin", "ymin", "xmax", "ymax"))
    x0, y0 = max(x0 - 1, 0.0), max(y0 - 1, 0.0)
    if x0 >= x1 or y0 >= y1:
        raise InvalidError(f"a box without area: {x0 + 1:g} {y0 + 1:g} {x1:g} {y1:g}")
    return Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)


def _text(element: Element, word: str) -> str:
    return (element.findtext(word) or "").strip()


def _size(root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    try:
        width, height = (int(number(_text(size, word))) for word in ("width", "height"))
    except InvalidError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def parse_xml(raw: bytes, *, where: str) -> Element:
    """The root of a document without document type.

    Raises:
        InvalidError: it is no XML, has too many elements, or declares a document type or entities.
    """
    builder = TreeBuilder()
    nodes = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal nodes
        nodes += 1 + len(attributes)
        if nodes > _MOST_NODES:
            raise InvalidError(
                f"more than {_MOST_NODES} elements and attributes", where=where, fix="Divide it."
            )
        builder.start(tag, attributes)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(raw, True)  # noqa: FBT003  the parser's way to say that this is all
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        raise InvalidError(f"not XML: {error}", where=where, fix="Write it again.") from error


def _refuse(*_: object) -> None:
    raise InvalidError("XML with a document type", fix="Write it without one.")


def _lifted(tree: Tree, mask: str, width: int, height: int) -> bytes:  # noqa: PLR0917  the last two as ``Row.drawn`` says
    del width, height
    encoded = tree.read(mask, most=MOST_PICTURE_BYTES)
    classes = _indexes(encoded)
    return mask_png(np.asarray((classes > 0) & (classes < _VOID), np.bool_))


def _indexes(encoded: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Palette places of a mask; of one without palette its greys."""
    from io import BytesIO

    from PIL import Image

    decode_picture(encoded, max_bytes=MOST_PICTURE_BYTES)  # whole, and under the limits
    with Image.open(BytesIO(encoded)) as image:
        kept = image if image.mode in ("P", "L") else image.convert("L")
        return np.asarray(kept, np.uint8)
