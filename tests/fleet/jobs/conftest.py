"""A job service over memory, with things and groups, and a device that asks it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from lineside.fleet import JobService, NewJob, ThingDirectory
from lineside.fleet.jobs.wire import JobMessage
from lineside.links import Message
from lineside.store import Records
from lineside.testing import FakeClock
from tests.hub.asyncapi import documented, validators

DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}


@dataclass
class Desk:
    """The service, what it said last, and shorter ways to ask."""

    service: JobService
    directory: ThingDirectory
    clock: FakeClock
    said: list[JobMessage] = field(default_factory=list)

    def hear(self, messages: Sequence[JobMessage]) -> None:
        documented(Message(topic=one.topic, payload=one.payload) for one in messages)
        self.said += messages

    def topics(self) -> list[str]:
        """What was said since the last call, thing t's topics shortened."""
        found = [one.topic.removeprefix("$aws/things/t/jobs/") for one in self.said]
        self.said.clear()
        return found

    def notices(self) -> dict[str, Any]:
        """Notifications to thing t since the last call; every other message is forgotten."""
        found = {
            one.topic.rpartition("/")[2]: json.loads(one.payload)
            for one in self.said
            if one.topic in ("$aws/things/t/jobs/notify", "$aws/things/t/jobs/notify-next")
        }
        self.said.clear()
        return found

    def create(
        self, job_id: str, *targets: str, document: Mapping[str, Any] | None = None,
        continuous: bool = False, **settings: object,
    ) -> None:  # fmt: skip
        self.service.create(
            NewJob(
                job_id=job_id,
                targets=targets or ("t",),
                document=DOCUMENT if document is None else document,
                continuous=continuous,
                settings=settings,
            )
        )

    def ask(self, what: str, *, thing: str = "t", **body: object) -> dict[str, Any]:
        """Publish, and return the one answer with its last topic level under ``"was"``."""
        return self.send(what, json.dumps(body).encode() if body else b"", thing=thing)

    def send(self, what: str, payload: bytes, *, thing: str = "t") -> dict[str, Any]:
        topic = f"$aws/things/{thing}/jobs/{what}"
        first, *others = self.service.answer(topic, payload)
        self.hear(others)
        assert first.topic in (f"{topic}/accepted", f"{topic}/rejected")
        body = json.loads(first.payload)
        for _, validator in validators(topic):
            documented([Message(topic=first.topic, payload=first.payload)])
            if payload[:2] == b'{"' and body.get("code") in (None, "InvalidRequest"):
                assert validator.is_valid(json.loads(payload)) == ("code" not in body)
        return {**body, "was": first.topic.rpartition("/")[2]}

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.service.due()

    def states(self, job_id: str) -> dict[str, str]:
        return {one.thing: one.status.value for one in self.service.executions(job_id)}

    def events(self, prefix: str = "$aws/events/") -> list[str]:
        """Events since the last call."""
        found = [one.topic.removeprefix(prefix) for one in self.said if prefix in one.topic]
        self.said.clear()
        return found


def desk_over(records: Records, clock: FakeClock) -> Desk:
    directory = ThingDirectory(records)
    desk = Desk(
        service=JobService(records, clock=clock, directory=directory),
        directory=directory,
        clock=clock,
    )
    desk.service.deliver = desk.hear
    return desk


def many(desk: Desk, count: int) -> list[str]:
    """So many further things in group ``many``."""
    things = [f"m{number:03d}" for number in range(count)]
    for thing in things:
        desk.directory.add(thing, groups=("many",))
    return things


@pytest.fixture
def desk(records: Records, clock: FakeClock) -> Desk:
    """Thing ``t`` exists already."""
    made = desk_over(records, clock)
    made.directory.add("t", groups=("line",))
    return made
