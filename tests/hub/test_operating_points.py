"""Operating points at the hub: proposed, approved by another person, told to devices, undone."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.compat.aws.sagemaker_runtime import endpoint_score, label_cuts
from lineside.core import ConflictError, Json, RefusedError, digest_of
from lineside.core.codec import decode
from lineside.hub import Services
from lineside.hub.inference.endpoints import predict_endpoint
from lineside.links import Bus
from lineside.models import Package, Status, build_package
from lineside.models.operating_point import OperatingPoint, PointVersion, version_in_force
from lineside.store import FrameRow
from lineside.streams import prediction_event, read_prediction
from lineside.streams.verdicts import LineVerdicts
from lineside.vision import CountRule, DetectRule, FrameRef
from lineside.vision.decide import decide_probabilities
from tests.hub.conftest import Line, another_hub, answered, use_package
from tests.hub.replayed import laid_out_otherwise

PLACE = "/api/v1/operating-points/stock"
WIDE = [{"name": "blue", "low": 0.0, "high": 1.0}]


@pytest.fixture
def used(trusted: Services, archive: bytes) -> str:
    """A package in use, whose report has held-out scores."""
    package = Package.read(archive)
    rows = [
        {"cut": cut, "escapes": lost, "over_rejects": extra, "cost": 0.0}
        for cut, lost, extra in ((0.0, 0, 4), (0.3, 0, 2), (0.5, 1, 1), (0.8, 2, 0), (1.0, 4, 0))
    ]
    report = json.dumps({"limits": {"blue": rows}}).encode()
    data = build_package(package.manifest, {**package.files, "evidence/report.json": report})
    return use_package(trusted, data)


def frame_ref(row: FrameRow) -> FrameRef:
    return FrameRef(
        id=row.id, camera=row.camera, captured_at=row.captured_at, digest=row.digest
    )  # fmt: skip


def propose(ada: TestClient, limits: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    answer = ada.post(f"{PLACE}/versions", json={"limits": limits or WIDE, "reason": "doubt"})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def follow(hub: Services) -> None:
    hub.points.follow(hub.records.log.read(type="lineside.operating_point.v1"))


def told(hub: Services, device: str = "edge-1") -> dict[str, Any]:
    body = json.loads(hub.desired.payload(device, hub.desired.of(device)))
    return dict(body["packages"][0])


def reports(line: Line, package: str, *, point: str | None = "") -> None:
    entry: dict[str, Json] = {"inspection": "stock", "digest": package, "loaded_at": ""}
    line.send(line.status(packages=[entry | ({} if point is None else {"operating_point": point})]))


def test_another_person_approves_and_every_step_is_an_event(
    used: str, ada: TestClient, eve: TestClient, trusted: Services
) -> None:
    made = propose(ada)
    assert (made["number"], made["status"], made["package"]) == (1, "PendingManualApproval", used)
    assert eve.post(f"{PLACE}/versions", json={"limits": WIDE, "reason": "x"}).status_code == 403
    assert ada.post(f"{PLACE}/versions/1/approve", json={"reason": "x"}).status_code == 403
    assert ada.get(f"{PLACE}/versions/1/content").status_code == 404
    assert eve.post(f"{PLACE}/versions/1/approve", json={"reason": " "}).status_code == 400
    assert eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"}).status_code == 200
    assert eve.post(f"{PLACE}/versions/1/reject", json={"reason": "late"}).status_code == 409
    content = ada.get(f"{PLACE}/versions/1/content")
    point = decode(OperatingPoint, content.content, where="content")
    assert (point.by, point.approved_by, point.version) == ("ada", "eve", 1)
    events = [one.event["data"] for one in trusted.events.page(kind="lineside.operating_point.v1")]
    assert [one["action"] for one in events] == ["proposed", "approved"]
    assert events[-1]["digest"] == point.digest == digest_of(content.content)
    assert len(ada.get(f"{PLACE}/versions").json()["items"]) == 1
    assert ada.get("/api/v1/operating-points/none/versions").status_code == 400


def test_the_limit_of_a_count_says_how_many_parts_are_counted_wrongly(
    trusted: Services, ada: TestClient, archive: bytes
) -> None:
    package = Package.read(archive)
    manifest = replace(
        package.manifest, task="count", rules=(), labels=("disc",),
        detect=DetectRule(labels=("disc",), stride_px=8, cut=0.5, unsure_below=0.6),
        count=CountRule(most=9, reach=1.0, error_rate=0.1, calibration_pictures=40),
    )  # fmt: skip
    rows = [
        {"cut": cut, "escapes": low, "over_rejects": high, "cost": 0.0}
        for cut, low, high in ((0.0, 0, 20), (0.3, 1, 4), (0.5, 2, 1), (0.8, 6, 0), (1.0, 20, 0))
    ]
    report = json.dumps({"limits": {"objects": rows}}).encode()
    files = {name: one for name, one in package.files.items() if name != "manifest.json"}
    data = build_package(manifest, {**files, "evidence/report.json": report})
    use_package(trusted, data)
    limits = [{"name": "objects", "low": 0.8, "high": 0.8}]
    (unseen,) = ada.post(f"{PLACE}/preview", json={"limits": limits}).json()["unseen"]
    assert (unseen["before"]["escapes"], unseen["before"]["false_rejects"]) == (2, 1)
    assert (unseen["cost_before"], unseen["cost_after"]) == (150.0, 300.0)
    assert unseen["cheapest"] == {"name": "objects", "low": 0.5, "high": 0.5}
    page = ada.get("/inspections/stock/operating-point").text
    for text in ("are counted too low", "Counted above", "Few parts", "Were all 20 parts of one"):
        assert text in page
    assert "Cost of a good part rejected" not in page


def test_the_proposer_is_refused_whatever_the_role(used: str, trusted: Services) -> None:
    from lineside.hub.models.operating_points import PointProposal
    from lineside.models.operating_point import Limits

    proposal = PointProposal(limits=(Limits(name="blue", low=0.1, high=0.2),), reason="x")
    assert trusted.points.propose("stock", proposal, by="Ada").package == used
    with pytest.raises(RefusedError, match="you can't approve your own version"):
        trusted.points.approve("stock", 1, by=" ada", reason="mine")


def test_frame_page_trail_and_verdict_name_what_decided(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, line: Line,
    jpeg: Callable[..., bytes],
) -> None:  # fmt: skip
    propose(ada)
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    point = trusted.points.one("stock", 1).point
    assert point is not None
    line.send(line.camera(jpeg("blue")), line.status())
    frame = trusted.frames.page(camera="rack", limit=1)[0]
    said = answered(frame_ref(frame), ("blue",), package=used)
    event = prediction_event(
        replace(said, device="edge-1", operating_point=point.digest), site="hall",
        device="edge-1", sequence=1, first=1,
    )  # fmt: skip
    answer = LineVerdicts(trusted.plant, "warehouse").judge(read_prediction(event), event=event.id)
    assert answer.operating_point_digest == point.digest
    trusted.ledger.record([event])
    steps = trusted.tracer.trace(frame.id).steps
    assert [one.text for one in steps if one.kind == "limits"] == [point.words]
    assert "approved by eve: doubt" in point.words
    ada.event_hooks["response"] = []
    page = ada.get(f"/frames/{frame.id}", headers={"accept": "text/html"}).text
    assert "decided by operating point 1 (blue 0 / 1)" in page
    assert "/inspections/stock/operating-point" in page
    assert trusted.points.decided_by(said) is None


@pytest.mark.usefixtures("used")
def test_limits_that_the_package_cannot_decide_by_are_refused_with_each_fault(
    ada: TestClient,
) -> None:
    limits = [{"name": "pink", "low": 0.9, "high": 1.5}]
    answer = ada.post(f"{PLACE}/versions", json={"limits": limits, "reason": "x"})
    assert answer.status_code == 400
    faults = {one["path"]: one["expected"] for one in answer.json()["faults"]}
    assert faults == {
        "$.limits[0].name": "one of blue, red, white", "$.limits[0].high": "a number from 0 to 1",
    }  # fmt: skip


def test_devices_that_read_points_are_told_and_it_is_signed(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, line: Line
) -> None:
    reports(line, used, point=None)
    propose(ada)
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    follow(trusted)
    assert "operating_point" not in told(trusted)
    reports(line, used)
    wanted = told(trusted)["operating_point"]
    target = trusted.releases.target_of(wanted["digest"])
    assert target is not None
    assert target.custom["inspection"] == "stock"
    assert (
        trusted.releases.archive(target.path)[1] == eve.get(f"{PLACE}/versions/1/content").content
    )
    assert wanted["url"].endswith(f"{PLACE}/versions/1/content")
    follow(trusted)  # twice is once
    assert told(trusted)["operating_point"] == wanted


def test_going_back_makes_a_new_version_and_an_older_one_is_not_approved_any_more(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services
) -> None:
    for high in (0.5, 0.6, 0.7):
        propose(ada, [{"name": "blue", "low": 0.1, "high": high}])
    for number in (1, 3):
        eve.post(f"{PLACE}/versions/{number}/approve", json={"reason": "ok"})
    late = eve.post(f"{PLACE}/versions/2/approve", json={"reason": "ok"})
    assert (late.status_code, late.json()["detail"]) == (409, "version 3 is in force by now")
    assert eve.post(f"{PLACE}/versions/2/reject", json={"reason": "no"}).status_code == 200
    assert eve.post(f"{PLACE}/versions/2/rollback", json={"reason": "no"}).status_code == 409
    assert ada.post(f"{PLACE}/versions/1/rollback", json={"reason": "x"}).status_code == 403
    back = eve.post(f"{PLACE}/versions/1/rollback", json={"reason": "escapes"}).json()
    assert (back["number"], back["rolled_back_to"], back["limits"][0]["high"]) == (4, 1, 0.5)
    in_force = trusted.points.in_force("stock", used)
    assert in_force is not None
    assert in_force.number == 4


def test_a_device_that_says_what_it_reads_is_told_before_it_runs_a_package(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, line: Line, factory: Bus
) -> None:
    propose(ada)
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    follow(trusted)
    trusted.devices.enrol("edge-1")
    trusted.desired.tell("edge-1")
    assert "operating_point" not in told(trusted)
    said = factory.subscribe(("lineside/hall/device/edge-1/desired",))
    assert said.get(timeout_s=1) is not None  # the retained one, of before
    line.send(line.status(reads=["operating_point"]))
    trusted.desired.tick()
    message = said.get(timeout_s=1)
    assert message is not None
    assert json.loads(message.payload)["packages"][0]["operating_point"]["url"]
    line.send(line.status(state="offline", reads=[]))
    assert told(trusted)["operating_point"]
    trusted.devices.flush_all()
    assert told(another_hub(trusted))["operating_point"]
    assert used == told(trusted)["digest"]


def test_a_device_that_refuses_a_point_is_told_ever_more_rarely(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, line: Line, factory: Bus
) -> None:
    reports(line, used)
    propose(ada)
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    follow(trusted)
    trusted.desired.write(["edge-1"], "stock", digest=used, by="eve", reason="x")
    reports(line, used)
    trusted.desired.tick()
    said = factory.subscribe(("lineside/hall/device/edge-1/desired",))
    told_again = []
    for _ in range(40):
        line.wait(10)
        reports(line, used)
        trusted.desired.tick()
        told_again.append(len(said.get_many(most=10, timeout_s=0)))
    assert 3 <= sum(told_again) <= 8
    trusted.desired.write(["edge-1"], "stock", digest=used, by="eve", reason="again")
    assert said.get(timeout_s=1) is not None


def test_of_two_versions_that_are_approved_at_once_the_lower_one_is_refused(
    used: str, ada: TestClient, *, trusted: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(ada)
    propose(ada)
    other, decide = another_hub(trusted), trusted.points._decide

    def late(*arguments: Any, **named: Any) -> PointVersion:  # noqa: ANN401  passed on
        other.points.approve("stock", 2, by="eve", reason="good")
        return decide(*arguments, **named)

    monkeypatch.setattr(trusted.points, "_decide", late)
    with pytest.raises(ConflictError):
        trusted.points.approve("stock", 1, by="eve", reason="good")
    in_force = version_in_force(trusted.records.documents, "stock", used)
    assert in_force is not None
    assert in_force.number == 2
    assert trusted.points.one("stock", 1).status is Status.PENDING
    back = other.points.roll_back("stock", 2, by="eve", reason="again")
    assert back.number == 3


def test_packages_of_elsewhere_and_out_of_use_are_refused_with_a_sentence(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, archive: bytes
) -> None:
    package = Package.read(archive)
    other = laid_out_otherwise(package.manifest, inspection="other")
    files = {
        name: data for name, data in package.files.items()
        if name not in ("manifest.json", "digests.json")
    }  # fmt: skip
    foreign = trusted.packages.add(build_package(other, files), by="ada").digest
    for path, body in (
        ("versions", {"limits": WIDE, "reason": "x", "package": foreign}),
        ("preview", {"limits": WIDE, "package": foreign}),
    ):
        answer = ada.post(f"{PLACE}/{path}", json=body)
        assert answer.status_code == 403
        assert "the package is made for inspection 'other'" in answer.text
    propose(ada)
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    newer = trusted.packages.add(archive, by="ada").digest
    assert newer != used
    trusted.packages.use(newer, inspection="stock", by="eve", reason="better")
    back = eve.post(f"{PLACE}/versions/1/rollback", json={"reason": "escapes"})
    assert back.status_code == 409
    assert "is for a package that is not in use" in back.text


def test_scores_of_an_endpoint_rise_with_the_probability_under_a_point(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, jpeg: Callable[..., bytes]
) -> None:
    found = predict_endpoint(
        trusted.packages, trusted.plant, endpoint="stock", picture=jpeg("blue")
    )
    assert found.manifest == trusted.packages.predictor(used).manifest
    propose(ada, [{"name": "blue", "low": 0.3, "high": 0.4}])
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    found = predict_endpoint(
        trusted.packages, trusted.plant, endpoint="stock", picture=jpeg("blue")
    )
    assert label_cuts(found.manifest)["blue"] == (0.3, 0.4)
    low, high = label_cuts(found.manifest)["blue"]
    (rule,) = [one for one in found.manifest.rules if one.name == "blue"]
    chances = np.linspace(rule.floor, 1 - rule.floor, 50)
    policy = found.manifest.policy
    rows = [decide_probabilities(np.array([one]), (rule,), policy=policy)[0] for one in chances]
    scores = [endpoint_score(one, low=low, high=high, threshold=0.85) for one in rows]
    assert all(one < other for one, other in pairwise(scores))


def test_a_preview_adds_up_and_writes_nothing(
    used: str, ada: TestClient, *, trusted: Services, line: Line
) -> None:
    line.send(line.status())
    for number in range(3):
        line.send(line.prediction("blue" if number else "red", package=used))
        line.wait(1)
    asked = {"limits": [{"name": "blue", "low": 0.3, "high": 0.8}], "bad_share": 0.1}
    found = ada.post(f"{PLACE}/preview", json=asked).json()
    (blue,) = found["unseen"]
    assert (blue["after"]["bad"], blue["after"]["good"]) == (4, 4)
    assert (blue["after"]["escapes"], blue["after"]["bad_review"]) == (0, 2)
    assert (blue["after"]["false_rejects"], blue["after"]["good_review"]) == (0, 2)
    assert blue["cost_cheapest"] <= min(blue["cost_after"], blue["cost_before"])
    recorded = found["recorded"]
    assert sum(one["count"] for one in recorded["changes"]) == recorded["changed"]
    assert sum(recorded["after"].values()) == recorded["frames"] == 3
    assert not trusted.events.page(kind="lineside.operating_point.v1")


def test_the_hub_decides_by_it_too(
    used: str, ada: TestClient, eve: TestClient, *, trusted: Services, jpeg: Callable[..., bytes]
) -> None:
    before = trusted.packages.try_picture(used, jpeg("blue")).prediction
    propose(ada)
    eve.post(f"{PLACE}/versions/1/approve", json={"reason": "saw it"})
    after = trusted.packages.try_picture(used, jpeg("blue")).prediction
    decisions = {one.name: (one.decision, then.decision) for one, then in
                 zip(before.labels, after.labels, strict=True)}  # fmt: skip
    assert decisions["blue"] == ("present", "unsure")
    point = trusted.points.one("stock", 1).point
    assert point is not None
    assert (before.operating_point, after.operating_point) == ("", point.digest)


def test_the_page_shows_the_effect_and_who_may_approve(
    used: str, browser: TestClient, ada: TestClient, eve: TestClient
) -> None:
    propose(ada)
    ada.headers["accept"] = eve.headers["accept"] = "text/html"
    ada.event_hooks["response"] = eve.event_hooks["response"] = []
    exact = {"name": "blue", "low": "0", "high": "0.062137549182698294"}
    page = ada.get("/inspections/stock/operating-point", params=exact).text
    for text in (
        "Requires the role approver or admin", "Of 100 parts with blue about", used,
        'value="0.06214" data-shown="0.06214" data-exact="0.062137549182698294"',
    ):  # fmt: skip
        assert text in page
    assert "/versions/1/approve" in eve.get("/inspections/stock/operating-point").text
    part = browser.get(
        "/inspections/stock/operating-point/preview",
        params={"name": "blue", "low": "0.3", "high": "0.8"},
    )
    assert "No recorded frame was answered by this package yet." in part.text
    limits = [{"name": "blue", "low": 0.1, "high": 0.4}]
    (found,) = ada.post(f"{PLACE}/preview", json={"limits": limits}).json()["unseen"]
    after = found["after"]
    shares = (after["good_review"] / after["good"], after["bad_review"] / after["bad"])
    assert shares[0] != shares[1]
    for percent, share in (("0", shares[0]), ("100", shares[1])):  # of the line, not of the test
        form = {"name": "blue", "low": "0.1", "high": "0.4", "bad_percent": percent}
        text = browser.get("/inspections/stock/operating-point/preview", params=form).text
        assert f"{100 * share:.0f} with these limits" in text
    wrong = {"name": "blue", "low": "0.9", "high": "0.8"}
    for place in ("stock/operating-point/preview", "none/operating-point"):
        assert browser.get(f"/inspections/{place}", params=wrong).status_code == 400
