"""``/api/v1/review``: pictures that wait for a person, answers, and the quality by the audit."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from lineside.hub.api.frames import PICTURES, Time
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    Requester,
    json_body,
    json_response,
    page_response,
    responds,
)
from lineside.hub.ingest.line_figures import read_moment
from lineside.hub.review.service import NewReviewAnswer, ReviewQuality, ReviewView

router = APIRouter(prefix="/api/v1/review", tags=["review"])

_KEEP = {"Cache-Control": "private, max-age=86400, immutable"}
Line = Annotated[str, Query(description="the inspections of this line")]
OfInspection = Annotated[str, Query(description="this inspection alone")]
After = Annotated[
    str, Query(description="behind this picture (its cursor, or next); from the head where it left")
]
_CHOICES = [
    {"value": "good", "verdict": "ok"},
    {"value": "scratch", "verdict": "reject"},
    {"value": "dent", "verdict": "reject"},
]
_WAITING = {
    "id": "rev_01KTESTREVIEW0000000000001", "inspection": "surface", "camera": "top",
    "audit": False, "status": "open", "width_px": 1280, "height_px": 960, "choices": _CHOICES,
    "answers": [],
    "finding": {
        "frame": "frm_01KTESTFRAME", "part": "plate-004388",
        "captured_at": "2026-01-01T12:31:07.000Z", "package": "sha256:" + 64 * "2",
        "event": "evt_01KTESTEVENT", "verdict": "review", "label": "scratch", "score": 0.61,
        "reasons": ["scratch unsure 0.61"],
    },
    "cursor": "rev_01KTESTREVIEW0000000000001",
}  # fmt: skip
_AUDITED = {
    **_WAITING, "id": "rev_01KTESTREVIEW0000000000002", "audit": True, "finding": None,
    "cursor": "rev_01KTESTREVIEW0000000000002",
}  # fmt: skip
_ANSWERED = {
    **_WAITING, "status": "done", "cursor": "",
    "answers": [
        {
            "by": "m.keller", "at": "2026-01-01T12:32:00.000Z", "answer": "scratch",
            "verdict": "reject", "event": "evt_01KTESTANSWER", "dataset": "",
        }
    ],
}  # fmt: skip
_QUALITY = {
    "items": [
        {
            "inspection": "surface", "since": "2026-01-01T00:00:00.000Z",
            "until": "2026-01-08T00:00:00.000Z", "audit": 0.01,
            "passed": {"good": 214, "bad": 0, "parts": 21400.0},
            "rejected": {"good": 1, "bad": 83, "parts": 420.0}, "waiting": 3, "disagreements": 1,
            "figures": {
                "escape": {"value": 0.0, "low": 0.0, "high": 0.0139, "n": 214},
                "false_reject": {"value": 0.0119, "low": 0.0006, "high": 0.0575, "n": 84},
                "missed": {"value": 0.0, "low": 0.0, "high": 0.0355, "n": 83},
                "over_reject": {"value": 0.0047, "low": 0.0002, "high": 0.0228, "n": 215},
            },
            "agreement": None,
        }
    ],
    "next": None,
    "cursor": "after",
}  # fmt: skip


@router.get("", summary="Pictures that wait for a person")
@responds(
    Page[ReviewView], example={"items": [_WAITING, _AUDITED], "next": None, "cursor": "after"}
)
def list_review(
    hub: Hub, who: Requester, *, line: Line = "", inspection: OfInspection = "",
    after: After = "", limit: Limit = 20,
) -> Response:  # fmt: skip
    """Disagreements first, then what is for review, then the random audit.

    What is for review goes by doubt, greatest first; the others newest first. Of an audited
    picture nothing that was judged is told before it is settled. ``next`` has the time of the first
    page too: a picture of which two people differ since then comes where it was before.
    """
    page = hub.reviews.page(by=who.name, line=line, inspection=inspection, after=after, limit=limit)
    return page_response(page.items, following=page.following)


@router.get("/quality", summary="Escapes and false rejects by the random audit")
@responds(Page[ReviewQuality], example=_QUALITY)
def review_quality(
    hub: Hub, *, line: Line = "", inspection: OfInspection = "", since: Time = "", until: Time = ""
) -> Response:
    """Of each inspection, with 95 % intervals; of the last seven days where no span is given."""
    found = hub.reviews.quality(
        line=line, inspection=inspection, since=_time(since, where="since"),
        until=_time(until, where="until"),
    )  # fmt: skip
    return page_response(found)


@router.get("/{item}", summary="One picture in review")
@responds(ReviewView, example=_WAITING)
def get_review(hub: Hub, who: Requester, item: str) -> Response:
    """As the requester may see it now."""
    return json_response(hub.reviews.one(item, by=who.name))


@router.get("/{item}/picture", summary="The picture's bytes as they came")
@responds(bytes, *PICTURES)
def get_review_picture(hub: Hub, item: str) -> Response:
    """404 where it is not in review, 410 when the picture aged out."""
    found = hub.reviews.picture(item)
    return Response(found.data, media_type=found.media_type, headers=_KEEP)


@router.get("/{item}/thumbnail", summary="A small JPEG of the picture")
@responds(bytes, "image/jpeg")
def get_review_thumbnail(hub: Hub, item: str) -> Response:
    """At most 160 px wide."""
    found = hub.reviews.picture(item, small=True)
    return Response(found.data, media_type=found.media_type, headers=_KEEP)


@router.post("/{item}/answer", summary="Answer a picture")
@responds(ReviewView, example=_ANSWERED)
def answer_review(
    hub: Hub, who: Requester, item: str, *,
    given: Annotated[NewReviewAnswer, Depends(json_body(NewReviewAnswer))],
) -> Response:  # fmt: skip
    """The same answer twice counts once; 409 for another one, and for a settled picture."""
    return json_response(hub.reviews.answer(item, given, by=who.name))


@router.post("/{item}/undo", summary="Take an answer back")
@responds(ReviewView, example=_WAITING)
def undo_review(hub: Hub, who: Requester, item: str) -> Response:
    """The requester's newest; 409 where somebody answered behind it."""
    return json_response(hub.reviews.undo(item, by=who.name))


def _time(text: str, *, where: str) -> datetime | None:
    return read_moment(text, where=where) if text else None
