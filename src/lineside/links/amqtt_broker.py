"""Connections of the embedded broker: amqtt's packets, and rules of our own for who gets what.

1. A message in is acknowledged when every session of this process that takes it with quality 1 or 2
   has acknowledged it, which the hub does after its commit: PUBACK, and PUBREC for quality 2. It is
   passed on to the others at once. Answers go out in the order of the messages (MQTT-4.6.0-2).
2. Others come in when this process has subscribed (``admit_clients``); until then their CONNECT
   waits.
3. A client's packets are read only while few of its messages wait for their answer, so a fast
   sender is slowed down by TCP instead of filling the memory.
4. A packet above the size limit ends the connection before it is read; of a message the topic is
   read first, so that somebody learns of it.
5. A client that is silent for one and a half times its keep-alive is cut off (MQTT-3.1.2-24), and
   so is one that reads nothing for ``stalled_s``.
6. Topics that begin with ``$`` may be published, except ``$SYS/…`` and ``$share/…``.
7. A message goes once to each session, with the smaller of the two qualities (MQTT-3.3.5-1).
8. On the devices' listener TLS is mutual and the certificate is the name: name and password of
   CONNECT count for nothing, and the client id stands below the name, so that no client takes over
   the session of another device. What a device may not publish is dropped and counted (MQTT 3.1.1,
   3.3.5 leaves the choice), a subscription that it may not have is answered with 0x80, and a last
   will that it may not say is forgotten at once.
"""

import asyncio
import hmac
import logging
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from uuid import uuid4

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from lineside.core import Clock, InvalidError, RefusedError
from lineside.core.topics import check_pattern, check_topic, topic_matches
from lineside.links.amqtt_session import Counts, Parcel, Questions, Receipt, Session
from lineside.links.broker_contract import (
    OWN_NAME,
    AuthenticatedDevice,
    BrokerFigures,
    BrokerLimits,
    DeviceListener,
    LogLimiter,
    OversizedPacket,
)
from lineside.links.bus_access import check_bus_password

logger = logging.getLogger(__name__)

_RESERVED = ("$SYS/", "$share/")
_CLOSE_S = 1.0
_ACCEPTED, _BAD_VERSION, _BAD_ID, _NOT_AUTHORIZED = 0, 1, 2, 5
_NOT_GRANTED = 0x80
_LEVEL = 4
_CONNECT, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP = 1, 3, 4, 5, 6, 7
_SUBSCRIBE, _UNSUBSCRIBE, _PING, _DISCONNECT = 8, 10, 12, 14
_FLAGS = {_PUBREL: 2, _SUBSCRIBE: 2, _UNSUBSCRIBE: 2}
_FAULTS = (AMQTTError, MQTTError, NoDataError, InvalidError, ValueError, IndexError)

Key = tuple[str, str]


class ProtocolViolation(Exception):  # noqa: N818  it ends one connection, and is no error of ours
    """A client does what the protocol forbids."""


