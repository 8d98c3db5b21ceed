"""The event log over SQL.

An append locks the chains of its sources (in the order of their names, so that two appends cannot
wait for each other), looks for ids already there, takes positions and writes. Appends to other
sources do not wait for it, except that SQLite has one writer at all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from lineside.core import Clock, Json, NotFoundError, RefusedError
from lineside.store.chain import (
    ANCHOR_TYPE,
    FIRST_PREVIOUS,
    Link,
    anchored_head,
    chain_hash,
    checked,
    checkpoint_bytes,
    cut_to_milliseconds,
    fault_of,
)
from lineside.store.contract import (
    CHECKPOINT,
    VERIFIED,
    ChainReport,
    LogEntry,
    Logged,
    Signer,
    check_limit,
)
from lineside.store.documents import SqlDocuments, find_document, in_chunks
from lineside.store.session import Session
from lineside.store.tables import chains, entries

_WALK = 1000
_PRUNE = 5000
_SOURCE = (
    sa.select(chains.c.source).where(chains.c.chain == entries.c.chain).scalar_subquery()
).label("source")
_ALL = sa.select(entries, _SOURCE)
_PLACE: sa.ColumnElement[int] = entries.c.position + sa.literal_column("0")  # as tables.PLACE
# Made once: putting a statement together takes longer than running it.
_CHAINS = (
    sa.select(chains)
    .where(chains.c.source.in_(sa.bindparam("sources", expanding=True)))
    .order_by(chains.c.source)
    .with_for_update()
)
_KNOWN = _ALL.where(entries.c.id.in_(sa.bindparam("ids", expanding=True)))
_ADD = sa.insert(entries)
_MOVE = sa.update(chains).where(chains.c.source == sa.bindparam("moved"))


class SqlEventLog:
    """``EventLog`` in two tables: entries, and where each chain stands."""

    def __init__(self, session: Session, *, documents: SqlDocuments, clock: Clock) -> None:
        self._session = session
        self._documents = documents
        self._clock = clock

    def append(self, entries: Sequence[LogEntry]) -> list[Logged]:
        offered = [checked(entry) for entry in entries]
        if not offered:
            return []
        with self._session.writing() as connection:
            heads = self._lock(connection, sorted({entry.source for entry in offered}))
            known = _already_there(connection, offered)
            arrived_at = cut_to_milliseconds(self._clock.now())
            fresh = _first_of_each(entry for entry in offered if _key(entry) not in known)
            positions = self._session.flavour.positions(connection, len(fresh)) if fresh else []
            added = _linked(fresh, heads=heads, positions=positions, arrived_at=arrived_at)
            _write(connection, added, heads=heads)
        return _answers(offered, known=known, added=added)

    def read(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        source: str = "",
        type: str = "",  # noqa: A002  the CloudEvents attribute's name
        subject: str = "",
        newest_first: bool = False,
        unsettled: bool = False,
    ) -> list[Logged]:
        check_limit(limit)
        with self._session.reading() as connection:
            everything = newest_first or unsettled
            horizon = None if everything else self._session.flavour.horizon(connection)
            named = {"source": source, "type": type, "subject": subject, "after": after or None,
                     "horizon": horizon}  # fmt: skip
            given = {name: value for name, value in named.items() if value not in {"", None}}
            query = _reading(frozenset(given), newest_first=newest_first)
            return [_logged(row) for row in connection.execute(query, {"most": limit, **given})]

    def get(self, event_id: str) -> Logged:
        query = _ALL.where(entries.c.id == event_id).order_by(entries.c.position).limit(1)
        with self._session.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError(
                f"no event {event_id!r}",
                where=self._session.flavour.where,
                fix="It never came, or was pruned.",
            )
        return _logged(row)

    def heads(self) -> dict[str, Logged]:
        query = _ALL.where(entries.c.position.in_(sa.select(chains.c.head_position)))
        with self._session.reading() as connection:
            found = [_logged(row) for row in connection.execute(query)]
        return {logged.entry.source: logged for logged in found}

    def sources(self) -> list[str]:
        with self._session.reading() as connection:
            return list(
                connection.execute(sa.select(chains.c.source).order_by(chains.c.source)).scalars()
            )

    def verify(self, source: str, *, resume: bool = False) -> ChainReport:
        with self._session.snapshot() as connection:
            chain = _chain(connection, source)
            count, at, seen, link = 0, 0, -1, _start(connection, source)
            found = _verified(connection, source) if resume else Link()
            place = _position(connection, chain.chain, link=found)
            if place and found.source_position > link.source_position:
                at, seen, link = place, found.source_position, found
            is_other = not place and found.source_position > link.source_position
            for logged in _walk(connection, chain.chain, after=seen):
                reason = fault_of(logged, after=link) or _order_fault(logged, after=at)
                if reason:
                    return _broken(source, reason, count=count, at=logged.source_position)
                count, at = count + 1, logged.position
                link = Link(source_position=logged.source_position, hash=logged.hash)
            reason = _head_fault(chain, link, at=at)
        if reason:
            return _broken(source, reason, count=count, at=link.source_position + 1)
        if is_other:
            reason = "an earlier check found another entry there"
            return _broken(source, reason, count=count, at=found.source_position)
        if resume and count:
            body: dict[str, Json] = {"source_position": link.source_position, "hash": link.hash}
            self._documents.put(VERIFIED, source, body=body)
        return ChainReport(source=source, entries=count, ok=True)

    def prune(
        self, source: str, *, before: datetime, anchors: str, sign: Signer | None = None
    ) -> int:
        with self._session.reading() as connection:
            chain = _chain(connection, source)
            anchor = _newest_anchor(connection, anchors=anchors, before=before)
        head = anchored_head(anchor, source=source) if anchor is not None else None
        if anchor is None or head is None:
            return 0
        start = self._check_behind(source, chain=chain.chain, head=head)
        forgotten = 0
        while start.source_position < head.source_position - 1:
            upto = min(start.source_position + _PRUNE, head.source_position - 1)
            start, count = self._forget(source, upto=upto, anchor=anchor, sign=sign)
            forgotten += count
        return forgotten

    def _check_behind(self, source: str, *, chain: int, head: Link) -> Link:
        """Walk what may be forgotten up to the anchored entry; where the chain begins."""
        with self._session.snapshot() as connection:
            start = link = _start(connection, source)
            for logged in _walk(connection, chain, upto=head.source_position):
                reason = fault_of(logged, after=link)
                if reason:
                    raise _not_pruned(source, reason, at=logged.source_position)
                link = Link(source_position=logged.source_position, hash=logged.hash)
        if start.source_position < head.source_position and link != head:
            raise _not_pruned(source, "the anchor names another hash", at=head.source_position)
        return start

    def _forget(
        self, source: str, *, upto: int, anchor: Logged, sign: Signer | None
    ) -> tuple[Link, int]:
        with self._session.transaction() as connection:
            chain = self._lock(connection, [source])[source].chain
            behind = sa.and_(entries.c.chain == chain, entries.c.source_position <= upto)
            last = connection.execute(
                sa.select(entries.c.hash).where(behind, entries.c.source_position == upto)
            ).scalar_one_or_none()
            if last is None:  # another process was first
                return Link(source_position=upto), 0
            count = connection.execute(sa.delete(entries).where(behind)).rowcount
            body: dict[str, Json] = {
                "schema": "lineside.checkpoint/1",
                "source": source,
                "source_position": upto,
                "hash": last,
                "anchor": anchor.entry.id,
            }
            if sign is not None:
                body["signature"] = dict(sign(checkpoint_bytes(body)))
            self._documents.put(CHECKPOINT, source, body=body)
        return Link(source_position=upto, hash=last), count

    def _lock(self, connection: sa.Connection, sources: list[str]) -> dict[str, sa.Row[Any]]:
        found = _locked(connection, sources)
        new = [{"source": source, **_EMPTY} for source in sources if source not in found]
        if new:
            connection.execute(self._session.flavour.insert(chains).on_conflict_do_nothing(), new)
            found = _locked(connection, sources)
        return found


@lru_cache(maxsize=64)
def _reading(given: frozenset[str], *, newest_first: bool) -> sa.Select[Any]:
    """The statement that reads a page by what is given."""
    place = _PLACE if given & {"source", "type", "subject"} else entries.c.position
    tests: dict[str, sa.ColumnElement[bool]] = {
        "source": entries.c.chain == _NAMED_CHAIN,
        "type": entries.c.type == sa.bindparam("type"),
        "subject": entries.c.subject == sa.bindparam("subject"),
        "after": (place < _AFTER) if newest_first else (place > _AFTER),
        "horizon": place <= sa.bindparam("horizon"),
    }
    query = _ALL.order_by(place.desc() if newest_first else place).limit(sa.bindparam("most"))
    return query.where(*(tests[name] for name in sorted(given)))


_AFTER: sa.BindParameter[int] = sa.bindparam("after")
_NAMED_CHAIN = (
    sa.select(chains.c.chain).where(chains.c.source == sa.bindparam("source")).scalar_subquery()
)
_EMPTY = {"length": 0, "head_position": 0, "head_hash": FIRST_PREVIOUS}


def _locked(connection: sa.Connection, sources: list[str]) -> dict[str, sa.Row[Any]]:
    found: dict[str, sa.Row[Any]] = {}
    for chunk in in_chunks(sources):
        found |= {row.source: row for row in connection.execute(_CHAINS, {"sources": chunk})}
    return found


def _key(entry: LogEntry) -> tuple[str, str]:
    return entry.source, entry.id


def _first_of_each(offered: Iterable[LogEntry]) -> list[LogEntry]:
    first: dict[tuple[str, str], LogEntry] = {}
    for entry in offered:
        first.setdefault(_key(entry), entry)
    return list(first.values())


def _already_there(
    connection: sa.Connection, offered: Sequence[LogEntry]
) -> dict[tuple[str, str], Logged]:
    wanted = {_key(entry) for entry in offered}
    known: dict[tuple[str, str], Logged] = {}
    for chunk in in_chunks(sorted({entry.id for entry in offered})):
        for row in connection.execute(_KNOWN, {"ids": chunk}):
            logged = _logged(row)
            if _key(logged.entry) in wanted:
                known[_key(logged.entry)] = logged
    return known


def _linked(
    fresh: Sequence[LogEntry],
    *,
    heads: Mapping[str, sa.Row[Any]],
    positions: Sequence[int],
    arrived_at: datetime,
) -> list[Logged]:
    """The entries as they will be kept, each linked to the one before it of its source."""
    ends = {
        source: Link(source_position=head.length, hash=head.head_hash)
        for source, head in heads.items()
    }
    added: list[Logged] = []
    for entry, position in zip(fresh, positions, strict=True):
        end = ends[entry.source]
        logged = Logged(
            position=position,
            source_position=end.source_position + 1,
            entry=entry,
            arrived_at=arrived_at,
            previous=end.hash,
            hash=chain_hash(
                previous=end.hash,
                source_position=end.source_position + 1,
                arrived_at=arrived_at,
                body=entry.body,
            ),
        )
        ends[entry.source] = Link(source_position=logged.source_position, hash=logged.hash)
        added.append(logged)
    return added


def _write(
    connection: sa.Connection, added: Sequence[Logged], *, heads: Mapping[str, sa.Row[Any]]
) -> None:
    if not added:
        return
    connection.execute(
        _ADD,
        [entry_values(logged, chain=heads[logged.entry.source].chain) for logged in added],
    )
    for source, logged in {logged.entry.source: logged for logged in added}.items():
        connection.execute(_MOVE, {"moved": source, **head_values(logged)})


def _answers(
    offered: Sequence[LogEntry],
    *,
    known: Mapping[tuple[str, str], Logged],
    added: Sequence[Logged],
) -> list[Logged]:
    kept = dict(known)
    new = {_key(logged.entry): logged for logged in added}
    answers: list[Logged] = []
    for entry in offered:
        key = _key(entry)
        if key in kept:
            answers.append(replace(kept[key], duplicate=True))
        else:
            kept[key] = new[key]
            answers.append(new[key])
    return answers


def entry_values(logged: Logged, *, chain: int) -> dict[str, Any]:
    """An entry as a row of its table."""
    return {
        "position": logged.position,
        "chain": chain,
        "source_position": logged.source_position,
        "id": logged.entry.id,
        "type": logged.entry.type,
        "subject": logged.entry.subject,
        "captured_at_us": logged.entry.captured_at,
        "arrived_at_us": logged.arrived_at,
        "body": logged.entry.body,
        "previous": logged.previous,
        "hash": logged.hash,
    }


def head_values(logged: Logged) -> dict[str, Any]:
    """Return the values of a chain's row once this entry is its last."""
    return {
        "length": logged.source_position,
        "head_position": logged.position,
        "head_hash": logged.hash,
    }


