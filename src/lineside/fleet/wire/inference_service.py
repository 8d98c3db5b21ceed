"""``inference.GRPCInferenceService`` over models by name; who serves it opens the socket.

Raises ``LinesideError``; the server makes status codes of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from lineside.fleet.wire import open_inference_pb2 as pb2
from lineside.fleet.wire import open_inference_pb2_grpc as pb2_grpc
from lineside.fleet.wire.inference import infer_from_wire, infer_to_wire, model_meta_to_wire
from lineside.models import EXTENSIONS, InferenceModels, server_name

Context = Any
"""``grpc.ServicerContext``; the library has no types."""

Admit = Callable[[Context, Literal["look", "run"]], None]
"""Refuses a caller: is given the call's context, and whether models are looked at or run."""


def admit_all(context: Context, does: str) -> None:
    """Where the socket itself says who may speak."""


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
        """Whether nothing is away."""
        return pb2.ServerReadyResponse(ready=not self._away())

    def ServerMetadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401, ARG002, N802
        """Name, version, extensions."""
        self._admit(context, "look")
        name, version = server_name()
        return pb2.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)

    def ModelReady(self, request: Any, context: Context) -> Any:  # noqa: ANN401, N802
        """Whether a model answers."""
        self._admit(context, "look")
        ready = self._models.ready(request.name, version=request.version)
        return pb2.ModelReadyResponse(ready=ready)

    def ModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401, N802
        """What a model takes and gives."""
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
