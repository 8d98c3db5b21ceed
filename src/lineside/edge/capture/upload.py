"""What was captured on the disk, brought to a place elsewhere now and then."""

import logging

from lineside.core import Clock, LinesideError
from lineside.core.worker import Worker
from lineside.edge.capture.destinations import DiskCaptures
from lineside.edge.counters import Tally
from lineside.store import Place

logger = logging.getLogger(__name__)

_PLACE = "upload of captures"
_LONGEST_REST_S = 60.0


class CaptureUploader:
    """Started and closed by whoever made it."""

    def __init__(
        self, disk: DiskCaptures, *, place: Place, period_s: float, clock: Clock, tally: Tally
    ) -> None:
        self._disk = disk
        self._place = place
        self._period_s = period_s
        self._clock = clock
        self._tally = tally
        self._began_s = clock.monotonic()
        self._worker = Worker("capture-upload", self._turn)
        self._stop = self._worker.stopping

    def start(self) -> None:
        """Begin; what lies there goes first."""
        self._began_s -= self._period_s
        self._worker.start()

    def tick(self) -> None:
        """Look at the clock again, as after it was moved by hand."""
        self._worker.wake()

    def close(self) -> None:
        """End; a batch under way is finished first, the rest stays on the disk."""
        self._worker.stop()

    def _turn(self) -> float:
        if self._rest_s() <= 0:
            self._began_s = self._clock.monotonic()
            self._upload()
        return min(self._rest_s(), _LONGEST_REST_S)

    def _rest_s(self) -> float:
        return max(0.0, self._period_s - (self._clock.monotonic() - self._began_s))

    def _upload(self) -> None:
        try:
            while not self._stop.is_set() and self._disk.upload_oldest(self._place):
                pass
            self._tally.mended(_PLACE)
        except LinesideError as error:
            if self._tally.fault(_PLACE, error):
                logger.warning("captures stay on the disk: %s", error)
        except Exception as error:  # boundary: the thread goes on
            logger.exception("upload of captures failed")
            self._tally.fault(_PLACE, error)
