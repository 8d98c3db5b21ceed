"""Who asked is answered without a subscription: by whom, to whom, and how much is remembered."""

import json
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import SystemClock
from lineside.links import Bus, EmbeddedBroker, open_bus, set_bus_password
from lineside.links.amqtt_session import Counts, Questions, Session
from lineside.links.broker_contract import BrokerLimits
from lineside.testing.links import LONG_S, wait_until

PATTERN = "q/+/#"


def session() -> Session:
    return Session(client_id="a", clean=True, own=False, limits=BrokerLimits(), counts=Counts())


def token(name: str) -> bytes:
    return json.dumps({"clientToken": name}).encode()


class TestWhatIsRemembered:
    def test_each_question_is_worth_one_answer_the_oldest_first(self) -> None:
        questions, first, second = Questions((PATTERN,)), session(), session()
        questions.note("q/a/get", b"", by=first, qos=0)
        questions.note("q/a/get", b"{}", by=second, qos=2)
        assert questions.take("q/a/get/accepted", b"") == (first, 0)
        assert questions.take("q/a/get/rejected", b"{}") == (second, 2)
        assert questions.take("q/a/get/accepted", b"") is None

    def test_an_answer_goes_where_its_token_came_from(self) -> None:
        questions, first, second = Questions((PATTERN,)), session(), session()
        questions.note("q/a/get", token("1"), by=first, qos=1)
        questions.note("q/a/get", token("2"), by=second, qos=1)
        assert questions.take("q/a/get/accepted", token("2")) == (second, 1)
        assert questions.take("q/a/get/accepted", token("2")) is None
        assert questions.take("q/a/get/accepted", b"{}") is None
        assert questions.take("q/a/get/accepted", token("1")) == (first, 1)

    @pytest.mark.parametrize("topic", ["other/a/get", "q/a/get/accepted", "q/a/get/rejected"])
    def test_what_is_no_question_is_not_remembered(self, topic: str) -> None:
        questions, asking = Questions((PATTERN,)), session()
        questions.note(topic, b"", by=asking, qos=0)
        assert questions.take(f"{topic}/accepted", b"") is None

    @pytest.mark.parametrize("topic", ["q/a/get", "q/a/get/notify", "q/a/put/accepted", "q"])
    def test_what_is_no_answer_goes_to_nobody_more(self, topic: str) -> None:
        questions, asking = Questions((PATTERN,)), session()
        questions.note("q/a/get", b"", by=asking, qos=0)
        assert questions.take(topic, b"") is None

    def test_questions_end_with_the_connection_that_asked(self) -> None:
        questions, gone, asking = Questions((PATTERN,)), session(), session()
        questions.note("q/a/get", b"", by=gone, qos=0)
        questions.note("q/a/get", b"", by=asking, qos=0)
        questions.forget(gone)
        assert questions.take("q/a/get/accepted", b"") == (asking, 0)

    @pytest.mark.parametrize(
        "payload", [b"", b"{", b"[1]", b'{"clientToken":1}', b"\xff" * 200_000]
    )
    def test_what_has_no_token_is_a_question_all_the_same(self, payload: bytes) -> None:
        questions, asking = Questions((PATTERN,)), session()
        questions.note("q/a/get", payload, by=asking, qos=0)
        assert questions.take("q/a/get/accepted", b"{}") == (asking, 0)

    def test_the_oldest_questions_are_forgotten(self) -> None:
        questions, old, asking = Questions((PATTERN,)), session(), session()
        questions.note("q/first/get", b"", by=old, qos=0)
        for number in range(10_000):
            questions.note(f"q/{number}/get", b"", by=asking, qos=0)
        assert questions.take("q/first/get/accepted", b"") is None
        assert questions.take("q/9999/get/accepted", b"") == (asking, 0)


class Client:
    """A client without subscriptions that keeps what comes to it."""

    def __init__(self, broker: EmbeddedBroker, *, name: str, password: str = "") -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
        if password:
            self.client.username_pw_set("edge", password)
        self.client.on_message = lambda *given: self.heard.append(
            (given[2].topic, bytes(given[2].payload))
        )
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        wait_until(self.client.is_connected)

    def say(self, topic: str, payload: bytes = b"") -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(LONG_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_only_the_hub_answers_where_there_are_passwords(tmp_path: Path) -> None:
    users = tmp_path / "users"
    set_bus_password(users, name="edge", password="secret")  # noqa: S106  a test's own
    with EmbeddedBroker(password_file=users, answered=(PATTERN,)) as broker:
        hub = open_bus(broker.own_url, client_id="hub", clock=SystemClock())
        asking, other = (Client(broker, name=name, password="secret") for name in "ab")  # noqa: S106  a test's own
        try:
            asking.say("q/a/get")
            other.say("q/a/get/accepted", b"forged")
            hub.publish("q/a/get/accepted", b"true")
            wait_until(lambda: bool(asking.heard))
            assert asking.heard == [("q/a/get/accepted", b"true")]
            assert other.heard == []
        finally:
            for client in (asking, other):
                client.close()
            hub.close()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(answered=(PATTERN,)) as running:
        yield running


@pytest.fixture
def hub(broker: EmbeddedBroker) -> Iterator[Bus]:
    opened = open_bus(broker.own_url, client_id="hub", clock=SystemClock())
    yield opened
    opened.close()


def test_each_of_a_burst_hears_its_own_answer_over_reconnects(
    broker: EmbeddedBroker, hub: Bus
) -> None:
    """Every tenth question has no answer, and what was asked before a reconnect is over."""
    asked = hub.subscribe(("q/a/get",), size=1000)
    for round_ in range(3):
        client = Client(broker, name="thing")
        names = [f"{round_}-{number}" for number in range(90)]
        for name in names:
            client.say("q/a/get", token(name))
        for _ in names:
            message = asked.get(timeout_s=LONG_S)
            assert message is not None
            if not message.payload.endswith(b'9"}'):
                hub.publish("q/a/get/accepted", message.payload)
        answered = [token(name) for name in names if not name.endswith("9")]
        wait_until(lambda: len(client.heard) >= len(answered))  # noqa: B023  called in this round
        assert [payload for _, payload in client.heard] == answered
        client.say("q/a/get", token("late"))
        client.close()
        late = asked.get(timeout_s=LONG_S)
        assert late is not None
        wait_until(lambda: broker.figures().clients == 1)
        back = Client(broker, name="thing")
        hub.publish("q/a/get/accepted", late.payload)
        back.say("q/a/get", token("own"))
        assert asked.get(timeout_s=LONG_S) is not None
        hub.publish("q/a/get/accepted", token("own"))
        wait_until(lambda: bool(back.heard))  # noqa: B023  called in this round
        assert back.heard == [("q/a/get/accepted", token("own"))]
        back.close()
