"""Failures of the hub, and of what stands before it, as the six errors."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lineside
from lineside.core import InvalidError, LinesideError, RefusedError, UnavailableError
from lineside.library.client import HubClient
from tests.edge.conftest import PackageServer

WORD = "lst_WORD"


@pytest.mark.parametrize("token", [f'{{"token":\n"{WORD}"}}', f"a {WORD}", f"{WORD}\ufffd"])
def test_a_token_that_cannot_be_one_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(InvalidError, match="the token is not one word") as refused:
        HubClient("http://127.0.0.1", token=token)
    assert WORD not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["nonsense", "http://a b", "http://[::1", "http://", "http://a:b", "http://a..b", "ftp://a",
     "http://ada:word@a", "http://a/pre"],
)  # fmt: skip
def test_what_is_no_address_of_a_hub_is_refused_with_a_sentence(address: str) -> None:
    with pytest.raises(InvalidError, match=r"is no hub.*fix: Write https://HOST:PORT") as refused:
        HubClient(address, token="")
    assert "word" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, b"[]", InvalidError, "Bad Request"),
        (403, b'"no"', RefusedError, "Forbidden"),
        (429, b"null", UnavailableError, "Too Many Requests.*Try again in 7 s"),
        (429, b'{"detail":"full","fix":"Wait."}', UnavailableError, "full.*fix: Wait"),
        (502, b"<html>", UnavailableError, "Bad Gateway"),
        (502, b"[" * 100_000, UnavailableError, "Bad Gateway"),
    ],
)
def test_a_refusal_is_one_of_the_six_errors_whatever_its_body(
    status: int, body: bytes, kind: type[LinesideError], says: str
) -> None:
    with closing(PackageServer()) as server:
        server.answers["/api/v1/runs"] = (status, body, {"Retry-After": "7"})
        with pytest.raises(kind, match=says):
            HubClient(server.url, token="").get("/runs")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_token_goes_to_no_other_host_that_an_answer_names(status: int) -> None:
    with closing(PackageServer()) as server, closing(PackageServer()) as other:
        to = f"{other.url}/api/v1/runs"
        server.answers["/api/v1/runs"] = (status, b"", {"Location": to})
        with pytest.raises(InvalidError, match=rf"sends on to '{to}'.*address of the hub itself"):
            HubClient(server.url, token=WORD).get("/runs")
        assert other.requests == []


@pytest.mark.parametrize(
    ("body", "length"), [(b'{"items":[{"id":1},{"i', ""), (b'{"items":[]}', "99"), (b"<p>", "")]
)
def test_a_page_that_ends_in_its_middle_gives_no_rows(body: bytes, length: str) -> None:
    with closing(PackageServer()) as server:
        headers = {"Content-Length": length} if length else {}
        server.answers["/api/v1/runs"] = (200, body, headers)
        rows = HubClient(server.url, token="").rows("/runs")
        with pytest.raises(UnavailableError, match=r"127.0.0.1.*fix: "):
            next(rows)


def test_a_list_that_begins_behind_a_row_goes_on_from_there() -> None:
    with closing(PackageServer()) as server:
        for after, body in (("4", b'{"items":[5],"next":"5"}'), ("5", b'{"items":[6]}')):
            server.answers[f"/api/v1/events?after={after}"] = (200, body, {})
        assert HubClient(server.url, token="").items("/events", after=4) == [5, 6]


def test_a_refusal_that_breaks_off_is_that_refusal() -> None:
    with closing(PackageServer()) as server:
        server.answers["/api/v1/runs"] = (503, b'{"detail":"f', {"Content-Length": "99"})
        with pytest.raises(UnavailableError, match="Service Unavailable"):
            HubClient(server.url, token="").get("/runs")


@pytest.mark.parametrize("page", [b"[]", b"{}", b'{"items":null}', b'{"items":4}'])
def test_each_page_of_a_list_has_to_be_one(page: bytes) -> None:
    with closing(PackageServer()) as server:
        server.answers["/api/v1/runs"] = (200, b'{"items":[1],"next":"2"}', {})
        server.answers["/api/v1/runs?after=2"] = (200, page, {})
        rows = HubClient(server.url, token="").rows("/runs")
        assert next(rows) == 1
        with pytest.raises(InvalidError, match=r"has no list 'items'.*fix: Name a hub"):
            next(rows)


def test_words_and_certificates_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.crt").touch()
    for name in ("none.crt", "empty.crt", "."):
        with pytest.raises(InvalidError, match=r"certificate cannot be used.*fix: Name a PEM"):
            lineside.connect("https://hub.invalid", token="", ca=tmp_path / name)
    word: Any = "yes"
    with pytest.raises(InvalidError, match=r"'yes' is not known.*fix: Known: refused, allowed"):
        lineside.connect("https://hub.invalid", token="", unsigned=word)
    with pytest.raises(InvalidError, match=r"'yes' is not known.*Known: decisions, verdicts"):
        lineside.connect("https://hub.invalid", token="").changes("rpl_1", word)
