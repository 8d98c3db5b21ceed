"""A capture as a JSON line, with files beside it for what is too long to stand in the line.

1. The line's words are those of the managed edge service's records, so that its readers read it.
2. ``inferenceTime`` is UTC without a zone, to the second.
3. What has more bytes than the limit becomes a file and is named by ``data-ref``.
"""

import base64
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import numpy as np

from lineside.core import InvalidError, encode
from lineside.edge.capture.raw import whole_shape
from lineside.fleet import wire
from lineside.fleet.contract import check_identifier

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
_FIRST = datetime.fromtimestamp(0, UTC)
_SUFFIX = re.compile(r".*\.([A-Za-z0-9]{1,8})")
_WORDS = {wire.Encoding.JSON: "json", wire.Encoding.CSV: "csv"}
_ALIKE = {"jpeg": "jpg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A file beside a record, by its name within the batch's folder."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A capture's line, without its end, and its files."""

    line: bytes
    files: tuple[Beside, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who captured: as the records name fleet and device."""

    fleet: str
    device: str


def checked(capture: wire.Capture, *, now: datetime) -> wire.Capture:
    """A client's capture, when it is well formed.

    Raises:
        InvalidError: the id is no UUID, the model no name, or a tensor's bytes are not what its
            type and shape say, or its time lies before 1970.
        FutureError: its time lies ahead.
    """
    if not _UUID.fullmatch(capture.capture_id):
        raise InvalidError(
            f"{capture.capture_id[:60]!r} is no UUID",
            where="capture_id",
            fix="Write 8-4-4-4-12 hexadecimal digits.",
        )
    check_identifier(capture.model, where="model_name")
    if capture.inferred_at is not None and capture.inferred_at < _FIRST:
        raise InvalidError(
            f"{capture.inferred_at.isoformat()} lies before 1970",
            where="inference_timestamp",
            fix="Send seconds since 1970, UTC, or no time.",
        )
    if capture.inferred_at is not None and capture.inferred_at > now:
        raise wire.FutureError(
            f"{capture.inferred_at.isoformat()} lies ahead",
            where="inference_timestamp",
            fix=f"It is {now.isoformat()} here.",
        )
    return replace(
        capture,
        input_tensors=_sized(capture.input_tensors, noun="input"),
        output_tensors=_sized(capture.output_tensors, noun="output"),
    )


def written(
    capture: wire.Capture,
    *,
    source: Source,
    at: datetime,
    embed_max_bytes: int,
    address: Callable[[str], str],
) -> Written:
    """A capture as it is kept.

    Args:
        capture: checked.
        source: who captured.
        at: time of the inference.
        embed_max_bytes: longer values become files.
        address: of a file, by its name within the batch's folder, as the line states it.
    """
    files: list[Beside] = []
    numbers = count()

    def put(data: bytes, suffix: str) -> dict[str, str]:
        if len(data) <= embed_max_bytes:
            return {"data": base64.b64encode(data).decode(), "encoding": "BASE64"}
        name = f"{capture.capture_id}-{next(numbers)}.{suffix}"
        files.append(Beside(name=name, data=data))
        return {"data-ref": address(name), "encoding": "NONE"}

    sections = {
        "deviceFleetInputs": _tensors(capture.input_tensors, mode="Input", put=put),
        "deviceFleetOutputs": _tensors(capture.output_tensors, mode="Output", put=put),
        "deviceFleetAuxiliaryInputs": _auxiliaries(capture.inputs, mode="Input", put=put),
        "deviceFleetAuxiliaryOutputs": _auxiliaries(capture.outputs, mode="Output", put=put),
    }
    document = {name: list(items) for name, items in sections.items()}
    line = encode(
        {**document, "eventMetadata": _event(capture, source=source, at=at), "eventVersion": "0"}
    )
    return Written(line=line, files=tuple(files))


def content_type(auxiliary: wire.Auxiliary) -> str:
    """A plain tag: what the bytes begin with, else what the name ends in, else the encoding."""
    for magic, tag in _MAGIC.items():
        if auxiliary.data.startswith(magic):
            return tag
    found = _SUFFIX.fullmatch(auxiliary.name)
    if found and auxiliary.encoding not in _WORDS:
        suffix = found[1].lower()
        return _ALIKE.get(suffix, suffix)
    return _WORDS.get(auxiliary.encoding, "bin")


_Put = Callable[[bytes, str], dict[str, str]]


def _tensors(parts: Iterable[wire.TensorPart], *, mode: str, put: _Put) -> Iterator[dict[str, str]]:
    for part in parts:
        shape = part.shape or (len(part.data),)
        kind = (part.dtype or "uint8").upper()
        told = f"Tensor[{kind}; {', '.join(str(side) for side in shape)}]"
        item = {"name": part.name, "mode": mode, "observedContentType": told}
        yield item | put(part.data, "tensor")


def _auxiliaries(
    items: Iterable[wire.Auxiliary], *, mode: str, put: _Put
) -> Iterator[dict[str, str]]:
    for each in items:
        tag = content_type(each)
        item = {"name": each.name, "mode": mode, "observedContentType": tag}
        yield item | put(each.data, tag)


def _event(capture: wire.Capture, *, source: Source, at: datetime) -> dict[str, str]:
    return {
        "deviceFleetName": source.fleet,
        "deviceId": source.device,
        "eventId": capture.capture_id,
        "inferenceTime": at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        "modelName": capture.model,
        "modelVersion": capture.version,
    }


def _sized(parts: Sequence[wire.TensorPart], *, noun: str) -> tuple[wire.TensorPart, ...]:
    return tuple(_whole(part, where=f"{noun}_tensors[{place}]") for place, part in enumerate(parts))


def _whole(part: wire.TensorPart, *, where: str) -> wire.TensorPart:
    """The tensor with the side filled in that was left open."""
    if not part.dtype or not part.shape:
        return part
    item_bytes = np.dtype(part.dtype).itemsize
    shape = whole_shape(part.shape, len(part.data), item_bytes=item_bytes)
    if shape is None or math.prod(shape) * item_bytes != len(part.data):
        raise InvalidError(
            f"{len(part.data)} bytes are no {part.dtype} of {list(part.shape)}",
            where=where,
            fix="Send all values.",
        )
    return replace(part, shape=shape)
