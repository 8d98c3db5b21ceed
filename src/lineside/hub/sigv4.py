"""AWS Signature Version 4, the verifying side, for requests that an AWS client signed.

Source: AWS General Reference, "Create a signed AWS API request" (canonical request, string to
sign, signing key). Rules:

1. The key must be one that lineside issued; the signature is compared in constant time.
2. ``host`` and ``x-amz-date`` must be among the signed headers; the body's hash is always
   computed here, never believed.
3. The client's clock may differ by five minutes.
4. Pure: bytes and headers in, the key's id out, or a refusal with AWS' own error name.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from lineside.core import NotFoundError, RefusedError

_ALGORITHM = "AWS4-HMAC-SHA256"
_SKEW = timedelta(minutes=5)
_STAMP = "%Y%m%dT%H%M%SZ"
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
class _Credential:
    key_id: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
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
    canonical = hashlib.sha256(_canonical(request, credential.signed).encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{stamp}\n{credential.scope}\n{canonical}"
    expected = hmac.new(_signing_key(secret, credential), to_sign.encode(), hashlib.sha256)
    if not hmac.compare_digest(expected.hexdigest(), credential.signature):
        raise SignatureRefusedError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        )
    return credential.key_id


def _credential(header: str) -> _Credential:
    algorithm, _, rest = header.partition(" ")
    fields = dict(_FIELD.findall(rest))
    scope = fields.get("Credential", "").split("/")
    if algorithm != _ALGORITHM or len(fields) != 3 or len(scope) != 5:
        code = "IncompleteSignatureException" if header else "MissingAuthenticationTokenException"
        raise SignatureRefusedError(code, "Missing or incomplete Authorization header.")
    if scope[4] != "aws4_request":
        raise SignatureRefusedError("IncompleteSignatureException", "The scope is not aws4_request")
    signed = tuple(fields["SignedHeaders"].split(";"))
    if "host" not in signed or "x-amz-date" not in signed:
        raise SignatureRefusedError(
            "IncompleteSignatureException", "host and x-amz-date must be signed."
        )
    return _Credential(
        key_id=scope[0], date=scope[1], region=scope[2], service=scope[3], signed=signed,
        signature=fields["Signature"],
    )  # fmt: skip


def _check_time(request: SignedRequest, credential: _Credential, *, now: datetime) -> str:
    stamp = request.headers.get("x-amz-date", "")
    try:
        at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise SignatureRefusedError(
            "IncompleteSignatureException", "x-amz-date is not YYYYMMDD'T'HHMMSS'Z'."
        ) from error
    if abs(now - at) > _SKEW:
        raise SignatureRefusedError(
            "InvalidSignatureException", f"Signature expired: {stamp} is too far from now."
        )
    if not stamp.startswith(credential.date):
        raise SignatureRefusedError(
            "InvalidSignatureException", "Credential date and x-amz-date differ."
        )
    return stamp


def _canonical(request: SignedRequest, signed: tuple[str, ...]) -> str:
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed
    )
    return "\n".join((
        request.method, quote(_normal_path(request.path), safe="/~"), _query(request.query),
        headers, ";".join(signed), hashlib.sha256(request.body).hexdigest(),
    ))  # fmt: skip


def _normal_path(path: str) -> str:
    """Dot segments and doubled slashes taken out, as RFC 3986 6.2.2.3 and the signing rules say."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    ending = "/" if path.endswith("/") and kept else ""
    return "/" + "/".join(kept) + ending


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    quoted = sorted((quote(key, safe="-_.~"), quote(value, safe="-_.~")) for key, value in pairs)
    return "&".join(f"{key}={value}" for key, value in quoted)


def _signing_key(secret: str, credential: _Credential) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (credential.date, credential.region, credential.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
