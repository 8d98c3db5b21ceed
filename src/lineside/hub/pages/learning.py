"""Pages of datasets, training runs, packages, trying a picture and drawing regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from lineside.core import Inspection, Json, RouteKind, Task, decode, short
from lineside.core.drivers import FROZEN_TASKS, backbone_file
from lineside.datasets import DatasetVersion, Part, Sample
from lineside.hub.learning.datasets import kinds_of
from lineside.hub.learning.labelling import picture_address
from lineside.hub.models.evidence import ComparedMetric
from lineside.hub.pages.datasets import (
    SampleCard,
    card_of,
    change_lists,
    kind_counts,
    leak_pairs,
    split_text,
)
from lineside.hub.pages.frames import dataset_href, frame_prediction
from lineside.hub.pages.models import follows_words
from lineside.hub.pages.replays import REPLAY_WORDS, replay_span
from lineside.hub.pages.site import Context, inspections_of
from lineside.hub.services import Services
from lineside.hub.views import DatasetView, PackageView, RunView
from lineside.models import Metric
from lineside.vision.prediction import DISTANCE_TASKS
from lineside.web.answers import Mark, answer_text, box_corners
from lineside.web.format import counted, number, percent, span

_FIRST = {
    "multilabel": ("accuracy",),
    "classify": ("accuracy", "macro_f1"),
    "detect": ("f1", "exact"),
    "count": ("exact", "mae"),
    "segment": ("pixel_f1", "auroc"),
    "anomaly": ("auroc", "accuracy"),
}
_RULES = ("classes", "detect", "count", "mask", "anomaly")


def first_metric(manifest: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The figure that a list shows: the first of its task that was measured, in that order."""
    metrics = manifest["metrics"]
    for wanted in _FIRST.get(manifest["task"], ("accuracy",)):
        for name, metric in metrics.items():
            if name == wanted or ("/" not in name and name.startswith(f"{wanted}_")):
                return name, metric
    return None


