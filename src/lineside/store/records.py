"""Documents, event log and frames over one SQL database."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, assert_never

import sqlalchemy as sa

from lineside.core import Clock, ConflictError, Digest, encode
from lineside.store.contract import Document, FrameRow, Logged, Row
from lineside.store.documents import SqlDocuments, all_documents, digests_in
from lineside.store.frames import SqlFrameIndex, all_frames, insert_frames, named_by
from lineside.store.leases import SqlLeases
from lineside.store.log import SqlEventLog, all_entries, entry_values, head_values
from lineside.store.session import Flavour, Session, bring_up_to_date, is_newest
from lineside.store.tables import chains, documents, entries, frames, mentions

_BATCH = 500


class SqlRecords:
    """``Records`` over a database that SQLAlchemy speaks to."""

    def __init__(self, session: Session, *, clock: Clock) -> None:
        self._session = session
        self.clock = clock
        self.documents = SqlDocuments(session, clock=clock)
        self.log = SqlEventLog(session, documents=self.documents, clock=clock)
        self.frames = SqlFrameIndex(session, documents=self.documents, clock=clock)
        self.leases = SqlLeases(session, clock=clock)
        self.shared = session.flavour.shared

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

    def transaction(self) -> AbstractContextManager[None]:
        return self._session.transaction()

    def serialise(self, name: str) -> None:
        with self._session.reading() as connection:
            self._session.flavour.serialise(connection, name)

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
            loader = _Loader(connection)
            for row in rows:
                loader.take(row)
            loader.finish()
            self._session.flavour.loaded(connection, loader.last_position)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class _Loader:
    """Writes rows in batches; the chains' own rows follow from their last entries."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._chains: dict[str, int] = {}
        self._heads: dict[str, Logged] = {}
        self._documents: list[Document] = []
        self._entries: list[Logged] = []
        self._frames: list[FrameRow] = []
        self.last_position = 0

    def take(self, row: Row) -> None:
        match row:
            case Document():
                self._documents.append(row)
                if len(self._documents) >= _BATCH:
                    self._write_documents()
            case Logged():
                self._entries.append(row)
                if len(self._entries) >= _BATCH:
                    self._write_entries()
            case FrameRow():
                self._frames.append(row)
                if len(self._frames) >= _BATCH:
                    self._write_frames()
            case _:
                assert_never(row)

    def finish(self) -> None:
        self._write_documents()
        self._write_entries()
        self._write_frames()
        values = [
            {"chain": chain, "source": source, **head_values(self._heads[source])}
            for source, chain in self._chains.items()
        ]
        if values:
            self._connection.execute(sa.insert(chains), values)

    def _write_documents(self) -> None:
        batch, self._documents = self._documents, []
        values = [_document_values(document) for document in batch]
        if values:
            self._connection.execute(sa.insert(documents), values)
        named = [
            {"digest": digest, "kind": value["kind"], "id": value["id"]}
            for value in values
            for digest in sorted(digests_in(value["body"]))
        ]
        if named:
            self._connection.execute(sa.insert(mentions), named)

    def _write_entries(self) -> None:
        batch, self._entries = self._entries, []
        values = []
        for logged in batch:
            source = logged.entry.source
            chain = self._chains.setdefault(source, len(self._chains) + 1)
            self._heads[source] = logged
            self.last_position = max(self.last_position, logged.position)
            values.append(entry_values(logged, chain=chain))
        if values:
            self._connection.execute(sa.insert(entries), values)

    def _write_frames(self) -> None:
        batch, self._frames = self._frames, []
        if batch:
            insert_frames(self._connection, batch)


def _document_values(document: Document) -> dict[str, Any]:
    return {
        "kind": document.kind,
        "id": document.id,
        "version": document.version,
        "updated_at_us": document.updated_at,
        "body": encode(document.body),
    }
