"""How the factory goes on: what follows from a state, without clock, bus or randomness.

1. One order runs at a time; further ones wait in a queue of ``QUEUE_SIZE``.
2. A command is known by its ``ts``: the same one again changes nothing.
3. An order for a colour of which no free piece is left is ignored, with a sentence for the log.
4. Pieces are never lost or made: rack, hand and the world outside hold the same ones all the time.
5. ``f/i/stock`` is sent whenever the rack changes, and periodically.
"""

from dataclasses import replace
from typing import assert_never

from lineside.core import Colour, HistoryItem, OrderCommand, PieceState, rfc3339
from lineside.simulator.warehouse.agenda import (
    Act,
    Advance,
    Fetch,
    Report,
    ReturnTray,
    Ship,
    Stamp,
    Store,
    TakeIn,
    TakeTray,
    order_agenda,
    restock_agenda,
)
from lineside.simulator.warehouse.state import (
    Away,
    FactoryState,
    Moment,
    Outgoing,
    Pace,
    Piece,
    Place,
    order_message,
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
