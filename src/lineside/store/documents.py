"""Documents over SQL, with the index of digests that their bodies hold."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    decode_json,
    encode,
)
from lineside.core.errors import StaleError
from lineside.store.contract import MAX_KIND_BYTES, Document, check_limit, check_name
from lineside.store.session import Session
from lineside.store.tables import documents, mentions

T = TypeVar("T")
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_CHUNK = 500
_TRIES = 8
_ALL = (documents.c.version, documents.c.updated_at_us, documents.c.body)
# Made once: putting a statement together takes longer than running it.
_THIS = (documents.c.kind == sa.bindparam("kind"), documents.c.id == sa.bindparam("id"))
_ONE = sa.select(*_ALL).where(*_THIS)
_LOCKED = sa.select(documents.c.version, documents.c.body).where(*_THIS).with_for_update()
_PAGE = (
    sa.select(documents.c.id, *_ALL)
    .where(documents.c.kind == sa.bindparam("kind"), documents.c.id > sa.bindparam("after"))
    .order_by(documents.c.id)
    .limit(sa.bindparam("most"))
)
_PAGE_SINCE = _PAGE.where(documents.c.updated_at_us >= sa.bindparam("since"))
_WRITE = sa.update(documents).where(
    documents.c.kind == sa.bindparam("old_kind"), documents.c.id == sa.bindparam("old_id")
)
_FORGET = sa.delete(documents).where(*_THIS)
_FORGET_MENTIONS = sa.delete(mentions).where(
    mentions.c.kind == sa.bindparam("kind"), mentions.c.id == sa.bindparam("id")
)


def in_chunks(items: Iterable[T], *, size: int = _CHUNK) -> Iterator[list[T]]:
    """Lists of at most ``size``: what one statement takes."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class SqlDocuments:
    """``Documents`` in one table."""

    def __init__(self, session: Session, *, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def get(self, kind: str, doc_id: str) -> Document:
        with self._session.reading() as connection:
            document = find_document(connection, kind=kind, doc_id=doc_id)
        if document is None:
            raise NotFoundError(
                f"no {kind} {doc_id!r}",
                where=self._session.flavour.where,
                fix="List what is there.",
            )
        return document

    def put(
        self, kind: str, doc_id: str, *, body: dict[str, Any], expect: int | None = None
    ) -> Document:
        check_name(kind, what="kind", most=MAX_KIND_BYTES)
        check_name(doc_id, what="id")
        written = _written(body, where=f"{kind} {doc_id}")
        with self._session.writing() as connection:
            for _ in range(_TRIES):
                document = self._try_put(
                    connection, kind=kind, doc_id=doc_id, written=written, expect=expect
                )
                if document is not None:
                    return document
        raise ConflictError(
            f"others keep writing {kind} {doc_id!r}", where=kind, fix="Read again, then redo."
        )

    def page(
        self, kind: str, *, after: str = "", limit: int = 100, since: datetime | None = None
    ) -> list[Document]:
        check_limit(limit)
        named: dict[str, object] = {"kind": kind, "after": after, "most": limit}
        named |= {"since": since} if since else {}
        with self._session.reading() as connection:
            rows = connection.execute(_PAGE_SINCE if since else _PAGE, named).all()
        return [_document(row, kind=kind, doc_id=row.id) for row in rows]

    def delete(self, kind: str, doc_id: str, *, expect: int | None = None) -> None:
        with self._session.writing() as connection:
            named = {"kind": kind, "id": doc_id}
            if expect is not None:
                before = connection.execute(_LOCKED, named).one_or_none()
                version = 0 if before is None else int(before.version)
                self._check_version(version, kind=kind, doc_id=doc_id, expect=expect)
            connection.execute(_FORGET, named)
            connection.execute(_FORGET_MENTIONS, named)

    def note(self, kind: str, ids: Iterable[str]) -> None:
        """Make sure that these documents are there, empty if they were not."""
        now = self._clock.now()
        values = [
            {"kind": kind, "id": doc_id, "version": 1, "updated_at_us": now, "body": b"{}"}
            for doc_id in ids
        ]
        if values:
            with self._session.writing() as connection:
                statement = self._session.flavour.insert(documents).on_conflict_do_nothing()
                connection.execute(statement, values)

    def _try_put(
        self,
        connection: sa.Connection,
        *,
        kind: str,
        doc_id: str,
        written: bytes,
        expect: int | None,
    ) -> Document | None:
        """Write once; None when another writer made the document in between."""
        before = connection.execute(_LOCKED, {"kind": kind, "id": doc_id}).one_or_none()
        version = 0 if before is None else int(before.version)
        self._check_version(version, kind=kind, doc_id=doc_id, expect=expect)
        now = self._clock.now()
        values = {"version": version + 1, "updated_at_us": now, "body": written}
        if before is not None:
            connection.execute(_WRITE, {"old_kind": kind, "old_id": doc_id, **values})
        elif not self._insert(connection, kind=kind, doc_id=doc_id, values=values):
            return None
        self._mention(
            connection,
            key={"kind": kind, "id": doc_id},
            before=b"" if before is None else before.body,
            now=written,
        )
        return Document(
            kind=kind,
            id=doc_id,
            version=version + 1,
            body=decode_json(written, where=kind),
            updated_at=now,
        )

    def _check_version(self, version: int, *, kind: str, doc_id: str, expect: int | None) -> None:
        """Refuse a version, 0 for none, that is not the one expected."""
        if expect is not None and expect != version:
            raise StaleError(
                f"{kind} {doc_id!r} is at version {version}, not {expect}",
                where=self._session.flavour.where,
                fix="Read it again, then redo.",
            )

    def _insert(
        self, connection: sa.Connection, *, kind: str, doc_id: str, values: dict[str, Any]
    ) -> bool:
        statement = self._session.flavour.insert(documents).on_conflict_do_nothing()
        inserted = connection.execute(
            statement.returning(documents.c.version), {"kind": kind, "id": doc_id, **values}
        )
        return inserted.one_or_none() is not None

    def _mention(
        self, connection: sa.Connection, *, key: dict[str, str], before: bytes, now: bytes
    ) -> None:
        gone = digests_in(before) - digests_in(now)
        new = digests_in(now) - digests_in(before)
        for chunk in in_chunks(sorted(gone)):
            connection.execute(
                sa.delete(mentions).where(
                    mentions.c.digest.in_(chunk),
                    mentions.c.kind == key["kind"],
                    mentions.c.id == key["id"],
                )
            )
        if new:
            connection.execute(
                self._session.flavour.insert(mentions).on_conflict_do_nothing(),
                [{"digest": digest, **key} for digest in sorted(new)],
            )


def find_document(connection: sa.Connection, *, kind: str, doc_id: str) -> Document | None:
    """The document, or None."""
    row = connection.execute(_ONE, {"kind": kind, "id": doc_id}).one_or_none()
    return None if row is None else _document(row, kind=kind, doc_id=doc_id)


def digests_in(body: bytes) -> set[Digest]:
    """Every digest that stands in a body."""
    return {Digest(found.decode()) for found in _DIGEST.findall(body)}


def _written(body: dict[str, Any], *, where: str) -> bytes:
    try:
        return encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidError(
            f"the body cannot be written as JSON: {error}", where=where, fix="Use plain values."
        ) from error


def _document(row: Any, *, kind: str, doc_id: str) -> Document:  # noqa: ANN401  a row of any columns
    return Document(
        kind=kind,
        id=doc_id,
        version=row.version,
        body=decode_json(row.body, where=f"{kind} {doc_id}"),
        updated_at=row.updated_at_us,
    )


def all_documents(connection: sa.Connection) -> Iterator[Document]:
    """Every document, by kind and id."""
    kind, doc_id = "", ""
    while True:
        here = sa.tuple_(documents.c.kind, documents.c.id)
        query = (
            sa.select(documents)
            .where(here > sa.tuple_(sa.literal(kind), sa.literal(doc_id)))
            .order_by(documents.c.kind, documents.c.id)
            .limit(_CHUNK)
        )
        rows = connection.execute(query).all()
        if not rows:
            return
        yield from (_document(row, kind=row.kind, doc_id=row.id) for row in rows)
        kind, doc_id = rows[-1].kind, rows[-1].id
