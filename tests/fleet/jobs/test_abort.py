"""Abort criteria, timers and rates together, against a plain count of what happened."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineside.fleet import NewJob
from lineside.store import open_records
from lineside.testing import FakeClock
from tests.fleet.jobs.conftest import Desk, desk_over, many

THINGS = 8
EXECUTED = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT")
FAILURES = EXECUTED[1:]


def criterion(kind: str, *, percent: float, least: int) -> dict[str, Any]:
    return {
        "failureType": kind, "action": "CANCEL", "thresholdPercentage": percent,
        "minNumberOfExecutedThings": least,
    }  # fmt: skip


@contextmanager
def opened() -> Iterator[Desk]:
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        desk = desk_over(records, clock)
        many(desk, THINGS)
        yield desk


CRITERIA = st.lists(
    st.builds(
        criterion, st.sampled_from([*FAILURES, "ALL"]),
        percent=st.sampled_from([0.01, 20.0, 33.33, 50.0, 100.0]), least=st.integers(1, 5),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
THING = st.integers(0, THINGS - 1)
STEP = st.one_of(
    st.tuples(st.just("start"), THING),
    st.tuples(st.sampled_from(["SUCCEEDED", "FAILED", "FAILED", "REJECTED"]), THING),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 60, 61])),
)


def met(criteria: list[dict[str, Any]], states: dict[str, str]) -> bool:
    """The contract's sentence, counted plainly."""
    executed = [state for state in states.values() if state in EXECUTED]
    for one in criteria:
        kinds = FAILURES if one["failureType"] == "ALL" else (one["failureType"],)
        failed = sum(state in kinds for state in executed)
        enough = len(executed) >= one["minNumberOfExecutedThings"]
        if enough and failed and failed * 100 >= one["thresholdPercentage"] * len(executed):
            return True
    return False


def carry_out(desk: Desk, what: str, given_: int) -> None:
    thing = f"m{given_:03d}"
    if what == "wait":
        desk.wait(given_)
    elif what == "start":
        desk.ask("start-next", thing=thing)
    else:
        desk.ask("job1/update", thing=thing, status=what)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    criteria=CRITERIA, rate=st.sampled_from([2, 3, 1000]),
    steps=st.lists(STEP, min_size=4, max_size=16),
)  # fmt: skip
def test_a_job_is_aborted_when_a_criterion_is_met_and_at_no_other_time(
    criteria: list[dict[str, Any]], rate: int, steps: list[tuple[str, int]]
) -> None:
    with opened() as desk:
        desk.create(
            "job1", "group/many", abortConfig={"criteriaList": criteria},
            timeoutConfig={"inProgressTimeoutInMinutes": 1},
            jobExecutionsRolloutConfig={"maximumPerMinute": rate},
        )  # fmt: skip
        aborted = False
        for what, given_ in steps:
            before = desk.states("job1")
            carry_out(desk, what, given_)
            after, job = desk.states("job1"), desk.service.job("job1")
            assert len(after) - len(before) <= rate
            if aborted:
                check_stopped(before, after)
                continue
            aborted = met(criteria, after)
            if aborted:
                check_aborted(desk, before, after=after)
            else:
                over = len(after) == THINGS and all(one in EXECUTED for one in after.values())
                assert job.status == ("COMPLETED" if over else "IN_PROGRESS")


def check_aborted(desk: Desk, before: dict[str, str], *, after: dict[str, str]) -> None:
    row, counters = desk.service.look("job1")
    assert (row.status, row.reason_code, row.forced) == ("CANCELED", "ABORTED", False)
    assert "executed things" in row.comment
    assert "QUEUED" not in after.values()
    assert counters.waiting == 0
    for thing, state in before.items():
        if state == "IN_PROGRESS":
            assert after[thing] in ("IN_PROGRESS", *EXECUTED), "what is under way goes on"


