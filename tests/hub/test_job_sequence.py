"""The worked sequence of the guide, message by message and whole, over both brokers.

AWS IoT developer guide, "Jobs notifications": job1, job2, job3. Between two steps the device asks
for its list, so that what was said, and that nothing else was, is known without waiting.
"""

import json
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import SystemClock
from lineside.fleet import JobService, NewJob, ThingDirectory
from lineside.hub.learning.job_service import JobRequestHandler
from lineside.links import EmbeddedBroker, open_bus
from lineside.store import open_records
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import job_reader
from tests.links.conftest import MOSQUITTO, Mosquitto

T = "$aws/things/edge-1/jobs"
DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}
BEGAN_S = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp())
Said = list[tuple[str, dict[str, Any]]]


@contextmanager
def embedded(_: Path) -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.url


@contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    server = Mosquitto(folder=folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@dataclass
class Device:
    """A client of the contract, and a clock that stands still unless told otherwise."""

    service: JobService
    clock: FakeClock
    client: paho.Client
    heard: "queue.Queue[tuple[str, dict[str, Any]]]" = field(default_factory=queue.Queue)
    asked: int = 0

    def send(self, what: str, **body: object) -> None:
        self.client.publish(f"{T}/{what}", json.dumps(body) if body else b"", qos=1)

    def said(self) -> Said:
        """Everything since the last call, in the order in which it came."""
        self.asked += 1
        token = f"fence-{self.asked}"
        self.send("get", clientToken=token)
        found: Said = []
        while True:
            levels, body = self.heard.get(timeout=LONG_S)
            if levels == "get/accepted" and body.get("clientToken") == token:
                return found
            found.append((levels, body))

    def create(self, job_id: str) -> None:
        self.service.create(NewJob(job_id=job_id, targets=("edge-1",), document=DOCUMENT))

    @property
    def now_s(self) -> int:
        return int(self.clock.now().timestamp())


@contextmanager
def joined(url: str) -> Iterator[Device]:
    clock = FakeClock(start=datetime(2026, 1, 1, 12, tzinfo=UTC))
    with open_records("memory://", clock=clock) as records:
        directory = ThingDirectory(records)
        for thing in ("edge-1", "edge-2"):
            directory.add(thing)
        bus = open_bus(url, client_id="hub", clock=SystemClock())
        desk = JobRequestHandler(JobService(records, clock=clock, directory=directory))
        desk.bus = bus
        reader = job_reader(url, desk=desk, records=records)
        reader.start()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="edge-1")
        device = Device(service=desk.service, clock=clock, client=client)
        subscribed: queue.Queue[int] = queue.Queue()
        client.on_subscribe = lambda *_: subscribed.put(1)
        client.on_message = lambda *given: device.heard.put((
            given[2].topic.removeprefix(f"{T}/"), json.loads(given[2].payload)
        ))  # fmt: skip
        host, _, port = url.rpartition("/")[2].rpartition(":")
        client.connect(host, int(port))
        client.loop_start()
        try:
            last = ("notify", "notify-next", "get/+", "start-next/+", "+/get/+", "+/update/+")
            client.subscribe([(f"{T}/{levels}", 1) for levels in last])
            assert subscribed.get(timeout=LONG_S)
            yield device
        finally:
            client.disconnect()
            client.loop_stop()
            reader.stop()
            bus.close()


@pytest.fixture(params=["embedded", "mosquitto"])
def device(
    request: pytest.FixtureRequest, tmp_path: Path, absent: Callable[[str, str], None]
) -> Iterator[Device]:
    if request.param == "mosquitto" and MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    with {"embedded": embedded, "mosquitto": mosquitto}[request.param](tmp_path) as url:  # noqa: SIM117  one after the other
        with joined(url) as found:
            yield found


def summary(job_id: str, *, queued: int, told: int, version: int, started: int | None = None) -> (
    dict[str, Any]
):  # fmt: skip
    """Times are seconds since the beginning."""
    begun = {} if started is None else {"startedAt": BEGAN_S + started}
    return {
        "jobId": job_id, "queuedAt": BEGAN_S + queued, "lastUpdatedAt": BEGAN_S + told, **begun,
        "versionNumber": version, "executionNumber": 1,
    }  # fmt: skip


def execution(of: dict[str, Any], status: str) -> dict[str, Any]:
    return {**of, "thingName": "edge-1", "status": status, "jobDocument": DOCUMENT}


def test_every_message_of_the_worked_sequence(device: Device) -> None:
    def notify(**jobs: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return "notify", {"jobs": jobs, "timestamp": device.now_s}

    def notify_next(head: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
        told = {} if head is None else {"execution": head}
        return "notify-next", {**told, "timestamp": device.now_s}

    def accepted(what: str, **body: object) -> tuple[str, dict[str, Any]]:
        return f"{what}/accepted", {**body, "timestamp": device.now_s}

    assert device.said() == []

    device.create("job1")
    job1 = summary("job1", queued=0, told=0, version=1)
    assert device.said() == [notify(QUEUED=[job1]), notify_next(execution(job1, "QUEUED"))]

    device.clock.advance(10)
    device.create("job2")
    job2 = summary("job2", queued=10, told=10, version=1)
    assert device.said() == [notify(QUEUED=[job1, job2])]

    device.clock.advance(10)
    device.send("start-next")
    job1 = summary("job1", queued=0, told=20, version=2, started=20)
    assert device.said() == [accepted("start-next", execution=execution(job1, "IN_PROGRESS"))]

    device.clock.advance(10)
    device.create("job3")
    job3 = summary("job3", queued=30, told=30, version=1)
    assert device.said() == [notify(IN_PROGRESS=[job1], QUEUED=[job2, job3])]

    device.clock.advance(10)
    device.send("job1/update", status="SUCCEEDED")
    assert device.said() == [
        accepted("job1/update"), notify(QUEUED=[job2, job3]),
        notify_next(execution(job2, "QUEUED")),
    ]  # fmt: skip

    device.clock.advance(10)
    device.send("job3/update", status="IN_PROGRESS")
    job3 = summary("job3", queued=30, told=50, version=2, started=50)
    assert device.said() == [
        accepted("job3/update"), notify_next(execution(job3, "IN_PROGRESS"))
    ]  # fmt: skip

    device.clock.advance(10)
    device.send("job2/update", status="REJECTED")
    assert device.said() == [accepted("job2/update"), notify(IN_PROGRESS=[job3])]

    device.clock.advance(10)
    device.service.delete_execution("edge-1", "job3", number=1, force=True)
    assert device.said() == [notify(), notify_next(None)]


def test_a_device_that_floods_does_not_keep_others_waiting(device: Device) -> None:
    """Two thousand questions at once of another thing; this one's are answered all the same."""
    throttle = device.service.throttle
    flood = paho.Client(CallbackAPIVersion.VERSION2, client_id="edge-2")
    flood.connect(device.client.host, device.client.port)
    flood.loop_start()
    try:
        for _ in range(2000):
            flood.publish("$aws/things/edge-2/jobs/get", b"", qos=0)
        device.create("job1")
        assert [levels for levels, _ in device.said()] == ["notify", "notify-next"]
        wait_until(lambda: throttle.ignored > 500)
        device.send("start-next")
        assert [levels for levels, _ in device.said()] == ["start-next/accepted"]
    finally:
        flood.disconnect()
        flood.loop_stop()
    assert throttle.refused == 10  # the clock stands still
