"""The service ``lineside.edge.v1.Edge``: pictures to decisions, and decisions as they are taken.

Each client that watches has a bounded queue; one that is too slow loses its oldest decisions and is
told how many.

The service ``AWS.SageMaker.Edge.Agent``: each call decodes, asks one thing, encodes.

Status codes are those of ``lineside.edge.local_api.grpc_server.CODES``.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from lineside.compat.aws import agent_pb2, agent_pb2_grpc
from lineside.compat.aws.edge_agent import (
    capture_from_wire,
    model_to_wire,
    status_to_wire,
    tensor_from_wire,
    tensor_to_wire,
)
from lineside.core import Clock, Digest, InvalidError, NotFoundError
from lineside.edge.capture.buffer import Capturer
from lineside.edge.capture.record import checked
from lineside.edge.local_api import lineside_edge_v1_pb2 as edge_pb2
from lineside.edge.local_api import lineside_edge_v1_pb2_grpc
from lineside.edge.local_api.models import LoadedModel, LoadedModels
from lineside.edge.packages import FullError
from lineside.models import Predictor, heat_png
from lineside.vision import Frame, Prediction, StageTimes, decode_picture, open_frame

MOST_WATCHERS = 8
_QUEUE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedDecision:
    """A decision, and how many a client lost just before it."""

    prediction: Prediction
    missed: int


class Watcher:
    """One client; closed by whoever asked for it."""

    def __init__(self, inspection: str) -> None:
        self._inspection = inspection
        self._queue: deque[Prediction] = deque()
        self._missed = 0
        self._changed = threading.Condition()
        self._closed = False

    def take(self, prediction: Prediction) -> None:
        """Queue a decision if it is of the inspection asked for."""
        if self._inspection not in ("", prediction.inspection):
            return
        with self._changed:
            self._queue.append(prediction)
            if len(self._queue) > _QUEUE:
                self._queue.popleft()
                self._missed += 1
            self._changed.notify_all()

    def decisions(self) -> Iterator[WatchedDecision]:
        """Decisions until the watcher is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                prediction, missed = self._queue.popleft(), self._missed
                self._missed = 0
            yield WatchedDecision(prediction=prediction, missed=missed)

    def close(self) -> None:
        """End ``decisions``, from any thread; what is queued is left."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()


class Watchers:
    """Every client that watches; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: tuple[Watcher, ...] = ()
        self._closed = False

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """Hand a decision to everybody."""
        del frame
        for watcher in self._open:
            watcher.take(prediction)

    def join(self, inspection: str = "") -> Watcher:
        """A further client; ``FullError`` when too many watch."""
        with self._lock:
            if self._closed or len(self._open) >= MOST_WATCHERS:
                raise FullError(
                    f"{len(self._open)} clients watch", where="Watch", fix="End one of them."
                )
            watcher = Watcher(inspection)
            self._open = (*self._open, watcher)
            return watcher

    def leave(self, watcher: Watcher) -> None:
        """The client is gone."""
        watcher.close()
        with self._lock:
            self._open = tuple(each for each in self._open if each is not watcher)

    def close(self) -> None:
        """End every client's stream."""
        with self._lock:
            self._closed = True
        for watcher in self._open:
            watcher.close()


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


_MOST_PICTURE_BYTES = 32_000_000
_LONGEST_CAMERA = 200
_UNNAMED = "grpc"

