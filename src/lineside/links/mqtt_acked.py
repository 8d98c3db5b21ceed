"""MQTT messages that are acknowledged to the broker when their reader has dealt with them.

The other clients acknowledge what they take over; here the broker keeps a message until ``done``,
so that a reader which passes it on loses none when it is killed (MQTT 3.1.1, 4.3.2 and 4.4: what is
not acknowledged is sent again when the session goes on).

1. How many messages are sent unacknowledged is the broker's setting (20 with mosquitto as shipped);
   beyond it they wait there, within its limits.
2. After a return into the same session the broker sends again what was not acknowledged, so what
   still waits here is let go of; a message may come twice, and none is lost.
3. A message of quality 0 is nobody's: it is dropped and counted when too many wait.
4. Retained messages are passed over: they say what was, and would come again at each return.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lineside.core import Clock, LinesideError
from lineside.links.contract import Message
from lineside.links.mqtt import MqttBus
from lineside.links.mqtt_address import make_client, parse_address

if TYPE_CHECKING:
    import paho.mqtt.client as paho
    from paho.mqtt.reasoncodes import ReasonCode

_MOST_WAITING = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMessage:
    """A message the broker still keeps.

    Attributes:
        mid: the packet identifier, which nothing else has until the broker was told.
        connection: counts the joins of the bus.
        again: the broker says that it sends it once more (flag DUP).
    """

    message: Message
    mid: int
    connection: int
    again: bool = False


class AckedMqtt(MqttBus):
    """A client of its own for such subscriptions; see ``open_acked``."""

    def begin(self, patterns: tuple[str, ...]) -> None:
        """Join, and subscribe now and at each return; see ``MqttBus.start`` for what is raised."""
        self._kept: deque[KeptMessage] = deque()
        self._came = threading.Condition()
        self._passed = 0
        self._client.manual_ack_set(on=True)
        self.start(persistent=True)
        self.subscribe(patterns, qos=1, name="kept")

    @property
    def dropped(self) -> int:
        """Messages of quality 0 that found no room."""
        return self._passed

    @property
    def waiting(self) -> int:
        """Messages that are here and not taken."""
        return len(self._kept)

    def take(self, *, most: int, timeout_s: float) -> list[KeptMessage]:
        """The oldest messages that wait, at most ``most``; none when none came in time."""
        with self._came:
            self._came.wait_for(lambda: self._kept, timeout=timeout_s)
            return [self._kept.popleft() for _ in range(min(most, len(self._kept)))]

    def done(self, messages: Sequence[KeptMessage]) -> None:
        """Let the broker forget these; those of an earlier connection come again."""
        for kept in messages:
            if kept.message.qos and kept.connection == self.connections():
                self._client.ack(kept.mid, 1)

    def _on_message(self, _client: object, _data: object, message: "paho.MQTTMessage") -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if message.retain or not topic:
            self._client.ack(message.mid, message.qos)
            return
        taken = Message(
            topic=topic, payload=bytes(message.payload), qos=message.qos,
            arrived_s=self._clock.monotonic(),
        )  # fmt: skip
        kept = KeptMessage(
            message=taken, mid=message.mid, connection=self.connections(), again=message.dup
        )
        with self._came:
            if len(self._kept) < _MOST_WAITING:
                self._kept.append(kept)
                self._came.notify_all()
            elif not message.qos:  # others are not acknowledged, so the broker sends them again
                self._passed += 1

    def _on_connect(
        self, _client: object, _data: object, _flags: object, reason: "ReasonCode", _more: object
    ) -> None:
        if getattr(_flags, "session_present", False):
            with self._came:
                left = [kept for kept in self._kept if not kept.message.qos]
                self._kept.clear()
                self._kept.extend(left)
        super()._on_connect(_client, _data, _flags, reason, _more)


def open_acked(url: str, *, patterns: tuple[str, ...], client_id: str, clock: Clock) -> AckedMqtt:
    """Join a bus for these patterns; the caller closes it.

    Args:
        url: ``mqtt://…`` or ``mqtts://…``.
        patterns: of topics.
        client_id: names the session that the broker keeps; the same at each start.
        clock: gives ``Message.arrived_s``.

    Raises:
        InvalidError: the address can never work, or a pattern is none.
        RefusedError: the broker refuses credentials or subscription.
    """
    address = parse_address(url)
    client, context = make_client(address, client_id=client_id, will=None, persistent=True)
    opened = AckedMqtt(client, context=context, address=address, client_id=client_id, clock=clock)
    try:
        opened.begin(patterns)
    except LinesideError:
        opened.close()
        raise
    return opened
