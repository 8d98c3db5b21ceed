"""Transitions of the factory's state, without clock, bus or randomness.

1. One order runs at a time; further ones wait in a queue of ``QUEUE_SIZE``.
2. A command is known by its ``ts``: the same one again changes nothing.
3. An order for a colour of which no free piece is left is ignored, with a sentence for the log.
4. Pieces are never lost or made: rack, hand and the world outside hold the same ones all the time.
5. ``f/i/stock`` is sent whenever the rack changes, and periodically.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TextIO, assert_never

import numpy as np

from lineside.core import (
    SLOTS,
    BrightnessMessage,
    ClimateMessage,
    Colour,
    HistoryItem,
    OrderCommand,
    PieceState,
    digest_of,
    encode,
    rfc3339,
)
from lineside.simulator.warehouse.scene import Lighting
from lineside.simulator.warehouse.state import (
    Act,
    Advance,
    Away,
    FactoryState,
    Fetch,
    Moment,
    Outgoing,
    Pace,
    Piece,
    Place,
    Report,
    ReturnTray,
    Ship,
    Stamp,
    Store,
    TakeIn,
    TakeTray,
    order_agenda,
    order_message,
    places_of,
    restock_agenda,
    station_message,
    stock_message,
    tag_message,
)

QUEUE_SIZE = 8
_SEEN_SIZE = 64


def take_command(state: FactoryState, command: OrderCommand) -> tuple[FactoryState, str]:
    """Hear ``f/o/order``: the state with the order waiting, and a sentence where it was ignored."""
    if command.ts in state.seen:
        return state, f"order of {command.ts} was heard before, ignored"
    state = replace(state, seen=(*state.seen, command.ts)[-_SEEN_SIZE:])
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
    while state.agenda and state.agenda[0].at_s <= moment.s:
        due, state = state.agenda[0], replace(state, agenda=state.agenda[1:])
        state, said = _act(state, due.act, moment=moment, pace=pace)
        out += said
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
    back_s = state.away[0].back_s if state.away else None
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
        case Fetch() | ReturnTray() | TakeTray() | Store():
            state = _crane(state, act)
            return state, (stock_message(state, moment.at),)
        case Stamp():
            item = HistoryItem(ts=rfc3339(moment.at), code=act.code)
            held = _held(state)
            return replace(state, hand=replace(held, history=(*held.history, item))), ()
        case Ship():
            return _ship(state, moment, pace=pace)
        case TakeIn():
            return _take_in(state), ()
        case _:
            assert_never(act)


def _crane(state: FactoryState, act: Fetch | ReturnTray | TakeTray | Store) -> FactoryState:
    """The rack after the crane's act."""
    match act:
        case Fetch():
            state = replace(state, hand=state.places[act.slot].piece)
            place = Place(tray=False)
        case ReturnTray():
            place = Place()
        case TakeTray():
            place = Place(tray=False)
        case Store():
            place = Place(piece=state.hand)
            state = replace(state, hand=None)
        case _:
            assert_never(act)
    places = (*state.places[: act.slot], place, *state.places[act.slot + 1 :])
    return replace(state, places=places)


def _ship(
    state: FactoryState, moment: Moment, *, pace: Pace
) -> tuple[FactoryState, tuple[Outgoing, ...]]:
    done = replace(_held(state), state=PieceState.PROCESSED)
    back_s = moment.s + pace.restock_after_s if pace.restock_after_s > 0 else None
    away = (*state.away, Away(piece=done, back_s=back_s))
    return replace(state, hand=None, away=away), (tag_message(done, at=moment.at),)


def _take_in(state: FactoryState) -> FactoryState:
    """The piece that went first comes back first, raw again, with an empty tag."""
    first, *others = state.away
    raw = replace(first.piece, state=PieceState.RAW, history=())
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


class GroundTruth:
    """Writes truth lines; made by ``open_ground_truth``."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def frame(self, picture: bytes, *, ts: str, slots: Mapping[str, str]) -> None:
        """Note one frame that was published."""
        self._write({"ts": ts, "digest": digest_of(picture), "slots": dict(slots)})

    def end(self, *, ts: str, slots: Mapping[str, str], frames: int, dropped: int) -> None:
        """Note the rack as it stands at the end."""
        self._write(
            {"end": True, "ts": ts, "slots": dict(slots), "frames": frames, "dropped": dropped}
        )

    def _write(self, line: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(encode(line).decode() + "\n")
            self._file.flush()


@contextmanager
def open_ground_truth(path: str) -> Iterator[GroundTruth]:
    """A notebook in this file; with an empty path, one that forgets."""
    if not path:
        yield GroundTruth(None)
        return
    with Path(path).open("w", encoding="utf-8") as file:
        yield GroundTruth(file)


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
