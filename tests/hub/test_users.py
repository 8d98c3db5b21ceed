"""Users, passwords and tokens: signing in, guessing, roles that change, and what the log keeps."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from lineside.cli.app import _run
from lineside.cli.config import load_hub
from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    RefusedError,
)
from lineside.hub import Accounts, NewToken, Role, Services, create_app
from lineside.hub.access.accounts import TOKEN_TYPE
from lineside.hub.access.auth import (
    Auth,
    Credentials,
    TooManyAttemptsError,
    check_password,
    checked_name,
    hash_password,
    user_key,
    verify_password,
)
from lineside.hub.access.permissions import COOKIE, GRANTS, Right
from lineside.store import open_records
from lineside.testing import FakeClock
from lineside.web.security import AttemptCounter, UnauthenticatedError
from tests.hub.conftest import open_hub

PASSWORD = "correct horse battery"  # noqa: S105  of nobody
OTHER = "staple table lantern"
OURS = {"Origin": "http://127.0.0.1"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with little memory, so that a guess does not take a third of a second."""
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    nobody = hasher.hash("nobody at all")
    monkeypatch.setattr("lineside.hub.access.auth._hasher", lambda: hasher)
    monkeypatch.setattr("lineside.hub.access.auth._nobody", lambda: nobody)


def test_a_password_costs_what_rfc_9106_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kept = hash_password(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert verify_password(kept, PASSWORD)


@pytest.fixture
def accounts(hub: Services, clock: FakeClock) -> Accounts:
    return Accounts(hub.records, journal=hub.ledger, site="hall", clock=clock)


@pytest.fixture
def anna(accounts: Accounts) -> str:
    accounts.add("Anna", role=Role.ENGINEER, password=PASSWORD, by="test")
    return "Anna"


def sign_in(client: TestClient, name: str, password: str = PASSWORD) -> int:
    answer = client.post(
        "/sign-in", data={"name": name, "password": password}, headers=OURS, follow_redirects=False
    )
    return answer.status_code


@pytest.mark.parametrize(
    ("asked", "to"),
    [
        ("", "/"), ("?next=/lines/a%2520b%3Fp%3D1", "/lines/a%20b?p=1"), ("?next=//evil.com", "/"),
        ("?next=https://evil.com", "/"), ("?next=/%5Cevil.com", "/"), ("?next=/%09/evil.com", "/"),
    ],
)  # fmt: skip
def test_a_user_signs_in_by_name_and_password(
    nobody: TestClient, anna: str, *, asked: str, to: str
) -> None:
    assert "autocomplete" in nobody.get("/welcome").text
    answer = nobody.post(
        f"/sign-in{asked}", data={"name": "anna", "password": PASSWORD}, headers=OURS,
        follow_redirects=False,
    )  # fmt: skip
    assert (answer.status_code, answer.headers["location"]) == (303, to)
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert nobody.get("/api/v1/me").json() == {"name": anna, "kind": "session", "role": "engineer"}
    for _ in range(2):  # the second time of a session that has ended
        assert (
            nobody.post("/sign-out", headers=OURS | {"Accept": "text/html"}).url
            == "http://127.0.0.1/welcome"
        )
    assert nobody.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize("name", ["anna", "nobody", "", "x" * 500, "\x00", "anna\n"])
def test_a_wrong_name_and_a_wrong_password_get_the_same_words(
    nobody: TestClient, anna: str, name: str
) -> None:
    assert anna
    answer = nobody.post("/sign-in", data={"name": name, "password": OTHER}, headers=OURS)
    assert (answer.status_code, "Wrong name or password. Try" in answer.text) == (403, True)
    assert COOKIE not in answer.headers.get("set-cookie", "")
    if name.strip():
        assert name.strip()[:20] not in answer.text


def test_nobody_elses_page_signs_a_browser_in(nobody: TestClient, anna: str) -> None:
    for headers in ({}, {"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = nobody.post("/sign-in", data={"name": anna, "password": PASSWORD}, headers=headers)
        assert answer.status_code == 403
        assert COOKIE not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"name": "anna"}', "application/json", 415),
        (b"name=anna&password=" + b"x" * 5000, "application/x-www-form-urlencoded", 413),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 403),
        (b"", "application/x-www-form-urlencoded", 403),
        (b"&".join(b"a=b" for _ in range(50)), "application/x-www-form-urlencoded", 400),
    ],
)
def test_a_form_of_another_kind_is_refused(
    nobody: TestClient, content: bytes, kind: str, status: int
) -> None:
    headers = {**OURS, "Content-Type": kind}
    assert nobody.post("/sign-in", content=content, headers=headers).status_code == status


