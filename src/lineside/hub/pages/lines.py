"""Pages of lines, of one camera and of one frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import (
    Inspection,
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    Plant,
    to_plain,
)
from lineside.core.clock import duration_text
from lineside.core.plant import Trigger
from lineside.hub.ingest.line_figures import ALL
from lineside.hub.live import LiveFrame, is_still_shown
from lineside.hub.pages.frames import (
    DatasetForm,
    FramePrediction,
    choices_for,
    dataset_links,
    frame_predictions,
    frame_step,
    heat_href,
    learned_names,
    nearest_rows,
    no_result,
    provenance_of,
)
from lineside.hub.pages.line_figures import (
    FiguresParameters,
    FiguresQuery,
    panels_of,
    picker_of,
    strip_of,
    uninspected,
    wall_context,
)
from lineside.hub.pages.site import (
    Context,
    NoPageError,
    Site,
    inspections_of,
    package_names,
    packages_by_digest,
)
from lineside.hub.services import Services
from lineside.hub.views import CameraView, EventView, FrameView, PackageView
from lineside.models.camera_faults import CameraFault
from lineside.store import FrameFilter, FrameRow
from lineside.streams import (
    PREDICTION_TYPE,
    verdict_data,
)
from lineside.streams.verdicts import frame_judgement, verdict_id
from lineside.vision import PictureState, Prediction
from lineside.vision.verdict import PartVerdict, judge_prediction, reject_rule
from lineside.web.answers import (
    Mark,
    RegionAnswer,
    answer_text,
    mark_of,
    overlay_of,
    reasons_text,
    region_answers,
    summary,
    unsure_count,
    verdict_mark,
)
from lineside.web.format import (
    DASH,
    later,
    milliseconds,
    number,
    span,
)

Names = Callable[[str], str]
"""Gives the name of a package by its digest; "" where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTile:
    """A frame on a tile in words, with what is drawn on it for each answer.

    ``mark`` and ``reason`` are the verdict by this frame's answers, whole part or not.
    ``heat``: address of the map that shows why it is a reject; "" where none is.
    ``others``: further inspections of the camera with their answers; a dash before they came.
    """

    id: str
    mark: Mark
    reason: str = ""
    answer: str = DASH
    unsure: str = DASH
    latency: str = DASH
    regions: tuple[RegionAnswer, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    inspection: str = ""
    package: str = ""
    package_name: str = ""
    overlays: tuple[Json, ...] = ()
    heat: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One camera as a tile."""

    camera: str
    title: str
    href: str
    source: str
    state: str
    mark: Mark
    since: datetime | None
    shown: FrameTile


def title_of(camera: CameraView, plant: Plant) -> str:
    """``Line 1 · Rack``."""
    lines = {line.id: line.name for line in plant.line}
    name = camera.name or camera.id
    line = lines.get(camera.line, camera.line)
    return f"{line} · {name}" if line else name


def tile_of(camera: CameraView, *, plant: Plant, names: Names, now: datetime) -> Tile:
    """A camera as a tile: an answer with its own frame, else the newest frame without one.

    An answer may come before the hub has stored its frame; the tile waits for the frame, since a
    picture that is not stored cannot be shown.
    """
    newest = camera.newest
    predictions = (camera.prediction, *camera.also) if camera.prediction else ()
    if predictions and (newest is None or not is_still_shown(predictions[0], newest)):
        predictions = ()
    heard = camera.since or (newest.arrived_at if newest else None)
    silent_s = (now - heard).total_seconds() if heard else 0.0
    frame = predictions[0].frame.id if predictions else newest.id if newest else ""
    shown = shown_frame(
        frame, predictions, camera=camera.id, plant=plant, names=names, fault=camera.fault
    )
    silent = camera.state in {"no signal", "never"}
    return Tile(
        camera=camera.id,
        title=title_of(camera, plant),
        href=f"/lines/{camera.line or '-'}/{camera.id}",
        source=str(plant.find_camera(camera.id).source),
        state=camera.state if silent else "live",
        mark=shown.mark
        if not silent
        else mark_of(camera.state, predictions[0] if predictions else None, silent_s=silent_s),
        since=heard,
        shown=shown,
    )


def _reject_heat(predictions: Sequence[Prediction], inspections: Mapping[str, Inspection]) -> str:
    """Address of the map of the first answer that rejects; "" for none."""
    judged = ((one, inspections[one.inspection]) for one in predictions
              if one.inspection in inspections)  # fmt: skip
    rejecting = (
        heat_href(one, inspection)
        for one, inspection in judged
        if judge_prediction(one, reject_rule(inspection)).verdict is PartVerdict.REJECT
    )
    return next(filter(None, rejecting), "")


def shown_frame(
    frame: str, predictions: Sequence[Prediction], *, camera: str, plant: Plant, names: Names,
    fault: CameraFault | None = None,
) -> FrameTile:  # fmt: skip
    """A frame with its answers, the first of which stands out; a fault of the camera before it."""
    inspections = {one.id: one for one in plant.inspection if one.camera == camera}
    first = predictions[0] if predictions else None
    alone = first.inspection if first else next(iter(inspections), "")
    answers = {one.inspection: answer_text(one) for one in predictions}
    others = tuple((name, answers.get(name, DASH)) for name in inspections if name != alone)
    found = frame_judgement(predictions, plant=plant)
    mark = verdict_mark(found.verdict) if found else mark_of("live", first)
    reason = reasons_text(found) if found else ""
    if fault is not None:
        mark, reason = mark_of(fault.state, first), fault.reason
    if first is None:
        return FrameTile(id=frame, mark=mark, reason=reason, others=others)
    return FrameTile(
        id=frame,
        mark=mark,
        reason=reason,
        answer=answers[alone],
        unsure=number(sum(map(unsure_count, predictions))),
        latency=milliseconds(first.latency_ms.total),
        regions=region_answers(first),
        others=others,
        inspection=first.inspection,
        package=first.package,
        package_name=names(first.package),
        overlays=tuple(overlay_of(one, inspections.get(one.inspection)) for one in predictions),
        heat=_reject_heat(predictions, inspections)
        if found and found.verdict is PartVerdict.REJECT
        else "",
    )


def unsure_share(events: Sequence[EventView]) -> tuple[int, int]:
    """(unsure answers, all answers) over prediction events; pictures not judged count as unsure."""
    unsure = total = 0
    for event in events:
        data = event.event["data"]
        labels = data["labels"]
        regions = {label["region"] or label["name"] for label in labels}
        doubted = {
            label["region"] or label["name"] for label in labels if label["decision"] == "unsure"
        }
        further = [*data.get("boxes", ()), data.get("count"), data.get("anomaly")]
        decisions = [answer["decision"] for answer in further if answer]
        judged = data["state"] == PictureState.OK
        total += len(regions) + len(decisions) if judged else 1
        unsure += len(doubted) + decisions.count("unsure") if judged else 1
    return unsure, total


def trigger_text(trigger: Trigger) -> str:
    """When a frame is inspected, in words."""
    match trigger.on:
        case "frame":
            return "every picture"
        case "interval":
            return f"at most every {duration_text(trigger.interval_s)}"
        case "topic":
            return f"after a message on {trigger.topic}"
        case "part":
            return "when a part is named"


def package_in_use(inspection: str, packages: Sequence[PackageView]) -> PackageView | None:
    """The package that an inspection runs; None where none is in use."""
    return next((package for package in packages if inspection in package.used_by), None)


def answers_text(inspection: Inspection) -> str:
    """Every answer that an inspection can give."""
    names = sorted({answer for region in inspection.region for answer in region.answers})
    return ", ".join(names or inspection.labels)


def chart_of(events: Sequence[EventView]) -> Json:
    """Latency and unsure share over time, oldest first: ``{series, points}``; None for none."""
    points: list[Json] = []
    for event in reversed(events):
        unsure, total = unsure_share((event,))
        total_ms = event.event["data"]["latency_ms"]["total"]
        share = unsure / total * 100 if total else 0.0
        points.append([event.time.timestamp(), total_ms, share])
    if not points:
        return None
    return {"series": [["latency on the device", "ms"], ["unsure", "%"]], "points": points}


router = APIRouter()


def live_frames(site: Site, hub: Services) -> Callable[[str, LiveFrame], Json]:
    """Return what the live feed adds to each frame: mark, words as HTML, drawings."""
    names = package_names(hub)

    def shows(camera: str, live: LiveFrame) -> Json:
        predictions = (live.prediction, *live.also) if live.prediction else ()
        shown = shown_frame(
            live.ref.id, predictions, camera=camera, plant=hub.plant, names=names,
            fault=hub.cameras.fault(camera),
        )  # fmt: skip
        html = site.text("tile_words.html", {"shown": shown})
        return {
            "mark": to_plain(shown.mark), "reason": shown.reason, "html": html,
            "overlays": list(shown.overlays), "heat": shown.heat,
        }  # fmt: skip

    return shows


_CHARTED = 300
_STRIP = 12
_MOST_EARLIER = 100


@router.get("/")
@router.get("/lines")
def lines_page(context: Context, query: FiguresParameters, *, wall: str = "") -> HTMLResponse:
    """Every camera as a tile, or those of one line; figures of a shift, a day or an hour."""
    hub, now = context.hub, context.hub.clock.now()
    titles = {one.id: one.name for one in hub.plant.line}
    title = titles.get(query.line, "Lines")
    if wall == "1":
        return context.page("wall.html", title=title, **wall_context(hub, query))
    cameras = [one for one in hub.cameras.all() if query.line in ("", ALL, one.line)]
    names = package_names(hub)
    return context.page(
        "lines.html",
        title=title,
        active="lines",
        tiles=[tile_of(one, plant=hub.plant, names=names, now=now) for one in cameras],
        costs={one.id: uninspected(hub, one) for one in cameras if one.state != "live"},
        **_summaries(cameras),
        **picker_of(hub, query),
        **panels_of(hub, query),
        figures=strip_of(hub, query),
    )


def _summaries(cameras: Sequence[CameraView]) -> dict[str, str]:
    """One sentence about the cameras as they are, and one for when the hub is silent."""
    states = [camera.state for camera in cameras]
    lost = ["never" if state == "never" else "no signal" for state in states]
    return {"summary": summary(states), "summary_lost": summary(lost)}


@router.get("/lines/{line}")
def line_page(
    context: Context, line: str, *, span: str = "", at: str = "", wall: str = ""
) -> HTMLResponse:
    """The cameras and figures of one line."""
    known = [one.id for one in context.hub.plant.line]
    if line not in known:
        listed = ", ".join(known) or "none"
        raise NoPageError(f"no line {line!r}", where="address", fix=f"Lines: {listed}.")
    return lines_page(context, FiguresQuery(line=line, span=span, at=at), wall=wall)


@router.get("/lines/{line}/{camera}")
def station_page(context: Context, *, line: str, camera: str) -> HTMLResponse:
    """One camera: live, its inspections, its last decisions."""
    declared = {one.id: one for one in context.hub.plant.camera}
    if camera not in declared:
        known = ", ".join(declared) or "none"
        raise NoPageError(f"no camera {camera!r} on {line!r}", fix=f"Cameras: {known}.")
    hub = context.hub
    view = hub.cameras.one(camera)
    tile = tile_of(view, plant=hub.plant, names=package_names(hub), now=hub.clock.now())
    packages = hub.packages.all()
    silent_s, watched = declared[camera].silent_after_s, view.inspections[:1]
    answers = [
        event
        for inspection in watched
        for event in context.hub.events.page(
            kind=PREDICTION_TYPE, subject=inspection, newest_first=True, limit=_CHARTED
        )
    ]
    return context.page(
        "station.html",
        title=tile.title,
        active="lines",
        tile=tile,
        **_summaries([view]),
        chart=chart_of(answers),
        limit=span(silent_s) if isfinite(silent_s) else "never: images come on events",
        inspections=[
            (one, package_in_use(one.id, packages))
            for one in hub.plant.inspection
            if one.camera == camera
        ],
        answers_text=answers_text,
        trigger_text=trigger_text,
        frames=context.hub.frames.page(camera=camera, limit=_STRIP),
    )


@router.get("/frames/{frame}")
def frame_page(context: Context, *, frame: str) -> HTMLResponse:
    """One frame: where every value ends."""
    view = context.hub.frames.view(frame)
    row = view.row
    packages = packages_by_digest(context.hub)
    predictions = frame_predictions(
        view, packages=packages, inspections=inspections_of(context.hub),
        points=context.hub.points.decided_by,
    )  # fmt: skip
    cameras = {camera.id: camera for camera in context.hub.plant.camera}
    camera = cameras.get(row.camera)
    return context.page(
        "frame.html",
        active="lines",
        row=row,
        line=camera.line if camera else "-",
        camera=(camera.name or camera.id) if camera else row.camera,
        older=_older(context.hub, row),
        newer=_newer(context.hub, row),
        predictions=predictions,
        verdict=part_panel(context.hub, row.id, [one.prediction for one in reversed(predictions)]),
        missing=no_result(view, context.hub.plant, packages=packages, now=context.hub.clock.now()),
        arrived=later(row.captured_at, row.arrived_at),
        provenance=[
            (
                one.prediction.inspection,
                provenance_of(row, one, package=packages.get(one.prediction.package)),
            )
            for one in predictions
        ]
        or [("", (frame_step(row),))],
        events=view.events,
        orders=view.orders,
        datasets=dataset_links(view.datasets),
        teach=_teach(context.hub, view, predictions=predictions),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPanel:
    """The verdict on the part that a frame shows; ``event`` is "" before it is in the log."""

    mark: Mark
    reason: str
    part: str = ""
    event: str = ""


def part_panel(hub: Services, frame: str, predictions: Sequence[Prediction]) -> PartPanel | None:
    """The verdict in the log, else that by the frame's answers; None where nothing answered."""
    for event_id in _verdict_ids(hub, predictions):
        try:
            event = hub.events.one(event_id)
        except NotFoundError:
            continue
        given = verdict_data(event.event["data"], where=event_id)
        if frame in given.frames:
            return PartPanel(
                mark=verdict_mark(given.verdict), reason=", ".join(given.reasons),
                part=given.part, event=event_id,
            )  # fmt: skip
    found = frame_judgement(predictions, plant=hub.plant)
    if found is None:
        return None
    return PartPanel(mark=verdict_mark(found.verdict), reason=reasons_text(found))


def _verdict_ids(hub: Services, predictions: Sequence[Prediction]) -> Iterator[str]:
    """Ids that the verdict on the part may have: of its own frame first, then of earlier ones."""
    yield from dict.fromkeys(verdict_id(hub.plant, one) for one in predictions)
    for one in predictions[:1]:
        if one.frame.part:
            line = hub.plant.find_camera(one.frame.camera).line
            again_s = next(each.again_s for each in hub.plant.line if each.id == line)
            wanted = FrameFilter(
                part=one.frame.part, until=one.frame.captured_at + timedelta(microseconds=1),
                since=one.frame.captured_at - timedelta(seconds=again_s),
                cameras=tuple(each.id for each in hub.plant.camera if each.line == line),
            )  # fmt: skip
            earlier = hub.frames.find(wanted, limit=_MOST_EARLIER).frames
            yield from (verdict_id(hub.plant, one, first=row.id) for row in earlier)


_NONE_NAMED = (
    "No nearest training pictures: the package does not name those it remembers; one that is "
    "trained here does."
)


@router.get("/frames/{frame}/nearest")
async def nearest_part(context: Context, *, frame: str, package: str) -> HTMLResponse:
    """The training pictures nearest to a frame, as a part of its page, or why there are none."""
    hub = context.hub

    def part() -> HTMLResponse:
        manifest = hub.packages.one(package).manifest
        found = hub.frames.nearest(frame, package=package)
        dataset = manifest["lineage"]["dataset"].removeprefix("dataset://")
        learned = _learned_labels(hub, dataset) if found else {}
        rows = nearest_rows(
            found, dataset=dataset.rpartition("/")[0], rules=manifest["rules"], labels=learned.get
        )
        return context.site.fragment("frame_nearest.html", rows=rows, why_not=_NONE_NAMED)

    try:
        return await hub.queue.run("nearest training pictures", part)
    except LinesideError as error:  # such as a picture whose place is not found
        why_not = f"No nearest training pictures: {error.message}."
        return context.site.fragment("frame_nearest.html", rows=(), why_not=why_not)


def _learned_labels(hub: Services, dataset: str) -> Mapping[str, tuple[str, ...]]:
    """Labels by digest of the version that was learned from (``rack/3``); empty where away."""
    name, _, number = dataset.rpartition("/")
    if not name or not number.isdigit():
        return {}
    try:
        version = hub.datasets.version(name, int(number))
    except (NotFoundError, InvalidError):
        return {}
    return {one.digest: learned_names(one) for one in version.samples}


@router.get("/trace/{identifier:path}")
def trace(context: Context, *, identifier: str) -> HTMLResponse:
    """The whole way back with the chains verified, as part of a page."""
    return context.site.fragment("trace.html", trace=context.hub.tracer.trace(identifier))


def _teach(
    hub: Services, view: FrameView, *, predictions: Sequence[FramePrediction]
) -> DatasetForm | None:
    inspections = [one for one in hub.plant.inspection if one.camera == view.row.camera]
    if not inspections or view.row.aged_out_at is not None:
        return None
    answered = {one.prediction.inspection: one for one in predictions}
    choices = {one.id: choices_for(one, answered.get(one.id)) for one in inspections}
    inspection = next((one for one in inspections if choices[one.id]), inspections[0])
    names = tuple(dataset.name for dataset in hub.datasets.all())
    return DatasetForm(
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
