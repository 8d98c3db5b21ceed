"""Whatever is asked, in whatever order, the contract's invariants hold."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineside.core import LinesideError
from lineside.fleet.jobs.executions import Run
from lineside.fleet.jobs.requests import Code, place_of
from lineside.store import open_records
from lineside.testing import FakeClock
from tests.fleet.jobs.conftest import Desk, desk_over

JOBS = ("a", "b", "c")
FINAL = {"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "CANCELED", "REMOVED"}
RETRY: dict[str, Any] = {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 1}]}
JOB = st.sampled_from(JOBS)
STEP = st.one_of(
    st.tuples(st.just("create"), JOB, st.booleans()),
    st.tuples(st.just("start"), st.integers(1, 3), st.none()),
    st.tuples(
        st.just("update"), JOB, st.sampled_from(["IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED"])
    ),
    st.tuples(st.just("update"), st.sampled_from(JOBS[:2]), st.just("IN_PROGRESS")),
    st.tuples(st.just("stale"), JOB, st.integers(1, 5)),
    st.tuples(st.just("cancel"), JOB, st.booleans()),
    st.tuples(st.just("cancel_one"), JOB, st.booleans()),
    st.tuples(st.just("delete"), JOB, st.booleans()),
    st.tuples(st.just("delete_one"), JOB, st.booleans()),
    st.tuples(st.just("wait"), st.integers(0, 200), st.none()),
    st.tuples(st.just("join"), st.booleans(), st.none()),
)


def apply(desk: Desk, what: str, first: Any, *, second: Any) -> None:  # noqa: ANN401, C901  drawn; a table
    """One step; a refusal is an answer too."""
    try:
        match what:
            case "create":
                desk.create(
                    first, "group/line", continuous=second, jobExecutionsRetryConfig=RETRY,
                    timeoutConfig={"inProgressTimeoutInMinutes": 2},
                )  # fmt: skip
            case "start":
                desk.ask("start-next", stepTimeoutInMinutes=first)
            case "update":
                desk.ask(f"{first}/update", status=second, statusDetails={"n": "1"})
            case "stale":
                desk.ask(f"{first}/update", status="IN_PROGRESS", expectedVersion=second)
            case "cancel":
                desk.service.cancel(first, reason="", force=second)
            case "cancel_one":
                desk.service.cancel_execution("t", first, force=second)
            case "delete":
                desk.service.delete(first, force=second)
            case "delete_one":
                desk.service.delete_execution("t", str(first), number=1, force=second)
            case "wait":
                desk.wait(first)
            case "join":
                desk.directory.add("t", groups=("line",) if first else ())
            case _:
                raise AssertionError(what)
    except LinesideError:
        pass


def runs_of(desk: Desk) -> dict[str, Run]:
    return {run.id: run for _, run in desk.service._book.runs_of_thing("t")}


@contextmanager
def opened() -> Iterator[Desk]:
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        desk = desk_over(records, clock)
        desk.directory.add("t", groups=("line",))
        desk.directory.add("idle", groups=("line",))
        yield desk


SLOW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=10, max_size=24))
def test_any_order_of_operations_keeps_the_invariants(steps: list[tuple[str, Any, Any]]) -> None:
    with opened() as desk:
        for job_id in JOBS[:2]:
            desk.create(job_id, "group/line", jobExecutionsRetryConfig=RETRY)
        before = runs_of(desk)
        for what, first, second in steps:
            desk.said.clear()
            apply(desk, what, first, second=second)
            after = runs_of(desk)
            check_steps(before, after)
            check_lists(desk, after)
            check_notices(desk, before, after=after)
            check_tallies(desk)
            before = after


def check_steps(before: dict[str, Run], after: dict[str, Run]) -> None:
    for place, run in after.items():
        was = before.get(place)
        if was is None or was.order != run.order:
            assert run.version >= 1
            continue
        if was == run:
            continue
        assert was.status.value not in FINAL, "what is over has changed"
        assert run.version == was.version + 1


def check_lists(desk: Desk, runs: dict[str, Run]) -> None:
    said = desk.ask("get")
    queued = [one["jobId"] for one in said["queuedJobs"]]
    under_way = [one["jobId"] for one in said["inProgressJobs"]]
    is_open = sorted((run for run in runs.values() if run.open), key=place_in_line)
    assert [run.job_id for run in is_open] == [*under_way, *queued]
    assert len({run.job_id for run in is_open}) == len(is_open), "two open tries of one job"
    order = [(run.queued_at, run.order) for run in is_open if run.status == "QUEUED"]
    assert order == sorted(order)
    following = desk.ask("$next/get").get("execution")
    assert (following or {}).get("jobId") == (is_open[0].job_id if is_open else None)


def place_in_line(run: Run) -> tuple[bool, object, int]:
    """The contract's order: in progress first, then by queue time, then by age of the job."""
    return run.status.value != "IN_PROGRESS", run.queued_at, run.order


def check_notices(desk: Desk, before: dict[str, Run], *, after: dict[str, Run]) -> None:
    """The last notification of a step shows the list as it is then."""
    listed = [one for one in desk.said if one.topic.endswith("/t/jobs/notify")]
    were = {run.id for run in before.values() if run.open}
    are = {run.id for run in after.values() if run.open}
    if were != are:
        assert listed
    for one in listed[-1:]:
        jobs = json.loads(one.payload)["jobs"]
        assert sum(len(runs) for runs in jobs.values()) == min(10, len(are))


def check_tallies(desk: Desk) -> None:
    for job_id in JOBS:
        try:
            _, counters = desk.service.look(job_id)
        except LinesideError:
            continue
        counted: dict[str, int] = {}
        for run in desk.service.executions(job_id):
            counted[run.status.value] = counted.get(run.status.value, 0) + 1
        assert dict(counters.counts) == counted


TEXT = st.text(max_size=12)
HOSTILE = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                st.integers(-2, 20_000), TEXT, st.booleans(), st.none(),
                st.sampled_from(["IN_PROGRESS", "SUCCEEDED"]),
                st.dictionaries(TEXT, TEXT, max_size=12),
            )
            for name in (
                "status", "statusDetails", "expectedVersion", "executionNumber", "clientToken",
                "stepTimeoutInMinutes", "includeJobDocument", "includeJobExecutionState",
            )
        },
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
LEVELS = st.one_of(
    st.sampled_from(["get", "start-next", "a/get", "a/update", "$next/get", "$next/update"]),
    st.text(alphabet=st.characters(exclude_characters="+#\0", codec="utf-8"), max_size=30),
)


@SLOW
@given(asked=st.lists(st.tuples(LEVELS, HOSTILE), max_size=15))
def test_whatever_comes_is_answered_once_in_the_contract_s_words(
    asked: list[tuple[str, bytes]],
) -> None:
    with opened() as desk:
        desk.create("a")
        for levels, payload in asked:
            topic = f"$aws/things/t/jobs/{levels}"
            answers = desk.service.answer(topic, payload)
            place = place_of(topic)
            assert place is not None
            if place.answers:
                assert answers == []
                continue
            mine = [one for one in answers if one.topic.startswith(f"{topic}/")]
            assert len(mine) == 1
            body = json.loads(mine[0].payload)
            if mine[0].topic.endswith("/rejected"):
                assert body["code"] in set(Code) - {Code.INTERNAL_ERROR}
        check_tallies(desk)
