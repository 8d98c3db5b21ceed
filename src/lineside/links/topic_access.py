"""What a device may say and hear on the bus; the same rules make mosquitto's access list.

1. What no pattern allows is refused, wildcards in a name or a topic included.
2. A device says its own status and log, takes part in the jobs of its own thing, and says frames
   and predictions of the cameras of its lines, and what the plant file has said of these elsewhere.
3. It hears what the hub tells it, what triggers its inspections, and its cameras' pictures. What
   other devices say is not for it.
4. A subscription is allowed only if every topic it could bring is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lineside.core import Camera, Plant
from lineside.links.topics import topic_matches

_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SAYS = ("status", "evidence")
_HEARS = ("desired", "ack")
ANYBODY = "%u"
"""Stands for the device's name in mosquitto's patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicAccess:
    """Patterns of topics that one client may publish to, and that it may hear."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def may_publish(self, topic: str) -> bool:
        """Whether a message may have this topic."""
        if "+" in topic or "#" in topic:
            return False
        return any(topic_matches(pattern, topic) for pattern in self.publish)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether everything that a pattern could bring may be heard."""
        return any(pattern_covers(allowed, pattern) for allowed in self.subscribe)


def is_identity(name: str) -> bool:
    """Whether a name can stand in topics, job targets and certificates alike."""
    return bool(_IDENTITY.fullmatch(name))


def device_access(plant: Plant, *, device: str, lines: Iterable[str]) -> TopicAccess:
    """What a device of these lines may; nothing for a name that is none."""
    if not is_identity(device):
        return TopicAccess()
    own, shared = own_access(plant, device=device), line_access(plant, lines=lines)
    return TopicAccess(
        publish=own.publish + shared.publish, subscribe=own.subscribe + shared.subscribe
    )


def own_access(plant: Plant, *, device: str) -> TopicAccess:
    """What a device may because of its name."""
    root, jobs = f"lineside/{plant.site}/device/{device}", f"$aws/things/{device}/jobs/#"
    return TopicAccess(
        publish=(
            *(f"{root}/{noun}" for noun in _SAYS),
            f"edge-manager-app/logs/{device}",
            jobs,
        ),
        subscribe=(*(f"{root}/{noun}" for noun in _HEARS), jobs),
    )


def line_access(plant: Plant, *, lines: Iterable[str]) -> TopicAccess:
    """What a device may because of the lines it stands at."""
    wanted = set(lines)
    cameras = [camera for camera in plant.camera if camera.line in wanted]
    names = {camera.id for camera in cameras}
    triggers = [
        one.trigger.topic for one in plant.inspection if one.camera in names and one.trigger.topic
    ]
    heard = [camera.source.removeprefix("mqtt:") for camera in cameras if _on_the_bus(camera)]
    said = [
        f"lineside/{plant.site}/{camera.line}/{camera.id}/{noun}"
        for camera in cameras
        for noun in ("frame", "prediction")
    ]
    said += _said_to_the_plant(plant, cameras=names)
    return TopicAccess(publish=tuple(said), subscribe=tuple(dict.fromkeys([*heard, *triggers])))


def _said_to_the_plant(plant: Plant, *, cameras: set[str]) -> list[str]:
    """Topics of routes on which answers about these cameras are said."""
    own = {one.id for one in plant.inspection if one.camera in cameras}
    return [route.topic for route in plant.route if route.say and route.say.inspection in own]


def access_list(plant: Plant, *, devices: Mapping[str, Iterable[str]]) -> str:
    """The same rules as mosquitto's ``acl_file`` (mosquitto.conf(5)).

    Args:
        plant: whose topics.
        devices: name of each device with its lines; what is not a name is left out.
    """
    own = own_access(plant, device=ANYBODY)
    parts = [_lines("pattern", own)]
    for device, lines in sorted(devices.items()):
        shared = line_access(plant, lines=lines)
        if is_identity(device) and (shared.publish or shared.subscribe):
            parts.append(f"user {device}\n{_lines('topic', shared)}")
    return "\n".join(parts)


def pattern_covers(allowed: str, asked: str) -> bool:
    """Whether every topic under ``asked`` falls under ``allowed``."""
    if asked.startswith("$") and allowed[:1] in ("+", "#"):
        return False
    wide, narrow = allowed.split("/"), asked.split("/")
    for place, level in enumerate(wide):
        if level == "#":
            return True
        if place >= len(narrow) or narrow[place] == "#":
            return False
        if level not in ("+", narrow[place]):
            return False
    return len(wide) == len(narrow)


def _lines(word: str, access: TopicAccess) -> str:
    both = set(access.publish) & set(access.subscribe)
    rows = [f"{word} readwrite {one}" for one in access.publish if one in both]
    rows += [f"{word} write {one}" for one in access.publish if one not in both]
    rows += [f"{word} read {one}" for one in access.subscribe if one not in both]
    return "\n".join(rows) + "\n"


def _on_the_bus(camera: Camera) -> bool:
    return camera.source.startswith("mqtt:")
