"""What a fold answers, and the two questions every part of it asks."""

from dataclasses import dataclass, replace
from enum import StrEnum

from lineside.core import EventId
from lineside.streams import Event
from lineside.twin.state import Evidence, LineState

MOST_RECENT = 64


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The state after an event.

    Attributes:
        state: the same object as before unless ``outcome`` is ``applied``.
        raised: what the hub has to say because of it, in its own chain; ids are stable.
        reason: why an event was late or unreadable; "" otherwise.
    """

    state: LineState
    raised: tuple[Event, ...] = ()
    outcome: Outcome = Outcome.APPLIED
    reason: str = ""


def is_newer(evidence: Evidence, event: Event) -> bool:
    """Whether an event may overwrite what rests on ``evidence``: by capture time.

    Of two events of the same instant the later arrival wins, because plants write milliseconds.
    """
    if evidence.at is None or event.time > evidence.at:
        return True
    return event.time == evidence.at and event.id != evidence.event


def late(state: LineState, evidence: Evidence) -> Applied:
    """Nothing changed, because what stands is newer."""
    return Applied(state=state, outcome=Outcome.LATE, reason=f"{evidence.event} is newer")


def ignored(state: LineState) -> Applied:
    """Nothing changed, because the twin does not show it."""
    return Applied(state=state, outcome=Outcome.IGNORED)


def remembered(state: LineState, event: Event) -> LineState:
    """Count the event, and know its id if it comes again."""
    recent = (EventId(event.id), *state.recent[: MOST_RECENT - 1])
    return replace(state, revision=state.revision + 1, recent=recent)
