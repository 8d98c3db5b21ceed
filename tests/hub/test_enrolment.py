"""Devices come in by a code, are renewed by their key, and go by revocation."""

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    Plant,
    RefusedError,
    UnavailableError,
    digest_of,
    load_plant,
)
from lineside.core.plant_check import without_secrets
from lineside.fleet import (
    CertificateAuthority,
    NewInvitation,
    NewJob,
    device_request,
    server_certificate,
)
from lineside.fleet.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    PageRequest,
    RenewalRequest,
    fingerprint_of,
    page_message,
    read_code,
    renewal_message,
)
from lineside.fleet.trust.certificates import new_device_key, sign_as_device
from lineside.hub import HubConfig, Role, Services, create_app
from lineside.hub.access.auth import TooManyAttemptsError, issue_access_key
from lineside.hub.access.tls import own_certificate, server_files, site_files
from lineside.hub.alerts.observations import look_at_devices
from lineside.hub.devices.enrolment import DEVICE_TYPE, Enrolment
from lineside.hub.eventlog.ledger import RecordsJournal
from lineside.hub.pages.fleet import enrolment_news
from lineside.testing import FakeClock
from lineside.web.security import UnauthenticatedError
from tests.hub.conftest import Line, open_hub

ADDRESS = "10.0.0.9"
SECRETS = """schema = "lineside.plant/1"
site = "hall"
line = [{ id = "one", name = "One" }, { id = "two", name = "Two" }]
[[camera]]
id = "rack"
line = "one"
source = "rtsp://eye:pw-first@10.0.0.1/a"
[[camera]]
id = "roof"
line = "two"
source = "rtsp://eye:pw-second@10.0.0.1/b"
[[output]]
id = "left"
line = "one"
url = "mqtt://pw-gate@10.0.0.3"
switch = "west/gate"
fail_safe = 1
[[output]]
id = "right"
line = "two"
url = "mqtt://pw-far@10.0.0.3"
switch = "east/gate"
fail_safe = 1
[[webhook]]
name = "mes"
url = "https://mes.lan/pw-mes"
[[inspection]]
id = "stock"
camera = "rack"
labels = ["good", "bad"]
[[inspection]]
id = "lid"
camera = "roof"
labels = ["good", "bad"]
"""


@pytest.fixture
def site(hub: Services) -> Services:
    """A hub with an authority, and a bus that devices can be told of."""
    CertificateAuthority.create(hub.config.ca_folder, site="hall", clock=hub.clock)
    hub.enrolment.bus_url = "mqtts://{hub}:8883"
    return hub


def invited(site: Services, device: str = "edge-1", **more: object) -> str:
    """The secret of a new code."""
    wish = NewInvitation(device=device, **more)  # type: ignore[arg-type]  # by name
    return read_code(site.enrolment.invite(wish, by="anna").code).secret


def enrolled(
    site: Services, device: str = "edge-1", *, key: bytes = b"", secret: str = ""
) -> tuple[bytes, EnrolmentAnswer]:
    key = key or new_device_key()
    asked = EnrolmentRequest(
        secret=secret or invited(site, device), request=device_request(key, device=device).decode()
    )
    return key, site.enrolment.enrol(asked, address=ADDRESS)


def renewal(
    key: bytes, certificate: str, *, next_key: bytes, device: str = "edge-1"
) -> RenewalRequest:
    request = device_request(next_key, device=device)
    proof = sign_as_device(key, message=renewal_message(request))
    return RenewalRequest(
        certificate=certificate, request=request.decode(), proof=base64.b64encode(proof).decode()
    )


def told(site: Services) -> list[str]:
    return [str(one.event["data"]["action"]) for one in site.events.page(kind=DEVICE_TYPE)]


