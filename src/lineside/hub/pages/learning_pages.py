"""Data, training runs, packages, trying a picture, drawing regions."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from lineside.core import Inspection, Json, RouteKind
from lineside.hub.learning.dataset_versions import kinds_of
from lineside.hub.pages.common import Ask, inspections_of
from lineside.hub.pages.format import counted
from lineside.hub.pages.views import datasets as words
from lineside.hub.pages.views import learning as views
from lineside.hub.pages.views.answers import plan_of
from lineside.hub.pages.views.models import group_row
from lineside.hub.pages.views.replays import replay_row, replay_span
from lineside.hub.services import Services
from lineside.hub.views import DatasetView

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


@router.get("/data")
def data(ask: Ask) -> HTMLResponse:
    """Every dataset."""
    routes = ask.hub.plant.route
    topics = [route.topic for route in routes if route.kind is RouteKind.STOCK]
    inspected = {one.camera for one in ask.hub.plant.inspection}
    return ask.page(
        "data.html",
        title="Datasets",
        active="data",
        datasets=[views.dataset_row(one) for one in ask.hub.datasets.all()],
        cameras=[one.id for one in ask.hub.plant.camera if one.id in inspected] if topics else [],
        stock_topics=topics,
    )


@router.get("/data/{name}")
def dataset(ask: Ask, *, name: str, label: str = "") -> HTMLResponse:
    """The draft of one dataset."""
    view = ask.hub.datasets.one(name)
    draft = ask.hub.datasets.draft(name)
    samples = draft.samples
    counts = views.label_counts(samples)
    cards = views.gallery(name, samples, label=label)
    return ask.page(
        "dataset.html",
        title=name,
        active="data",
        sub=f"Draft, {counted(view.draft_samples, 'picture')}",
        dataset=view,
        frozen=None,
        parting=words.parting_words(draft.parting),
        samples=cards,
        more=_more(len(cards), _holding(counts, label, total=len(samples))),
        counts=counts,
        kinds=words.kind_counts(view.kinds),
        splits=(),
        filters=views.gallery_filters(f"/data/{name}", counts, label=label, total=len(samples)),
    )


@router.get("/data/{name}/versions/{number}")
def version(ask: Ask, *, name: str, number: int, label: str = "") -> HTMLResponse:
    """One frozen version with its leak report."""
    view = ask.hub.datasets.one(name)
    frozen = ask.hub.datasets.version(name, number)
    counts = views.label_counts(frozen.samples)
    cards = views.gallery(name, frozen.samples, label=label)
    return ask.page(
        "dataset.html",
        title=f"{name}, version {number}",
        active="data",
        sub=f"Version {number}, {counted(len(frozen.samples), 'picture')}",
        dataset=view,
        frozen=frozen,
        samples=cards,
        more=_more(len(cards), _holding(counts, label, total=len(frozen.samples))),
        counts=counts,
        kinds=words.kind_counts(kinds_of(frozen.samples)),
        splits=views.split_counts(frozen),
        pairs=words.leak_pairs(frozen),
        filters=views.gallery_filters(
            f"/data/{name}/versions/{number}", counts, label=label, total=len(frozen.samples)
        ),
    )


@router.get("/data/{name}/diff")
def diff(ask: Ask, *, name: str, a: str, b: str = "") -> HTMLResponse:
    """What changed between two versions."""
    found = ask.hub.datasets.versions.diff(name, a=a, b=b)
    return ask.page(
        "dataset_diff.html",
        title=f"{found.a} to {found.b}",
        active="data",
        name=name,
        diff=found,
        lists=words.change_lists(found),
    )


@router.get("/data/{name}/pictures/{digest}/drawn")
def drawn_picture(ask: Ask, *, name: str, digest: str) -> Response:
    """The same, small, with what is marked on it; a correction changes it."""
    picture = ask.hub.datasets.drawn(name, digest)
    return Response(picture.data, media_type=picture.media_type)


@router.get("/data/{name}/pictures/{digest}")
def sample_picture(ask: Ask, *, name: str, digest: str) -> Response:
    """A picture of a dataset that came from a file; frames have their own address."""
    picture = ask.hub.datasets.picture(name, digest)
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return Response(picture.data, media_type=picture.media_type, headers=headers)


def _holding(counts: tuple[tuple[str, int], ...], label: str, *, total: int) -> int:
    return dict(counts).get(label, 0) if label else total


def _more(shown: int, total: int) -> str:
    return f"The first {shown} of {counted(total, 'picture')}." if shown < total else ""


@router.get("/runs")
def runs(ask: Ask, *, dataset: str = "", version: int = 0) -> HTMLResponse:
    """Every training run, and the form that starts one."""
    return ask.page(
        "runs.html",
        title="Training",
        active="runs",
        runs=[views.run_row(run) for run in ask.hub.runs.all()],
        choices=_choices(ask.hub, dataset=dataset, version=version),
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
    }


@router.get("/runs/{run}")
def run_page(ask: Ask, *, run: str) -> HTMLResponse:
    """One run: how far, how good, and what came of it."""
    row = views.run_row(ask.hub.runs.one(run))
    return ask.page("run.html", active="runs", run=row)


@router.get("/runs/{run}/progress")
def run_progress(ask: Ask, *, run: str) -> HTMLResponse:
    """How far a run is, read anew every second while it runs."""
    row = views.run_row(ask.hub.runs.one(run))
    fragment = ask.site.fragment("run_progress.html", run=row)
    if not row.cancels:  # ended: the buttons of the page change with it
        fragment.headers["hx-refresh"] = "true"
    return fragment


@router.get("/models")
def models(ask: Ask) -> HTMLResponse:
    """Groups of numbered versions, and every package."""
    groups = [group_row(one) for one in ask.hub.models.all()]
    packages = [views.package_row(one) for one in ask.hub.packages.all()]
    return ask.page(
        "models.html", title="Models", active="models", packages=packages, groups=groups
    )


@router.get("/models/{digest}")
def model(ask: Ask, *, digest: str) -> HTMLResponse:
    """The evidence of one package."""
    facts = views.package_facts(
        ask.hub.packages.one(digest), inspections=tuple(inspections_of(ask.hub))
    )
    return ask.page(
        "model.html",
        active="models",
        package=facts,
        has_report=ask.hub.packages.has_report(digest),
        versions=ask.hub.models.holding(digest),
        replays=[replay_row(one) for one in ask.hub.replays.all() if one.order.package == digest],
        replay_span=replay_span(ask.hub.clock.now()),
    )


@router.get("/models/{digest}/report")
def model_report(ask: Ask, *, digest: str) -> Response:
    """The report that a package carries, as it was written."""
    page = ask.hub.packages.report(digest)
    headers = {"content-security-policy": _REPORT_POLICY}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/try")
def try_page(ask: Ask, *, package: str = "") -> HTMLResponse:
    """Show any picture to any package."""
    inspections = inspections_of(ask.hub)
    rows = [
        {
            "digest": one.digest,
            "text": f"{views.labelled(one)}, {views.package_mark(one).word}",
            "plan": plan_of(inspections[one.inspection]) if one.inspection in inspections else None,
        }
        for one in ask.hub.packages.all()
    ]
    return ask.page("try.html", title="Try a picture", active="try", packages=rows, chosen=package)


@router.get("/regions")
def regions(ask: Ask, *, frame: str = "", camera: str = "") -> HTMLResponse:
    """Draw regions on a picture and print them for the plant file."""
    if frame:
        camera = ask.hub.frames.row(frame).camera
    newest = {one.id: one.newest.id for one in ask.hub.cameras.all() if one.newest}
    frame = frame or newest.get(camera, "")
    watching = next((one for one in ask.hub.plant.inspection if one.camera == camera), None)
    return ask.page(
        "regions.html",
        title="Regions",
        active="regions",
        picture=f"/api/v1/frames/{frame}/picture" if frame else "",
        start=_drawn(watching),
        cameras=[
            {"name": one.name or one.id, "frame": newest[one.id]}
            for one in ask.hub.plant.camera
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
            "box": [
                region.box_px.x0_px,
                region.box_px.y0_px,
                region.box_px.x1_px,
                region.box_px.y1_px,
            ],
        }
        for region in inspection.region
    ]
