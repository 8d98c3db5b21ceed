"""Packages loaded by name from folders of this machine, for the clients of its socket.

1. A package is read whole, verified where a trust root asks for it, checked, asked its golden
   pictures; only then it is loaded. The bytes in memory that were verified are loaded, not a path.
2. Networks answer one call after the other. Loading does not hold calls up.
3. The archives of all loaded packages together may have ``max_bytes``.
4. For decisions the archive is read again when first asked; bytes that changed on the disk since
   are refused.
5. The first output of a classifier or of a network that gives a mask is its probabilities, for
   clients that read the first and know no logits; the network's own outputs follow.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.compat.aws.edge_agent import TensorPart
from lineside.compat.open_inference.models import ModelMeta, ServedModel, choose_version
from lineside.compat.open_inference.tensors import InferRequest, InferResponse
from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    Task,
    short,
)
from lineside.edge.capture.record import arrays_for, part_of
from lineside.edge.identity.trust import Verify
from lineside.edge.machine import this_platform
from lineside.edge.packages import FullError, check_machine
from lineside.fleet.contract import check_identifier
from lineside.models import EngineDevice, EngineName, Package, Predictor
from lineside.models.archive import PackageLimits
from lineside.models.engines import BareEngine, TensorSlot

logger = logging.getLogger(__name__)

_SUFFIX = ".lspkg"
_LOGITS = {Task.CLASSIFY: "logits", Task.SEGMENT: "map"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A loaded package.

    Attributes:
        name: under which it was loaded.
        url: folder it was loaded from.
        version: the folder's own name, where the name ends in it; else what the digest begins with.
        size_bytes: of the archive.
    """

    name: str
    url: str
    version: str
    digest: Digest
    task: str
    inspection: str
    inputs: tuple[TensorSlot, ...]
    outputs: tuple[TensorSlot, ...]
    size_bytes: int
    loaded_at: datetime


@dataclass(slots=True, kw_only=True)
class _Seat:
    facts: LoadedModel
    engine: BareEngine
    predictor: Predictor | None = None


