"""``/api/v1/cameras`` and ``/api/v1/frames``."""

from functools import partial
from typing import Annotated, TypedDict

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from lineside.core import encode
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    json_response,
    page_response,
    responds,
)
from lineside.hub.frame_filter import FrameAsked
from lineside.hub.ingest.export import MEDIA, FrameFiles
from lineside.hub.ingest.frames import GoneError
from lineside.hub.problems import MEDIA_TYPE, Problem
from lineside.hub.views import CameraView, FrameView, LoggedEvent, Picture, plain
from lineside.store import FrameCount, FrameRow, FrameWithAnswer

router = APIRouter(prefix="/api/v1", tags=["frames"])

_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
PICTURES = ("image/jpeg", "image/png")
Time = Annotated[str, Query(description="RFC 3339 time with zone")]


_SAMPLE = {
    "items": [
        {
            "id": "frm_01KTESTFRAME", "camera": "rack", "captured_at": "2026-01-01T12:00:00.000Z",
            "arrived_at": "2026-01-01T12:00:00.120Z", "digest": "sha256:" + 64 * "0",
            "size_bytes": 48213, "width_px": 1280, "height_px": 960,
            "thumbnail": "sha256:" + 64 * "1", "part": "plate-00042", "sequence": 42,
            "pins": ["dataset:plates"], "aged_out_at": None,
            "answer": {
                "frame": "frm_01KTESTFRAME", "camera": "rack",
                "captured_at": "2026-01-01T12:00:00.000Z", "inspection": "plates",
                "package": "sha256:" + 64 * "2", "verdict": "reject", "label": "scratch",
                "labels": ["scratch"], "score": 0.93, "doubt": 0.07, "unsure": False,
            },
        }
    ],
    "next": None,
    "cursor": "before",
}  # fmt: skip


class FrameEvents(TypedDict):
    """A frame and everything that names it."""

    row: FrameRow
    predictions: list[LoggedEvent]
    events: list[LoggedEvent]
    orders: tuple[str, ...]
    datasets: tuple[str, ...]


class LostPicture(Problem):
    """The rest of a frame whose picture aged out."""

    tombstone: FrameRow


@router.get("/cameras", summary="Cameras with state, newest frame, newest prediction")
@responds(Page[CameraView])
def list_cameras(hub: Hub) -> Response:
    """Every camera of the plant file, in its order."""
    return page_response(hub.cameras.all())


@router.get("/cameras/{camera}", summary="One camera")
@responds(CameraView)
def get_camera(hub: Hub, camera: str) -> Response:
    """A camera as it stands now."""
    return json_response(hub.cameras.one(camera))


@router.get("/frames", summary="Stored frames with their answers, newest first")
@responds(Page[FrameWithAnswer], example=_SAMPLE)
def list_frames(hub: Hub, query: FrameAsked, *, before: str = "", limit: Limit = 100) -> Response:
    """Frames that pass the filter; ``before`` is the id of the last frame already seen.

    A page may hold fewer than ``limit`` and still have a next one: it looks at a bounded number
    of frames.
    """
    found = hub.frames.find(query.filter(hub.plant), before=before, limit=limit)
    return page_response(found.frames, following=found.following, cursor="before")


@router.get("/frames/count", summary="How many frames pass a filter")
@responds(FrameCount)
def count_frames(hub: Hub, query: FrameAsked) -> Response:
    """By verdict; counting ends at 2,000 frames looked at, and then ``whole`` is false."""
    return json_response(hub.frames.count(query.filter(hub.plant)))


@router.get("/frames/export", summary="Frames as a file")
@responds(bytes, *dict.fromkeys(one.partition(";")[0] for one in MEDIA.values()))
def export_frames(
    hub: Hub, query: FrameAsked, *,
    form: Annotated[
        str, Query(alias="format", description="zip, coco, csv or parquet")
    ] = "zip",
) -> Response:  # fmt: skip
    """All that pass the filter: up to 5,000 images as a ZIP, a million rows as a table.

    ``zip``: images and ``labels.csv``, which ``lineside dataset import`` reads; ``coco``: images
    with the boxes of the answers, and their masks as run lengths, those of each inspection under
    its own label; ``csv`` and ``parquet``: a row a frame. Labels are answers, which nobody judged.
    ``left-out.txt`` in a ZIP names what its format has no words for, a line each.
    """
    files = FrameFiles(
        hub.frames, hub.blobs, plant=hub.plant, folder=hub.config.folder / "exports",
        clock=hub.clock,
    )  # fmt: skip
    pieces = files.pieces(query.filter(hub.plant), form=form)
    name = f"frames.{form}" if form in ("csv", "parquet") else f"frames-{form}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type=MEDIA[form], headers=headers)


@router.get("/frames/{frame}", summary="A frame and everything that names it")
@responds(FrameEvents)
def get_frame(hub: Hub, frame: str) -> Response:
    """The row, predictions, events, orders and data sets."""
    return json_response(_plain(hub.frames.view(frame)))


@router.get("/frames/{frame}/picture", summary="The picture's bytes as they came")
@responds(bytes, *PICTURES)
@responds(LostPicture, MEDIA_TYPE, status=410)
def get_picture(hub: Hub, frame: str) -> Response:
    """410 with what is left of the frame when the picture aged out."""
    try:
        return _bytes(hub.frames.picture(frame))
    except GoneError as error:
        gone = LostPicture(
            type="about:blank", title=error.title, status=410, detail=error.message,
            where=error.where, fix=error.fix, faults=(), tombstone=error.row,
        )  # fmt: skip
        return Response(encode(gone), status_code=410, media_type=MEDIA_TYPE)


@router.get("/frames/{frame}/thumbnail", summary="A small JPEG that outlives the picture")
@responds(bytes, "image/jpeg")
def get_thumbnail(hub: Hub, frame: str) -> Response:
    """At most 160 px wide."""
    return _bytes(hub.frames.thumbnail(frame))


@router.get("/frames/{frame}/activation", summary="Where the network looked, as a PNG layer")
@responds(bytes, "image/png")
async def get_activation(hub: Hub, frame: str, *, label: str, package: str = "") -> Response:
    """Computed now; ``package`` empty is the one that answered the frame."""
    work = partial(hub.frames.activation, frame, label=label, package=package)
    return _bytes(await hub.queue.run("activation maps", work))


def _plain(view: FrameView) -> FrameEvents:
    return {
        "row": view.row,
        "predictions": [plain(event) for event in view.predictions],
        "events": [plain(event) for event in view.events],
        "orders": view.orders,
        "datasets": view.datasets,
    }


def _bytes(picture: Picture) -> Response:
    return Response(picture.data, media_type=picture.media_type, headers=_KEEP)
