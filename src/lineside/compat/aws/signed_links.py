"""AWS Signature Version 4 in a link: made for devices, and checked when somebody follows it.

Source: Amazon S3 API reference, "Authenticating Requests: Using Query Parameters". Rules:

1. A link is good for reading one object: another method, host, path or parameter breaks it.
2. Every parameter of the signature stands once; ``host`` is signed; the body is not.
3. A link begins when it was made, give or take five minutes of the maker's clock, and ends
   ``X-Amz-Expires`` seconds later by the clock here; a week at most.
4. A request carries one signature: in its link or in its header.
5. Pure: texts in, a link or the key's id out, or a refusal with S3's own error name.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from lineside.compat.aws.sigv4 import (
    ALGORITHM,
    SKEW,
    STAMP,
    Credential,
    SignatureRefusedError,
    SignedRequest,
    signature_of,
)
from lineside.core import NotFoundError

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
    credential = _credential(given)
    _check_time(given, credential, now=now)
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


def _credential(given: dict[str, str]) -> Credential:
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


def _check_time(given: dict[str, str], credential: Credential, *, now: datetime) -> None:
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
