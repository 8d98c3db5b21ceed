"""What operators order: creating, cancelling, deleting, listing; limits and conflicts."""

import json
from typing import Any

import pytest

from lineside.compat.aws.iot_jobs import new_job, read_texts
from lineside.core import InvalidError, LinesideError, NotFoundError
from lineside.fleet import JobQuery, NewJob
from lineside.fleet.jobs.requests import JobThereError, JobTransitionError, JobVersionError
from tests.fleet.jobs.conftest import DOCUMENT, Desk

WHO = ("t", "job1")


@pytest.fixture
def three(desk: Desk) -> Desk:
    """Things t, u and v in group line."""
    for thing in ("u", "v"):
        desk.directory.add(thing, groups=("line",))
    return desk


class TestCreating:
    def test_the_same_job_again_is_the_same_job(self, desk: Desk) -> None:
        desk.create("job1")
        desk.said.clear()
        desk.create("job1")
        assert desk.said == []
        assert desk.states("job1") == {"t": "QUEUED"}

    @pytest.mark.parametrize(
        "other", [{"document": {}}, {"continuous": True}, {"timeoutConfig": {}}]
    )
    def test_another_job_of_the_same_id_is_a_conflict(
        self, desk: Desk, other: dict[str, Any]
    ) -> None:
        desk.create("job1")
        with pytest.raises(JobThereError, match="other content"):
            desk.create("job1", **other)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"job_id": "a b"}, "job id"),
            ({"job_id": ""}, "job id"),
            ({"job_id": "x" * 65}, "job id"),
            ({"targets": ()}, "0 targets"),
            ({"targets": ("a b",)}, "no target"),
            ({"targets": ("arn:aws:s3:::bucket",)}, "no target"),
            ({"document": {"a": "x" * 32_768}}, "bytes"),
            ({"description": "x" * 2_029}, "too long"),
            ({"description": "a\nb"}, "control characters"),
            ({"settings": {"abortconfig": {}}}, "abortconfig"),
            ({"settings": {"timeoutConfig": {"inProgressTimeoutInMinutes": 0}}}, "out of range"),
            ({"settings": {"timeoutConfig": {"inProgressTimeoutInMinutes": 10_081}}}, "range"),
            ({"settings": {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1_001}}}, "range"),
            ({"settings": {"jobExecutionsRetryConfig": {"criteriaList": [
                {"failureType": "FAILED", "numberOfRetries": 6},
                {"failureType": "TIMED_OUT", "numberOfRetries": 5}]}}}, "more than 10 retries"),
            ({"settings": {"jobExecutionsRetryConfig": {"criteriaList": [
                {"failureType": "REJECTED", "numberOfRetries": 1}]}}}, "REJECTED"),
            ({"settings": {"abortConfig": {"criteriaList": [
                {"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 101,
                 "minNumberOfExecutedThings": 1}]}}}, "a number from 0.01 to 100"),
            ({"settings": {"presignedUrlConfig": {"expiresInSec": 59}}}, "out of range"),
            ({"settings": {"schedulingConfig": {"startTime": "soon"}}}, "no time"),
            ({"settings": {"schedulingConfig": {"endTime": "2025-01-01T00:00"}}}, "over"),
            ({"settings": {"schedulingConfig": {"endBehavior": "CANCEL"}}}, "no end"),
            ({"settings": {"schedulingConfig": {"maintenanceWindows": [
                {"startTime": "cron(0 22 ? * MON-FRI *)", "durationInMinutes": 60}]}}},
             "CONTINUOUS"),
            ({"document": {"url": "${aws:iot:s3-presigned-url:https://s3/b/k}"}}, "presigned"),
        ],
    )  # fmt: skip
    def test_what_breaks_a_limit_is_refused_with_a_sentence(
        self, desk: Desk, change: dict[str, Any], said: str
    ) -> None:
        asked = {"job_id": "job1", "targets": ("t",), "document": DOCUMENT, **change}
        with pytest.raises(InvalidError, match=said) as refused:
            desk.service.create(NewJob(**asked))
        assert refused.value.fix
        assert desk.service.jobs(JobQuery()).items == ()

    @pytest.mark.parametrize("target", ["nobody", "group/nothing"])
    def test_an_unknown_target_is_not_found_and_nothing_is_made(
        self, desk: Desk, target: str
    ) -> None:
        with pytest.raises(NotFoundError):
            desk.create("job1", "t", target)
        assert desk.service.jobs(JobQuery()).items == ()
        assert desk.ask("get")["queuedJobs"] == []

    def test_a_thing_named_twice_has_it_once(self, three: Desk) -> None:
        three.create("job1", "group/line", "t", "arn:aws:iot:r:1:thing/u")
        assert three.states("job1") == dict.fromkeys("tuv", "QUEUED")

    def test_a_job_for_nobody_is_completed_at_once(self, desk: Desk) -> None:
        desk.directory.add_group("empty")
        desk.create("job1", "group/empty")
        assert desk.service.job("job1").status == "COMPLETED"
        assert desk.events() == ["job/job1/completed"]


