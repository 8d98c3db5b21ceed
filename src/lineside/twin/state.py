"""The line's state as records: what the twin shows, each value with its age and its evidence.

Encoded with ``core.to_plain`` this is exactly what ``GET /api/v1/twin`` and the live socket send.
``at`` is capture time. ``event``, ``frame`` and ``package`` are the way back; "" where none.
States are never changed in place: a fold makes a new one and shares what stayed the same.

Slots and colours: what the slots hold of each colour, where witnesses differ, and claims.

An open order keeps a claim on a piece, not on a place, until its own piece is certain.

The crane takes any piece of the colour, so the place that an order reserved may be emptied for
another one. An order whose place does not surely show a piece claims the first free one instead;
without that the piece would be sold again. Once a picture has shown the place full after the
factory began on the order (``Order.seen_at``), it can only be emptied for this order, since the
factory works on one at a time: then the claim stays, empty or hidden by the crane, until SHIPPED.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from lineside.core import Plant
from lineside.core.ids import EventId
from lineside.core.plant import Slot, Twin
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
    """One storage place; ``seen`` is a key of the twin's messages.

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

    Attributes:
        seen: whether any place shows a piece of the colour.
        reserved: reserved places that still show one.
        probability: of ``seen`` (0-1), from the slot that decides it.
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
    """A slot where picture and ``f/i/stock`` have differed for longer than allowed.

    Attributes:
        slot: the place; "" with ``camera``.
        seen: the colour in the picture, "" where none; with ``camera`` why that gives no picture.
        reported: the colour that the factory states; "" empty.
        camera: one that gives no usable picture, so that what the twin shows of its places is older
            than ``since``; "" for a slot.
    """

    slot: str
    seen: str
    reported: str
    since: datetime
    event: str
    camera: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """The last answer of the twin's inspection: its state and sentence."""

    state: str = "unknown"
    reason: str = ""
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastVerdict:
    """The verdict on the newest part of a production line.

    Attributes:
        line: id of the production line.
        part: id of the part; "" where the line gives none.
        verdict: ``ok``, ``reject``, ``review`` or ``incomplete``.
        reasons: why it is not ok, a short sentence each.
        evidence: its event, and frame and package of the first answer that says so.
    """

    line: str
    part: str
    verdict: str
    reasons: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """The whole twin.

    Attributes:
        revision: count of applied events.
        orders: newest first; open ones are kept, closed ones up to a limit.
        alerts: newest first, up to a limit.
        verdicts: of each production line the newest.
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
    verdicts: dict[str, LastVerdict] = field(default_factory=dict)
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


def with_slots(state: LineState, changed: Mapping[str, SlotState], *, twin: Twin) -> LineState:
    """The state with some slots replaced and the colours folded anew."""
    slots = {**state.slots, **changed}
    colours = {
        colour: _fold_colour(state.colours.get(colour), colour, slots=slots, twin=twin)
        for colour in twin.colours
    }
    return replace(state, slots=slots, colours=colours)


def holders(colour: str, *, slots: Mapping[str, SlotState], twin: Twin) -> list[SlotState]:
    """The slots that can hold a colour, in the order of the plant file."""
    return [
        slots[slot.id] for slot in twin.slot if slot.colour in ("", colour) and slot.id in slots
    ]


def shows(slot: SlotState, colour: str) -> bool:
    """Return whether the picture shows a piece of that colour there."""
    return slot.seen is Presence.PRESENT and slot.colour == colour


def first_free(
    colour: str,
    *,
    slots: Mapping[str, SlotState],
    twin: Twin,
    shown_since: datetime | None = None,
) -> SlotState | None:
    """The first piece, in the order of the plant file, that is seen, free and not denied.

    With ``shown_since`` a place counts only if a picture from then or later showed it.
    """
    declared = {slot.id: slot for slot in twin.slot}
    for slot in holders(colour, slots=slots, twin=twin):
        free = shows(slot, colour) and not slot.reserved_by
        if free and not differs(slot, declared[slot.id]) and not is_older(slot, shown_since):
            return slot
    return None


def is_older(slot: SlotState, than: datetime | None) -> bool:
    """Return whether the last picture that showed the place is from before a time."""
    return than is not None and (slot.evidence.at is None or slot.evidence.at < than)


def differs(slot: SlotState, declared: Slot) -> bool | None:
    """Return whether picture and report contradict each other; None where they cannot be compared.

    A slot that declares its colour is asked for that colour only: "no blue piece" does not
    contradict a report of a red one.
    """
    if slot.reported is None or slot.seen in (Presence.UNKNOWN, Presence.UNSURE):
        return None
    if declared.colour:
        return (slot.seen is Presence.PRESENT) is not (slot.reported == declared.colour)
    return slot.colour != slot.reported


def watched(slot: SlotState, declared: Slot, *, at: datetime) -> SlotState:
    """The slot with ``differs_since`` brought up to date; what cannot be compared keeps it."""
    contradicts = differs(slot, declared)
    if contradicts is None or contradicts is (slot.differs_since is not None):
        return slot
    return replace(slot, differs_since=at if contradicts else None)


def _fold_colour(
    before: ColourState | None, colour: str, *, slots: Mapping[str, SlotState], twin: Twin
) -> ColourState:
    places = holders(colour, slots=slots, twin=twin)
    present = [slot for slot in places if shows(slot, colour)]
    seen, deciding = _decide(colour, places, present=present)
    folded = ColourState(
        colour=colour,
        seen=seen,
        present=len(present),
        reserved=sum(1 for slot in present if slot.reserved_by),
        probability=deciding.probability if deciding else 0.0,
        evidence=deciding.evidence if deciding else Evidence(),
    )
    return before if before == folded else folded


def _decide(
    colour: str, places: list[SlotState], *, present: list[SlotState]
) -> tuple[Presence, SlotState | None]:
    """Present beats unsure beats unknown beats absent; the slot that speaks for it."""
    if present:
        return Presence.PRESENT, max(present, key=_sureness)
    unsure = [slot for slot in places if slot.seen is Presence.UNSURE and colour in slot.possible]
    if unsure:
        return Presence.UNSURE, max(unsure, key=_sureness)
    if not places or any(slot.seen is Presence.UNKNOWN for slot in places):
        return Presence.UNKNOWN, None
    return Presence.ABSENT, min(places, key=_sureness)


def _sureness(slot: SlotState) -> float:
    return slot.probability


def with_claims(state: LineState, event: Event, *, plant: Plant) -> LineState:
    """The state after every order whose place was emptied for another has looked for a new one."""
    twin = plant.twin
    if twin is None:
        return state
    changed: dict[str, SlotState] = {}
    moved: dict[str, Order] = {}
    for order in [one for one in reversed(state.orders) if one.open and one.seen_at is None]:
        slots = {**state.slots, **changed}
        held = slots.get(order.slot)
        if held is None or shows(held, order.colour):
            continue
        found = first_free(order.colour, slots=slots, twin=twin)
        if found is not None:
            changed[held.id] = replace(held, reserved_by="")
            changed[found.id] = replace(found, reserved_by=order.id)
            moved[order.id] = _move_order(order, found, event=event)
    if not moved:
        return state
    orders = tuple(moved.get(order.id, order) for order in state.orders)
    return with_slots(replace(state, orders=orders), changed, twin=twin)


def _move_order(order: Order, to: SlotState, *, event: Event) -> Order:
    step = OrderStep(name="moved", at=event.time, event=event.id, frame=to.evidence.frame)
    # Only the last of several moves in a row is kept: a flickering picture makes no endless list.
    kept = order.steps[:-1] if order.steps[-1].name == step.name else order.steps
    return replace(order, slot=to.id, steps=(*kept, step))
