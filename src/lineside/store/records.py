"""Documents, event log and frames over one SQL database."""

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, Self, TypeVar, cast

import sqlalchemy as sa

from lineside.core import Clock, ConflictError, Digest, encode
from lineside.store.contract import Document, FrameRow, Logged, Row
from lineside.store.documents import SqlDocuments, all_documents, digests_in, in_chunks
from lineside.store.frames import SqlFrameIndex, all_frames, insert_frames, named_by
from lineside.store.leases import SqlLeases
from lineside.store.log import SqlEventLog, all_entries, entry_values, head_values
from lineside.store.session import Flavour, Session, bring_up_to_date, is_newest
from lineside.store.sums import SqlRuleSums
from lineside.store.tables import chains, documents, entries, frames, mentions, rule_events

T = TypeVar("T")
_MOST_KNOWN = 4096


class SqlRecords:
    """``Records`` over a database that SQLAlchemy speaks to."""

    def __init__(self, session: Session, *, clock: Clock) -> None:
        self._session = session
        self.clock = clock
        self.documents = SqlDocuments(session, clock=clock)
        self.log = SqlEventLog(session, documents=self.documents, clock=clock)
        self.frames = SqlFrameIndex(session, documents=self.documents, clock=clock)
        self.rule_sums = SqlRuleSums(session)
        self.leases = SqlLeases(session, clock=clock)
        self.shared = session.flavour.shared
        self._known: tuple[int, dict[Hashable, object]] = (0, {})

    @classmethod
    def opened(cls, flavour: Flavour, *, clock: Clock) -> "SqlRecords":
        """Bring the database up to date and stand before it; closed again if that fails."""
        session = Session(flavour)
        try:
            with session.reading() as connection:
                ready = is_newest(connection)
            if not ready:
                with session.writing() as connection:
                    flavour.alone(connection)
                    bring_up_to_date(connection, where=flavour.where)
        except BaseException:
            session.close()
            raise
        return cls(session, clock=clock)

    def transaction(self) -> AbstractContextManager[object]:
        return self._session.transaction()

    def serialise(self, name: str) -> None:
        with self._session.reading() as connection:
            self._session.flavour.serialise(connection, name)

    def read_once(self, key: Hashable, read: Callable[[], T]) -> T:
        known = self._since_commit()
        found = known.get(key) if known is not None else None
        if found is not None:
            return cast("T", found)
        value = read()
        if known is not None and value is not None and len(known) < _MOST_KNOWN:
            known[key] = value
        return value

    def known(self, key: Hashable) -> object | None:
        known = self._since_commit()
        return None if known is None else known.get(key)

    def _since_commit(self) -> dict[Hashable, object] | None:
        """Return what was read since the last commit; None where nobody can say when that was.

        What a caller reads after this goes into the same dictionary, which is no longer looked at
        if somebody commits in between.
        """
        mark = self._session.commit_mark()
        if mark is None:
            return None
        known = self._known
        if known[0] != mark:
            known = self._known = (mark, {})
        return known[1]

    def unused_bytes(self) -> int:
        with self._session.reading() as connection:
            return self._session.flavour.unused_bytes(connection)

    def named(self, digests: Sequence[Digest]) -> set[Digest]:
        with self._session.reading() as connection:
            return named_by(connection, digests)

    def export(self) -> Generator[Row, None, None]:
        with self._session.snapshot() as connection:
            self._session.flavour.unhurried(connection)
            yield from all_documents(connection)
            yield from all_entries(connection)
            yield from all_frames(connection)

    def load(self, rows: Iterable[Row]) -> None:
        with self._session.writing() as connection:
            self._session.flavour.unhurried(connection)
            for table in (documents, chains, entries, frames):
                if connection.execute(sa.select(table).limit(1)).first() is not None:
                    raise ConflictError(
                        "the records are not empty",
                        where=self._session.flavour.where,
                        fix="Name a new database.",
                    )
            connection.execute(sa.delete(rule_events))
            last_position = _load(connection, rows)
            self._session.flavour.loaded(connection, last_position)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _load(connection: sa.Connection, rows: Iterable[Row]) -> int:
    """Write rows in batches; return the last position of the log.

    The chains' own rows follow from their last entries.
    """
    heads: dict[str, Logged] = {}
    numbers: dict[str, int] = {}
    last_position = 0
    for kind, alike in groupby(rows, type):
        for batch in in_chunks(alike):
            if kind is Document:
                _insert_documents(connection, cast("list[Document]", batch))
            elif kind is FrameRow:
                insert_frames(connection, cast("list[FrameRow]", batch))
            else:
                values = []
                for logged in cast("list[Logged]", batch):
                    source = logged.entry.source
                    heads[source] = logged
                    chain = numbers.setdefault(source, len(numbers) + 1)
                    last_position = max(last_position, logged.position)
                    values.append(entry_values(logged, chain=chain))
                connection.execute(sa.insert(entries), values)
    if heads:
        values = [
            {"chain": numbers[source], "source": source, **head_values(head)}
            for source, head in heads.items()
        ]
        connection.execute(sa.insert(chains), values)
    return last_position


def _insert_documents(connection: sa.Connection, batch: Sequence[Document]) -> None:
    values = [_document_values(document) for document in batch]
    connection.execute(sa.insert(documents), values)
    named = [
        {"digest": digest, "kind": value["kind"], "id": value["id"]}
        for value in values
        for digest in sorted(digests_in(value["body"]))
    ]
    if named:
        connection.execute(sa.insert(mentions), named)


def _document_values(document: Document) -> dict[str, Any]:
    return {
        "kind": document.kind,
        "id": document.id,
        "version": document.version,
        "updated_at_us": document.updated_at,
        "body": encode(document.body),
    }
