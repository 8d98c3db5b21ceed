"""Rollouts decided: steps, alarms, pauses, ways back, whatever order facts come in."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import (
    ConflictError,
    InvalidError,
    decode,
    decode_fast,
    digest_of,
    encode,
    to_plain,
)
from lineside.fleet import (
    Evidence,
    ExecutionStatus,
    Release,
    Rollout,
    RolloutOrder,
    RolloutPlan,
    RolloutState,
)
from lineside.fleet.evidence import LiveLimits
from lineside.fleet.jobs.settings import read_settings
from lineside.fleet.rollout import (
    FIRST_ONE,
    RequestJobs,
    RolloutFacts,
    RolloutStep,
    Wait,
    apply_action,
    apply_order,
    may_order,
    next_step,
    share_out,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OK, FAILED, QUEUED = ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED, ExecutionStatus.QUEUED
FRAMES = 50


def release(version: str) -> Release:
    return Release(
        group="tiles", version=version, inspection="tiles", digest=digest_of(version.encode()),
        sha256=version * 64, size_bytes=10,
    )  # fmt: skip


def rollout(*steps: RolloutStep, **more: Any) -> Rollout:  # noqa: ANN401  fields of a record
    plan = RolloutPlan(limits=LiveLimits(frames=FRAMES), steps=steps or FIRST_ONE)
    return Rollout(
        id="rol_1", release=release("2"), plan=plan, by="eve", reason="", created_at=NOW, **more
    )


def evidence(device: str, *, frames: int = FRAMES, changed: int = 0, crashes: int = 0) -> Evidence:
    return Evidence(
        device=device, inspection="tiles", frames=frames, changed=changed, crashes=crashes
    )


@dataclass
class World:
    """Devices as the facts tell of them; a device's fate is fixed, its moment is not."""

    names: tuple[str, ...]
    fates: dict[str, str]
    facts: RolloutFacts = field(default_factory=RolloutFacts)
    asked_after_alarm: list[str] = field(default_factory=list)
    alarmed: bool = False

    def __post_init__(self) -> None:
        self.facts = RolloutFacts(members=self.names, previous=release("1"))

    def answer(self, one: Rollout, name: str) -> None:
        """A device moves on by one step, if anything is asked of it."""
        if name in one.rollback_devices:
            self.facts = replace(self.facts, back={**self.facts.back, name: OK})
        elif name in one.requested and name not in self.facts.lost:
            self._forward(name)

    def _forward(self, name: str) -> None:
        done = self.facts.executions.get(name)
        fate = self.fates.get(name, "good")
        if done is None:
            status = FAILED if fate == "fails" else OK
            self.facts = replace(
                self.facts, executions={**self.facts.executions, name: status}
            )  # fmt: skip
        elif done is OK:
            self.alarmed |= fate == "bad"
            others = tuple(each for each in self.facts.evidence if each.device != name)
            told = evidence(name, changed=FRAMES if fate == "bad" else 0)
            self.facts = replace(self.facts, evidence=(*others, told))

    def decide(self, one: Rollout) -> Rollout:
        """The hub looks once."""
        action = next_step(one, self.facts, now=NOW)
        if isinstance(action, RequestJobs):
            if self.alarmed and not action.back:
                self.asked_after_alarm += action.devices
            self.facts = replace(self.facts, lost=self.facts.lost - set(action.devices))
        return apply_action(one, action, now=NOW)

    def pause(self, one: Rollout) -> Rollout:
        if not may_order(one, RolloutOrder.PAUSE):
            return one
        waiting = set(one.requested) - set(self.facts.executions)
        self.facts = replace(self.facts, lost=frozenset(self.facts.lost | waiting))
        return apply_order(one, RolloutOrder.PAUSE, by="eve", reason="", now=NOW)

    def resume(self, one: Rollout) -> Rollout:
        if one.state is not RolloutState.PAUSED:
            return one
        return apply_order(one, RolloutOrder.RESUME, by="eve", reason="", now=NOW)


def settle(world: World, one: Rollout) -> Rollout:
    """Everything that still can happen does, in order."""
    one = world.resume(one)
    for _ in range(12 * len(world.names) + 20):
        for name in world.names:
            world.answer(one, name)
        one = world.decide(one)
    return one


NAMES = st.integers(1, 6).map(lambda n: tuple(f"edge-{at}" for at in range(n)))
FATES = st.dictionaries(
    st.integers(0, 5).map("edge-{}".format), st.sampled_from(("good", "bad", "fails"))
)
EVENTS = st.lists(
    st.one_of(
        st.sampled_from(("decide", "pause", "resume")), st.integers(0, 5).map("edge-{}".format)
    ),
    max_size=40,
)
STEPS = st.lists(
    st.one_of(
        st.integers(1, 3).map(lambda n: RolloutStep(canary=n)),
        st.floats(1, 99).map(lambda p: RolloutStep(percent=p)),
    ),
    max_size=3,
).map(lambda steps: (*steps, RolloutStep(percent=100.0)))


