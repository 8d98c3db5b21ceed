"""Every page by every role: what it offers is what the API would take from that role."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import encode
from lineside.fleet import CertificateAuthority, EnrolledDevice, NewInvitation, RolloutPlan
from lineside.hub import Registration, Role, Services
from lineside.hub.access.permissions import (
    GRANTS,
    RULES,
    Identity,
    Right,
    is_allowed,
    required_right,
)
from lineside.hub.learning.datasets import Teaching
from lineside.hub.learning.labelling import LabelList
from lineside.hub.models.operating_points import PointProposal
from lineside.hub.replay.repository import ReplayOrder
from lineside.hub.rollouts.rollout_service import NewRollout
from lineside.hub.views import RunView
from lineside.models import Package, build_package
from lineside.models.operating_point import Limits
from lineside.streams.alerts import AlertCause, Observation
from tests.hub.pages.test_pages import read

PROGRAMS = (
    "/api/", "/tuf/", "/s3", "/jobs", "/things/", "/v2", "/metrics", "/ws", "/count/", "/endpoint",
)  # fmt: skip
PARTS = (
    "/evidence",
    "/picture", "/thumbnail", "/drawn", "/progress", "/figures", "/panels", "/wall", "/report",
    "/diff", "/rows", "/sums", "/preview", "/nearest",
)  # fmt: skip
# All that people do on pages; counting stands with the bin counter's own tests.
FORMS = (
    "/api/v1/orders", "/api/v1/datasets/{name}/samples", "/try/{digest}",
    "/api/v1/datasets/{name}/samples/{digest}", "/api/v1/datasets/{name}/labels",
    "/api/v1/datasets/{name}/import",
    "/api/v1/datasets/{name}/samples/{digest}/comments",
    "/api/v1/datasets/{name}/freeze", "/api/v1/datasets/{name}/tags",
    "/api/v1/datasets/{name}/split", "/api/v1/runs", "/api/v1/runs/{run}/cancel",
    "/api/v1/runs/{run}/resume", "/api/v1/replays", "/api/v1/replays/{replay}/cancel",
    "/api/v1/models/{group}/versions",
    "/api/v1/models/{group}/versions/{number}/compare",
    "/api/v1/models/{group}/versions/{number}/approve",
    "/api/v1/models/{group}/versions/{number}/reject", "/api/v1/models/{group}/settings",
    "/api/v1/packages/{digest}/use", "/api/v1/packages/{digest}/inspection",
    "/api/v1/rollouts", "/api/v1/rollouts/{rollout}/pause",
    "/api/v1/rollouts/{rollout}/abort", "/api/v1/devices/invitations",
    "/api/v1/local-device/start",
    "/api/v1/devices/{device}/revoke", "/api/v1/devices/{device}/groups", "/events/rules/try",
    "/api/v1/plant", "/api/v1/alerts/{alert}/acknowledge",
)  # fmt: skip
RUN, STOPPED = "run_01J9ZQ00000000000000000001", "run_01J9ZQ00000000000000000002"
DONE = "run_01J9ZQ00000000000000000003"


@pytest.fixture
def furnished(
    hub: Services,
    line: Any,  # noqa: ANN401  the room's Line
    jpeg: Callable[..., bytes],
    archive: bytes,
) -> tuple[str, ...]:
    """A hub on which each form of each page would stand; the addresses of its pages."""
    hub.releases.ensure(keys=hub.config.keys_folder)
    line.send(line.camera(jpeg("blue")), line.status())
    frame = hub.frames.page(camera="rack", limit=1)[0].id
    hub.datasets.teach("rack", Teaching(frames=(frame,), labels=("blue",)), by="ada")
    hub.datasets.freeze("rack", by="ada")
    package = Package.read(archive)
    files = {name: each for name, each in package.files.items() if name != "manifest.json"}
    other = build_package(replace(package.manifest, name="second"), files)
    digests = [hub.packages.add(each, by="ada").digest for each in (archive, other)]
    loose = hub.packages.add(
        build_package(replace(package.manifest, name="loose"), files), by="ada"
    ).digest
    for digest in digests:
        hub.models.register("discs", Registration(package=digest), by="ada")
    approved = hub.models.approve("discs", 1, by="eve", reason="good")
    hub.releases.publish(hub.models.release(approved))
    CertificateAuthority.create(hub.config.ca_folder, site="hall", clock=hub.clock)
    now = hub.clock.now()
    row = EnrolledDevice(
        device="gate-1", lines=("warehouse",), enrolled_at=now, enrolled_by="test", serial="1",
        ends_at=now + timedelta(days=300), key="k",
    )  # fmt: skip
    hub.enrolment.inventory.enrol(row, groups=("hall",))
    hub.enrolment.invite(NewInvitation(device="gate-2"), by="anna")
    told = {
        "schema": "lineside.device/1", "device": "gate-1", "state": "online", "version": "1",
        "at": "2026-01-01T00:00:00.000Z", "spool_depth": 0,
        "packages": [{"inspection": "stock", "digest": digests[0], "loaded_at": ""}],
    }  # fmt: skip
    hub.devices.take_status("gate-1", encode(told))
    hub.devices.flush()
    hub.rollouts.start(
        NewRollout(group="discs", version=1, plan=RolloutPlan(), reason="tried"), by="eve"
    )
    hub.labelling.declare("discs", LabelList(labels=("good", "bad"), task="multilabel"))
    hub.datasets.teach("discs", Teaching(frames=(frame,), judged=False), by="ada")
    hub.datasets.freeze("discs", by="ada")
    hub.runs._put(
        RunView(
            id=DONE, state="done", task="multilabel", dataset="discs", version=1,
            inspection="discs", seed=7, started_at=now, started_by="ada", package=digests[1],
        ),
        pid=0,
    )  # fmt: skip
    for run, state in ((RUN, "running"), (STOPPED, "failed")):
        hub.runs._put(
            RunView(
                id=run, state=state, task="multilabel", dataset="rack", version=1,
                inspection="stock", seed=7, started_at=now, started_by="ada",
            ),
            pid=0,
        )  # fmt: skip
    hub.packages.use(digests[0], inspection="stock", by="eve", reason="good")
    seen = Observation(cause=AlertCause.DRIFT, object="stock", at=now, reason="grey fell")
    hub.alerts.feed([seen])
    limits = (Limits(name="blue", low=0.2, high=0.3),)
    for number in (1, 2):
        hub.points.propose("stock", PointProposal(limits=limits, reason="doubt"), by="ada")
        if number == 1:
            hub.points.approve("stock", number, by="eve", reason="saw it")
    order = ReplayOrder(since=now - timedelta(hours=1), until=now, package=digests[0])
    replay = hub.replays.ask(order, rules="", by="ada").id
    event = hub.events.page(kind="lineside.model.v1", limit=1)[0].id
    rollout = hub.rollouts.all()[0].id
    return (
        "/", "/lines", "/lines/warehouse", "/lines/warehouse/rack", "/twin", f"/frames/{frame}",
        "/frames", "/review", "/pictures", f"/trace/{event}", "/datasets", "/datasets/rack",
        "/datasets/rack/label", "/datasets/rack/versions/1", "/training", f"/training/{RUN}",
        f"/training/{STOPPED}", "/models", "/models/groups/discs", "/models/groups/discs/1",
        "/models/groups/discs/2", f"/models/{digests[0]}", f"/models/{loose}", "/try", "/regions",
        "/count", "/events", "/events/rules", "/events/rules/try", f"/events/{event}",
        "/rejected-messages", "/alerts", "/devices", "/devices/gate-1", "/setup", "/setup/camera",
        "/inspections/stock/operating-point", "/inspections/new", "/inspections/new?question=kind",
        "/inspections/new/rack", "/inspections/new/rack?step=pictures",
        "/inspections/new/discs?step=training", "/inspections/new/discs?step=result",
        "/inspections/new/discs?step=use", "/inspections/new/discs?step=labels",
        "/regions?inspection=discs", "/datasets/discs/label?step=result",
        "/rollouts", "/rollouts/new", f"/rollouts/{rollout}", "/replays",
        f"/replays/{replay}", "/search",
    )  # fmt: skip


def offered(page: str) -> set[str]:
    """Addresses that the forms and buttons of a page would send to."""
    found = read(page)
    sent = {named.get("data-json", "") for _, named in found.tags}
    asked = {named.get("data-asks", "") for _, named in found.tags}
    posted = {one["action"] for one in found.all("form") if one.get("method") == "post"}
    return (sent | asked | posted) - {"", "/sign-out"}


def plain(address: str) -> str:
    """With names for what the person fills in."""
    return address.replace("{", "").replace("}", "")


@pytest.mark.slow
def test_every_page_offers_each_role_what_the_api_takes_from_it(
    people: Callable[[Role], TestClient], furnished: tuple[str, ...]
) -> None:
    everything: set[str] = set()
    for path in furnished:
        pages = {role: people(role).get(path) for role in Role}
        assert {page.status_code for page in pages.values()} == {200}, path
        whole = offered(pages[Role.ADMIN].text)
        everything |= {plain(each) for each in whole}
        for role, page in pages.items():
            who = Identity(name="x", kind="api", role=role)
            may = {one for one in whole if is_allowed(who, method="POST", path=plain(one))}
            assert offered(page.text) == may, (path, role)
    for form in FORMS:
        wanted = re.compile(re.sub(r"\{\w+\}", "[^/]+", form))
        assert any(wanted.fullmatch(one) for one in everything), form


@pytest.mark.slow
def test_who_may_not_is_refused_at_the_address_and_told_on_the_page(
    people: Callable[[Role], TestClient], furnished: tuple[str, ...]
) -> None:
    admin = people(Role.ADMIN)
    addresses = {plain(one) for path in furnished for one in offered(admin.get(path).text)}
    for role in Role:
        client = people(role)
        for address in sorted(addresses):
            right = required_right("POST", address) or Right.ADMINISTER
            if right not in GRANTS[role]:
                assert client.post(address, content=b"no JSON").status_code == 403, (role, address)
    told = people(Role.VIEWER).get("/try").text
    assert "Requires the role operator or engineer or approver or admin." in told


def test_no_page_is_left_out(furnished: tuple[str, ...]) -> None:
    walked = [path.split("/")[1:] for path in furnished]
    for line in RULES[Right.LOOK].split("\n"):
        method, _, path = line.strip().partition(" ")
        if method != "GET" or path.startswith(PROGRAMS) or path.endswith(PARTS):
            continue
        wanted = path.split("/")[1:]
        fits = [
            len(one) == len(wanted)
            and all(w.startswith("{") or w == o for w, o in zip(wanted, one, strict=True))
            for one in walked
        ]
        assert any(fits) or path.startswith(("/datasets/{name}/pictures", "/healthz")), path


def test_a_form_for_every_right_of_people_stands_on_some_page(
    people: Callable[[Role], TestClient], furnished: tuple[str, ...]
) -> None:
    admin = people(Role.ADMIN)
    addresses = {plain(one) for path in furnished for one in offered(admin.get(path).text)}
    rights = {required_right("POST", address) for address in addresses}
    assert rights == {Right.OPERATE, Right.BUILD, Right.RELEASE, Right.ADMINISTER}
