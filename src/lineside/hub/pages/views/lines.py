"""The Lines page: one tile a camera, the figures above them, the sentence beside the heading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lineside.core import Json, Plant, Task, Trigger, duration_text, to_plain
from lineside.hub.live import is_current
from lineside.hub.pages.format import DASH, counted, milliseconds, number, percent, span
from lineside.hub.pages.views.answers import (
    Mark,
    Said,
    answer_text,
    plans_for,
    said_of,
    unsure_count,
)
from lineside.hub.views import CameraView, EventView, PackageView
from lineside.vision import Decision, PictureState, Prediction

LATENCY_LIMIT_MS = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One camera as a tile; ``prediction`` and ``plans`` are plain JSON for the drawing.

    ``also`` holds the predictions of further inspections of the same frame, ``beside`` their words.
    """

    camera: str
    title: str
    href: str
    source: str
    state: str
    mark: Mark
    since: datetime | None
    frame: str
    prediction: Json
    plans: dict[str, Json]
    package: str
    names: dict[str, str]
    answer: str
    unsure: str
    latency: str
    said: tuple["SaidRow", ...]
    also: Json = None
    beside: tuple["Beside", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a further inspection said of the same frame."""

    inspection: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidRow:
    """One region's answer beside a large picture."""

    region: str
    mark: Mark
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of the strip; ``tone`` is ``bad`` past a limit, and then the note says which."""

    name: str
    value: str
    note: str
    href: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionFacts:
    """An inspection on its camera's page."""

    id: str
    task: Task
    trigger: str
    regions: str
    answers: str
    package: str
    package_name: str
    approved_by: str


def mark_of(state: str, prediction: Prediction | None, *, silent_s: float = 0.0) -> Mark:
    """The state of a camera in shape and word; quiet when all is well."""
    if state == "never":
        return Mark(shape="bar", word="no picture yet", tone="warn")
    if state == "no signal":
        return Mark(shape="bar", word=f"no signal for {span(silent_s)}", tone="warn")
    if prediction is None:
        return Mark(shape="ring", word="live, nothing decides yet")
    if prediction.state is not PictureState.OK:
        return Mark(shape="square", word=str(prediction.state), tone="bad")
    if unsure_count(prediction):
        return Mark(shape="triangle", word="unsure", tone="warn")
    return Mark(shape="ring", word="running")


def title_of(camera: CameraView, plant: Plant) -> str:
    """``Line 1 · Rack``."""
    lines = {line.id: line.name for line in plant.line}
    name = camera.name or camera.id
    line = lines.get(camera.line, camera.line)
    return f"{line} · {name}" if line else name


def tile_of(camera: CameraView, *, plant: Plant, names: Mapping[str, str], now: datetime) -> Tile:
    """A camera as a tile: an answer with its own frame, else the newest frame without one."""
    said, also, newest = camera.prediction, camera.also, camera.newest
    if said is not None and newest is not None and not is_current(said, newest):
        said, also = None, ()
    heard = camera.since or (newest.arrived_at if newest else None)
    silent_s = (now - heard).total_seconds() if heard else 0.0
    package = str(said.package) if said else ""
    return Tile(
        camera=camera.id,
        title=title_of(camera, plant),
        href=f"/lines/{camera.line or '-'}/{camera.id}",
        source=plant.find_camera(camera.id).source,
        state=camera.state,
        mark=mark_of(camera.state, said, silent_s=silent_s),
        since=heard,
        frame=str(said.frame.id) if said else str(newest.id) if newest else "",
        prediction=to_plain(said) if said else None,
        plans=plans_for(plant, camera=camera.id),
        package=package,
        names=dict(names),
        answer=answer_text(said) if said else DASH,
        unsure=number(sum(map(unsure_count, (said, *also)))) if said else DASH,
        latency=milliseconds(said.latency_ms.total) if said else DASH,
        said=tuple(_said_row(one) for one in said_of(said)) if said else (),
        also=to_plain(list(also)),
        beside=tuple(Beside(inspection=one.inspection, answer=answer_text(one)) for one in also),
    )


def _said_row(said: Said) -> SaidRow:
    """``blue`` where a class holds, ``blue absent`` for a presence label that does not."""
    marks = {
        Decision.UNSURE: Mark(shape="triangle", word=f"{said.label}?", tone="warn"),
        Decision.PRESENT: Mark(shape="dot", word=said.label, tone="ink"),
        Decision.ABSENT: Mark(shape="ring", word=f"no {said.label}"),
    }
    return SaidRow(region=said.region, mark=marks[said.decision], probability=said.probability)


def summary(states: Sequence[str]) -> str:
    """``6 cameras, all live``; says how many are not, and never claims more than that."""
    if not states:
        return "no cameras"
    live = sum(state == "live" for state in states)
    text = counted(len(states), "camera")
    if live == len(states):
        return f"{text}, {'all ' if live > 1 else ''}live"
    silent = len(states) - live
    return f"{text}, {f'{silent} ' if len(states) > 1 else ''}without signal"


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
        said = [answer["decision"] for answer in further if answer]
        judged = data["state"] == PictureState.OK
        total += len(regions) + len(said) if judged else 1
        unsure += len(doubted) + said.count("unsure") if judged else 1
    return unsure, total


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinFigures:
    """What a twin adds to the strip: places where picture and report differ, open orders."""

    discrepancies: int
    waiting: int


def figures(
    stats: Mapping[str, Any], *, recent: Sequence[EventView], twin: TwinFigures | None
) -> tuple[Figure, ...]:
    """The strip of figures; each leads to what it counts. Without a twin nothing speaks of one."""
    found = (_frames(stats), _unsure(recent))
    if twin is None:
        return found
    differ = twin.discrepancies
    return (
        *found,
        _latency(stats["latency_ms"]),
        Figure(
            name="Discrepancies",
            value=number(differ),
            note="picture and stock differ" if differ else counted(twin.waiting, "open order"),
            href="/twin",
            tone="warn" if differ else "",
        ),
    )


def _frames(stats: Mapping[str, Any]) -> Figure:
    dropped = sum(stats["frames_dropped"].values())
    reasons = ", ".join(sorted(stats["frames_dropped"]))
    return Figure(
        name="Frames stored",
        value=number(stats["frames_stored"]),
        note=f"{counted(dropped, 'message')} refused: {reasons}" if dropped else "none dropped",
        href="/dead-letters" if dropped else "/events",
        tone="warn" if dropped else "",
    )


def _unsure(recent: Sequence[EventView]) -> Figure:
    unsure, total = unsure_share(recent)
    return Figure(
        name="Unsure",
        value=percent(unsure / total) if total else DASH,
        note=f"{number(unsure)} of {number(total)} answers" if total else "nothing decided yet",
        href="/events?type=lineside.prediction.v1",
    )


def _latency(latency: Mapping[str, Any]) -> Figure:
    p95 = latency["p95"]
    limit = f"limit of {milliseconds(LATENCY_LIMIT_MS)}"
    over = p95 is not None and p95 > LATENCY_LIMIT_MS
    return Figure(
        name="End-to-end latency (p95)",
        value=milliseconds(p95) if p95 is not None else DASH,
        note=f"Above the {limit}" if over else limit,
        href="/events?type=lineside.prediction.v1",
        tone="bad" if over else "",
    )


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


def inspections_of(
    plant: Plant, *, camera: str, packages: Sequence[PackageView]
) -> tuple[InspectionFacts, ...]:
    """The inspections of one camera with the package each runs."""
    rows = []
    for one in plant.inspection:
        if one.camera != camera:
            continue
        used = next((package for package in packages if one.id in package.used_by), None)
        names = sorted({answer for region in one.region for answer in region.answers})
        rows.append(
            InspectionFacts(
                id=one.id,
                task=one.task,
                trigger=trigger_text(one.trigger),
                regions=counted(len(one.region), "region") if one.region else "whole picture",
                answers=", ".join(names or one.labels),
                package=str(used.digest) if used else "",
                package_name=used.name if used else "",
                approved_by=used.approved_by if used else "",
            )
        )
    return tuple(rows)


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
