"""The one place where events enter the log and move the twin.

Rules:

1. What belongs together is one transaction: frames, events, what the twin raises from them, and
   whatever the caller adds. Only after it does anybody hear of it.
2. The twin is folded in log order, each entry once: an entry the log knew already moves nothing.
3. A decision (an order, a time-out) reads the state and writes its events under the same lock.
4. Every so often the state is kept with its position: a start replays the log behind it, and a
   state of the past is folded from there.
5. Several hubs may write to one log. Their transactions go on one at a time, and each first folds
   what the others wrote: so every hub decides by the same state, and raises an event once. A hub
   that writes nothing folds what the others wrote by ``catch_up``.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from lineside.core import Clock, FrameId, Json, NotFoundError, Plant, new_id
from lineside.hub.eventlog.topics import hub_source
from lineside.store import FrameRow, LogEntry, Logged, Records, anchor
from lineside.streams import PREDICTION_TYPE, Event, decode_event, encode_event
from lineside.twin import (
    CHECKPOINT_EVERY,
    LineState,
    Snapshot,
    apply,
    due,
    initial,
    load_snapshot,
    rebuild,
    save_checkpoint,
    save_snapshot,
)

logger = logging.getLogger(__name__)

_PAGE = 500
_MOST_PENDING_PINS = 1000
_MOST_ROUNDS = 10

SERIAL = "ledger"
"""Name of the transactions that write to the log; see ``Records.serialise``."""

TransactionWrite = Callable[[list[Logged]], None]
Listener = Callable[["Commit"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One committed transaction: the events as logged, those raised, the state after.

    ``at`` is when it was committed, or read; ``by_others``: another program wrote it.
    """

    logged: tuple[Logged, ...]
    events: tuple[Event, ...]
    raised: tuple[Event, ...]
    new_frames: int
    state: LineState
    at: datetime
    by_others: bool = False


def to_entry(event: Event) -> LogEntry:
    """An event as the log takes it."""
    return LogEntry(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        captured_at=event.time,
        body=encode_event(event),
    )


class FairLock:
    """A re-entrant lock that goes to a waiting thread before it goes back to the last holder.

    Python's own goes to the first caller after the release, often the last holder: a writer with a
    backlog would keep rules out for as long as that lasts.
    """

    def __init__(self) -> None:
        self._first = threading.Lock()  # held by the first of those who wait
        self._held = threading.Lock()
        self._owner = 0
        self._depth = 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            with self._first:
                self._held.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *raised: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._held.release()


