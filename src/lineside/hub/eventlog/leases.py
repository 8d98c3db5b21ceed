"""Leases of a hub: which of the hubs at one database does what.

1. A *part* is what one hub at a time may do: read a bus session, follow the log with one position,
   let time pass. Its lease is a row in the records; see ``lineside.store.Leases``.
2. One thread renews every lease of this hub each ``TURN_S``, together with the hub's presence. A
   hub that is killed or stopped loses them after ``LENGTH_S``; the others see that within a turn.
3. Every hub takes its share of the parts. One that joins gets its share from those that have
   more: they end a part before they give it up. A part that no other hub takes within
   ``LENGTH_S`` is taken by whoever knows it (others may have other settings), and kept.
4. A part asks ``hold`` before each of its turns. After a long stop the answer is no, by this
   machine's own monotonic clock, without asking the database.
5. Between the question and a write a hub may stand still for any time. So writes that another
   holder's could be mixed up with call ``check`` in their transaction; all others are of a kind
   that changes nothing when it is done twice.
6. Where the records are a file of this hub alone, it holds everything.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lineside.core import Clock, ConflictError, LinesideError
from lineside.core.worker import Worker
from lineside.store import Lease, Records

logger = logging.getLogger(__name__)

LENGTH_S = 5.0
TURN_S = 1.0
_SAFETY_S = 0.5
_LOOK_S = 0.2
_STUCK_S = 60.0
_PRESENCE = "hub/"


class PartLease:
    """The right of this hub to run one part; made by ``HubLeases.lease``."""

    def __init__(self, name: str, *, leases: "HubLeases") -> None:
        self.name = name
        self._leases = leases
        self._held: Lease | None = None
        self._until_s = 0.0
        self._is_asked_back = False
        self.is_given_up = False
        self.is_ended = False

    @property
    def is_alone(self) -> bool:
        """True if no other hub can be there."""
        return self._leases.alone

    @property
    def token(self) -> int:
        """Another one after each time that another hub had it; 0 while this one has not."""
        return self._held.token if self._held is not None else 0

    @property
    def is_held(self) -> bool:
        """True while this hub has it."""
        in_time = self._leases.clock.monotonic() < self._until_s
        return self._leases.alone or (self._held is not None and in_time)

    @property
    def may_run(self) -> bool:
        """True while the part may go on: this hub has it, and no other one requested it."""
        return self.is_held and not self._is_asked_back

    def hold(self) -> bool:
        """Return True if the part may go on; after False it stands still.

        One thread of a part calls this; others look at ``is_held``.
        """
        if self._is_asked_back:
            self.is_given_up = True
            return False
        return self.is_held

    def check(self) -> None:
        """Make sure, until the end of the transaction, that no other hub runs the part.

        Raises:
            ConflictError: another hub may run it by now.
        """
        if self._leases.alone:
            return
        held = self._held
        if held is None:
            raise ConflictError(
                f"this hub no longer holds {self.name!r}", where="leases",
                fix="Nothing: another hub goes on with it.",
            )  # fmt: skip
        self._leases.records.leases.check(held)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that holds on to the lease; where this hub is alone, none is needed.

        Raises:
            ConflictError: another hub may run the part by now; nothing was written.
        """
        if self._leases.alone:
            yield
            return
        with self._leases.records.transaction():
            self.check()
            yield

    def release(self) -> None:
        """Say that the part has ended for good in this hub."""
        self.is_given_up = self.is_ended = True

    # ---- by the thread that renews

    def ask_back(self) -> None:
        """Let the part end its turn."""
        self._is_asked_back = True

    def forget(self) -> None:
        """It was given up, and the records say so."""
        self._held, self._is_asked_back, self.is_given_up = None, False, False

    def give(self, lease: Lease | None, *, until_s: float) -> None:
        """Read the lease's state from the records."""
        if lease is not None and (self._held is None or self._held.token != lease.token):
            logger.info("part taken over name=%s hub=%s", self.name, lease.holder)
        elif lease is None and self._held is not None:
            logger.info("part lost to another hub name=%s", self.name)
        self._held, self._until_s = lease, until_s


class LeasedPart:
    """A part that is opened when this hub gets its lease, and closed when it is lost."""

    def __init__(self, lease: PartLease, *, opener: Callable[[], Callable[[], None]]) -> None:
        """``opener`` begins the part and returns what ends it."""
        self._lease = lease
        self._opener = opener
        self._close: Callable[[], None] | None = None
        self._is_outdated = False
        self._worker = Worker(f"part-{lease.name}", self.step, every_s=_LOOK_S, delay_s=_LOOK_S)

    def start(self) -> None:
        """Begin, at once where there is nobody to share with.

        Raises:
            LinesideError: whatever ``opener`` raises, where this hub is alone.
        """
        if self._lease.is_alone:
            self._close = self._opener()
        else:
            self._worker.start()

    def stop(self) -> None:
        """Close the part and let another hub have it."""
        self._worker.stop()
        self._end()
        self._lease.release()

    def step(self) -> None:
        """Open or close the part, as the lease is."""
        if self._is_outdated:
            self._end()
        if not self._lease.may_run:
            self._end()
            self._lease.hold()
        elif self._close is None:
            self._close = self._opener()

    def reopen(self) -> None:
        """Close the part and open it once more, where this hub has it.

        Raises:
            LinesideError: whatever ``opener`` raises, where this hub is alone; call again.
        """
        if not self._lease.is_alone:
            self._is_outdated = True
            self._worker.wake()
            return
        self._end()
        self._close = self._opener()

    def _end(self) -> None:
        self._is_outdated = False
        close, self._close = self._close, None
        if close is not None:
            close()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseShares:
    """Parts that a hub takes now, and parts that it hands over."""

    take: tuple[str, ...] = ()
    give: tuple[str, ...] = ()


