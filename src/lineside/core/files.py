"""Files and folders that are there whole or not at all, whatever ends the program.

1. What is written stands beside its place under a name of its own, is synced, renamed, and the
   folder synced: a power cut leaves the old or the new, and two programs may replace one file.
   ``replacing_unsynced`` leaves the syncing out.
2. Whatever fails, the temporary name is gone and what stood there stands there still.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

from lineside.core.errors import LinesideError, UnavailableError


def replace_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file; its folder is made where there is none, closed to others if the file is.

    Raises:
        UnavailableError: as ``replacing_durably``.
    """
    with _unavailable(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o777 if mode & 0o077 else 0o700)
    with replacing_durably(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def replacing_durably(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Replace a file with what the block writes, when the block ends well.

    Raises:
        UnavailableError: the disk does not take it.
    """
    with _unavailable(path), replacing(path, mode=mode) as file:
        yield file


@contextlib.contextmanager
def replacing_unsynced(path: Path) -> Iterator[BinaryIO]:
    """Replace a file that can be made again: after a power cut it may be empty or torn.

    Raises:
        UnavailableError: the disk does not take it.
    """
    with _unavailable(path), _renaming(path, mode=0o644) as file:
        yield file


@contextlib.contextmanager
def replacing(
    path: Path, *, mode: int = 0o644, temporary: Path | None = None
) -> Iterator[BinaryIO]:
    """``replacing_durably`` for callers with their own words for ``OSError``.

    Args:
        path: of the file.
        mode: its rights from the first byte on, less the process's mask.
        temporary: the temporary file, on the same disk; None makes a name in the same folder.
    """
    with _renaming(path, mode=mode, temporary=temporary) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    sync_path(path.parent)


@contextlib.contextmanager
def _renaming(path: Path, *, mode: int, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A temporary file that takes the place of another when the block ends well."""
    aside = temporary or path.with_name(f".{secrets.token_hex(6)}.new")
    try:
        with os.fdopen(os.open(aside, _CREATE, mode), "wb") as file:
            yield file
        aside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def replacing_folder(path: Path, *, mode: int = 0o755) -> Iterator[Path]:
    """An empty folder that takes its place when the block ends well; none or an empty one is there.

    Its files are the block's to sync.
    """
    temporary = path.absolute().with_name(f".{secrets.token_hex(6)}.new")
    temporary.mkdir(mode=mode)
    try:
        yield temporary
        temporary.replace(path)
        sync_path(path.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make a file and wait until it is on the disk; ``FileExistsError`` if there is one."""
    with os.fdopen(os.open(path, _CREATE, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class HeaderWindow(RawIOBase):
    """An archive as ``tarfile`` or ``zipfile`` sees it while only its headers are read.

    Its reads are short, so one of more than ``most_bytes`` follows a forged or endless list: it
    raises ``refusal`` and reads nothing.
    """

    def __init__(self, file: BinaryIO, *, most_bytes: int, refusal: LinesideError) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self._refusal = refusal

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            here = self.tell()
            size = self.seek(0, os.SEEK_END) - here
            self.seek(here)
        if size > self._most_bytes:
            raise self._refusal
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def zip_headers(file: BinaryIO, *, most_files: int, refusal: LinesideError) -> BinaryIO:
    """A ZIP for ``zipfile`` to read the list of at most so many entries from, and nothing else.

    ``zipfile`` reads that list in one piece (APPNOTE.TXT 4.3.16). 512 bytes are more than an entry
    takes, and 65,557 is where the end record may begin.
    """
    most_bytes = 65_557 + 512 * most_files
    return cast("BinaryIO", HeaderWindow(file, most_bytes=most_bytes, refusal=refusal))


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@contextlib.contextmanager
def _unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            fix="Free space, and allow writing.",
        ) from error
