"""A device's talk with the real job service, without a bus: every message in the test's hand."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.fleet import ExecutionStatus, JobService, NewJob, ThingDirectory
from lineside.fleet.agent import (
    ANSWER_S,
    POLL_S,
    PROGRESS_S,
    Abandon,
    Begin,
    Continue,
    JobsClient,
    Outcome,
    Transition,
    Work,
    advance_time,
    confirm,
    receive,
    report_end,
    report_progress,
    start_session,
    subscriptions,
)
from lineside.fleet.jobs.wire import JobMessage
from lineside.store import open_records
from lineside.testing import FakeClock

DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}
DONE = Outcome(status=ExecutionStatus.SUCCEEDED, details={"step": "done"})
T = "$aws/things/edge-1/jobs"


@dataclass
class Scene:
    """A device and the service; what one says waits until the test lets it through."""

    service: JobService
    clock: FakeClock
    session: JobsClient = field(default_factory=lambda: JobsClient(thing="edge-1", prefix="first"))
    up: list[JobMessage] = field(default_factory=list)
    down: list[JobMessage] = field(default_factory=list)
    begun: list[Work] = field(default_factory=list)
    left: list[Abandon] = field(default_factory=list)
    confirmed: list[Work] = field(default_factory=list)

    def take(self, turn: Transition) -> None:
        self.session = turn.session
        for step in turn.steps:
            match step:
                case JobMessage():
                    self.up.append(step)
                case Begin():
                    self.begun.append(step.work)
                case Continue():
                    self.confirmed.append(step.work)
                case Abandon():
                    self.left.append(step)

    @property
    def now_s(self) -> float:
        return self.clock.monotonic()

    def join(self) -> None:
        self.take(start_session(self.session, now_s=self.now_s))

    def tick(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.take(advance_time(self.session, now_s=self.now_s))

    def ask(self) -> None:
        """The service hears the oldest message of the device."""
        said = self.up.pop(0)
        self.down += self.service.answer(said.topic, said.payload)

    def hear(self) -> None:
        """The device hears the oldest message of the service."""
        one = self.down.pop(0)
        self.take(receive(self.session, one.topic, payload=one.payload, now_s=self.now_s))

    def settle(self) -> None:
        """Everything said is heard."""
        while self.up or self.down:
            if self.up:
                self.ask()
            if self.down:
                self.hear()

    def end(self, outcome: Outcome = DONE) -> None:
        work = self.begun[-1]
        self.take(report_end(self.session, work, outcome=outcome, now_s=self.now_s))

    def progress(self, details: dict[str, str]) -> None:
        self.take(report_progress(self.session, details, now_s=self.now_s))

    def confirm(self, work: Work) -> None:
        self.take(confirm(self.session, work, now_s=self.now_s))

    def cancel(self, job_id: str) -> None:
        self.service.cancel(job_id, reason="wrong", force=True)

    def restart(self) -> None:
        """The device forgets everything; what was under way on the wire is lost."""
        self.session = JobsClient(thing="edge-1", prefix=f"{self.session.prefix}x")
        self.up.clear()
        self.join()

    def create(self, job_id: str) -> None:
        self.service.create(NewJob(job_id=job_id, targets=("edge-1",), document=DOCUMENT))

    def state(self, job_id: str) -> str:
        return self.service.executions(job_id)[0].status.value

    def execution(self, job_id: str) -> Any:  # noqa: ANN401  the service's record
        return self.service.executions(job_id)[0]


@pytest.fixture
def scene(clock: FakeClock) -> Iterator[Scene]:
    with open_records("memory://", clock=clock) as records:
        yield scene_over(records, clock)


def scene_over(records: Any, clock: FakeClock) -> Scene:  # noqa: ANN401  records
    directory = ThingDirectory(records)
    directory.add("edge-1")
    made = Scene(service=JobService(records, clock=clock, directory=directory), clock=clock)
    made.service.deliver = made.down.extend
    return made


@pytest.fixture
def working(scene: Scene) -> Scene:
    """With job ``a`` under way."""
    scene.create("a")
    scene.join()
    scene.settle()
    assert [work.job_id for work in scene.begun] == ["a"]
    return scene


def test_every_answer_is_subscribed_to_by_its_own_pattern() -> None:
    assert subscriptions("edge-1") == (
        f"{T}/get/+", f"{T}/start-next/+", f"{T}/+/get/+", f"{T}/+/update/+", f"{T}/notify",
        f"{T}/notify-next",
    )  # fmt: skip


def test_jobs_are_taken_one_after_the_other(scene: Scene) -> None:
    scene.join()
    scene.settle()
    for name in ("a", "b", "c"):
        scene.create(name)
        scene.clock.advance(1)
    scene.settle()
    for name in ("a", "b", "c"):
        assert scene.begun[-1].job_id == name
        assert scene.state(name) == "IN_PROGRESS"
        scene.end()
        scene.settle()
        assert scene.state(name) == "SUCCEEDED"
    assert len(scene.begun) == 3


def test_a_job_in_progress_is_taken_up_after_a_restart(working: Scene) -> None:
    working.restart()
    working.settle()
    first, again = working.begun
    assert (again.job_id, again.document) == (first.job_id, first.document)


def test_progress_is_told_seldom_newest_only_and_renews_the_step_timer(working: Scene) -> None:
    working.clock.advance(60)
    before = working.execution("a").version
    for there in range(10):
        working.progress({"bytes": str(there)})
        working.settle()
    assert working.execution("a").details == {"bytes": "0"}
    working.tick(PROGRESS_S)
    working.settle()
    assert working.execution("a").details == {"bytes": "9"}
    assert working.execution("a").version == before + 2
    for _ in range(30):
        working.clock.advance(60)
        working.service.due()
        working.progress({"bytes": "x"})
        working.settle()
    assert working.state("a") == "IN_PROGRESS"


def test_a_job_that_was_cancelled_is_left_before_the_switch(working: Scene) -> None:
    working.cancel("a")
    working.confirm(working.begun[0])
    working.settle()
    assert working.confirmed == []
    assert [one.work.job_id for one in working.left] == ["a"]
    working.end()
    working.settle()
    assert working.state("a") == "CANCELED"


def test_a_cancelled_job_is_noticed_by_its_notification_alone(working: Scene) -> None:
    working.create("b")
    working.settle()
    working.cancel("a")
    working.settle()
    assert [one.work.job_id for one in working.left] == ["a"]
    assert [work.job_id for work in working.begun] == ["a", "b"]


def test_a_job_that_is_still_wanted_goes_on(working: Scene) -> None:
    working.confirm(working.begun[0])
    working.settle()
    assert [work.job_id for work in working.confirmed] == ["a"]


def test_who_asks_after_a_job_that_is_over_is_told_so(working: Scene) -> None:
    stale = replace(working.begun[0], number=7)
    working.confirm(stale)
    assert [one.work.number for one in working.left] == [7]


@pytest.mark.parametrize("lost", ["question", "answer"])
def test_what_is_lost_is_said_again(working: Scene, lost: str) -> None:
    working.end()
    if lost == "question":
        working.up.clear()
    else:
        working.ask()
        working.down.clear()
    working.tick(ANSWER_S)
    working.settle()
    assert working.state("a") == "SUCCEEDED"
    assert working.session.work is None
    working.create("b")
    working.settle()
    assert working.begun[-1].job_id == "b"


def test_an_operator_who_wrote_in_between_is_no_obstacle(working: Scene) -> None:
    other = json.dumps({"status": "IN_PROGRESS", "statusDetails": {"by": "hand"}}).encode()
    working.service.answer(f"{T}/a/update", other)
    working.end()
    working.settle()
    assert working.state("a") == "SUCCEEDED"


def test_a_job_that_timed_out_meanwhile_is_left(working: Scene) -> None:
    working.clock.advance(3600)
    working.service.due()
    working.down.clear()
    working.end(Outcome(status=ExecutionStatus.FAILED))
    working.settle()
    assert working.state("a") == "TIMED_OUT"
    assert working.session.work is None


def test_a_job_handed_out_again_after_its_end_is_told_its_end_again(working: Scene) -> None:
    work = working.begun[0]
    working.end()
    working.up.clear()
    lost = replace(working.session, pending=None, work=None, outcome=None, next_wanted=True)
    working.session = lost
    working.tick()
    working.settle()
    assert working.state("a") == "SUCCEEDED"
    assert working.begun == [work]


def test_an_idle_device_asks_now_and_then(scene: Scene) -> None:
    scene.join()
    scene.settle()
    scene.create("a")
    scene.down.clear()  # both notifications are lost
    scene.tick(POLL_S)
    scene.settle()
    assert [work.job_id for work in scene.begun] == ["a"]


def test_a_thing_that_nobody_knows_asks_on_quietly(scene: Scene) -> None:
    scene.session = JobsClient(thing="edge-9", prefix="p")
    scene.join()
    scene.settle()
    assert scene.begun == []
    scene.tick(POLL_S)
    assert [said.topic for said in scene.up] == ["$aws/things/edge-9/jobs/get"]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("$aws/things/edge-2/jobs/notify-next", b'{"execution":{"jobId":"x"}}'),
        (f"{T}/notify-next", b"{"),
        (f"{T}/notify-next", b"[" * 10_000),
        (f"{T}/notify", b'{"jobs":[1,2]}'),
        (f"{T}/notify", b"\xff"),
        (f"{T}/notify", b" " * 300_000),
        (f"{T}/start-next/accepted", b'{"execution":{"jobId":"x"},"clientToken":"other"}'),
        (f"{T}/nonsense", b"{}"),
        (f"{T}/x/update/accepted", b"{}"),
        ("elsewhere", b"{}"),
    ],
)  # fmt: skip
def test_what_is_of_another_or_is_none_changes_nothing(
    scene: Scene, topic: str, payload: bytes
) -> None:
    scene.join()
    scene.settle()
    before = scene.session
    scene.take(receive(scene.session, topic, payload=payload, now_s=scene.now_s))
    assert (scene.session, scene.begun, scene.up) == (before, [], [])


@pytest.mark.parametrize(
    "execution",
    [
        {"jobId": "x/y"}, {"jobId": 5}, {}, {"jobId": "x", "thingName": "edge-2"}, [], "x",
        {"jobId": "a" * 65},
    ],
)  # fmt: skip
def test_an_execution_that_is_none_is_not_begun(scene: Scene, execution: object) -> None:
    scene.join()
    token = json.loads(scene.up[0].payload)["clientToken"]
    answer = json.dumps({"execution": execution, "clientToken": token}).encode()
    scene.take(
        receive(scene.session, f"{T}/start-next/accepted", payload=answer, now_s=scene.now_s)
    )
    assert scene.begun == []
    assert scene.session.pending is None


def test_a_service_that_is_in_trouble_is_asked_again(scene: Scene) -> None:
    scene.join()
    said = scene.up.pop()
    token = json.loads(said.payload)["clientToken"]
    told = json.dumps({"code": "InternalError", "message": "x", "clientToken": token}).encode()
    scene.take(receive(scene.session, f"{said.topic}/rejected", payload=told, now_s=scene.now_s))
    assert scene.up == []
    scene.tick(ANSWER_S)
    assert scene.up == [said]


_MOVES = st.lists(
    st.sampled_from(
        ["ask", "hear", "lose up", "lose down", "twice up", "twice down", "restart", "rejoin",
         "end", "fail", "progress", "confirm", "tick", "create", "cancel"]
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(moves=_MOVES)
def test_whatever_is_lost_doubled_or_restarted_every_job_ends_as_the_device_said(
    moves: list[str],
) -> None:
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        scene = scene_over(records, clock)
        scene.join()
        made: list[str] = []
        for move in moves:
            _move(scene, move, made)
        for _ in range(30):  # a calm time follows
            scene.settle()
            if scene.session.work is not None and scene.session.outcome is None:
                scene.end()
            scene.tick(61)
            scene.settle()
        assert scene.session.work is None
        ends = {scene.state(name) for name in made}
        assert ends <= {"SUCCEEDED", "FAILED", "CANCELED", "TIMED_OUT"}


def _move(scene: Scene, move: str, made: list[str]) -> None:
    """A move that is impossible right now is none."""
    failed = Outcome(status=ExecutionStatus.FAILED, details={"reason": "x\x00" * 900})
    moves: dict[str, tuple[object, Callable[[], object]]] = {
        "ask": (scene.up, scene.ask),
        "hear": (scene.down, scene.hear),
        "lose up": (scene.up, lambda: scene.up.pop(0)),
        "lose down": (scene.down, lambda: scene.down.pop(0)),
        "twice up": (scene.up, lambda: scene.up.append(scene.up[0])),
        "twice down": (scene.down, lambda: scene.down.append(scene.down[0])),
        "restart": (True, scene.restart),
        "rejoin": (True, scene.join),
        "end": (scene.begun, scene.end),
        "fail": (scene.begun, lambda: scene.end(failed)),
        "progress": (True, lambda: scene.progress({"bytes": ""})),
        "confirm": (scene.begun, lambda: scene.confirm(scene.begun[-1])),
        "tick": (True, lambda: scene.tick(7)),
        "create": (len(made) < 4, lambda: _create(scene, made)),
        "cancel": (made and _open(scene, made[-1]), lambda: scene.cancel(made[-1])),
    }
    possible, act = moves[move]
    if possible:
        act()


def _create(scene: Scene, made: list[str]) -> None:
    made.append(f"job-{len(made)}")
    scene.create(made[-1])


def _open(scene: Scene, name: str) -> bool:
    return scene.service.job(name).status.value == "IN_PROGRESS"