def decision_facts(manifest: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """The numbers of the rule of a whole-picture task: name, value, no link."""
    rule: Mapping[str, Any] = next((manifest[name] for name in _RULES if manifest.get(name)), {})
    found = []
    for name, value in rule.items():
        if isinstance(value, list) and value and not isinstance(value[0], Mapping | list):
            found.append((_words(name), ", ".join(_value_text(one) for one in value[:12]), ""))
        elif isinstance(value, bool | int | float | str) and value != "":
            found.append((_words(name), _value_text(value), ""))
    return tuple(found)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


GALLERY = 60
_FORMS = (
    ("csv", "Pictures and labels.csv", ()),
    ("folders", "Class folders", ("class",)),
    ("coco", "COCO", ("objects", "mask")),
    ("yolo", "YOLO", ("objects",)),
    ("voc", "Pascal VOC", ("objects", "mask")),
    ("masks", "Masks", ("mask",)),
)
Linked = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter of a gallery as a link."""

    text: str
    href: str
    current: bool


# ---- data


def labels_text(view: DatasetView) -> str:
    """The labels of a dataset with their counts, at most six."""
    counts = sorted(view.labels.items(), key=lambda pair: (-pair[1], pair[0]))
    text = ", ".join(f"{name} {number(count)}" for name, count in counts[:6])
    more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
    other = ", ".join(f"{number(count)} {name}" for name, count in kind_counts(view.kinds))
    return (text + more) or (f"none, {other}" if other else "none yet")


def training_href(hub: Services, name: str) -> str:
    """Return where the draft of an inspection is trained on; "" of a dataset that is of none."""
    is_one = name in inspections_of(hub) or bool(hub.labelling.own_labels(name).task)
    return f"/inspections/new/{name}?step=training" if is_one else ""


def label_counts(samples: Sequence[Sample]) -> tuple[tuple[str, int], ...]:
    """Count the images of each label, by name."""
    counts: dict[str, int] = {}
    for sample in samples:
        for label in sample.labels:
            counts[label] = counts.get(label, 0) + 1
    return tuple(sorted(counts.items()))


def gallery(
    dataset: str, samples: Sequence[Sample], *, label: str, opened_on: str = "pictures/"
) -> tuple[SampleCard, ...]:
    """The newest pictures that carry the label (all of them for "")."""
    wanted = [sample for sample in samples if not label or label in sample.labels]
    ordered = sorted(wanted, key=lambda sample: (sample.captured_at is None, sample.name))
    return tuple(card_of(dataset, one, opened_on=opened_on) for one in ordered[:GALLERY])


def gallery_filters(
    path: str, counts: Sequence[tuple[str, int]], *, label: str, total: int
) -> tuple[Filter, ...]:
    """Links that narrow the gallery to one label."""
    every = Filter(text=f"all {number(total)}", href=path, current=not label)
    by_label = (
        Filter(
            text=f"{name} {number(count)}",
            href=f"{path}?label={name.replace('/', '%2F')}",
            current=name == label,
        )
        for name, count in counts
    )
    return (every, *by_label)


def export_forms(samples: Sequence[Sample]) -> tuple[tuple[str, str], ...]:
    """The forms of files that have words for something on these pictures."""
    kinds = {**kinds_of(samples), "class": any(len(one.labels) == 1 for one in samples)}
    return tuple(
        (form, text) for form, text, any_of in _FORMS if not any_of or any(map(kinds.get, any_of))
    )


def split_counts(version: DatasetVersion) -> tuple[tuple[str, int], ...]:
    """Pictures of each part."""
    return tuple(
        (str(part) or "not split", len(version.splits[part]))
        for part in (Part.TRAIN, Part.VALID, Part.TEST, Part.OPEN)
        if part in version.splits
    )


# ---- runs

_RUN_MARKS = {
    "running": Mark(shape="dot", word="running", tone="ink"),
    "done": Mark(shape="tick", word="done", tone="ok"),
    "failed": Mark(shape="diamond", word="failed", tone="bad"),
    "cancelled": Mark(shape="square", word="cancelled"),
    "lost": Mark(shape="bar", word="lost", tone="warn"),
}


def run_mark(run: RunView) -> Mark:
    """The state of a run."""
    return _RUN_MARKS.get(run.state, Mark(shape="ring", word=run.state))


def run_time(run: RunView) -> str:
    """The time that a run took, or that is left."""
    if run.state != "running":
        took = (run.ended_at - run.started_at).total_seconds() if run.ended_at else None
        return f"took {span(took)}" if took is not None else ""
    return "time left not known yet" if run.eta_s is None else f"{span(run.eta_s)} left"


def run_chart(run: RunView) -> Json:
    """Loss and held-out figure over the run, for ``chart.js``; None before the first."""
    points: list[Json] = [
        [done, loss, None if held is None else held * 100] for done, loss, held in run.history
    ]
    if not points:
        return None
    return {"series": [["loss", ""], ["held out", "%"]], "points": points, "x": "percent done"}


# ---- packages


def metric_rows(metrics: Mapping[str, Any]) -> tuple[ComparedMetric, ...]:
    """Figures in order: the whole first, then per label."""
    ordered = sorted(metrics.items(), key=lambda pair: ("/" in pair[0], pair[0]))
    return tuple(
        ComparedMetric(name=name, this=decode(Metric, metric, where=name))
        for name, metric in ordered
    )


RUN_WORDS = {
    "run_mark": run_mark, "run_time": run_time, "run_chart": run_chart, "metric_rows": metric_rows,
}  # fmt: skip
"""Words of templates about a run."""


def package_mark(package: PackageView) -> Mark:
    """In use, or waiting for someone to take it into use."""
    if package.used_by:
        return Mark(shape="tick", word=f"in use for {', '.join(package.used_by)}", tone="ok")
    if package.approved_by:
        return Mark(shape="ring", word="approved, not in use")
    return Mark(shape="ring", word="candidate")


def data_text(dataset: str) -> str:
    """Return the name of a package's data: ``rack/3``."""
    return dataset.removeprefix("dataset://")


def _lineage(manifest: Mapping[str, Any]) -> Linked:
    lineage = manifest["lineage"]
    return (
        ("Dataset", data_text(lineage["dataset"]), dataset_href(lineage["dataset"])),
        ("Data digest", short(lineage["data_digest"]), ""),
        ("Pictures", number(lineage["pictures"]), ""),
        ("Data licence", lineage["data_licence"] or "not stated", ""),
        ("Weights", lineage["weights"], ""),
        ("Seed", str(lineage["seed"]), ""),
        ("Code", lineage["code_version"], ""),
        ("Made", lineage["created_at"] or "not stated", ""),
        ("Trained by", lineage["trained_by"] or "not stated", ""),
    )


def engine_facts(manifest: Mapping[str, Any]) -> Linked:
    """The network file, and what it sees of a picture."""
    engine = manifest["engine"]
    return (
        ("Precision", engine["precision"], ""),
        ("Golden pictures", number(len(manifest["golden"])), ""),
        ("Largest difference", f"{engine['max_abs_diff']:.1e}, bound {engine['bound']:.0e}", ""),
        *_input(manifest["prepare"]),
        ("Digest", short(engine["digest"]), ""),
    )


def _input(prepare: Mapping[str, Any]) -> Linked:
    """Return the network's input as text: each region by itself, or the whole image."""
    size = f"{prepare['width_px']} x {prepare['height_px']} px"
    regions = [crop["region"] for crop in prepare["crops"] if crop["region"]]
    if regions:
        return ("Input", f"{size} a region", ""), ("Regions", number(len(regions)), "")
    if prepare["fit"] == "zoom":
        size = f"{percent(prepare['zoom'])} of its size"
    return (("Input", f"whole picture, {size}", ""),)


def _health(health: Mapping[str, Any], *, task: str) -> Linked:
    most = f"at most {number(health['feature_distance_max'], digits=2)}"
    grey = f"{number(health['mean_grey_min'])} to {number(health['mean_grey_max'])}"
    return (
        ("Sharpness", f"at least {number(health['sharpness_min'])}", ""),
        ("Mean grey", grey, ""),
        ("Clipped", f"at most {percent(health['clipped_share_max'])}", ""),
        ("Residual", f"at most {number(health['residual_max_px'], digits=1)} px", ""),
        ("Feature distance", most if task in DISTANCE_TASKS else "not measured", ""),
    )


router = APIRouter()

_TASKS = (
    ("multilabel", "each label present or absent"),
    ("classify", "exactly one of the labels"),
    ("detect", "boxes of each label"),
    ("count", "how many"),
    ("segment", "which pixels are defect"),
    ("anomaly", "whether it differs from good parts"),
)
# The report is one file with its own style and pictures inside; it runs nothing and asks nobody.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


@router.get("/datasets")
def datasets_page(context: Context) -> HTMLResponse:
    """Every dataset."""
    routes = context.hub.plant.route
    topics = [route.topic for route in routes if route.kind is RouteKind.STOCK]
    inspected = {one.camera for one in context.hub.plant.inspection}
    return context.page(
        "data.html",
        title="Datasets",
        active="data",
        datasets=context.hub.datasets.all(),
        labels_text=labels_text,
        cameras=[one.id for one in context.hub.plant.camera if one.id in inspected]
        if topics
        else [],
        stock_topics=topics,
    )


@router.get("/datasets/{name}")
def dataset_page(context: Context, *, name: str, label: str = "") -> HTMLResponse:
    """The draft of one dataset."""
    view = context.hub.datasets.one(name)
    draft = context.hub.datasets.draft(name)
    samples = draft.samples
    counts = label_counts(samples)
    cards = gallery(name, samples, label=label, opened_on="label?picture=")
    return context.page(
        "dataset.html",
        title=name,
        active="data",
        sub=f"Draft, {counted(view.draft_samples, 'picture')}",
        dataset=view,
        frozen=None,
        training=training_href(context.hub, name),
        split=split_text(draft.split),
        samples=cards,
        more=_more(len(cards), _holding(counts, label, total=len(samples))),
        counts=counts,
        kinds=kind_counts(view.kinds),
        splits=(),
        export_forms=export_forms(samples),
        filters=gallery_filters(f"/datasets/{name}", counts, label=label, total=len(samples)),
    )


@router.get("/datasets/{name}/versions/{number}")
def dataset_version_page(
    context: Context, *, name: str, number: int, label: str = ""
) -> HTMLResponse:
    """One frozen version with its leak report."""
    view = context.hub.datasets.one(name)
    frozen = context.hub.datasets.version(name, number)
    counts = label_counts(frozen.samples)
    cards = gallery(name, frozen.samples, label=label)
    return context.page(
        "dataset.html",
        title=f"{name}, version {number}",
        active="data",
        sub=f"Version {number}, {counted(len(frozen.samples), 'picture')}",
        dataset=view,
        frozen=frozen,
        samples=cards,
        more=_more(len(cards), _holding(counts, label, total=len(frozen.samples))),
        counts=counts,
        kinds=kind_counts(kinds_of(frozen.samples)),
        splits=split_counts(frozen),
        export_forms=export_forms(frozen.samples),
        pairs=leak_pairs(frozen),
        filters=gallery_filters(
            f"/datasets/{name}/versions/{number}", counts, label=label, total=len(frozen.samples)
        ),
    )


@router.get("/datasets/{name}/diff")
def dataset_diff_page(context: Context, *, name: str, a: str, b: str = "") -> HTMLResponse:
    """Page of the changes between two versions."""
    found = context.hub.datasets.versions.diff(name, a=a, b=b)
    return context.page(
        "dataset_diff.html",
        title=f"{found.a} to {found.b}",
        active="data",
        name=name,
        diff=found,
        lists=change_lists(found),
    )


@router.get("/datasets/{name}/pictures/{digest}/drawn")
def drawn_picture(context: Context, *, name: str, digest: str) -> Response:
    """The same, small, with what is marked on it; a correction changes it."""
    picture = context.hub.datasets.drawn(name, digest)
    return Response(picture.data, media_type=picture.media_type)


@router.get("/datasets/{name}/pictures/{digest}")
def sample_picture(context: Context, *, name: str, digest: str) -> Response:
    """A picture of a dataset that came from a file; frames have their own address."""
    picture = context.hub.datasets.picture(name, digest)
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return Response(picture.data, media_type=picture.media_type, headers=headers)


def _holding(counts: tuple[tuple[str, int], ...], label: str, *, total: int) -> int:
    return dict(counts).get(label, 0) if label else total


def _more(shown: int, total: int) -> str:
    return f"The first {shown} of {counted(total, 'picture')}." if shown < total else ""


@router.get("/training")
def runs_page(context: Context, *, dataset: str = "", version: int = 0) -> HTMLResponse:
    """Every training run, and the form that starts one."""
    return context.page(
        "runs.html",
        title="Training",
        active="runs",
        runs=context.hub.runs.all(),
        **RUN_WORDS,
        choices=_choices(context.hub, dataset=dataset, version=version),
    )


def backbone_choices(hub: Services, *, task: str = "") -> tuple[tuple[str, str], ...]:
    """Name and text of each backbone that a training of a task may choose; "" for any task."""
    named = hub.runs.backbones
    frozen = {name for name, one in named.items() if backbone_file(one) is not None}
    return tuple(
        (name, f"{name}, frozen" if name in frozen and not task else name)
        for name in named
        if name not in frozen or task in ("", *FROZEN_TASKS)
    )


def _choices(hub: Services, *, dataset: str, version: int) -> dict[str, object]:
    frozen: list[DatasetView] = [one for one in hub.datasets.all() if one.versions]
    chosen = next((one for one in frozen if one.name == dataset), frozen[0] if frozen else None)
    return {
        "versions": bool(frozen),
        "datasets": [one.name for one in frozen],
        "dataset": chosen.name if chosen else "",
        "version": version or (chosen.versions[0].number if chosen else 1),
        "inspections": list(inspections_of(hub)),
        "tasks": _TASKS,
        "groups": [one.name for one in hub.models.all()],
        "backbones": backbone_choices(hub),
    }


@router.get("/training/{run}")
def run_page(context: Context, *, run: str) -> HTMLResponse:
    """One run: how far, how good, and what came of it."""
    return context.page("run.html", active="runs", run=context.hub.runs.one(run), **RUN_WORDS)


@router.get("/training/{run}/progress")
def run_progress(context: Context, *, run: str) -> HTMLResponse:
    """Progress of a run as a part, read again every second while it runs."""
    found = context.hub.runs.one(run)
    fragment = context.site.fragment("run_progress.html", run=found, **RUN_WORDS)
    if found.state != "running":  # ended: the buttons of the page change with it
        fragment.headers["hx-refresh"] = "true"
    return fragment


@router.get("/models")
def models_page(context: Context) -> HTMLResponse:
    """Groups of numbered versions, and every package."""
    return context.page(
        "models.html",
        title="Models",
        active="models",
        packages=context.hub.packages.all(),
        package_mark=package_mark,
        first_metric=first_metric,
        data_text=data_text,
        dataset_href=dataset_href,
        groups=context.hub.models.all(),
        follows_words=follows_words,
    )


@router.get("/models/{digest}")
def model_page(context: Context, *, digest: str) -> HTMLResponse:
    """The evidence of one package."""
    package = context.hub.packages.one(digest)
    manifest = package.manifest
    return context.page(
        "model.html",
        active="models",
        package=package,
        mark_of_package=package_mark(package),
        inspection_known=package.inspection in inspections_of(context.hub),
        inspections=context.hub.packages.inspections(digest),
        metrics=metric_rows(manifest["metrics"]),
        decision=decision_facts(manifest),
        lineage=_lineage(manifest),
        engine=engine_facts(manifest),
        health=_health(manifest["health"], task=manifest["task"]),
        has_report=context.hub.packages.has_report(digest),
        versions=context.hub.models.holding(digest),
        replays=[one for one in context.hub.replays.all() if one.order.package == digest],
        **REPLAY_WORDS,
        replay_span=replay_span(context.hub.clock.now()),
    )


@router.get("/models/{digest}/report")
def model_report(context: Context, *, digest: str) -> Response:
    """The report that a package carries, as it was written."""
    page = context.hub.packages.report(digest)
    headers = {"content-security-policy": _REPORT_POLICY}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/try")
def try_page(context: Context, *, package: str = "") -> HTMLResponse:
    """Show any picture to any package."""
    rows = [
        {
            "digest": one.digest,
            "text": f"{one.name}@{short(one.digest)}, {package_mark(one).word}",
        }
        for one in context.hub.packages.all()
    ]
    return context.page(
        "try.html", title="Try a picture", active="try", packages=rows, chosen=package
    )


@router.post("/try/{digest}")
async def try_picture(context: Context, *, digest: str) -> HTMLResponse:
    """A package's answer to the picture in the body, as a part; nothing is stored."""
    hub, data = context.hub, await context.request.body()

    def part() -> HTMLResponse:
        tried = hub.packages.try_picture(digest, data)
        said = frame_prediction(
            tried.prediction,
            package=hub.packages.one(digest),
            inspection=inspections_of(hub).get(tried.prediction.inspection),
            point=hub.points.decided_by(tried.prediction),
        )
        answer = answer_text(tried.prediction)
        return context.site.fragment("tried.html", said=said, heat=tried.heat, answer=answer)

    return await hub.queue.run("pictures that are tried", part)


@router.get("/regions")
def regions_page(
    context: Context, *, frame: str = "", camera: str = "", inspection: str = ""
) -> HTMLResponse:
    """Draw regions on a picture and save them, or print them for the plant file.

    ``inspection``: a new one, whose regions are drawn on the first picture of its dataset; the page
    then leads back to its labels.
    """
    if frame:
        camera = context.hub.frames.row(frame).camera
    newest = {one.id: one.newest.id for one in context.hub.cameras.all() if one.newest}
    every = context.hub.plant.inspection
    if inspection:
        watching = next((one for one in every if one.id == inspection), None)
        drafted = context.hub.datasets.draft(inspection).samples
        picture = picture_address(inspection, drafted[0]) if drafted else ""
    else:
        frame = frame or newest.get(camera, "")
        watching = next((one for one in every if one.camera == camera), None)
        picture = f"/api/v1/frames/{frame}/picture" if frame else ""
    return context.page(
        "regions.html",
        title="Regions",
        active="regions",
        picture=picture,
        start=_drawn(watching),
        inspections=[one.id for one in every if one.task is Task.MULTILABEL],
        begun=inspection,
        every_camera=[(one.id, one.name or one.id) for one in context.hub.plant.camera],
        watching=watching.id if watching else "",
        cameras=[
            {"name": one.name or one.id, "frame": newest[one.id]}
            for one in context.hub.plant.camera
            if one.id in newest
        ],
    )


def _drawn(inspection: Inspection | None) -> Json:
    """The regions that the plant file has already."""
    if inspection is None:
        return []
    return [
        {
            "id": region.id,
            "label": region.label,
            "classes": list(region.classes),
            "box": box_corners(region),
        }
        for region in inspection.region
    ]
