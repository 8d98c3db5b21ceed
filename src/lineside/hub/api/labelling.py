"""``/api/v1/datasets/{name}/samples``: annotations of a draft, one image at a time."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse

from lineside.core import encode
from lineside.datasets import Sample
from lineside.hub.api.wire import (
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
from lineside.hub.ingest import export
from lineside.hub.learning.imports import ImportReport
from lineside.hub.learning.labelling import (
    AnnotatedSample,
    AnnotationChange,
    CommentText,
    LabelConflictError,
    LabelList,
    LabelProgress,
    LabelRename,
    SampleRow,
)
from lineside.hub.problems import MEDIA_TYPE, Problem
from lineside.hub.services import Services

router = APIRouter(prefix="/api/v1/datasets", tags=["teaching"])


class LabelConflict(Problem):
    """A save that came second: what stands now, and what was to be saved."""

    stored: AnnotatedSample
    yours: AnnotationChange


_IMAGE = {
    "dataset": "plates", "digest": "sha256:" + 64 * "0", "name": "plate-00042.png",
    "picture": "/datasets/plates/pictures/sha256:" + 64 * "0", "width_px": 320, "height_px": 240,
    "revision": 3, "state": "labelled",
    "annotation": {
        "labels": ["scratch"], "known": ["dent", "scratch"],
        "marked": [
            {"label": "scratch", "x0_px": 12.0, "y0_px": 8.0, "x1_px": 60.0, "y1_px": 31.0}
        ],
        "polygons": [], "mask": None, "count": None,
    },
    "by": "M. Keller", "at": "2026-01-01T12:00:00.000Z", "disputed": [],
    "contradicting": [], "comments": [],
}  # fmt: skip
_CHANGE = {"revision": 2, "annotation": _IMAGE["annotation"], "state": "labelled"}
_CONFLICT = {
    "type": "about:blank", "title": "Conflict", "status": 409,
    "detail": "the image is at revision 3, last judged by M. Keller; the change was made on"
    " revision 2", "where": "plate-00042.png",
    "fix": "Compare both (lineside dataset image plates sha256:000… --json); to keep yours, send it"
    " again with revision 3.", "faults": [],
    "stored": _IMAGE, "yours": _CHANGE,
}  # fmt: skip


@router.get("/{name}/samples", summary="Images of a draft")
@responds(Page[SampleRow])
def list_samples(
    hub: Hub, name: str, *, state: str = "", after: str = "", limit: Limit = 100
) -> Response:
    """By capture time and name; ``state``: todo, labelled, checked or discuss."""
    rows = hub.labelling.rows(name, state=state, after=after, limit=limit)
    return page_response(rows, following=next_cursor(rows, limit, key=lambda row: row.digest))


@router.get("/{name}/progress", summary="How far the labelling of a draft is")
@responds(LabelProgress)
def get_progress(hub: Hub, name: str) -> Response:
    """Images by state."""
    return json_response(hub.labelling.progress(name))


@router.get("/{name}/labels", summary="Labels that may be used")
@responds(LabelList)
def get_labels(hub: Hub, name: str) -> Response:
    """Those of the plant's inspections, those declared, those the draft has already."""
    return json_response(hub.labelling.labels(name))


@router.post("/{name}/labels", summary="Declare labels")
@responds(LabelList)
def declare_labels(
    hub: Hub, name: str, *, new: bool = False,
    wanted: Annotated[LabelList, Depends(json_body(LabelList))],
) -> Response:  # fmt: skip
    """Further labels of this dataset; none is taken away. 409 where another task was declared.

    ``new``: 409 also where the dataset has images already.
    """
    if new:
        hub.labelling.check_empty(name)
    return json_response(hub.labelling.declare(name, wanted))


@router.post("/{name}/labels/rename", summary="Rename or merge a label")
@responds(LabelList, example={"labels": ["dent", "scratch"], "task": "multilabel"})
def rename_label(
    hub: Hub,
    who: Requester,
    *,
    name: str,
    wanted: Annotated[LabelRename, Depends(json_body(LabelRename))],
) -> Response:
    """All images of the draft, or none; where ``name`` is a label too, both become one.

    What holds of either then holds of it; what holds of neither is judged where both were.
    Versions keep their names; what somebody saves meanwhile is kept, and renamed too. A label of a
    good part stays one; 400 where of both one alone means a good part, and for a label on more than
    2,000 images: export the draft, rename it in ``labels.csv``, import it as another dataset.
    """
    return json_response(hub.labelling.rename(name, wanted, by=who.name))


