"""Roll-outs: all of them, and one with its steps, devices and evidence."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.hub.pages.common import Ask
from lineside.hub.pages.views import rollouts as views

router = APIRouter(prefix="/rollouts")


@router.get("")
def rollouts(ask: Ask) -> HTMLResponse:
    """Newest first, and a form for the next one."""
    found = [views.rollout_row(one) for one in ask.hub.rollouts.all()]
    approved = [
        one
        for group in ask.hub.models.all()
        for one in ask.hub.models.versions(group.name)
        if one.approved
    ]
    return ask.page(
        "rollouts.html",
        title="Roll-outs",
        active="rollouts",
        sub=views.count_words(found),
        rollouts=found,
        approved=sorted(approved, key=lambda one: (one.group, -one.number)),
        groups=ask.hub.things.all_groups(),
    )


@router.get("/{rollout}")
def rollout(ask: Ask, *, rollout: str) -> HTMLResponse:
    """Steps, devices, figures of both packages, the decision with its sentence."""
    view = ask.hub.rollouts.view(rollout)
    release = view.rollout.release
    return ask.page(
        "rollout.html",
        title=f"{release.group} {release.version}",
        active="rollouts",
        view=view,
        shown=views.shown(view),
        orders=views.orders(view),
    )


@router.get("/{rollout}/progress")
def progress(ask: Ask, *, rollout: str, may: str = "") -> HTMLResponse:
    """The part of the page that reads itself anew; ``may``: the orders that the page offers."""
    view = ask.hub.rollouts.view(rollout)
    fragment = ask.site.fragment("rollout_progress.html", view=view, shown=views.shown(view))
    if may != ",".join(view.may):  # the buttons of the page change with it
        fragment.headers["hx-refresh"] = "true"
    return fragment
