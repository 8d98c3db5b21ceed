"""Spans of the event log by time, and the twin as it stood at a time of the past.

1. The twin at a time is the fold of every entry that had arrived by then: it is what pages and
   readers were told at that moment, whatever was captured before and came later.
2. The fold begins at the newest checkpoint before that time and keeps those that are missing, so
   that some thousand entries are folded, however long the log is. A replay and a command keep
   none: they write nothing.
3. Values and places are those that the plant declares now.
4. Where old entries were forgotten, history begins at the first checkpoint behind them: from there
   on it is whole.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lineside.core import NotFoundError, Plant, parse_rfc3339, rfc3339
from lineside.store import CHECKPOINT, Documents, EventLog, Logged, Records, every_document
from lineside.twin import LineState, first_checkpoint, load_checkpoint, rebuild

_PAGE = 1000
_GRACE = timedelta(minutes=1)
_FOLD_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySpan:
    """The times of which the twin is known: of arrival at the hub, both ends included."""

    begin: datetime
    end: datetime


def twin_at(
    records: Records, at: datetime, *, plant: Plant, keep: Documents | None = None
) -> LineState:
    """Return the twin after everything that had arrived by ``at``; one before the log is empty.

    Args:
        records: with the log and its checkpoints.
        at: a time.
        plant: whose twin.
        keep: gets the checkpoints that are missing; None: nothing is written.
    """
    upto = _last_by(records.log, at)
    kept = load_checkpoint(records.documents, upto=upto, plant=plant)
    return rebuild(records.log, plant=plant, snapshot=kept, until=at, keep=keep).state


def known_twin_at(
    records: Records, at: str, *, plant: Plant, now: datetime, keep: Documents | None = None
) -> tuple[LineState, datetime]:
    """Return the twin at a time as people and programs write it, and that time.

    One caller folds at a time: the next begins at the checkpoints that it kept.

    Args:
        records: with the log and its checkpoints.
        at: RFC 3339.
        plant: whose twin.
        now: history ends then.
        keep: gets the checkpoints that are missing; None: nothing is written.

    Raises:
        InvalidError: no RFC 3339 time.
        NotFoundError: the log does not reach back so far, or the time has not come.
    """
    moment = parse_rfc3339(at, where="at")
    span = history_span(records, plant=plant, now=now)
    if span is None:
        raise NotFoundError("the log is empty", where="at", fix="Ask again once something came.")
    if not span.begin <= moment <= span.end:
        raise NotFoundError(
            f"no state of the twin at {rfc3339(moment)}", where="at",
            fix=f"The log holds what arrived from {rfc3339(span.begin)} until now, "
            f"{rfc3339(span.end)}.",
        )  # fmt: skip
    with _FOLD_LOCK:
        return twin_at(records, moment, plant=plant, keep=keep), moment


def _last_by(log: EventLog, at: datetime) -> int:
    """The position of the last entry before the first that arrived after ``at``."""
    position = position_before(log, at)
    while page := log.read(after=position, limit=_PAGE):
        for logged in page:
            if logged.arrived_at > at:
                return position
            position = logged.position
    return position


def history_span(records: Records, *, plant: Plant, now: datetime) -> HistorySpan | None:
    """Return from when until ``now`` the twin's history is whole; None while the log is empty."""
    newest = records.log.read(newest_first=True, limit=1)
    if not newest:
        return None
    begin = _first_whole(records, newest[0], plant=plant)
    return HistorySpan(begin=begin.arrived_at, end=max(now, newest[0].arrived_at))


def _first_whole(records: Records, newest: Logged, *, plant: Plant) -> Logged:
    """The entry at which history begins."""
    log, forgotten = records.log, 0
    for document in every_document(records.documents, CHECKPOINT):
        try:
            anchor = log.get(str(document.body.get("anchor", "")))
        except NotFoundError:  # a newer one has taken its place
            continue
        forgotten = max(forgotten, anchor.position)
    if not forgotten:
        return log.read(limit=1)[0]
    kept = first_checkpoint(records.documents, since=forgotten, upto=newest.position, plant=plant)
    if kept is None:
        return newest
    return next(iter(log.read(after=kept.position - 1, limit=1)), newest)


def span_of(log: EventLog, *, since: datetime, until: datetime) -> Iterator[Logged]:
    """Entries that arrived from ``since`` on and before ``until``, in log order."""
    after = position_before(log, since)
    while page := log.read(after=after, limit=_PAGE):
        for logged in page:
            if logged.arrived_at >= until:
                return
            if logged.arrived_at >= since:
                yield logged
        after = page[-1].position


def position_before(log: EventLog, since: datetime) -> int:
    """A position behind which everything that arrived from ``since`` on stands.

    Positions grow with arrival but for clocks set back, hence the minute's grace.
    """
    newest = log.read(newest_first=True, limit=1)
    low, high = 0, newest[0].position if newest else 0
    wanted = earlier(since, by=_GRACE)
    while low < high:
        middle = (low + high) // 2
        found = log.read(after=middle, limit=1)
        if found and found[0].arrived_at < wanted:
            low = found[0].position
        else:
            high = middle
    return low


def earlier(at: datetime, *, by: timedelta) -> datetime:
    """So long before a time, or where times begin: the year 1 is no fault of who asks for it."""
    first = datetime.min.replace(tzinfo=UTC)
    return at - by if at - first > by else first
