"""Threads between the bus and the log: each empties one mailbox in batches.

Several threads may prepare batches of one mailbox at once (decoding and writing pictures wait for
different things); they commit in the order in which they took them out.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from lineside.hub.job_service import MAILBOX as JOB_MAILBOX
from lineside.hub.job_service import TOPICS as JOB_TOPICS
from lineside.hub.services import Services
from lineside.hub.stats import CAMERAS
from lineside.hub.topics import Router
from lineside.links import Bus, Mailbox, MailboxFigures, Message

logger = logging.getLogger(__name__)

P = TypeVar("P")

_BATCH = 64
_WAIT_S = 0.5
_PLANT_MAILBOX = 1000
_DEVICE_MAILBOX = 5000
_PLANT_THREADS = 2  # one reads and decodes while the other waits for the disk


class Reader(Generic[P]):
    """One mailbox and the threads that empty it."""

    def __init__(
        self,
        name: str,
        *,
        mailbox: Mailbox,
        prepare: Callable[[Sequence[Message]], P],
        commit: Callable[[P], None],
        threads: int = 1,
    ) -> None:
        self.name = name
        self._mailbox = mailbox
        self._prepare = prepare
        self._commit = commit
        self._stop = threading.Event()
        self._taking = threading.Lock()
        self._turn = threading.Condition()
        self._taken = 0
        self._committed = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"read-{name}-{number}")
            for number in range(threads)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take what is in the mailbox already, then end."""
        self._stop.set()
        self._mailbox.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def figures(self) -> MailboxFigures:
        """Of the mailbox."""
        return self._mailbox.figures()

    def _run(self) -> None:
        while True:
            with self._taking:
                messages = self._mailbox.get_many(most=_BATCH, timeout_s=_WAIT_S)
                number = self._taken
                self._taken += bool(messages)
            if messages:
                self._take(messages, number=number)
            elif self._stop.is_set():
                return

    def _take(self, messages: Sequence[Message], *, number: int) -> None:
        prepared: list[P] = []
        try:
            prepared.append(self._prepare(messages))
        except Exception:  # boundary
            logger.exception("batch not read reader=%s messages=%d", self.name, len(messages))
        with self._turn:
            self._turn.wait_for(lambda: self._committed == number)
        try:
            for batch in prepared:
                self._commit(batch)
        except Exception:  # boundary
            logger.exception("batch not kept reader=%s messages=%d", self.name, len(messages))
        with self._turn:
            self._committed += 1
            self._turn.notify_all()


def open_readers(bus: Bus, *, services: Services) -> list[Reader[Any]]:
    """Subscribe to everything the hub listens to; the caller starts and stops them."""
    site = services.plant.site
    router, strays = Router(services.plant), services.config.strays
    said = (f"lineside/{site}/+/+/prediction", f"lineside/{site}/device/+/status")
    devices = bus.subscribe(said, qos=1, size=_DEVICE_MAILBOX, name="devices")
    plant = bus.subscribe(router.patterns(strays=strays), qos=1, size=_PLANT_MAILBOX, name=CAMERAS)
    asked = bus.subscribe(JOB_TOPICS, qos=1, size=JOB_MAILBOX, name="jobs")
    reported = bus.subscribe(
        (f"lineside/{site}/device/+/evidence",), qos=1, size=_DEVICE_MAILBOX, name="evidence"
    )
    desk, trials = services.job_desk, services.rollouts.book
    heard, seen = services.device_ingest, services.plant_ingest
    return [
        Reader("jobs", mailbox=asked, prepare=desk.prepare, commit=desk.commit),
        Reader("evidence", mailbox=reported, prepare=trials.prepare, commit=trials.commit),
        Reader("devices", mailbox=devices, prepare=heard.prepare, commit=heard.commit),
        Reader(
            CAMERAS, mailbox=plant, prepare=seen.prepare, commit=seen.commit,
            threads=_PLANT_THREADS,
        ),
    ]  # fmt: skip
