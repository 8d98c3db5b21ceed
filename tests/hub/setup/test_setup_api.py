"""Set-up over HTTP and on pages: the plant file, users and tokens, and who may."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from lineside.core import Camera, LinesideError, digest_of, encode
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Retention
from lineside.core.plant_check import without_secrets
from lineside.core.webhooks import WebhookConfig
from lineside.hub import Accounts, HubConfig, Role, Services, create_app
from lineside.hub.api.setup import take_picture
from lineside.hub.setup.forms import setting_fields
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import Line
from tests.hub.pages.test_pages import read

SECRET = "rtsp://eye:peeping@10.0.0.7/a"  # noqa: S105  of no camera
PASSWORD = "correct horse battery"  # noqa: S105  of nobody


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with little memory."""
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr("lineside.hub.access.auth._hasher", lambda: hasher)


def test_an_edit_is_looked_at_kept_listed_and_rolled_back(
    client: TestClient, hub: Services
) -> None:
    change = {
        "section": "camera", "id": "rack", "values": {"no_signal_after_s": 8}, "base": 1,
        "reason": "slow link",
    }  # fmt: skip
    looked_at = client.post("/api/v1/plant/check", json=change).json()
    assert "+no_signal_after_s = 8" in looked_at["diff"]
    assert looked_at["faults"] == []
    assert hub.plant.find_camera("rack").no_signal_after_s is None
    made = client.post("/api/v1/plant", json=change).json()
    assert (made["number"], made["by"], made["reason"]) == (2, "tester", "slow link")
    assert hub.plant.find_camera("rack").no_signal_after_s == 8
    assert "no_signal_after_s = 8" in Path(hub.config.plant).read_text()
    assert client.post("/api/v1/plant", json=change).status_code == 409
    back = client.post("/api/v1/plant/rollback", json={"number": 1, "reason": "as before"})
    assert back.json()["number"] == 3
    assert hub.plant.find_camera("rack").no_signal_after_s is None
    listed = client.get("/api/v1/plant/versions", params={"limit": 2}).json()
    assert [one["number"] for one in listed["items"]] == [3, 2]
    older = client.get("/api/v1/plant/versions", params={"before": listed["next"]}).json()
    assert [one["number"] for one in older["items"]] == [1]
    assert "-no_signal_after_s = 8" in client.get("/api/v1/plant/versions/3").json()["diff"]
    assert client.get("/api/v1/plant/versions/3", params={"since": 1}).json()["diff"] == []


def test_devices_fetch_the_text_that_the_bus_does_not_carry(
    client: TestClient, hub: Services, people: Callable[[Role], TestClient]
) -> None:
    change = {"section": "camera", "id": "gate", "values": {"source": SECRET}, "reason": "moved"}
    assert client.post("/api/v1/plant", json=change).status_code == 200
    message = hub.plants.message()
    assert "peeping" not in encode(message).decode()
    token = hub.auth.issue_token("device:edge-1", kind="device")
    headers = {"Authorization": f"Bearer {token}"}
    place = f"/api/v1/plant/versions/{message.number}/content"
    device = TestClient(create_app(hub), base_url="http://127.0.0.1", headers=headers)
    text = device.get(place)
    assert digest_of(without_secrets(text.text).encode()) == message.digest
    assert "peeping" in text.text
    assert "peeping" not in client.get(place).text
    assert people(Role.VIEWER).get(place).status_code == 403
    assert client.get("/api/v1/plant/versions/99/content").status_code == 404
    earlier = f"/api/v1/plant/versions/{message.number - 1}/content"
    # A device has the version in force only.
    assert [one.get(earlier).status_code for one in (client, device)] == [200, 404]


def test_a_fault_is_told_with_the_path_of_its_field(client: TestClient) -> None:
    wrong = {"section": "camera", "id": "gate", "values": {"line": "none"}, "reason": "try"}
    answer = client.post("/api/v1/plant", json=wrong)
    assert answer.status_code == 400
    assert [one["path"] for one in answer.json()["faults"]] == ["$.camera[1].line"]


