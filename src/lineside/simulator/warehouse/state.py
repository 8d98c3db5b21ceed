"""State of the factory as frozen records, and the messages about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec
import numpy as np

from lineside.core import rfc3339
from lineside.core.factory import (
    SLOTS,
    Colour,
    HistoryItem,
    OrderMessage,
    OrderState,
    PieceState,
    StationMessage,
    StockItem,
    StockMessage,
    TagMessage,
    Workpiece,
)
from lineside.simulator.warehouse.scene import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A station begins or ends its work; ``target`` is where it brings the piece."""

    station: str
    active: bool
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """The order reaches a state."""

    state: OrderState


class Crane(StrEnum):
    """Work of the crane at a slot.

    It fetches container and piece, or an empty container for a new piece; it returns the empty
    container, or stores container and new piece.
    """

    FETCH = "fetch"
    RETURN_TRAY = "return tray"
    TAKE_TRAY = "take tray"
    STORE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The crane works at a slot."""

    crane: Crane
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A step is written on the piece's tag; the codes are the firmware's (100 … 800)."""

    code: int


class Transfer(StrEnum):
    """A piece's tag is read and the piece leaves the factory, or one is laid into the input."""

    OUT = "out"
    IN = "in"


Act = Report | Advance | Move | Stamp | Transfer
ScheduledAct = tuple[float, Act]
"""Time on the monotonic clock, and act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Seconds of crane, gripper, processing, sorting and delivery."""

    crane_s: float
    gripper_s: float
    processing_s: float
    sorting_s: float
    delivery_s: float


STAGES = {
    Colour.BLUE: Stages(
        crane_s=19.95, gripper_s=43.87, processing_s=24.92, sorting_s=21.28, delivery_s=35.0
    ),
    Colour.RED: Stages(
        crane_s=18.02, gripper_s=40.30, processing_s=24.92, sorting_s=21.27, delivery_s=35.0
    ),
    Colour.WHITE: Stages(
        crane_s=25.40, gripper_s=43.50, processing_s=24.92, sorting_s=21.25, delivery_s=35.0
    ),
}

_PICK_UP_S = 2.0
_SAID_AGAIN_S = 0.5


def order_agenda(
    colour: Colour, *, slot: int, start_s: float, speed: float
) -> tuple[ScheduledAct, ...]:
    """One order from rack to output; WAITING_FOR_ORDER comes twice, as from the firmware."""
    stages = STAGES[colour]
    gripper = stages.crane_s
    processing = gripper + stages.gripper_s
    sorting = processing + stages.processing_s
    delivery = sorting + stages.sorting_s
    end = delivery + stages.delivery_s
    acts: list[tuple[float, Act]] = [
        (0, Advance(state=OrderState.ORDERED)),
        (0, Report(station="hbw", active=True, target="vgr")),
        (0.55 * stages.crane_s, Move(crane=Crane.FETCH, slot=slot)),
        (gripper, Stamp(code=400)),
        (gripper, Report(station="hbw", active=False)),
        (gripper, Report(station="vgr", active=True, target="mpo")),
        (gripper + 0.4 * stages.gripper_s, Move(crane=Crane.RETURN_TRAY, slot=slot)),
        (processing, Report(station="vgr", active=False)),
        (processing, Stamp(code=500)),
        (processing, Advance(state=OrderState.IN_PROCESS)),
        (processing, Report(station="mpo", active=True, target="sld")),
        (processing + 0.6 * stages.processing_s, Stamp(code=600)),
        (sorting, Report(station="mpo", active=False)),
        (sorting, Stamp(code=700)),
        (sorting, Report(station="sld", active=True, target="vgr")),
        (delivery, Report(station="sld", active=False)),
        (delivery, Report(station="vgr", active=True, target="dso")),
        (delivery + 0.6 * stages.delivery_s, Report(station="dso", active=True)),
        (end, Stamp(code=800)),
        (end, Transfer.OUT),
        (end, Report(station="vgr", active=False)),
        (end, Advance(state=OrderState.SHIPPED)),
        (end + _PICK_UP_S, Report(station="dso", active=False)),
        (end + _PICK_UP_S, Advance(state=OrderState.WAITING_FOR_ORDER)),
        (end + _PICK_UP_S + _SAID_AGAIN_S, Advance(state=OrderState.WAITING_FOR_ORDER)),
    ]
    return _scheduled(acts, start_s=start_s, speed=speed)


def restock_agenda(*, slot: int, start_s: float, speed: float) -> tuple[ScheduledAct, ...]:
    """One piece from the input into an empty slot."""
    acts: list[tuple[float, Act]] = [
        (0, Transfer.IN),
        (0, Report(station="dsi", active=True)),
        (0, Stamp(code=100)),
        (3, Report(station="vgr", active=True, target="hbw")),
        (6, Stamp(code=200)),
        (6, Report(station="dsi", active=False)),
        (8, Report(station="hbw", active=True, target="vgr")),
        (12, Move(crane=Crane.TAKE_TRAY, slot=slot)),
        (20, Report(station="vgr", active=False)),
        (22, Stamp(code=300)),
        (22, Move(crane=Crane.STORE, slot=slot)),
        (25, Report(station="hbw", active=False)),
    ]
    return _scheduled(acts, start_s=start_s, speed=speed)


