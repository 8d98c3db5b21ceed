"""``--from`` and ``--to`` as they are typed."""

from datetime import datetime

from lineside.core import InvalidError, parse_rfc3339, require_order


def read_span(since: str, until: str) -> tuple[datetime, datetime]:
    """A span of which both ends are given.

    Raises:
        InvalidError: an end is missing or no time, or the span ends before it begins.
    """
    if not (since and until):
        raise InvalidError("half a span", where="--from --to", fix="Give both --from and --to.")
    begin, end = parse_rfc3339(since, where="--from"), parse_rfc3339(until, where="--to")
    require_order(begin, end, where="--from --to")
    return begin, end
