"""``/api/v1/datasets``, ``/runs`` and ``/packages``: from labels to a package in use."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.datasets import DatasetVersion, Leak, SplitPlan
from lineside.datasets.report.report import DatasetReport
from lineside.datasets.versions import Tag, VersionDiff
from lineside.hub.api.wire import (
    PICTURE_TYPES,
    Hub,
    Limit,
    Page,
    Requester,
    bytes_body,
    json_body,
    json_response,
    next_cursor,
    page_response,
    responds,
)
from lineside.hub.learning.datasets import Parted, TagMoved, Teaching
from lineside.hub.learning.jobs import RunRequest
from lineside.hub.setup.placement import PackagePlacement, placement_edits
from lineside.hub.setup.versions import PlantVersion
from lineside.hub.views import DatasetView, PackageView, RunView, TrialPrediction, VersionView

router = APIRouter(prefix="/api/v1", tags=["teaching"])

_ARCHIVES = ("application/octet-stream", "application/zip", "application/vnd.lineside.package")
_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRequest:
    """Body of ``POST …/use``; the approver is who asks."""

    inspection: str
    reason: str


# ---- data sets


@router.get("/datasets", summary="Data sets")
@responds(Page[DatasetView])
def list_datasets(hub: Hub) -> Response:
    """By name, with the figures of draft and versions."""
    return page_response(hub.datasets.all())


@router.get("/datasets/{name}", summary="One data set")
@responds(DatasetView)
def get_dataset(hub: Hub, name: str) -> Response:
    """Draft and versions in figures."""
    return json_response(hub.datasets.one(name))


@router.post(
    "/datasets/{name}/samples",
    summary="Teach: frames with labels",
)
@responds(DatasetView, status=201)
def add_samples(
    hub: Hub,
    who: Requester,
    *,
    name: str,
    teaching: Annotated[Teaching, Depends(json_body(Teaching))],
) -> Response:
    """Add frames, a span of them, or a camera's time; with labels, or those of a stock topic."""
    return json_response(hub.datasets.teach(name, teaching, by=who.name), status=201)


@router.post("/datasets/{name}/freeze", summary="Freeze the draft to a version")
@responds(VersionView, status=201)
def freeze(hub: Hub, who: Requester, *, name: str) -> Response:
    """Unchanged content gives the version that holds it already."""
    return json_response(hub.datasets.freeze(name, by=who.name), status=201)


@router.get("/datasets/{name}/versions/{number}", summary="A frozen version")
@responds(DatasetVersion)
def get_version(hub: Hub, name: str, *, number: int) -> Response:
    """Every sample with labels, split, leaks and lineage; 0 is the newest."""
    return json_response(hub.datasets.version(name, number))


@router.get("/datasets/{name}/versions/{number}/leaks", summary="Its leak report")
@responds(Page[Leak])
def get_leaks(hub: Hub, name: str, *, number: int) -> Response:
    """Pairs too alike, with the parts they stand in."""
    return page_response(hub.datasets.leaks(name, number))


_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)


@router.get("/datasets/{name}/versions/{number}/report", summary="Its report")
@responds(DatasetReport)
@responds(bytes, "text/html")
def get_report(hub: Hub, name: str, *, number: int, format: str = "html") -> Response:  # noqa: A002  the parameter's name
    """Balance, sizes, light, masks, leaks, examples; one HTML page, or ``?format=json``."""
    keep = _KEEP if number else {}
    if format == "json":
        told = hub.datasets.versions.report_json(name, number)
        return Response(told, media_type="application/json", headers=keep)
    page = hub.datasets.versions.report(name, number)
    headers = {**keep, "Content-Security-Policy": _REPORT_POLICY}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/datasets/{name}/diff", summary="What changed between two versions")
@responds(VersionDiff)
def get_diff(hub: Hub, name: str, *, a: str, b: str = "") -> Response:
    """Added, removed, relabelled, redrawn, moved, regrouped.

    ``a``, ``b``: numbers or tags; ``b`` is the newest by default.
    """
    return json_response(hub.datasets.versions.diff(name, a=a, b=b))


@router.get("/datasets/{name}/tags", summary="Its tags")
@responds(Page[Tag])
def list_tags(hub: Hub, name: str) -> Response:
    """Each with every move, oldest first."""
    return page_response(hub.datasets.versions.tags(name))


@router.post("/datasets/{name}/tags", summary="Move a tag")
@responds(Tag)
def move_tag(
    hub: Hub, who: Requester, *, name: str, moved: Annotated[TagMoved, Depends(json_body(TagMoved))]
) -> Response:
    """A tag is on one version at a time; version 0 takes it off."""
    return json_response(hub.datasets.versions.tag(name, moved, by=who.name))


