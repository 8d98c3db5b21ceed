"""Lines, one camera, the twin, one frame."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import to_plain
from lineside.hub.pages.common import (
    Ask,
    NoPageError,
    inspections_of,
    names_of,
    packages_by_digest,
)
from lineside.hub.pages.format import DASH, later, probability, span
from lineside.hub.pages.views import frames as frame_views
from lineside.hub.pages.views import lines as line_views
from lineside.hub.pages.views import twin as twin_views
from lineside.hub.services import Services
from lineside.hub.views import FrameView
from lineside.store import FrameRow
from lineside.streams import PREDICTION_TYPE
from lineside.twin import LineState, Order, SlotState, sensor_panel

router = APIRouter()

_RECENT = 100
_CHARTED = 300
_STRIP = 12
_ORDERS = 9


@router.get("/")
@router.get("/lines")
def lines(ask: Ask, *, wall: str = "") -> HTMLResponse:
    """Every camera as a tile."""
    names = names_of(packages_by_digest(ask.hub))
    now = ask.hub.clock.now()
    cameras = ask.hub.cameras.all()
    tiles = [line_views.tile_of(one, plant=ask.hub.plant, names=names, now=now) for one in cameras]
    return ask.page(
        "lines.html",
        title="Lines",
        active="lines",
        tiles=tiles,
        summary=line_views.summary([camera.state for camera in cameras]),
        figures=_figures(ask.hub),
        wall=wall == "1",
    )


@router.get("/lines/figures")
def figures(ask: Ask) -> HTMLResponse:
    """The strip of figures, read anew every two seconds."""
    return ask.site.fragment("figures.html", figures=_figures(ask.hub))


def _figures(hub: Services) -> tuple[line_views.Figure, ...]:
    recent = hub.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=_RECENT)
    state = hub.ledger.state
    twin = line_views.TwinFigures(
        discrepancies=len(state.discrepancies), waiting=twin_views.open_orders(state)
    )
    return line_views.figures(
        hub.stats.plain(), recent=recent, twin=twin if hub.plant.twin is not None else None
    )


@router.get("/lines/{line}")
def line_page(ask: Ask, *, line: str) -> HTMLResponse:
    """The cameras of one line."""
    names = names_of(packages_by_digest(ask.hub))
    now = ask.hub.clock.now()
    cameras = [camera for camera in ask.hub.cameras.all() if camera.line == line]
    if not cameras:
        known = ", ".join(one.id for one in ask.hub.plant.line) or "none"
        raise NoPageError(f"no line {line!r}", where="address", fix=f"Lines: {known}.")
    titles = {one.id: one.name for one in ask.hub.plant.line}
    return ask.page(
        "lines.html",
        title=titles.get(line, line),
        active="lines",
        tiles=[
            line_views.tile_of(one, plant=ask.hub.plant, names=names, now=now) for one in cameras
        ],
        summary=line_views.summary([camera.state for camera in cameras]),
        figures=_figures(ask.hub),
    )


@router.get("/lines/{line}/{camera}")
def station(ask: Ask, *, line: str, camera: str) -> HTMLResponse:
    """One camera: live, its inspections, its last decisions."""
    declared = {one.id: one for one in ask.hub.plant.camera}
    if camera not in declared:
        known = ", ".join(declared) or "none"
        raise NoPageError(f"no camera {camera!r} on {line!r}", fix=f"Cameras: {known}.")
    packages = packages_by_digest(ask.hub)
    view = ask.hub.cameras.one(camera)
    tile = line_views.tile_of(
        view, plant=ask.hub.plant, names=names_of(packages), now=ask.hub.clock.now()
    )
    watched = view.inspections[:1]
    answers = [
        event
        for inspection in watched
        for event in ask.hub.events.page(
            kind=PREDICTION_TYPE, subject=inspection, newest_first=True, limit=_CHARTED
        )
    ]
    return ask.page(
        "station.html",
        title=tile.title,
        active="lines",
        tile=tile,
        summary=line_views.summary([view.state]),
        chart=line_views.chart_of(answers),
        limit=span(declared[camera].no_signal_after_s),
        inspections=line_views.inspections_of(
            ask.hub.plant, camera=camera, packages=tuple(packages.values())
        ),
        frames=ask.hub.frames.page(camera=camera, limit=_STRIP),
    )


@router.get("/twin")
def twin(ask: Ask) -> HTMLResponse:
    """The twin: scene, tables, orders, sensors."""
    state = ask.hub.ledger.state
    return ask.page(
        "twin.html",
        title="Twin",
        active="twin",
        sub=twin_views.subtitle(ask.hub.plant),
        state=to_plain(state),
        scene=twin_views.scene_plan(ask.hub.plant),
        slots=[_slot(slot) for slot in state.slots.values()],
        stations=[
            {**_fields(one), "mark": twin_views.station_mark(one), "evidence": one.evidence}
            for one in state.stations.values()
        ],
        colours=[
            {"colour": one.colour, "word": twin_views.stock_word(one)}
            for one in state.colours.values()
        ],
        sensors=_sensors(state, now=ask.hub.clock.now()),
        orders=_orders(state),
        discrepancies=state.discrepancies,
        alerts=state.alerts,
    )


def _fields(station: object) -> dict[str, str]:
    return {name: getattr(station, name) for name in ("id", "name", "description")}


def _slot(slot: SlotState) -> dict[str, object]:
    seen = slot.seen != "unknown"
    return {
        "id": slot.id,
        "seen": str(slot.seen),
        "colour": slot.colour,
        "word": twin_views.slot_word(slot),
        "probability": probability(slot.probability) if seen else DASH,
        "reported": twin_views.reported_word(slot.reported),
        "reserved": slot.reserved_by,
        "evidence": slot.evidence,
    }


def _sensors(state: LineState, *, now: datetime) -> list[dict[str, object]]:
    lines = sensor_panel(state, now=now, silent_after_s=twin_views.SENSOR_SILENT_S)
    return [
        {
            "id": line.sensor,
            "text": line.text,
            "silent": bool(line.note),
            "at": state.sensors[line.sensor].evidence.at,
        }
        for line in lines
    ]


def _orders(state: LineState) -> list[dict[str, object]]:
    first = twin_views.shown_order(state)
    rest = [order for order in state.orders if order is not first]
    shown: list[Order] = [order for order in (first, *rest) if order is not None][:_ORDERS]
    return [
        {
            "id": order.id,
            "colour": order.colour,
            "status": str(order.status),
            "steps": twin_views.order_steps(order, state.stations),
        }
        for order in shown
    ]


@router.get("/frames/{frame}")
def frame_page(ask: Ask, *, frame: str) -> HTMLResponse:
    """One frame: where every value ends."""
    view = ask.hub.frames.view(frame)
    row = view.row
    packages = packages_by_digest(ask.hub)
    said = frame_views.said_of_frame(view, packages=packages)
    inspections = inspections_of(ask.hub)
    overlay, plan = frame_views.overlay_of(said, inspections)
    cameras = {camera.id: camera for camera in ask.hub.plant.camera}
    camera = cameras.get(row.camera)
    return ask.page(
        "frame.html",
        active="lines",
        row=row,
        line=camera.line if camera else "-",
        camera=(camera.name or camera.id) if camera else row.camera,
        older=_older(ask.hub, row),
        newer=_newer(ask.hub, row),
        overlay=overlay,
        plan=plan,
        predictions=said,
        missing=frame_views.no_result(
            view, ask.hub.plant, packages=packages, now=ask.hub.clock.now()
        ),
        arrived=later(row.captured_at, row.arrived_at),
        provenance=frame_views.short_provenance(row, said, packages=packages),
        events=view.events,
        orders=view.orders,
        datasets=frame_views.dataset_links(view.datasets),
        teach=_teach(ask.hub, view, said=said),
    )


@router.get("/trace/{identifier:path}")
def trace(ask: Ask, *, identifier: str) -> HTMLResponse:
    """The whole way back with the chains verified, as part of a page."""
    provenance = frame_views.provenance_of(ask.hub.tracer.trace(identifier))
    return ask.site.fragment("trace.html", provenance=provenance)


def _teach(
    hub: Services, view: FrameView, *, said: Sequence[frame_views.SaidOfFrame]
) -> frame_views.Teach | None:
    asked = [one for one in hub.plant.inspection if one.camera == view.row.camera]
    if not asked or view.row.aged_out_at is not None:
        return None
    answered = {one.inspection: one for one in said}
    choices = {one.id: frame_views.choices_for(one, answered.get(one.id)) for one in asked}
    inspection = next((one for one in asked if choices[one.id]), asked[0])
    names = tuple(dataset.name for dataset in hub.datasets.all())
    return frame_views.Teach(
        inspection=inspection.id,
        dataset=names[0] if names else view.row.camera,
        datasets=names,
        choices=choices[inspection.id],
    )


def _older(hub: Services, row: FrameRow) -> str:
    page = hub.frames.page(camera=row.camera, before=row.id, limit=1)
    return page[0].id if page else ""


_AHEAD_S = (1, 10, 100, 1000, 10_000, 100_000)


def _newer(hub: Services, row: FrameRow) -> str:
    """The next frame of the camera: the index lists newest first, so look in growing windows."""
    newest = hub.frames.page(camera=row.camera, limit=1)
    if not newest or newest[0].id == row.id:
        return ""
    for ahead_s in _AHEAD_S:
        until = row.captured_at + timedelta(seconds=ahead_s)
        found = _next_in(hub, row, until=until)
        if found:
            return found
    return newest[0].id


def _next_in(hub: Services, row: FrameRow, *, until: datetime) -> str:
    page = hub.frames.page(camera=row.camera, since=row.captured_at, until=until, limit=1000)
    newer = [one for one in page if (one.captured_at, one.id) > (row.captured_at, row.id)]
    return newer[-1].id if newer else ""