def _scheduled(
    acts: list[tuple[float, Act]], *, start_s: float, speed: float
) -> tuple[ScheduledAct, ...]:
    return tuple((start_s + offset_s / speed, act) for offset_s, act in acts)


STATIONS = ("hbw", "vgr", "mpo", "sld", "dsi", "dso")
_READY, _BUSY = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Time of day for messages and a count of seconds for what is due, read together."""

    at: datetime
    s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message on its way to the bus."""

    topic: str
    message: msgspec.Struct


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A disc with what its tag says."""

    id: str
    colour: Colour
    state: PieceState = PieceState.RAW
    history: tuple[HistoryItem, ...] = ()

    @property
    def workpiece(self) -> Workpiece:
        """As messages carry it."""
        return Workpiece(id=self.id, type=self.colour, state=self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One slot of the rack."""

    tray: bool = True
    piece: Piece | None = None

    @property
    def content(self) -> Content:
        """Content that a camera sees."""
        if self.piece is not None:
            return Content(self.piece.colour.value.lower())
        return Content.EMPTY if self.tray else Content.BARE

    @property
    def truth(self) -> str:
        """True content: a colour, or empty."""
        return self.content.value if self.piece is not None else Content.EMPTY.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Pace of the factory. Stages are divided by ``speed``; the periods are not."""

    speed: float = 1.0
    restock_after_s: float = 0.0
    stock_every_s: float = 5.0
    stations_every_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryState:
    """All that is true of the factory at a moment.

    Attributes:
        hand: the piece under way.
        away: shipped pieces, each with the time at which it is laid into the input again; None:
            never.
        handled: ``ts`` of the newest commands.
    """

    places: tuple[Place, ...]
    hand: Piece | None = None
    away: tuple[tuple[Piece, float | None], ...] = ()
    agenda: tuple[ScheduledAct, ...] = ()
    ordered: Colour = Colour.NONE
    queue: tuple[Colour, ...] = ()
    handled: tuple[str, ...] = ()
    stations: tuple[Report, ...] = tuple(Report(station=code, active=False) for code in STATIONS)
    stock_due_s: float = 0.0
    stations_due_s: float = 0.0

    @property
    def contents(self) -> tuple[Content, ...]:
        """Return the visible content of A1 to C3."""
        return tuple(place.content for place in self.places)

    @property
    def truth(self) -> dict[str, str]:
        """Slot → colour or ``empty``."""
        return {slot: place.truth for slot, place in zip(SLOTS, self.places, strict=True)}

    def free(self, colour: Colour) -> int:
        """Pieces of a colour that are neither promised to a waiting order nor about to go."""
        moves = [act for _, act in self.agenda if isinstance(act, Move)]
        going = {move.slot for move in moves if move.crane is Crane.FETCH}
        there = [
            slot
            for slot, place in enumerate(self.places)
            if slot not in going and place.piece is not None and place.piece.colour is colour
        ]
        return len(there) - self.queue.count(colour)


def first_state(rng: np.random.Generator) -> FactoryState:
    """Two pieces of each colour and three empty trays, in an order drawn from ``rng``."""
    colours = [Colour.BLUE, Colour.RED, Colour.WHITE] * 2 + [Colour.NONE] * 3
    drawn = [colours[place] for place in rng.permutation(len(SLOTS))]
    return FactoryState(places=places_of(drawn, rng=rng))


def places_of(colours: list[Colour], *, rng: np.random.Generator) -> tuple[Place, ...]:
    """Nine places with new pieces of these colours; ``NONE`` is an empty tray."""
    return tuple(
        Place()
        if colour is Colour.NONE
        else Place(piece=Piece(id=f"04{int(rng.integers(1 << 48)):012x}", colour=colour))
        for colour in colours
    )


def stock_message(state: FactoryState, at: datetime) -> Outgoing:
    """``f/i/stock`` of a state."""
    items = tuple(
        StockItem(location=slot, workpiece=place.piece.workpiece if place.piece else None)
        for slot, place in zip(SLOTS, state.places, strict=True)
    )
    return Outgoing(topic="f/i/stock", message=StockMessage(ts=rfc3339(at), stock_items=items))


def station_message(report: Report, at: datetime) -> Outgoing:
    """``f/i/state/<s>``; ``code`` is the lamp: 1 green when ready, 2 yellow when busy."""
    message = StationMessage(
        ts=rfc3339(at),
        station=report.station,
        code=_BUSY if report.active else _READY,
        active=int(report.active),
        target=report.target,
    )
    return Outgoing(topic=f"f/i/state/{report.station}", message=message)


def order_message(order_state: OrderState, colour: Colour, *, at: datetime) -> Outgoing:
    """``f/i/order``."""
    message = OrderMessage(ts=rfc3339(at), state=order_state, type=colour)
    return Outgoing(topic="f/i/order", message=message)


def tag_message(piece: Piece, *, at: datetime) -> Outgoing:
    """``f/i/nfc/ds``: a piece's tag, read at the output."""
    message = TagMessage(ts=rfc3339(at), workpiece=piece.workpiece, history=piece.history)
    return Outgoing(topic="f/i/nfc/ds", message=message)
