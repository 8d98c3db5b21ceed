"""An OPC UA server (asyncua) that others read: values with quality and time, and events.

1. Nobody can write, call or add anything: a client reads, subscribes and browses.
2. A value has the time of its capture as source timestamp, and a status: Good, Uncertain (the
   answer itself is not sure), UncertainLastUsableValue (it is older than it may be), or, before
   there was any, BadWaitingForInitialData (OPC 10000-8, 6.3.4).
3. With a certificate it offers Basic256Sha256, sign and encrypt, and sign-in by name and password;
   without encryption only to read as anybody, where that was said.
4. It runs on a thread with an event loop of its own. ``set`` does not wait: of what was not written
   yet, the newest value of each node stands.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping

from lineside.core import LinesideError, UnavailableError, need
from lineside.core.worker import Worker
from lineside.links.opcua_records import OpcuaEvent, OpcuaNode, OpcuaSettings, OpcuaValue, SignIn
from lineside.links.opcua_space import OpcuaSpace

logger = logging.getLogger(__name__)

_START_S = 60.0
_MOST_NODES = 20_000
_MOST_EVENTS = 1000


class OpcuaServer:
    """One server, closed by whoever started it; ``set`` and ``tell`` are for any thread."""

    def __init__(self, settings: OpcuaSettings, *, sign_in: SignIn) -> None:
        self._settings = settings
        self._sign_in = sign_in
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._turns: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._values: dict[OpcuaNode, OpcuaValue] = {}
        self._events: deque[OpcuaEvent] = deque(maxlen=_MOST_EVENTS)
        self._woken = False
        self._space: OpcuaSpace | None = None
        self._worker = Worker("opcua", self._run, every_s=None)
        self.dropped = 0

    def start(self) -> None:
        """Listen; returns when clients can come.

        Raises:
            UnavailableError: the port is taken, or it did not start in time.
            InvalidError: certificate and key are none.
            MissingExtraError: asyncua is not installed.
        """
        need("asyncua", extra="opcua")
        self._worker.start()
        self._ready.wait(_START_S)
        failure = self._failure
        if failure is None and self._ready.is_set():
            return
        self.close()
        if isinstance(failure, LinesideError):
            raise failure
        raise UnavailableError(
            f"the OPC UA server did not start: {failure or 'it took too long'}",
            where=self._settings.url, fix="Choose a free port.",
        ) from failure  # fmt: skip

    def set(self, values: Mapping[OpcuaNode, OpcuaValue]) -> None:
        """What nodes say from now on; a node that is new is made."""
        with self._lock:
            self._values.update(values)
            while len(self._values) > _MOST_NODES:
                self._values.pop(next(iter(self._values)))
                self.dropped += 1
            self._wake()

    def tell(self, events: Iterable[OpcuaEvent]) -> None:
        """Say these to who subscribed to events."""
        with self._lock:
            for event in events:
                self.dropped += len(self._events) == _MOST_EVENTS
                self._events.append(event)
            self._wake()

    def clients(self) -> int:
        """How many clients are there."""
        space = self._space
        return 0 if space is None else space.clients()

    def close(self) -> None:
        """End every session and stop."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
                loop.call_soon_threadsafe(stop.set)
        self._worker.join()

    def _wake(self) -> None:
        """The lock is held."""
        if self._loop is not None and self._turns is not None and not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._turns.set)

    # ---- the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # boundary
            self._failure = error
            if self._ready.is_set():
                logger.exception("opcua server ended")
        self._ready.set()

    async def _serve(self) -> None:
        space = OpcuaSpace(self._settings, sign_in=self._sign_in)
        await space.open()
        self._turns, self._stop = asyncio.Event(), asyncio.Event()
        try:
            writer = asyncio.create_task(self._keep_writing(space, self._turns))
            with self._lock:
                self._space, self._loop = space, asyncio.get_running_loop()
                self._wake()
            self._ready.set()
            await self._stop.wait()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        finally:
            await space.close()

    async def _keep_writing(self, space: OpcuaSpace, turns: asyncio.Event) -> None:
        while True:
            await turns.wait()
            turns.clear()
            with self._lock:
                values, self._values = self._values, {}
                events = list(self._events)
                self._events.clear()
                self._woken = False
            try:
                await space.write(values)
                await space.tell(events)
            except Exception:  # boundary
                logger.exception("opcua values not written")
