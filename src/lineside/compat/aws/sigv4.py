"""AWS Signature Version 4, the verifying side, for requests that an AWS client signed.

Source: AWS General Reference, "Create a signed AWS API request" (canonical request, string to
sign, signing key). Rules:

1. The key must be one that lineside issued; the signature is compared in constant time.
2. ``host`` and ``x-amz-date`` must be among the signed headers; the body's hash is always
   computed here, never believed. For S3 the signer may say that it signed none (over TLS).
3. The client's clock may differ by five minutes.
4. Pure: bytes and headers in, the key's id out, or a refusal with AWS' own error name.
5. S3 takes a path as it is and encodes it once; every other service normalises and encodes twice.

Signatures that stand in a link are below.

AWS Signature Version 4 in a link: made for devices, and checked when somebody follows it.

Source: Amazon S3 API reference, "Authenticating Requests: Using Query Parameters". Rules:

1. A link is good for reading one object: another method, host, path or parameter breaks it.
2. Every parameter of the signature stands once; ``host`` is signed; the body is not.
3. A link begins when it was made, give or take five minutes of the maker's clock, and ends
   ``X-Amz-Expires`` seconds later by the clock here; a week at most.
4. A request carries one signature: in its link or in its header.
5. Pure: texts in, a link or the key's id out, or a refusal with S3's own error name.

Bodies in parts, as AWS' clients send them over TLS (``Content-Encoding: aws-chunked``).

Source: Amazon S3 API reference, "Signature calculations: unsigned payload trailer". A part is its
length in hexadecimal, a line end, its bytes, a line end; the last one is empty; checksums follow it
as lines. Checksums that are known are held against the bytes. Pure.
"""

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode, urlsplit

from lineside.core import InvalidError, NotFoundError, RefusedError

UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""What ``x-amz-content-sha256`` may say instead of the body's hash."""
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_LINE = b"\r\n"
_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
}


