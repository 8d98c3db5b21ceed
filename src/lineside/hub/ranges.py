"""Parts of a file by HTTP (RFC 9110, 14): one range a request."""

import re

_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


def asked_range(header: str, size: int) -> range | None:
    """The bytes a ``Range`` header means; None: all of them.

    A header that is malformed, or names several ranges, counts as none (14.2). An empty range is
    one that cannot be satisfied (416).
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    end = min(int(last) + 1, size) if last else size
    return range(int(first), max(int(first), end))
