"""The simulated line on a real broker, and on a bus that fails while it claims to be there."""

import json
import threading
from pathlib import Path

import pytest

from lineside.core import SystemClock, UnavailableError, digest_of
from lineside.core.factory import CameraMessage, read_message
from lineside.links import Bus, EmbeddedBroker, Message, open_bus
from lineside.simulator import SimulateSettings, simulate
from lineside.simulator.playback import Outbox


def test_over_a_real_broker_every_picture_arrives_whole(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    clock = SystemClock()
    with EmbeddedBroker() as broker:
        spy = open_bus(broker.url, client_id="spy", clock=clock)
        line = open_bus(broker.url, client_id="line", clock=clock)
        try:
            mailbox = spy.subscribe(("f/i/stock", "i/cam"), size=1000)
            settings = SimulateSettings(teach=12, fps=50, truth=str(truth))
            sent = simulate(settings, bus=line, clock=clock, stop=threading.Event())
            arrived: list[Message] = []
            while len(arrived) < 24 and (message := mailbox.get(timeout_s=10)) is not None:
                arrived.append(message)
        finally:
            line.close()
            spy.close()
    assert (sent.frames, sent.dropped) == (12, 0)
    assert [one.topic for one in arrived] == ["f/i/stock", "i/cam"] * 12
    pictures = [read_message(CameraMessage, one.payload, where="") for one in arrived[1::2]]
    rows = [json.loads(row) for row in truth.read_text().splitlines()][:-1]
    assert [digest_of(one.picture()) for one in pictures] == [row["digest"] for row in rows]


class FailingBus:
    """Says that it is connected, and takes messages only while told to."""

    def __init__(self) -> None:
        self.takes = False
        self.taken: list[str] = []

    def publish(self, topic: str, payload: bytes, **_: object) -> None:
        if not self.takes:
            raise UnavailableError("no answer within the deadline")
        self.taken.append(f"{topic} {payload.decode()}")

    def subscribe(self, *_: object, **__: object) -> None:
        raise NotImplementedError

    def connected(self) -> bool:
        return True

    def close(self) -> None:
        self.takes = False


def test_what_the_broker_did_not_take_in_time_is_sent_again_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = FailingBus()
    joined: Bus = bus  # type: ignore[assignment]  # a bus that nobody reads from
    outbox = Outbox(joined, topic_prefix="")
    for number in range(3):
        outbox.say("f/i/stock", str(number).encode())
        assert not outbox.show("i/cam", b"picture")
    bus.takes = True
    outbox.say("f/i/stock", b"3")
    assert outbox.show("i/cam", b"last")
    assert bus.taken == [*(f"f/i/stock {number}" for number in range(4)), "i/cam last"]
    assert caplog.text.count("broker lost") == 1
