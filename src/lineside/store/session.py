"""Connections and transactions of one database, and what differs between databases.

1. A thread has at most one transaction; what it reads meanwhile it reads inside it.
2. Each call of the room is all or nothing: inside a transaction it is a savepoint.
3. A database that gave a transaction up by itself (SQLite does on a full disk) is noticed before
   the next statement and before the commit: half a transaction is never committed.
4. Driver errors are translated here and nowhere else.

An empty database is made in the newest format when it is opened, an old one is brought to it, and
one that is newer is refused:

1. Reading the format is one small query that waits for nobody; Alembic is loaded only to migrate an
   old database. An empty one gets the tables as the code has them, which a test holds against what
   the migrations make.
2. All migrations of one opening run in one transaction, under a lock that other processes
   opening the same database wait for; what they find afterwards is up to date.
3. A format this program does not know was written by a newer one: nothing is touched.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from lineside.core import Clock, LinesideError, RefusedError, UnavailableError, need
from lineside.store.migrations import UpgradePlan
from lineside.store.tables import metadata

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


class Flavour(Protocol):
    """Contract of one kind of database's dialect."""

    where: str
    """The database's URL without secrets, for messages."""

    reader: sa.Engine
    """Connections that begin no transaction."""

    writer: sa.Engine
    """Connections whose transactions may write."""

    snapshot: sa.Engine
    """Connections whose transactions see one moment, whatever others write."""

    def lock(self, *, writes: bool) -> AbstractContextManager[object]:
        """Held while a connection is used: where only one may write, the others wait here."""
        ...

    shared: bool
    """Whether programs on several machines may use it at once."""

    def now(self, connection: sa.Connection, clock: Clock) -> datetime:
        """The time that everybody at this database goes by."""
        ...

    def serialise(self, connection: sa.Connection, name: str) -> None:
        """Wait for other transactions of that name, and keep them waiting until this one ends."""
        ...

    def unhurried(self, connection: sa.Connection) -> None:
        """Let this transaction rest between statements for as long as it likes."""
        ...

    def alone(self, connection: sa.Connection) -> None:
        """Keep other processes from migrating until the transaction ends."""
        ...

    def insert(self, table: sa.Table) -> Any:  # noqa: ANN401  two unrelated classes with on_conflict_do_nothing
        """An INSERT that knows ``on_conflict_do_nothing``."""
        ...

    def unused_bytes(self, connection: sa.Connection) -> int:
        """Bytes of the database's files that hold no rows; 0 where that is not known."""
        ...

    def positions(self, connection: sa.Connection, count: int) -> list[int]:
        """New places at the end of the log, increasing; the chains are locked already."""
        ...

    def horizon(self, connection: sa.Connection) -> int | None:
        """The last position with nothing still to come before it; None: all that is seen."""
        ...

    def loaded(self, connection: sa.Connection, last_position: int) -> None:
        """Take note that positions up to this one were written by hand."""
        ...

    def commit_mark(self) -> int | None:
        """A number that each commit of anybody changes; None where to ask costs a statement."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...

    def lost(self, connection: sa.Connection) -> bool:
        """Return whether the database ended the transaction by itself."""
        ...

    def translate(self, error: sa.exc.SQLAlchemyError) -> LinesideError:
        """The error that tells the caller what to do."""
        ...


_NESTED = "nested"
"""Name of every savepoint: in both dialects the innermost one of a name is meant."""


class Session:
    """The way to the database for documents, log and frames."""

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self._bound = threading.local()
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with: the thread's transaction, if it has one."""
        with self._translated():
            joined = self._joined()
            if joined is not None:
                yield joined
                return
            with self.flavour.lock(writes=False), self.flavour.reader.connect() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection to write with: all of the block is kept, or nothing."""
        with self._translated():
            joined = self._joined()
            if joined is None:
                with self._whole() as connection:
                    yield connection
                return
            with self._savepoint(joined):
                yield joined

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Bind one transaction to the thread; yields its connection."""
        with self.writing() as connection:
            outer = getattr(self._bound, "connection", None)
            self._bound.connection = connection
            try:
                yield connection
            finally:
                self._bound.connection = outer

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A connection that sees one moment: the thread's transaction, if it has one."""
        with self._translated():
            joined = self._joined()
            if joined is not None:
                yield joined
                return
            lock = self.flavour.lock(writes=False)
            with lock, self.flavour.snapshot.begin() as connection:
                yield connection

    def commit_mark(self) -> int | None:
        """As of the flavour; None in a transaction, which reads what nobody else does."""
        return None if self._joined() is not None else self.flavour.commit_mark()

    def close(self) -> None:
        """Close every connection; later calls are refused."""
        self._closed = True
        with self.flavour.lock(writes=True):
            self.flavour.close()

    @contextmanager
    def _whole(self) -> Iterator[sa.Connection]:
        with self.flavour.lock(writes=True), self.flavour.writer.begin() as connection:
            yield connection
            self._check_committed(connection)

    @contextmanager
    def _savepoint(self, connection: sa.Connection) -> Iterator[None]:
        connection.exec_driver_sql(f"SAVEPOINT {_NESTED}")
        try:
            yield
        except BaseException:
            if not self.flavour.lost(connection):  # else there is nothing to go back to
                connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_NESTED}")
                connection.exec_driver_sql(f"RELEASE SAVEPOINT {_NESTED}")
            raise
        connection.exec_driver_sql(f"RELEASE SAVEPOINT {_NESTED}")

    def _joined(self) -> sa.Connection | None:
        if self._closed:
            raise UnavailableError("the records are closed", where=self.flavour.where)
        connection: sa.Connection | None = getattr(self._bound, "connection", None)
        if connection is not None:
            self._check_committed(connection)
        return connection

    def _check_committed(self, connection: sa.Connection) -> None:
        if self.flavour.lost(connection):
            raise UnavailableError(
                "the database gave the transaction up; nothing of it was kept",
                where=self.flavour.where,
                fix="Look at the error before this one, then redo it.",
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise self.flavour.translate(error) from error


NEWEST = "0004"
_VERSION_TABLE = "lineside_format"
_VERSION = sa.Table(  # as Alembic makes it
    _VERSION_TABLE,
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name=f"{_VERSION_TABLE}_pkc"),
)
_ALEMBIC = threading.Lock()  # its context is one global of the process


