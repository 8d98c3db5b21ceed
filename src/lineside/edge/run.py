"""The program: everything the agent needs is opened here, and closed in reverse."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    Plant,
    RefusedError,
    UnavailableError,
    decode,
    decode_json,
    digest_of,
    load_plant,
    need,
    replace_durably,
)
from lineside.core.plant_check import (
    PlantText,
    plant_of,
    plant_secrets,
    plant_text_topic,
    with_secrets,
    without_secrets,
)
from lineside.core.processes import Supervisor
from lineside.edge.agent import Agent, chosen_cameras, last_will
from lineside.edge.config import EdgeConfig
from lineside.edge.delivery.publisher import LogPublisher
from lineside.edge.delivery.spool import open_spool
from lineside.edge.deploy.package_source import PackageSource
from lineside.edge.identity.enrolment import renewing
from lineside.edge.machine import sole_user
from lineside.edge.messages import Counters
from lineside.edge.packages import loading
from lineside.edge.page.server import gallery_for, page_for
from lineside.edge.worker import Watchdog
from lineside.links import Bus, Mailbox, Message, open_bus
from lineside.links.otlp import Tracing

if TYPE_CHECKING:
    from lineside.edge.local_api.serving import Serving

logger = logging.getLogger(__name__)

_LOOK_S = 0.25
_AGAIN_S = 15.0


def run(
    config: EdgeConfig,
    *,
    clock: Clock,
    stop: threading.Event,
    supervisor: Supervisor | None = None,
) -> None:
    """Work until ``stop`` is set.

    Args:
        config: the settings.
        clock: where times come from.
        stop: ends the agent.
        supervisor: told that it is ready, and alive.

    Raises:
        InvalidError, NotFoundError: settings or plant file cannot work.
        RefusedError: the bus refuses the credentials.
        ConflictError: another agent uses the same folder.
        UnavailableError: the folder cannot be written.
    """
    # One thread for each camera is the parallelism here; OpenCV's own would only compete.
    need("cv2", extra="edge").setNumThreads(1)
    with ExitStack() as stack:
        stack.enter_context(sole_user(config.folder))
        while _worked(config, clock=clock, stop=stop, supervisor=supervisor or Supervisor()):
            logger.info("device takes over a changed plant file device=%s", config.device)
    logger.info("device stopped device=%s", config.device)


def _worked(
    config: EdgeConfig, *, clock: Clock, stop: threading.Event, supervisor: Supervisor
) -> bool:
    """Work with the plant file as it is now; True where it changed, False at the end."""
    plant = load_plant(Path(config.plant), folder=config.plant_base)
    with ExitStack() as stack:
        spool = open_spool(config.folder / "spool.db", max_bytes=config.spool_max_bytes)
        stack.callback(spool.close)
        bus = open_bus(
            config.bus_url,
            client_id=f"lineside-{plant.site}-{config.device}",
            clock=clock,
            will=last_will(plant, device=config.device, clock=clock),
        )
        stack.callback(bus.close)
        stack.enter_context(renewing(config, clock=clock))
        stack.enter_context(published_log(config, bus=bus, clock=clock))
        counters = Counters()
        serving = open_serving(config, clock=clock, counters=counters)
        if serving is not None:
            stack.callback(serving.close)
        tracing = None
        if config.otlp:
            tracing = Tracing(config.otlp, service="lineside-edge", instance=config.device)
            stack.callback(tracing.close)
        gallery = gallery_for(config, plant=plant, clock=clock)
        agent = Agent(
            config,
            plant=plant,
            bus=bus,
            spool=spool,
            clock=clock,
            make_ready=loading(
                clock,
                inspections=plant.inspection,
                engine=config.engine,
                device=config.engine_device,
            ),
            counters=counters,
            observers=(
                *(serving.observers if serving is not None else ()),
                *((gallery.look,) if gallery is not None else ()),
            ),
            tracing=tracing,
        )
        page = page_for(
            agent,
            config=config,
            plant=plant,
            bus=bus,
            clock=clock,
            gallery=gallery,
            serving=serving,
            counters=counters,
        )
        if page is not None:
            stack.callback(page.close)
        agent.start()
        stack.callback(agent.close)
        if serving is not None:
            serving.start(agent.judge, inspections=agent.inspections)
        if page is not None:
            page.start()
            logger.info("page at %s", page.url)
        watchdog = Watchdog(
            agent.guarded,
            sound=agent.unsound,
            status=agent.summary,
            supervisor=supervisor,
            hang_after_s=config.hang_after_s,
            counters=counters,
            clock=clock,
        )
        watchdog.start()
        stack.callback(watchdog.close)
        plant_file = PlantFile(config, plant=plant, bus=bus, source=agent.source, clock=clock)
        stack.callback(plant_file.close)
        stack.callback(agent.source.close)
        logger.info("device started device=%s", config.device)
        while not stop.wait(_LOOK_S):
            if plant_file.has_changed():
                return True
        return False


class PlantFile:
    """The plant file of this device, which follows that of the hub where it came from there.

    The hub signs its text without secrets, and hands it out with those of the device's lines.
    A file that the hub never had is the device's own and stays. A text that this device cannot
    work with, or that is not signed where packages have to be, is refused, and the device goes on
    with the file that it has. While the hub is away, or does not hand the text out, it is asked
    again.
    """

    def __init__(
        self, config: EdgeConfig, *, plant: Plant, bus: Bus, source: PackageSource, clock: Clock
    ) -> None:
        self._config = config
        self._source = source
        self._clock = clock
        self._message: Message | None = None
        self._due_s = 0.0
        self._path = Path(config.plant)
        self._site = plant.site
        self._is_own = self._path.absolute().parent == config.folder.absolute()
        self._text = self._path.read_bytes().decode()
        self._digest = digest_of(without_secrets(self._text).encode())
        self._mailbox: Mailbox | None = None
        try:
            topic = plant_text_topic(plant.site)
            self._mailbox = bus.subscribe((topic,), size=2, name="plant")
        except RefusedError as error:  # a broker whose access list is older
            logger.info("plant file not followed reason=%s", error)

    def close(self) -> None:
        """Hear nothing any more."""
        if self._mailbox is not None:
            self._mailbox.close()

    def has_changed(self) -> bool:
        """Take over what the hub published since; True where the device has to begin anew."""
        if self._mailbox is None:
            return False
        waiting = self._mailbox.get_many(most=2, timeout_s=0.0)
        if waiting:
            self._message, self._due_s = waiting[-1], 0.0
        if self._message is None or self._clock.monotonic() < self._due_s:
            return False
        message, self._message = self._message, None
        return bool(message.payload) and self._take(message)

    def _take(self, message: Message) -> bool:
        try:
            raw = decode_json(message.payload, where=message.topic)
            version = decode(PlantText, raw, where=message.topic)
            is_new = version.digest != self._digest
            if not is_new and not plant_secrets(self._text):
                return False
            if is_new and self._digest not in version.known:
                logger.info("plant file is this device's own version=%d", version.number)
                return False
            if is_new:
                self._source.check_plant(version.digest, before=self._digest)
            text = self._source.plant_text(version).decode(errors="replace")
            present = self._path.read_bytes().decode()
            if not self._is_own:  # a file of a person's or of the hub beside keeps its secrets
                text = with_secrets(text, plant_secrets(present))
            self._check(text, digest=version.digest)
            if present != text:
                mode = 0o600 if self._is_own else self._path.stat().st_mode & 0o777
                replace_durably(self._path, text.encode(), mode=mode)
        except UnavailableError as error:
            logger.warning("plant file not taken over yet reason=%s", error)
            self._message, self._due_s = message, self._clock.monotonic() + _AGAIN_S
            return False
        except (LinesideError, OSError) as error:
            logger.warning("plant file refused reason=%s", error)
            return False
        return text != self._text

    def _check(self, text: str, *, digest: str) -> None:
        """Refuse a text that is damaged, of another site, or leaves nothing to look at."""
        if digest_of(without_secrets(text).encode()) != digest:
            raise RefusedError("the text is not that of its digest", where="plant file")
        plant = plant_of(text.encode(), path=self._path, folder=self._config.plant_base)
        if plant.site != self._site:
            raise InvalidError(f"of site {plant.site!r}", where="plant file", fix="Enrol anew.")
        chosen_cameras(plant, self._config.cameras)


def open_serving(config: EdgeConfig, *, clock: Clock, counters: Counters) -> "Serving | None":
    """Captures and socket, where they are configured; its libraries are imported only then."""
    if not config.grpc and config.capture.inspections == "none":
        return None
    need("grpc", extra="edge")
    need("google.protobuf", extra="edge")
    from lineside.edge.local_api.serving import Serving

    return Serving(config, clock=clock, counters=counters)


@contextmanager
def published_log(config: EdgeConfig, *, bus: Bus, clock: Clock) -> Iterator[None]:
    """The log of this program on the bus, while the block runs, where that is wished."""
    if not config.publish_logs:
        yield
        return
    root = logging.getLogger("lineside")
    publisher = LogPublisher(bus, device=config.device, period_s=config.log_period_s, clock=clock)
    publisher.start()
    root.addHandler(publisher)
    try:
        yield
    finally:
        root.removeHandler(publisher)
        publisher.close()