def test_a_file_changed_by_hand_is_offered_on_every_set_up_page(
    browser: TestClient, client: TestClient, hub: Services
) -> None:
    assert "by hand" not in browser.get("/setup").text
    path = Path(hub.config.plant)
    path.write_text(path.read_text() + "\n# by a person\n")
    for page in ("/setup", "/setup/camera", "/setup/text", "/setup/history"):
        text = browser.get(page).text
        assert "Changed on disk by hand" in text
        assert f'data-version="{version("lineside")}"' in text
    assert client.get("/api/v1/plant").json()["file"]["by_hand"]
    assert client.post("/api/v1/plant/adopt", json={"reason": "right"}).json()["number"] == 2
    path.write_text("nonsense")
    assert client.post("/api/v1/plant/restore").json()["number"] == 2
    assert path.read_text().endswith("# by a person\n")


def test_passwords_of_cameras_are_for_nobody(
    hub: Services, people: Callable[[Role], TestClient]
) -> None:
    engineer, viewer = people(Role.ENGINEER), people(Role.VIEWER)
    values = {"id": "roof", "line": "warehouse", "source": SECRET}
    change = {"section": "camera", "values": values, "reason": "one more"}
    assert viewer.post("/api/v1/plant", json=change).status_code == 403
    assert engineer.post("/api/v1/plant", json=change).status_code == 200
    assert "rtsp://…@10.0.0.7/…" in engineer.get("/setup/camera").text
    assert "rtsp://" in viewer.get("/setup/camera").text
    assert "10.0.0.7" in viewer.get("/lines").text  # no picture has come from it
    values = {"id": "yard", "line": "warehouse", "source": "http://10.0.0.8/a.jpg?pwd=peeping"}
    change = {"section": "camera", "values": values, "reason": "one more"}
    assert engineer.post("/api/v1/plant", json=change).status_code == 200
    for path in ("/setup/camera", "/lines"):
        assert "10.0.0.8" in viewer.get(path).text, path
        assert "peeping" not in viewer.get(path).text, path
    for path in ("/setup/text", "/setup/history", "/setup/users", "/api/v1/plant"):
        assert viewer.get(path).status_code == 403, path
    refused = viewer.get("/setup/users", headers={"accept": "text/html"}).text
    assert "<h1" in refused
    assert "viewer" in refused
    assert engineer.get("/setup/users").status_code == 403
    assert hub.plant.find_camera("roof").line == "warehouse"


def test_a_secret_stays_where_its_address_is_sent_back_as_it_was_shown(
    hub: Services, people: Callable[[Role], TestClient]
) -> None:
    engineer = people(Role.ENGINEER)
    for name, secret in (("roof", SECRET), ("yard", SECRET.replace("/a", "/b"))):
        values = {"id": name, "line": "warehouse", "source": secret}
        change = {"section": "camera", "values": values, "reason": "one more"}
        assert engineer.post("/api/v1/plant", json=change).is_success
    text = engineer.get("/api/v1/plant").json()["text"]
    assert "peeping" not in text
    change = {
        "text": text.replace('id = "roof"', 'id = "roof"\nno_signal_after_s = 9'),
        "reason": "faster",
    }
    looked_at = engineer.post("/api/v1/plant/check", json=change).json()
    assert (looked_at["faults"], "+no_signal_after_s = 9" in looked_at["diff"]) == ([], True)
    assert "peeping" not in str(looked_at)
    assert engineer.post("/api/v1/plant", json=change).is_success
    shown = "rtsp://…@10.0.0.7/…"
    change = {
        "section": "camera",
        "id": "yard",
        "values": {"source": shown, "no_signal_after_s": 3},
    }
    assert engineer.post("/api/v1/plant", json={**change, "reason": "faster"}).is_success
    sources = [hub.plant.find_camera(one).source.reveal() for one in ("roof", "yard")]
    assert sources == [SECRET, SECRET.replace("/a", "/b")]
    change = {"section": "camera", "id": "yard", "values": {"source": SECRET}, "reason": "new"}
    looked_at = engineer.post("/api/v1/plant/check", json=change).json()
    assert looked_at["diff"] == ["The secret part of an address changes."]
    assert engineer.post("/api/v1/plant", json=change).is_success
    assert Path(hub.config.plant).read_text().count(SECRET) == 2
    moved = {**change, "values": {"source": "rtsp://…@10.0.0.9/…"}}
    refused = engineer.post("/api/v1/plant", json=moved)
    assert refused.status_code == 400
    assert refused.json()["faults"][0]["fix"].startswith("Write it without …")
    hand = Path(hub.config.plant)
    hand.write_text(hand.read_text().replace("peeping", "hidden"))
    assert engineer.get("/api/v1/plant").json()["file"]["diff"] == looked_at["diff"]


