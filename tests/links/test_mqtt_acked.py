"""Messages that the broker keeps until their reader has dealt with them."""

from collections.abc import Callable, Iterator

import pytest

from lineside.core import InvalidError, SystemClock
from lineside.links import AckedMqtt, Bus, KeptMessage, open_acked, open_bus
from tests.links.conftest import Mosquitto

LONG_S = 10.0
SHORT_S = 0.3

pytestmark = pytest.mark.service
Join = Callable[[], AckedMqtt]


@pytest.fixture
def join(mosquitto: Mosquitto) -> Iterator[Join]:
    """The same client, opened again and again."""
    opened: list[AckedMqtt] = []

    def open_one() -> AckedMqtt:
        made = open_acked(
            mosquitto.url, patterns=("line/#",), client_id="bridge", clock=SystemClock()
        )
        opened.append(made)
        return made

    yield open_one
    for client in opened:
        client.close()


@pytest.fixture
def camera(mosquitto: Mosquitto) -> Iterator[Bus]:
    bus = open_bus(mosquitto.url, client_id="camera", clock=SystemClock())
    yield bus
    bus.close()


def take(client: AckedMqtt, count: int) -> list[KeptMessage]:
    taken: list[KeptMessage] = []
    while len(taken) < count:
        came = client.take(most=count - len(taken), timeout_s=LONG_S)
        if not came:
            break
        taken += came
    return taken


def payloads(taken: list[KeptMessage]) -> list[int]:
    return [int(one.message.payload) for one in taken]


def send(camera: Bus, *numbers: int) -> None:
    for number in numbers:
        camera.publish("line/a", b"%d" % number)


def test_what_was_not_dealt_with_comes_again_to_the_next_life(join: Join, camera: Bus) -> None:
    first = join()
    send(camera, *range(5))
    taken = take(first, 5)
    first.done(taken[:2])
    first.close()
    send(camera, 5, 6)
    again = join()
    assert payloads(take(again, 5)) == [2, 3, 4, 5, 6]
    assert again.take(most=1, timeout_s=SHORT_S) == []


def test_the_broker_waits_with_more_while_many_are_not_dealt_with(join: Join, camera: Bus) -> None:
    client = join()
    send(camera, *range(60))
    held = take(client, 20)  # what mosquitto sends unacknowledged
    assert client.take(most=100, timeout_s=SHORT_S) == []
    client.done(held)
    rest: list[KeptMessage] = []
    while len(rest) < 40:
        came = client.take(most=100, timeout_s=LONG_S)
        assert came
        client.done(came)
        rest += came
    assert payloads(held + rest) == list(range(60))


def test_after_a_break_what_waits_is_not_taken_twice(
    join: Join, camera: Bus, mosquitto: Mosquitto
) -> None:
    """The session ends with this broker, so nothing is sent again and nothing may be let go."""
    client = join()
    send(camera, 1, 2)
    taken = take(client, 1)
    mosquitto.stop()
    mosquitto.start()
    while client.connections() < 2:
        assert client.take(most=0, timeout_s=0.05) == []
    client.done(taken)
    send(camera, 3)
    assert payloads(take(client, 2)) == [2, 3]


def test_retained_messages_are_passed_over(join: Join, camera: Bus) -> None:
    camera.publish("line/state", b"0", retain=True)
    client = join()
    send(camera, 1)
    taken = take(client, 1)
    assert payloads(taken) == [1]
    client.done(taken)
    client.close()
    assert join().take(most=1, timeout_s=SHORT_S) == []


def test_messages_of_quality_nought_are_dropped_and_counted(
    join: Join, camera: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineside.links.mqtt_acked._MOST_WAITING", 3)
    client = join()
    for number in range(8):
        camera.publish("line/a", b"%d" % number, qos=0)
    camera.publish("line/a", b"9")
    camera.publish("line/a", b"10")
    while client.dropped < 5:
        assert client.waiting <= 3
    assert payloads(take(client, 3)) == [0, 1, 2]
    client.close()
    assert payloads(take(join(), 2)) == [9, 10]


def test_a_pattern_that_is_none_is_refused(mosquitto: Mosquitto) -> None:
    with pytest.raises(InvalidError):
        open_acked(mosquitto.url, patterns=("a/#/b",), client_id="x", clock=SystemClock())
