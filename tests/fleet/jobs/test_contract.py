"""The contract message by message: the worked sequence, the check values, every answer."""

from typing import Any

import pytest

from tests.fleet.jobs.conftest import DOCUMENT, Desk


def listed(notice: dict[str, Any]) -> dict[str, list[str]]:
    return {status: [one["jobId"] for one in runs] for status, runs in notice["jobs"].items()}


class TestTheWorkedSequence:
    """AWS IoT developer guide, "Jobs notifications": job1, job2, job3, message by message."""

    def test_every_step_says_what_the_guide_says(self, desk: Desk) -> None:
        desk.create("job1")
        said = desk.notices()
        assert listed(said["notify"]) == {"QUEUED": ["job1"]}
        assert said["notify-next"]["execution"]["jobId"] == "job1"
        assert said["notify-next"]["execution"]["jobDocument"] == DOCUMENT

        desk.create("job2")
        said = desk.notices()
        assert listed(said["notify"]) == {"QUEUED": ["job1", "job2"]}
        assert "notify-next" not in said

        assert desk.ask("start-next")["execution"]["jobId"] == "job1"
        assert desk.notices() == {}

        desk.create("job3")
        said = desk.notices()
        assert listed(said["notify"]) == {"IN_PROGRESS": ["job1"], "QUEUED": ["job2", "job3"]}
        assert "notify-next" not in said

        desk.ask("job1/update", status="SUCCEEDED")
        said = desk.notices()
        assert listed(said["notify"]) == {"QUEUED": ["job2", "job3"]}
        assert said["notify-next"]["execution"]["jobId"] == "job2"

        desk.ask("job3/update", status="IN_PROGRESS")
        said = desk.notices()
        assert "notify" not in said
        assert said["notify-next"]["execution"]["jobId"] == "job3"
        assert said["notify-next"]["execution"]["status"] == "IN_PROGRESS"

        desk.ask("job2/update", status="REJECTED")
        said = desk.notices()
        assert listed(said["notify"]) == {"IN_PROGRESS": ["job3"]}
        assert "notify-next" not in said

        desk.service.delete_execution("t", "job3", number=1, force=True)
        said = desk.notices()
        assert said["notify"]["jobs"] == {}
        assert "execution" not in said["notify-next"]