def test_a_file_changed_by_hand_shows_its_lines_to_those_who_edit(
    hub: Services, people: Callable[[Role], TestClient]
) -> None:
    engineer, viewer = people(Role.ENGINEER), people(Role.VIEWER)
    assert hub.plants.newest().number == 1
    path = Path(hub.config.plant)
    camera = f'[[camera]]\nid = "roof"\nline = "warehouse"\nsource = "{SECRET}"\nfps = "x"\n'
    path.write_text(f"{path.read_text()}\n{camera}")
    for page in ("/setup", "/setup/camera"):
        shown = viewer.get(page).text
        assert "Changed on disk by hand" in shown
        assert not [word for word in ("peeping", "setup-diff", "fps") if word in shown]
        assert "rtsp://…@10.0.0.7/…" in engineer.get(page).text
        assert "peeping" not in engineer.get(page).text
    path.write_text(f"{path.read_text()}\nnonsense")
    assert "peeping" not in engineer.get("/setup").text


def test_entries_on_one_line_and_of_one_name_are_shown_and_left_to_a_person(
    client: TestClient, browser: TestClient, hub: Services
) -> None:
    text = client.get("/api/v1/plant").json()["text"]
    days = ('["mon"]', '["tue"]')
    inline = ", ".join(
        f'{{ name = "Early", begin = "06:00", end = "14:00", days = {one} }}' for one in days
    )
    shifts = text.replace("[[line]]", f"shift = [{inline}]\n[[line]]", 1)
    assert client.post("/api/v1/plant", json={"text": shifts, "reason": "shifts"}).is_success
    assert browser.get("/setup/shift").text.count('value="06:00"') == len(days)
    edit = {"section": "shift", "id": "Early", "values": {"begin": "05:00"}, "reason": "sooner"}
    refused = client.post("/api/v1/plant", json=edit)
    assert (refused.status_code, "2 shift entries" in refused.text) == (400, True)
    refused = client.post("/api/v1/plant", json={**edit, "nth": 2})
    assert (refused.status_code, "cannot be edited in place" in refused.text) == (400, True)
    null = {"section": "inspection", "id": "stock", "values": {"region": [{"id": None}]}}
    refused = client.post("/api/v1/plant/check", json=null)
    assert (refused.status_code, "null inside a value" in refused.text) == (400, True)
    assert hub.plants.newest().number == 2


def test_two_shifts_of_one_name_are_forms_of_their_own(
    client: TestClient, browser: TestClient, hub: Services
) -> None:
    for day in ("mon", "tue"):
        values = {"name": "Early", "begin": "06:00", "end": "14:00", "days": [day]}
        change = {"section": "shift", "values": values, "reason": "shifts"}
        assert client.post("/api/v1/plant", json=change).is_success
    page = browser.get("/setup/shift").text
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert [f'data-nth="{nth}"' in page for nth in (1, 2, 3)] == [True, True, False]
    edit = {"section": "shift", "id": "Early", "nth": 2, "values": {"end": "13:00"}, "reason": "x"}
    assert client.post("/api/v1/plant", json=edit).is_success
    assert [one.end for one in hub.plant.shift] == ["14:00", "13:00"]


@pytest.mark.parametrize(
    ("section", "first"), [("camera", "line"), ("inspection", "camera"), ("route", "camera")]
)
def test_a_form_of_an_empty_plant_leads_to_what_has_to_be_added_first(
    client: TestClient, browser: TestClient, hub: Services, section: str, first: str
) -> None:
    client.post(
        "/api/v1/plant", json={"text": hub.plants.text().partition("[")[0], "reason": "a new site"}
    )
    assert f'No {first} yet. <a href="/setup/{first}">' in browser.get(f"/setup/{section}").text


