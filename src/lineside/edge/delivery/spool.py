"""Events, with their images, kept on the device until the hub says that it stored them.

1. A row is committed, with fsync, before its event is sent; a batch shares one commit. What was
   committed survives kill -9 and a power cut.
2. Sequence numbers count up by one per row, over restarts too, and are given in the transaction
   that writes the row, so there is no number without its row.
3. An image that the hub gets from this device only is part of the row of its event.
4. Rows go only by acknowledgement, or when the spool would hold more than its bytes. Images are
   dropped first, the oldest first, and their rows say so. Then the oldest rows are dropped and
   counted. The lowest number still held is told with every event, so that the hub knows that
   nothing below it will come.
5. One thread uses a spool; it is not locked.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from lineside.core import InvalidError, UnavailableError

Make = Callable[[int], bytes]
"""Writes an event for the sequence number it is given."""

_UPGRADES = (
    """
CREATE TABLE event (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO fact VALUES ('dropped', 0);
""",
    """
ALTER TABLE event ADD COLUMN image BLOB;
CREATE INDEX image ON event (sequence) WHERE image > x'';
""",
)
"""From each form to the next, the last one being this program's. An empty image was dropped."""
_ROW_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event that has no number yet.

    Attributes:
        image: message of its image; None where the hub has the image from elsewhere.
    """

    topic: str
    make: Make
    image: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A kept event."""

    sequence: int
    topic: str
    payload: bytes


def open_spool(path: Path, *, max_bytes: int) -> "Spool":
    """Open the file, or make it.

    Raises:
        UnavailableError: the file cannot be opened or is in use.
        InvalidError: it is no spool, or one of a newer program.
    """
    with _translated(path):
        link = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            link.execute("PRAGMA journal_mode = WAL")
            link.execute("PRAGMA synchronous = FULL")
            _upgrade(link, path)
            return Spool(link, path=path, max_bytes=max_bytes)
        except BaseException:
            link.close()
            raise


def _upgrade(link: sqlite3.Connection, path: Path) -> None:
    (version,) = link.execute("PRAGMA user_version").fetchone()
    newest = len(_UPGRADES)
    if version > newest:
        raise InvalidError(
            f"spool of form {version}, this program knows {newest}",
            where=str(path),
            fix="Run the newer program, or move the file away.",
        )
    if version < newest:
        link.executescript(
            f"BEGIN;{''.join(_UPGRADES[version:])}PRAGMA user_version = {newest};COMMIT;"
        )


class Spool:
    """See the module's rules; made by ``open_spool``, closed by whoever opened it."""

    def __init__(self, link: sqlite3.Connection, *, path: Path, max_bytes: int) -> None:
        self._link = link
        self._path = path
        self._max_bytes = max_bytes
        depth, held = link.execute(
            "SELECT count(*), coalesce(sum(length(payload) + coalesce(length(image), 0)), 0)"
            " FROM event"
        ).fetchone()
        self._depth: int = depth
        self._held_bytes: int = held + depth * _ROW_BYTES
        found = link.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
        self._last: int = found[0] if found else 0
        self._first = self._read_first()
        self._dropped: int = link.execute(
            "SELECT value FROM fact WHERE name = 'dropped'"
        ).fetchone()[0]

    @property
    def depth(self) -> int:
        """Number of events that wait for acknowledgement."""
        return self._depth

    @property
    def dropped(self) -> int:
        """Number dropped for lack of room since the file was made."""
        return self._dropped

    @property
    def first(self) -> int:
        """The lowest number held, or the next one to be given where nothing is held."""
        return self._first

    @property
    def last(self) -> int:
        """The highest number given so far."""
        return self._last

    def append(self, drafts: Sequence[Draft]) -> list[Row]:
        """Number, write and commit events, in this order; returns when they are on the disk.

        Raises:
            UnavailableError: the disk is full or broken; nothing of it was kept.
        """
        rows = [
            Row(sequence=number, topic=draft.topic, payload=draft.make(number))
            for number, draft in enumerate(drafts, start=self._last + 1)
        ]
        values = [
            (row.sequence, row.topic, row.payload, draft.image)
            for row, draft in zip(rows, drafts, strict=True)
        ]
        grown = sum(len(event) + len(image or b"") + _ROW_BYTES for _, _, event, image in values)
        with self._transaction():
            self._link.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", values)
            gone, freed = self._drop_for(grown)
        self._depth += len(rows) - gone
        self._dropped += gone
        self._held_bytes += grown - freed
        self._last += len(rows)
        if gone:
            self._first = self._read_first()
        return rows

    def acknowledge(self, upto: int) -> int:
        """Forget everything up to this number; how many events that were."""
        if not self._first <= upto <= self._last:
            return 0
        with self._transaction():
            (freed,) = self._link.execute(
                "SELECT coalesce(sum(length(payload) + coalesce(length(image), 0) + ?), 0)"
                " FROM event WHERE sequence <= ?",
                (_ROW_BYTES, upto),
            ).fetchone()
            gone = self._link.execute("DELETE FROM event WHERE sequence <= ?", (upto,)).rowcount
        self._depth -= gone
        self._held_bytes -= freed
        self._first = self._read_first()
        return gone

    def after(self, sequence: int, *, most: int) -> list[Row]:
        """Kept events above a number, in order."""
        with _translated(self._path):
            found = self._link.execute(
                "SELECT sequence, topic, payload FROM event WHERE sequence > ?"
                " ORDER BY sequence LIMIT ?",
                (sequence, most),
            ).fetchall()
        return [Row(sequence=row[0], topic=row[1], payload=row[2]) for row in found]

    def image(self, sequence: int) -> bytes | None:
        """Message of a kept event's image; empty where it was dropped, None where it has none."""
        with _translated(self._path):
            found: tuple[bytes | None] = self._link.execute(
                "SELECT image FROM event WHERE sequence = ?", (sequence,)
            ).fetchone()
        return found[0]

    def close(self) -> None:
        """Close the file."""
        self._link.close()

    def _drop_for(self, grown: int) -> tuple[int, int]:
        """Make room for rows just written, of ``grown`` bytes; rows and bytes that went.

        All images go before the first row. Of the rows just written only images go.
        """
        over = self._held_bytes + grown - self._max_bytes
        if over <= 0:
            return 0, 0
        images = self._link.execute(
            "SELECT 0, sequence, length(image) FROM event WHERE image > x'' ORDER BY sequence"
        )
        events = self._link.execute(
            "SELECT 1, sequence, length(payload) + ? FROM event WHERE sequence <= ?"
            " ORDER BY sequence",
            (_ROW_BYTES, self._last),
        )
        gone, freed, upto = 0, 0, [0, 0]
        for is_event, sequence, size in chain(images, events):
            if freed >= over:
                break
            gone, freed, upto[is_event] = gone + is_event, freed + size, sequence
        self._link.execute(
            "UPDATE event SET image = x'' WHERE image > x'' AND sequence <= ?", upto[:1]
        )
        self._link.execute("DELETE FROM event WHERE sequence <= ?", upto[1:])
        self._link.execute("UPDATE fact SET value = value + ? WHERE name = 'dropped'", (gone,))
        return gone, freed

    def _read_first(self) -> int:
        (first,) = self._link.execute("SELECT min(sequence) FROM event").fetchone()
        return self._last + 1 if first is None else int(first)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        link = self._link
        try:
            link.execute("BEGIN IMMEDIATE")
            yield
            self._commit()
        except BaseException as error:
            if link.in_transaction:
                link.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError):
                raise _translation(error, self._path) from error
            raise

    def _commit(self) -> None:
        self._link.execute("COMMIT")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translation(error, path) from error


def _translation(error: sqlite3.DatabaseError, path: Path) -> InvalidError | UnavailableError:
    if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return InvalidError(
            f"the spool is damaged: {error}", where=str(path), fix="Move the file away."
        )
    return UnavailableError(
        f"the spool cannot be used: {error}",
        where=str(path),
        fix="Free space on the disk, and let this user write there.",
    )
