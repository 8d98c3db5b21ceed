"""Records here, messages there: the three gRPC contracts of a device.

Tensors, models and captures of ``AWS.SageMaker.Edge``:

1. A tensor's facts may be missing or half said: ``TensorPart.dtype`` and ``shape`` are empty then.
   Of type number 0 (UINT8, which the wire does not tell from "not said") without a shape, nothing
   is taken as said.
2. Handles of shared memory are refused: a client's segment can be changed or cut while it is read.

Calls of ``inference.GRPCInferenceService``, to and from the records of ``models``: contents stand
either typed in each tensor or raw in ``raw_input_contents``, never both; answers are raw where the
request was. Predictions are those of ``lineside.edge.v1``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, cast

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.fleet.wire import agent_pb2
from lineside.fleet.wire import lineside_edge_v1_pb2 as edge_pb2
from lineside.fleet.wire import open_inference_pb2 as pb2
from lineside.fleet.wire import open_inference_pb2_grpc as pb2_grpc
from lineside.models.engines import ANY, TensorSlot
from lineside.models.serving.open_inference import (
    EXTENSIONS,
    InferenceModels,
    ModelMeta,
    server_name,
)
from lineside.models.serving.tensors import (
    DATATYPES,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    checked_shape,
    strings,
    tensor_from_raw,
    tensor_to_raw,
)
from lineside.vision import (
    Prediction,
    StageTimes,
)

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


def auxiliary_to_wire(auxiliary: Auxiliary) -> agent_pb2.AuxilaryData:
    """Something beside the tensors."""
    number = agent_pb2.Encoding.Value(auxiliary.encoding)
    return agent_pb2.AuxilaryData(name=auxiliary.name, encoding=number, byte_data=auxiliary.data)


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


def capture_to_wire(capture: Capture) -> agent_pb2.CaptureDataRequest:
    """A request to keep what was asked and answered."""
    message = agent_pb2.CaptureDataRequest(
        model_name=capture.model,
        capture_id=capture.capture_id,
        input_tensors=[tensor_to_wire(part) for part in capture.input_tensors],
        output_tensors=[tensor_to_wire(part) for part in capture.output_tensors],
        inputs=[auxiliary_to_wire(each) for each in capture.inputs],
        outputs=[auxiliary_to_wire(each) for each in capture.outputs],
    )
    if capture.inferred_at is not None:
        message.inference_timestamp.CopyFrom(moment_to_wire(capture.inferred_at))
    return message


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


def moment_to_wire(moment: datetime) -> agent_pb2.Timestamp:
    """An aware time."""
    whole = moment.astimezone(UTC) - _EPOCH
    seconds = whole // timedelta(seconds=1)
    return agent_pb2.Timestamp(seconds=seconds, nanos=whole.microseconds * 1000)


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


_STAGES = tuple(each.name for each in fields(StageTimes))


def prediction_to_wire(prediction: Prediction) -> edge_pb2.Prediction:
    """The message of a prediction."""
    said = prediction
    return edge_pb2.Prediction(
        frame=edge_pb2.FrameRef(
            **_facts(said.frame) | {"captured_at": time_to_wire(said.frame.captured_at)}
        ),
        inspection=said.inspection,
        task=said.task,
        state=edge_pb2.PictureState.Value(f"PICTURE_STATE_{said.state.name}"),
        reason=said.reason,
        labels=[edge_pb2.LabelAnswer(**_decided(each)) for each in said.labels],
        boxes=[edge_pb2.BoxAnswer(**_decided(each)) for each in said.boxes],
        count=None if said.count is None else edge_pb2.CountAnswer(**_decided(said.count)),
        mask=None if said.mask is None else edge_pb2.MaskAnswer(**_facts(said.mask)),
        anomaly=None if said.anomaly is None else edge_pb2.AnomalyAnswer(**_decided(said.anomaly)),
        package=said.package,
        operating_point=said.operating_point,
        dataset=said.dataset,
        registration=edge_pb2.Registration(**_facts(said.registration)),
        health=edge_pb2.Health(**_facts(said.health)),
        latency=edge_pb2.StageTimes(
            **{f"{stage}_ms": getattr(said.latency_ms, stage) for stage in _STAGES}
        ),
        device=said.device,
        schema=said.schema,
    )


def time_to_wire(moment: datetime) -> Timestamp:
    """An aware time, to the microsecond."""
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def time_from_wire(message: Timestamp, *, where: str) -> datetime:
    """An aware UTC time; ``InvalidError`` beyond what a calendar holds."""
    try:
        moment: datetime = message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidError(
            f"{message.seconds} s and {message.nanos} ns are no time",
            where=where,
            fix="Send seconds since 1970, UTC, and 0 to 999999999 nanoseconds.",
        ) from error
    return moment


def _facts(record: object) -> dict[str, Any]:
    """The fields of a record by name; those of its message are the same."""
    return {each.name: getattr(record, each.name) for each in fields(record)}  # type: ignore[arg-type]  # records only


def _decided(record: object) -> dict[str, Any]:
    facts = _facts(record)
    return facts | {"decision": edge_pb2.Decision.Value(f"DECISION_{facts['decision'].upper()}")}


_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def infer_from_wire(message: pb2.ModelInferRequest) -> InferRequest:
    """A call.

    Raises:
        InvalidError: tensors whose contents do not fit what is said of them.
    """
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidError(
            f"{len(raw)} raw contents for {len(message.inputs)} inputs",
            where="raw_input_contents",
            fix="Send one for each input, or none.",
        )
    inputs = [
        tensor_from_raw(raw[place], each.shape, datatype=each.datatype, name=each.name)
        if raw
        else _typed(each)
        for place, each in enumerate(message.inputs)
    ]
    return InferRequest(
        inputs=tuple(inputs),
        id=message.id,
        outputs=tuple(RequestedOutput(name=each.name) for each in message.outputs),
        binary=bool(raw),
    )


def _typed(given: Any) -> Tensor:  # noqa: ANN401  a generated nested type
    where = f"input {given.name[:60]!r}"
    sizes = checked_shape(given.shape, datatype=given.datatype, where=where)
    field = _FIELDS.get(given.datatype)
    if field is None:
        raise InvalidError(
            f"{given.datatype} has no typed contents", where=where, fix="Send it raw."
        )
    items = list(getattr(given.contents, field))
    if len(items) != math.prod(sizes):
        raise InvalidError(
            f"{len(items)} values in {field} for a shape of {list(sizes)}",
            where=where,
            fix="Send all values in row-major order.",
        )
    values: NDArray[Any]
    if given.datatype == "BYTES":
        values = strings(items, sizes, where=where)
    else:
        values = _numbers(items, given.datatype, where=where).reshape(sizes)
    return Tensor(name=given.name, datatype=given.datatype, values=values)


def _numbers(items: list[Any], datatype: str, *, where: str) -> NDArray[Any]:
    try:
        return np.array(items, DATATYPES[datatype])
    except OverflowError as error:
        raise InvalidError(f"{datatype}: {error}", where=where, fix="Send what fits.") from error


def infer_to_wire(response: InferResponse, *, raw: bool) -> pb2.ModelInferResponse:
    """An answer; all outputs raw, or all typed (FP16 is always raw, and then all are)."""
    raw = raw or any(each.datatype not in _FIELDS for each in response.outputs)
    message = pb2.ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id
    )
    for each in response.outputs:
        made = message.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        if raw:
            message.raw_output_contents.append(tensor_to_raw(each))
        else:
            field = getattr(made.contents, _FIELDS[each.datatype])
            field.extend(each.values.reshape(-1).tolist())
    return message


def model_meta_to_wire(meta: ModelMeta) -> pb2.ModelMetadataResponse:
    """A model's metadata."""
    message = pb2.ModelMetadataResponse(
        name=meta.name, versions=meta.versions, platform=meta.platform
    )
    for field, listed in ((message.inputs, meta.inputs), (message.outputs, meta.outputs)):
        for each in listed:
            field.add(name=each.name, datatype=each.datatype, shape=each.shape)
    return message


