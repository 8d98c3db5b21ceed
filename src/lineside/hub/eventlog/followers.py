"""Followers of the event log: one reader for everything that the log feeds.

1. Entries are handled in log order and the position is written afterwards: after a crash the last
   entries come once more, none is left out.
2. ``UnavailableError`` is about the other side: the page is tried again, later and later, for as
   long as that takes. The log waits.
3. Any other error is about a record. The page is handled again entry by entry, the bad one goes to
   the follower's quarantine with the reason, and the rest goes on. A conflict or a failure of the
   machine can be either: it is blamed on the record when it came ``DOUBTFUL_TRIES`` times.
4. With a full quarantine a follower begins no further page: no record is dropped unless a person
   discards it.
5. People ask for another try; the follower's own thread makes it, so a handler has one caller.
6. A follower whose handler is a fold over the log in its order (rules, drift, counts) skips a bad
   entry for good: the entry is listed and counted, and can be discarded, not tried again.
7. A follower with a lease works only while it holds it; see ``PartLease``.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from lineside.core import (
    ConflictError,
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    UnavailableError,
)
from lineside.core.errors import MissingExtraError
from lineside.core.worker import Worker
from lineside.hub.eventlog.dead_letters import Quarantine, QuarantinedRecord
from lineside.hub.eventlog.leases import HubLeases, PartLease
from lineside.hub.eventlog.ledger import Ledger, person_event
from lineside.store import Logged, Records

logger = logging.getLogger(__name__)

FOLLOWER_TYPE = "lineside.follower.v1"
"""Type of the events that say who asked for another try, or discarded a record."""
DOUBTFUL_TRIES = 10
_PAGE = 200
_WAIT_S = 1.0
_FIRST_RETRY_S = 0.2
_STUCK_S = 600.0
_REFRESH_EVERY = 10
_STANDBY_EVERY = 5


class Rejection(NamedTuple):
    """An entry that a handler could not take, while it took the others of the page."""

    logged: Logged
    reason: str


class WaitReason(NamedTuple):
    """Since when a follower waits, and for what."""

    since: datetime
    reason: str


Handle = Callable[[Sequence[Logged]], Iterable[Rejection] | None]


class FollowerState(StrEnum):
    """State of a follower."""

    RUNNING = "running"
    WAITING = "waiting"
    STANDBY = "standby"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerView:
    """A follower as it stands.

    Attributes:
        state: ``waiting``: for the other side; ``standby``: another hub runs it; ``stopped``: its
            thread does not run.
        position: in the log, up to which everything was handled or quarantined.
        lag: log positions behind it that were not looked at yet.
        lag_s: age of the oldest entry that was not handled yet; 0 where none waits.
        since, reason: of waiting.
        quarantined: records set aside.
        retryable: whether they can be tried again; a fold over the log in its order cannot.
    """

    name: str
    state: FollowerState
    position: int
    lag: int
    lag_s: float
    since: datetime | None
    reason: str
    quarantined: int
    retryable: bool


def follow_from_now(name: str, *, records: Records, ledger: Ledger) -> None:
    """A follower that is new begins at what comes; one that was there goes on where it was."""
    try:
        records.documents.get("cursor", name)
    except NotFoundError:
        records.documents.put("cursor", name, body={"position": ledger.committed})


def skip_entry(_logged: Logged) -> None:
    """Skip an entry in a fold that keeps nothing of an entry that failed."""


class Follower:
    """Reader of the log with a thread, a position and a quarantine of its own."""

    def __init__(
        self, name: str, *, records: Records, ledger: Ledger, handle: Handle,
        source: str = "", type: str = "",  # noqa: A002  the CloudEvents attribute's name
        page: int = _PAGE, note_every: int = 1, note_s: float = 0.0, gather_s: float = 0.0,
        settled: Callable[[], int] | None = None,
        quarantine: Quarantine | None = None, skip: Callable[[Logged], None] | None = None,
        retry: Callable[[Logged], object] | None = None, lease: PartLease | None = None,
        resume: Callable[[int], int] | None = None,
        outside: Callable[[], WaitReason | None] | None = None, stuck_s: float = _STUCK_S,
        fills: bool = False,
    ) -> None:  # fmt: skip
        """Stand where the position was noted last.

        Args:
            name: of its position and its quarantine.
            records: the log, and where the position is kept.
            ledger: what says that the log grew.
            handle: takes one page; what it returns is quarantined.
            source: of the entries that it reads; "" for all.
            type: of these entries; "" for all.
            page: entries handled at once.
            note_every: positions after which the position is noted; what is behind comes again
                after a crash.
            note_s: seconds between two such notes.
            gather_s: wait after waking, so that entries which come singly make one page.
            settled: the position up to which nothing need come again; else all that was handled.
            quarantine: where bad records go; by default one of its own.
            skip: for a fold: brings it past an entry that failed. Nothing is tried again then.
            retry: takes one quarantined entry again; ``handle`` by default.
            lease: it works only while it holds this.
            resume: given the noted position, brings the handler up and returns where it goes on;
                called here, whenever the lease was taken, and now and then while another has it.
            outside: what the handler's own threads wait for.
            stuck_s: a page in hand for longer than this makes the hub unready.
            fills: it begins with a log that may be long, so its lag counts as late only once it
                came to the end of the log.
        """
        self.name = name
        self.position: int = 0
        self.quarantine = (
            quarantine if quarantine is not None else Quarantine(records.documents, follower=name)
        )
        self.retryable = skip is None
        self.stuck_s = stuck_s
        self.fills = fills
        self._records = records
        self._ledger = ledger
        self._handle = handle
        self._source, self._type = source, type
        self._commit_condition = ledger.commit_condition(source=source, type=type)
        self._page = page
        self._note_every, self._note_s = note_every, note_s
        self._gather_s = gather_s
        self._settled = settled or (lambda: self.position)
        self._skip = skip
        self._retry = retry or self._handle_one
        self._lease = lease
        self._held = lease is None
        self._resume = resume or (lambda position: position)
        self._outside = outside or (lambda: None)
        self._waiting: WaitReason | None = None
        self._is_idle = False
        self._doubts = 0
        self._turns = 0
        self._oldest: datetime | None = None
        self._worker = Worker(
            f"follow-{name}", self._wait_and_turn, first_retry_s=_FIRST_RETRY_S,
            stuck_s=stuck_s, at_end=self._end, report=self._note_failure,
        )  # fmt: skip
        self._stop = self._worker.stopping
        self._noted = self._looked = 0
        self._noted_s = -math.inf
        self._load()

    # ---- seen from outside

    def share(self, lease: PartLease) -> None:
        """Work only while this lease is held; to be called before ``start``."""
        self._lease, self._held = lease, False

    def start(self) -> None:
        """Begin to follow."""
        self._worker.start()

    def stop(self) -> None:
        """End after the page in hand, and give the lease up."""
        self._worker.request_stop()
        with self._commit_condition:
            self._commit_condition.notify_all()
        self._worker.join()

    @property
    def shared(self) -> bool:
        """Return whether it works by a lease, which another hub may have."""
        return self._lease is not None

    @property
    def behind(self) -> int:
        """Log positions not looked at yet; none where nothing came of what it selected."""
        seen = max(self.position, self._looked)
        if self._ledger.newest(source=self._source, type=self._type) <= seen:
            return 0
        return self._ledger.committed - seen

    def view(self) -> FollowerView:
        """State, position and lag, all from memory."""
        waiting, lag, oldest = self._waiting or self._outside(), self.behind, self._oldest
        late_s = (self._ledger.clock.now() - oldest).total_seconds() if lag and oldest else 0.0
        return FollowerView(
            name=self.name, state=self._state(waiting), position=self.position, lag=lag,
            lag_s=round(max(0.0, late_s), 3), since=waiting.since if waiting else None,
            reason=waiting.reason if waiting else "", quarantined=len(self.quarantine),
            retryable=self.retryable,
        )  # fmt: skip

    def _state(self, waiting: WaitReason | None) -> FollowerState:
        if not self._worker.is_alive:
            return FollowerState.STOPPED
        if not self._held:
            return FollowerState.STANDBY
        return FollowerState.WAITING if waiting else FollowerState.RUNNING

    # ---- one page

    def step(self) -> int:
        """Make the tries that people asked for, then handle one page; how many entries it had."""
        if self.quarantine:
            self._retry_requested()
        end = self._ledger.committed if self._source or self._type else 0
        page = self._records.log.read(
            after=self.position, limit=self._page, source=self._source, type=self._type
        )
        if page:
            self.quarantine.check_capacity()
            self._looked = 0  # from here on what is not handled waits
            self._oldest = page[0].arrived_at
            self._take(page)
            self._oldest = page[-1].arrived_at if len(page) == self._page else None
        if len(page) < self._page:  # what else lies before ``end`` is of other sources or types
            self._looked, self.fills = end, False
            self._note()
        return len(page)

    def _take(self, page: Sequence[Logged]) -> None:
        """Handle a page; where a record of it fails, each entry alone."""
        try:
            rejected = list(self._handle(page) or ())
        except (UnavailableError, MissingExtraError):
            raise
        except Exception as error:  # boundary
            if self._is_doubtful(error):
                raise
            if len(page) > 1:
                for logged in page:
                    self._take([logged])
                return
            if not isinstance(error, LinesideError):
                logger.exception(
                    "record failed follower=%s position=%d", self.name, page[0].position
                )
            rejected = [Rejection(page[0], reason_of(error))]
        for logged, reason in rejected:
            self._set_aside(logged, reason)
        self._doubts = 0
        self.position = page[-1].position
        self._note()

    def _is_doubtful(self, error: Exception) -> bool:
        """Return True if an error may pass by itself, and did not come too often yet."""
        if not isinstance(error, ConflictError | OSError):
            return False
        self._doubts += 1
        return self._doubts < DOUBTFUL_TRIES

    def _set_aside(self, logged: Logged, reason: str) -> None:
        if self._skip is not None:
            self._skip(logged)
        self.quarantine.add(logged, reason, at=self._ledger.clock.now())
        logger.warning(
            "record quarantined follower=%s position=%d event=%s reason=%s",
            self.name, logged.position, logged.entry.id, reason,
        )  # fmt: skip

    def _handle_one(self, logged: Logged) -> None:
        for rejection in self._handle([logged]) or ():
            raise InvalidError(rejection.reason)

    def _retry_requested(self) -> None:
        """Try again what people asked for; what fails again stays, with the new reason."""
        self._turns += 1
        if self._turns % _REFRESH_EVERY == 0:
            self.quarantine.refresh()  # another hub may have discarded some
        requests = self.quarantine.retry_requests()
        for position in requests:
            if self._stop.is_set():
                return
            found = self._records.log.read(after=position - 1, limit=1)
            if not found or found[0].position != position:
                self.quarantine.fail(position, "its event is no longer in the log")
                continue
            try:
                self._retry(found[0])
            except (UnavailableError, MissingExtraError):
                raise
            except Exception as error:  # noqa: BLE001  boundary: the reason is kept
                self.quarantine.fail(position, reason_of(error))
            else:
                self.quarantine.remove(position)
                logger.info("record written follower=%s position=%d", self.name, position)
        if requests:
            self.quarantine.clear_request()

    def _note(self, *, at_end: bool = False) -> None:
        place, now_s = min(self.position, self._settled()), self._ledger.clock.monotonic()
        is_due = now_s >= self._noted_s + self._note_s
        if place - self._noted < (1 if at_end else self._note_every) or not (is_due or at_end):
            return
        with self._lease.writing() if self._lease is not None else nullcontext():
            self._records.documents.put("cursor", self.name, body={"position": place})
        self._noted, self._noted_s = place, now_s

    def _load(self) -> None:
        """Stand where the position was noted last, whoever noted it."""
        try:
            noted = int(self._records.documents.get("cursor", self.name).body["position"])
        except NotFoundError:
            noted = 0
        self.position = noted  # what ``resume`` reads may ask for it
        self.position = self._resume(noted)
        self._noted = self._looked = self.position
        self.quarantine.refresh()

    # ---- the thread

    def turn(self) -> bool:
        """Handle one page if this hub may; False where there is something to wait for."""
        if not self._has_lease():
            return False
        handled = self.step()
        self._waiting = None
        return handled == self._page

    def _wait_and_turn(self) -> float:
        """Take a turn, after waiting for entries; returns the seconds until the next."""
        is_idle, self._is_idle = self._is_idle, False
        if is_idle:
            with self._commit_condition:
                self._commit_condition.wait_for(
                    lambda: self._stop.is_set() or self.behind > 0, timeout=_WAIT_S
                )
            if self._gather_s and self.behind:
                self._stop.wait(self._gather_s)
        if self._stop.is_set():
            return 0.0
        self._is_idle = not self.turn() and self._held
        return 0.0 if self._held else _WAIT_S

    def _end(self) -> None:
        with suppress(LinesideError):  # what is not noted comes again
            if self._held:
                self._note(at_end=True)
        if self._lease is not None:
            self._lease.release()

    def _note_failure(self, error: Exception | None) -> None:
        """Log when the follower begins to wait and when it goes on; keep since when and why."""
        if error is None:
            logger.info("follower goes on name=%s position=%d", self.name, self.position)
            return
        if self._worker.failures == 1 and isinstance(error, LinesideError):
            logger.warning(
                "follower waits name=%s position=%d reason=%s", self.name, self.position, error
            )
        elif self._worker.failures == 1:
            logger.error(
                "follower failed name=%s position=%d", self.name, self.position, exc_info=error
            )
        since = self._waiting.since if self._waiting else self._ledger.clock.now()
        self._waiting = WaitReason(since, reason_of(error))

    def _has_lease(self) -> bool:
        if self._lease is None:
            return True
        held = self._lease.hold()
        if held and not self._held:
            self._load()
            logger.info("follower taken over name=%s position=%d", self.name, self.position)
        self._held = held
        if not held:
            self._stand_by()
        return held

    def _stand_by(self) -> None:
        """Know, about, how far the hub that holds the lease came; its troubles are not ours."""
        self._waiting = None
        self._turns += 1
        if self._turns % _STANDBY_EVERY == 0:
            self._load()
        else:
            self.quarantine.refresh()


def reason_of(error: Exception) -> str:
    """An error in one line, as people read it."""
    if not isinstance(error, LinesideError):
        return f"{type(error).__name__}: {error}"
    return f"{error.where}: {error.message}" if error.where else error.message


class Followers:
    """All followers of a hub, and what people do with the records they set aside."""

    def __init__(
        self, records: Records, *, ledger: Ledger, site: str, leases: HubLeases | None = None
    ) -> None:
        """``leases``: of the hub, where several share the followers."""
        self._records = records
        self._ledger = ledger
        self._site = site
        self._leases = leases
        self._all: dict[str, Follower] = {}

    def __iter__(self) -> Iterator[Follower]:
        return iter(list(self._all.values()))

    def follow(self, name: str, handle: Handle, *, stack: ExitStack, **more: Any) -> Follower:  # noqa: ANN401  as Follower takes them
        """Make a follower of this hub's log and start it; ended by the stack."""
        follower = Follower(name, records=self._records, ledger=self._ledger, handle=handle, **more)
        self.start(follower, stack=stack)
        return follower

    def start(self, follower: Follower, *, stack: ExitStack, each: bool = False) -> None:
        """Start a follower; ended by the stack.

        ``each``: it runs in each hub, because what it feeds is of that hub.
        """
        if self._leases is not None and not self._leases.alone and not each:
            follower.share(self._leases.lease(follower.name))
        self._all[follower.name] = follower
        stack.callback(follower.stop)
        follower.start()

    def remove(self, name: str) -> None:
        """List a follower no more that has ended and is not wanted; others are told as stopped."""
        self._all.pop(name, None)

    def one(self, name: str) -> Follower:
        """``NotFoundError`` lists the known ones."""
        if name not in self._all:
            known = ", ".join(self._all) or "none"
            raise NotFoundError(f"no follower {name!r}", where="follower", fix=f"Known: {known}.")
        return self._all[name]

    def views(self) -> tuple[FollowerView, ...]:
        """Each as it stands, in the order in which they were started."""
        return tuple(follower.view() for follower in self)

    def figures(self) -> dict[str, dict[str, float]]:
        """For each its figures, for ``/metrics``."""
        return {
            view.name: {
                "position": view.position, "lag": view.lag, "lag_s": view.lag_s,
                "quarantined": view.quarantined,
                **{f"state_{state}": state is view.state for state in FollowerState},
            }
            for view in self.views()
        }  # fmt: skip

    def quarantined(
        self, name: str, *, after: int = 0, limit: int = 100
    ) -> list[QuarantinedRecord]:
        """Records that a follower set aside, oldest first."""
        return self.one(name).quarantine.page(after=after, limit=limit)

    def retry(self, name: str, *, by: str, position: int = 0) -> None:
        """Ask for another try of one record, or of all; the follower makes it within a second.

        Raises:
            NotFoundError: no such follower or record.
            ConflictError: this follower reads the log in order and goes back for nothing.
        """
        follower = self.one(name)
        if not follower.retryable:
            raise ConflictError(
                f"{name} reads the log in its order; what it skipped is not handled later",
                where=name, fix="Discard the record when its cause is mended.",
            )  # fmt: skip
        follower.quarantine.request_retry(position)
        self._record(name, "retried", position=position, by=by)

    def discard(self, name: str, *, by: str, position: int = 0) -> None:
        """Forget one record that was set aside, or all; the event stays in the log.

        Raises:
            NotFoundError: no such follower or record.
        """
        self.one(name).quarantine.discard(position)
        self._record(name, "discarded", position=position, by=by)

    def _record(self, name: str, action: str, *, position: int, by: str) -> None:
        data: dict[str, Json] = {"action": action, "by": by}
        data |= {"position": position} if position else {"all": True}
        event = person_event(
            FOLLOWER_TYPE, subject=name, site=self._site, clock=self._ledger.clock, data=data
        )
        self._ledger.record([event])
