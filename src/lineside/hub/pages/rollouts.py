"""Rollouts: all of them, and one with its steps, devices and evidence."""

from dataclasses import dataclass, replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.fleet import Evidence, Rollout, RolloutOrder, RolloutState
from lineside.fleet.evidence import LiveLimits
from lineside.hub.pages.site import Context
from lineside.hub.rollouts.rollout_service import RolloutDevice, RolloutView
from lineside.web.answers import Mark
from lineside.web.format import counted, milliseconds, number, percent

_MARKS = {
    RolloutState.PLANNED: ("ring", ""), RolloutState.RUNNING: ("dot", "ink"),
    RolloutState.WIDENING: ("dot", "ink"), RolloutState.PAUSED: ("square", "warn"),
    RolloutState.GOING_BACK: ("diamond", "bad"), RolloutState.DONE: ("tick", "ok"),
    RolloutState.ABORTED: ("square", "bad"), RolloutState.ROLLED_BACK: ("bar", "warn"),
}  # fmt: skip
_HAPPENED = {
    RolloutState.WIDENING: "done", RolloutState.DONE: "done",
    RolloutState.GOING_BACK: "failed", RolloutState.ABORTED: "failed",
}  # fmt: skip
_STATUS = {
    "WAITING": ("ring", ""), "QUEUED": ("ring", "ink"), "IN_PROGRESS": ("dot", "ink"),
    "SUCCEEDED": ("tick", ""),
}  # fmt: skip
_ORDERS = {
    RolloutOrder.PAUSE: "Pause", RolloutOrder.RESUME: "Resume", RolloutOrder.ABORT: "Abort",
    RolloutOrder.ROLLBACK: "Roll back all",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBar:
    """One step: how many of its devices have it; ``tone`` as of marks."""

    name: str
    words: str
    done: int
    whole: int
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A device with what both packages said of its frames."""

    id: str
    step: int
    mark: Mark
    package: str
    frames: str
    changed: str
    gained: str
    lost: str
    unsure: str
    score: str
    latency: str
    crashes: str
    alarmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPage:
    """Everything below the heading."""

    mark: Mark
    replaces: str
    steps: tuple[StepBar, ...]
    devices: tuple[DeviceRow, ...]
    limits: DeviceRow
    live: bool


def rollout_view(view: RolloutView) -> RolloutPage:
    """Steps, devices and limits of one rollout."""
    one = view.rollout
    return RolloutPage(
        mark=rollout_mark(one),
        replaces=f"{one.previous.group} {one.previous.version}" if one.previous else "",
        steps=tuple(_bars(view)),
        devices=tuple(_device_row(each) for each in view.devices),
        limits=_limits(one.plan.limits),
        live=not one.state.final,
    )


def orders(view: RolloutView) -> tuple[tuple[str, str], ...]:
    """Return the orders that are possible now, with the text of each button."""
    return tuple((str(order), _ORDERS[order]) for order in view.may)


def rollout_mark(one: Rollout) -> Mark:
    """The state of a rollout in shape, word and tone."""
    shape, tone = _MARKS[one.state]
    return Mark(shape=shape, word=str(one.state), tone=tone)


def _bars(view: RolloutView) -> list[StepBar]:
    one = view.rollout
    taken = {each.id for each in view.devices if each.status == "SUCCEEDED"}
    shares = one.shares or ((),) * len(one.plan.steps)
    back = one.state in (RolloutState.GOING_BACK, RolloutState.ROLLED_BACK)
    bars = []
    for place, (step, share) in enumerate(zip(one.plan.steps, shares, strict=True)):
        done = 0 if back else len(taken & set(share))
        words = _share_words(done, len(share)) if one.shares else "waits"
        bars.append(
            StepBar(
                name=step.words,
                words="taken back" if back and place <= one.step else words,
                done=done,
                whole=len(share) or 1,
                current=place == one.step and not one.state.final,
            )
        )
    return bars


def _share_words(done: int, whole: int) -> str:
    return f"{done} of {counted(whole, 'device')}" if whole else "no further device"


def _device_row(each: RolloutDevice) -> DeviceRow:
    shape, tone = _STATUS.get(each.status, ("bar", "bad"))
    found = each.report.evidence if each.report is not None else None
    word = each.status.lower().replace("_", " ")
    row = DeviceRow(
        id=each.id, step=each.step, mark=Mark(shape=shape, word=word, tone=tone),
        package=each.package, frames="", changed="", gained="", lost="", unsure="", score="",
        latency="", crashes="", alarmed=each.alarmed,
    )  # fmt: skip
    return _with_figures(row, found) if found is not None else row


def _with_figures(row: DeviceRow, found: Evidence) -> DeviceRow:
    whole = max(1, found.frames)
    return replace(
        row,
        frames=number(found.frames),
        changed=percent(found.changed / whole),
        gained=percent(found.rejects_gained / whole),
        lost=percent(found.rejects_lost / whole),
        unsure=percent(found.unsure_gained / whole),
        score=number(found.score_sum / whole, digits=3),
        latency=f"{milliseconds(found.latency_ms_new)} ({milliseconds(found.latency_ms_old)})",
        crashes=number(found.crashes),
    )  # fmt: skip


def _limits(limits: LiveLimits) -> DeviceRow:
    """Return the limits as a row under the devices' columns."""
    return DeviceRow(
        id="Allowed", step=0, mark=Mark(shape="bar", word=""), package="", alarmed=False,
        frames=f"from {number(limits.frames)}", changed=percent(limits.changed),
        gained=percent(limits.rejects_gained), lost=percent(limits.rejects_lost),
        unsure=percent(limits.unsure_gained), score=f"±{number(limits.score, digits=3)}",
        latency=f"{limits.latency:g} times as long", crashes=number(limits.crashes),
    )  # fmt: skip


router = APIRouter(prefix="/rollouts")


@router.get("")
def rollouts_page(context: Context) -> HTMLResponse:
    """Newest first, and a form for the next one."""
    found = context.hub.rollouts.all()
    approved = [
        one
        for group in context.hub.models.all()
        for one in context.hub.models.versions(group.name)
        if one.approved
    ]
    return context.page(
        "rollouts.html",
        title="Rollouts",
        active="rollouts",
        sub=counted(len(found), "rollout"),
        rollouts=found,
        mark_of_rollout=rollout_mark,
        approved=sorted(approved, key=lambda one: (one.group, -one.number)),
        groups=context.hub.things.all_groups(),
    )


@router.get("/{rollout}")
def rollout_page(context: Context, *, rollout: str) -> HTMLResponse:
    """Steps, devices, figures of both packages, the decision with its sentence."""
    view = context.hub.rollouts.view(rollout)
    release = view.rollout.release
    return context.page(
        "rollout.html",
        title=f"{release.group} {release.version}",
        active="rollouts",
        view=view,
        shown=rollout_view(view),
        happened=_HAPPENED,
        orders=orders(view),
    )


@router.get("/{rollout}/progress")
def rollout_progress(context: Context, *, rollout: str, may: str = "") -> HTMLResponse:
    """The part of the page that reads itself anew; ``may``: the orders that the page offers."""
    view = context.hub.rollouts.view(rollout)
    fragment = context.site.fragment(
        "rollout_progress.html", view=view, shown=rollout_view(view), happened=_HAPPENED
    )
    if may != ",".join(view.may):  # the buttons of the page change with it
        fragment.headers["hx-refresh"] = "true"
    return fragment
