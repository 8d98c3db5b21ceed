"""Limits alone on their way in waves: told, compared, put in force, taken back."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lineside.core import ConflictError, UnavailableError, digest_of, frame_id
from lineside.fleet import RolloutOrder, RolloutPlan, RolloutState
from lineside.hub import Services
from lineside.hub.models.operating_points import PointProposal
from lineside.hub.rollouts.rollout_service import NewRollout
from lineside.models.operating_point import decide_again, own_limits, ruled
from lineside.models.registry import PACKAGE_KIND
from lineside.store import Document, Documents
from lineside.streams import prediction_event
from lineside.testing import FakeClock
from lineside.vision import FrameRef
from tests.hub.conftest import answered
from tests.hub.test_rollouts import (
    FRAMES,
    LIMITS,
    NAMES,
    PLAN,
    Fleet,
    approver,
    at_once,
    order,
    state,
    tick,
)


@pytest.fixture
def fleet(trusted: Services, package: str) -> Fleet:
    """Three devices that decide by the package's own limits."""
    fleet = Fleet(trusted)
    for name in NAMES:
        fleet.told(name, package, operating_point="")
    return fleet


def limits_in_waves(hub: Services, package: str) -> int:
    proposal = PointProposal(limits=LIMITS, reason="reviews", package=package, waves=True)
    number = hub.points.propose("stock", proposal, by="ada").number
    hub.points.approve("stock", number, by="eve", reason="saw it")
    return number


def begun(hub: Services, number: int, *, plan: RolloutPlan = PLAN) -> str:
    asked = NewRollout(inspection="stock", version=number, plan=plan)
    rollout = hub.rollouts.start(asked, by="eve").id
    tick(hub)
    return rollout


def ended(hub: Services, rollout: str) -> tuple[RolloutState, str]:
    one = hub.rollouts.one(rollout)
    return one.state, one.why


def point_told(hub: Services, name: str) -> str:
    told = json.loads(hub.desired.payload(name, hub.desired.of(name)))["packages"][0]
    return str(told.get("operating_point", {}).get("digest", ""))


def decide(hub: Services, fleet: Fleet, name: str, *, blue: float = 0.01) -> None:
    """The device takes the limits that it is told, and answers frames by them."""
    point, package = point_told(hub, name), fleet.runs[name]
    rules = ruled(hub.points.package("stock", package).manifest, LIMITS)
    fleet.told(name, package, operating_point=point)
    events = []
    for number in range(FRAMES):
        moment = hub.clock.now() + timedelta(milliseconds=number)
        digest = digest_of(f"{name} {number}".encode())
        ref = FrameRef(
            id=frame_id(camera="rack", captured_at=moment, digest=digest), camera="rack",
            captured_at=moment, digest=digest,
        )  # fmt: skip
        said = answered(ref, (), package=package)
        first, *others = said.labels
        said = replace(
            said, device=name, operating_point=point,
            labels=(replace(first, probability=blue), *others),
        )  # fmt: skip
        events.append(
            prediction_event(
                decide_again(said, rules), site="hall", device=name, sequence=number + 1, first=1
            )
        )
    hub.ledger.record(events)


def test_limits_alone_go_to_the_canary_then_to_all_and_come_into_force_for_the_site(
    trusted: Services, fleet: Fleet, package: str
) -> None:
    number = limits_in_waves(trusted, package)
    assert trusted.points.in_force("stock", package) is None
    assert {point_told(trusted, name) for name in NAMES} == {""}
    browser = approver(trusted)
    assert "Plan its rollout" in browser.get("/inspections/stock/operating-point").text
    plan_page = browser.get("/rollouts/new?version=limits/stock/1").text
    assert '<option value="limits/stock/1" selected>' in plan_page
    body = {"inspection": "stock", "version": number, "plan": {}, "reason": "fewer reviews"}
    assert "edge-1" in browser.post("/rollouts/preview", data={"body": json.dumps(body)}).text
    assert browser.post("/api/v1/rollouts", json=body | {"inspection": ""}).status_code == 400
    package_of_group = browser.post("/api/v1/rollouts", json=body | {"group": "discs"})
    assert (package_of_group.status_code, trusted.rollouts.all()) == (404, ())
    asked = NewRollout(inspection="stock", version=number, plan=PLAN, reason="fewer reviews")
    rollout = trusted.rollouts.start(asked, by="eve").id
    assert trusted.releases.target_of(trusted.rollouts.one(rollout).release.digest) is not None
    tick(trusted)
    page = browser.get(f"/rollouts/{rollout}").text
    assert "Decided by operating point 1 (blue 0.1 / 0.9)" in page
    assert "Limits of stock, version 1" in page
    assert browser.get(f"/api/v1/rollouts/{rollout}").json()["point"] == number
    assert [bool(point_told(trusted, name)) for name in NAMES] == [True, False, False]
    view = trusted.rollouts.view(rollout)
    assert (view.waits, view.devices[0].status) == ("the job is not over on edge-1", "IN_PROGRESS")
    decide(trusted, fleet, "edge-1")
    tick(trusted, times=3)
    report = trusted.rollouts.view(rollout).devices[0].report
    assert report is not None
    assert (report.evidence.frames, report.evidence.changed) == (FRAMES, 0)
    for name in NAMES[1:]:
        decide(trusted, fleet, name)
    tick(trusted, times=4)
    assert state(trusted, rollout) is RolloutState.DONE
    found = trusted.points.in_force("stock", package)
    assert found is not None
    assert (found.number, found.waves) == (number, False)
    assert fleet.taken == []  # no job was made
    with pytest.raises(ConflictError, match="in force for all devices"):
        trusted.rollouts.start(asked, by="eve")
    order(trusted, rollout, RolloutOrder.ROLLBACK)
    tick(trusted, times=2)
    back = trusted.points.in_force("stock", package)
    assert back is not None
    assert back.number == number + 1
    assert back.limits == own_limits(trusted.points.package("stock", package).manifest)
    for name in NAMES:
        fleet.told(name, package, operating_point=point_told(trusted, name))
    tick(trusted, times=2)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK


