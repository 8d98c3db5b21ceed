"""amqtt's broker with limits: what a stalled, fast, vanished or hostile client may cost.

The library delivers through unbounded queues with one task a message. Here each session has an
outbox instead, and these rules hold:

1. An outbox is bounded in messages and bytes; beyond that its oldest are dropped and counted. A
   client that takes nothing for too long is cut off.
2. An absent session keeps its QoS 1 and 2 messages within the same limits; the session itself
   ends a stated time after it went.
3. A client's packets are read only while few of its own messages wait to be passed on, so a fast
   sender is slowed down by TCP instead of filling the memory.
4. A packet above the size limit ends the connection before it is read.
5. A client that is silent for one and a half times its keep-alive is cut off (MQTT-3.1.2-24).
6. Topics that begin with ``$`` may be published, except ``$SYS/…`` and ``$share/…``.
7. A message goes once to each session, with the smaller of the two QoS (MQTT-3.3.5-1).
8. A second client of the same id throws out the first (MQTT-3.1.4-2).
9. Below the patterns of ``answered``, who published to ``T`` gets what the hub says at
   ``T/accepted`` or ``T/rejected`` without a subscription; see ``amqtt_answers``.
"""

import asyncio
import hmac
import logging
import math
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker, RetainedApplicationMessage, Server
from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import AMQTTError, BrokerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session
from typing_extensions import override  # amqtt brings it

from lineside.links.amqtt_answers import Askers
from lineside.links.amqtt_outbox import Counts, Outbox, Parcel
from lineside.links.amqtt_patient import PatientHandler
from lineside.links.amqtt_streams import BoundedReader, BoundedWriter, abort
from lineside.links.bus_passwords import check_bus_password
from lineside.links.device_door import Admitted
from lineside.links.limits import OWN_NAME, BrokerFigures, BrokerLimits
from lineside.links.topic_index import PatternIndex, fixed_part
from lineside.links.topics import topic_matches

logger = logging.getLogger(__name__)

LISTENER = "default"
_RESERVED = ("$SYS/", "$share/")
ADMITTED = "lineside.admitted"
_OUTBOX = "lineside.outbox"
_READER = "lineside.reader"
_ENDED = "lineside.ended"
_CLOSE_S = 1.0


