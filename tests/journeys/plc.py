"""A PLC beside the hub: an OPC UA client that subscribes, and comes back when the server did."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncua import Client, ua

from lineside.links.opcua import NAMESPACE
from lineside.testing.links import LONG_S
from tests.links.opcua_client import node_of

_ASIDE_S = 0.05
_EVERY_MS = 20


@dataclass
class Plc:
    """What it was told, over all of its connections.

    Attributes:
        events: ids of the events that were fired while it was there, in order.
        counts: the values of the node it watches, in order.
        joins: how often it subscribed.
    """

    events: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    joins: int = 0

    def event_notification(self, event: Any) -> None:  # noqa: ANN401  of the library
        self.events.append(event.LinesideId)

    def datachange_notification(self, _node: object, value: object, data: Any) -> None:  # noqa: ANN401  of the library
        variant = data.monitored_item.Value.Value
        if variant is not None and variant.Value is not None:
            self.kinds.add(variant.VariantType.name)
            self.counts.append(int(str(value)))

    def status_change_notification(self, _status: object) -> None:
        """The subscription ended with its server; the next one is made anew."""


async def read_all(url: str, *paths: str) -> dict[str, Any]:
    """Values of nodes, by their path."""
    async with Client(f"{url}/lineside", timeout=LONG_S) as client:
        return {path: await (await node_of(client, path)).read_value() for path in paths}


@contextmanager
def plc(url: str, *, watching: str) -> Iterator[Plc]:
    """One that subscribes to the events and to a node, for the length of a ``with``."""
    told, stop = Plc(), threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_stay(f"{url}/lineside", watching, told=told, stop=stop)),
        name="plc",
    )
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


async def _stay(url: str, path: str, *, told: Plc, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            await _listen(url, path, told=told, stop=stop)
        except (TimeoutError, OSError, ua.UaError):
            await asyncio.sleep(_ASIDE_S)


async def _listen(url: str, path: str, *, told: Plc, stop: threading.Event) -> None:
    # A server that only pauses is the same one; one that was killed is seen by its socket.
    async with Client(url, timeout=LONG_S, watchdog_intervall=LONG_S) as client:
        index = await client.get_namespace_index(NAMESPACE)
        kind = await client.nodes.base_event_type.get_child(f"{index}:LinesideEventType")
        subscription = await client.create_subscription(_EVERY_MS, told)
        await subscription.subscribe_events(evtypes=kind)
        await subscription.subscribe_data_change(await node_of(client, path))
        told.joins += 1
        while not stop.is_set():
            await client.check_connection()
            await asyncio.sleep(_ASIDE_S)
