"""From the predict thread to the hub: number, commit, send, forget on acknowledgement.

One thread owns the spool and does, in this order and again: take what was handed in and commit it
in one batch; forget what the hub acknowledged; send what was not sent yet, without waiting.

An image that the hub gets from this device only is sent right before its event. Both are forgotten
together, once the hub acknowledged the event and the broker the image.

1. ``ship`` costs the caller a queue append. When the disk is slower than the camera for long, it
   waits, so pictures are dropped in front and counted there; no judged event is dropped here. A
   large image counts as several events there.
2. At most ``_OUTSTANDING`` events are sent and unacknowledged. Without any progress they are sent
   again after ``resend_after_s``, then after twice as long, up to a minute; at once when the bus
   comes back. Their images are sent again only then: on one connection, the client does it.
3. Before the first event of each connection ``announce`` says the device's status, because a hub
   takes predictions of known devices only.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from lineside.core import Clock, LinesideError, UnavailableError
from lineside.core.worker import Worker
from lineside.edge.delivery.spool import Draft, Row, Spool
from lineside.edge.messages import Counters
from lineside.links import Bus

logger = logging.getLogger(__name__)

_OUTSTANDING = 500
_PENDING = 200
_BATCH = 100
_TICK_S = 0.2
_WINDOW_S = 0.02
_LONGEST_WAIT_S = 60.0
_PLACE = "spool"
_BEFORE = b',"deviceseq":'
_MISSING = b',"imagemissing":"no room in the spool of the device"'
_IMAGE_BYTES = 100_000


class Shipper:
    """Started and closed by the agent."""

    def __init__(
        self,
        spool: Spool,
        *,
        bus: Bus,
        clock: Clock,
        counters: Counters,
        resend_after_s: float,
        announce: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._bus = bus
        self._clock = clock
        self._counters = counters
        self._resend_after_s = resend_after_s
        self._announce = announce
        self._pending: deque[Draft] = deque()
        self._fresh: list[Row] = []
        self._changed = threading.Condition()
        self._acked = 0
        self._stored = 0
        self._images: dict[int, Callable[[], bool]] = {}
        self._cursor = spool.first - 1
        self._connection = 0
        self._attempt = 0
        self._progress_s = clock.monotonic()
        self._depth = spool.depth
        self._dropped = spool.dropped
        self._worker = Worker(
            "shipper", self._turn, longest_retry_s=_TICK_S, at_end=self._finish, report=self._note,
            clock=clock,
        )  # fmt: skip
        self._stop = self._worker.stopping

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def ship(self, draft: Draft) -> bool:
        """Hand in an event; False when the agent is closing. Waits while too many are pending."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    len(self._pending)
                    + sum(len(draft.image or b"") for draft in self._pending) // _IMAGE_BYTES
                    < _PENDING
                    or self._stop.is_set()
                )
            )
            if self._stop.is_set():
                return False
            self._pending.append(draft)
            self._changed.notify_all()
            return True

    def acknowledge(self, sequence: int) -> None:
        """The hub stored everything up to this number."""
        with self._changed:
            self._acked = max(self._acked, sequence)
            self._changed.notify_all()

    def depth(self) -> int:
        """Events that wait for acknowledgement, those not committed yet included."""
        return self._depth + len(self._pending)

    def dropped(self) -> int:
        """Events that were dropped for lack of room."""
        return self._dropped

    @property
    def alive(self) -> bool:
        """True while its threads run."""
        return self._worker.is_alive

    def close(self) -> None:
        """Commit what was handed in, send what can be sent at once, join the thread."""
        self._worker.request_stop()
        with self._changed:
            self._changed.notify_all()
        self._worker.join()

    def _turn(self) -> None:
        """Do everything once, then wait for more."""
        try:
            self._commit()
            self._forget()
            rest_s = self._send()
        finally:
            self._depth, self._dropped = self._spool.depth, self._spool.dropped
        with self._changed:
            if not self._pending and not self._acked and not self._stop.is_set():
                self._changed.wait(rest_s)

    def _finish(self) -> None:
        """Commit and send what was handed in before the end."""
        for _ in range(1 + _PENDING // _BATCH):
            self._worker.turn()

    def _note(self, error: Exception | None) -> None:
        if error is None:
            self._counters.mended(_PLACE)
        elif self._counters.fault(_PLACE, error):
            unforeseen = None if isinstance(error, LinesideError) else error
            logger.error("spool cannot be used: %s", error, exc_info=unforeseen)

    def _commit(self) -> None:
        with self._changed:
            batch = [self._pending[place] for place in range(min(_BATCH, len(self._pending)))]
        if not batch:
            return
        self._fresh = self._spool.append(batch)
        with self._changed:
            for _ in batch:
                self._pending.popleft()
            self._changed.notify_all()

    def _forget(self) -> None:
        with self._changed:
            acked, self._acked = self._acked, 0
        if acked <= self._spool.last:
            self._stored = max(self._stored, acked)
        waiting = (number - 1 for number, is_acked in self._images.items() if not is_acked())
        if self._spool.acknowledge(min((self._stored, *waiting))):
            self._progress_s, self._attempt = self._clock.monotonic(), 0
            self._cursor = max(self._cursor, self._spool.first - 1)
            self._images = {
                number: is_acked
                for number, is_acked in self._images.items()
                if number >= self._spool.first
            }

    def _send(self) -> float:
        if not self._reachable():
            return _TICK_S
        self._rewind_if_due()
        first = self._spool.first
        self._cursor = max(self._cursor, first - 1)
        room = first + _OUTSTANDING - 1 - self._cursor
        rows = self._next_rows(most=max(0, min(room, _BATCH)))
        for row in rows:
            if self._cursor < first:
                self._progress_s = self._clock.monotonic()  # the wait begins with the first one
            if not self._send_row(row, first=first):
                return _WINDOW_S
            self._cursor = row.sequence
        return 0.0 if len(rows) == _BATCH else _TICK_S

    def _send_row(self, row: Row, *, first: int) -> bool:
        """Send an event, and before it its image where this connection has not had it."""
        image = None if row.sequence in self._images else self._spool.image(row.sequence)
        if image:
            is_acked = self._bus.publish_soon(f"{row.topic.rpartition('/')[0]}/frame", image)
            if is_acked is None:
                return False
            self._images[row.sequence] = is_acked
        missing = _MISSING if image == b"" else b""
        return bool(self._bus.publish_soon(row.topic, completed(row, first=first, missing=missing)))

    def _next_rows(self, *, most: int) -> list[Row]:
        """Events after the cursor; usually just committed and still in memory."""
        fresh, self._fresh = self._fresh, []
        if fresh and fresh[0].sequence == self._cursor + 1 and len(fresh) <= most:
            return fresh
        return self._spool.after(self._cursor, most=most)

    def _reachable(self) -> bool:
        if not self._bus.connected():
            return False
        connection = self._bus.connections()
        if connection != self._connection:
            if self._stop.is_set():
                return False  # what is new on this connection goes out after the next start
            try:
                self._announce()
            except UnavailableError:
                return False
            self._connection = connection
            self._images.clear()
            self._cursor, self._attempt = self._spool.first - 1, 0
        return True

    def _rewind_if_due(self) -> None:
        """Send again what the hub has not acknowledged for too long."""
        outstanding = self._cursor >= self._spool.first
        wait_s = min(_LONGEST_WAIT_S, self._resend_after_s * 2.0 ** min(self._attempt, 10))
        if outstanding and self._clock.monotonic() - self._progress_s >= wait_s:
            self._cursor = self._spool.first - 1
            self._progress_s = self._clock.monotonic()
            self._attempt += 1


def completed(row: Row, *, first: int, missing: bytes = b"") -> bytes:
    """The event with ``devicefirst`` and ``imagemissing`` as they are now; it was written without.

    ``deviceseq`` is the last attribute of that name in the canonical JSON: quotes inside text are
    escaped, so the mark cannot stand in a value.
    """
    head, mark, tail = row.payload.rpartition(_BEFORE)
    said = (head, first, missing, mark, tail)
    return b'%b,"devicefirst":%d%b%b%b' % said if mark else row.payload
