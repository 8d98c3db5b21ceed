"""Discovery topics of Home Assistant: what they say, what their templates read, and their end."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jinja2.sandbox import SandboxedEnvironment

from lineside.core import SystemClock, encode
from lineside.core.drivers import SecretUrl
from lineside.fleet.contract import CameraCondition, DeviceStatus
from lineside.hub import HubConfig, Services, running
from lineside.hub.sinks.mqtt import HomeAssistant, discovery
from lineside.links import open_bus
from lineside.streams import VERDICT_TYPE
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from lineside.vision import encode_jpeg
from tests.hub.conftest import Line, drain
from tests.hub.test_rules import follower
from tests.links.conftest import Mosquitto

PREFIX = "homeassistant"
STATUS = "lineside/hall/device/edge-1/status"


def status(*, lost: bool = False, faults: tuple[str, ...] = ()) -> bytes:
    camera = CameraCondition(camera="rack", state="lost" if lost else "connected")
    return encode(
        DeviceStatus(
            device="edge-1", state="online", version="0.1.0", at="2026-01-01T12:00:00.000Z",
            cameras=(camera,), faults=faults, spool_depth=3,
        )
    )  # fmt: skip


def configured(hub: Services) -> dict[str, dict[str, Any]]:
    return discovery(PREFIX, plant=hub.plant, devices=hub.devices.all(), version="0.1.0")


def reads(part: Mapping[str, Any], payload: bytes, *, template: str = "value_template") -> str:
    """What Home Assistant reads of a message: its templates are those of Jinja."""
    made = SandboxedEnvironment().from_string(part[template])
    return made.render(value_json=json.loads(payload))


def test_a_device_tells_its_connection_its_faults_and_what_waits(hub: Services) -> None:
    hub.devices.take_status("edge-1", status())
    made = configured(hub)["homeassistant/device/lineside_hall_device_edge-1/config"]
    assert made["device"] == {
        "identifiers": ["lineside_hall_device_edge-1"], "name": "edge-1", "model": "device",
        "manufacturer": "lineside", "sw_version": "0.1.0", "via_device": "lineside_hall_site",
    }  # fmt: skip
    parts = made["components"]
    assert {one["state_topic"] for one in parts.values()} == {STATUS}
    faulty = status(faults=("spool: full",))
    assert reads(parts["connected"], faulty) == parts["connected"]["payload_on"]
    assert [reads(parts["problem"], one) for one in (status(), faulty)] == ["OFF", "ON"]
    assert "spool: full" in reads(parts["problem"], faulty, template="json_attributes_template")
    assert reads(parts["waiting"], faulty) == "3"


def test_a_camera_tells_its_connection_where_a_device_has_it_and_its_alerts(
    hub: Services, line: Line
) -> None:
    hub.devices.take_status("edge-1", status())
    made = configured(hub)
    rack, gate = (
        made[f"homeassistant/device/lineside_hall_camera_{name}/config"]["components"]
        for name in ("rack", "gate")
    )
    assert set(gate) == {"problem"}, "no device looks through it"
    connected = rack["connected"]
    assert connected["state_topic"] == STATUS
    assert [reads(connected, one) for one in (status(), status(lost=True))] == ["ON", "OFF"]
    quiet = encode(hub.alerts.message(at=hub.clock.now()))
    assert reads(rack["problem"], quiet) == "OFF"
    for grey in (1, 2, 3):
        line.wait(0.5)
        line.send(line.camera(encode_jpeg(np.full((120, 160, 3), grey, np.uint8))))
    hub.alert_watch.tick()
    alert = encode(hub.alerts.message(at=hub.clock.now()))
    assert [reads(one["problem"], alert) for one in (rack, gate)] == ["ON", "OFF"]
    of_line = made["homeassistant/device/lineside_hall_line_warehouse/config"]["components"]
    assert reads(of_line["problem"], alert) == "ON"
    assert "grey" in reads(rack["problem"], alert, template="json_attributes_template")
    of_site = made["homeassistant/device/lineside_hall_site/config"]["components"]
    assert reads(of_site["alerts"], alert) == "1"


def test_a_line_tells_the_verdict_on_each_part(hub: Services, line: Line) -> None:
    maker = follower(hub)
    line.see("red")
    drain(maker)
    event = hub.records.log.read(type=VERDICT_TYPE)[0].entry.body
    made = configured(hub)["homeassistant/device/lineside_hall_line_warehouse/config"]
    verdict = made["components"]["verdict"]
    assert verdict["state_topic"] == "lineside/hall/warehouse/verdict"
    assert reads(verdict, event) in verdict["options"]
    attributes = json.loads(reads(verdict, event, template="json_attributes_template"))
    assert set(attributes) == {"part", "reasons"}


def test_topics_and_identities_are_of_letters_that_home_assistant_takes(hub: Services) -> None:
    for name in ("a.b", "a_b", "a-b"):
        hub.devices.take_status(name, status().replace(b"edge-1", name.encode()))
    topics = [topic for topic in configured(hub) if "_device_" in topic]
    assert len(set(topics)) == 3
    assert all(set(topic.split("/")[2]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
               for topic in topics)  # fmt: skip


def test_what_the_plant_or_its_devices_have_no_more_is_removed(
    hub: Services, clock: FakeClock, bus_url: str
) -> None:
    switched_on = replace(hub, config=replace(hub.config, homeassistant=PREFIX))
    HomeAssistant(switched_on).tick()
    listener = open_bus(bus_url, client_id="ha", clock=clock)
    heard = listener.subscribe((f"{PREFIX}/#",), size=100)
    retained = {one.topic for one in heard.get_many(most=100, timeout_s=0)}
    assert len(retained) == 4  # site, two cameras, line
    again = HomeAssistant(switched_on)
    again.tick()
    assert len(heard.get_many(most=100, timeout_s=0)) == 4, "said again after a start"
    again.tick()
    assert heard.get_many(most=100, timeout_s=0) == [], "and then where something changed"
    hub.devices.take_status("edge-1", status())
    again.tick()
    changed = {one.topic.split("_", 1)[1] for one in heard.get_many(most=100, timeout_s=0)}
    assert changed == {"hall_device_edge-1/config", "hall_camera_rack/config"}
    HomeAssistant(hub).tick()  # switched off in the settings
    gone = heard.get_many(most=100, timeout_s=0)
    assert {one.topic for one in gone} == retained | {
        f"{PREFIX}/device/lineside_hall_device_edge-1/config"
    }
    assert {one.payload for one in gone} == {b""}
    HomeAssistant(hub).tick()
    assert heard.get_many(most=100, timeout_s=0) == []
    listener.close()


@pytest.mark.service
def test_home_assistant_finds_a_hub_on_mosquitto_until_it_is_switched_off(
    config: HubConfig, mosquitto: Mosquitto
) -> None:
    clock, said = SystemClock(), dict[str, bytes]()
    listener = open_bus(mosquitto.url, client_id="ha", clock=clock)
    heard = listener.subscribe((f"{PREFIX}/#", "lineside/hall/alerts"), name="ha")

    def listen(until: Callable[[], bool]) -> None:
        while not until():
            message = heard.get(timeout_s=LONG_S)
            assert message is not None, said
            said[message.topic] = message.payload

    stored = replace(
        config,
        records=SecretUrl(""),
        blobs=SecretUrl(""),
        bus=SecretUrl(mosquitto.url),
        homeassistant=PREFIX,
    )
    with running(stored, clock=clock):
        listen(lambda: len(said) == 5)
    assert json.loads(said.pop("lineside/hall/alerts"))["open"] == [], "so that nothing is unknown"
    line = json.loads(said[f"{PREFIX}/device/lineside_hall_line_warehouse/config"])
    assert set(line["components"]["verdict"]["options"]) == {"ok", "reject", "review", "incomplete"}
    with running(replace(stored, homeassistant=""), clock=clock):
        listen(lambda: not any(said.values()))
    listener.close()
