"""The simulated line as a program: reads the clock and the bus, steps the factory, sends frames.

Transitions of the factory's state, without clock, bus or randomness.

1. One order runs at a time; further ones wait in a queue of ``QUEUE_SIZE``.
2. A command is known by its ``ts``: the same one again changes nothing.
3. An order for a colour of which no free piece is left is ignored, with a sentence for the log.
4. Pieces are never lost or made: rack, hand and the world outside hold the same ones all the time.
5. ``f/i/stock`` is sent whenever the rack changes, and periodically.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from typing import assert_never

import numpy as np

from lineside.core import Clock, InvalidError, digest_of, rfc3339
from lineside.core.factory import (
    SLOTS,
    BrightnessMessage,
    BroadcastMessage,
    CameraMessage,
    ClimateMessage,
    Colour,
    HistoryItem,
    OrderCommand,
    OrderState,
    PanTiltMessage,
    PieceState,
    read_message,
    write_message,
)
from lineside.links import Bus, Mailbox
from lineside.simulator.playback import (
    Outbox,
    SimulateSettings,
    SimulationResult,
    Stop,
    open_truth,
    picture_text,
)
from lineside.simulator.warehouse.scene import (
    Lighting,
    RackCamera,
    encode_picture,
    first_pose,
    next_pose,
)
from lineside.simulator.warehouse.state import (
    Act,
    Advance,
    Crane,
    FactoryState,
    Moment,
    Move,
    Outgoing,
    Pace,
    Piece,
    Place,
    Report,
    Stamp,
    Transfer,
    first_state,
    order_agenda,
    order_message,
    places_of,
    restock_agenda,
    station_message,
    stock_message,
    tag_message,
)

QUEUE_SIZE = 8
_HANDLED_SIZE = 64


def take_command(state: FactoryState, command: OrderCommand) -> tuple[FactoryState, str]:
    """Hear ``f/o/order``: the state with the order waiting, and a sentence where it was ignored."""
    if command.ts in state.handled:
        return state, f"order of {command.ts} was heard before, ignored"
    state = replace(state, handled=(*state.handled, command.ts)[-_HANDLED_SIZE:])
    colour = command.type.value.lower()
    if len(state.queue) >= QUEUE_SIZE:
        return state, f"order for {colour} ignored: {QUEUE_SIZE} orders are waiting"
    if command.type is Colour.NONE or state.free(command.type) < 1:
        return state, f"order for {colour} ignored: no free {colour} piece in the rack"
    return replace(state, queue=(*state.queue, command.type)), ""


def step(
    state: FactoryState, moment: Moment, *, pace: Pace
) -> tuple[FactoryState, tuple[Outgoing, ...]]:
    """Everything that is due at a moment: the state afterwards and the messages, in order."""
    out: list[Outgoing] = []
    if not state.agenda:
        state = _begin(state, moment, pace=pace)
    while state.agenda and state.agenda[0][0] <= moment.s:
        (_, act), state = state.agenda[0], replace(state, agenda=state.agenda[1:])
        state, messages = _act(state, act, moment=moment, pace=pace)
        out += messages
        if not state.agenda:
            state = _begin(state, moment, pace=pace)
    if state.stock_due_s <= moment.s:
        out.append(stock_message(state, moment.at))
        state = replace(state, stock_due_s=moment.s + pace.stock_every_s)
    if state.stations_due_s <= moment.s:
        out += [station_message(report, moment.at) for report in state.stations]
        state = replace(state, stations_due_s=moment.s + pace.stations_every_s)
    return state, tuple(out)


def _begin(state: FactoryState, moment: Moment, *, pace: Pace) -> FactoryState:
    """Start the next order, else lay the next piece into the input, else stand still."""
    colours = [place.piece.colour if place.piece else Colour.NONE for place in state.places]
    if state.queue:
        colour, *waiting = state.queue
        slot = colours.index(colour)
        agenda = order_agenda(colour, slot=slot, start_s=moment.s, speed=pace.speed)
        return replace(state, ordered=colour, queue=tuple(waiting), agenda=agenda)
    back_s = state.away[0][1] if state.away else None
    if back_s is not None and back_s <= moment.s:
        slot = colours.index(Colour.NONE)
        agenda = restock_agenda(slot=slot, start_s=moment.s, speed=pace.speed)
        return replace(state, agenda=agenda)
    return state


def _act(
    state: FactoryState, act: Act, *, moment: Moment, pace: Pace
) -> tuple[FactoryState, tuple[Outgoing, ...]]:
    """Carry out one act: the state after it and what is said about it."""
    match act:
        case Report():
            others = [one for one in state.stations if one.station != act.station]
            state = replace(state, stations=(*others, act))
            return state, (station_message(act, moment.at),)
        case Advance():
            return state, (order_message(act.state, state.ordered, at=moment.at),)
        case Move():
            state = _moved(state, act)
            return state, (stock_message(state, moment.at),)
        case Stamp():
            item = HistoryItem(ts=rfc3339(moment.at), code=act.code)
            held = _held(state)
            return replace(state, hand=replace(held, history=(*held.history, item))), ()
        case Transfer.OUT:
            return _ship(state, moment, pace=pace)
        case Transfer.IN:
            return _take_in(state), ()
        case _:
            assert_never(act)


def _moved(state: FactoryState, move: Move) -> FactoryState:
    """The rack after the crane's work."""
    hand, place = state.hand, Place(tray=False)
    match move.crane:
        case Crane.FETCH:
            hand = state.places[move.slot].piece
        case Crane.RETURN_TRAY:
            place = Place()
        case Crane.TAKE_TRAY:
            pass
        case Crane.STORE:
            hand, place = None, Place(piece=state.hand)
        case _:
            assert_never(move.crane)
    places = (*state.places[: move.slot], place, *state.places[move.slot + 1 :])
    return replace(state, places=places, hand=hand)


