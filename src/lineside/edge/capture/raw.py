"""Raw tensors to a bare network and back.

1. Tensors with a name are matched by it, others by their place; each input is given once.
2. What a tensor says of its type and shape must fit the network; what it does not say is taken
   from the network, of whose sides one may be open.
3. Values that are no finite numbers are refused: no answer to them means anything.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.fleet import wire
from lineside.models import ANY, TensorSlot


def arrays_for(
    slots: Sequence[TensorSlot], parts: Sequence[wire.TensorPart]
) -> dict[str, NDArray[Any]]:
    """Input name → array, for a network that takes ``slots``.

    Raises:
        InvalidError: too many or too few tensors, or one that does not fit its input.
    """
    if len(parts) != len(slots):
        raise InvalidError(
            f"{len(parts)} tensors for {len(slots)} inputs",
            where="tensors",
            fix=f"Send {', '.join(_said(slot) for slot in slots)}.",
        )
    named = _by_name(slots, parts)
    return {slot.name: array_of(part, slot=slot) for slot, part in named}


def array_of(part: wire.TensorPart, *, slot: TensorSlot) -> NDArray[Any]:
    """The tensor as an array of its input's type.

    Raises:
        InvalidError: another type, a shape or length that does not fit, or no finite numbers.
    """
    where = slot.name or "tensors[0]"
    if part.dtype and part.dtype != slot.dtype:
        raise InvalidError(
            f"the input takes {slot.dtype}, the tensor is {part.dtype}",
            where=where,
            fix=f"Send {_said(slot)}.",
        )
    kind = np.dtype(slot.dtype).newbyteorder("<")
    asked = _merged(part.shape, slot.shape)
    shape = whole_shape(asked, len(part.data), item_bytes=kind.itemsize)
    if shape is None or not _fits(shape, slot.shape):
        seen = list(part.shape) if part.shape else f"{len(part.data)} bytes"
        raise InvalidError(f"{seen} do not fit the input", where=where, fix=f"Send {_said(slot)}.")
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


def part_of(array: NDArray[Any], *, slot: TensorSlot) -> wire.TensorPart:
    """An output as bytes, with its name, type and shape."""
    kind = np.dtype(slot.dtype).newbyteorder("<")
    data = np.ascontiguousarray(array, dtype=kind).tobytes()
    return wire.TensorPart(data=data, name=slot.name, dtype=slot.dtype, shape=array.shape)


def _by_name(
    slots: Sequence[TensorSlot], parts: Sequence[wire.TensorPart]
) -> list[tuple[TensorSlot, wire.TensorPart]]:
    known: Mapping[str, TensorSlot] = {slot.name: slot for slot in slots}
    taken: dict[str, wire.TensorPart] = {}
    for place, part in enumerate(parts):
        slot = known.get(part.name) if part.name else slots[place]
        if slot is None or slot.name in taken:
            what = "is no input" if slot is None else "is given twice"
            raise InvalidError(
                f"{part.name[:60]!r} {what}",
                where=f"tensors[{place}]",
                fix=f"Inputs: {', '.join(known)}.",
            )
        taken[slot.name] = part
    return [(known[name], part) for name, part in taken.items()]


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        asked in (ANY, side) for side, asked in zip(shape, wanted, strict=True)
    )


def _merged(said: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """What was said, and for sides it leaves open what is wanted."""
    if len(said) != len(wanted):
        return said or wanted
    return tuple(asked if side == ANY else side for side, asked in zip(said, wanted, strict=True))


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


def _said(slot: TensorSlot) -> str:
    sides = ", ".join("any" if side == ANY else str(side) for side in slot.shape)
    return f"{slot.name!r} {slot.dtype} ({sides})"
