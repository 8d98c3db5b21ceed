"""Who may reach what: every route, every way of asking."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Route

from lineside.core import NotFoundError
from lineside.hub import HubConfig, Services, create_app
from lineside.hub.access.accounts import Accounts
from lineside.hub.access.auth import (
    Auth,
    Credentials,
    access_key,
    issue_access_key,
)
from lineside.hub.access.permissions import (
    COOKIE,
    GRANTS,
    RULES,
    Identity,
    Right,
    Role,
    authorize,
    is_open,
    required_right,
)
from lineside.hub.eventlog.ledger import RecordsJournal
from lineside.hub.middleware import Authentication, RouteIndex
from lineside.hub.problems import contract_of
from lineside.store import Records, open_records
from lineside.store.records import SqlRecords
from lineside.testing import FakeClock
from lineside.web.security import Receive, Scope, Send, UnauthenticatedError

OPEN = {
    *("/healthz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"),
    *("/sign-in", "/welcome", "/favicon.ico"),
    *(
        f"/api/v1/enrolment{below}"
        for below in ("", "/authority", "/revoked", "/code", "/renewal", "/page")
    ),
}
FOR_DEVICES = {
    "/api/v1/packages/{digest}/content",
    "/api/v1/operating-points/{inspection}/versions/{number}/content",
    "/api/v1/plant/versions/{number}/content",
    "/tuf/metadata/{name}",
    "/tuf/targets/{path:path}",
    "/s3",
    "/s3/",
    "/s3/{bucket}",
    "/s3/{bucket}/{key:path}",
}
WORDS = "four words in a row"
SIGNED = (
    "/endpoints/{name}/invocations",
    "/2015-03-31/functions/{name}/invocations",
    "/endpoints/{rest:path}",  # calls that are not offered: nothing is read or done
    "/2015-03-31/functions{rest:path}",
    "/role-aliases/{alias}/credentials",  # by a client certificate
)


def routes(app: object) -> Iterator[tuple[str, str]]:
    """Every method and path that the application answers to, with plausible parameters."""

    def walk(found: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
        for route in found:
            if isinstance(route, RouteIndex):
                yield from walk(one for _, routes in route.parts for one in routes())
                continue
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            if inner is not None and not isinstance(route, Route):
                yield from walk(inner.routes)
            elif isinstance(route, Route | APIRoute):
                for method in sorted(route.methods or ()):
                    yield method, route.path

    yield from walk(app.routes)  # type: ignore[attr-defined]  # an ASGI application of FastAPI


def filled(path: str) -> str:
    filled_in = (
        path.replace("{number}", "1")
        .replace("{path:path}", "slots")
        .replace("{identifier:path}", "evt_0")
    )
    while "{" in filled_in:
        head, _, rest = filled_in.partition("{")
        filled_in = head + "x" + rest.partition("}")[2]
    return filled_in


def everything(hub: Services) -> list[tuple[str, str]]:
    found = [(method, path) for method, path in routes(create_app(hub)) if method != "HEAD"]
    assert len(found) > 40
    return found


def test_every_route_asks_who_it_is_unless_it_is_open(hub: Services, nobody: TestClient) -> None:
    for method, path in everything(hub):
        if path in {*OPEN, *SIGNED, "/api/v1/twin/live"}:
            continue
        answer = nobody.request(method, filled(path))
        assert answer.status_code == 401, (method, path)
        if (contract := contract_of(path)) in ("s3", "jobs"):
            assert ("AccessDenied" if contract == "s3" else "UnauthorizedException") in answer.text
            continue
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["fix"]


def test_every_route_has_a_line_that_says_who_may(hub: Services) -> None:
    """A new route without one fails here."""
    unnamed = [
        (method, path)
        for method, path in everything(hub)
        if not is_open(path) and required_right(method, filled(path)) is None
    ]
    assert unnamed == []


def test_every_line_names_a_route_once(hub: Services) -> None:
    def bare(route: str) -> str:
        return re.sub(r"\{[^}:]*", "{", route)

    there = {bare(f"{method} {path}") for method, path in everything(hub)} | {"GET /ws"}
    lines = [line.strip() for text in RULES.values() for line in text.splitlines() if line.strip()]
    assert len(set(lines)) == len(lines)
    assert [line for line in lines if bare(line) not in there] == []


@pytest.mark.parametrize("role", Role)
def test_a_role_reaches_what_its_rights_name_and_nothing_else(
    hub: Services, nobody: TestClient, role: Role
) -> None:
    """Every route that changes something, asked for; the others by the same decision."""
    token = hub.auth.issue_token("program", kind="api", role=role)
    headers = {"Authorization": f"Bearer {token}"}
    for method, path in everything(hub):
        if is_open(path):
            continue
        right = required_right(method, filled(path))
        allowed = right in GRANTS[role]
        if method == "GET" and allowed:
            authorize(Identity(name="x", kind="api", role=role), method=method, path=filled(path))
            continue
        answer = nobody.request(method, filled(path), headers=headers, follow_redirects=False)
        assert (answer.status_code != 403) == allowed, (role, method, path)
        if not allowed:
            assert str(role) in answer.text
            assert "admin" in answer.text


def test_what_no_line_names_is_for_administrators(client: TestClient, hub: Services) -> None:
    token = hub.auth.issue_token("wall", kind="api", role=Role.VIEWER)
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/nowhere", headers=headers).status_code == 403
    assert client.get("/nowhere").status_code == 404


def test_whoever_releases_does_not_build() -> None:
    assert GRANTS[Role.ADMIN] == set(Right)
    for role in set(Role) - {Role.ADMIN}:
        assert not {Right.BUILD, Right.RELEASE} <= GRANTS[role]
        assert Right.ADMINISTER not in GRANTS[role]
        assert Right.LOOK in GRANTS[role]


@pytest.mark.parametrize("who", ["nobody", pytest.param("client", marks=pytest.mark.slow)])
def test_every_answer_carries_the_security_headers(
    hub: Services, who: str, request: pytest.FixtureRequest
) -> None:
    for method, path in everything(hub):
        if path == "/api/v1/twin/live":
            continue
        answer = request.getfixturevalue(who).request(method, filled(path), follow_redirects=False)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'"), path
        assert "unsafe" not in policy
        names = ("x-content-type-options", "x-frame-options", "referrer-policy")
        assert [answer.headers[name] for name in names] == ["nosniff", "DENY", "no-referrer"]


def test_a_browser_without_session_is_led_to_the_welcome_page(nobody: TestClient) -> None:
    answer = nobody.get("/lines/a%20b?p=1", headers={"Accept": "text/html"}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/welcome?next=%2Flines%2Fa%2520b%3Fp%3D1"
    form = nobody.get(answer.headers["location"]).text
    assert 'action="/sign-in?next=/lines/a%2520b%3Fp%3D1"' in form


def test_a_wrong_token_is_nobody(nobody: TestClient) -> None:
    answer = nobody.get("/api/v1/twin", headers={"Authorization": "Bearer no"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_device_may_fetch_packages_and_nothing_else(hub: Services, nobody: TestClient) -> None:
    token = hub.auth.issue_token("edge-1", kind="device")
    headers = {"Authorization": f"Bearer {token}"}
    digest = "sha256:" + "0" * 64
    assert nobody.get(f"/api/v1/packages/{digest}/content", headers=headers).status_code == 404
    for method, path in everything(hub):
        if path in {*OPEN, *SIGNED, *FOR_DEVICES}:
            continue
        assert nobody.request(method, filled(path), headers=headers).status_code == 403, path


def test_an_ingest_token_may_ingest_and_nothing_else(hub: Services, nobody: TestClient) -> None:
    """Reference defect 10."""
    token = hub.auth.issue_token("bridge", kind="ingest")
    headers = {"Authorization": f"Bearer {token}"}
    body = {"topic": "i/ldr", "ts": "2026-01-01T12:00:00.000Z", "ldr": 1}
    assert nobody.post("/mqttingest", json=body).status_code == 401
    assert nobody.post("/mqttingest", json=body, headers=headers).status_code == 201
    assert nobody.get("/api/v1/twin", headers=headers).status_code == 403


def test_a_revoked_token_is_worth_nothing(hub: Services, nobody: TestClient) -> None:
    token = hub.auth.issue_token("bridge", kind="api")
    headers = {"Authorization": f"Bearer {token}"}
    assert nobody.get("/api/v1/twin", headers=headers).status_code == 200
    assert hub.auth.revoke("bridge") == 1
    assert nobody.get("/api/v1/twin", headers=headers).status_code == 401


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    name = scope["state"]["identity"].name
    await PlainTextResponse(name)(scope, receive, send)


def test_what_another_program_revokes_is_refused_at_the_next_request(
    tmp_path: Path, clock: FakeClock
) -> None:
    """And nothing is read from the records while nobody writes there."""
    url = f"sqlite:///{tmp_path}/records.db"
    with open_records(url, clock=clock) as records, open_records(url, clock=clock) as others:
        auth, other = (Auth(each, clock=clock, session_hours=1) for each in (records, others))
        token = auth.issue_token("bridge", kind="api")
        key = issue_access_key(records, name="bridge", clock=clock)
        session = auth.sign_in(auth.issue_link(name="anna"))
        client = TestClient(Authentication(greet, auth=auth))
        bearer, cookie = {"Authorization": f"Bearer {token}"}, {"Cookie": f"{COOKIE}={session}"}
        statements = statements_of(records)

        def seen() -> list[str]:
            found = [client.get("/api/v1/twin", headers=each).text for each in (bearer, cookie)]
            return [*found, access_key(records, key.id, now=clock.now()).name]

        assert seen() == ["bridge", "anna", "bridge"]
        assert len(statements) == 3
        assert seen() == ["bridge", "anna", "bridge"]
        assert len(statements) == 3
        other.revoke("bridge")
        assert client.get("/api/v1/twin", headers=bearer).status_code == 401
        other.sign_out(session)
        assert client.get("/api/v1/twin", headers=cookie).status_code == 401
        with pytest.raises(NotFoundError):
            access_key(records, key.id, now=clock.now())


def statements_of(records: Records) -> list[str]:
    """SQL that is run from now on."""
    assert isinstance(records, SqlRecords)
    found: list[str] = []

    def note(*given: object) -> None:
        found.append(str(given[2]))

    sa.event.listen(records._session.flavour.reader, "before_cursor_execute", note)
    return found


def test_a_user_who_is_removed_by_another_program_is_refused_at_the_next_request(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    with open_records(url, clock=clock) as records, open_records(url, clock=clock) as others:
        auth = Auth(records, clock=clock, session_hours=1)
        accounts = Accounts(others, journal=RecordsJournal(others), site="s", clock=clock)
        for name in ("anna", "berta"):
            accounts.add(name, role=Role.ADMIN, password=WORDS, by="test")
        given = Credentials(name="anna", password=WORDS)
        session = auth.sign_in_by_password(given)
        assert auth.session(session).identity.role is Role.ADMIN
        accounts.set_role("anna", role=Role.VIEWER, by="berta")
        assert auth.session(session).identity.role is Role.VIEWER
        accounts.remove("anna", by="berta")
        with pytest.raises(UnauthenticatedError, match="over"):
            auth.session(session)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 409),
        ({"Sec-Fetch-Site": "none"}, 409),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1"}, 409),
        ({"Origin": "http://127.0.0.1:99"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}, 403),
    ],
)
def test_an_unsafe_request_with_a_cookie_must_come_from_our_own_pages(
    browser: TestClient, headers: dict[str, str], status: int
) -> None:
    """409 is the order's own refusal: the request went through."""
    answer = browser.post("/api/v1/orders", json={"colour": "red"}, headers=headers)
    assert answer.status_code == status


