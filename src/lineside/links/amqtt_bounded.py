"""amqtt's broker with limits: what a stalled, fast, vanished or hostile client may cost.

The library delivers through unbounded queues with one task a message. Here each session has an
outbox instead, and these rules hold:

1. An outbox is bounded in messages and bytes. A connected client that lets it run over, or that
   takes too long for one message, is cut off.
2. An absent session keeps its QoS 1 and 2 messages within the same limits, oldest dropped and
   counted; the session itself ends a stated time after it went.
3. A client's packets are read only while few of its own messages wait to be passed on, so a fast
   sender is slowed down by TCP instead of filling the memory.
4. A packet above the size limit ends the connection before it is read.
5. A client that is silent for one and a half times its keep-alive is cut off (MQTT-3.1.2-24).
6. Topics that begin with ``$`` may be published, except ``$SYS/…`` and ``$share/…``.
7. A message goes once to each session, with the smaller of the two QoS (MQTT-3.3.5-1).
8. A second client of the same id throws out the first (MQTT-3.1.4-2).
"""

import asyncio
import itertools
import logging
import math
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.broker import Broker, RetainedApplicationMessage, Server
from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import AMQTTError, BrokerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from lineside.links.broker import BrokerFigures, BrokerLimits
from lineside.links.topics import topic_matches

logger = logging.getLogger(__name__)

_LISTENER = "default"
_RESERVED = ("$SYS/", "$share/")
_OUTBOX = "lineside.outbox"
_READER = "lineside.reader"
_CLOSE_S = 1.0
_FILE_PLUGIN = "amqtt.plugins.authentication.FileAuthPlugin"


@dataclass(slots=True, kw_only=True)
class _Parcel:
    topic: str
    data: bytes
    qos: int
    retain: bool


@dataclass(slots=True, kw_only=True)
class _Outbox:
    """What waits for one session."""

    waiting: deque[_Parcel] = field(default_factory=deque)
    under_way: dict[int, _Parcel] = field(default_factory=dict)
    held_bytes: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    sender: "asyncio.Task[None] | None" = None
    handler: BrokerProtocolHandler | None = None

    def put(self, parcel: _Parcel) -> None:
        self.waiting.append(parcel)
        self.held_bytes += len(parcel.data)
        self.arrived.set()

    def over(self, limits: BrokerLimits) -> bool:
        held = len(self.waiting) + len(self.under_way)
        return held > limits.outbox_messages or self.held_bytes > limits.outbox_bytes

    def drop_oldest(self) -> None:
        self.held_bytes -= len(self.waiting.popleft().data)

    def done(self, number: int) -> None:
        parcel = self.under_way.pop(number, None)
        if parcel is not None:
            self.held_bytes -= len(parcel.data)

    def take_back(self) -> None:
        """What was sent and not acknowledged waits again, in its order."""
        self.waiting.extendleft(reversed(self.under_way.values()))
        self.under_way.clear()

    def clear(self) -> None:
        self.waiting.clear()
        self.under_way.clear()
        self.held_bytes = 0


class _Writer(StreamWriterAdapter):  # type: ignore[misc]  # amqtt carries no types
    """Closes within a bounded time even when the other side reads nothing."""

    def abort(self) -> None:
        self.is_closed = True
        self._writer.transport.abort()

    async def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._writer.transport.abort()


class _Reader(StreamReaderAdapter):  # type: ignore[misc]  # amqtt carries no types
    """Waits before a packet while its client is too far ahead; ends at a packet too long."""

    def __init__(self, reader: StreamReader, *, writer: _Writer, limit_bytes: int) -> None:
        super().__init__(reader)
        self._out = writer
        self._limit_bytes = limit_bytes
        self._ended = False
        self.room = asyncio.Event()
        self.room.set()

    async def read(self, n: int = -1) -> bytes:
        # Only a fixed header is read by single bytes, so one byte means: between two packets.
        if n == 1:
            await self.room.wait()
        if n > self._limit_bytes and not self._ended:
            logger.warning("client sent a packet of %d bytes, limit %d", n, self._limit_bytes)
            self._ended = True
            self._out.abort()
        if self._ended:
            raise IncompleteReadError(b"", n)
        data: bytes = await super().read(n)
        return data


