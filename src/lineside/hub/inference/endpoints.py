"""Endpoints: the package in use of an inspection answers pictures on request.

1. An endpoint answers in its inspection's own form: a row of a count, or numbers by label.
2. Inference runs on threads of its own, so that pages, reads and health never wait behind it.
3. Of one endpoint at most ``most`` calls wait or run. A further one is refused at once
   (``BusyError``: 429, or the contract's own word for it). Nothing else is dropped.
4. Threads belong to the event loop that calls; they end with it.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio.lowlevel import RunVar

from lineside.compat.aws.sagemaker_runtime import count_answer, sagemaker_answer
from lineside.core import Digest, Inspection, NotFoundError, Plant
from lineside.hub.models.packages import Packages
from lineside.models import Manifest
from lineside.models.operating_point import ruled
from lineside.vision import Prediction
from lineside.web.security import BusyError

Values = list[float] | list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPrediction:
    """Prediction of the package in use for a picture; ``manifest`` has the limits that decided."""

    inspection: Inspection
    package: Digest
    manifest: Manifest
    prediction: Prediction


def predict_endpoint(
    packages: Packages, plant: Plant, *, endpoint: str, picture: bytes
) -> EndpointPrediction:
    """Judge a picture; nothing of it is stored.

    Raises:
        NotFoundError: no such endpoint, or no package is in use for it.
        InvalidError: no picture.
    """
    inspection = find_endpoint(plant, endpoint)
    digest = packages.in_use(inspection.id)
    frame, predictor = packages.judge(digest, picture, inspection=inspection.id)
    prediction = predictor.predict_single(frame)
    point = packages.points.decided_by(prediction)
    return EndpointPrediction(
        inspection=inspection,
        package=digest,
        manifest=ruled(predictor.manifest, point.limits if point is not None else ()),
        prediction=prediction,
    )


def endpoint_values(plant: Plant, prediction: EndpointPrediction) -> Values:
    """The numbers of the endpoint: a row of a count, or the labels' probabilities or scores.

    Raises:
        InvalidError: the picture could not be judged; the sentence says why.
    """
    inspection = prediction.inspection
    if prediction.manifest.count is not None:
        return count_answer(prediction.prediction, form=inspection.endpoint_answer)
    twin = plant.twin
    labels = twin.colours if twin is not None and twin.inspection == inspection.id else ()
    return sagemaker_answer(
        prediction.prediction,
        prediction.manifest,
        labels=labels,
        threshold=inspection.endpoint_threshold,
    )


def find_endpoint(plant: Plant, name: str) -> Inspection:
    """The inspection that answers under this name: its ``endpoint``, or its own id."""
    for inspection in plant.inspection:
        if name in (inspection.endpoint, inspection.id):
            return inspection
    known = ", ".join(item.endpoint or item.id for item in plant.inspection)
    raise NotFoundError(f"Endpoint {name} not found", where="endpoint", fix=f"Known: {known}.")


T = TypeVar("T")
# More threads than processors take them from the event loop: with 8 on 2, /readyz took 180 ms, and
# a call over gRPC 1.06 of the processor time of 2. With 3 on 2, eight clients got .99 to 1.07 times
# the answers, some later (p99 up to 1.17 times), for 50 MB more.
AT_ONCE = min(8, max(2, os.cpu_count() or 2))
_threads: RunVar[anyio.CapacityLimiter] = RunVar("inference threads")


class InferenceQueue:
    """One for the hub; safe from several threads and loops."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Calls that wait or run, of all endpoints."""
        with self._lock:
            return self._calls.total()

    async def run(self, endpoint: str, work: Callable[[], T]) -> T:
        """Return what ``work`` gives, called on an inference thread.

        Raises:
            BusyError: too many calls of this endpoint are there already.
        """
        with self._place(endpoint):
            return await anyio.to_thread.run_sync(work, limiter=_limiter())

    @contextmanager
    def _place(self, endpoint: str) -> Iterator[None]:
        with self._lock:
            if self._calls[endpoint] >= self._most:
                self.refused += 1
                raise BusyError(
                    f"{self._most} calls of {endpoint[:60]} wait already",
                    fix="Send fewer at once, or again in a moment.",
                )
            self._calls[endpoint] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[endpoint] -= 1
                if not self._calls[endpoint]:
                    del self._calls[endpoint]


def _limiter() -> anyio.CapacityLimiter:
    """The running loop's threads for inference."""
    try:
        return _threads.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(AT_ONCE)
        _threads.set(limiter)
        return limiter
