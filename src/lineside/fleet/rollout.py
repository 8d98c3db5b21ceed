"""A release goes to devices step by step: the rollout, its orders, its next step. Pure.

1. Devices are chosen once, when it begins, each for one step; by name, so that the same plan for
   the same devices chooses alike. Who joins the group later gets the package when it is done.
2. Each step is one or several jobs (``fleet.JobService``); a device is in one of them at a time.
3. It ends as done, aborted or rolled back. Aborting leaves devices with what they have; going
   back leads each device to the package it ran before, or to none where it ran none.

The next step, from the state of its devices:

4. An alarm comes before everything else: live evidence that a limit is passed leads all devices
   back that run the release, each to what it ran before; too many failed jobs stop it. Both hold
   while it is paused too, and the first one after it ended: devices go on judging for a while.
5. A step is passed when each of its devices' jobs is over, the abort criteria are not met, every
   device that took the release was watched for the frames and the time asked for, and no test of
   ``evidence`` gave an alarm.
6. A step begins inside a window only. Pausing keeps steps from beginning, and takes back what is
   asked and not begun; nothing else changes by it.
7. A step that no device took stops the rollout: nothing was seen, so nothing speaks for it.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from lineside.core import ConflictError
from lineside.core.codec import refuse, twice, unless, within
from lineside.fleet.contract import Evidence, ExecutionStatus, Release
from lineside.fleet.evidence import Judgement, LiveLimits, Verdict, judge_evidence
from lineside.fleet.jobs.settings import (
    MOST_PER_MINUTE,
    Abort,
    AbortCriterion,
    JobCounters,
    abort_reason,
)
from lineside.models import Window

_MOST_STEPS = 20
_WHOLE = 100.0
_MOST_WORDS = 500
_MOST_WATCH_S = 30 * 86_400.0


class RolloutState(StrEnum):
    """State of a rollout.

    ``planned``: nobody was asked yet; ``running``: a step is out; ``widening``: a step was passed,
    the next one waits for its time; ``going back``: devices are led to the package before.
    """

    PLANNED = "planned"
    RUNNING = "running"
    WIDENING = "widening"
    PAUSED = "paused"
    GOING_BACK = "going back"
    DONE = "done"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled back"

    @property
    def final(self) -> bool:
        """Return whether it goes no further by itself."""
        return self in (RolloutState.DONE, RolloutState.ABORTED, RolloutState.ROLLED_BACK)


class RolloutOrder(StrEnum):
    """Order that a person may give to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """Further devices, their rate and start; exactly one of the first three is set.

    Attributes:
        canary: so many more.
        percent: until so many of a hundred have it, rounded up.
        group: all of this group that are left.
        per_minute: so many are asked in a minute at most.
        watch_s: how long the step is watched at least, however soon there are enough frames.
        not_before: it begins then at the earliest.
    """

    canary: int = 0
    percent: float = 0.0
    group: str = ""
    per_minute: int = MOST_PER_MINUTE
    watch_s: float = 0.0
    not_before: datetime | None = None

    def __post_init__(self) -> None:
        given = [one for one in (self.canary, self.percent, self.group) if one]
        zone = self.not_before is None or self.not_before.tzinfo is not None
        refuse(
            self,
            unless(
                len(given) == 1 and self.canary >= 0 and 0 <= self.percent <= _WHOLE,
                expected="one choice of devices",
                fix="Give canary (1 or more), percent (above 0, at most 100) or group.",
            ),
            unless(
                1 <= self.per_minute <= MOST_PER_MINUTE, key="per_minute", value=self.per_minute,
                expected=f"from 1 to {MOST_PER_MINUTE}", fix=f"Leave it out: {MOST_PER_MINUTE}.",
            ),
            within(self, "watch_s", high=_MOST_WATCH_S),
            unless(
                zone, key="not_before", value=self.not_before, expected="a time with its zone",
                fix="Add Z, or an offset.",
            ),
        )  # fmt: skip

    @property
    def words(self) -> str:
        """Return the devices of the step as text."""
        if self.canary:
            return f"{self.canary} {'device' if self.canary == 1 else 'devices'}"
        return self.group or f"{self.percent:g} %"