def test_a_token_needs_no_origin_even_beside_a_cookie(hub: Services, browser: TestClient) -> None:
    token = hub.auth.issue_token("program", kind="api")
    answer = browser.post(
        "/api/v1/orders",
        json={"colour": "red"},
        headers={"Authorization": f"Bearer {token}", "Origin": "http://evil.test"},
    )
    assert answer.status_code == 409


def test_a_safe_request_needs_no_origin(browser: TestClient) -> None:
    assert browser.get("/api/v1/twin").status_code == 200


def test_loopback_answers_to_its_own_names_only(hub: Services) -> None:
    for host, status in (("127.0.0.1:8080", 200), ("localhost", 200), ("[::1]:1", 200),
                         ("evil.test", 403), ("", 403)):  # fmt: skip
        with TestClient(create_app(hub), base_url="http://127.0.0.1") as asking:
            assert asking.get("/healthz", headers={"Host": host}).status_code == status, host


@pytest.mark.parametrize("name", ["hub.plant.lan", "hub.lan"])
def test_a_configured_name_is_answered_too(hub: Services, config: HubConfig, name: str) -> None:
    named = replace(
        hub,
        config=replace(config, public_url="https://hub.lan", allowed_hosts=("hub.plant.lan",)),
    )
    with TestClient(create_app(named), base_url=f"http://{name}") as asking:
        assert asking.get("/healthz").status_code == 200