def _ship(
    state: FactoryState, moment: Moment, *, pace: Pace
) -> tuple[FactoryState, tuple[Outgoing, ...]]:
    done = replace(_held(state), state=PieceState.PROCESSED)
    back_s = moment.s + pace.restock_after_s if pace.restock_after_s > 0 else None
    away = (*state.away, (done, back_s))
    return replace(state, hand=None, away=away), (tag_message(done, at=moment.at),)


def _take_in(state: FactoryState) -> FactoryState:
    """The piece that went first comes back first, raw again, with an empty tag."""
    first, *others = state.away
    raw = replace(first[0], state=PieceState.RAW, history=())
    return replace(state, hand=raw, away=tuple(others))


def _held(state: FactoryState) -> Piece:
    if state.hand is None:
        raise LookupError("the gripper holds no piece")  # an agenda out of order
    return state.hand


_LDR_OHM: dict[Lighting, int] = {"dark": 8250, "light": 2355, "neutral": 4100}
_LDR_MOST_OHM = 15000


def climate_message(*, at: datetime, elapsed_s: float, seed: int) -> Outgoing:
    """``i/bme680``: raw values stand beside the compensated ones, as the sensor gives them."""
    temperature = 22.3 + 0.8 * _wave(elapsed_s, period_s=600, seed=seed)
    humidity = 36.0 + 4 * _wave(elapsed_s, period_s=900, seed=seed + 1)
    message = ClimateMessage(
        ts=rfc3339(at),
        t=round(temperature, 1),
        rt=round(temperature + 2.8, 2),
        h=round(humidity, 1),
        rh=round(humidity - 2.0, 2),
        p=round(1012.0 + 2 * _wave(elapsed_s, period_s=1800, seed=seed + 2), 1),
        iaq=round(90 + 40 * _wave(elapsed_s, period_s=1200, seed=seed + 3)),
        aq=3,
        gr=round(161_000 + 9_000 * _wave(elapsed_s, period_s=1200, seed=seed + 4)),
    )
    return Outgoing(topic="i/bme680", message=message)