def play(world: World, one: Rollout, events: list[str]) -> Rollout:
    acts: dict[str, Callable[[Rollout], Rollout]] = {
        "decide": world.decide, "pause": world.pause, "resume": world.resume
    }  # fmt: skip
    for event in events:
        if event in acts:
            one = acts[event](one)
        else:
            world.answer(one, event)
    return one


@given(names=NAMES, fates=FATES, events=EVENTS, steps=STEPS)
@settings(deadline=None, max_examples=150)
def test_every_order_of_facts_ends_and_nobody_new_is_asked_after_an_alarm(
    names: tuple[str, ...], fates: dict[str, str], events: list[str], steps: tuple[RolloutStep, ...]
) -> None:
    world = World(names=names, fates=fates)
    end = settle(world, play(world, rollout(*steps), events))
    assert end.state.final
    assert world.asked_after_alarm == []
    if not set(fates.values()) & {"bad", "fails"} or not set(fates) & set(names):
        assert end.state is RolloutState.DONE
        assert set(end.requested) == set(names)
    if world.alarmed and end.state is RolloutState.ROLLED_BACK:
        assert set(end.rollback_devices) == set(end.requested)


@pytest.mark.slow
@given(names=NAMES, fates=FATES, events=EVENTS)
@settings(deadline=None, max_examples=100)
def test_pausing_changes_nothing_of_the_end(
    names: tuple[str, ...], fates: dict[str, str], events: list[str]
) -> None:
    calm = [event for event in events if event not in ("pause", "resume")]
    with_pauses, without = World(names=names, fates=fates), World(names=names, fates=fates)
    paused = settle(with_pauses, play(with_pauses, rollout(), events))
    straight = settle(without, play(without, rollout(), calm))
    kinds = {fate for name, fate in fates.items() if name in names} - {"good"}
    if len(kinds) <= 1:  # where devices both fail and judge wrongly, the first of the two decides
        assert paused.state is straight.state
    assert paused.shares == straight.shares or not (paused.shares and straight.shares)


@given(names=NAMES, steps=STEPS)
def test_every_member_is_in_exactly_one_share(
    names: tuple[str, ...], steps: tuple[RolloutStep, ...]
) -> None:
    shares = share_out(RolloutPlan(steps=steps), names, groups={})
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert shares == share_out(RolloutPlan(steps=steps), names[::-1], groups={})


def test_shares_are_counted_of_all_and_groups_come_as_named() -> None:
    steps = (
        RolloutStep(group="line-2"), RolloutStep(canary=1), RolloutStep(percent=50.0),
        RolloutStep(percent=100.0),
    )  # fmt: skip
    names = [f"d{at}" for at in range(8)]
    shares = share_out(RolloutPlan(steps=steps), names, groups={"line-2": ("d7", "d6", "away")})
    assert shares == (("d6", "d7"), ("d0",), ("d1",), ("d2", "d3", "d4", "d5"))
    hundred = [f"d{at:03}" for at in range(100)]
    plan = RolloutPlan(steps=(RolloutStep(percent=7.0), RolloutStep(percent=100.0)))
    assert len(share_out(plan, hundred, groups={})[0]) == 7


def begun(world: World, *steps: RolloutStep) -> Rollout:
    return world.decide(world.decide(rollout(*steps)))


def test_a_canary_that_judges_wrongly_leads_back_it_alone() -> None:
    world = World(names=("a", "b", "c"), fates={"a": "bad"})
    one = begun(world)
    assert one.requested == ("a",)
    world.answer(one, "a")
    world.answer(one, "a")
    one = world.decide(one)
    assert one.state is RolloutState.GOING_BACK
    assert "a/tiles: 50 of 50 frames (100.0%) decide otherwise, 10.0% may" in one.why
    one = world.decide(one)
    assert (one.requested, one.rollback_devices) == (("a",), ("a",))
    world.answer(one, "a")
    one = world.decide(one)
    assert one.state is RolloutState.ROLLED_BACK
    assert one.why == "1 of 1 devices are back"