def test_the_twin_and_what_is_said_of_answers_have_forms(
    client: TestClient, browser: TestClient, hub: Services
) -> None:
    page = browser.get("/setup/twin").text
    assert "Add a twin" not in page
    assert page.count('data-rows="slot"') == 1
    assert 'aria-label="Slot 4: Region"' in page  # three, and an empty one
    assert 'value="High-bay warehouse"' in page
    slots = [{"id": "A1", "region": "top", "colour": "white"}]
    change = {"section": "twin", "id": "twin", "values": {"slot": slots}, "reason": "fewer"}
    assert client.post("/api/v1/plant", json=change).is_success
    assert hub.plant.twin is not None
    assert [one.colour for one in hub.plant.twin.slot] == ["white"]
    gone = {"section": "twin", "id": "twin", "remove": True, "reason": "no scene"}
    assert client.post("/api/v1/plant", json=gone).is_success
    assert "[twin]" not in hub.plants.text()
    assert "Add a twin" in browser.get("/setup/twin").text
    said = {"say.inspection": "stock", "say.fields": {"image": "frame"}}
    values = {"topic": "line/answer", "kind": "message", "time": "arrival", **said}
    change = {"section": "route", "values": values, "reason": "a PLC reads it"}
    assert client.post("/api/v1/plant", json=change).is_success
    page = browser.get("/setup/route").text
    assert 'value="image = frame"' in page
    pattern = next(
        one["pattern"] for one in read(page).all("input") if one.get("data-kind") == "pairs"
    )
    for text in ("image = frame", " a=b=c , d = ", "", "image = frame,"):
        assert re.fullmatch(pattern, text), text
    for text in ("image", "image = frame, label", "= frame"):
        assert not re.fullmatch(pattern, text), text
    assert hub.plant.route[-1].say is not None
    silent = {"section": "route", "id": "line/answer", "reason": "it does not",
              "values": dict.fromkeys(said)}  # fmt: skip
    assert client.post("/api/v1/plant", json=silent).is_success
    assert hub.plant.route[-1].say is None


def test_settings_of_the_hub_are_shown_without_secrets_to_those_who_edit(
    hub: Services, people: Callable[[Role], TestClient]
) -> None:
    hook = WebhookConfig(name="mes", url=SecretUrl("https://mes.plant.lan/in"), key="subject")
    bus = "mqtts://me:peeping@broker.plant.lan"
    config = replace(
        hub.config, bus=SecretUrl(bus), webhook=(hook,), retention=Retention(max_age_days=30)
    )
    groups = setting_fields(config)
    keys = {about: [one.key for one in found] for about, found in groups.items()}
    assert keys["Retention"] == ["retention.max_age_days", "retention.max_bytes"]
    assert {"host", "port", "bus_port"} <= set(keys["Addresses and ports"])
    assert {"dead_letters", "max_body_bytes"} <= set(keys["Limits"])
    assert keys["Webhooks"] == ["webhook"]
    every = {one.name for one in fields(HubConfig)}
    assert {key.partition(".")[0] for found in keys.values() for key in found} == every
    (days, _), (hooks,) = groups["Retention"], groups["Webhooks"]
    assert (days.value, days.default) == ("30", "0")
    (row,) = hooks.rows
    told = {one.key: one.value for one in row}
    assert (told["webhook.name"], told["webhook.url"]) == ("mes", str(hook.url))
    assert "peeping" not in str(groups)
    assert "@broker.plant.lan" in str(groups)
    shown = people(Role.ENGINEER).get("/setup/settings").text
    assert "restart the hub" in shown
    assert "retention.max_age_days" in shown
    assert "retention.max_age_days" not in people(Role.VIEWER).get("/setup/settings").text


def test_webhooks_and_retention_are_entries_of_the_plant_file(
    hub: Services, people: Callable[[Role], TestClient]
) -> None:
    engineer = people(Role.ENGINEER)
    values = {
        "name": "mes", "url": "https://mes.plant.lan/in?key=peeping", "secret_file": "mes.secret",
        "headers": {"X-Key": "peeping"}, "header_files": {"Authorization": "mes.token"},
    }  # fmt: skip
    change = {"section": "webhook", "values": values, "reason": "the MES"}
    outside = {**change, "values": {**values, "header_files": {"X-A": "../keys/root"}}}
    refused = engineer.post("/api/v1/plant", json=outside).json()["faults"]
    assert [one["path"] for one in refused] == ["$.webhook[0].header_files"]
    assert engineer.post("/api/v1/plant", json=change).is_success
    limits = {"max_age_days": 30, "max_bytes": 5_000_000_000}
    change = {"section": "retention", "values": limits, "reason": "the disk"}
    assert engineer.post("/api/v1/plant", json=change).is_success
    assert hub.retention == Retention(**limits)
    (hook,) = hub.webhooks
    folder = hub.config.secrets_folder / "mes.plant.lan"
    assert hook.secret_file == str(folder / "mes.secret")
    assert hook.header_files == {"Authorization": str(folder / "mes.token")}
    assert "peeping" not in engineer.get("/setup/webhook").text
    assert hook.headers == {"X-Key": "peeping"}
    shown = people(Role.VIEWER).get("/setup/webhook").text
    assert "mes.plant.lan" in shown
    assert "peeping" not in shown
    gone = {"section": "retention", "remove": True, "reason": "as the hub says"}
    assert engineer.post("/api/v1/plant", json=gone).is_success
    assert hub.retention == hub.config.retention


