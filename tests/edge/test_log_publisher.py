"""The device's log on the bus: gathered, kept while a send runs, counted where it is dropped."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import UnavailableError, decode_json
from lineside.edge.delivery.publisher import (
    GATHERED,
    LogBuffer,
    LogEntry,
    LogPublisher,
    log_topic,
    payload_of,
)
from lineside.links import Bus, Mailbox, open_bus
from lineside.links.memory import MemoryBus
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, nothing_more, wait_until


def entry(number: int) -> LogEntry:
    return LogEntry(ts="2026-01-01T12:00:00.000Z", level="INFO", logger="t", message=str(number))


def told(payload: bytes) -> list[dict[str, Any]]:
    document = decode_json(payload, where="log")
    assert list(document) == ["logs"]
    logs: list[dict[str, Any]] = document["logs"]
    return logs


class Halting:
    """A bus in memory whose publishing the test holds up or breaks."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.open = threading.Event()
        self.open.set()
        self.away = False
        self.tried = 0

    def publish(self, topic: str, payload: bytes, **more: Any) -> None:  # noqa: ANN401  the bus' own
        self.tried += 1
        self.open.wait(LONG_S)
        if self.away:
            raise UnavailableError("the broker is away", where=topic)
        self._bus.publish(topic, payload, **more)

    def connected(self) -> bool:
        return self._bus.connected()


@pytest.fixture
def bus(clock: FakeClock) -> Iterator[Halting]:
    inner = open_bus("memory://logs", client_id="device", clock=clock)
    assert isinstance(inner, MemoryBus)
    yield Halting(inner)
    inner.close()


@pytest.fixture
def said(clock: FakeClock) -> Iterator[Mailbox]:
    hub = open_bus("memory://logs", client_id="hub", clock=clock)
    yield hub.subscribe((log_topic("edge-1"),), name="logs")
    hub.close()


@pytest.fixture
def log(bus: Halting, said: Mailbox, clock: FakeClock) -> Iterator[logging.Logger]:
    del said
    publisher = LogPublisher(bus, device="edge-1", period_s=30, clock=clock)  # type: ignore[arg-type]  # what it needs of one
    publisher.start()
    logger = logging.getLogger("lineside.test_log")
    logger.setLevel(logging.INFO)
    logger.addHandler(publisher)
    yield logger
    logger.removeHandler(publisher)
    publisher.close()


def publisher_of(log: logging.Logger) -> LogPublisher:
    (handler,) = log.handlers
    assert isinstance(handler, LogPublisher)
    return handler


