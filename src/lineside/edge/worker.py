"""One camera: from its shots to events handed to the shipper.

1. Every shot ends in exactly one of: judged, or counted under the reason for which it was left. A
   shot that nobody wants is not decoded.
2. Triggers count on capture times. ``frame``: each frame is inspected. ``interval``: not before
   ``interval_s`` after the last one inspected; the clock is the camera's. ``topic``: the first
   frame that arrives after a message on the topic. ``part``: each frame that carries a part id.
   A message that arrives while a frame is inspected is of the next frame.
3. Of a camera that no inspection has, an image now and then goes to the hub, so that people can
   begin one with them: of a live camera one every ``SAMPLE_S``, of a folder or video each one, so
   much slower that they do not flood the bus.

Cameras that hang or die are noticed, said, and started anew.

1. A worker that is at one picture, or at opening its camera, for longer than ``hang_after_s``
   hangs; one whose thread ended by an error died; a live source that gives nothing for as long is
   silent. Each is said as a fault and started anew. A thread that hangs cannot be ended: it is left
   behind.
2. Where ``MOST_STUCK`` threads were left behind, or a thread that everything needs is gone, only a
   start of the whole program helps: systemd is no longer told that we are alive, and does it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, assert_never

from lineside.core import Camera as CameraRecord
from lineside.core import (
    Clock,
    FrameId,
    Inspection,
    InvalidError,
    LinesideError,
    UnavailableError,
    rfc3339,
)
from lineside.core.plant import Trigger
from lineside.core.processes import Supervisor
from lineside.core.worker import Worker
from lineside.edge.messages import Counters, frame_message
from lineside.edge.packages import FindJudge, Judge
from lineside.fleet.contract import CameraCondition
from lineside.links import Camera, Shot
from lineside.links.shots import FAILED, IMAGE_LOST, NOT_IN_TIME, NOT_PUT_AWAY, UNREADABLE
from lineside.streams import NotFresh, freshness
from lineside.vision import Frame, Prediction

MOST_STUCK = 3
SAMPLE_S = 2.0
"""Pause between two images of a live camera that no inspection has."""
_FILE_PAUSE_S = 0.25
_FILES = ("folder:", "video:")
_TURN_S = 0.5
_PLACE = "watchdog"

State = Literal["fine", "hangs", "died", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Pulse of a worker.

    Attributes:
        busy_s: how long it is at what it is at; 0 while it waits.
        silent_s: how long its source gave nothing; 0 where that is the source's own business.
        alive: whether its thread runs.
        done: whether it came to its end as it should.
    """

    busy_s: float
    silent_s: float
    alive: bool
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedWorker:
    """A worker under watch, and how it is started anew."""

    name: str
    pulse: Callable[[], Pulse]
    restart: Callable[[], None]


def state_of(pulse: Pulse, *, hang_after_s: float) -> State:
    """State of a worker, for the log."""
    if pulse.done:
        return "fine"
    if not pulse.alive:
        return "died"
    if pulse.busy_s > hang_after_s:
        return "hangs"
    return "silent" if pulse.silent_s > hang_after_s else "fine"


