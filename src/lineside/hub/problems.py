"""Failures in the form that a path's clients read, whoever raised them.

1. The SageMaker runtime (``/endpoints/``), functions (``/20…/functions``) and jobs (``/jobs``,
   ``/things`` and what their clients ask at their start): status, JSON and header
   ``x-amzn-ErrorType`` as AWS writes them, so that its clients raise their own exceptions.
2. The Open Inference Protocol (``/v2``): a member ``error`` beside the problem document.
3. The bucket (``/s3``): S3's XML with code and request id, which its clients raise as errors.
4. Everything else: problem documents (RFC 9457).

``compat.aws.errors`` writes the forms of AWS; the path chooses among them here.

No answer names a folder or a store of the hub: the hub's log has the whole failure, under the
request id that the answer carries.
"""

import logging
import re
import uuid
from http import HTTPStatus
from typing import TypedDict

from lineside.compat.aws.errors import (
    Refusal,
    aws_refusal,
    function_refusal,
    jobs_refusal,
    runtime_refusal,
    s3_refusal,
)
from lineside.core import Fault, LinesideError, encode
from lineside.web.security import BusyError, Scope

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_FUNCTIONS = re.compile(r"/20\d\d-\d\d-\d\d/")


class WrongTypeError(LinesideError):
    """The body is of a media type that this route does not take."""

    exit_code = 2
    http_status = 415
    title = "Unsupported media type"


class Problem(TypedDict):
    """A failure as a document (RFC 9457); ``faults`` name each value that is wrong."""

    type: str
    title: str
    status: int
    detail: str
    where: str
    fix: str
    faults: tuple[Fault, ...]


_CONTRACTS = {
    "jobs": "jobs", "things": "jobs", "endpoint": "jobs", "sagemaker": "jobs",
    "role-aliases": "jobs", "s3": "s3", "v2": "inference",
}  # fmt: skip


def contract_of(path: str) -> str:
    """Name the contract whose form the failures of a path have."""
    if path.startswith("/endpoints/") or _FUNCTIONS.match(path):
        return "aws"
    return _CONTRACTS.get(path.split("/")[1], "problem")


def redact(error: LinesideError, *, path: str, own: str) -> LinesideError:
    """A failure without the folders and stores of the hub, which the pattern ``own`` finds.

    One that names any is logged whole, under a request id that its answer then has; any other
    failure of the hub itself is logged too.
    """
    found = (error.message, error.where, error.fix)
    message, where, fix = (re.sub(own, "…", one) for one in found)
    is_whole = (message, where, fix) == found
    if is_whole and error.http_status < 500:
        return error
    number = uuid.uuid4().hex
    logger.warning("request failed id=%s path=%s reason=%s", number, path, error)
    if is_whole:
        return error
    shown = type(error).__new__(type(error))  # whatever its constructor takes
    fix = f"{fix} The hub's log says more under request {number}.".lstrip()
    vars(shown).update(vars(error), message=message, where=where.strip("…"), fix=fix)
    return shown


def redact_in(error: LinesideError, *, scope: Scope) -> LinesideError:
    """``redact`` for the answer to a request of the hub's application."""
    return redact(error, path=scope["path"], own=scope["app"].state.own_places)


def refusal(error: LinesideError, *, path: str) -> Refusal:
    """A failure in the form of the path's contract."""
    contract = contract_of(path)
    if contract == "jobs":
        return jobs_refusal(error)
    if contract == "aws":
        return (runtime_refusal if path.startswith("/endpoints/") else function_refusal)(error)
    if contract == "s3":
        return s3_refusal(error, path=path)
    headers = {"retry-after": "1"} if isinstance(error, BusyError) else {}
    body = problem(error)
    if contract == "inference":
        body = body[:-1] + b',"error":' + encode(str(error)) + b"}"
    return Refusal(status=error.http_status, body=body, media_type=MEDIA_TYPE, headers=headers)


def plain_refusal(status: int, *, path: str, detail: str, fix: str, title: str = "") -> Refusal:
    """A failure that no error of lineside says, in the form of the path's contract."""
    if contract_of(path) == "jobs":
        name = "InternalFailureException" if status >= 500 else "InvalidRequestException"
        return aws_refusal(f"{detail}. {fix}", (status, name))
    body = document(status=status, title=title, detail=detail, where=path, fix=fix)
    return Refusal(status=status, body=body, media_type=MEDIA_TYPE)


def problem(error: LinesideError) -> bytes:
    """The document of one of lineside's errors."""
    return document(
        status=error.http_status,
        title=error.title,
        detail=error.message,
        where=error.where,
        fix=error.fix,
        faults=tuple(
            Fault(path=one.path, value=one.value, expected=one.expected, fix=one.fix)
            for one in error.faults
        ),
    )


def document(
    *, status: int, title: str = "", detail: str = "", where: str = "", fix: str = "",
    faults: tuple[Fault, ...] = (),
) -> bytes:  # fmt: skip
    """Any problem document; title and detail default to the status' own words."""
    title = title or HTTPStatus(status).phrase
    body = Problem(
        type="about:blank", title=title, status=status, detail=detail or title, where=where,
        fix=fix, faults=faults,
    )  # fmt: skip
    return encode(body)
