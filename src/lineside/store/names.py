"""What may stand as a name in a record: the same on every database.

PostgreSQL refuses NUL in text and index entries above about 2,700 bytes; SQLite takes both. A
name that one of them refuses is refused by all, before a statement is written.
"""

from datetime import datetime

from lineside.core import InvalidError

MAX_NAME_BYTES = 2000
MAX_KIND_BYTES = 500
MAX_COUNT = 2**63 - 1
_LONGEST_SHOWN = 60


def check_name(text: str, *, what: str, most: int = MAX_NAME_BYTES, empty: bool = False) -> None:
    """Refuse text that cannot stand in an index.

    Raises:
        InvalidError: empty where it may not be, a NUL, half a surrogate pair, or too long.
    """
    shown = text[:_LONGEST_SHOWN]
    if not text and not empty:
        raise InvalidError(f"the {what} is empty", where=what, fix="Name it.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidError(
            f"the {what} {shown!r} is no Unicode text", where=what, fix="Send valid UTF-8."
        ) from error
    if "\x00" in text:
        raise InvalidError(f"the {what} {shown!r} holds a NUL", where=what, fix="Leave it out.")
    if size > most:
        raise InvalidError(
            f"the {what} {shown!r}… has {size} bytes, more than {most}",
            where=what,
            fix="Shorten it.",
        )


def check_count(number: int, *, what: str) -> None:
    """Refuse a number that a 64-bit column cannot hold, or below 0."""
    if not 0 <= number <= MAX_COUNT:
        raise InvalidError(f"{what} is {number}", where=what, fix=f"From 0 to {MAX_COUNT}.")


def check_moment(moment: datetime | None, *, what: str) -> None:
    """Refuse a time without zone."""
    if moment is not None and moment.tzinfo is None:
        raise InvalidError(f"{what} {moment} names no zone", where=what, fix="Attach a UTC offset.")


def check_limit(limit: int) -> None:
    """Refuse a page of nothing."""
    if limit < 1:
        raise InvalidError(f"limit is {limit}", where="limit", fix="Ask for 1 or more.")
