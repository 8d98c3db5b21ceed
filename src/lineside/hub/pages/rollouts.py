"""Rollouts: all of them, a plan for the next one, and one with its waves, devices and evidence."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse

from lineside.core import NotFoundError, decode, short
from lineside.fleet import Evidence, Rollout, RolloutOrder, RolloutPlan, RolloutState
from lineside.fleet.evidence import LiveLimits
from lineside.fleet.jobs.settings import FAILURE_WORDS
from lineside.hub.pages.models import DAYS
from lineside.hub.pages.site import Context
from lineside.hub.rollouts.rollout_service import NewRollout, RolloutDevice, RolloutView
from lineside.hub.services import Services
from lineside.web.answers import Mark
from lineside.web.format import DASH, counted, milliseconds, number, percent

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


_PAGE = 50
_EARLIER = 10
_DEFAULT_SORT = "wave"


def _share(device: RolloutDevice) -> float:
    """The share of frames that the new package rejects; -1 where no verdict was counted."""
    found = device.report.evidence if device.report is not None else None
    return found.verdict_rejects_new / found.verdicts if found and found.verdicts else -1.0


def _p95_ms(device: RolloutDevice) -> float:
    return device.report.evidence.latency_p95_ms if device.report is not None else 0.0


_NEVER = datetime.min.replace(tzinfo=UTC)
_SORTS: dict[str, Callable[[RolloutDevice], Any]] = {
    "wave": lambda one: one.step, "device": lambda one: one.id, "state": lambda one: one.status,
    "p95": _p95_ms, "rejects": _share, "seen": lambda one: one.at or _NEVER,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTable:
    """Order and page of a rollout's devices; ``sort`` is a key, with "-" before it downwards."""

    rollout: str
    sort: str = _DEFAULT_SORT
    page: int = 1

    def href(self, *, sort: str = "", page: int = 1, part: str = "") -> str:
        """The rollout's page, or a part of it, with another order or page."""
        query = {"sort": sort or self.sort, "page": page}
        return f"/rollouts/{self.rollout}{part}?{urlencode(query)}"

    def next_sort(self, key: str) -> str:
        """The key as a further click on its column sorts by it."""
        return f"-{key}" if self.sort == key else key

    def direction(self, key: str) -> str:
        """``ascending``, ``descending`` or ``none``, as ``aria-sort`` says it."""
        if self.sort.removeprefix("-") != key:
            return "none"
        return "descending" if self.sort.startswith("-") else "ascending"

    def rows_of_page(self, devices: Sequence[RolloutDevice]) -> list[RolloutDevice]:
        """The devices of this page, in this order; alike ones by name."""
        by_name = sorted(devices, key=lambda one: one.id)
        key = _SORTS.get(self.sort.removeprefix("-"), _SORTS[_DEFAULT_SORT])
        found = sorted(by_name, key=key, reverse=self.sort.startswith("-"))
        return found[(self.page - 1) * _PAGE : self.page * _PAGE]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveBar:
    """One wave: how many of its devices have it, and its state in a word."""

    name: str
    state: str
    words: str
    done: int
    whole: int
    current: bool


def version_names(hub: Services) -> Callable[[str], str]:
    """Return a function from a digest to its version, or its package where it has none."""
    known: dict[str, str] = {"": DASH}

    def name_of(digest: str) -> str:
        if digest not in known:
            target = hub.releases.target_of(digest)
            if target is not None:
                known[digest] = f"{target.release.group} {target.release.version}"
            else:
                known[digest] = _package_name(hub, digest)
        return known[digest]

    return name_of


def _package_name(hub: Services, digest: str) -> str:
    try:
        return hub.packages.one(digest).name
    except NotFoundError:
        return short(digest)


def rollout_parts(hub: Services, view: RolloutView, table: DeviceTable) -> dict[str, Any]:
    """Context of the part of the page that reads itself anew."""
    return {
        "view": view, "table": table, "zone": hub.config.time_zone, "happened": _HAPPENED,
        "decides": limits_words(hub, view.rollout), "mark_of_rollout": rollout_mark,
        "waves": _bars(view), "devices": table.rows_of_page(view.devices),
        "pages": math.ceil(len(view.devices) / _PAGE), "device_mark": device_mark,
        "name_of": version_names(hub), "figures_of": device_figures,
        "allowed": limit_figures(view.rollout.plan.limits),
    }  # fmt: skip


