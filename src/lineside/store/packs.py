"""Many blobs in one file: what ``put_many`` of a folder writes.

A camera's pictures come in batches, and a file for each costs more than all the rest of keeping
it. So a batch becomes one pack, ``packs/<name>.pack``: the blobs one behind the other, then a table
of digest, offset and size, then the table's length and digest. ``packs/index.db`` says which blob
is where.

1. A pack appears whole or not at all: written aside, fsync, rename, fsync of the folder. A batch
   that was acknowledged survives kill -9 and a power cut.
2. The packs are the truth, the index is made from them: packs it does not know are read when the
   folder is opened, rows of packs that are gone are dropped, and an index that is lost or damaged
   is made anew when that shows. What was deleted since is there again then, named by nothing.
3. Deleting a blob deletes its row. A pack without rows is deleted; one of which less than half is
   left is written anew without the rest.
4. Putting bytes that are there already makes them fresh; discarding looks at that time and deletes
   in one transaction.
"""

import hashlib
import os
import secrets
import sqlite3
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lineside.core import Clock, Digest, UnavailableError
from lineside.core.files import replacing

_ROW = struct.Struct(">32sQQ")
_TAIL = struct.Struct(">Q32s16s")
_MAGIC = b"lineside.pack/1\n"
_SUFFIX = ".pack"
_HALF = 0.5
_PATIENCE_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pack (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob (
    digest BLOB PRIMARY KEY, pack TEXT NOT NULL, place INTEGER NOT NULL, size INTEGER NOT NULL,
    put_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blob_of_pack ON blob (pack);
"""
_SIZES = """
SELECT pack.name, pack.bytes + COUNT(*) * :row + :tail FROM pack JOIN blob ON blob.pack = pack.name
GROUP BY pack.name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Where a blob lies in its pack."""

    digest: bytes
    place: int
    size: int


class Packs:
    """The packs of one folder; safe from several threads and processes."""

    def __init__(self, folder: Path, *, aside: Path, clock: Clock) -> None:
        """``aside``: where files are written before they are moved to their place."""
        self._folder = folder
        self._aside = aside
        self._clock = clock
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None

    def open(self) -> None:
        """Bring the index up to date with the packs that are there."""
        if self._folder.is_dir():
            with self._index() as index:
                self._catch_up(index)

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def put(self, data: Mapping[Digest, bytes]) -> None:
        """Keep blobs; those that are there already, whole, become fresh."""
        now_s = self._clock.now().timestamp()
        self._folder.mkdir(exist_ok=True)
        with self._index() as index:
            fresh = {d: each for d, each in data.items() if not self._touch(index, d, data=each)}
            if fresh:
                name, entries = self._write(fresh)
                self._enter(index, name, entries=entries, put_at_s=now_s)

    def get(self, digest: Digest) -> bytes | None:
        """The bytes as they lie there, not compared with the digest; None if there are none."""
        if not self._is_used():
            return None
        with self._index() as index:
            return self._read(index, digest)

    def has(self, digest: Digest) -> bool:
        """Return whether the index has a blob."""
        if not self._is_used():
            return False
        with self._index() as index:
            found = index.execute("SELECT 1 FROM blob WHERE digest = ?", (_raw(digest),))
            return found.fetchone() is not None

    def delete(self, digest: Digest) -> None:
        """Forget a blob; absent is fine."""
        if self._is_used():
            with self._index() as index:
                self._forget(index, digest, put_before_s=None)

    def discard(self, digest: Digest, *, put_before_s: float) -> bool:
        """Forget a blob last put before that time; False when it is fresher."""
        if not self._is_used():
            return True
        with self._index() as index:
            self._forget(index, digest, put_before_s=put_before_s)
            found = index.execute("SELECT 1 FROM blob WHERE digest = ?", (_raw(digest),))
            return found.fetchone() is None

    def digests(self) -> Iterator[Digest]:
        """Every blob's digest, in order."""
        if not self._is_used():
            return
        last = b""
        while True:
            with self._index() as index:
                rows = index.execute(
                    "SELECT digest FROM blob WHERE digest > ? ORDER BY digest LIMIT 1000", (last,)
                ).fetchall()
            if not rows:
                return
            yield from (Digest("sha256:" + row[0].hex()) for row in rows)
            last = rows[-1][0]

    def shortened(self) -> list[str]:
        """Packs whose file is shorter than the index says, each with both sizes.

        None of their bytes is read.
        """
        if not self._is_used():
            return []
        with self._index() as index:
            rows = index.execute(_SIZES, {"row": _ROW.size, "tail": _TAIL.size}).fetchall()
            sizes = {one.name: one.stat().st_size for one in self._files()}
        return [
            f"{self._path(name)}, {size:,} of {least:,} bytes"
            for name, least in rows
            if (size := sizes.get(name + _SUFFIX, least)) < least
        ]

    # ---- the index

    def _is_used(self) -> bool:
        return self._opened is not None or self._folder.is_dir()

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """The index within one transaction."""
        with self._lock:
            try:
                index = self._connection()
                index.execute("BEGIN IMMEDIATE")
                try:
                    yield index
                except BaseException:
                    index.rollback()
                    raise
                index.commit()
            except sqlite3.OperationalError as error:
                raise UnavailableError(
                    f"the index of the packs cannot be used: {error}",
                    where=str(self._folder),
                    fix="Free space, or wait for the other process.",
                ) from error
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # of a kind that leaves the file whole
                    raise
                self._drop()
                raise UnavailableError(
                    f"the index of the packs is damaged and is made anew: {error}",
                    where=str(self._folder),
                    fix="Try again.",
                ) from error

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            try:
                self._opened = self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._drop()
                self._opened = self._connect()
        return self._opened

    def _drop(self) -> None:
        """Delete the index; whoever uses it next makes it anew."""
        self.close()
        for path in self._folder.glob("index.db*"):
            path.unlink()

    def _connect(self) -> sqlite3.Connection:
        is_lost = not (self._folder / "index.db").exists()
        index = sqlite3.connect(
            self._folder / "index.db", timeout=_PATIENCE_S, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        try:
            # A commit need not be on the disk: the packs are, and the index is made from them.
            index.execute("PRAGMA journal_mode = WAL")
            index.execute("PRAGMA synchronous = NORMAL")
            index.executescript(_SCHEMA)
            if is_lost:
                index.execute("BEGIN IMMEDIATE")
                self._catch_up(index)
                index.commit()
        except sqlite3.DatabaseError:
            index.close()
            raise
        return index

    def _catch_up(self, index: sqlite3.Connection) -> None:
        known = {name for (name,) in index.execute("SELECT name FROM pack")}
        there = {one.name.removesuffix(_SUFFIX) for one in self._files()}
        for name in known - there:
            index.execute("DELETE FROM blob WHERE pack = ?", (name,))
            index.execute("DELETE FROM pack WHERE name = ?", (name,))
        for name in sorted(there - known):
            path = self._path(name)
            entries = _read_table(path)
            self._enter(index, name, entries=entries, put_at_s=path.stat().st_mtime)

    def _enter(
        self, index: sqlite3.Connection, name: str, *, entries: Sequence[_Entry], put_at_s: float
    ) -> None:
        total = sum(entry.size for entry in entries)
        index.execute("INSERT OR REPLACE INTO pack VALUES (?, ?)", (name, total))
        index.executemany(
            "INSERT OR REPLACE INTO blob VALUES (?, ?, ?, ?, ?)",
            [(entry.digest, name, entry.place, entry.size, put_at_s) for entry in entries],
        )

    def _touch(self, index: sqlite3.Connection, digest: Digest, *, data: bytes) -> bool:
        """True when exactly these bytes are there; they count as put now."""
        if self._read(index, digest) != data:
            return False
        now_s = self._clock.now().timestamp()
        index.execute("UPDATE blob SET put_at = ? WHERE digest = ?", (now_s, _raw(digest)))
        return True

    def _forget(
        self, index: sqlite3.Connection, digest: Digest, *, put_before_s: float | None
    ) -> None:
        row = index.execute(
            "SELECT pack, put_at FROM blob WHERE digest = ?", (_raw(digest),)
        ).fetchone()
        if row is None or (put_before_s is not None and row[1] >= put_before_s):
            return
        index.execute("DELETE FROM blob WHERE digest = ?", (_raw(digest),))
        self._tidy(index, row[0])

    # ---- the packs

    def _path(self, name: str) -> Path:
        return self._folder / (name + _SUFFIX)

    def _files(self) -> list[os.DirEntry[str]]:
        with os.scandir(self._folder) as found:
            return [one for one in found if one.name.endswith(_SUFFIX)]

    def _read(self, index: sqlite3.Connection, digest: Digest) -> bytes | None:
        row = index.execute(
            "SELECT pack, place, size FROM blob WHERE digest = ?", (_raw(digest),)
        ).fetchone()
        if row is None:
            return None
        try:
            with self._path(row[0]).open("rb") as file:
                return os.pread(file.fileno(), row[2], row[1])
        except FileNotFoundError:
            return None

    def _write(self, data: Mapping[Digest, bytes]) -> tuple[str, list[_Entry]]:
        """A new pack; on the disk when this returns."""
        name, entries, place = secrets.token_hex(12), list[_Entry](), 0
        for digest, each in data.items():
            entries.append(_Entry(digest=_raw(digest), place=place, size=len(each)))
            place += len(each)
        with replacing(self._path(name), temporary=self._aside / f"put-{name}") as file:
            file.writelines(data.values())
            file.write(_table(entries))
            file.flush()
            now_s = self._clock.now().timestamp()
            os.utime(file.fileno(), (now_s, now_s))
        return name, entries

    def _tidy(self, index: sqlite3.Connection, name: str) -> None:
        """Delete a pack of which nothing is left; write one anew of which little is."""
        left, kept = index.execute(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blob WHERE pack = ?", (name,)
        ).fetchone()
        (total,) = index.execute("SELECT bytes FROM pack WHERE name = ?", (name,)).fetchone()
        if left and kept >= total * _HALF:
            return
        if left:
            self._move_rest(index, name)
        index.execute("DELETE FROM pack WHERE name = ?", (name,))
        self._path(name).unlink(missing_ok=True)

    def _move_rest(self, index: sqlite3.Connection, name: str) -> None:
        rows = index.execute("SELECT digest, put_at FROM blob WHERE pack = ?", (name,)).fetchall()
        times = dict(rows)
        rest = {Digest("sha256:" + raw.hex()): raw for raw in times}
        data = {digest: self._read(index, digest) or b"" for digest in rest}
        moved, entries = self._write(data)
        self._enter(index, moved, entries=entries, put_at_s=0.0)
        index.executemany(
            "UPDATE blob SET put_at = ? WHERE digest = ?",
            [(put_at, raw) for raw, put_at in times.items()],
        )


def _table(entries: Sequence[_Entry]) -> bytes:
    rows = b"".join(_ROW.pack(entry.digest, entry.place, entry.size) for entry in entries)
    return rows + _TAIL.pack(len(rows), hashlib.sha256(rows).digest(), _MAGIC)


def _read_table(path: Path) -> list[_Entry]:
    """A pack's table; empty where the file is none of ours or was damaged."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _TAIL.size:
            return []
        tail = os.pread(file.fileno(), _TAIL.size, size - _TAIL.size)
        length, digest, magic = _TAIL.unpack(tail)
        if magic != _MAGIC or length > size - _TAIL.size:
            return []
        rows = os.pread(file.fileno(), length, size - _TAIL.size - length)
    if hashlib.sha256(rows).digest() != digest or len(rows) % _ROW.size:
        return []
    return [_Entry(digest=raw, place=at, size=n) for raw, at, n in _ROW.iter_unpack(rows)]


def _raw(digest: Digest) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:"))
