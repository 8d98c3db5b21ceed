"""Live view: the newest image and prediction of each camera, and the socket that sends them.

Cameras, kept in memory:

1. An image and its prediction are shown together or not at all: a prediction joins the frame it
   names. While predictions come, the newest frame with one is shown; when they stop, the newest
   frame alone. Predictions of several inspections stand together, in the plant file's order.

The socket, as fast as the page acknowledges and no faster:

2. A message is ``u32 header length | JSON header | JPEG or nothing``; image and prediction travel
   together.
3. A round is sent when the last one was acknowledged. A slow or hidden browser gets fewer
   images, never a backlog.
4. The twin comes as a snapshot, then as patches from the revision the page holds; a page that
   missed one gets a snapshot again.
5. The header and the JPEG of a frame are made once for all viewers. So is the tile, a small JPEG,
   for those who ask for it: at most 640 px on the longer side, or the frame's own bytes where they
   are fewer. So is a part of a page (figures, panels, the twin), while no page waits for it; it is
   sent where it differs from what was sent before.
6. Status names the cameras, devices and rules that the page asked for, and how many devices there
   are: a fleet of thousands costs a page with one tile nothing.
7. When the session ends the socket is closed with 4401.
"""

import asyncio
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Literal, cast, get_args

from lineside.core import (
    Clock,
    InvalidError,
    Json,
    NotFoundError,
    Plant,
    RefusedError,
    decode,
    encode,
    to_plain,
)
from lineside.core.plant import Camera
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.learning.jobs import Runs
from lineside.hub.page_parts import PageParts, PartSource, framed
from lineside.hub.rules.service import Rules
from lineside.hub.views import CameraView
from lineside.models.camera_faults import CameraFault, CameraWatch
from lineside.store import FrameRow, Records
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, decode_event, read_prediction
from lineside.twin import LineState, patch
from lineside.vision import (
    FrameRef,
    HealthFigures,
    Prediction,
    check_picture,
    decode_picture,
    encode_jpeg,
)
from lineside.web.answers import summary
from lineside.web.format import number

_KEPT_FRAMES = 16
UNANSWERED_AFTER = timedelta(seconds=1.5)
_PNG = b"\x89PNG"
_TILE_PX = 640

