"""Who calls the job service over HTTP, and as what: an operator, or a thing's own client.

Operators have a session, a token, or an access key with a role; a thing's client signs with a key
that was issued for this thing. Paths of both are the same, as they are with AWS, where the host
parts them; here the service that the signature names does (``iot-jobs-data`` is the thing's).
"""

import re
from dataclasses import dataclass

from lineside.compat.aws.sigv4 import SignedRequest, verify
from lineside.core import RefusedError
from lineside.hub.access.auth import AccessKey, access_key
from lineside.hub.access.permissions import may
from lineside.hub.services import Services
from lineside.hub.views import Identity

_SERVICE = re.compile(r"Credential=[^/,\s]+/\d+/[^/,\s]+/([^/,\s]+)/aws4_request")
_THING = re.compile(r"/things/([^/]+)/")
_DATA_PLANE = "iot-jobs-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who may do what they ask; ``device``: as a thing does, not as an operator."""

    name: str
    device: bool


def caller_of(
    hub: Services, request: SignedRequest, *, identity: Identity | None, path: str
) -> Caller:
    """Find out who calls, and refuse what they may not.

    Raises:
        SignatureRefusedError: neither identity nor signature.
        RefusedError: the role, or the thing of the key, is not for this path.
    """
    if identity is not None:
        return Caller(name=identity.name, device=False)  # the gate has looked at the role
    key_id = verify(
        request, secret_of=lambda key: access_key(hub.records, key).secret, now=hub.clock.now()
    )
    key = access_key(hub.records, key_id)
    if _service_of(request) == _DATA_PLANE:
        _check_thing(key, path=path)
        return Caller(name=key.name, device=True)
    may(Identity(name=key.name, kind="key", role=key.role), method=request.method, path=path)
    return Caller(name=key.name, device=False)


def _service_of(request: SignedRequest) -> str:
    found = _SERVICE.search(request.headers.get("authorization", ""))
    return found[1] if found else ""


def _check_thing(key: AccessKey, *, path: str) -> None:
    asked = _THING.match(path)
    if not key.thing or asked is None or asked[1] != key.thing:
        raise RefusedError(
            f"the key {key.id} was not issued for this thing", where=path,
            fix="Issue one: lineside hub key NAME --thing THING.",
        )  # fmt: skip
