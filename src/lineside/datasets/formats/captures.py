"""Capture records: a JSON line for each picture a device looked at, with what its model said.

1. The picture is the first of: an auxiliary input of type ``jpg``, ``jpeg`` or ``png``; what
   ``source-ref`` of ``deviceGroundTruthData`` names; an input tensor of a picture's shape. It is
   embedded in base64 or named by a path of the device, of which only the file's name is looked
   for, beside the records and in direct sub-folders. Tensors and what was said may be files too.
2. What the model said becomes facts (``said``, ``confidence``, …), never a label, whatever the
   record calls it: nobody looked.
3. ``inferenceTime`` without a zone is UTC; ``_<n>`` behind it is passed over. ``name``, ``mode``,
   ``deviceId`` and whole sections may be missing, further ones may stand there.
4. Records stand in the source's own folder, or in folders below it, as of fleet, model and hour.
5. Tensors are ``Tensor[TYPE; n, c, h, w]`` or with channels last, little-endian. Floats whose
   largest value is at most 1 are taken times 255.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, NotFoundError, decode_fast
from lineside.datasets.formats.rows import Entry, Listing, Row, entry_of, left_out
from lineside.datasets.trees import (
    MOST_LIST_BYTES,
    MOST_NOTE_BYTES,
    MOST_PICTURE_BYTES,
    Tree,
    stem_of,
    suffix_of,
    walk,
)
from lineside.vision import encode_png

_LONGEST_LINE = 128 * 1024 * 1024
_PICTURES = ("jpg", "jpeg", "png")
_TENSOR = re.compile(r"Tensor\[\s*([A-Za-z0-9_]+)\s*;\s*([0-9,\s]+)\]")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(Z?)(_\d+)?")
_KINDS = {"UINT8": "<u1", "FLOAT": "<f4", "FLOAT32": "<f4", "FLOAT64": "<f8", "FLOAT16": "<f2"}
_MOST_FACT = 200
_DEEPEST = 10

Read = Callable[[str, int], bytes]
"""A file beside the records by its bare name, of at most so many bytes."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A picture, tensor or text that was captured."""

    observedContentType: str = ""  # noqa: N815  the record's own word
    encoding: str = ""
    data: str | None = None
    ref: str | None = msgspec.field(default=None, name="data-ref")


class GroundTruth(msgspec.Struct, frozen=True, kw_only=True):
    """Return what the record names as its source."""

    source: str | None = msgspec.field(default=None, name="source-ref")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    deviceFleetName: str = ""  # noqa: N815  likewise
    deviceId: str = ""  # noqa: N815  likewise
    eventId: str = ""  # noqa: N815  likewise
    inferenceTime: str = ""  # noqa: N815  likewise
    modelName: str = ""  # noqa: N815  likewise
    modelVersion: str = ""  # noqa: N815  likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Capture:
    deviceFleetInputs: list[Item] = field(default_factory=list)  # noqa: N815  likewise
    deviceFleetAuxiliaryInputs: list[Item] = field(default_factory=list)  # noqa: N815  likewise
    deviceFleetAuxiliaryOutputs: list[Item] = field(default_factory=list)  # noqa: N815  likewise
    deviceGroundTruthData: list[GroundTruth] = field(default_factory=list)  # noqa: N815  likewise
    eventMetadata: _Event = field(default_factory=_Event)  # noqa: N815  likewise


def looks_like_captures(tree: Tree) -> bool:
    """Return whether a tree holds files of JSON lines, or its first branch leads to some."""
    folder = ""
    for _ in range(_DEEPEST):
        if any(suffix_of(name) == ".jsonl" for name in tree.files(folder)):
            return True
        inner = tree.folders(folder)
        if not inner:
            return False
        folder = inner[0]
    return False


def capture_files(tree: Tree) -> list[str]:
    """Every file of JSON lines, in order of their names."""
    return sorted(name for name in walk(tree, depth=_DEEPEST) if suffix_of(name) == ".jsonl")


def list_captures(tree: Tree, name: str) -> Listing:
    """The captures of one file of JSON lines."""
    listing = Listing(format="captures", entries=iter(()))
    beside = _AdjacentFiles(tree, name)

    def entries() -> Iterator[Entry]:
        with tree.open(name, most=MOST_LIST_BYTES) as file:
            for place, line in _lines(file):
                where = f"{PurePosixPath(name).name}:{place}"
                try:
                    row = read_capture(line, where=where, read=beside.read)
                except InvalidError as error:
                    listing.skipped.append(left_out(where, error))
                else:
                    yield entry_of(
                        row if row.picture else replace(row, file=beside.named(row.file))
                    )

    return replace(listing, entries=entries())


