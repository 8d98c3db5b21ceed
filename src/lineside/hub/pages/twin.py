"""The page of the twin: tables and panels in words, the plan of its scene, evidence of a value."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import Json, NotFoundError, Plant, decode, to_plain
from lineside.hub.pages.site import Context, NoPageError
from lineside.hub.services import Services
from lineside.streams import Event, read_prediction
from lineside.twin import LineState, Order, OrderStatus, Presence, SlotState, sensor_panel
from lineside.twin.state import ColourState, StationState
from lineside.web.answers import Mark, overlay_of
from lineside.web.format import DASH, counted, probability

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


def slot_chance(slot: SlotState) -> str:
    """Return the probability of what was seen; a dash before anything was."""
    return DASH if slot.seen is Presence.UNKNOWN else probability(slot.probability)


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
        rows.append(replace(last, state="now"))
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
    return {
        "slots": [slot.id for slot in twin.slot],
        "stations": [{"id": one.id, "name": one.name, "shape": one.shape} for one in twin.station],
        "colours": list(twin.colours),
        "stale_after_s": twin.stale_after_s,
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


router = APIRouter(prefix="/twin")

_ORDERS = 9


@router.get("")
def twin_page(context: Context, *, part: bool = False) -> HTMLResponse:
    """Scene, tables, orders, sensors; with ``part`` what changes alone, to be read anew."""
    hub = context.hub
    state = hub.ledger.state
    first = shown_order(state)
    rest = [order for order in state.orders if order is not first]
    return context.page(
        "twin.html",
        base="part.html" if part else "base.html",
        title="Twin",
        active="twin",
        sub=subtitle(hub.plant),
        plain=None if part else to_plain(state),
        scene=scene_plan(hub.plant),
        state=state,
        orders=[order for order in (first, *rest) if order is not None][:_ORDERS],
        sensors=sensor_panel(state, now=hub.clock.now(), silent_after_s=SENSOR_SILENT_S),
        order_steps=order_steps,
        reported_word=reported_word,
        slot_chance=slot_chance,
        slot_word=slot_word,
        station_mark=station_mark,
        stock_word=stock_word,
    )


@router.get("/evidence")
def evidence_part(context: Context, *, slot: str = "", station: str = "") -> HTMLResponse:
    """Evidence of a place or station as a part of the page: the image and the way back."""
    state = context.hub.ledger.state
    thing = state.slots.get(slot) or state.stations.get(station)
    if thing is None:
        raise NoPageError(f"no place {slot!r}" if slot else f"no station {station!r}", where="twin")
    frame = thing.evidence.frame
    return context.site.fragment(
        "twin_evidence.html",
        slot=thing if isinstance(thing, SlotState) else None,
        station=thing if isinstance(thing, StationState) else None,
        frame=frame,
        **_picture(context.hub, frame),
        reported_word=reported_word,
        slot_chance=slot_chance,
        slot_word=slot_word,
        station_mark=station_mark,
    )


def _picture(hub: Services, frame: str) -> dict[str, object]:
    """Return the drawing; an answer may be stored a moment before the picture it names."""
    twin = hub.plant.twin
    if not frame or twin is None:
        return {"stored": False, "overlay": None}
    try:
        found = hub.frames.view(frame)
    except NotFoundError:
        return {"stored": False, "overlay": None}
    inspection = hub.plant.find_inspection(twin.inspection)
    for entry in reversed(found.predictions):
        prediction = read_prediction(decode(Event, entry.event, where=entry.id))
        if prediction.inspection == inspection.id:
            return {"stored": True, "overlay": overlay_of(prediction, inspection)}
    return {"stored": True, "overlay": None}