@router.post("/datasets/{name}/split", summary="Say how it is split")
@responds(Parted)
def split_dataset(
    hub: Hub, name: str, *, plan: Annotated[SplitPlan, Depends(json_body(SplitPlan))]
) -> Response:
    """The next version is split like this; answers the parts as they would be now."""
    return json_response(hub.datasets.versions.split(name, plan))


# ---- runs


@router.get("/runs", summary="Training runs, newest first")
@responds(Page[RunView])
def list_runs(hub: Hub, *, before: str = "", limit: Limit = 100) -> Response:
    """Runs in figures."""
    runs = [run for run in hub.runs.all() if not before or run.id < before][:limit]
    return page_response(
        runs, following=next_cursor(runs, limit, key=lambda run: run.id), cursor="before"
    )


@router.post("/runs", summary="Train in a child process")
@responds(RunView, status=201)
def start_run(
    hub: Hub, who: Requester, *, request: Annotated[RunRequest, Depends(json_body(RunRequest))]
) -> Response:
    """409 while another run is at work."""
    if request.freeze:
        hub.runs.check(request)
        frozen = hub.datasets.freeze_to_train(request.dataset, by=who.name)
        request = replace(request, version=frozen.number, freeze=False)
    return json_response(hub.runs.start(request, by=who.name), status=201)


@router.get("/runs/{run}", summary="One run")
@responds(RunView)
def get_run(hub: Hub, run: str) -> Response:
    """Its progress, figures and end."""
    return json_response(hub.runs.one(run))


@router.post("/runs/{run}/cancel", summary="Stop after the step")
@responds(RunView)
def cancel_run(hub: Hub, run: str) -> Response:
    """The run can be resumed."""
    return json_response(hub.runs.cancel(run))


@router.post("/runs/{run}/resume", summary="Go on where it stood")
@responds(RunView)
def resume_run(hub: Hub, run: str) -> Response:
    """Of a cancelled or failed run; 409 where its images or settings were refused."""
    return json_response(hub.runs.resume(run))


# ---- packages


@router.get("/packages", summary="The registry")
@responds(Page[PackageView])
def list_packages(hub: Hub) -> Response:
    """Newest first."""
    return page_response(hub.packages.all())


Archive = Annotated[bytes, Depends(bytes_body(*_ARCHIVES))]
PictureBytes = Annotated[bytes, Depends(bytes_body(*PICTURE_TYPES))]


@router.post("/packages", summary="Add a package")
@responds(PackageView, status=201)
def add_package(hub: Hub, who: Requester, *, data: Archive) -> Response:
    """The body is the archive's bytes; everything in it is checked."""
    return json_response(hub.packages.add(data, by=who.name), status=201)


@router.get("/packages/{digest}", summary="One package")
@responds(PackageView)
def get_package(hub: Hub, digest: str) -> Response:
    """Its manifest, and who took it into use."""
    return json_response(hub.packages.one(digest))


@router.get("/packages/{digest}/content", summary="The archive's bytes")
@responds(bytes, _ARCHIVES[0])
def get_content(hub: Hub, digest: str) -> Response:
    """The archive that devices fetch with their token."""
    return Response(hub.packages.content(digest), media_type=_ARCHIVES[0], headers=_KEEP)


@router.post("/packages/{digest}/use", summary="Take into use")
@responds(PackageView)
def use_package(
    hub: Hub,
    who: Requester,
    *,
    digest: str,
    use: Annotated[UseRequest, Depends(json_body(UseRequest))],
) -> Response:
    """Approved by who asks, and signed; then devices get it as desired."""
    used = hub.packages.use(digest, inspection=use.inspection, by=who.name, reason=use.reason)
    return json_response(used)


@router.post("/packages/{digest}/inspection", summary="Add its inspection to the plant file")
@responds(PlantVersion)
def place_package(
    hub: Hub,
    who: Requester,
    *,
    digest: str,
    placement: Annotated[PackagePlacement, Depends(json_body(PackagePlacement))],
) -> Response:
    """With its camera and line where the plant file lacks them, as one version of it.

    One that is there moves to that camera. 409 for a camera that is there with another source, and
    where the file changed since version ``base``.
    """
    manifest = hub.packages.manifest(digest)
    edits = placement_edits(manifest, placement, plant=hub.plant)
    version = hub.plants.change(
        edits=edits, by=who.name, reason=placement.reason, base=placement.base
    )
    return json_response(version)


@router.post("/packages/{digest}/predict", summary="Try a picture")
@responds(TrialPrediction)
async def predict(hub: Hub, digest: str, *, data: PictureBytes) -> Response:
    """Decisions and activation maps; nothing is stored."""
    work = partial(hub.packages.try_picture, digest, data)
    return json_response(await hub.queue.run("pictures that are tried", work))
