"""A TCP relay in front of a server, whose connections can be cut, held up and delayed."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self

_CHUNK_BYTES = 65_536


class Relay:
    """Passes bytes on between its own port of loopback and another one; ``with`` ends it."""

    def __init__(self, port: int) -> None:
        """``port``: of the server; it need not listen yet."""
        self._target = port
        self._links: set[asyncio.StreamWriter] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._delay_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._join, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """End every connection without a word."""

        async def abort() -> None:
            for link in list(self._links):
                link.transport.abort()

        self._run(abort())

    def hold(self) -> None:
        """Let no byte pass, and end no connection, until ``release``."""
        self._loop.call_soon_threadsafe(self._is_open.clear)

    def delay(self, by_s: float) -> None:
        """Let every chunk of bytes wait for so long, until ``release``."""
        self._delay_s = by_s

    def release(self) -> None:
        """Pass everything on again, at once."""
        self._delay_s = 0.0
        self._loop.call_soon_threadsafe(self._is_open.set)

    def close(self) -> None:
        """End all of it."""
        self.release()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  what the work gives
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=120)

    async def _end(self) -> None:
        self._server.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        links = {writer}
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                links.add(far_writer)
                self._links |= links
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, far_writer))
                    group.create_task(self._pass(far_reader, writer))
        finally:
            self._links -= links
            for link in links:
                link.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._is_open.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(chunk)
                await writer.drain()
        # What one side closed, the other hears of after the bytes before it.
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()
