"""The update repository for devices, and its packages under a path that S3 clients read.

Everything here is signed, and checked again by whoever reads it; still it is for devices and
people of this site only.
"""

from typing import Annotated
from xml.sax.saxutils import escape

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from lineside.core import LinesideError, NotFoundError, RefusedError
from lineside.hub.access import may
from lineside.hub.api.machines import signed_request
from lineside.hub.api.wire import Hub
from lineside.hub.auth import access_key
from lineside.hub.downloads import Download, Sent
from lineside.hub.ranges import asked_range
from lineside.hub.rollout_jobs import BUCKET
from lineside.hub.sigv4 import SignatureRefusedError, verify
from lineside.hub.views import Identity

router = APIRouter(tags=["updates"])

_OCTETS = "application/octet-stream"

RangeHeader = Annotated[str, Header(alias="range", description="one range of bytes")]


@router.head("/tuf/metadata/{name}", include_in_schema=False)
@router.get("/tuf/metadata/{name}", summary="A metadata file (TUF)")
def metadata(hub: Hub, *, name: str) -> Response:
    """``timestamp.json``, or a file with its version before its name."""
    return Response(hub.releases.metadata(name), media_type="application/json")


@router.head("/tuf/targets/{path:path}", include_in_schema=False)
@router.get("/tuf/targets/{path:path}", summary="A signed file (TUF)")
def targets(hub: Hub, request: Request, *, path: str, range_: RangeHeader = "") -> Response:
    """By its path, with the SHA-256 before its name; parts by ``Range``."""
    target, data = hub.releases.archive(path)
    return _answer(hub, request, data=data, wanted=range_, tag=target.sha256)


@router.head("/s3/{bucket}/{key:path}", include_in_schema=False)
@router.get("/s3/{bucket}/{key:path}", summary="S3: GetObject and HeadObject of a package")
def s3_object(
    hub: Hub, request: Request, *, bucket: str, key: str, range_: RangeHeader = ""
) -> Response:
    """Bucket ``lineside``, the target's path as key; signed, or with a device's token."""
    try:
        _admit(hub, request)
        if bucket != BUCKET:
            raise NotFoundError("no such bucket", where=bucket, fix=f"Use {BUCKET}.")
        target, data = hub.releases.archive(key)
    except LinesideError as error:
        return _s3_error(error, bucket=bucket)
    return _answer(hub, request, data=data, wanted=range_, tag=target.sha256)


def _admit(hub: Hub, request: Request) -> None:
    """Who has an identity was looked at by the gate; others sign with a key of a device or role."""
    if getattr(request.state, "identity", None) is not None:
        return
    key_id = verify(
        signed_request(request, b""),
        secret_of=lambda key: access_key(hub.records, key).secret,
        now=hub.clock.now(),
    )
    key = access_key(hub.records, key_id)
    if not key.thing:
        caller = Identity(name=key.name, kind="key", role=key.role)
        may(caller, method=request.method, path=request.url.path)


def _answer(hub: Hub, request: Request, *, data: bytes, wanted: str, tag: str) -> Response:
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{tag}"'}
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        wanted = ""
    part = asked_range(wanted, len(data))
    if part is not None and not part:
        headers["Content-Range"] = f"bytes */{len(data)}"
        return Response(status_code=416, headers=headers)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    taken = part if part is not None else range(len(data))
    sent = Sent(data=data, part=taken, status=200 if part is None else 206, headers=headers)
    return Download(sent, slots=hub.releases.slots, media_type=_OCTETS)


def _s3_error(error: LinesideError, *, bucket: str) -> Response:
    """An error as S3's REST interface writes it."""
    match error:
        case SignatureRefusedError():
            status, code = 403, "SignatureDoesNotMatch"
        case RefusedError():
            status, code = 403, "AccessDenied"
        case NotFoundError():
            status, code = 404, "NoSuchKey" if bucket == BUCKET else "NoSuchBucket"
        case _:
            status, code = error.http_status, "ServiceUnavailable"
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(error.message)}</Message></Error>"
    )
    return Response(body, status_code=status, media_type="application/xml")
