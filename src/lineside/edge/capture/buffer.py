"""Captures: taken at once, written by a thread in batches, their fate told on request.

1. At most ``buffer_size`` captures and ``_MOST_BYTES`` wait; what comes beyond is refused, nothing
   that was taken is dropped.
2. A batch is written when ``batch_size`` wait, or what is there when ``push_period_s`` has passed
   since the last one, or since the oldest of them came.
3. SUCCESS is said when the batch is safe at its place: a kill after that loses nothing. While the
   place is away a capture stays IN_PROGRESS and is tried again; FAILURE is said of what will not
   work.
4. The fate of the last captures is remembered, over a restart for those on the disk.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lineside.core import Clock, ConflictError, LinesideError, NotFoundError, UnavailableError
from lineside.core.worker import Worker
from lineside.edge.capture.destinations import Batch, CaptureDestination, stem_of
from lineside.edge.capture.record import written
from lineside.edge.config import CaptureConfig
from lineside.edge.counters import Counters
from lineside.edge.packages import FullError
from lineside.fleet import wire

logger = logging.getLogger(__name__)

_REMEMBERED = 10_000
_MOST_BYTES = 64_000_000
_LONGEST_REST_S = 60.0
_PLACE = "captures"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    capture: wire.Capture
    at: datetime
    taken_at: datetime
    taken_s: float
    size_bytes: int


class Capturer:
    """Started and closed by whoever made it; safe from several threads."""

    def __init__(
        self,
        config: CaptureConfig,
        *,
        device: str,
        place: CaptureDestination,
        clock: Clock,
        counters: Counters,
        known: Iterable[str] = (),
    ) -> None:
        """Nothing waits yet.

        Args:
            config: sizes and periods.
            device: as the records name it.
            place: where batches are kept.
            clock: of times and periods.
            counters: told of what fails.
            known: ids of captures that are kept already, newest first.
        """
        self._config = config
        self._device = device
        self._place = place
        self._clock = clock
        self._counters = counters
        self._waiting: deque[_Waiting] = deque()
        self._held_bytes = 0
        self._fates: OrderedDict[str, wire.CaptureStatus] = OrderedDict(
            (_key(each), wire.CaptureStatus.SUCCESS) for each in reversed(tuple(known))
        )
        self._pushed_s = clock.monotonic()
        self._changed = threading.Condition()
        self._worker = Worker("capture", self._turn, at_end=self._finish, report=self._note)
        self._stop = self._worker.stopping

    def start(self) -> None:
        """Begin to write."""
        self._worker.start()

    def offer(self, capture: wire.Capture) -> None:
        """Take a capture that is well formed; returns at once.

        Raises:
            ConflictError: its id was seen.
            FullError: too many wait.
        """
        key, size = _key(capture.capture_id), _size(capture)
        now = self._clock.now()
        taken = _Waiting(
            capture=capture,
            at=capture.inferred_at or now,
            taken_at=now,
            taken_s=self._clock.monotonic(),
            size_bytes=size,
        )
        with self._changed:
            if key in self._fates:
                raise ConflictError(
                    f"{capture.capture_id} was captured already",
                    where="capture_id",
                    fix="Take an id of its own for each capture.",
                )
            self._check_room(size)
            self._waiting.append(taken)
            self._held_bytes += size
            self._remember(key, wire.CaptureStatus.IN_PROGRESS)
            self._changed.notify_all()

    def status(self, capture_id: str) -> wire.CaptureStatus:
        """State of a capture; ``NotFoundError`` of one that is not remembered."""
        with self._changed:
            fate = self._fates.get(_key(capture_id))
        if fate is None:
            raise NotFoundError(
                f"no capture {capture_id[:60]!r}",
                where="capture_id",
                fix=f"The last {_REMEMBERED} are remembered.",
            )
        return fate

    @property
    def waiting(self) -> int:
        """Captures taken and not yet written."""
        return len(self._waiting)

    def tick(self) -> None:
        """Look at the clock again, as after it was moved by hand."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, once, and end."""
        self._worker.request_stop()
        self.tick()
        self._worker.join()

    def _check_room(self, size: int) -> None:
        if len(self._waiting) >= self._config.buffer_size:
            raise FullError(
                f"{len(self._waiting)} captures wait to be written",
                where="buffer_size",
                fix="Capture less often, or allow more.",
            )
        if self._waiting and self._held_bytes + size > _MOST_BYTES:
            raise FullError(
                f"{self._held_bytes} bytes wait to be written",
                where="captures",
                fix="Capture less often, or smaller tensors.",
            )

    def _remember(self, key: str, fate: wire.CaptureStatus) -> None:
        self._fates[key] = fate
        self._fates.move_to_end(key)
        while len(self._fates) > _REMEMBERED + self._config.buffer_size:
            self._fates.popitem(last=False)

    def _turn(self) -> None:
        with self._changed:
            due = self._changed.wait_for(self._is_due, timeout=self._rest_s())
        if due and not self._stop.is_set():
            self._flush()

    def _finish(self) -> None:
        """Write what waits, until the disk refuses it."""
        try:
            while self._waiting:
                self._flush()
        except LinesideError as error:
            self._note(error)

    def _is_due(self) -> bool:
        if self._stop.is_set() or len(self._waiting) >= self._config.batch_size:
            return True
        return bool(self._waiting) and self._rest_s() <= 0

    def _rest_s(self) -> float:
        if not self._waiting:
            return _LONGEST_REST_S
        since_s = max(self._pushed_s, self._waiting[0].taken_s)
        return max(0.0, self._config.push_period_s - (self._clock.monotonic() - since_s))

    def _flush(self) -> None:
        """Write a batch.

        Raises:
            UnavailableError: it is to be tried again.
        """
        most = min(len(self._waiting), self._config.batch_size)
        taken = [self._waiting[place] for place in range(most)]
        for group in _groups(taken):
            try:
                self._keep(group)
            except UnavailableError:
                raise
            except LinesideError as error:
                self._note(error)
                self._settle(group, wire.CaptureStatus.FAILURE)
            except Exception as error:  # boundary: one capture must not end the thread
                logger.exception("capture failed")
                self._counters.fault(_PLACE, error)
                self._settle(group, wire.CaptureStatus.FAILURE)
            else:
                self._counters.mended(_PLACE)
                self._settle(group, wire.CaptureStatus.SUCCESS)
        self._pushed_s = self._clock.monotonic()

    def _keep(self, group: list[_Waiting]) -> None:
        folder = self._folder(group[0])
        # Tried again, the batch has the same names, so that nothing stays twice.
        stem = stem_of(group[0].taken_at, group[0].capture.capture_id)
        records = [
            written(
                each.capture,
                fleet=self._config.fleet,
                device=self._device,
                at=each.at,
                embed_max_bytes=self._config.embed_max_bytes,
                address=lambda name: self._place.address(f"{folder}/{stem}/{name}"),
            )
            for each in group
        ]
        batch = Batch(
            folder=folder,
            stem=stem,
            lines=tuple(line for line, _ in records),
            files={name: data for _, files in records for name, data in files.items()},
        )
        self._place.keep(batch)

    def _folder(self, first: _Waiting) -> str:
        at = first.at.astimezone(UTC)
        prefix = f"{self._config.prefix}/" if self._config.prefix else ""
        day = f"{at.year:04d}/{at:%m/%d/%H}"
        return f"{prefix}{self._config.fleet}/{first.capture.model}/{day}"

    def _settle(self, group: list[_Waiting], fate: wire.CaptureStatus) -> None:
        done = {id(each) for each in group}
        with self._changed:
            self._waiting = deque(each for each in self._waiting if id(each) not in done)
            self._held_bytes -= sum(each.size_bytes for each in group)
            for each in group:
                self._remember(_key(each.capture.capture_id), fate)

    def _note(self, error: Exception | None) -> None:
        if error is not None and self._counters.fault(_PLACE, error):
            logger.warning("captures cannot be kept: %s", error)


def _groups(taken: Iterable[_Waiting]) -> list[list[_Waiting]]:
    """By model and hour, in the order they came."""
    found: dict[tuple[str, str], list[_Waiting]] = {}
    for each in taken:
        hour = each.at.astimezone(UTC).isoformat(timespec="hours")
        found.setdefault((each.capture.model, hour), []).append(each)
    return list(found.values())


def _size(capture: wire.Capture) -> int:
    tensors = (*capture.input_tensors, *capture.output_tensors)
    others = (*capture.inputs, *capture.outputs)
    return sum(len(part.data) for part in tensors) + sum(len(each.data) for each in others)


def _key(capture_id: str) -> str:
    return capture_id.lower()