def make_broker(
    *, host: str, port: int, password_file: Path | None, limits: BrokerLimits
) -> "BoundedBroker":
    """A broker that does not listen yet; call it on the event loop it will run on."""
    plugins = {_FILE_PLUGIN: {"password_file": str(password_file)}} if password_file else {}
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    config = BrokerConfig(
        listeners={_LISTENER: ListenerConfig(bind=address, max_connections=limits.connections)},
        session_expiry_interval=limits.session_s,
        plugins=plugins,
    )
    return BoundedBroker(config, limits=limits, open_to_all=password_file is None)


class BoundedBroker(Broker):  # type: ignore[misc]  # amqtt carries no types
    """See the module's rules."""

    def __init__(self, config: BrokerConfig, *, limits: BrokerLimits, open_to_all: bool) -> None:
        super().__init__(config)
        self._limits = limits
        self._open_to_all = open_to_all
        self._connections: set[asyncio.Task[Any]] = set()
        self._writers: set[_Writer] = set()
        self._numbers = itertools.count()
        self._retained_bytes = 0
        self._counts = dict.fromkeys(("received", "delivered", "dropped", "cut_off", "refused"), 0)

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
        server: asyncio.Server = self._servers[_LISTENER].instance
        number: int = server.sockets[0].getsockname()[1]
        return number

    def figures(self) -> BrokerFigures:
        """Read from any thread: single numbers, each of its own moment."""
        boxes = [_outbox(session) for session, _ in list(self._sessions.values())]
        return BrokerFigures(
            clients=len(self._writers),
            sessions=len(boxes),
            retained=len(self._retained_messages),
            waiting_messages=sum(len(box.waiting) + len(box.under_way) for box in boxes),
            waiting_bytes=sum(box.held_bytes for box in boxes),
            **self._counts,
        )

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

    # one connection

    async def stream_connected(
        self, reader: StreamReader, writer: StreamWriter, listener_name: str
    ) -> None:
        task = asyncio.current_task()
        out = _Writer(writer)
        if task is None or len(self._writers) >= self._limits.connections:
            self._counts["refused"] += 1
            out.abort()
            return
        self._connections.add(task)
        self._writers.add(out)
        try:
            limited = _Reader(reader, writer=out, limit_bytes=self._limits.packet_bytes)
            await self._client_connected(listener_name, limited, out)
        except (OSError, AMQTTError) as error:
            logger.debug("connection ended: %s", error)
        finally:
            self._writers.discard(out)
            self._connections.discard(task)
            await out.close()

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                handler, session = await super()._initialize_client_session(
                    reader, writer, remote_address, remote_port
                )
        except TimeoutError as error:
            raise AMQTTError("no CONNECT in time") from error
        if session.keep_alive > 0:
            session.keep_alive = math.ceil(1.5 * session.keep_alive)
        handler.handle_read_timeout = writer.abort
        return handler, session

    async def _authenticate(self, session: Session, listener: ListenerConfig) -> bool:
        if self._open_to_all:
            return True
        allowed: bool = await super()._authenticate(session, listener)
        if not allowed:
            self._counts["refused"] += 1
        return allowed

    async def _handle_client_session(
        self,
        reader: ReaderAdapter,
        writer: WriterAdapter,
        client_session: Session,
        handler: BrokerProtocolHandler,
        server: Server,
        listener_name: str,
    ) -> None:
        client_session.attributes[_READER] = reader
        await super()._handle_client_session(
            reader, writer, client_session, handler, server, listener_name
        )

    async def _delete_session(self, client_id: str) -> None:
        session, handler = self._sessions.get(client_id, (None, None))
        if session is not None and session.transitions.is_connected():
            _abort(handler)
        await super()._delete_session(client_id)

    async def _stop_handler(self, handler: BrokerProtocolHandler) -> None:
        session = handler.session
        if session is not None and _outbox(session).handler is handler:
            await self._stop_sending(session)
        await super()._stop_handler(handler)

    # messages in

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
        if not topic or "#" in topic or "+" in topic:
            self._counts["refused"] += 1
            _abort(handler)
            return True
        if topic.startswith(_RESERVED):
            self._counts["refused"] += 1
            return True
        self._counts["received"] += 1
        await self._broadcast_message(client_session, topic, message.data, message.qos)
        if message.publish_packet and message.publish_packet.retain_flag:
            await self.retain_message(client_session, topic, message.data, message.qos)
        return True

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
            self._counts["refused"] += 1
            return
        self._retained_bytes = grown
        if data:
            self._retained_messages[topic_name] = RetainedApplicationMessage(
                source_session, topic_name, data, qos
            )
        else:
            self._retained_messages.pop(topic_name, None)

    # messages out

    async def _broadcast_message(
        self,
        session: Session | None,  # noqa: ARG002  the library's signature
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        if topic is None:
            return
        targets: dict[int, tuple[Session, int]] = {}
        for pattern, subscribers in self._subscriptions.items():
            if topic_matches(pattern, topic):
                for target, qos in subscribers:
                    _, before = targets.get(id(target), (target, 0))
                    targets[id(target)] = (target, max(before, qos))
        payload = bytes(data or b"")
        for target, granted in targets.values():
            qos = granted if force_qos is None else min(granted, force_qos)
            self._offer(target, _Parcel(topic=topic, data=payload, qos=qos, retain=False))

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        pattern, granted = subscription
        if all(target is not session for target, _ in self._subscriptions.get(pattern, ())):
            return  # asked for at each connect for every pattern of every client
        for topic, kept in list(self._retained_messages.items()):
            if topic_matches(pattern, topic):
                qos = min(granted, kept.qos or 0)
                parcel = _Parcel(topic=topic, data=bytes(kept.data), qos=qos, retain=True)
                self._offer(session, parcel)

    def _offer(self, session: Session, parcel: _Parcel) -> None:
        box = _outbox(session)
        if session.transitions.is_connected():
            box.put(parcel)
            if box.over(self._limits) and box.handler is not None:
                self._cut_off(session, box.handler, reason="it does not read")
        elif not session.clean_session and parcel.qos > 0:
            box.put(parcel)
            while box.over(self._limits) and box.waiting:
                box.drop_oldest()
                self._counts["dropped"] += 1

    async def _publish_session_retained_messages(self, session: Session) -> None:
        """Called once a connection is up: what waited for the session is sent from here on."""
        handler = self._get_handler(session)
        if handler is None:
            return
        await self._stop_sending(session)
        box = _outbox(session)
        box.handler = handler
        box.sender = asyncio.create_task(self._send_all(session, box, handler))

    async def _stop_sending(self, session: Session) -> None:
        box = _outbox(session)
        sender, box.sender, box.handler = box.sender, None, None
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        box.take_back()
        if session.clean_session:
            box.clear()

    async def _send_all(
        self, session: Session, box: _Outbox, handler: BrokerProtocolHandler
    ) -> None:
        window = asyncio.Semaphore(self._limits.in_flight)
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                await window.acquire()
                while not box.waiting:
                    box.arrived.clear()
                    await box.arrived.wait()
                number, parcel = next(self._numbers), box.waiting.popleft()
                box.under_way[number] = parcel
                task = asyncio.create_task(self._send_one(session, box, handler, number))
                sending.add(task)
                task.add_done_callback(sending.discard)
                task.add_done_callback(lambda _: window.release())
        finally:
            for task in list(sending):
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _send_one(
        self, session: Session, box: _Outbox, handler: BrokerProtocolHandler, number: int
    ) -> None:
        parcel = box.under_way[number]
        try:
            async with asyncio.timeout(self._limits.stalled_s):
                await handler.mqtt_publish(parcel.topic, parcel.data, parcel.qos, parcel.retain)
        except (TimeoutError, AMQTTError, OSError):
            if box.handler is handler:
                self._cut_off(session, handler, reason="it does not answer")
            return
        box.done(number)
        self._counts["delivered"] += 1

    def _cut_off(self, session: Session, handler: BrokerProtocolHandler, *, reason: str) -> None:
        if _abort(handler):
            self._counts["cut_off"] += 1
            logger.warning("client cut off client=%s: %s", session.client_id, reason)


def _outbox(session: Session) -> _Outbox:
    box: _Outbox = session.attributes.setdefault(_OUTBOX, _Outbox())
    return box


def _make_room(session: Session, *, most: int) -> None:
    """Let the client's next packet in, or not yet."""
    reader: _Reader | None = session.attributes.get(_READER)
    if reader is None:
        return
    if session.delivered_message_queue.qsize() < most:
        reader.room.set()
    else:
        reader.room.clear()


def _abort(handler: BrokerProtocolHandler | None) -> bool:
    """Close a connection at once; False when it was closed already."""
    writer = handler.writer if handler is not None else None
    if not isinstance(writer, _Writer) or writer.is_closed:
        return False
    writer.abort()
    return True
