"""Rule events as rows of one table, which the database adds up.

1. An event counts once. The table is filled in log order, so the position of its newest row is how
   far that came, in the same commit; an entry that is not added up has a row too.
2. Of events with one name, only the last in the log counts within the time looked at, at its own
   time. Of a session the last pairs count.
3. A late event is counted as such and nowhere else.
4. A filter by action looks at the events with that action alone, as if there were no others.
5. Most names come once. So a row says whether others have its name; only among those that do is
   the last of each looked for.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

import sqlalchemy as sa

from lineside.store.session import Session
from lineside.store.tables import Count, entries
from lineside.store.tables import rule_events as rows

MOST_LISTED = 5000
"""Keys of an answer at most."""
_COUNTED, _LATE, _LEFT_OUT = range(3)
_FORGOTTEN = 5000
_SECOND_US = 1_000_000
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST = sa.select(sa.func.max(rows.c.position))
_OTHER = rows.alias()
_BEFORE = sa.select(sa.func.max(_OTHER.c.position)).where(
    _OTHER.c.name == sa.bindparam("of"), _OTHER.c.position < sa.bindparam("at")
)
_MARK = (
    sa.update(rows)
    .where(rows.c.position.in_([sa.bindparam("at"), _BEFORE.scalar_subquery()]))
    .where(_BEFORE.scalar_subquery().is_not(None))
    .values(again=1)
)


class PairCount(NamedTuple):
    """Pairs of a session and what is left over, as an event says."""

    session: str
    pairs: int
    unpaired: int


class SumEvent(NamedTuple):
    """A rule event as sums take it.

    Attributes:
        key: the values of its key, in words.
        name: what it is of: later events of the same name take its place.
        at: when it ended.
        position: in the log.
        counted: what it is worth.
        pairs: None where the rule makes no pairs.
    """

    rule: str
    key: str
    action: str
    name: str
    at: datetime
    position: int
    counted: int = 1
    pairs: PairCount | None = None
    late: bool = False


class SeriesSum(NamedTuple):
    """Sums of one key of one rule.

    Attributes:
        series: its number, for ``bars``.
        events: without late ones.
        counted: over the names, as they stood last.
        pair_events: those that said pairs.
        last: when the newest in the log ended.
    """

    series: int
    rule: str
    key: str
    events: int
    counted: int
    pair_events: int
    pairs: int
    unpaired: int
    last: datetime


class EventSums(NamedTuple):
    """Sums of all keys together, and of each of those that counted most.

    Attributes:
        series: the one that counted most first, then by rule and key; not those with late events
            alone.
        keys: how many there are of these, listed or not.
        events: without late ones.
        pair_events: those that said pairs.
        first, last: times of what counts; None where nothing does.
    """

    series: tuple[SeriesSum, ...]
    keys: int
    events: int
    late: int
    pair_events: int
    pairs: int
    unpaired: int
    first: datetime | None
    last: datetime | None


class SqlRuleSums:
    """Rule events by rule, key, action and time, and their sums."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def position(self) -> int:
        """Return the log position up to which events were added; 0 where there are none."""
        with self._session.reading() as connection:
            return int(connection.scalar(_NEWEST) or 0)

    def newest_since(self, most: int) -> datetime | None:
        """Return the time from which on there are ``most`` events; None where there are fewer."""
        query = sa.select(rows.c.at_us).where(rows.c.at_us > _ZERO).order_by(rows.c.at_us.desc())
        query = query.offset(most - 1).limit(1)
        with self._session.reading() as connection:
            found: datetime | None = connection.scalar(query)
            return found

    def add(self, events: Sequence[SumEvent], *, left_out: Sequence[int] = ()) -> None:
        """Add events in log order; what was added before is skipped.

        Args:
            events: of one page of the log.
            left_out: positions of entries of that page that no sum takes.
        """
        made = [*map(_row, events), *map(_left_out, left_out)]
        with self._session.writing() as connection:
            self._session.flavour.serialise(connection, "rule events")
            noted = connection.scalar(_NEWEST) or 0
            new = [row for row in made if row["position"] > noted]
            if new:
                connection.execute(sa.insert(rows), new)
            named = [
                {"of": row["name"], "at": row["position"]} for row in new if row["name"] is not None
            ]
            if named:
                connection.execute(_MARK, named)

    def find(
        self, *, rule: str = "", action: str = "", key: str = "",
        since: datetime | None = None, until: datetime | None = None, most: int = MOST_LISTED,
    ) -> EventSums:  # fmt: skip
        """Add up what passes; "" and None match everything.

        Args:
            rule: of it.
            action: of it.
            key: a part of the key's words, upper or lower case.
            since: when it ended, at the earliest.
            until: before this.
            most: keys that are listed.
        """
        chosen = [rows.c.kind != _LEFT_OUT]
        if rule:
            chosen.append(rows.c.rule == rule)
        if key:
            chosen.append(rows.c.lowered.contains(key.lower(), autoescape=True))
        span = _Span(action, since, until)
        sums = _sums(span).where(*chosen).subquery()
        is_there = sa.case((sums.c.events > 0, 1), else_=0)
        totals = [
            sa.func.sum(one).over()
            for one in (
                is_there,
                *(sums.c[name] for name in ("events", "late", "pair_events", "pairs", "unpaired")),
            )
        ]
        bounds = (sa.func.min(sums.c.first).over(), sa.func.max(sums.c.last).over())
        query = (
            sa.select(sums, rows.c.rule, rows.c.key, rows.c.at_us, *totals, *bounds)
            .outerjoin(rows, rows.c.position == sums.c.newest)
            .order_by(is_there.desc(), sums.c.counted.desc(), rows.c.rule, rows.c.key)
            .limit(most)
        )
        with self._session.reading() as connection:
            found = connection.execute(query).all()
        if not found:
            return EventSums((), 0, 0, 0, 0, 0, 0, None, None)
        listed = [
            SeriesSum(row.series, row.rule, row.key, int(row.events), int(row.counted),
                      int(row.pair_events), int(row.pairs), int(row.unpaired), row.at_us)
            for row in found if row.events
        ]  # fmt: skip
        *counts, first, last = found[0][-8:]
        keys, events, late, pair_events, pairs, unpaired = map(int, counts)
        return EventSums(
            tuple(listed), keys, events, late, pair_events, pairs, unpaired, first, last
        )

    def bars(
        self, series: Sequence[int], *, begins_s: Sequence[int], width_s: int, action: str = "",
        since: datetime | None = None, until: datetime | None = None,
    ) -> Mapping[int, Sequence[int]]:  # fmt: skip
        """Return what each series counted in each bar, over the same bounds as ``find``.

        Args:
            series: numbers of ``find``.
            begins_s: where each bar begins, seconds since the epoch, ``width_s`` apart.
            width_s: how long each is.
            action: as of ``find``.
            since: as of ``find``.
            until: as of ``find``.
        """
        found = {number: [0] * len(begins_s) for number in series}
        if not found or not begins_s:
            return found
        span, at_us = _Span(action, since, until), sa.type_coerce(rows.c.at_us, Count)
        names = span.last_names()
        first_us, width_us = begins_s[0] * _SECOND_US, width_s * _SECOND_US
        bar = ((at_us - first_us) // width_us).label("bar")
        query = sa.select(rows.c.series, bar, sa.func.sum(rows.c.counted)).select_from(
            rows.outerjoin(names, names.c.position == rows.c.position)
        ).where(
            rows.c.series.in_(series), rows.c.kind == _COUNTED, *span.holds(rows),
            at_us >= first_us, at_us < first_us + len(begins_s) * width_us, _stands(names),
        )  # fmt: skip
        with self._session.reading() as connection:
            for number, place, counted in connection.execute(query.group_by(rows.c.series, bar)):
                found[number][int(place)] = int(counted)
        return found

    def forget(self) -> None:
        """Delete the rows of entries that are no longer in the log."""
        is_logged = sa.exists().where(entries.c.position == rows.c.position)
        after: int | None = 0
        while after is not None:
            query = sa.select(rows.c.position).where(rows.c.position > after, ~is_logged)
            with self._session.reading() as connection:
                gone = connection.scalars(query.order_by(rows.c.position).limit(_FORGOTTEN)).all()
            with self._session.writing() as connection:
                connection.execute(sa.delete(rows).where(rows.c.position.in_(gone)))
            after = gone[-1] if len(gone) == _FORGOTTEN else None


class _Span(NamedTuple):
    """Bounds of what is looked at, events that take the place of others included."""

    action: str
    since: datetime | None
    until: datetime | None

    @property
    def is_bound(self) -> bool:
        return self.since is not None or self.until is not None

    def holds(self, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        tests: list[sa.ColumnElement[bool]] = []
        if self.action:
            tests.append(table.c.action == self.action)
        if self.since is not None:
            tests.append(table.c.at_us >= self.since)
        if self.until is not None:
            tests.append(table.c.at_us < self.until)
        return tests

    def last_of(self, name: str, *tests: sa.ColumnElement[bool]) -> sa.Subquery:
        """The position of the last row of each name among those that pass."""
        last = sa.cast(sa.func.max(rows.c.position), sa.BigInteger).label("position")
        query = sa.select(last).where(*tests, *self.holds(rows)).group_by(rows.c[name])
        return query.subquery(f"last_{name}")

    def last_names(self) -> sa.Subquery:
        """Of the names that came more than once."""
        return self.last_of("name", rows.c.again == sa.literal_column("1"))


def _sums(span: _Span) -> sa.Select[Any]:
    """Sums of rows of one series."""
    names, sessions = span.last_names(), span.last_of("session", rows.c.session.is_not(None))
    is_counted = rows.c.kind == _COUNTED
    stands, pairs_stand = is_counted & _stands(names), sessions.c.position.is_not(None)

    def total(test: sa.ColumnElement[bool], value: sa.ColumnElement[int]) -> sa.Function[int]:
        return sa.func.sum(sa.case((test, value), else_=0))

    one, at_us = sa.literal_column("1", Count), sa.case((stands, rows.c.at_us))
    # In the order of an index SQLite would read all rows, of a short span as well.
    series = rows.c.series + sa.literal_column("0") if span.is_bound else rows.c.series
    return sa.select(
        series.label("series"), total(is_counted, one).label("events"),
        total(rows.c.kind == _LATE, one).label("late"),
        total(stands, rows.c.counted).label("counted"),
        sa.func.count(rows.c.session).label("pair_events"),
        total(pairs_stand, rows.c.pairs).label("pairs"),
        total(pairs_stand, rows.c.unpaired).label("unpaired"),
        sa.func.max(sa.case((is_counted, rows.c.position))).label("newest"),
        sa.func.min(at_us).label("first"), sa.func.max(at_us).label("last"),
    ).select_from(
        rows.outerjoin(names, names.c.position == rows.c.position)
        .outerjoin(sessions, sessions.c.position == rows.c.position)
    ).where(*span.holds(rows)).group_by(series)  # fmt: skip


def _stands(last_names: sa.Subquery) -> sa.ColumnElement[bool]:
    """The test that an event counts, in rows joined with the last of each name."""
    return (rows.c.again == 0) | last_names.c.position.is_not(None)


def _row(event: SumEvent) -> dict[str, Any]:
    """The row of an event."""
    pairs = None if event.late else event.pairs
    made, unpaired = (0, 0) if pairs is None else pairs[1:]
    of = (event.rule, event.key)
    return _left_out(event.position) | {
        "kind": _LATE if event.late else _COUNTED, "series": _number(*of), "rule": event.rule,
        "key": event.key, "lowered": event.key.lower(), "action": event.action, "at_us": event.at,
        "name": None if event.late else _number(*of, event.name), "counted": event.counted,
        "session": None if pairs is None else _number(*of, pairs.session), "pairs": made,
        "unpaired": unpaired,
    }  # fmt: skip


def _left_out(position: int) -> dict[str, Any]:
    """The row of an entry that is not added up."""
    numbers = ("series", "again", "counted", "pairs", "unpaired")
    return {
        "position": position, "kind": _LEFT_OUT, "at_us": _ZERO, "name": None, "session": None,
        **dict.fromkeys(("rule", "key", "lowered", "action"), ""), **dict.fromkeys(numbers, 0),
    }  # fmt: skip


def _number(*parts: str) -> int:
    """A number that stands for these texts: 63 bits of a digest."""
    text = "\x00".join(f"{len(part)}:{part}" for part in parts)
    digest = sha256(text.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) >> 1
