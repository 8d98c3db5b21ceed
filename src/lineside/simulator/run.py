"""The simulated line as a program: reads the clock and the bus, steps the factory, sends frames."""

import base64
import logging
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from lineside.core import (
    SLOTS,
    BroadcastMessage,
    CameraMessage,
    Clock,
    Colour,
    InvalidError,
    OrderCommand,
    OrderState,
    PanTiltMessage,
    read_message,
    rfc3339,
    write_message,
)
from lineside.links import Bus, Mailbox
from lineside.simulator.playback import Outbox, SimulateSettings, SimulationResult, Stop
from lineside.simulator.warehouse.camera import RackCamera, encode, first_pose, next_pose
from lineside.simulator.warehouse.factory import (
    GroundTruth,
    arrangements,
    brightness_message,
    climate_message,
    lighting_of,
    open_ground_truth,
    step,
    take_command,
)
from lineside.simulator.warehouse.scene import Lighting
from lineside.simulator.warehouse.state import (
    FactoryState,
    Moment,
    Outgoing,
    Pace,
    Place,
    first_state,
    order_message,
    stock_message,
)

logger = logging.getLogger(__name__)

_MOST_TICK_S = 0.1
_SENSORS_EVERY_S = 2.0
_STRIDE_PER_ROOT_S = 0.06
_TEACH_STRIDE = 0.35
_COMMANDS = 64
_MOST_COMMAND_BYTES = 4096


def simulate(settings: SimulateSettings, *, bus: Bus, clock: Clock, stop: Stop) -> SimulationResult:
    """Run the simulated warehouse on a bus until it is stopped or has sent all its frames.

    The caller opens and closes the bus. With the same settings, clock and commands the messages
    are the same, byte for byte.
    """
    with open_ground_truth(settings.truth) as notebook:
        line = _Line(settings, bus=bus, clock=clock, notebook=notebook)
        if settings.teach:
            line.teach(stop)
        else:
            line.run(stop)
        return line.end()