def test_a_sign_in_link_works_once(hub: Services, nobody: TestClient) -> None:
    token = hub.auth.issue_link(name="anna")
    first = nobody.get("/sign-in", params={"token": token})
    assert first.status_code == 200
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert token not in cookie
    who = {"kind": "session", "name": "anna", "role": "admin"}
    assert nobody.get("/api/v1/me").json() == who
    nobody.cookies.clear()
    again = nobody.get("/sign-in", params={"token": token})
    assert again.status_code == 403
    assert COOKIE not in again.headers.get("set-cookie", "")


def test_under_tls_the_cookie_is_secure(hub: Services) -> None:
    with TestClient(create_app(hub), base_url="https://127.0.0.1") as asking:
        token = hub.auth.issue_link(name="anna")
        cookie = asking.get("/sign-in", params={"token": token}).headers["set-cookie"]
        assert "Secure" in cookie


def test_a_sign_in_link_ends_after_a_day(
    hub: Services, nobody: TestClient, clock: FakeClock
) -> None:
    token = hub.auth.issue_link(name="anna")
    clock.advance(24 * 3600)
    assert nobody.get("/sign-in", params={"token": token}).status_code == 403


def test_wrong_links_are_limited_and_the_limit_ends(
    hub: Services, nobody: TestClient, clock: FakeClock
) -> None:
    for _ in range(10):
        assert nobody.get("/sign-in", params={"token": "guess"}).status_code == 403
    assert nobody.get("/sign-in", params={"token": "guess"}).status_code == 429
    token = hub.auth.issue_link(name="anna")
    assert nobody.get("/sign-in", params={"token": token}).status_code == 200
    clock.advance(61)
    assert nobody.get("/sign-in", params={"token": "guess"}).status_code == 403