def limits_words(hub: Services, rollout: Rollout) -> str:
    """The limits that devices of a rollout decide by, in a sentence."""
    release = rollout.release
    found = (
        hub.points.one(release.inspection, rollout.point)
        if rollout.point
        else hub.points.in_force(release.inspection, release.digest)
    )
    if found is None or found.point is None:
        return "Applies the package's own limits."
    words = found.point.words
    return f"{words[:1].upper()}{words[1:]}."


def orders(view: RolloutView) -> tuple[tuple[str, str], ...]:
    """Return the orders that are possible now, with the text of each button."""
    return tuple((str(order), _ORDERS[order]) for order in view.may)


def rollout_mark(one: Rollout) -> Mark:
    """The state of a rollout in shape, word and tone."""
    shape, tone = _MARKS[one.state]
    return Mark(shape=shape, word=str(one.state), tone=tone)


def _bars(view: RolloutView) -> list[WaveBar]:
    one = view.rollout
    taken = {each.id for each in view.devices if each.status == "SUCCEEDED"}
    shares = one.shares or ((),) * len(one.plan.steps)
    back = one.state in (RolloutState.GOING_BACK, RolloutState.ROLLED_BACK)
    bars = []
    for place, (step, share) in enumerate(zip(one.plan.steps, shares, strict=True)):
        done = 0 if back else len(taken & set(share))
        words = _share_words(done, len(share)) if one.shares else "not chosen yet"
        bars.append(
            WaveBar(
                name=step.words,
                state=_wave_state(one, place, back=back),
                words=words,
                done=done,
                whole=len(share) or 1,
                current=place == one.step and not one.state.final,
            )
        )
    return bars


def _wave_state(one: Rollout, place: int, *, back: bool) -> str:
    """Return a wave's state in words."""
    if place > one.step:
        return "not begun" if one.state.final else "waits"
    if back:
        return "taken back"
    if place == one.step and one.state not in (RolloutState.WIDENING, RolloutState.DONE):
        return "ended" if one.state.final else str(one.state)
    return "passed"


def _share_words(done: int, whole: int) -> str:
    return f"{done} of {counted(whole, 'device')}" if whole else "no further device"


def device_mark(each: RolloutDevice) -> Mark:
    """The state of a device's job."""
    shape, tone = _STATUS.get(each.status, ("bar", "bad"))
    return Mark(shape=shape, word=each.status.lower().replace("_", " "), tone=tone)


def device_figures(each: RolloutDevice) -> tuple[str, ...]:
    """The figures of both packages on a device, in the order of ``limit_figures``."""
    found = each.report.evidence if each.report is not None else None
    if found is None:
        return ("",) * 10
    whole = max(1, found.frames)
    return (
        milliseconds(found.latency_p95_ms) if found.latency_p95_ms else "",
        _reject_words(found),
        number(found.frames),
        percent(found.changed / whole),
        percent(found.rejects_gained / whole),
        percent(found.rejects_lost / whole),
        percent(found.unsure_gained / whole),
        number(found.score_sum / whole, digits=3),
        _latency_words(found),
        number(found.crashes),
    )


def _reject_words(found: Evidence) -> str:
    if not found.verdicts:
        return ""
    new, old = found.verdict_rejects_new, found.verdict_rejects_old
    return f"{percent(new / found.verdicts)} ({percent(old / found.verdicts)})"


def _latency_words(found: Evidence) -> str:
    """Both median latencies; without one that was not measured, as where no package ran before."""
    pair = (found.latency_ms_new, found.latency_ms_old)
    new, old = (milliseconds(each) if each else "" for each in pair)
    return f"{new} ({old})" if old else new


def limit_figures(limits: LiveLimits) -> tuple[str, ...]:
    """Limits in the order of the columns: p95, rejects, frames, then changes."""
    return (
        milliseconds(limits.latency_p95_ms) if limits.latency_p95_ms else "",
        _band_words(limits),
        f"from {number(limits.frames)}",
        percent(limits.changed),
        percent(limits.rejects_gained),
        percent(limits.rejects_lost),
        percent(limits.unsure_gained),
        f"±{number(limits.score, digits=3)}",
        f"{limits.latency:g} times as long",
        number(limits.crashes),
    )


