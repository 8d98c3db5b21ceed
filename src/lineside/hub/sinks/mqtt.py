"""Rule events and verdicts published on the bus, in log order, again after a crash if in doubt.

A subscriber may get an event twice and recognises it by its id; none is lost.
"""

from collections.abc import Sequence

from lineside.core import Plant, UnavailableError
from lineside.hub.rules.service import line_of
from lineside.links import Bus
from lineside.store import LogEntry, Logged
from lineside.streams import VERDICT_TYPE, decode_event, read_verdict
from lineside.streams.verdicts import verdict_topic


class EventOutbox:
    """Handler of followers over the hub's own rule events, and over verdicts."""

    def __init__(self, bus: Bus, *, plant: Plant) -> None:
        self._bus = bus
        self._plant = plant

    def publish(self, entries: Sequence[Logged]) -> None:
        """Say rule events on ``…/<line>/event/<rule>``, verdicts on ``…/<line>/verdict``.

        Raises:
            UnavailableError: the bus is away; the follower tries again.
        """
        for logged in entries:
            topic = self._topic(logged.entry)
            if not topic:
                continue
            if not self._bus.connected():
                raise UnavailableError("the bus is away", fix="The events are said on its return.")
            self._bus.publish(topic, logged.entry.body, qos=1)

    def _topic(self, entry: LogEntry) -> str:
        """Where an event is said; "" for a verdict that a device has published."""
        if entry.type == VERDICT_TYPE:
            given = read_verdict(decode_event(entry.body, where=entry.id))
            return "" if given.device else verdict_topic(self._plant, entry.subject)
        rule = next((one for one in self._plant.rule if one.id == entry.subject), None)
        line = _line_of(self._plant) if rule is None else line_of(rule, self._plant)
        return f"lineside/{self._plant.site}/{line}/event/{_level(entry.subject) or 'event'}"


def _line_of(plant: Plant) -> str:
    """The line of the twin's camera; the first line where there is no twin."""
    if plant.twin is not None:
        camera = plant.find_inspection(plant.twin.inspection).camera
        return plant.find_camera(camera).line
    return plant.line[0].id if plant.line else "line"


def _level(text: str) -> str:
    """Text as one level of a topic."""
    return "".join("-" if letter in "/+#\0" else letter for letter in text)
