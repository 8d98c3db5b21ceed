"""Fetching a package: to whom the token goes, and what each answer means."""

import socket
from pathlib import Path

import pytest

from lineside.core import InvalidError, LinesideError, NotFoundError, RefusedError, UnavailableError
from lineside.edge.hub_client import Access, HubClient, StoppingError, rebased
from tests.edge.conftest import PackageServer

TOKEN = "tok_geheim"  # noqa: S105  the test's


def test_the_bytes_come_and_the_token_goes_along(packages: PackageServer) -> None:
    packages.answers["/p?x=1"] = (200, b"archive", {})
    assert HubClient(packages.url, token=lambda: TOKEN).fetch(f"{packages.url}/p?x=1") == b"archive"
    assert packages.requests == [("/p?x=1", f"Bearer {TOKEN}")]


def test_the_token_goes_to_the_configured_hub_whatever_the_wish_says(
    packages: PackageServer,
) -> None:
    packages.answers["/p"] = (200, b"archive", {})
    assert HubClient(packages.url, token=lambda: TOKEN).fetch("http://evil.example/p") == b"archive"
    assert rebased("http://evil.example/p#x", hub="https://hub:8080/base") == "https://hub:8080/p"


def test_a_redirect_is_not_followed(packages: PackageServer) -> None:
    packages.answers["/p"] = (302, b"", {"Location": f"{packages.url}/elsewhere"})
    with pytest.raises(InvalidError, match="302"):
        HubClient(packages.url, token=lambda: TOKEN).fetch("/p")
    assert len(packages.requests) == 1


def test_no_proxy_of_the_environment_is_asked(
    packages: PackageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.answers["/p"] = (200, b"archive", {})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    assert HubClient(packages.url, token=lambda: TOKEN).fetch("/p") == b"archive"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, RefusedError), (403, RefusedError), (404, NotFoundError), (410, NotFoundError),
        (429, UnavailableError), (500, UnavailableError), (503, UnavailableError),
        (400, InvalidError),
    ],
)  # fmt: skip
def test_answers_are_told_apart_and_show_no_token(
    packages: PackageServer, status: int, kind: type[LinesideError]
) -> None:
    packages.answers["/p"] = (status, b"no", {})
    with pytest.raises(kind) as raised:
        HubClient(packages.url, token=lambda: TOKEN).fetch("/p")
    assert TOKEN not in str(raised.value)


def test_too_many_bytes_are_refused(packages: PackageServer) -> None:
    packages.answers["/p"] = (200, bytes(2000), {})
    with pytest.raises(InvalidError, match="more than 1000"):
        HubClient(packages.url).fetch("/p", most_bytes=1000)


def test_an_answer_that_breaks_off_is_unavailable(packages: PackageServer) -> None:
    packages.answers["/p"] = (200, b"half", {"Content-Length": "100"})
    packages.answers["/p"][2]["Connection"] = "close"
    with pytest.raises(UnavailableError):
        HubClient(packages.url).fetch("/p")


def test_a_device_that_ends_asks_nothing_more(packages: PackageServer) -> None:
    packages.answers["/p"] = (200, b"archive", {})
    hub = HubClient(packages.url)
    hub.close()
    with pytest.raises(StoppingError):
        hub.fetch("/p")
    assert packages.requests == []


def test_a_hub_that_is_away_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnavailableError, match="does not answer"):
        HubClient(f"http://127.0.0.1:{port}").fetch("/p")


@pytest.mark.parametrize("hub", ["", "ftp://hub", "http://"])
def test_without_a_hub_nothing_is_asked(hub: str) -> None:
    with pytest.raises(InvalidError, match="hub"):
        HubClient(hub).fetch("http://hub/p")


def test_an_address_without_path_is_refused() -> None:
    with pytest.raises(InvalidError, match="path"):
        rebased("nonsense", hub="http://hub")


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    assert Access().token() == ""
    path = tmp_path / "token"
    path.write_text(" tok \n")
    assert Access(token_file=str(path)).token() == "tok"
    for bad in (tmp_path / "none", tmp_path):
        with pytest.raises(RefusedError):
            Access(token_file=str(bad)).token()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            b'{"detail": "bytes at rest\\nno longer match"}',
            "refuses: bytes at rest no longer match",
        ),
        (b'{"detail": "' + b"x" * 3000 + b'"}', "refuses: " + "x" * 200),
        (b'{"detail": "full", "faults": ["' + b"x" * 9000 + b'"]}', "refuses: full"),
        (b'{"detail": 5}', "refuses the token"),
        (b"[" * 100_000, "refuses the token"),
        (b"[1]", "refuses the token"),
        (b"\xff", "refuses the token"),
        (b"", "refuses the token"),
    ],
)
def test_a_refusal_says_what_the_hub_says_within_bounds(
    packages: PackageServer, said: bytes, words: str
) -> None:
    packages.answers["/p"] = (403, said, {})
    with pytest.raises(RefusedError, match=words) as told:
        HubClient(packages.url, token=lambda: TOKEN).fetch("/p")
    assert len(told.value.message) < 300
