"""Calls that wait for a network: few at a time, bounded for each endpoint, apart from the rest.

1. Inference runs on threads of its own, so that pages, reads and health never wait behind it.
2. Of one endpoint at most ``most`` calls wait or run; a further one is refused at once
   (``BusyError``: 429, or the contract's own word for it). Nothing else is dropped.
3. Threads belong to the event loop that calls; they end with it.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from anyio.lowlevel import RunVar

from lineside.web.security import BusyError

T = TypeVar("T")
# More threads than processors take them from the event loop: with 8 on 2, /readyz took 180 ms.
_AT_ONCE = min(8, max(2, os.cpu_count() or 2))
_threads: RunVar[anyio.CapacityLimiter] = RunVar("inference threads")


class InferenceQueue:
    """One for the hub; safe from several threads and loops."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Calls that wait or run, of all endpoints."""
        with self._lock:
            return self._calls.total()

    async def run(self, endpoint: str, work: Callable[[], T]) -> T:
        """Return what ``work`` gives, called on an inference thread.

        Raises:
            BusyError: too many calls of this endpoint are there already.
        """
        with self._place(endpoint):
            return await anyio.to_thread.run_sync(work, limiter=_limiter())

    @contextmanager
    def _place(self, endpoint: str) -> Iterator[None]:
        with self._lock:
            if self._calls[endpoint] >= self._most:
                self.refused += 1
                raise BusyError(
                    f"{self._most} calls of {endpoint[:60]} wait already",
                    fix="Send fewer at once, or again in a moment.",
                )
            self._calls[endpoint] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[endpoint] -= 1
                if not self._calls[endpoint]:
                    del self._calls[endpoint]


def _limiter() -> anyio.CapacityLimiter:
    """The running loop's threads for inference."""
    try:
        return _threads.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        _threads.set(limiter)
        return limiter
