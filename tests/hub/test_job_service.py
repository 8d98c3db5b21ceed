"""The job service on the hub's bus: what waits, what is dropped, what a restart says again."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import RefusedError, SystemClock
from lineside.core.drivers import SecretUrl
from lineside.fleet import NewJob
from lineside.fleet.jobs.requests import MOST_PAYLOAD_BYTES
from lineside.hub import HubConfig, RunningHub, Services, running
from lineside.hub.learning import job_service as module
from lineside.hub.learning.job_service import JobBridge, JobRequestHandler
from lineside.links import Bus, EmbeddedBroker, Mailbox, Message, open_bus
from lineside.links.memory import MemoryBus
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, take, wait_until

T = "$aws/things/edge-1/jobs"


def job(job_id: str) -> NewJob:
    return NewJob(job_id=job_id, targets=("edge-1",), document={"a": 1})


@pytest.fixture
def desk(hub: Services) -> JobRequestHandler:
    hub.things.add("edge-1")
    return hub.job_requests


@pytest.fixture
def heard(factory: Bus) -> Iterator[Mailbox]:
    mailbox = factory.subscribe((f"{T}/#", "$aws/events/#"))
    yield mailbox
    mailbox.close()


def topics(mailbox: Mailbox, count: int) -> list[str]:
    return [message.topic for message in take(mailbox, count)]


def test_a_batch_is_answered_and_what_we_said_ourselves_is_passed_over(
    desk: JobRequestHandler, heard: Mailbox
) -> None:
    batch = desk.prepare([
        Message(topic=f"{T}/get", payload=b""), Message(topic=f"{T}/get/accepted", payload=b"{}"),
        Message(topic=f"{T}/notify", payload=b"{}"), Message(topic=f"{T}/odd", payload=b""),
    ])  # fmt: skip
    desk.commit(batch)
    assert topics(heard, 2) == [f"{T}/get/accepted", f"{T}/odd/rejected"]


def test_what_an_operator_orders_is_told_at_once(desk: JobRequestHandler, heard: Mailbox) -> None:
    desk.service.create(job("job1"))
    assert topics(heard, 2) == [f"{T}/notify", f"{T}/notify-next"]
    desk.service.cancel("job1", reason="")
    assert topics(heard, 5)[-1] == "$aws/events/job/job1/canceled"


def test_what_is_to_be_said_waits_for_the_bus_in_its_order(
    desk: JobRequestHandler, heard: Mailbox, bus: MemoryBus
) -> None:
    bus.lose()
    desk.service.create(job("job1"))
    desk.service.create(job("job2"))
    assert desk.waiting == 3
    bus.regain()
    desk.tick()
    assert desk.waiting == 0
    said = take(heard, 3)
    assert [one.topic for one in said] == [f"{T}/notify", f"{T}/notify-next", f"{T}/notify"]
    assert len(json.loads(said[2].payload)["jobs"]["QUEUED"]) == 2


def test_too_much_that_waits_is_dropped_oldest_first_and_counted(
    desk: JobRequestHandler, heard: Mailbox, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 2)
    bus.lose()
    desk.service.create(job("job1"))
    desk.service.create(job("job2"))
    assert (desk.waiting, desk.dropped) == (2, 1)
    bus.regain()
    desk.tick()
    assert topics(heard, 2) == [f"{T}/notify-next", f"{T}/notify"]


def test_time_brings_what_is_due(desk: JobRequestHandler, heard: Mailbox, clock: FakeClock) -> None:
    desk.service.create(job("job1"))
    desk.commit([(f"{T}/start-next", b'{"stepTimeoutInMinutes":1}')])
    clock.advance(60)
    desk.tick()
    assert "$aws/events/jobExecution/job1/timed_out" in topics(heard, 7)


def test_things_with_jobs_are_told_of_them_again(desk: JobRequestHandler, heard: Mailbox) -> None:
    desk.service.create(job("job1"))
    topics(heard, 2)
    desk.tell_again()
    assert topics(heard, 2) == [f"{T}/notify", f"{T}/notify-next"]


@pytest.mark.slow
def test_a_running_hub_gives_jobs_to_who_asks_and_goes_on_after_a_restart(
    config: HubConfig,
) -> None:
    # Answers without a subscription are a promise of the broker inside the hub alone.
    kept = replace(config, records=SecretUrl(""), blobs=SecretUrl(""), bus_broker="amqtt")
    with running(kept, clock=SystemClock()) as hub:
        hub.services.things.add("edge-1")
        hub.services.job_requests.service.create(job("job1"))
        assert asked(hub.bus_url, f"{T}/start-next")["execution"]["status"] == "IN_PROGRESS"
    with running(kept, clock=SystemClock()) as hub:
        found = asked(hub.bus_url, f"{T}/get")
        assert [one["jobId"] for one in found["inProgressJobs"]] == ["job1"]
        assert followed(hub) == b'{"b":2}'
        stats = hub.services.stats.plain()
        figures = stats["gauges"]
        assert figures["job_messages_dropped"] == 0
        assert stats["each"]["mailbox"]["figures"]["jobs"]["dropped"] == 0
        assert (figures["job_requests_refused"], figures["job_requests_ignored"]) == (0, 0)


def followed(hub: RunningHub) -> bytes:
    """What a device gets at the link of its document, with nothing but the link."""
    hub.services.bucket.put("lineside", "documents/b.json", data=b'{"b":2}')
    link = (
        "${aws:iot:s3-presigned-url:https://s3.eu-west-1.amazonaws.com/lineside/documents/b.json}"
    )
    hub.services.job_requests.service.create(
        NewJob(job_id="job2", targets=("edge-1",), document={"url": link})
    )
    document = asked(hub.bus_url, f"{T}/job2/get")["execution"]["jobDocument"]
    assert document["url"].startswith(f"{hub.url}/s3/lineside/documents/b.json?")
    with urllib.request.urlopen(document["url"], timeout=LONG_S) as found:  # noqa: S310  of this test
        return bytes(found.read())


def asked(bus_url: str, topic: str) -> dict[str, Any]:
    """One question without a subscription, and its answer."""
    answers: list[bytes] = []
    came = threading.Event()

    def hear(_client: object, _given: object, message: paho.MQTTMessage) -> None:
        answers.append(bytes(message.payload))
        came.set()

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = hear
    host, _, port = bus_url.rpartition("/")[2].rpartition(":")
    client.connect(host, int(port))
    client.loop_start()
    wait_until(client.is_connected)
    client.publish(topic, b"", qos=1)
    assert came.wait(LONG_S)
    client.disconnect()
    client.loop_stop()
    found: dict[str, Any] = json.loads(answers[0])
    return found


@pytest.fixture
def clients() -> Iterator[EmbeddedBroker]:
    """The listener for clients of AWS' jobs, which answers whoever asked."""
    with EmbeddedBroker(answered=module.TOPICS) as broker:
        yield broker


