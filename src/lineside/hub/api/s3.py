"""``/s3`` and ``/tuf``: the one bucket of the hub, and the signed update repository.

Devices and people of the site read and list; operators put and delete job documents. What is not
offered is answered ``NotImplemented``. Lists and errors are S3's XML (``compat.aws``). The update
repository is signed and checked again by whoever reads it; still it is for devices and people of
this site only. Its packages stand in the bucket as well.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from lineside.compat.aws.errors import XML, UnknownOperationError, s3_request_id
from lineside.compat.aws.s3 import (
    bucket_xml,
    buckets_xml,
    other_parameter,
)
from lineside.compat.aws.sigv4 import BUCKET, is_signed_link, plain_body, verify, verify_link
from lineside.hub.access.auth import access_key
from lineside.hub.access.permissions import Identity, authorize
from lineside.hub.api.wire import Body, Hub, raw_body, responds, signed_request
from lineside.hub.downloads import Download, DownloadContent, parse_range

router = APIRouter(tags=["updates"])
tuf_router = APIRouter(tags=["updates"])

RangeHeader = Annotated[str, Header(alias="range", description="one range of bytes")]
_OCTETS = "application/octet-stream"
_READING = ("GET", "HEAD")


@router.get("/s3/", include_in_schema=False)
@router.get("/s3", summary="S3: ListBuckets")
@responds(bytes, XML)
def list_buckets(hub: Hub, request: Request) -> Response:
    """The one bucket."""

    def read() -> Response:
        dates = [one.changed_at for one in hub.bucket.entries(BUCKET)]
        return _xml(buckets_xml(min(dates, default=hub.clock.now())))

    return _served(hub, request, b"", act=read)


@router.head("/s3/{bucket}", include_in_schema=False)
@router.get(
    "/s3/{bucket}", summary="S3: ListObjects (both versions), HeadBucket, GetBucketLocation"
)
@responds(bytes, XML)
def get_bucket(hub: Hub, request: Request, *, bucket: str) -> Response:
    """Job documents and signed packages in the order of their keys, at most 1,000 at a time."""

    def read() -> Response:
        entries, query = hub.bucket.entries(bucket), request.query_params
        if request.method == "HEAD":
            headers = {"x-amz-bucket-region": "us-east-1", **s3_request_id()}
            return Response(status_code=200, headers=headers)
        return _xml(bucket_xml(entries, bucket=bucket, query=query))

    return _served(hub, request, b"", act=read)


@router.head("/s3/{bucket}/{key:path}", include_in_schema=False)
@router.get("/s3/{bucket}/{key:path}", summary="S3: GetObject and HeadObject")
@responds(bytes, _OCTETS, "application/json", XML)
@responds(bytes, _OCTETS, "application/json", status=206)
@responds(None, status=416)
def get_object(
    hub: Hub, request: Request, *, bucket: str, key: str, range_: RangeHeader = ""
) -> Response:
    """A package by its target's path, or a job document; by signature, signed link or token."""
    if not key:
        return get_bucket(hub, request, bucket=bucket)

    def read() -> Response:
        found = hub.bucket.read(bucket, key)
        return ranged(
            hub, request, data=found.data, wanted=range_, tag=found.sha256,
            media_type=found.media_type,
        )  # fmt: skip

    return _served(hub, request, b"", act=read)


@router.put(
    "/s3/{bucket}/{key:path}",
    summary="S3: PutObject of a job document",
    openapi_extra=raw_body("application/json"),
)
@responds(None)
def put_object(hub: Hub, request: Request, *, bucket: str, key: str, body: Body) -> Response:
    """Below ``documents/``, for ``documentSource`` of a job; what stands there is replaced."""

    def put() -> Response:
        data = plain_body(body, signed_request(request, body).headers)
        found = hub.bucket.put(bucket, key, data=data)
        return Response(status_code=200, headers={"ETag": f'"{found.sha256}"'})

    return _served(hub, request, body, act=put)


