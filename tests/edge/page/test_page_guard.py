"""Who may see the page, and what those try who may not."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from lineside.core import InvalidError, NotFoundError, SystemClock
from lineside.edge import write_page_password
from lineside.fleet import CertificateAuthority
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.edge.page.asking import Answer, ask
from tests.edge.page.pages import Shown, classified, shown

PASSWORD = "four words of nobody"  # noqa: S105  of the tests
TOKEN = "0123456789abcdef0123"  # noqa: S105  likewise
PAGE = "text/html"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("secrets")
    write_page_password(PASSWORD, path=folder / "password")
    (folder / "token").write_text(TOKEN + "\n")
    return {"password_file": str(folder / "password"), "token_file": str(folder / "token")}


@pytest.fixture
def page(tmp_path: Path, files: dict[str, Any]) -> Iterator[Shown]:
    with shown(tmp_path, clock=SystemClock(), **files) as served:
        frame = served.frame()
        served.see(frame, classified(frame))
        yield served


def signed_in(page: Shown, password: str = PASSWORD, **headers: str) -> Answer:
    origin: dict[str, Any] = {"Origin": page.url, **headers}
    form = urlencode({"name": "page", "password": password}).encode()
    return ask(page.url, "/sign-in", method="POST", body=form, **origin)


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


GUARDED = (
    "/", "/api/status", "/api/live?after=0", "/api/latest/defect", "/api/latest/defect/picture",
    "/api/latest/defect/heat", "/cameras/surface/live.mjpeg", "/v2", "/v2/health/live",
    "/v2/models/defect", "/nothing",
)  # fmt: skip


@pytest.mark.parametrize("path", GUARDED)
def test_nobody_sees_anything_without_a_sign_in(page: Shown, path: str) -> None:
    tried: tuple[dict[str, Any], ...] = (
        {},
        {"Cookie": "lineside_page=x"},
        {"Authorization": "Bearer wrong"},
    )
    for headers in tried:
        answer = ask(page.url, path, **headers)
        assert answer.status == 401
        assert answer.json["title"] == "Not signed in"
        assert b"defect" not in answer.body
    answer = ask(page.url, path, Accept=PAGE)
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in")


def test_a_password_opens_the_page_until_sign_out(page: Shown) -> None:
    assert ask(page.url, "/sign-in").status == 200
    answer = signed_in(page)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    told = answer.headers["set-cookie"]
    assert "HttpOnly" in told
    assert "SameSite=strict" in told
    assert "Secure" not in told  # plain HTTP
    cookie = cookie_of(answer)
    assert "Sign out" in ask(page.url, Cookie=cookie).body.decode()
    assert ask(page.url, "/api/status", Cookie=cookie).status == 200
    out = ask(page.url, "/sign-out", method="POST", body=b"", Cookie=cookie, Origin=page.url)
    assert out.status == 303
    assert ask(page.url, "/api/status", Cookie=cookie).status == 401


def test_a_wrong_password_is_told_on_the_form(tmp_path: Path, files: dict[str, Any]) -> None:
    with shown(tmp_path, clock=FakeClock(), **files) as page:
        answer = signed_in(page, password="<b>wrong</b>")  # noqa: S106  of the test
        assert answer.status == 403
        assert b"not the page" in answer.body
        assert b"<b>wrong" not in answer.body
        assert "set-cookie" not in answer.headers
        for _ in range(4):
            signed_in(page, password="wrong")  # noqa: S106  likewise
        assert signed_in(page).status == 503


def test_programs_send_the_token(page: Shown) -> None:
    for path in ("/api/status", "/v2", "/api/latest/defect"):
        assert ask(page.url, path, Authorization=f"Bearer {TOKEN}").status == 200
    body = b"{}"
    asked: dict[str, Any] = {"method": "POST", "Authorization": f"Bearer {TOKEN}"}
    assert ask(page.url, "/v2/models/none/infer", body=body, **asked).status in (400, 404)


def test_health_and_files_need_no_sign_in(page: Shown) -> None:
    for path in ("/health", "/static/css/tokens.css", "/static/js/theme.js", "/favicon.ico"):
        assert ask(page.url, path).status == 200
    assert ask(page.url, "/static/../templates/index.html").status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1"},
        {"Origin": "null"},
    ],
)
def test_other_people_s_pages_cannot_use_a_browser_that_is_signed_in(
    page: Shown, headers: dict[str, Any]
) -> None:
    cookie = cookie_of(signed_in(page))
    form = urlencode({"password": PASSWORD}).encode()
    for path, body in (("/sign-in", form), ("/sign-out", b""), ("/v2/models/defect/infer", b"{}")):
        answer = ask(page.url, path, method="POST", body=body, Cookie=cookie, **headers)
        assert answer.status == 403
        assert "own page" in answer.json["detail"]
    assert ask(page.url, "/api/status", Cookie=cookie).status == 200


def test_a_cookie_alone_does_nothing_but_read(page: Shown) -> None:
    cookie = cookie_of(signed_in(page))
    assert ask(page.url, "/sign-out", method="POST", body=b"", Cookie=cookie).status == 403


def test_a_page_without_sign_in_answers_to_this_machine_s_names_only(tmp_path: Path) -> None:
    with shown(tmp_path, clock=SystemClock(), hosts=("edge-1.local",)) as page:
        port = urlsplit(page.url).port
        for host in ("localhost", f"127.0.0.1:{port}", f"[::1]:{port}", "edge-1.local:80"):
            assert ask(page.url, "/api/status", Host=host).status == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            answer = ask(page.url, "/api/status", Host=host)
            assert answer.status == 403
            assert "page.hosts" in answer.json["fix"]
        assert ask(page.url, "/sign-in").status == 303


def test_bodies_that_are_too_large_are_refused_announced_or_not(page: Shown) -> None:
    announced = ask(page.url, "/sign-in", method="POST", body=b"x" * 5_000)
    assert announced.status == 413
    place = urlsplit(page.url)
    with socket.create_connection((place.hostname or "", place.port or 0), LONG_S) as raw:
        head = (
            f"POST /sign-in HTTP/1.1\r\nHost: {place.netloc}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(head.encode() + b"1400\r\n" + b"x" * 5120 + b"\r\n0\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(range(256)) * 8,
    ],
)
def test_what_is_no_request_harms_nobody(page: Shown, raw: bytes) -> None:
    place = urlsplit(page.url)
    with socket.create_connection(
        (place.hostname or "", place.port or 0), timeout=LONG_S
    ) as client:
        client.sendall(raw)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert ask(page.url, "/health").status == 200


def test_hostile_forms_and_headers_are_refused_with_a_sentence(page: Shown) -> None:
    for body in (b"\xff\xfe", b"password=" + b"%FF" * 900, b"&" * 3_000, b"password", b"a=1&" * 20):
        answer = ask(page.url, "/sign-in", method="POST", body=body)
        assert answer.status in (400, 403, 503), body[:20]
    strange: dict[str, Any] = {
        "Authorization": "Bearer \xe9",
        "Cookie": "lineside_page=\xe9; =; ;;",
    }
    assert ask(page.url, "/api/status", **strange).status == 401


def test_more_requests_than_a_device_can_answer_are_turned_away(tmp_path: Path) -> None:
    clock = FakeClock()
    with shown(tmp_path, clock=clock) as page:
        statuses = {ask(page.url, "/nothing").status for _ in range(400)}
        assert statuses == {404}
        assert ask(page.url, "/nothing").status == 429
        clock.advance(1)
        assert ask(page.url, "/nothing").status == 404


def test_who_does_not_read_is_let_go(page: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    from lineside.edge.page import app

    monkeypatch.setattr(app, "_UNREAD_S", 0.3)
    place, token = urlsplit(page.url), f"Authorization: Bearer {TOKEN}\r\n"
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        lazy.connect((place.hostname or "", place.port or 0))
        head = f"GET /cameras/surface/live.mjpeg HTTP/1.1\r\nHost: {place.netloc}\r\n{token}\r\n"
        lazy.sendall(head.encode())
        asked: dict[str, Any] = {"Authorization": f"Bearer {TOKEN}"}

        def viewers() -> int:
            found: int = ask(page.url, "/api/status", **asked).json["viewers"]
            return found

        wait_until(lambda: viewers() == 1)
        seed = 0

        def gone() -> bool:
            nonlocal seed
            seed += 1
            page.see(page.frame(seed=seed))
            return viewers() == 0

        wait_until(gone)


def test_a_page_over_tls_has_a_cookie_that_stays_there(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    clock = SystemClock()
    authority = CertificateAuthority.create(tmp_path / "ca", site="demo", clock=clock)
    pair = authority.issue_server(("edge-1", "127.0.0.1"))
    (tmp_path / "page.crt").write_bytes(pair.certificate)
    (tmp_path / "page.key").write_bytes(pair.key)
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    tls: dict[str, Any] = {
        "tls_cert": str(tmp_path / "page.crt"),
        "tls_key": str(tmp_path / "page.key"),
    }
    with shown(tmp_path, clock=clock, **tls, **files) as page:
        assert page.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        place = urlsplit(page.url)
        with (
            socket.create_connection(
                (place.hostname or "", place.port or 0), timeout=LONG_S
            ) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as client,
        ):
            form = urlencode({"password": PASSWORD})
            client.sendall(
                f"POST /sign-in HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
                f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
            )
            said = b""
            while part := client.recv(4096):
                said += part
        assert b"303" in said
        assert b"Secure" in said


def test_files_of_the_settings_that_do_not_work_are_said(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    (tmp_path / "bad.pem").write_text("no pem")
    bad = str(tmp_path / "bad.pem")
    cases: list[tuple[type[Exception], dict[str, Any]]] = [
        (NotFoundError, {"password_file": str(tmp_path / "none")}),
        (InvalidError, {"password_file": bad}),
        (NotFoundError, {"token_file": str(tmp_path / "none")}),
        (InvalidError, {"token_file": bad}),
        (NotFoundError, {"tls_cert": str(tmp_path / "none"), "tls_key": bad}),
        (InvalidError, {"tls_cert": bad, "tls_key": bad}),
    ]
    for kind, settings in cases:
        with (
            pytest.raises(kind),
            shown(tmp_path, clock=SystemClock(), **{**files, **settings}),
        ):
            pass