@pytest.fixture
def bridge(bus: MemoryBus, clients: EmbeddedBroker) -> Iterator[JobBridge]:
    made = JobBridge(bus, listener_url=clients.own_url, clock=SystemClock())
    yield made
    made.stop()


@pytest.fixture
def client(clients: EmbeddedBroker) -> Iterator[Bus]:
    opened = open_bus(clients.url, client_id="edge-1", clock=SystemClock())
    yield opened
    opened.close()


def pass_until(bridge: JobBridge, is_done: Callable[[], bool]) -> None:
    def passed() -> bool:
        bridge.pass_requests()
        return is_done()

    wait_until(passed)


def test_a_bridge_passes_requests_and_logs_to_the_bus_and_no_answer_of_its_own(
    bridge: JobBridge, client: Bus, factory: Bus
) -> None:
    heard = factory.subscribe(("#", "$aws/#"))
    for topic in (f"{T}/get/accepted", f"{T}/get", "edge-manager-app/logs/edge-1"):
        client.publish_soon(topic, b"{}")
    pass_until(bridge, lambda: heard.figures().waiting == 2)
    assert topics(heard, 2) == [f"{T}/get", "edge-manager-app/logs/edge-1"]


def test_a_bridge_passes_nothing_that_the_bus_could_refuse_for_its_size(
    bridge: JobBridge, client: Bus, factory: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    heard = factory.subscribe(("#", "$aws/#"))
    client.publish_soon(f"{T}/get", b"x" * (MOST_PAYLOAD_BYTES + 1))
    client.publish_soon(f"{T}/get", b"x" * MOST_PAYLOAD_BYTES)
    pass_until(bridge, lambda: heard.figures().waiting > 0)
    assert [len(one.payload) for one in take(heard, 1)] == [MOST_PAYLOAD_BYTES]
    assert f"bytes={MOST_PAYLOAD_BYTES + 1}, {MOST_PAYLOAD_BYTES} at most" in caplog.text


def test_a_request_is_acknowledged_when_the_bus_has_it(
    bridge: JobBridge, client: Bus, factory: Bus, bus: MemoryBus
) -> None:
    heard = factory.subscribe((f"{T}/get",))
    bus.lose()
    acknowledged = client.publish_soon(f"{T}/get", b"{}")
    assert acknowledged is not None
    passing = threading.Thread(target=bridge.pass_requests)
    passing.start()
    passing.join(0.3)
    assert (passing.is_alive(), acknowledged()) == (True, False)
    bus.regain()
    passing.join(LONG_S)
    assert topics(heard, 1) == [f"{T}/get"]
    wait_until(acknowledged)


def test_a_bridge_answers_the_client_that_asked_without_subscribing(
    bridge: JobBridge, clients: EmbeddedBroker, factory: Bus
) -> None:
    bridge.start()
    answered = threading.Event()
    asking = paho.Client(CallbackAPIVersion.VERSION2, client_id="edge-1")
    asking.on_message = lambda *_: answered.set()
    asking.connect("127.0.0.1", clients.port)
    asking.loop_start()
    try:
        asked = factory.subscribe((f"{T}/get",))
        asking.publish(f"{T}/get", b'{"clientToken":"a"}', qos=1)
        take(asked, 1)
        factory.publish(f"{T}/get/accepted", b'{"clientToken":"a"}')
        assert answered.wait(LONG_S)
    finally:
        asking.disconnect()
        asking.loop_stop()


def test_what_the_bus_refuses_is_logged_and_the_next_request_goes_on(
    bridge: JobBridge, client: Bus, bus: MemoryBus,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refuse(topic: str, _payload: bytes) -> None:
        raise RefusedError("the broker refused the message", where=topic)

    monkeypatch.setattr(bus, "publish", refuse)
    acknowledged = client.publish_soon(f"{T}/get", b"{}")
    assert acknowledged is not None
    pass_until(bridge, acknowledged)
    assert "job request not passed on" in caplog.text