def test_limits_that_change_too_much_are_taken_back_from_the_canary(
    trusted: Services, fleet: Fleet, package: str
) -> None:
    plain = PointProposal(limits=LIMITS, reason="reviews", package=package)
    earlier = trusted.points.propose("stock", plain, by="ada").number
    number = limits_in_waves(trusted, package)
    with pytest.raises(ConflictError, match="on its way"):
        trusted.points.approve("stock", earlier, by="eve", reason="late")
    asked = NewRollout(inspection="stock", version=number, plan=PLAN, reason="fewer reviews")
    rollout = trusted.rollouts.start(asked, by="eve").id
    tick(trusted)
    decide(trusted, fleet, "edge-1", blue=0.8)
    tick(trusted, times=4)
    assert state(trusted, rollout) is RolloutState.GOING_BACK
    assert trusted.desired.of("edge-1").of("stock").point == 0
    assert len({point_told(trusted, name) for name in NAMES}) == 1
    decide(trusted, fleet, "edge-1")
    tick(trusted, times=2)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK


@pytest.mark.parametrize(
    ("digest", "fault", "status"),
    [
        ("sha256:" + "9" * 64, "", "REJECTED"),
        ("", "operating point of stock: it does not fit", "FAILED"),
    ],
)
def test_devices_that_cannot_decide_by_limits_stop_their_rollout(
    trusted: Services, fleet: Fleet, package: str, clock: FakeClock, digest: str, fault: str,
    status: str,
) -> None:  # fmt: skip
    rollout = begun(trusted, limits_in_waves(trusted, package), plan=at_once("edge-1"))
    fleet.faults = [fault]
    fleet.told("edge-1", digest or package, operating_point="")
    tick(trusted)
    if fault:
        assert state(trusted, rollout) is RolloutState.RUNNING
        clock.advance(120)
        fleet.told("edge-1", digest or package, operating_point="")
        tick(trusted)
    view = trusted.rollouts.view(rollout)
    assert (view.devices[0].status, view.rollout.state) == (status, RolloutState.ABORTED)


def test_limits_that_a_device_refuses_stop_their_rollout_at_once(
    trusted: Services, fleet: Fleet, package: str
) -> None:
    rollout = begun(trusted, limits_in_waves(trusted, package), plan=at_once("edge-1"))
    refused = point_told(trusted, "edge-1")
    fleet.told("edge-1", package, operating_point="", refused_point="sha256:" + "9" * 64)
    tick(trusted)
    assert state(trusted, rollout) is RolloutState.RUNNING
    fleet.told("edge-1", package, operating_point="", refused_point=refused)
    tick(trusted)
    view = trusted.rollouts.view(rollout)
    assert (view.devices[0].status, view.rollout.state) == ("FAILED", RolloutState.ABORTED)


def test_a_passing_fault_of_a_device_and_its_restart_are_waited_for(
    trusted: Services, fleet: Fleet, package: str, clock: FakeClock
) -> None:
    rollout = begun(trusted, limits_in_waves(trusted, package), plan=at_once("edge-1"))
    for faults in (
        ["operating point of stock: the hub is away"],
        [],
        ["operating point of stock: ?"],
    ):
        fleet.faults = faults
        fleet.told("edge-1", package, operating_point="")
        tick(trusted)
        clock.advance(100)
    fleet.faults = []
    fleet.told("edge-1", "")
    tick(trusted)
    assert trusted.rollouts.view(rollout).devices[0].status == "IN_PROGRESS"
    fleet.told("edge-1", package, operating_point="")
    decide(trusted, fleet, "edge-1")
    tick(trusted, times=3)
    assert state(trusted, rollout) is RolloutState.DONE