def test_an_output_is_an_entry_that_other_changes_keep(
    hub: Services, people: Callable[[Role], TestClient]
) -> None:
    engineer = people(Role.ENGINEER)
    values = {
        "id": "gate", "line": hub.plant.line[0].id, "url": "modbus://plc.lan", "switch": "coil/12",
        "fail_safe": 1, "on": ["reject"], "pulse_s": 0.2,
    }  # fmt: skip
    change = {"section": "output", "values": values, "reason": "the reject gate"}
    unsafe = {**change, "values": {**values, "fail_safe": 2}}
    refused = engineer.post("/api/v1/plant", json=unsafe).json()["faults"]
    assert [one["path"] for one in refused] == ["$.output[0].fail_safe"]
    assert engineer.post("/api/v1/plant", json=change).is_success
    shift = {"name": "Early", "begin": "06:00", "end": "14:00"}
    other = {"section": "shift", "values": shift, "reason": "two shifts"}
    assert engineer.post("/api/v1/plant", json=other).is_success
    (gate,) = hub.plant.output
    assert (gate.id, gate.switch, gate.on, gate.pulse_s) == ("gate", "coil/12", ("reject",), 0.2)
    assert 'name="on"' in engineer.get("/setup/output").text


def test_pages_show_every_section_and_version(browser: TestClient, line: Line) -> None:
    line.send(line.status())
    for section in (
        "camera",
        "inspection",
        "line",
        "rule",
        "route",
        "shift",
        "webhook",
        "output",
        "retention",
        "twin",
    ):
        page = browser.get(f"/setup/{section}")
        assert page.status_code == 200, section
        assert "Reason of the change" in page.text
    assert "Europe/Berlin" in browser.get("/setup").text
    assert browser.get("/setup/none").status_code == 404
    assert "First version" in browser.get("/setup/history").text
    assert browser.get("/setup/history/1").status_code == 200
    assert browser.get("/setup/history/9").status_code == 404


RULE = """# why: the bin
[[rule]]
id = "passed"
read = { predictions = "stock" }
where = [{ field = "label", equals = "blue" }]
window = { size_s = 5 }  # a part takes five
"""


def test_a_rule_has_a_form_that_says_what_only_its_text_has(
    client: TestClient, browser: TestClient, hub: Services
) -> None:
    made = client.post("/api/v1/plant", json={"section": "rule", "entry": RULE, "reason": "new"})
    assert made.status_code == 200, made.text
    page = browser.get("/setup/rule").text
    assert "Not in the form: where." in page
    assert [f'name="{key}"' in page for key in ("window.size_s", "hold.for_s", "settings")] == [
        True, False, False,
    ]  # fmt: skip
    assert "a part takes five" in page
    assert 'name="hold.for_s"' in browser.get("/setup/rule?kind=hold").text
    change = {"section": "rule", "id": "passed", "reason": "faster"}
    values = {"window.size_s": 4, "read.predictions": ["stock"]}
    client.post("/api/v1/plant", json=change | {"values": values})
    window = hub.rules.find("passed").window
    assert window is not None
    assert window.size_s == 4
    text = hub.plants.text()
    assert "# why: the bin\n[[rule]]" in text
    assert "size_s = 4 }  # a part takes five" in text
    bad = client.post("/api/v1/plant", json=change | {"values": {"window.size_s": -1}})
    assert (bad.status_code, "window.size_s" in bad.text) == (400, True)


