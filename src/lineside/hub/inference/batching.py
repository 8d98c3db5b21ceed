"""Calls of one network put together into one run of it.

1. A batch is what waits when the network is free, up to ``most_rows`` rows of one shape. Where
   further callers are known to be on their way it waits for them, at most ``delay_s``. A caller who
   is alone does not wait and runs on its own thread.
2. At most ``waiting`` calls wait; a further one is refused (429, RESOURCE_EXHAUSTED), not queued.
3. An input that the network refuses fails every call of its batch with the network's sentence.
4. One run at a time: more would share the same cores. After ``close`` a call runs by itself on its
   caller's thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, LinesideError, UnavailableError
from lineside.core.worker import Worker
from lineside.web.security import BusyError

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[NDArray[np.float32]], Arrays]
_ANSWER_S = 60.0
_IDLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How much is put together.

    Attributes:
        most_rows: of one run.
        delay_s: a batch waits at most so long for callers on their way.
        waiting: calls at most.
    """

    most_rows: int = 8
    delay_s: float = 0.002
    waiting: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """What was put together so far: runs, rows in them, calls refused."""

    runs: int
    rows: int
    refused: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    """One caller's rows, and what came of them."""

    rows: NDArray[np.float32]
    done: threading.Event = field(default_factory=threading.Event)
    said: Arrays | None = None
    error: Exception | None = None


class Batcher:
    """One network's queue and its thread; close it."""

    def __init__(self, run: Run, *, name: str, clock: Clock, settings: Batching) -> None:
        """Begin to wait for calls.

        Args:
            run: (rows, …) float32 → outputs by name, each with as many rows.
            name: of the thread.
            clock: for the delay.
            settings: how much is put together.
        """
        self._run = run
        self._clock = clock
        self._settings = settings
        self._calls: deque[_Call] = deque()
        self._some = threading.Condition()
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._inside = 0
        self._runs = self._rows = self._refused = 0
        self._worker = Worker(f"batch-{name}", self._turn, at_end=self._finish, clock=clock)
        self._worker.start()

    def figures(self) -> BatchFigures:
        """Counts since the start."""
        return BatchFigures(runs=self._runs, rows=self._rows, refused=self._refused)

    def submit(self, rows: NDArray[np.float32]) -> Arrays:
        """The outputs for these rows; waits for them.

        Raises:
            BusyError: too many wait already.
            UnavailableError: the network does not answer.
            InvalidError: the network refuses them.
        """
        if self._worker.stopping.is_set() or len(rows) >= self._settings.most_rows:
            return self._run(rows)
        with self._lock:
            self._inside += 1
            alone = self._inside == 1 and self._running.acquire(blocking=False)
        try:
            return self._alone(rows) if alone else self._together(rows)
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._worker.stop()

    def _alone(self, rows: NDArray[np.float32]) -> Arrays:
        try:
            return self._run(rows)
        finally:
            self._runs += 1
            self._rows += len(rows)
            self._running.release()

    def _together(self, rows: NDArray[np.float32]) -> Arrays:
        call = _Call(rows=rows)
        self._put(call)
        return self._answer(call)

    def _put(self, call: _Call) -> None:
        with self._some:
            if len(self._calls) < self._settings.waiting:
                self._calls.append(call)
                self._some.notify()
                return
            self._refused += 1
        raise BusyError(
            f"{self._settings.waiting} calls wait for this model already",
            fix="Send fewer at once, or again in a moment.",
        )

    def _answer(self, call: _Call) -> Arrays:
        waited_s = 0.0
        while not call.done.wait(_IDLE_S):
            waited_s += _IDLE_S
            if not self._worker.is_alive or waited_s >= _ANSWER_S:
                raise UnavailableError("the model does not answer", fix="Try again.")
        if call.error is not None:
            raise call.error
        assert call.said is not None  # noqa: S101  one of the two is set before ``done``
        return call.said

    # ---- the thread

    def _turn(self) -> None:
        if self._waits(_IDLE_S):
            with self._running:  # while somebody runs alone, others gather
                self._answer_all(self._gathered())

    def _finish(self) -> None:
        """Answer those who came before the end."""
        while self._waits(0.0):
            self._turn()

    def _waits(self, wait_s: float) -> bool:
        """Whether a call waits, or comes within that time."""
        with self._some:
            return bool(self._calls) or (wait_s > 0 and self._some.wait(wait_s))

    def _gathered(self) -> list[_Call]:
        """The first call that waits and those that fit beside it; only this thread takes calls."""
        first = self._calls.popleft()
        calls, rows = [first], len(first.rows)
        ends_s = self._clock.monotonic() + self._settings.delay_s
        while rows < self._settings.most_rows:
            wait_s = ends_s - self._clock.monotonic() if self._inside > len(calls) else 0.0
            if not self._waits(wait_s):
                break
            following = self._calls[0].rows
            fits = following.shape[1:] == first.rows.shape[1:]
            if not fits or rows + len(following) > self._settings.most_rows:
                break
            calls.append(self._calls.popleft())
            rows += len(following)
        return calls

    def _answer_all(self, calls: Sequence[_Call]) -> None:
        try:
            whole = calls[0].rows
            if len(calls) > 1:
                whole = np.concatenate([call.rows for call in calls])
            said = self._run(whole)
            start = 0
            for call in calls:
                end = start + len(call.rows)
                call.said = {name: each[start:end] for name, each in said.items()}
                start = end
        except LinesideError as error:
            for call in calls:
                call.error = error
        except Exception as error:  # noqa: BLE001  # boundary: the caller's thread raises it
            for call in calls:
                call.error = error
        self._runs += 1
        self._rows += sum(len(call.rows) for call in calls)
        for call in calls:
            call.done.set()