class Watchdog:
    """Started and closed by the program."""

    def __init__(
        self,
        guarded: Callable[[], Sequence[WatchedWorker]],
        *,
        sound: Callable[[], str],
        status: Callable[[], str],
        supervisor: Supervisor,
        hang_after_s: float,
        counters: Counters,
        clock: Clock,
    ) -> None:
        """Watch nothing yet.

        Args:
            guarded: workers, as they are now.
            sound: "" while everything else is; else what is wrong, for good.
            status: a sentence for systemd.
            supervisor: told that we are ready, and alive.
            hang_after_s: the limit.
            counters: where it is said.
            clock: of the supervisor's period.
        """
        self._guarded = guarded
        self._sound = sound
        self._status = status
        self._supervisor = supervisor
        self._hang_after_s = hang_after_s
        self._counters = counters
        self._clock = clock
        self._told_s: float | None = None
        self._said: dict[str, State] = {}
        self._worker = Worker(
            "watchdog", self.look, every_s=_TURN_S, delay_s=_TURN_S, longest_retry_s=_TURN_S
        )

    def start(self) -> None:
        """Say that the program is ready, and watch."""
        self._supervisor.tell("READY=1", f"STATUS={self._status()}")
        self._worker.start()

    def close(self) -> None:
        """Watch no more."""
        self._supervisor.tell("STOPPING=1")
        self._worker.stop()

    def look(self) -> None:
        """One round; the thread calls it twice a second."""
        for one in self._guarded():
            state = state_of(one.pulse(), hang_after_s=self._hang_after_s)
            if state != "fine":
                self._say(one, state)
                one.restart()
            elif self._said.pop(one.name, None) is not None:
                self._counters.mended(f"{one.name} ({_PLACE})")
        wrong = self._sound()
        if wrong:
            if self._counters.fault(_PLACE, LinesideError(wrong)):
                logger.error("only a new start helps: %s", wrong)
            return
        self._tell_alive()

    def _say(self, one: WatchedWorker, state: State) -> None:
        words = {"hangs": "hung", "died": "had died", "silent": "gave no pictures"}[state]
        self._said[one.name] = state
        error = LinesideError(f"{words} and was started anew")
        self._counters.fault(f"{one.name} ({_PLACE})", error)
        logger.warning("%s %s and is started anew", one.name, words)

    def _tell_alive(self) -> None:
        every_s, now_s = self._supervisor.alive_every_s, self._clock.monotonic()
        if self._told_s is not None and now_s - self._told_s < every_s:
            return
        self._told_s = now_s
        words = ("WATCHDOG=1",) if every_s else ()
        if self._supervisor.address:
            self._supervisor.tell(*words, f"STATUS={self._status()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """State of a trigger between frames.

    Attributes:
        last_at: capture time of the frame inspected last.
        armed: a message on the trigger's topic came and no frame was inspected since.
        expected: the number of objects that this message expects; None where it says none.
    """

    last_at: datetime | None = None
    armed: bool = False
    expected: int | None = None


def arm(state: TriggerState, *, expected: int | None = None) -> TriggerState:
    """After a message on the trigger's topic."""
    return replace(state, armed=True, expected=expected)


def wants(trigger: Trigger, state: TriggerState, *, captured_at: datetime, part: str) -> bool:
    """True where this frame is to be inspected."""
    match trigger.on:
        case "frame":
            return True
        case "interval":
            wait = timedelta(seconds=trigger.interval_s)
            return state.last_at is None or captured_at - state.last_at >= wait
        case "topic":
            return state.armed
        case "part":
            return bool(part)
        case _:
            assert_never(trigger.on)


def disarmed(state: TriggerState) -> TriggerState:
    """While a frame is inspected: the message that came is that frame's."""
    return replace(state, armed=False, expected=None)


def rearmed(state: TriggerState, *, before: TriggerState) -> TriggerState:
    """After the frame was not inspected: its message waits on, unless another one came."""
    return state if state.armed else replace(state, armed=before.armed, expected=before.expected)


def inspected(state: TriggerState, *, captured_at: datetime) -> TriggerState:
    """After a frame was inspected; an older frame never moves the interval back."""
    last_at = captured_at if state.last_at is None else max(state.last_at, captured_at)
    return replace(state, last_at=last_at)


logger = logging.getLogger(__name__)

_REMEMBERED = 64
_PATIENCE_S = 20.0
_LIVE = ("rtsp:", "v4l:")  # of a source on the bus, silence is the line's own business

Shown = Callable[[Frame], None]


class CameraWorker:
    """Started and closed by the agent."""

    def __init__(
        self,
        camera: CameraRecord,
        *,
        inspections: tuple[Inspection, ...],
        device: str,
        open_camera: Callable[[CameraRecord, Callable[[str, str], None]], Camera],
        find_judge: FindJudge,
        decided: Callable[[Frame, Prediction, bytes | None], bool],
        failed: Callable[[str, Exception], None],
        forward: Callable[[bytes], object],
        shown: Shown,
        counters: Counters,
        clock: Clock,
    ) -> None:
        """Look at nothing yet.

        Args:
            camera: its record.
            inspections: of this camera.
            device: as predictions name it.
            open_camera: opens it; told why a message of it is refused.
            find_judge: what answers for an inspection.
            decided: takes each prediction, with the message of its image where the hub does not get
                the image from elsewhere; False when the agent is closing.
            failed: told of an inspection that cannot answer a frame that was due, and why.
            forward: says the message of an image that has no prediction on the bus.
            shown: told of each picture once its inspections have had their turn.
            counters: of what was left.
            clock: of waiting and freshness.
        """
        self._camera = camera
        self._inspections = inspections
        self._device = device
        self._open_camera = open_camera
        self._find_judge = find_judge
        self._decided = decided
        self._failed = failed
        self._forward = forward
        self._shown = shown
        self._counters = counters
        self._clock = clock
        self._seen: dict[str, TriggerState] = {item.id: TriggerState() for item in inspections}
        self._seen_lock = threading.Lock()
        self._recent: deque[FrameId] = deque(maxlen=_REMEMBERED)
        self._sample_due_s = clock.monotonic()
        self._last: Frame | None = None
        self._source: Camera | None = None
        self._dropped = 0
        self._condition = CameraCondition(camera=camera.id)
        self._busy_since_s: float | None = None
        self._heard_s = clock.monotonic()
        self._done = False
        self._worker = Worker(
            f"look-{camera.id}", self._turn, report=self._note_failure, clock=clock
        )
        self._stop = self._worker.stopping

    @property
    def inspections(self) -> tuple[Inspection, ...]:
        """The inspections of this camera."""
        return self._inspections

    @property
    def camera(self) -> CameraRecord:
        """Record of the camera."""
        return self._camera

    def start(self) -> None:
        """Begin to look."""
        self._worker.start()

    def arm(self, inspection: str, *, expected: int | None = None) -> None:
        """A message came on the inspection's trigger topic; it expects so many objects."""
        with self._seen_lock:
            self._seen[inspection] = arm(self._seen[inspection], expected=expected)

    def trigger(self) -> None:
        """Have the camera take a picture now, where it waits for that."""
        source = self._source
        if source is not None:
            source.trigger()

    def check_source(self) -> None:
        """Count what the camera dropped since the last call, and note its loss or return."""
        source = self._source
        if source is not None:
            now = source.dropped()
            self._lose(NOT_IN_TIME, count=now - self._dropped)
            self._dropped = now
            self._note(source.fault())

    @property
    def condition(self) -> CameraCondition:
        """Condition of the camera: connected or lost, since when, and why."""
        return self._condition

    def _note(self, fault: str) -> None:
        """Keep the condition; a loss or return is a fault of the device or its end."""
        lost = bool(fault)
        if lost == (self._condition.state == "lost"):
            return
        place = f"camera {self._camera.id}"
        self._condition = CameraCondition(
            camera=self._camera.id,
            state="lost" if lost else "connected",
            since=rfc3339(self._clock.now()),
            reason=fault,
        )
        if lost:
            self._counters.fault(place, UnavailableError(fault))
        else:
            self._counters.mended(place)

    def rehearse(self, inspection: str, *, judge: Judge) -> None:
        """Show a package that is about to come into use the last picture; the answer is left.

        The first frame of a camera is searched for its place in the whole picture, the next ones
        are only checked. A line at 30 frames a second loses frames in the time that this takes.
        """
        frame = self._last
        if frame is None or inspection not in self._seen:
            return
        try:
            judge.predict(frame, device=self._device)
        except Exception as error:  # noqa: BLE001  boundary: the next picture tells it
            logger.debug("rehearsal failed inspection=%s: %s", inspection, error)

    def pulse(self) -> Pulse:
        """Pulse for the watchdog."""
        now_s, since_s = self._clock.monotonic(), self._busy_since_s
        is_live = self._source is not None and self._camera.source.startswith(_LIVE)
        is_live = is_live and self._condition.state != "lost"  # it is opened again by itself
        return Pulse(
            busy_s=now_s - since_s if since_s is not None else 0.0,
            silent_s=now_s - self._heard_s if is_live else 0.0,
            alive=self._worker.is_alive,
            done=self._done,
        )

    def leave(self) -> None:
        """End as soon as may be, without waiting: its thread may hang, and its camera too."""
        self._worker.request_stop()
        source = self._source
        if source is not None:
            name = f"close-{self._camera.id}"
            Worker(name, source.close, every_s=None).start()

    @property
    def stuck(self) -> bool:
        """True while its thread still runs though it was left."""
        return self._worker.is_alive

    def close(self) -> None:
        """End the camera; the frame under work is finished, unless it hangs."""
        self._worker.request_stop()
        source = self._source
        if source is not None:
            source.close()
        self._worker.join(_PATIENCE_S)

    def _turn(self) -> None:
        """Open the camera and inspect its images until it ends; not opened, it is tried again."""
        self._look(self._opened())
        self._done = True
        self._worker.request_stop()

    def _note_failure(self, error: Exception | None) -> None:
        if isinstance(error, LinesideError):
            if self._condition.state != "lost":
                logger.warning("camera %s: %s", self._camera.id, error)
            self._note(error.message)
        elif error is not None:
            logger.error("camera failed camera=%s", self._camera.id, exc_info=error)
            self._counters.fault(f"camera {self._camera.id}", error)

    def _opened(self) -> Camera:
        """Return the camera.

        Raises:
            LinesideError: it is not there now, or is not as its record says: while it starts it may
                answer anything, and somebody may set it right at any time.
        """
        self._busy_since_s = self._clock.monotonic()
        try:
            source = self._source = self._open_camera(self._camera, self._refused)
        finally:
            self._busy_since_s = None
        self._heard_s = self._clock.monotonic()
        self._note("")
        return source

    def _look(self, source: Camera) -> None:
        if self._stop.is_set():
            source.close()
        try:
            for shot in source.shots():
                self._heard_s = self._busy_since_s = self._clock.monotonic()
                self._take(shot)
                self._busy_since_s = None
                if self._stop.is_set():
                    break
        except Exception as error:  # boundary: the other cameras go on
            logger.exception("camera failed camera=%s", self._camera.id)
            self._counters.fault(f"camera {self._camera.id}", error)
        finally:
            self.check_source()
            source.close()

    def _refused(self, reason: str, sentence: str) -> None:
        self._counters.frame()
        if reason == NOT_PUT_AWAY:
            self._counters.refuse(reason)
        else:
            self._lose(reason)
        logger.debug("message refused camera=%s: %s", self._camera.id, sentence)
        # A triggered camera's lost image is noticed when the next part already waits for its own.
        if reason == NOT_PUT_AWAY or (reason == IMAGE_LOST and self._camera.trigger):
            return
        now = self._clock.now()
        for item in self._inspections:
            if item.trigger.on == "part" or wants(
                item.trigger, self._seen[item.id], captured_at=now, part=""
            ):
                self._failed(item.id, InvalidError(reason))

    def _lose(self, reason: str, *, count: int = 1) -> None:
        """Count images that nothing judges."""
        self._counters.refuse(reason, count=count, camera=self._camera.id)

    def _take(self, shot: Shot) -> None:
        self._counters.frame()
        due = [item for item in self._inspections if self._is_due(item, shot)]
        if self._inspections and not due:
            return
        states = {item.id: self._disarm(item.id) for item in due}
        try:
            if due:
                self._inspect(shot, due, states)
            else:
                self._sample(shot)
        except InvalidError as error:
            self._lose(UNREADABLE)
            logger.debug("picture refused camera=%s: %s", self._camera.id, error)
            for name in states:
                self._failed(name, error)
        except Exception as error:  # boundary: one picture must not end the camera
            self._lose(FAILED)
            if self._counters.fault(f"camera {self._camera.id}", error):
                logger.exception("picture failed camera=%s", self._camera.id)
        finally:
            with self._seen_lock:
                for name, before in states.items():
                    self._seen[name] = rearmed(self._seen[name], before=before)

    def _read(self, shot: Shot) -> Frame:
        """Open a shot; that it cannot be read is a fault of the device until one can."""
        place = f"images of camera {self._camera.id}"
        try:
            frame = shot.open()
        except InvalidError as error:
            if self._counters.fault(place, error):
                logger.warning("picture refused camera=%s: %s", self._camera.id, error)
            raise
        self._counters.mended(place)
        return frame

    def _sample(self, shot: Shot) -> None:
        """Send the hub an image that nothing inspects, if it is time for one."""
        now_s = self._clock.monotonic()
        if now_s >= self._sample_due_s:
            try:
                self._forward(frame_message(self._read(shot)))
            finally:
                if self._camera.source.startswith(_FILES):
                    self._stop.wait(_FILE_PAUSE_S)
                else:
                    self._sample_due_s = now_s + min(SAMPLE_S, self._camera.silent_after_s / 2)
        self._counters.refuse("no inspection")

    def _disarm(self, inspection: str) -> TriggerState:
        """Take the message that the next frame of an inspection answers; the state with it."""
        with self._seen_lock:
            before = self._seen[inspection]
            self._seen[inspection] = disarmed(before)
        return before

    def _is_due(self, inspection: Inspection, shot: Shot) -> bool:
        seen = self._seen[inspection.id]
        trigger, at = inspection.trigger, shot.captured_at
        if not wants(trigger, seen, captured_at=at, part=shot.part):
            self._counters.refuse("not triggered")
            return False
        state = freshness(
            at,
            self._clock.now(),
            max_age_s=inspection.max_age_s,
            max_skew_s=inspection.max_skew_s,
        )
        if isinstance(state, NotFresh):
            self._counters.refuse(state.reason)
            return False
        return True

    def _inspect(
        self, shot: Shot, due: list[Inspection], states: dict[str, TriggerState]
    ) -> None:  # fmt: skip
        """Inspect a shot; ``states`` loses the inspections that answered it."""
        began_s = self._clock.monotonic()
        frame = self._read(shot)
        decode_ms = (self._clock.monotonic() - began_s) * 1000
        self._last = frame
        name = frame.id
        if name in self._recent:
            self._counters.refuse("delivered twice")
            return
        # The hub sees what is on the bus; an image without a time gets another one there.
        is_on_bus = self._camera.source.startswith("mqtt:") and shot.own_time
        image = None if is_on_bus else frame_message(frame)
        try:
            for inspection in due:
                if self._judge(frame, inspection, states, decode_ms=decode_ms, image=image):
                    image = None
        finally:
            if image is not None and not self._forward(image):
                self._counters.refuse("not forwarded")
            self._shown(frame)
        self._recent.append(name)

    def _judge(
        self, frame: Frame, inspection: Inspection, states: dict[str, TriggerState], *,
        decode_ms: float, image: bytes | None,
    ) -> bool:  # fmt: skip
        """Inspect a frame; True where its prediction was taken, with the image."""
        judge = self._find_judge(inspection.id)
        if judge is None:
            self._counters.refuse("no package")
            self._restart_interval(inspection.id, frame)
            return False
        try:
            prediction = judge.predict(frame, device=self._device, decode_ms=decode_ms)
        except Exception as error:
            self._failed(inspection.id, error)
            raise
        expected = states.pop(inspection.id).expected
        self._restart_interval(inspection.id, frame)
        if expected is not None and prediction.count is not None:
            count = replace(prediction.count, expected=expected)
            prediction = replace(prediction, count=count)
        is_taken = self._decided(frame, prediction, image)
        if is_taken:
            self._counters.prediction()
        else:
            self._counters.refuse("agent is closing")
        return is_taken

    def _restart_interval(self, inspection: str, frame: Frame) -> None:
        """Let the interval run from this frame, also where no package answers it yet."""
        with self._seen_lock:
            before = self._seen[inspection]
            self._seen[inspection] = inspected(before, captured_at=frame.captured_at)
