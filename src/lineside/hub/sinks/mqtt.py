"""Rule events and verdicts published on the bus, in log order, again after a crash if in doubt.

A subscriber may get an event twice and recognises it by its id; none is lost.

The discovery topics of Home Assistant, which name those and the devices' own topics.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from lineside.core import NotFoundError, Plant, UnavailableError, encode
from lineside.hub.alerts.service import alerts_topic
from lineside.hub.rules.service import line_of
from lineside.hub.services import Services
from lineside.hub.views import DeviceView
from lineside.links import Bus
from lineside.store import LogEntry, Logged
from lineside.streams import VERDICT_TYPE, decode_event, read_verdict, verdict_lines
from lineside.streams.verdicts import verdict_topic
from lineside.vision.verdict import PartVerdict


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


# ---- Home Assistant

_KIND = "homeassistant"
_VERDICTS = [str(one) for one in PartVerdict]


def discovery(
    prefix: str, *, plant: Plant, devices: Sequence[DeviceView], version: str
) -> dict[str, dict[str, Any]]:
    """Return the discovery topics of Home Assistant and their payloads.

    Each device, camera and line becomes a device of Home Assistant, and so does the site.

    Args:
        prefix: of the topics, as Home Assistant is set up; usually ``homeassistant``.
        plant: whose cameras and lines.
        devices: as they reported last.
        version: of lineside.
    """
    alerts = alerts_topic(plant.site)
    found: dict[str, dict[str, Any]] = {}

    def add(kind: str, name: str, *, title: str, more: Mapping[str, Any], **parts: Any) -> None:  # noqa: ANN401  JSON
        identity = f"lineside_{_plain(plant.site)}_{kind}" + (f"_{_plain(name)}" if name else "")
        found[f"{prefix}/device/{identity}/config"] = {
            "device": {"identifiers": [identity], "name": title, "manufacturer": "lineside",
                       "model": kind, **more},
            "origin": {"name": "lineside", "sw_version": version},
            "components": {
                key: {"unique_id": f"{identity}_{key}", "qos": 1, **part}
                for key, part in parts.items()
            },
        }  # fmt: skip

    open_alerts = {
        "platform": "sensor", "name": "Open alerts", "state_topic": alerts,
        "value_template": "{{ value_json.open | count }}", "state_class": "measurement",
    }  # fmt: skip
    add("site", "", title=plant.name or plant.site, more={}, alerts=open_alerts)
    site = {"via_device": f"lineside_{_plain(plant.site)}_site"}
    for device in devices:
        topic = f"lineside/{plant.site}/device/{device.id}/status"
        more = site | ({"sw_version": device.version} if device.version else {})
        add("device", device.id, title=device.id, more=more, **_device_parts(topic))
    status_of = _camera_topics(plant, devices)
    areas = {line.id: line.name or line.id for line in plant.line}
    for camera in plant.camera:
        parts = {"problem": _problem(alerts, "object", camera.id)}
        if camera.id in status_of:
            parts["connected"] = _connected(status_of[camera.id], camera.id)
        more = site | {"suggested_area": areas[camera.line]}
        add("camera", camera.id, title=camera.name or camera.id, more=more, **parts)
    judged = verdict_lines(plant)
    for line in plant.line:
        parts = {"problem": _problem(alerts, "line", line.id)}
        if line.id in judged:
            parts["verdict"] = _verdict(verdict_topic(plant, line.id))
        add("line", line.id, title=line.name or line.id, more=site, **parts)
    return found


def _device_parts(topic: str) -> dict[str, dict[str, Any]]:
    return {
        "connected": {
            "platform": "binary_sensor", "name": "Connected", "device_class": "connectivity",
            "state_topic": topic, "value_template": "{{ value_json.state }}",
            "payload_on": "online", "payload_off": "offline",
        },
        "problem": {
            "platform": "binary_sensor", "name": "Problem", "device_class": "problem",
            "state_topic": topic,
            "value_template": "{{ 'ON' if value_json.faults else 'OFF' }}",
            "json_attributes_topic": topic,
            "json_attributes_template": "{{ {'faults': value_json.faults} | tojson }}",
        },
        "waiting": {
            "platform": "sensor", "name": "Events that wait", "state_topic": topic,
            "value_template": "{{ value_json.spool_depth }}", "state_class": "measurement",
            "entity_category": "diagnostic",
        },
    }  # fmt: skip


def _problem(topic: str, field: str, name: str) -> dict[str, Any]:
    """Return a sensor of whether an open alert has this name in a field; its reasons beside it."""
    found = f"value_json.open | selectattr('{field}', 'eq', '{name}') | map(attribute='reason')"
    return {
        "platform": "binary_sensor", "name": "Problem", "device_class": "problem",
        "state_topic": topic, "value_template": f"{{{{ 'ON' if {found} | list else 'OFF' }}}}",
        "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {{'reasons': {found} | list}} | tojson }}}}",
    }  # fmt: skip


def _connected(topic: str, camera: str) -> dict[str, Any]:
    states = f"value_json.cameras | selectattr('camera', 'eq', '{camera}') | map(attribute='state')"
    return {
        "platform": "binary_sensor", "name": "Connected", "device_class": "connectivity",
        "state_topic": topic,
        "value_template": f"{{{{ 'ON' if 'connected' in ({states} | list) else 'OFF' }}}}",
    }  # fmt: skip


def _verdict(topic: str) -> dict[str, Any]:
    data = "{'part': value_json.data.part, 'reasons': value_json.data.reasons}"
    return {
        "platform": "sensor", "name": "Verdict", "device_class": "enum", "options": _VERDICTS,
        "state_topic": topic, "value_template": "{{ value_json.data.verdict }}",
        "force_update": True, "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {data} | tojson }}}}",
    }  # fmt: skip


def _camera_topics(plant: Plant, devices: Sequence[DeviceView]) -> dict[str, str]:
    """The status topic of the device that looks through a camera, for those that one has."""
    return {
        str(camera.get("camera")): f"lineside/{plant.site}/device/{device.id}/status"
        for device in reversed(devices)
        for camera in device.status.get("cameras", ())
        if isinstance(camera, dict)
    }


def _plain(text: str) -> str:
    """Text of the letters that Home Assistant takes, another one for each other text."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):x}_", text)


