"""The program: everything the agent needs is opened here, and closed in reverse."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.core import Clock, load_plant, need
from lineside.core.processes import Supervisor
from lineside.edge.agent import Agent, last_will
from lineside.edge.config import EdgeConfig
from lineside.edge.delivery.publisher import LogPublisher
from lineside.edge.delivery.spool import open_spool
from lineside.edge.identity.enrolment import renewing
from lineside.edge.machine import sole_user
from lineside.edge.messages import Counters
from lineside.edge.packages import loading
from lineside.edge.page.server import gallery_for, page_for
from lineside.edge.worker import Watchdog
from lineside.links import Bus, open_bus

if TYPE_CHECKING:
    from lineside.edge.local_api.serving import Serving

logger = logging.getLogger(__name__)


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
    plant = load_plant(Path(config.plant))
    # One thread for each camera is the parallelism here; OpenCV's own would only compete.
    need("cv2", extra="edge").setNumThreads(1)
    with ExitStack() as stack:
        stack.enter_context(sole_user(config.folder))
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
        gallery = gallery_for(config, plant=plant, clock=clock)
        agent = Agent(
            config,
            plant=plant,
            bus=bus,
            spool=spool,
            clock=clock,
            make_ready=loading(clock, inspections=plant.inspection, engine=config.engine),
            counters=counters,
            observers=(
                *(serving.observers if serving is not None else ()),
                *((gallery.look,) if gallery is not None else ()),
            ),
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
            supervisor=supervisor or Supervisor(),
            hang_after_s=config.hang_after_s,
            counters=counters,
            clock=clock,
        )
        watchdog.start()
        stack.callback(watchdog.close)
        logger.info("device started device=%s", config.device)
        stop.wait()
    logger.info("device stopped device=%s", config.device)


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