@router.get("/{name}/samples/{digest}", summary="An image with its annotation")
@responds(AnnotatedSample, example=_IMAGE)
def get_sample(
    hub: Hub, name: str, *, digest: str, judgement: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Labels, boxes, points, polygons, mask, count, state, comments, and the revision.

    ``judgement``: number of one of its judgements, from 1: the image as that one annotated it.
    """
    return json_response(hub.labelling.one(name, digest, judgement=judgement))


@router.post("/{name}/samples/{digest}", summary="Save an annotation")
@responds(AnnotatedSample, example=_IMAGE)
@responds(LabelConflict, MEDIA_TYPE, status=409, example=_CONFLICT)
def save_sample(
    hub: Hub,
    who: Requester,
    *,
    name: str,
    digest: str,
    change: Annotated[AnnotationChange, Depends(json_body(AnnotationChange))],
) -> Response:
    """Replaces all of it; 409 with both versions when somebody saved since ``revision``."""
    try:
        return json_response(hub.labelling.save(name, digest, change, by=who.name))
    except LabelConflictError as error:
        conflict = LabelConflict(
            type="about:blank", title=error.title, status=error.http_status,
            detail=error.message, where=error.where, fix=error.fix, faults=(),
            stored=error.stored, yours=change,
        )  # fmt: skip
        return Response(encode(conflict), status_code=409, media_type=MEDIA_TYPE)


@router.post("/{name}/samples/{digest}/comments", summary="Comment on an image")
@responds(AnnotatedSample, example=_IMAGE)
def add_comment(
    hub: Hub,
    who: Requester,
    *,
    name: str,
    digest: str,
    comment: Annotated[CommentText, Depends(json_body(CommentText))],
) -> Response:
    """Everybody who labels it reads it. It changes the revision, and is in no version."""
    return json_response(hub.labelling.comment(name, digest, comment.text, by=who.name))


_ZIP = "application/zip"
Upload = Annotated[bytes, Depends(bytes_body(_ZIP, "application/octet-stream"))]


@router.post("/{name}/import", summary="Import a ZIP of labelled images")
@responds(ImportReport)
def import_files(
    hub: Hub,
    who: Requester,
    *,
    name: str,
    data: Upload,
    keep: Annotated[str, Query(description="digest of the report; empty: look only")] = "",
) -> Response:
    """Says what it holds and keeps nothing; with the report's digest it is added to the draft.

    In any format of datasets, or bare images; at most ``max_body_bytes``. 400 for more than 10,000
    files, or where they are more than 64 MiB and 20 times its size; 503 while another import is
    under way.
    """
    return json_response(hub.imports.read(name, data, keep=keep, by=who.name))


Form = Annotated[
    str, Query(alias="format", description="csv, folders, lst, records, masks, coco, yolo, voc")
]


@router.get("/{name}/export", summary="The draft as files")
@responds(bytes, _ZIP)
def export_draft(hub: Hub, name: str, *, form: Form = "csv") -> Response:
    """A ZIP of up to 5,000 images, as they are labelled now; parts as their source declared.

    More images: ``lineside dataset export``. 503 while another export is under way.

    ``left-out.txt`` in it names what the format has no words for, a line each.
    """
    samples = hub.datasets.draft(name).samples
    return _exported(hub, samples, of=f"{name} --draft", form=form, title=f"{name}-draft")


@router.get("/{name}/versions/{number}/export", summary="A version as files")
@responds(bytes, _ZIP)
def export_version(hub: Hub, name: str, *, number: int, form: Form = "csv") -> Response:
    """A ZIP of up to 5,000 images that other tools and an import read; 0 is the newest version.

    More images: ``lineside dataset export``. 503 while another export is under way.

    ``left-out.txt`` in it names what the format has no words for, a line each.
    """
    version = hub.datasets.version(name, number)
    of, title = f"{name} --version {version.number}", f"{name}-{version.number}"
    return _exported(hub, version.parted, of=of, form=form, title=title)


def _exported(
    hub: Services, samples: Sequence[Sample], *, of: str, form: str, title: str
) -> Response:
    """Samples as a ZIP; ``of``: how the command names them."""
    if len(samples) > export.MOST_IMAGES:
        command = f"lineside dataset export {of} --to FOLDER --format {form}"
        raise export.too_many_images(fix=f"Use `{command}` on the hub's machine.")
    pieces = export.zip_of_samples(
        samples, files=hub.datasets.read_file, form=form,
        folder=hub.config.folder / "exports", now=hub.clock.now(),
    )  # fmt: skip
    headers = {"Content-Disposition": f'attachment; filename="{title}-{form}.zip"'}
    return StreamingResponse(pieces, media_type=_ZIP, headers=headers)