def all_entries(connection: sa.Connection) -> Iterator[Logged]:
    """Every entry, chain by chain."""
    query = sa.select(chains.c.chain).order_by(chains.c.source)
    for chain in connection.execute(query).scalars().all():
        yield from _walk(connection, chain)


def _logged(row: sa.Row[Any]) -> Logged:
    return Logged(
        position=row.position,
        source_position=row.source_position,
        entry=LogEntry(
            id=row.id,
            source=row.source,
            type=row.type,
            subject=row.subject,
            captured_at=row.captured_at_us,
            body=row.body,
        ),
        arrived_at=row.arrived_at_us,
        previous=row.previous,
        hash=row.hash,
    )


def _chain_of(source: str) -> sa.ScalarSelect[Any]:
    return sa.select(chains.c.chain).where(chains.c.source == source).scalar_subquery()


def _chain(connection: sa.Connection, source: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(chains).where(chains.c.source == source)).one_or_none()
    if row is None:
        raise NotFoundError(f"the log has no source {source!r}", fix="List the log's heads.")
    return row


def _start(connection: sa.Connection, source: str) -> Link:
    """Where a chain begins: after its checkpoint, or at nothing."""
    checkpoint = find_document(connection, kind=CHECKPOINT, doc_id=source)
    return Link() if checkpoint is None else Link.of_checkpoint(checkpoint)


