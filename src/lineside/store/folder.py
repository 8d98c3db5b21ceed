"""Blobs in a folder (``file:///abs/dir``): ``ab/<64 hex>``, one file a blob.

1. A file appears whole or not at all: temporary file, fsync, rename, fsync of the folder. A blob
   that was acknowledged survives kill -9 and a power cut; a full disk leaves nothing behind.
   ``put_many`` writes a batch into one file (``packs.py``).
2. What is read is hashed; bytes that no longer match are refused, and putting them again mends
   the file.
3. Putting bytes that are there already sets the file's time, and ``discard`` moves a file aside
   before it looks at that time: a blob cannot be deleted between somebody's put and the record
   that names it, as long as no more than ``idle_s`` lie between.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    digest_of,
    parse_digest,
)
from lineside.core.files import replacing, sync_path
from lineside.store.packs import Packs

_HEX = frozenset("0123456789abcdef")
_ABANDONED_S = 3600
_FEW = 4
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def open_folder(url: str, *, clock: Clock) -> "FolderBlobs":
    """Open a folder; it is made if it is not there."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or path == Path("/"):
        raise InvalidError("no absolute folder", where=url, fix="Write file:///abs/dir.")
    blobs = FolderBlobs(path, clock=clock)
    blobs.prepare()
    return blobs


class FolderBlobs:
    """``Blobs`` as files."""

    def __init__(self, root: Path, *, clock: Clock) -> None:
        self._root = root
        self._passing = root / "passing"
        self._clock = clock
        self._packs = Packs(root / "packs", aside=self._passing, clock=clock)

    def prepare(self) -> None:
        """Make the folder; clear away what a process that died left behind."""
        with self._translated(self._root):
            self._passing.mkdir(parents=True, exist_ok=True)
            for left in sorted(self._passing.iterdir()):
                self._recover(left)
            self._packs.open()

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        path = self._path(digest)
        with self._translated(path):
            if not self._refresh(path, data=data):
                self._write(path, data=data)
        return digest

    def put_many(self, data: Sequence[bytes]) -> list[Digest]:
        if len(data) < _FEW:
            return [self.put(each) for each in data]
        digests = [digest_of(each) for each in data]
        with self._translated(self._root):
            new = {
                digest: each
                for digest, each in zip(digests, data, strict=True)
                if not self._is_there(self._path(digest), data=each)
            }
            self._packs.put(new)
        return digests

    def get(self, digest: Digest) -> bytes:
        path = self._path(digest)
        with self._translated(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                packed = self._packs.get(digest)
                if packed is None:
                    raise
                data = packed
        if digest_of(data) != digest:
            raise RefusedError(
                f"the bytes on the disk are not those of {digest}",
                where=str(path),
                fix="Restore the file from a backup; look at the disk.",
            )
        return data

    def has(self, digest: Digest) -> bool:
        path = self._path(digest)
        with self._translated(path):
            return path.exists() or self._packs.has(digest)

    def delete(self, digest: Digest) -> None:
        path = self._path(digest)
        with self._translated(path), suppress(FileNotFoundError):
            path.unlink()
        with self._translated(self._root):
            self._packs.delete(digest)

    def discard(self, digest: Digest, *, idle_s: float) -> bool:
        path = self._path(digest)
        aside = self._passing / f"leaving-{path.name}"
        with self._translated(path), suppress(FileNotFoundError):
            if self._is_fresh(path, idle_s=idle_s):
                return False
            path.replace(aside)
            if self._is_fresh(aside, idle_s=idle_s):  # put while it was being moved
                aside.replace(path)
                sync_path(path.parent)
                return False
            aside.unlink()
        with self._translated(self._root):
            put_before_s = self._clock.now().timestamp() - idle_s
            return self._packs.discard(digest, put_before_s=put_before_s)

    def digests(self) -> Iterator[Digest]:
        with self._translated(self._root):
            for first in _folders(self._root):
                for name in sorted(path.name for path in first.iterdir()):
                    if len(name) == 64 and name.startswith(first.name):
                        yield Digest("sha256:" + name)
            for digest in self._packs.digests():
                if not self._path(digest).exists():
                    yield digest

    def shortened(self) -> list[str]:
        """Packs whose file was cut, each with its sizes; none of their bytes is read."""
        with self._translated(self._root):
            return self._packs.shortened()

    def close(self) -> None:
        self._packs.close()

    def _path(self, digest: Digest) -> Path:
        name = parse_digest(digest, where="blob")[len("sha256:") :]
        return self._root / name[:2] / name

    def _refresh(self, path: Path, *, data: bytes) -> bool:
        """True when exactly these bytes are there; they count as put now."""
        if not self._is_there(path, data=data):
            return False
        sync_path(path)  # whoever wrote it may not have come to this yet, or died before
        sync_path(path.parent)
        return True

    def _is_there(self, path: Path, *, data: bytes) -> bool:
        try:
            os.utime(path, ns=self._times())
            return path.read_bytes() == data
        except FileNotFoundError:
            return False

    def _write(self, path: Path, *, data: bytes) -> None:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_path(self._root)
        temporary = self._passing / f"put-{secrets.token_hex(8)}"
        with replacing(path, temporary=temporary) as file:
            file.write(data)
            file.flush()
            os.utime(file.fileno(), ns=self._times())

    def _recover(self, left: Path) -> None:
        with suppress(FileNotFoundError):  # another process may be doing the same
            if left.name.startswith("leaving-"):
                left.replace(self._path(Digest("sha256:" + left.name.removeprefix("leaving-"))))
            elif not self._is_fresh(left, idle_s=_ABANDONED_S):
                left.unlink()

    def _is_fresh(self, path: Path, *, idle_s: float) -> bool:
        return self._clock.now().timestamp() - path.stat().st_mtime < idle_s

    def _times(self) -> tuple[int, int]:
        now_ns = int(self._clock.now().timestamp() * 1_000_000) * 1000
        return now_ns, now_ns

    @contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError("no such blob", where=str(path), fix="It was deleted.") from error
        except PermissionError as error:
            raise RefusedError(
                "this user may not use the file", where=str(path), fix="Correct its owner or mode."
            ) from error
        except OSError as error:
            full = error.errno in _FULL
            raise UnavailableError(
                "the disk is full" if full else f"the disk refused: {error.strerror}",
                where=str(path),
                fix="Free space, then try again." if full else "Look at the disk.",
            ) from error


def _folders(folder: Path) -> list[Path]:
    """The folders of two hexadecimal digits."""
    found = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    return sorted(path for path in found if len(path.name) == 2 and set(path.name) <= _HEX)
