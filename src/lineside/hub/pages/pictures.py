"""Page of every kept frame as a gallery: filtered, sorted, selected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from lineside.core import Plant, Task, rfc3339, short
from lineside.datasets import label_names
from lineside.hub.frame_filter import FrameAsked, FrameQuery
from lineside.hub.pages.site import Context
from lineside.store import FrameAnswer, FrameCount, FrameOrder, FrameWithAnswer
from lineside.vision.verdict import PartVerdict
from lineside.web.answers import Mark, verdict_mark
from lineside.web.format import counted, number

VERDICT_MARKS: Mapping[PartVerdict, Mark] = {
    one: verdict_mark(one) for one in reversed(PartVerdict)
}
NO_ANSWER = Mark(shape="bar", word="no answer")
ORDERS = {
    FrameOrder.NEWEST: "newest first",
    FrameOrder.SCORE: "highest score first",
    FrameOrder.DOUBT: "greatest doubt first",
}
FILES = {
    "zip": "Pictures and labels.csv (ZIP)",
    "coco": "Pictures, boxes and masks as COCO (ZIP)",
    "csv": "Table as CSV",
    "parquet": "Table as Parquet",
}
_PAGE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureCard:
    """A frame in the gallery; ``text`` is its label, or its verdict where it has none.

    ``camera`` is short; ``place`` names its line too.
    """

    id: str
    mark: Mark
    text: str
    score: str
    camera: str
    place: str
    at: datetime
    part: str
    part_href: str
    alt: str
    gone: bool


def picture_card(frame: FrameWithAnswer, *, places: Mapping[str, tuple[str, str]]) -> PictureCard:
    """Return a frame as the gallery shows it; ``places``: names of cameras, alone and full."""
    camera, place = places.get(frame.camera, (frame.camera, frame.camera))
    answer = frame.answer
    mark = VERDICT_MARKS[answer.verdict] if answer else NO_ANSWER
    text = answer.label if answer and answer.label else mark.word
    score = number(answer.score, digits=2) if answer and _has_score(answer) else ""
    alt = ", ".join(word for word in (mark.word, text if text != mark.word else "", score) if word)
    return PictureCard(
        id=frame.id, mark=mark, text=text, score=score,
        camera=camera, place=place, at=frame.captured_at, part=frame.part,
        part_href=FrameQuery(part=frame.part).href("/pictures"), alt=alt,
        gone=frame.aged_out_at is not None,
    )  # fmt: skip


def _has_score(answer: FrameAnswer) -> bool:
    return bool(answer.score) or not answer.unsure


def count_text(count: FrameCount) -> str:
    """``2 478 pictures: 2 382 ok, 31 review, 65 reject``; "at least" where counting ended."""
    some = counted(count.frames, "picture")
    said = [
        f"{number(count.verdicts[one])} {one}" for one in VERDICT_MARKS if count.verdicts.get(one)
    ]
    text = f"{some}: {', '.join(said)}" if said else some
    return text if count.whole else f"At least {text}"


def places_of(plant: Plant) -> dict[str, tuple[str, str]]:
    """Return ``Top`` and ``Line 1 · Top`` of each camera."""
    lines = {one.id: one.name for one in plant.line}
    found = {}
    for one in plant.camera:
        name, line = one.name or one.id, lines.get(one.line, one.line)
        found[one.id] = (name, f"{line} · {name}" if line else name)
    return found


def labels_of(plant: Plant, cameras: Sequence[str]) -> tuple[str, ...]:
    """Return every label that an inspection of these cameras can answer; of all where none."""
    asked = [one for one in plant.inspection if not cameras or one.camera in cameras]
    return tuple(sorted({label for one in asked for label in one.known_labels}))


def names_of(plant: Plant, cameras: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that people give to pictures of these cameras; of all where none."""
    asked = [one for one in plant.inspection if not cameras or one.camera in cameras]
    return tuple(dict.fromkeys(name for one in asked for name in label_names(one)))


def files_of(plant: Plant) -> dict[str, str]:
    """Return the forms of files to offer: COCO only where an inspection has boxes or masks."""
    drawn = any(one.task in {Task.DETECT, Task.COUNT, Task.SEGMENT} for one in plant.inspection)
    return {form: text for form, text in FILES.items() if drawn or form != "coco"}


router = APIRouter()


@router.get("/pictures")
def pictures_page(context: Context, query: FrameAsked, *, before: str = "") -> HTMLResponse:
    """Frames that pass the filter, a page at a time; the filter stands in the address."""
    hub = context.hub
    wanted = query.filter(hub.plant)
    found, count = hub.frames.find(wanted, before=before, limit=_PAGE), hub.frames.count(wanted)
    places, now = places_of(hub.plant), hub.clock.now()
    return context.page(
        "pictures.html",
        title="Pictures",
        active="pictures",
        sub=count_text(count),
        total=count.frames,
        whole=count.whole,
        cards=[picture_card(one, places=places) for one in found.frames],
        query=query,
        first=query.href("/pictures") if before else "",
        following=query.href("/pictures", before=found.following) if found.following else "",
        hour=FrameQuery(since=rfc3339(now - timedelta(hours=1))).href("/pictures"),
        lines=[(one.id, one.name) for one in hub.plant.line],
        cameras=[(one, place) for one, (_, place) in places.items()],
        marks=VERDICT_MARKS,
        orders=ORDERS,
        labels=labels_of(hub.plant, wanted.cameras),
        label_names=names_of(hub.plant, wanted.cameras),
        files=files_of(hub.plant),
        packages=[(one.digest, f"{one.name}@{short(one.digest)}") for one in hub.packages.all()],
        datasets=[one.name for one in hub.datasets.all()],
    )


@router.get("/frames")
def frames_page(query: FrameAsked) -> RedirectResponse:
    """The list of frames by its other address."""
    return RedirectResponse(query.href("/pictures"), status_code=308)
