"""A thing that asks too often is refused, then passed over; nobody else notices."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.fleet import JobService, ThingDirectory
from lineside.fleet.jobs.requests import GetPending, JobRejectedError, JobRequest
from lineside.fleet.jobs.service import Passage, RateLimits, Throttle, full_allowance, spend
from lineside.store import open_records
from lineside.testing import FakeClock
from tests.fleet.jobs.conftest import Desk

FEW = RateLimits(per_s=1.0, burst=20, most_things=3)


@pytest.fixture
def slow(clock: FakeClock) -> Iterator[Desk]:
    """A service that takes 20 requests of a thing at once, and has things ``t`` and ``u``."""
    with open_records("memory://", clock=clock) as records:
        directory = ThingDirectory(records)
        for thing in ("t", "u"):
            directory.add(thing, groups=("line",))
        service = JobService(records, clock=clock, directory=directory, limits=FEW)
        desk = Desk(service=service, directory=directory, clock=clock)
        service.deliver = desk.hear
        yield desk


def flood(desk: Desk, what: str = "get", *, count: int = 20) -> None:
    topic = f"$aws/things/t/jobs/{what}"
    assert len(desk.service.answers([(topic, b"")] * count)) == count


class TestAtTheService:
    def test_too_many_are_refused_by_their_code_and_change_nothing(self, slow: Desk) -> None:
        slow.create("job1")
        flood(slow)
        said = slow.ask("job1/update", status="SUCCEEDED", clientToken="c1")
        assert (said["was"], said["code"]) == ("rejected", "RequestThrottled")
        assert said["clientToken"] == "c1"
        assert "1 requests a second, 20 at once" in said["message"]
        assert "executionState" not in said
        assert slow.states("job1") == {"t": "QUEUED"}
        assert slow.service.throttle.refused == 1

    def test_others_are_served_meanwhile(self, slow: Desk) -> None:
        slow.create("job1", "group/line")
        flood(slow)
        assert slow.ask("get")["code"] == "RequestThrottled"
        assert slow.ask("start-next", thing="u")["execution"]["jobId"] == "job1"

    def test_after_a_while_it_is_served_again(self, slow: Desk) -> None:
        flood(slow)
        assert slow.ask("get")["code"] == "RequestThrottled"
        slow.wait(0.9)
        assert slow.ask("get")["code"] == "RequestThrottled"
        slow.wait(0.2)
        assert slow.ask("get")["was"] == "accepted"

    def test_a_flood_is_not_answered_by_one(self, slow: Desk) -> None:
        topic = "$aws/things/t/jobs/get"
        said = slow.service.answers([(topic, b"")] * 500)
        assert [one.topic.rpartition("/")[2] for one in said] == [
            *["accepted"] * 20, *["rejected"] * 2,
        ]  # fmt: skip
        assert (slow.service.throttle.refused, slow.service.throttle.ignored) == (2, 478)
        assert slow.service.answers([(topic, b"")] * 500) == []

    @pytest.mark.parametrize("payload", [b"{", b"\xff", b"[]", b'{"clientToken":7}'])
    def test_what_cannot_be_read_is_refused_too(self, slow: Desk, payload: bytes) -> None:
        flood(slow)
        said = slow.send("get", payload)
        assert (said["code"], "clientToken" in said) == ("RequestThrottled", False)

    def test_what_makes_no_sense_counts_as_well(self, slow: Desk) -> None:
        flood(slow, "nonsense")
        assert slow.ask("get")["code"] == "RequestThrottled"

    def test_our_own_answers_coming_back_do_not_count(self, slow: Desk) -> None:
        said = [("$aws/things/t/jobs/get/accepted", b"{}"), ("$aws/things/t/jobs/notify", b"{}")]
        assert slow.service.answers(said * 100) == []
        assert slow.ask("get")["was"] == "accepted"

    def test_asking_by_http_counts_with_asking_by_the_bus(self, slow: Desk) -> None:
        flood(slow, count=19)
        asked = JobRequest(thing="t", request=GetPending(), token="c1")  # noqa: S106  a label
        assert "queuedJobs" in slow.service.ask(asked)
        with pytest.raises(JobRejectedError) as refused:
            slow.service.ask(asked)
        assert (refused.value.code, refused.value.http_status) == ("RequestThrottled", 429)
        assert refused.value.token == "c1"  # noqa: S105  a label

    def test_operators_and_time_are_not_held_back(self, slow: Desk) -> None:
        slow.create("job1", timeoutConfig={"inProgressTimeoutInMinutes": 1})
        slow.ask("start-next")
        flood(slow, count=19)
        assert slow.ask("get")["code"] == "RequestThrottled"
        for number in range(30):
            slow.create(f"more{number}")
        slow.wait(60)
        assert slow.states("job1") == {"t": "TIMED_OUT"}

    def test_a_device_that_behaves_is_never_refused(self, desk: Desk) -> None:
        """Ten at once, then one a second for ten minutes, by the hub's own limits."""
        desk.create("job1")
        for _ in range(10):
            assert desk.ask("get")["was"] == "accepted"
        desk.ask("start-next")
        for _ in range(600):
            desk.clock.advance(1)
            assert desk.ask("job1/update", status="IN_PROGRESS")["was"] == "accepted"


def test_names_of_things_that_there_cannot_be_take_no_room(clock: FakeClock) -> None:
    throttle = Throttle(FEW, clock=clock)
    for number in range(20):
        assert throttle.take("x" * 10_000 + str(number)) is Passage.SERVED
    assert throttle.take("é") is Passage.REFUSED
    for number in range(10):
        throttle.take(f"thing{number}")
    assert len(throttle._left) == FEW.most_things
    assert throttle.take("thing9") is Passage.SERVED


def test_one_line_a_minute_tells_of_it(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    throttle = Throttle(FEW, clock=clock)
    for _ in range(100):
        throttle.take("t")
    assert [one.getMessage() for one in caplog.records] == [
        "a thing asks for jobs too often thing=t refused=1 ignored=0"
    ]
    clock.advance(60)
    for _ in range(100):
        throttle.take("t")
    assert len(caplog.records) == 2


@given(
    per_s=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    waits_s=st.lists(st.floats(0, 20), max_size=80),
)
def test_whatever_the_pace_the_bounds_hold(per_s: float, burst: int, waits_s: list[float]) -> None:
    limits = RateLimits(per_s=per_s, burst=burst)
    now_s, left = 0.0, full_allowance(limits, now_s=0.0)
    counts = dict.fromkeys(Passage, 0)
    for wait_s in waits_s:
        now_s += wait_s
        rested = wait_s * per_s > 1.001
        passage, left = spend(left, limits, now_s=now_s)
        counts[passage] += 1
        assert not rested or passage is Passage.SERVED
        assert 0 <= left.requests <= burst
        assert 0 <= left.refusals <= full_allowance(limits, now_s=0.0).refusals
    tolerance = 1e-6 * len(waits_s) + 1e-6
    assert counts[Passage.SERVED] <= burst + per_s * now_s + tolerance
    assert counts[Passage.REFUSED] <= max(1, burst / 10) + per_s * now_s / 10 + tolerance
    assert sum(counts.values()) == len(waits_s)


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    passage, left = spend(full_allowance(FEW, now_s=100.0), FEW, now_s=50.0)
    assert passage is Passage.SERVED
    assert (left.requests, left.at_s) == (19, 100.0)
