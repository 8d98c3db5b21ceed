"""The page of one frame: what was said of it, how it was judged, where it leads."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from lineside.core import Inspection, Json, Plant, Region, decode, short
from lineside.datasets import Sample
from lineside.hub.views import FrameView, PackageView, TraceStep
from lineside.models.operating_point import OperatingPoint
from lineside.models.predictor import NearPicture
from lineside.store import FrameRow
from lineside.streams import Event, read_prediction
from lineside.vision import BoxAnswer, Decision, LabelAnswer, PictureState, Prediction
from lineside.vision.prediction import DISTANCE_TASKS
from lineside.vision.verdict import RejectRule, judge_prediction, reject_rule
from lineside.web.answers import ANOMALY_WORDS, Mark, count_text, mark_of, overlay_of
from lineside.web.format import UNIT, counted, milliseconds, number, percent, with_unit

Rows = tuple[tuple[str, str], ...]
PointOf = Callable[[Prediction], OperatingPoint | None]
"""Gives the operating point that a prediction names; None for the package's own limits."""
NOT_JUDGED = ""
NONE_HOLDS = "-"
_MOST_PIECES = 8
_JUDGED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One probability with the cuts that turned it into a decision; "" where not known."""

    name: str
    region: str
    label: str
    probability: float
    mark: Mark
    cuts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """A region of several classes: what holds, and a probability a class (None: not asked)."""

    region: str
    mark: Mark
    cells: tuple[AnswerRow | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTable:
    """Regions that answer classes as rows and columns; the others one by one."""

    classes: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    single: tuple[AnswerRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePrediction:
    """An answer with what the registry and the plant file add to it.

    ``why``: the map that is shown at once, of what made a part a reject; "" where none is.
    """

    prediction: Prediction
    mark: Mark
    rows: tuple[AnswerRow, ...]
    maps: tuple[str, ...]
    why: str
    package_name: str
    event: str
    point: OperatingPoint | None
    overlay: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class NoResult:
    """Why an inspection has not answered a frame, and where to go.

    ``awaited_s``: for how long an answer may still come; 0 where none is awaited.
    """

    title: str
    text: str
    href: str = ""
    link: str = ""
    awaited_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that may be true of a region."""

    value: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Label choices of one region; ``known`` are the labels that a choice judges."""

    region: str
    known: tuple[str, ...]
    options: tuple[Option, ...]
    chosen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetForm:
    """The form that adds the frame to a dataset."""

    inspection: str
    dataset: str
    datasets: tuple[str, ...]
    choices: tuple[Choice, ...]


_MARKS = {
    Decision.PRESENT: Mark(shape="dot", word="present", tone="ink"),
    Decision.ABSENT: Mark(shape="ring", word="absent"),
    Decision.UNSURE: Mark(shape="triangle", word="unsure", tone="warn"),
}


def frame_predictions(
    view: FrameView,
    *,
    packages: Mapping[str, PackageView],
    inspections: Mapping[str, Inspection],
    points: PointOf,
) -> tuple[FramePrediction, ...]:
    """Every prediction of the frame, in the order of the log; what is in use comes first."""
    said = []
    for entry in view.predictions:
        prediction = read_prediction(decode(Event, dict(entry.event), where="event log"))
        said.append(
            frame_prediction(
                prediction,
                event=entry.id,
                package=packages.get(prediction.package),
                inspection=inspections.get(prediction.inspection),
                point=points(prediction),
            )
        )
    return tuple(reversed(said))


def no_result(
    view: FrameView, plant: Plant, *, packages: Mapping[str, PackageView], now: datetime
) -> NoResult | None:
    """Why there is no answer, or not every one yet; None where nothing is missing."""
    camera = view.row.camera
    asked = [one for one in plant.inspection if one.camera == camera]
    used = {name for package in packages.values() for name in package.used_by}
    answered = {entry.subject for entry in view.predictions}
    missing = [one for one in asked if one.id in used - answered]
    age_s = (now - view.row.captured_at).total_seconds()
    awaited_s = max((one.max_age_s + _JUDGED_WITHIN_S - age_s for one in missing), default=0.0)
    if awaited_s > 0:
        names = ", ".join(one.id for one in missing)
        return NoResult(
            title="No result yet",
            text=f"The answer of {names} appears here as soon as a device has given it.",
            awaited_s=awaited_s,
        )
    if answered:
        return None
    if not asked:
        return NoResult(
            title="No inspection looks at this camera",
            text="Add one to the plant file; its regions can be drawn on this picture.",
            href=f"/regions?frame={view.row.id}", link="Draw regions",
        )  # fmt: skip
    if not missing:
        names = ", ".join(one.id for one in asked)
        return NoResult(
            title="No result", text=f"No package is in use for {names}.", href="/models",
            link="Packages",
        )  # fmt: skip
    return NoResult(
        title="No result",
        text="The trigger passed this picture over, no device was there to judge it, or no package"
        " was in use when it was taken.",
        href="/devices", link="Devices",
    )  # fmt: skip


def frame_prediction(
    prediction: Prediction,
    *,
    package: PackageView | None,
    inspection: Inspection | None,
    event: str = "",
    point: OperatingPoint | None = None,
) -> FramePrediction:
    """One prediction as the pages of a frame and of a trial show it.

    ``point``: the operating point that decided; None for the package's own limits.
    """
    rules = {rule["name"]: rule for rule in package.manifest["rules"]} if package else {}
    for one in point.limits if point is not None else ():
        rules[one.name] = {"low": one.low, "high": one.high}
    labels = [_row(answer, rules) for answer in prediction.labels]
    mark = mark_of("live", prediction, rule=reject_rule(inspection) if inspection else None)
    return FramePrediction(
        prediction=prediction,
        mark=mark,
        rows=(*labels, *map(_box_row, prediction.boxes)),
        maps=map_names(prediction),
        why=_telling_map(prediction, inspection) if package and mark.shape == "diamond" else "",
        package_name=package.name if package else "",
        event=event,
        point=point,
        overlay=overlay_of(prediction, inspection),
    )


def _row(answer: LabelAnswer, rules: Mapping[str, Any]) -> AnswerRow:
    rule = rules.get(answer.name)
    cuts = f"{number(rule['low'], digits=2)}, {number(rule['high'], digits=2)}" if rule else ""
    return AnswerRow(
        name=answer.name,
        region=answer.region,
        label=answer.label,
        probability=answer.probability,
        mark=_MARKS[answer.decision],
        cuts=cuts,
    )


def _box_row(box: BoxAnswer) -> AnswerRow:
    corners = [number(edge) for edge in (box.x0_px, box.y0_px, box.x1_px, box.y1_px)]
    place = f"{corners[0]}, {corners[1]} to {corners[2]}, {corners[3]}{UNIT}px"
    return AnswerRow(
        name=place,
        region=place,
        label=box.label,
        probability=box.probability,
        mark=_MARKS[box.decision],
        cuts="",
    )


def map_names(prediction: Prediction) -> tuple[str, ...]:
    """Return the names of the available activation maps; see ``Predictor.explain``."""
    names = [label.name for label in prediction.labels]
    names += ["objects"] if prediction.boxes or prediction.count is not None else []
    return (*names, "anomaly") if prediction.anomaly is not None else tuple(names)


def finding_rows(prediction: Prediction) -> Rows:
    """Return the figures of an answer besides labels and boxes."""
    rows: list[tuple[str, str]] = []
    if prediction.count is not None:
        rows.append(("Count", count_text(prediction.count)))
        rows.append(("Likeliest number", number(prediction.count.value)))
    if prediction.anomaly is not None:
        rows.append(("Score", number(prediction.anomaly.score, digits=3)))
        rows.append(("Limit, from good parts alone", number(prediction.anomaly.limit, digits=3)))
        rows.append(("Decision", ANOMALY_WORDS[prediction.anomaly.decision]))
    if prediction.mask is not None:
        rows.append(("Defect pixels", percent(prediction.mask.share)))
        sizes = ", ".join(number(area) for area in prediction.mask.areas_px[:_MOST_PIECES])
        rows.append(("Pieces, px", sizes or "none"))
    return tuple(rows)


def class_table(rows: Sequence[AnswerRow]) -> ClassTable:
    """Sort answers into a table: a region with one label alone stays by itself."""
    regions: dict[str, list[AnswerRow]] = {}
    for row in rows:
        regions.setdefault(row.region or row.name, []).append(row)
    several = {region: answers for region, answers in regions.items() if len(answers) > 1}
    classes = tuple(dict.fromkeys(row.label for found in several.values() for row in found))
    return ClassTable(
        classes=classes,
        rows=tuple(_class_row(region, found, classes=classes) for region, found in several.items()),
        single=tuple(found[0] for found in regions.values() if len(found) == 1),
    )


def _class_row(region: str, answers: Sequence[AnswerRow], *, classes: Sequence[str]) -> ClassRow:
    by_label = {answer.label: answer for answer in answers}
    likeliest = sorted(answers, key=lambda answer: -answer.probability)
    held = [answer for answer in likeliest if answer.mark.word == Decision.PRESENT]
    doubted = [answer for answer in likeliest if answer.mark.word == Decision.UNSURE]
    if held:
        mark = Mark(shape="dot", word=held[0].label, tone="ink")
    elif doubted:
        among = " or ".join(answer.label for answer in doubted)
        mark = Mark(shape="triangle", word=f"unsure: {among}", tone="warn")
    else:
        mark = Mark(shape="ring", word="none")
    cells = tuple(by_label.get(name) for name in classes)
    return ClassRow(region=region, mark=mark, cells=cells)


def dataset_href(dataset: str) -> str:
    """The page of ``rack/3``, or of ``dataset://rack/3``; "" for data that came from a folder."""
    name, slash, version = dataset.removeprefix("dataset://").partition("/")
    if not slash or not version.isdigit():
        return ""
    return f"/datasets/{name}/versions/{version}"