class LoadedModels:
    """Safe from several threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        most: int,
        max_bytes: int,
        verify: Verify | None = None,
        machine: str = "",
        engine: EngineName = EngineName.ONNX_RUNTIME,
        device: EngineDevice = EngineDevice.CPU,
        changed: Callable[[Sequence[LoadedModel]], None] = lambda _: None,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            clock: of the records and of the packages' stage times.
            most: how many packages.
            max_bytes: of all archives together.
            verify: checks signatures; None where no trust root is configured.
            machine: what packages must be built for; this machine's platform if empty.
            engine: what runs them to decisions; raw tensors go to ONNX Runtime in any case.
            device: the processor of decisions; raw tensors go to the CPU in any case.
            changed: told of all packages after each change, in the order they were loaded.
        """
        self._clock = clock
        self._most = most
        self._max_bytes = max_bytes
        self._verify = verify
        self._machine = machine or this_platform()
        self._engine = engine
        self._device = device
        self._changed = changed
        self._seats: dict[str, _Seat] = {}
        self._loading = threading.Lock()
        self._running = threading.Lock()

    def load(self, *, url: str, name: str) -> LoadedModel:
        """Load the package that lies in a folder.

        Raises:
            InvalidError: the name breaks its rule.
            ConflictError: the name is loaded.
            NotFoundError: nothing at the place.
            FullError: no room for another package.
            RefusedError: the package may not or cannot run here.
        """
        check_identifier(name, where="name")
        with self._loading:
            if name in self._seats:
                raise ConflictError(
                    f"{name} is loaded already",
                    where="name",
                    fix="Unload it, or take another name.",
                )
            path = package_in(url)
            seat = self._seat(self._read(path), path=path, name=name)
            self._seats = {**self._seats, name: seat}
            self._changed(self.all())
        logger.info("package loaded name=%s package=%s", name, short(seat.facts.digest))
        return seat.facts

    def unload(self, name: str) -> None:
        """Forget a package; a call under way is finished first. ``NotFoundError`` if absent."""
        with self._loading, self._running:
            self._find(name)
            self._seats = {key: seat for key, seat in self._seats.items() if key != name}
            self._changed(self.all())
        logger.info("package unloaded name=%s", name)

    def all(self) -> tuple[LoadedModel, ...]:
        """Every package, in the order they were loaded."""
        return tuple(seat.facts for seat in self._seats.values())

    def one(self, name: str) -> LoadedModel:
        """``NotFoundError`` lists the known ones."""
        return self._find(name).facts

    def predict(self, name: str, parts: Sequence[TensorPart]) -> list[TensorPart]:
        """All outputs of the bare network; before them probabilities, where its task has them.

        Raises:
            NotFoundError: no such package.
            InvalidError: the tensors do not fit.
        """
        seat = self._find(name)
        given = arrays_for(seat.facts.inputs, parts)
        with self._running:
            found = seat.engine.run(given)
        if len(seat.facts.outputs) > len(found):
            found = [probabilities(found[0], task=seat.facts.task), *found]
        return [
            part_of(array, slot=slot) for array, slot in zip(found, seat.facts.outputs, strict=True)
        ]

    def judge(self, name: str) -> Predictor:
        """The whole way to decisions, of a package that was loaded by name.

        Raises:
            NotFoundError: no such package, or its archive is gone.
            RefusedError: the archive is another one now.
        """
        seat = self._find(name)
        return seat.predictor if seat.predictor is not None else self._built(seat)

    def bare(self, name: str) -> BareEngine:
        """The network as it stands; ``NotFoundError`` if no such package is loaded."""
        return self._find(name).engine

    def _built(self, seat: _Seat) -> Predictor:
        with self._loading:
            if seat.predictor is None:
                seat.predictor = self._predictor(seat.facts)
            return seat.predictor

    def _predictor(self, facts: LoadedModel) -> Predictor:
        path = package_in(facts.url)
        package = _package(_bytes(path), where=str(path))
        if package.digest != facts.digest:
            raise RefusedError(
                "the package changed on the disk since it was loaded",
                where=str(path),
                fix="Unload it and load it again.",
            )
        return self._loaded(package)

    def _loaded(self, package: Package) -> Predictor:
        return Predictor(package, clock=self._clock, engine=self._engine, device=self._device)

    def _find(self, name: str) -> _Seat:
        seat = self._seats.get(name)
        if seat is None:
            known = ", ".join(self._seats) or "none"
            raise NotFoundError(f"no model {name[:60]!r}", where="name", fix=f"Loaded: {known}.")
        return seat

    def _read(self, path: Path) -> bytes:
        held = sum(seat.facts.size_bytes for seat in self._seats.values())
        if len(self._seats) >= self._most:
            raise FullError(
                f"{self._most} packages are loaded, no more are allowed",
                where="max_loaded_packages",
                fix="Unload one.",
            )
        size = _size(path)
        if held + size > self._max_bytes:
            raise FullError(
                f"{size} bytes more than {held} are above {self._max_bytes}",
                where="max_loaded_bytes",
                fix="Unload a package, or allow more.",
            )
        data = _bytes(path)
        if self._verify is not None:
            self._verify(data, str(path))
        return data

    def _seat(self, data: bytes, *, path: Path, name: str) -> _Seat:
        package = _package(data, where=str(path))
        check_machine(package.manifest, self._machine)
        try:
            self._loaded(package).check_golden()
            network = package.file(package.manifest.engine.file)
            engine = BareEngine(network, where=package.manifest.name)
        except InvalidError as error:
            raise _unusable(error) from error
        facts = LoadedModel(
            name=name,
            url=str(path.parent),
            version=_version(name, path=path, digest=package.digest),
            digest=package.digest,
            task=package.manifest.task,
            inspection=package.manifest.inspection,
            inputs=engine.inputs,
            outputs=_outputs(engine, task=package.manifest.task),
            size_bytes=len(data),
            loaded_at=self._clock.now(),
        )
        return _Seat(facts=facts, engine=engine)