class BoundedBroker(Broker):  # type: ignore[misc]  # amqtt carries no types
    """See the module's rules."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        limits: BrokerLimits,
        own_password: str | None,
        passwords: dict[str, str],
        askers: Askers,
    ) -> None:
        """Take the settings; without ``own_password`` everybody is let in."""
        super().__init__(config)
        self._limits = limits
        self._own_password = own_password
        self._passwords = passwords
        self._askers = askers
        self._index: PatternIndex[list[tuple[Session, int]]] = PatternIndex()
        self._subscriptions = self._index  # a dictionary in all it uses
        self._connections: set[asyncio.Task[Any]] = set()
        self._writers: set[BoundedWriter] = set()
        self._retained_bytes = 0
        self._counts = Counts()

    async def listen(self) -> None:
        """Start; ``OSError`` when the address cannot be had."""
        try:
            await self.start()
        except BrokerError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    def port(self) -> int:
        """The port of the listening socket."""
        server: asyncio.Server = self._servers[LISTENER].instance
        number: int = server.sockets[0].getsockname()[1]
        return number

    def figures(self) -> BrokerFigures:
        """Read from any thread: single numbers, each of its own moment."""
        boxes = [self._outbox(session) for session, _ in list(self._sessions.values())]
        return BrokerFigures(
            clients=len(self._writers),
            sessions=len(boxes),
            retained=len(self._retained_messages),
            waiting_messages=sum(len(box) for box in boxes),
            waiting_bytes=sum(box.held_bytes for box in boxes),
            **asdict(self._counts),
        )

    @override
    async def shutdown(self) -> None:
        """Cut every connection, wait for their tasks, then close the listener."""
        for writer in list(self._writers):
            writer.abort()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await super().shutdown()

    def cut_off(self, over: Callable[[Admitted], bool]) -> None:
        """End the connections of devices that are out."""
        for client_id, (session, _) in list(self._sessions.items()):
            admitted: Admitted | None = session.attributes.get(ADMITTED)
            if admitted is not None and over(admitted):
                self._abort_client(client_id)
                self._counts.cut_off += 1

    # one connection

    @override
    async def stream_connected(
        self, reader: StreamReader, writer: StreamWriter, listener_name: str
    ) -> None:
        task = asyncio.current_task()
        out = BoundedWriter(writer)
        if task is None or len(self._writers) >= self._limits.connections:
            self._counts.refused += 1
            out.abort()
            return
        self._connections.add(task)
        self._writers.add(out)
        try:
            limited = BoundedReader(reader, writer=out, limit_bytes=self._limits.packet_bytes)
            await self._client_connected(listener_name, limited, out)
        except Exception as error:  # noqa: BLE001  boundary: its own connection ends
            self._counts.refused += 1
            logger.warning("connection ended: %r", error)
        finally:
            self._writers.discard(out)
            self._connections.discard(task)
            await out.close()

    @override
    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                _, session = await self._read_connect(
                    reader, writer, address=remote_address, port=remote_port
                )
        except TimeoutError as error:
            raise AMQTTError("no CONNECT in time") from error
        if session.keep_alive > 0:
            session.keep_alive = math.ceil(1.5 * session.keep_alive)
        handler = PatientHandler(self.plugins_manager)
        handler.handle_read_timeout = writer.abort
        return handler, session

    async def _read_connect(
        self, reader: ReaderAdapter, writer: WriterAdapter, *, address: str, port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        """The session that a connection begins or goes on with."""
        begun: tuple[BrokerProtocolHandler, Session] = await super()._initialize_client_session(
            reader, writer, address, port
        )
        return begun

    def _may_publish(self, session: Session, topic: str) -> bool:  # noqa: ARG002  for devices
        """Whether a message is taken: some topics are the broker's own."""
        reserved = topic.startswith(_RESERVED)
        self._counts.refused += reserved
        return not reserved

    @override
    async def _authenticate(self, session: Session, listener: ListenerConfig) -> bool:
        if self._own_password is None or self._is_own(session):
            return True
        hashed = self._passwords.get(session.username or "", "")
        allowed = await asyncio.to_thread(check_bus_password, session.password or "", hashed)
        if not allowed:
            self._counts.refused += 1
        return allowed

    def _is_own(self, session: Session) -> bool:
        said, wanted = session.password or "", self._own_password or ""
        same = hmac.compare_digest(said.encode(), wanted.encode())
        return bool(session.username == OWN_NAME and wanted and same)

    @override
    async def _handle_client_session(
        self,
        reader: ReaderAdapter,
        writer: WriterAdapter,
        client_session: Session,
        handler: BrokerProtocolHandler,
        server: Server,
        listener_name: str,
    ) -> None:
        attributes = client_session.attributes
        if client_session.transitions.is_connected():
            self._abort_client(client_session.client_id)
            async with asyncio.timeout(self._limits.connect_s):
                await attributes[_ENDED].wait()
        attributes[_READER] = reader
        attributes[_ENDED] = ended = asyncio.Event()
        try:
            await super()._handle_client_session(
                reader, writer, client_session, handler, server, listener_name
            )
        finally:
            ended.set()

    def _abort_client(self, client_id: str) -> None:
        _, handler = self._sessions.get(client_id, (None, None))
        if handler is not None:
            abort(handler.writer)

    @override
    async def _delete_session(self, client_id: str) -> None:
        self._abort_client(client_id)
        await super()._delete_session(client_id)

    @override
    async def _stop_handler(self, handler: BrokerProtocolHandler) -> None:
        session = handler.session
        if session is not None and self._outbox(session).handler is handler:
            box = self._outbox(session)
            await box.stop()
            if session.clean_session:
                box.clear()
        await super()._stop_handler(handler)

    # messages in

    @override
    async def _handle_message_delivery(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        wait_deliver: "asyncio.Future[Any]",
    ) -> bool:
        message = wait_deliver.result()
        _make_room(client_session, most=self._limits.inbox_messages)
        if message is None:
            return True
        topic: str = message.topic
        if not topic:
            self._counts.refused += 1
            abort(handler.writer)
            return True
        if not self._may_publish(client_session, topic):
            return True
        self._counts.received += 1
        self._askers.note(topic, client_session, qos=message.qos or 0)
        await self._broadcast_message(client_session, topic, message.data, message.qos)
        if message.publish_packet and message.publish_packet.retain_flag:
            await self.retain_message(client_session, topic, message.data, message.qos)
        return True

    @override
    async def retain_message(
        self,
        source_session: Session | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        if topic_name is None:
            return
        old = self._retained_messages.get(topic_name)
        grown = self._retained_bytes + len(data or b"") - len(old.data if old else b"")
        full = old is None and len(self._retained_messages) >= self._limits.retained_topics
        if data and (full or grown > self._limits.retained_bytes):
            self._counts.refused += 1
            return
        self._retained_bytes = grown
        if data:
            self._retained_messages[topic_name] = RetainedApplicationMessage(
                source_session, topic_name, data, qos
            )
        else:
            self._retained_messages.pop(topic_name, None)

    # messages out

    @override
    async def _broadcast_message(
        self,
        session: Session | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        if topic is None:
            return
        targets: dict[int, tuple[Session, int]] = {}
        for _, subscribers in self._index.matching(topic):
            for target, qos in subscribers:
                _, before = targets.get(id(target), (target, 0))
                targets[id(target)] = (target, max(before, qos))
        if session is not None and (self._own_password is None or self._is_own(session)):
            asker, asked_qos = self._askers.take(topic) or (None, 0)
            if asker is not None:
                targets.setdefault(id(asker), (asker, min(asked_qos, 1)))
        payload = bytes(data or b"")
        for target, granted in targets.values():
            qos = granted if force_qos is None else min(granted, force_qos)
            self._offer(target, Parcel(topic=topic, data=payload, qos=qos, retain=False))

    @override
    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        pattern, granted = subscription
        if all(target is not session for target, _ in self._subscriptions.get(pattern, ())):
            return  # asked for at each connect for every pattern of every client
        begins = fixed_part(pattern)
        for topic, kept in list(self._retained_messages.items()):
            if topic.startswith(begins) and topic_matches(pattern, topic):
                qos = min(granted, kept.qos or 0)
                parcel = Parcel(topic=topic, data=bytes(kept.data), qos=qos, retain=True)
                self._offer(session, parcel)

    def _offer(self, session: Session, parcel: Parcel) -> None:
        keeps = not session.clean_session and parcel.qos > 0
        if keeps or session.transitions.is_connected():
            self._outbox(session).put(parcel)

    @override
    async def _publish_session_retained_messages(self, session: Session) -> None:
        """Called once a connection is up: what waited for the session is sent from here on."""
        handler = self._get_handler(session)
        if handler is None:
            return
        box = self._outbox(session)
        await box.stop()

        def stalled() -> None:
            if abort(handler.writer):
                self._counts.cut_off += 1
                logger.warning("client cut off, it is stalled client=%s", session.client_id)

        box.start(handler, stalled=stalled)

    def _outbox(self, session: Session) -> Outbox:
        box: Outbox = session.attributes.setdefault(
            _OUTBOX, Outbox(limits=self._limits, counts=self._counts)
        )
        return box


def _make_room(session: Session, *, most: int) -> None:
    """Let the client's next packet in, or not yet."""
    reader: BoundedReader | None = session.attributes.get(_READER)
    if reader is None:
        return
    if session.delivered_message_queue.qsize() < most:
        reader.room.set()
    else:
        reader.room.clear()
