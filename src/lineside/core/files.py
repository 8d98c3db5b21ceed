"""Files that are there whole or not at all, whatever ends the program."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lineside.core.errors import UnavailableError


def replace_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put a file in another's place; a power cut leaves the one or the other.

    Args:
        path: of the file; its folder is made where there is none, closed to others if the file is.
        data: all of it.
        mode: its rights from the first byte on, less the process's mask.

    Raises:
        UnavailableError: the disk does not take it; what stood there stands there still.
    """
    # A name of its own, for two programs may replace one file at the same moment.
    passing = path.with_name(f".{secrets.token_hex(6)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o777 if mode & 0o077 else 0o700)
        write_durably(passing, data, mode=mode)
        passing.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            passing.unlink()
        raise UnavailableError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            fix="Free space, and allow writing.",
        ) from error


@contextlib.contextmanager
def replacing_durably(path: Path) -> Iterator[BinaryIO]:
    """The same for what is written piece by piece: put in its place when the block ends well.

    Raises:
        UnavailableError: the disk does not take it; what stood there stands there still.
    """
    passing = path.with_name(f".{secrets.token_hex(6)}.new")
    try:
        with passing.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        passing.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            fix="Free space, and allow writing.",
        ) from error
    finally:
        passing.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make a file and wait until it is on the disk; ``FileExistsError`` if there is one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
