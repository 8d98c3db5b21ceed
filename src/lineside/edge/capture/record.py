"""A capture as a JSON line, with files beside it for what is too long to stand in the line.

1. The line's words are those of the managed edge service's records, so that its readers read it.
2. ``inferenceTime`` is UTC without a zone, to the second.
3. What has more bytes than the limit becomes a file and is named by ``data-ref``.
4. Tensors with a name are matched to a network's inputs by it, others by their place; each input is
   given once. A type or shape that a tensor names must fit; otherwise it is taken from the network,
   of whose sides one may be open. Values that are no finite numbers are refused.
"""

import base64
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.compat.aws.edge_agent import (
    Auxiliary,
    Capture,
    Encoding,
    FutureError,
    TensorPart,
)
from lineside.core import InvalidError, encode
from lineside.fleet.contract import check_identifier
from lineside.models.engines import ANY, TensorSlot


def arrays_for(slots: Sequence[TensorSlot], parts: Sequence[TensorPart]) -> dict[str, NDArray[Any]]:
    """Input name → array, for a network that takes ``slots``.

    Raises:
        InvalidError: too many or too few tensors, or one that does not fit its input.
    """
    if len(parts) != len(slots):
        raise InvalidError(
            f"{len(parts)} tensors for {len(slots)} inputs",
            where="tensors",
            fix=f"Send {', '.join(_slot_text(slot) for slot in slots)}.",
        )
    named = _by_name(slots, parts)
    return {slot.name: array_of(part, slot=slot) for slot, part in named}


def array_of(part: TensorPart, *, slot: TensorSlot) -> NDArray[Any]:
    """The tensor as an array of its input's type.

    Raises:
        InvalidError: another type, a shape or length that does not fit, or no finite numbers.
    """
    where = slot.name or "tensors[0]"
    if part.dtype and part.dtype != slot.dtype:
        raise InvalidError(
            f"the input takes {slot.dtype}, the tensor is {part.dtype}",
            where=where,
            fix=f"Send {_slot_text(slot)}.",
        )
    kind = np.dtype(slot.dtype).newbyteorder("<")
    asked = _merged(part.shape, slot.shape)
    shape = whole_shape(asked, len(part.data), item_bytes=kind.itemsize)
    if shape is None or not _fits(shape, slot.shape):
        seen = list(part.shape) if part.shape else f"{len(part.data)} bytes"
        raise InvalidError(
            f"{seen} do not fit the input", where=where, fix=f"Send {_slot_text(slot)}."
        )
    wanted = math.prod(shape) * kind.itemsize
    if len(part.data) != wanted:
        raise InvalidError(
            f"{len(part.data)} bytes, {slot.dtype} of {list(shape)} has {wanted}",
            where=where,
            fix="Send all values, little-endian, last dimension fastest.",
        )
    array = np.frombuffer(part.data, kind).reshape(shape)
    if kind.kind == "f" and not np.isfinite(array).all():
        raise InvalidError(
            "values that are no finite numbers", where=where, fix="Leave NaN and infinity out."
        )
    return array.astype(slot.dtype, copy=False)


def part_of(array: NDArray[Any], *, slot: TensorSlot) -> TensorPart:
    """An output as bytes, with its name, type and shape."""
    kind = np.dtype(slot.dtype).newbyteorder("<")
    data = np.ascontiguousarray(array, dtype=kind).tobytes()
    return TensorPart(data=data, name=slot.name, dtype=slot.dtype, shape=array.shape)


def _by_name(
    slots: Sequence[TensorSlot], parts: Sequence[TensorPart]
) -> list[tuple[TensorSlot, TensorPart]]:
    known: Mapping[str, TensorSlot] = {slot.name: slot for slot in slots}
    parts_by_slot: dict[str, TensorPart] = {}
    for place, part in enumerate(parts):
        slot = known.get(part.name) if part.name else slots[place]
        if slot is None or slot.name in parts_by_slot:
            what = "is no input" if slot is None else "is given twice"
            raise InvalidError(
                f"{part.name[:60]!r} {what}",
                where=f"tensors[{place}]",
                fix=f"Inputs: {', '.join(known)}.",
            )
        parts_by_slot[slot.name] = part
    return [(known[name], part) for name, part in parts_by_slot.items()]


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        asked in (ANY, side) for side, asked in zip(shape, wanted, strict=True)
    )


