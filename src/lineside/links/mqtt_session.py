"""MQTT sessions whose messages are acknowledged when their reader has stored them.

The broker keeps a message until ``acknowledge``, so a reader that is killed loses none: what was
not acknowledged is sent again when the session goes on (MQTT 3.1.1, 4.3.2 and 4.4). Rules:

1. The subscription is of quality 1. What was published with quality 2 comes with quality 1, so
   that the broker forgets nothing before the acknowledgement: a PUBREC, which paho sends at once,
   would let it do that. A message that comes twice is told by its content, or by its delivery.
2. How many messages are sent unacknowledged is said by the client with version 5 (``_WINDOW``), and
   is the broker's setting with 3.1.1 (20 with mosquitto as shipped). Where a broker knows no limit,
   nothing is read from the network while ``_MOST_WAITING`` messages wait here.
3. PUBACKs go out in the order of the messages (MQTT 3.1.1, 4.6), whatever the order of the calls.
4. After a return into the same session the broker sends again what was not acknowledged, so what
   still waits here is let go of. Where the broker lost the session, nothing comes again, and what
   waits here stays.
5. With version 5 a session never expires at the broker, as with 3.1.1.
6. Retained messages come at each start, and at a return only where the broker lost the session.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lineside.core import Clock, LinesideError, RefusedError
from lineside.core.topics import check_pattern
from lineside.links.contract import Delivery, MailboxFigures
from lineside.links.mqtt import (
    FIRST_ANSWER_S,
    TURN_S,
    MqttBus,
    make_client,
    parse_address,
    persistent_session,
)

if TYPE_CHECKING:
    import paho.mqtt.client as paho
    from paho.mqtt.reasoncodes import ReasonCode

logger = logging.getLogger(__name__)

_WINDOW = 100
_MOST_WAITING = 1000
_MOST_BYTES = 256_000_000


class _Load:
    """Number and bytes of the waiting messages of one kind."""

    def __init__(self) -> None:
        self.messages = 0
        self.size_bytes = 0

    def add(self, one: Delivery, *, sign: int = 1) -> None:
        """Count a message that came, or with ``sign=-1`` one that went."""
        self.messages += sign
        self.size_bytes += sign * len(one.message.payload)

    @property
    def full(self) -> bool:
        return self.messages >= _MOST_WAITING or self.size_bytes >= _MOST_BYTES


class MqttSession(MqttBus):
    """A client of its own; made by ``open_mqtt_session``, see ``contract.BusSession``."""

    def begin(
        self, patterns: tuple[str, ...], *, former: tuple[str, ...], may_join: Callable[[], bool]
    ) -> None:
        """Join, and subscribe; see ``MqttBus.start`` for what is raised."""
        self._may_join = may_join
        self._patterns = patterns
        self._former = tuple(pattern for pattern in former if pattern not in patterns)
        self._waiting: deque[Delivery] = deque()
        self._kept, self._unkept = _Load(), _Load()  # of quality 1 and 2, and of quality 0
        self._unacknowledged: dict[int, tuple[int, bool]] = {}
        self._unanswered: set[int] = set()
        self._refused = self._agreed = self._stopped = self._dropping = False
        self._received = self._taken = self._dropped = 0
        self._client.manual_ack_set(on=True)
        five = self._address.version == 5
        kept = persistent_session(window=_WINDOW) if five else None
        self.start(properties=kept)
        with self._changed:
            self._changed.wait_for(
                lambda: not self._connected or not self._unanswered, timeout=FIRST_ANSWER_S
            )
            if self._refused:
                raise RefusedError(
                    f"the broker refused the subscription {', '.join(patterns)}",
                    where=self._address.shown,
                    fix="Let the broker's access list allow these topics.",
                )

    def take(self, *, most: int, timeout_s: float) -> list[Delivery]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped, timeout=timeout_s)
            if self._stopped:
                return []
            was_full = self._kept.full
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._taken += len(taken)
            for one in taken:
                self._load_of(one).add(one, sign=-1)
            if self._dropping and self._unkept.messages < _MOST_WAITING // 2:
                self._dropping = False
                logger.info(
                    "messages of quality 0 find room again client=%s dropped=%d",
                    self._client_id,
                    self._dropped,
                )
        if was_full:
            self._turns.wake()  # reading goes on
        return taken

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            for one in deliveries:
                held = self._unacknowledged.get(one.mid)
                if held is not None and self._connected and one.connection == self._connections:
                    self._unacknowledged[one.mid] = held[0], True
            self._tell_acknowledged()

    def figures(self) -> MailboxFigures:
        with self._changed:
            return MailboxFigures(
                received=self._received,
                handed_out=self._taken,
                dropped=self._dropped,
                waiting=len(self._waiting),
            )

    def agreed(self) -> bool:
        with self._changed:  # a connection is counted before the broker is asked again
            return self._agreed

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        self.stop()
        with self._changed:
            lost = sum(not one.message.qos for one in self._waiting)
            self._waiting.clear()
        if lost:
            logger.warning(
                "messages of quality 0 given up at the end client=%s messages=%d",
                self._client_id,
                lost,
            )
        super().close()

    def _tell_acknowledged(self) -> None:
        """Send the PUBACKs that no earlier message holds back; the lock is held."""
        while self._unacknowledged:
            mid, (qos, acknowledged) = next(iter(self._unacknowledged.items()))
            if not acknowledged:
                return
            del self._unacknowledged[mid]
            self._client.ack(mid, qos)

    def _subscribe_again(self, *, session_present: bool) -> None:
        self._unacknowledged.clear()
        if session_present:
            self._waiting = deque(one for one in self._waiting if not one.message.qos)
            self._kept = _Load()
        if session_present and self._agreed:
            return
        self._agreed = self._refused = False
        asked = []
        if self._patterns:  # a plant without topics is a session that waits for some
            asked.append(self._client.subscribe([(pattern, 1) for pattern in self._patterns]))
        if self._former:
            asked.append(self._client.unsubscribe([*self._former]))
        self._unanswered = {mid for _, mid in asked if mid is not None}
        self._agreed = not asked

    def _take_turn(self) -> bool:
        return self._turns.turn(timeout_s=TURN_S, read=not self._kept.full)

    def _on_message(self, _client: object, _data: object, message: "paho.MQTTMessage") -> None:
        taken = self._read(message)
        with self._changed:
            self._received += 1
            if message.qos:
                self._unacknowledged[message.mid] = message.qos, taken is None
            if taken is None:
                self._tell_acknowledged()
            elif not message.qos and self._unkept.full:
                self._drop()
            elif not self._stopped:
                self._put(
                    Delivery(
                        message=taken,
                        mid=message.mid,
                        connection=self._connections,
                        again=message.dup,
                    )
                )

    def _put(self, one: Delivery) -> None:
        self._load_of(one).add(one)
        self._waiting.append(one)
        self._changed.notify_all()

    def _load_of(self, one: Delivery) -> _Load:
        return self._kept if one.message.qos else self._unkept

    def _drop(self) -> None:
        """Count a message of quality 0 that found no room; say so when it begins."""
        self._dropped += 1
        if not self._dropping:
            self._dropping = True
            logger.warning(
                "messages of quality 0 are dropped, they come faster than they are stored"
                " client=%s waiting=%d",
                self._client_id,
                len(self._waiting),
            )

    def _on_subscribe(
        self, _client: object, _data: object, mid: int, codes: "list[ReasonCode]", _more: object
    ) -> None:
        refused = any(code.is_failure for code in codes)
        if refused:
            logger.error(
                "subscription refused client=%s bus=%s patterns=%s",
                self._client_id,
                self._address.shown,
                " ".join(self._patterns),
            )
        self._note_answer(mid, refused=refused)

    def _on_unsubscribe(
        self, _client: object, _data: object, mid: int, _codes: object, _more: object
    ) -> None:
        self._note_answer(mid, refused=False)

    def _note_answer(self, mid: int, *, refused: bool) -> None:
        with self._changed:
            self._unanswered.discard(mid)
            self._refused = self._refused or refused
            self._agreed = not self._unanswered and not self._refused
            self._changed.notify_all()


def open_mqtt_session(
    url: str, *, client_id: str, patterns: tuple[str, ...], clock: Clock, former: tuple[str, ...],
    may_join: Callable[[], bool],
) -> MqttSession:  # fmt: skip
    """Go on with a session, or begin it; see ``open_session``."""
    for pattern in patterns:
        check_pattern(pattern)
    address = parse_address(url)
    client, context = make_client(address, client_id=client_id, persistent=True)
    opened = MqttSession(client, context=context, address=address, client_id=client_id, clock=clock)
    try:
        opened.begin(patterns, former=former, may_join=may_join)
    except LinesideError:
        opened.close()
        raise
    return opened
