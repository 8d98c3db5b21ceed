"""Rollouts on a hub: jobs made, evidence heard, ways back signed, restarts, two hubs at once."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import ConflictError, NotFoundError, RefusedError, encode
from lineside.fleet import Evidence, Rollout, RolloutOrder, RolloutPlan, RolloutState, TrialReport
from lineside.fleet.evidence import LiveLimits
from lineside.fleet.rollout import RolloutStep
from lineside.hub import Role, Services, create_app
from lineside.hub.models.model_service import Registration
from lineside.hub.models.operating_points import PointProposal
from lineside.hub.pages.rollouts import DeviceTable, device_figures
from lineside.hub.rollouts.repository import ROLLOUT_TYPE
from lineside.hub.rollouts.rollout_service import NewRollout, RolloutDevice
from lineside.links import Message
from lineside.models import Package, Window, build_package
from lineside.models.operating_point import Limits
from lineside.models.versions import GroupSettings
from lineside.testing import FakeClock
from tests.hub.conftest import another_hub

FRAMES = 40
NAMES = ("edge-1", "edge-2", "edge-3")
STEPS = (RolloutStep(canary=1), RolloutStep(percent=100.0))
LIMITS = (Limits(name="blue", low=0.1, high=0.9),)
PLAN = RolloutPlan(steps=STEPS, limits=LiveLimits(frames=FRAMES))


def variant(archive: bytes, name: str) -> bytes:
    package = Package.read(archive)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    return build_package(replace(package.manifest, name=name), files)


class Fleet:
    """Three devices that do what jobs say, as the job service hears it."""

    def __init__(self, hub: Services) -> None:
        self.hub = hub
        self.runs: dict[str, str] = {}
        self.bad: set[str] = set()
        self.taken: list[tuple[str, str]] = []
        self.faults: list[str] = []

    def told(self, name: str, digest: str, **more: str) -> None:
        self.runs[name] = digest
        used = {"inspection": "stock", "digest": digest, "loaded_at": "", **more}
        packages = [used] if digest else []
        status = {
            "schema": "lineside.device/1", "device": name, "state": "online", "version": "1",
            "at": "2026-01-01T00:00:00.000Z", "packages": packages, "spool_depth": 0,
            "faults": self.faults,
        }  # fmt: skip
        self.hub.devices.take_status(name, encode(status))
        self.hub.desired.tick()
        self.hub.devices.flush()  # another hub reads what is written

    def work(self, names: Sequence[str] = NAMES, *, status: str = "SUCCEEDED") -> None:
        for name in names:
            topic = f"$aws/things/{name}/jobs"
            while (given := self._ask(f"{topic}/start-next", {}).get("execution")) is not None:
                document = given["jobDocument"]
                self.taken.append((name, document["model_version"]))
                self._ask(f"{topic}/{given['jobId']}/update", {"status": status})
                if status != "SUCCEEDED":
                    continue
                self.told(name, document["digest"])
                if document["trial_frames"]:
                    self.report(name, document)

    def follow(self, names: Sequence[str] = NAMES) -> None:
        """Do what the desired states say, as devices do between jobs."""
        self.hub.desired.tick()
        for name in names:
            wanted = self.hub.desired.of(name).of("stock").digest
            if wanted != self.runs.get(name, ""):
                self.told(name, wanted)

    def report(self, name: str, document: dict[str, Any], **figures: Any) -> None:  # noqa: ANN401  of Evidence
        changed = FRAMES if document["digest"] in self.bad else 0
        found = Evidence(
            device=name, inspection="stock", **{"frames": FRAMES, "changed": changed, **figures}
        )
        told = TrialReport(
            rollout=document["rollout"], old="", new=document["digest"], evidence=found
        )
        topic = f"lineside/hall/device/{name}/evidence"
        book = self.hub.rollouts.repository
        book.commit(book.prepare([Message(topic=topic, payload=encode(told))]))

    def _ask(self, topic: str, body: dict[str, Any]) -> dict[str, Any]:
        said = self.hub.job_requests.service.answer(topic, json.dumps(body).encode())
        answer: dict[str, Any] = json.loads(said[0].payload)
        assert said[0].topic.endswith("/accepted"), answer
        return answer


@pytest.fixture
def versions(trusted: Services, archive: bytes) -> list[str]:
    """Three approved versions, signed; the first is in use."""
    digests: list[str] = []
    for number, name in enumerate(("first", "second", "third"), start=1):
        digest = trusted.packages.add(variant(archive, name), by="ada").digest
        trusted.models.register("discs", Registration(package=digest), by="ada")
        approved = trusted.models.approve("discs", number, by="eve", reason="good")
        trusted.releases.publish(trusted.models.release(approved))
        digests.append(digest)
    trusted.packages.use(digests[0], inspection="stock", by="eve", reason="good")
    return digests


@pytest.fixture
def fleet(trusted: Services, versions: list[str]) -> Fleet:
    fleet = Fleet(trusted)
    for name in NAMES:
        fleet.told(name, versions[0])
        trusted.things.add(name, groups=("hall",))
    return fleet


def start(hub: Services, *, version: int = 2, plan: RolloutPlan = PLAN) -> str:
    asked = NewRollout(group="discs", version=version, plan=plan, reason="fewer escapes")
    return hub.rollouts.start(asked, by="eve").id


def tick(hub: Services, *, times: int = 1) -> None:
    for _ in range(times):
        hub.rollouts.tick()
        hub.job_requests.tick()


def state(hub: Services, rollout: str) -> RolloutState:
    return hub.rollouts.one(rollout).state


def roll_out(hub: Services, fleet: Fleet, *, plan: RolloutPlan = PLAN) -> str:
    rollout = start(hub, plan=plan)
    for _ in range(3):
        tick(hub)
        fleet.work()
    assert state(hub, rollout) is RolloutState.DONE
    return rollout


def order(hub: Services, rollout: str, what: RolloutOrder) -> Rollout:
    return hub.rollouts.order(rollout, what, by="eve", reason="")


def test_a_good_release_goes_to_the_canary_then_to_all_and_becomes_the_one_in_use(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    rollout = start(trusted)
    tick(trusted)
    view = trusted.rollouts.view(rollout)
    assert [(one.id, one.step, one.status) for one in view.devices] == [
        ("edge-1", 1, "QUEUED"), ("edge-2", 2, "WAITING"), ("edge-3", 2, "WAITING"),
    ]  # fmt: skip
    assert view.waits == "the job is not over on edge-1"
    fleet.work()
    assert fleet.taken == [("edge-1", "2")]
    tick(trusted)
    fleet.work()
    tick(trusted)
    assert state(trusted, rollout) is RolloutState.DONE
    assert fleet.runs == dict.fromkeys(NAMES, versions[1])
    assert (trusted.packages.in_use("stock"), trusted.rollouts.repository.open()) == (
        versions[1],
        [],
    )
    events = trusted.events.page(kind=ROLLOUT_TYPE)
    actions = [one.event["data"]["action"] for one in events]
    assert actions == ["planned", "running", "widening", "running", "done"]
    figures = events[2].event["data"]["figures"]
    assert (figures["verdict"], figures["frames"]) == ("go on", FRAMES)
    assert figures["evidence"][0]["device"] == "edge-1"


def test_limits_of_a_version_that_is_not_in_use_go_with_it_through_the_waves(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    limits = (Limits(name="blue", low=0.1, high=0.9),)
    proposal = PointProposal(limits=limits, reason="too many reviews", package=versions[1])
    trusted.points.propose("stock", proposal, by="ada")
    point = trusted.points.approve("stock", 1, by="eve", reason="saw the preview").point
    assert point is not None
    rollout = start(trusted)
    tick(trusted)
    fleet.work()
    for name in NAMES:
        fleet.told(name, fleet.runs[name], operating_point="")
    told = {
        name: json.loads(trusted.desired.payload(name, trusted.desired.of(name)))["packages"][0]
        for name in NAMES
    }
    assert told["edge-1"]["operating_point"]["digest"] == point.digest
    assert "operating_point" not in told["edge-2"]
    client = approver(trusted)
    assert client.get(f"/api/v1/rollouts/{rollout}").json()["operating_point"] == 1
    assert (
        "Decided by operating point 1 (blue 0.1 / 0.9)" in client.get(f"/rollouts/{rollout}").text
    )
    page = client.get(f"/inspections/stock/operating-point?package={versions[2]}").text
    assert "the package's own limits when it is rolled out; the package is not in use" in page
    assert f'data-page="/inspections/stock/operating-point?package={versions[2]}"' in page


def approver(hub: Services) -> TestClient:
    token = hub.auth.issue_token("eve", kind="api", role=Role.APPROVER)
    return TestClient(
        create_app(hub), base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {token}"}
    )


def test_a_bad_release_is_led_back_from_the_canary_and_nobody_else_sees_it(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    fleet.bad.add(versions[1])
    rollout = start(trusted)
    tick(trusted)
    fleet.work()
    tick(trusted)
    assert state(trusted, rollout) is RolloutState.GOING_BACK
    target = trusted.releases.target_of(versions[0], group="discs")
    assert target is not None
    assert target.custom["rollback_from"] == ["2"]
    fleet.work()
    tick(trusted, times=2)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK
    assert fleet.taken == [("edge-1", "2"), ("edge-1", "1")]
    assert fleet.runs == dict.fromkeys(NAMES, versions[0])
    assert trusted.packages.in_use("stock") == versions[0]
    back = [
        one.event["data"]
        for one in trusted.events.page(kind=ROLLOUT_TYPE)
        if one.event["data"]["action"] == "going back"
    ]
    assert len(back) == 1
    assert "40 of 40 frames (100.0%) decide otherwise, 10.0% may" in back[0]["reason"]
    assert back[0]["figures"]["evidence"][0]["changed"] == FRAMES
    assert back[0]["by"] == "hub"


def test_a_report_that_a_success_overtook_does_not_change_where_a_device_goes_back_to(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    roll_out(trusted, fleet)
    fleet.told("edge-1", versions[0])  # sent before its success, and read after it
    fleet.bad.add(versions[2])
    start(trusted, version=3)
    tick(trusted)
    fleet.work()
    tick(trusted)
    fleet.work()
    assert fleet.taken[-2:] == [("edge-1", "3"), ("edge-1", "2")]


def test_a_done_one_is_led_back_by_one_order_on_every_device(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    rollout = roll_out(trusted, fleet)
    order(trusted, rollout, RolloutOrder.ROLLBACK)
    fleet.work()
    tick(trusted, times=2)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK
    assert fleet.runs == dict.fromkeys(NAMES, versions[0])
    assert trusted.packages.in_use("stock") == versions[0]


def test_who_joins_a_group_gets_what_was_rolled_out_to_it(
    trusted: Services, fleet: Fleet, versions: list[str], clock: FakeClock
) -> None:
    rollout = roll_out(trusted, fleet, plan=replace(PLAN, group="hall"))
    assert trusted.packages.in_use("stock") == versions[0]  # of the site, not of the group
    trusted.things.add("edge-4", groups=("hall",))
    tick(trusted)
    fleet.work(("edge-4",))
    assert fleet.taken[-1] == ("edge-4", "2")
    clock.advance(1)
    later = start(trusted, version=3, plan=replace(PLAN, group="hall"))
    for _ in range(3):
        tick(trusted)
        fleet.work((*NAMES, "edge-4"))
    assert state(trusted, later) is RolloutState.DONE
    assert trusted.rollouts.one(later).previous == trusted.rollouts.one(rollout).release
    trusted.things.add("edge-5", groups=("hall",))
    tick(trusted)
    fleet.work(("edge-5",))
    assert [one for one in fleet.taken if one[0] == "edge-5"] == [("edge-5", "3")]
    with pytest.raises(ConflictError, match=later):
        order(trusted, rollout, RolloutOrder.ROLLBACK)


def test_a_pause_takes_back_what_did_not_begin_and_resuming_asks_again(
    trusted: Services, fleet: Fleet
) -> None:
    rollout = start(trusted)
    tick(trusted)
    order(trusted, rollout, RolloutOrder.PAUSE)
    fleet.work()
    assert fleet.taken == []
    tick(trusted, times=3)
    assert trusted.rollouts.view(rollout).waits == "it is paused"
    order(trusted, rollout, RolloutOrder.RESUME)
    fleet.work()
    assert fleet.taken == [("edge-1", "2")]
    assert [job.job_id for job in trusted.rollouts.one(rollout).jobs] == [
        f"{rollout}-1", f"{rollout}-2",
    ]  # fmt: skip


def test_aborting_leaves_devices_with_what_they_have(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    rollout = start(trusted)
    tick(trusted)
    fleet.work()
    tick(trusted)
    order(trusted, rollout, RolloutOrder.ABORT)
    fleet.work()
    assert fleet.taken == [("edge-1", "2")]
    assert fleet.runs["edge-1"] == versions[1]
    assert trusted.rollouts.one(rollout).settled


def test_failed_jobs_stop_it(trusted: Services, fleet: Fleet) -> None:
    rollout = start(trusted)
    tick(trusted)
    fleet.work(status="FAILED")
    tick(trusted)
    one = trusted.rollouts.one(rollout)
    assert (one.state, one.why) == (
        RolloutState.ABORTED, "1 of 1 executed things FAILED, REJECTED or TIMED_OUT, at least 10 %",
    )  # fmt: skip


def test_what_an_approval_brings_about_waits_for_its_window_and_comes_once(
    trusted: Services, fleet: Fleet, archive: bytes, clock: FakeClock
) -> None:
    night = Window(begins="02:00", ends="03:00")
    settings = GroupSettings(deploy_on_approval=True, device_group="hall", windows=(night,))
    trusted.models.set_settings("discs", settings, by="eve")
    digest = trusted.packages.add(variant(archive, "fourth"), by="ada").digest
    trusted.models.register("discs", Registration(package=digest), by="ada")
    trusted.models.approve("discs", 4, by="eve", reason="good")
    page = trusted.records.log.read(type="lineside.model.v1")
    trusted.models.follow(page)
    trusted.models.follow(page)
    (one,) = trusted.rollouts.all()
    assert (one.by, one.release.version, one.plan.group) == ("eve", "4", "hall")
    tick(trusted)
    assert trusted.rollouts.view(one.id).waits == "no window is open"
    now = clock.now()
    clock.advance((26 - now.hour) * 3600 - now.minute * 60)
    tick(trusted)
    fleet.work()
    assert fleet.taken == [("edge-1", "4")]


def test_another_of_the_same_inspection_waits_its_turn(
    trusted: Services, fleet: Fleet, clock: FakeClock
) -> None:
    first = start(trusted)
    clock.advance(1)
    second = start(trusted, version=3)
    tick(trusted)
    waits = trusted.rollouts.view(second).waits
    assert waits == f"rollout {first} of the same inspection comes first"
    order(trusted, first, RolloutOrder.ABORT)
    tick(trusted)
    assert (state(trusted, second), fleet.taken) == (RolloutState.RUNNING, [])


def test_it_goes_on_on_another_hub_wherever_the_first_one_ended(
    trusted: Services, fleet: Fleet
) -> None:
    """Each look is done by a hub that was never there before; every second one dies half-way."""
    rollout = start(trusted)
    jobs_made = 0
    for turn in range(30):
        hub = another_hub(trusted)
        if turn % 2:
            made = hub.rollouts._jobs
            real = made.make
            made.make = _dying(real, after=turn % 4 == 1)  # type: ignore[method-assign]
        try:
            hub.rollouts.tick()
        except KilledError:
            jobs_made += 1
        hub.job_requests.tick()
        fleet.work()
        hub.runs.close()
    assert jobs_made
    assert state(trusted, rollout) is RolloutState.DONE
    assert sorted(fleet.taken) == [(name, "2") for name in NAMES]


class KilledError(BaseException):
    """kill -9, as far as a test in one process can have it."""


def _dying(make: Callable[..., None], *, after: bool) -> Callable[..., None]:
    def die(*given: Any) -> None:  # noqa: ANN401  handed on
        if after:
            make(*given)
        raise KilledError

    return die


def test_of_two_hubs_one_decides_and_the_other_looks_again(trusted: Services, fleet: Fleet) -> None:
    other = another_hub(trusted)
    rollout = start(trusted)
    rollout_now, version = trusted.rollouts.repository.read(rollout)
    other.rollouts.tick()
    with pytest.raises(ConflictError):
        trusted.rollouts.repository.keep(rollout_now, expect=version)
    for _ in range(4):
        tick(trusted)
        other.rollouts.tick()
        fleet.work()
    assert state(trusted, rollout) is RolloutState.DONE
    actions = [one.event["data"]["action"] for one in trusted.events.page(kind=ROLLOUT_TYPE)]
    assert actions == ["planned", "running", "widening", "running", "done"]
    other.runs.close()


def test_reports_are_believed_of_who_was_asked_only_and_old_ones_change_nothing(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    rollout = start(trusted)
    tick(trusted)
    book = trusted.rollouts.repository
    document = {"digest": versions[1], "rollout": rollout}
    fleet.report("edge-1", document, frames=30, changed=1)
    fleet.report("edge-1", document, frames=10, changed=0)
    assert [one.evidence.frames for one in book.reports(rollout)] == [30]
    fleet.report("edge-2", document)
    fleet.report("edge-1", {**document, "digest": versions[2]})
    fleet.report("edge-1", {**document, "rollout": "rol_none"})
    topic = "lineside/hall/device/edge-1/evidence"
    for payload in (b"{", b"[]", b"x" * 20_000, b'{"schema":"lineside.evidence/1"}'):
        assert book.prepare([Message(topic=topic, payload=payload)]) == []
    assert book.refused == 7
    assert len(book.reports(rollout)) == 1


@pytest.mark.usefixtures("fleet")
def test_what_cannot_be_rolled_out_is_refused_with_a_sentence(
    trusted: Services, archive: bytes
) -> None:
    digest = trusted.packages.add(variant(archive, "fourth"), by="ada").digest
    trusted.models.register("discs", Registration(package=digest), by="ada")
    with pytest.raises(RefusedError, match="discs/4 is not approved"):
        start(trusted, version=4)
    with pytest.raises(ConflictError, match="the devices run discs 1 already"):
        start(trusted, version=1)
    with pytest.raises(NotFoundError):
        start(trusted, version=9)
    for plan in (replace(PLAN, devices=("edge-9",)), replace(PLAN, group="nowhere")):
        with pytest.raises(NotFoundError, match=r"no (device|group)"):
            start(trusted, plan=plan)
    with pytest.raises(NotFoundError, match="no rollout"):
        trusted.rollouts.view("rol_none")


@pytest.mark.usefixtures("versions")
def test_a_rollback_to_what_is_no_longer_signed_is_told_and_tried_again(
    trusted: Services, fleet: Fleet
) -> None:
    rollout = start(trusted)
    tick(trusted)
    fleet.work()
    trusted.models.reject("discs", 1, by="eve", reason="scratches pass")
    release = trusted.rollouts.one(rollout).previous
    assert release is not None
    trusted.releases.withdraw(release)
    order(trusted, rollout, RolloutOrder.ROLLBACK)
    tick(trusted, times=2)
    assert trusted.rollouts.view(rollout).waits == "discs 1 is not signed any more"
    trusted.releases.publish(release)
    tick(trusted)
    fleet.work()
    tick(trusted)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK


def at_once(*names: str) -> RolloutPlan:
    return replace(PLAN, steps=(RolloutStep(percent=100.0),), devices=names)


def carry_on(hub: Services, fleet: Fleet, *, times: int = 4) -> None:
    for _ in range(times):
        tick(hub)
        fleet.work()
        fleet.follow()


def finished(
    hub: Services, fleet: Fleet, clock: FakeClock, *, version: int, plan: RolloutPlan
) -> str:
    rollout = start(hub, version=version, plan=plan)
    carry_on(hub, fleet)
    clock.advance(1)
    return rollout


@pytest.fixture
def free(trusted: Services, archive: bytes) -> tuple[Fleet, list[str]]:
    """Three devices and three approved versions, of which none is in use of the site."""
    digests: list[str] = []
    for number, name in enumerate(("first", "second", "third"), start=1):
        digest = trusted.packages.add(variant(archive, name), by="ada").digest
        trusted.models.register("discs", Registration(package=digest), by="ada")
        trusted.models.approve("discs", number, by="eve", reason="good")
        digests.append(digest)
    fleet = Fleet(trusted)
    for name in NAMES:
        fleet.told(name, "")
        trusted.things.add(name)
    return fleet, digests


def test_a_bad_version_goes_back_whatever_the_plans_before_named(
    trusted: Services, free: tuple[Fleet, list[str]], clock: FakeClock
) -> None:
    fleet, versions = free
    first = start(trusted, version=1, plan=at_once(*NAMES))
    carry_on(trusted, fleet)
    assert state(trusted, first) is RolloutState.DONE
    clock.advance(1)
    fleet.bad.add(versions[1])
    second = start(trusted, version=2, plan=at_once("edge-1", "edge-2"))
    tick(trusted)
    fleet.work()
    assert fleet.runs == dict(zip(NAMES, (versions[1], versions[1], versions[0]), strict=True))
    assert trusted.desired.of("edge-2").of("stock").digest == versions[1]
    tick(trusted)
    assert state(trusted, second) is RolloutState.GOING_BACK
    fleet.follow()  # the desired state alone is enough
    assert fleet.runs == dict.fromkeys(NAMES, versions[0])
    carry_on(trusted, fleet)
    assert state(trusted, second) is RolloutState.ROLLED_BACK
    target = trusted.releases.target_of(versions[0], group="discs")
    assert target is not None
    assert target.custom["rollback_from"] == ["2"]


def test_a_bad_first_version_leaves_devices_with_none_and_the_next_one_comes(
    trusted: Services, free: tuple[Fleet, list[str]], clock: FakeClock
) -> None:
    fleet, versions = free
    fleet.bad.add(versions[0])
    first = start(trusted, version=1, plan=at_once("edge-1"))
    carry_on(trusted, fleet)
    assert (state(trusted, first), fleet.runs["edge-1"]) == (RolloutState.ROLLED_BACK, "")
    with pytest.raises(RefusedError, match="judged bad on the line"):
        trusted.packages.use(versions[0], inspection="stock", by="eve", reason="good")
    clock.advance(1)
    start(trusted, version=2, plan=at_once("edge-1"))
    carry_on(trusted, fleet)
    assert fleet.runs["edge-1"] == versions[1]


def test_devices_outside_the_plan_do_not_keep_what_was_judged_bad_elsewhere(
    trusted: Services, free: tuple[Fleet, list[str]], clock: FakeClock
) -> None:
    fleet, versions = free
    for version in (1, 2):
        start(trusted, version=version, plan=at_once("edge-1", "edge-2"))
        carry_on(trusted, fleet)
        clock.advance(1)
    fleet.bad.add(versions[1])
    bad = start(trusted, version=2, plan=at_once("edge-3"))
    carry_on(trusted, fleet, times=6)
    assert state(trusted, bad) is RolloutState.ROLLED_BACK
    assert fleet.runs == {"edge-1": versions[0], "edge-2": versions[0], "edge-3": ""}


def test_a_person_goes_back_by_rollback_and_by_starting_the_older_version(
    trusted: Services, free: tuple[Fleet, list[str]], clock: FakeClock
) -> None:
    fleet, versions = free
    (_, last) = [
        finished(trusted, fleet, clock, version=version, plan=at_once("edge-1", "edge-2"))
        for version in (1, 2)
    ]
    order(trusted, last, RolloutOrder.ROLLBACK)
    carry_on(trusted, fleet)
    assert fleet.runs["edge-1"] == fleet.runs["edge-2"] == versions[0]
    start(trusted, version=3, plan=at_once("edge-1"))
    carry_on(trusted, fleet)
    clock.advance(1)
    with pytest.raises(RefusedError, match="edge-1 runs discs 3, which is newer than 2") as refused:
        start(trusted, version=2, plan=at_once("edge-1"))
    assert "lineside rollout start discs/2 --rollback" in refused.value.fix
    asked = NewRollout(group="discs", version=2, plan=at_once("edge-1"), rollback=True)
    back = trusted.rollouts.start(asked, by="eve").id
    carry_on(trusted, fleet)
    assert (state(trusted, back), fleet.runs["edge-1"]) == (RolloutState.DONE, versions[1])
    target = trusted.releases.target_of(versions[1], group="discs")
    assert target is not None
    assert target.custom["rollback_from"] == ["3"]


def test_a_first_release_cannot_be_rolled_back_by_a_person_and_is_ended_by_abort(
    trusted: Services, free: tuple[Fleet, list[str]]
) -> None:
    fleet, _ = free
    rollout = start(trusted, version=1, plan=replace(PLAN, devices=NAMES))
    tick(trusted)
    fleet.work()
    with pytest.raises(ConflictError, match="nothing ran before") as refused:
        order(trusted, rollout, RolloutOrder.ROLLBACK)
    assert refused.value.fix.startswith(f"lineside rollout abort {rollout} ends it")


def test_evidence_that_comes_after_the_end_still_leads_back(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    rollout = start(trusted)
    tick(trusted)
    fleet.work()
    order(trusted, rollout, RolloutOrder.ABORT)
    assert trusted.rollouts.one(rollout).settled
    document = {"digest": versions[1], "rollout": rollout}
    fleet.report("edge-1", document, frames=4 * FRAMES, changed=3 * FRAMES)
    carry_on(trusted, fleet)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK
    assert fleet.runs["edge-1"] == versions[0]


def test_what_a_person_takes_into_use_meanwhile_is_not_undone_by_going_back(
    trusted: Services, free: tuple[Fleet, list[str]], clock: FakeClock
) -> None:
    fleet, versions = free
    (_, last) = [
        finished(trusted, fleet, clock, version=version, plan=at_once("edge-1", "edge-2"))
        for version in (1, 2)
    ]
    trusted.packages.use(versions[2], inspection="stock", by="eve", reason="mended")
    fleet.follow()
    order(trusted, last, RolloutOrder.ROLLBACK)
    carry_on(trusted, fleet)
    assert fleet.runs == dict.fromkeys(NAMES, versions[2])


def test_a_roll_out_does_not_wait_for_devices_that_got_another_package_meanwhile(
    trusted: Services, free: tuple[Fleet, list[str]], clock: FakeClock
) -> None:
    fleet, versions = free
    finished(trusted, fleet, clock, version=1, plan=at_once("edge-1"))
    plan = replace(at_once("edge-1"), limits=LiveLimits(frames=10 * FRAMES))
    rollout = finished(trusted, fleet, clock, version=2, plan=plan)
    assert trusted.rollouts.view(rollout).waits == "400 frames were not judged yet by edge-1"
    trusted.packages.use(versions[2], inspection="stock", by="eve", reason="mended")
    carry_on(trusted, fleet)
    one = trusted.rollouts.one(rollout)
    assert (one.state, one.why) == (
        RolloutState.ABORTED, "another package came into use on edge-1",
    )  # fmt: skip
    assert fleet.runs["edge-1"] == versions[2]


def test_pages_and_models_say_what_devices_report(
    trusted: Services, free: tuple[Fleet, list[str]], browser: TestClient
) -> None:
    fleet, versions = free
    start(trusted, version=1, plan=at_once(*NAMES))
    carry_on(trusted, fleet)
    assert trusted.packages.one(versions[0]).used_by == ("stock",)
    assert trusted.packages.one(versions[0]).approved_by == "eve"
    trusted.packages.use(versions[0], inspection="stock", by="ada", reason="first day")
    assert trusted.packages.one(versions[0]).approved_by == "eve", "ada only put it in use"
    assert "in use for stock" in browser.get("/models").text
    rack = trusted.plant.find_camera("rack")
    station = browser.get(f"/lines/{rack.line}/{rack.id}").text
    assert "<dt>Approved by</dt><dd>eve</dd>" in station
    assert "nobody yet" not in station


def test_the_api_begins_shows_and_orders_for_those_who_may(
    trusted: Services, fleet: Fleet, people: Callable[..., TestClient], eve: TestClient
) -> None:
    assert fleet.taken == []
    vic = people(Role.VIEWER)
    body = {"group": "discs", "version": 2, "plan": {"steps": [{"percent": 100}]}, "reason": "x"}
    assert vic.post("/api/v1/rollouts", json=body).status_code == 403
    assert eve.post("/api/v1/rollouts", json={"group": "discs"}).status_code == 400
    bad = {**body, "plan": {"steps": [{"canary": 1}]}}
    assert "the last of 100 percent" in eve.post("/api/v1/rollouts", json=bad).text
    made = eve.post("/api/v1/rollouts", json=body)
    assert made.status_code == 201
    place = f"/api/v1/rollouts/{made.json()['id']}"
    tick(trusted)
    shown = vic.get(place).json()
    assert shown["job"] == f"{made.json()['id']}-1"
    assert {one["status"] for one in shown["devices"]} == {"QUEUED"}
    assert {"id", "status", "package"} <= set(shown["devices"][0])
    for what, state_after in (
        ("pause", "paused"), ("resume", "running"), ("abort", "aborted"),
        ("rollback", "going back"),
    ):  # fmt: skip
        assert vic.post(f"{place}/{what}").status_code == 403
        assert eve.post(f"{place}/{what}", json={"reason": "so"}).json()["state"] == state_after
    assert eve.post(f"{place}/pause").status_code == 409
    assert [one["state"] for one in vic.get("/api/v1/rollouts").json()["items"]] == ["going back"]
    assert vic.get("/api/v1/rollouts/rol_none").status_code == 404


def test_a_preview_names_the_devices_of_each_wave_and_keeps_nothing(
    trusted: Services, fleet: Fleet, versions: list[str]
) -> None:
    browser = approver(trusted)
    fleet.told("edge-3", versions[1])  # a device's own version may differ
    steps = [{"canary": 1}, {"group": "hall"}, {"percent": 100, "watch_s": 600}]
    limits = {"rejects_least": 0.008, "rejects_most": 0.022, "latency_p95_ms": 50}
    body = {"group": "discs", "version": 3, "plan": {"steps": steps, "limits": limits}}
    found = browser.post("/api/v1/rollouts/preview", json=body).json()
    assert found.get("shares", found) == [["edge-1"], ["edge-2", "edge-3"], []]
    assert found["guard"].startswith("Goes back by itself if rejects leave 0.8-2.2 %, p95 > 50 ms")
    assert [one["before"] for one in found["devices"]] == [versions[0], versions[0], versions[1]]
    page = browser.post("/rollouts/preview", data={"body": json.dumps(body)}).text
    for words in ("3 devices in 3 waves", "It begins at once", "discs 2 → discs 3", "no further"):
        assert words in page, words
    assert trusted.rollouts.all() == ()
    limits["rejects_least"] = 0.5
    problem = browser.post("/rollouts/preview", data={"body": json.dumps(body)}).json()
    assert [one["path"] for one in problem["faults"]] == ["$.plan.limits.rejects_most"]
    steps[0] = {"canary": 1, "percent": 5}
    problem = browser.post("/api/v1/rollouts/preview", json=body).json()
    assert "$.plan.steps[0]" in [one["path"] for one in problem["faults"]]


def test_devices_of_a_rollout_are_sorted_and_paged_on_the_server() -> None:
    figures = {"frames": 100, "verdicts": 100, "latency_ms_old": 1.0, "latency_ms_new": 1.0}
    devices = [
        RolloutDevice(
            id=f"edge-{number:04}", step=1 + number % 2, status="SUCCEEDED", package="",
            report=TrialReport(
                rollout="rol", old="sha256:a", new="sha256:b",
                evidence=Evidence(
                    device="d", inspection="i", verdict_rejects_new=number % 90,
                    latency_p95_ms=float(number), **figures,  # type: ignore[arg-type]
                ),
            ),
        )
        for number in range(5000)
    ]  # fmt: skip
    slowest = DeviceTable(rollout="rol", sort="-p95").rows_of_page(devices)
    assert [one.id for one in slowest[:2]] == ["edge-4999", "edge-4998"]
    assert len(slowest) == 50
    assert DeviceTable(rollout="rol", page=2).rows_of_page(devices)[0].id == "edge-0100"
    by_rejects = DeviceTable(rollout="rol", sort="rejects").rows_of_page(devices)
    assert by_rejects[1].id == "edge-0090"
    nothing = DeviceTable(rollout="rol", sort="nonsense", page=101).rows_of_page(devices)
    assert nothing == []
    table = DeviceTable(rollout="rol", sort="p95")
    assert (table.next_sort("p95"), table.direction("p95")) == ("-p95", "ascending")


@pytest.mark.parametrize(
    ("old", "new", "shown"), [(4.0, 5.0, "5.0 ms (4.0 ms)"), (0.0, 5.0, "5.0 ms"), (0.0, 0.0, "")]
)
def test_a_latency_that_was_not_measured_is_not_shown(old: float, new: float, shown: str) -> None:
    found = Evidence(device="d", inspection="i", latency_ms_old=old, latency_ms_new=new)
    report = TrialReport(rollout="rol", old="", new="sha256:b", evidence=found)
    device = RolloutDevice(id="d", step=1, status="SUCCEEDED", package="", report=report)
    assert device_figures(device)[8].replace("\N{NO-BREAK SPACE}", " ") == shown


def test_the_pages_show_steps_devices_and_the_decision_to_everybody(
    trusted: Services, fleet: Fleet, versions: list[str], browser: TestClient
) -> None:
    assert "No rollout yet" in browser.get("/rollouts").text
    assert "discs 2" in browser.get("/rollouts/new?version=discs/2").text
    fleet.bad.add(versions[1])
    rollout = start(trusted)
    assert "Devices are chosen when it begins" in browser.get(f"/rollouts/{rollout}").text
    tick(trusted)
    shown = browser.get(f"/rollouts/{rollout}").text
    assert "0 of 1 device" in shown
    assert "Roll back all" in shown
    fleet.work()
    tick(trusted)
    page = browser.get(f"/rollouts/{rollout}").text
    assert "40 of 40 frames (100.0%) decide otherwise, 10.0% may" in page
    assert "limit exceeded" in page
    assert "taken back" in page
    assert "<html" not in browser.get(f"/rollouts/{rollout}/progress").text
    fleet.work()
    tick(trusted, times=2)
    assert "hx-get" not in browser.get(f"/rollouts/{rollout}/progress").text
    assert "discs 2" in browser.get("/rollouts").text
    assert browser.get("/rollouts/rol_none").status_code == 404
