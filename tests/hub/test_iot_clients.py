"""AWS' own clients, unchanged, against the hub: ``iot``, ``iot-jobs-data``, over HTTP."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from fastapi.testclient import TestClient

from lineside.core import SystemClock
from lineside.hub import AccessKey, Role, Services, issue_access_key
from lineside.testing import FakeClock

DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}
Aws = Callable[..., Any]


@pytest.fixture
def clock() -> FakeClock:
    """The clients sign with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture
def aws(served: str, hub: Services, clock: FakeClock) -> Iterator[Aws]:
    opened = []

    def client(service: str, *, role: Role | None = None, thing: str = "") -> Any:  # noqa: ANN401  boto3 has no types
        key: AccessKey = issue_access_key(
            hub.records, name="tester", clock=clock, role=role, thing=thing
        )
        made = boto3.client(
            service,
            endpoint_url=served,
            region_name="eu-west-1",
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            config=Config(retries={"max_attempts": 0}, proxies={}),
        )
        opened.append(made)
        return made

    yield client
    for one in opened:
        one.close()


@pytest.fixture
def fleet(hub: Services) -> None:
    hub.things.add("edge:1", groups=("line",))
    hub.things.add("edge:2", groups=("line",))


def refused(error: Any) -> tuple[str, int]:  # noqa: ANN401  boto3 has no types
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.usefixtures("fleet")
class TestOperators:
    def test_a_job_is_made_looked_at_listed_and_deleted(self, aws: Aws) -> None:
        iot = aws("iot", role=Role.APPROVER)
        made = iot.create_job(
            jobId="job1", targets=["arn:aws:iot:eu-west-1:123456789012:thinggroup/line"],
            document=json.dumps(DOCUMENT), description="a better one",
            timeoutConfig={"inProgressTimeoutInMinutes": 10},
            abortConfig={"criteriaList": [{
                "failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 50.0,
                "minNumberOfExecutedThings": 2,
            }]},
            tags=[{"Key": "line", "Value": "A"}],
        )  # fmt: skip
        assert made["jobId"] == "job1"
        job = iot.describe_job(jobId="job1")["job"]
        assert job["status"] == "IN_PROGRESS"
        assert job["jobProcessDetails"]["numberOfQueuedThings"] == 2
        assert job["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 50.0
        assert json.loads(iot.get_job_document(jobId="job1")["document"]) == DOCUMENT
        assert [one["jobId"] for one in iot.list_jobs(status="IN_PROGRESS")["jobs"]] == ["job1"]
        assert iot.list_jobs(targetSelection="CONTINUOUS")["jobs"] == []
        assert [one["jobId"] for one in iot.list_jobs(thingGroupName="line")["jobs"]] == ["job1"]
        first = iot.list_job_executions_for_job(jobId="job1", maxResults=1)
        rest = iot.list_job_executions_for_job(jobId="job1", nextToken=first["nextToken"])
        things = [one["thingArn"].rpartition("/")[2] for page in (first, rest)
                  for one in page["executionSummaries"]]  # fmt: skip
        assert things == ["edge:1", "edge:2"]
        assert "nextToken" not in rest
        iot.cancel_job_execution(jobId="job1", thingName="edge:1", expectedVersion=1)
        run = iot.describe_job_execution(jobId="job1", thingName="edge:1")["execution"]
        assert run["status"] == "CANCELED"
        iot.delete_job_execution(jobId="job1", thingName="edge:1", executionNumber=1)
        assert iot.list_job_executions_for_thing(thingName="edge:1")["executionSummaries"] == []
        iot.cancel_job(jobId="job1", reasonCode="WRONG_ONE", comment="no")
        job = iot.describe_job(jobId="job1")["job"]
        assert (job["status"], job["reasonCode"]) == ("CANCELED", "WRONG_ONE")
        iot.delete_job(jobId="job1")
        with pytest.raises(botocore.exceptions.ClientError) as error:
            iot.describe_job(jobId="job1")
        assert refused(error) == ("ResourceNotFoundException", 404)

    def test_what_cannot_be_done_has_aws_own_name(self, aws: Aws) -> None:
        iot = aws("iot", role=Role.ADMIN)
        asked: dict[str, Any] = {"jobId": "job1", "targets": ["edge:1"], "document": "{}"}
        iot.create_job(**asked)
        iot.create_job(**asked)
        cases: tuple[tuple[Callable[[], Any], tuple[str, int]], ...] = (
            (lambda: iot.create_job(**{**asked, "document": '{"a":1}'}),
             ("ResourceAlreadyExistsException", 409)),
            (lambda: iot.create_job(**{**asked, "jobId": "j2", "targets": ["nobody"]}),
             ("ResourceNotFoundException", 404)),
            (lambda: iot.create_job(**{**asked, "jobId": "j2", "document": "["}),
             ("InvalidRequestException", 400)),
            (lambda: iot.create_job(jobId="j2", targets=["edge:1"],
                                    documentSource="https://s3.amazonaws.com/b/k"),
             ("InvalidRequestException", 400)),
            (lambda: iot.delete_job(jobId="job1"), ("InvalidStateTransitionException", 409)),
            (lambda: iot.cancel_job_execution(jobId="job1", thingName="edge:1",
                                              expectedVersion=7),
             ("VersionConflictException", 409)),
            (lambda: iot.associate_targets_with_job(jobId="job1", targets=["edge:2"]),
             ("InvalidRequestException", 400)),
            (lambda: iot.list_jobs(maxResults=300), ("InvalidRequestException", 400)),
            (lambda: iot.update_job(jobId="job1", description="x"),
             ("InvalidRequestException", 405)),
        )  # fmt: skip
        for act, expected in cases:
            with pytest.raises(botocore.exceptions.ClientError) as error:
                act()
            assert refused(error) == expected

    def test_a_job_that_aborts_itself_says_so(self, aws: Aws) -> None:
        iot = aws("iot", role=Role.ADMIN)
        iot.create_job(
            jobId="job1", targets=["group/line"], document="{}",
            abortConfig={"criteriaList": [{
                "failureType": "ALL", "action": "CANCEL", "thresholdPercentage": 33.33,
                "minNumberOfExecutedThings": 1,
            }]},
        )  # fmt: skip
        thing = aws("iot-jobs-data", thing="edge:1")
        thing.update_job_execution(thingName="edge:1", jobId="job1", status="REJECTED")
        job = iot.describe_job(jobId="job1")["job"]
        assert (job["status"], job["reasonCode"], job["forceCanceled"]) == (
            "CANCELED", "ABORTED", False,
        )  # fmt: skip
        assert job["comment"] == (
            "1 of 1 executed things FAILED, REJECTED or TIMED_OUT, at least 33.33 %"
        )
        assert job["jobProcessDetails"]["numberOfCanceledThings"] == 1
        run = iot.describe_job_execution(jobId="job1", thingName="edge:2")["execution"]
        assert run["status"] == "CANCELED"

    def test_targets_are_added_to_a_continuous_job(self, aws: Aws, hub: Services) -> None:
        iot = aws("iot", role=Role.ADMIN)
        iot.create_job(
            jobId="job1", targets=["edge:1"], document="{}", targetSelection="CONTINUOUS"
        )
        iot.associate_targets_with_job(jobId="job1", targets=["group/line"])
        assert [one.thing for one in hub.job_requests.service.executions("job1")] == [
            "edge:1", "edge:2",
        ]  # fmt: skip

    @pytest.mark.parametrize("role", [None, Role.VIEWER, Role.ENGINEER])
    def test_a_key_without_the_right_makes_no_job(self, aws: Aws, role: Role | None) -> None:
        with pytest.raises(botocore.exceptions.ClientError) as error:
            aws("iot", role=role).create_job(jobId="job1", targets=["edge:1"], document="{}")
        assert refused(error) == ("AccessDeniedException", 403)

    def test_a_thing_s_key_is_no_operator_s(self, aws: Aws) -> None:
        with pytest.raises(botocore.exceptions.ClientError) as error:
            aws("iot", thing="edge:1").list_jobs()
        assert refused(error) == ("AccessDeniedException", 403)


@pytest.mark.usefixtures("fleet")
class TestThings:
    def test_a_thing_takes_its_job_over_http(self, aws: Aws) -> None:
        aws("iot", role=Role.ADMIN).create_job(
            jobId="job1", targets=["edge:1"], document=json.dumps(DOCUMENT),
            timeoutConfig={"inProgressTimeoutInMinutes": 10},
        )  # fmt: skip
        thing = aws("iot-jobs-data", thing="edge:1")
        pending = thing.get_pending_job_executions(thingName="edge:1")
        assert [one["jobId"] for one in pending["queuedJobs"]] == ["job1"]
        started = thing.start_next_pending_job_execution(
            thingName="edge:1", statusDetails={"step": "fetch"}
        )["execution"]
        assert json.loads(started["jobDocument"]) == DOCUMENT
        assert started["approximateSecondsBeforeTimedOut"] == 600
        assert started["statusDetails"] == {"step": "fetch"}
        described = thing.describe_job_execution(
            thingName="edge:1", jobId="$next", includeJobDocument=False
        )["execution"]
        assert described["jobId"] == "job1"
        assert "jobDocument" not in described
        updated = thing.update_job_execution(
            thingName="edge:1", jobId="job1", status="SUCCEEDED", expectedVersion=2,
            includeJobExecutionState=True, includeJobDocument=True,
        )  # fmt: skip
        assert updated["executionState"]["versionNumber"] == 3
        assert json.loads(updated["jobDocument"]) == DOCUMENT
        assert "execution" not in thing.start_next_pending_job_execution(thingName="edge:1")

    def test_what_a_thing_may_not_has_aws_own_name(self, aws: Aws) -> None:
        aws("iot", role=Role.ADMIN).create_job(jobId="job1", targets=["edge:1"], document="{}")
        thing = aws("iot-jobs-data", thing="edge:1")
        update = {"thingName": "edge:1", "jobId": "job1"}
        with pytest.raises(botocore.exceptions.ClientError) as error:
            thing.update_job_execution(**update, status="FAILED", expectedVersion=9)
        assert refused(error) == ("VersionMismatchException", 409)
        thing.update_job_execution(**update, status="FAILED")
        with pytest.raises(botocore.exceptions.ClientError) as error:
            thing.update_job_execution(**update, status="IN_PROGRESS")
        assert refused(error) == ("InvalidStateTransitionException", 409)
        with pytest.raises(botocore.exceptions.ClientError) as error:
            thing.describe_job_execution(thingName="edge:1", jobId="job1")
        assert refused(error) == ("TerminalStateException", 410)
        with pytest.raises(botocore.exceptions.ClientError) as error:
            thing.describe_job_execution(thingName="edge:1", jobId="job7")
        assert refused(error) == ("ResourceNotFoundException", 404)

    def test_a_thing_that_asks_too_often_is_told_so_by_aws_own_name(
        self, aws: Aws, hub: Services, clock: FakeClock
    ) -> None:
        thing = aws("iot-jobs-data", thing="edge:1")
        for _ in range(hub.job_requests.service.throttle.limits.burst):
            hub.job_requests.service.answer("$aws/things/edge:1/jobs/get", b"")
        with pytest.raises(botocore.exceptions.ClientError) as error:
            thing.get_pending_job_executions(thingName="edge:1")
        assert refused(error) == ("ThrottlingException", 429)
        other = aws("iot-jobs-data", thing="edge:2")
        assert other.get_pending_job_executions(thingName="edge:2")["queuedJobs"] == []
        clock.advance(1)
        assert thing.get_pending_job_executions(thingName="edge:1")["queuedJobs"] == []

    @pytest.mark.parametrize("key", [{"thing": "edge:2"}, {"role": Role.ADMIN}, {}])
    def test_only_a_key_of_this_thing_takes_its_jobs(self, aws: Aws, key: dict[str, Any]) -> None:
        with pytest.raises(botocore.exceptions.ClientError) as error:
            aws("iot-jobs-data", **key).get_pending_job_executions(thingName="edge:1")
        assert refused(error) == ("AccessDeniedException", 403)


def test_without_signature_or_token_nothing_is_told(nobody: TestClient) -> None:
    assert nobody.get("/jobs").status_code == 401
    signed = nobody.get("/jobs", headers={"Authorization": "AWS4-HMAC-SHA256 nonsense"})
    assert signed.status_code == 403
    assert signed.headers["x-amzn-errortype"] == "IncompleteSignatureException"


@pytest.mark.usefixtures("fleet")
def test_pages_have_their_own_way_to_the_same_jobs(client: TestClient) -> None:
    asked = {"job_id": "job1", "targets": ["group/line"], "document": DOCUMENT}
    made = client.post("/api/v1/jobs", json=asked)
    assert made.status_code == 201
    listed = client.get("/api/v1/jobs").json()["items"]
    assert [(one["job_id"], one["things"]) for one in listed] == [("job1", {"QUEUED": 2})]
    assert client.get("/api/v1/jobs/job1").json()["document"] == DOCUMENT
    runs = client.post("/api/v1/jobs/job1/executions/edge:1/cancel", json={"reason": "no"})
    assert [(one["thing"], one["status"]) for one in runs.json()["items"]] == [
        ("edge:1", "CANCELED"), ("edge:2", "QUEUED"),
    ]  # fmt: skip
    cancelled = client.post("/api/v1/jobs/job1/cancel", json={"reason": "no"}).json()
    assert (cancelled["status"], cancelled["reason"]) == ("CANCELED", "no")
    wrong = client.post("/api/v1/jobs", json={**asked, "job_id": "a b"})
    assert wrong.status_code == 400
    assert "job id" in wrong.json()["detail"]
    assert client.get("/api/v1/jobs/none").status_code == 404
