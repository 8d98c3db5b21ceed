"""Approved packages for the Open Inference Protocol, by name and version.

1. A model group is a model: its approved versions are its versions, the highest number first.
2. An inspection is a model too: the package in use for it is its one version, named by the first
   twelve digits of the package's digest. A group of the same name goes before it.
3. What nobody approved is not served; a version that is rejected is no longer served half a second
   later, which is how long the list of versions is believed.
4. Packages are loaded when they are first asked for; the four used last stay.
5. A call runs on its caller's thread: calls together take one core each. A queue that put calls of
   one model into one run took .96 to 1.05 of the processor time of each by itself, and answered .79
   to .95 of the calls of 2 to 8 callers on two cores, because a run has one thread.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from lineside.compat.open_inference.models import ModelMeta, ServedModel, choose_version
from lineside.compat.open_inference.tensors import InferRequest, InferResponse
from lineside.core import Clock, Digest, NotFoundError, Plant
from lineside.hub.models.model_service import ModelService
from lineside.hub.models.packages import Packages
from lineside.models import Package, Predictor, Status

_LOADED = 4
_SHORT = 12
_BELIEVED_S = 0.5
_MOST_NAMES = 64


class ModelServer:
    """``InferenceModels`` of the hub; safe from several threads."""

    def __init__(
        self,
        models: ModelService,
        *,
        packages: Packages,
        plant: Plant,
        clock: Clock,
    ) -> None:
        self._models = models
        self._packages = packages
        self._plant = plant
        self._clock = clock
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[Digest, str], tuple[Predictor, ServedModel]] = OrderedDict()
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
        return self._load(name, digest).metadata(name, versions=tuple(self._versions(name)))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        digest, number = self._digest(name, version)
        outputs = self._load(name, digest).infer(request)
        return InferResponse(model=name, version=number, outputs=outputs, id=request.id)

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

    def _load(self, name: str, digest: Digest) -> ServedModel:
        """Return a package, loaded for the inspection of that name where there is one."""
        inspection = name if any(one.id == name for one in self._plant.inspection) else ""
        key = (digest, inspection)
        with self._lock:
            if key not in self._loaded:
                package = Package.read(self._packages.content(digest), where=digest)
                package = package.bound_to(inspection) if inspection else package
                predictor = Predictor(package, clock=self._clock)
                self._loaded[key] = predictor, ServedModel(predictor, since=self._clock.now())
            self._loaded.move_to_end(key)
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
            predictor, served = self._loaded[key]
        self._packages.points.apply(predictor)
        return served
