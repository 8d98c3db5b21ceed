"""What is seen goes out to others; nothing is lost or said twice though the hub is killed twice.

A camera speaks on mosquitto; the hub bridges it to Kafka, takes it from there, pairs it by a rule,
and tells the pairs on Kafka, to a webhook, over OPC UA to a PLC that subscribed, and on the page
of events. A counter of parts speaks the same way, always in the same words and without a time.
"""

import asyncio
import json
import re
import threading
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

from lineside.cli.demo.stage import Program, Programs
from lineside.core import SystemClock, encode, rfc3339
from lineside.links import open_bus
from lineside.links.kafka import KafkaPlace, KafkaReceiver
from lineside.store import open_records
from lineside.streams import EVENT_TYPE
from lineside.testing.links import LONG_S, wait_until
from tests.journeys.plc import plc, read_all
from tests.links.conftest import Mosquitto, free_port
from tests.links.hooks import Hooks

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]

MESSAGES = 240
MESSAGE = "lineside.plant.message.v1"
COUNT = "Rules/pairs/Count"
PLANT = """
schema = "lineside.plant/1"
site = "hall"
line = [{ id = "belt", name = "Belt" }]

[[route]]
topic = "i/sock"
kind = "message"

[[route]]
topic = "i/part"
kind = "message"

[[rule]]
id = "pairs"
read = { topic = "i/sock" }
where = [{ field = "image", none_of = ["Blank"] }]
key = ["image"]
time = "arrival"
pair = {}
"""
HUB = """
data_dir = "{folder}/data"
plant = "{folder}/plant.toml"
port = 0
bus = "{bus}"
strays = false
opcua = "{opcua}"
opcua_anonymous = true

[kafka]
brokers = "{kafka}"
group = "hall"
[kafka.options]
"session.timeout.ms" = "1500"
"heartbeat.interval.ms" = "300"
[[kafka.bridge]]
mqtt = "sockfound"
topic = "data_mqtt"
[[kafka.bridge]]
mqtt = "partfound"
topic = "parts"
[[kafka.take]]
topic = "data_mqtt"
route = "i/sock"
[[kafka.take]]
topic = "parts"
route = "i/part"
[[kafka.send]]
topic = "told"

[[webhook]]
name = "mes"
url = "{hook}"
"""


