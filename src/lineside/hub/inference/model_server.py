"""Approved packages for the Open Inference Protocol, by name and version, with batched calls.

1. A model group is a model: its approved versions are its versions, the highest number first.
2. An inspection is a model too: the package in use for it is its one version, named by the first
   twelve digits of the package's digest. A group of the same name goes before it.
3. What nobody approved is not served; a version that is rejected is no longer served half a second
   later, which is how long the list of versions is believed.
4. Packages are loaded when they are first asked for; the four used last stay.
5. A batch is what waits when the network is free, up to ``most_rows`` rows of one shape. Where
   further callers are known to be on their way it waits for them, at most ``delay_s``. A caller who
   is alone does not wait and runs on its own thread.
6. At most ``waiting`` calls wait; a further one is refused (429, RESOURCE_EXHAUSTED), not queued.
7. An input that the network refuses fails every call of its batch with the network's sentence.
8. One run at a time: more would share the same cores. After ``close`` a call runs by itself on its
   caller's thread.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.compat.open_inference.models import ModelMeta, ServedModel, choose_version
from lineside.compat.open_inference.tensors import InferRequest, InferResponse
from lineside.core import Clock, Digest, LinesideError, NotFoundError, Plant, UnavailableError
from lineside.core.worker import Worker
from lineside.hub.models.model_service import ModelService
from lineside.hub.models.packages import Packages
from lineside.models import Package, Predictor, Status
from lineside.web.security import BusyError

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[NDArray[np.float32]], Arrays]
_ANSWER_S = 60.0
_IDLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """Limits of a batch.

    Attributes:
        most_rows: of one run.
        delay_s: a batch waits at most so long for callers on their way.
        waiting: calls at most.
    """

    most_rows: int = 8
    delay_s: float = 0.002
    waiting: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """Counts since the start: runs, rows in them, calls refused."""

    runs: int
    rows: int
    refused: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    """One caller's rows, and what came of them."""

    rows: NDArray[np.float32]
    done: threading.Event = field(default_factory=threading.Event)
    outputs: Arrays | None = None
    error: Exception | None = None


class Batcher:
    """One network's queue and its thread; close it."""

    def __init__(self, run: Run, *, name: str, clock: Clock, settings: BatchSettings) -> None:
        """Begin to wait for calls.

        Args:
            run: (rows, …) float32 → outputs by name, each with as many rows.
            name: of the thread.
            clock: for the delay.
            settings: how much is put together.
        """
        self._run = run
        self._clock = clock
        self._settings = settings
        self._calls: deque[_Call] = deque()
        self._some = threading.Condition()
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._inside = 0
        self._runs = self._rows = self._refused = 0
        self._worker = Worker(f"batch-{name}", self._turn, at_end=self._finish, clock=clock)
        self._worker.start()

    def figures(self) -> BatchCounts:
        """Counts since the start."""
        return BatchCounts(runs=self._runs, rows=self._rows, refused=self._refused)

    def submit(self, rows: NDArray[np.float32]) -> Arrays:
        """The outputs for these rows; waits for them.

        Raises:
            BusyError: too many wait already.
            UnavailableError: the network does not answer.
            InvalidError: the network refuses them.
        """
        if self._worker.stopping.is_set() or len(rows) >= self._settings.most_rows:
            return self._run(rows)
        with self._lock:
            self._inside += 1
            alone = self._inside == 1 and self._running.acquire(blocking=False)
        try:
            return self._alone(rows) if alone else self._together(rows)
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._worker.stop()

    def _alone(self, rows: NDArray[np.float32]) -> Arrays:
        try:
            return self._run(rows)
        finally:
            self._runs += 1
            self._rows += len(rows)
            self._running.release()

    def _together(self, rows: NDArray[np.float32]) -> Arrays:
        call = _Call(rows=rows)
        self._put(call)
        return self._answer(call)

    def _put(self, call: _Call) -> None:
        with self._some:
            if len(self._calls) < self._settings.waiting:
                self._calls.append(call)
                self._some.notify()
                return
            self._refused += 1
        raise BusyError(
            f"{self._settings.waiting} calls wait for this model already",
            fix="Send fewer at once, or again in a moment.",
        )

    def _answer(self, call: _Call) -> Arrays:
        waited_s = 0.0
        while not call.done.wait(_IDLE_S):
            waited_s += _IDLE_S
            if not self._worker.is_alive or waited_s >= _ANSWER_S:
                raise UnavailableError("the model does not answer", fix="Try again.")
        if call.error is not None:
            raise call.error
        assert call.outputs is not None  # noqa: S101  one of the two is set before ``done``
        return call.outputs

    # ---- the thread

    def _turn(self) -> None:
        if self._waits(_IDLE_S):
            with self._running:  # while somebody runs alone, others gather
                self._answer_all(self._gather())

    def _finish(self) -> None:
        """Answer those who came before the end."""
        while self._waits(0.0):
            self._turn()

    def _waits(self, wait_s: float) -> bool:
        """Return whether a call waits, or comes within that time."""
        with self._some:
            return bool(self._calls) or (wait_s > 0 and self._some.wait(wait_s))

    def _gather(self) -> list[_Call]:
        """The first call that waits and those that fit beside it; only this thread takes calls."""
        first = self._calls.popleft()
        calls, rows = [first], len(first.rows)
        ends_s = self._clock.monotonic() + self._settings.delay_s
        while rows < self._settings.most_rows:
            wait_s = ends_s - self._clock.monotonic() if self._inside > len(calls) else 0.0
            if not self._waits(wait_s):
                break
            following = self._calls[0].rows
            fits = following.shape[1:] == first.rows.shape[1:]
            if not fits or rows + len(following) > self._settings.most_rows:
                break
            calls.append(self._calls.popleft())
            rows += len(following)
        return calls

    def _answer_all(self, calls: Sequence[_Call]) -> None:
        try:
            whole = calls[0].rows
            if len(calls) > 1:
                whole = np.concatenate([call.rows for call in calls])
            outputs = self._run(whole)
            start = 0
            for call in calls:
                end = start + len(call.rows)
                call.outputs = {name: each[start:end] for name, each in outputs.items()}
                start = end
        except LinesideError as error:
            for call in calls:
                call.error = error
        except Exception as error:  # noqa: BLE001  # boundary: the caller's thread raises it
            for call in calls:
                call.error = error
        self._runs += 1
        self._rows += sum(len(call.rows) for call in calls)
        for call in calls:
            call.done.set()


