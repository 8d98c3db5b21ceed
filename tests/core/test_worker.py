"""A background thread survives its failures, tells of them once, and ends when it is asked to."""

import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import UnavailableError
from lineside.core.worker import Worker, WorkerState, backoff_s, prefetch, retry, running_workers
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S


class Steps:
    """A step whose outcomes are listed: an error to raise, or the pause to return."""

    def __init__(self, *outcomes: Exception | float | None) -> None:
        self._outcomes = list(outcomes)
        self.count = 0

    def __call__(self) -> float | None:
        self.count += 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_a_step_chooses_its_pause_or_leaves_it_to_the_worker(clock: FakeClock) -> None:
    worker = Worker("one", Steps(None, 7.0), every_s=3.0, clock=clock)
    assert [worker.turn(), worker.turn()] == [3.0, 7.0]


def test_failures_wait_longer_each_time_and_a_success_resets_that(clock: FakeClock) -> None:
    away = UnavailableError("the store is away")
    worker = Worker(
        "one", Steps(away, away, away, None, away), first_retry_s=1.0, longest_retry_s=3.0,
        clock=clock,
    )  # fmt: skip
    pauses = [worker.turn() or 0.0 for _ in range(5)]
    limits = [(0.5, 1.0), (1.0, 2.0), (1.5, 3.0), (0.0, 0.0), (0.5, 1.0)]
    for pause_s, (least, most) in zip(pauses, limits, strict=True):
        assert least <= pause_s <= most
    assert worker.failures == 1
    assert worker.failure is away


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    away, unforeseen = UnavailableError("the store is away"), ZeroDivisionError("oops")
    worker = Worker("one", Steps(away, away, None, unforeseen, None, None), clock=clock)
    with caplog.at_level(logging.INFO, logger="lineside.core"):
        for _ in range(6):
            worker.turn()
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [
        ("WARNING", False), ("INFO", False), ("ERROR", True), ("INFO", False),
    ]  # fmt: skip
    assert "name=one reason=the store is away" in caplog.records[0].getMessage()


