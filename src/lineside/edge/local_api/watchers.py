"""Clients who watch decisions as they are taken, each with a bounded queue of its own.

A client that is too slow loses its oldest decisions and is told how many.
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from lineside.edge.packages import FullError
from lineside.vision import Frame, Prediction

MOST_WATCHERS = 8
_QUEUE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A decision, and how many a client lost just before it."""

    prediction: Prediction
    missed: int


class Watcher:
    """One client; closed by whoever asked for it."""

    def __init__(self, inspection: str) -> None:
        self._inspection = inspection
        self._queue: deque[Prediction] = deque()
        self._missed = 0
        self._changed = threading.Condition()
        self._closed = False

    def take(self, prediction: Prediction) -> None:
        """Queue a decision if it is of the inspection asked for."""
        if self._inspection not in ("", prediction.inspection):
            return
        with self._changed:
            self._queue.append(prediction)
            if len(self._queue) > _QUEUE:
                self._queue.popleft()
                self._missed += 1
            self._changed.notify_all()

    def seen(self) -> Iterator[Seen]:
        """Decisions until the watcher is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                prediction, missed = self._queue.popleft(), self._missed
                self._missed = 0
            yield Seen(prediction=prediction, missed=missed)

    def close(self) -> None:
        """End ``seen``, from any thread; what is queued is left."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()


class Watchers:
    """Every client that watches; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: tuple[Watcher, ...] = ()
        self._closed = False

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """Hand a decision to everybody."""
        del frame
        for watcher in self._open:
            watcher.take(prediction)

    def join(self, inspection: str = "") -> Watcher:
        """A further client; ``FullError`` when too many watch."""
        with self._lock:
            if self._closed or len(self._open) >= MOST_WATCHERS:
                raise FullError(
                    f"{len(self._open)} clients watch", where="Watch", fix="End one of them."
                )
            watcher = Watcher(inspection)
            self._open = (*self._open, watcher)
            return watcher

    def leave(self, watcher: Watcher) -> None:
        """The client is gone."""
        watcher.close()
        with self._lock:
            self._open = tuple(each for each in self._open if each is not watcher)

    def close(self) -> None:
        """End every client's stream."""
        with self._lock:
            self._closed = True
        for watcher in self._open:
            watcher.close()
