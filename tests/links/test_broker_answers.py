"""Who asked is answered without a subscription: by whom, to whom, and how much is remembered."""

import gc
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from amqtt.session import Session
from paho.mqtt.enums import CallbackAPIVersion
from pwdlib import PasswordHash

from lineside.core import SystemClock
from lineside.links import EmbeddedBroker, open_bus
from lineside.links.amqtt_answers import Askers
from lineside.testing.links import LONG_S, wait_until

PATTERN = "q/+/#"


def session() -> Session:
    return Session()


class TestWhatIsRemembered:
    def test_each_question_is_worth_one_answer_the_oldest_first(self) -> None:
        askers, first, second = Askers((PATTERN,)), session(), session()
        askers.note("q/a/get", first, qos=0)
        askers.note("q/a/get", second, qos=2)
        assert askers.take("q/a/get/accepted") == (first, 0)
        assert askers.take("q/a/get/rejected") == (second, 2)
        assert askers.take("q/a/get/accepted") is None

    @pytest.mark.parametrize("topic", ["other/a/get", "q/a/get/accepted", "q/a/get/rejected"])
    def test_what_is_no_question_is_not_remembered(self, topic: str) -> None:
        askers, asking = Askers((PATTERN,)), session()
        askers.note(topic, asking, qos=0)
        assert askers.take(f"{topic}/accepted") is None

    @pytest.mark.parametrize("topic", ["q/a/get", "q/a/get/notify", "q/a/put/accepted", "q"])
    def test_what_is_no_answer_goes_to_nobody_more(self, topic: str) -> None:
        askers, asking = Askers((PATTERN,)), session()
        askers.note("q/a/get", asking, qos=0)
        assert askers.take(topic) is None

    def test_a_session_that_is_gone_is_not_kept(self) -> None:
        askers = Askers((PATTERN,))
        asking = session()
        askers.note("q/a/get", asking, qos=0)
        del asking
        gc.collect()
        assert askers.take("q/a/get/accepted") is None

    def test_the_oldest_topics_and_questions_are_forgotten(self) -> None:
        askers, old, asking = Askers((PATTERN,)), session(), session()
        askers.note("q/first/get", old, qos=0)
        for number in range(10_000):
            askers.note(f"q/{number}/get", asking, qos=0)
        assert askers.take("q/first/get/accepted") is None
        assert askers.take("q/9999/get/accepted") == (asking, 0)
        for _ in range(70):
            askers.note("q/a/get", asking, qos=0)
        answered = sum(askers.take("q/a/get/accepted") is not None for _ in range(80))
        assert answered == 64


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
    users.write_text(f"edge:{PasswordHash.recommended().hash('secret')}\n")
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
