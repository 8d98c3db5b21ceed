"""How the broker waits for a client's answers: as long as whoever sends does.

The library gives up on an answer after five seconds, also where it lies unread because this
machine is late, and does not hear one that comes before it began to wait.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.session import OutgoingApplicationMessage
from typing_extensions import override  # amqtt brings it

Waiters = dict[int, "asyncio.Future[Any]"]


class PatientHandler(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt carries no types
    """Messages out with QoS 1 and 2; all else is the library's."""

    @override
    async def _handle_qos1_message_flow(self, app_message: Any) -> None:
        if not isinstance(app_message, OutgoingApplicationMessage):
            await super()._handle_qos1_message_flow(app_message)
            return
        with self._under_way(app_message), _expected(self._puback_waiters, app_message) as answer:
            await self._send_message(app_message)
            app_message.puback_packet = await answer

    @override
    async def _handle_qos2_message_flow(self, app_message: Any) -> None:
        if not isinstance(app_message, OutgoingApplicationMessage):
            await super()._handle_qos2_message_flow(app_message)
            return
        with self._under_way(app_message):
            with _expected(self._pubrec_waiters, app_message) as answer:
                await self._send_message(app_message)
                app_message.pubrec_packet = await answer
            with _expected(self._pubcomp_waiters, app_message) as answer:
                app_message.pubrel_packet = PubrelPacket.build(app_message.packet_id)
                await self._send_packet(app_message.pubrel_packet)
                app_message.pubcomp_packet = await answer

    @contextmanager
    def _under_way(self, message: OutgoingApplicationMessage) -> Iterator[None]:
        """Its number is taken meanwhile (MQTT-2.3.1-4)."""
        under_way = self.session.inflight_out
        under_way[message.packet_id] = message
        try:
            yield
        finally:
            under_way.pop(message.packet_id, None)

    async def _send_message(self, message: OutgoingApplicationMessage) -> None:
        packet = message.build_publish_packet()
        await self._send_packet(packet)
        message.publish_packet = packet


@contextmanager
def _expected(
    waiters: Waiters, message: OutgoingApplicationMessage
) -> Iterator["asyncio.Future[Any]"]:
    """The answer to a message that is sent inside the block."""
    waiters[message.packet_id] = answer = asyncio.get_running_loop().create_future()
    try:
        yield answer
    finally:
        waiters.pop(message.packet_id, None)
