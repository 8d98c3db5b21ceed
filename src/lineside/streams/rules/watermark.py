"""Watermarks by the records' own times, one for each source.

1. A source's watermark is its newest time less ``lateness``. A record before it is late, and so is
   one before the time up to which the rule's step was told already.
2. Time has passed ``low`` for all: the lowest watermark of the sources that are awake.
3. A source is asleep when nothing of it arrived for ``idle``, as of the newest arrival. When all
   sleep, time is past the newest record, or the newest arrival less ``idle`` where that is later.
   What was passed over says only that it is that late: it moves no source and wakes none.
4. ``low`` never goes back.
"""

from collections.abc import Iterable

import msgspec

BEGINNING_US = -(2**62)


class Source(msgspec.Struct):
    """A source's newest time, and when it was last heard."""

    newest_us: int
    heard_us: int


class WatermarkState(msgspec.Struct):
    """The memory of ``Watermarks``."""

    sources: dict[str, Source]
    low_us: int
    arrived_us: int
    begun_us: int


class Watermarks:
    """The watermarks of one rule's sources.

    ``expected`` are sources known ahead: time waits for them until ``idle`` after the first record.
    """

    def __init__(self, *, lateness_us: int, idle_us: int, expected: Iterable[str] = ()) -> None:
        self._lateness_us = lateness_us
        self._idle_us = idle_us
        self._expected = frozenset(expected)
        self._missing = set(self._expected)
        self._sources: dict[str, Source] = {}
        self._laggard = ""
        self._asleep_at_us = BEGINNING_US
        self._begun_us = 0
        self._alone = ""
        self._only = Source(BEGINNING_US, BEGINNING_US)
        self.arrived_us = BEGINNING_US
        self.low_us = BEGINNING_US

    def note(self, source: str, at_us: int, *, arrived_us: int) -> bool:
        """Take note of a record; whether it came too late."""
        if source != self._alone:
            return self._note(source, at_us, arrived_us=arrived_us)
        # The only source there is: nothing but its own newest time moves what follows.
        known = self._only
        if arrived_us > self.arrived_us:  # noqa: PLR1730  max() takes twice as long, for each record
            self.arrived_us = arrived_us
        known.heard_us = self.arrived_us
        if at_us <= known.newest_us:
            return at_us < self.low_us
        late = at_us < self.low_us
        known.newest_us = at_us
        if at_us - self._lateness_us > self.low_us:  # noqa: PLR1730  as above
            self.low_us = at_us - self._lateness_us
        return late

    def _note(self, source: str, at_us: int, *, arrived_us: int) -> bool:
        known = self._sources.get(source)
        late = at_us < self.low_us
        arrived_us = self.arrived_us = max(arrived_us, self.arrived_us)
        if known is None:
            self._begun_us = self._begun_us or arrived_us
            self._missing.discard(source)
            self._sources[source] = Source(at_us, arrived_us)
        else:
            late = late or at_us < known.newest_us - self._lateness_us
            known.heard_us = arrived_us
            known.newest_us = max(known.newest_us, at_us)
            # A source that is not the slowest cannot move time, while no other falls asleep.
            if source != self._laggard and arrived_us < self._asleep_at_us:
                return late
        self._settle()
        return late

    def tick(self, arrived_us: int) -> None:
        """Time has passed, by arrival, without a record."""
        if arrived_us > self.arrived_us:
            self.arrived_us = arrived_us
            if arrived_us >= self._asleep_at_us:
                self._settle()

    @property
    def newest_us(self) -> int:
        """The newest time of all sources; others may ask while sources come."""
        return max((one.newest_us for one in list(self._sources.values())), default=BEGINNING_US)

    def of(self, source: str) -> int:
        """The watermark of one source; the beginning of time where it is not known."""
        known = self._sources.get(source)
        return BEGINNING_US if known is None else known.newest_us - self._lateness_us

    def force(self, at_us: int) -> None:
        """Let time be at least so far, because no more can be held back."""
        self.low_us = max(self.low_us, at_us)

    def dump(self) -> WatermarkState:
        """All that is remembered."""
        return WatermarkState(
            sources=self._sources, low_us=self.low_us, arrived_us=self.arrived_us,
            begun_us=self._begun_us,
        )  # fmt: skip

    def load(self, state: WatermarkState) -> None:
        """Go on from there."""
        self._sources, self.low_us, self.arrived_us = state.sources, state.low_us, state.arrived_us
        self._begun_us = state.begun_us
        self._missing = set(self._expected - state.sources.keys())
        self._laggard, self._asleep_at_us, self._alone = "", BEGINNING_US, ""

    def _settle(self) -> None:
        """Find the slowest source that is awake, and when the next one falls asleep."""
        now_us, idle_us = self.arrived_us, self._idle_us
        slowest, lowest_us, asleep_at_us = "", 2**62, 2**62
        for name, one in self._sources.items():
            if now_us - one.heard_us >= idle_us:
                continue
            asleep_at_us = min(asleep_at_us, one.heard_us + idle_us)
            if one.newest_us < lowest_us:
                slowest, lowest_us = name, one.newest_us
        if self._missing and self._sources:
            if now_us - self._begun_us < idle_us:
                self._laggard, self._asleep_at_us = "", BEGINNING_US
                return
            self._missing.clear()
        # Where all sleep, the next arrival moves time again, whosever it is.
        self._laggard, self._asleep_at_us = slowest, asleep_at_us if slowest else BEGINNING_US
        self._alone = ""
        if len(self._sources) == 1:
            ((self._alone, self._only),) = self._sources.items()
        if slowest:
            self.force(lowest_us - self._lateness_us)
        elif self._sources:
            self.force(max(self.newest_us + 1, now_us - idle_us))