Context = Any
"""``grpc.ServicerContext``; the library has no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionPackage:
    """A package that answers for an inspection."""

    inspection: str
    digest: Digest
    task: str


FindInspection = Callable[[str], Predictor | None]


class EdgeService(lineside_edge_v1_pb2_grpc.EdgeServicer):
    """Raises ``LinesideError``; who serves it makes status codes of them."""

    def __init__(
        self,
        packages: LoadedModels,
        *,
        device: str,
        watchers: Watchers,
        clock: Clock,
        find_inspection: FindInspection = lambda _: None,
        in_use: Callable[[], Sequence[InspectionPackage]] = lambda: (),
    ) -> None:
        """Over the packages loaded by name, and those in use for inspections."""
        self._packages = packages
        self._device = device
        self._watchers = watchers
        self._clock = clock
        self._find_inspection = find_inspection
        self._in_use = in_use

    def Predict(  # noqa: N802  the protocol's word
        self, request: edge_pb2.PredictRequest, context: Context
    ) -> edge_pb2.Prediction:
        del context
        judge = self._judge(request)
        began_s = self._clock.monotonic()
        frame, template = self._frame(request), _template(request)
        decode_ms = (self._clock.monotonic() - began_s) * 1000
        # A picture without a time is a question of its own, and not the next one of a camera.
        predict = judge.predict if request.HasField("captured_at") else judge.predict_single
        found = predict(frame, device=self._device, decode_ms=decode_ms, template=template)
        return prediction_to_wire(found)

    def Explain(  # noqa: N802  likewise
        self, request: edge_pb2.PredictRequest, context: Context
    ) -> edge_pb2.Explanation:
        del context
        judge = self._judge(request)
        frame = self._frame(request)
        maps = judge.explain(frame, template=_template(request))
        pngs = {label: heat_png(frame.image, each) for label, each in maps.items()}
        return edge_pb2.Explanation(heat_png=pngs)

    def Watch(  # noqa: N802  likewise
        self, request: edge_pb2.WatchRequest, context: Context
    ) -> Iterator[edge_pb2.Watched]:
        watcher = self._watchers.join(request.inspection)
        if not context.add_callback(watcher.close):
            self._watchers.leave(watcher)
            return
        context.send_initial_metadata(())
        try:
            for watched in watcher.decisions():
                message = prediction_to_wire(watched.prediction)
                yield edge_pb2.Watched(prediction=message, missed=watched.missed)
        finally:
            self._watchers.leave(watcher)

    def ListPackages(  # noqa: N802  likewise
        self, request: edge_pb2.ListPackagesRequest, context: Context
    ) -> edge_pb2.ListPackagesResponse:
        del request, context
        named = [
            edge_pb2.Package(
                model=each.name,
                inspection=each.inspection,
                digest=each.digest,
                task=each.task,
                loaded_at=time_to_wire(each.loaded_at),
            )
            for each in self._packages.all()
        ]
        return edge_pb2.ListPackagesResponse(
            packages=[*map(_in_use_to_wire, self._in_use()), *named]
        )

    def _judge(self, request: edge_pb2.PredictRequest) -> Predictor:
        match request.WhichOneof("who"):
            case "model":
                return self._packages.judge(request.model)
            case "inspection":
                found = self._find_inspection(request.inspection)
                if found is None:
                    raise NotFoundError(
                        f"no package for inspection {request.inspection[:60]!r}",
                        where="inspection",
                        fix="Ask ListPackages for what is loaded.",
                    )
                return found
            case _:
                raise InvalidError("nobody is asked", where="who", fix="Name model or inspection.")

    def _frame(self, request: edge_pb2.PredictRequest) -> Frame:
        if len(request.camera) > _LONGEST_CAMERA:
            raise InvalidError(
                f"a name of {len(request.camera)} characters",
                where="camera",
                fix=f"Use at most {_LONGEST_CAMERA}.",
            )
        dated = request.HasField("captured_at")
        return open_frame(
            request.picture,
            camera=request.camera or _UNNAMED,
            captured_at=time_from_wire(request.captured_at, where="captured_at")
            if dated
            else self._clock.now(),
            sequence=request.sequence,
            part=request.part,
            max_bytes=_MOST_PICTURE_BYTES,
        )


def _template(request: edge_pb2.PredictRequest) -> NDArray[np.uint8] | None:
    if not request.template:
        return None
    return decode_picture(request.template, max_bytes=_MOST_PICTURE_BYTES)


def _in_use_to_wire(each: InspectionPackage) -> edge_pb2.Package:
    return edge_pb2.Package(inspection=each.inspection, digest=each.digest, task=each.task)


class AgentService(agent_pb2_grpc.AgentServicer):
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
            tensor_from_wire(each, where=f"tensors[{place}]")
            for place, each in enumerate(request.tensors)
        ]
        found = self._packages.predict(request.name, parts)
        return agent_pb2.PredictResponse(tensors=[tensor_to_wire(part) for part in found])

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
        capture = checked(capture_from_wire(request), now=self._clock.now())
        version = self._packages.one(capture.model).version
        self._capturer.offer(replace(capture, version=version))
        return agent_pb2.CaptureDataResponse()

    def GetCaptureDataStatus(  # noqa: N802  likewise
        self, request: agent_pb2.GetCaptureDataStatusRequest, context: Context
    ) -> agent_pb2.GetCaptureDataStatusResponse:
        del context
        status = self._capturer.status(request.capture_id)
        return agent_pb2.GetCaptureDataStatusResponse(status=status_to_wire(status))


def _model(loaded: LoadedModel) -> agent_pb2.Model:
    return model_to_wire(
        name=loaded.name, url=loaded.url, inputs=loaded.inputs, outputs=loaded.outputs
    )
