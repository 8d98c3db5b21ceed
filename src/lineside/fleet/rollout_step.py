"""Next step of a roll-out, from the state of its devices. Pure.

1. An alarm comes before everything else: live evidence that a limit is passed leads all devices
   back that run the release, each to what it ran before; too many failed jobs stop it. Both hold
   while it is paused too, and the first one after it ended: devices go on judging for a while.
2. A step is passed when each of its devices' jobs is over, the abort criteria are not met, every
   device that took the release was watched for the frames and the time asked for, and no test of
   ``evidence`` gave an alarm.
3. A step begins inside a window only. Pausing keeps steps from beginning, and takes back what is
   asked and not begun; nothing else changes by it.
4. A step that no device took stops the roll-out: nothing was seen, so nothing speaks for it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import assert_never

from lineside.fleet.contract import Evidence, ExecutionStatus, Release
from lineside.fleet.evidence import Judgement, Verdict, judge_evidence
from lineside.fleet.jobs.settings import Abort, JobCounters, abort_reason
from lineside.fleet.rollout import Rollout, RolloutState, RolloutStep, share_out

HUB = "hub"
_OPEN = (ExecutionStatus.QUEUED, ExecutionStatus.IN_PROGRESS)
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFacts:
    """State of a roll-out's devices and jobs now.

    Attributes:
        members: devices it would be for, were it to begin.
        runs_it: devices that run a release which was judged bad, asked or not.
        groups: that its steps name, with their members.
        previous: what runs there now.
        after: another roll-out of the inspection that comes first; "" none.
        bad: why its release was judged bad since the roll-out was planned; "": it was not.
        open: whether a step may begin (windows).
        executions: device → its last job of this release; absent while it waits its turn.
        lost: asked, and taken back by a pause: to be asked again.
        elsewhere: devices that somebody gave another package since they took the release.
        back: the same of the way back.
        back_to: device → the release it is to be led back to; None: to no package.
        evidence: of this roll-out.
    """

    members: tuple[str, ...] = ()
    runs_it: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    previous: Release | None = None
    after: str = ""
    bad: str = ""
    open: bool = True
    executions: Mapping[str, ExecutionStatus] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    back: Mapping[str, ExecutionStatus] = field(default_factory=dict)
    back_to: Mapping[str, Release | None] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing is to be done; ``why`` says what for."""

    why: str


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
            return _wrong(rollout, facts) or Wait(why=f"it is {rollout.state}")
        case RolloutState.ROLLED_BACK:
            return Wait(why=f"it is {rollout.state}")
        case RolloutState.GOING_BACK:
            return _back(rollout, facts)
        case RolloutState.PLANNED:
            return _begin(rollout, facts, now=now)
        case RolloutState.RUNNING | RolloutState.WIDENING | RolloutState.PAUSED:
            return _alarm(rollout, facts) or _forward(rollout, facts, now=now)
        case _:
            assert_never(rollout.state)


def judge_rollout(rollout: Rollout, facts: RolloutFacts) -> Judgement:
    """Return the verdict of the statistical tests on the evidence."""
    return judge_evidence(
        _evidence(rollout, facts), rollout.plan.limits, devices=len(rollout.devices)
    )


def apply_action(rollout: Rollout, action: Action, *, now: datetime) -> Rollout:
    """The roll-out after an action."""
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
    if facts.bad:
        return Move(to=RolloutState.ABORTED, why=f"the version was judged bad since: {facts.bad}")
    if facts.after:
        return Wait(why=f"roll-out {facts.after} of the same inspection comes first")
    if not facts.members:
        return Wait(why="no device is there that it could be for")
    shares = share_out(rollout.plan, facts.members, groups=facts.groups)
    first = rollout.plan.steps[_first_of(shares, after=-1)]
    not_yet = _not_yet(first, facts, now=now)
    return Wait(why=not_yet) if not_yet else Begin(shares=shares, previous=facts.previous)


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
        not_yet = _not_yet(step, facts, now=now)
        return Wait(why=not_yet) if not_yet else Widen()
    return _running(rollout, facts, now=now)


def _running(rollout: Rollout, facts: RolloutFacts, *, now: datetime) -> Action:
    share = rollout.shares[rollout.step]
    asked = set(rollout.asked) - facts.lost
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
    wanted = dict.fromkeys((*rollout.asked, *joined, *facts.runs_it))
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
    asked = set(rollout.asked)
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


def _not_yet(step: RolloutStep, facts: RolloutFacts, *, now: datetime) -> str:
    if step.not_before is not None and now < step.not_before:
        return f"the step begins at {step.not_before.isoformat()}"
    return "" if facts.open else "no window is open"


def _names(names: "list[str] | tuple[str, ...]") -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
