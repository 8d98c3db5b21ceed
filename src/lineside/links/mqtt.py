"""MQTT 3.1.1 and 5 through paho-mqtt, with a network thread of our own.

1. Opening waits for the first answer. Broker away: the client is returned and goes on trying.
   Credentials refused: ``RefusedError``. Settings that can never work: ``InvalidError``.
2. ``publish`` that raises ``UnavailableError`` before anything was sent leaves nothing behind;
   when the connection broke while the message was under way, it is sent again after the return
   (MQTT 4.4), so the receiver may still get it.
3. At most ``_IN_FLIGHT`` messages are under way at once, from all threads together.
4. Retry waits grow from 0.1 to 15 s with jitter; loss and return are logged once each.

The address of an MQTT broker, and the paho client made for it.

``mqtt://user:password@host:1883`` and ``mqtts://…``; after ``?``: ``version=5`` (3.1.1
otherwise), ``ca=/path/ca.pem`` (the system's authorities otherwise), ``keepalive=30`` (seconds),
``certificate=`` and ``key=`` (PEM files by which a device proves its name; one may hold both).
"""

import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    RefusedError,
    UnavailableError,
)
from lineside.core.topics import check_pattern, check_topic, topic_matches
from lineside.core.worker import Worker, backoff_s
from lineside.links.contract import BoundedMailbox, Message, Qos, WillSource, will_of

if TYPE_CHECKING:
    import paho.mqtt.client as paho
    from paho.mqtt.client import ConnectFlags
    from paho.mqtt.enums import MQTTErrorCode
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
import contextlib
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paho.mqtt.client as paho
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from lineside.core import need
from lineside.core.drivers import SecretUrl

if TYPE_CHECKING:
    import paho.mqtt.client as paho
    from paho.mqtt.properties import Properties

CONNECT_S = 5.0
_FOR_EVER_S = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttAddress:
    """A bus URL taken apart."""

    shown: str
    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool
    version: int
    ca: Path | None
    keepalive_s: int
    certificate: Path | None = None
    key: Path | None = None


def parse_address(url: str) -> MqttAddress:
    """Take a bus URL apart.

    Raises:
        InvalidError: no host, no number where one is needed, or an unknown option.
    """
    shown = SecretUrl(url)
    known = {"version", "ca", "keepalive", "certificate", "key"}
    try:
        parts = urlsplit(shown.reveal())
        options = dict(parse_qsl(parts.query))
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        keepalive_s = int(options.get("keepalive", "30"))
    except ValueError as error:
        raise InvalidError(
            f"not a bus address: {error}", where=shown, fix="Write mqtt://host:1883."
        ) from error
    version = options.get("version", "3.1.1")
    if not parts.hostname or not set(options) <= known or version not in ("3.1.1", "5"):
        raise InvalidError(
            "not a bus address",
            where=shown,
            fix=f"Write mqtt://host:1883; options: {', '.join(sorted(known))}.",
        )
    return MqttAddress(
        shown=str(shown),
        host=parts.hostname,
        port=port,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "mqtts",
        version=5 if version == "5" else 4,
        ca=Path(options["ca"]) if "ca" in options else None,
        keepalive_s=keepalive_s,
        certificate=Path(options["certificate"]) if "certificate" in options else None,
        key=Path(options["key"]) if "key" in options else None,
    )


class ClosingContext(ssl.SSLContext):
    """Remembers its last socket, because paho leaves one open whose handshake failed.

    It reads the client's certificate again when told to: renewal replaces the file.
    """

    _last: ssl.SSLSocket | None = None
    _shown: tuple[Path, Path | None] | None = None

    def show(self, certificate: Path, key: Path | None) -> None:
        """Prove the name by this certificate from the next handshake on."""
        self._shown = certificate, key
        self.read_again()

    def read_again(self) -> None:
        """``OSError`` where the files are no certificate with its key."""
        if self._shown is not None:
            certificate, key = self._shown
            self.load_cert_chain(certificate, key)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:  # noqa: ANN401  passed on
        self._last = super().wrap_socket(*args, **kwargs)
        return self._last

    def close_last(self) -> None:
        """After a failed attempt."""
        if self._last is not None:
            self._last.close()