def test_who_is_out_or_was_never_heard_has_no_figures_to_alert_on(
    site: Services, line: Line
) -> None:
    for name in ("edge-1", "edge-2", "edge-3"):
        enrolled(site, name)
    line.send(line.status("edge-1"), line.status("edge-2"))
    site.enrolment.revoke("edge-2", by="anna", reason="stolen")
    assert {name: one["online"] for name, one in site.fleet.figures().items()} == {"edge-1": 1.0}


def test_a_device_that_was_never_enrolled_is_retired_by_revoking_it(
    site: Services, line: Line, clock: FakeClock, browser: TestClient, client: TestClient
) -> None:
    line.send(line.status("old-1"))
    site.enrolment.heard("old-1")
    clock.advance(3600)

    def lost() -> list[str]:
        look = look_at_devices(site.devices, enrolment=site.enrolment, now=clock.now())
        return [one.object for one in look.present]

    assert lost() == ["old-1"]
    assert 'data-json="/api/v1/devices/old-1/revoke"' in browser.get("/devices/old-1").text
    answer = client.post("/api/v1/devices/old-1/revoke", json={"reason": "scrapped"})
    assert answer.is_success
    assert (lost(), site.fleet.figures()) == ([], {})
    (listed,) = client.get("/api/v1/devices").json()["items"]
    assert (listed["state"], listed["certified"]) == ("revoked", False)
    page = browser.get("/devices/old-1").text
    assert "scrapped" in page
    assert "Not enrolled" in page
    line.send(line.status("old-1"))  # it still runs somewhere
    site.enrolment.heard("old-1")
    assert not site.things.has("old-1")
    enrolled(site, "old-1")
    assert site.enrolment.inventory.one("old-1").active


def test_a_code_brings_a_device_everything_it_needs(site: Services) -> None:
    made = site.enrolment.invite(NewInvitation(device="edge-1", groups=("canary",)), by="anna")
    authority = site.enrolment.certificate_authority()
    assert read_code(made.code).fingerprint == fingerprint_of(authority.certificate)
    assert [one.device for one in site.enrolment.invitations()] == ["edge-1"]
    secret = read_code(made.code).secret
    look = site.enrolment.look(secret, address=ADDRESS)
    assert (look.device, look.site) == ("edge-1", "hall")
    _, answer = enrolled(site, secret=secret)
    assert authority.check(answer.certificate.encode()).device == "edge-1"
    assert answer.authority.encode() == authority.certificate
    assert answer.bus == "mqtts://{hub}:8883"
    assert answer.cameras == (), "all of them"
    assert 'site = "hall"' in answer.plant
    assert site.auth.identify(answer.token).kind == "device"
    assert site.things.members("canary") == ["edge-1"]
    assert site.devices.knows("edge-1")
    assert site.enrolment.invitations() == ()
    row = site.enrolment.inventory.one("edge-1")
    assert (row.enrolled_by, row.lines, row.active) == ("anna", ("warehouse",), True)
    assert told(site) == ["invited", "enrolled"]


def test_no_event_or_document_holds_a_secret(site: Services) -> None:
    made = site.enrolment.invite(NewInvitation(device="edge-1"), by="anna")
    secret = read_code(made.code).secret
    _, answer = enrolled(site, secret=secret)
    kept = repr([one.event for one in site.events.page(kind=DEVICE_TYPE)])
    for kind in ("invitation", "enrolled", "token"):
        kept += repr(site.records.documents.page(kind))
    for word in (secret, made.code, answer.token):
        assert word not in kept


def test_a_second_use_of_a_code_is_refused(site: Services) -> None:
    secret = invited(site)
    key, first = enrolled(site, secret=secret)
    with pytest.raises(RefusedError, match="used already"):
        enrolled(site, secret=secret)
    _, again = enrolled(site, key=key, secret=secret)
    assert again.certificate == first.certificate, "the answer was lost: the same key may ask again"
    assert site.auth.identify(again.token).name == "device:edge-1"
    with pytest.raises(UnauthenticatedError):
        site.auth.identify(first.token)