class HomeAssistant:
    """Keeps the retained discovery topics as the plant and its devices are.

    1. The topics are noted in the store before they are said, so that they can be removed: by an
       empty retained message, once the settings or the plant file do not have them any more.
    2. After each return of the bus they are said again: a broker may have forgotten them.
    3. It never waits for the broker; what finds no room is said at the next turn.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._published: dict[str, bytes] = {}
        self._noted: set[str] | None = None
        self._connections = 0

    def tick(self) -> None:
        """Say what changed.

        Raises:
            UnavailableError: the store is away.
        """
        bus = self._services.orders.bus
        if bus is None or not bus.connected():
            return
        noted = self._stored() if self._noted is None else self._noted
        wanted = self._wanted()
        if not wanted and not noted:
            self._noted = noted
            return
        if bus.connections() != self._connections:
            self._connections, self._published = bus.connections(), {}
        self._note(noted | wanted.keys())
        for topic in sorted(noted - wanted.keys()):
            if bus.publish_soon(topic, b"", retain=True):
                noted.discard(topic)
                self._published.pop(topic, None)
        for topic, payload in wanted.items():
            said = self._published.get(topic) == payload
            if not said and bus.publish_soon(topic, payload, retain=True):
                self._published[topic] = payload
        self._note(noted | wanted.keys())

    def _wanted(self) -> dict[str, bytes]:
        services = self._services
        prefix = services.config.homeassistant
        if not prefix:
            return {}
        found = discovery(
            prefix, plant=services.plant, devices=services.devices.all(),
            version=version("lineside"),
        )  # fmt: skip
        return {topic: encode(payload) for topic, payload in found.items()}

    def _stored(self) -> set[str]:
        try:
            body = self._services.records.documents.get(_KIND, self._services.plant.site).body
        except NotFoundError:
            return set()
        return set(body["topics"])

    def _note(self, topics: set[str]) -> None:
        if topics != self._noted:
            body = {"topics": sorted(topics)}
            self._services.records.documents.put(_KIND, self._services.plant.site, body=body)
            self._noted = topics
