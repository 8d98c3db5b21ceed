"""Bodies of requests: bounded in memory, however many come and however slowly."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lineside.core import UnavailableError
from lineside.hub.middleware import BodyLimit
from lineside.web.security import Message, Receive, Scope, Send, TooLargeError

PART = bytes(65_536)
Reader = Callable[[int], Awaitable[None]]


def limited(reader: Reader, *, folder: Path, limit: int = 100_000_000) -> BodyLimit:
    """The middleware around an application that reads the body as routes do."""

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                parts = [b"left"]
                break
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        await reader(sum(map(len, parts)))

    return BodyLimit(app, limit_of=lambda _: limit, folder=folder)


def sent(parts: int, *, leaves: bool = False) -> Receive:
    left = iter(range(parts))

    async def receive() -> Message:
        await asyncio.sleep(0)
        number = next(left, None)
        if number is None or (leaves and number == parts - 1):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": PART, "more_body": number < parts - 1}

    return receive


async def ask(middleware: BodyLimit, receive: Receive) -> None:
    async def send(_: Message) -> None:
        return None

    await middleware({"type": "http", "path": "/", "headers": []}, receive, send)


def test_uploads_that_are_under_way_take_no_memory(tmp_path: Path) -> None:
    read: list[int] = []

    async def reader(size: int) -> None:
        read.append(size)

    async def many() -> None:
        middleware = limited(reader, folder=tmp_path)
        await asyncio.gather(*(ask(middleware, sent(160)) for _ in range(20)))

    tracemalloc.start()
    asyncio.run(many())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == [160 * len(PART)] * 20
    assert most < 5 * 160 * len(PART)  # of 20 bodies, two at a time are in the application
    assert list(tmp_path.iterdir()) == []


def test_large_bodies_are_worked_on_a_few_at_a_time_and_small_ones_at_once(tmp_path: Path) -> None:
    working, most_working = [0], [0]
    small: list[int] = []

    async def reader(size: int) -> None:
        if size <= len(PART):
            small.append(working[0])
            return
        working[0] += 1
        most_working[0] = max(most_working[0], working[0])
        for _ in range(400):
            await asyncio.sleep(0)
        working[0] -= 1

    async def many() -> None:
        middleware = limited(reader, folder=tmp_path)
        await asyncio.gather(*(ask(middleware, sent(n)) for n in (40, 40, 40, 40, 1, 1)))

    asyncio.run(many())
    assert most_working == [2]
    assert len(small) == 2


@pytest.mark.parametrize("parts", [1, 40])
def test_a_body_above_the_limit_is_refused(tmp_path: Path, parts: int) -> None:
    async def reader(_: int) -> None:
        raise AssertionError

    with pytest.raises(TooLargeError):
        asyncio.run(ask(limited(reader, folder=tmp_path, limit=1000), sent(parts)))


def test_who_leaves_in_the_middle_is_not_waited_for(tmp_path: Path) -> None:
    read: list[int] = []

    async def reader(size: int) -> None:
        read.append(size)

    asyncio.run(ask(limited(reader, folder=tmp_path), sent(40, leaves=True)))
    assert read == [len(b"left")]


def test_a_disk_that_does_not_take_the_upload_is_told(tmp_path: Path) -> None:
    async def reader(_: int) -> None:
        raise AssertionError

    async def ask_with_a_full_disk() -> None:
        middleware = limited(reader, folder=tmp_path / "gone")
        await ask(middleware, sent(40))

    with pytest.raises(UnavailableError, match="disk"):
        asyncio.run(ask_with_a_full_disk())
