"""Background threads, and the one way to try again after a failure.

1. A worker repeats one step until it is stopped. It has a name, a stop event and a join, and it
   survives every exception of its step.
2. After a failure it waits longer each time, up to a limit; a success resets the wait.
3. A failure is logged when it begins and when it is over, not each time in between. What Lineside
   foresees is a warning of one line, anything else an error with its trace.
4. Readiness and metrics read ``state``, ``age_s`` and ``failures`` of all ``running_workers``.
"""

import logging
import math
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from enum import StrEnum
from typing import TypeVar

from lineside.core.clock import Clock, SystemClock
from lineside.core.errors import LinesideError, UnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
Step = Callable[[], float | None]
"""One turn; returns the seconds until the next one, or None for the worker's usual pause.

``math.inf`` waits until the worker is woken.
"""

_RANDOM_STEPS = 1000
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 15.0


class WorkerState(StrEnum):
    """State of a worker, from well to ill."""

    WAITING = "waiting"
    BUSY = "busy"
    FAILING = "failing"
    STUCK = "stuck"


class Worker:
    """A named thread that repeats a step.

    ``turn`` does one step on the caller's thread, so that a test needs neither thread nor time.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        every_s: float | None = 0.0,
        delay_s: float = 0.0,
        first_retry_s: float = _FIRST_RETRY_S,
        longest_retry_s: float = _LONGEST_RETRY_S,
        stuck_s: float = math.inf,
        at_end: Callable[[], object] | None = None,
        report: Callable[[Exception | None], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            name: of the thread and in the log.
            step: one turn; it may wait for something itself, if ``stop`` ends that wait.
            every_s: the usual pause after a step; None: the step is done once, the thread ends.
            delay_s: the pause before the first step.
            first_retry_s: the pause after a first failure.
            longest_retry_s: the limit to which the pause doubles.
            stuck_s: a step in hand for longer than this counts as stuck.
            at_end: called by the thread when it ends.
            report: called after a failed step with its error, and with None once a step succeeds
                again; without it the worker writes these two to the log.
            clock: for ``progress_s`` and ``busy_s``.
        """
        self.name = name
        self.stopping = threading.Event()
        self.failures = 0
        self.failure: Exception | None = None
        self._step = step
        self._every_s = every_s
        self._delay_s = delay_s
        self._first_retry_s = first_retry_s
        self._longest_retry_s = longest_retry_s
        self._stuck_s = stuck_s
        self._at_end = at_end
        self._report = report or self._log
        self._clock = clock or SystemClock()
        self._woken = threading.Event()
        self._thread: _WorkerThread | None = None
        self._busy_since_s: float | None = None
        self.progress_s = self._clock.monotonic()

    @property
    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def busy_s(self) -> float:
        """For how long the step in hand has been running; 0.0 between two steps."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else self._clock.monotonic() - since_s

    @property
    def age_s(self) -> float:
        """Seconds since the last step that succeeded, or since the start."""
        return self._clock.monotonic() - self.progress_s

    @property
    def state(self) -> WorkerState:
        """Return what it does now, or what is wrong with it."""
        if self.busy_s > self._stuck_s:
            return WorkerState.STUCK
        if self.failures:
            return WorkerState.FAILING
        return WorkerState.WAITING if self._busy_since_s is None else WorkerState.BUSY

    def start(self) -> None:
        """Start the thread; a worker that was stopped may be started again."""
        self.stopping.clear()
        self._woken.clear()
        self._thread = _WorkerThread(target=self._run, name=self.name, daemon=True)
        self._thread.worker = self
        self.progress_s = self._clock.monotonic()
        self._thread.start()

    def wake(self) -> None:
        """End the pause between two steps now; during a step, skip the pause that follows."""
        self._woken.set()

    def request_stop(self) -> None:
        """End after the step in hand, without waiting for it. The step itself may call this."""
        self.stopping.set()
        self._woken.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the thread; returns at once where it never ran, or is the caller."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def stop(self, timeout_s: float | None = None) -> None:
        """End after the step in hand, and wait for that."""
        self.request_stop()
        self.join(timeout_s)

    def turn(self) -> float | None:
        """Do one step; returns the seconds until the next, None after the only one.

        A failure is reported, never raised.
        """
        self._busy_since_s = self._clock.monotonic()
        try:
            pause_s = self._step()
        except Exception as error:  # noqa: BLE001  boundary: a thread must not die silently
            self.failures += 1
            self.failure = error
            self._report(error)
            return self._pause_after_failure()
        finally:
            self._busy_since_s = None
        self.progress_s = self._clock.monotonic()
        if self.failures:
            self.failures, self.failure = 0, None
            self._report(None)
        return self._every_s if pause_s is None or self._every_s is None else pause_s

    def _pause_after_failure(self) -> float | None:
        if self._every_s is None:
            return None
        pause_s = backoff_s(
            self.failures - 1, first_s=self._first_retry_s, most_s=self._longest_retry_s
        )
        return max(self._every_s, pause_s)

    def _run(self) -> None:
        try:
            self._woken.wait(self._delay_s)
            self._repeat()
        finally:
            if self._at_end is not None:
                self._at_end()

    def _repeat(self) -> None:
        while not self.stopping.is_set():
            self._woken.clear()
            if self.stopping.is_set():  # it was set between the two lines above
                return
            pause_s = self.turn()
            if pause_s is None:
                return
            if pause_s > 0:
                self._woken.wait(min(pause_s, threading.TIMEOUT_MAX))

    def _log(self, error: Exception | None) -> None:
        if error is None:
            logger.info("worker goes on name=%s", self.name)
        elif self.failures > 1:
            logger.debug("worker fails again name=%s reason=%s", self.name, error)
        elif isinstance(error, LinesideError):
            logger.warning("worker fails, it tries again name=%s reason=%s", self.name, error)
        else:
            logger.error("worker failed name=%s", self.name, exc_info=error)


class _WorkerThread(threading.Thread):
    """Thread of a worker."""

    worker: Worker


def running_workers() -> list[Worker]:
    """Return the workers of this process whose threads run."""
    threads = threading.enumerate()
    return [thread.worker for thread in threads if isinstance(thread, _WorkerThread)]


def backoff_s(
    attempt: int, *, first_s: float = _FIRST_RETRY_S, most_s: float = _LONGEST_RETRY_S
) -> float:
    """Return the seconds to wait before attempt number ``attempt`` (0 is the first retry).

    Doubles from ``first_s`` up to ``most_s``; a random half of it is taken off, so that many
    clients of one server do not come back in the same instant.
    """
    whole_s = min(most_s, first_s * 2.0 ** min(attempt, 30))
    return whole_s * (0.5 + secrets.randbelow(_RANDOM_STEPS) / (2 * _RANDOM_STEPS))


def retry(
    act: Callable[[], T],
    *,
    stop: threading.Event,
    on: type[LinesideError] = UnavailableError,
    first_s: float = _FIRST_RETRY_S,
    most_s: float = _LONGEST_RETRY_S,
    within_s: float = math.inf,
    clock: Clock | None = None,
) -> T:
    """Return the result of ``act``, which is tried again while the other side is away.

    Raises:
        LinesideError: ``act`` failed with ``on``, and ``stop`` is set or ``within_s`` have gone by
            since it failed first. The last try begins at that moment.
    """
    attempt, ends_s, clock = 0, math.inf, clock or SystemClock()
    while True:
        try:
            result = act()
        except on as error:
            now_s = clock.monotonic()
            ends_s = ends_s if attempt else now_s + within_s
            if stop.is_set() or now_s >= ends_s:
                raise
            if not attempt:
                logger.warning("away, trying again reason=%s", error)
            pause_s = backoff_s(attempt, first_s=first_s, most_s=most_s)
            stop.wait(min(pause_s, ends_s - now_s))
            attempt += 1
            continue
        if attempt:
            logger.info("back after attempts=%d", attempt)
        return result


PICTURES_AT_ONCE = min(4, os.cpu_count() or 1)
"""Threads that look at pictures, each at one, so that no result depends on their number."""


def prefetch(
    call: Callable[[T], R], items: Iterable[T], *, threads: int = 1, limit: int = 0
) -> Generator[R, None, None]:
    """``map`` on other threads; same order, and an error comes out where its result would stand.

    The threads end with the iteration; close the iterator where it is left early.

    Args:
        call: what releases the lock of the interpreter gains: decoders, OpenCV, files.
        items: taken on the caller's thread.
        threads: at work.
        limit: how many items are under way or wait; 0 allows eight, or four a thread.
    """
    most = limit or max(8, 4 * threads)
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, "prefetch") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def look_at_each(
    call: Callable[[T], R], pictures: Iterable[T], *, tell: Callable[[int], object] = lambda _: None
) -> list[R]:
    """Results of all pictures in order, looked at by ``PICTURES_AT_ONCE`` threads.

    ``tell`` is given the number of results so far, on the caller's thread; what it raises ends it.
    """
    found: list[R] = []
    with closing(prefetch(call, pictures, threads=PICTURES_AT_ONCE)) as results:
        for result in results:
            found.append(result)
            tell(len(found))
    return found
