"""Versions of models at the hub: registered, decided about by another person, followed."""

from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import InvalidError, RefusedError, encode
from lineside.fleet import Release
from lineside.hub import HubConfig, Role, Services, create_app
from lineside.hub.models.model_service import ModelService
from lineside.models import ModelVersion, Package, build_package
from lineside.store import Logged
from lineside.testing import FakeClock

V1 = "/api/v1/models/discs/versions"


@pytest.fixture
def digest(hub: Services, archive: bytes) -> str:
    return hub.packages.add(archive, by="ada").digest


@pytest.fixture
def version(ada: TestClient, digest: str) -> dict[str, Any]:
    answer = ada.post(V1, json={"package": digest, "evidence": {"latency_ms": "5.1 on edge-1"}})
    assert answer.status_code == 201
    told: dict[str, Any] = answer.json()
    return told


def test_a_package_becomes_a_version_that_waits(
    version: dict[str, Any], ada: TestClient, digest: str, hub: Services
) -> None:
    assert (version["number"], version["status"]) == (1, "PendingManualApproval")
    assert ada.post(V1, json={"package": digest}).json()["number"] == 1
    listed = ada.get("/api/v1/models").json()["items"]
    assert [(one["name"], one["waiting"], one["approved"]) for one in listed] == [
        ("discs", 1, None)
    ]
    events = hub.events.page(kind="lineside.model.v1")
    assert [one.event["data"]["action"] for one in events] == ["registered"]
    assert ada.get(V1 + "/9").status_code == 404
    assert ada.get("/api/v1/models/none").status_code == 404
    assert ada.post(V1, json={"package": "sha256:" + "0" * 64}).status_code == 404
    assert ada.post("/api/v1/models/a--b/versions", json={"package": digest}).status_code == 400


def test_another_person_approves_with_a_reason_and_it_is_an_event(
    version: dict[str, Any], eve: TestClient, ada: TestClient, hub: Services
) -> None:
    assert ada.post(V1 + "/1/approve", json={"reason": "mine"}).status_code == 403
    assert eve.post(V1 + "/1/approve", json={"reason": " "}).status_code == 400
    answer = eve.post(V1 + "/1/approve", json={"reason": "fewer escapes"})
    assert answer.json()["status"] == "Approved"
    assert hub.models.latest_approved("discs").number == version["number"]
    event = hub.events.page(kind="lineside.model.v1")[-1].event
    assert event["subject"] == "discs"
    assert event["data"] == {
        "group": "discs", "action": "approved", "version": 1, "digest": version["digest"],
        "by": "eve", "reason": "fewer escapes", "own": False,
    }  # fmt: skip
    assert eve.post(V1 + "/1/reject", json={"reason": "after all"}).json()["status"] == "Rejected"
    assert len(hub.events.page(kind="lineside.model.v1")) == 3


def test_the_maker_is_refused_whatever_the_role(
    version: dict[str, Any], people: Callable[..., TestClient], hub: Services
) -> None:
    assert version["registered_by"] == "ada"
    answer = people(Role.ADMIN, "Ada").post(V1 + "/1/approve", json={"reason": "mine"})
    assert answer.status_code == 403
    assert "you can't approve your own version" in answer.json()["detail"]
    assert hub.models.one("discs", 1).verdicts == ()
    assert len(hub.events.page(kind="lineside.model.v1")) == 1


def models_of(hub: Services, config: HubConfig) -> ModelService:
    return ModelService(
        hub.records, hub.blobs, journal=hub.ledger, plant=hub.plant, config=config, clock=hub.clock
    )


def test_a_site_of_one_person_may_lift_it_and_says_so(
    version: dict[str, Any], hub: Services, config: HubConfig
) -> None:
    alone = models_of(hub, replace(config, single_person=True))
    decided = alone.approve("discs", version["number"], by="ada", reason="nobody else is here")
    assert decided.verdicts[-1].own
    assert hub.events.page(kind="lineside.model.v1")[-1].event["data"]["own"] is True
    with TestClient(create_app(hub), base_url="http://127.0.0.1") as client:
        client.get("/sign-in", params={"token": hub.auth.issue_link(name="zoe")})
        assert "by its own maker" in client.get("/models/groups/discs/1").text


