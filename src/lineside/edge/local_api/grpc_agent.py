"""The service ``AWS.SageMaker.Edge.Agent``: each call decodes, asks one thing, encodes.

Status codes are those of ``lineside.edge.local_api.grpc_server.code_of``.
"""

from dataclasses import replace
from typing import Any

from lineside.core import Clock
from lineside.edge.capture.buffer import Capturer
from lineside.edge.capture.record import checked
from lineside.edge.local_api.models import LoadedModel, LoadedModels
from lineside.fleet import wire

agent_pb2 = wire.agent_pb2

Context = Any
"""``grpc.ServicerContext``; the library has no types."""


class AgentService(wire.agent_pb2_grpc.AgentServicer):
    """Raises ``LinesideError``; who serves it makes status codes of them."""

    def __init__(self, packages: LoadedModels, *, capturer: Capturer, clock: Clock) -> None:
        self._packages = packages
        self._capturer = capturer
        self._clock = clock

    def Predict(  # noqa: N802  the protocol's word
        self, request: agent_pb2.PredictRequest, context: Context
    ) -> agent_pb2.PredictResponse:
        del context
        self._packages.one(request.name)
        parts = [
            wire.tensor_from_wire(each, where=f"tensors[{place}]")
            for place, each in enumerate(request.tensors)
        ]
        found = self._packages.predict(request.name, parts)
        return agent_pb2.PredictResponse(tensors=[wire.tensor_to_wire(part) for part in found])

    def LoadModel(  # noqa: N802  likewise
        self, request: agent_pb2.LoadModelRequest, context: Context
    ) -> agent_pb2.LoadModelResponse:
        del context
        loaded = self._packages.load(url=request.url, name=request.name)
        return agent_pb2.LoadModelResponse(model=_model(loaded))

    def UnLoadModel(  # noqa: N802  likewise
        self, request: agent_pb2.UnLoadModelRequest, context: Context
    ) -> agent_pb2.UnLoadModelResponse:
        del context
        self._packages.unload(request.name)
        return agent_pb2.UnLoadModelResponse()

    def ListModels(  # noqa: N802  likewise
        self, request: agent_pb2.ListModelsRequest, context: Context
    ) -> agent_pb2.ListModelsResponse:
        del request, context
        return agent_pb2.ListModelsResponse(models=[_model(each) for each in self._packages.all()])

    def DescribeModel(  # noqa: N802  likewise
        self, request: agent_pb2.DescribeModelRequest, context: Context
    ) -> agent_pb2.DescribeModelResponse:
        del context
        return agent_pb2.DescribeModelResponse(model=_model(self._packages.one(request.name)))

    def CaptureData(  # noqa: N802  likewise
        self, request: agent_pb2.CaptureDataRequest, context: Context
    ) -> agent_pb2.CaptureDataResponse:
        del context
        capture = checked(wire.capture_from_wire(request), now=self._clock.now())
        version = self._packages.one(capture.model).version
        self._capturer.offer(replace(capture, version=version))
        return agent_pb2.CaptureDataResponse()

    def GetCaptureDataStatus(  # noqa: N802  likewise
        self, request: agent_pb2.GetCaptureDataStatusRequest, context: Context
    ) -> agent_pb2.GetCaptureDataStatusResponse:
        del context
        status = self._capturer.status(request.capture_id)
        return agent_pb2.GetCaptureDataStatusResponse(status=wire.status_to_wire(status))


def _model(loaded: LoadedModel) -> agent_pb2.Model:
    return wire.model_to_wire(
        name=loaded.name, url=loaded.url, inputs=loaded.inputs, outputs=loaded.outputs
    )