def test_limits_go_back_although_further_ones_wait_for_their_waves(
    trusted: Services, fleet: Fleet, package: str
) -> None:
    rollout = begun(trusted, limits_in_waves(trusted, package))
    waits = begun(trusted, limits_in_waves(trusted, package))
    decide(trusted, fleet, "edge-1", blue=0.8)
    tick(trusted, times=4)
    fleet.told("edge-1", package, operating_point=point_told(trusted, "edge-1"))
    tick(trusted, times=2)
    assert state(trusted, rollout) is RolloutState.ROLLED_BACK
    found = trusted.points.in_force("stock", package)
    assert found is not None
    assert found.limits == own_limits(trusted.points.package("stock", package).manifest)
    assert ended(trusted, waits) == (RolloutState.ABORTED, "version 3 is in force by now")


@pytest.mark.parametrize("what", [None, RolloutOrder.PAUSE])
@pytest.mark.usefixtures("fleet")
def test_limits_that_a_later_version_overtook_end(
    trusted: Services, package: str, what: RolloutOrder | None
) -> None:
    rollouts = [begun(trusted, limits_in_waves(trusted, package)) for _ in range(2)]
    if what is not None:
        order(trusted, rollouts[0], what)
    plain = PointProposal(limits=LIMITS, reason="reviews", package=package)
    later = trusted.points.propose("stock", plain, by="ada").number
    trusted.points.approve("stock", later, by="eve", reason="for all")
    tick(trusted)
    for rollout in rollouts:
        assert ended(trusted, rollout) == (RolloutState.ABORTED, "version 3 is in force by now")
    assert trusted.rollouts.repository.open() == []


@pytest.mark.parametrize("what", [RolloutOrder.PAUSE, RolloutOrder.ABORT])
def test_devices_that_have_not_taken_limits_stay_with_those_before(
    trusted: Services, fleet: Fleet, package: str, what: RolloutOrder
) -> None:
    number = limits_in_waves(trusted, package)
    rollout = begun(trusted, number, plan=at_once("edge-1", "edge-2"))
    fleet.told("edge-1", package, operating_point=point_told(trusted, "edge-1"))
    order(trusted, rollout, what)
    tick(trusted)
    assert [bool(point_told(trusted, name)) for name in NAMES] == [True, False, False]
    if what is RolloutOrder.PAUSE:
        order(trusted, rollout, RolloutOrder.RESUME)
        tick(trusted)
        assert point_told(trusted, "edge-2") == point_told(trusted, "edge-1")


def test_limits_of_one_group_alone_keep_others_from_their_waves(
    trusted: Services, fleet: Fleet, package: str
) -> None:
    number = limits_in_waves(trusted, package)
    rollout = begun(trusted, number, plan=at_once("edge-1"))
    further = limits_in_waves(trusted, package)
    waits = begun(trusted, further)
    decide(trusted, fleet, "edge-1")
    tick(trusted, times=3)
    assert state(trusted, rollout) is RolloutState.DONE
    why = "version 1 is in force for edge-1 alone"
    assert ended(trusted, waits) == (RolloutState.ABORTED, why)
    with pytest.raises(ConflictError, match=why):
        begun(trusted, further)
    assert state(trusted, begun(trusted, number)) is RolloutState.RUNNING


@pytest.mark.parametrize(
    ("gone", "why"), [("package", "no package sha256:"), ("inspection", "no inspection 'stock'")]
)
def test_limits_whose_inspection_or_package_is_gone_end(
    trusted: Services, fleet: Fleet, package: str, gone: str, why: str
) -> None:
    rollout = begun(trusted, limits_in_waves(trusted, package))
    decide(trusted, fleet, "edge-1")
    if gone == "package":
        trusted.records.documents.delete(PACKAGE_KIND, package)
    else:
        trusted.plant.become(replace(trusted.plant, inspection=()))
    tick(trusted)
    found = ended(trusted, rollout)
    assert found[0] is RolloutState.ABORTED
    assert found[1].startswith(why)
    order(trusted, rollout, RolloutOrder.ROLLBACK)
    assert ended(trusted, rollout) == found


class ContendedDocuments:
    """Documents of which another hub writes one just before each of the first writes."""

    def __init__(self, documents: Documents, *, writes: int) -> None:
        self.documents, self.writes = documents, writes

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  of the documents
        return getattr(self.documents, name)

    def put(self, kind: str, doc_id: str, **given: Any) -> Document:  # noqa: ANN401  handed on
        if self.writes:
            self.writes -= 1
            self.documents.put(kind, doc_id, body=self.documents.get(kind, doc_id).body)
        return self.documents.put(kind, doc_id, **given)


@pytest.mark.parametrize("writes", [10, 1000])
def test_evidence_that_other_hubs_write_too_is_kept_or_comes_again(
    trusted: Services, fleet: Fleet, package: str, writes: int
) -> None:
    rollout, book = begun(trusted, limits_in_waves(trusted, package)), trusted.rollouts.repository
    document = {"digest": book.one(rollout).release.digest, "rollout": rollout}
    fleet.report("edge-1", document, frames=10)
    book._documents = ContendedDocuments(book._documents, writes=writes)
    is_kept = writes == 10
    with nullcontext() if is_kept else pytest.raises(UnavailableError, match="others keep writing"):
        fleet.report("edge-1", document, frames=30)
    frames = [one.evidence.frames for one in book.reports(rollout)]
    assert (frames, book.refused) == ([30 if is_kept else 10], 0)
