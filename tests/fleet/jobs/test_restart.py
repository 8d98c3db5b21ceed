"""What a restart or a kill leaves, and goes on with."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lineside.fleet import JobService
from lineside.fleet.jobs.requests import JobTransitionError
from lineside.store import open_records
from lineside.testing import FakeClock
from tests.fleet.jobs.conftest import DOCUMENT, Desk, desk_over, many


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.db'}"


def test_a_job_that_an_earlier_version_kept_is_read(file_url: str, clock: FakeClock) -> None:
    """It knew nothing of documents' sources."""
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        desk.directory.add("t")
        desk.create("job1")
        body = dict(records.documents.get("iot-job", "job1").body)
        del body["document_source"]
        records.documents.put("iot-job", "job1", body=body)
        row, _ = desk.service.look("job1")
        assert (row.job_id, row.document_source) == ("job1", "")
        assert desk.ask("start-next")["execution"]["jobDocument"] == DOCUMENT


def test_a_job_goes_on_after_a_restart(file_url: str, clock: FakeClock) -> None:
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        desk.directory.add("t", groups=("line",))
        things = many(desk, 3)
        desk.create(
            "job1", "t", *things, jobExecutionsRolloutConfig={"maximumPerMinute": 2},
            timeoutConfig={"inProgressTimeoutInMinutes": 5},
        )  # fmt: skip
        desk.ask("start-next")
    clock.advance(400)
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        assert desk.ask("get")["inProgressJobs"][0]["jobId"] == "job1"
        desk.wait(0)
        assert desk.states("job1") == {
            "t": "TIMED_OUT", "m000": "QUEUED", "m001": "QUEUED", "m002": "QUEUED",
        }  # fmt: skip
        again = [one.topic for messages in desk.service.again() for one in messages]
        assert again == [
            f"$aws/things/{thing}/jobs/{last}"
            for thing in things
            for last in ("notify", "notify-next")
        ]
        desk.create("job1", "t", *things, document=DOCUMENT,
                    jobExecutionsRolloutConfig={"maximumPerMinute": 2},
                    timeoutConfig={"inProgressTimeoutInMinutes": 5})  # fmt: skip


@pytest.mark.parametrize("steps", [0, 1])
def test_cancelling_and_deleting_go_on_after_a_kill(
    file_url: str, clock: FakeClock, steps: int
) -> None:
    """The process ends between two chunks: what is kept then is what a killed one leaves."""
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        many(desk, 110)
        desk.create("job1", "group/many")
        stop_after(desk.service, steps)
        with pytest.raises(KilledError):
            desk.service.cancel("job1", reason="")
        left = set(desk.states("job1").values())
        assert "QUEUED" in left
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        desk.wait(0)
        assert set(desk.states("job1").values()) == {"CANCELED"}
        stop_after(desk.service, steps)
        with pytest.raises(KilledError):
            desk.service.delete("job1")
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        desk.wait(0)
        assert records.documents.page("iot-run") == []
        assert records.documents.page("iot-job") == []


class KilledError(Exception):
    """The process ended here."""


def stop_after(service: JobService, steps: int) -> None:
    """Let the service die when it takes one step of a job more than this."""
    inner, left = service._step, [steps]

    def step(job_id: str, *, after: str) -> Any:  # noqa: ANN401  as the service's own
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return inner(job_id, after=after)

    service._step = step  # type: ignore[method-assign]  # the end of a process, between two commits


def test_several_threads_keep_the_books_right(file_url: str, clock: FakeClock) -> None:
    """Devices, an operator and the timer at once: nothing is lost, doubled or out of order."""
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        things = many(desk, 6)
        service = desk.service

        def device(thing: str) -> None:
            topic = f"$aws/things/{thing}/jobs/"
            for _ in range(12):
                answer = service.answer(topic + "start-next", b"")[0]
                run = json.loads(answer.payload).get("execution")
                if run is not None:
                    body = json.dumps({"status": "SUCCEEDED"}).encode()
                    service.answer(f"{topic}{run['jobId']}/update", body)

        def operator() -> None:
            for number in range(6):
                desk.create(f"job{number}", *things)
            with suppress(JobTransitionError):  # the devices were quicker
                service.cancel("job4", reason="", force=True)
            service.delete("job5", force=True)

        def timer() -> None:
            for _ in range(20):
                service.due()

        with ThreadPoolExecutor(8) as pool:
            for done in [
                *(pool.submit(device, thing) for thing in things),
                pool.submit(operator), pool.submit(timer),
            ]:  # fmt: skip
                done.result()
        for thing in things:
            device(thing)
        check_books(desk, things)
        assert records.documents.page("iot-pending") == []


def check_books(desk: Desk, things: list[str]) -> None:
    """Jobs 0 to 4 are over, and their figures are those of their executions."""
    for job_id in [f"job{number}" for number in range(5)]:
        row, counters = desk.service.look(job_id)
        states = [one.status.value for one in desk.service.executions(job_id)]
        assert len(states) == len(things)
        assert dict(counters.counts) == {state: states.count(state) for state in set(states)}
        assert row.status in ("COMPLETED", "CANCELED")
        assert counters.pending == 0


def test_a_store_that_is_away_is_an_internal_error_that_says_ask_again(
    file_url: str, clock: FakeClock
) -> None:
    with open_records(file_url, clock=clock) as records:
        desk = desk_over(records, clock)
        desk.directory.add("t")
    said = desk.ask("get")
    assert (said["was"], said["code"]) == ("rejected", "InternalError")
    assert "closed" in said["message"]
    assert desk.service.answer("$aws/things/t/jobs/notify", b"") == []
