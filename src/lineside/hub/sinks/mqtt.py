"""Rule events published on the bus, in log order, again after a crash if in doubt.

A subscriber may get an event twice and recognises it by its id; none is lost.
"""

from collections.abc import Sequence

from lineside.core import Plant, UnavailableError
from lineside.hub.rules.service import line_of
from lineside.links import Bus
from lineside.store import Logged


class EventOutbox:
    """Handler of a follower over the hub's own rule events."""

    def __init__(self, bus: Bus, *, plant: Plant) -> None:
        self._bus = bus
        self._plant = plant
        self._line = _line_of(plant)
        self._lines = {rule.id: line_of(rule, plant) for rule in plant.rule}

    def publish(self, entries: Sequence[Logged]) -> None:
        """Say each on ``lineside/<site>/<line>/event/<rule>``.

        Raises:
            UnavailableError: the bus is away; the follower tries again.
        """
        if not self._bus.connected():
            raise UnavailableError("the bus is away", fix="The events are said on its return.")
        for logged in entries:
            rule = _level(logged.entry.subject) or "event"
            line = self._lines.get(logged.entry.subject, self._line)
            topic = f"lineside/{self._plant.site}/{line}/event/{rule}"
            self._bus.publish(topic, logged.entry.body, qos=1)


def _line_of(plant: Plant) -> str:
    """The line of the twin's camera; the first line where there is no twin."""
    if plant.twin is not None:
        camera = plant.find_inspection(plant.twin.inspection).camera
        return plant.find_camera(camera).line
    return plant.line[0].id if plant.line else "line"


def _level(text: str) -> str:
    """Text as one level of a topic."""
    return "".join("-" if letter in "/+#\0" else letter for letter in text)
