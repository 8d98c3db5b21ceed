"""Packages at work: checked, loaded, with their observers.

1. A package names this machine among those it is built for, or names none. It answers for the
   inspection that its release names, of its task and labels (``check_fits``). Otherwise it is
   refused before it is loaded.
2. A package is ready once its golden pictures were answered.
3. Observers see each decision beside its frame, in the camera's own thread: they return at once,
   and a fault of one is counted and holds nothing up.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from lineside.core import (
    Clock,
    Digest,
    Inspection,
    RefusedError,
    UnavailableError,
)
from lineside.edge.machine import give_back_memory, resident_bytes, this_platform
from lineside.edge.messages import Counters
from lineside.models import EngineDevice, EngineName, Manifest, Package, Predictor
from lineside.models.manifest import check_fits
from lineside.models.operating_point import OperatingPoint
from lineside.vision import Frame, Prediction


class FullError(UnavailableError):
    """No room for more right now: memory, a buffer, listeners."""


class Judge(Protocol):
    """From a frame to a prediction; safe from several threads."""

    def predict(self, frame: Frame, *, device: str = "", decode_ms: float = 0.0) -> Prediction:
        """Judge one frame."""
        ...

    @property
    def operating_point(self) -> str:
        """Digest of the operating point that decides; "" for the package's own limits."""
        ...

    def decide_by(self, point: OperatingPoint | None) -> None:
        """Decide by other limits from the next frame on; ``InvalidError`` where they do not fit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPackage:
    """A package that was checked and answered its golden pictures.

    Attributes:
        inspection: which it answers for.
        size_bytes: of memory it took, measured as it was loaded; at least those of its archive, and
            little more where another inspection's package has the same network.
        engine_device: the processor that its network runs on.
    """

    digest: Digest
    inspection: str
    judge: Judge
    size_bytes: int = 0
    engine_device: EngineDevice = EngineDevice.CPU


LoadPackage = Callable[[bytes, str], LoadedPackage]
"""Reads an archive, loads it for an inspection ("": the one it was trained for) and runs its golden
pictures; raises when it must not run."""


def check_machine(manifest: Manifest, machine: str) -> None:
    """Refuse a package that is built for other machines.

    Raises:
        RefusedError: it names others, and not this one.
    """
    if manifest.targets and machine not in manifest.targets:
        raise RefusedError(
            f"the package is built for {', '.join(manifest.targets)}, this is {machine}",
            where=manifest.name,
            fix="Load a package of this machine.",
        )


logger = logging.getLogger(__name__)

Observer = Callable[[Frame, Prediction], None]
FindJudge = Callable[[str], Judge | None]


def notify(observers: Iterable[Callable[..., object]], *news: object, counters: Counters) -> None:
    """Tell observers; a fault of one is counted and holds nothing up."""
    for observer in observers:
        try:
            observer(*news)
        except Exception as error:  # boundary: looking on must not hold up the line
            if counters.fault("onlooker", error):
                logger.exception("observer failed")


def loading(
    clock: Clock,
    *,
    inspections: Iterable[Inspection] = (),
    engine: EngineName = EngineName.ONNX_RUNTIME,
    device: EngineDevice = EngineDevice.CPU,
) -> LoadPackage:
    """Return the function that checks and loads an archive and asks its golden pictures.

    Args:
        clock: of the predictors.
        inspections: of the plant; a package has to answer what the one asks that it is loaded for.
        engine: what runs them.
        device: the processor that it runs them on.
    """
    known = {one.id: one for one in inspections}

    def make_ready(data: bytes, inspection: str) -> LoadedPackage:
        before = resident_bytes()
        package = Package.read(data)
        name = inspection or package.manifest.inspection
        check_machine(package.manifest, this_platform())
        if name in known:
            check_fits(package.manifest, known[name])
        predictor = Predictor(package.bound_to(name), clock=clock, engine=engine, device=device)
        predictor.check_golden()
        give_back_memory()
        return LoadedPackage(
            digest=package.digest,
            inspection=name,
            judge=predictor,
            size_bytes=max(len(data), resident_bytes() - before),
            engine_device=predictor.device,
        )

    return make_ready
