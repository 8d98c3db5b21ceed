"""Messages of ``AWS.SageMaker.Edge`` as records: tensors, models, captures.

1. A tensor's facts may be missing or half said: ``TensorPart.dtype`` and ``shape`` are empty then.
   Of type number 0 (UINT8, which the wire does not tell from "not said") without a shape, nothing
   is taken as said.
2. Handles of shared memory are refused: a client's segment can be changed or cut while it is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import cast

from lineside.compat.aws import agent_pb2
from lineside.core import InvalidError
from lineside.models.engines import ANY, TensorSlot

DTYPES = ("uint8", "int16", "int32", "int64", "float16", "float32", "float64")
"""By number on the wire."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_NANOS = 999_999_999
_SAY_BYTES = "Send the values as byte_data, little-endian."


class Encoding(StrEnum):
    """Encoding of auxiliary data."""

    CSV = "CSV"
    JSON = "JSON"
    NONE = "NONE"
    BASE64 = "BASE64"


class CaptureStatus(StrEnum):
    """State of a capture."""

    FAILURE = "FAILURE"
    SUCCESS = "SUCCESS"
    IN_PROGRESS = "IN_PROGRESS"
    NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPart:
    """A tensor as it was sent.

    Attributes:
        data: little-endian, last dimension fastest.
        dtype: as ``TensorSlot`` names it; "" where the sender does not say.
        shape: empty where the sender does not say; -1 where a side follows from the bytes.
    """

    data: bytes
    name: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Auxiliary:
    """Something beside the tensors: a picture, a text."""

    name: str
    encoding: Encoding
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Inputs and outputs of one inference.

    Attributes:
        inferred_at: aware UTC; None where the client does not say.
        version: of the model; never on the wire, the agent knows it.
    """

    model: str
    capture_id: str
    inferred_at: datetime | None = None
    input_tensors: tuple[TensorPart, ...] = ()
    output_tensors: tuple[TensorPart, ...] = ()
    inputs: tuple[Auxiliary, ...] = ()
    outputs: tuple[Auxiliary, ...] = ()
    version: str = ""


class FutureError(InvalidError):
    """A time lies ahead of the clock here."""


def slot_to_wire(slot: TensorSlot) -> agent_pb2.TensorMetadata:
    """Facts of an input or output."""
    number = cast("agent_pb2.DataType", DTYPES.index(slot.dtype))
    return agent_pb2.TensorMetadata(name=slot.name, data_type=number, shape=slot.shape)


def model_to_wire(
    *, name: str, url: str, inputs: Sequence[TensorSlot], outputs: Sequence[TensorSlot]
) -> agent_pb2.Model:
    """A loaded model."""
    return agent_pb2.Model(
        url=url,
        name=name,
        input_tensor_metadatas=[slot_to_wire(slot) for slot in inputs],
        output_tensor_metadatas=[slot_to_wire(slot) for slot in outputs],
    )


def tensor_to_wire(part: TensorPart) -> agent_pb2.Tensor:
    """A tensor with its bytes."""
    message = agent_pb2.Tensor(byte_data=part.data)
    if part.name or part.dtype:
        slot = TensorSlot(name=part.name, dtype=part.dtype or DTYPES[0], shape=part.shape)
        message.tensor_metadata.CopyFrom(slot_to_wire(slot))
    return message


def tensor_from_wire(message: agent_pb2.Tensor, *, where: str) -> TensorPart:
    """A tensor.

    Raises:
        InvalidError: no bytes, a handle of shared memory, a type that the protocol does not have,
            or a side below -1.
    """
    data = _bytes(message, where=where)
    if not message.HasField("tensor_metadata"):
        return TensorPart(data=data)
    said = message.tensor_metadata
    shape = tuple(said.shape)
    if any(side < ANY for side in shape):
        raise InvalidError(
            f"a tensor of shape {list(shape)}",
            where=where,
            fix="Send sides of 0 or more, or -1 for one that follows from the bytes.",
        )
    dtype = _dtype(said.data_type, where=where) if shape or said.data_type else ""
    return TensorPart(data=data, name=said.name, dtype=dtype, shape=shape)


def auxiliary_from_wire(message: agent_pb2.AuxilaryData, *, where: str) -> Auxiliary:
    """Something beside the tensors; raises as ``tensor_from_wire`` does."""
    if message.encoding not in agent_pb2.Encoding.values():
        raise InvalidError(
            f"encoding {message.encoding} is none",
            where=where,
            fix=f"Use {', '.join(agent_pb2.Encoding.keys())}.",
        )
    word = Encoding(agent_pb2.Encoding.Name(message.encoding))
    return Auxiliary(name=message.name, encoding=word, data=_bytes(message, where=where))


def capture_from_wire(message: agent_pb2.CaptureDataRequest) -> Capture:
    """A request to keep what was asked and answered; it does not say the model's version.

    Raises:
        InvalidError: a tensor, encoding or time is not well formed.
        FutureError: the time lies beyond what a calendar holds.
    """
    said = message.HasField("inference_timestamp")
    return Capture(
        model=message.model_name,
        capture_id=message.capture_id,
        inferred_at=moment_from_wire(message.inference_timestamp) if said else None,
        input_tensors=_tensors(message.input_tensors, "input_tensors"),
        output_tensors=_tensors(message.output_tensors, "output_tensors"),
        inputs=_auxiliaries(message.inputs, "inputs"),
        outputs=_auxiliaries(message.outputs, "outputs"),
    )


def moment_from_wire(message: agent_pb2.Timestamp) -> datetime:
    """An aware UTC time; raises as ``capture_from_wire`` does."""
    if not 0 <= message.nanos <= _MOST_NANOS:
        raise InvalidError(
            f"{message.nanos} nanoseconds",
            where="inference_timestamp",
            fix=f"Send 0 to {_MOST_NANOS}.",
        )
    try:
        return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError as error:
        kind = FutureError if message.seconds > 0 else InvalidError
        raise kind(
            f"{message.seconds} seconds are no time",
            where="inference_timestamp",
            fix="Send seconds since 1970, UTC.",
        ) from error


def status_to_wire(status: CaptureStatus) -> agent_pb2.CaptureDataStatus:
    """Return a capture's state in its form on the wire."""
    number: agent_pb2.CaptureDataStatus = agent_pb2.CaptureDataStatus.Value(status)
    return number


def _tensors(messages: Sequence[agent_pb2.Tensor], noun: str) -> tuple[TensorPart, ...]:
    return tuple(
        tensor_from_wire(each, where=f"{noun}[{place}]") for place, each in enumerate(messages)
    )


def _auxiliaries(messages: Sequence[agent_pb2.AuxilaryData], noun: str) -> tuple[Auxiliary, ...]:
    return tuple(
        auxiliary_from_wire(each, where=f"{noun}[{place}]") for place, each in enumerate(messages)
    )


def _bytes(message: agent_pb2.Tensor | agent_pb2.AuxilaryData, *, where: str) -> bytes:
    kind = message.WhichOneof("data")
    if kind == "shared_memory_handle":
        raise InvalidError("shared memory is not taken", where=where, fix=_SAY_BYTES)
    if kind is None:
        raise InvalidError("no data", where=where, fix=_SAY_BYTES)
    return message.byte_data


def _dtype(number: int, *, where: str) -> str:
    if not 0 <= number < len(DTYPES):
        known = ", ".join(f"{place} {name}" for place, name in enumerate(DTYPES))
        raise InvalidError(f"data type {number} is none", where=where, fix=f"Use {known}.")
    return DTYPES[number]
