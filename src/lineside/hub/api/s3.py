"""``/s3``: the hub's one bucket for S3 clients, and for whoever has a signed link.

Devices and people of the site read; operators put and delete job documents. Errors are S3's XML.
"""

from collections.abc import Callable
from typing import Annotated
from xml.sax.saxutils import escape

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from lineside.core import InvalidError, LinesideError, NotFoundError, RefusedError
from lineside.hub.access import may
from lineside.hub.api.machines import Body, signed_request
from lineside.hub.api.wire import Hub
from lineside.hub.auth import access_key
from lineside.hub.aws_chunked import plain_body
from lineside.hub.downloads import Download, Sent
from lineside.hub.ranges import asked_range
from lineside.hub.rollout_jobs import BUCKET
from lineside.hub.signed_links import LinkRefusedError, is_signed_link, verify_link
from lineside.hub.sigv4 import SignatureRefusedError, verify
from lineside.hub.views import Identity

router = APIRouter(tags=["updates"])

RangeHeader = Annotated[str, Header(alias="range", description="one range of bytes")]
_READING = ("GET", "HEAD")
_CODES = {
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "MissingAuthenticationTokenException": "AccessDenied",
}


@router.head("/s3/{bucket}/{key:path}", include_in_schema=False)
@router.get("/s3/{bucket}/{key:path}", summary="S3: GetObject and HeadObject")
def get_object(
    hub: Hub, request: Request, *, bucket: str, key: str, range_: RangeHeader = ""
) -> Response:
    """A package by its target's path, or a job document; by signature, signed link or token."""

    def read() -> Response:
        found = hub.bucket.read(bucket, key)
        return ranged(
            hub, request, data=found.data, wanted=range_, tag=found.sha256,
            media_type=found.media_type,
        )  # fmt: skip

    return _served(hub, request, b"", act=read)


@router.put("/s3/{bucket}/{key:path}", summary="S3: PutObject of a job document")
def put_object(hub: Hub, request: Request, *, bucket: str, key: str, body: Body) -> Response:
    """Below ``documents/``, for ``documentSource`` of a job; what stands there is replaced."""

    def put() -> Response:
        data = plain_body(body, signed_request(request, body).headers)
        found = hub.bucket.put(bucket, key, data=data)
        return Response(status_code=200, headers={"ETag": f'"{found.sha256}"'})

    return _served(hub, request, body, act=put)


@router.delete("/s3/{bucket}/{key:path}", summary="S3: DeleteObject of a job document")
def delete_object(hub: Hub, request: Request, *, bucket: str, key: str, body: Body) -> Response:
    """One that is not there is fine."""

    def delete() -> Response:
        hub.bucket.delete(bucket, key)
        return Response(status_code=204)

    return _served(hub, request, body, act=delete)


def _served(hub: Hub, request: Request, body: bytes, *, act: Callable[[], Response]) -> Response:
    try:
        _admit(hub, request, body)
        return act()
    except LinesideError as error:
        return s3_error(error, bucket=request.path_params["bucket"])


def _admit(hub: Hub, request: Request, body: bytes) -> None:
    """Who has an identity was looked at by the gate; others sign, or have a link that is signed."""
    if getattr(request.state, "identity", None) is not None:
        return
    asked, now = signed_request(request, body), hub.clock.now()
    if is_signed_link(asked.query):
        key_id = verify_link(asked, secret_of=hub.bucket.secret_of, now=now)
        if hub.bucket.is_own(key_id):
            return
    else:
        key_id = verify(asked, secret_of=lambda key: access_key(hub.records, key).secret, now=now)
    key = access_key(hub.records, key_id)
    if not key.thing or request.method not in _READING:
        caller = Identity(name=key.name, kind="key", role=key.role)
        may(caller, method=request.method, path=request.url.path)


def ranged(
    hub: Hub, request: Request, *, data: bytes, wanted: str, tag: str,
    media_type: str = "application/octet-stream",
) -> Response:  # fmt: skip
    """All of it or the part that was asked for, once there is a slot."""
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
    return Download(sent, slots=hub.releases.slots, media_type=media_type)


def s3_error(error: LinesideError, *, bucket: str) -> Response:
    """An error as S3's REST interface writes it."""
    match error:
        case LinkRefusedError():
            status, code, message = error.http_status, error.code, error.message
        case SignatureRefusedError():
            status, code = 403, _CODES.get(error.code, "SignatureDoesNotMatch")
            message = error.message
        case RefusedError():
            status, code, message = 403, "AccessDenied", str(error)
        case NotFoundError():
            status, code = 404, "NoSuchKey" if bucket == BUCKET else "NoSuchBucket"
            message = error.message
        case InvalidError():
            status, code, message = 400, "InvalidRequest", str(error)
        case _:
            status, code, message = error.http_status, "ServiceUnavailable", error.message
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status_code=status, media_type="application/xml")
