"""Senders of numbered messages on each way into a hub; each notes what was acknowledged to it.

A sender behaves as its protocol asks: what was not acknowledged is sent again, as it was. Beyond
that, one message in twenty is sent twice, one in twenty-five cannot be read, and the sender's clock
can be set wrong.
"""

import base64
import contextlib
import http.client
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta

import confluent_kafka
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import SystemClock, digest_of, encode, rfc3339
from lineside.vision import encode_jpeg
from tests.models.conftest import scene

CLOCK = SystemClock()
_MOST_WAITING = 200
_REPEATED = 0.05
_SPOILT = 0.04
_TIMEOUT_S = 5.0


class Sender(ABC):
    """One way in: says a message every ``pause_s`` until it is told to finish."""

    def __init__(self, way: str, *, topic: str, pause_s: float, seed: int) -> None:
        self.way = way
        self.topic = topic
        self.sent: set[int] = set()
        self.spoilt: set[int] = set()
        self.repeated = 0
        self.clock_error = timedelta()
        self._pause_s = pause_s
        self._draw = random.Random(f"{seed} {way}")  # noqa: S311  the same messages each time
        self._stop = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"send-{way}")

    @abstractmethod
    def acknowledged(self) -> set[int]:
        """The numbers of the messages that the other side said it has."""

    @abstractmethod
    def _say(self, number: int, body: bytes) -> None:
        """Send it; what is not acknowledged is sent again."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Say nothing new."""
        self._stop.set()

    @property
    def is_settled(self) -> bool:
        """Whether all that was said is acknowledged, after ``finish``."""
        return not self._thread.is_alive() and self.acknowledged() == self.sent

    def close(self) -> None:
        """End, whatever is acknowledged."""
        self._stop.set()
        self._given_up.set()
        self._thread.join()

    def number_of(self, data: dict[str, object]) -> int:
        """The number of the message that became this event."""
        return int(str(data["number"]))

    def _body(self, number: int, *, spoilt: bool) -> bytes:
        at = rfc3339(CLOCK.now() + self.clock_error)
        return encode({"ts": "yesterday" if spoilt else at, "image": "disc", "number": number})

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            if len(self.sent) - len(self.acknowledged()) >= _MOST_WAITING:
                continue
            number = len(self.sent)
            spoilt = self._draw.random() < _SPOILT
            body = self._body(number, spoilt=spoilt)
            self.sent.add(number)
            if spoilt:
                self.spoilt.add(number)
            self._say(number, body)
            if self._draw.random() < _REPEATED:
                self.repeated += 1
                self._say(number, body)


class MqttSender(Sender):
    """A client of MQTT 3.1.1 with a session that outlives its connections."""

    def __init__(
        self, way: str, *, topic: str, pause_s: float, seed: int, port: int, qos: int
    ) -> None:
        super().__init__(way, topic=topic, pause_s=pause_s, seed=seed)
        self._qos = qos
        self._said: dict[int, int] = {}
        self._done: list[int] = []
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"line-{way}", clean_session=False
        )
        self._client.on_publish = self._note
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port, keepalive=10)

    def start(self) -> None:
        self._client.loop_start()
        super().start()

    def acknowledged(self) -> set[int]:
        return {self._said[mid] for mid in list(self._done) if mid in self._said}

    def close(self) -> None:
        super().close()
        self._client.disconnect()
        self._client.loop_stop()

    def _note(self, _client: object, _data: object, mid: int, *_: object) -> None:
        self._done.append(mid)

    def _say(self, number: int, body: bytes) -> None:
        self._said[self._client.publish(self.topic, body, qos=self._qos).mid] = number


class SensorSender(MqttSender):
    """Says readings of a light sensor, which the twin shows."""

    def number_of(self, data: dict[str, object]) -> int:
        return int(str(data["ldr"]))

    def _body(self, number: int, *, spoilt: bool) -> bytes:
        at = rfc3339(CLOCK.now() + self.clock_error)
        return encode({"ts": "yesterday" if spoilt else at, "ldr": number, "br": "84.3"})


class HttpSender(Sender):
    """Posts until it is answered: 2xx is stored, 400 is refused with a sentence."""

    def __init__(
        self, way: str, *, topic: str, pause_s: float, seed: int, ports: Sequence[int], token: str
    ) -> None:
        super().__init__(way, topic=topic, pause_s=pause_s, seed=seed)
        self._ports = ports
        self._path = "/mqttingest"
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        self._turn = 0
        self._done: set[int] = set()
        self.answers: list[tuple[int, bytes]] = []

    def acknowledged(self) -> set[int]:
        return set(self._done)

    def _body(self, number: int, *, spoilt: bool) -> bytes:
        at = rfc3339(CLOCK.now() + self.clock_error)
        return encode({"topic": self.topic, "ts": "yesterday" if spoilt else at, "number": number})

    def _say(self, number: int, body: bytes) -> None:
        while not self._given_up.is_set():
            status, answer = self._post(body)
            if 200 <= status < 300:
                self._done.add(number)
                return
            if status == 400:
                self.answers.append((number, answer))
                self._done.add(number)
                return
            self._turn += 1
            self._given_up.wait(0.1)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        port = self._ports[self._turn % len(self._ports)]
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        with contextlib.closing(link), contextlib.suppress(OSError, http.client.HTTPException):
            link.request("POST", self._path, body, self._headers)
            answer = link.getresponse()
            return answer.status, answer.read()
        return 0, b""


class CameraSender(HttpSender):
    """Posts pictures to a device, which takes the newest ones and judges them."""

    def __init__(self, way: str, *, pause_s: float, seed: int, port: int) -> None:
        super().__init__(way, topic="camera", pause_s=pause_s, seed=seed, ports=(port,), token="")
        self._path = "/camera"
        self._headers = {"Content-Type": "application/json"}
        self.digests: dict[str, int] = {}

    def _body(self, number: int, *, spoilt: bool) -> bytes:
        image = scene(lit=number % 2 == 0)
        marks = np.random.default_rng(number)  # each picture has bytes of its own
        image[:8, :48] = np.kron(marks.integers(0, 256, (1, 6, 3), np.uint8), np.ones((8, 8, 1)))
        picture = encode_jpeg(image, quality=90)
        self.digests[digest_of(picture)] = number
        data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        return encode({"ts": "yesterday" if spoilt else rfc3339(CLOCK.now()), "data": data})


class KafkaProducer(Sender):
    """An idempotent producer that waits for all replicas."""

    def __init__(self, way: str, *, topic: str, pause_s: float, seed: int, brokers: str) -> None:
        super().__init__(way, topic=topic, pause_s=pause_s, seed=seed)
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5}
        )
        self._done: set[int] = set()

    def acknowledged(self) -> set[int]:
        self._producer.poll(0)
        return set(self._done)

    def close(self) -> None:
        super().close()
        self._producer.flush(10)

    def _say(self, number: int, body: bytes) -> None:
        def note(error: object, _message: object) -> None:
            if error is None:
                self._done.add(number)

        self._producer.produce(self.topic, body, on_delivery=note)
        self._producer.poll(0)
