"""Records in one SQLite file (``sqlite:////abs/path.db``) or in memory (``memory://``).

1. Write-ahead log: readers never wait for the writer. ``synchronous=FULL``: a commit is on the
   disk when the call returns, so neither kill -9 nor a power cut takes it back (NORMAL would save
   one fsync a commit and lose the last commits in a power cut). Batches share the fsync.
2. One writer at a time: threads of this process queue at a lock, other processes at SQLite's
   own (``BEGIN IMMEDIATE``); both give up after ``PATIENCE_S``.
3. In memory there is one connection, used by one thread at a time, reading or writing.
4. Whether anybody committed is asked of SQLite's ``data_version``, at 4 microseconds where a read
   of one document takes 200, on a connection that never writes.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    LinesideError,
    RefusedError,
    UnavailableError,
    need,
)
from lineside.store.contract import Records
from lineside.store.migrations import UpgradePlan

if TYPE_CHECKING:
    import sqlalchemy as sa

PATIENCE_S = 20.0
_THREADS = 32
_BEGIN = "lineside_begin"
_GARBLED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_MEND = {
    sqlite3.SQLITE_BUSY: "Another process is writing; try again.",
    sqlite3.SQLITE_LOCKED: "Another process is writing; try again.",
    sqlite3.SQLITE_FULL: "Free space on the disk, then try again.",
    sqlite3.SQLITE_IOERR: "Look at the disk and its free space, then try again.",
    sqlite3.SQLITE_CANTOPEN: "Make its folder, and let this user write there.",
    sqlite3.SQLITE_READONLY: "Let this user write the file and its folder.",
}


def open_sqlite(url: str, *, clock: Clock) -> Records:
    """Open a file's records; the file is made if it is not there, its folder is not."""
    return _records(_flavour(url), clock=clock)


def plan_upgrade(url: str) -> UpgradePlan:
    """Look at a file's format; no file is made."""
    from lineside.store.session import NEWEST, plan

    if not _file(url).exists():
        return UpgradePlan(found="", newest=NEWEST, steps=())
    return plan(_flavour(url))


def _file(url: str) -> Path:
    need("sqlalchemy", extra="hub")
    from sqlalchemy.engine import make_url

    path = make_url(url).database
    if not path or path == ":memory:":
        raise InvalidError(
            "a SQLite URL without a file", where=url, fix="Write sqlite:////abs/path.db"
        )
    return Path(path).absolute()


def _flavour(url: str) -> "SqliteFlavour":
    engine = _engine(str(_file(url)), pool={"max_overflow": _THREADS, "pool_use_lifo": True})
    return SqliteFlavour(engine, where=url, file=True)


def open_memory(url: str, *, clock: Clock) -> Records:
    """Open records that live as long as they are open; each opening has its own."""
    need("sqlalchemy", extra="hub")
    engine = _memory_engine()
    with closing(engine.raw_connection()) as connection:
        connection.cursor().executescript(_newest_format())
    return _records(SqliteFlavour(engine, where=url, file=False), clock=clock)


def _memory_engine() -> "sa.Engine":
    from sqlalchemy.pool import StaticPool

    return _engine(":memory:", pool={"poolclass": StaticPool})