class _AdjacentFiles:
    """Files beside one file of records."""

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree = tree
        self._folder = "" if "/" not in name else name.rpartition("/")[0]
        self._stem = stem_of(name)
        self._others: list[str] | None = None

    def named(self, bare: str) -> str:
        """As the source's pictures are named: in its own folder they are looked for as they are."""
        return self.find(bare) if self._folder else bare

    def find(self, bare: str) -> str:
        """The file's name in the tree; as it came where it is not beside the records."""
        for folder in self._folders():
            name = f"{folder}/{bare}".lstrip("/")
            if self._tree.has(name):
                return name
        return bare

    def read(self, bare: str, most: int) -> bytes:
        """The file's bytes; ``NotFoundError`` where it is not there."""
        return self._tree.read(self.find(bare), most=most)

    def _folders(self) -> Iterator[str]:
        """Where it is likeliest first; the rest is listed only when it is not there."""
        head = f"{self._folder}/" if self._folder else ""
        yield from (self._folder, f"{head}{self._stem}")
        if self._others is None:
            self._others = self._tree.folders(self._folder)
        yield from self._others


def _no_adjacent_file(bare: str, most: int) -> bytes:
    raise NotFoundError(f"no {bare} of at most {most} bytes beside the record")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    place = 0
    while line := file.readline(_LONGEST_LINE):
        place += 1
        if line.strip():
            yield place, line


def read_capture(line: bytes, *, where: str, read: Read = _no_adjacent_file) -> Row:
    """The row of one record; ``read`` gives files that stand beside it.

    Raises:
        InvalidError: no record, or none with a picture.
    """
    capture = decode_fast(_Capture, line, where=where)
    event = capture.eventMetadata
    embedded, file = _picture(capture)
    name = file or f"{event.eventId or where.replace(':', '-')}.png"
    return Row(
        where=where,
        file=name.replace(":", "-") if embedded is not None else name,
        captured_at=_moment(event.inferenceTime),
        facts=_facts(event, capture.deviceFleetAuxiliaryOutputs, read=read),
        picture=partial(_made, embedded, read) if embedded is not None else None,
    )


def _picture(capture: _Capture) -> tuple[Item | None, str]:
    """The item that holds the picture, or the name of its file."""
    for item in capture.deviceFleetAuxiliaryInputs:
        if item.observedContentType.lower() in _PICTURES:
            if item.data is not None:
                kind = item.observedContentType.lower()
                return item, f"{capture.eventMetadata.eventId or 'capture'}.{kind}"
            if item.ref:
                return None, _bare(item.ref)
    for shown in capture.deviceGroundTruthData:
        if shown.source:
            return None, _bare(shown.source)
    for item in capture.deviceFleetInputs:
        there = item.data is not None or item.ref
        if there and _TENSOR.fullmatch(item.observedContentType.strip()):
            return item, ""
    raise InvalidError("a record without a picture that can be found")


def _bare(reference: str) -> str:
    name = PurePosixPath(reference.replace("\\", "/")).name
    if not name:
        raise InvalidError(f"{reference!r} names no file")
    return name


def _made(item: Item, read: Read) -> bytes:
    raw = _bytes_of(item, read, most=MOST_PICTURE_BYTES)
    match = _TENSOR.fullmatch(item.observedContentType.strip())
    if match is None:
        return raw
    kind = _KINDS.get(match[1].upper())
    sides = [int(word) for word in match[2].split(",") if word.strip()]
    if kind is None or len(raw) != int(np.prod(sides)) * np.dtype(kind).itemsize:
        raise InvalidError(f"{len(raw)} bytes are no {item.observedContentType}")
    return _pixels(np.frombuffer(raw, kind).reshape(sides))


def _bytes_of(item: Item, read: Read, *, most: int) -> bytes:
    if item.data is None and item.ref:
        return read(_bare(item.ref), most)
    return _decoded(item.data or "")


def _decoded(text: str) -> bytes:
    """Base64 with as much padding as somebody put behind it."""
    bare = text.strip().rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("data that is no base64") from error


def _pixels(values: NDArray[np.generic]) -> bytes:
    image = np.squeeze(values)
    if image.ndim == 3 and image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, 2)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InvalidError(f"a tensor of {list(values.shape)} is no picture")
    grey = np.asarray(image, np.float64)
    if not np.isfinite(grey).all():
        raise InvalidError("a tensor with values that are no numbers")
    if values.dtype.kind == "f" and grey.max() <= 1:
        grey = grey * 255
    return encode_png(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def _moment(text: str) -> datetime | None:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        return None


def _facts(event: _Event, outputs: Sequence[Item], *, read: Read) -> Mapping[str, str]:
    facts = {
        "event": event.eventId,
        "fleet": event.deviceFleetName,
        "device": event.deviceId,
        "model": event.modelName,
        "model_version": event.modelVersion,
    }
    for item in outputs:
        if item.observedContentType.lower() == "json" and (item.data or item.ref):
            facts |= _model_answer(item, read)
    return {key: value[:_MOST_FACT] for key, value in facts.items() if value}


def _model_answer(item: Item, read: Read) -> Mapping[str, str]:
    """The model's answer, as far as it can be read."""
    plain = item.data is not None and item.encoding.upper() != "BASE64"
    try:
        raw = (item.data or "").encode() if plain else _bytes_of(item, read, most=MOST_NOTE_BYTES)
        told = msgspec.json.decode(raw)
    except (InvalidError, NotFoundError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    words = {"Inference result": "said", "Confidence": "confidence", "Anomaly_score": "score"}
    return {word: str(told[key]) for key, word in words.items() if key in told}