class AmqttBroker:
    """All sessions and connections; lives on one event loop."""

    def __init__(
        self,
        *,
        passwords: dict[str, str] | None,
        own_password: str,
        limits: BrokerLimits,
        clock: Clock,
        answered: tuple[str, ...],
        devices: DeviceListener | None,
        oversized: Callable[[OversizedPacket], None],
    ) -> None:
        """Take the settings; without ``passwords`` everybody is let in."""
        self.limits = limits
        self.clock = clock
        self.counts = Counts()
        self.questions = Questions(answered)
        self.log_limit = LogLimiter(clock)
        self.admits = asyncio.Event()
        self.settled = asyncio.Event()
        self._passwords = passwords
        self._own_password = own_password
        self._devices = devices
        self._oversized = oversized
        self._sessions: dict[Key, Session] = {}
        self._connections: dict[Key, Connection] = {}
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._retained: dict[str, Parcel] = {}
        self._retained_bytes = 0
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int) -> tuple[int, int]:
        """Open the listeners; their ports, 0 for the devices' where there is none.

        Raises:
            OSError: an address cannot be had.
        """

        def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accept(reader, writer, by_certificate=False)

        def secured(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accept(reader, writer, by_certificate=True)

        self._servers.append(await asyncio.start_server(plain, host, port, reuse_address=True))
        if self._devices is not None:
            server = await asyncio.start_server(
                secured, self._devices.host, self._devices.port, reuse_address=True,
                ssl=_server_context(self._devices), ssl_handshake_timeout=self.limits.connect_s,
            )  # fmt: skip
            self._servers.append(server)
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        return ports[0], ports[1] if len(ports) > 1 else 0

    async def shutdown(self) -> None:
        """Close the listeners, cut every connection, wait for all tasks of the loop.

        A connection that was accepted a moment ago is a task of the loop and not yet one of ours;
        if its server is closed before that task is done, asyncio never closes its socket.
        """
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for listener in server.sockets:
                loop.remove_reader(listener)
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for writer in self._tasks.values():
                writer.transport.abort()
            self.tell_settled()
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for server in self._servers:
            server.close()

    def figures(self) -> BrokerFigures:
        """Read from any thread: single numbers, each of its own moment."""
        sessions = list(self._sessions.values())
        return BrokerFigures(
            clients=len(self._connections),
            sessions=len(sessions),
            retained=len(self._retained),
            waiting_messages=sum(len(one) for one in sessions),
            waiting_bytes=sum(one.held_bytes for one in sessions),
            **asdict(self.counts),
        )

    def cut_off(self, over: Callable[[AuthenticatedDevice], bool]) -> None:
        """End the connections of devices that are out."""
        for connection in list(self._connections.values()):
            device = connection.session.device
            if device is not None and over(device):
                connection.abort()
                self.counts.cut_off += 1

    # ---- who comes and goes

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, by_certificate: bool
    ) -> None:
        if len(self._tasks) >= self.limits.connections:
            self.counts.refused += 1
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer, by_certificate=by_certificate))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, by_certificate: bool
    ) -> None:
        address = str(writer.get_extra_info("peername"))
        try:
            connection = await self._connect(reader, writer, by_certificate=by_certificate)
            if connection is not None:
                await connection.run()
        except (OSError, EOFError, TimeoutError):
            pass  # gone, or silent for too long
        except (ProtocolViolation, *_FAULTS) as error:
            self.counts.refused += 1
            if self.log_limit.allows(f"violation {address.rpartition(',')[0]}"):
                logger.warning("connection ended address=%s reason=%r", address, error)
        except Exception:  # boundary: its own connection ends
            logger.exception("connection ended address=%s", address)
        finally:
            await _close(writer)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, by_certificate: bool
    ) -> "Connection | None":
        """Read CONNECT and answer it; None where the client is sent away."""
        async with asyncio.timeout(self.limits.connect_s):
            head, length = await _read_head(reader)
            if head >> 4 != _CONNECT or length > self.limits.packet_bytes:
                raise ProtocolViolation("the first packet is no CONNECT")
            body = await reader.readexactly(length)
        packet = await ConnectPacket.from_stream(
            BufferReader(body), fixed_header=MQTTFixedHeader(_CONNECT, 0, length)
        )
        name, level, clean = packet.proto_name, packet.proto_level, packet.clean_session_flag
        if name != "MQTT" or level != _LEVEL or packet.reserved_flag or packet.will_qos > 2:
            self._send_away(writer, _BAD_VERSION)
            return None
        random_id = packet.payload.client_id_is_random or not packet.client_id
        if random_id and not clean:
            self._send_away(writer, _BAD_ID)
            return None
        client_id = uuid4().hex if random_id else packet.client_id
        own = self._is_own(packet.username, packet.password) and not by_certificate
        device = await self._authenticated(writer) if by_certificate else None
        if by_certificate:
            allowed = device is not None
        else:
            allowed = own or await self._knows(packet.username, packet.password)
        if not allowed:
            self._send_away(writer, _NOT_AUTHORIZED)
            return None
        if not own:
            async with asyncio.timeout(self.limits.connect_s):
                await self.admits.wait()
        space = "own" if own else f"device {device.identity}" if device else ""
        session, present = self._join((space, client_id), clean=clean, device=device)
        connection = Connection(
            self, key=(space, client_id), session=session, reader=reader, writer=writer
        )
        connection.keepalive_s = packet.keep_alive
        if packet.will_flag and self.may_publish(session, packet.will_topic or ""):
            connection.will = Parcel(
                topic=packet.will_topic, data=bytes(packet.will_message or b""),
                qos=packet.will_qos, retain=packet.will_retain_flag,
            )  # fmt: skip
        self._connections[space, client_id] = connection
        writer.write(bytes([0x20, 2, present, _ACCEPTED]))
        return connection

    def _send_away(self, writer: asyncio.StreamWriter, code: int) -> None:
        self.counts.refused += 1
        writer.write(bytes([0x20, 2, 0, code]))

    def _is_own(self, name: str | None, password: str | None) -> bool:
        same = hmac.compare_digest((password or "").encode(), self._own_password.encode())
        return name == OWN_NAME and same

    async def _knows(self, name: str | None, password: str | None) -> bool:
        if self._passwords is None:
            return True
        hashed = self._passwords.get(name or "", "")
        return await asyncio.to_thread(check_bus_password, password or "", hashed)

    async def _authenticated(self, writer: asyncio.StreamWriter) -> AuthenticatedDevice | None:
        """The device of a certificate; None where it holds no longer."""
        shown: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        certificate = shown.getpeercert(binary_form=True) if shown else None
        if certificate is None or self._devices is None:
            return None
        try:
            return await asyncio.to_thread(self._devices.admit, certificate)
        except (RefusedError, InvalidError) as error:
            address = writer.get_extra_info("peername")
            logger.warning("device refused address=%s reason=%s", address, error)
            return None

    def _join(
        self, key: Key, *, clean: bool, device: AuthenticatedDevice | None
    ) -> tuple[Session, bool]:
        """The session of a client, and whether it was there already (MQTT 3.1.1, 3.1.2.4).

        A second connection of the same id ends the first (MQTT-3.1.4-2).
        """
        self._expire()
        former = self._connections.get(key)
        if former is not None:
            former.abort()
            self.leave(former, with_will=True)
        kept = self._sessions.get(key)
        if kept is not None and (clean or kept.clean):
            kept.end()
            kept = None
        if kept is None:
            self._sessions[key] = Session(
                client_id=key[1], clean=clean, own=key[0] == "own", limits=self.limits,
                counts=self.counts,
            )  # fmt: skip
        session = self._sessions[key]
        session.device, session.left_s = device, None
        session.access = access = device.access if device else None
        if access is not None:
            for pattern in list(session.subscriptions):
                if not access.may_subscribe(pattern):
                    del session.subscriptions[pattern]
        return session, kept is not None

    def leave(self, connection: "Connection", *, with_will: bool) -> None:
        """A connection ended; its session stays where it is to be kept."""
        if self._connections.get(connection.key) is not connection:
            return
        session = connection.session
        del self._connections[connection.key]
        session.left_s = self.clock.monotonic()
        self.questions.forget(session)
        if session.clean:
            session.end()
            del self._sessions[connection.key]
        if with_will and connection.will is not None:
            self.publish(connection.will, by=session, receipt=None)

    def _expire(self) -> None:
        """Forget sessions that were absent for too long, and the oldest of too many."""
        absent = sorted(
            ((one.left_s, key) for key, one in self._sessions.items() if one.left_s is not None),
        )
        now_s, over = self.clock.monotonic(), len(self._sessions) - 2 * self.limits.connections
        for left_s, key in absent:
            if key[0] != "own" and (now_s - left_s > self.limits.session_s or over > 0):
                self._sessions.pop(key).end()
                over -= 1

    # ---- messages

    def may_publish(self, session: Session, topic: str) -> bool:
        """Return whether a message is taken; counts and tells what is not."""
        allowed = not topic.startswith(_RESERVED)
        if session.access is not None:
            allowed = allowed and session.access.may_publish(topic)
        if not allowed:
            self.refuse(session, "publish to", topic=topic)
        return allowed

    def refuse(self, session: Session, deed: str, *, topic: str) -> None:
        """Count what a client may not do; one that goes on would fill the log."""
        self.counts.refused += 1
        if session.device is not None and self.log_limit.allows(f"refused {session.client_id}"):
            logger.warning(
                "device may not %s this topic device=%s topic=%.200r",
                deed, session.device.identity, topic,
            )  # fmt: skip

    def publish(self, message: Parcel, *, by: Session, receipt: Receipt | None) -> None:
        """Pass a message on; the receipt is answered when nobody has to store it any more."""
        self.counts.received += 1
        targets = self._targets(message, by=by)
        self.questions.note(message.topic, message.data, by=by, qos=message.qos)
        for key, qos in targets.items():
            session = self._sessions[key]
            stores = session.own and not session.clean and qos > 0
            waits = receipt if stores else None
            parcel = Parcel(topic=message.topic, data=message.data, qos=qos, receipt=waits)
            if session.keeps(parcel):
                if waits is not None:
                    waits.expect()
                self._offer(key, parcel)
        if message.retain:
            self._retain(message)
        if receipt is not None:
            receipt.answer_if_stored()

    def _targets(self, message: Parcel, *, by: Session) -> dict[Key, int]:
        """Who is to get a message, and with which quality."""
        targets: dict[Key, int] = {}
        for key, session in self._sessions.items():
            granted = session.granted(message.topic)
            if granted is not None:
                targets[key] = min(granted, message.qos)
        if by.own or self._passwords is None:
            asked = self.questions.take(message.topic, message.data)
            for key, session in self._sessions.items() if asked else ():
                if asked is not None and session is asked[0]:
                    targets.setdefault(key, min(asked[1], message.qos, 1))
        return targets

    def send_retained(self, key: Key, pattern: str, *, qos: int) -> None:
        """Send the retained messages to a late subscriber."""
        for topic, kept in self._retained.items():
            if topic_matches(pattern, topic):
                granted = min(qos, kept.qos)
                parcel = Parcel(topic=topic, data=kept.data, qos=granted, retain=True)
                self._offer(key, parcel)

    def _offer(self, key: Key, parcel: Parcel) -> None:
        self._sessions[key].put(parcel)
        connection = self._connections.get(key)
        if connection is not None:
            connection.wake.set()

    def _retain(self, message: Parcel) -> None:
        old = self._retained.get(message.topic)
        grown = self._retained_bytes + len(message.data) - (len(old.data) if old else 0)
        full = old is None and len(self._retained) >= self.limits.retained_topics
        if message.data and (full or grown > self.limits.retained_bytes):
            self.counts.refused += 1
            return
        self._retained_bytes = grown
        if message.data:
            self._retained[message.topic] = message
        else:
            self._retained.pop(message.topic, None)

    def answer(self, session: Session, packet: bytes) -> None:
        """Send a packet to a client, if it is there."""
        for connection in self._connections.values():
            if connection.session is session:
                connection.write(packet)

    def note_oversized(self, packet: OversizedPacket) -> None:
        """Count a packet, and tell of it."""
        self.counts.oversized += 1
        asyncio.get_running_loop().run_in_executor(None, self._oversized, packet)

    def tell_settled(self) -> None:
        """Let senders that were held back look whether there is room now."""
        self.settled.set()
        self.settled = asyncio.Event()


