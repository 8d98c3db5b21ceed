"""The twin in words; ``static/js/twin_words.js`` says it alike once the page is live.

The shared cases stand in ``tests/hub/pages/twin_cases.json``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lineside.core import Json, Plant
from lineside.twin import LineState, Order, OrderStatus, Presence, SlotState
from lineside.twin.state import ColourState, StationState
from lineside.web.answers import Mark, plan_of
from lineside.web.format import counted

SENSOR_SILENT_S = 90.0  # the factory sends its sensors about once a minute
_STEPS = {
    "placed": "Ordered",
    "sending": "Going out to the factory",
    "sent": "Sent to the factory",
    "ORDERED": "Taken by the factory",
    "moved": "Another piece is kept for it",
    "fetched": "Fetched from its place",
    "IN_PROCESS": "In process",
    "SHIPPED": "Shipped",
    "RELEASED": "Released",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step of an order. ``state``: ``done``, ``now``, ``failed`` or ``todo``."""

    name: str
    words: str
    state: str
    at: datetime | None = None
    event: str = ""
    frame: str = ""


def slot_word(slot: SlotState) -> str:
    """``blue``, ``empty``, ``unsure: blue or red``, ``not seen yet``."""
    match slot.seen:
        case Presence.PRESENT:
            return slot.colour
        case Presence.ABSENT:
            return "empty"
        case Presence.UNSURE:
            return "unsure: " + " or ".join(slot.possible) if slot.possible else "unsure"
        case Presence.UNKNOWN:
            return "not seen yet"


def reported_word(reported: str | None) -> str:
    """Return the factory's own report of a place as text."""
    return "not reported yet" if reported is None else reported or "empty"


def stock_word(colour: ColourState) -> str:
    """Return the stock text of an order button."""
    match colour.seen:
        case Presence.PRESENT:
            return (
                f"{colour.free} of {colour.present} free"
                if colour.reserved
                else (f"{colour.present} in stock")
            )
        case Presence.ABSENT:
            return "none in stock"
        case Presence.UNSURE:
            return "unsure"
        case Presence.UNKNOWN:
            return "not seen yet"


def station_mark(station: StationState) -> Mark:
    """Working, waiting, or never reported."""
    if station.active is None:
        return Mark(shape="bar", word="never reported")
    if station.active:
        return Mark(shape="dot", word="working", tone="ink")
    return Mark(shape="ring", word="waiting")


def order_steps(order: Order, stations: Mapping[str, StationState]) -> tuple[StepRow, ...]:
    """Return the past steps in order, then the coming ones; none once the order ended."""
    seen = [step for step in order.steps if step.name != "sending"]
    if order.steps and order.steps[-1].name == "sending":
        seen.append(order.steps[-1])
    rows = [
        StepRow(
            name=step.name,
            words=_words(step.name, stations),
            state="failed" if step.name == "RELEASED" else "done",
            at=step.at,
            event=step.event,
            frame=step.frame,
        )
        for step in seen
    ]
    if order.status in (OrderStatus.SHIPPED, OrderStatus.RELEASED):
        return tuple(rows)
    happened = {step.name for step in order.steps}
    todo = [name for name in _stages(stations) if name not in happened]
    if rows:
        last = rows.pop()
        rows.append(
            StepRow(
                name=last.name,
                words=last.words,
                state="now",
                at=last.at,
                event=last.event,
                frame=last.frame,
            )
        )
    waiting = [StepRow(name=n, words=_words(n, stations), state="todo") for n in todo]
    return (*rows, *waiting)


def _words(name: str, stations: Mapping[str, StationState]) -> str:
    return stations[name].name if name in stations else _STEPS.get(name, name)


def _stages(stations: Mapping[str, StationState]) -> tuple[str, ...]:
    passed = [one.id for one in stations.values() if one.shape not in ("rack", "input")]
    return ("sent", "ORDERED", "fetched", "IN_PROCESS", *passed, "SHIPPED")


def scene_plan(plant: Plant) -> Json:
    """Return the plan of the plant that the page draws and judges ages by."""
    twin = plant.twin
    if twin is None:
        return None
    inspection = plant.find_inspection(twin.inspection)
    return {
        "slots": [slot.id for slot in twin.slot],
        "regions": {slot.id: slot.region for slot in twin.slot},
        "stations": [{"id": one.id, "name": one.name, "shape": one.shape} for one in twin.station],
        "colours": list(twin.colours),
        "stale_after_s": twin.stale_after_s,
        "sensor_silent_s": SENSOR_SILENT_S,
        "inspection": inspection.id,
        "plan": plan_of(inspection),
    }


def subtitle(plant: Plant) -> str:
    """``Training factory, 6 stations, 9 places``."""
    if plant.twin is None:
        return plant.name or plant.site
    stations = counted(len(plant.twin.station), "station")
    return f"{plant.name or plant.site}, {stations}, {counted(len(plant.twin.slot), 'place')}"


def shown_order(state: LineState) -> Order | None:
    """The order whose steps are shown first: the oldest open one, else the newest."""
    opened = [order for order in state.orders if order.open]
    return opened[-1] if opened else state.orders[0] if state.orders else None


def open_orders(state: LineState) -> int:
    """Count the orders that still hold a piece."""
    return sum(order.open for order in state.orders)