def make_client(
    address: MqttAddress, *, client_id: str, persistent: bool
) -> "tuple[paho.Client, ClosingContext | None]":
    """A client that is not connected yet, with credentials and encryption set."""
    module = need("paho.mqtt.client", extra="edge")
    enums = need("paho.mqtt.enums", extra="edge")
    five = address.version == 5
    client: paho.Client = module.Client(
        enums.CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if five else not persistent,
        protocol=enums.MQTTProtocolVersion.MQTTv5 if five else enums.MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,  # the thread below waits and retries, with jitter
    )
    client.max_inflight_messages_set(0)  # the window is kept here
    client.connect_timeout = CONNECT_S
    if address.user is not None:
        client.username_pw_set(address.user, address.password)
    context = _tls_context(address) if address.tls else None
    if context is not None:
        client.tls_set_context(context)
    return client, context


def _tls_context(address: MqttAddress) -> ClosingContext:
    context = ClosingContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if address.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=str(address.ca))
    except OSError as error:  # ssl.SSLError is one
        raise InvalidError(
            f"cannot read the authorities: {error}",
            where=str(address.ca),
            fix="Give ca= a PEM file of certificates.",
        ) from error
    _show(context, address)
    return context


def _show(context: ClosingContext, address: MqttAddress) -> None:
    if address.certificate is None:
        return
    try:
        context.show(address.certificate, address.key)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidError(
            f"no certificate with its key: {error}",
            where=str(address.certificate),
            fix="Give certificate= and key= files that belong together, or enrol the device.",
        ) from error


def pattern_identifier(number: int) -> "Properties":
    """MQTT 5: the number a broker gives back with each message of a pattern."""
    properties_module = need("paho.mqtt.properties", extra="edge")
    packet_types = need("paho.mqtt.packettypes", extra="edge").PacketTypes
    properties: Properties = properties_module.Properties(packet_types.SUBSCRIBE)
    properties.SubscriptionIdentifier = number
    return properties


def persistent_session(*, window: int) -> "Properties":
    """MQTT 5: the broker keeps an absent client's session for ever (3.1.2.11.2), as with 3.1.1.

    ``window``: how many messages it may send ahead of their acknowledgement (3.1.2.11.3).
    """
    properties_module = need("paho.mqtt.properties", extra="edge")
    packet_types = need("paho.mqtt.packettypes", extra="edge").PacketTypes
    properties: Properties = properties_module.Properties(packet_types.CONNECT)
    properties.SessionExpiryInterval = _FOR_EVER_S
    properties.ReceiveMaximum = window
    return properties