class Connection:
    """One client that was let in."""

    def __init__(
        self,
        broker: AmqttBroker,
        *,
        key: Key,
        session: Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.key = key
        self.session = session
        self.will: Parcel | None = None
        self.keepalive_s = 0
        self.wake = asyncio.Event()
        self._broker = broker
        self._reader = reader
        self._writer = writer
        self._answers: deque[tuple[bytes, int]] = deque()
        self._answered: set[int] = set()
        self._answer_bytes = 0
        self._number = 0

    async def run(self) -> None:
        """Serve until the client leaves."""
        sender = asyncio.create_task(self._send_all())
        said_goodbye = False
        try:
            said_goodbye = await self._read_all()
        finally:
            sender.cancel()
            self._broker.leave(self, with_will=not said_goodbye)
            await asyncio.gather(sender, return_exceptions=True)

    def abort(self) -> None:
        """Close at once; what was not sent yet is lost."""
        self._writer.transport.abort()
        self._broker.tell_settled()

    def write(self, packet: bytes) -> None:
        """Send a small packet."""
        if not self._writer.is_closing():
            self._writer.write(packet)

    # packets in

    async def _read_all(self) -> bool:
        """Take packet after packet; whether the client took its leave."""
        limits, silent_s = self._broker.limits, None
        if self.keepalive_s:
            silent_s = 1.5 * self.keepalive_s
        while True:
            while not self._has_capacity() and not self._writer.is_closing():
                await self._broker.settled.wait()
            async with asyncio.timeout(silent_s):
                head, length = await _read_head(self._reader)
            async with asyncio.timeout(silent_s and max(silent_s, limits.connect_s)):
                if length > limits.packet_bytes:
                    await self._note_oversized(head, length)
                    self.abort()
                    return False
                body = await self._reader.readexactly(length)
            if head >> 4 == _DISCONNECT:
                return True
            await self._take(head, body)
            await self._drain()

    def _has_capacity(self) -> bool:
        limits = self._broker.limits
        full = len(self._answers) >= limits.inbox_messages
        return not full and self._answer_bytes < limits.outbox_bytes

    async def _note_oversized(self, head: int, length: int) -> None:
        topic = ""
        if head >> 4 == _PUBLISH:
            size = int.from_bytes(await self._reader.readexactly(2))
            topic = (await self._reader.readexactly(size)).decode(errors="replace")
        packet = OversizedPacket(
            client_id=self.session.client_id, topic=topic, size_bytes=length,
            limit_bytes=self._broker.limits.packet_bytes,
        )  # fmt: skip
        self._broker.note_oversized(packet)

    async def _take(self, head: int, body: bytes) -> None:
        kind, flags = head >> 4, head & 0x0F
        if kind != _PUBLISH and flags != _FLAGS.get(kind, 0):
            raise ProtocolViolation(f"flags {flags} of packet type {kind}")
        match kind:
            case 3:
                self._take_message(flags, body)
            case 4 | 5 | 6 | 7:
                self._take_answer(kind, int.from_bytes(body[:2]))
            case 8:
                await self._subscribe(flags, body)
            case 10:
                await self._unsubscribe(flags, body)
            case 12:
                self.write(b"\xd0\x00")
            case _:
                raise ProtocolViolation(f"packet type {kind}")

    def _take_message(self, flags: int, body: bytes) -> None:
        qos, size = flags >> 1 & 3, int.from_bytes(body[:2])
        topic, place = body[2 : 2 + size].decode(), 2 + size
        if qos > 2 or len(body) < place + (2 if qos else 0):
            raise ProtocolViolation("no quality, or a message that ends too early")
        check_topic(topic)
        number = int.from_bytes(body[place : place + 2]) if qos else 0
        data = body[place + 2 :] if qos else body[place:]
        session = self.session
        if qos == 2 and number in session.received:
            if session.received[number]:
                self.write(_answer(_PUBREC, number))
            return
        if qos == 2:
            session.received[number] = False
        receipt = self._receipt(qos, number, size=len(data)) if qos else None
        if not self._broker.may_publish(session, topic):
            if receipt is not None:
                receipt.answer_if_stored()
            return
        message = Parcel(topic=topic, data=data, qos=qos, retain=bool(flags & 1))
        if session.own and receipt is not None:
            receipt.answer_if_stored()  # what this process says itself waits for nobody
            receipt = None
        self._broker.publish(message, by=session, receipt=receipt)

    def _receipt(self, qos: int, number: int, *, size: int) -> Receipt:
        """Return the acknowledgement that is sent once a message is stored, in their order."""
        self._number += 1
        place, packet = self._number, _answer(_PUBACK if qos == 1 else _PUBREC, number)
        self._answers.append((packet, place))
        self._answer_bytes += size
        broker, session = self._broker, self.session

        def answer() -> None:
            if qos == 2 and number in session.received:
                session.received[number] = True
            self._answer_bytes -= size
            self._answered.add(place)
            if not self._writer.is_closing():
                self._send_answers()
            elif qos == 2:  # sent again over the next connection, and not answered there yet
                broker.answer(session, packet)
            broker.tell_settled()

        return Receipt(answer=answer, give_up=self.abort)

    def _send_answers(self) -> None:
        while self._answers and self._answers[0][1] in self._answered:
            packet, place = self._answers.popleft()
            self._answered.discard(place)
            self.write(packet)

    def _take_answer(self, kind: int, number: int) -> None:
        session = self.session
        match kind:
            case 4:
                session.acknowledge(number)
            case 5:
                session.release(number)
                self.write(_answer(_PUBREL, number))
            case 6:
                session.received.pop(number, None)
                self.write(_answer(_PUBCOMP, number))
            case _:
                session.complete(number)
        self.wake.set()

    async def _subscribe(self, flags: int, body: bytes) -> None:
        header = MQTTFixedHeader(_SUBSCRIBE, flags, len(body))
        packet = await SubscribePacket.from_stream(BufferReader(body), fixed_header=header)
        if not packet.payload.topics:
            raise ProtocolViolation("SUBSCRIBE without a pattern")
        codes = [self._granted(pattern, qos) for pattern, qos in packet.payload.topics]
        number = packet.variable_header.packet_id
        self.write(_framed(0x90, number.to_bytes(2) + bytes(codes)))
        for (pattern, _), code in zip(packet.payload.topics, codes, strict=True):
            if code != _NOT_GRANTED:
                self._broker.send_retained(self.key, pattern, qos=code)

    def _granted(self, pattern: str, qos: int) -> int:
        if qos > 2:
            raise ProtocolViolation(f"quality {qos}")
        with suppress(InvalidError):
            check_pattern(pattern)
            access = self.session.access
            if pattern.startswith("$share/"):
                return _NOT_GRANTED
            if access is None or access.may_subscribe(pattern):
                self.session.subscriptions[pattern] = qos
                return qos
            self._broker.refuse(self.session, "hear", topic=pattern)
        return _NOT_GRANTED

    async def _unsubscribe(self, flags: int, body: bytes) -> None:
        header = MQTTFixedHeader(_UNSUBSCRIBE, flags, len(body))
        packet = await UnsubscribePacket.from_stream(BufferReader(body), fixed_header=header)
        for pattern in packet.payload.topics:
            self.session.subscriptions.pop(pattern, None)
        self.write(_framed(0xB0, packet.variable_header.packet_id.to_bytes(2)))

    # packets out

    async def _send_all(self) -> None:
        try:
            for parcel, number in self.session.again():
                self.write(
                    _message(parcel, number, again=True) if parcel else _answer(_PUBREL, number)
                )
                await self._drain()
            while True:
                taken = self.session.take()
                if taken is None:
                    self.wake.clear()
                    await self.wake.wait()
                else:
                    self.write(_message(*taken, again=False))
                    await self._drain()
        except OSError:
            self.abort()

    async def _drain(self) -> None:
        """Wait until the client has taken most of it; cut off one that takes nothing."""
        transport = self._writer.transport
        while True:
            before = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._broker.limits.stalled_s):
                    await self._writer.drain()
            except TimeoutError:
                if transport.get_write_buffer_size() < before:
                    continue
                self._broker.counts.cut_off += 1
                logger.warning("client cut off, it is stalled client=%s", self.session.client_id)
                self.abort()
                raise ConnectionAbortedError("stalled") from None
            return


def _answer(kind: int, number: int) -> bytes:
    return bytes([kind << 4 | _FLAGS.get(kind, 0), 2]) + number.to_bytes(2)


def _framed(head: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([head]) + bytes(length) + body


def _message(parcel: Parcel, number: int, *, again: bool) -> bytes:
    packet = PublishPacket.build(
        parcel.topic, parcel.data, number or None, again, parcel.qos, parcel.retain
    )
    return bytes(packet.to_bytes())


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Type and flags of the next packet, and the bytes that follow."""
    head, length = (await reader.readexactly(1))[0], 0
    for shift in (0, 7, 14, 21):
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return head, length
    raise ProtocolViolation("a length of more than four bytes")


def _server_context(listener: DeviceListener) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(listener.ca_file))
    context.load_cert_chain(listener.certificate, listener.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close within a bounded time even when the other side reads nothing."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await writer.wait_closed()
    except (TimeoutError, OSError):
        writer.transport.abort()
