"""A bus inside the process: a real broker with wildcards, retained messages, wills and sessions.

``memory://name`` opens a client of the broker of that name; the broker lives as long as one of
its clients, so two tests never meet.

1. Each mailbox gets a message once, however many of its patterns match.
2. ``lose`` and ``regain`` cut and mend a client's connection, as a pulled cable would.
3. A session of ``open_memory_session`` stays with the broker when its reader leaves, as far as the
   broker lives: the QoS 1 and 2 messages that come, the newest ``_SESSION_SIZE`` of them.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from lineside.core import Clock, UnavailableError
from lineside.core.topics import check_pattern, check_topic, topic_matches
from lineside.links.contract import (
    BoundedMailbox,
    Delivery,
    MailboxFigures,
    Message,
    Qos,
    WillSource,
    will_of,
)

logger = logging.getLogger(__name__)

_SESSION_SIZE = 10_000
_WINDOW = 20
_MOST_WAITING = 1000


@dataclass(slots=True, kw_only=True)
class _Subscription:
    patterns: tuple[str, ...]
    qos: Qos
    mailbox: BoundedMailbox


@dataclass(slots=True, kw_only=True)
class _Session:
    """The broker's side of a session: what waits, and what was sent and not acknowledged."""

    patterns: tuple[str, ...] = ()
    waiting: deque[Message] = field(default_factory=deque)
    unacknowledged: OrderedDict[int, Message] = field(default_factory=OrderedDict)
    again: OrderedDict[int, Message] = field(default_factory=OrderedDict)
    last_mid: int = 0

    def put(self, message: Message) -> None:
        if message.qos and any(topic_matches(one, message.topic) for one in self.patterns):
            self.waiting.append(replace(message, qos=1))
            if len(self.waiting) > _SESSION_SIZE:
                self.waiting.popleft()

    def send_again(self) -> None:
        """Messages that were not acknowledged are sent first when the session goes on."""
        self.again = OrderedDict([*self.unacknowledged.items(), *self.again.items()])
        self.unacknowledged = OrderedDict()


@dataclass(slots=True, kw_only=True)
class _Broker:
    lock: threading.RLock = field(default_factory=threading.RLock)
    clients: "list[MemoryBus | MemorySession]" = field(default_factory=list)
    retained: dict[str, Message] = field(default_factory=dict)
    sessions: dict[str, _Session] = field(default_factory=dict)

    def publish(self, message: Message, *, retain: bool) -> None:
        with self.lock:
            if retain and message.payload:
                self.retained[message.topic] = replace(message, retain=True)
            elif retain:
                self.retained.pop(message.topic, None)
            for session in self.sessions.values():
                session.put(message)
            for client in list(self.clients):
                client.receive(message)


_brokers: dict[str, _Broker] = {}
_brokers_lock = threading.Lock()


def open_memory(url: str, *, client_id: str, clock: Clock, will: WillSource) -> "MemoryBus":
    """Join the broker named in the URL, making it when this is its first client."""
    name = urlsplit(url).netloc
    bus = MemoryBus(name, client_id=client_id, clock=clock, will=will)
    with _brokers_lock:
        broker = _brokers.setdefault(name, _Broker())
        with broker.lock:
            broker.clients.append(bus)
            bus.broker = broker
    return bus


def open_memory_session(
    url: str, *, client_id: str, patterns: tuple[str, ...], clock: Clock, former: tuple[str, ...],
    may_join: Callable[[], bool],
) -> "MemorySession":  # fmt: skip
    """Go on with a session of the broker named in the URL, or begin it."""
    del may_join  # it is asked before a connection is made anew; here the test makes it
    for pattern in (*patterns, *former):
        check_pattern(pattern)
    name = urlsplit(url).netloc
    opened = MemorySession(name, client_id=client_id, patterns=patterns, clock=clock)
    with _brokers_lock:
        broker = _brokers.setdefault(name, _Broker())
        with broker.lock:
            opened.join(broker, former=former)
    return opened


def _leave(bus: "MemoryBus | MemorySession", *, name: str) -> None:
    with _brokers_lock:
        broker = _brokers[name]
        broker.clients.remove(bus)
        if not broker.clients:
            del _brokers[name]


