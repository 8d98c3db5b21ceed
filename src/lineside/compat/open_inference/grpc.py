"""The Open Inference Protocol over gRPC: its six calls over models that others load.

Contents stand either typed in each tensor or raw in ``raw_input_contents``, never both; answers are
raw where the request was. Not here: sockets, and who may call.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference import open_inference_pb2_grpc as pb2_grpc
from lineside.compat.open_inference.http import EXTENSIONS, server_name
from lineside.compat.open_inference.models import InferenceModels, ModelMeta
from lineside.compat.open_inference.tensors import (
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
from lineside.core import InvalidError

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


class InferenceService(pb2_grpc.GRPCInferenceServiceServicer):
    """The protocol's six calls."""

    def __init__(
        self,
        models: InferenceModels,
        *,
        away: Callable[[], Sequence[str]] = lambda: (),
        limiter: AbstractContextManager[object] | None = None,
    ) -> None:
        """Over models that others load.

        Args:
            models: by name and version.
            away: what the server lacks to do its work.
            limiter: held while a model runs; default: as many run as there are calls.
        """
        self._models = models
        self._away = away
        self._limiter = limiter or nullcontext()

    def ServerLive(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """The process answers."""
        return pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Return whether nothing that the server needs is away."""
        return pb2.ServerReadyResponse(ready=not self._away())

    def ServerMetadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Name, version, extensions."""
        name, version = server_name()
        return pb2.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)

    def ModelReady(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Return whether a model is ready."""
        ready = self._models.ready(request.name, version=request.version)
        return pb2.ModelReadyResponse(ready=ready)

    def ModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Return a model's inputs and outputs."""
        meta = self._models.metadata(request.name, version=request.version)
        return model_meta_to_wire(meta)

    def ModelInfer(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Pictures to decisions, tensors to raw outputs."""
        asked = infer_from_wire(request)
        with self._limiter:
            response = self._models.infer(
                request.model_name, version=request.model_version, request=asked
            )
        return infer_to_wire(response, raw=asked.binary)