FIRST_ONE = (RolloutStep(canary=1), RolloutStep(percent=25.0), RolloutStep(percent=100.0))
ANY_FAILURE = (
    AbortCriterion(
        failure_type="ALL", threshold_percentage=10.0, min_number_of_executed_things=1
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """For whom, in which steps, and what it may do.

    Attributes:
        steps: the last one reaches all.
        group: of devices; "" with no ``devices`` either: all that run the inspection.
        devices: by name.
        windows: in which a step may begin, of the site's clock; empty: at any time.
        limits: on live evidence.
        abort: the job contract's criteria, over all devices that were asked.
    """

    steps: tuple[RolloutStep, ...] = FIRST_ONE
    group: str = ""
    devices: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    limits: LiveLimits = field(default_factory=LiveLimits)
    abort: tuple[AbortCriterion, ...] = ANY_FAILURE

    def __post_init__(self) -> None:
        last = self.steps[-1].percent if self.steps else 0.0
        refuse(
            self,
            unless(
                len(self.steps) <= _MOST_STEPS and last == _WHOLE, key="steps",
                value=f"{len(self.steps)} with {last:g} percent at the end",
                expected=f"1 to {_MOST_STEPS} steps, the last of 100 percent",
                fix='End with {"percent": 100}.',
            ),
            unless(
                not (self.group and self.devices), key="devices", value=self.devices,
                expected="left out beside a group", fix="Give a group or names, not both.",
            ),
            twice(self.devices, "devices"),
        )  # fmt: skip

    @property
    def abort_sentence(self) -> str:
        """Effect of failed jobs on it, as a sentence."""
        if not self.abort:
            return "Goes on however many devices fail to take the version."
        once = ", or once ".join(one.words for one in self.abort)
        return f"Aborted, and devices keep what they have, once {once}."


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutJob:
    """A job that was decided, whether or not it is made yet.

    Attributes:
        back: whether it leads away from the rollout's release.
        release: where it leads back to; None on one of an older hub: ``Rollout.previous``.
        remove: whether it leads back to no package, because these devices ran none before.
    """

    job_id: str
    step: int
    devices: tuple[str, ...]
    back: bool = False
    release: Release | None = None
    remove: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent:
    """One change of state, by whom and why."""

    at: datetime
    state: RolloutState
    by: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One release on its way.

    Attributes:
        by: who began it.
        previous: what most devices ran when it began; None: nothing, or no device told of it.
        shares: which devices each step is for; empty until it begins.
        step: under way, from 0; -1 before the first.
        step_at: when that one began.
        held: the state it was paused in.
        completed: whether it was done once; what joined since is led back too.
        settled: whether all that follows from its end was done.
        rollback: whether devices that run a newer version of the group go back to this one.
        point: number of the operating point that it brings; 0: it brings a package. The release
            is then the signed point, and what stands here of packages holds for limits.
    """

    id: str
    release: Release
    plan: RolloutPlan
    by: str
    reason: str
    created_at: datetime
    state: RolloutState = RolloutState.PLANNED
    previous: Release | None = None
    shares: tuple[tuple[str, ...], ...] = ()
    step: int = -1
    step_at: datetime | None = None
    jobs: tuple[RolloutJob, ...] = ()
    held: RolloutState | None = None
    completed: bool = False
    settled: bool = False
    rollback: bool = False
    history: tuple[RolloutEvent, ...] = ()
    point: int = 0

    @property
    def devices(self) -> tuple[str, ...]:
        """All it is for, in the order of its steps."""
        return tuple(name for share in self.shares for name in share)

    @property
    def requested(self) -> tuple[str, ...]:
        """Devices that were asked to take the release."""
        forward = (name for job in self.jobs if not job.back for name in job.devices)
        return tuple(dict.fromkeys(forward))

    @property
    def rollback_devices(self) -> tuple[str, ...]:
        """Devices that were asked to go back."""
        return tuple(name for job in self.jobs if job.back for name in job.devices)

    @property
    def why(self) -> str:
        """Why it stands where it stands."""
        return self.history[-1].why if self.history else self.reason

    def moved(self, state: RolloutState, *, now: datetime, by: str, why: str) -> "Rollout":
        """In another state, with the reason."""
        happened = RolloutEvent(at=now, state=state, by=by, why=why[:_MOST_WORDS])
        return replace(self, state=state, history=(*self.history, happened))

    def asking(
        self, devices: Sequence[str], *, back: bool, release: Release | None = None
    ) -> "Rollout":
        """With a further job; ``release``: where it leads back to, None for no package."""
        job = RolloutJob(
            job_id=f"{self.id}-{len(self.jobs) + 1}",
            step=self.step,
            devices=tuple(devices),
            back=back,
            release=release,
            remove=back and release is None,
        )
        return replace(self, jobs=(*self.jobs, job))


def share_out(
    plan: RolloutPlan, members: Collection[str], *, groups: Mapping[str, Collection[str]]
) -> tuple[tuple[str, ...], ...]:
    """Return the devices of each step: every member is in exactly one.

    Args:
        plan: the steps.
        members: all it is for.
        groups: those that steps name, with who is in them.
    """
    left = sorted(set(members))
    whole, shares = len(left), []
    for step in plan.steps:
        if step.group:
            inside = set(groups.get(step.group, ()))
            share = [name for name in left if name in inside]
        else:
            gone = whole - len(left)
            # A share such as 7 % of 100 must not become 8 by the last bit of a float.
            wanted = step.canary or math.ceil(round(whole * step.percent / _WHOLE, 9)) - gone
            share = left[: max(0, wanted)]
        taken = set(share)
        left = [name for name in left if name not in taken]
        shares.append(tuple(share))
    return tuple(shares)


_FROM: Mapping[RolloutOrder, frozenset[RolloutState]] = {
    RolloutOrder.PAUSE: frozenset({
        RolloutState.PLANNED, RolloutState.RUNNING, RolloutState.WIDENING,
    }),
    RolloutOrder.RESUME: frozenset({RolloutState.PAUSED}),
    RolloutOrder.ABORT: frozenset({
        RolloutState.PLANNED, RolloutState.RUNNING, RolloutState.WIDENING, RolloutState.PAUSED,
    }),
    RolloutOrder.ROLLBACK: frozenset({
        RolloutState.RUNNING, RolloutState.WIDENING, RolloutState.PAUSED, RolloutState.DONE,
        RolloutState.ABORTED,
    }),
}  # fmt: skip


def may_order(rollout: Rollout, order: RolloutOrder) -> bool:
    """Return whether the order is possible now."""
    if order is RolloutOrder.ROLLBACK and not rollout.requested:
        return False
    return rollout.state in _FROM[order]


def apply_order(
    rollout: Rollout, order: RolloutOrder, *, by: str, reason: str, now: datetime
) -> Rollout:
    """The rollout after a person's order; one that was carried out already changes nothing.

    Raises:
        ConflictError: that cannot be asked of it now.
    """
    if _is_so(rollout, order):
        return rollout
    if not may_order(rollout, order):
        raise ConflictError(_why_not(rollout, order), where=rollout.id, fix="Look at its status.")
    why = reason or f"{order} was ordered"
    match order:
        case RolloutOrder.PAUSE:
            held = replace(rollout, held=rollout.state)
            return held.moved(RolloutState.PAUSED, now=now, by=by, why=why)
        case RolloutOrder.RESUME:
            before = rollout.held or RolloutState.RUNNING
            return replace(rollout, held=None).moved(before, now=now, by=by, why=why)
        case RolloutOrder.ABORT:
            return rollout.moved(RolloutState.ABORTED, now=now, by=by, why=why)
        case RolloutOrder.ROLLBACK:
            open_again = replace(rollout, settled=False)
            return open_again.moved(RolloutState.GOING_BACK, now=now, by=by, why=why)


def _is_so(rollout: Rollout, order: RolloutOrder) -> bool:
    there = {
        RolloutOrder.PAUSE: (RolloutState.PAUSED,),
        RolloutOrder.RESUME: (RolloutState.RUNNING, RolloutState.WIDENING, RolloutState.PLANNED),
        RolloutOrder.ABORT: (RolloutState.ABORTED,),
        RolloutOrder.ROLLBACK: (RolloutState.GOING_BACK, RolloutState.ROLLED_BACK),
    }
    return rollout.state in there[order]


def _why_not(rollout: Rollout, order: RolloutOrder) -> str:
    if order is RolloutOrder.ROLLBACK and not rollout.requested:
        return "no device was asked to take it yet, so there is nothing to roll back"
    return f"it is {rollout.state}, and {order} cannot be asked of it then"


HUB = "hub"
_OPEN = (ExecutionStatus.QUEUED, ExecutionStatus.IN_PROGRESS)
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFacts:
    """State of a rollout's devices and jobs now.

    Attributes:
        members: devices it would be for, were it to begin.
        runs_it: devices that run a release which was judged bad, asked or not.
        groups: that its steps name, with their members.
        previous: what runs there now.
        after: another rollout of the inspection that comes first; "" none.
        obstacle: why it can go no further, such as a release that was judged bad since it was
            planned, or limits that a later version replaced; "": it can.
        open: whether a step may begin (windows).
        opens_at: when one may where none may now; None: not within a week.
        executions: device → its last job of this release; absent while it waits its turn.
        lost: asked, and taken back by a pause: to be asked again.
        elsewhere: devices that somebody gave another package since they took the release.
        back: the same of the way back.
        back_to: device → the release it is to be led back to; None: to no package.
        evidence: of this rollout.
    """

    members: tuple[str, ...] = ()
    runs_it: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    previous: Release | None = None
    after: str = ""
    obstacle: str = ""
    open: bool = True
    opens_at: datetime | None = None
    executions: Mapping[str, ExecutionStatus] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    back: Mapping[str, ExecutionStatus] = field(default_factory=dict)
    back_to: Mapping[str, Release | None] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing is to be done; ``why`` says what for, ``until`` when that is over, where known."""

    why: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The devices are chosen; the first step is out."""

    shares: tuple[tuple[str, ...], ...]
    previous: Release | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestJobs:
    """These devices get a job; ``release``: where it leads back to, None for no package."""

    devices: tuple[str, ...]
    back: bool = False
    release: Release | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Widen:
    """The next step is out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """It comes into another state: a step was passed, it is done, it stops, goes back, is back."""

    to: RolloutState
    why: str


Action = Wait | Begin | RequestJobs | Widen | Move


def next_step(rollout: Rollout, facts: RolloutFacts, *, now: datetime) -> Action:
    """Return the next action; called again after each, until it is ``Wait``."""
    match rollout.state:
        case RolloutState.DONE | RolloutState.ABORTED:
            wrong = None if facts.obstacle else _wrong(rollout, facts)
            return wrong or Wait(why=f"it is {rollout.state}")
        case RolloutState.ROLLED_BACK:
            return Wait(why=f"it is {rollout.state}")
        case RolloutState.GOING_BACK:
            return _stopped(facts) or _back(rollout, facts)
        case RolloutState.PLANNED:
            return _stopped(facts) or _begin(rollout, facts, now=now)
        case RolloutState.RUNNING | RolloutState.WIDENING | RolloutState.PAUSED:
            stopped = _stopped(facts) or _alarm(rollout, facts)
            return stopped or _forward(rollout, facts, now=now)
        case _:
            assert_never(rollout.state)


def judge_rollout(rollout: Rollout, facts: RolloutFacts) -> Judgement:
    """Return the verdict of the statistical tests on the evidence."""
    return judge_evidence(
        _evidence(rollout, facts), rollout.plan.limits, devices=len(rollout.devices)
    )


def apply_action(rollout: Rollout, action: Action, *, now: datetime) -> Rollout:
    """The rollout after an action."""
    match action:
        case Wait():
            return rollout
        case Begin(shares=shares, previous=previous):
            begun = replace(rollout, shares=shares, previous=previous)
            return _out(begun, step=_first_of(shares, after=-1), now=now)
        case RequestJobs(devices=devices, back=back, release=release):
            return rollout.asking(devices, back=back, release=release)
        case Widen():
            step = _first_of(rollout.shares, after=rollout.step)
            return _out(rollout, step=step, now=now)
        case Move(to=RolloutState.DONE, why=why):
            done = replace(rollout, completed=True)
            return done.moved(RolloutState.DONE, now=now, by=HUB, why=why)
        case Move(to=to, why=why):
            return replace(rollout, settled=False).moved(to, now=now, by=HUB, why=why)
        case _:
            assert_never(action)


def _out(rollout: Rollout, *, step: int, now: datetime) -> Rollout:
    share = rollout.shares[step]
    why = f"step {step + 1} of {len(rollout.shares)}: {_names(share)}"
    out = replace(rollout, step=step, step_at=now)
    return out.moved(RolloutState.RUNNING, now=now, by=HUB, why=why)


def _begin(rollout: Rollout, facts: RolloutFacts, *, now: datetime) -> Action:
    if facts.after:
        return Wait(why=f"rollout {facts.after} of the same inspection comes first")
    if not facts.members:
        return Wait(why="no device is there that it could be for")
    shares = share_out(rollout.plan, facts.members, groups=facts.groups)
    first = rollout.plan.steps[_first_of(shares, after=-1)]
    not_yet = _not_yet(first, facts, now=now)
    return not_yet or Begin(shares=shares, previous=facts.previous)


def _stopped(facts: RolloutFacts) -> Move | None:
    return Move(to=RolloutState.ABORTED, why=facts.obstacle) if facts.obstacle else None


def _alarm(rollout: Rollout, facts: RolloutFacts) -> Action | None:
    if wrong := _wrong(rollout, facts):
        return wrong
    counts = Counter(str(status) for status in facts.executions.values())
    why = abort_reason(Abort(criteria_list=rollout.plan.abort), JobCounters(counts=counts))
    return Move(to=RolloutState.ABORTED, why=why) if why else None


def _wrong(rollout: Rollout, facts: RolloutFacts) -> Move | None:
    found = judge_rollout(rollout, facts)
    return (
        Move(to=RolloutState.GOING_BACK, why="; ".join(found.reasons))
        if found.verdict is Verdict.GO_BACK
        else None
    )


def _forward(rollout: Rollout, facts: RolloutFacts, *, now: datetime) -> Action:
    if rollout.state is RolloutState.PAUSED:
        return Wait(why="it is paused")
    if rollout.state is RolloutState.WIDENING:
        step = rollout.plan.steps[_first_of(rollout.shares, after=rollout.step)]
        return _not_yet(step, facts, now=now) or Widen()
    return _running(rollout, facts, now=now)


def _running(rollout: Rollout, facts: RolloutFacts, *, now: datetime) -> Action:
    share = rollout.shares[rollout.step]
    asked = set(rollout.requested) - facts.lost
    # Of earlier steps too: a pause may have come between a step's last word and its end.
    new = tuple(name for name in (*_earlier(rollout), *share) if name not in asked)
    if new:
        return RequestJobs(devices=new)
    waiting = [name for name in share if facts.executions.get(name, _OPEN[0]) in _OPEN]
    if waiting:
        return Wait(why=f"the job is not over on {_names(waiting)}")
    return _watched(rollout, facts, now=now)


def _watched(rollout: Rollout, facts: RolloutFacts, *, now: datetime) -> Action:
    taken = [
        name
        for name in (*_earlier(rollout), *rollout.shares[rollout.step])
        if facts.executions.get(name) is ExecutionStatus.SUCCEEDED
    ]
    if not set(taken) & set(rollout.shares[rollout.step]):
        return Move(
            to=RolloutState.ABORTED, why=f"no device of step {rollout.step + 1} took the release"
        )
    taken = [name for name in taken if name not in facts.elsewhere]
    if not set(taken) & set(rollout.shares[rollout.step]):
        return Move(
            to=RolloutState.ABORTED,
            why=f"another package came into use on {_names(sorted(facts.elsewhere))}",
        )
    needed = rollout.plan.limits.frames
    seen = {each.device for each in _evidence(rollout, facts) if each.frames >= needed}
    unseen = [name for name in taken if name not in seen]
    if unseen:
        return Wait(why=f"{needed} frames were not judged yet by {_names(unseen)}")
    watch = timedelta(seconds=rollout.plan.steps[rollout.step].watch_s)
    if rollout.step_at is not None and now < rollout.step_at + watch:
        return Wait(why=f"step {rollout.step + 1} is watched for {watch}")
    if _first_of(rollout.shares, after=rollout.step) < len(rollout.shares):
        return Move(
            to=RolloutState.WIDENING, why=f"step {rollout.step + 1} was passed by {_names(taken)}"
        )
    return Move(to=RolloutState.DONE, why=f"{len(taken)} of {len(rollout.devices)} devices run it")


def _back(rollout: Rollout, facts: RolloutFacts) -> Action:
    devices = rollout.rollback_devices
    joined = facts.members if rollout.completed else ()
    asked = set(devices)
    wanted = dict.fromkeys((*rollout.requested, *joined, *facts.runs_it))
    new = [name for name in wanted if name not in asked]
    if new:
        release = facts.back_to.get(new[0])
        alike = tuple(name for name in new if facts.back_to.get(name) == release)
        return RequestJobs(devices=alike, back=True, release=release)
    waiting = [name for name in devices if facts.back.get(name, _OPEN[0]) in _OPEN]
    if waiting:
        return Wait(why=f"{_names(waiting)} not back yet")
    failed = [
        name
        for name in devices
        if facts.back[name] not in (ExecutionStatus.SUCCEEDED, ExecutionStatus.REMOVED)
    ]
    why = f"{len(devices) - len(failed)} of {len(devices)} devices are back"
    return Move(
        to=RolloutState.ROLLED_BACK, why=f"{why}; not back: {_names(failed)}" if failed else why
    )


def _evidence(rollout: Rollout, facts: RolloutFacts) -> list[Evidence]:
    asked = set(rollout.requested)
    return [
        each
        for each in facts.evidence
        if each.device in asked and each.inspection == rollout.release.inspection
    ]


def _earlier(rollout: Rollout) -> tuple[str, ...]:
    return tuple(name for share in rollout.shares[: rollout.step] for name in share)


def _first_of(shares: tuple[tuple[str, ...], ...], *, after: int) -> int:
    """The next step that is for somebody; their number where there is none."""
    return next((at for at, share in enumerate(shares) if at > after and share), len(shares))


def _not_yet(step: RolloutStep, facts: RolloutFacts, *, now: datetime) -> Wait | None:
    if step.not_before is not None and now < step.not_before:
        return Wait(why="the step begins later", until=step.not_before)
    return None if facts.open else Wait(why="no window is open", until=facts.opens_at)


def _names(names: "list[str] | tuple[str, ...]") -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
