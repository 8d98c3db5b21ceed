"""Page on which the pictures of a draft are labelled: classes, boxes, points, masks, counts."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import Json, NotFoundError, Plant, Task, short
from lineside.datasets.annotations import ReviewState
from lineside.datasets.samples import label_names, region_names
from lineside.hub.learning.labelling import LabelProgress, SampleRow, progress_of, rows_of
from lineside.hub.pages.learning import Filter, training_href
from lineside.hub.pages.site import Context
from lineside.hub.views import PackageView
from lineside.vision.decide import says_good
from lineside.vision.verdict import RejectRule
from lineside.web.answers import box_corners
from lineside.web.format import counted, number

STATES = {
    ReviewState.TO_LABEL: "To do",
    ReviewState.LABELLED: "Labelled",
    ReviewState.CHECKED: "Checked",
    ReviewState.DISCUSS: "Needs discussion",
}
TOOLS = (
    ("select", "Select", "V"),
    ("box", "Box", "R"),
    ("point", "Point", "P"),
    ("polygon", "Polygon", "G"),
    ("brush", "Brush", "B"),
    ("erase", "Erase", "E"),
)
_BEFORE = 8
_WINDOW = 30


def state_filters(
    dataset: str, progress: LabelProgress, *, state: str, step: str = ""
) -> tuple[Filter, ...]:
    """Links that narrow the pictures to one state, each with its count.

    ``step``: of the new inspection that the page was opened from, which every link keeps.
    """
    path = f"/datasets/{dataset}/label"
    kept = {"step": step} if step else {}
    whole = f"{path}?{urlencode(kept)}" if kept else path
    every = Filter(text=f"All {number(progress.images)}", href=whole, current=not state)
    by_state = (
        Filter(
            text=f"{text} {number(progress.states.get(one, 0))}",
            href=f"{path}?{urlencode({'state': str(one), **kept})}",
            current=state == one,
        )
        for one, text in STATES.items()
    )
    return (every, *by_state)


def left_text(progress: LabelProgress) -> str:
    """Return how far the labelling is: ``draft: 37 of 214 pictures left``, or that it is done."""
    pictures = counted(progress.images, "picture")
    left = progress.states.get(ReviewState.TO_LABEL, 0)
    is_done = progress.images and not left
    return (
        f"draft: nothing left to do, {pictures}"
        if is_done
        else (f"draft: {number(left)} of {pictures} left")
    )


def first_open(rows: Sequence[SampleRow], *, picture: str) -> int:
    """The place to begin at: the picture of that digest or name, else the first to do."""
    named = (n for n, row in enumerate(rows) if picture in (row.digest, row.name))
    to_do = (n for n, row in enumerate(rows) if row.state is ReviewState.TO_LABEL)
    return next(named, next(to_do, 0))


def regions_of(names: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Classes of regions by region, from names such as ``A1/blue``."""
    found: dict[str, list[str]] = {}
    for name in names:
        region, slash, label = name.partition("/")
        if slash:
            found.setdefault(region, []).append(label)
    return tuple((region, tuple(labels)) for region, labels in found.items())


def outlines_of(plant: Plant, names: Collection[str]) -> list[Json]:
    """Regions on the reference view, of every inspection whose labels are all on offer."""
    return [
        {
            "inspection": one.id,
            "view": [one.view.width_px, one.view.height_px],
            "regions": [
                {"id": region.id, "box": box_corners(region), "names": list(region_names(region))}
                for region in one.region
            ],
        }
        for one in plant.inspection
        if one.region and one.view and set(label_names(one)) <= set(names)
    ]


def suggesting(packages: Sequence[PackageView]) -> tuple[dict[str, str], ...]:
    """Packages that can suggest, those in use first."""
    ordered = sorted(packages, key=lambda one: (not one.used_by, one.name))
    return tuple(
        {
            "digest": one.digest,
            "text": f"{one.name}@{short(one.digest)}" + (", in use" if one.used_by else ""),
        }
        for one in ordered
    )


router = APIRouter()


@router.get("/datasets/{name}/label")
def label_page(
    context: Context, *, name: str, state: str = "", picture: str = "", step: str = ""
) -> HTMLResponse:
    """One picture of the draft at a time, with everything that is said of it.

    ``picture``: to begin at, by its digest, its name, or the id of its frame. ``step``: of the new
    inspection that it was opened from, where the way back leads.
    """
    draft = context.hub.datasets.draft(name)
    samples, labelling = draft.samples, context.hub.labelling
    declared = labelling.labels_among(name, samples)
    names = declared.labels
    progress = progress_of(draft.entries)
    rows = rows_of(name, draft.entries, state=state)
    if picture.startswith("frm_"):  # its bytes may be in the draft under another name
        with suppress(NotFoundError):
            picture = context.hub.frames.row(picture).digest
    at = first_open(rows, picture=picture)
    first = max(0, at - _BEFORE)
    window = rows[first : first + _WINDOW]
    start: dict[str, Json] = {
        "dataset": name,
        "digest": rows[at].digest if rows else "",
        "state": state,
        "step": step,
        "rows": [
            {
                "digest": row.digest,
                "name": row.name,
                "thumbnail": row.thumbnail,
                "state": str(row.state),
            }
            for row in window
        ],
        "first": first,
        "total": len(rows),
        "more": first + len(window) < len(rows),
        "outlines": outlines_of(context.hub.plant, names),
    }
    flow = f"/inspections/new/{name}?{urlencode({'step': step or 'labels'})}"
    bare = [one for one in names if "/" not in one]
    rule = labelling.reject_rule(name) or RejectRule()
    defects = [one for one in bare if not says_good(one, named=rule.good)]
    return context.page(
        "label.html",
        title="Label",
        active="data",
        sub=left_text(progress),
        dataset=name,
        start=start,
        total=progress.images,
        training=training_href(context.hub, name),
        filters=state_filters(name, progress, state=state, step=step),
        flow=flow if step or declared.task else "",
        states=STATES.items(),
        tools=TOOLS,
        names=bare,
        own=labelling.own_labels(name, samples).labels,
        regions=regions_of(names),
        shape_names=bare if declared.task == Task.DETECT else defects or bare,
        packages=suggesting(context.hub.packages.all()),
    )
