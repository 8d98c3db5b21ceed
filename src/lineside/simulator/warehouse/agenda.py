"""What the factory does and when: the acts of an order and of a restocking, as offsets in seconds.

Durations are those of the reference's animation, per colour; a speed factor divides them.
"""

from dataclasses import dataclass

from lineside.core import Colour, OrderState


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """The crane takes container and piece out of a slot."""

    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnTray:
    """The crane puts the empty container back."""

    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeTray:
    """The crane fetches an empty container for a new piece."""

    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The crane puts container and new piece into a slot."""

    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A step is written on the piece's tag; the codes are the firmware's (100 … 800)."""

    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ship:
    """The piece's tag is read and the piece leaves the factory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeIn:
    """A piece is laid into the delivery input."""


Act = Report | Advance | Fetch | ReturnTray | TakeTray | Store | Stamp | Ship | TakeIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An act and its time on the monotonic clock."""

    at_s: float
    act: Act


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


def order_agenda(colour: Colour, *, slot: int, start_s: float, speed: float) -> tuple[Due, ...]:
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
        (0.55 * stages.crane_s, Fetch(slot=slot)),
        (gripper, Stamp(code=400)),
        (gripper, Report(station="hbw", active=False)),
        (gripper, Report(station="vgr", active=True, target="mpo")),
        (gripper + 0.4 * stages.gripper_s, ReturnTray(slot=slot)),
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
        (end, Ship()),
        (end, Report(station="vgr", active=False)),
        (end, Advance(state=OrderState.SHIPPED)),
        (end + _PICK_UP_S, Report(station="dso", active=False)),
        (end + _PICK_UP_S, Advance(state=OrderState.WAITING_FOR_ORDER)),
        (end + _PICK_UP_S + _SAID_AGAIN_S, Advance(state=OrderState.WAITING_FOR_ORDER)),
    ]
    return _placed(acts, start_s=start_s, speed=speed)


def restock_agenda(*, slot: int, start_s: float, speed: float) -> tuple[Due, ...]:
    """One piece from the input into an empty slot."""
    acts: list[tuple[float, Act]] = [
        (0, TakeIn()),
        (0, Report(station="dsi", active=True)),
        (0, Stamp(code=100)),
        (3, Report(station="vgr", active=True, target="hbw")),
        (6, Stamp(code=200)),
        (6, Report(station="dsi", active=False)),
        (8, Report(station="hbw", active=True, target="vgr")),
        (12, TakeTray(slot=slot)),
        (20, Report(station="vgr", active=False)),
        (22, Stamp(code=300)),
        (22, Store(slot=slot)),
        (25, Report(station="hbw", active=False)),
    ]
    return _placed(acts, start_s=start_s, speed=speed)


def _placed(acts: list[tuple[float, Act]], *, start_s: float, speed: float) -> tuple[Due, ...]:
    return tuple(Due(at_s=start_s + offset_s / speed, act=act) for offset_s, act in acts)