def registration_rows(prediction: Prediction) -> Rows:
    """Return the registration of the image against the reference view."""
    figures = prediction.registration
    words = {
        "aligned": "aligned again",
        "still": "still, checked",
        "moved": "refused",
        "none": "no reference view",
    }
    rows = [("State", words.get(figures.state, figures.state))]
    if figures.reason:
        rows.append(("Reason", figures.reason))
    if figures.state in ("aligned", "still"):
        rows += [
            ("Shift", f"{number(figures.dx_px, digits=1)}, {_px(figures.dy_px)}"),
            ("Rotation", f"{number(figures.rotation_deg, digits=2)}°"),
            ("Scale", number(figures.scale, digits=3)),
            ("Residual", _px(figures.residual_px, digits=2)),
            ("Matches", number(figures.inliers)),
            ("Edge correlation", number(figures.correlation, digits=2)),
        ]
    return tuple(rows)


def _px(value: float, *, digits: int = 1) -> str:
    return with_unit(value, "px", digits=digits)


def health_rows(prediction: Prediction) -> Rows:
    """The picture itself, watched."""
    figures = prediction.health
    return (
        ("Sharpness", number(figures.sharpness)),
        ("Mean grey", f"{number(figures.mean_grey)} of 255"),
        ("Clipped", percent(figures.clipped_share)),
        ("Feature distance", _distance(prediction)),
    )


