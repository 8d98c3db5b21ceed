"""Records and blobs by URL."""

from lineside.core import Clock, SystemClock
from lineside.core.drivers import find_driver
from lineside.store.contract import Blobs, Records

_RECORDS = {
    "memory": "lineside.store.sqlite:open_memory",
    "sqlite": "lineside.store.sqlite:open_sqlite",
    "postgresql": "lineside.store.postgres:open_postgres",
}
_BLOBS = {
    "memory": "lineside.store.memory:open_memory",
    "file": "lineside.store.folder:open_folder",
    "s3": "lineside.store.bucket:open_bucket",
}


def open_records(url: str, *, clock: Clock) -> Records:
    """Open records, bringing their tables up to date.

    Args:
        url: ``memory://``, ``sqlite:////abs/path.db``, ``postgresql://user@host/db``
            (``?passfile=/abs/file`` names libpq's password file).
        clock: where arrival and update times come from.

    Raises:
        RefusedError: wrong credentials, a damaged file, or tables of a newer lineside.
        UnavailableError: the server is away, the disk is full; try again.
        NotFoundError: no such database.
        MissingExtraError: the driver is not installed.
    """
    records: Records = find_driver("records", url, table=_RECORDS)(url, clock=clock)
    return records


def open_blobs(url: str, *, clock: Clock | None = None) -> Blobs:
    """Open a place for bytes.

    Args:
        url: ``memory://``, ``file:///abs/dir``, or
            ``s3://bucket/prefix?endpoint=http://…&region=…&credentials=/abs/file``.
        clock: says when bytes were put; the machine's own if None.

    Raises:
        RefusedError: wrong credentials.
        UnavailableError: the folder or server cannot be reached; try again.
        NotFoundError: no such bucket.
        MissingExtraError: the driver is not installed.
    """
    blobs: Blobs = find_driver("blobs", url, table=_BLOBS)(url, clock=clock or SystemClock())
    return blobs