def _band_words(limits: LiveLimits) -> str:
    if limits.rejects_least <= 0 and limits.rejects_most >= 1:
        return ""
    return f"{percent(limits.rejects_least)} to {percent(limits.rejects_most)}"


router = APIRouter(prefix="/rollouts")
PageNumber = Annotated[int, Query(ge=1, le=10_000)]


@router.get("")
def rollouts_page(context: Context, *, page: PageNumber = 1) -> HTMLResponse:
    """Newest first, fifty a page."""
    found = context.hub.rollouts.all()
    shown = found[(page - 1) * _PAGE : page * _PAGE]
    return context.page(
        "rollouts.html",
        title="Rollouts",
        active="rollouts",
        sub=counted(len(found), "rollout"),
        rollouts=shown,
        page=page,
        pages=math.ceil(len(found) / _PAGE),
        mark_of_rollout=rollout_mark,
    )


@router.get("/new")
def rollout_plan_page(context: Context, *, version: str = "") -> HTMLResponse:
    """A plan for the next rollout; ``version``: ``discs/2``, or ``limits/stock/3``, chosen."""
    approved = [
        one
        for group in context.hub.models.all()
        for one in context.hub.models.versions(group.name)
        if one.approved
    ]
    limits = [
        one
        for inspection in context.hub.plant.inspection
        for one in reversed(context.hub.points.versions(inspection.id))
        if one.waves and one.point is not None
    ]
    return context.page(
        "rollout_new.html",
        title="New rollout",
        active="rollouts",
        approved=sorted(approved, key=lambda one: (one.group, -one.number)),
        limits=limits,
        inspections={one.name: context.hub.models.inspections(one) for one in approved},
        every_inspection=[one.id for one in context.hub.plant.inspection],
        chosen=version,
        groups=context.hub.things.all_groups(),
        plan=RolloutPlan(),
        zone=context.hub.config.time_zone,
        days=DAYS,
        failures=FAILURE_WORDS,
    )


@router.post("/preview")
def rollout_preview(context: Context, *, body: Annotated[str, Form()]) -> HTMLResponse:
    """The waves of a plan with their devices, as a part; ``body``: that of the start, as JSON."""
    request = decode(NewRollout, body.encode(), where="body")
    view = context.hub.rollouts.preview(request, by=context.who.name)
    return context.site.fragment(
        "rollout_preview.html",
        view=view,
        name_of=version_names(context.hub),
        zone=context.hub.config.time_zone,
        decides=limits_words(context.hub, view.rollout),
    )


@router.get("/{rollout}")
def rollout_page(
    context: Context, *, rollout: str, sort: str = _DEFAULT_SORT, page: PageNumber = 1
) -> HTMLResponse:
    """Waves, figures of both packages on each device, and the decision with its sentence."""
    view = context.hub.rollouts.view(rollout)
    release, table = view.rollout.release, DeviceTable(rollout=rollout, sort=sort, page=page)
    earlier = [
        one
        for one in context.hub.rollouts.all()
        if one.release.inspection == release.inspection and one.id != rollout and one.state.final
    ]
    return context.page(
        "rollout.html",
        title=f"{release.group} {release.version}",
        active="rollouts",
        orders=orders(view),
        earlier=earlier[:_EARLIER],
        **rollout_parts(context.hub, view, table),
    )


@router.get("/{rollout}/progress")
def rollout_progress(
    context: Context,
    *,
    rollout: str,
    may: str = "",
    sort: str = _DEFAULT_SORT,
    page: PageNumber = 1,
) -> HTMLResponse:
    """The part of the page that reads itself anew; ``may``: the orders that the page offers."""
    view = context.hub.rollouts.view(rollout)
    table = DeviceTable(rollout=rollout, sort=sort, page=page)
    fragment = context.site.fragment(
        "rollout_progress.html", **rollout_parts(context.hub, view, table)
    )
    if may != ",".join(view.may):  # the buttons of the page change with it
        fragment.headers["hx-refresh"] = "true"
    return fragment
