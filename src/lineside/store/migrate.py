"""Bring a database to the newest format, or refuse one that is newer than this program.

1. Reading the format is one small query that waits for nobody; Alembic is loaded only when there
   is something to do.
2. All migrations of one opening run in one transaction, under a lock that other processes
   opening the same database wait for; what they find afterwards is up to date.
3. A format this program does not know was written by a newer one: nothing is touched.
"""

import threading
from importlib.resources import as_file, files

import sqlalchemy as sa

from lineside.core import RefusedError, need

NEWEST = "0002"
_VERSION_TABLE = "lineside_format"
_ALEMBIC = threading.Lock()  # its context is one global of the process


def format_of(connection: sa.Connection) -> str:
    """The format a database is in; "" for an empty one."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return ""
    found = connection.execute(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608  a constant
    return str(found.scalar_one_or_none() or "")


def is_newest(connection: sa.Connection) -> bool:
    """Whether there is nothing to do."""
    return format_of(connection) == NEWEST


def bring_up_to_date(connection: sa.Connection, *, where: str) -> None:
    """Apply what is missing, inside the caller's transaction.

    Raises:
        RefusedError: the database is in a format that this program does not know.
    """
    found = format_of(connection)
    if found == NEWEST:
        return
    with _ALEMBIC, as_file(files("lineside.store") / "migrations") as folder:
        _apply(connection, folder=str(folder), found=found, where=where)


def _apply(connection: sa.Connection, *, folder: str, found: str, where: str) -> None:
    need("alembic", extra="hub")
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(folder)
    if found and found not in {step.revision for step in script.walk_revisions()}:
        raise RefusedError(
            f"the records are in format {found}, newer than {NEWEST}, the newest known here",
            where=where,
            fix="Install the lineside that wrote them, or restore a backup made before.",
        )

    def steps(current: object, context: object) -> object:
        del context
        return script._upgrade_revs("head", current)  # type: ignore[arg-type]  # noqa: SLF001  as alembic.command.upgrade does

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(
            connection=connection, transactional_ddl=True, version_table=_VERSION_TABLE
        )
        environment.run_migrations()