def _verified(connection: sa.Connection, source: str) -> Link:
    """The last entry of a chain that an earlier check found whole; none if nobody looked."""
    document = find_document(connection, kind=VERIFIED, doc_id=source)
    return Link() if document is None else Link.of_checkpoint(document)


def _position(connection: sa.Connection, chain: int, *, link: Link) -> int:
    """The place in the log of an entry of a chain; 0 where it is gone or has another hash."""
    query = sa.select(entries.c.position).where(
        entries.c.chain == chain,
        entries.c.source_position == link.source_position,
        entries.c.hash == link.hash,
    )
    return connection.execute(query).scalar_one_or_none() or 0


def _walk(
    connection: sa.Connection, chain: int, *, after: int = -1, upto: int | None = None
) -> Iterator[Logged]:
    """The entries of a chain in order."""
    seen = after
    while True:
        query = _ALL.where(entries.c.chain == chain, entries.c.source_position > seen)
        if upto is not None:
            query = query.where(entries.c.source_position <= upto)
        rows = connection.execute(query.order_by(entries.c.source_position).limit(_WALK)).all()
        if not rows:
            return
        yield from map(_logged, rows)
        seen = rows[-1].source_position


def _order_fault(logged: Logged, *, after: int) -> str:
    return "" if logged.position > after else "it stands before the one it follows"


def _head_fault(chain: sa.Row[Any], link: Link, *, at: int) -> str:
    if (chain.length, chain.head_hash, chain.head_position) == (
        link.source_position,
        link.hash,
        at,
    ):
        return ""
    return f"the chain's head is entry {chain.length}, but its entries end at another"


def _broken(source: str, reason: str, *, count: int, at: int) -> ChainReport:
    return ChainReport(source=source, entries=count, ok=False, broken_at=at, reason=reason)


def _not_pruned(source: str, reason: str, *, at: int) -> RefusedError:
    return RefusedError(
        f"entry {at} of {source} is not as it was written: {reason}",
        where=source,
        fix="Nothing was pruned. Keep the database as it is and find out who changed it.",
    )


def _newest_anchor(connection: sa.Connection, *, anchors: str, before: datetime) -> Logged | None:
    query = _ALL.where(
        entries.c.chain == _chain_of(anchors),
        entries.c.type == ANCHOR_TYPE,
        entries.c.arrived_at_us < before,
    )
    row = connection.execute(query.order_by(_PLACE.desc()).limit(1)).one_or_none()
    return None if row is None else _logged(row)