def test_users_and_tokens_come_and_go_and_the_last_administrator_stays(
    client: TestClient, browser: TestClient, nobody: TestClient
) -> None:
    user = {"name": "Ada", "role": "admin", "password": PASSWORD}
    assert client.post("/api/v1/users", json=user).status_code == 201
    for body, path in (({"role": "viewer"}, "role"), ({}, "remove")):
        refused = client.post(f"/api/v1/users/Ada/{path}", json=body)
        assert (refused.status_code, "last administrator" in refused.text) == (409, True)
    other = {"name": "Eve", "role": "viewer", "password": PASSWORD}
    client.post("/api/v1/users", json=other)
    assert client.post("/api/v1/users/Eve/role", json={"role": "admin"}).json()["role"] == "admin"
    client.post("/api/v1/users/Eve/password", json={"password": PASSWORD[::-1]})
    given = {"name": "Eve", "password": PASSWORD[::-1]}
    signed_in = nobody.post(
        "/sign-in", data=given, headers={"Origin": "http://127.0.0.1"}, follow_redirects=False
    )
    assert signed_in.status_code == 303
    assert client.post("/api/v1/users/Ada/remove").status_code == 200
    assert [one["name"] for one in client.get("/api/v1/users").json()["items"]] == ["Eve"]
    issued = client.post("/api/v1/tokens", json={"name": "board", "role": "viewer"}).json()
    assert issued["token"] not in client.get("/api/v1/tokens").text
    page = browser.get("/setup/users").text
    assert "Eve" in page
    assert "board" in page
    assert re.search(r'data-show="clock">[^<]+</time></td><td [^>]+><form [^>]+/board/', page)
    for kind, words in (("user", "added, admin, by "), ("token", "issued, viewer, by ")):
        log = browser.get(f"/events?type=lineside.{kind}.v1&subject=").text
        assert f'<option value="lineside.{kind}.v1" selected>' in log
        assert words in log
    assert client.post("/api/v1/tokens/board/revoke").json() == {"name": "board", "revoked": 1}


def test_a_name_with_a_slash_is_changed_and_ended_by_the_page(
    client: TestClient, browser: TestClient, hub: Services
) -> None:
    client.post("/api/v1/users", json={"name": "a/b", "role": "viewer", "password": PASSWORD})
    client.post("/api/v1/tokens", json={"name": "../line 1/mes?", "role": "viewer"})
    Accounts(hub.records, journal=hub.ledger, site="hall", clock=hub.clock).issue_key(
        "../line 1/mes?", role=None, thing="", by="Ada"
    )
    page = browser.get("/setup/users").text
    assert re.search(r">key <span [^>]+>LSAK\w{16}</span></td>", page)
    forms = re.findall(r'data-json="(/api/v1/(?:users|tokens)/[^"]+)"', page)[:5]
    bodies = {"role": {"role": "operator"}, "password": {"password": PASSWORD[::-1]}}
    answers = [client.post(one, json=bodies.get(one.rpartition("/")[2], {})) for one in forms]
    assert [one.status_code for one in answers] == [200, 200, 200, 200, 404], "the last is gone"
    assert answers[3].json() == {"name": "../line 1/mes?", "revoked": 2}


def test_a_test_picture_says_why_there_is_none(client: TestClient) -> None:
    away = client.post("/api/v1/cameras/test", json={"source": "rtsp://127.0.0.1:1/live"})
    assert (away.status_code, "does not answer" in away.text) == (503, True)
    away = client.post("/api/v1/cameras/test", json={"source": "http://127.0.0.1:1/a.jpg"})
    assert (away.status_code, "does not answer" in away.text) == (503, True)
    saved = client.post("/api/v1/cameras/test", json={"source": "mqtt:i/cam"})
    assert (saved.status_code, "Save the camera" in saved.text) == (400, True)
    unknown = client.post("/api/v1/cameras/test", json={"source": "source"})
    (fault,) = unknown.json()["faults"]
    assert fault.keys() == {"path", "value", "expected", "fix"}


def test_the_first_picture_of_a_camera_is_taken_within_a_time(
    tmp_path: Path, jpeg: Callable[..., bytes], clock: FakeClock
) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg("blue"))
    camera = Camera(id="test", line="test", source=SecretUrl(f"folder:{tmp_path}"))
    assert take_picture(camera, clock=clock, timeout_s=LONG_S).startswith(b"\xff\xd8")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(LinesideError):
        take_picture(
            replace(camera, source=SecretUrl(f"folder:{empty}")), clock=clock, timeout_s=0.2
        )