def test_guessing_is_limited_for_names_that_are_there_and_not_alike(
    nobody: TestClient, anna: str, clock: FakeClock
) -> None:
    for name in (anna, "Nobody"):
        for _ in range(5):
            assert sign_in(nobody, name, OTHER) == 403
        assert sign_in(nobody, name, OTHER) == 429
    assert sign_in(nobody, anna) == 429
    clock.advance(301)
    assert sign_in(nobody, anna) == 303


def test_an_address_has_a_limit_of_its_own(
    hub: Services, anna: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineside.hub.access.auth._TRIES_OF_ADDRESS", 6)
    auth = Auth(hub.records, clock=clock, session_hours=1)
    for number in range(6):
        given = Credentials(name=f"user {number}", password=OTHER, address="10.0.0.1")
        with pytest.raises(RefusedError):
            auth.sign_in_by_password(given)
    right = Credentials(name=anna, password=PASSWORD, address="10.0.0.1")
    with pytest.raises(TooManyAttemptsError):
        auth.sign_in_by_password(right)
    assert auth.sign_in_by_password(replace(right, address="10.0.0.2"))


def test_a_new_role_holds_at_once_and_a_new_password_ends_the_session(
    nobody: TestClient, accounts: Accounts, anna: str
) -> None:
    assert sign_in(nobody, anna) == 303
    assert nobody.post("/api/v1/runs", headers=OURS).status_code == 400
    accounts.set_role(anna, role=Role.VIEWER, by="test")
    assert nobody.post("/api/v1/runs", headers=OURS).status_code == 403
    accounts.set_password(anna, password=OTHER, by="test")
    assert nobody.get("/api/v1/twin").status_code == 401
    assert sign_in(nobody, anna) == 403
    assert sign_in(nobody, anna, OTHER) == 303
    accounts.remove(anna, by="test")
    assert nobody.get("/api/v1/twin").status_code == 401
    accounts.add(anna, role=Role.VIEWER, password=OTHER, by="test")
    nobody.cookies.clear()
    assert sign_in(nobody, anna, OTHER) == 303


def test_people_change_their_own_password(
    hub: Services, nobody: TestClient, browser: TestClient, anna: str
) -> None:
    assert sign_in(nobody, anna) == 303
    first = nobody.cookies[COOKIE]
    elsewhere = hub.auth.sign_in_by_password(Credentials(name=anna, password=PASSWORD))
    assert 'data-json="/api/v1/me/password"' in nobody.get("/setup/password").text

    def change(current: str, password: str, *, by: TestClient = nobody) -> tuple[int, str]:
        body = {"current": current, "password": password}
        answer = by.post("/api/v1/me/password", json=body, headers=OURS)
        return answer.status_code, answer.text

    assert change(OTHER, OTHER)[0] == 403
    assert change(PASSWORD, "short")[0] == 400
    assert change(PASSWORD, OTHER)[0] == 200
    assert nobody.get("/api/v1/me").json()["name"] == anna
    for ended in (first, elsewhere):
        with pytest.raises(UnauthenticatedError):
            hub.auth.session(ended)
    (event,) = hub.events.page(kind="lineside.user.v1", newest_first=True, limit=1)
    assert (event.event["data"]["action"], event.event["data"]["by"]) == ("password", anna)
    for _ in range(4):  # the fifth with the one above
        assert change(PASSWORD, OTHER)[0] == 403
    assert change(OTHER, PASSWORD)[0] == 429
    browser.get("/sign-in", params={"token": hub.auth.issue_link(name="guest")})
    assert "guest has no password here" in change(PASSWORD, OTHER, by=browser)[1]
    assert "No password to change" in browser.get("/setup/password").text
    token = hub.auth.issue_token(anna, kind="api")
    nobody.cookies.clear()
    nobody.headers["Authorization"] = f"Bearer {token}"
    assert change(PASSWORD, OTHER)[0] == 403


def test_a_user_who_comes_back_gets_no_old_session(
    hub: Services, accounts: Accounts, anna: str
) -> None:
    session = hub.auth.sign_in_by_password(Credentials(name=anna, password=PASSWORD))
    accounts.remove(anna, by="test")
    accounts.add(anna, role=Role.ADMIN, password=PASSWORD, by="test")
    with pytest.raises(Exception, match="the session is over"):
        hub.auth.session(session)


def test_every_change_is_an_event_and_holds_no_secret(
    hub: Services, accounts: Accounts, anna: str
) -> None:
    accounts.set_role(anna, role=Role.APPROVER, by="eve")
    accounts.set_password(anna, password=OTHER, by="eve")
    token = accounts.issue(NewToken(name="wall", role=Role.VIEWER, days=30), by="eve")
    accounts.revoke("wall", by="eve")
    accounts.remove(anna, by="eve")
    users = hub.events.page(kind="lineside.user.v1")
    assert [one.event["data"]["action"] for one in users] == [
        "added",
        "role",
        "password",
        "removed",
    ]
    assert users[1].event["data"] == {
        "action": "role", "role": "approver", "was": "engineer", "by": "eve",
    }  # fmt: skip
    tokens = hub.events.page(kind="lineside.token.v1")
    assert [one.event["data"]["action"] for one in tokens] == ["issued", "revoked"]
    text = str([*users, *tokens])
    assert not any(secret in text for secret in (PASSWORD, OTHER, "argon2", token))
    assert all(hub.records.log.verify(source).ok for source in hub.records.log.heads())


def test_a_change_that_fails_leaves_no_event(hub: Services, accounts: Accounts, anna: str) -> None:
    with pytest.raises(ConflictError, match="there is a user"):
        accounts.add("ANNA", role=Role.ADMIN, password=PASSWORD, by="test")
    for change in (
        lambda: accounts.set_role("bob", role=Role.ADMIN, by="test"),
        lambda: accounts.set_password("bob", password=OTHER, by="test"),
        lambda: accounts.remove("bob", by="test"),
        lambda: accounts.revoke("bob", by="test"),
    ):
        with pytest.raises(NotFoundError):
            change()
    with pytest.raises(InvalidError):
        accounts.set_password(anna, password=PASSWORD[:8], by="test")
    assert len(hub.events.page(kind="lineside.user.v1")) == 1
    assert [user.name for user in accounts.users()] == [anna]


def test_a_token_has_a_role_and_an_end(
    hub: Services, accounts: Accounts, nobody: TestClient, clock: FakeClock
) -> None:
    token = accounts.issue(NewToken(name="wall", role=Role.OPERATOR, days=30), by="eve")
    headers = {"Authorization": f"Bearer {token}"}
    told = {"name": "wall", "kind": "api", "role": "operator"}
    assert nobody.get("/api/v1/me", headers=headers).json() == told
    assert nobody.post("/api/v1/runs", headers=headers).status_code == 403
    facts = next(one for one in accounts.tokens() if one.name == "wall")
    assert facts.ends_at is not None
    assert (facts.ends_at - facts.issued_at).days == 30
    clock.advance(30 * 86_400)
    assert nobody.get("/api/v1/me", headers=headers).status_code == 401
    assert hub.auth.sweep() == 1
    assert accounts.tokens() == ()


def test_a_device_token_has_no_role(accounts: Accounts, hub: Services) -> None:
    token = accounts.issue(NewToken(name="edge-1", kind="device", days=0), by="eve")
    assert hub.auth.identify(token).role is None
    assert accounts.tokens()[0].ends_at is None


@pytest.mark.parametrize(
    "wished", [{"kind": "root"}, {"days": -1.0}, {"days": 99999.0}, {"name": " "}]
)
def test_a_token_that_makes_no_sense_is_refused(wished: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        NewToken(**{"name": "x", **wished})  # type: ignore[arg-type]  # what is tried


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 201, "aaaaaaaaaaaaaaaa", "annaannaanna", "Anna" * 4]
)
def test_a_password_that_is_quickly_guessed_is_refused(password: str) -> None:
    with pytest.raises(InvalidError) as refused:
        check_password(password, name="anna")
    assert password == "" or password not in str(refused.value)