@router.delete("/s3/{bucket}/{key:path}", summary="S3: DeleteObject of a job document")
@responds(None, status=204)
def delete_object(hub: Hub, request: Request, *, bucket: str, key: str, body: Body) -> Response:
    """One that is not there is fine."""

    def delete() -> Response:
        hub.bucket.delete(bucket, key)
        return Response(status_code=204)

    return _served(hub, request, body, act=delete)


@router.api_route(
    "/s3/{rest:path}", methods=["POST", "PUT", "PATCH", "DELETE"], include_in_schema=False
)
def other_operation(hub: Hub, request: Request, *, rest: str, body: Body) -> Response:
    """Any other call of S3's interface."""

    def refuse() -> Response:
        raise _not_offered(f"{request.method} of {rest[:80]!r}")

    return _served(hub, request, body, act=refuse)


def _served(hub: Hub, request: Request, body: bytes, *, act: Callable[[], Response]) -> Response:
    _admit(hub, request, body)
    if other := other_parameter(request.query_params):
        raise _not_offered(f"?{other}")
    return act()


def _not_offered(what: str) -> UnknownOperationError:
    return UnknownOperationError(
        f"{what} is not offered here",
        fix="Offered: reading and listing, PutObject and DeleteObject below documents/.",
    )


def _xml(text: str) -> Response:
    return Response(text, media_type=XML, headers=s3_request_id())


def _admit(hub: Hub, request: Request, body: bytes) -> None:
    """Who has an identity was looked at by the gate; others sign, or have a link that is signed."""
    if getattr(request.state, "identity", None) is not None:
        return
    signed, now = signed_request(request, body), hub.clock.now()
    if is_signed_link(signed.query):
        key_id = verify_link(signed, secret_of=hub.bucket.secret_of, now=now)
        if hub.bucket.is_own(key_id):
            return
    else:
        key_id = verify(
            signed, secret_of=lambda key: access_key(hub.records, key, now=now).secret, now=now
        )
    key = access_key(hub.records, key_id, now=now)
    if not key.thing or request.method not in _READING:
        caller = Identity(name=key.name, kind="key", role=key.role)
        authorize(caller, method=request.method, path=request.url.path)


def ranged(
    hub: Hub, request: Request, *, data: bytes, wanted: str, tag: str,
    media_type: str = "application/octet-stream",
) -> Response:  # fmt: skip
    """All of it or the part that was asked for, once there is a slot."""
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{tag}"'}
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        wanted = ""
    part = parse_range(wanted, len(data))
    if part is not None and not part:
        headers["Content-Range"] = f"bytes */{len(data)}"
        return Response(status_code=416, headers=headers)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    span = part if part is not None else range(len(data))
    sent = DownloadContent(
        data=data, part=span, status=200 if part is None else 206, headers=headers
    )
    return Download(sent, slots=hub.releases.slots, media_type=media_type)


@tuf_router.head("/tuf/metadata/{name}", include_in_schema=False)
@tuf_router.get("/tuf/metadata/{name}", summary="A metadata file (TUF)")
@responds(dict[str, Any])
def metadata(hub: Hub, *, name: str) -> Response:
    """``timestamp.json``, or a file with its version before its name."""
    return Response(hub.releases.metadata(name), media_type="application/json")


@tuf_router.head("/tuf/targets/{path:path}", include_in_schema=False)
@tuf_router.get("/tuf/targets/{path:path}", summary="A signed file (TUF)")
@responds(bytes, "application/octet-stream")
@responds(bytes, "application/octet-stream", status=206)
@responds(None, status=416)
def targets(hub: Hub, request: Request, *, path: str, range_: RangeHeader = "") -> Response:
    """By its path, with the SHA-256 before its name; ``If-Range`` and ``ETag`` too.

    503 with ``Retry-After`` while ``downloads`` archives are under way.
    """
    target, data = hub.releases.archive(path)
    return ranged(hub, request, data=data, wanted=range_, tag=target.sha256)