class TestTheCheckValues:
    def test_a_stale_version_is_a_mismatch_with_the_state(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("start-next")
        said = desk.ask("job1/update", status="IN_PROGRESS", expectedVersion=1, clientToken="c1")
        assert (said["was"], said["code"]) == ("rejected", "VersionMismatch")
        assert said["executionState"]["versionNumber"] == 2
        assert said["clientToken"] == "c1"

    def test_the_text_of_an_exception_is_taken_with_its_line_ends(self, desk: Desk) -> None:
        text = "not a gzip file\r\n\tnot a bz2 file\n"
        desk.create("job1")
        desk.ask("start-next")
        said = desk.ask(
            "job1/update", status="FAILED", statusDetails={"info": text},
            includeJobExecutionState=True,
        )  # fmt: skip
        state = said["executionState"]
        assert (state["status"], state["statusDetails"]) == ("FAILED", {"info": text})

    def test_what_is_over_does_not_begin_again(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("job1/update", status="SUCCEEDED", statusDetails={"info": "done"})
        said = desk.ask("job1/update", status="IN_PROGRESS")
        assert said["code"] == "InvalidStateTransition"
        assert said["executionState"] == {
            "status": "SUCCEEDED", "statusDetails": {"info": "done"}, "versionNumber": 2,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("what", "payload", "code"),
        [
            ("nothing/get", b"", "ResourceNotFound"),
            ("nothing/update", b'{"status":"FAILED"}', "ResourceNotFound"),
            ("get", b"{", "InvalidJson"),
            ("get", b"\xff\xfe", "InvalidJson"),
            ("get", b"[" * 100_000, "InvalidJson"),
            ("get", b"[]", "InvalidRequest"),
            ("get", b"1", "InvalidRequest"),
            ("get", b'{"clientToken":1}', "InvalidRequest"),
            ("get", b'{"clientToken":"' + b"x" * 65 + b'"}', "InvalidRequest"),
            ("get", b" " * 200_000, "InvalidRequest"),
            ("job1/update", b"", "InvalidRequest"),
            ("job1/update", b'{"status":"QUEUED"}', "InvalidRequest"),
            ("job1/update", b'{"status":"CANCELED"}', "InvalidRequest"),
            ("job1/update", b'{"status":["FAILED"]}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","expectedVersion":"1"}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","expectedVersion":true}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","statusDetails":[]}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","statusDetails":{"a b":"c"}}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","statusDetails":{"a":1}}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","statusDetails":{"a":""}}', "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","statusDetails":{"a":"\\u0007"}}',
             "InvalidRequest"),
            ("job1/update", b'{"status":"FAILED","includeJobDocument":1}', "InvalidRequest"),
            ("job1/update", b'{"status":"IN_PROGRESS","stepTimeoutInMinutes":0}',
             "InvalidRequest"),
            ("job1/update", b'{"status":"IN_PROGRESS","stepTimeoutInMinutes":10081}',
             "InvalidRequest"),
            ("start-next", b'{"stepTimeoutInMinutes":-1}', "InvalidRequest"),
            ("job1/get", b'{"executionNumber":0}', "InvalidRequest"),
            ("job1/get", b'{"executionNumber":2}', "ResourceNotFound"),
            ("nonsense", b"", "InvalidTopic"),
            ("$next/update", b'{"status":"FAILED"}', "InvalidTopic"),
            ("job1/start", b"", "InvalidTopic"),
            ("job 1/get", b"", "InvalidTopic"),
            ("x" * 65 + "/get", b"", "InvalidTopic"),
            ("a/b/c/d/e", b"", "InvalidTopic"),
            ("", b"", "InvalidTopic"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_rejected_with_its_code(
        self, desk: Desk, what: str, payload: bytes, code: str
    ) -> None:
        desk.create("job1")
        said = desk.send(what, payload)
        assert (said["was"], said["code"]) == ("rejected", code)
        assert said["message"]
        assert isinstance(said["timestamp"], int)
        assert "executionState" not in said
        assert desk.states("job1") == {"t": "QUEUED"}

    def test_start_next_with_nothing_to_do_is_accepted_without_execution(self, desk: Desk) -> None:
        said = desk.ask("start-next", clientToken="x")
        assert set(said) == {"timestamp", "clientToken", "was"}
        assert said["was"] == "accepted"

    @pytest.mark.parametrize(
        "levels", ["notify", "notify-next", "get/accepted", "job1/update/rejected"]
    )
    def test_what_the_service_says_itself_is_not_answered(self, desk: Desk, levels: str) -> None:
        assert desk.service.answer(f"$aws/things/t/jobs/{levels}", b"{}") == []

    @pytest.mark.parametrize("topic", ["a/b", "$aws/things/t/shadow/get", "$aws/things//jobs/get"])
    def test_a_foreign_topic_is_not_answered(self, desk: Desk, topic: str) -> None:
        assert desk.service.answer(topic, b"{}") == []

    def test_a_thing_that_nobody_knows_has_no_jobs(self, desk: Desk) -> None:
        assert desk.ask("get", thing="stranger")["code"] == "ResourceNotFound"


class TestAnswers:
    def test_both_lists_are_always_there(self, desk: Desk) -> None:
        said = desk.ask("get")
        assert said["inProgressJobs"] == []
        assert said["queuedJobs"] == []

    def test_a_summary_and_an_execution_have_the_contract_s_fields(self, desk: Desk) -> None:
        desk.create("job1")
        queued = desk.ask("get")["queuedJobs"]
        assert [set(one) for one in queued] == [
            {"jobId", "queuedAt", "lastUpdatedAt", "versionNumber", "executionNumber"}
        ]
        started = desk.ask("start-next", statusDetails={"step": "1"})["execution"]
        now_s = int(desk.clock.now().timestamp())
        assert started == {
            "jobId": "job1", "thingName": "t", "status": "IN_PROGRESS", "queuedAt": now_s,
            "startedAt": now_s, "lastUpdatedAt": now_s, "versionNumber": 2, "executionNumber": 1,
            "statusDetails": {"step": "1"}, "jobDocument": DOCUMENT,
        }  # fmt: skip

    def test_starting_what_is_under_way_changes_nothing(self, desk: Desk) -> None:
        desk.create("job1")
        first = desk.ask("start-next", statusDetails={"step": "1"})["execution"]
        desk.wait(60)
        again = desk.ask("start-next", statusDetails={"step": "2"}, stepTimeoutInMinutes=1)
        assert again["execution"] == first

    def test_details_left_out_stay(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("start-next", statusDetails={"step": "1"})
        said = desk.ask("job1/update", status="IN_PROGRESS", includeJobExecutionState=True)
        assert said["executionState"] == {
            "status": "IN_PROGRESS", "statusDetails": {"step": "1"}, "versionNumber": 3,
        }  # fmt: skip
        assert "jobDocument" not in said
        said = desk.ask(
            "job1/update", status="SUCCEEDED", statusDetails={}, includeJobDocument=True,
            includeJobExecutionState=True,
        )  # fmt: skip
        assert said["executionState"]["statusDetails"] == {}
        assert said["jobDocument"] == DOCUMENT

    def test_describing_may_leave_the_document_out(self, desk: Desk) -> None:
        desk.create("job1")
        assert desk.ask("$next/get")["execution"]["jobDocument"] == DOCUMENT
        assert "jobDocument" not in desk.ask("job1/get", includeJobDocument=False)["execution"]

    def test_describing_the_next_of_none_is_accepted_without_execution(self, desk: Desk) -> None:
        said = desk.ask("$next/get")
        assert said["was"] == "accepted"
        assert "execution" not in said

    def test_describing_what_is_over_is_rejected(self, desk: Desk) -> None:
        desk.create("job1")
        desk.ask("job1/update", status="FAILED")
        said = desk.ask("job1/get")
        assert said["code"] == "TerminalStateReached"
        assert "executionState" not in said

    def test_at_most_ten_are_notified_those_under_way_first(self, desk: Desk) -> None:
        for number in range(12):
            desk.create(f"job{number:02d}")
        desk.ask("job11/update", status="IN_PROGRESS")
        desk.said.clear()
        desk.create("job12")
        jobs = desk.notices()["notify"]["jobs"]
        assert [one["jobId"] for one in jobs["IN_PROGRESS"]] == ["job11"]
        assert [one["jobId"] for one in jobs["QUEUED"]] == [f"job{n:02d}" for n in range(9)]
        assert len(desk.ask("get")["queuedJobs"]) == 12

    def test_several_are_answered_in_order_and_each_stands_alone(self, desk: Desk) -> None:
        desk.create("job1")
        topic = "$aws/things/t/jobs/"
        said = desk.service.answers([
            (topic + "start-next", b""), (topic + "job1/update", b"{"),
            (topic + "job1/update", b'{"status":"SUCCEEDED"}'), (topic + "get", b""),
        ])  # fmt: skip
        assert [one.topic for one in said] == [
            f"{topic}start-next/accepted", f"{topic}job1/update/rejected",
            f"{topic}job1/update/accepted", f"{topic}notify", f"{topic}notify-next",
            "$aws/events/jobExecution/job1/succeeded", "$aws/events/job/job1/completed",
            f"{topic}get/accepted",
        ]  # fmt: skip
        assert desk.states("job1") == {"t": "SUCCEEDED"}