def test_a_password_is_kept_as_argon2_and_letters_are_letters(anna: str) -> None:
    kept = hash_password("Ü" * 12)
    assert kept.startswith("$argon2id$")
    assert verify_password(kept, "Ü" * 12)
    assert not verify_password(kept, "U" * 12)
    assert not verify_password("", "nobody at all")
    assert not verify_password("nonsense", PASSWORD)
    assert anna


@given(st.text(max_size=80))
def test_a_name_is_refused_or_stays_what_it_is(name: str) -> None:
    try:
        kept = checked_name(name)
    except InvalidError:
        return
    assert checked_name(kept) == kept
    assert user_key(kept) == user_key(kept.upper()) or user_key(kept) == user_key(name)


def test_keys_of_tries_are_bounded(clock: FakeClock) -> None:
    tries = AttemptCounter(most=2, window_s=10.0, clock=clock)
    for number in range(5000):
        tries.count(str(number))
        tries.wait_s(f"other {number}")
    assert len(tries._wrong) == 4096
    tries.count("a")
    assert tries.wait_s("a") == 0
    tries.count("a")
    clock.advance(4)
    assert tries.wait_s("a") == 6
    clock.advance(6)
    assert tries.wait_s("a") == 0


def test_the_documented_table_of_roles_is_the_one_that_holds() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "users.md").read_text()
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    told = {row[0].strip().strip("`"): [cell.strip() == "yes" for cell in row[1:]] for row in rows}
    for role in Role:
        cells = told[str(role)] + [False] * len(Right)
        assert cells[: len(Right)] == [right in GRANTS[role] for right in Right], role