@cache
def _newest_format() -> str:
    """SQL of an empty database; to make one from the tables takes three times as long."""
    from lineside.store.session import bring_up_to_date

    engine = _memory_engine()
    with engine.begin() as migrated:
        bring_up_to_date(migrated, where=":memory:")
    with closing(engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        script = "\n".join(driver.iterdump())
    engine.dispose()
    return script


def _records(flavour: "SqliteFlavour", *, clock: Clock) -> Records:
    from lineside.store.records import SqlRecords

    return SqlRecords.opened(flavour, clock=clock)


def _engine(path: str, *, pool: dict[str, Any]) -> "sa.Engine":
    import sqlalchemy as sa

    url = sa.URL.create("sqlite", database=path)
    engine = sa.create_engine(url, connect_args={"check_same_thread": False}, **pool)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin does
    for pragma in (
        f"busy_timeout = {int(PATIENCE_S * 1000)}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "journal_size_limit = 67108864",
        "cache_size = -32768",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: "sa.Connection") -> None:
    statement = connection.get_execution_options().get(_BEGIN)
    if statement:
        connection.exec_driver_sql(statement)


class SqliteFlavour:
    """Dialect of SQLite.

    Args:
        engine: where connections come from.
        where: for messages.
        file: readers have connections of their own and need not wait.
    """

    def __init__(self, engine: "sa.Engine", *, where: str, file: bool) -> None:
        self.where = where
        self.reader: sa.Engine = engine
        self.writer: sa.Engine = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self.snapshot: sa.Engine = engine.execution_options(**{_BEGIN: "BEGIN"})
        self.shared = False
        self._file = file
        self._lock = threading.RLock()
        self._watching = threading.Lock()
        self._watch: sqlite3.Connection | None = None

    @contextmanager
    def lock(self, *, writes: bool) -> Iterator[None]:
        """Readers of a file pass; everyone else queues."""
        if self._file and not writes:
            yield
            return
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise UnavailableError(
                f"other threads kept the database busy for {PATIENCE_S:g} s",
                where=self.where,
                fix="Keep transactions short; try again.",
            )
        try:
            yield
        finally:
            self._lock.release()

    def now(self, connection: "sa.Connection", clock: Clock) -> datetime:
        """The machine's: nobody else is at the file."""
        del connection
        return clock.now()

    def serialise(self, connection: "sa.Connection", name: str) -> None:
        """BEGIN IMMEDIATE has seen to it."""

    def unhurried(self, connection: "sa.Connection") -> None:
        """Nothing ends a transaction."""

    def alone(self, connection: "sa.Connection") -> None:
        """BEGIN IMMEDIATE has seen to it."""

    def insert(self, table: "sa.Table") -> Any:  # noqa: ANN401  see Flavour
        from sqlalchemy.dialects.sqlite import insert

        return insert(table)

    def unused_bytes(self, connection: "sa.Connection") -> int:
        pages = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        return int(pages) * int(size)

    def positions(self, connection: "sa.Connection", count: int) -> list[int]:
        """From the last one on.

        The last entry of the log is the head of its chain, which is never pruned, so no position
        is given twice.
        """
        last = int(
            connection.exec_driver_sql(
                "SELECT coalesce(max(position), 0) FROM entries"
            ).scalar_one()
        )
        return list(range(last + 1, last + 1 + count))

    def horizon(self, connection: "sa.Connection") -> int | None:
        """One writer at a time: positions appear in order."""
        del connection
        return None

    def loaded(self, connection: "sa.Connection", last_position: int) -> None:
        """Positions are taken from the table itself."""

    def commit_mark(self) -> int | None:
        if not self._file:
            return None
        with self._watching:
            try:
                if self._watch is None:
                    path = str(self.reader.url.database)
                    self._watch = sqlite3.connect(path, check_same_thread=False, timeout=0)
                return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error:  # whoever reads meets it too, and says so
                return None

    def close(self) -> None:
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self.writer.dispose()

    def lost(self, connection: "sa.Connection") -> bool:
        driver = connection.connection.dbapi_connection
        return driver is None or not driver.in_transaction

    def translate(self, error: "sa.exc.SQLAlchemyError") -> LinesideError:
        cause = getattr(error, "orig", None)
        if isinstance(cause, sqlite3.IntegrityError):
            return ConflictError(
                f"another writer was first: {cause}", where=self.where, fix="Read again, then redo."
            )
        if not isinstance(cause, sqlite3.Error):
            return UnavailableError(f"{error}", where=self.where, fix="Try again.")
        code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _GARBLED:
            return RefusedError(
                f"the file is damaged or no database: {cause}",
                where=self.where,
                fix="Restore a backup.",
            )
        return UnavailableError(
            f"the database cannot be used: {cause}",
            where=self.where,
            fix=_MEND.get(code, "Try again."),
        )
