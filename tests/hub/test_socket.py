"""The live socket: paced by the page, whole or not at all, closed when the session ends."""

import asyncio
import json
import struct
import threading
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import replace
from typing import Any

import jsonpatch
import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lineside.core import Plant, to_plain
from lineside.hub import HubConfig, Services, create_app
from lineside.hub.eventlog.ledger import RecordsJournal, person_event
from lineside.hub.live import BAD_MESSAGE, Subscription, _Viewer, tile_jpeg
from lineside.hub.page_parts import PartSource, _Part
from lineside.streams import EVENT_TYPE
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from lineside.testing.rules import rule_of
from lineside.vision import decode_picture, encode_jpeg
from tests.hub.conftest import Line, open_hub, scene

URL = "ws://127.0.0.1/ws"
Pictures = Callable[..., bytes]
PARTS = {
    "/twin": PartSource(str, every_s=0.025, ages_s=5.0),
    "/figures": PartSource(str, every_s=2.0, ages_s=2.0),
}


class Page:
    """A browser's side of the socket."""

    def __init__(self, socket: WebSocketTestSession) -> None:
        self.socket = socket

    def next(self, *kinds: str) -> tuple[dict[str, Any], bytes]:
        """The next message of one of these kinds; others in between are passed over."""
        while True:
            raw = self.socket.receive_bytes()
            (length,) = struct.unpack(">I", raw[:4])
            header = json.loads(raw[4 : 4 + length])
            if header["kind"] in kinds:
                return header, raw[4 + length :]

    def say(self, **message: object) -> None:
        self.socket.send_text(json.dumps(message))

    def status(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The next status of which it holds; some of before may still stand in front of it."""
        header, _ = self.next("status")
        while not holds(header):
            header, _ = self.next("status")
        return header

    def settled(self) -> None:
        """The server has taken in what was said before: it answers every second at least."""
        self.next("status")
        self.next("status")


@pytest.fixture
def page(browser: TestClient) -> Iterator[Page]:
    with browser.websocket_connect(URL, headers={"Origin": "http://127.0.0.1"}) as socket:
        yield Page(socket)


def test_the_server_says_hello_with_its_version(page: Page) -> None:
    header, jpeg = page.next("hello")
    assert header["server"]
    assert jpeg == b""


def test_a_frame_travels_with_its_own_answer(page: Page, line: Line, jpeg: Pictures) -> None:
    page.say(subscribe={"cameras": ["rack"], "twin": False, "runs": []})
    picture = jpeg("blue")
    line.send(line.camera(picture))
    header, got = page.next("frame")
    assert (header["round"], header["camera"], header["prediction"]) == (1, "rack", None)
    assert got == picture
    page.say(ack=1)
    line.send(line.status(), line.prediction("blue", picture=picture))
    header, got = page.next("frame")
    assert header["round"] == 2
    assert header["prediction"]["frame"] == header["frame"]
    assert got == picture


def large(*, width: int = 1280, height: int = 960) -> bytes:
    """A busy picture of more pixels than a tile."""
    grain = np.random.default_rng(1).integers(90, 120, (height, width, 3))
    return encode_jpeg(grain.astype(np.uint8), quality=95)


def test_a_page_of_tiles_is_sent_a_small_image_and_others_the_frame_s_own_bytes(
    page: Page, line: Line
) -> None:
    picture = large()
    page.say(subscribe={"cameras": ["rack"], "image": "tile"})
    line.send(line.camera(picture))
    header, got = page.next("frame")
    assert decode_picture(got).shape == (480, 640, 3)
    assert (header["width_px"], header["height_px"]) == (1280, 960)
    assert len(got) < len(picture) / 4
    page.say(subscribe={"cameras": ["rack"]}, ack=1)
    line.send(line.status(), line.prediction("blue", picture=picture))
    header, got = page.next("frame")
    assert got == picture
    assert (header["width_px"], header["height_px"]) == (1280, 960)


@pytest.mark.parametrize(
    ("width", "height", "wanted"), [(1280, 400, (200, 640)), (400, 1280, (640, 200))]
)
def test_a_tile_s_longer_side_has_at_most_640_pixels(
    hub: Services, line: Line, *, width: int, height: int, wanted: tuple[int, int]
) -> None:
    line.send(line.camera(large(width=width, height=height)))
    shown = hub.cameras.shown("rack")
    assert shown is not None
    assert decode_picture(tile_jpeg(shown)).shape == (*wanted, 3)


def test_a_tile_is_the_frame_itself_where_that_has_fewer_bytes_or_cannot_be_read(
    hub: Services, line: Line
) -> None:
    line.send(line.camera(encode_jpeg(scene(), quality=40)))
    shown = hub.cameras.shown("rack")
    assert shown is not None
    assert tile_jpeg(shown) == shown.jpeg
    fine = replace(shown, jpeg=encode_jpeg(scene(), quality=98))
    assert len(tile_jpeg(fine)) < len(fine.jpeg) / 2
    broken = replace(shown, jpeg=fine.jpeg[:900])
    assert tile_jpeg(broken) == broken.jpeg


def test_a_tile_is_made_once_for_all_and_for_the_answer_to_its_frame(
    hub: Services, line: Line
) -> None:
    async def tiles() -> list[asyncio.Task[bytes]]:
        made: list[asyncio.Task[bytes]] = []
        picture = large()
        for message in (line.camera(picture), line.prediction("blue", picture=picture)):
            await asyncio.to_thread(line.send, line.status(), message)
            shown = hub.cameras.shown("rack")
            assert shown is not None
            made += [hub.live._tile("rack", shown), hub.live._tile("rack", shown)]
        await made[0]
        return made

    assert len(set(asyncio.run(tiles()))) == 1


def test_while_answers_come_a_frame_waits_for_its_answer(
    page: Page, line: Line, jpeg: Pictures
) -> None:
    page.say(subscribe={"cameras": ["rack"]})
    first, second = jpeg("blue", seed=1), jpeg("red", seed=2)
    line.send(line.status(), line.camera(first), line.prediction("blue", picture=first))
    header, _ = page.next("frame")
    while header["prediction"] is None:
        page.say(ack=header["round"])
        header, _ = page.next("frame")
    page.say(ack=header["round"])
    line.wait(0.2)
    line.send(line.camera(second))
    page.settled()
    line.send(line.prediction("red", picture=second))
    header, got = page.next("frame")
    assert got == second
    assert header["prediction"]["frame"]["id"] == header["frame"]["id"]


def test_an_answer_before_its_frame_is_shown_when_the_frame_comes(
    page: Page, line: Line, jpeg: Pictures
) -> None:
    page.say(subscribe={"cameras": ["rack"]})
    picture = jpeg("blue")
    line.send(line.status(), line.prediction("blue", picture=picture), line.camera(picture))
    header, got = page.next("frame")
    assert got == picture
    assert header["prediction"]["frame"]["id"] == header["frame"]["id"]


def test_a_page_that_does_not_acknowledge_gets_no_backlog(
    page: Page, line: Line, jpeg: Pictures
) -> None:
    page.say(subscribe={"cameras": ["rack"]})
    line.send(line.camera(jpeg(seed=0)))
    page.next("frame")
    for number in range(1, 6):
        line.wait(0.2)
        line.send(line.camera(jpeg(seed=number)))
    page.settled()
    page.say(ack=1)
    header, got = page.next("frame")
    assert header["round"] == 2
    assert got == jpeg(seed=5)


def test_a_hidden_page_gets_nothing_and_the_newest_when_it_returns(
    page: Page, line: Line, jpeg: Pictures, hub: Services
) -> None:
    page.say(subscribe={"cameras": ["rack"], "twin": True})
    page.next("twin")
    page.say(visible=False)
    (viewer,) = hub.live._viewers
    pause = threading.Event()
    while viewer.visible:
        pause.wait(0.01)
    line.send(line.camera(jpeg(seed=1)))
    line.see("blue")
    line.wait(0.2)
    line.send(line.camera(jpeg(seed=2)))
    page.say(visible=True)
    kinds = {page.next("frame", "twin")[0]["kind"], page.next("frame", "twin")[0]["kind"]}
    assert kinds == {"frame", "twin"}


def test_the_twin_comes_as_snapshot_then_as_patches_that_fit(
    page: Page, line: Line, hub: Services
) -> None:
    page.say(subscribe={"cameras": [], "twin": True})
    header, _ = page.next("twin")
    state = header["snapshot"]
    revision = header["revision"]
    assert state == json.loads(json.dumps(to_plain(hub.ledger.state), default=str))
    for colour in ("blue", "red"):
        line.wait(1)
        line.see(colour)
        while revision != hub.ledger.state.revision:
            header, _ = page.next("twin")
            assert header["base"] == revision
            state = jsonpatch.apply_patch(state, header["patch"])
            revision = header["revision"]
    assert state["slots"]["B1"]["seen"] == "present"
    assert state == json.loads(json.dumps(to_plain(hub.ledger.state), default=str))


def test_a_twin_page_is_sent_what_it_shows_whenever_that_changed(page: Page, line: Line) -> None:
    line.see("blue")
    page.say(subscribe={"parts": ["/twin"]})
    before, _ = page.next("twin", "part")
    assert "B1" in before["html"]
    line.wait(1)
    line.see("red")
    after, _ = page.next("twin", "part")
    assert after["revision"] > before["revision"]
    assert after["html"] != before["html"]
    page.say(subscribe={})
    page.say(subscribe={"parts": ["/twin"]})
    assert page.next("part")[0]["html"] == after["html"]


def test_parts_of_a_page_come_with_the_query_of_its_address(page: Page) -> None:
    parts = ["/lines/figures?line=warehouse&span=hour", "/lines/panels", "/lines/wall"]
    gone = "/lines/figures?line=gone"
    page.say(subscribe={"parts": [*parts, gone]})
    found = {one["href"]: one for one in (page.next("part")[0] for _ in (*parts, gone))}
    assert sorted(found) == sorted((*parts, gone))
    assert 'data-part="figures"' in found[parts[0]]["html"]
    stale = {href: one["html"] for href, one in found.items() if "stale" in one}
    assert stale == {gone: ""}, "a line that is gone has no figures"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("/models", "no part of a page"),
        ("", "no part of a page"),
        ("/lines/figures/more", "no part of a page"),
        ("//[", "no part of a page"),
        ("/lines/wall?span=x", "no span 'x'"),
    ],
)
def test_a_part_that_no_page_has_is_refused(page: Page, part: str, words: str) -> None:
    page.say(subscribe={"parts": [part]})
    with pytest.raises(WebSocketDisconnect) as refused:
        page.next("part")
    assert refused.value.code == BAD_MESSAGE
    assert words in refused.value.reason


def test_a_part_is_made_once_for_all_who_show_it_and_nobody_waits(
    hub: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lineside.hub.page_parts")
    made: list[str] = []
    go_on = threading.Event()

    def html(query: str) -> str:
        go_on.wait(LONG_S)
        made.append(query)
        if len(made) in {2, 3}:
            raise ValueError("a defect of a page")
        return f"<p>{len(made)}"

    async def watched() -> list[bytes]:
        live = hub.live
        live.parts.sources = {"/x": PartSource(html, every_s=0.0, ages_s=0.0)}
        live.start()
        found = [
            live.parts.message("/x?a=1"),
            live.parts.message("/x?a=1"),
        ]  # asked twice while it is made
        for _ in range(4):
            go_on.set()
            await live.parts._making["/x?a=1"]
            found.append(live.parts.message("/x?a=1"))  # which has it made again
        live.stop()
        return found

    first, second, *others = asyncio.run(watched())
    assert (first, second) == (b"", b"")
    assert [b"<p>1" in one for one in others] == [True, True, True, False], "it stays as it was"
    assert [b'"stale":true' in one for one in others] == [False, True, True, False]
    assert made[:4] == ["a=1"] * 4
    assert caplog.text.count("part of a page failed") == 1
    assert caplog.text.count("part of a page goes on") == 1


def test_a_part_that_others_were_sent_is_still_owed_to_this_one(hub: Services) -> None:
    state = hub.ledger.state
    hub.live.parts.sources = PARTS
    hub.live.parts._parts["/twin"] = _Part(state=state, made_s=0.0, html="new", message=b"new")
    shows = Subscription(parts=("/twin",))

    assert hub.live._is_behind(_Viewer(wanted=shows, parts={"/twin": b"old"}))
    assert not hub.live._is_behind(_Viewer(wanted=shows, parts={"/twin": b"new"}))
    assert not hub.live._is_behind(_Viewer(wanted=shows, parts={"/twin": b"old"}, visible=False))
    assert not hub.live._is_behind(_Viewer(parts={"/twin": b"old"}))


def test_subscribing_anew_without_twin_and_with_it_gives_a_snapshot_again(page: Page) -> None:
    page.say(subscribe={"twin": True})
    assert "snapshot" in page.next("twin")[0]
    page.say(subscribe={"twin": False})
    page.settled()
    page.say(subscribe={"twin": True})
    assert "snapshot" in page.next("twin")[0]


def test_status_names_what_the_page_shows_every_second(
    page: Page, line: Line, hub: Services
) -> None:
    line.send(line.status())
    hub.devices.enrol("edge-2")
    header, _ = page.next("status")
    assert (header["cameras"], header["devices"]) == ([], [])
    page.say(subscribe={"cameras": ["gate", "rack"], "devices": ["edge-1", "edge-9"]})
    header = page.status(lambda status: status["cameras"])
    assert [camera["id"] for camera in header["cameras"]] == ["rack", "gate"]
    assert header["cameras"][0]["state"] == "never"
    (device,) = header["devices"]
    assert (device["id"], device["state"], device["packages"]) == ("edge-1", "online", [])
    assert (header["reporting"], header["known"]) == (1, 2)
    page.say(subscribe={"cameras": ["gate"]})
    header = page.status(lambda status: len(status["cameras"]) == 1)
    assert [camera["id"] for camera in header["cameras"]] == ["gate"]
    assert header["devices"] == []


def test_a_status_is_no_longer_for_a_fleet_of_thousands(hub: Services, browser: TestClient) -> None:
    with hub.records.transaction():
        for number in range(2000):
            hub.devices.enrol(f"edge-{number:04}")
    with browser.websocket_connect(URL, headers={"Origin": "http://127.0.0.1"}) as socket:
        page = Page(socket)
        page.say(subscribe={"devices": ["edge-0001"]})
        header = page.status(lambda status: status["devices"])
    assert [one["id"] for one in header["devices"]] == ["edge-0001"]
    assert header["known"] == 2000
    assert len(json.dumps(header)) < 400


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"ack":"x"}', '{"what":1}', '{"subscribe":{"cameras":"rack"}}'),
        '{"subscribe":{"image":"huge"}}',
        json.dumps({"subscribe": {"devices": [f"edge-{n}" for n in range(201)]}}),
        json.dumps({"subscribe": {"cameras": [str(n) for n in range(65)]}}),
    ],
)
def test_a_message_that_is_none_closes_the_socket(page: Page, text: str) -> None:
    page.socket.send_text(text)
    with pytest.raises(WebSocketDisconnect) as closed:
        page.next("never")
    assert closed.value.code == 4400


def test_unknown_cameras_and_runs_are_passed_over(page: Page) -> None:
    page.say(subscribe={"cameras": ["roof"], "runs": ["run_0"]}, ack=99)
    page.settled()


def test_the_socket_is_closed_when_the_session_ends(page: Page, browser: TestClient) -> None:
    page.next("hello")
    browser.post("/sign-out", headers={"Origin": "http://127.0.0.1"}, follow_redirects=False)
    with pytest.raises(WebSocketDisconnect) as closed:
        page.next("never")
    assert closed.value.code == 4401


def test_a_socket_of_a_token_is_closed_when_the_token_is_revoked(
    hub: Services, nobody: TestClient
) -> None:
    token = hub.auth.issue_token("wall", kind="api")
    headers = {"Authorization": f"Bearer {token}"}
    with nobody.websocket_connect(URL, headers=headers) as socket:
        Page(socket).next("hello")
        hub.auth.revoke("wall")
        with pytest.raises(WebSocketDisconnect) as closed:
            Page(socket).next("never")
    assert closed.value.code == 4401


def test_nobody_is_sent_away_with_4401(nobody: TestClient) -> None:
    with nobody.websocket_connect(URL) as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_bytes()
    assert closed.value.code == 4401


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_socket_from_a_foreign_page_is_refused(
    browser: TestClient, headers: dict[str, str]
) -> None:
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect(URL, headers=headers):
        pass


def test_nobody_is_left_behind_when_a_page_leaves(hub: Services, browser: TestClient) -> None:
    with browser.websocket_connect(URL, headers={"Origin": "http://127.0.0.1"}) as socket:
        Page(socket).next("hello")
        assert hub.live.viewers == 1
    assert hub.live.viewers == 0


def test_a_page_that_leaves_while_a_message_is_under_way_is_no_failure(hub: Services) -> None:
    token = hub.auth.issue_token("wall", kind="api")
    broken = asyncio.Event()
    told: Iterator[MutableMapping[str, Any]] = iter(
        [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "{}"}]
    )

    async def receive() -> MutableMapping[str, Any]:
        message = next(told)
        if message["type"] == "websocket.receive":
            await broken.wait()
        return message

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.send":
            broken.set()
            raise ConnectionResetError

    scope = {
        "type": "websocket", "path": "/ws", "raw_path": b"/ws", "query_string": b"",
        "root_path": "", "scheme": "ws", "subprotocols": [], "extensions": {},
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())],
    }  # fmt: skip
    asyncio.run(create_app(hub)(scope, receive, send))
    assert hub.live.viewers == 0


def test_the_header_of_a_frame_is_made_once_for_all(
    hub: Services, line: Line, jpeg: Pictures
) -> None:
    line.send(line.camera(jpeg()))
    shown = hub.cameras.shown("rack")
    assert shown is not None
    one = hub.live._frame_header("rack", shown, number=1)
    two = hub.live._frame_header("rack", shown, number=22)
    assert json.loads(one)["round"] == 1
    assert json.loads(two)["round"] == 22
    assert hub.live._frame_headers["rack"][1] is hub.live._frame_headers["rack"][1]


def test_a_change_wakes_only_the_pages_that_show_it(
    hub: Services, line: Line, jpeg: Pictures
) -> None:
    viewers = {
        "rack": _Viewer(wanted=Subscription(cameras=("rack",))),
        "gate": _Viewer(wanted=Subscription(cameras=("gate",))),
        "still drawing": _Viewer(wanted=Subscription(cameras=("rack",)), round=1),
        "twin": _Viewer(wanted=Subscription(parts=("/twin",))),
        "figures": _Viewer(wanted=Subscription(parts=("/figures?line=a",))),
        "runs": _Viewer(wanted=Subscription(runs=("run_1",))),
    }

    hub.live.parts.sources = PARTS

    async def woken() -> set[str]:
        hub.live.start()
        hub.live._viewers.update(viewers.values())
        await asyncio.to_thread(line.send, line.camera(jpeg()))
        await asyncio.sleep(0)
        hub.live.stop()
        return {name for name, viewer in viewers.items() if viewer.changed.is_set()}

    assert asyncio.run(woken()) == {"rack", "twin"}


def test_the_twin_comes_as_server_sent_events_too(hub: Services, line: Line) -> None:
    async def first_two() -> list[bytes]:
        hub.live.start()
        stream = hub.live.twin_stream(_always)
        found = [await anext(stream)]
        await asyncio.to_thread(line.see, "blue")
        while True:
            message = await anext(stream)
            if message.startswith(b"event"):
                found.append(message)
                break
        await stream.aclose()  # type: ignore[attr-defined]  # an asynchronous generator
        hub.live.stop()
        return found

    async def _always() -> bool:
        return True

    snapshot, patch = asyncio.run(first_two())
    assert snapshot.startswith(b"event: snapshot\ndata: {")
    assert patch.startswith(b"event: patch\ndata: {")
    assert patch.endswith(b"\n\n")


def test_a_page_hears_of_the_rules_it_shows_and_of_no_others(
    config: HubConfig, plant: Plant, clock: FakeClock
) -> None:
    rule = rule_of('id = "seen"\nread = { plant = "message" }\nwindow = { size_s = 5 }')
    ruled = replace(plant, rule=(rule, replace(rule, id="other")))
    with open_hub(config, plant=ruled, clock=clock) as hub:
        hub.rules.load()
        with TestClient(create_app(hub), base_url="http://127.0.0.1") as browser:
            browser.get("/sign-in", params={"token": hub.auth.issue_link(name="anna")})
            with browser.websocket_connect(URL, headers={"Origin": "http://127.0.0.1"}) as socket:
                page = Page(socket)
                page.say(subscribe={"rules": ["seen", "nobody"]})
                (told,) = page.status(lambda status: status["rules"])["rules"]
    assert (told["id"], told["told_up_to"], told["figures"]["read"]) == ("seen", None, 0)
    assert {"given", "late", "evicted", "held", "behind"} <= told["figures"].keys()


def test_a_status_tells_how_far_rule_events_go_also_those_of_another_hub(
    page: Page, hub: Services
) -> None:
    def status() -> int:
        page.say(subscribe={})
        return int(page.next("status")[0]["rule_events"])

    before = status()
    event = person_event(EVENT_TYPE, subject="seen", site="demo", clock=hub.clock, data={})
    RecordsJournal(hub.records).record([event])
    assert status() == before
    hub.ledger.catch_up()
    while (now := status()) == before:
        pass
    assert now == hub.ledger.committed


def test_more_rules_than_a_page_may_show_are_refused(page: Page) -> None:
    page.say(subscribe={"rules": [f"r{n}" for n in range(201)]})
    with pytest.raises(WebSocketDisconnect) as closed:
        page.next("nothing")
    assert closed.value.code == 4400