def test_a_session_ends_by_time_and_by_signing_out(
    hub: Services, browser: TestClient, clock: FakeClock
) -> None:
    ours = {"Origin": "http://127.0.0.1"}
    assert browser.post("/sign-out", headers=ours, follow_redirects=False).status_code == 303
    assert browser.get("/api/v1/twin").status_code == 401
    browser.get("/sign-in", params={"token": hub.auth.issue_link(name="anna")})
    assert browser.get("/api/v1/twin").status_code == 200
    clock.advance(12 * 3600)
    assert browser.get("/api/v1/twin").status_code == 401


def test_nothing_secret_is_kept_readable(hub: Services) -> None:
    """Reference defect 12."""
    link = hub.auth.issue_link(name="anna")
    session = hub.auth.sign_in(hub.auth.issue_link(name="bob"))
    token = hub.auth.issue_token("program", kind="api")
    kept = str([hub.records.documents.page(kind) for kind in ("sign-in", "session", "token")])
    assert not any(secret in kept for secret in (link, session, token))


def test_what_is_over_is_swept(hub: Services, clock: FakeClock) -> None:
    hub.auth.issue_link(name="anna")
    hub.auth.sign_in(hub.auth.issue_link(name="bob"))
    clock.advance(25 * 3600)
    assert hub.auth.sweep() == 2
    assert hub.auth.sweep() == 0


def test_token_files_are_for_their_owner_only_and_survive_a_restart(
    hub: Services, config: HubConfig
) -> None:
    path = config.folder / "tokens" / "admin.token"
    hub.auth.ensure_token_file(path, name="admin", kind="api", hub="hub_1")
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text().strip()
    hub.auth.ensure_token_file(path, name="admin", kind="api", hub="hub_1")
    assert path.read_text().strip() == token
    assert hub.auth.identify(token).name == "admin"
    hub.auth.revoke("admin")
    hub.auth.ensure_token_file(path, name="admin", kind="api", hub="hub_1")
    assert hub.auth.identify(token).name == "admin"


def test_a_token_file_taken_away_gets_a_new_token_and_the_old_one_ends(
    hub: Services, config: HubConfig
) -> None:
    path = config.folder / "tokens" / "admin.token"
    hub.auth.ensure_token_file(path, name="admin", kind="api", hub="hub_1")
    old = path.read_text().strip()
    path.unlink()
    hub.auth.ensure_token_file(path, name="admin", kind="api", hub="hub_1")
    assert hub.auth.identify(path.read_text().strip()).name == "admin"
    with pytest.raises(UnauthenticatedError):
        hub.auth.identify(old)


@pytest.mark.parametrize(
    ("path", "size"),
    [("/mqttingest", 12_000_001), ("/api/v1/orders", 2_000_001)],
)
def test_a_body_above_the_limit_is_refused_announced_or_not(
    client: TestClient, path: str, size: int
) -> None:
    body = b" " * size
    announced = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert announced.status_code == 413

    def chunks() -> Iterator[bytes]:
        for start in range(0, size, 500_000):
            yield body[start : start + 500_000]

    streamed = client.post(path, content=chunks(), headers={"Content-Type": "application/json"})
    assert streamed.status_code == 413
    assert streamed.headers["content-type"] == "application/problem+json"


@pytest.fixture
def asked(client: TestClient) -> Callable[[str], int]:
    return lambda kind: (
        client.post(
            "/api/v1/orders", content=b"colour=red", headers={"Content-Type": kind}
        ).status_code
    )


def test_a_body_of_another_type_is_refused(asked: Callable[[str], int]) -> None:
    assert asked("application/x-www-form-urlencoded") == 415
    assert asked("text/plain") == 415
