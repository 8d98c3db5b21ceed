"""The two ends of a broker connection, with limits the library's own do not have."""

import asyncio
import logging
from asyncio import IncompleteReadError, StreamReader

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter

logger = logging.getLogger(__name__)

_CLOSE_S = 1.0


class BoundedWriter(StreamWriterAdapter):  # type: ignore[misc]  # amqtt carries no types
    """Closes within a bounded time even when the other side reads nothing."""

    def abort(self) -> None:
        """Close at once; what was not sent yet is lost."""
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


class BoundedReader(StreamReaderAdapter):  # type: ignore[misc]  # amqtt carries no types
    """Waits before a packet while ``room`` is not set; ends the connection at a packet too long."""

    def __init__(self, reader: StreamReader, *, writer: BoundedWriter, limit_bytes: int) -> None:
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


def abort(writer: object) -> bool:
    """Close a connection at once; False when there was none or it was closed already."""
    if not isinstance(writer, BoundedWriter) or writer.is_closed:
        return False
    writer.abort()
    return True
