"""Archives handed out by HTTP, to so many devices at a time as there are slots.

1. Who finds no free slot is answered 503 with ``Retry-After`` at once, and holds nothing here. The
   seconds grow with the crowd, so that a fleet that comes at once is told to spread itself.
2. A slot is held from the first byte to the last, or to the end of the connection. One that takes
   fewer than ``least_bytes_per_s`` is cut off, so that slow lines cannot keep all slots; it goes on
   from there at its next try.
3. All of them send from the same bytes: what a device holds here is one chunk.

Everything here runs on the server's event loop, so there are no locks.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from lineside.core import Clock, UnavailableError
from lineside.hub.problems import refusal

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 17
_LEAST_S = 2
_MOST_S = 60
_CROWD_S = 10.0
_MOST_REMEMBERED = 10_000


class Slots:
    """Slots of the downloads under way, and a count of recent refusals."""

    def __init__(self, most: int, *, clock: Clock, least_bytes_per_s: float = 4000.0) -> None:
        """Nobody is here yet.

        Args:
            most: archives at a time.
            clock: what patience counts by.
            least_bytes_per_s: slowest device that keeps a slot.
        """
        self.most = most
        self.least_bytes_per_s = least_bytes_per_s
        self.taken = 0
        self.refused = 0
        self.served = 0
        self._clock = clock
        self._sent_away: deque[float] = deque(maxlen=_MOST_REMEMBERED)

    def take(self) -> bool:
        """Take a slot; False where none is free. ``give`` it back."""
        if self.taken >= self.most:
            self.refused += 1
            self._sent_away.append(self._clock.monotonic())
            return False
        self.taken += 1
        return True

    def give(self) -> None:
        """A slot is free again."""
        self.taken -= 1
        self.served += 1

    def retry_after_s(self) -> int:
        """Whole seconds after which to try again: more, the more were sent away lately."""
        since_s = self._clock.monotonic() - _CROWD_S
        while self._sent_away and self._sent_away[0] < since_s:
            self._sent_away.popleft()
        return min(_MOST_S, _LEAST_S + len(self._sent_away) // (4 * self.most))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DownloadContent:
    """Content of a response: ``part`` of ``data``, with status and headers."""

    data: bytes
    part: range
    status: int
    headers: Mapping[str, str]


class Download(Response):
    """Bytes of an archive, once there is a slot; else 503."""

    def __init__(self, content: DownloadContent, *, slots: Slots, media_type: str) -> None:
        """Take no slot yet."""
        headers = {**content.headers, "Content-Length": str(len(content.part))}
        super().__init__(status_code=content.status, headers=headers, media_type=media_type)
        self._sent = content
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it, or say when to come again."""
        if scope["method"] == "HEAD":
            await send(self._start())
            await send({"type": "http.response.body", "body": b""})
        elif self._slots.take():
            left = asyncio.ensure_future(_left(receive))
            try:
                await self._stream(send, left=left)
            except TimeoutError:
                logger.info("download too slow, cut off path=%s", scope["path"])
            finally:
                left.cancel()
                self._slots.give()
        else:
            await _busy(Request(scope), self._slots)(scope, receive, send)

    def _start(self) -> Message:
        return {
            "type": "http.response.start", "status": self.status_code, "headers": self.raw_headers,
        }  # fmt: skip

    async def _stream(self, send: Send, *, left: asyncio.Future[None]) -> None:
        """Chunk by chunk; sending waits where the device is slower than this.

        Others have their turn after each chunk: sending does not wait while the line takes more.
        """
        data, part = memoryview(self._sent.data), self._sent.part
        await send(self._start())
        for first in range(part.start, part.stop, _CHUNK_BYTES):
            chunk = bytes(data[first : min(first + _CHUNK_BYTES, part.stop)])
            async with asyncio.timeout(_CHUNK_BYTES / self._slots.least_bytes_per_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await asyncio.sleep(0)
            if left.done():
                return
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    """Returns when the device is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _busy(request: Request, slots: Slots) -> Response:
    after_s = slots.retry_after_s()
    error = UnavailableError(
        f"{slots.most} downloads are under way",
        where=request.url.path,
        fix=f"Try again in {after_s} seconds; raise downloads in the hub's settings.",
    )
    told = refusal(error, path=request.url.path)
    headers = {**told.headers, "Retry-After": str(after_s)}
    return Response(told.body, status_code=told.status, headers=headers, media_type=told.media_type)


_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


def parse_range(header: str, size: int) -> range | None:
    """The bytes a ``Range`` header means; None: all of them.

    A header that is malformed, or names several ranges, counts as none (14.2). An empty range is
    one that cannot be satisfied (416).
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    end = min(int(last) + 1, size) if last else size
    return range(int(first), max(int(first), end))
