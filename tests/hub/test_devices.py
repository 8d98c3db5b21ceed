"""Predictions of devices: known senders only, acknowledged without gap, folded once."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Json, decode_json, encode
from lineside.edge.messages import offline
from lineside.hub import Services
from lineside.hub.devices.registry import AckState, DeviceRegistry
from lineside.links import Bus, Message
from lineside.testing import FakeClock
from tests.hub.conftest import PACKAGE

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from tests.hub.conftest import Line

ACK = "lineside/hall/device/edge-1/ack"


def acks(bus: Bus) -> Callable[[], list[int]]:
    mailbox = bus.subscribe((ACK,))

    def taken() -> list[int]:
        messages = mailbox.get_many(most=100, timeout_s=0)
        return [decode_json(message.payload, where="ack")["sequence"] for message in messages]

    return taken


def test_a_stored_prediction_is_acknowledged_and_moves_the_twin(
    hub: Services, line: "Line", factory: Bus
) -> None:
    told = acks(factory)
    line.see("blue")
    assert told() == [1]
    assert hub.ledger.state.slots["A1"].seen == "present"
    assert hub.ledger.state.slots["B1"].seen == "absent"
    (event,) = hub.events.page(source="/hall/device/edge-1")
    assert event.subject == "stock"


def test_a_camera_that_is_lost_and_returns_is_an_event_each_once(
    hub: Services, line: "Line"
) -> None:
    lost: dict[str, Json] = {
        "camera": "rack",
        "state": "lost",
        "since": "2026-01-01T12:00:00Z",
        "reason": "dark",
    }
    back: dict[str, Json] = {
        **lost,
        "state": "connected",
        "since": "2026-01-01T12:05:00Z",
        "reason": "",
    }
    hostile: list[Json] = [
        "x", {"camera": "none"}, {**lost, "camera": "none"}, {**lost, "since": 7},
        {**lost, "state": []}, {"camera": "rack", "state": "connected", "since": ""},
    ]  # fmt: skip

    def is_lost() -> float:
        return hub.devices.camera_figures()["rack"]["lost"]

    line.send(line.status(cameras=hostile), line.status(cameras=7))
    line.send(line.status(cameras=[lost]), line.status(cameras=[lost]))
    assert is_lost() == 1.0
    line.send(line.status(cameras=[back]))
    assert is_lost() == 0.0
    line.send(line.status("edge-2", cameras=[lost]))
    assert is_lost() == 0.0  # edge-1 reaches it
    told = [event.event["data"] for event in hub.events.page() if event.subject == "camera"]
    assert [(each["action"], each["device"]) for each in told] == [
        ("lost", "edge-1"), ("returned", "edge-1"), ("lost", "edge-2"),
    ]  # fmt: skip
    assert told[-1]["reason"] == "dark"
    line.send(line.status("edge-1", state="offline"))
    assert is_lost() == 1.0
    line.send(line.status("edge-2", state="offline", cameras=[lost]))
    assert hub.devices.camera_figures() == {}  # an alert about it is one about the devices


def test_a_gap_holds_the_acknowledgement_back(line: "Line", factory: Bus) -> None:
    told = acks(factory)
    line.send(line.status())
    for sequence in (1, 2, 4, 5, 3):
        line.wait(0.1)
        line.send(line.prediction(sequence=sequence))
    assert told() == [1, 2, 2, 2, 5]


def test_what_the_device_no_longer_holds_is_not_waited_for(line: "Line", factory: Bus) -> None:
    told = acks(factory)
    line.send(line.status(), line.prediction(sequence=8, first=5))
    line.wait(0.1)
    line.send(line.prediction(sequence=9, first=8))
    assert told() == [4, 9]


def test_a_second_delivery_changes_nothing_and_is_acknowledged_again(
    hub: Services, line: "Line", factory: Bus
) -> None:
    told = acks(factory)
    line.send(line.status())
    message = line.prediction("blue", sequence=1)
    line.send(message)
    revision = hub.ledger.state.revision
    line.send(message)
    assert told() == [1, 1]
    assert hub.ledger.state.revision == revision
    assert hub.stats.plain()["predictions"] == 1
    assert hub.stats.plain()["predictions_duplicate"] == 1


def test_a_device_that_counts_anew_is_not_told_that_its_events_are_stored(
    line: "Line", factory: Bus
) -> None:
    told = acks(factory)
    line.send(line.status())
    for sequence in (1, 2, 3):
        line.wait(0.1)
        line.send(line.prediction(sequence=sequence))
    line.wait(0.1)
    line.send(line.prediction(sequence=2, first=1))
    assert told() == [1, 2, 3, 0]


def test_an_unknown_device_is_refused_and_not_acknowledged(
    hub: Services, line: "Line", factory: Bus
) -> None:
    told = acks(factory)
    line.send(line.prediction("blue"))
    assert told() == []
    assert hub.dead_letters.counts() == {"unknown device": 1}
    assert hub.ledger.state.revision == 0


def test_an_enrolled_device_may_speak_before_its_status(hub: Services, line: "Line") -> None:
    hub.devices.enrol("edge-1")
    line.send(line.prediction("blue"))
    assert hub.ledger.state.revision == 1


def test_a_prediction_of_another_camera_than_its_topic_is_refused(
    hub: Services, line: "Line"
) -> None:
    line.send(line.status())
    message = line.prediction("blue", camera="rack")
    line.send(replace(message, topic="lineside/hall/warehouse/gate/prediction"))
    line.send(replace(message, topic="lineside/hall/cellar/rack/prediction"))
    assert hub.dead_letters.counts() == {"wrong camera": 2}


def test_a_source_of_another_kind_is_refused(hub: Services, line: "Line") -> None:
    line.send(line.status())
    message = line.prediction("blue")
    forged = message.payload.replace(b"/hall/device/edge-1", b"/hall/hub")
    line.send(replace(message, payload=forged))
    assert hub.dead_letters.counts() == {"unknown device": 1}


def test_a_bad_prediction_of_a_known_device_is_put_away_and_not_asked_for_again(
    hub: Services, line: "Line", factory: Bus
) -> None:
    told = acks(factory)
    line.send(line.status())
    message = line.prediction("blue", sequence=1)
    line.send(
        replace(message, payload=message.payload.replace(b'"0.97', b'"x').replace(b"0.97", b"9.7"))
    )
    line.wait(0.1)
    line.send(line.prediction("blue", sequence=2))
    assert hub.dead_letters.counts() == {"not an event": 1}
    assert told()[-1] == 2


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"specversion":"1.0"}'])
def test_what_is_no_event_is_put_away(hub: Services, line: "Line", payload: bytes) -> None:
    line.send(Message(topic="lineside/hall/warehouse/rack/prediction", payload=payload))
    assert hub.dead_letters.counts() == {"not an event": 1}


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[]", encode({"schema": "lineside.device/1", "device": "edge-2", "state": "online"})],
)
def test_a_status_that_is_none_is_put_away(hub: Services, line: "Line", payload: bytes) -> None:
    line.send(Message(topic="lineside/hall/device/edge-1/status", payload=payload))
    assert len(hub.dead_letters.page()) == 1
    assert hub.devices.all() == ()


def test_an_empty_retained_status_is_passed_over(hub: Services, line: "Line") -> None:
    line.send(Message(topic="lineside/hall/device/edge-1/status", payload=b""))
    assert hub.dead_letters.page() == []


def test_the_fleet_shows_the_last_status(hub: Services, line: "Line") -> None:
    line.send(line.status(spool_depth=3))
    line.send(line.status(state="offline"))
    (device,) = hub.devices.all()
    assert (device.id, device.state, device.version) == ("edge-1", "offline", "0.1.0")


def test_who_goes_offline_keeps_what_it_told_last(
    hub: Services, line: "Line", clock: FakeClock, browser: "TestClient"
) -> None:
    package: dict[str, Json] = {"inspection": "stock", "digest": PACKAGE, "loaded_at": "then"}
    line.send(line.status(packages=[package], spool_depth=3, frames=12, predictions=11))
    left = offline(device="edge-1", version="0.2.0", at=clock.now())
    line.send(Message(topic="lineside/hall/device/edge-1/status", payload=left))
    (device,) = hub.devices.all()
    assert (device.state, device.version, device.packages) == ("offline", "0.2.0", (package,))
    assert (device.spool_depth, device.status["frames"], device.status["predictions"]) == (
        3,
        12,
        11,
    )
    assert "as last reported" in browser.get("/devices/edge-1").text
    line.send(line.status(faults=["golden picture differs"]))
    assert hub.devices.some(["edge-1"])[0].packages == ()
    page = browser.get("/devices/edge-1").text
    assert ("as last reported" in page, "golden picture differs" in page) == (False, True)


def test_the_page_of_a_device_says_which_processor_a_package_runs_on(
    line: "Line", browser: "TestClient"
) -> None:
    package: dict[str, Json] = {"inspection": "stock", "digest": PACKAGE, "loaded_at": "then"}
    for told, shown in (({"engine_device": "cuda"}, "cuda"), ({}, "not told")):
        line.send(line.status(packages=[{**package, **told}]))
        page = browser.get("/devices/edge-1").text
        cell = page.partition('<td data-label="Processor">')[2].partition("</td>")[0]
        assert re.sub("<[^>]*>", "", cell) == shown


def test_latency_is_from_capture_to_the_commit(hub: Services, line: "Line") -> None:
    line.send(line.status())
    message = line.prediction("blue")
    line.wait(0.08)
    line.send(message)
    assert hub.stats.plain()["latency_ms"] == {"n": 1, "p50": 80.0, "p95": 80.0, "p99": 80.0}


@given(order=st.permutations(range(1, 12)), repeats=st.lists(st.integers(1, 11), max_size=5))
def test_the_order_of_delivery_does_not_matter(order: list[int], repeats: list[int]) -> None:
    state = AckState()
    for place, sequence in enumerate([*order, *repeats]):
        fresh = place < len(order)
        before = state.acked
        state = state.take(sequence, first=1, fresh=fresh)
        assert state.acked >= before
    assert state == AckState(acked=11)


@given(
    events=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=40),
)
def test_never_more_is_acknowledged_than_was_stored_or_given_up(
    events: list[tuple[int, int]],
) -> None:
    state, stored, given_up = AckState(), set[int](), 0
    for sequence, first in events:
        if first > sequence:
            continue
        fresh = sequence not in stored and sequence > given_up
        stored.add(sequence)
        given_up = max(given_up, first - 1)
        state = state.take(sequence, first=first, fresh=fresh)
        assert all(count in stored or count <= given_up for count in range(1, state.acked + 1))


def said(hub: Services, *, every_s: float) -> None:
    status = {
        "schema": "lineside.device/1", "device": "edge-1", "state": "online", "version": "1",
        "at": "", "packages": [], "spool_depth": 0, "every_s": every_s,
    }  # fmt: skip
    hub.devices.take_status("edge-1", encode(status))


def test_a_device_that_reports_is_never_silent_to_the_hub_or_to_a_command_beside_it(
    hub: Services, clock: FakeClock
) -> None:
    for second in range(240):
        if second % 10 == 0:
            said(hub, every_s=10.0)
        if second % 2 == 0:
            hub.devices.flush()
        beside = DeviceRegistry(hub.records, plant=hub.plant, clock=clock)  # as a command reads it
        assert (hub.devices.some(["edge-1"])[0].state, beside.some(["edge-1"])[0].state) == (
            "online",
        ) * 2
        clock.advance(1)
    clock.advance(60)
    assert hub.devices.some(["edge-1"])[0].state == "silent"
    clock.advance(90)
    beside = DeviceRegistry(hub.records, plant=hub.plant, clock=clock)
    assert beside.some(["edge-1"])[0].state == "silent"


def test_a_device_that_reports_seldom_has_three_of_its_own_intervals(
    hub: Services, clock: FakeClock
) -> None:
    said(hub, every_s=60.0)
    clock.advance(179)
    assert hub.devices.some(["edge-1"])[0].state == "online"
    clock.advance(2)
    assert hub.devices.some(["edge-1"])[0].state == "silent"
