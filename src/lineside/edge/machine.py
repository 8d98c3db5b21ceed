"""What this machine is, as packages and releases name it, and what this program takes of it."""

import contextlib
import ctypes
import os
import platform
from pathlib import Path

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