class Hub:
    """The program, started again and again on one folder."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self._folder = folder
        self._programs = programs
        self._lives = 0
        self._program: Program | None = None

    def start(self) -> None:
        self._lives += 1
        config = str(self._folder / "hub.toml")
        self._program = self._programs.start(f"hub-{self._lives}", "hub", "--config", config)

    def kill(self) -> None:
        assert self._program is not None
        self._program.process.kill()
        self._program.process.wait()
        self.start()

    def stop(self) -> None:
        assert self._program is not None
        self._programs.stop(self._program)


def speak(url: str, *, number: int) -> None:
    """Messages of a camera; each says what it is the how-manieth of, so that no two are alike."""
    clock = SystemClock()
    camera = open_bus(url, client_id=f"camera-{number}", clock=clock)
    begun, pause = clock.now(), threading.Event()
    for count in range(MESSAGES // 3):
        body = {
            "ts": rfc3339(begun + timedelta(milliseconds=count)), "image": "Google",
            "number": number * MESSAGES + count,
        }  # fmt: skip
        camera.publish("sockfound", encode(body), timeout_s=LONG_S)
        camera.publish("partfound", b'{"part":"lid"}', timeout_s=LONG_S)
        pause.wait(0.01)
    camera.close()


def on_the_page(folder: Path) -> list[str]:
    """Ids of the events that the newest page of pairs links to, newest first."""
    url = json.loads((folder / "data" / "hub.json").read_bytes())["url"]
    token = (folder / "data" / "tokens" / "admin.token").read_text().strip()
    asked = urllib.request.Request(  # noqa: S310  the hub of this test
        f"{url}/events/rules?rule=pairs", headers={"authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=LONG_S) as answer:  # noqa: S310
        found = re.findall(r'href="/events/(evt_[0-9A-Z]+)"', answer.read().decode())
    return list(dict.fromkeys(found))


def told_on_kafka(brokers: str, *, count: int) -> list[str]:
    """Ids of the events there, in order."""
    place = KafkaPlace(brokers=brokers)
    receiver = KafkaReceiver(place, topics=["told"], group="test", client_id="test")
    ids: list[str] = []

    def has_all() -> bool:
        taken = receiver.take(most=500, timeout_s=0.2)
        ids.extend(dict(one.headers)["ce_id"].decode() for one in taken)
        return len(set(ids)) >= count

    wait_until(has_all, why="all pairs on Kafka")
    receiver.close()
    return ids


def logged(folder: Path, kind: str, subject: str) -> list[str]:
    with open_records(f"sqlite:///{folder}/data/records.db", clock=SystemClock()) as records:
        page = records.log.read(type=kind, subject=subject, limit=MESSAGES * 2)
    return [one.entry.id for one in page]


def test_nothing_is_lost_or_said_twice_though_the_hub_is_killed_twice(
    tmp_path: Path, mosquitto: Mosquitto, hooks: Hooks, mock_kafka: str
) -> None:
    opcua = f"opc.tcp://127.0.0.1:{free_port()}"
    (tmp_path / "plant.toml").write_text(PLANT)
    (tmp_path / "hub.toml").write_text(
        HUB.format(
            folder=tmp_path, bus=mosquitto.url, kafka=mock_kafka, opcua=opcua, hook=hooks.url
        )
    )
    with Programs(tmp_path) as programs, plc(opcua, watching=COUNT) as told:
        hub = Hub(tmp_path, programs)
        hub.start()
        wait_until(lambda: told.joins > 0, why="the hub's start")
        for number in range(3):
            came = len(hooks.ids)
            speak(mosquitto.url, number=number)
            if number < 2:  # in the middle of telling what came
                wait_until(lambda: len(hooks.ids) > came, why="a first pair")  # noqa: B023
                joins = told.joins
                hub.kill()
                wait_until(lambda: told.joins > joins, why="the PLC's return")  # noqa: B023
        wait_until(lambda: len(set(hooks.ids)) == MESSAGES // 2, why="all pairs at the webhook")
        wait_until(lambda: told.counts[-1:] == [MESSAGES // 2], why="all pairs at the PLC")
        wait_until(lambda: hooks.ids[-1] in told.events, why="the last pair as an event of OPC UA")
        wait_until(lambda: len(logged(tmp_path, MESSAGE, "i/part")) >= MESSAGES, why="all parts")
        newest = asyncio.run(read_all(opcua, COUNT, "Rules/pairs/LastId"))
        shown = on_the_page(tmp_path)
        on_kafka = told_on_kafka(mock_kafka, count=MESSAGES // 2)
        hub.stop()
    events = logged(tmp_path, EVENT_TYPE, "pairs")
    assert len(logged(tmp_path, MESSAGE, "i/sock")) == MESSAGES
    assert len(logged(tmp_path, MESSAGE, "i/part")) == MESSAGES
    assert len(events) == len(set(events)) == MESSAGES // 2
    assert newest == {COUNT: len(events), "Rules/pairs/LastId": events[-1]}
    assert shown == events[: -len(shown) - 1 : -1]
    assert len(shown) > MESSAGES // 8
    assert list(dict.fromkeys(hooks.ids)) == events
    assert list(dict.fromkeys(on_kafka)) == events
    assert sum(hooks.ids.count(one) - 1 for one in set(hooks.ids)) <= 2
    assert told.events == [one for one in events if one in told.events]  # in order, none twice
    assert set(events[-MESSAGES // 8 :]) <= set(told.events)
    assert told.counts == sorted(told.counts)  # whoever comes back is told once more what stands
    assert set(told.counts) <= set(range(MESSAGES // 2 + 1))
    assert told.kinds == {"Int64"}
