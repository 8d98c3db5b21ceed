"""This machine and its data folder: platform, boot, memory, and the lock of the folder."""

import contextlib
import ctypes
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lineside.core import ConflictError, UnavailableError

_ALIKE = {"amd64": "x86_64", "arm64": "aarch64"}


def this_platform() -> str:
    """Such as ``linux/x86_64``, as manifests and releases name it."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}/{_ALIKE.get(machine, machine)}"


def boot_id() -> str:
    """Another text after each start of the machine (Linux); where that cannot be known, none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def resident_bytes() -> int:
    """Memory this program holds right now (proc(5), statm); 0 where that cannot be known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Hand freed memory to the system (malloc_trim(3)), where the C library knows how.

    A package is read, loaded and tried in pieces of many megabytes, of which little is kept;
    without this they stay with the program until the next one, which may be months ahead.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Make the folder and hold it: two agents on one spool would give one number twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}", where=str(folder), fix="Allow writing there."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                "another agent uses this folder",
                where=str(folder),
                fix="Stop it, or give this one a data_dir of its own.",
            ) from error
        yield