def probabilities(logits: NDArray[np.floating[Any]], *, task: str) -> NDArray[np.float32]:
    """Probabilities of a network's first output: classes sum to 1, a map has one a pixel."""
    values = logits.astype(np.float64)
    if task == Task.SEGMENT:
        return (0.5 * (1.0 + np.tanh(0.5 * values))).astype(np.float32)
    grown = np.exp(values - values.max(axis=-1, keepdims=True))
    found: NDArray[np.float32] = (grown / grown.sum(axis=-1, keepdims=True)).astype(np.float32)
    return found


def _outputs(engine: BareEngine, *, task: str) -> tuple[TensorSlot, ...]:
    """The network's own, and before them ``probabilities`` where it tells classes or a mask."""
    first = engine.outputs[0]
    if _LOGITS.get(Task(task)) != first.name:
        return engine.outputs
    return (TensorSlot(name="probabilities", dtype="float32", shape=first.shape), *engine.outputs)


def package_in(url: str) -> Path:
    """The one archive in a folder.

    Raises:
        NotFoundError: no absolute path of a folder that is there, or an empty one.
        RefusedError: what lies there is not one package.
    """
    folder = Path(url)
    try:
        there = sorted(folder.iterdir()) if folder.is_absolute() and "\0" not in url else None
    except OSError:
        there = None
    if there is None:
        raise NotFoundError(
            f"no folder {url[:200]!r}", where="url", fix="Name a folder of this machine, from /."
        )
    found = [path for path in there if path.suffix == _SUFFIX and path.is_file()]
    if not there:
        raise NotFoundError("an empty folder", where=url, fix="Put a package there.")
    if len(found) != 1:
        raise RefusedError(
            f"{len(found)} packages in the folder", where=url, fix=f"Keep one {_SUFFIX} there."
        )
    return found[0]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> NotFoundError:
    return NotFoundError(
        f"cannot be read: {error.strerror}", where=str(path), fix="Check path and rights."
    )


def _package(data: bytes, *, where: str) -> Package:
    try:
        return Package.read(data, where=where, limits=PackageLimits())
    except InvalidError as error:
        raise _unusable(error) from error


def _unusable(error: InvalidError) -> RefusedError:
    return RefusedError(
        f"the package cannot be loaded: {error.message}", where=error.where, fix=error.fix
    )


def _version(name: str, *, path: Path, digest: Digest) -> str:
    folder = path.parent.name
    told = folder.replace(".", "-")
    return folder if told and name.endswith(f"-{told}") else short(digest)


class LoadedModelsInference:
    """``InferenceModels`` of a device."""

    def __init__(self, packages: LoadedModels, *, clock: Clock) -> None:
        self._packages = packages
        self._since = clock.now()

    def names(self) -> Sequence[str]:
        """Those that are loaded."""
        return tuple(each.name for each in self._packages.all())

    def ready(self, name: str, *, version: str) -> bool:
        """A loaded package answers."""
        self._version(name, version)
        return True

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        known = self._version(name, version)
        return self._served(name).metadata(name, versions=(known,))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        known = self._version(name, version)
        outputs = self._served(name).infer(request)
        return InferResponse(model=name, version=known, outputs=outputs, id=request.id)

    def _version(self, name: str, wanted: str) -> str:
        versions = tuple(each.version for each in self._packages.all() if each.name == name)
        return choose_version(versions, wanted, name=name)

    def _served(self, name: str) -> ServedModel:
        """Made for each call: predictor and network are those that are loaded."""
        judge, bare = self._packages.judge(name), self._packages.bare(name)
        return ServedModel(judge, since=self._since, bare=bare)
