"""What devices say of themselves: in memory at once, on the disk in time, thousands of them."""

import logging
from datetime import timedelta

import pytest

from lineside.core import Plant, encode, rfc3339
from lineside.hub import Services
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.topics import DeadLetterError
from lineside.links import Message
from lineside.store import Records
from lineside.testing import FakeClock


def status(
    clock: FakeClock, device: str = "edge-1", *, ahead_s: float = 0.0, **more: object
) -> bytes:
    at = rfc3339(clock.now() + timedelta(seconds=ahead_s))
    told = {"schema": "lineside.device/1", "device": device, "state": "online", "at": at, **more}
    return encode(told)


@pytest.fixture
def devices(records: Records, plant: Plant, clock: FakeClock) -> DeviceRegistry:
    return DeviceRegistry(records, plant=plant, clock=clock, most=5, silent_after_s=30)


def version_of(records: Records, device: str = "edge-1") -> int:
    """How often the row was written."""
    return records.documents.get("device", device).version


def test_a_heartbeat_that_says_nothing_new_writes_no_row(
    devices: DeviceRegistry, records: Records, clock: FakeClock
) -> None:
    devices.take_status("edge-1", status(clock, frames=0))
    devices.save_new()
    assert version_of(records) == 1, "a new device is written with its batch"
    for frames in range(1, 6):
        clock.advance(10)
        devices.take_status("edge-1", status(clock, frames=frames))
        assert devices.flush() == 0
    assert version_of(records) == 1
    clock.advance(10)
    devices.take_status("edge-1", status(clock, frames=6))
    assert devices.flush() == 1, "once a minute that it is still there"
    assert version_of(records) == 2
    devices.take_status("edge-1", status(clock, frames=7, version="0.2.0"))
    assert devices.flush() == 1, "what changed is written at the next flush"
    assert devices.flush() == 0


def test_what_was_not_written_is_written_at_the_end(
    devices: DeviceRegistry, records: Records, plant: Plant, clock: FakeClock
) -> None:
    devices.take_status("edge-1", status(clock))
    clock.advance(5)
    devices.take_status("edge-1", status(clock, spool_depth=7))
    devices.flush_all()
    again = DeviceRegistry(records, plant=plant, clock=clock)
    assert again.some(["edge-1"])[0].spool_depth == 7
    assert again.some(["edge-1"])[0].at == clock.now()


def test_kill_loses_a_minute_of_last_heard_and_no_state(
    devices: DeviceRegistry, records: Records, plant: Plant, clock: FakeClock
) -> None:
    devices.take_status("edge-1", status(clock))
    clock.advance(20)
    devices.take_status("edge-1", status(clock).replace(b"online", b"offline"))
    devices.flush()
    again = DeviceRegistry(records, plant=plant, clock=clock)
    assert again.some(["edge-1"])[0].state == "offline"


def test_a_device_that_says_no_goodbye_falls_silent(
    devices: DeviceRegistry, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lineside.hub.devices.registry")
    devices.take_status("edge-1", status(clock))
    devices.flush()
    assert devices.count() == (1, 1)
    clock.advance(31)
    assert devices.some(["edge-1"])[0].state == "silent"
    devices.flush()
    devices.flush()
    assert devices.count() == (0, 1)
    devices.take_status("edge-1", status(clock))
    devices.flush()
    said = [record.getMessage().split(" device=")[0] for record in caplog.records]
    assert said == ["device silent", "device heard again"]


def test_the_clock_is_measured_by_fresh_messages_only(
    devices: DeviceRegistry, clock: FakeClock
) -> None:
    devices.take_status("edge-1", status(clock, ahead_s=-3600), retained=True)
    assert devices.some(["edge-1"])[0].clock_offset_s is None
    devices.take_status("edge-1", status(clock, ahead_s=2.5))
    devices.take_status("edge-1", status(clock, ahead_s=2.0))  # it took half a second
    assert devices.some(["edge-1"])[0].clock_offset_s == pytest.approx(2.5)
    devices.take_status("edge-1", status(clock, ahead_s=9, state="offline"))  # a will's time is old
    assert devices.some(["edge-1"])[0].clock_offset_s == pytest.approx(2.5)


def test_what_the_broker_kept_is_no_sign_of_life(devices: DeviceRegistry, clock: FakeClock) -> None:
    devices.take_status("edge-1", status(clock, ahead_s=-600), retained=True)
    assert devices.some(["edge-1"])[0].state == "silent"
    clock.advance(5)
    devices.take_status("edge-1", status(clock))
    assert devices.some(["edge-1"])[0].state == "online"


def test_a_device_too_many_is_refused_with_its_name(
    devices: DeviceRegistry, clock: FakeClock
) -> None:
    for number in range(5):
        devices.take_status(f"edge-{number}", status(clock, f"edge-{number}"))
    with pytest.raises(DeadLetterError, match="too many devices"):
        devices.take_status("edge-9", status(clock, "edge-9"))
    devices.take_status("edge-3", status(clock, "edge-3"))


def test_a_time_that_is_none_costs_the_measurement_alone(
    devices: DeviceRegistry, clock: FakeClock
) -> None:
    devices.take_status("edge-1", status(clock).replace(b'"at":"20', b'"at":"x20'))
    assert devices.some(["edge-1"])[0].clock_offset_s is None
    assert devices.some(["edge-1"])[0].state == "online"


def test_a_device_that_only_reports_can_be_given_jobs(hub: Services, clock: FakeClock) -> None:
    topic = "lineside/hall/device/edge-7/status"
    hub.device_ingest.take([Message(topic=topic, payload=status(clock, "edge-7"))])
    assert hub.things.has("edge-7")
