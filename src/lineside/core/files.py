"""Files and folders that are there whole or not at all, whatever ends the program.

1. What is written stands beside its place under a name of its own, is synced, renamed, and the
   folder synced: a power cut leaves the old or the new, and two programs may replace one file.
2. Whatever fails, the temporary name is gone and what stood there stands there still.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lineside.core.errors import UnavailableError


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
def replacing(
    path: Path, *, mode: int = 0o644, temporary: Path | None = None
) -> Iterator[BinaryIO]:
    """``replacing_durably`` for callers with their own words for ``OSError``.

    Args:
        path: of the file.
        mode: its rights from the first byte on, less the process's mask.
        temporary: the temporary file, on the same disk; None makes a name in the same folder.
    """
    aside = temporary or path.with_name(f".{secrets.token_hex(6)}.new")
    try:
        with os.fdopen(os.open(aside, _CREATE, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_path(path.parent)
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