# ---- the command line


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    from tests.hub.conftest import PLANT

    (tmp_path / "plant.toml").write_bytes(PLANT)
    file = tmp_path / "hub.toml"
    file.write_text(f'data_dir = "{tmp_path / "hub"}"\nplant = "{tmp_path / "plant.toml"}"\n')
    (tmp_path / "hub").mkdir()
    return str(file)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return str(tmp_path / "password")


def test_users_are_kept_by_command(
    config_file: str, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--config", config_file]
    words = ["user", "add", "anna", "--role", "engineer", "--password-file", secret, *where]
    assert _run(words) == 0
    assert _run(words) == 4
    assert _run(["user", "role", "anna", "approver", *where]) == 0
    assert _run(["user", "password", "anna", "--password-file", secret, *where]) == 0
    capsys.readouterr()
    assert _run(["user", "list", *where]) == 0
    told = capsys.readouterr().out
    assert "anna" in told
    assert "approver" in told
    assert _run(["user", "list", "--json", *where]) == 0
    assert "argon2" not in capsys.readouterr().out
    assert _run(["user", "remove", "anna", "--yes", *where]) == 0
    assert _run(["user", "remove", "anna", "--yes", *where]) == 3
    assert _run(["user", "add", "bob", *where]) == 2
    assert "nobody to ask" in capsys.readouterr().err


def test_tokens_are_kept_by_command(
    config_file: str, capsys: pytest.CaptureFixture[str], clock: FakeClock
) -> None:
    where = ["--config", config_file]
    assert _run(["token", "issue", "wall", "--role", "viewer", "--days", "7", *where]) == 0
    assert len(capsys.readouterr().out.strip()) > 30
    assert _run(["token", "issue", "press", "--days", "0", *where]) == 0
    capsys.readouterr()
    assert _run(["token", "list", *where]) == 0
    press, wall = capsys.readouterr().out.splitlines()[1:]
    assert _run(["hub", "key", "press", "--role=approver", "--by=anna", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["role"] == "approver"
    assert _run(["token", "list", *where]) == 0
    assert re.search(r"press  key LSAK\w{16}  approver", capsys.readouterr().out)
    assert press.endswith("until revoked")
    assert "viewer" in wall
    assert _run(["token", "revoke", "wall", *where]) == 0
    assert _run(["token", "revoke", "wall", *where]) == 3
    assert _run(["token", "revoke", "press", "--by", "anna", *where]) == 0
    assert "revoked 2" in capsys.readouterr().err
    with open_records(load_hub(Path(config_file)).config.records_url, clock=clock) as records:
        logged = records.log.read(type=TOKEN_TYPE)
    people = [json.loads(one.entry.body)["data"]["by"] for one in logged]
    assert people == ["command line", "command line", "anna", "command line", "anna"]


def test_a_user_made_by_command_signs_in_at_a_hub_that_runs(
    config_file: str, secret: str, clock: FakeClock
) -> None:
    """The hub and the command share the store, not a process."""
    from lineside.core import load_plant

    config = load_hub(Path(config_file)).config
    with (
        open_hub(config, plant=load_plant(Path(config.plant)), clock=clock) as hub,
        TestClient(create_app(hub), base_url="http://127.0.0.1") as client,
    ):
        words = ["--password-file", secret, "--config", config_file]
        assert _run(["user", "add", "anna", *words]) == 0
        assert sign_in(client, "anna") == 303
        assert client.post("/api/v1/runs", headers=OURS).status_code == 403
        assert len(hub.events.page(kind="lineside.user.v1")) == 1
