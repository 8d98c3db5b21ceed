"""Browsers at a hub's live socket without a screen, and the line that gives them something to show.

A browser here speaks what ``pages/static/js`` speaks: its own session and connection, the
subscription of its page, an acknowledgement for each round once the frame would be drawn (a tile
draws four frames a second at most). Parts of its page (figures, panels, the twin) come by the
socket too.
"""

import asyncio
import json
import struct
import threading
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx2

from lineside.core import Digest, SystemClock, digest_of, encode, frame_id, parse_rfc3339, rfc3339
from lineside.core.factory import SLOTS
from lineside.links import Bus, open_bus
from lineside.streams import encode_event, prediction_event
from lineside.vision import (
    Decision,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)

DRAWN_EVERY_S = 0.25
DECODED_AFTER_S = 0.005
CLASSES = ("empty", "blue", "red", "white")
SITE, LINE, DEVICE = "demo", "warehouse", "edge-1"


class Browser:
    """One page that is open.

    Attributes:
        arrivals: of each change its name (frame, or revision of the twin) and when it was there.
    """

    def __init__(self, url: str, *, cookie: str, cameras: tuple[str, ...], twin: bool) -> None:
        self._url = url
        self._cookie = cookie
        self._cameras = cameras
        self._twin = twin
        self._drawn = dict.fromkeys(cameras, 0.0)
        self.arrivals: list[tuple[str, float]] = []
        self.received = 0

    async def stay(self) -> None:
        """Look on until cancelled."""
        place = urlsplit(self._url)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            lambda: PageSocket(self._url, cookie=self._cookie, page=self),
            place.hostname or "",
            place.port or 80,
        )
        try:
            await asyncio.Event().wait()
        finally:
            transport.close()

    @property
    def subscription(self) -> dict[str, object]:
        """What its page shows."""
        if self._twin:
            return {"parts": ["/twin"]}
        parts = ["/lines/figures", "/lines/panels"]
        return {"cameras": self._cameras, "image": "tile", "parts": parts}

    def hear(self, header: dict[str, Any], size: int, *, socket: "PageSocket") -> None:
        """Note a message whose header is there."""
        now = monotonic()
        self.received += size
        if header["kind"] == "part" and self._twin:
            self.arrivals.append((f"twin {header['revision']}", now))
        elif header["kind"] == "frame":
            if header["prediction"]:
                self.arrivals.append((header["frame"]["id"], now))
            camera = header["camera"]
            drawn = max(now, self._drawn[camera] + DRAWN_EVERY_S) + DECODED_AFTER_S
            self._drawn[camera] = drawn
            loop = asyncio.get_running_loop()
            loop.call_later(drawn - now, socket.say, {"ack": header["round"]})


