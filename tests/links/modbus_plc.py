"""A PLC: pymodbus' own Modbus TCP server, which notes every write and can be switched off."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import pytest

from lineside.testing.links import LONG_S
from tests.links.conftest import free_port
from tests.links.output_peers import Write, changes

_POINTS = 100
_READS = {1: "coil", 2: "input"}
_WRITES = {5: "coil", 6: "register"}


@dataclass
class ModbusPlc:
    """Its points have addresses below 100, all 0 at power-on.

    Attributes:
        writes: each write that it has got, in order.
        is_held: it takes requests and answers none, as a slow PLC does.
    """

    port: int = field(default_factory=free_port)
    writes: list[Write] = field(default_factory=list)
    is_held: bool = False
    points: tuple[str, str] = ("coil/12", "coil/13")
    _says: dict[tuple[str, int], int] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _server: Any = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"modbus://127.0.0.1:{self.port}"

    def values(self, point: str) -> list[int]:
        """What was written to a point, without what was written again."""
        return changes(self.writes, point)

    def value(self, point: str) -> int | None:
        """What stands there; None: nothing was written since the start."""
        return next((v for _, name, v in reversed(list(self.writes)) if name == point), None)

    def put(self, point: str, value: int) -> None:
        """What the PLC says itself: an ``input`` or a ``coil``."""
        kind, _, number = point.partition("/")
        self._says[kind, int(number)] = value

    def switch_on(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started.set,), name="plc")
        self._thread.start()
        assert started.wait(LONG_S)

    def switch_off(self) -> None:
        """Power is gone: connections end, values are lost."""
        assert self._loop is not None
        assert self._thread is not None
        self.is_held = False
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(LONG_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.writes.clear()

    def _run(self, started: Callable[[], None]) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        async def note(
            code: int, start: int, address: int, _count: int, registers: list[int],
            values: list[int] | list[bool] | None,
        ) -> None:  # fmt: skip
            if values is not None:
                self.writes.append((monotonic(), f"{_WRITES[code]}/{address}", int(values[0])))
            elif code in _READS:
                said = self._says.get((_READS[code], address), 0)
                word, bit = divmod(address, 16)
                registers[word - start] &= ~(1 << bit)
                registers[word - start] |= said << bit
            while self.is_held:  # noqa: ASYNC110  another thread sets it
                await asyncio.sleep(0.01)

        async def serve() -> None:
            bits = [SimData(0, count=_POINTS // 16 + 1, datatype=DataType.BITS)]
            words = [SimData(0, count=_POINTS, datatype=DataType.REGISTERS)]
            device = SimDevice(1, simdata=(bits, bits, words, words), action=note)
            self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
            await self._server.serve_forever(background=True)

        self._loop = loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(serve())
            loop.call_soon(started)
            loop.run_forever()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()


@contextmanager
def modbus_plc() -> Iterator[ModbusPlc]:
    """One that is on, for the length of a ``with``."""
    pytest.importorskip("pymodbus", reason="pymodbus of the extra modbus is not installed")
    plc = ModbusPlc()
    plc.switch_on()
    try:
        yield plc
    finally:
        if plc._thread is not None and plc._thread.is_alive():
            plc.switch_off()