class MemoryBus:
    """One client of a broker in this process."""

    def __init__(self, name: str, *, client_id: str, clock: Clock, will: WillSource) -> None:
        self.broker = _Broker()
        self._name = name
        self._client_id = client_id
        self._clock = clock
        self._will = will
        self._subscriptions: list[_Subscription] = []
        self._connected = True
        self._connections = 1
        self._closed = False

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Qos = 1,
        retain: bool = False,
        timeout_s: float = 5.0,  # noqa: ARG002  a broker in the process answers at once
    ) -> None:
        if not self.publish_soon(topic, payload, qos=qos, retain=retain):
            raise UnavailableError(
                "the bus is away", where=f"memory://{self._name}", fix="Send it again later."
            )

    def publish_soon(
        self, topic: str, payload: bytes, *, qos: Qos = 1, retain: bool = False
    ) -> Callable[[], bool] | None:
        check_topic(topic)
        if not self._connected:
            return None
        message = Message(
            topic=topic, payload=bytes(payload), qos=qos, arrived_s=self._clock.monotonic()
        )
        self.broker.publish(message, retain=retain)
        return lambda: True

    def subscribe(
        self,
        topics: tuple[str, ...],
        *,
        qos: Qos = 1,
        size: int = 1000,
        name: str = "",  # noqa: ARG002  names a figure of the network clients
    ) -> BoundedMailbox:
        for pattern in topics:
            check_pattern(pattern)
        mailbox = BoundedMailbox(size=size, on_close=lambda: self._forget(mailbox))
        with self.broker.lock:
            self._subscriptions.append(_Subscription(patterns=topics, qos=qos, mailbox=mailbox))
            for topic, message in self.broker.retained.items():
                if any(topic_matches(pattern, topic) for pattern in topics):
                    mailbox.put(message)
        return mailbox

    def connected(self) -> bool:
        return self._connected

    def connections(self) -> int:
        return self._connections

    def close(self) -> None:
        with self.broker.lock:
            if self._closed:
                return
            self._closed = True
            self._connected = False
            left, self._subscriptions = self._subscriptions, []
        for subscription in left:
            subscription.mailbox.close()
        _leave(self, name=self._name)

    def receive(self, message: Message) -> None:
        """Take one message from the broker; it is lost while the connection is."""
        if self._connected:
            self._deliver(message)

    def lose(self) -> None:
        """Cut the connection without a word; the broker says the last will."""
        with self.broker.lock:
            if not self._connected:
                return
            self._connected = False
            logger.warning("bus lost client=%s", self._client_id)
            will = will_of(self._will, connections=self._connections - 1)
            if will is not None:
                message = Message(
                    topic=will.topic,
                    payload=will.payload,
                    qos=will.qos,
                    arrived_s=self._clock.monotonic(),
                )
                self.broker.publish(message, retain=will.retain)

    def regain(self) -> None:
        """Mend the connection."""
        with self.broker.lock:
            if self._connected or self._closed:
                return
            self._connected = True
            self._connections += 1
            logger.info("bus regained client=%s", self._client_id)

    def _deliver(self, message: Message) -> None:
        for subscription in self._subscriptions:
            if any(topic_matches(pattern, message.topic) for pattern in subscription.patterns):
                qos = min(message.qos, subscription.qos)
                subscription.mailbox.put(
                    replace(message, qos=qos, arrived_s=self._clock.monotonic())
                )

    def _forget(self, mailbox: BoundedMailbox) -> None:
        with self.broker.lock:
            self._subscriptions = [s for s in self._subscriptions if s.mailbox is not mailbox]


class MemorySession:
    """A session's reader; see ``contract.BusSession``."""

    def __init__(
        self, name: str, *, client_id: str, patterns: tuple[str, ...], clock: Clock
    ) -> None:
        self._name = name
        self._client_id = client_id
        self._patterns = patterns
        self._clock = clock
        self._waiting: deque[Message] = deque()  # of quality 0
        self._connected = self._stopped = self._closed = False
        self._connections = 0
        self._received = self._taken = self._dropped = 0

    def join(self, broker: _Broker, *, former: tuple[str, ...]) -> None:
        """Take the session over; the broker's lock is held."""
        self.broker = broker
        self._changed = threading.Condition(broker.lock)
        self._session = broker.sessions.setdefault(self._client_id, _Session())
        kept = [one for one in self._session.patterns if one not in former]
        self._session.patterns = tuple(dict.fromkeys([*kept, *self._patterns]))
        self._session.send_again()
        for message in broker.retained.values():
            self._session.put(message)
        broker.clients.append(self)
        self._connected, self._connections = True, 1

    def take(self, *, most: int, timeout_s: float) -> list[Delivery]:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or self._waiting or self._sendable(), timeout=timeout_s
            )
            if self._stopped:
                return []
            taken = [
                Delivery(message=self._waiting.popleft(), mid=0, connection=self._connections)
                for _ in range(min(most, len(self._waiting)))
            ]
            while len(taken) < most and self._sendable():
                taken.append(self._send())
            self._taken += len(taken)
            return taken

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            for one in deliveries:
                if self._connected and one.connection == self._connections:
                    self._session.unacknowledged.pop(one.mid, None)
            self._changed.notify_all()

    def figures(self) -> MailboxFigures:
        with self._changed:
            return MailboxFigures(
                received=self._received, handed_out=self._taken, dropped=self._dropped,
                waiting=len(self._waiting) + len(self._session.waiting) + len(self._session.again),
            )  # fmt: skip

    def connected(self) -> bool:
        return self._connected

    def connections(self) -> int:
        return self._connections

    def agreed(self) -> bool:
        return True

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed, self._connected = True, False
            self._session.send_again()
        self.stop()
        _leave(self, name=self._name)

    def receive(self, message: Message) -> None:
        """Take one message from the broker, whose lock is held."""
        if not any(topic_matches(one, message.topic) for one in self._session.patterns):
            return
        if self._connected:
            self._received += 1
            if not message.qos and len(self._waiting) < _MOST_WAITING:
                self._waiting.append(message)
            elif not message.qos:
                self._drop()
        self._changed.notify_all()

    def _drop(self) -> None:
        if not self._dropped:
            logger.warning("messages of quality 0 are dropped client=%s", self._client_id)
        self._dropped += 1

    def lose(self) -> None:
        """Cut the connection without a word."""
        with self._changed:
            if self._connected:
                self._connected = False
                self._session.send_again()
                logger.warning("bus lost client=%s", self._client_id)

    def regain(self) -> None:
        """Mend the connection."""
        with self._changed:
            if not self._connected and not self._closed:
                self._connected = True
                self._connections += 1
                logger.info("bus regained client=%s", self._client_id)
                self._changed.notify_all()

    def _sendable(self) -> bool:
        session = self._session
        some = bool(session.waiting or session.again)
        return self._connected and some and len(session.unacknowledged) < _WINDOW

    def _send(self) -> Delivery:
        session, again = self._session, bool(self._session.again)
        if again:
            mid, message = session.again.popitem(last=False)
        else:
            session.last_mid += 1
            mid, message = session.last_mid, session.waiting.popleft()
        session.unacknowledged[mid] = message
        message = replace(message, arrived_s=self._clock.monotonic())
        return Delivery(message=message, mid=mid, connection=self._connections, again=again)
