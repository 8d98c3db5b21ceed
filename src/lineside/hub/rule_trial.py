"""A rule tried on a recorded span before it goes live: nothing is written."""

from datetime import datetime
from itertools import islice

from lineside.core import InvalidError, Plant, Rule
from lineside.hub.rules import recorded_entries
from lineside.store import EventLog
from lineside.streams import Difference, compare_rules

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
    if until <= since:
        raise InvalidError(
            f"the span ends at {until.isoformat()}", where="until", fix="Let it end later."
        )
    span = recorded_entries(log, since=since, until=until)
    entries = list(islice(span, MOST_TRIED + 1))
    if len(entries) > MOST_TRIED:
        raise InvalidError(
            f"the span holds more than {MOST_TRIED} entries", where="until",
            fix="Try a shorter span.",
        )  # fmt: skip
    old = next((rule for rule in plant.rule if rule.id == new.id), None)
    return compare_rules(new, old, entries=entries, plant=plant)
