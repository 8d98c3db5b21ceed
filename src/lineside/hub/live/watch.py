"""The newest of each camera, kept in memory for those who look on: picture, answer, and when.

A picture and its answer are shown together or not at all: an answer joins the frame it names.
While answers come, the newest answered frame is shown; when they stop, the newest frame alone.
Where several inspections answer a frame, their answers stand together, in the plant file's order.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from lineside.core import Clock, NotFoundError, Plant
from lineside.hub.ingest.decoder import Taken
from lineside.hub.views import CameraView
from lineside.store import FrameRow, Records
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.vision import FrameRef, Prediction, decode_picture, encode_jpeg

_KEPT_FRAMES = 16
UNANSWERED_AFTER = timedelta(seconds=1.5)
_PNG = b"\x89PNG"

CameraState = Literal["live", "no signal", "never"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """What a tile shows: a frame, its JPEG, and the answers to this very frame.

    ``also``: of further inspections.
    """

    ref: FrameRef
    jpeg: bytes
    prediction: Prediction | None
    also: tuple[Prediction, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Seen:
    """One camera."""

    frames: OrderedDict[str, Taken] = field(default_factory=OrderedDict)
    newest: FrameRow | None = None
    shown: Shown | None = None
    last: Prediction | None = None
    last_event: str = ""
    answers: dict[str, tuple[Prediction, str]] = field(default_factory=dict)
    arrived_s: float | None = None
    arrived_at: datetime | None = None
    lost: bool = False


class Watch:
    """Frames and answers as they come; safe from several threads."""

    def __init__(self, records: Records, *, plant: Plant, clock: Clock) -> None:
        self._records = records
        self._plant = plant
        self._clock = clock
        self._lock = threading.Lock()
        self._cameras = {camera.id: _Seen() for camera in plant.camera}
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call with the camera's id whenever there is something new to show."""
        self._listeners.append(listener)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every camera's id, in the plant file's order."""
        return tuple(self._cameras)

    def load(self) -> None:
        """After a start: the newest frame and answer of each camera, from the store."""
        for camera, seen in self._cameras.items():
            seen.newest = self._records.frames.newest(camera)
            seen.arrived_at = seen.newest.arrived_at if seen.newest else None
        for inspection in self._plant.inspection:
            seen = self._cameras[inspection.camera]
            page = self._records.log.read(
                type=PREDICTION_TYPE, subject=inspection.id, newest_first=True, limit=1
            )
            for logged in page:
                event = decode_event(logged.entry.body, where=logged.entry.id)
                self._hold(seen, read_prediction(event), event=event.id)

    def frame(self, taken: Taken) -> None:
        """A frame was stored."""
        camera = taken.row.camera
        with self._lock:
            seen = self._cameras[camera]
            seen.arrived_s, seen.arrived_at = self._clock.monotonic(), taken.row.arrived_at
            seen.lost = False
            if seen.newest is None or taken.row.captured_at >= seen.newest.captured_at:
                seen.newest = taken.row
            seen.frames[taken.row.id] = taken
            while len(seen.frames) > _KEPT_FRAMES:
                seen.frames.popitem(last=False)
            answered = bool(seen.last and seen.last.frame.id == taken.row.id)
            shows = answered or self._unanswered(seen, taken)
        if shows:
            self._show(camera, taken)

    def prediction(self, prediction: Prediction, event: str) -> None:
        """An answer was stored."""
        camera = prediction.frame.camera
        with self._lock:
            seen = self._cameras[camera]
            if not self._hold(seen, prediction, event=event):
                return
            taken = seen.frames.get(prediction.frame.id)
        if taken is not None:
            self._show(camera, taken)

    def _hold(self, seen: _Seen, prediction: Prediction, *, event: str) -> bool:
        """Keep an answer beside those to the same frame; False for one to an older frame."""
        if seen.last and prediction.frame.captured_at < seen.last.frame.captured_at:
            return False
        same = seen.last is not None and seen.last.frame.id == prediction.frame.id
        held = seen.answers if same else {}
        held[prediction.inspection] = (prediction, event)
        order = [one.id for one in self._plant.inspection if one.id in held]
        seen.answers = {name: held[name] for name in order}
        seen.last, seen.last_event = next(iter(seen.answers.values()))
        return True

    def _unanswered(self, seen: _Seen, taken: Taken) -> bool:
        """Nothing answers this camera lately, so the bare picture is shown."""
        last = seen.shown.prediction if seen.shown else None
        return last is None or not is_current(last, taken.row)

    def _show(self, camera: str, taken: Taken) -> None:
        """A frame with the answers that are there when it is put in its place."""
        jpeg = _jpeg(taken.encoded)
        with self._lock:
            seen = self._cameras[camera]
            standing = seen.shown
            if standing and taken.ref.captured_at < standing.ref.captured_at:
                return
            answered = seen.last.frame if seen.last else None
            if (
                answered
                and answered.captured_at > taken.ref.captured_at
                and (answered.id in seen.frames)
            ):
                return  # a newer frame was answered meanwhile and is shown instead
            of_it = answered is not None and answered.id == taken.ref.id
            said = tuple(one for one, _ in seen.answers.values()) if of_it else ()
            seen.shown = Shown(
                ref=taken.ref, jpeg=jpeg, prediction=said[0] if said else None, also=said[1:]
            )
        for listener in self._listeners:
            listener(camera)

    def shown(self, camera: str) -> Shown | None:
        """What a tile of this camera shows now; None before the first frame since the start."""
        with self._lock:
            seen = self._cameras.get(camera)
            return seen.shown if seen else None

    def state(self, camera: str) -> tuple[CameraState, datetime | None]:
        """``live`` while frames come, and since when it is not."""
        with self._lock:
            return self._state(camera)

    def _state(self, camera: str) -> tuple[CameraState, datetime | None]:
        seen = self._cameras[camera]
        if seen.arrived_at is None:
            return "never", None
        silent_s = None if seen.arrived_s is None else self._clock.monotonic() - seen.arrived_s
        limit_s = self._plant.find_camera(camera).no_signal_after_s
        live = silent_s is not None and silent_s <= limit_s
        return ("live" if live else "no signal"), seen.arrived_at

    # ---- as the API and the pages ask

    def all(self) -> tuple[CameraView, ...]:
        """Every camera, in the plant file's order."""
        return tuple(self.one(camera.id) for camera in self._plant.camera)

    def one(self, camera_id: str) -> CameraView:
        """``NotFoundError`` lists the known ones."""
        if camera_id not in self._cameras:
            known = ", ".join(self._cameras) or "none"
            raise NotFoundError("no such camera", where=camera_id, fix=f"Known: {known}.")
        camera = self._plant.find_camera(camera_id)
        with self._lock:
            state, since = self._state(camera_id)
            seen = self._cameras[camera_id]
            newest, last, event = seen.newest, seen.last, seen.last_event
            also = tuple(one for one, _ in list(seen.answers.values())[1:])
        return CameraView(
            id=camera.id, name=camera.name or camera.id, line=camera.line,
            inspections=tuple(i.id for i in self._plant.inspection if i.camera == camera.id),
            state=state, since=since, newest=newest, prediction=last, event=event,
            also=also,
        )  # fmt: skip


def is_current(prediction: Prediction, newest: FrameRow) -> bool:
    """Whether a camera's last answer is still shown, with its own frame, beside newer frames."""
    return newest.captured_at - prediction.frame.captured_at <= UNANSWERED_AFTER


def _jpeg(encoded: bytes) -> bytes:
    """The bytes as they came; a PNG is encoded once for everybody who looks on."""
    return encode_jpeg(decode_picture(encoded)) if encoded.startswith(_PNG) else encoded
