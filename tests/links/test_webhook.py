"""Posting to a real server: signatures, failures told apart, slow answers, TLS."""

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, SystemClock, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.core.webhooks import WebhookConfig
from lineside.fleet import CertificateAuthority
from lineside.links.webhook import WebhookSender, read_secrets, sign
from tests.links.hooks import Hooks, hooks_server

AT = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
JSON = "application/json"
SECRET = bytes(range(24))
LINE = "whsec_" + base64.b64encode(SECRET).decode()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(LINE + "\n")
    return path


def posted(target: WebhookConfig, *, times: int = 1) -> list[int]:
    sender = WebhookSender(target)
    try:
        return [
            sender.post(f"evt_{n}", b'{"a":1}', at=AT, content=JSON).status for n in range(times)
        ]
    finally:
        sender.close()


def test_the_signature_is_that_of_the_published_example() -> None:
    """The test vector of the reference implementations of Standard Webhooks."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    made = sign(
        [secret], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=at, body=b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_arrives_signed_and_unchanged(hooks: Hooks, secret_file: Path) -> None:
    target = WebhookConfig(
        name="mes",
        url=SecretUrl(hooks.url + "?line=1"),
        secret_file=str(secret_file),
        headers={"x-plant": "hall"},
    )
    assert posted(target) == [204]
    ((headers, body),) = hooks.came
    assert body == b'{"a":1}'
    assert headers["path"] == "/hook?line=1"
    assert (headers["x-plant"], headers["content-type"]) == ("hall", JSON)
    signed = f"evt_0.{int(AT.timestamp())}.".encode() + body
    wanted = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert headers["webhook-timestamp"] == str(int(AT.timestamp()))


def test_each_secret_of_the_file_signs_so_that_one_can_be_changed(
    hooks: Hooks, secret_file: Path
) -> None:
    secret_file.write_text(f"{LINE}\n{base64.b64encode(b'n' * 32).decode()}\n")
    posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url), secret_file=str(secret_file)))
    assert hooks.came[0][0]["webhook-signature"].count("v1,") == 2


def test_a_secret_header_comes_from_its_file(hooks: Hooks, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("Bearer abc\n")
    posted(
        WebhookConfig(
            name="mes", url=SecretUrl(hooks.url), header_files={"Authorization": str(path)}
        )
    )
    assert hooks.came[0][0]["authorization"] == "Bearer abc"
    path.write_text("a\r\nx: y")
    with pytest.raises(InvalidError, match="no header can carry"):
        posted(
            WebhookConfig(
                name="mes", url=SecretUrl(hooks.url), header_files={"Authorization": str(path)}
            )
        )


def test_one_connection_serves_many_events(hooks: Hooks) -> None:
    assert posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url)), times=5) == [204] * 5
    assert len(hooks.connections) == 1


@pytest.mark.parametrize("status", [200, 301, 400, 410, 429, 500, 503])
def test_the_status_is_what_counts_and_nothing_is_followed(hooks: Hooks, status: int) -> None:
    hooks.answers, hooks.headers = [status], {"location": hooks.url, "retry-after": "7"}
    sender = WebhookSender(WebhookConfig(name="mes", url=SecretUrl(hooks.url)))
    answer = sender.post("evt", b"{}", at=AT, content=JSON)
    assert (answer.status, answer.accepted) == (status, status == 200)
    assert answer.retry_after_s == 7
    assert len(hooks.came) == 1
    sender.close()


@pytest.mark.parametrize("said", ["soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400])
def test_a_strange_wait_is_bounded(hooks: Hooks, said: str) -> None:
    hooks.headers = {"retry-after": said}
    sender = WebhookSender(WebhookConfig(name="mes", url=SecretUrl(hooks.url)))
    assert sender.post("evt", b"{}", at=AT, content=JSON).retry_after_s in {0.0, 3600.0}
    sender.close()


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler, *, head: bytes = b"x: ") -> None:
    """One byte again and again, so that a limit for each read is never reached."""
    pause = threading.Event()
    handler.close_connection = True
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(200):
            handler.wfile.write(b"x")
            pause.wait(0.05)
    except OSError:
        return


def endless_last_body(handler: BaseHTTPRequestHandler) -> None:
    endless(handler, head=b"connection: close\r\n\r\n")


def crowded(handler: BaseHTTPRequestHandler) -> None:
    """More headers than anybody means."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n")
    handler.close_connection = True