def plain_body(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body itself, put together where it came in parts.

    Args:
        body: as it came.
        headers: names in lower case.

    Raises:
        InvalidError: parts that do not fit, that are signed one by one, or a checksum that is
            another.
    """
    if "aws-chunked" not in headers.get("content-encoding", "").lower():
        return body
    if headers.get("x-amz-content-sha256") not in UNSIGNED:
        raise _wrong(
            "the parts of the body are signed one by one",
            fix="Send it over TLS, or in one piece.",
        )
    data, trailer = _parts(body)
    _check(data, _lines(trailer))
    announced = headers.get("x-amz-decoded-content-length", str(len(data)))
    if announced != str(len(data)):
        raise _wrong(f"{len(data)} bytes came, and {announced[:20]} were announced")
    return data


def _parts(body: bytes) -> tuple[bytes, bytes]:
    """All parts in one, and what follows the last."""
    found: list[bytes] = []
    place = 0
    while True:
        end = body.find(_LINE, place)
        if end < 0 or not _SIZE.fullmatch(body, place, end):
            raise _wrong("a part without its length")
        size, begin = int(body[place:end], 16), end + len(_LINE)
        if size == 0:
            return b"".join(found), body[begin:]
        place = begin + size + len(_LINE)
        if body[begin + size : place] != _LINE:
            raise _wrong("a part that is shorter or longer than its length")
        found.append(body[begin : begin + size])


def _lines(trailer: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in trailer.split(_LINE) if line)
    return {
        name.decode("latin-1").strip().lower(): value.decode("latin-1").strip()
        for name, _, value in pairs
    }


def _check(data: bytes, announced: Mapping[str, str]) -> None:
    for name, sum_of in _CHECKSUMS.items():
        expected = base64.b64encode(sum_of(data)).decode()
        if not hmac.compare_digest(announced.get(name, expected).encode(), expected.encode()):
            raise _wrong(f"{name} belongs to other bytes")


def _wrong(message: str, *, fix: str = "Send it again.") -> InvalidError:
    return InvalidError(message, where="body", fix=fix)


ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=5)
STAMP = "%Y%m%dT%H%M%SZ"
_S3 = "s3"
_BODY = "x-amz-content-sha256"
_FIELD = re.compile(r"(Credential|SignedHeaders|Signature)=([^\s,]+)")


class SignatureRefusedError(RefusedError):
    """A request whose signature does not hold; ``code`` is AWS' name for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, fix="Sign with a key that `lineside hub key` issued.")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A request as it came over the wire.

    Attributes:
        path: still percent-encoded.
        query: still percent-encoded, without ``?``.
        headers: names in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """By whom, and for what, a signature was made.

    Attributes:
        date: YYYYMMDD.
        signed: names of the headers that it covers.
    """

    key_id: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        """``<date>/<region>/<service>/aws4_request``."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def verify(request: SignedRequest, *, secret_of: Callable[[str], str], now: datetime) -> str:
    """Check a signature; returns the access key's id.

    Args:
        request: what was signed.
        secret_of: secret of a key id; ``NotFoundError`` when it was never issued.
        now: the verifier's time.

    Raises:
        SignatureRefusedError: anything that does not hold.
    """
    credential = _credential(request.headers.get("authorization", ""))
    stamp = _check_time(request, credential, now=now)
    try:
        secret = secret_of(credential.key_id)
    except NotFoundError as error:
        raise SignatureRefusedError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        ) from error
    body = _body_name(request, credential)
    expected = signature_of(request, credential, secret=secret, stamp=stamp, body=body)
    if not hmac.compare_digest(expected.encode(), credential.signature.encode()):
        raise SignatureRefusedError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        )
    return credential.key_id


def signature_of(
    request: SignedRequest, credential: Credential, *, secret: str, stamp: str, body: str
) -> str:
    """Return the expected signature, hexadecimal; ``body``: its hash as the signer names it."""
    canonical = hashlib.sha256(_canonical(request, credential, body=body).encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{stamp}\n{credential.scope}\n{canonical}"
    key = _signing_key(secret, credential)
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def _body_name(request: SignedRequest, credential: Credential) -> str:
    """The body's hash, or the words that the signer put in its place."""
    named = request.headers.get(_BODY, "")
    if credential.service == _S3 and _BODY in credential.signed and named in UNSIGNED:
        return named
    return hashlib.sha256(request.body).hexdigest()


def _credential(header: str) -> Credential:
    algorithm, _, rest = header.partition(" ")
    fields = dict(_FIELD.findall(rest))
    scope = fields.get("Credential", "").split("/")
    if algorithm != ALGORITHM or len(fields) != 3 or len(scope) != 5:
        code = "IncompleteSignatureException" if header else "MissingAuthenticationTokenException"
        raise SignatureRefusedError(code, "Missing or incomplete Authorization header.")
    if scope[4] != "aws4_request":
        raise SignatureRefusedError("IncompleteSignatureException", "The scope is not aws4_request")
    signed = tuple(fields["SignedHeaders"].split(";"))
    if "host" not in signed or "x-amz-date" not in signed:
        raise SignatureRefusedError(
            "IncompleteSignatureException", "host and x-amz-date must be signed."
        )
    return Credential(
        key_id=scope[0], date=scope[1], region=scope[2], service=scope[3], signed=signed,
        signature=fields["Signature"],
    )  # fmt: skip


def _check_time(request: SignedRequest, credential: Credential, *, now: datetime) -> str:
    stamp = request.headers.get("x-amz-date", "")
    try:
        at = datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise SignatureRefusedError(
            "IncompleteSignatureException", "x-amz-date is not YYYYMMDD'T'HHMMSS'Z'."
        ) from error
    if abs(now - at) > SKEW:
        raise SignatureRefusedError(
            "InvalidSignatureException", f"Signature expired: {stamp} is too far from now."
        )
    if not stamp.startswith(credential.date):
        raise SignatureRefusedError(
            "InvalidSignatureException", "Credential date and x-amz-date differ."
        )
    return stamp


def _canonical(request: SignedRequest, credential: Credential, *, body: str) -> str:
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in credential.signed
    )
    if credential.service == _S3:
        path = quote(unquote_to_bytes(request.path), safe="/~")
    else:
        path = quote(_normal_path(request.path), safe="/~")
    return "\n".join((
        request.method, path, _query(request.query), headers, ";".join(credential.signed), body,
    ))  # fmt: skip


def _normal_path(path: str) -> str:
    """Dot segments and doubled slashes taken out, as RFC 3986 6.2.2.3 and the signing rules say."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    ending = "/" if path.endswith("/") and parts else ""
    return "/" + "/".join(parts) + ending


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    quoted = sorted((quote(key, safe="-_.~"), quote(value, safe="-_.~")) for key, value in pairs)
    return "&".join(f"{key}={value}" for key, value in quoted)


def _signing_key(secret: str, credential: Credential) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (credential.date, credential.region, credential.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


MOST_S = 604_800
_UNSIGNED = "UNSIGNED-PAYLOAD"
_REGION = "us-east-1"
_METHODS = ("GET", "HEAD")
_SIGNATURE = "X-Amz-Signature"
_NEEDED = (
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
    _SIGNATURE,
)  # fmt: skip
_OLD = "AWSAccessKeyId"
_PORTS = {"http": ":80", "https": ":443"}


class LinkRefusedError(SignatureRefusedError):
    """A link that does not hold; ``code`` is S3's name for it."""

    def __init__(self, code: str, message: str, *, status: int = 403) -> None:
        super().__init__(code, message)
        self.http_status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkKey:
    """Key that links are signed with."""

    id: str
    secret: str


def is_signed_link(query: str) -> bool:
    """Return whether a query carries a signature, of this or of the older version."""
    return f"{_SIGNATURE}=" in query or f"{_OLD}=" in query


