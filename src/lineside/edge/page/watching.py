"""Those who watch: few at once, woken by the cameras, each paced by itself.

Nothing is queued for anybody: who comes back is given what is newest then. So a slow viewer gets
fewer pictures, and one who does not read at all loses the connection.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

from lineside.core import Clock, Json, LinesideError, UnavailableError, encode, rfc3339, to_plain
from lineside.edge.page.gallery import PERIOD_S, Gallery, Newest, Small

WAIT_S = 10.0
BOUNDARY = "lineside-frame"
Make = Callable[[str], Small | None]


class FullHouseError(UnavailableError):
    """As many watch as may."""


class Watching:
    """Lives on the server's loop; ``wake`` may be called from any thread."""

    def __init__(self, gallery: Gallery, *, most: int, clock: Clock) -> None:
        self._gallery = gallery
        self._most = most
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._over = False
        self.viewers = 0
        gallery.wake_with(self.wake)

    def wake(self) -> None:
        """A picture came; costs nothing while nobody watches."""
        loop = self._loop
        if loop is not None and self.viewers:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the page ends
                loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """Nobody waits any more and every stream ends; from any thread."""
        self._over = True
        self.wake()

    @contextlib.asynccontextmanager
    async def seat(self) -> AsyncIterator[None]:
        """One who watches; ``FullHouseError`` when there are too many."""
        if self.viewers >= self._most:
            raise FullHouseError(
                f"{self.viewers} watch already", where="page.most_viewers", fix="Close a page."
            )
        self._loop = asyncio.get_running_loop()
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    async def newer(self, than: int, *, cameras: tuple[str, ...] = ()) -> tuple[Newest, ...]:
        """Pictures above that number, as soon as there are any.

        There are none after ``WAIT_S``, and when the page ends.

        Args:
            than: the highest number that was seen.
            cameras: which; empty: all.
        """
        ends_s = self._clock.monotonic() + WAIT_S
        while True:
            self._changed.clear()
            there = self._gallery.newer(than)
            found = tuple(one for one in there if not cameras or one.frame.camera in cameras)
            left_s = ends_s - self._clock.monotonic()
            if found or left_s <= 0 or self._over:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 1.0)):
                    await self._changed.wait()

    async def round(self, than: int) -> bytes:
        """All cameras' newest pictures above a number, as one message (``live_part`` by part)."""
        fresh: list[Small] = []
        for _ in range(2):  # what was made small a moment ago may be older: once more, later
            smalls = [
                await self._made(self._gallery.small, one.frame.camera)
                for one in await self.newer(than)
            ]
            fresh = [one for one in smalls if one is not None and one.newest.number > than]
            if fresh or not smalls or self._over:
                break
            await asyncio.sleep(PERIOD_S)
        return b"".join(live_part(one) for one in fresh)

    async def motion(self, camera: str, *, make: Make) -> AsyncIterator[bytes]:
        """A camera's pictures as the parts of ``multipart/x-mixed-replace``, until the page ends.

        Args:
            camera: which.
            make: gives the newest as it is to be sent; called on a thread.
        """
        number = 0
        while not self._over:
            if await self.newer(number, cameras=(camera,)):
                small = await self._made(make, camera)
                if small is not None and small.newest.number > number:
                    number = small.newest.number
                    yield _motion_part(small.picture)
                await asyncio.sleep(PERIOD_S)
        yield f"--{BOUNDARY}--\r\n".encode()

    @staticmethod
    async def _made(make: Make, camera: str) -> Small | None:
        try:
            return await asyncio.to_thread(make, camera)
        except LinesideError:
            return None  # a picture that was judged and cannot be read again is left out


def live_part(small: Small) -> bytes:
    """``u32 header length | u32 picture length | JSON header | JPEG``, big-endian."""
    newest = small.newest
    header: dict[str, Json] = {
        "number": newest.number,
        "camera": newest.frame.camera,
        "frame": newest.frame.id,
        "captured_at": rfc3339(newest.frame.captured_at),
        "arrived_at": rfc3339(newest.arrived_at),
        "part": newest.frame.part,
        "width_px": small.width_px,
        "height_px": small.height_px,
        "predictions": {name: to_plain(one) for name, one in newest.predictions.items()},
    }
    text = encode(header)
    return struct.pack(">II", len(text), len(small.picture)) + text + small.picture


def _motion_part(picture: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"