def messages(mailbox: Mailbox, count: int) -> list[dict[str, Any]]:
    """The next messages' entries, until so many came."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = mailbox.get(timeout_s=LONG_S)
        assert message is not None, f"{len(found)} of {count} came"
        found += told(message.payload)
    return found


def test_the_topic_names_the_device() -> None:
    assert log_topic("edge-1") == "edge-manager-app/logs/edge-1"


def test_ten_entries_send_nothing_and_the_eleventh_one_message(
    log: logging.Logger, said: Mailbox
) -> None:
    for number in range(10):
        log.info("entry %d", number)
    assert nothing_more(said)
    log.info("entry %d", 10)
    message = said.get(timeout_s=LONG_S)
    assert message is not None
    entries = told(message.payload)
    assert [each["message"] for each in entries] == [f"entry {n}" for n in range(11)]
    assert entries[0]["level"] == "INFO"
    assert entries[0]["logger"] == "lineside.test_log"
    assert entries[0]["ts"].endswith("Z")
    assert nothing_more(said)


def test_fewer_are_sent_after_the_period(
    log: logging.Logger, said: Mailbox, clock: FakeClock
) -> None:
    log.warning("one")
    clock.advance(29)
    publisher_of(log).tick()
    assert nothing_more(said)
    clock.advance(1)
    publisher_of(log).tick()
    assert [each["message"] for each in messages(said, 1)] == ["one"]


def test_entries_that_come_while_a_send_runs_are_kept(
    log: logging.Logger, said: Mailbox, bus: Halting
) -> None:
    bus.open.clear()
    for number in range(11):
        log.info("%d", number)
    wait_until(lambda: bus.tried == 1)
    for number in range(11, 40):
        log.info("%d", number)
    bus.open.set()
    assert [each["message"] for each in messages(said, 40)] == [str(n) for n in range(40)]


def test_what_was_not_taken_is_sent_again_whole(
    log: logging.Logger, said: Mailbox, bus: Halting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineside.edge.delivery.publisher._RETRY_S", 0.05)
    bus.away = True
    for number in range(11):
        log.info("%d", number)
    wait_until(lambda: bus.tried >= 2)
    bus.away = False
    found = messages(said, 11)
    assert [each["message"] for each in found] == [str(n) for n in range(11)]
    assert nothing_more(said)


def test_what_has_no_room_is_dropped_oldest_first_and_told(
    log: logging.Logger, said: Mailbox, bus: Halting
) -> None:
    bus.open.clear()
    for number in range(1300):
        log.info("%d", number)
    assert publisher_of(log).dropped == 300
    bus.open.set()
    found = messages(said, 11)  # the message under way when the others were dropped
    found += messages(said, 1289 - max(300, int(found[-1]["message"]) + 1))
    publisher_of(log).close()  # it sends the last ones too, which are too few to be due
    while int(found[-1]["message"]) < 1299:
        found += messages(said, 1)
    numbers = [int(each["message"]) for each in found]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + sum(each.get("dropped", 0) for each in found) == 1300


def test_what_is_there_is_said_at_the_end(bus: Halting, said: Mailbox, clock: FakeClock) -> None:
    publisher = LogPublisher(bus, device="edge-1", period_s=30, clock=clock)  # type: ignore[arg-type]  # what it needs of one
    publisher.start()
    publisher.emit(logging.makeLogRecord({"name": "x", "msg": "goodbye", "levelname": "INFO"}))
    publisher.close()
    assert [each["message"] for each in messages(said, 1)] == ["goodbye"]


def test_the_bus_and_the_publisher_are_not_published(log: logging.Logger, said: Mailbox) -> None:
    handler = publisher_of(log)
    for name in ("lineside.links.mqtt", "lineside.edge.delivery.publisher"):
        for _ in range(20):
            handler.emit(logging.makeLogRecord({"name": name, "msg": "lost", "levelname": "INFO"}))
    assert nothing_more(said)


def test_an_exception_is_named_and_a_long_line_is_cut(
    log: logging.Logger, said: Mailbox, clock: FakeClock
) -> None:
    log.error("it failed", exc_info=ValueError("broke"))
    log.info("x" * 10_000)
    clock.advance(30)
    publisher_of(log).tick()
    first, second = messages(said, 2)
    assert first["message"] == "it failed: ValueError('broke')"
    assert len(second["message"]) == 2000


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_every_entry_is_sent_once_or_counted_as_dropped(steps: list[int]) -> None:
    clock = FakeClock()
    gathered = LogBuffer(period_s=1, clock=clock)
    number, sent, dropped = 0, [], 0
    for step in steps:
        batch, gone = gathered.rest()
        for _ in range(step):
            gathered.add(entry(number))
            number += 1
        if batch and step % 2:
            dropped += sum(each.get("dropped", 0) for each in told(payload_of(batch, dropped=gone)))
            sent += [each.message for each in batch]
            gathered.sent(batch, dropped=gone)
    clock.advance(2)
    while batch := gathered.due()[0]:
        _, gone = gathered.due()
        dropped += gone
        sent += [each.message for each in batch]
        gathered.sent(batch, dropped=gone)
        clock.advance(2)
    assert len(sent) == len(set(sent))
    assert len(sent) + dropped == number


def test_gathered_entries_are_due_at_the_eleventh(clock: FakeClock) -> None:
    gathered = LogBuffer(period_s=5, clock=clock)
    for number in range(GATHERED):
        gathered.add(entry(number))
        assert gathered.due() == ((), 0)
    gathered.add(entry(10))
    assert len(gathered.due()[0]) == 11