CameraState = Literal[
    "live", "no signal", "never", "moved", "dark", "overexposed", "blurred", "frozen"
]
"""State of a camera; all but the first three are faults of its pictures."""
_STATES = get_args(CameraState)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveFrame:
    """The newest shown frame of a camera, its JPEG, and the predictions for this very frame.

    ``also``: of further inspections; ``width_px`` and ``height_px``: of the upright frame.
    """

    ref: FrameRef
    jpeg: bytes
    width_px: int
    height_px: int
    prediction: Prediction | None
    also: tuple[Prediction, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Camera:
    """One camera."""

    frames: OrderedDict[str, tuple[FrameRow, bytes]] = field(default_factory=OrderedDict)
    newest: FrameRow | None = None
    shown: LiveFrame | None = None
    last: Prediction | None = None
    last_event: str = ""
    answers: dict[str, tuple[Prediction, str]] = field(default_factory=dict)
    arrived_s: float | None = None
    arrived_at: datetime | None = None
    watch: CameraWatch = field(default_factory=CameraWatch)


class LiveCameras:
    """Frames and answers as they come; safe from several threads."""

    def __init__(self, records: Records, *, plant: Plant, clock: Clock) -> None:
        self._records = records
        self._plant = plant
        self._clock = clock
        self._started_s = clock.monotonic()
        self._lock = threading.Lock()
        self._cameras = {camera.id: _Camera() for camera in plant.camera}
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call with the camera's id whenever there is something new to show."""
        self._listeners.append(listener)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every camera's id, in the plant file's order."""
        return tuple(camera.id for camera in self._plant.camera)

    def declare(self) -> None:
        """Take over the cameras of a changed plant; one that is gone keeps what came of it."""
        with self._lock:
            for camera in self._plant.camera:
                self._cameras.setdefault(camera.id, _Camera())

    def load(self) -> None:
        """After a start: the newest frame and answer of each camera, from the store."""
        for camera, entry in self._cameras.items():
            entry.newest = self._records.frames.newest(camera)
            entry.arrived_at = entry.newest.arrived_at if entry.newest else None
        for inspection in self._plant.inspection:
            entry = self._cameras[inspection.camera]
            page = self._records.log.read(
                type=PREDICTION_TYPE, subject=inspection.id, newest_first=True, limit=1
            )
            for logged in page:
                event = decode_event(logged.entry.body, where=logged.entry.id)
                self._hold(entry, read_prediction(event), event=event.id)

    def frame(self, row: FrameRow, encoded: bytes, health: HealthFigures | None = None) -> None:
        """A frame was stored, with these bytes; ``health``: figures of its small picture."""
        camera = row.camera
        with self._lock:
            entry = self._cameras[camera]
            entry.arrived_s, entry.arrived_at = self._clock.monotonic(), row.arrived_at
            declared = self._declared(camera)
            if declared is not None:
                entry.watch.take_frame(_frame_ref(row), health=health, camera=declared)
            if entry.newest is None or row.captured_at >= entry.newest.captured_at:
                entry.newest = row
            entry.frames[row.id] = row, encoded
            while len(entry.frames) > _KEPT_FRAMES:
                entry.frames.popitem(last=False)
            answered = bool(entry.last and entry.last.frame.id == row.id)
            shows = answered or self._unanswered(entry, row)
        if shows:
            self._show(row, encoded)

    def prediction(self, prediction: Prediction, event: str) -> None:
        """An answer was stored."""
        camera = prediction.frame.camera
        with self._lock:
            entry = self._cameras[camera]
            entry.watch.take_answer(prediction)
            if not self._hold(entry, prediction, event=event):
                return
            frame = entry.frames.get(prediction.frame.id)
        if frame is not None:
            self._show(*frame)

    def _hold(self, entry: _Camera, prediction: Prediction, *, event: str) -> bool:
        """Keep an answer beside those to the same frame; False for one to an older frame."""
        if entry.last and prediction.frame.captured_at < entry.last.frame.captured_at:
            return False
        same = entry.last is not None and entry.last.frame.id == prediction.frame.id
        held = entry.answers if same else {}
        held[prediction.inspection] = (prediction, event)
        order = [one.id for one in self._plant.inspection if one.id in held]
        entry.answers = {name: held[name] for name in order}
        entry.last, entry.last_event = next(iter(entry.answers.values()))
        return True

    def _unanswered(self, entry: _Camera, row: FrameRow) -> bool:
        """Nothing answers this camera lately, so the bare picture is shown."""
        last = entry.shown.prediction if entry.shown else None
        return last is None or not is_still_shown(last, row)

    def _show(self, row: FrameRow, encoded: bytes) -> None:
        """A frame with the answers that are there when it is put in its place."""
        camera, jpeg = row.camera, _jpeg(encoded)
        with self._lock:
            entry = self._cameras[camera]
            shown = entry.shown
            if shown and row.captured_at < shown.ref.captured_at:
                return
            answered = entry.last.frame if entry.last else None
            if (
                answered
                and answered.captured_at > row.captured_at
                and (answered.id in entry.frames)
            ):
                return  # a newer frame was answered meanwhile and is shown instead
            of_it = answered is not None and answered.id == row.id
            predictions = tuple(one for one, _ in entry.answers.values()) if of_it else ()
            entry.shown = LiveFrame(
                ref=_frame_ref(row),
                jpeg=jpeg,
                width_px=row.width_px,
                height_px=row.height_px,
                prediction=predictions[0] if predictions else None,
                also=predictions[1:],
            )
        for listener in self._listeners:
            listener(camera)

    def shown(self, camera: str) -> LiveFrame | None:
        """The frame shown of this camera now; None before the first one since the start."""
        with self._lock:
            entry = self._cameras.get(camera)
            return entry.shown if entry else None

    def finished(self, row: FrameRow, health: HealthFigures) -> None:
        """The small picture of a frame was made later than the frame was stored."""
        with self._lock:
            entry, declared = self._cameras.get(row.camera), self._declared(row.camera)
            if entry is not None and declared is not None:
                entry.watch.take_health(_frame_ref(row), health=health, camera=declared)

    def _declared(self, camera: str) -> Camera | None:
        """The camera in the plant file; None where it was removed while its frame came."""
        return next((one for one in self._plant.camera if one.id == camera), None)

    def state(self, camera: str) -> tuple[CameraState, datetime | None]:
        """``live`` while usable pictures come, and since when they do not."""
        with self._lock:
            return self._state(camera)

    def count(self) -> tuple[int, int]:
        """Return how many cameras send usable pictures now, and how many there are."""
        with self._lock:
            states = [self._state(camera)[0] for camera in self.ids]
        return states.count("live"), len(states)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return for each camera its state and the age of its newest frame, for ``/metrics``."""
        now, found = self._clock.now(), {}
        for camera in self.ids:
            with self._lock:
                current, newest = self._state(camera)[0], self._cameras[camera].newest
            figures = {f"state_{state}": float(state == current) for state in _STATES}
            if newest is not None:
                figures["frame_age_s"] = (now - newest.captured_at).total_seconds()
            found[camera] = figures
        return found

    def fault(self, camera: str) -> CameraFault | None:
        """Fault of its pictures; None where they are usable, or none come."""
        with self._lock:
            return self._fault(self._cameras[camera])

    def is_heard(self, camera: str) -> bool:
        """Return whether it sent a picture since the start, or was silent for too long since."""
        limit_s = self._plant.find_camera(camera).silent_after_s
        with self._lock:
            heard = self._cameras[camera].arrived_s is not None
        return heard or self._clock.monotonic() - self._started_s > limit_s

    def _fault(self, entry: _Camera) -> CameraFault | None:
        if entry.newest is None:
            return None
        return entry.watch.fault(since=entry.newest.captured_at - UNANSWERED_AFTER)

    def _state(self, camera: str) -> tuple[CameraState, datetime | None]:
        entry = self._cameras[camera]
        if entry.arrived_at is None:
            return "never", None
        arrived_s = -math.inf if entry.arrived_s is None else entry.arrived_s
        limit_s = self._plant.find_camera(camera).silent_after_s
        if self._clock.monotonic() - arrived_s > limit_s:
            return "no signal", entry.arrived_at
        if fault := self._fault(entry):
            return cast("CameraState", fault.state), fault.since
        return "live", entry.arrived_at

    # ---- as the API and the pages ask

    def all(self) -> tuple[CameraView, ...]:
        """Every camera, in the plant file's order."""
        return tuple(self.one(camera.id) for camera in self._plant.camera)

    def one(self, camera_id: str) -> CameraView:
        """``NotFoundError`` lists the known ones."""
        if camera_id not in self.ids:
            known = ", ".join(self.ids) or "none"
            raise NotFoundError("no such camera", where=camera_id, fix=f"Known: {known}.")
        camera = self._plant.find_camera(camera_id)
        with self._lock:
            state, since = self._state(camera_id)
            entry = self._cameras[camera_id]
            newest, last, event = entry.newest, entry.last, entry.last_event
            fault = self._fault(entry)
            also = tuple(one for one, _ in list(entry.answers.values())[1:])
        return CameraView(
            id=camera.id, name=camera.name or camera.id, line=camera.line,
            inspections=tuple(i.id for i in self._plant.inspection if i.camera == camera.id),
            state=state, since=since, newest=newest, prediction=last, event=event,
            also=also, fault=fault if state not in {"live", "no signal", "never"} else None,
        )  # fmt: skip


def is_still_shown(prediction: Prediction, newest: FrameRow) -> bool:
    """Return True while a camera's last prediction stays shown with its frame.

    Not yet where the newest stored frame is older: an answer may come before its own frame.
    """
    age = newest.captured_at - prediction.frame.captured_at
    return timedelta(0) <= age <= UNANSWERED_AFTER


def _frame_ref(row: FrameRow) -> FrameRef:
    return FrameRef(
        id=row.id, camera=row.camera, captured_at=row.captured_at, digest=row.digest,
        sequence=row.sequence, part=row.part,
    )  # fmt: skip


def _jpeg(encoded: bytes) -> bytes:
    """The bytes as they came; a PNG is encoded once for everybody who looks on."""
    return encode_jpeg(decode_picture(encoded)) if encoded.startswith(_PNG) else encoded


def tile_jpeg(shown: LiveFrame) -> bytes:
    """A JPEG of at most 640 px on the longer side, or the frame's own where that is less."""
    width_px = min(_TILE_PX, max(1, _TILE_PX * shown.width_px // max(1, shown.height_px)))
    try:
        small = check_picture(shown.jpeg, width_px=width_px, max_bytes=len(shown.jpeg)).thumbnail
    except InvalidError:  # stored after a quick check; what it is, the thumbnail worker finds
        return shown.jpeg
    return min(shown.jpeg, small, key=len)


logger = logging.getLogger(__name__)

_STATUS_EVERY_S = 1.0
_TWIN_EVERY_S = 0.025
_MOST_CAMERAS = 64
_MOST_RUNS = 16
_MOST_DEVICES = 200
_MOST_RULES = 200
_MOST_PARTS = 4
_SESSION_CHECK_S = 2.0
_IDLE_S = 10.0

SESSION_OVER = 4401
BAD_MESSAGE = 4400

SendBytes = Callable[[bytes], Awaitable[None]]


Shows = Callable[[str, LiveFrame], Json]


class SessionOverError(RefusedError):
    """The session behind a socket ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Names of the things a page shows; nothing else is sent.

    ``image``: see rule 5. ``parts``: addresses of parts of pages: ``/lines/figures?line=a``.
    """

    cameras: tuple[str, ...] = ()
    image: Literal["original", "tile"] = "original"
    twin: bool = False
    parts: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, named, most in (
            ("cameras", self.cameras, _MOST_CAMERAS),
            ("runs", self.runs, _MOST_RUNS),
            ("devices", self.devices, _MOST_DEVICES),
            ("rules", self.rules, _MOST_RULES),
            ("parts", self.parts, _MOST_PARTS),
        ):
            if len(named) > most:
                raise InvalidError(
                    f"{len(named)} {what}, at most {most} are sent to one page",
                    where=f"subscribe.{what}",
                    fix="Ask for those that are shown.",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMessage:
    """One text message of a page; each key alone or together."""

    subscribe: Subscription | None = None
    ack: int | None = None
    visible: bool | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class _Viewer:
    """One open page."""

    wanted: Subscription = field(default_factory=Subscription)
    is_new: bool = False  # it has said what it shows, and no status was sent for that
    round: int = 0
    acked: int = 0
    visible: bool = True
    sent_frame: dict[str, LiveFrame] = field(default_factory=dict)
    twin: LineState | None = None
    parts: dict[str, bytes] = field(default_factory=dict)
    runs: dict[str, bytes] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def may_send(self) -> bool:
        return self.visible and self.acked >= self.round


class LiveFeed:
    """All open sockets and streams, and what each of them was sent.

    Attributes:
        load_pages: called before the first socket; returns what a page shows of a frame, as
            ``shown`` in its header, and parts of pages by the path of their address.
    """

    def __init__(
        self,
        *,
        cameras: LiveCameras,
        ledger: Ledger,
        devices: DeviceRegistry,
        runs: Runs,
        rules: Rules,
    ) -> None:
        self._cameras = cameras
        self._rules = rules
        self._ledger = ledger
        self._devices = devices
        self._runs = runs
        self._viewers: set[_Viewer] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._frame_headers: dict[str, tuple[LiveFrame, bytes]] = {}
        self._tiles: dict[str, tuple[str, asyncio.Task[bytes]]] = {}
        self._counted: tuple[float, tuple[int, int]] = (0.0, (0, 0))
        self._patched: tuple[LineState, LineState, bytes] | None = None
        self.count_alerts: Callable[[], int] = lambda: 0
        self.load_pages: Callable[[], tuple[Shows, Mapping[str, PartSource]]] | None = None
        self._shows: Shows = lambda _camera, _shown: None
        self.parts = PageParts(
            ledger, made=lambda href: self._wake_those(lambda one: href in one.wanted.parts)
        )
        self._hello = framed(encode({"kind": "hello", "server": version("lineside")}))
        cameras.listen(
            lambda camera: self._wake(lambda one: one.may_send and camera in one.wanted.cameras)
        )
        ledger.listen(
            lambda _commit: self._wake(
                lambda one: one.wanted.twin or any(map(self.parts.follows_twin, one.wanted.parts))
            )
        )
        runs.listen(lambda _run: self._wake(lambda one: bool(one.wanted.runs)))

    @property
    def viewers(self) -> int:
        """Number of open sockets."""
        return len(self._viewers)

    def start(self) -> None:
        """Called on the event loop before the first socket."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Wake nobody from now on."""
        self._loop = None
        self._tiles.clear()  # of this loop
        self.parts.stop()

    def _wake(self, concerns: Callable[[_Viewer], bool]) -> None:
        """Let those viewers look again whom a change concerns: a commit is news to few pages."""
        loop = self._loop
        if loop is not None and self._viewers:
            try:
                loop.call_soon_threadsafe(self._wake_those, concerns)
            except RuntimeError:  # the loop closed in between
                self._loop = None

    def _wake_those(self, concerns: Callable[[_Viewer], bool]) -> None:
        for viewer in self._viewers:
            if concerns(viewer):
                viewer.changed.set()

    # ---- one socket

    async def serve(self, socket: "Socket") -> None:
        """Talk to one page until it leaves or its session ends."""
        if self.load_pages:
            (self._shows, self.parts.sources), self.load_pages = self.load_pages(), None
        viewer = _Viewer()
        self._viewers.add(viewer)
        try:
            async with asyncio.TaskGroup() as tasks:
                others = [
                    tasks.create_task(self._write(viewer, socket.send)),
                    tasks.create_task(_guard(socket)),
                ]
                await self._read(viewer, socket)
                for task in others:
                    task.cancel()
        except* SessionOverError:
            await socket.close(SESSION_OVER, "the session is over")
        except* InvalidError as group:
            await socket.close(BAD_MESSAGE, str(group.exceptions[0])[:100])
        finally:
            self._viewers.discard(viewer)

    async def twin_stream(self, signed_in: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """The twin as server-sent events: a snapshot, then patches, a comment while idle."""
        viewer = _Viewer(wanted=Subscription(twin=True))
        self._viewers.add(viewer)
        try:
            while await signed_in():
                viewer.changed.clear()  # first: what changes from here on wakes the wait below
                state = self._ledger.state
                if viewer.twin is not state:
                    message = self._twin_message(viewer.twin, state)
                    kind = b"snapshot" if viewer.twin is None else b"patch"
                    viewer.twin = state
                    if message:
                        yield b"event: %s\ndata: %s\n\n" % (kind, message)
                try:
                    async with asyncio.timeout(_IDLE_S):
                        await viewer.changed.wait()
                    await asyncio.sleep(_TWIN_EVERY_S)
                except TimeoutError:
                    yield b": idle\n\n"
        finally:
            self._viewers.discard(viewer)

    async def _read(self, viewer: _Viewer, socket: "Socket") -> None:
        while (text := await socket.receive()) is not None:
            message = decode(PageMessage, text, where="socket")
            if message.subscribe is not None:
                self.parts.check(message.subscribe.parts)
                viewer.wanted, viewer.is_new = message.subscribe, True
                viewer.twin = None if not message.subscribe.twin else viewer.twin
                viewer.parts.clear()
            if message.ack is not None:
                viewer.acked = max(viewer.acked, min(message.ack, viewer.round))
            if message.visible is not None:
                viewer.visible = message.visible
            viewer.changed.set()

    async def _write(self, viewer: _Viewer, send: SendBytes) -> None:
        await send(self._hello)
        loop = asyncio.get_running_loop()
        status_at, twin_at = loop.time() + _STATUS_EVERY_S, loop.time()
        while True:
            if viewer.is_new or loop.time() >= status_at:
                viewer.is_new, status_at = False, loop.time() + _STATUS_EVERY_S
                await self._send_status(viewer, send)
            await self._send_frames(viewer, send)
            if loop.time() >= twin_at:
                twin_at = loop.time() + _TWIN_EVERY_S
                await self._send_twin(viewer, send)
                await self._send_parts(viewer, send)
            await self._send_runs(viewer, send)
            wake_at = min(status_at, twin_at) if self._is_behind(viewer) else status_at
            try:
                async with asyncio.timeout_at(wake_at):
                    await viewer.changed.wait()
            except TimeoutError:
                continue
            viewer.changed.clear()

    async def _send_frames(self, viewer: _Viewer, send: SendBytes) -> None:
        if not viewer.may_send:
            return
        news: list[tuple[str, LiveFrame]] = []
        for camera in viewer.wanted.cameras:
            shown = self._cameras.shown(camera)
            if shown is not None and viewer.sent_frame.get(camera) is not shown:
                news.append((camera, shown))
        if not news:
            return
        viewer.round += 1
        small = viewer.wanted.image == "tile"
        tiles = [self._tile(camera, shown) for camera, shown in news] if small else []
        for place, (camera, shown) in enumerate(news):
            viewer.sent_frame[camera] = shown
            jpeg = await asyncio.shield(tiles[place]) if small else shown.jpeg
            await send(framed(self._frame_header(camera, shown, number=viewer.round), jpeg))

    def _tile(self, camera: str, shown: LiveFrame) -> asyncio.Task[bytes]:
        """The tile of a frame, made once for all viewers, with its answer or before."""
        held = self._tiles.get(camera)
        if held is None or held[0] != shown.ref.id:
            made = asyncio.create_task(asyncio.to_thread(tile_jpeg, shown))
            held = self._tiles[camera] = (shown.ref.id, made)
        return held[1]

    def _frame_header(self, camera: str, shown: LiveFrame, *, number: int) -> bytes:
        header = self._frame_headers.get(camera)
        if header is None or header[0] is not shown:
            shared = encode(
                {
                    "kind": "frame", "camera": camera, "frame": shown.ref,
                    "width_px": shown.width_px, "height_px": shown.height_px,
                    "prediction": shown.prediction, "also": shown.also,
                    "shown": self._shows(camera, shown),
                }
            )  # fmt: skip
            header = (shown, shared)
            self._frame_headers[camera] = header
        return b'{"round":%d,' % number + header[1][1:]

    def _is_behind(self, viewer: _Viewer) -> bool:
        """Return whether the twin, or a part that goes by it, changed since this was sent."""
        state = self._ledger.state
        return viewer.visible and (
            (viewer.wanted.twin and viewer.twin is not state)
            or any(
                self.parts.owes(href, viewer.parts.get(href, b"")) for href in viewer.wanted.parts
            )
        )

    async def _send_twin(self, viewer: _Viewer, send: SendBytes) -> None:
        state = self._ledger.state
        if not (viewer.wanted.twin and viewer.visible) or viewer.twin is state:
            return
        message = self._twin_message(viewer.twin, state)
        viewer.twin = state
        if message:
            await send(framed(message))

    async def _send_parts(self, viewer: _Viewer, send: SendBytes) -> None:
        for href in viewer.wanted.parts if viewer.visible else ():
            message = self.parts.message(href)
            if message and viewer.parts.get(href) != message:
                viewer.parts[href] = message
                await send(message)

    def _twin_message(self, before: LineState | None, after: LineState) -> bytes:
        """A snapshot, or the patch between two revisions, made once for all who hold them."""
        if before is None:
            snapshot = {"kind": "twin", "revision": after.revision, "snapshot": to_plain(after)}
            return encode(snapshot)
        held = self._patched
        if held is None or held[0] is not before or held[1] is not after:
            operations = patch(before, after)
            message = {
                "kind": "twin", "revision": after.revision, "base": before.revision,
                "patch": operations,
            }  # fmt: skip
            held = self._patched = (before, after, encode(message) if operations else b"")
        return held[2]

    async def _send_runs(self, viewer: _Viewer, send: SendBytes) -> None:
        if not viewer.visible:
            return
        for run_id in viewer.wanted.runs:
            try:
                message = encode({"kind": "run", "run": self._runs.one(run_id)})
            except NotFoundError:
                continue
            if viewer.runs.get(run_id) != message:
                viewer.runs[run_id] = message
                await send(framed(message))

    async def _send_status(self, viewer: _Viewer, send: SendBytes) -> None:
        if viewer.visible:
            await send(framed(encode(self._status(viewer.wanted))))

    def _status(self, wanted: Subscription) -> dict[str, Any]:
        """The cameras and devices of one page in a word each, and how many devices report."""
        cameras: list[dict[str, Any]] = []
        for camera in self._cameras.ids:
            if camera in wanted.cameras:
                state, since = self._cameras.state(camera)
                cameras.append({"id": camera, "state": state, "since": since})
        devices = [
            {"id": one.id, "state": one.state, "at": one.at, "packages": one.packages}
            for one in self._devices.some(wanted.devices)
        ]
        reporting, known = self._count()
        live, declared = self._cameras.count()
        return {
            "kind": "status", "cameras": cameras, "devices": devices, "reporting": reporting,
            "known": known, "live": live, "declared": declared, "alerts": self.count_alerts(),
            "rules": self._rule_status(wanted.rules),
            "rule_events": self._ledger.newest(type=EVENT_TYPE),
            "summary": summary([camera["state"] for camera in cameras]),
        }  # fmt: skip

    def _rule_status(self, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
        """Counters of the rules of one page, and the watermark of each."""
        totals = self._rules.totals() if wanted else {}
        return [
            {
                "id": name,
                "figures": totals[name],
                "told_up_to": self._rules.watermark(name),
                "texts": {figure: number(value) for figure, value in totals[name].items()},
            }
            for name in wanted
            if name in totals
        ]

    def _count(self) -> tuple[int, int]:
        """Counted once a second for all who look on."""
        now = asyncio.get_running_loop().time()
        if now - self._counted[0] >= _STATUS_EVERY_S:
            self._counted = (now, self._devices.count())
        return self._counted[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """One open socket of the web server; ``receive`` gives None when the page left."""

    receive: Callable[[], Awaitable[str | None]]
    send: SendBytes
    close: Callable[[int, str], Awaitable[None]]
    signed_in: Callable[[], Awaitable[bool]]


async def _guard(socket: Socket) -> None:
    """Look from time to time whether the session still holds."""
    while await socket.signed_in():  # noqa: ASYNC110  a session ends by time, not by an event
        await asyncio.sleep(_SESSION_CHECK_S)
    raise SessionOverError("the session is over")
