"""The page of the twin: tables and panels in words, the plan of its scene, evidence of a value."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import Json, NotFoundError, Plant, decode
from lineside.hub.eventlog.twin_history import history_span
from lineside.hub.page_parts import PartSource
from lineside.hub.pages.site import Context, NoPageError, Site
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
class PlaceView:
    """A storage place as picture and table show it.

    Attributes:
        show: ``disc`` (seen, and not too long ago), ``outline`` (expected, or seen too long ago),
            ``empty``, ``unsure`` or ``unknown`` (no camera has seen it).
        colour: of the disc or outline; "" where none.
        word: the same in words.
        captured_at: capture time of the picture; None before one.
        stale_at: from then on a disc is an outline; None for the others.
        notes: ``?``, ``≠`` (picture and factory differ), ``held`` (reserved).
        event: that the picture's word rests on.
    """

    id: str
    show: str
    colour: str
    word: str
    captured_at: datetime | None
    stale_at: datetime | None
    notes: tuple[str, ...]
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StationView:
    """A station as picture and table show it; ``word``: of a state worth a label, else ""."""

    id: str
    active: bool | None
    word: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """A part of an order at a station: ``disc`` where it was seen to be, ``outline`` where next."""

    order: str
    colour: str
    station: str
    show: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneView:
    """The twin as it is drawn and listed at ``now``; ``at``: that time of the past, None live."""

    at: datetime | None
    slots: dict[str, PlaceView]
    stations: dict[str, StationView]
    parts: tuple[PartView, ...]


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
    """``blue``, ``empty``, ``unsure: blue or red``, ``unknown``."""
    match slot.seen:
        case Presence.PRESENT:
            return slot.colour
        case Presence.ABSENT:
            return "empty"
        case Presence.UNSURE:
            return "unsure: " + " or ".join(slot.possible) if slot.possible else "unsure"
        case Presence.UNKNOWN:
            return "unknown"


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
            return "unknown"


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
    """Return the plan of the plant that the page draws."""
    twin = plant.twin
    if twin is None:
        return None
    return {
        "slots": [slot.id for slot in twin.slot],
        "stations": [{"id": one.id, "name": one.name, "shape": one.shape} for one in twin.station],
        "colours": list(twin.colours),
    }


def scene_view(
    state: LineState, plant: Plant, *, now: datetime, at: datetime | None = None
) -> SceneView:
    """Return what picture and tables show; no animation invents a move.

    A part under way stands at the last station that was seen to work on it; its outline stands
    where it is expected next.
    """
    stale_after = timedelta(seconds=plant.twin.stale_after_s if plant.twin else 0.0)
    opened = [order for order in state.orders if order.open]
    return SceneView(
        at=at,
        slots={
            slot.id: _place_view(slot, now=now, stale_after=stale_after)
            for slot in state.slots.values()
        },
        stations={
            one.id: StationView(
                id=one.id, active=one.active, event=one.evidence.event,
                word="" if one.active is False else station_mark(one).word,
            )
            for one in state.stations.values()
        },
        parts=tuple(part for order in opened for part in _part_views(order, state.stations)),
    )  # fmt: skip


def _place_view(slot: SlotState, *, now: datetime, stale_after: timedelta) -> PlaceView:
    captured_at = slot.evidence.at
    stale_at = captured_at + stale_after if slot.seen is Presence.PRESENT and captured_at else None
    show, colour, word = _shown(slot, is_stale=stale_at is not None and now > stale_at)
    notes = [
        "?" if show in ("unknown", "unsure") else "",
        "≠" if slot.differs_since else "",
        "held" if slot.reserved_by else "",
    ]
    return PlaceView(
        id=slot.id, show=show, colour=colour, word=word, captured_at=captured_at, stale_at=stale_at,
        notes=tuple(filter(None, notes)), event=slot.evidence.event,
    )  # fmt: skip


def _shown(slot: SlotState, *, is_stale: bool) -> tuple[str, str, str]:
    """Shape, colour and words of a place."""
    word = slot_word(slot)
    match slot.seen:
        case Presence.PRESENT if is_stale:
            return "outline", slot.colour, f"{word}, seen too long ago"
        case Presence.PRESENT:
            return "disc", slot.colour, word
        case Presence.UNSURE:
            return "unsure", slot.possible[0] if slot.possible else "", word
        case Presence.ABSENT | Presence.UNKNOWN if slot.reported:
            return "outline", slot.reported, f"{word}, {slot.reported} expected"
        case Presence.ABSENT:
            return "empty", "", word
        case Presence.UNKNOWN:
            return "unknown", "", word


def _part_views(order: Order, stations: Mapping[str, StationState]) -> Iterator[PartView]:
    """Where the part of an open order was seen, and where it is expected next."""
    names = [step.name for step in order.steps]
    passed = [one.id for one in stations.values() if one.shape != "input"]
    visited = [name for name in names if name in passed]
    racks = {one.id for one in stations.values() if one.shape == "rack"}
    is_off = "fetched" in names or any(name not in racks for name in visited)
    if is_off and visited:
        yield PartView(order=order.id, colour=order.colour, station=visited[-1], show="disc")
    following = passed[passed.index(visited[-1]) + 1 :] if visited else passed
    if "sent" in names and following and following[0] not in racks:
        yield PartView(order=order.id, colour=order.colour, station=following[0], show="outline")


def parts_word(parts: Sequence[PartView], station: str) -> str:
    """Return the parts at a station: ``red part, blue part expected``; "" for none."""
    words = [
        f"{one.colour} part" + (" expected" if one.show == "outline" else "")
        for one in parts
        if one.station == station
    ]
    return ", ".join(words)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSlider:
    """The slider of a time of the past: epoch seconds of both ends, and the time itself."""

    begin_s: int
    end_s: int
    at: datetime


@router.get("")
def twin_page(
    context: Context, *, part: bool = False, at: str = "", view: str = ""
) -> HTMLResponse:
    """Scene, tables, orders, sensors; with ``part`` what changes alone, to be read anew.

    Args:
        context: of the request.
        part: without the frame of the page.
        at: RFC 3339, a time of the past; "" for now.
        view: ``table`` for the tables without the picture.
    """
    return context.page(
        "twin.html",
        base="part.html" if part else "base.html",
        title="Twin",
        active="twin",
        sub=subtitle(context.hub.plant),
        table=view == "table",
        **_twin_context(context.hub, at),
    )


def live_page(site: Site, hub: Services) -> PartSource:
    """Return what the live feed sends to open pages: scene, tables and panels as they are now."""

    def html(_query: str) -> str:
        return site.text(
            "twin.html", {"base": "part.html", "table": False, **_twin_context(hub, "")}
        )

    # A sensor that falls silent changes no state.
    return PartSource(html, every_s=0.025, ages_s=5.0)


def _twin_context(hub: Services, at: str) -> dict[str, object]:
    """The twin at a time of the past, or now, with the words for it."""
    state, now = hub.twin(at)
    past = now if at else None
    first = shown_order(state)
    rest = [order for order in state.orders if order is not first]
    return {
        "scene": scene_plan(hub.plant),
        "view": scene_view(state, hub.plant, now=now, at=past),
        "past": _past_time(hub, at=now) if at else None,
        "now": now,
        "state": state,
        "orders": [order for order in (first, *rest) if order is not None][:_ORDERS],
        "sensors": sensor_panel(state, now=now, silent_after_s=SENSOR_SILENT_S),
        "order_steps": order_steps,
        "parts_word": parts_word,
        "reported_word": reported_word,
        "slot_chance": slot_chance,
        "station_mark": station_mark,
        "stock_word": stock_word,
    }


def _past_time(hub: Services, *, at: datetime) -> TimeSlider:
    span = history_span(hub.records, plant=hub.plant, now=hub.clock.now())
    begin, end = (span.begin, span.end) if span else (at, at)
    return TimeSlider(begin_s=math.ceil(begin.timestamp()), end_s=int(end.timestamp()), at=at)


@router.get("/evidence")
def evidence_part(
    context: Context, *, slot: str = "", station: str = "", at: str = ""
) -> HTMLResponse:
    """Evidence of a place or station as a part of the page: the image and the way back."""
    state, _ = context.hub.twin(at)
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
