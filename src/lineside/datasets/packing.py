"""List files and record files of a folder of pictures, as the tool ``im2rec.py`` makes them.

Lists:

1. Depth first, a folder's own pictures before its sub-folders, both in plain order of their names;
   links are followed, a link to a folder that holds it is not.
2. A folder gets the next class number when its first picture is met. The numbers are kept beside
   the lists in ``<prefix>_classes.txt``, one name a line from 0; lists made again keep them.
3. Pictures are numbered over the whole walk, then shuffled with Python's generator, seed 100.
4. Of each chunk the first ``int(size * test)`` rows are the test part, the next
   ``int(size * train)`` the training part, the rest the validation part; ``size`` is that of a
   full chunk. Where the two shares make up 1 there is no validation list, and what rounding leaves
   stands in none.

Records:

Of each picture, in this order: decoded to 8 bits (blue, green, red); cut to a square around its
middle, ``(long - short) // 2`` from its beginning; scaled so that the shorter side has the wanted
length and the other ``long * n // short``, bilinear, enlarged too; encoded. Passed through, its
own bytes are packed.

A picture that cannot be read is reported and left out of both files, with any number of threads.
The order of the records is that of the list, and ids are the list's own.
"""

import math
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lineside.core import ConflictError, InvalidError, LinesideError, NotFoundError, replace_durably
from lineside.core.files import replacing_durably
from lineside.core.worker import prefetch
from lineside.datasets.formats import ListLine, NumberForm, left_out, list_lines, number, write_lst
from lineside.datasets.recordio import (
    ImageRecord,
    adjacent_classes,
    class_file,
    framed,
    label_words,
    pack_image,
    read_classes,
    write_index,
)
from lineside.datasets.samples import Skipped
from lineside.datasets.trees import MOST_PICTURE_BYTES, FolderTree
from lineside.vision import decode_picture
from lineside.vision.picture import check_whole

_JPEG_QUALITY, _PNG_LEVEL = 95, 3
_MOST_ID = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSettings:
    """The settings of packing.

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
class PackResult:
    """The result of packing one list.

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