def test_devices_go_back_to_what_each_ran_before_and_to_nothing_where_it_ran_nothing() -> None:
    world = World(names=("a", "b", "c"), fates={"c": "bad"})
    one = begun(world, RolloutStep(percent=100.0))
    for name in ("a", "b", "c", "c"):
        world.answer(one, name)
    back_to = {"a": release("1"), "b": None, "c": release("0"), "d": release("1")}
    world.facts = replace(world.facts, back_to=back_to, runs_it=("c", "d"))
    one = world.decide(one)
    for _ in range(8):
        for name in one.rollback_devices:
            world.answer(one, name)
        one = world.decide(one)
    assert one.state is RolloutState.ROLLED_BACK
    assert {(job.devices, job.release, job.remove) for job in one.jobs if job.back} == {
        (("a", "d"), release("1"), False), (("b",), None, True), (("c",), release("0"), False),
    }  # fmt: skip
    assert one.why == "4 of 4 devices are back"


def test_a_version_that_was_judged_bad_since_the_plan_is_not_begun() -> None:
    world = World(names=("a",), fates={})
    world.facts = replace(world.facts, obstacle="judged bad since: rollout rol_0: crashes")
    one = world.decide(rollout())
    assert (one.state, one.requested) == (RolloutState.ABORTED, ())
    assert "judged bad since: rollout rol_0" in one.why


def test_an_alarm_holds_while_it_is_paused() -> None:
    world = World(names=("a", "b"), fates={"a": "bad"})
    one = begun(world)
    world.answer(one, "a")
    one = world.pause(one)
    world.answer(one, "a")
    assert world.decide(one).state is RolloutState.GOING_BACK


def test_failed_jobs_stop_it_by_the_contracts_criteria() -> None:
    world = World(names=("a", "b"), fates={"a": "fails"})
    one = begun(world)
    world.answer(one, "a")
    one = world.decide(one)
    assert one.state is RolloutState.ABORTED
    assert one.why == "1 of 1 executed things FAILED, REJECTED or TIMED_OUT, at least 10 %"


def test_a_step_that_nobody_took_speaks_for_nothing() -> None:
    world = World(names=("a", "b"), fates={})
    one = begun(world)
    world.facts = replace(world.facts, executions={"a": ExecutionStatus.REMOVED})
    one = world.decide(one)
    assert (one.state, one.why) == (RolloutState.ABORTED, "no device of step 1 took the release")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"members": ()}, "no device is there"),
        ({"open": False}, "no window is open"),
        ({"after": "rol_0"}, "rollout rol_0 of the same inspection comes first"),
    ],
)
def test_a_planned_one_waits_and_says_what_for(facts: dict[str, Any], why: str) -> None:
    known = replace(World(names=("a",), fates={}).facts, **facts)
    action = next_step(rollout(), known, now=NOW)
    assert isinstance(action, Wait)
    assert why in action.why


def test_it_widens_in_a_window_and_after_its_time_only() -> None:
    later = NOW + timedelta(hours=1)
    steps = (
        RolloutStep(canary=1, watch_s=60.0), RolloutStep(percent=100.0, not_before=later)
    )  # fmt: skip
    world = World(names=("a", "b"), fates={})
    one = begun(world, *steps)
    world.answer(one, "a")
    waits = next_step(one, world.facts, now=NOW)
    assert waits == Wait(why="50 frames were not judged yet by a")
    world.answer(one, "a")
    waits = next_step(one, world.facts, now=NOW)
    assert waits == Wait(why="step 1 is watched for 0:01:00")
    after = NOW + timedelta(seconds=60)
    one = apply_action(one, next_step(one, world.facts, now=after), now=after)
    assert one.state is RolloutState.WIDENING
    assert isinstance(next_step(one, world.facts, now=after), Wait)
    assert isinstance(next_step(one, replace(world.facts, open=False), now=later), Wait)
    one = apply_action(one, next_step(one, world.facts, now=later), now=later)
    assert (one.state, one.step) == (RolloutState.RUNNING, 1)


def test_what_a_pause_took_back_is_asked_again() -> None:
    world = World(names=("a",), fates={})
    one = world.resume(world.pause(begun(world)))
    action = next_step(one, world.facts, now=NOW)
    assert action == RequestJobs(devices=("a",))
    assert [job.job_id for job in apply_action(one, action, now=NOW).jobs] == ["rol_1-1", "rol_1-2"]


def test_a_done_one_leads_back_who_joined_since_too() -> None:
    world = World(names=("a",), fates={})
    done = settle(world, rollout())
    assert done.state is RolloutState.DONE
    world.facts = replace(world.facts, members=("a", "new"))
    back = apply_order(done, RolloutOrder.ROLLBACK, by="eve", reason="scratches pass", now=NOW)
    assert next_step(back, world.facts, now=NOW) == RequestJobs(devices=("a", "new"), back=True)


