"""Page of every kept frame as a gallery: filtered, sorted, selected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from lineside.core import Plant, Task, rfc3339, short
from lineside.datasets import label_names
from lineside.hub.frame_filter import FrameAsked, FrameQuery
from lineside.hub.pages.site import Context
from lineside.hub.services import Services
from lineside.store import FrameAnswer, FrameCount, FrameFilter, FrameOrder, FrameWithAnswer
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
_MOST_BARS = 31
_MOST_IN_BAR = 200
"""Pictures that a bar looks at: a timeline looks at 6,600 of them at most, whatever there are."""
_LEAST_HEIGHT = 4.0
_SPAN = timedelta(hours=24)
_HOUR = timedelta(hours=1)
_STEPS = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240, 1440, 10_080, 43_200, 525_600)
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineBar:
    """Pictures of a part of the time; ``height`` of 100, ``rejects`` of that height.

    The height is 0 only where there is no picture: one whose count ended early always has some.
    """

    since: datetime
    text: str
    href: str
    height: float
    rejects: float


def timeline_edges(begin: datetime, end: datetime, *, zone: tzinfo) -> list[datetime]:
    """Return where the bars of a span begin and end: at whole minutes, hours or days of ``zone``.

    The first and the last edge are those of the span. Bars of a day at which the clock is set are
    an hour longer or shorter.
    """
    step = next((one for one in _STEPS if (end - begin) / one <= _MOST_BARS), _STEPS[-1])
    offset = begin.astimezone(zone).utcoffset() or timedelta()
    zero = datetime.fromtimestamp(0, begin.tzinfo) - offset
    first = zero + ((begin - zero) // step + 1) * step
    edges = [first + number * step for number in range(_MOST_BARS)]
    if step > _HOUR:
        edges = [one + offset - (one.astimezone(zone).utcoffset() or offset) for one in edges]
    return [begin, *(one for one in edges if begin < one < end), end]


def timeline_bars(
    query: FrameQuery, edges: Sequence[datetime], *, counts: Sequence[FrameCount]
) -> tuple[TimelineBar, ...]:
    """Return a bar for each part of the time, whose address narrows the filter to it."""
    tallest = max([1, *(one.frames for one in counts)])
    bars = []
    for (begin, end), count in zip(pairwise(edges), counts, strict=True):
        rejects = count.verdicts.get(PartVerdict.REJECT, 0)
        least = _LEAST_HEIGHT if count.frames or not count.whole else 0.0
        height = max(least, 100 * count.frames / tallest)
        span = replace(query, since=rfc3339(begin), until=rfc3339(end))
        bars.append(
            TimelineBar(
                since=begin, text=count_text(count), href=span.href("/pictures"),
                height=round(height, 1),
                rejects=round(height * rejects / max(1, count.frames), 1),
            )
        )  # fmt: skip
    return tuple(bars)


def timeline(hub: Services, query: FrameQuery, wanted: FrameFilter) -> tuple[TimelineBar, ...]:
    """Return the filter's pictures over its time: without ``since`` over its newest 24 hours."""
    newest = hub.frames.find(replace(wanted, order=FrameOrder.NEWEST), limit=1).frames
    end = wanted.until or (newest[0].captured_at + _STEPS[0] if newest else hub.clock.now())
    begin = wanted.since or end - _SPAN
    if begin >= end:
        return ()
    edges = timeline_edges(begin, end, zone=hub.counts.zone)
    counts = hub.frames.count_parts(wanted, edges=edges, most=_MOST_IN_BAR)
    return timeline_bars(query, edges, counts=counts) if len(counts) > 1 else ()


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
        # No index has the pictures of a dataset by time: each bar would look at all of them.
        timeline=()
        if before or wanted.dataset or not found.frames
        else timeline(hub, query, wanted),
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