def signed_link(path: str, *, base_url: str, key: LinkKey, seconds: int, now: datetime) -> str:
    """A link that works from now on for so long.

    Args:
        path: of the object as the hub sees it, percent-encoded.
        base_url: what stands before it for devices; a proxy may take a path of its own away.
        key: what it is signed with.
        seconds: 1 to 604,800.
        now: when it begins.
    """
    parts = urlsplit(base_url)
    host = parts.netloc.removesuffix(_PORTS.get(parts.scheme, " "))  # as clients name it
    stamp = now.astimezone(UTC).strftime(STAMP)
    credential = Credential(
        key_id=key.id, date=stamp[:8], region=_REGION, service="s3", signed=("host",), signature=""
    )
    query = urlencode(
        {
            "X-Amz-Algorithm": ALGORITHM, "X-Amz-Credential": f"{key.id}/{credential.scope}",
            "X-Amz-Date": stamp, "X-Amz-Expires": seconds, "X-Amz-SignedHeaders": "host",
        },
        quote_via=quote, safe="",
    )  # fmt: skip
    request = SignedRequest(method="GET", path=path, query=query, headers={"host": host}, body=b"")
    signature = signature_of(request, credential, secret=key.secret, stamp=stamp, body=_UNSIGNED)
    before = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    return f"{before}{path}?{query}&{_SIGNATURE}={signature}"


def verify_link(request: SignedRequest, *, secret_of: Callable[[str], str], now: datetime) -> str:
    """Check a link; returns the id of the key that it was signed with.

    Args:
        request: how it was followed.
        secret_of: secret of a key id; ``NotFoundError`` when it was never issued.
        now: the verifier's time.

    Raises:
        LinkRefusedError: anything that does not hold.
    """
    given = _parameters(request)
    credential = _link_credential(given)
    _check_link_time(given, credential, now=now)
    try:
        secret = secret_of(credential.key_id)
    except NotFoundError as error:
        raise LinkRefusedError(
            "InvalidAccessKeyId", "The key that signed this link is not known here."
        ) from error
    pairs = parse_qsl(request.query, keep_blank_values=True)
    covered = SignedRequest(
        method=request.method, path=request.path, headers=request.headers, body=b"",
        query=urlencode([pair for pair in pairs if pair[0] != _SIGNATURE]),
    )  # fmt: skip
    expected = signature_of(
        covered, credential, secret=secret, stamp=given["X-Amz-Date"], body=_UNSIGNED
    )
    if not hmac.compare_digest(expected.encode(), credential.signature.encode()):
        raise LinkRefusedError(
            "SignatureDoesNotMatch",
            "The signature does not belong to this method, host, object and these parameters. "
            "Follow the link as it was given.",
        )
    return credential.key_id


def _parameters(request: SignedRequest) -> dict[str, str]:
    pairs = parse_qsl(request.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    if _OLD in names:
        raise _malformed(
            "Links of signature version 2 are not served: sign with version 4 "
            "(signature_version='s3v4').",
            code="InvalidRequest",
        )
    if request.method not in _METHODS:
        raise LinkRefusedError("AccessDenied", "A signed link is good for GET and HEAD only.")
    if request.headers.get("authorization"):
        raise _malformed(
            "Only one auth mechanism allowed: a signed link or an Authorization header.",
            code="InvalidArgument",
        )
    for name in _NEEDED:
        if names.count(name) != 1:
            raise _malformed(f"A signed link has {name} once, not {names.count(name)} times.")
    return dict(pairs)


def _link_credential(given: dict[str, str]) -> Credential:
    scope = given["X-Amz-Credential"].split("/")
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _malformed(f"X-Amz-Algorithm has to be {ALGORITHM}.")
    if len(scope) != 5 or scope[3:] != ["s3", "aws4_request"]:
        raise _malformed("X-Amz-Credential has to be <key>/<date>/<region>/s3/aws4_request.")
    signed = tuple(given["X-Amz-SignedHeaders"].split(";"))
    if "host" not in signed:
        raise _malformed("X-Amz-SignedHeaders has to contain host.")
    return Credential(
        key_id=scope[0], date=scope[1], region=scope[2], service=scope[3], signed=signed,
        signature=given[_SIGNATURE],
    )  # fmt: skip


def _check_link_time(given: dict[str, str], credential: Credential, *, now: datetime) -> None:
    stamp, life = given["X-Amz-Date"], given["X-Amz-Expires"]
    try:
        begins = datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise _malformed("X-Amz-Date is not YYYYMMDD'T'HHMMSS'Z'.") from error
    if not (life.isascii() and life.isdigit() and len(life) <= 6 and 1 <= int(life) <= MOST_S):
        raise _malformed(f"X-Amz-Expires has to be 1 to {MOST_S} seconds.")
    if not stamp.startswith(credential.date) or len(credential.date) != 8:
        raise _malformed("X-Amz-Credential and X-Amz-Date name different days.")
    if begins > now + SKEW:
        raise LinkRefusedError("AccessDenied", f"Request is not yet valid: it begins at {stamp}.")
    if now > begins + timedelta(seconds=int(life)):
        raise LinkRefusedError(
            "AccessDenied",
            f"Request has expired: the link was made at {stamp} for {life} seconds. "
            "Ask for the job's document again, it comes with a new one.",
        )


def _malformed(message: str, *, code: str = "AuthorizationQueryParametersError") -> Exception:
    return LinkRefusedError(code, message, status=400)


BUCKET = "lineside"