def test_a_code_that_is_over_is_refused_and_forgotten(site: Services, clock: FakeClock) -> None:
    secret = invited(site, hours=1.0)
    clock.advance(3601)
    with pytest.raises(RefusedError, match="good until"):
        site.enrolment.look(secret, address=ADDRESS)
    with pytest.raises(RefusedError, match="good until"):
        enrolled(site, secret=secret)
    assert site.enrolment.sweep() == 1
    with pytest.raises(RefusedError, match="no such code"):
        site.enrolment.look(secret, address=ADDRESS)


def test_guessing_is_slowed_down_for_the_guesser_alone(site: Services, clock: FakeClock) -> None:
    secret = invited(site)
    for place in range(10):
        with pytest.raises(RefusedError, match="no such code"):
            site.enrolment.look(f"{place:020x}", address="10.0.0.66")
    with pytest.raises(TooManyAttemptsError, match="too many wrong codes"):
        site.enrolment.look("ff" * 10, address="10.0.0.66")
    # A right code works all the same.
    site.enrolment.look(secret, address="10.0.0.66")
    with pytest.raises(RefusedError, match="no such code"):
        site.enrolment.look("ff" * 10, address="10.0.0.67")
    clock.advance(301)
    with pytest.raises(RefusedError, match="no such code"):
        site.enrolment.look("ff" * 10, address="10.0.0.66")


@pytest.mark.parametrize(
    "name", ["+", "#", "a/b", "edge 1", "edge.1", "-x", "x" * 65, "a\nb", "é", "../x"]
)
def test_a_name_that_fits_not_everywhere_is_refused(site: Services, name: str) -> None:
    with pytest.raises(InvalidError, match="no name for a device"):
        invited(site, name)


def test_what_a_request_asks_beyond_its_due_is_refused_and_uses_nothing_up(site: Services) -> None:
    secret = invited(site)
    key = new_device_key()
    for request in (
        device_request(key, device="edge-2"), device_request(key, device="edge-1/#"), b"no request",
    ):  # fmt: skip
        with pytest.raises((RefusedError, InvalidError)):
            site.enrolment.enrol(
                EnrolmentRequest(secret=secret, request=request.decode()), address=ADDRESS
            )
    assert site.enrolment.inventory.all() == []
    enrolled(site, key=key, secret=secret)


def test_a_name_that_works_is_not_given_twice(site: Services) -> None:
    early = invited(site)
    enrolled(site)
    with pytest.raises(ConflictError, match="enrolled already"):
        invited(site)
    with pytest.raises(ConflictError, match="enrolled already"):
        enrolled(site, secret=early)


def test_lines_and_groups_are_those_of_the_plant(site: Services) -> None:
    with pytest.raises(InvalidError, match="no line 'cellar'"):
        invited(site, lines=("cellar",))
    with pytest.raises(InvalidError, match="name of a group"):
        invited(site, groups=("a b",))


def test_renewal_needs_the_running_key(site: Services, clock: FakeClock) -> None:
    key, answer = enrolled(site)
    clock.advance(3600 * 24 * 300)
    following = new_device_key()
    asked = renewal(key, answer.certificate, next_key=following)
    made = site.enrolment.renew(asked, address=ADDRESS)
    assert (
        site.enrolment.certificate_authority().check(made.certificate.encode()).device == "edge-1"
    )
    assert site.enrolment.renew(asked, address=ADDRESS) == made, "the answer was lost"
    thief = renewal(new_device_key(), answer.certificate, next_key=new_device_key())
    with pytest.raises(RefusedError, match="not signed by the key"):
        site.enrolment.renew(thief, address=ADDRESS)
    with pytest.raises(InvalidError, match="base64"):
        site.enrolment.renew(replace(asked, proof="é"), address=ADDRESS)
    row = site.enrolment.inventory.one("edge-1")
    assert row.ends_at - clock.now() > timedelta(days=364)
    assert told(site) == ["invited", "enrolled", "renewed"]


