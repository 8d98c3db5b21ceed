"""The line's state as records: what the twin shows, each value with its age and its evidence.

Encoded with ``core.to_plain`` this is exactly what ``GET /api/v1/twin`` and the live socket send.
``at`` is capture time. ``event``, ``frame`` and ``package`` are the way back; "" where none.
States are never changed in place: a fold makes a new one and shares what stayed the same.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from lineside.core import Plant
from lineside.core.ids import EventId
from lineside.streams import Event

TWIN_SCHEMA = "lineside.twin/1"


class Presence(StrEnum):
    """The presence at a place or of a colour; ``unknown``: no camera has seen it yet."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"
    UNKNOWN = "unknown"


class OrderStatus(StrEnum):
    """Life of an order. The first text is the reference's."""

    SUBMITTED = "Order Submitted"
    ORDERED = "ORDERED"
    IN_PROCESS = "IN_PROCESS"
    SHIPPED = "SHIPPED"
    RELEASED = "RELEASED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where a value comes from."""

    at: datetime | None = None
    event: str = ""
    frame: str = ""
    package: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """One storage place.

    Attributes:
        seen: whether the picture shows a piece.
        colour: the seen colour; "" where none or not known.
        possible: colours that may be there while ``seen`` is unsure.
        probability: of what was seen, 0-1; of the likeliest colour while unsure.
        reported: colour the factory's ``f/i/stock`` states ("" empty, None never told).
        differs_since: when picture and report began to differ.
    """

    id: str
    seen: Presence = Presence.UNKNOWN
    colour: str = ""
    possible: tuple[str, ...] = ()
    probability: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)
    reported: str | None = None
    reported_evidence: Evidence = field(default_factory=Evidence)
    differs_since: datetime | None = None
    reserved_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourState:
    """Stock of one colour, folded from the slots; ``free`` = present minus reserved.

    ``reserved`` counts reserved places that still show a piece of the colour; ``probability`` is
    that of ``seen``, from the slot that decides it.
    """

    colour: str
    seen: Presence = Presence.UNKNOWN
    present: int = 0
    reserved: int = 0
    probability: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def free(self) -> int:
        """Pieces that an order may still take."""
        return self.present - self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class StationState:
    """One station, from ``f/i/state/<code>``; ``active`` None: never heard of."""

    id: str
    name: str
    code: str
    shape: str
    active: bool | None = None
    description: str = ""
    target: str = ""
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorState:
    """One sensor value; None and no age mean that no data ever came."""

    id: str
    name: str
    unit: str
    value: float | None = None
    shown: str = ""
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStep:
    """One thing that happened to an order.

    ``name`` is ``placed``, ``sending``, ``sent``, ``moved`` (to another place, see
    ``twin.claims``), ``fetched`` (its piece was seen to leave while the factory worked on it),
    a state of the factory (``ORDERED``, ``IN_PROCESS``, ``SHIPPED``), ``RELEASED``, or the id of a
    station that began to work on it. ``frame`` is the picture last judged at that moment.
    """

    name: str
    at: datetime
    event: str = ""
    frame: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An accepted order; refused ones are events only.

    Attributes:
        slot: the place it reserves.
        seen_at: when a picture first showed that place full after the factory had begun.
        reason: why it was released; "" otherwise.
        document: ``_id`` of the document by which another twin submitted it; "" for one of ours.
    """

    id: str
    colour: str
    status: OrderStatus
    placed_at: datetime
    placed_by: str
    expires_at: datetime
    slot: str = ""
    seen_at: datetime | None = None
    steps: tuple[OrderStep, ...] = ()
    reason: str = ""
    document: str = ""

    @property
    def open(self) -> bool:
        """Return whether it still holds its piece."""
        return self.status not in (OrderStatus.SHIPPED, OrderStatus.RELEASED)

    @property
    def begun(self) -> bool:
        """Return whether the factory works on it."""
        return self.status in (OrderStatus.ORDERED, OrderStatus.IN_PROCESS)

    @property
    def begun_at(self) -> datetime | None:
        """When the factory first spoke of it."""
        states = (OrderStatus.ORDERED, OrderStatus.IN_PROCESS, OrderStatus.SHIPPED)
        return next((step.at for step in self.steps if step.name in states), None)

    @property
    def sent(self) -> bool:
        """Return whether sending has begun; from then on it is never sent again."""
        return any(step.name in ("sending", "sent") for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryState:
    """The last ``f/i/order``: state ("" never told), colour, and the order of ours it drives."""

    state: str = ""
    colour: str = ""
    order: str = ""
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The newest ``i/alert`` of one sensor and code."""

    id: str
    code: int
    text: str
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """A slot where picture and ``f/i/stock`` have differed for longer than allowed."""

    slot: str
    seen: str
    reported: str
    since: datetime
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """The last answer of the twin's inspection: its state and sentence."""

    state: str = "unknown"
    reason: str = ""
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """The whole twin.

    Attributes:
        revision: count of applied events.
        orders: newest first; open ones are kept, closed ones up to a limit.
        alerts: newest first, up to a limit.
        recent: ids of the last applied events, newest first; a second delivery is known by them.
    """

    schema: str = TWIN_SCHEMA
    revision: int = 0
    picture: PictureView = field(default_factory=PictureView)
    slots: dict[str, SlotState] = field(default_factory=dict)
    colours: dict[str, ColourState] = field(default_factory=dict)
    stations: dict[str, StationState] = field(default_factory=dict)
    sensors: dict[str, SensorState] = field(default_factory=dict)
    factory: FactoryState = field(default_factory=FactoryState)
    orders: tuple[Order, ...] = ()
    discrepancies: tuple[Discrepancy, ...] = ()
    alerts: tuple[Alert, ...] = ()
    recent: tuple[str, ...] = ()

    def order(self, order_id: str) -> Order | None:
        """The order of that id, while it is kept."""
        return next((order for order in self.orders if order.id == order_id), None)