def format_of(connection: sa.Connection) -> str:
    """The format a database is in; "" for an empty one."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return ""
    found = connection.execute(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608  a constant
    return str(found.scalar_one_or_none() or "")


def is_newest(connection: sa.Connection) -> bool:
    """Return whether there is nothing to do."""
    return format_of(connection) == NEWEST


def bring_up_to_date(connection: sa.Connection, *, where: str) -> None:
    """Make the tables, or apply what is missing, inside the caller's transaction.

    Raises:
        RefusedError: the database is in a format that this program does not know.
    """
    found = format_of(connection)
    if found == NEWEST:
        return
    if found:
        migrate(connection, found=found, where=where)
        return
    metadata.create_all(connection, checkfirst=False)
    _VERSION.create(connection)
    connection.execute(_VERSION.insert().values(version_num=NEWEST))


def plan(flavour: Flavour) -> UpgradePlan:
    """Look at what ``bring_up_to_date`` would do; the flavour is closed.

    Raises:
        RefusedError: the database is in a format that this program does not know.
    """
    session = Session(flavour)
    try:
        with session.reading() as connection:
            found = format_of(connection)
    finally:
        session.close()
    if found in ("", NEWEST):
        return UpgradePlan(found=found, newest=NEWEST, steps=())
    with _migrations(found=found, where=flavour.where) as script:
        steps = reversed(list(script.iterate_revisions("head", found)))
        texts = tuple((step.revision, step.doc.strip().rstrip(".")) for step in steps)
    return UpgradePlan(found=found, newest=NEWEST, steps=texts)


def migrate(connection: sa.Connection, *, found: str, where: str) -> None:
    """Run the migrations that follow a format; "" is that of an empty database.

    Raises:
        RefusedError: this program does not know the format.
    """
    with _migrations(found=found, where=where) as script:
        _apply(connection, script=script)


@contextmanager
def _migrations(*, found: str, where: str) -> "Iterator[ScriptDirectory]":
    need("alembic", extra="hub")
    from alembic.script import ScriptDirectory

    with _ALEMBIC, as_file(files("lineside.store") / "migrations") as folder:
        script = ScriptDirectory(str(folder))
        if found and found not in {step.revision for step in script.walk_revisions()}:
            raise RefusedError(
                f"the records are in format {found}, newer than {NEWEST}, the newest known here",
                where=where,
                fix="Install the lineside that wrote them, or restore a backup made before.",
            )
        yield script


def _apply(connection: sa.Connection, *, script: "ScriptDirectory") -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    def steps(current: object, context: object) -> object:
        del context
        return script._upgrade_revs("head", current)  # type: ignore[arg-type]  # noqa: SLF001  as alembic.command.upgrade does

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(
            connection=connection, transactional_ddl=True, version_table=_VERSION_TABLE
        )
        environment.run_migrations()