class PageSocket(asyncio.Protocol):
    """A web socket that reads the header of each message and passes over its image.

    Two hundred browsers have as many machines; here they share one, so that each has to be cheap.
    """

    def __init__(self, url: str, *, cookie: str, page: Browser) -> None:
        self._url = url
        self._cookie = cookie
        self._page = page
        self._head = bytearray()
        self._skip = 0
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = b64encode(bytes(16)).decode()
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: {urlsplit(self._url).netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Origin: {self._url}\r\nCookie: {self._cookie}\r\n\r\n".encode()
        )

    def say(self, message: dict[str, object]) -> None:
        """Send a text message."""
        self._send(json.dumps(message).encode(), opcode=1)

    def _send(self, payload: bytes, *, opcode: int) -> None:
        """One frame (RFC 6455, 5.2), with a mask of zeros."""
        if not self._transport.is_closing():
            head = struct.pack(">BBH", 0x80 | opcode, 0xFE, len(payload))
            self._transport.write(head + bytes(4) + payload)

    def data_received(self, data: bytes) -> None:
        passed = min(self._skip, len(data))
        self._skip -= passed
        self._head += memoryview(data)[passed:]
        if not self._is_open and b"\r\n\r\n" in self._head:
            answer, _, rest = self._head.partition(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101"):
                raise SystemExit(answer.decode())
            self._head, self._is_open = rest, True
            self.say({"subscribe": self._page.subscription})
        while self._is_open and self._take():
            pass

    def _take(self) -> bool:
        """Take one message of which the header is there; False where there is none."""
        head = self._head
        if len(head) < 10:
            return False
        opcode, size, begin = head[0] & 15, head[1] & 127, 2
        if size >= 126:
            begin = 4 if size == 126 else 10
            size = int.from_bytes(head[2:begin])
        if opcode == 2:
            (length,) = struct.unpack_from(">I", head, begin) if len(head) >= begin + 4 else (0,)
            end = begin + 4 + length
            if not length or len(head) < end:
                return False
            self._page.hear(json.loads(head[begin + 4 : end]), size, socket=self)
        elif len(head) < begin + size:
            return False
        elif opcode == 9:
            self._send(bytes(head[begin : begin + size]), opcode=10)
        whole = begin + size
        self._skip = max(0, whole - len(head))
        del head[:whole]
        return True


async def sign_in(url: str, path: str) -> str:
    """The cookie of a new session by a link."""
    async with httpx2.AsyncClient(base_url=url) as client:
        answer = await client.get(path)
    cookie: str = answer.headers["set-cookie"]
    return cookie.partition(";")[0]


async def watching(
    browsers: list[Browser], *, settle_s: float, seconds: float, began: threading.Event
) -> None:
    """All of them for a while; what they heard while they came is forgotten."""
    async with asyncio.TaskGroup() as tasks:
        stays = []
        for one in browsers:
            stays.append(tasks.create_task(one.stay()))
            await asyncio.sleep(settle_s / 2 / len(browsers))
        await asyncio.sleep(settle_s / 2)
        for one in browsers:
            one.arrivals.clear()
            one.received = 0
        began.set()
        await asyncio.sleep(seconds)
        for stay in stays:
            stay.cancel()


# ---- the line


class Line:
    """Cameras whose pictures come with their answers, evenly spaced."""

    def __init__(self, bus: Bus, *, pictures: list[bytes], cameras: Mapping[str, str]) -> None:
        """``cameras``: the topic of each."""
        self._bus = bus
        self._pictures = pictures
        self._topics = dict(cameras)
        self._clock = SystemClock()
        self._number = 0
        self._first = int(monotonic() * 1000)  # no sequence number twice, also by the next line
        self.sent: dict[str, float] = {}
        self.behind_s = 0.0

    def run(self, *, per_s: float, stop: threading.Event) -> None:
        """Send until told to stop; ``sent`` gets the moment of each answer by its frame."""
        begin = monotonic()
        while not stop.wait(max(0.0, begin + self._number / per_s - monotonic())):
            self.behind_s = max(self.behind_s, monotonic() - begin - self._number / per_s)
            self.send()

    def send(self) -> None:
        """The next picture and what was found on it."""
        self._number += 1
        camera = list(self._topics)[self._number % len(self._topics)]
        picture = self._pictures[self._number % len(self._pictures)]
        at = parse_rfc3339(rfc3339(self._clock.now()), where="now")  # as messages carry it
        digest = digest_of(picture)
        frame = FrameRef(
            id=frame_id(camera=camera, captured_at=at, digest=digest),
            camera=camera, captured_at=at, digest=digest,
        )  # fmt: skip
        self._bus.publish_soon(self._topics[camera], picture_message(picture, at=at))
        event = prediction_event(
            answer_to(frame, self._number), site=SITE, device=DEVICE,
            sequence=self._first + self._number, first=self._first,
        )  # fmt: skip
        self.sent[frame.id] = monotonic()
        self._bus.publish_soon(f"lineside/{SITE}/{LINE}/{camera}/prediction", encode_event(event))

    def say_online(self) -> None:
        """The device's status."""
        body = {
            "schema": "lineside.device/1", "device": DEVICE, "state": "online",
            "version": "0.1.0", "at": rfc3339(self._clock.now()), "packages": [],
            "spool_depth": 0,
        }  # fmt: skip
        self._bus.publish(f"lineside/{SITE}/device/{DEVICE}/status", encode(body), retain=True)


def picture_message(picture: bytes, *, at: datetime) -> bytes:
    """A picture as the factory's camera sends it."""
    data = "data:image/jpeg;base64," + b64encode(picture).decode()
    return encode({"ts": rfc3339(at), "data": data})


def answer_to(frame: FrameRef, number: int) -> Prediction:
    """Nine places on the rack, another colour in one of them each time; else a scratch or none."""
    stock = frame.camera == "rack"
    if stock:
        seen = {slot: CLASSES[(number + at) % 4] for at, slot in enumerate(SLOTS)}
        labels = [_label(f"{slot}/{name}", slot, name, is_it=seen[slot] == name)
                  for slot in SLOTS for name in CLASSES]  # fmt: skip
    else:
        labels = [_label("scratch", "", "scratch", is_it=number % 50 == 0)]
    return Prediction(
        frame=frame, inspection="stock" if stock else f"look-{frame.camera}", task="multilabel",
        state=PictureState.OK, labels=tuple(labels), package=Digest(digest_of(b"package")),
        dataset="rack/1", registration=RegistrationFigures(state="still"),
        health=HealthFigures(sharpness=120.0, mean_grey=100.0, clipped_share=0.0),
        latency_ms=StageTimes(total=12.5), device=DEVICE,
    )  # fmt: skip


def _label(name: str, region: str, label: str, *, is_it: bool) -> LabelAnswer:
    return LabelAnswer(
        name=name, region=region, label=label, probability=0.97 if is_it else 0.01,
        decision=Decision.PRESENT if is_it else Decision.ABSENT,
    )  # fmt: skip


def open_line(url: str, *, pictures: list[bytes], cameras: Mapping[str, str]) -> tuple[Bus, Line]:
    """The line's own connection to the bus; the caller closes it."""
    bus = open_bus(url, client_id="line", clock=SystemClock())
    return bus, Line(bus, pictures=pictures, cameras=cameras)