def pack_lists(prefix: Path, root: Path, *, plan: PackSettings) -> list[PackResult]:
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
class _Counts:
    offset: int = 0
    index: list[tuple[int, int]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    cut: int = 0


def _pack(path: Path, tree: FolderTree, *, plan: PackSettings) -> PackResult:
    counts = _Counts()
    names = adjacent_classes(path)
    with path.open("rb") as listed, replacing_durably(path.with_suffix(".rec")) as file:
        lines = list_lines(listed, where=path.name)
        for record in _records(lines, tree, plan=plan, counts=counts):
            written = framed(pack_image(record))
            file.write(written)
            counts.index.append((record.id, counts.offset))
            counts.offset += len(written)
            counts.labels.update(label_words(record, names=names))
    replace_durably(path.with_suffix(".idx"), write_index(counts.index))
    return PackResult(
        path=str(path.with_suffix(".rec")),
        records=len(counts.index),
        labels=dict(counts.labels),
        skipped=tuple(counts.skipped),
        warnings=_lost(counts.cut),
    )


def _lost(cut: int) -> tuple[str, ...]:
    if not cut:
        return ()
    return (f"{cut} pictures have several labels, of which only the first was packed (pack_label)",)


def _records(
    lines: Iterable[ListLine | Skipped], tree: FolderTree, *, plan: PackSettings, counts: _Counts
) -> Iterator[ImageRecord]:
    for made in prefetch(partial(_made, tree=tree, plan=plan), lines, threads=plan.threads):
        if isinstance(made, Skipped):
            counts.skipped.append(made)
            continue
        record, several = made
        counts.cut += several and not plan.pack_label
        yield record


def _made(
    line: ListLine | Skipped, *, tree: FolderTree, plan: PackSettings
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


def prepared(encoded: bytes, *, plan: PackSettings) -> bytes:
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


_SEED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSettings:
    """The settings of list files; the defaults are those of the reference tool.

    Attributes:
        recursive: also sub-folders, each a class of its own; else every label is 0.
        train, test: shares of the rows; what is left is the validation part.
        chunks: lists of each part.
        shuffle: whether rows are shuffled before they are parted.
        suffixes: of the files taken, in lower case.
        form: how label numbers are written.
    """

    recursive: bool = False
    train: float = 1.0
    test: float = 0.0
    chunks: int = 1
    shuffle: bool = True
    suffixes: tuple[str, ...] = (".jpeg", ".jpg", ".png")
    form: NumberForm = "decimals"

    def __post_init__(self) -> None:
        if not (0 <= self.train <= 1 and 0 <= self.test <= 1 and self.train + self.test <= 1):
            raise InvalidError(
                f"shares {self.train} and {self.test}", fix="Two shares from 0, together at most 1."
            )
        if self.chunks < 1:
            raise InvalidError(f"{self.chunks} chunks", fix="Ask for one or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """A picture with its number, its class number and its name relative to the root."""

    id: int
    label: int
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFiles:
    """The result of writing.

    Attributes:
        files: rows of each list file.
        classes: their names by number.
        left_out: pictures in no list, which is what rounding leaves where the shares make up 1.
    """

    files: dict[str, int]
    classes: tuple[str, ...]
    left_out: int = 0


def make_lists(
    prefix: Path, root: Path, *, plan: ListSettings, classes: Sequence[str] = ()
) -> ListFiles:
    """Write the lists of a folder and the names of its classes.

    Args:
        prefix: where they go: ``<prefix>_train.lst`` and so on.
        root: the folder of pictures.
        plan: what goes into which list.
        classes: names by number, where they are fixed already.

    Raises:
        NotFoundError: no such folder, or no picture in it.
        InvalidError: a folder that is none of the fixed classes.
        ConflictError: earlier lists of this prefix number the classes otherwise.
    """
    if not root.is_dir():
        raise NotFoundError("no such folder", where=str(root), fix="Check the path.")
    fixed = tuple(classes) or read_classes(class_file(prefix))
    rows, names = number_pictures(walk_pictures(root, plan=plan), plan=plan, fixed=fixed)
    if not rows:
        raise NotFoundError(
            "no picture in it", where=str(root), fix=f"Suffixes taken: {' '.join(plan.suffixes)}."
        )
    if plan.recursive:
        _keep_classes(class_file(prefix), names)
    written: dict[str, int] = {}
    for ending, part in parted(rows, plan=plan):
        path = prefix.with_name(prefix.name + ending + ".lst")
        raw = write_lst([(row.id, (row.label,), row.file) for row in part], form=plan.form)
        replace_durably(path, raw)
        written[str(path)] = len(part)
    return ListFiles(files=written, classes=names, left_out=len(rows) - sum(written.values()))


def walk_pictures(root: Path, *, plan: ListSettings) -> Iterator[PurePosixPath]:
    """Pictures relative to the root, in the order of the walk."""
    yield from _walk(root, PurePosixPath(), plan=plan, above=())


def _walk(
    root: Path, here: PurePosixPath, *, plan: ListSettings, above: tuple[tuple[int, int], ...]
) -> Iterator[PurePosixPath]:
    stat = (root / here).stat()
    if (stat.st_dev, stat.st_ino) in above:
        return
    with os.scandir(root / here) as entries:
        found = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    for name, _, is_file in found:
        if is_file and PurePosixPath(name).suffix.lower() in plan.suffixes:
            yield here / name
    for name, is_folder, _ in found if plan.recursive else ():
        if is_folder:
            inner = (*above, (stat.st_dev, stat.st_ino))
            yield from _walk(root, here / name, plan=plan, above=inner)


def number_pictures(
    files: Iterator[PurePosixPath], *, plan: ListSettings, fixed: Sequence[str] = ()
) -> tuple[list[ListedImage], tuple[str, ...]]:
    """Pictures with their numbers in the order given, and the class names.

    Raises:
        InvalidError: a folder that is none of the fixed classes.
    """
    numbers = {name: number for number, name in enumerate(fixed)}
    rows: list[ListedImage] = []
    for file in files:
        name = file.parent.as_posix()
        if plan.recursive and fixed and name not in numbers:
            raise InvalidError(
                f"folder {name!r} is none of the {len(fixed)} classes that are numbered already",
                where=str(file),
                fix=f"Known: {', '.join(fixed)}. Add it at the end of the classes' file.",
            )
        label = numbers.setdefault(name, len(numbers)) if plan.recursive else 0
        rows.append(ListedImage(id=len(rows), label=label, file=file.as_posix()))
    return rows, tuple(numbers)


def parted(
    rows: Sequence[ListedImage], *, plan: ListSettings
) -> Iterator[tuple[str, Sequence[ListedImage]]]:
    """The rows of each list, by what its name ends in."""
    rows = list(rows)
    if plan.shuffle:
        random.Random(_SEED).shuffle(rows)  # noqa: S311  the reference's order, no secret
    size = math.ceil(len(rows) / plan.chunks)
    train, test = int(size * plan.train), int(size * plan.test)
    for chunk_number in range(plan.chunks):
        chunk = rows[chunk_number * size : (chunk_number + 1) * size]
        ending = f"_{chunk_number}" if plan.chunks > 1 else ""
        if plan.train == 1.0:
            yield ending, chunk
            continue
        if plan.test:
            yield f"{ending}_test", chunk[:test]
        yield f"{ending}_train", chunk[test : test + train]
        if plan.train + plan.test < 1.0:
            yield f"{ending}_val", chunk[test + train :]


def _keep_classes(path: Path, names: Sequence[str]) -> None:
    raw = "".join(f"{name}\n" for name in names).encode()
    if any("\n" in name for name in names):
        raise InvalidError("a folder's name holds a line end", where=str(path), fix="Rename it.")
    if path.is_file():
        earlier = read_classes(path)
        if tuple(names[: len(earlier)]) != earlier:
            raise ConflictError(
                "earlier lists number the classes otherwise",
                where=str(path),
                fix="Take that file's order, or another prefix.",
            )
    replace_durably(path, raw)