def long_line(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n")
    handler.close_connection = True


def huge(handler: BaseHTTPRequestHandler) -> None:
    """A body of a terabyte, begun."""
    _begin(handler, b"content-length: 1000000000000\r\n\r\n", piece=b"x" * 65_536)


def chunked(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end."""
    _begin(
        handler, b"transfer-encoding: chunked\r\n\r\n", piece=b"ffff\r\n" + b"x" * 65_535 + b"\r\n"
    )


def _begin(handler: BaseHTTPRequestHandler, head: bytes, *, piece: bytes) -> None:
    handler.close_connection = True
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(200):
            handler.wfile.write(piece)
    except OSError:
        return


def going_on(handler: BaseHTTPRequestHandler) -> None:
    """Says again and again that it goes on."""
    pause = threading.Event()
    handler.close_connection = True
    try:
        for _ in range(200):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            pause.wait(0.05)
    except OSError:
        return


@pytest.mark.parametrize("answer", [huge, chunked])
def test_a_body_without_end_is_not_read_and_the_next_event_goes_out(
    hooks: Hooks, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    hooks.answers = [answer]
    assert posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url)), times=2) == [200, 204]
    assert len(hooks.connections) == 2


def test_one_who_only_says_that_it_goes_on_is_away_at_the_deadline(hooks: Hooks) -> None:
    hooks.answers = [going_on]
    with pytest.raises(UnavailableError, match=r"no answer within 0\.3 s"):
        posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url), timeout_s=0.3))


@pytest.mark.parametrize("answer", [cut, nonsense, crowded, long_line])
def test_a_broken_answer_is_tried_again_later(
    hooks: Hooks, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    hooks.answers = [answer]
    with pytest.raises(UnavailableError, match="away"):
        posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url)))


@pytest.mark.parametrize("answer", [endless, endless_last_body])
def test_an_answer_that_never_ends_ends_at_the_deadline(
    hooks: Hooks, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    hooks.answers = [answer]
    with pytest.raises(UnavailableError, match=r"no answer within 0\.3 s"):
        posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url), timeout_s=0.3))


def test_a_kept_connection_that_was_closed_is_opened_again(hooks: Hooks) -> None:
    def leave(handler: BaseHTTPRequestHandler) -> None:
        """Answer, and close without having said so."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        handler.close_connection = True

    hooks.answers = [leave]
    assert posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url)), times=2) == [200, 204]


def test_nobody_there_is_away() -> None:
    with pytest.raises(UnavailableError, match="away"):
        posted(WebhookConfig(name="mes", url=SecretUrl("http://127.0.0.1:9/x")))


# ---- TLS


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "authority", site="hall", clock=SystemClock())


def test_a_private_authority_is_named_by_its_file(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    pair = authority.issue_server(["127.0.0.1"])
    both, root = tmp_path / "server.pem", tmp_path / "authority" / "authority.crt"
    both.write_bytes(pair.certificate + pair.key)
    with hooks_server(certificate=both) as hooks:
        assert posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url), ca=str(root))) == [204]
        assert (
            "answers"
            in WebhookSender(
                WebhookConfig(name="mes", url=SecretUrl(hooks.url), ca=str(root))
            ).check()
        )
        with pytest.raises(RefusedError, match="not vouched for"):
            posted(WebhookConfig(name="mes", url=SecretUrl(hooks.url)))
        with pytest.raises(RefusedError, match="not vouched for"):
            posted(
                WebhookConfig(
                    name="mes",
                    url=SecretUrl(hooks.url.replace("127.0.0.1", "localhost")),
                    ca=str(root),
                )
            )


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    for path in (bad, tmp_path / "none.pem"):
        with pytest.raises(InvalidError, match="cannot read the authorities"):
            posted(WebhookConfig(name="mes", url=SecretUrl("https://127.0.0.1:9/"), ca=str(path)))


# ---- settings


@pytest.mark.parametrize(
    "make",
    [
        lambda: WebhookConfig(name="mes", url=SecretUrl("ftp://a/b")),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https:///b")),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://[::1/b")),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://a:99999/b")),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://user:geheim@a/b")),
        lambda: WebhookConfig(
            name="mes", url=SecretUrl("https://a/b"), headers={"Authorization": "geheim"}
        ),
        lambda: WebhookConfig(
            name="mes", url=SecretUrl("https://a/b"), headers={"webhook-id": "x"}
        ),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://a/b"), headers={"Host": "x"}),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://a/b"), headers={"x y": "x"}),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://a/b"), headers={"x": "a\r\nb: c"}),
        lambda: WebhookConfig(name="mes", url=SecretUrl("https://a/b"), timeout_s=0),
    ],
)
def test_settings_that_cannot_be_are_refused_without_the_secret(
    make: Callable[[], object],
) -> None:
    with pytest.raises(InvalidError) as raised:
        make()
    assert raised.value.fix
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!", "whsec_" + "QQ==", "A" * 200])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    with pytest.raises(InvalidError) as raised:
        read_secrets(path)
    assert raised.value.fix
    assert "AAAA" not in str(raised.value)
    with pytest.raises(NotFoundError):
        read_secrets(tmp_path / "none")
