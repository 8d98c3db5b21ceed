"""Threads between the bus and the log: each empties one mailbox in batches."""

import logging
import threading
from collections.abc import Callable, Sequence

from lineside.hub.services import Services
from lineside.hub.topics import Router
from lineside.links import Bus, Mailbox, Message

logger = logging.getLogger(__name__)

_BATCH = 64
_WAIT_S = 0.5
_PLANT_MAILBOX = 512
_DEVICE_MAILBOX = 5000


class Reader:
    """One mailbox and the thread that empties it."""

    def __init__(
        self, name: str, *, mailbox: Mailbox, take: Callable[[Sequence[Message]], None]
    ) -> None:
        self.name = name
        self.mailbox = mailbox
        self._take = take
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"read-{name}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take what is in the mailbox already, then end."""
        self._stop.set()
        self.mailbox.close()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            messages = self.mailbox.get_many(most=_BATCH, timeout_s=_WAIT_S)
            if not messages:
                if self._stop.is_set():
                    return
                continue
            try:
                self._take(messages)
            except Exception:  # boundary
                logger.exception("batch failed reader=%s messages=%d", self.name, len(messages))


def open_readers(bus: Bus, *, services: Services) -> list[Reader]:
    """Subscribe to everything the hub listens to; the caller starts and stops them."""
    site = services.plant.site
    router, strays = Router(services.plant), services.config.strays
    said = (f"lineside/{site}/+/+/prediction", f"lineside/{site}/device/+/status")
    devices = bus.subscribe(said, qos=1, size=_DEVICE_MAILBOX, name="devices")
    plant = bus.subscribe(router.patterns(strays=strays), qos=1, size=_PLANT_MAILBOX, name="plant")
    return [
        Reader("devices", mailbox=devices, take=services.device_ingest.take),
        Reader("plant", mailbox=plant, take=services.plant_ingest.take),
    ]
