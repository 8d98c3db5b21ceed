"""The device's talk about jobs on a bus, while a job is carried out."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from lineside.edge.deploy.jobs import AbandonedError, Control, JobClient
from lineside.edge.messages import Counters
from lineside.fleet import ExecutionStatus
from lineside.fleet.agent import Outcome, Work
from lineside.links import Bus, Mailbox, Message, open_bus
from lineside.store import open_records
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.fleet.test_agent_steps import Scene, T, scene_over

DONE = Outcome(status=ExecutionStatus.SUCCEEDED, details={"step": "done"})


@dataclass
class Ground:
    """A device whose downloads are in the test's hand, and the real service on the same bus."""

    scene: Scene
    hub: Bus
    mailbox: Mailbox
    begun: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    hang: threading.Event = field(default_factory=threading.Event)

    def carry_out(self, work: Work, control: Control) -> Outcome:
        """A download; that of job ``a`` says nothing until the test lets it go on."""
        self.begun.append(work.job_id)
        if work.job_id == "a":
            self.hang.wait(LONG_S)
        try:
            control.tell({"step": "fetching", "bytes": "1"})
        except AbandonedError:
            self.left.append(work.job_id)
            raise
        return DONE

    def serve(self) -> None:
        """The service answers what was said meanwhile."""
        for message in self.mailbox.get_many(most=100, timeout_s=0.01):
            answers = self.scene.service.answer(message.topic, message.payload)
            if answers:
                self.said.append(message)
            self.scene.down += answers
        for one in self.scene.down:
            self.hub.publish(one.topic, one.payload)
        self.scene.down.clear()

    def until(self, condition: Callable[[], bool]) -> None:
        def served() -> bool:
            self.serve()
            return condition()

        wait_until(served)

    def ended(self, job: str) -> Callable[[], bool]:
        return lambda: self.scene.state(job) not in ("QUEUED", "IN_PROGRESS")


@pytest.fixture
def ground(clock: FakeClock) -> Iterator[Ground]:
    with open_records("memory://", clock=clock) as records:
        hub = open_bus("memory://jobs", client_id="hub", clock=clock)
        bus = open_bus("memory://jobs", client_id="edge-1", clock=clock)
        made = Ground(
            scene=scene_over(records, clock),
            hub=hub,
            mailbox=hub.subscribe(("$aws/things/+/jobs/#",), size=1000, name="service"),
        )
        client = JobClient(
            bus, thing="edge-1", carry_out=made.carry_out, counters=Counters(), clock=clock,
            heard=made.heard.append,
        )  # fmt: skip
        client.start()
        yield made
        made.hang.set()
        client.close()
        bus.close()
        hub.close()


def test_a_download_that_hangs_keeps_the_device_from_nothing(ground: Ground) -> None:
    ground.scene.create("a")
    ground.until(lambda: ground.begun == ["a"])
    before = len(ground.heard)
    ground.scene.create("b")
    ground.scene.cancel("a")
    # All of it is heard, asked after and answered while the download says nothing at all.
    ground.until(
        lambda: (
            any(said.topic == f"{T}/a/get" for said in ground.said)
            and any(said.topic == f"{T}/start-next" for said in ground.said[1:])
            and ground.scene.state("b") == "IN_PROGRESS"
        )
    )
    assert len(ground.heard) > before
    assert (ground.begun, ground.left) == (["a"], [])
    ground.hang.set()
    ground.until(ground.ended("b"))
    assert ground.left == ["a"]
    assert (ground.scene.state("a"), ground.scene.state("b")) == ("CANCELED", "SUCCEEDED")


def test_every_update_names_the_version_it_knows_and_asks_by_a_token_of_its_own(
    ground: Ground,
) -> None:
    ground.hang.set()
    for name in ("a", "b"):
        ground.scene.create(name)
        ground.until(ground.ended(name))
    bodies = [json.loads(said.payload) for said in ground.said]
    tokens = [body["clientToken"] for body in bodies]
    assert len(set(tokens)) == len(tokens)
    updates = [
        body
        for said, body in zip(ground.said, bodies, strict=True)
        if said.topic.endswith("/update")
    ]
    assert {body["status"] for body in updates} >= {"SUCCEEDED"}
    assert all(body["expectedVersion"] >= 1 for body in updates)
    assert {said.qos for said in ground.said} == {1}
