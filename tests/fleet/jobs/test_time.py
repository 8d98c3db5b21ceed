"""What time brings: time-outs, rates, retries, aborts, schedules, groups that change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, rfc3339
from lineside.fleet import JobQuery
from lineside.fleet.jobs.settings import (
    JobCounters,
    Rollout,
    count_notified,
    in_minute,
    open_since,
    parse_cron,
    rate_of,
    read_settings,
)
from tests.fleet.jobs.conftest import Desk, many


class TestTimers:
    def test_the_in_progress_timer_ends_it(self, desk: Desk) -> None:
        desk.create("job1", timeoutConfig={"inProgressTimeoutInMinutes": 2})
        desk.wait(300)
        assert desk.states("job1") == {"t": "QUEUED"}
        desk.ask("start-next")
        desk.wait(119)
        assert desk.states("job1") == {"t": "IN_PROGRESS"}
        desk.said.clear()
        desk.wait(1)
        assert desk.states("job1") == {"t": "TIMED_OUT"}
        assert desk.topics() == [
            "notify", "notify-next", "$aws/events/jobExecution/job1/timed_out",
            "$aws/events/job/job1/completed",
        ]  # fmt: skip
        assert desk.ask("job1/update", status="SUCCEEDED")["code"] == "InvalidStateTransition"

    def test_an_update_does_not_move_the_in_progress_timer(self, desk: Desk) -> None:
        desk.create("job1", timeoutConfig={"inProgressTimeoutInMinutes": 2})
        desk.ask("start-next")
        desk.wait(100)
        desk.ask("job1/update", status="IN_PROGRESS", stepTimeoutInMinutes=60)
        desk.wait(20)
        assert desk.states("job1") == {"t": "TIMED_OUT"}

    def test_each_step_timer_replaces_the_one_before(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("start-next", stepTimeoutInMinutes=1)
        desk.wait(50)
        desk.ask("job1/update", status="IN_PROGRESS", stepTimeoutInMinutes=2)
        desk.wait(119)
        desk.ask("job1/update", status="IN_PROGRESS")
        assert desk.states("job1") == {"t": "IN_PROGRESS"}
        desk.wait(1)
        assert desk.states("job1") == {"t": "TIMED_OUT"}

    def test_a_step_timer_is_taken_away(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("start-next", stepTimeoutInMinutes=1)
        desk.ask("job1/update", status="IN_PROGRESS", stepTimeoutInMinutes=-1)
        desk.wait(3600)
        assert desk.states("job1") == {"t": "IN_PROGRESS"}

    def test_what_ended_does_not_time_out(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("start-next", stepTimeoutInMinutes=1)
        desk.ask("job1/update", status="SUCCEEDED")
        desk.wait(3600)
        assert desk.states("job1") == {"t": "SUCCEEDED"}


class TestRollingOut:
    def test_at_most_so_many_are_told_in_a_minute(self, desk: Desk) -> None:
        many(desk, 5)
        desk.create("job1", "group/many", jobExecutionsRolloutConfig={"maximumPerMinute": 2})
        told_now = [len(desk.states("job1"))]
        for _ in range(4):
            desk.wait(30)
            told_now.append(len(desk.states("job1")))
        assert told_now == [2, 2, 4, 4, 5]
        assert desk.service.look("job1")[1].waiting == 0

    def test_a_job_with_things_waiting_is_not_completed(self, desk: Desk) -> None:
        things = many(desk, 2)
        desk.create("job1", *things, jobExecutionsRolloutConfig={"maximumPerMinute": 1})
        desk.ask("job1/update", thing="m000", status="SUCCEEDED")
        assert desk.service.job("job1").status == "IN_PROGRESS"
        desk.wait(60)
        desk.ask("job1/update", thing="m001", status="SUCCEEDED")
        assert desk.service.job("job1").status == "COMPLETED"

    def test_more_than_a_chunk_is_told_at_once(self, desk: Desk) -> None:
        many(desk, 220)
        desk.create("job1", "group/many")
        assert set(desk.states("job1").values()) == {"QUEUED"}
        assert len(desk.states("job1")) == 220
        desk.service.cancel("job1", reason="")
        assert set(desk.states("job1").values()) == {"CANCELED"}
        desk.service.delete("job1")
        assert desk.service.jobs(JobQuery()).items == ()

    @pytest.mark.parametrize("counted", ["numberOfNotifiedThings", "numberOfSucceededThings"])
    def test_the_rate_rises_by_its_factor(self, counted: str) -> None:
        rollout = read_settings({
            "jobExecutionsRolloutConfig": {
                "maximumPerMinute": 50,
                "exponentialRate": {
                    "baseRatePerMinute": 5, "incrementFactor": 2,
                    "rateIncreaseCriteria": {counted: 10},
                },
            }
        }).job_executions_rollout_config  # fmt: skip
        for count, rate in ((0, 5), (9, 5), (10, 10), (20, 20), (35, 40), (40, 50), (10**6, 50)):
            counters = JobCounters(notified=count, counts={"SUCCEEDED": count})
            assert rate_of(rollout, counters) == rate

    def test_a_rate_rises_when_a_minute_begins_not_within_it(self, desk: Desk) -> None:
        many(desk, 40)
        desk.create(
            "job1", "group/many",
            jobExecutionsRolloutConfig={"exponentialRate": {
                "baseRatePerMinute": 5, "incrementFactor": 2.0,
                "rateIncreaseCriteria": {"numberOfNotifiedThings": 5},
            }},
        )  # fmt: skip
        told_now = [len(desk.states("job1"))]
        for _ in range(2):
            desk.wait(60)
            told_now.append(len(desk.states("job1")))
        assert told_now == [5, 15, 40]

    @given(
        rate=st.integers(1, 1000),
        steps=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 2000)), max_size=40),
    )
    def test_no_minute_of_the_clock_has_more_than_the_rate(
        self, rate: int, steps: list[tuple[int, int]]
    ) -> None:
        rollout, counters = Rollout(maximum_per_minute=rate), JobCounters(waiting=10**6)
        now, last = datetime(2026, 1, 1, tzinfo=UTC), None
        within = 0
        for wait_s, wish in steps:
            now += timedelta(seconds=wait_s)
            counters = in_minute(rollout, counters, now=now)
            if counters.minute_at != last:
                assert last is None or counters.minute_at - last >= timedelta(minutes=1)  # type: ignore[operator]  # a minute has begun
                last, within = counters.minute_at, 0
            count = min(wish, counters.minute_rate - counters.minute_used)
            counters, within = count_notified(counters, count), within + count
            assert within <= rate


RETRY: dict[str, Any] = {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 2}]}


class TestRetryAndAbort:
    def test_a_failure_is_tried_again_as_often_as_said(self, desk: Desk) -> None:
        desk.create("job1", jobExecutionsRetryConfig=RETRY)
        for number in (1, 2, 3):
            execution = desk.ask("start-next")["execution"]
            assert (execution["executionNumber"], execution["versionNumber"]) == (number, 2)
            desk.ask("job1/update", status="FAILED")
        assert "execution" not in desk.ask("start-next")
        assert desk.service.look("job1")[1].counts == {"FAILED": 1}
        assert desk.service.job("job1").status == "COMPLETED"

    def test_an_earlier_try_stays_as_it_ended(self, desk: Desk) -> None:
        desk.create("job1", jobExecutionsRetryConfig=RETRY)
        desk.ask("job1/update", status="FAILED")
        said = desk.ask("job1/update", status="SUCCEEDED", executionNumber=1)
        assert said["code"] == "InvalidStateTransition"
        desk.ask("job1/update", status="SUCCEEDED")
        assert desk.service.look("job1")[1].counts == {"SUCCEEDED": 1}

    @pytest.mark.parametrize("status", ["REJECTED", "SUCCEEDED"])
    def test_what_did_not_fail_is_not_tried_again(self, desk: Desk, status: str) -> None:
        retry = {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 10}]}
        desk.create("job1", jobExecutionsRetryConfig=retry)
        desk.ask("job1/update", status=status)
        assert desk.states("job1") == {"t": status}

    def test_a_time_out_is_tried_again_where_that_was_asked_for(self, desk: Desk) -> None:
        retry = {"criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]}
        desk.create("job1", jobExecutionsRetryConfig=retry)
        for _ in range(2):
            desk.ask("start-next", stepTimeoutInMinutes=1)
            desk.wait(60)
        assert desk.states("job1") == {"t": "TIMED_OUT"}
        desk.create("job2", jobExecutionsRetryConfig=retry)
        desk.ask("job2/update", status="FAILED")
        assert desk.states("job2") == {"t": "FAILED"}

    def test_a_cancelled_job_tries_nothing_again(self, desk: Desk) -> None:
        desk.create("job1", jobExecutionsRetryConfig=RETRY)
        desk.ask("start-next")
        desk.service.cancel("job1", reason="")
        desk.ask("job1/update", status="FAILED")
        assert desk.states("job1") == {"t": "FAILED"}

    def abort(self, kind: str, percent: float, least: int) -> dict[str, Any]:
        return {
            "abortConfig": {
                "criteriaList": [{
                    "failureType": kind, "action": "CANCEL", "thresholdPercentage": percent,
                    "minNumberOfExecutedThings": least,
                }]
            }
        }  # fmt: skip

    def test_too_many_failures_cancel_what_is_queued_only(self, desk: Desk) -> None:
        things = many(desk, 6)
        desk.create("job1", *things, **self.abort("FAILED", 50, 2))
        desk.ask("start-next", thing="m005")
        desk.ask("job1/update", thing="m000", status="FAILED")
        assert desk.service.job("job1").status == "IN_PROGRESS"
        desk.said.clear()
        desk.ask("job1/update", thing="m001", status="SUCCEEDED")
        job = desk.service.job("job1")
        assert job.status == "CANCELED"
        assert job.reason == "1 of 2 executed things FAILED, at least 50 %"
        assert desk.states("job1") == {
            "m000": "FAILED", "m001": "SUCCEEDED", "m002": "CANCELED", "m003": "CANCELED",
            "m004": "CANCELED", "m005": "IN_PROGRESS",
        }  # fmt: skip
        assert desk.events()[-1] == "job/job1/canceled"

    @pytest.mark.parametrize(
        ("kind", "status", "aborted"),
        [
            ("ALL", "REJECTED", True), ("ALL", "FAILED", True), ("REJECTED", "FAILED", False),
            ("REJECTED", "REJECTED", True), ("TIMED_OUT", "FAILED", False),
        ],
    )  # fmt: skip
    def test_a_criterion_counts_its_own_kind(
        self, desk: Desk, kind: str, *, status: str, aborted: bool
    ) -> None:
        desk.create("job1", *many(desk, 3), **self.abort(kind, 0.01, 1))
        desk.ask("job1/update", thing="m000", status=status)
        assert (desk.service.job("job1").status == "CANCELED") is aborted

    def test_what_waits_to_be_told_is_not_told_after_an_abort(self, desk: Desk) -> None:
        settings = {
            **self.abort("FAILED", 1, 1), "jobExecutionsRolloutConfig": {"maximumPerMinute": 1},
        }  # fmt: skip
        desk.create("job1", *many(desk, 3), **settings)
        desk.ask("job1/update", thing="m000", status="FAILED")
        desk.wait(3600)
        assert desk.states("job1") == {"m000": "FAILED"}

    def test_a_thing_that_tries_again_has_not_failed_yet(self, desk: Desk) -> None:
        settings = {**self.abort("FAILED", 1, 1), "jobExecutionsRetryConfig": RETRY}
        desk.create("job1", **settings)
        for status in ("IN_PROGRESS", "IN_PROGRESS", "CANCELED"):
            assert desk.service.job("job1").status == status or status == "CANCELED"
            desk.ask("job1/update", status="FAILED")
        assert desk.service.job("job1").status == "CANCELED"


class TestGroupsThatChange:
    def test_who_joins_gets_a_continuous_job_and_who_leaves_loses_it(self, desk: Desk) -> None:
        desk.create("job1", "group/line", continuous=True)
        desk.ask("job1/update", status="SUCCEEDED")
        assert desk.service.job("job1").status == "IN_PROGRESS"
        desk.directory.add("u", groups=("line",))
        desk.wait(1)
        assert desk.states("job1") == {"t": "SUCCEEDED", "u": "QUEUED"}
        desk.directory.add("u")
        desk.said.clear()
        desk.wait(1)
        assert desk.states("job1") == {"t": "SUCCEEDED", "u": "REMOVED"}
        assert desk.events() == ["jobExecution/job1/removed"]
        desk.directory.add("u", groups=("line",))
        desk.wait(1)
        assert desk.states("job1") == {"t": "SUCCEEDED", "u": "QUEUED"}
        assert desk.ask("get", thing="u")["queuedJobs"][0]["executionNumber"] == 2
        assert desk.service.look("job1")[1].counts == {"SUCCEEDED": 1, "QUEUED": 1}

    def test_a_snapshot_does_not_follow_its_group(self, desk: Desk) -> None:
        desk.create("job1", "group/line")
        desk.directory.add("u", groups=("line",))
        desk.directory.add("t")
        desk.wait(1)
        assert desk.states("job1") == {"t": "QUEUED"}

    def test_a_thing_that_is_gone_does_not_hold_a_snapshot_up(self, desk: Desk) -> None:
        desk.create("job1", *many(desk, 3), jobExecutionsRolloutConfig={"maximumPerMinute": 1})
        desk.directory.remove("m000")
        desk.directory.remove("m001")
        desk.wait(60)
        assert desk.states("job1") == {"m000": "REMOVED", "m002": "QUEUED"}
        desk.ask("job1/update", thing="m002", status="SUCCEEDED")
        assert desk.service.job("job1").status == "COMPLETED"


class TestSchedules:
    def at(self, desk: Desk, minutes: float) -> str:
        return rfc3339(desk.clock.now() + timedelta(minutes=minutes))

    def test_a_job_begins_at_its_start(self, desk: Desk) -> None:
        desk.create("job1", schedulingConfig={"startTime": self.at(desk, 30)})
        assert desk.service.job("job1").status == "SCHEDULED"
        desk.wait(29 * 60)
        assert desk.states("job1") == {}
        desk.wait(60)
        assert desk.service.job("job1").status == "IN_PROGRESS"
        assert desk.states("job1") == {"t": "QUEUED"}

    @pytest.mark.parametrize(
        ("behaviour", "job", "states"),
        [
            ("STOP_ROLLOUT", "IN_PROGRESS", {"m000": "IN_PROGRESS", "m001": "QUEUED"}),
            ("CANCEL", "CANCELED", {"m000": "IN_PROGRESS", "m001": "CANCELED"}),
            ("FORCE_CANCEL", "CANCELED", {"m000": "CANCELED", "m001": "CANCELED"}),
        ],
    )
    def test_a_job_ends_as_it_was_told(
        self, desk: Desk, behaviour: str, *, job: str, states: dict[str, str]
    ) -> None:
        desk.create(
            "job1", *many(desk, 40),
            schedulingConfig={"endTime": self.at(desk, 1), "endBehavior": behaviour},
            jobExecutionsRolloutConfig={"maximumPerMinute": 2},
        )  # fmt: skip
        desk.ask("start-next", thing="m000")
        desk.wait(60)
        assert (desk.service.job("job1").status, desk.states("job1")) == (job, states)
        desk.wait(3600)
        assert desk.states("job1") == states

    def test_a_stopped_roll_out_is_completed_when_the_rest_is_done(self, desk: Desk) -> None:
        desk.create(
            "job1", "group/line", continuous=True, schedulingConfig={"endTime": self.at(desk, 40)}
        )
        desk.wait(40 * 60)
        desk.directory.add("u", groups=("line",))
        desk.wait(1)
        assert desk.states("job1") == {"t": "QUEUED"}
        desk.ask("job1/update", status="SUCCEEDED")
        assert desk.service.job("job1").status == "COMPLETED"

    def test_nothing_is_told_outside_a_maintenance_window(self, desk: Desk) -> None:
        window = {"startTime": "cron(30 12 ? * * *)", "durationInMinutes": 10}
        desk.create(
            "job1", "group/line", continuous=True, schedulingConfig={"maintenanceWindows": [window]}
        )
        assert desk.states("job1") == {}
        for _ in range(30):
            desk.wait(60)
        assert desk.states("job1") == {"t": "QUEUED"}
        desk.wait(10 * 60)
        desk.directory.add("u", groups=("line",))
        desk.wait(60)
        assert desk.states("job1") == {"t": "QUEUED"}


class TestCron:
    @pytest.mark.parametrize(
        ("text", "moment", "opens"),
        [
            ("cron(0 22 ? * MON-FRI *)", "2026-01-02T22:00", True),
            ("cron(0 22 ? * MON-FRI *)", "2026-01-03T22:00", False),
            ("cron(0 22 ? * 1,7 *)", "2026-01-03T22:00", True),
            ("*/15 0-6 1 JAN,JUL ? 2026-2027", "2026-07-01T03:45", True),
            ("*/15 0-6 1 JAN,JUL ? 2026-2027", "2026-07-01T03:46", False),
            ("5/20 * * * ? *", "2026-07-01T03:45", True),
        ],
    )
    def test_a_window_opens_in_its_minute(self, text: str, moment: str, *, opens: bool) -> None:
        at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        assert parse_cron(text).starts_at(at) is opens

    @pytest.mark.parametrize(
        "text", ["", "* * * * *", "60 0 * * ? *", "0 0 L * ? *", "a b c d e f", "5-1 0 * * ? *",
                 "0 0 0 * ? *", "*/0 * * * ? *", "-1 * * * ? *", "² * * * ? *"],
    )  # fmt: skip
    def test_what_is_no_expression_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidError, match="no cron expression"):
            parse_cron(text)

    def test_a_window_is_open_for_its_length(self) -> None:
        cron = parse_cron("0 22 ? * * *")
        start = datetime(2026, 1, 1, 22, tzinfo=UTC)
        for minutes, is_open in ((-1, False), (0, True), (59, True), (60, False)):
            now = start + timedelta(minutes=minutes)
            assert (open_since(cron, minutes=60, now=now) is not None) is is_open
        almost = start + timedelta(minutes=59, seconds=59.9)
        assert open_since(cron, minutes=60, now=almost) == start