def test_a_version_that_nobody_approved_is_not_taken_into_use(
    version: dict[str, Any], eve: TestClient, digest: str, hub: Services
) -> None:
    use = f"/api/v1/packages/{digest}/use"
    wished = {"inspection": "stock", "reason": "now"}
    answer = eve.post(use, json=wished)
    assert answer.status_code == 403
    assert "discs/1, which is PendingManualApproval" in answer.json()["detail"]
    eve.post(V1 + f"/{version['number']}/approve", json={"reason": "good"})
    assert eve.post(use, json=wished).status_code == 200
    assert "in use for stock" in eve.get("/models/groups/discs/1").text
    assert hub.packages.in_use("stock") == digest


SETTINGS = {
    "deploy_on_approval": True,
    "device_group": "hall-2",
    "windows": [{"days": ["sat"], "begins": "22:00", "ends": "04:00"}],
}


def test_settings_are_those_who_releases_sets(
    version: dict[str, Any], eve: TestClient, ada: TestClient, hub: Services, clock: FakeClock
) -> None:
    assert version
    address = "/api/v1/models/discs/settings"
    assert ada.post(address, json=SETTINGS).status_code == 403
    told = eve.post(address, json=SETTINGS).json()
    assert told["settings"] == SETTINGS
    assert told["open_now"] is False
    assert told["opens_at"] == "2026-01-03T22:00:00Z"
    assert ada.get(address).json() == SETTINGS
    clock.advance(60 * 3600)
    assert ada.get("/api/v1/models/discs").json()["open_now"] is True
    assert hub.events.page(kind="lineside.model.v1")[-1].event["data"]["device_group"] == "hall-2"
    for wrong in (
        {**SETTINGS, "device_group": ""},
        {"windows": [{"begins": "25:00", "ends": "04:00"}]},
        {"windows": [{"days": ["someday"], "begins": "22:00", "ends": "04:00"}]},
        {"unknown": 1},
    ):
        assert eve.post(address, json=wrong).status_code == 400, wrong
    assert eve.post("/api/v1/models/none/settings", json=SETTINGS).status_code == 404


def approvals(hub: Services) -> list[Logged]:
    return list(hub.records.log.read(type="lineside.model.v1"))


def test_listeners_are_told_of_approvals_with_what_is_released(
    version: dict[str, Any], hub: Services, eve: TestClient
) -> None:
    heard: list[tuple[ModelVersion, str]] = []
    gone: list[Release] = []
    hub.models.on_approved(lambda version, by: heard.append((version, by)))
    hub.models.on_rejected(gone.append)
    hub.models.follow(approvals(hub))
    assert heard == []
    eve.post("/api/v1/models/discs/settings", json=SETTINGS)
    eve.post(V1 + "/1/approve", json={"reason": "good"})
    hub.models.follow(approvals(hub))
    approved, by = heard[0]
    assert (approved.number, by, hub.models.settings("discs").device_group) == (1, "eve", "hall-2")
    release = hub.models.release(approved)
    assert release.target.startswith("packages/discs/1/")
    assert release.digest == version["digest"]
    assert release.size_bytes == len(hub.packages.content(version["digest"]))
    eve.post(V1 + "/1/reject", json={"reason": "after all"})
    hub.models.follow(approvals(hub))
    assert len(heard) == 1
    assert gone == [release]
    with pytest.raises(RefusedError, match="is not approved"):
        hub.models.release(hub.models.one("discs", 1))


