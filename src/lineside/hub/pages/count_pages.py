"""The bin counter: choose or upload a picture, see its count, compare, correct."""

from functools import partial
from itertools import islice

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from lineside.core import LinesideError
from lineside.hub.counting.views import FunctionView
from lineside.hub.pages.common import Ask, Asked, names_of, packages_by_digest
from lineside.hub.pages.views import counts as views

router = APIRouter()

# Beside ``no-store``, for old browsers and proxies between.
_NEVER_KEPT = {"cache-control": "no-store", "pragma": "no-cache", "expires": "-1"}
_SHOWN = 25
_MOST_OPTIONS = 5000


@router.get("/count")
def count(ask: Ask, *, function: str = "") -> HTMLResponse:
    """Choose a picture; what you asked before."""
    counting = [one for one in ask.hub.counter.functions() if one.counts]
    chosen = next((one for one in counting if one.name == function), None)
    chosen = chosen or (counting[0] if counting else None)
    offered, reason = _offered(ask, chosen)
    page = ask.page(
        "count.html",
        title="Count",
        active="count",
        functions=[one.name for one in counting],
        chosen=chosen.name if chosen else "",
        offered=offered[:_MOST_OPTIONS],
        total=len(offered),
        reason=reason,
        lines=views.lines(tuple(islice(ask.hub.counter.all(who=ask.who), _SHOWN))),
    )
    page.headers.update(_NEVER_KEPT)
    return page


@router.get("/count/{count_id}")
def counted(ask: Ask, *, count_id: str) -> HTMLResponse:
    """One count; whoever did not ask for it finds nothing here."""
    view = ask.hub.counter.one(count_id, who=ask.who)
    names = names_of(packages_by_digest(ask.hub))
    page = ask.page(
        "counted.html",
        title=views.headline(view),
        active="count",
        count=views.facts(view),
        package_name=names.get(view.package, ""),
        datasets=[one.name for one in ask.hub.datasets.all()],
    )
    page.headers.update(_NEVER_KEPT)
    return page


@router.get("/count/{count_id}/picture")
def counted_picture(ask: Ask, *, count_id: str) -> Response:
    """The very bytes that were judged, to the one who asked."""
    picture = ask.hub.counter.picture(count_id, who=ask.who)
    return Response(picture.data, media_type=picture.media_type, headers=_NEVER_KEPT)


@router.get("/count/{count_id}/activation")
async def activation(ask: Ask, *, count_id: str) -> Response:
    """Activation map, to lie over the picture; computed on request."""
    work = partial(ask.hub.counter.activation, count_id, who=ask.who)
    layer = await ask.hub.queue.run("activation maps", work)
    return Response(layer, media_type="image/png", headers=_NEVER_KEPT)


def _offered(ask: Asked, chosen: FunctionView | None) -> tuple[tuple[str, ...], str]:
    """Names on offer, or why there are none."""
    if chosen is None:
        return (), ""
    try:
        return ask.hub.counter.offered(chosen.name), ""
    except LinesideError as error:
        return (), str(error)
