"""Which event of a webhook is to be posted next: one lane for each key; pure.

1. Events of one key go out one after the other, in the log's order. A lane's first event stays its
   first until it was dealt with; what waits behind it waits in the log. Of another key, each goes
   its own way.
2. What is kept is where each lane stands, not what waits in it: as many places as there are lanes,
   however long one of them is held up. With ``MOST_LANES`` of them nothing further is read.
3. Where nobody answered at all, it was not for the sake of one event: the first answer that takes
   something makes every lane due that waits for that reason.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lineside.store import Logged

MOST_LANES = 100
MOST_HELD = 20


@dataclass(slots=True, kw_only=True)
class Lane:
    """The events of one key that were read and are not dealt with.

    Attributes:
        position: in the log, of the first of them, or one before it.
        since: when the first try of the first one failed, as text; "" before.
        held: the first few; empty where they must be read from the log.
        more: whether there may be others behind those held.
        tries: how often the first one was tried, in this life of the hub.
        due_s: when it is tried next, on a monotonic clock.
        away: whether the last try met nobody.
        busy: whether somebody is at it.
    """

    position: int
    since: str = ""
    held: deque[Logged] = field(default_factory=deque)
    more: bool = False
    tries: int = 0
    due_s: float = 0.0
    away: bool = False
    busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What survives a kill: how far the log was read, and of each key ``(position, since)``."""

    read_to: int = 0
    lanes: tuple[tuple[str, int, str], ...] = ()


class Lanes:
    """All lanes of one webhook; guarded by whoever owns it."""

    def __init__(self, kept: Kept) -> None:
        self.read_to = kept.read_to
        self._lanes = {
            key: Lane(position=position, since=since, more=True)
            for key, position, since in kept.lanes
        }

    def __len__(self) -> int:
        return len(self._lanes)

    def kept(self) -> Kept:
        """As it is to be written down."""
        told = ((key, lane.position, lane.since) for key, lane in self._lanes.items())
        return Kept(read_to=self.read_to, lanes=tuple(told))

    def read(self, entries: Iterable[tuple[Logged, str | None]]) -> int:
        """Take what was read, in the log's order, as far as there is room; how many were taken.

        An entry without key is not wanted; one that was taken before changes nothing.
        """
        count = 0
        for logged, key in entries:
            if logged.position > self.read_to and key is not None and not self._join(logged, key):
                break
            self.read_to = max(self.read_to, logged.position)
            count += 1
        return count

    def claim(self, now_s: float) -> tuple[str, Lane] | None:
        """A lane that is due, for the caller alone until ``taken``, ``missed`` or ``release``."""
        for key, lane in self._lanes.items():
            if not lane.busy and lane.due_s <= now_s:
                lane.busy = True
                return key, lane
        return None

    def next_due_s(self) -> float | None:
        """When a lane that nobody is at is due; None: there is none."""
        return min((lane.due_s for lane in self._lanes.values() if not lane.busy), default=None)

    def found(self, key: str, entries: Sequence[Logged], *, looked_to: int) -> None:
        """What a look into the log brought for a lane that held nothing.

        Args:
            key: of the lane.
            entries: its events from its position on, ``MOST_HELD`` at most.
            looked_to: the position up to which these are all of them.
        """
        lane = self._lanes[key]
        lane.held.extend(entries)
        lane.more = looked_to < self.read_to
        if entries:
            self._stand(lane, entries[0].position)
        elif lane.more:
            self._stand(lane, looked_to + 1)
        else:
            del self._lanes[key]

    def taken(self, key: str) -> None:
        """The first event of a lane was dealt with."""
        lane = self._lanes.pop(key)
        done = lane.held.popleft()
        if not (lane.held or lane.more):
            return
        after = lane.held[0].position if lane.held else done.position + 1
        fresh = Lane(position=after, held=lane.held, more=lane.more)
        self._lanes[key] = fresh  # at the end: others first

    def answered(self, now_s: float) -> None:
        """The other side is there; see rule 3."""
        for lane in self._lanes.values():
            if lane.away and not lane.busy:
                lane.away, lane.due_s = False, now_s

    def missed(self, key: str, *, due_s: float, away: bool) -> None:
        """The first event of a lane was not taken; it is tried again."""
        lane = self._lanes[key]
        lane.busy, lane.due_s, lane.away = False, due_s, away
        lane.tries += 1

    def release(self, key: str, *, due_s: float) -> None:
        """Nothing was tried."""
        if key in self._lanes:
            self._lanes[key].busy, self._lanes[key].due_s = False, due_s

    @property
    def failing(self) -> bool:
        """Whether a lane waits for another try."""
        return any(lane.tries for lane in self._lanes.values())

    def _join(self, logged: Logged, key: str) -> bool:
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= MOST_LANES:
                return False
            self._lanes[key] = Lane(position=logged.position, held=deque([logged]))
        elif lane.more or len(lane.held) >= MOST_HELD:
            lane.more = True
        else:
            lane.held.append(logged)
        return True

    @staticmethod
    def _stand(lane: Lane, position: int) -> None:
        """A lane whose first event is gone from the log begins anew with the next."""
        if position != lane.position:
            lane.position, lane.since, lane.tries = position, "", 0
