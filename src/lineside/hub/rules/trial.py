"""A rule tried on a recorded span before it goes live: nothing is written."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any

from lineside.core import InvalidError, Plant, Rule, encode, require_order
from lineside.hub.rules.service import recorded_entries
from lineside.store import EventLog
from lineside.streams import Difference, compare_rules

Told = dict[str, Any]

MOST_TRIED = 200_000
"""Entries of a span at most."""


def attempt(
    new: Rule, *, plant: Plant, log: EventLog, since: datetime, until: datetime
) -> Difference:
    """What a declaration would have said of a recorded span, against the one in use.

    Args:
        new: the declaration.
        plant: has the one in use, if there is one of that id, and the rules that are read.
        log: where the span stands.
        since: entries that arrived from here on,
        until: and before this.

    Raises:
        InvalidError: the span holds more than ``MOST_TRIED`` entries, or ends before it begins.
    """
    require_order(since, until, where="since, until")
    span = recorded_entries(log, since=since, until=until)
    entries = list(islice(span, MOST_TRIED + 1))
    if len(entries) > MOST_TRIED:
        raise InvalidError(
            f"the span holds more than {MOST_TRIED} entries", where="until",
            fix="Try a shorter span.",
        )  # fmt: skip
    old = next((rule for rule in plant.rule if rule.id == new.id), None)
    return compare_rules(new, old, entries=entries, plant=plant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A difference as people read it.

    Attributes:
        otherwise: told by both of the same key and a stretch that overlaps, but not alike: what
            the one in use says, and what the new one does.
        added: what only the new one says, in order.
        removed: what only the one in use says.
    """

    otherwise: tuple[tuple[Told, Told], ...]
    added: tuple[Told, ...]
    removed: tuple[Told, ...]


def compared(found: Difference) -> Compared:
    """Take together what is the same thing told otherwise, of each key in order of time."""
    waiting: dict[bytes, deque[Told]] = {}
    for one in sorted(found.added, key=itemgetter("from", "to")):
        waiting.setdefault(_kind(one), deque()).append(one)
    pairs: list[tuple[Told, Told]] = []
    removed: list[Told] = []
    for old in sorted(found.removed, key=itemgetter("from", "to")):
        new = _overlapping(old, waiting.get(_kind(old)))
        if new is None:
            removed.append(old)
        else:
            pairs.append((old, new))
    taken = {id(new) for _, new in pairs}
    added = (one for one in found.added if id(one) not in taken)
    return Compared(otherwise=tuple(pairs), added=tuple(added), removed=tuple(removed))


def _overlapping(old: Told, waiting: deque[Told] | None) -> Told | None:
    """The first that does not end before ``old`` begins, if it begins before ``old`` ends."""
    while waiting and waiting[0]["to"] < old["from"]:
        waiting.popleft()
    return waiting.popleft() if waiting and waiting[0]["from"] <= old["to"] else None


def _kind(told: Told) -> bytes:
    return encode([told["key"], told["action"]])