def _distance(prediction: Prediction) -> str:
    """From the training pictures; a 0 that nobody measured is not shown as a good figure."""
    if prediction.task not in DISTANCE_TASKS:
        return f"not measured: {prediction.task} has none"
    distance = prediction.health.feature_distance
    if not distance and prediction.state is not PictureState.OK:
        return "not measured: the picture was refused before"
    return f"{number(distance, digits=2)}, usual up to 1"


def time_rows(prediction: Prediction) -> Rows:
    """Milliseconds of each stage."""
    times = prediction.latency_ms
    stages = (
        ("Decode", times.decode),
        ("Register", times.register),
        ("Prepare", times.prepare),
        ("Infer", times.infer),
        ("Decide", times.decide),
        ("Total", times.total),
    )
    return tuple((name, milliseconds(value)) for name, value in stages)


def heat_href(prediction: Prediction, inspection: Inspection | None) -> str:
    """Address of the map of what spoke against a part; "" for nothing, or where a mask shows it."""
    label = _telling_map(prediction, inspection)
    if not label:
        return ""
    query = urlencode({"label": label, "package": prediction.package})
    return f"/api/v1/frames/{prediction.frame.id}/activation?{query}"


def _telling_map(prediction: Prediction, inspection: Inspection | None) -> str:
    """Name of the map of the first reason against a part; "" where a mask shows it, or for none."""
    rule = reject_rule(inspection) if inspection is not None else RejectRule()
    reasons, names = judge_prediction(prediction, rule).reasons, map_names(prediction)
    if prediction.mask is not None or not names or not reasons:
        return ""
    longest = sorted(names, key=len, reverse=True)  # "scratch deep" before "scratch"
    named = (name for reason in reasons for name in longest if reason.startswith(f"{name} "))
    return next(named, names[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestRow:
    """A training picture near to the frame, with its labels; ``href`` is "" where it is away."""

    digest: str
    href: str
    labels: str
    distance: str


def nearest_rows(
    found: Sequence[NearPicture], *, dataset: str, rules: Sequence[Mapping[str, Any]],
    labels: Callable[[str], Sequence[str] | None],
) -> tuple[tuple[str, tuple[NearestRow, ...]], ...]:  # fmt: skip
    """Return (region, pictures), the region that is least like its training pictures first.

    Args:
        found: by region, the nearest first.
        dataset: name of the package's dataset.
        rules: of the package's manifest, which say the region of a label.
        labels: of a picture by digest; None where the dataset does not hold it here.
    """
    places = {rule["name"]: (rule["region"], rule["label"]) for rule in rules}
    regions: dict[str, list[NearestRow]] = {}
    unlike: dict[str, float] = {}
    for one in found:
        known, region = labels(one.picture), one.region
        named = [places.get(name, ("", name)) for name in known or ()]
        said = [label for place, label in named if place == region]
        unlike.setdefault(region, -one.distance)
        regions.setdefault(region, []).append(
            NearestRow(
                digest=one.picture,
                href=f"/datasets/{dataset}/pictures/{one.picture}" if known is not None else "",
                labels="not on this hub" if known is None else ", ".join(said) or "no label",
                distance=number(one.distance, digits=2),
            )
        )
    return tuple((name, tuple(regions[name])) for name in sorted(regions, key=unlike.__getitem__))


def learned_names(sample: Sample) -> tuple[str, ...]:
    """Labels of a training picture; without any, how many objects it shows, by label if marked."""
    if sample.labels or (sample.marked is None and sample.count is None):
        return sample.labels
    if sample.marked is None:
        return (counted(sample.count or 0, "object"),)
    each = Counter(mark.label for mark in sample.marked)
    return tuple(f"{each[name]} {name}" for name in sorted(each)) or ("no object",)


def choices_for(inspection: Inspection, prediction: FramePrediction | None) -> tuple[Choice, ...]:
    """Return the label choices of each region, the package's own answer preselected."""
    answers = {row.name: row for row in prediction.rows} if prediction else {}
    if not inspection.region:
        return tuple(_presence(label, label=label, answers=answers) for label in inspection.labels)
    return tuple(_choice(region, answers=answers) for region in inspection.region)


def _choice(region: Region, *, answers: Mapping[str, AnswerRow]) -> Choice:
    if not region.classes:
        return replace(_presence(region.label, label=region.label, answers=answers))
    names = tuple(f"{region.id}/{name}" for name in region.classes)
    present = [name for name in names if _is(answers, name, word="present")]
    options = tuple(
        Option(value=name, text=text) for name, text in zip(names, region.classes, strict=True)
    )
    return Choice(
        region=region.id,
        known=names,
        options=(*options, Option(value=NOT_JUDGED, text="not judged")),
        chosen=present[0] if present else NOT_JUDGED,
    )


def _presence(region: str, *, label: str, answers: Mapping[str, AnswerRow]) -> Choice:
    chosen = NOT_JUDGED
    if _is(answers, label, word="present"):
        chosen = label
    elif _is(answers, label, word="absent"):
        chosen = NONE_HOLDS
    return Choice(
        region=region,
        known=(label,),
        options=(
            Option(value=label, text="present"),
            Option(value=NONE_HOLDS, text="absent"),
            Option(value=NOT_JUDGED, text="not judged"),
        ),
        chosen=chosen,
    )


def _is(answers: Mapping[str, AnswerRow], name: str, *, word: str) -> bool:
    return name in answers and answers[name].mark.word == word


def frame_step(row: FrameRow) -> TraceStep:
    """The picture, where every provenance begins."""
    text = f"picture of {row.camera}, {row.width_px} x {row.height_px} px"
    return TraceStep(kind="frame", id=row.id, text=text, at=row.captured_at)


def provenance_of(
    row: FrameRow, one: FramePrediction, *, package: PackageView | None
) -> tuple[TraceStep, ...]:
    """The five steps of an answer: picture, package, data, approver, device.

    They are read, not verified; ``Tracer`` walks the chains.
    """
    said = one.prediction
    on = f" on {said.device}" if said.device else ""
    answer = TraceStep(kind="event", id=one.event, text=f"{said.inspection} answered{on}")
    if package is None:
        text = "answered by a package that is not in the registry"
        unknown = TraceStep(kind="package", id=said.package, text=text, ok=False)
        data = TraceStep(kind="dataset", id=said.dataset, text="trained on this data")
        approval = TraceStep(
            kind="approval", id=said.package, text="its approval is not known here", ok=False
        )
        return frame_step(row), unknown, data, approval, answer
    pictures = number(package.manifest["lineage"]["pictures"])
    by = package.approved_by
    return (
        frame_step(row),
        TraceStep(
            kind="package", id=said.package, at=package.added_at,
            text=f"answered by {package.name} {short(package.digest)}",
        ),
        TraceStep(kind="dataset", id=said.dataset, text=f"trained on {pictures} pictures"),
        TraceStep(
            kind="approval", id=said.package, at=package.approved_at, ok=bool(by),
            text=f"approved by {by}: {package.reason}" if by else "approved by nobody yet",
        ),
        answer,
    )  # fmt: skip


def dataset_links(pins: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(text, address) of each data set that holds the frame: ``rack``, ``rack/3``."""
    return tuple(
        (pin, dataset_href(pin) or f"/datasets/{pin.partition('/')[0]}") for pin in sorted(pins)
    )


def step_href(step: TraceStep) -> str:
    """The page that a step of a trace leads to; "" where there is none."""
    match step.kind:
        case "frame":
            return f"/frames/{step.id}"
        case "event" | "approval":
            return f"/events/{step.id}" if step.id.startswith("evt_") else ""
        case "package":
            return f"/models/{step.id}"
        case "dataset":
            return dataset_href(step.id)
        case "limits":
            return f"/inspections/{step.id}/operating-point"
        case _:
            return ""
