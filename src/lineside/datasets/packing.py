"""Pack the pictures of list files into record files, as the reference tool (``im2rec.py``) does.

Of each picture, in this order: decoded to 8 bits (blue, green, red); cut to a square around its
middle, ``(long - short) // 2`` from its beginning; scaled so that the shorter side has the wanted
length and the other ``long * n // short``, bilinear, enlarged too; encoded. Passed through, its
own bytes are packed.

A picture that cannot be read is reported and left out of both files, with any number of threads.
The order of the records is that of the list, and ids are the list's own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, LinesideError, NotFoundError, replace_durably
from lineside.datasets.checking import label_words
from lineside.datasets.classes import classes_beside
from lineside.datasets.formats import ListLine, left_out, list_lines, number
from lineside.datasets.recordio import ImageRecord, framed, pack_image, write_index
from lineside.datasets.replacing import replacing
from lineside.datasets.samples import Skipped
from lineside.datasets.trees import MOST_PICTURE_BYTES, FolderTree
from lineside.datasets.turns import in_order
from lineside.vision import check_whole, decode_picture

_JPEG_QUALITY, _PNG_LEVEL = 95, 3
_MOST_ID = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """How pictures are packed.

    Attributes:
        resize: length of the shorter side in pixels; 0 leaves the size.
        center_crop: cut to a square first.
        pass_through: pack the file's own bytes; nothing else is done.
        encoding: ``.jpg`` or ``.png``.
        quality: of a JPEG 1 to 100, the compression of a PNG 1 to 9; 0 takes 95 and 3.
        color: 1 colour, 0 grey, -1 as stored.
        pack_label: all labels of a picture; else the first alone.
        threads: that prepare pictures.
    """

    resize: int = 0
    center_crop: bool = False
    pass_through: bool = False
    encoding: str = ".jpg"
    quality: int = 0
    color: int = 1
    pack_label: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        highest = {".jpg": 100, ".png": 9}.get(self.encoding)
        if highest is None:
            raise InvalidError(f"encoding {self.encoding!r} is unknown", fix="Known: .jpg, .png.")
        if not 0 <= self.quality <= highest:
            raise InvalidError(
                f"quality {self.quality} of {self.encoding}", fix=f"Between 1 and {highest}."
            )
        if self.color not in (1, 0, -1) or self.resize < 0 or self.threads < 1:
            raise InvalidError(
                f"color {self.color}, resize {self.resize}, {self.threads} threads",
                fix="color is 1, 0 or -1; resize from 0; threads from 1.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What became of one list.

    Attributes:
        records: pictures written.
        labels: how many of each, by its name where the classes are known.
        skipped: rows and pictures left out.
        warnings: what was lost on purpose.
    """

    path: str
    records: int
    labels: dict[str, int]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()


def pack_lists(prefix: Path, root: Path, *, plan: PackPlan) -> list[Packed]:
    """Pack every ``<prefix>….lst``; ``.rec`` and ``.idx`` appear beside each, whole or not at all.

    Raises:
        NotFoundError: no list of this prefix, or no such folder of pictures.
    """
    lists = sorted(
        path
        for path in prefix.absolute().parent.glob("*.lst")
        if path.name.startswith(prefix.name) and path.is_file()
    )
    if not lists:
        raise NotFoundError(
            "no list of this prefix", where=str(prefix), fix="Make one: lineside recordio list."
        )
    if not root.is_dir():
        raise NotFoundError("no such folder", where=str(root), fix="Check the path.")
    return [_pack(path, FolderTree(root, links="followed"), plan=plan) for path in lists]


@dataclass(slots=True)
class _Tally:
    offset: int = 0
    index: list[tuple[int, int]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    cut: int = 0


def _pack(path: Path, tree: FolderTree, *, plan: PackPlan) -> Packed:
    tally = _Tally()
    names = classes_beside(path)
    with path.open("rb") as listed, replacing(path.with_suffix(".rec")) as file:
        lines = list_lines(listed, where=path.name)
        for record in _records(lines, tree, plan=plan, tally=tally):
            written = framed(pack_image(record))
            file.write(written)
            tally.index.append((record.id, tally.offset))
            tally.offset += len(written)
            tally.labels.update(label_words(record, names=names))
    replace_durably(path.with_suffix(".idx"), write_index(tally.index))
    return Packed(
        path=str(path.with_suffix(".rec")),
        records=len(tally.index),
        labels=dict(tally.labels),
        skipped=tuple(tally.skipped),
        warnings=_lost(tally.cut),
    )


def _lost(cut: int) -> tuple[str, ...]:
    if not cut:
        return ()
    return (f"{cut} pictures have several labels, of which only the first was packed (pack_label)",)


def _records(
    lines: Iterable[ListLine | Skipped], tree: FolderTree, *, plan: PackPlan, tally: _Tally
) -> Iterator[ImageRecord]:
    for made in in_order(partial(_made, tree=tree, plan=plan), lines, threads=plan.threads):
        if isinstance(made, Skipped):
            tally.skipped.append(made)
            continue
        record, several = made
        tally.cut += several and not plan.pack_label
        yield record


def _made(
    line: ListLine | Skipped, *, tree: FolderTree, plan: PackPlan
) -> tuple[ImageRecord, bool] | Skipped:
    if isinstance(line, Skipped):
        return line
    try:
        labels = tuple(number(text) for text in line.values)
        if not 0 <= line.id <= _MOST_ID:
            raise InvalidError(f"id {line.id} does not fit 64 bits")
        encoded = tree.read(line.file, most=MOST_PICTURE_BYTES)
        picture = encoded if plan.pass_through else prepared(encoded, plan=plan)
    except LinesideError as error:
        return left_out(f"{line.where} {line.file}", error)
    several = len(labels) > 1
    kept = labels if several and plan.pack_label else labels[:1]
    return ImageRecord(id=line.id, labels=kept, picture=picture, as_vector=len(kept) > 1), several


def prepared(encoded: bytes, *, plan: PackPlan) -> bytes:
    """The picture as it is packed; ``InvalidError`` where it cannot be decoded."""
    import cv2

    image = _decoded(encoded, color=plan.color)
    if plan.center_crop:
        image = _square(image)
    if plan.resize:
        image = np.asarray(cv2.resize(image, _size(image, plan.resize)), image.dtype)
    if plan.encoding == ".jpg":
        settings = [cv2.IMWRITE_JPEG_QUALITY, plan.quality or _JPEG_QUALITY]
    else:
        settings = [cv2.IMWRITE_PNG_COMPRESSION, plan.quality or _PNG_LEVEL]
    if plan.encoding == ".jpg" and image.dtype != np.uint8:
        raise InvalidError("a picture of more than 8 bits does not fit a JPEG")
    return bytes(cv2.imencode(plan.encoding, image, settings)[1])


def _decoded(encoded: bytes, *, color: int) -> NDArray[np.uint8]:
    import cv2

    if color == 1:
        image = decode_picture(encoded, max_bytes=MOST_PICTURE_BYTES)
        return np.ascontiguousarray(image[..., ::-1])
    check_whole(encoded, max_bytes=MOST_PICTURE_BYTES)
    flag = cv2.IMREAD_GRAYSCALE if color == 0 else cv2.IMREAD_UNCHANGED
    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), flag))


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _size(image: NDArray[np.uint8], short: int) -> tuple[int, int]:
    """(width, height) with the shorter side at the wanted length."""
    height, width = image.shape[:2]
    if height > width:
        return short, height * short // width
    return width * short // height, short
