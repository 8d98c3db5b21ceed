"""Which events keep their order when they go to others: those of one key; pure."""

from lineside.core import InvalidError
from lineside.store import Logged
from lineside.streams import decode_event

KEYS = ("id", "source", "subject", "type")


def check_key(key: str, *, where: str) -> None:
    """Refuse a setting that names no key."""
    field = key.startswith("data.") and key != "data."
    if key and key not in KEYS and not field:
        raise InvalidError(
            f"{key!r} is no key", where=where,
            fix=f"Write one of {', '.join(KEYS)}, or data.<field>.",
        )  # fmt: skip


def key_of(logged: Logged, wanted: str) -> str:
    """What keeps an event in order with others.

    Args:
        logged: the event.
        wanted: "" for source and subject, one of ``KEYS``, or ``data.<field>``; a field the event
            lacks, or that is no plain value, leaves source and subject.
    """
    entry = logged.entry
    usual = f"{entry.source} {entry.subject}".rstrip()
    if not wanted:
        return usual
    if not wanted.startswith("data."):
        return str(getattr(entry, wanted))
    event = decode_event(entry.body, where=entry.id)
    found = event.data.get(wanted.removeprefix("data."))
    return usual if found is None or isinstance(found, dict | list) else str(found)
