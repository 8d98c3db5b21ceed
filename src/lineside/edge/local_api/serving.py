"""Services beside the cameras: captures, packages loaded by name, the socket.

Opened and closed by the program; nothing of it is needed for inspections to run.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lineside.compat.open_inference.grpc import InferenceService
from lineside.core import Clock, LinesideError
from lineside.edge.capture.buffer import (
    CaptureDestination,
    Capturer,
    CaptureUploader,
    DecisionCapture,
    DiskCaptures,
    RemoteCaptures,
)
from lineside.edge.config import EdgeConfig
from lineside.edge.identity.trust import verifier
from lineside.edge.local_api.grpc_edge import (
    AgentService,
    EdgeService,
    InspectionPackage,
    Watchers,
)
from lineside.edge.local_api.grpc_server import SocketServer
from lineside.edge.local_api.models import LoadedModel, LoadedModels, LoadedModelsInference
from lineside.edge.local_api.models_config import (
    ModelsConfig,
    entry_of,
    folder_of,
    read_models,
    write_models,
)
from lineside.edge.messages import Counters
from lineside.edge.packages import FindJudge, Observer
from lineside.models import Predictor
from lineside.store import open_place

logger = logging.getLogger(__name__)

_REMEMBERED = 1000


class Captures:
    """Capturer, place and uploader of one device; closed by whoever made it."""

    def __init__(self, config: EdgeConfig, *, clock: Clock, counters: Counters) -> None:
        """Open the place and begin to write.

        Raises:
            InvalidError, NotFoundError, UnavailableError, MissingExtraError: it cannot be used.
        """
        settings = config.capture
        self._stack = ExitStack()
        disk: DiskCaptures | None = None
        if settings.destination == "Disk":
            folder = Path(settings.folder or config.folder / "captures").absolute()
            disk = DiskCaptures(
                folder,
                max_bytes=settings.max_bytes,
                notify=lambda count: counters.refuse(
                    "captures dropped for lack of room", count=count
                ),
            )
        place: CaptureDestination = disk or RemoteCaptures(open_place(settings.upload))
        self.capturer = Capturer(
            settings,
            device=config.device,
            place=place,
            clock=clock,
            counters=counters,
            known=disk.newest_ids(_REMEMBERED) if disk is not None else (),
        )
        self.uploader: CaptureUploader | None = None
        if disk is not None and settings.upload_period_s:
            self.uploader = CaptureUploader(
                disk,
                place=open_place(settings.upload),
                period_s=settings.upload_period_s,
                clock=clock,
                counters=counters,
            )
        self.capturer.start()
        self._stack.callback(self.capturer.close)
        if self.uploader is not None:
            self.uploader.start()
            self._stack.callback(self.uploader.close)

    def close(self) -> None:
        """Write what waits, end."""
        self._stack.close()


class ModelsList:
    """``models_config.json`` beside the packages that are loaded by name."""

    def __init__(self, path: Path, *, home: Path, counters: Counters) -> None:
        """Read the file.

        Raises:
            InvalidError, UnavailableError: as ``read_models``.
        """
        self._path = path
        self._home = home
        self._counters = counters
        self._config = read_models(path)
        self._missing = {each.identifier for each in self._config.models}

    @property
    def config(self) -> ModelsConfig:
        """As it stands in the file."""
        return self._config

    def load_all(self, packages: LoadedModels) -> None:
        """Load every model of the list, in order; what fails is told and stays in the list."""
        for entry in self._config.models:
            place = f"model {entry.identifier}"
            try:
                url = str(folder_of(entry, home=self._home))
                packages.load(url=url, name=entry.identifier)
                self._counters.mended(place)
            except LinesideError as error:
                self._counters.fault(place, error)
                logger.warning("%s: %s", place, error)

    def changed(self, loaded: Sequence[LoadedModel]) -> None:
        """Write what is loaded now; those that could not be loaded stay."""
        there = {each.name for each in loaded}
        self._missing -= there
        config = self._config
        for entry in config.models:
            if entry.identifier not in there | self._missing:
                config = config.without(entry.identifier)
        kept = {each.identifier for each in config.models}
        for each in loaded:
            made = entry_of(each.name, url=each.url, version=each.version, home=self._home)
            if made is not None and each.name not in kept:
                config = config.with_model(made)
        if config != self._config:
            self._write(config)

    def _write(self, config: ModelsConfig) -> None:
        self._config = config
        try:
            write_models(config, path=self._path)
            self._counters.mended("models list")
        except LinesideError as error:
            if self._counters.fault("models list", error):
                logger.warning("the list of models is not kept: %s", error)


class Serving:
    """Everything beside the cameras; ``observers`` is handed to the agent."""

    def __init__(self, config: EdgeConfig, *, clock: Clock, counters: Counters) -> None:
        """Open captures and the list of models; the socket is opened by ``start``.

        Raises:
            LinesideError: a setting cannot work.
        """
        self._config = config
        self._clock = clock
        self._stack = ExitStack()
        self._watchers = Watchers()
        self._kept = ModelsList(config.models_path, home=config.home_path, counters=counters)
        self.packages = LoadedModels(
            clock=clock,
            most=config.max_loaded_packages,
            max_bytes=config.max_loaded_bytes,
            verify=verifier(
                config.folder, trust_root=config.trust_root, clock=clock, unsigned=config.unsigned
            ),
            engine=config.engine,
            device=config.engine_device,
            changed=self._kept.changed,
        )
        self.inference = LoadedModelsInference(self.packages, clock=clock)
        self._captures = Captures(config, clock=clock, counters=counters)
        self._stack.callback(self._captures.close)
        self._decisions = DecisionCapture(
            config.capture, capturer=self._captures.capturer, counters=counters
        )

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who sees each decision."""
        captures = (self._decisions.look,) if self._config.capture.inspections != "none" else ()
        watchers = (self._watchers.look,) if self._config.grpc else ()
        return captures + watchers

    def start(self, find_judge: FindJudge, *, inspections: Sequence[str]) -> None:
        """Load the listed models, then answer on the socket, if one is configured.

        Raises:
            InvalidError, ConflictError, UnavailableError: the socket cannot be made.
        """
        if not self._config.grpc:
            return

        def full_judge(inspection: str) -> Predictor | None:
            judge = find_judge(inspection)
            return judge if isinstance(judge, Predictor) else None

        def in_use() -> list[InspectionPackage]:
            return [
                InspectionPackage(
                    inspection=name, digest=judge.package.digest, task=judge.manifest.task
                )
                for name in inspections
                if (judge := full_judge(name)) is not None
            ]

        self._kept.load_all(self.packages)
        edge = EdgeService(
            self.packages,
            device=self._config.device,
            watchers=self._watchers,
            clock=self._clock,
            find_inspection=full_judge,
            in_use=in_use,
        )
        contracts = self._config.contracts
        agent = inference = None
        if "edge-agent" in contracts:
            agent = AgentService(self.packages, capturer=self._captures.capturer, clock=self._clock)
        if "open-inference" in contracts:
            inference = InferenceService(self.inference)
        server = SocketServer(self._config.grpc, agent=agent, edge=edge, inference=inference)
        self._stack.callback(server.close)
        self._stack.callback(self._watchers.close)

    def close(self) -> None:
        """End the clients' streams, the socket, the captures."""
        self._stack.close()
