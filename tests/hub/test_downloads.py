"""Archives for many devices at a time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import Digest, decode_json
from lineside.fleet.trust.roles import prefixed
from lineside.hub import Services, create_app
from lineside.hub.downloads import Download, DownloadContent, Slots
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.test_updates import use

DATA = bytes(range(256)) * 2000
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def download(slots: Slots, *, data: bytes = DATA) -> Download:
    content = DownloadContent(data=data, part=range(len(data)), status=200, headers={"ETag": '"x"'})
    return Download(content, slots=slots, media_type="application/octet-stream")


async def nothing() -> MutableMapping[str, Any]:
    """A device that waits for its answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def answered(
    response: Download, *, into: list[MutableMapping[str, Any]], gate: asyncio.Event | None = None
) -> None:
    async def send(message: MutableMapping[str, Any]) -> None:
        into.append(message)
        if gate is not None:
            await gate.wait()

    scope = {"type": "http", "method": "GET", "path": "/tuf/targets/x", "headers": []}
    await response(scope, nothing, send)


def body(messages: list[MutableMapping[str, Any]]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def header(messages: list[MutableMapping[str, Any]], name: bytes) -> str:
    return bytes(dict(messages[0]["headers"])[name]).decode()


def test_who_finds_no_slot_is_told_when_to_come_again(clock: FakeClock) -> None:
    slots = Slots(2, clock=clock)
    got: list[list[MutableMapping[str, Any]]] = [[] for _ in range(5)]

    async def five() -> None:
        gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for one in got:
                group.create_task(answered(download(slots), into=one, gate=gate))
            await asyncio.sleep(0)
            assert (slots.taken, slots.refused) == (2, 3)
            gate.set()

    asyncio.run(five())
    assert [messages[0]["status"] for messages in got] == [200, 200, 503, 503, 503]
    assert body(got[0]) == body(got[1]) == DATA
    assert header(got[4], b"retry-after") == "2"
    told = decode_json(body(got[4]), where="problem")
    assert (told["detail"], told["status"]) == ("2 downloads are under way", 503)
    assert (slots.taken, slots.served) == (0, 2)


def test_the_larger_the_crowd_the_later_it_is_asked_back(clock: FakeClock) -> None:
    slots = Slots(2, clock=clock)
    assert slots.take()
    assert slots.take()
    waits = []
    for _ in range(1000):
        assert not slots.take()
        waits.append(slots.retry_after_s())
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2, 60)
    clock.advance(11)
    assert slots.retry_after_s() == 2


def test_a_device_that_does_not_read_loses_its_slot(clock: FakeClock) -> None:
    slots = Slots(1, clock=clock, least_bytes_per_s=10_000_000.0)
    got: list[MutableMapping[str, Any]] = []
    asyncio.run(answered(download(slots), into=got, gate=_Started()))
    assert len(body(got)) < len(DATA)
    assert slots.taken == 0


class _Started(asyncio.Event):
    """Lets the head of an answer pass and nothing after it."""

    passed = False

    async def wait(self) -> bool:  # type: ignore[override]  # the library's is Literal[True]
        if not self.passed:
            self.passed = True
            return True
        return await super().wait()


def test_a_device_that_went_away_is_sent_no_more(clock: FakeClock) -> None:
    slots = Slots(1, clock=clock)
    got: list[MutableMapping[str, Any]] = []

    async def gone() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect" if len(got) > 1 else "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        got.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(_within(download(slots)(scope, gone, send)))
    assert 0 < len(body(got)) < len(DATA)
    assert slots.taken == 0


async def _within(what: Awaitable[None]) -> None:
    async with asyncio.timeout(LONG_S):
        await what


def test_a_connection_that_ends_in_an_error_gives_its_slot_back(clock: FakeClock) -> None:
    slots = Slots(1, clock=clock)

    async def broken() -> None:
        async def send(message: MutableMapping[str, Any]) -> None:
            raise OSError(message["type"])

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await download(slots)(scope, nothing, send)

    with pytest.raises(OSError, match="start"):
        asyncio.run(broken())
    assert slots.taken == 0


def test_an_archive_is_read_once_for_all_and_sent_in_parts(hub: Services, archive: bytes) -> None:
    hub.releases.ensure(keys=hub.config.keys_folder)
    target = use(hub, archive)
    client = TestClient(create_app(hub), base_url="http://127.0.0.1")
    client.headers["Authorization"] = f"Bearer {hub.auth.issue_token('e', kind='device')}"
    url = f"/tuf/targets/{prefixed(target.path, target.sha256)}"
    assert client.get(url).content == archive
    hub.blobs.delete(Digest(f"sha256:{target.sha256}"))
    part = client.get(url, headers={"Range": "bytes=5-104"})
    assert (part.status_code, part.content) == (206, archive[5:105])
    assert part.headers["content-length"] == "100"
    head = client.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(archive)))
    assert all(hub.releases.slots.take() for _ in range(64))
    busy = client.get(url)
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
    assert client.head(url).status_code == 200
