"""Client of an OPC UA server for tests: asyncua's, with what it heard and what it waits for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asyncua import Client, ua

from lineside.links.opcua import NAMESPACE, OpcuaNode
from lineside.testing.links import LONG_S

Act = Callable[[Client], Awaitable[Any]]


def asked(url: str, act: Act) -> Any:  # noqa: ANN401  whatever the act gives
    async def run() -> Any:  # noqa: ANN401
        async with Client(url, timeout=LONG_S) as client:
            return await act(client)

    return asyncio.run(run())


async def node_of(client: Client, path: str) -> Any:  # noqa: ANN401  of the library
    index = await client.get_namespace_index(NAMESPACE)
    made: Any = ua.NodeId  # typed for numbers of its own kinds
    return client.get_node(made(path, index))


async def value_of(client: Client, node: OpcuaNode, *, until: Callable[[Any], bool]) -> Any:  # noqa: ANN401
    """The node's value, once it is as wanted."""
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                found = await (await node_of(client, node.path)).read_data_value(
                    raise_on_bad_status=False
                )
            except ua.UaStatusCodeError:
                found = None
            if found is not None and until(found):
                return found
            await asyncio.sleep(0.02)


class Heard:
    """Notes what a subscription brings."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.events: list[Any] = []

    def datachange_notification(self, _node: object, value: object, _data: object) -> None:
        self.values.append(value)

    def event_notification(self, event: object) -> None:
        self.events.append(event)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not what():  # noqa: ASYNC110  a callback of the library brings it
            await asyncio.sleep(0.02)