class TestCancelling:
    def test_what_is_queued_is_cancelled_what_is_under_way_goes_on(self, three: Desk) -> None:
        three.create("job1", "group/line")
        three.ask("start-next")
        three.said.clear()
        job = three.service.cancel("job1", reason="wrong one")
        assert (job.status, job.reason) == ("CANCELED", "wrong one")
        assert three.states("job1") == {"t": "IN_PROGRESS", "u": "CANCELED", "v": "CANCELED"}
        events = [one for one in three.topics() if "/events/" in one]
        assert events == [
            "$aws/events/job/job1/cancellation_in_progress",
            "$aws/events/jobExecution/job1/canceled", "$aws/events/jobExecution/job1/canceled",
            "$aws/events/job/job1/canceled",
        ]  # fmt: skip
        assert three.ask("job1/update", status="SUCCEEDED")["was"] == "accepted"
        assert three.service.job("job1").status == "CANCELED"

    def test_with_force_what_is_under_way_is_cancelled_too_also_later(self, three: Desk) -> None:
        three.create("job1", "group/line")
        three.ask("start-next")
        three.service.cancel("job1", reason="")
        three.service.cancel("job1", reason="", force=True)
        assert set(three.states("job1").values()) == {"CANCELED"}
        run = three.service.execution(*WHO)
        assert run.forced
        assert three.ask("job1/update", status="SUCCEEDED")["code"] == "InvalidStateTransition"

    def test_cancelling_twice_changes_and_says_nothing_more(self, desk: Desk) -> None:
        desk.create("job1")
        desk.service.cancel("job1", reason="")
        desk.said.clear()
        desk.service.cancel("job1", reason="")
        assert desk.said == []

    def test_what_is_completed_is_not_cancelled(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("job1/update", status="SUCCEEDED")
        with pytest.raises(JobTransitionError, match="COMPLETED"):
            desk.service.cancel("job1", reason="")

    def test_one_execution_is_cancelled(self, desk: Desk) -> None:
        desk.create("job1")
        with pytest.raises(JobVersionError, match="version 1"):
            desk.service.cancel_execution(*WHO, expected_version=2)
        desk.ask("start-next")
        with pytest.raises(JobTransitionError, match="IN_PROGRESS"):
            desk.service.cancel_execution(*WHO)
        desk.said.clear()
        run = desk.service.cancel_execution(
            *WHO, force=True, expected_version=2, details={"why": "no"}
        )
        assert (run.status, run.version, run.details) == ("CANCELED", 3, {"why": "no"})
        assert desk.service.job("job1").status == "COMPLETED"
        assert desk.events() == ["jobExecution/job1/canceled", "job/job1/completed"]
        with pytest.raises(JobTransitionError, match="CANCELED"):
            desk.service.cancel_execution(*WHO, force=True)

    @pytest.mark.parametrize("code", ["lower", "A B", "X" * 129])
    def test_a_reason_code_has_its_form(self, desk: Desk, code: str) -> None:
        desk.create("job1")
        with pytest.raises(InvalidError, match="reason code"):
            desk.service.cancel("job1", code=code)


class TestDeleting:
    def test_a_job_that_is_not_over_is_deleted_by_force_only(self, three: Desk) -> None:
        three.create("job1", "group/line")
        three.ask("start-next")
        with pytest.raises(JobTransitionError, match="not over"):
            three.service.delete("job1")
        three.said.clear()
        three.service.delete("job1", force=True)
        said = three.topics()
        assert said[0] == "$aws/events/job/job1/deletion_in_progress"
        assert said[-1] == "$aws/events/job/job1/deleted"
        assert [one for one in said if not one.startswith("$aws/")] == ["notify", "notify-next"]
        with pytest.raises(NotFoundError):
            three.service.job("job1")
        assert three.ask("job1/get")["code"] == "ResourceNotFound"

    def test_nothing_of_a_deleted_job_stays(self, three: Desk) -> None:
        three.create("job1", "group/line", timeoutConfig={"inProgressTimeoutInMinutes": 1})
        three.ask("start-next")
        three.service.delete("job1", force=True)
        kept = three.service._records.documents
        for kind in (
            "iot-job", "iot-tally", "iot-waiting", "iot-run", "iot-pending", "iot-job-run",
            "iot-timer", "iot-active", "iot-job-order",
        ):  # fmt: skip
            assert kept.page(kind) == [], kind

    def test_its_id_is_free_again(self, desk: Desk) -> None:
        desk.create("job1")
        desk.service.delete("job1", force=True)
        desk.create("job1", document={"another": 1})
        assert desk.ask("start-next")["execution"]["jobDocument"] == {"another": 1}

    def test_one_execution_is_deleted(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("start-next")
        with pytest.raises(JobTransitionError, match="under way"):
            desk.service.delete_execution(*WHO)
        desk.ask("job1/update", status="FAILED")
        desk.said.clear()
        desk.service.delete_execution(*WHO, number=1)
        assert desk.events() == ["jobExecution/job1/deleted"]
        assert desk.service.executions("job1") == []
        assert desk.service.look("job1")[1].counts == {}


class TestListing:
    def test_jobs_come_newest_first_in_pages(self, desk: Desk) -> None:
        for number in range(5):
            desk.create(f"job{number}", continuous=number == 2)
        first = desk.service.jobs(JobQuery(limit=2))
        second = desk.service.jobs(JobQuery(limit=2, after=first.following))
        last = desk.service.jobs(JobQuery(limit=2, after=second.following))
        found = [row.job_id for page in (first, second, last) for row in page.items]
        assert found == ["job4", "job3", "job2", "job1", "job0"]
        assert last.following == ""
        chosen = desk.service.jobs(JobQuery(selection="CONTINUOUS", status="IN_PROGRESS"))
        assert [row.job_id for row in chosen.items] == ["job2"]

    def test_a_full_last_page_has_nothing_behind_it(self, desk: Desk) -> None:
        desk.create("job1")
        assert desk.service.jobs(JobQuery(limit=1)).following == ""

    def test_executions_are_found_by_job_and_by_thing(self, three: Desk) -> None:
        three.create("job1", "group/line")
        three.create("job2", "u")
        three.ask("job1/update", thing="u", status="FAILED")
        failed = three.service.runs_of_job("job1", JobQuery(status="FAILED"))
        assert [run.thing for run in failed.items] == ["u"]
        mine = three.service.runs_of_thing("u", JobQuery())
        assert [run.job_id for run in mine.items] == ["job1", "job2"]
        one = three.service.runs_of_thing("u", JobQuery(target="job2"))
        assert [run.job_id for run in one.items] == ["job2"]
        with pytest.raises(NotFoundError):
            three.service.runs_of_thing("nobody", JobQuery())


def test_the_completed_event_carries_what_the_guide_says(three: Desk) -> None:
    three.create("job1", "group/line")
    three.ask("job1/update", thing="t", status="SUCCEEDED")
    three.ask("job1/update", thing="u", status="REJECTED")
    three.wait(2)
    three.said.clear()
    three.ask("job1/update", thing="v", status="FAILED")
    event = next(one for one in three.said if one.topic == "$aws/events/job/job1/completed")
    body = json.loads(event.payload)
    now_s = int(three.clock.now().timestamp())
    assert body.pop("eventId")
    assert body == {
        "eventType": "JOB", "timestamp": now_s, "operation": "completed", "jobId": "job1",
        "status": "COMPLETED", "targetSelection": "SNAPSHOT", "description": "",
        "targets": ["arn:aws:iot:local:000000000000:thinggroup/line"],
        "completedAt": now_s, "createdAt": now_s - 2, "lastUpdatedAt": now_s,
        "jobProcessDetails": {
            "numberOfCanceledThings": 0, "numberOfRejectedThings": 1, "numberOfFailedThings": 1,
            "numberOfRemovedThings": 0, "numberOfSucceededThings": 1,
        },
    }  # fmt: skip


def test_a_refusal_never_leaves_half_a_job(desk: Desk) -> None:
    with pytest.raises(LinesideError):
        desk.create("job1", "t", "nobody")
    desk.create("job1")
    assert desk.states("job1") == {"t": "QUEUED"}


def read(**body: object) -> NewJob:
    """``CreateJob``'s body, read; one source is there."""
    asked: dict[str, object] = {"targets": ["t"], "document": "{}", **body}
    given = {name: value for name, value in asked.items() if value is not None}
    return new_job("job1", given, read_source=lambda _: '{"a":1}')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"namespaceId": "x"}, "namespaceId is not one of"),
        ({"jobTemplateArn": "arn:x"}, "jobTemplateArn is not one of"),
        ({"targetSelection": "SOMETIMES"}, "SNAPSHOT or CONTINUOUS"),
        ({"targets": None}, "targets is not a list"),
        ({"targets": "t"}, "targets is not a list"),
        ({"targets": [1]}, "targets is not a list"),
        ({"document": None}, "document is not JSON as text"),
        ({"document": {}}, "document is not JSON as text"),
        ({"document": "{"}, "not JSON"),
        ({"document": "[]"}, "a JSON object"),
        ({"document": "{}", "documentSource": "s3://b/k"}, "not both"),
        ({"documentSource": 7}, "documentSource is not text"),
        ({"description": 7}, "description is not text"),
        ({"tags": {"a": "b"}}, "a list of at most 50"),
        ({"tags": [{"Key": "a", "Value": "b"}] * 51}, "a list of at most 50"),
        ({"tags": ["a"]}, "a list of Key and Value"),
        ({"tags": [{"Key": 1}]}, "a list of Key and Value"),
    ],
)
def test_a_body_that_makes_no_job_is_refused_with_a_sentence(
    body: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidError, match=said) as refused:
        read(**body)
    assert refused.value.fix


def test_an_invalid_field_says_what_to_write() -> None:
    with pytest.raises(InvalidError) as refused:
        read_texts({"targets": [1]}, "targets")
    assert refused.value.where == "targets"
    assert refused.value.fix.startswith("Write a list of texts")


def test_a_document_is_given_or_read_at_its_source() -> None:
    assert read(document='{"b":2}').document == {"b": 2}
    job = new_job(
        "job1", {"targets": ["t"], "documentSource": "s3://b/k", "document": None},
        read_source=lambda source: json.dumps({"from": source}),
    )  # fmt: skip
    assert job.document == {"from": "s3://b/k"}
    assert job.document_source == "s3://b/k"


@pytest.mark.parametrize("text", ["[]", "{", "7", ""])
def test_what_stands_at_a_source_has_to_be_a_document(text: str) -> None:
    asked = {"targets": ["t"], "documentSource": "s3://b/k"}
    with pytest.raises(InvalidError) as refused:
        new_job("job1", asked, read_source=lambda _: text)
    assert refused.value.where == "documentSource"
