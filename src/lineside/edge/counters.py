"""Counters and present faults of the agent."""

import threading
from collections import Counter
from dataclasses import dataclass

from lineside.core import LinesideError

_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterValues:
    """One reading of the counts."""

    frames: int
    predictions: int
    refused: dict[str, int]
    faults: tuple[str, ...]


class Counters:
    """Counts and faults; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._predictions = 0
        self._refused: Counter[str] = Counter()
        self._faults: dict[str, str] = {}
        self._revision = 0

    def frame(self) -> None:
        """A picture came, whatever becomes of it."""
        with self._lock:
            self._frames += 1

    def prediction(self) -> None:
        """A picture was judged."""
        with self._lock:
            self._predictions += 1

    def refuse(self, reason: str, *, count: int = 1) -> None:
        """Pictures or messages that were left, with the reason."""
        if count:
            with self._lock:
                self._refused[reason] += count

    def fault(self, place: str, error: Exception) -> bool:
        """Something at ``place`` does not work; True when that is news."""
        text = error.message if isinstance(error, LinesideError) else repr(error)
        sentence = f"{place}: {text}"[:_LONGEST]
        with self._lock:
            news = self._faults.get(place) != sentence
            if news:
                self._faults[place] = sentence
                self._revision += 1
            return news

    def mended(self, place: str) -> None:
        """It works again."""
        with self._lock:
            if self._faults.pop(place, None) is not None:
                self._revision += 1

    def changed(self) -> None:
        """Something worth telling at once happened elsewhere."""
        with self._lock:
            self._revision += 1

    @property
    def revision(self) -> int:
        """Counts up with every change worth telling at once."""
        return self._revision

    def read(self) -> CounterValues:
        """All counts at one moment."""
        with self._lock:
            return CounterValues(
                frames=self._frames,
                predictions=self._predictions,
                refused=dict(sorted(self._refused.items())),
                faults=tuple(self._faults.values()),
            )
