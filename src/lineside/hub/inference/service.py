"""Every approved package of the hub, by name and version, for the Open Inference Protocol.

1. A model group is a model: its approved versions are its versions, the highest number first.
2. An inspection is a model too: the package in use for it is its one version, named by the first
   twelve digits of the package's digest. A group of the same name goes before it.
3. What nobody approved is not served; a version that is rejected is no longer served half a second
   later, which is how long the list of versions is believed.
4. Packages are loaded when they are first asked for; the four used last stay.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from lineside.core import Clock, Digest, NotFoundError, Plant
from lineside.hub.inference.batching import Batcher, BatchFigures, Batching
from lineside.hub.models.packages import Packages
from lineside.hub.models.service import Models
from lineside.models import (
    InferRequest,
    InferResponse,
    ModelMeta,
    Package,
    Predictor,
    ServedModel,
    Status,
    choose_version,
)

_LOADED = 4
_SHORT = 12
_BELIEVED_S = 0.5
_MOST_NAMES = 64


@dataclass(slots=True, kw_only=True, eq=False)
class _Seat:
    """A loaded package, and its queue once tensors were sent to a network of free batch."""

    served: ServedModel
    batcher: Batcher | None = None


class Inference:
    """``InferenceModels`` of the hub; close it."""

    def __init__(
        self,
        models: Models,
        *,
        packages: Packages,
        plant: Plant,
        clock: Clock,
        batching: Batching | None = None,
    ) -> None:
        self._models = models
        self._packages = packages
        self._plant = plant
        self._clock = clock
        self.batching = batching or Batching()
        self._lock = threading.Lock()
        self._seats: OrderedDict[Digest, _Seat] = OrderedDict()
        self._known: OrderedDict[str, tuple[float, dict[str, Digest]]] = OrderedDict()

    def names(self) -> Sequence[str]:
        """Groups with an approved version, and inspections with a package in use."""
        groups = [group.name for group in self._models.all() if group.approved is not None]
        used = [each.id for each in self._plant.inspection if self._used(each.id)]
        return tuple(dict.fromkeys([*groups, *used]))

    def ready(self, name: str, *, version: str) -> bool:
        """Loads it: what cannot be loaded is not ready."""
        self._seat(self._digest(name, version)[0])
        return True

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        digest, _ = self._digest(name, version)
        return self._seat(digest).served.metadata(name, versions=tuple(self._versions(name)))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        digest, number = self._digest(name, version)
        seat = self._seat(digest)
        run_raw = None
        if all(each.name == "crops" for each in request.inputs) and seat.served.batches:
            run_raw = self._batcher(seat, digest).submit
        outputs = seat.served.infer(request, run_raw=run_raw)
        return InferResponse(model=name, version=number, outputs=outputs, id=request.id)

    def figures(self) -> BatchFigures:
        """Of all queues together."""
        with self._lock:
            found = [seat.batcher.figures() for seat in self._seats.values() if seat.batcher]
        return BatchFigures(
            runs=sum(each.runs for each in found),
            rows=sum(each.rows for each in found),
            refused=sum(each.refused for each in found),
        )

    def close(self) -> None:
        """End the queues' threads."""
        with self._lock:
            seats = list(self._seats.values())
            self._seats.clear()
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
        found = self._looked_up(name)
        with self._lock:
            self._known[name] = (now_s + _BELIEVED_S, found)
            while len(self._known) > _MOST_NAMES:
                self._known.popitem(last=False)
        return found

    def _looked_up(self, name: str) -> dict[str, Digest]:
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

    def _seat(self, digest: Digest) -> _Seat:
        old: list[_Seat] = []
        with self._lock:
            if digest not in self._seats:
                package = Package.read(self._packages.content(digest), where=digest)
                served = ServedModel(Predictor(package, clock=self._clock), since=self._clock.now())
                self._seats[digest] = _Seat(served=served)
            self._seats.move_to_end(digest)
            while len(self._seats) > _LOADED:
                old.append(self._seats.popitem(last=False)[1])
            found = self._seats[digest]
        for seat in old:
            if seat.batcher is not None:
                seat.batcher.close()
        return found

    def _batcher(self, seat: _Seat, digest: Digest) -> Batcher:
        with self._lock:
            if seat.batcher is None:
                seat.batcher = Batcher(
                    seat.served.run_raw,
                    name=digest[-8:],
                    clock=self._clock,
                    settings=self.batching,
                )
            return seat.batcher