MOST_RECENT = 64


class Outcome(StrEnum):
    """The outcome of an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The state after an event.

    Attributes:
        state: the same object as before unless ``outcome`` is ``applied``.
        raised: what the hub has to say because of it, in its own chain; ids are stable.
        reason: why an event was late or unreadable; "" otherwise.
    """

    state: LineState
    raised: tuple[Event, ...] = ()
    outcome: Outcome = Outcome.APPLIED
    reason: str = ""


def is_newer(evidence: Evidence, event: Event) -> bool:
    """Return whether an event may overwrite what rests on ``evidence``: by capture time.

    Of two events of the same instant the later arrival wins, because plants write milliseconds.
    """
    if evidence.at is None or event.time > evidence.at:
        return True
    return event.time == evidence.at and event.id != evidence.event


def late(state: LineState, evidence: Evidence) -> Applied:
    """Nothing changed, because what stands is newer."""
    return Applied(state=state, outcome=Outcome.LATE, reason=f"{evidence.event} is newer")


def ignored(state: LineState) -> Applied:
    """Nothing changed, because the twin does not show it."""
    return Applied(state=state, outcome=Outcome.IGNORED)


def remembered(state: LineState, event: Event) -> LineState:
    """Count the event, and know its id if it comes again."""
    recent = (EventId(event.id), *state.recent[: MOST_RECENT - 1])
    return replace(state, revision=state.revision + 1, recent=recent)


# Ids, names and order of the reference's sensor panel.
_SENSORS = (
    ("temperature", "Temperature", "°C"),
    ("brightness", "Room Brightness", "%"),
    ("pressure", "Air Pressure", "hPa"),
    ("humidity", "Humidity", "%"),
    ("air_quality", "Air Quality Index", "0-500"),
)


def initial(plant: Plant) -> LineState:
    """The empty twin of a plant; one without ``[twin]`` has sensors only."""
    twin = plant.twin
    sensors = {key: SensorState(id=key, name=name, unit=unit) for key, name, unit in _SENSORS}
    if twin is None:
        return LineState(sensors=sensors)
    return LineState(
        slots={slot.id: SlotState(id=slot.id) for slot in twin.slot},
        colours={colour: ColourState(colour=colour) for colour in twin.colours},
        stations={
            station.id: StationState(
                id=station.id, name=station.name, code=station.code, shape=station.shape
            )
            for station in twin.station
        },
        sensors=sensors,
    )
