"""The program: everything the agent needs is opened here, and closed in reverse."""

import fcntl
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lineside.core import Clock, ConflictError, UnavailableError, load_plant, need
from lineside.edge.agent import Agent, last_will
from lineside.edge.config import EdgeConfig
from lineside.edge.contract import MakeReady, Ready
from lineside.edge.spool import open_spool
from lineside.links import open_bus
from lineside.models import Package, Predictor

logger = logging.getLogger(__name__)


def run(config: EdgeConfig, *, clock: Clock, stop: threading.Event) -> None:
    """Work until ``stop`` is set.

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
            config.bus,
            client_id=f"lineside-{plant.site}-{config.device}",
            clock=clock,
            will=last_will(plant, device=config.device, clock=clock),
        )
        stack.callback(bus.close)
        agent = Agent(
            config, plant=plant, bus=bus, spool=spool, clock=clock, make_ready=loading(clock)
        )
        agent.start()
        stack.callback(agent.close)
        logger.info("device started device=%s", config.device)
        stop.wait()
    logger.info("device stopped device=%s", config.device)


def loading(clock: Clock) -> MakeReady:
    """How an archive becomes a package at work: checked, loaded, golden pictures answered."""

    def make_ready(data: bytes) -> Ready:
        package = Package.read(data)
        predictor = Predictor(package, clock=clock)
        predictor.check_golden()
        return Ready(digest=package.digest, inspection=package.manifest.inspection, judge=predictor)

    return make_ready


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Make the folder and hold it: two agents on one spool would give one number twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}", where=str(folder), fix="Allow writing there."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                "another agent uses this folder",
                where=str(folder),
                fix="Stop it, or give this one a data_dir of its own.",
            ) from error
        yield
