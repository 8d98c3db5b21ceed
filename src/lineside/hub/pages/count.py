"""Pages of counts: choose or upload a picture, see its count, compare, correct."""

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from lineside.core import LinesideError
from lineside.hub.counting.counter import (
    Agreement,
    CountView,
    FunctionView,
    headline,
    interval,
)
from lineside.hub.pages.site import Context, PageContext, package_names
from lineside.vision import PictureState
from lineside.web.answers import Mark
from lineside.web.format import counted, probability


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRow:
    """One number with its chance; ``share`` 0-1 for the bar, ``inside``: in the interval."""

    name: str
    chance: str
    share: float
    inside: bool
    recorded: bool


def agreement_mark(view: CountView) -> Mark:
    """Agreement with the inventory record in shape and word."""
    if view.state is not PictureState.OK:
        return Mark(shape="square", word="not counted", tone="bad")
    match view.agreement:
        case Agreement.AGREES:
            return Mark(shape="tick", word="agrees with the record", tone="ok")
        case Agreement.POSSIBLE:
            return Mark(shape="triangle", word="record is possible", tone="warn")
        case Agreement.DISAGREES:
            return Mark(shape="diamond", word="disagrees with the record", tone="bad")
        case Agreement.UNKNOWN:
            return Mark(shape="ring", word="no record to compare")


def agreement_sentence(view: CountView) -> str:
    """Does the count agree with the inventory record?"""
    if view.recorded is None:
        return f"Nothing to compare: {view.record_reason}."
    says = f"The record says {counted(view.recorded, 'object')}"
    match view.agreement:
        case Agreement.AGREES:
            return f"{says}, and so does the picture."
        case Agreement.POSSIBLE:
            return f"{says}; another number is likelier, but the picture does not rule it out."
        case Agreement.DISAGREES:
            return f"{says}; the picture rules that out. Count the bin."
        case Agreement.UNKNOWN:
            return f"{says}; the picture was not counted."


def number_rows(view: CountView) -> tuple[NumberRow, ...]:
    """Return every number that the package can tell with its chance."""
    most = view.most
    high = view.high + (1 if view.more else 0)
    return tuple(
        NumberRow(
            name=str(number) if number <= most else f"more than {most}",
            chance=probability(chance),
            share=round(chance, 4),
            inside=view.low <= number <= high,
            recorded=view.recorded is not None and min(view.recorded, most + 1) == number,
        )
        for number, chance in enumerate(view.chances)
    )


router = APIRouter()

# Beside ``no-store``, for old browsers and proxies between.
_NEVER_KEPT = {"cache-control": "no-store", "pragma": "no-cache", "expires": "-1"}
_SHOWN = 25
_MOST_OPTIONS = 5000


@router.get("/count")
def count_page(context: Context, *, function: str = "") -> HTMLResponse:
    """Choose a picture; what you asked before."""
    counting = [one for one in context.hub.counter.functions() if one.counts]
    chosen = next((one for one in counting if one.name == function), None)
    chosen = chosen or (counting[0] if counting else None)
    offered, reason = _offered(context, chosen)
    page = context.page(
        "count.html",
        title="Count",
        active="count",
        functions=[one.name for one in counting],
        chosen=chosen.name if chosen else "",
        offered=offered[:_MOST_OPTIONS],
        total=len(offered),
        reason=reason,
        counts=context.hub.counter.all(who=context.who)[:_SHOWN],
        headline=headline,
        agreement_mark=agreement_mark,
    )
    page.headers.update(_NEVER_KEPT)
    return page


@router.get("/count/{count_id}")
def counted_page(context: Context, *, count_id: str) -> HTMLResponse:
    """One count; whoever did not ask for it finds nothing here."""
    view = context.hub.counter.one(count_id, who=context.who)
    page = context.page(
        "counted.html",
        title=headline(view),
        active="count",
        count=view,
        headline=headline(view),
        interval=interval(view),
        mark_of_count=agreement_mark(view),
        sentence=agreement_sentence(view),
        rows=number_rows(view),
        package_name=package_names(context.hub)(view.package),
        datasets=[one.name for one in context.hub.datasets.all()],
    )
    page.headers.update(_NEVER_KEPT)
    return page


@router.get("/count/{count_id}/picture")
def counted_picture(context: Context, *, count_id: str) -> Response:
    """The very bytes that were judged, to the one who asked."""
    picture = context.hub.counter.picture(count_id, who=context.who)
    return Response(picture.data, media_type=picture.media_type, headers=_NEVER_KEPT)


@router.get("/count/{count_id}/activation")
async def activation(context: Context, *, count_id: str) -> Response:
    """Activation map, to lie over the picture; computed on request."""
    work = partial(context.hub.counter.activation, count_id, who=context.who)
    layer = await context.hub.queue.run("activation maps", work)
    return Response(layer, media_type="image/png", headers=_NEVER_KEPT)


def _offered(context: PageContext, chosen: FunctionView | None) -> tuple[tuple[str, ...], str]:
    """Names on offer, or why there are none."""
    if chosen is None:
        return (), ""
    try:
        return context.hub.counter.offered(chosen.name), ""
    except LinesideError as error:
        return (), str(error)