def test_a_certificate_that_is_over_or_revoked_is_not_renewed(
    site: Services, clock: FakeClock
) -> None:
    key, answer = enrolled(site)
    asked = renewal(key, answer.certificate, next_key=new_device_key())
    site.enrolment.revoke("edge-1", by="anna", reason="stolen")
    with pytest.raises(RefusedError, match="revoked"):
        site.enrolment.renew(asked, address=ADDRESS)
    key, answer = enrolled(site)
    clock.advance(3600 * 24 * 366)
    with pytest.raises(RefusedError, match="over"):
        site.enrolment.renew(
            renewal(key, answer.certificate, next_key=new_device_key()), address=ADDRESS
        )


def test_a_page_is_certified_for_the_devices_names_by_its_running_key(site: Services) -> None:
    key, answer = enrolled(site)
    page_key = new_device_key()
    request = device_request(page_key, device="edge-1")

    def asked(by: bytes, message: bytes) -> PageRequest:
        proof = base64.b64encode(sign_as_device(by, message=message)).decode()
        return PageRequest(certificate=answer.certificate, request=request.decode(), proof=proof)

    good = asked(key, page_message(request))
    made = site.enrolment.certify_page(good, address=ADDRESS)
    assert made.hosts == ("edge-1", "edge-1.local", ADDRESS)
    assert server_certificate(made.certificate.encode(), where="page").hosts == made.hosts
    with pytest.raises(RefusedError, match="not a device's"):
        site.enrolment.certificate_authority().check(made.certificate.encode())
    for thief in (asked(page_key, page_message(request)), asked(key, renewal_message(request))):
        with pytest.raises(RefusedError, match="not signed by the key"):
            site.enrolment.certify_page(thief, address=ADDRESS)
    site.enrolment.revoke("edge-1", by="anna", reason="stolen")
    with pytest.raises(RefusedError, match="revoked"):
        site.enrolment.certify_page(good, address=ADDRESS)


def test_renewal_is_bounded(site: Services) -> None:
    key, answer = enrolled(site)
    asked = renewal(key, answer.certificate, next_key=new_device_key())
    for _ in range(10):
        site.enrolment.renew(asked, address=ADDRESS)
    with pytest.raises(TooManyAttemptsError, match="too often"):
        site.enrolment.renew(asked, address=ADDRESS)


def test_revocation_ends_certificate_token_keys_and_work(site: Services) -> None:
    _, answer = enrolled(site)
    key = issue_access_key(site.records, name="agent", clock=site.clock, thing="edge-1")
    heard: list[str] = []
    site.enrolment.revoked.append(heard.append)
    site.enrolment.revoke("edge-1", by="berta", reason="stolen from the hall")
    with pytest.raises(RefusedError, match="revoked"):
        site.enrolment.certificate_authority().check(answer.certificate.encode())
    with pytest.raises(UnauthenticatedError):
        site.auth.identify(answer.token)
    with pytest.raises(NotFoundError):
        site.records.documents.get("access-key", key.id)
    with pytest.raises(NotFoundError):
        site.job_requests.service.create(NewJob(job_id="j", targets=("edge-1",), document={"a": 1}))
    assert heard == ["edge-1"]
    with pytest.raises(ConflictError, match="by berta: stolen from the hall"):
        site.enrolment.revoke("edge-1", by="anna", reason="again")
    with pytest.raises(NotFoundError, match="never enrolled"):
        site.enrolment.revoke("edge-7", by="anna", reason="x")
    assert told(site)[-1] == "revoked"
    enrolled(site)
    assert site.enrolment.inventory.one("edge-1").active, "a new code brings it back"


def test_a_revocation_that_broke_off_is_finished_by_the_same_command(site: Services) -> None:
    enrolled(site)
    # And then the power went.
    site.enrolment.certificate_authority().revoke("edge-1", reason="stolen")
    assert not site.enrolment.revoke("edge-1", by="anna", reason="stolen").active