def shares(parts: Sequence[str], *, held: Mapping[str, str], hubs: int, me: str) -> LeaseShares:
    """Divide the parts among the hubs that are there, so that each has as many as the others.

    Args:
        parts: what this hub can do.
        held: who does what now.
        hubs: how many are there, with this one.
        me: this hub.
    """
    most = -(-len(parts) // hubs)
    mine = [part for part in parts if held.get(part) == me]
    free = [part for part in parts if part not in held]
    spread = [*free[::hubs], *(part for at, part in enumerate(free) if at % hubs)]
    return LeaseShares(
        take=tuple(spread[: max(0, most - len(mine))]),
        give=tuple(mine[1::2][: max(0, len(mine) - most)]),
    )


class HubLeases:
    """The parts of one hub, and the thread that renews their leases."""

    def __init__(self, records: Records, *, hub: str, clock: Clock, alone: bool) -> None:
        self.records = records
        self.clock = clock
        self.hub = hub
        self.alone = alone
        self._lock = threading.Lock()
        self._parts: dict[str, PartLease] = {}
        self._free_since_s: dict[str, float] = {}
        self._unshared: set[str] = set()
        self._worker = Worker(
            "leases", self.step, every_s=TURN_S, longest_retry_s=TURN_S, stuck_s=_STUCK_S
        )

    def lease(self, name: str) -> PartLease:
        """The lease of a part; asked for twice, it is the same until the part has ended."""
        with self._lock:
            found = self._parts.get(name)
            if found is None or found.is_ended:
                found = self._parts[name] = PartLease(name, leases=self)
        self._worker.wake()
        return found

    def figures(self) -> dict[str, dict[str, float]]:
        """For each part whether this hub runs it, for ``/metrics``."""
        with self._lock:
            parts = list(self._parts.values())
        return {part.name: {"held": float(part.is_held)} for part in parts}

    def start(self) -> None:
        """Take this hub's share, by a thread of its own."""
        if not self.alone:
            self._worker.start()

    def stop(self) -> None:
        """End; the others need not wait for the leases' end. Call it after the parts have ended."""
        if not self._worker.is_alive:
            return
        self._worker.stop()
        try:
            names = [_PRESENCE + self.hub, *self._parts]
            self.records.leases.release(names, holder=self.hub)
        except LinesideError as error:
            logger.info("leases not given up, they end by themselves reason=%s", error)

    def step(self) -> None:
        """Renew, look who is there, take and hand over; by one thread."""
        leases, presence = self.records.leases, _PRESENCE + self.hub
        self._give_up()
        with self._lock:
            parts = dict(self._parts)
        begun_s = self.clock.monotonic()
        mine = {one.name: one for one in self._renewed([presence, *parts])}
        held = {one.name: one.holder for one in leases.held()}
        hubs = {name.removeprefix(_PRESENCE) for name in held if name.startswith(_PRESENCE)}
        self._unshared = {name for name in self._unshared if held.get(name) in {None, self.hub}}
        shared = [name for name in parts if name not in self._unshared]
        plan = shares(shared, held=held, hubs=len({*hubs, self.hub}), me=self.hub)
        wanted = [*plan.take, *self._neglected(parts, held=held)]
        if wanted:
            taken = leases.take(wanted, holder=self.hub, length_s=LENGTH_S)
            mine |= {one.name: one for one in taken}
        until_s = begun_s + LENGTH_S - _SAFETY_S
        for name, part in parts.items():
            part.give(mine.get(name), until_s=until_s)
            if name in plan.give:
                part.ask_back()

    def _give_up(self) -> None:
        """Release the leases of parts that stand still."""
        with self._lock:
            parts = [part for part in self._parts.values() if part.is_given_up]
        if not parts:
            return
        self.records.leases.release([part.name for part in parts], holder=self.hub)
        for part in parts:
            part.forget()
            with self._lock:
                if part.is_ended and self._parts.get(part.name) is part:
                    del self._parts[part.name]

    def _renewed(self, names: Sequence[str]) -> list[Lease]:
        leases = self.records.leases
        kept = leases.renew(names, holder=self.hub, length_s=LENGTH_S)
        if names[0] not in {one.name for one in kept}:
            kept += leases.take(names[:1], holder=self.hub, length_s=LENGTH_S)
        return kept

    def _neglected(self, parts: Mapping[str, PartLease], *, held: Mapping[str, str]) -> list[str]:
        """Parts that nobody took for a lease's length; from now on they are this hub's own."""
        now_s = self.clock.monotonic()
        free = [name for name in parts if name not in held]
        self._free_since_s = {name: self._free_since_s.get(name, now_s) for name in free}
        found = [name for name in free if now_s - self._free_since_s[name] >= LENGTH_S]
        self._unshared.update(found)
        return found
