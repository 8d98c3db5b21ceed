"""What waits for one session of the embedded broker, and the task that sends it.

1. Messages are sent in the order they came, at most ``in_flight`` of them unanswered.
2. What was sent and not answered when the connection ended waits again, in its order, so a
   persistent session gets it after its return.
3. The outbox never cuts a connection itself; it calls ``stalled`` and goes on.
4. A client is stalled when none of its messages went through while the loop looked at it several
   times. A loop that is late looks late, and reads what has arrived before it looks: a client does
   not pay for that.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from amqtt.errors import AMQTTError, ProtocolHandlerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler

from lineside.links.limits import BrokerLimits

_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message for one session."""

    topic: str
    data: bytes
    qos: int
    retain: bool = False


@dataclass(slots=True, kw_only=True)
class Counts:
    """What the broker did since it was started."""

    received: int = 0
    delivered: int = 0
    dropped: int = 0
    cut_off: int = 0
    refused: int = 0


class Outbox:
    """Lives with its session; sends while a connection is there."""

    def __init__(self, *, limits: BrokerLimits, counts: Counts) -> None:
        self._limits = limits
        self._counts = counts
        self._waiting: deque[Parcel] = deque()
        self._under_way: dict[int, Parcel] = {}
        self._numbers = itertools.count()
        self._arrived = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._went_through = 0
        self.handler: BrokerProtocolHandler | None = None
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    def put(self, parcel: Parcel) -> None:
        """Add a message; the oldest waiting ones go, counted, when it is more than may be held."""
        self._waiting.append(parcel)
        self.held_bytes += len(parcel.data)
        self._arrived.set()
        while self._over() and self._waiting:
            self.held_bytes -= len(self._waiting.popleft().data)
            self._counts.dropped += 1

    def clear(self) -> None:
        """Forget everything that waits."""
        self._waiting.clear()
        self.held_bytes = sum(len(parcel.data) for parcel in self._under_way.values())

    def start(self, handler: BrokerProtocolHandler, *, stalled: Callable[[], None]) -> None:
        """Send through this connection from now on."""
        self.handler = handler
        self._sender = asyncio.create_task(self._send_all(handler, stalled=stalled))

    async def stop(self) -> None:
        """Send nothing more; returns when no task of it is left."""
        sender, self._sender, self.handler = self._sender, None, None
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()

    def _over(self) -> bool:
        limits = self._limits
        return len(self) > limits.outbox_messages or self.held_bytes > limits.outbox_bytes

    async def _send_all(
        self, handler: BrokerProtocolHandler, *, stalled: Callable[[], None]
    ) -> None:
        window = asyncio.Semaphore(self._limits.in_flight)
        sending: set[asyncio.Task[None]] = set()
        watch = asyncio.create_task(self._watch(stalled))
        try:
            while True:
                await window.acquire()
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                if watch.done():
                    watch = asyncio.create_task(self._watch(stalled))
                number = next(self._numbers)
                self._under_way[number] = self._waiting.popleft()
                task = asyncio.create_task(self._send_one(number, handler, stalled=stalled))
                sending.add(task)
                task.add_done_callback(sending.discard)
                task.add_done_callback(lambda _: window.release())
        finally:
            for task in (watch, *sending):
                task.cancel()
            await asyncio.gather(watch, *sending, return_exceptions=True)

    async def _send_one(
        self, number: int, handler: BrokerProtocolHandler, *, stalled: Callable[[], None]
    ) -> None:
        parcel = self._under_way[number]
        try:
            await handler.mqtt_publish(parcel.topic, parcel.data, parcel.qos, parcel.retain)
        except (AMQTTError, ProtocolHandlerError, OSError):
            if self.handler is handler:
                stalled()
            return
        del self._under_way[number]
        self.held_bytes -= len(parcel.data)
        self._went_through += 1
        self._counts.delivered += 1

    async def _watch(self, stalled: Callable[[], None]) -> None:
        """Look until nothing is under way; tell when nothing moves."""
        looks, before = 0, self._went_through
        while looks < _LOOKS:
            await asyncio.sleep(self._limits.stalled_s / _LOOKS)
            if not self._under_way:
                return
            looks = looks + 1 if self._went_through == before else 0
            before = self._went_through
        stalled()