def test_groups_are_what_jobs_aim_at(site: Services) -> None:
    enrolled(site)
    assert site.enrolment.set_groups("edge-1", ("b", "a", "b"), by="anna") == ("a", "b")
    job = site.job_requests.service.create(
        NewJob(job_id="j", targets=("group/a",), document={"a": 1})
    )
    assert [one.thing for one in site.job_requests.service.executions(job.job_id)] == ["edge-1"]
    with pytest.raises(NotFoundError):
        site.enrolment.set_groups("edge-9", ("a",), by="anna")


def test_a_device_is_given_the_plant_file_in_force_not_one_that_was_changed_by_hand(
    site: Services,
) -> None:
    in_force, path = site.plants.text(), Path(site.config.plant)
    path.write_text(f"{in_force}\n# by a person\n")
    _, answer = enrolled(site)
    assert answer.plant == in_force
    site.plants.adopt(by="anna", reason="right")
    _, answer = enrolled(site, "edge-2")
    assert answer.plant == path.read_text()


def test_before_init_and_without_a_bus_it_says_what_is_missing(hub: Services) -> None:
    with pytest.raises(NotFoundError, match="no certificate authority"):
        hub.enrolment.invite(NewInvitation(device="edge-1"), by="anna")
    CertificateAuthority.create(hub.config.ca_folder, site="hall", clock=hub.clock)
    secret = invited(hub)
    with pytest.raises(UnavailableError, match="where devices find its bus"):
        enrolled(hub, secret=secret)


def test_a_plant_with_several_lines_wants_one_named(
    config: HubConfig, plant: Plant, clock: FakeClock
) -> None:
    two = replace(plant, line=(*plant.line, replace(plant.line[0], id="packing")))
    with open_hub(config, plant=two, clock=clock) as hub:
        CertificateAuthority.create(config.ca_folder, site="hall", clock=clock)
        hub.enrolment.bus_url = "mqtts://x:1"
        with pytest.raises(InvalidError, match="several lines"):
            invited(hub)
        _, answer = enrolled(hub, secret=invited(hub, lines=("warehouse", "packing")))
        assert answer.cameras == ()
        _, answer = enrolled(hub, "edge-2", secret=invited(hub, "edge-2", lines=("packing",)))
        assert answer.cameras == ()


def test_a_device_gets_the_secrets_of_its_lines_and_no_others(
    config: HubConfig, clock: FakeClock
) -> None:
    file = Path(config.plant)
    file.write_text(SECRETS)
    with open_hub(config, plant=load_plant(file), clock=clock) as hub:
        CertificateAuthority.create(config.ca_folder, site="hall", clock=clock)
        hub.enrolment.bus_url = "mqtts://x:1"
        _, answer = enrolled(hub, secret=invited(hub, lines=("one",)))
        told = hub.plants.message()
        place = f"/api/v1/plant/versions/{told.number}/content"
        texts = [answer.plant]
        for token in (answer.token, hub.auth.issue_token("cell", kind="device")):
            client = TestClient(create_app(hub), base_url="http://127.0.0.1")
            answered = client.get(place, headers={"authorization": f"Bearer {token}"})
            texts.append(answered.text)
    shown = {digest_of(without_secrets(one).encode()) for one in texts}
    assert shown == {told.digest}
    assert texts[0] == texts[1]
    found = [re.findall("pw-([a-z]+)", one) for one in texts]
    assert found == [["first", "gate"], ["first", "gate"], ["first", "second", "gate", "far"]]


# ---- over HTTP


@pytest.fixture
def open_door(nobody: TestClient, site: Services) -> TestClient:  # noqa: ARG001  enrols
    return nobody