class Ledger:
    """Events in, state out; every writer of the hub goes through here."""

    def __init__(
        self, records: Records, *, plant: Plant, clock: Clock,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """``observe`` gets the seconds of each transaction that wrote, with its commit."""
        self._records = records
        self._plant = plant
        self._clock = clock
        self._observe = observe
        self._lock = FairLock()
        self._state = initial(plant)
        self._position = 0
        self._committed = 0
        self._newest: dict[tuple[str, str], int] = {}
        self._snapshot_position = 0
        self._checkpoint: tuple[int, object] | None = None  # part of the log, and whose twin
        self._is_stale = False
        self._listeners: list[Listener] = []
        self._pending_pins: dict[str, list[str]] = {}
        self._commit_lock = threading.Lock()
        self._commit_conditions: dict[tuple[str, str], threading.Condition] = {}

    @property
    def clock(self) -> Clock:
        """The clock of its times."""
        return self._clock

    @property
    def state(self) -> LineState:
        """The twin after the last commit."""
        return self._state

    @property
    def position(self) -> int:
        """Log position up to which the twin is folded."""
        return self._position

    @property
    def committed(self) -> int:
        """The newest log position that readers find; ``position`` runs ahead of a commit."""
        return self._committed

    def newest(self, *, source: str = "", type: str = "") -> int:  # noqa: A002  as ``EventLog.read``
        """A committed position behind which this ledger wrote nothing of that source and type.

        "" is any. The first call returns ``committed``.
        """
        if not source and not type:
            return self._committed
        return self._newest.setdefault((source, type), self._committed)

    def commit_condition(self, *, source: str = "", type: str = "") -> threading.Condition:  # noqa: A002  as ``EventLog.read``
        """A condition that is notified when entries of that source and type are committed."""
        with self._commit_lock:
            new = threading.Condition(self._commit_lock)
            return self._commit_conditions.setdefault((source, type), new)

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` after each commit, in order, on the writer's thread; be quick."""
        self._listeners.append(listener)

    def rebuild(self) -> int:
        """Bring the twin up from its kept state and the log behind it; positions replayed."""
        with self._lock:
            snapshot = load_snapshot(self._records.documents, plant=self._plant)
            built = rebuild(
                self._records.log, plant=self._plant, snapshot=snapshot,
                keep=self._records.documents,
            )  # fmt: skip
            self._state, self._position = built.state, built.position
            self._committed = built.position
            self._snapshot_position = snapshot.position if snapshot else 0
            self._is_stale = False
            return self._position - self._snapshot_position

    def change_plant(self, change: Callable[[], None]) -> None:
        """Change the plant between two commits; a twin declared otherwise is folded anew.

        Raises:
            UnavailableError: it cannot be folded now. The plant has changed; call again, and until
                then no snapshot is kept of what the twin was before.
        """
        with self._lock:
            before = self._plant.twin
            change()
            self._is_stale |= self._plant.twin != before
            if self._is_stale:
                self.rebuild()

    def record(
        self, events: Sequence[Event], *, frames: Sequence[FrameRow] = (),
        within: TransactionWrite | None = None,
    ) -> Commit:  # fmt: skip
        """Commit events and frames, move the twin, call the listeners.

        Args:
            events: in the order they happened to arrive; ids already there change nothing.
            frames: rows whose blobs are already kept.
            within: further writes of the same transaction; gets the entries as logged.
        """
        with self._transaction() as commits:
            commits.append(self._write(events, frames, within=within))
        return commits[-1]

    def decide(self, decision: Callable[[LineState], Sequence[Event]]) -> Commit | None:
        """Commit the events that ``decision`` makes of the present state, under the lock."""
        with self._transaction() as commits:
            events = decision(self._state)
            if events:
                commits.append(self._write(events, (), within=None))
        return commits[-1] if events else None

    def catch_up(self) -> int:
        """Fold what other programs wrote to the log since; how many entries that were."""
        with self._lock:
            before = self._state, self._position
            try:
                others = self._fold_others()
            except BaseException:
                self._state, self._position = before
                raise
            self._announce(others)
        return sum(len(one.logged) for one in others)

    def pass_time(self) -> Commit | None:
        """Commit what falls due by time alone: releases, discrepancies that lasted."""

        def fall_due(state: LineState) -> Sequence[Event]:
            return due(state, now=self._clock.now(), plant=self._plant)

        return self.decide(fall_due) if fall_due(self._state) else None

    def anchor(self) -> None:
        """Name the heads of all chains in the hub's own, unless nothing came since."""
        source = hub_source(self._plant.site)
        with self._transaction() as commits:
            anchored = anchor(self._records.log, clock=self._clock, source=source)
            if anchored is not None:
                self._position = anchored.position
                commits.append(self._commit_of([anchored], [_event_of(anchored)]))

    def keep_snapshot(self) -> None:
        """Write the state down so that the next start replays little."""
        with self._lock:
            if self._is_stale or self._position == self._snapshot_position:
                return
            snapshot = Snapshot(state=self._state, position=self._position)
            save_snapshot(self._records.documents, snapshot, plant=self._plant)
            part = self._position // CHECKPOINT_EVERY, self._plant.twin
            if part != self._checkpoint:
                save_checkpoint(self._records.documents, snapshot, plant=self._plant)
                self._checkpoint = part
            self._snapshot_position = self._position

    @contextmanager
    def _transaction(self) -> Iterator[list[Commit]]:
        """One transaction over the true state; its readers and listeners hear of it afterwards.

        Yields the list of commits to announce; those of other hubs stand in it already.
        """
        with self._lock:
            before = self._state, self._position, self._snapshot_position
            begun_s = self._clock.monotonic()
            try:
                with self._records.transaction():
                    self._records.serialise(SERIAL)
                    commits = self._fold_others()
                    yield commits
            except BaseException:
                self._state, self._position, self._snapshot_position = before
                self._checkpoint = None
                raise
            if any(not commit.by_others for commit in commits):
                self._observe(self._clock.monotonic() - begun_s)
            at = self._clock.now()
            commits[:] = [replace(commit, at=at) for commit in commits]
            self._announce(commits)

    def _announce(self, commits: Sequence[Commit]) -> None:
        # Its readers start on it while the listeners are told.
        events = [one for commit in commits for one in (*commit.events, *commit.raised)]
        self._wake({(one.source, one.type) for one in events})
        for commit in commits:
            for listener in self._listeners:
                listener(commit)

    def _fold_others(self) -> list[Commit]:
        """Fold what stands in the log behind the twin; what it raises stands there too.

        No writer of the log is under way but those that move no twin: what is there is complete.
        """
        commits: list[Commit] = []
        read = self._records.log.read
        while page := read(after=self._position, limit=_PAGE, unsettled=True):
            events = [_event_of(logged) for logged in page]
            for event in events:
                self._fold(event)
                self._expect_frame(event)
            self._position = page[-1].position
            commits.append(replace(self._commit_of(page, events), by_others=True))
        return commits

    def _commit_of(self, logged: Sequence[Logged], events: Sequence[Event]) -> Commit:
        return Commit(
            logged=tuple(logged), events=tuple(events), raised=(), new_frames=0,
            state=self._state, at=self._clock.now(),
        )  # fmt: skip

    def _write(
        self,
        events: Sequence[Event],
        frames: Sequence[FrameRow],
        *,
        within: TransactionWrite | None,
    ) -> Commit:
        new_frames = self._records.frames.add(frames) if frames else 0
        self._pin_waiting(frames)
        logged = self._append(events)
        raised, fresh = self._fold_new(events, logged), list[Event]()
        for _ in range(_MOST_ROUNDS):
            if not raised:
                break
            fresh += raised
            raised = self._fold_new(raised, self._append(raised))
        if within is not None:
            within(logged)
        if self._position - self._snapshot_position >= CHECKPOINT_EVERY:
            self.keep_snapshot()
        written = self._commit_of(logged, events)
        return replace(written, raised=tuple(fresh), new_frames=new_frames)

    def _wake(self, written: set[tuple[str, str]]) -> None:
        """Let readers of the log know how far they may read, by the sources and types written."""
        if self._position == self._committed:
            return
        kinds = {("", "")}.union(
            *(((source, name), (source, ""), ("", name)) for source, name in written)
        )
        with self._commit_lock:
            self._committed = self._position
            for kind in kinds & self._newest.keys():
                self._newest[kind] = self._position
            for kind in kinds & self._commit_conditions.keys():
                self._commit_conditions[kind].notify_all()

    def _append(self, events: Sequence[Event]) -> list[Logged]:
        return self._records.log.append([to_entry(event) for event in events]) if events else []

    def _fold_new(self, events: Sequence[Event], logged: Sequence[Logged]) -> list[Event]:
        raised: list[Event] = []
        for event, entry in zip(events, logged, strict=True):
            if entry.duplicate:
                continue
            raised += self._fold(event)
            self._position = max(self._position, entry.position)
            self._pin(event)
        return raised

    def _fold(self, event: Event) -> tuple[Event, ...]:
        applied = apply(self._state, event, plant=self._plant)
        self._state = applied.state
        return applied.raised

    def _pin(self, event: Event) -> None:
        """Frames that orders and rule events name may not age out."""
        frame = self._expect_frame(event)
        if frame is not None:
            self._records.frames.pin([frame], reason=_pin_reason(event))

    def _expect_frame(self, event: Event) -> FrameId | None:
        """The frame that an event keeps, if it is there; if not, it is pinned when it comes."""
        if event.type == PREDICTION_TYPE or event.type.startswith("lineside.plant."):
            return None
        frame = event.data.get("frame")
        if not isinstance(frame, str) or not frame or "\0" in frame:  # of which PostgreSQL has none
            return None
        try:
            return self._records.frames.get(FrameId(frame)).id
        except NotFoundError:
            self._wait_to_pin(frame, _pin_reason(event))
            return None

    def _wait_to_pin(self, frame: str, reason: str) -> None:
        """The event came before its frame; the oldest such wait is given up when full."""
        while len(self._pending_pins) >= _MOST_PENDING_PINS:
            self._pending_pins.pop(next(iter(self._pending_pins)))
        self._pending_pins.setdefault(frame, []).append(reason)

    def _pin_waiting(self, frames: Sequence[FrameRow]) -> None:
        for row in frames if self._pending_pins else ():
            for reason in self._pending_pins.pop(row.id, ()):
                self._records.frames.pin([row.id], reason=reason)


def _event_of(logged: Logged) -> Event:
    return decode_event(logged.entry.body, where=f"log position {logged.position}")


def _pin_reason(event: Event) -> str:
    order: Any = event.data.get("order", "")
    if event.type.startswith("lineside.order.") and isinstance(order, str) and order:
        return f"order:{order}"
    return f"event:{event.id}"


class Journal(Protocol):
    """Where events are written, with further writes of the same transaction."""

    def record(
        self, events: Sequence[Event], *, within: Callable[[list[Logged]], None] | None = None
    ) -> object:
        """Commit the events, and what ``within`` writes, or nothing of both."""
        ...


class RecordsJournal:
    """Journal over open records for programs beside the hub; it folds no twin."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def record(
        self, events: Sequence[Event], *, within: Callable[[list[Logged]], None] | None = None
    ) -> object:
        with self._records.transaction():
            self._records.serialise(SERIAL)
            logged = self._records.log.append([to_entry(event) for event in events])
            if within is not None:
                within(logged)
        return logged


def person_event(
    kind: str, *, subject: str, site: str, clock: Clock, data: Mapping[str, Json]
) -> Event:
    """An event about a person's action; each call makes another one."""
    return Event(
        id=new_id("evt", clock=clock),
        source=hub_source(site),
        type=kind,
        subject=subject,
        time=clock.now(),
        data=dict(data),
    )