def _merged(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The sides given, and the wanted ones where they are left open."""
    if len(shape) != len(wanted):
        return shape or wanted
    return tuple(asked if side == ANY else side for side, asked in zip(shape, wanted, strict=True))


def whole_shape(
    wanted: tuple[int, ...], size_bytes: int, *, item_bytes: int
) -> tuple[int, ...] | None:
    """The shape of so many bytes, where at most one side is open (-1); None where it cannot be."""
    open_sides = wanted.count(ANY)
    fixed = math.prod(side for side in wanted if side != ANY) * item_bytes
    if open_sides == 0:
        return wanted
    if open_sides > 1 or fixed == 0 or size_bytes % fixed:
        return None
    return tuple(size_bytes // fixed if side == ANY else side for side in wanted)


def _slot_text(slot: TensorSlot) -> str:
    sides = ", ".join("any" if side == ANY else str(side) for side in slot.shape)
    return f"{slot.name!r} {slot.dtype} ({sides})"


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
_FIRST = datetime.fromtimestamp(0, UTC)
_SUFFIX = re.compile(r".*\.([A-Za-z0-9]{1,8})")
_WORDS = {Encoding.JSON: "json", Encoding.CSV: "csv"}
_ALIKE = {"jpeg": "jpg"}


def checked(capture: Capture, *, now: datetime) -> Capture:
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
        raise FutureError(
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
    capture: Capture,
    *,
    fleet: str,
    device: str,
    at: datetime,
    embed_max_bytes: int,
    address: Callable[[str], str],
) -> tuple[bytes, dict[str, bytes]]:
    """A capture as it is kept: its line, without its end, and files beside it by their names.

    Args:
        capture: checked.
        fleet: of the device, as the records name it.
        device: likewise.
        at: time of the inference.
        embed_max_bytes: longer values become files.
        address: of a file, by its name within the batch's folder, as the line states it.
    """
    files: dict[str, bytes] = {}
    numbers = count()

    def put(data: bytes, suffix: str) -> dict[str, str]:
        if len(data) <= embed_max_bytes:
            return {"data": base64.b64encode(data).decode(), "encoding": "BASE64"}
        name = f"{capture.capture_id}-{next(numbers)}.{suffix}"
        files[name] = data
        return {"data-ref": address(name), "encoding": "NONE"}

    sections = {
        "deviceFleetInputs": _tensors(capture.input_tensors, mode="Input", put=put),
        "deviceFleetOutputs": _tensors(capture.output_tensors, mode="Output", put=put),
        "deviceFleetAuxiliaryInputs": _auxiliaries(capture.inputs, mode="Input", put=put),
        "deviceFleetAuxiliaryOutputs": _auxiliaries(capture.outputs, mode="Output", put=put),
    }
    document = {name: list(items) for name, items in sections.items()}
    event = {
        "deviceFleetName": fleet,
        "deviceId": device,
        "eventId": capture.capture_id,
        "inferenceTime": at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        "modelName": capture.model,
        "modelVersion": capture.version,
    }
    return encode({**document, "eventMetadata": event, "eventVersion": "0"}), files


def content_type(auxiliary: Auxiliary) -> str:
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


def _tensors(parts: Iterable[TensorPart], *, mode: str, put: _Put) -> Iterator[dict[str, str]]:
    for part in parts:
        shape = part.shape or (len(part.data),)
        kind = (part.dtype or "uint8").upper()
        told = f"Tensor[{kind}; {', '.join(str(side) for side in shape)}]"
        item = {"name": part.name, "mode": mode, "observedContentType": told}
        yield item | put(part.data, "tensor")


def _auxiliaries(items: Iterable[Auxiliary], *, mode: str, put: _Put) -> Iterator[dict[str, str]]:
    for each in items:
        tag = content_type(each)
        item = {"name": each.name, "mode": mode, "observedContentType": tag}
        yield item | put(each.data, tag)


def _sized(parts: Sequence[TensorPart], *, noun: str) -> tuple[TensorPart, ...]:
    return tuple(_whole(part, where=f"{noun}_tensors[{place}]") for place, part in enumerate(parts))


def _whole(part: TensorPart, *, where: str) -> TensorPart:
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
