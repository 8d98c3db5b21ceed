"""AWS Signature Version 4, the verifying side, for requests that an AWS client signed.

Source: AWS General Reference, "Create a signed AWS API request" (canonical request, string to
sign, signing key). Rules:

1. The key must be one that lineside issued; the signature is compared in constant time.
2. ``host`` and ``x-amz-date`` must be among the signed headers; the body's hash is always
   computed here, never believed. For S3 the signer may say that it signed none (over TLS).
3. The client's clock may differ by five minutes.
4. Pure: bytes and headers in, the key's id out, or a refusal with AWS' own error name.
5. S3 takes a path as it is and encodes it once; every other service normalises and encodes twice.

Signatures that stand in a link: ``signed_links.py``.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from lineside.compat.aws.chunked import UNSIGNED
from lineside.core import NotFoundError, RefusedError

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
