"""The device's log on the bus: ``edge-manager-app/logs/<device>``, ``{"logs": [entry, …]}``.

1. Entries are sent once more than 10 have gathered, or when the oldest has waited ``period_s``.
2. While a send runs, and while the bus is away, entries are kept, at most ``_KEPT``; beyond it the
   oldest go, and the next entry that is sent says how many.
3. What was not taken over by the broker is sent again.
4. What this module and the bus itself log is not published: a lost connection would feed itself.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from lineside.core import Clock, LinesideError, encode, rfc3339
from lineside.core.worker import Worker
from lineside.links import Bus

logger = logging.getLogger(__name__)

GATHERED = 10
_KEPT = 1000
_AT_ONCE = 50
_LONGEST = 2000
_RETRY_S = 5.0
_OWN = ("lineside.links", __name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of the log; ``ts`` is RFC 3339 UTC."""

    ts: str
    level: str
    logger: str
    message: str


def log_topic(device: str) -> str:
    """Where a device's log is published."""
    return f"edge-manager-app/logs/{device}"


class LogBuffer:
    """Entries that wait to be sent, in order; safe from several threads."""

    def __init__(self, *, period_s: float, clock: Clock) -> None:
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[LogEntry] = deque()
        self._since_s = 0.0
        self._dropped = 0
        self.dropped = 0

    def add(self, entry: LogEntry) -> None:
        """Keep an entry; the oldest goes where there are too many."""
        with self._lock:
            if not self._entries:
                self._since_s = self._clock.monotonic()
            self._entries.append(entry)
            if len(self._entries) > _KEPT:
                self._entries.popleft()
                self._dropped += 1
                self.dropped += 1

    def due(self) -> tuple[tuple[LogEntry, ...], int]:
        """Entries to send now, and the number dropped before them; none while it waits."""
        with self._lock:
            if not self._is_due():
                return (), 0
            return tuple(self._entries)[:_AT_ONCE], self._dropped

    def rest(self) -> tuple[tuple[LogEntry, ...], int]:
        """The next to be sent, due or not."""
        with self._lock:
            return tuple(self._entries)[:_AT_ONCE], self._dropped

    def sent(self, batch: tuple[LogEntry, ...], *, dropped: int) -> None:
        """These were taken over; those of them that went meanwhile are not counted as dropped."""
        with self._lock:
            for entry in batch:
                if self._entries and self._entries[0] is entry:
                    self._entries.popleft()
                else:
                    self._dropped -= 1
                    self.dropped -= 1
            self._dropped -= dropped
            self._since_s = self._clock.monotonic()

    def wait_s(self) -> float:
        """For how long nothing is due unless something comes."""
        with self._lock:
            if not self._entries:
                return self._period_s
            return max(0.0, self._period_s - (self._clock.monotonic() - self._since_s))

    def _is_due(self) -> bool:
        waited_s = self._clock.monotonic() - self._since_s
        return bool(self._entries) and (len(self._entries) > GATHERED or waited_s >= self._period_s)


def payload_of(batch: tuple[LogEntry, ...], *, dropped: int) -> bytes:
    """The message of a batch."""
    plain = [
        {"ts": each.ts, "level": each.level, "logger": each.logger, "message": each.message}
        for each in batch
    ]
    if dropped:
        return encode({"logs": [{**plain[0], "dropped": dropped}, *plain[1:]]})
    return encode({"logs": plain})


class LogPublisher(logging.Handler):
    """Attached to a logger by the program; started and closed by it too."""

    def __init__(self, bus: Bus, *, device: str, period_s: float, clock: Clock) -> None:
        super().__init__(level=logging.INFO)
        self._bus = bus
        self._topic = log_topic(device)
        self._gathered = LogBuffer(period_s=period_s, clock=clock)
        self._worker = Worker("log-publisher", self._turn, at_end=self._send_rest)

    @property
    def dropped(self) -> int:
        """Entries that were not kept, in all."""
        return self._gathered.dropped

    def start(self) -> None:
        """Begin to send."""
        self._worker.start()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_OWN):
            return
        try:
            self._gathered.add(_entry(record))
        except Exception:  # noqa: BLE001  # boundary: a line of the log must not end its writer
            self.handleError(record)
        self.tick()

    def tick(self) -> None:
        """Look again, as after the clock was moved by hand."""
        self._worker.wake()

    def close(self) -> None:
        """Send what is there once, end."""
        self._worker.stop()
        super().close()

    def _turn(self) -> float:
        batch, dropped = self._gathered.due()
        if batch and not self._send(batch, dropped=dropped):
            self._worker.stopping.wait(_RETRY_S)  # a new entry does not end this pause
        return 0.0 if batch else self._gathered.wait_s()

    def _send_rest(self) -> None:
        batch, dropped = self._gathered.rest()
        if batch and self._bus.connected():
            self._send(batch, dropped=dropped)

    def _send(self, batch: tuple[LogEntry, ...], *, dropped: int) -> bool:
        try:
            self._bus.publish(self._topic, payload_of(batch, dropped=dropped))
        except LinesideError as error:
            logger.debug("log not published: %s", error)
            return False
        except Exception:  # boundary: the thread goes on
            logger.exception("log cannot be published")
            return False
        self._gathered.sent(batch, dropped=dropped)
        return True


def _entry(record: logging.LogRecord) -> LogEntry:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {record.exc_info[1]!r}"
    return LogEntry(
        ts=rfc3339(datetime.fromtimestamp(record.created, tz=UTC)),
        level=record.levelname,
        logger=record.name,
        message=text[:_LONGEST],
    )
