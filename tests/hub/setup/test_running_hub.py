"""A plant file that changes while the hub runs on its own broker: nothing acknowledged is lost."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core import SystemClock, digest_of, encode, rfc3339
from lineside.core.drivers import SecretUrl
from lineside.core.plant_check import PLANT_GROUP, plant_text_topic
from lineside.hub import HubConfig, RunningHub, running
from lineside.hub.setup.toml_edit import PlantEdit
from lineside.links import Bus, open_bus
from lineside.testing.links import LONG_S, wait_until

CLOCK = SystemClock()
SENSOR = "lineside.plant.sensor.v1"
COUNT = 150


@pytest.fixture
def hub(config: HubConfig) -> Iterator[RunningHub]:
    with running(
        replace(config, records=SecretUrl(""), blobs=SecretUrl(""), strays=False), clock=CLOCK
    ) as opened:
        yield opened


@pytest.fixture
def bus(hub: RunningHub) -> Iterator[Bus]:
    opened = open_bus(hub.bus_url, client_id="factory", clock=CLOCK)
    yield opened
    opened.close()


def brightness(number: int) -> bytes:
    return encode({"ts": rfc3339(CLOCK.now()), "ldr": number, "br": "1.0"})


def kept(hub: RunningHub, topic: str) -> int:
    log = hub.services.records.log
    return len(log.read(type=SENSOR, subject=topic, limit=1000))


def test_routes_that_come_and_go_lose_no_message_that_the_broker_acknowledged(
    hub: RunningHub, bus: Bus
) -> None:
    plants = hub.services.plants
    halfway = threading.Event()

    def send() -> None:
        for number in range(COUNT):
            bus.publish("i/ldr", brightness(number), qos=1)
            if number == COUNT // 3:
                halfway.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert halfway.wait(LONG_S)
    route = {"topic": "hall/light", "kind": "sensor"}
    plants.change(edits=[PlantEdit(section="route", values=route)], by="anna", reason="a sensor")
    bus.publish("hall/light", brightness(1), qos=1)
    sender.join(LONG_S)
    wait_until(lambda: kept(hub, "hall/light") == 1)
    wait_until(lambda: kept(hub, "i/ldr") == COUNT)
    edit = PlantEdit(section="route", id="hall/light", remove=True)
    plants.change(edits=[edit], by="anna", reason="it is gone")
    bus.publish("hall/light", brightness(2), qos=1)
    bus.publish("i/ldr", brightness(COUNT), qos=1)
    wait_until(lambda: kept(hub, "i/ldr") == COUNT + 1)
    assert kept(hub, "hall/light") == 1


def test_a_rule_of_the_next_version_reads_on_and_devices_are_told_the_text(
    hub: RunningHub, bus: Bus
) -> None:
    services = hub.services
    told = bus.subscribe((plant_text_topic("hall"),), name="plant")
    rule = (
        '[[rule]]\nid = "light"\nread = { topic = "i/ldr" }\nkey = ["topic"]\n'
        "window = { size_s = 0.1 }\nidle_s = 0.1\n"
    )
    services.plants.change(
        edits=[PlantEdit(section="rule", text=rule)], by="anna", reason="count light"
    )
    wait_until(lambda: "light" in services.rules._running)
    for number in range(3):
        bus.publish("i/ldr", brightness(number), qos=1)
    wait_until(lambda: services.rules.one("light").counters.read > 0)
    message = told.get(timeout_s=LONG_S)
    assert message is not None
    assert b'"number":2' in message.payload
    assert b"lineside.plant/1" not in message.payload  # cameras' passwords stand in the text
    numbers = (1, 2)
    for number, text in ((one, services.plants.text(one)) for one in numbers):
        signed = services.releases.target_of(digest_of(text.encode()), group=PLANT_GROUP)
        assert signed is not None
        assert signed.custom["version"] == str(number)
        assert text.encode() not in services.releases.archive(signed.path)[1]
    assert "light" in Path(services.config.plant).read_text()