def brightness_message(
    *, at: datetime, elapsed_s: float, seed: int, lighting: Lighting
) -> Outgoing:
    """``i/ldr``: ``br`` is text with one decimal, as the firmware sends it."""
    ldr = _LDR_OHM[lighting] + round(150 * _wave(elapsed_s, period_s=300, seed=seed + 5))
    brightness = (_LDR_MOST_OHM - ldr) / 150
    message = BrightnessMessage(ts=rfc3339(at), ldr=ldr, br=f"{brightness:.1f}")
    return Outgoing(topic="i/ldr", message=message)


def _wave(elapsed_s: float, *, period_s: float, seed: int) -> float:
    """Two sines that never quite repeat, between -1 and 1."""
    phase = seed * 2.399963
    turn = 2 * math.pi * elapsed_s / period_s
    return 0.7 * math.sin(turn + phase) + 0.3 * math.sin(3.17 * turn + 2 * phase)


_SHOWN = (Colour.BLUE, Colour.RED, Colour.WHITE, Colour.NONE)
_WITHOUT_TRAY = 1 / 3


def arrangements(count: int, *, rng: np.random.Generator) -> list[tuple[Place, ...]]:
    """``count`` racks; per slot, empty and the three colours differ in number by one at most.

    Of the empty places a third lacks its tray too, as while the crane has it.
    """
    columns = [_shuffled(count, rng=rng) for _ in SLOTS]
    return [_without_some_trays(places_of(list(rack), rng=rng), rng=rng)
            for rack in zip(*columns, strict=True)]  # fmt: skip


def lighting_of(frame: int, *, count: int) -> Lighting:
    """The first half is taught by dark light, the second by bright light."""
    return "dark" if 2 * frame < count else "light"


def _shuffled(count: int, *, rng: np.random.Generator) -> list[Colour]:
    """Balanced within each half, so that both lightings show everything."""
    halves = (count - count // 2, count // 2)
    shown: list[Colour] = []
    for half in halves:
        spread = [_SHOWN[(place + len(shown)) % len(_SHOWN)] for place in range(half)]
        shown += [spread[place] for place in rng.permutation(half)]
    return shown


def _without_some_trays(
    places: tuple[Place, ...], *, rng: np.random.Generator
) -> tuple[Place, ...]:
    lacks = rng.random(len(places)) < _WITHOUT_TRAY
    return tuple(
        Place(tray=False) if lack and place.piece is None else place
        for place, lack in zip(places, lacks, strict=True)
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
    with open_truth(settings.truth) as truth:
        line = _Line(settings, bus=bus, clock=clock, truth=truth)
        if settings.teach:
            line.teach(stop)
        else:
            line.run(stop)
        return line.end()


class _Line:
    """One run: the factory's state, the camera's pose and the time they are due."""

    def __init__(
        self,
        settings: SimulateSettings,
        *,
        bus: Bus,
        clock: Clock,
        truth: Callable[[Mapping[str, object]], None],
    ) -> None:
        self._settings, self._clock, self._truth = settings, clock, truth
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
        """Note the rack as it stands at the end."""
        dropped = self._outbox.dropped + self._frames_dropped
        ts, slots = rfc3339(self._clock.now()), self._state.truth
        self._truth(
            {"end": True, "ts": ts, "slots": slots, "frames": self._frames, "dropped": dropped}
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
        picture = encode_picture(self._camera.picture(contents, lighting=lighting, pose=self._pose))
        ts = rfc3339(moment.at)
        message = CameraMessage(ts=ts, data=picture_text(picture))
        if self._outbox.show("i/cam", write_message(message)):
            self._frames += 1
            slots = {slot: place.truth for slot, place in zip(SLOTS, places, strict=True)}
            self._truth({"ts": ts, "digest": digest_of(picture), "slots": slots})
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