def test_the_whole_way_over_http(open_door: TestClient, client: TestClient, site: Services) -> None:
    pem = open_door.get("/api/v1/enrolment/authority")
    assert pem.content == site.enrolment.certificate_authority().certificate
    assert b"X509 CRL" in open_door.get("/api/v1/enrolment/revoked").content
    made = client.post("/api/v1/devices/invitations", json={"device": "edge-1", "groups": ["a"]})
    assert made.status_code == 201
    code = read_code(made.json()["code"])
    look = open_door.post("/api/v1/enrolment/code", json={"secret": code.secret})
    assert look.json()["device"] == "edge-1"
    key = new_device_key()
    body = {"secret": code.secret, "request": device_request(key, device="edge-1").decode()}
    answer = open_door.post("/api/v1/enrolment", json=body)
    assert answer.status_code == 201
    used = {**body, "request": device_request(new_device_key(), device="edge-1").decode()}
    refused = open_door.post("/api/v1/enrolment", json=used)
    assert refused.status_code == 403
    assert "used already" in refused.json()["detail"]
    token = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert open_door.get("/tuf/metadata/nothing.json", headers=token).status_code == 404
    assert open_door.get("/api/v1/devices", headers=token).status_code == 403
    listed = client.get("/api/v1/devices").json()["items"]
    assert [(one["id"], one["state"], one["groups"]) for one in listed] == [
        ("edge-1", "never", ["a"])
    ]
    gone = client.post("/api/v1/devices/edge-1/revoke", json={"reason": "stolen"})
    assert gone.status_code == 200
    assert open_door.get("/tuf/metadata/nothing.json", headers=token).status_code == 401
    assert client.get("/api/v1/devices", params={"state": "revoked"}).json()["items"]
    assert client.get("/api/v1/devices/edge-1").json()["enrolled"]["reason"] == "stolen"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {}, 400), ("", {"secret": "x", "request": "y"}, 403), ("", {"secret": 1}, 400),
        ("/code", {"secret": "x" * 100_000}, 403), ("/code", {"secret": "x", "more": 1}, 400),
        ("/renewal", {"certificate": "x", "request": "y", "proof": "z"}, 400),
    ],
)  # fmt: skip
def test_nonsense_is_answered_with_a_sentence(
    open_door: TestClient, path: str, body: dict[str, object], status: int
) -> None:
    answer = open_door.post(f"/api/v1/enrolment{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_lists_are_filtered_and_go_on_behind_a_cursor(client: TestClient, site: Services) -> None:
    for number in range(7):
        enrolled(site, f"edge-{number}")
    site.enrolment.set_groups("edge-3", ("canary",), by="anna")
    first = client.get("/api/v1/devices", params={"limit": 3}).json()
    second = client.get("/api/v1/devices", params={"limit": 9, "after": first["next"]}).json()
    names = [one["id"] for one in first["items"] + second["items"]]
    assert names == [f"edge-{number}" for number in range(7)]
    assert second["next"] is None
    canary = client.get("/api/v1/devices", params={"group": "canary"}).json()["items"]
    assert [one["id"] for one in canary] == ["edge-3"]
    assert client.get("/api/v1/devices", params={"group": "nobody"}).status_code == 404
    assert client.get("/api/v1/devices", params={"state": "sleepy"}).status_code == 400
    found = client.get("/api/v1/devices", params={"q": "GE-5"}).json()["items"]
    assert [one["id"] for one in found] == ["edge-5"]
    assert client.get("/api/v1/devices/edge-9").status_code == 404


def test_a_code_is_taken_back_and_the_device_hears_why_it_is_refused(site: Services) -> None:
    secret = invited(site)
    site.enrolment.withdraw("edge-1", by="anna")
    assert site.enrolment.invitations() == ()
    with pytest.raises(RefusedError, match="no such code"):
        enrolled(site, secret=secret)
    with pytest.raises(NotFoundError, match="no open code is for 'edge-1'"):
        site.enrolment.withdraw("edge-1", by="anna")
    assert told(site) == ["invited", "withdrawn"]
    other = invited(site, "edge-2")
    enrolled(site, "edge-2", secret=other)
    with pytest.raises(RefusedError):
        enrolled(site, "edge-2", secret=other)
    noted = [(one.device, one.address) for one in site.enrolment.refusals]
    assert noted == [("edge-2", ADDRESS), ("", ADDRESS)]
    news = [(one.device, one.mark.word) for one in enrolment_news(site)]
    assert ("edge-2", "refused") in news
    assert ("edge-2", "enrolled") in news
    assert ("edge-1", "code taken back") in news


def test_a_code_that_is_used_while_it_is_withdrawn_stays_used(site: Services) -> None:
    secret = invited(site)
    other = Enrolment(
        site.records, journal=site.ledger, plant=site.plant, config=site.config, clock=site.clock
    )
    other.bus_url = site.enrolment.bus_url

    class Late(RecordsJournal):
        """A journal of a hub that another one overtakes."""

        def record(self, *events: Any, **more: Any) -> object:  # noqa: ANN401  as the journal's
            key = new_device_key()
            request = device_request(key, device="edge-1").decode()
            other.enrol(EnrolmentRequest(secret=secret, request=request), address=ADDRESS)
            return super().record(*events, **more)

    slow = Enrolment(
        site.records, journal=Late(site.records), plant=site.plant, config=site.config,
        clock=site.clock,
    )  # fmt: skip
    with pytest.raises(ConflictError):
        slow.withdraw("edge-1", by="anna")
    assert told(site) == ["invited", "enrolled"]
    with pytest.raises(NotFoundError, match="no open code"):
        site.enrolment.withdraw("edge-1", by="anna")


def test_refusals_are_read_while_devices_ask_and_one_that_asks_too_often_leaves_them(
    site: Services,
) -> None:
    for _ in range(3):
        with pytest.raises(RefusedError, match="no such code"):
            enrolled(site, secret="0" * 32)
    for _ in site.enrolment.refusals:  # a page is being made while another device is refused
        with pytest.raises(RefusedError, match="no such code"):
            enrolled(site, secret="0" * 32)
    for _ in range(20):
        with suppress(RefusedError, TooManyAttemptsError):
            enrolled(site, secret="0" * 32)
    with pytest.raises(TooManyAttemptsError):
        enrolled(site, secret="0" * 32)
    assert {one.reason for one in site.enrolment.refusals} == {
        "this hub gave out no such code, or it is over"
    }


def test_the_page_makes_the_authority_that_is_absent(
    hub: Services, people: Callable[..., TestClient]
) -> None:
    anna = people(Role.ADMIN)
    page = anna.get("/devices").text
    assert "has no certificate authority yet" in page
    assert "Make a code" not in page.partition('id="enrol"')[2]
    made = anna.post("/api/v1/devices/authority")
    assert made.status_code == 201
    assert [one["what"] for one in made.json()["steps"]] == ["authority", "trust root"]
    assert all(one["made"] for one in made.json()["steps"])
    # The certificate is made by the first start with TLS, for the hosts of the settings then.
    assert not site_files(hub.config).certificate.exists()
    later = replace(hub.config, tls="site", public_url="https://hub.hall:8443")
    server_files(later, clock=hub.clock)
    assert "hub.hall" in own_certificate(later).hosts
    again = anna.post("/api/v1/devices/authority").json()
    assert not any(one["made"] for one in again["steps"])
    page = anna.get("/devices").text
    for words in ("Make a code", "Pages are served without TLS", "Move them off this machine"):
        assert words in page, words
    assert anna.post("/api/v1/devices/invitations", json={"device": "edge-1"}).status_code == 201
    assert "Revoke the code for edge-1" in anna.get("/devices").text
    assert anna.post("/api/v1/devices/invitations/edge-1/withdraw").json()["items"] == []
