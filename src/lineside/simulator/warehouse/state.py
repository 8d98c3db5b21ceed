"""What is true of the factory, as frozen records, and the messages that say so."""

from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np

from lineside.core import (
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
    rfc3339,
)
from lineside.simulator.warehouse.agenda import Due, Fetch, Report
from lineside.simulator.warehouse.scene import Content

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
        """What a camera sees of it."""
        if self.piece is not None:
            return Content(self.piece.colour.value.lower())
        return Content.EMPTY if self.tray else Content.BARE

    @property
    def truth(self) -> str:
        """What is true of it: a colour, or empty."""
        return self.content.value if self.piece is not None else Content.EMPTY.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A shipped piece and when it is laid into the input again; None: never."""

    piece: Piece
    back_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast things go. Stages are divided by ``speed``; the periods are not."""

    speed: float = 1.0
    restock_after_s: float = 0.0
    stock_every_s: float = 5.0
    stations_every_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryState:
    """All that is true of the factory at a moment; ``hand`` is the piece under way."""

    places: tuple[Place, ...]
    hand: Piece | None = None
    away: tuple[Away, ...] = ()
    agenda: tuple[Due, ...] = ()
    ordered: Colour = Colour.NONE
    queue: tuple[Colour, ...] = ()
    seen: tuple[str, ...] = ()
    stations: tuple[Report, ...] = tuple(Report(station=code, active=False) for code in STATIONS)
    stock_due_s: float = 0.0
    stations_due_s: float = 0.0

    @property
    def contents(self) -> tuple[Content, ...]:
        """What the camera sees, A1 to C3."""
        return tuple(place.content for place in self.places)

    @property
    def truth(self) -> dict[str, str]:
        """Slot → colour or ``empty``."""
        return {slot: place.truth for slot, place in zip(SLOTS, self.places, strict=True)}

    def free(self, colour: Colour) -> int:
        """Pieces of a colour that are neither promised to a waiting order nor about to go."""
        going = {due.act.slot for due in self.agenda if isinstance(due.act, Fetch)}
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
