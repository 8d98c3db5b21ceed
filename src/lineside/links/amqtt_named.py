"""The embedded broker's second listener, where a certificate is the name.

1. TLS is mutual: who shows no certificate of the site's authority gets no further than the
   handshake. Whether the certificate still holds is asked of ``DeviceDoor.admit``.
2. Name and password of CONNECT count for nothing here; the client id stands below the device's
   name, so no device can take over the session of another, or of a client of the other listener.
3. What a device may not publish is dropped and counted (MQTT 3.1.1, 3.3.5 leaves the choice); a
   subscription that it may not have is answered with 0x80; a last will that it may not say is
   forgotten at once.
"""

import asyncio
import logging
import secrets
import ssl
from asyncio import Server as AsyncioServer

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session
from typing_extensions import override  # amqtt brings it

from lineside.core import InvalidError, RefusedError
from lineside.links.amqtt_answers import Askers
from lineside.links.amqtt_bounded import ADMITTED, BoundedBroker
from lineside.links.device_door import Admitted, DeviceDoor
from lineside.links.limits import BrokerLimits

logger = logging.getLogger(__name__)

DOOR = "devices"
_TOLD = "lineside.told"
_NOT_GRANTED = 0x80


def door_config(door: DeviceDoor, *, limits: BrokerLimits) -> ListenerConfig:
    """The listener as the library is told of it."""
    address = f"[{door.host}]:{door.port}" if ":" in door.host else f"{door.host}:{door.port}"
    return ListenerConfig(
        bind=address, max_connections=limits.connections, ssl=True,
        cafile=str(door.authority), certfile=str(door.certificate), keyfile=str(door.key),
    )  # fmt: skip


class NamedBroker(BoundedBroker):
    """See the module's rules."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        limits: BrokerLimits,
        own_password: str | None,
        passwords: dict[str, str],
        askers: Askers,
        door: DeviceDoor,
    ) -> None:
        """Take the settings; ``config`` has the listener of ``door_config`` as ``devices``."""
        super().__init__(
            config, limits=limits, own_password=own_password, passwords=passwords, askers=askers
        )
        self._door = door
        # What no client of the other listener can guess, so none takes a device's client id.
        self._space = secrets.token_hex(8)

    def door_port(self) -> int:
        """The port devices connect to."""
        server: AsyncioServer = self._servers[DOOR].instance
        number: int = server.sockets[0].getsockname()[1]
        return number

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        context: ssl.SSLContext = Broker._create_ssl_context(listener)  # noqa: SLF001  its own
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    @override
    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> AsyncioServer:
        if ssl_context is None:
            made: AsyncioServer = await super()._create_server_instance(
                listener_name, listener_type, address, port, ssl_context
            )
            return made

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.stream_connected(reader, writer, listener_name)

        return await asyncio.start_server(
            connected, address, port, reuse_address=True, ssl=ssl_context,
            ssl_handshake_timeout=self._limits.connect_s,
        )  # fmt: skip

    @override
    async def _read_connect(
        self, reader: ReaderAdapter, writer: WriterAdapter, *, address: str, port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        shown = writer.get_ssl_info()
        if shown is None:
            return await super()._read_connect(reader, writer, address=address, port=port)
        certificate = shown.getpeercert(binary_form=True)
        if certificate is None:
            raise AMQTTError("no certificate")
        admitted = await self._admit(certificate, where=f"{address}:{port}")
        handler, session = await BrokerProtocolHandler.init_from_connect(
            reader, writer, self.plugins_manager
        )
        session.username, session.password = admitted.identity if admitted else None, None
        if admitted is None:
            session.client_id = f"{self._space}/refused"
        else:
            session.client_id = f"{self._space}/{admitted.identity}/{session.client_id}"
            session = await self._resumed(session, admitted=admitted)
        session.attributes[ADMITTED] = admitted
        session.attributes[_TOLD] = False
        if session.will_flag and not self._may_publish(session, session.will_topic or ""):
            session.will_flag = False
        return handler, session

    async def _admit(self, certificate: bytes, *, where: str) -> Admitted | None:
        """None where it holds no longer: the answer to CONNECT then says so."""
        try:
            return await asyncio.to_thread(self._door.admit, certificate)
        except (RefusedError, InvalidError) as error:
            logger.warning("device refused address=%s reason=%s", where, error)
            return None

    async def _resumed(self, session: Session, *, admitted: Admitted) -> Session:
        """The session of an earlier connection, or this one (MQTT 3.1.1, 3.1.2.4)."""
        session.parent = 0
        kept, _ = self._sessions.get(session.client_id, (None, None))
        if session.clean_session or kept is None:
            await self._delete_session(session.client_id)
            return session
        for told in ("will_flag", "will_message", "will_topic", "will_qos", "will_retain"):
            setattr(kept, told, getattr(session, told))
        kept.keep_alive, kept.parent = session.keep_alive, 1
        for pattern in list(self._subscriptions):
            if not admitted.access.may_subscribe(pattern):
                self._del_subscription(pattern, kept)
        return kept

    @override
    async def _authenticate(self, session: Session, listener: ListenerConfig) -> bool:
        if ADMITTED not in session.attributes:
            return await super()._authenticate(session, listener)
        if session.attributes[ADMITTED] is not None:
            return True
        self._counts.refused += 1
        return False

    @override
    def _may_publish(self, session: Session, topic: str) -> bool:
        if ADMITTED not in session.attributes:
            return super()._may_publish(session, topic)
        admitted: Admitted | None = session.attributes[ADMITTED]
        allowed = admitted is not None and admitted.access.may_publish(topic)
        if not allowed:
            self._refuse(session, "publish to", topic=topic)
        return allowed

    @override
    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        if ADMITTED in session.attributes:
            admitted: Admitted | None = session.attributes[ADMITTED]
            if admitted is None or not admitted.access.may_subscribe(subscription[0]):
                self._refuse(session, "hear", topic=subscription[0])
                return _NOT_GRANTED
        granted: int = await super().add_subscription(subscription, session)
        return granted

    def _refuse(self, session: Session, deed: str, *, topic: str) -> None:
        self._counts.refused += 1
        if not session.attributes.get(_TOLD):  # a device that goes on would fill the log
            session.attributes[_TOLD] = True
            logger.warning(
                "device may not %s this topic device=%s topic=%.200r", deed, session.username, topic
            )