class NetworkLoop:
    """One thread takes turns, any thread wakes it; closed by the thread that takes turns."""

    def __init__(self, client: "paho.Client") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._open = False
        self._read_end = -1
        self._write_end = -1
        # With this callback set, paho leaves all writing to the thread that takes turns.
        client.on_socket_register_write = self._wanted

    def open(self) -> None:
        """Make the wake-up pipe."""
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True

    def close(self) -> None:
        """Free the pipe, and the socket if it is still there."""
        with self._lock:
            self._open = False
            os.close(self._read_end)
            os.close(self._write_end)
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def wake(self) -> None:
        """End the wait of the turn under way."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._open:
                os.write(self._write_end, b"\0")

    def turn(self, *, timeout_s: float, read: bool = True) -> bool:
        """Wait, then read and write what is due; False when the connection is gone.

        Without ``read`` what arrives stays with the network, which slows the broker down.
        """
        sock = self._client.socket()
        if sock is None:
            return False
        readable = self._wait(sock, timeout_s=timeout_s, read=read)
        if readable and self._client.loop_read() != 0:
            return False
        if self._client.want_write() and self._client.loop_write() != 0:
            return False
        return self._client.loop_misc() == 0 and self._client.socket() is not None

    def _wait(self, sock: "paho.SocketLike", *, timeout_s: float, read: bool) -> bool:
        """Return whether there may be something to read; errors show when reading."""
        pending = getattr(sock, "pending", None)  # of a TLS socket: decrypted already
        if read and pending is not None and pending():
            return True
        try:
            handle = sock.fileno()
            poll = select.poll()
            events_wanted = (select.POLLIN * read) | (select.POLLOUT * self._client.want_write())
            poll.register(handle, events_wanted)
            poll.register(self._read_end, select.POLLIN)
            events = dict(poll.poll(timeout_s * 1000))
        except (OSError, ValueError):
            return True
        if self._read_end in events:
            os.read(self._read_end, 4096)
        return bool(events.get(handle, 0) & ~select.POLLOUT)

    def _wanted(self, *_: object) -> None:
        self.wake()


logger = logging.getLogger(__name__)

_IN_FLIGHT = 256
FIRST_ANSWER_S = 5.0
TURN_S = 0.5
_LEAVE_S = 2.0
_REFUSALS = ("Bad user name or password", "Not authorized", "Bad authentication method", "Banned")


def broker_away(address: MqttAddress, reason: str) -> UnavailableError:
    """Return the error of a broker that cannot be reached, or does not answer."""
    return UnavailableError(
        f"the bus is away: {reason}",
        where=address.shown,
        fix="Start the broker; the client reconnects by itself.",
    )


def certificate_refusal(address: MqttAddress, error: ssl.SSLCertVerificationError) -> RefusedError:
    """Return the error of a broker whose certificate nobody vouches for."""
    return RefusedError(
        str(error), where=address.shown,
        fix="Give ca= the authority that signed the broker's certificate.",
    )  # fmt: skip


def broker_refusal(address: MqttAddress, reason: str) -> LinesideError:
    """Return the error of a broker that refuses a connection, by its reason."""
    if reason in _REFUSALS:
        return RefusedError(
            f"the broker refused: {reason}",
            where=address.shown,
            fix="Check user and password of the bus address.",
        )
    if "protocol version" in reason.lower() or "identifier" in reason.lower():
        return InvalidError(
            f"the broker refused: {reason}", where=address.shown, fix="Set version=."
        )
    return broker_away(address, f"the broker refused: {reason}")


def open_mqtt(url: str, *, client_id: str, clock: Clock, will: WillSource) -> "MqttBus":
    """Start a client; see the module's rules for what is raised."""
    address = parse_address(url)
    client, context = make_client(address, client_id=client_id, persistent=False)
    bus = MqttBus(
        client, context=context, address=address, client_id=client_id, clock=clock, will=will
    )
    try:
        bus.start()
    except LinesideError:
        bus.close()
        raise
    return bus


@dataclass(slots=True, kw_only=True)
class _Subscription:
    patterns: tuple[str, ...]
    qos: Qos
    mailbox: BoundedMailbox

    def wants(self, topic: str, *, named: set[str]) -> bool:
        """Return whether a message is for this mailbox; ``named``: the patterns it was sent for."""
        patterns = named.intersection(self.patterns) if named else self.patterns
        return any(topic_matches(pattern, topic) for pattern in patterns)


def _always() -> bool:
    return True