class _Line:
    """One run: the factory's state, the camera's pose and the time they are due."""

    def __init__(
        self, settings: SimulateSettings, *, bus: Bus, clock: Clock, notebook: GroundTruth
    ) -> None:
        self._settings, self._clock, self._notebook = settings, clock, notebook
        self._bus = bus
        self._outbox = Outbox(bus, topic_prefix=settings.topic_prefix)
        seeds = np.random.SeedSequence(settings.seed).spawn(3)
        self._stock_rng, self._pose_rng, self._teach_rng = map(np.random.default_rng, seeds)
        self._camera = RackCamera(
            seed=settings.seed, drift_px=settings.drift_px, blur_px=settings.blur_px
        )
        self._pose = first_pose(self._pose_rng)
        self._state = first_state(self._stock_rng)
        self._pace = Pace(speed=settings.speed, restock_after_s=settings.restock_after_s)
        self._began_s = clock.monotonic()
        self._frames = self._frames_dropped = 0

    def run(self, stop: Stop) -> None:
        """The factory, until stopped or all frames are sent."""
        mailbox = self._bus.subscribe(
            (self._settings.topic_prefix + "f/o/order",), size=_COMMANDS, name="orders"
        )
        try:
            self._open()
            self._loop(mailbox, stop)
        finally:
            mailbox.close()

    def _loop(self, mailbox: Mailbox, stop: Stop) -> None:
        period_s = 1 / self._settings.fps
        sensors_s = frame_s = self._clock.monotonic()
        while not stop.is_set() and not self._all_sent():
            moment = self._moment()
            self._outbox.flush()
            self._hear(mailbox)
            self._state, out = step(self._state, moment, pace=self._pace)
            self._say(out)
            if moment.s >= sensors_s:
                self._say(self._sensors(moment))
                sensors_s = moment.s + _SENSORS_EVERY_S
            if moment.s >= frame_s:
                self._show(self._state.places, moment, lighting=self._settings.lighting)
                self._wander(_STRIDE_PER_ROOT_S * period_s**0.5)
                frame_s = max(frame_s + period_s, moment.s)
            stop.wait(min(_MOST_TICK_S, max(0.0, frame_s - self._clock.monotonic())))

    def teach(self, stop: Stop) -> None:
        """Racks at random, each told by ``f/i/stock`` and shown in a frame of the same ``ts``."""
        count = self._settings.teach
        due_s = self._clock.monotonic()
        for frame, places in enumerate(arrangements(count, rng=self._teach_rng)):
            stop.wait(max(0.0, due_s - self._clock.monotonic()))
            if stop.is_set():
                break
            moment = self._moment()
            self._state = FactoryState(places=places)
            self._say((stock_message(self._state, moment.at),))
            self._show(places, moment, lighting=lighting_of(frame, count=count))
            self._wander(_TEACH_STRIDE)
            due_s = max(due_s + 1 / self._settings.fps, moment.s)
        self._outbox.flush()

    def end(self) -> SimulationResult:
        """Close the notebook's account."""
        dropped = self._outbox.dropped + self._frames_dropped
        self._notebook.end(
            ts=rfc3339(self._clock.now()),
            slots=self._state.truth,
            frames=self._frames,
            dropped=dropped,
        )
        return SimulationResult(frames=self._frames, dropped=dropped)

    def _open(self) -> None:
        """Who the controller is, where its camera looks, and that it waits for an order."""
        at = self._clock.now()
        broadcast = BroadcastMessage(
            ts=rfc3339(at),
            hardware_id=f"SIM{self._settings.seed:09d}",
            hardware_model="simulated",
            software_name="lineside simulate warehouse",
            software_version=version("lineside"),
            message="init",
        )
        looks = PanTiltMessage(ts=rfc3339(at), pan=0.0, tilt=0.0)
        self._say(
            (
                Outgoing(topic="i/broadcast", message=broadcast),
                Outgoing(topic="i/ptu/pos", message=looks),
                order_message(OrderState.WAITING_FOR_ORDER, Colour.NONE, at=at),
            )
        )

    def _hear(self, mailbox: Mailbox) -> None:
        for message in mailbox.get_many(most=_COMMANDS, timeout_s=0.0):
            try:
                command = _command(message.payload)
            except InvalidError as error:
                logger.warning("command refused topic=%s reason=%s", message.topic, error)
                continue
            self._state, sentence = take_command(self._state, command)
            if sentence:
                logger.warning("%s", sentence)

    def _sensors(self, moment: Moment) -> tuple[Outgoing, ...]:
        at, elapsed_s, seed = moment.at, moment.s - self._began_s, self._settings.seed
        lighting = self._settings.lighting
        return (
            climate_message(at=at, elapsed_s=elapsed_s, seed=seed),
            brightness_message(at=at, elapsed_s=elapsed_s, seed=seed, lighting=lighting),
        )

    def _show(self, places: Sequence[Place], moment: Moment, *, lighting: Lighting) -> None:
        """Render, send and note one frame."""
        contents = [place.content for place in places]
        picture = encode(self._camera.picture(contents, lighting=lighting, pose=self._pose))
        ts = rfc3339(moment.at)
        data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        if self._outbox.show("i/cam", write_message(CameraMessage(ts=ts, data=data))):
            self._frames += 1
            slots = {slot: place.truth for slot, place in zip(SLOTS, places, strict=True)}
            self._notebook.frame(picture, ts=ts, slots=slots)
        else:
            self._frames_dropped += 1

    def _wander(self, stride: float) -> None:
        self._pose = next_pose(self._pose, self._pose_rng, stride=stride)

    def _say(self, messages: Sequence[Outgoing]) -> None:
        for one in messages:
            self._outbox.say(one.topic, write_message(one.message))

    def _all_sent(self) -> bool:
        return 0 < self._settings.frames <= self._frames + self._frames_dropped

    def _moment(self) -> Moment:
        return Moment(at=self._clock.now(), s=self._clock.monotonic())


def _command(payload: bytes) -> OrderCommand:
    if len(payload) > _MOST_COMMAND_BYTES:
        raise InvalidError(f"{len(payload)} bytes are no order", fix="Send ts and type.")
    return read_message(OrderCommand, payload, where="f/o/order")
