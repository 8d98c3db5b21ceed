"""What is particular to sessions over MQTT, beside the contract that all of them pass."""

import pytest

from lineside.core import SystemClock
from lineside.links import Bus, BusSession, open_bus, open_session
from lineside.testing.links import numbers, take_from, wait_until
from tests.links.conftest import Mosquitto

LONG_S = 10.0

pytestmark = pytest.mark.service


def opened(url: str) -> BusSession:
    return open_session(url, client_id="reader", patterns=("line/#",), clock=SystemClock())


def camera(url: str) -> Bus:
    return open_bus(url, client_id="camera", clock=SystemClock())


def test_after_a_broker_lost_the_session_what_waits_is_not_let_go(mosquitto: Mosquitto) -> None:
    """The session ends with this broker, so nothing is sent again."""
    session, sender = opened(mosquitto.url), camera(mosquitto.url)
    for number in (1, 2):
        sender.publish("line/a", b"%d" % number)
    taken = take_from(session, 1)
    mosquitto.stop()
    mosquitto.start()
    wait_until(lambda: session.connections() > 1 and sender.connected())
    session.acknowledge(taken)
    sender.publish("line/a", b"3")
    assert numbers(take_from(session, 2)) == [2, 3]
    session.close()
    sender.close()


def test_version_5_says_how_much_may_come_ahead_and_mosquitto_as_shipped_sends_20(
    mosquitto: Mosquitto,
) -> None:
    sender = camera(mosquitto.url)
    for url, window in ((mosquitto.url, 20), (f"{mosquitto.url}?version=5", 100)):
        session = opened(url)
        for number in range(150):
            sender.publish("line/a", b"%d" % number)
        held = take_from(session, window)
        assert session.take(most=1, timeout_s=0.3) == []
        session.acknowledge(held)
        session.acknowledge(take_from(session, 150 - window))
        session.close()
    sender.close()
