"""The update repository for devices.

Everything here is signed, and checked again by whoever reads it; still it is for devices and
people of this site only. Its packages stand under a path that S3 clients read as well: ``s3.py``.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lineside.hub.api.s3 import RangeHeader, ranged
from lineside.hub.api.wire import Hub, gives

router = APIRouter(tags=["updates"])


@router.head("/tuf/metadata/{name}", include_in_schema=False)
@router.get("/tuf/metadata/{name}", summary="A metadata file (TUF)")
@gives(dict[str, Any])
def metadata(hub: Hub, *, name: str) -> Response:
    """``timestamp.json``, or a file with its version before its name."""
    return Response(hub.releases.metadata(name), media_type="application/json")


@router.head("/tuf/targets/{path:path}", include_in_schema=False)
@router.get("/tuf/targets/{path:path}", summary="A signed file (TUF)")
@gives(bytes, "application/octet-stream")
@gives(bytes, "application/octet-stream", status=206)
@gives(None, status=416)
def targets(hub: Hub, request: Request, *, path: str, range_: RangeHeader = "") -> Response:
    """By its path, with the SHA-256 before its name; parts by ``Range``."""
    target, data = hub.releases.archive(path)
    return ranged(hub, request, data=data, wanted=range_, tag=target.sha256)
