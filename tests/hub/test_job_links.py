"""Signed links: made, followed, and refused; nothing of a link can be changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.compat.aws.sigv4 import (
    MOST_S,
    LinkKey,
    LinkRefusedError,
    SignedRequest,
    is_signed_link,
    signed_link,
    verify_link,
)
from lineside.core import NotFoundError

KEY = LinkKey(id="LSLK1", secret="not a secret")  # noqa: S106  of a test
NOW = datetime(2026, 5, 1, 22, 0, tzinfo=UTC)
BASE = "https://hub.hall.example:8443"
PATH = "/s3/lineside/packages/unet/4/0123.lspkg"


def link(*, seconds: int = 60, path: str = PATH, base: str = BASE) -> str:
    return signed_link(path, base_url=base, key=KEY, seconds=seconds, now=NOW)


def followed(url: str, *, method: str = "GET", **headers: str) -> SignedRequest:
    parts = urlsplit(url)
    return SignedRequest(
        method=method, path=parts.path, query=parts.query,
        headers={"host": parts.netloc, **headers}, body=b"",
    )  # fmt: skip


def secret_of(key_id: str) -> str:
    if key_id != KEY.id:
        raise NotFoundError("no such key")
    return KEY.secret


def check(request: SignedRequest, *, at: datetime = NOW) -> str:
    return verify_link(request, secret_of=secret_of, now=at)


def refusal(request: SignedRequest, *, at: datetime = NOW) -> tuple[str, int]:
    with pytest.raises(LinkRefusedError) as refused:
        check(request, at=at)
    assert refused.value.message.endswith(".")
    return refused.value.code, refused.value.http_status


def test_the_example_of_the_api_reference_holds() -> None:
    """Amazon S3 API reference, "Authenticating Requests: Using Query Parameters"."""
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    request = SignedRequest(
        method="GET", path="/test.txt", query=query, body=b"",
        headers={"host": "examplebucket.s3.amazonaws.com"},
    )  # fmt: skip
    found = verify_link(
        request,
        secret_of=lambda _: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        now=datetime(2013, 5, 24, 12, tzinfo=UTC),
    )
    assert found == "AKIAIOSFODNN7EXAMPLE"


def test_a_link_works_from_its_beginning_to_its_end_and_no_longer() -> None:
    request = followed(link(seconds=60))
    for seconds in (-299, 0, 60):
        assert check(request, at=NOW + timedelta(seconds=seconds)) == KEY.id
    assert refusal(request, at=NOW + timedelta(seconds=61)) == ("AccessDenied", 403)
    assert refusal(request, at=NOW - timedelta(seconds=301)) == ("AccessDenied", 403)
    with pytest.raises(LinkRefusedError, match=r"expired.*20260501T220000Z for 60 seconds.*again"):
        check(request, at=NOW + timedelta(hours=2))
    with pytest.raises(LinkRefusedError, match="not yet valid"):
        check(request, at=NOW - timedelta(hours=2))


@pytest.mark.parametrize("base", ["http://hub:80", "http://hub", "https://hub:443/under/"])
def test_a_link_names_its_host_as_clients_do(base: str) -> None:
    made = link(base=base)
    parts = urlsplit(made)
    assert parts.netloc == "hub"
    asked = followed(made)  # what stands before the hub takes its own path away
    assert check(replace(asked, path=asked.path.removeprefix("/under"))) == KEY.id


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"method": "HEAD"}, "SignatureDoesNotMatch", 403),
        ({"method": "PUT"}, "AccessDenied", 403),
        ({"method": "DELETE"}, "AccessDenied", 403),
        ({"path": PATH.replace("0123", "0124")}, "SignatureDoesNotMatch", 403),
        ({"path": PATH + "/"}, "SignatureDoesNotMatch", 403),
        ({"path": PATH.replace("/4/", "/x/../4/")}, "SignatureDoesNotMatch", 403),
        ({"headers": {"host": "hub.hall.example"}}, "SignatureDoesNotMatch", 403),
        ({"headers": {}}, "SignatureDoesNotMatch", 403),
        ({"headers": {"host": "hub.hall.example:8443", "authorization": "AWS4-HMAC-SHA256 x"}},
         "InvalidArgument", 400),
    ],
)  # fmt: skip
def test_a_link_is_good_for_what_it_was_made_for_only(
    change: dict[str, object], code: str, status: int
) -> None:
    assert refusal(replace(followed(link()), **change)) == (code, status)  # type: ignore[arg-type]  # drawn from the table


def with_parameter(name: str, value: str) -> str:
    parts = urlsplit(link())
    pairs = [(key, value if key == name else old) for key, old in parse_qsl(parts.query)]
    return parts._replace(query=urlencode(pairs, quote_via=quote)).geturl()


SCOPE = "20260501/us-east-1/s3/aws4_request"
MALFORMED = "AuthorizationQueryParametersError"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("X-Amz-Expires", "61", "SignatureDoesNotMatch"),
        ("X-Amz-Expires", "0", MALFORMED),
        ("X-Amz-Expires", "-60", MALFORMED),
        ("X-Amz-Expires", str(MOST_S + 1), MALFORMED),
        ("X-Amz-Expires", "9" * 5000, MALFORMED),
        ("X-Amz-Expires", "٣٠", MALFORMED),
        ("X-Amz-Expires", "", MALFORMED),
        ("X-Amz-Date", "20260501T220001Z", "SignatureDoesNotMatch"),
        ("X-Amz-Date", "20260502T000100Z", MALFORMED),
        ("X-Amz-Date", "yesterday", MALFORMED),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1", MALFORMED),
        ("X-Amz-Credential", f"LSLK2/{SCOPE}", "InvalidAccessKeyId"),
        ("X-Amz-Credential", f"LSLK1/{SCOPE.replace('us-east-1', 'eu')}", "SignatureDoesNotMatch"),
        ("X-Amz-Credential", f"LSLK1/{SCOPE.replace('s3', 'iot')}", MALFORMED),
        ("X-Amz-Credential", "LSLK1/2/us-east-1/s3/aws4_request", MALFORMED),
        ("X-Amz-Credential", "LSLK1", MALFORMED),
        ("X-Amz-SignedHeaders", "range", MALFORMED),
        ("X-Amz-SignedHeaders", "host;range", "SignatureDoesNotMatch"),
        ("X-Amz-Signature", "0" * 64, "SignatureDoesNotMatch"),
        ("X-Amz-Signature", "é", "SignatureDoesNotMatch"),
    ],
)
def test_a_parameter_that_was_changed_is_refused(name: str, value: str, code: str) -> None:
    assert refusal(followed(with_parameter(name, value)))[0] == code


@pytest.mark.parametrize(
    "name", ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
             "X-Amz-SignedHeaders", "X-Amz-Signature"],
)  # fmt: skip
def test_a_parameter_that_is_missing_or_doubled_is_refused(name: str) -> None:
    parts = urlsplit(link())
    pairs = parse_qsl(parts.query)
    for changed in ([pair for pair in pairs if pair[0] != name], [*pairs, (name, "x")]):
        url = parts._replace(query=urlencode(changed)).geturl()
        assert refusal(followed(url)) == (MALFORMED, 400)


def test_a_parameter_more_is_refused() -> None:
    assert refusal(followed(link() + "&versionId=1"))[0] == "SignatureDoesNotMatch"


def test_a_link_of_version_2_is_told_to_use_version_4() -> None:
    url = f"{BASE}{PATH}?AWSAccessKeyId=LSLK1&Signature=abc&Expires=1777672800"
    assert is_signed_link(urlsplit(url).query)
    with pytest.raises(LinkRefusedError, match="s3v4"):
        check(followed(url))


@given(
    path=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    seconds=st.integers(1, MOST_S),
)
def test_what_was_signed_holds_whatever_the_name(path: str, seconds: int) -> None:
    made = signed_link(
        "/s3/lineside/" + quote(path), base_url=BASE, key=KEY, seconds=seconds, now=NOW
    )
    assert check(followed(made), at=NOW + timedelta(seconds=seconds)) == KEY.id


PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#")


@given(place=st.integers(0, 10_000), letter=PRINTABLE)
def test_no_letter_of_a_link_can_be_changed(place: int, letter: str) -> None:
    whole = link()
    start = len(BASE) + 1  # behind the slash that ends the address of the hub
    place = start + place % (len(whole) - start)
    changed = whole[:place] + letter + whole[place + 1 :]
    if urlsplit(changed).path == urlsplit(whole).path and (
        sorted(parse_qsl(urlsplit(changed).query, keep_blank_values=True))
        == sorted(parse_qsl(urlsplit(whole).query, keep_blank_values=True))
    ):
        return  # the same link, written otherwise
    with pytest.raises(LinkRefusedError):
        check(followed(changed))


@given(query=st.text(max_size=200), method=st.sampled_from(["GET", "HEAD", "POST"]))
def test_whatever_stands_in_a_link_is_refused_and_nothing_else(query: str, method: str) -> None:
    with pytest.raises(LinkRefusedError):
        check(SignedRequest(method=method, path=PATH, query=query, headers={}, body=b""))