def test_whoever_asked_for_it_hears_of_failures_instead_of_the_log(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    away = UnavailableError("the store is away")
    heard: list[Exception | None] = []
    worker = Worker("one", Steps(away, None, None), report=heard.append, clock=clock)
    for _ in range(3):
        worker.turn()
    assert heard == [away, None]
    assert not caplog.records


def test_progress_is_the_last_success_and_busy_the_step_in_hand(clock: FakeClock) -> None:
    busy: list[float] = []

    def step() -> None:
        clock.advance(2.0)
        busy.append(worker.busy_s)
        if len(busy) == 2:
            raise UnavailableError("away")

    worker = Worker("one", step, clock=clock)
    worker.turn()
    assert (worker.progress_s, busy, worker.busy_s) == (2.0, [2.0], 0.0)
    worker.turn()
    assert (worker.progress_s, worker.busy_s) == (2.0, 0.0)


def test_a_thread_goes_on_after_failures_until_it_is_stopped() -> None:
    done, ended = threading.Event(), threading.Event()
    steps = Steps(ValueError("unforeseen"), UnavailableError("away"))

    def step() -> float | None:
        if steps.count == 2:
            done.set()
        return steps()

    worker = Worker("one", step, every_s=0.001, first_retry_s=0.001, at_end=ended.set)
    alive = [worker.is_alive]
    worker.start()
    assert done.wait(LONG_S)
    alive.append(worker.is_alive)
    worker.stop()
    alive.append(worker.is_alive)
    assert alive == [False, True, False]
    assert ended.is_set()


def test_stop_and_wake_end_a_long_pause() -> None:
    turns = threading.Semaphore(0)

    def step() -> None:
        turns.release()

    worker = Worker("one", step, every_s=3600.0, delay_s=3600.0)
    worker.start()
    worker.wake()
    assert turns.acquire(timeout=LONG_S)
    worker.wake()
    assert turns.acquire(timeout=LONG_S)
    worker.stop()
    assert not turns.acquire(blocking=False)


def test_a_worker_that_is_stopped_can_be_started_again() -> None:
    turns = threading.Semaphore(0)

    def step() -> None:
        turns.release()
        worker.request_stop()

    worker = Worker("one", step)
    for _ in range(2):
        worker.start()
        assert turns.acquire(timeout=LONG_S)
        worker.stop()
        assert not worker.is_alive


def test_what_is_done_once_ends_by_itself_and_keeps_its_failure() -> None:
    wrong = OSError("no such port")
    worker = Worker("one", Steps(wrong, None), every_s=None)
    worker.start()
    worker.join()
    assert (worker.is_alive, worker.failure) == (False, wrong)


def test_a_worker_that_never_ran_can_be_stopped() -> None:
    Worker("one", Steps()).stop()


@given(st.integers(0, 10_000))
def test_waits_grow_to_a_limit_and_never_vanish(attempt: int) -> None:
    wait_s = backoff_s(attempt)
    whole_s = min(15.0, 0.1 * 2.0 ** min(attempt, 30))
    assert whole_s / 2 <= wait_s <= whole_s


def test_what_is_away_is_tried_again_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    away = UnavailableError("the store is away")
    steps = Steps(away, away, 4.0)
    with caplog.at_level(logging.INFO, logger="lineside.core"):
        assert retry(steps, stop=threading.Event(), first_s=0.001) == 4.0
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_what_is_away_when_the_program_stops_is_raised() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(UnavailableError):
        retry(Steps(UnavailableError("away")), stop=stop)
    with pytest.raises(ValueError, match="wrong"):
        retry(Steps(ValueError("wrong")), stop=threading.Event())


@pytest.mark.parametrize("request_s", [0.0, 7.0])
def test_what_is_away_is_tried_again_for_a_time_that_counts_requests(
    clock: FakeClock, request_s: float
) -> None:
    class Pauses(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.advance(timeout or 0.0)
            return False

    begun: list[float] = []

    def ask() -> None:
        begun.append(clock.monotonic() - request_s)
        clock.advance(request_s)
        raise UnavailableError("away")

    for within_s in (0.0, 30.0):
        begun.clear()
        with pytest.raises(UnavailableError):
            retry(ask, stop=Pauses(), within_s=within_s, clock=clock)
        assert within_s - request_s <= begun[-1] - begun[0] - request_s <= within_s + 1e-6


def test_a_worker_says_whether_it_waits_works_fails_or_is_stuck(clock: FakeClock) -> None:
    states: list[WorkerState] = []

    def step() -> None:
        states.append(worker.state)
        clock.advance(31)
        states.append(worker.state)
        raise UnavailableError("the store is away")

    worker = Worker("one", step, stuck_s=30.0, clock=clock)
    states.append(worker.state)
    worker.turn()
    states.append(worker.state)
    assert states == ["waiting", "busy", "stuck", "failing"]
    assert (worker.age_s, worker.failures) == (31.0, 1)


def test_running_workers_are_those_whose_threads_run() -> None:
    worker = Worker("one", lambda: worker.stopping.wait(LONG_S) and None)
    assert worker not in running_workers()
    worker.start()
    assert worker in running_workers()
    worker.stop()
    assert worker not in running_workers()


@pytest.mark.parametrize(("threads", "limit"), [(1, 0), (1, 2), (3, 0)])
def test_work_ahead_keeps_its_order_and_its_bound(threads: int, limit: int) -> None:
    begun = 0

    def counted() -> Iterator[int]:
        nonlocal begun
        for number in range(100):
            begun += 1
            yield number

    doubled = prefetch(lambda number: number * 2, counted(), threads=threads, limit=limit)
    assert [next(doubled) for _ in range(3)] == [0, 2, 4]
    assert begun <= 3 + (limit or max(8, 4 * threads))
    assert list(doubled) == [number * 2 for number in range(3, 100)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_ahead_is_raised_in_its_place(threads: int) -> None:
    quotients = prefetch(lambda number: 1 // number, [2, 1, 0, 1], threads=threads)
    assert [next(quotients), next(quotients)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(quotients)
