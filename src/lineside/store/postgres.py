"""Records in PostgreSQL (``postgresql://user@host/db``) through psycopg 3.

1. Writers on different sources do not wait for one another: an append locks the rows of its own
   chains only. Positions come from a sequence, so they may be committed out of order.
2. So that a reader with a cursor misses nothing, an append first takes a shared advisory lock
   whose key holds the last position given out before it. A reader asks, in this order, for the
   last position given out, for the lowest such key of other sessions, and for the entries up to
   the smaller of both: whatever may still appear lies above.
3. A transaction that rests for ``REST_S`` between two statements is ended by the server: a hub that
   was stopped in the midst of one (SIGSTOP, a machine that sleeps) does not keep the others
   waiting. It finds the connection lost, and does the transaction again.
4. A password stands in the file that the URL's ``passfile`` names (libpq's form), not in the URL.
"""

import re
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lineside.core import (
    Clock,
    ConflictError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    need,
)
from lineside.core.drivers import SecretUrl
from lineside.store.contract import Records
from lineside.store.migrations import UpgradePlan

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

PATIENCE_S = 20
REST_S = 5
_THREADS = 32
_APPENDS = 0x6C6F  # "lo": the upper 16 bits of the advisory keys of rule 2
_SERIALISED = 0x7365  # "se": the first of two keys, which no key of rule 2 has
_OPENING = 0x6C69_6E65_7369_6465  # "lineside": migrations, one process at a time
_REDO = {"40001", "40P01", "23505"}
# While connecting, libpq hands on the server's sentence without its code.
_LOGIN = re.compile(r'authentication failed|role ".*" does not exist|no pg_hba.conf entry')
_SERVER = re.compile(r"^(?:connection failed: )?connection to server at .*?, port \d+ failed: ")
_NO_DATABASE = re.compile(r'database ".*" does not exist')

_ANNOUNCE = f"""
SELECT pg_advisory_xact_lock_shared(({_APPENDS}::bigint << 48) |
    (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM log_positions))
"""  # noqa: S608  a constant of this file
_GIVEN_OUT = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM log_positions"
_UNFINISHED = f"""
SELECT min(((classid::bigint << 32) | objid::bigint) & ((1::bigint << 48) - 1))
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()
    AND (classid::bigint >> 16) = {_APPENDS}
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608  a constant of this file


def open_postgres(url: str, *, clock: Clock) -> Records:
    """Open a database that is there already; its tables are made when it is empty."""
    flavour = _flavour(url)
    from lineside.store.records import SqlRecords

    return SqlRecords.opened(flavour, clock=clock)


def plan_upgrade(url: str) -> UpgradePlan:
    """Look at a database's format."""
    flavour = _flavour(url)
    from lineside.store.session import plan

    return plan(flavour)


def _flavour(url: str) -> "PostgresFlavour":
    need("sqlalchemy", extra="hub")
    need("psycopg", extra="postgres")
    import sqlalchemy as sa

    target = sa.make_url(url).set(drivername="postgresql+psycopg")
    defaults = {
        "connect_timeout": PATIENCE_S,
        "tcp_user_timeout": PATIENCE_S * 1000,
        "application_name": "lineside",
        "options": f"-c lock_timeout={PATIENCE_S * 1000}"
        f" -c idle_in_transaction_session_timeout={REST_S * 1000}",
    }
    engine = sa.create_engine(
        target,
        max_overflow=_THREADS,
        isolation_level="READ COMMITTED",
        connect_args={key: value for key, value in defaults.items() if key not in target.query},
    )
    where = str(SecretUrl(url))

    def check_encoding(connection: "psycopg.Connection[Any]", _record: object) -> None:
        found = connection.info.parameter_status("server_encoding")
        if found != "UTF8":
            connection.close()
            raise RefusedError(
                f"the database has the encoding {found}, and names and texts need UTF8",
                where=where,
                fix="Make another: createdb --encoding=UTF8 --locale=C --template=template0.",
            )

    sa.event.listen(engine, "connect", check_encoding, insert=True)
    return PostgresFlavour(engine, where=where)


class PostgresFlavour:
    """Dialect of PostgreSQL."""

    def __init__(self, engine: "sa.Engine", *, where: str) -> None:
        self.where = where
        self.shared = True
        self.reader: sa.Engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.writer: sa.Engine = engine
        self.snapshot: sa.Engine = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def lock(self, *, writes: bool) -> AbstractContextManager[None]:
        """The server sees to it."""
        del writes
        return nullcontext()

    def now(self, connection: "sa.Connection", clock: Clock) -> datetime:
        del clock
        found: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return found.astimezone(UTC)

    def serialise(self, connection: "sa.Connection", name: str) -> None:
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_SERIALISED, name)
        )

    def unhurried(self, connection: "sa.Connection") -> None:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")

    def alone(self, connection: "sa.Connection") -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OPENING})")

    def insert(self, table: "sa.Table") -> Any:  # noqa: ANN401  see Flavour
        from sqlalchemy.dialects.postgresql import insert

        return insert(table)

    def unused_bytes(self, connection: "sa.Connection") -> int:
        del connection  # it stands on a server of its own, which no data folder holds
        return 0

    def positions(self, connection: "sa.Connection", count: int) -> list[int]:
        connection.exec_driver_sql(_ANNOUNCE)
        given = connection.exec_driver_sql(
            "SELECT nextval('log_positions') FROM generate_series(1, %s)", (count,)
        )
        return sorted(int(position) for position in given.scalars())

    def horizon(self, connection: "sa.Connection") -> int | None:
        given_out = int(connection.exec_driver_sql(_GIVEN_OUT).scalar_one())
        unfinished = connection.exec_driver_sql(_UNFINISHED).scalar_one()
        return given_out if unfinished is None else min(given_out, int(unfinished))

    def loaded(self, connection: "sa.Connection", last_position: int) -> None:
        if last_position:
            connection.exec_driver_sql("SELECT setval('log_positions', %s)", (last_position,))

    def commit_mark(self) -> int | None:
        return None

    def close(self) -> None:
        self.writer.dispose()

    def lost(self, connection: "sa.Connection") -> bool:
        """PostgreSQL refuses every statement after a failed one; nothing to look for."""
        del connection
        return False

    def translate(self, error: "sa.exc.SQLAlchemyError") -> LinesideError:
        cause = getattr(error, "orig", None) or error
        state = getattr(cause, "sqlstate", None) or ""
        said = _SERVER.sub("", (str(cause).strip() or type(cause).__name__).splitlines()[0])
        if state in _REDO:
            return ConflictError(
                f"another writer was first: {said}", where=self.where, fix="Read again, then redo."
            )
        if state[:2] == "28" or state == "42501" or _LOGIN.search(said):
            return RefusedError(
                f"PostgreSQL refused the login: {said}",
                where=self.where,
                fix="Correct user and passfile in the URL, or grant the rights.",
            )
        if state == "3D000" or _NO_DATABASE.search(said):
            return NotFoundError(
                f"no such database: {said}",
                where=self.where,
                fix="Make it with createdb --encoding=UTF8 --locale=C --template=template0.",
            )
        return UnavailableError(
            f"PostgreSQL cannot be used: {said}",
            where=self.where,
            fix="Look at the server, then try again.",
        )
