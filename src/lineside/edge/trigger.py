"""When a frame is inspected; pure, on capture times.

1. ``frame``: each one. 2. ``interval``: not before ``interval_s`` after the last one inspected;
the clock is the camera's. 3. ``topic``: the first frame that arrives after a message on the topic.
4. ``part``: each frame that carries a part id.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from lineside.core import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a trigger remembers between frames.

    Attributes:
        last_at: capture time of the frame inspected last.
        armed: a message on the trigger's topic came and no frame was inspected since.
    """

    last_at: datetime | None = None
    armed: bool = False


def arm(seen: Seen) -> Seen:
    """After a message on the trigger's topic."""
    return replace(seen, armed=True)


def wants(trigger: Trigger, seen: Seen, *, captured_at: datetime, part: str) -> bool:
    """Whether this frame is to be inspected."""
    match trigger.on:
        case "frame":
            return True
        case "interval":
            wait = timedelta(seconds=trigger.interval_s)
            return seen.last_at is None or captured_at - seen.last_at >= wait
        case "topic":
            return seen.armed
        case "part":
            return bool(part)
        case _:
            assert_never(trigger.on)


def inspected(seen: Seen, *, captured_at: datetime) -> Seen:
    """After the frame was taken; an older frame never moves the interval back."""
    last_at = captured_at if seen.last_at is None else max(seen.last_at, captured_at)
    return replace(seen, last_at=last_at, armed=False)