def test_evidence_stands_beside_what_is_in_use(
    hub: Services, ada: TestClient, eve: TestClient, archive: bytes, digest: str
) -> None:
    eve.post(f"/api/v1/packages/{digest}/use", json={"inspection": "stock", "reason": "first"})
    package = Package.read(archive)
    report = {
        "reliability": {
            "blue": [{"low": 0.8, "high": 0.9, "said": 0.85, "came_true": 0.8, "n": 40}]
        },
        "leaking": 2,
        "leaks_by": "similar pictures",
    }
    manifest = replace(
        package.manifest, name="better",
        lineage=replace(package.manifest.lineage, data_licence="<script>alert(1)</script>"),
    )  # fmt: skip
    files = {**package.files, "evidence/report.json": encode(report)}
    files.pop("manifest.json", None)
    files.pop("digests.json", None)
    other = hub.packages.add(build_package(manifest, files), by="ada").digest
    changes = {"better": [{"picture": "frm_1", "before": "absent", "after": "present"}]}
    body = {
        "package": other,
        "evidence": {"latency_ms": "5.1 on edge-1", "run": "run_1"},
        **changes,
    }
    assert ada.post(V1, json=body).status_code == 201
    told = ada.get(V1 + "/1/report", params={"format": "json"}).json()
    assert told["in_use"]["digest"] == digest
    assert told["leaking"] == 2
    assert told["calibration"]["blue"][0]["n"] == 40
    assert told["speed"] == {"latency_ms": "5.1 on edge-1"}
    assert told["changes"]["better"][0]["picture"] == "frm_1"
    assert told["lineage"]["Run"] == "run_1"
    answer = ada.get(V1 + "/1/report")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
    for words in ("pairs stand on both sides", "5.1 on edge-1", "Better than in use: 1"):
        assert words in answer.text
    page = ada.get("/models/groups/discs/1").text
    assert "pairs stand on both sides" in page
    assert "/frames/frm_1" in page


@pytest.mark.parametrize(
    "report", [b"", b"[]", b'{"reliability": 5, "leaking": "x", "leaks_by": 3}', b"\xff"]
)
def test_a_report_that_cannot_be_read_is_as_good_as_none(archive: bytes, report: bytes) -> None:
    from lineside.hub.models.evidence import _calibration, _leaking, _report

    package = Package.read(archive)
    odd = replace(package, files={**package.files, "evidence/report.json": report})
    found = _report(odd)
    assert _calibration(found) == {}
    assert _leaking(found) is None


@pytest.mark.parametrize(
    ("name", "role", "words"),
    [
        ("vic", Role.VIEWER, "Requires the role approver or admin."),
        ("ada", Role.ADMIN, "You can't approve your own version."),
        ("eve", Role.APPROVER, ""),
    ],
)
def test_who_may_not_approve_sees_why(
    version: dict[str, Any], people: Callable[..., TestClient], name: str, role: Role,
    words: str,
) -> None:  # fmt: skip
    assert version
    page = people(role, name).get("/models/groups/discs/1").text
    assert (words in unescape(page)) if words else ("data-why-not" not in page)
    assert ("versions/1/approve" in page) == (not words)
    assert ("versions/1/reject" in page) == (role is not Role.VIEWER)
    group = people(role, name).get("/models/groups/discs").text
    assert ("data-settings" in group) == (role is not Role.VIEWER)
    assert 'href="/models/groups/discs"' in people(role, name).get("/models").text


def test_a_version_in_the_making_has_a_page(hub: Services, browser: TestClient) -> None:
    from lineside.models import ModelVersions, Registry
    from lineside.models.versions import Creation

    registry = Registry(hub.records, hub.blobs, clock=hub.clock)
    versions = ModelVersions(hub.records, registry, clock=hub.clock)
    versions.begin("discs", by="ada")
    assert "still to be made" in browser.get("/models/groups/discs/1").text
    versions.move("discs", 1, to=Creation.FAILED, reason="out of memory")
    page = browser.get("/models/groups/discs/1").text
    assert "failed: out of memory" in page
    assert "There is nothing to decide" in page


@pytest.mark.parametrize("zone", ["Nowhere/Town", "../etc/passwd", ""])
def test_a_time_zone_that_is_none_is_refused(config: HubConfig, zone: str) -> None:
    with pytest.raises(InvalidError, match="no time zone"):
        replace(config, time_zone=zone)


def test_windows_are_of_the_sites_clock(
    version: dict[str, Any], hub: Services, config: HubConfig
) -> None:
    from lineside.models import Window
    from lineside.models.versions import GroupSettings

    assert version
    there = models_of(hub, replace(config, time_zone="Asia/Tokyo"))
    window = Window(begins="21:00", ends="22:00")  # 12:00 UTC
    told = there.set_settings("discs", GroupSettings(windows=(window,)), by="eve")
    assert told.open_now
    assert not hub.models.group("discs").open_now