def check_stopped(before: dict[str, str], after: dict[str, str]) -> None:
    """Nobody is told any more; who was under way may still end."""
    assert before.keys() == after.keys()
    for thing, state in before.items():
        assert after[thing] == state or (state == "IN_PROGRESS" and after[thing] in EXECUTED)


def test_things_that_time_out_abort_the_job_while_it_is_rolled_out(desk: Desk) -> None:
    """By time alone: nobody says anything after the start."""
    things = many(desk, 6)
    desk.create(
        "job1", "group/many",
        abortConfig={"criteriaList": [criterion("TIMED_OUT", percent=50.0, least=2)]},
        timeoutConfig={"inProgressTimeoutInMinutes": 2},
        jobExecutionsRolloutConfig={"maximumPerMinute": 3},
    )  # fmt: skip
    for thing in things[:2]:
        desk.ask("start-next", thing=thing)
    desk.wait(60)
    desk.ask("start-next", thing=things[3])
    desk.said.clear()
    desk.wait(60)
    assert desk.states("job1") == dict(
        zip(things, ["TIMED_OUT"] * 2 + ["CANCELED", "IN_PROGRESS", "CANCELED", "CANCELED"],
            strict=True)
    )  # fmt: skip
    said = {one.topic: json.loads(one.payload) for one in desk.said}
    event = said["$aws/events/job/job1/canceled"]
    assert (event["status"], event["jobProcessDetails"]["numberOfCanceledThings"]) == (
        "CANCELED", 3,
    )  # fmt: skip
    assert "$aws/events/job/job1/cancellation_in_progress" in said
    assert said["$aws/things/m002/jobs/notify"]["jobs"] == {}
    assert "execution" not in said["$aws/things/m002/jobs/notify-next"]
    desk.wait(60)
    assert desk.states("job1")[things[3]] == "TIMED_OUT"


@pytest.mark.parametrize("succeeded", [0, 1])
def test_a_continuous_job_is_aborted_too_and_takes_nobody_in_any_more(
    desk: Desk, succeeded: int
) -> None:
    desk.create(
        "job1", "group/line", continuous=True,
        abortConfig={"criteriaList": [criterion("ALL", percent=51.0, least=1)]},
    )  # fmt: skip
    if succeeded:
        desk.ask("job1/update", status="SUCCEEDED")
    desk.directory.add("u", groups=("line",))
    desk.wait(1)
    desk.ask("job1/update", thing="u", status="REJECTED")
    assert desk.service.job("job1").status == ("IN_PROGRESS" if succeeded else "CANCELED")
    desk.directory.add("v", groups=("line",))
    desk.wait(1)
    assert ("v" in desk.states("job1")) is bool(succeeded)


def test_an_abort_outlives_a_restart_in_the_middle(clock: FakeClock) -> None:
    """More things than one step cancels, and the process ends after the first."""
    with open_records("memory://", clock=clock) as records:
        desk = desk_over(records, clock)
        things = many(desk, 220)
        criteria = {"criteriaList": [criterion("FAILED", percent=1.0, least=1)]}
        desk.service.create(
            NewJob(
                job_id="job1", targets=("group/many",), document={},
                settings={"abortConfig": criteria},
            )
        )  # fmt: skip
        topic = f"$aws/things/{things[0]}/jobs/job1/update"
        with desk.service.turn:
            steps = desk.service._steps
            desk.service._steps = lambda _: iter(())  # type: ignore[method-assign, assignment]  # it ends here
            desk.service.answer(topic, b'{"status":"FAILED"}')
            desk.service._steps = steps  # type: ignore[method-assign]  # and goes on there
        assert desk.service.job("job1").status == "CANCELED"
        assert "QUEUED" in desk.states("job1").values()
        again = desk_over(records, clock)
        again.service.due()
        assert set(again.states("job1").values()) == {"FAILED", "CANCELED"}
        assert again.events()[-1] == "job/job1/canceled"
