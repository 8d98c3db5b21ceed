"""Versions compared as versions: 1 < 2 < 10, 1.9 < 1.10, 1.0 = 1.0.0."""

import re

from lineside.core import InvalidError

_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")


def version_key(version: str) -> tuple[int, ...]:
    """What versions are ordered by; zeros at the end say nothing.

    Raises:
        InvalidError: anything but whole numbers with dots between them.
    """
    if not _VERSION.fullmatch(version):
        raise InvalidError(
            f"{version!r} is no version",
            where="version",
            fix="Write whole numbers with dots between them, such as 4 or 1.10.",
        )
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def newer(version: str, *, than: str) -> bool:
    """Whether a version comes after another; equal ones do not."""
    return version_key(version) > version_key(than)
