"""Reader of the other hubs' entries of a site into this hub's memory.

1. The log is read several times a second: the twin folds it, followers and pages hear of it.
2. Of each camera the newest of the frames that others stored is shown, with its predictions: a
   page looks the same at whichever hub it is opened.
3. Devices, training runs and dead letters of others are read from their documents.
"""

import threading

from lineside.core import FrameId
from lineside.core.worker import Worker
from lineside.hub.eventlog.ledger import Commit
from lineside.hub.services import Services
from lineside.streams import PREDICTION_TYPE, Event, read_prediction

FRAME_TYPE = "lineside.plant.frame.v1"
DEVICES = "devices"
"""The part that hears the devices; its hub knows them from what they say."""
_LOG_S = 0.2
_DOCUMENTS_S = 2.0
_LONGEST_RETRY_S = 2.0
_MOST_ANSWERS = 1000


class Peers:
    """One thread that reads what other hubs wrote."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._devices = services.leases.lease(DEVICES)
        self._lock = threading.Lock()
        self._frames: dict[str, Event] = {}
        self._answers: list[Event] = []
        self._next_s = 0.0
        self._worker = Worker("peers", self.step, every_s=_LOG_S, longest_retry_s=_LONGEST_RETRY_S)
        services.ledger.listen(self._note)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End after the turn in hand."""
        self._worker.stop()

    def step(self) -> None:
        """One turn."""
        services = self._services
        services.ledger.catch_up()
        self._show()
        now_s = services.clock.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _DOCUMENTS_S
            services.devices.refresh(is_mine=self._devices.is_held)
            services.runs.refresh()
            services.dead_letters.catch_up()

    def _note(self, commit: Commit) -> None:
        """Hear of a commit, on the writer's thread: what of it is to be shown."""
        if not commit.by_others:
            return
        with self._lock:
            for event in commit.events:
                if event.type == FRAME_TYPE:
                    self._frames[str(event.data.get("camera", ""))] = event
                elif event.type == PREDICTION_TYPE and len(self._answers) < _MOST_ANSWERS:
                    self._answers.append(event)

    def _show(self) -> None:
        with self._lock:
            frames, self._frames = self._frames, {}
            answers, self._answers = self._answers, []
        live = self._services.cameras
        for camera, event in frames.items():
            if camera in live.ids:
                self._show_frame(event)
        for event in answers:
            answer = read_prediction(event)
            if answer.frame.camera in live.ids:
                live.prediction(answer, event.id)

    def _show_frame(self, event: Event) -> None:
        records, blobs = self._services.records, self._services.blobs
        row = records.frames.get(FrameId(str(event.data.get("frame", ""))))
        self._services.cameras.frame(row, blobs.get(row.digest))