_LOADED = 4
_SHORT = 12
_BELIEVED_S = 0.5
_MOST_NAMES = 64


@dataclass(slots=True, kw_only=True, eq=False)
class _LoadedModel:
    """A loaded package, and its queue once tensors were sent to a network of free batch."""

    predictor: Predictor
    served: ServedModel
    batcher: Batcher | None = None


class ModelServer:
    """``InferenceModels`` of the hub; close it."""

    def __init__(
        self,
        models: ModelService,
        *,
        packages: Packages,
        plant: Plant,
        clock: Clock,
        batching: BatchSettings | None = None,
    ) -> None:
        self._models = models
        self._packages = packages
        self._plant = plant
        self._clock = clock
        self.batching = batching or BatchSettings()
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[Digest, str], _LoadedModel] = OrderedDict()
        self._known: OrderedDict[str, tuple[float, dict[str, Digest]]] = OrderedDict()

    def names(self) -> Sequence[str]:
        """Groups with an approved version, and inspections with a package in use."""
        groups = [group.name for group in self._models.all() if group.approved is not None]
        used = [each.id for each in self._plant.inspection if self._used(each.id)]
        return tuple(dict.fromkeys([*groups, *used]))

    def ready(self, name: str, *, version: str) -> bool:
        """Loads it: what cannot be loaded is not ready."""
        self._load(name, self._digest(name, version)[0])
        return True

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        digest, _ = self._digest(name, version)
        return self._load(name, digest).served.metadata(name, versions=tuple(self._versions(name)))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        digest, number = self._digest(name, version)
        seat = self._load(name, digest)
        run_raw = None
        if all(each.name == "crops" for each in request.inputs) and seat.served.batches:
            run_raw = self._batcher(seat, digest).submit
        outputs = seat.served.infer(request, run_raw=run_raw)
        return InferResponse(model=name, version=number, outputs=outputs, id=request.id)

    def figures(self) -> BatchCounts:
        """Of all queues together."""
        with self._lock:
            found = [seat.batcher.figures() for seat in self._loaded.values() if seat.batcher]
        return BatchCounts(
            runs=sum(each.runs for each in found),
            rows=sum(each.rows for each in found),
            refused=sum(each.refused for each in found),
        )

    def close(self) -> None:
        """End the queues' threads."""
        with self._lock:
            seats = list(self._loaded.values())
            self._loaded.clear()
        for seat in seats:
            if seat.batcher is not None:
                seat.batcher.close()

    def _versions(self, name: str) -> dict[str, Digest]:
        """Version → package, the newest first; empty if there is no such model."""
        now_s = self._clock.monotonic()
        with self._lock:
            known = self._known.get(name)
        if known is not None and now_s < known[0]:
            return known[1]
        found = self._look_up(name)
        with self._lock:
            self._known[name] = (now_s + _BELIEVED_S, found)
            while len(self._known) > _MOST_NAMES:
                self._known.popitem(last=False)
        return found

    def _look_up(self, name: str) -> dict[str, Digest]:
        try:
            numbered = self._models.versions(name)
        except NotFoundError:
            numbered = ()
        approved = [one for one in numbered if one.status is Status.APPROVED and one.digest]
        if approved:
            return {str(one.number): one.digest for one in reversed(approved)}
        used = self._used(name)
        return {} if used is None else {used.removeprefix("sha256:")[:_SHORT]: used}

    def _used(self, inspection: str) -> Digest | None:
        try:
            return self._packages.in_use(inspection)
        except NotFoundError:
            return None

    def _digest(self, name: str, version: str) -> tuple[Digest, str]:
        versions = self._versions(name)
        chosen = choose_version(tuple(versions), version, name=name)
        return versions[chosen], chosen

    def _load(self, name: str, digest: Digest) -> _LoadedModel:
        """Return a package, loaded for the inspection of that name where there is one."""
        old: list[_LoadedModel] = []
        inspection = name if any(one.id == name for one in self._plant.inspection) else ""
        key = (digest, inspection)
        with self._lock:
            if key not in self._loaded:
                package = Package.read(self._packages.content(digest), where=digest)
                package = package.bound_to(inspection) if inspection else package
                predictor = Predictor(package, clock=self._clock)
                served = ServedModel(predictor, since=self._clock.now())
                self._loaded[key] = _LoadedModel(predictor=predictor, served=served)
            self._loaded.move_to_end(key)
            while len(self._loaded) > _LOADED:
                old.append(self._loaded.popitem(last=False)[1])
            found = self._loaded[key]
        self._packages.points.apply(found.predictor)
        for seat in old:
            if seat.batcher is not None:
                seat.batcher.close()
        return found

    def _batcher(self, seat: _LoadedModel, digest: Digest) -> Batcher:
        with self._lock:
            if seat.batcher is None:
                seat.batcher = Batcher(
                    seat.served.run_raw,
                    name=digest[-8:],
                    clock=self._clock,
                    settings=self.batching,
                )
            return seat.batcher