class MqttBus:
    """One client; made by ``open_mqtt``, closed by whoever opened it."""

    def __init__(
        self,
        client: "paho.Client",
        *,
        context: ClosingContext | None,
        address: MqttAddress,
        client_id: str,
        clock: Clock,
        will: WillSource = None,
    ) -> None:
        self._will = will
        self._client = client
        self._context = context
        self._address = address
        self._client_id = client_id
        self._clock = clock
        self._changed = threading.Condition()
        self._closing = False
        self._may_join: Callable[[], bool] = _always
        self._leave_by_s = 0.0
        self._turns = NetworkLoop(client)
        self._connected = False
        self._connections = 0
        self._lost_logged = False
        self._answered = False
        self._failure: LinesideError | None = None
        self._sending = threading.Lock()
        self._under_way: set[int] = set()
        self._settled: deque[tuple[int, bool]] = deque()
        self._room = threading.Event()
        self._refused_mids: deque[int] = deque(maxlen=_IN_FLIGHT)
        self._granted: dict[int, bool] = {}
        self._numbers: dict[str, int] = {}
        self._subscriptions: list[_Subscription] = []
        self._attempt = 0
        self._worker = Worker(
            f"bus-{client_id}", self._connect_and_stay, at_end=self._turns.close, clock=clock
        )
        self._stop = self._worker.stopping

    def start(self, *, properties: "Properties | None" = None) -> None:
        """Bind the callbacks, start the network thread, wait for the first answer.

        ``properties``: of CONNECT with version 5, where the broker is to keep a session.
        """
        client = self._client
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_open = self._on_socket_open
        options: dict[str, Any] = {}
        if self._address.version == 5:
            options = {"clean_start": properties is None, "properties": properties}
        client.connect_async(
            self._address.host, self._address.port, keepalive=self._address.keepalive_s, **options
        )
        self._turns.open()
        self._worker.start()
        with self._changed:
            self._changed.wait_for(lambda: self._answered, timeout=FIRST_ANSWER_S)
            if self._failure is not None and not isinstance(self._failure, UnavailableError):
                raise self._failure

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Qos = 1,
        retain: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        check_topic(topic)
        deadline_s = monotonic() + timeout_s
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._connected or self._stop.is_set(), timeout=timeout_s
            ):
                raise self._failure or self._away("not connected")
            if self._stop.is_set():
                raise self._away("the client was closed")
        info = self._send(topic, payload, qos=qos, retain=retain)
        while info is None:
            if not self._room.wait(max(0.0, deadline_s - monotonic())):
                raise self._away(f"{_IN_FLIGHT} messages are under way unanswered")
            info = self._send(topic, payload, qos=qos, retain=retain)
        try:
            info.wait_for_publish(max(0.0, deadline_s - monotonic()))
        except (RuntimeError, ValueError) as error:
            raise self._away(str(error)) from error
        if not info.is_published():
            raise self._away(f"no acknowledgement within {timeout_s:g} s")
        self._check_refused(info.mid, topic)

    def publish_soon(
        self, topic: str, payload: bytes, *, qos: Qos = 1, retain: bool = False
    ) -> Callable[[], bool] | None:
        check_topic(topic)
        if not self._connected or self._stop.is_set():
            return None
        if qos == 0 and self._client.want_write():
            return None  # QoS 0 has no answer to count by: one unsent message at a time
        info = self._send(topic, payload, qos=qos, retain=retain)
        return None if info is None else partial(_is_acknowledged, info)

    def _send(
        self, topic: str, payload: bytes, *, qos: Qos, retain: bool
    ) -> "paho.MQTTMessageInfo | None":
        """Hand one message to paho; None while the window is full."""
        with self._sending:
            self._settle()
            if qos > 0 and len(self._under_way) >= _IN_FLIGHT:
                return None
            try:
                info = self._client.publish(topic, payload, qos=qos, retain=retain)
            except ValueError as error:
                raise InvalidError(str(error), where=topic, fix="Send less than 256 MB.") from error
            if qos > 0:
                self._under_way.add(info.mid)
            return info

    def _settle(self) -> None:
        """Take answered messages off the window; numbers that are not in it were QoS 0.

        The answers are queued by the network thread without a lock, because it holds paho's
        while it calls us; the lock ``_sending`` makes sure that each number was entered first.
        """
        self._room.clear()
        while self._settled:
            mid, refused = self._settled.popleft()
            self._under_way.discard(mid)
            if refused:
                self._refused_mids.append(mid)

    def _check_refused(self, mid: int, topic: str) -> None:
        with self._sending:
            self._settle()
            self._room.set()
            refused = mid in self._refused_mids
            if refused:
                self._refused_mids.remove(mid)
        if refused:
            raise RefusedError(
                "the broker refused the message",
                where=f"{self._address.shown} {topic}",
                fix="Let the broker's access list allow this topic.",
            )

    def subscribe(
        self, topics: tuple[str, ...], *, qos: Qos = 1, size: int = 1000, name: str = ""
    ) -> BoundedMailbox:
        for pattern in topics:
            check_pattern(pattern)
        mailbox = BoundedMailbox(size=size, on_close=lambda: self._forget(mailbox))
        subscription = _Subscription(patterns=topics, qos=qos, mailbox=mailbox)
        with self._changed:
            self._subscriptions.append(subscription)
            if self._connected:
                self._ask_for(subscription, name=name)
        return mailbox

    def connected(self) -> bool:
        return self._connected

    def connections(self) -> int:
        return self._connections

    def close(self) -> None:
        with self._changed:
            left, self._subscriptions = self._subscriptions, []
            self._closing = True
        if not self._stop.is_set():
            self._leave_by_s = monotonic() + _LEAVE_S
            self._client.disconnect()
            self._worker.request_stop()
            self._turns.wake()
        with self._changed:
            self._changed.notify_all()
        self._worker.join()
        for subscription in left:
            subscription.mailbox.close()

    # subscriptions

    def _ask_for(self, subscription: _Subscription, *, name: str) -> None:
        """Subscribe and wait for the broker's word; the lock is held, and let go while waiting."""
        requested = self._request(dict.fromkeys(subscription.patterns, subscription.qos))
        self._changed.wait_for(
            lambda: not self._connected or all(mid in self._granted for mid in requested),
            timeout=FIRST_ANSWER_S,
        )
        answers = [self._granted.pop(mid, True) for mid in requested]
        if not all(answers):
            self._subscriptions.remove(subscription)
            raise RefusedError(
                f"the broker refused the subscription {name or subscription.patterns}",
                where=self._address.shown,
                fix="Let the broker's access list allow these topics.",
            )

    def _request(self, wanted: Mapping[str, int]) -> list[int]:
        """Send the patterns; the numbers of the packets whose answers are to be awaited.

        With MQTT 5 each pattern goes with an identifier, because there a broker may send one copy
        of a message for each pattern that matches (3.3.4); the identifier tells them apart.
        """
        if self._address.version != 5:
            return _numbers_of(self._client.subscribe([*wanted.items()]))
        requested: list[int] = []
        for pattern, qos in wanted.items():
            number = self._numbers.setdefault(pattern, len(self._numbers) + 1)
            properties = pattern_identifier(number)
            requested += _numbers_of(
                self._client.subscribe([(pattern, qos)], properties=properties)
            )
        return requested

    def _forget(self, mailbox: BoundedMailbox) -> None:
        with self._changed:
            gone = [s for s in self._subscriptions if s.mailbox is mailbox]
            self._subscriptions = [s for s in self._subscriptions if s.mailbox is not mailbox]
            kept = {pattern for s in self._subscriptions for pattern in s.patterns}
            unused = [p for s in gone for p in s.patterns if p not in kept]
            if unused and self._connected:
                self._client.unsubscribe(unused)

    # the network thread

    def _connect_and_stay(self) -> float:
        """Serve one connection until it ends; returns the seconds until the next attempt."""
        if self._connect():
            while self._take_turn() and not self._has_left():
                if self._connected:
                    self._attempt = 0
            self._note_lost("the connection broke")
        self._attempt += 1
        return backoff_s(self._attempt - 1)

    def _take_turn(self) -> bool:
        """Read and write what is due; False when the connection is gone."""
        return self._turns.turn(timeout_s=TURN_S)

    def _has_left(self) -> bool:
        """Closed, and what was handed over before is written, or cannot be for too long."""
        if not self._stop.is_set():
            return False
        return not self._client.want_write() or monotonic() > self._leave_by_s

    def _connect(self) -> bool:
        if not self._may_join():
            return False
        try:
            if self._context is not None:
                self._context.read_again()  # a renewed certificate counts from here on
            will = will_of(self._will, connections=self._connections)
            if will is not None:
                self._client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
            self._client.reconnect()
        except ssl.SSLCertVerificationError as error:
            self._note_failure(certificate_refusal(self._address, error))
        except (OSError, ValueError) as error:
            self._note_failure(self._away(str(error)))
        else:
            return True
        if self._context is not None:
            self._context.close_last()
        return False

    def _note_failure(self, failure: LinesideError) -> None:
        with self._changed:
            self._failure = failure
            self._answered = True
            self._changed.notify_all()
        self._note_lost(failure.message)

    def _note_lost(self, reason: str) -> None:
        with self._changed:
            was, self._connected = self._connected, False
            self._changed.notify_all()
            if self._closing or self._lost_logged:
                return
            self._lost_logged = True
        logger.warning(
            "bus %s client=%s bus=%s reason=%s",
            "lost" if was else "away",
            self._client_id,
            self._address.shown,
            reason,
        )

    def _on_socket_open(self, _client: object, _data: object, sock: Any) -> None:  # noqa: ANN401  paho's SocketLike lacks setsockopt
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_connect(
        self, _client: object, _data: object, flags: "ConnectFlags", reason: "ReasonCode",
        _more: object,
    ) -> None:  # fmt: skip
        if reason.is_failure:
            self._note_failure(broker_refusal(self._address, str(reason)))
            return
        with self._changed:
            self._connected = True
            self._connections += 1
            self._answered = True
            self._failure = None
            again, self._lost_logged = self._lost_logged, False
            self._subscribe_again(session_present=flags.session_present)
            self._changed.notify_all()
        if again:
            logger.info("bus regained client=%s bus=%s", self._client_id, self._address.shown)

    def _subscribe_again(self, *, session_present: bool) -> None:  # noqa: ARG002  a session asks
        """Ask for everything that is wanted; the lock is held."""
        wanted = {p: int(s.qos) for s in self._subscriptions for p in s.patterns}
        if wanted:
            self._request(wanted)

    def _on_disconnect(
        self, _client: object, _data: object, _flags: object, reason: object, _more: object
    ) -> None:
        self._note_lost(str(reason))

    def _read(self, message: "paho.MQTTMessage") -> Message | None:
        """The message as ours; None where its topic is not UTF-8."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.debug("message with an unreadable topic passed over")
            return None
        return Message(
            topic=topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retain=message.retain,
            arrived_s=self._clock.monotonic(),
        )

    def _on_message(self, _client: object, _data: object, message: "paho.MQTTMessage") -> None:
        taken = self._read(message)
        if taken is None:
            return
        topic = taken.topic
        identifiers = getattr(message.properties, "SubscriptionIdentifier", ())
        with self._changed:
            named = {p for p, number in self._numbers.items() if number in identifiers}
            mailboxes = [s.mailbox for s in self._subscriptions if s.wants(topic, named=named)]
        for mailbox in mailboxes:
            mailbox.put(taken)

    def _on_publish(
        self, _client: object, _data: object, mid: int, reason: "ReasonCode", _more: object
    ) -> None:
        self._settled.append((mid, reason.is_failure))
        self._room.set()

    def _on_subscribe(
        self, _client: object, _data: object, mid: int, codes: "list[ReasonCode]", _more: object
    ) -> None:
        with self._changed:
            if len(self._granted) > _IN_FLIGHT:  # answers that nobody waited for
                self._granted.clear()
            self._granted[mid] = not any(code.is_failure for code in codes)
            self._changed.notify_all()

    def _on_unsubscribe(
        self, _client: object, _data: object, mid: int, _codes: object, _more: object
    ) -> None:
        """Nobody of this client waits for it."""

    def _away(self, reason: str) -> UnavailableError:
        return broker_away(self._address, reason)


def _is_acknowledged(info: "paho.MQTTMessageInfo") -> bool:
    """False for one that the connection ended before; paho raises an error there."""
    return info.rc == 0 and info.is_published()


def _numbers_of(answer: "tuple[MQTTErrorCode, int | None]") -> list[int]:
    code, mid = answer
    return [] if mid is None or code != 0 else [mid]