Context = Any
"""``grpc.ServicerContext``; the library has no types."""

Admit = Callable[[Context, Literal["look", "run"]], None]
"""Refuses a caller: is given the call's context, and whether models are looked at or run."""


def admit_all(context: Context, does: str) -> None:
    """Access where the socket itself admits callers."""


class InferenceService(pb2_grpc.GRPCInferenceServiceServicer):
    """The protocol's six calls."""

    def __init__(
        self,
        models: InferenceModels,
        *,
        admit: Admit = admit_all,
        away: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        """Over models that others load.

        Args:
            models: by name and version.
            admit: asked before every call but those of the server's health.
            away: what the server lacks to do its work.
        """
        self._models = models
        self._admit = admit
        self._away = away

    def ServerLive(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """The process answers."""
        return pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Return whether nothing that the server needs is away."""
        return pb2.ServerReadyResponse(ready=not self._away())

    def ServerMetadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Name, version, extensions."""
        self._admit(context, "look")
        name, version = server_name()
        return pb2.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)

    def ModelReady(self, request: Any, context: Context) -> Any:  # noqa: ANN401, N802
        """Return whether a model is ready."""
        self._admit(context, "look")
        ready = self._models.ready(request.name, version=request.version)
        return pb2.ModelReadyResponse(ready=ready)

    def ModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401, N802
        """Return a model's inputs and outputs."""
        self._admit(context, "look")
        meta = self._models.metadata(request.name, version=request.version)
        return model_meta_to_wire(meta)

    def ModelInfer(self, request: Any, context: Context) -> Any:  # noqa: ANN401, N802
        """Pictures to decisions, tensors to raw outputs."""
        self._admit(context, "run")
        asked = infer_from_wire(request)
        response = self._models.infer(
            request.model_name, version=request.model_version, request=asked
        )
        return infer_to_wire(response, raw=asked.binary)