def test_a_device_that_cannot_go_back_is_named() -> None:
    world = World(names=("a", "b"), fates={})
    one = settle(world, rollout(RolloutStep(percent=100.0)))
    one = apply_order(one, RolloutOrder.ROLLBACK, by="eve", reason="", now=NOW)
    one = world.decide(one)
    world.facts = replace(world.facts, back={"a": OK})
    assert next_step(one, world.facts, now=NOW) == Wait(why="b not back yet")
    world.facts = replace(world.facts, back={"a": OK, "b": FAILED})
    assert world.decide(one).why == "1 of 2 devices are back; not back: b"


SAME = {
    RolloutOrder.PAUSE: (RolloutState.PAUSED,),
    RolloutOrder.RESUME: (RolloutState.PLANNED, RolloutState.RUNNING, RolloutState.WIDENING),
    RolloutOrder.ABORT: (RolloutState.ABORTED,),
    RolloutOrder.ROLLBACK: (RolloutState.GOING_BACK, RolloutState.ROLLED_BACK),
}


@pytest.mark.parametrize("order", list(RolloutOrder))
def test_orders_twice_are_once_and_others_are_refused_with_a_sentence(order: RolloutOrder) -> None:
    for state in RolloutState:
        one = rollout(state=state, previous=release("1"), shares=(("a",),), step=0)
        one = one.asking(("a",), back=False)
        after = one
        with contextlib.suppress(ConflictError):
            after = apply_order(one, order, by="eve", reason="why", now=NOW)
        assert may_order(one, order) == (after != one)
        if after == one and state not in SAME[order]:
            with pytest.raises(ConflictError, match=f"it is {state}"):
                apply_order(one, order, by="eve", reason="why", now=NOW)
        elif after != one:
            assert apply_order(after, order, by="eve", reason="again", now=NOW) == after


def test_what_was_never_asked_cannot_go_back() -> None:
    with pytest.raises(ConflictError, match="no device was asked"):
        apply_order(rollout(state=RolloutState.RUNNING), RolloutOrder.ROLLBACK, by="", reason="",
                now=NOW)  # fmt: skip


def camel(key: str) -> str:
    return re.sub("_([a-z])", lambda found: found[1].upper(), key)


@pytest.mark.parametrize(
    ("key", "value"), [("threshold_percentage", 0.0), ("min_number_of_executed_things", 0)]
)
def test_faults_of_abort_criteria_name_the_key_that_was_written(key: str, value: float) -> None:
    default: dict[str, object] = {
        "failure_type": "ALL", "threshold_percentage": 10.0, "min_number_of_executed_things": 1,
    }  # fmt: skip
    one = default | {key: value}
    with pytest.raises(InvalidError, match=key):
        decode(RolloutPlan, {"abort": [one]}, where="plan")
    named = {camel(name): of for name, of in one.items()}
    with pytest.raises(InvalidError, match=camel(key)):
        read_settings({"abortConfig": {"criteriaList": [named]}})


def test_a_roll_out_is_kept_and_read_back() -> None:
    world = World(names=("a", "b"), fates={})
    one = world.pause(begun(world, RolloutStep(group="x", not_before=NOW),
                            RolloutStep(percent=100.0)))  # fmt: skip
    assert decode_fast(Rollout, encode(to_plain(one)), where="here") == one


@pytest.mark.parametrize(
    "bad",
    [
        RolloutStep,
        lambda: RolloutStep(canary=1, percent=3.0),
        lambda: RolloutStep(canary=-1),
        lambda: RolloutStep(percent=101.0),
        lambda: RolloutStep(percent=float("nan")),
        lambda: RolloutStep(canary=1, per_minute=0),
        lambda: RolloutStep(canary=1, watch_s=-1.0),
        lambda: RolloutStep(canary=1, not_before=datetime(2026, 1, 1)),  # noqa: DTZ001  on purpose
        lambda: RolloutPlan(steps=()),
        lambda: RolloutPlan(steps=(RolloutStep(canary=1),)),
        lambda: RolloutPlan(group="g", devices=("a",)),
        lambda: RolloutPlan(devices=("a", "a")),
        lambda: Evidence(device="a", inspection="i", frames=1, changed=2),
        lambda: Evidence(device="a", inspection="i", frames=1, score_sum=float("nan")),
        lambda: Evidence(device="a", inspection="i", frames=1, score_squares=1.5),
        lambda: Evidence(device="a", inspection="i", crashes=-1),
    ],
)
def test_plans_and_figures_that_cannot_be_are_refused(bad: Callable[[], object]) -> None:
    with pytest.raises(InvalidError):
        bad()
