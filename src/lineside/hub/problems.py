"""Failures in the form that a path's clients read, whoever raised them.

1. The SageMaker runtime (``/endpoints/``), functions (``/20…/functions``) and jobs (``/jobs``,
   ``/things`` and what their clients ask at their start): status, JSON and header
   ``x-amzn-ErrorType`` as AWS writes them, so that its clients raise their own exceptions.
2. The Open Inference Protocol (``/v2``): a member ``error`` beside the problem document.
3. The bucket (``/s3``): S3's XML with code and request id, which its clients raise as errors.
4. Everything else: problem documents (RFC 9457).

No answer names a folder or a store of the hub: the hub's log has the whole failure, under the
request id that the answer carries.
"""

import logging
import re
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypedDict
from xml.sax.saxutils import escape

from lineside.compat.aws.sigv4 import BUCKET, LinkRefusedError, SignatureRefusedError
from lineside.core import (
    Fault,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    encode,
)
from lineside.fleet.jobs.requests import (
    Code,
    JobRejectedError,
    JobThereError,
    JobTransitionError,
    JobVersionError,
)
from lineside.web.security import BusyError, Scope, TooLargeError, UnauthenticatedError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
XML = "application/xml"
_JSON = "application/json"
_UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FUNCTIONS = re.compile(r"/20\d\d-\d\d-\d\d/")


class WrongTypeError(LinesideError):
    """The body is of a media type that this route does not take."""

    exit_code = 2
    http_status = 415
    title = "Unsupported media type"


class PayloadError(LinesideError):
    """The payload of an invocation is no JSON document."""

    exit_code = 2
    http_status = 400
    title = "Invalid input"


class ParameterError(InvalidError):
    """A parameter of the query has a value that it cannot have."""


class UnknownOperationError(NotFoundError):
    """A call of a contract that this hub does not offer."""


class Problem(TypedDict):
    """A failure as a document (RFC 9457); ``faults`` name each value that is wrong."""

    type: str
    title: str
    status: int
    detail: str
    where: str
    fix: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failure as it is sent."""

    status: int
    body: bytes
    media_type: str = MEDIA_TYPE
    headers: dict[str, str] = field(default_factory=dict)


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
        return _aws_refusal(_sentence(error), _job_code(error))
    if contract == "aws":
        named = _runtime_code(error) if path.startswith("/endpoints/") else _function_code(error)
        return _aws_refusal(_sentence(error), named)
    if contract == "s3":
        return _s3_refusal(error, path=path)
    headers = {"retry-after": "1"} if isinstance(error, BusyError) else {}
    body = problem(error)
    if contract == "inference":
        body = body[:-1] + b',"error":' + encode(str(error)) + b"}"
    return Refusal(status=error.http_status, body=body, headers=headers)


def plain_refusal(status: int, *, path: str, detail: str, fix: str, title: str = "") -> Refusal:
    """A failure that no error of lineside says, in the form of the path's contract."""
    if contract_of(path) == "jobs":
        name = "InternalFailureException" if status >= 500 else "InvalidRequestException"
        return _aws_refusal(f"{detail}. {fix}", (status, name))
    body = document(status=status, title=title, detail=detail, where=path, fix=fix)
    return Refusal(status=status, body=body)


def _aws_refusal(message: str, named: tuple[int, str]) -> Refusal:
    """An error as AWS' JSON protocol writes it, by status and name."""
    status, code = named
    body = encode({"message": message, "Message": message, "ErrorCode": code, "__type": code})
    return Refusal(
        status=status, body=body, media_type=_JSON,
        headers={"x-amzn-ErrorType": code, **request_id()},
    )  # fmt: skip


def request_id() -> dict[str, str]:
    """The header by which AWS' clients name a call."""
    return {"x-amzn-RequestId": str(uuid.uuid4())}


def s3_request_id() -> dict[str, str]:
    """The header by which S3's clients name a call."""
    return {"x-amz-request-id": uuid.uuid4().hex[:16].upper()}


def xml_text(text: str) -> str:
    """A text as it stands in XML, without the characters that XML cannot hold."""
    return escape(_UNWRITABLE.sub("\ufffd", text))


def _s3_refusal(error: LinesideError, *, path: str) -> Refusal:
    status, code = _s3_code(error, bucket=path.removeprefix("/s3").lstrip("/").partition("/")[0])
    headers = s3_request_id()
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{xml_text(_sentence(error))}</Message>"
        f"<Resource>{xml_text(path[:300])}</Resource>"
        f"<RequestId>{headers['x-amz-request-id']}</RequestId></Error>"
    )
    return Refusal(status=status, body=body.encode(), media_type=XML, headers=headers)


def _sentence(error: LinesideError) -> str:
    is_whole = isinstance(error, SignatureRefusedError | JobRejectedError)
    return error.message if is_whole else str(error)


_S3_NAMES = (
    (UnknownOperationError, 501, "NotImplemented"),
    (ParameterError, 400, "InvalidArgument"),
    (InvalidError, 400, "InvalidRequest"),
    (TooLargeError, 400, "EntityTooLarge"),
    (UnavailableError, 503, "ServiceUnavailable"),
)
_S3_SIGNATURES = {
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "MissingAuthenticationTokenException": "AccessDenied",
}
_RUNTIME_NAMES = (
    (BusyError, 429, "ThrottlingException"),
    (UnknownOperationError, 404, "UnknownOperationException"),
    (UnavailableError, 503, "ServiceUnavailable"),
)
_FUNCTION_NAMES = (
    (PayloadError, 400, "InvalidRequestContentException"),
    (BusyError, 429, "TooManyRequestsException"),
    (UnknownOperationError, 404, "UnknownOperationException"),
    (TooLargeError, 413, "RequestTooLargeException"),
    (NotFoundError, 404, "ResourceNotFoundException"),
    (InvalidError, 400, "InvalidParameterValueException"),
    (RefusedError, 400, "InvalidParameterValueException"),
)
_JOB_NAMES = (
    (UnauthenticatedError, 401, "UnauthorizedException"),
    (BusyError, 429, "ThrottlingException"),
    (JobThereError, 409, "ResourceAlreadyExistsException"),
    (JobTransitionError, 409, "InvalidStateTransitionException"),
    (JobVersionError, 409, "VersionConflictException"),
    (InvalidError, 400, "InvalidRequestException"),
    (NotFoundError, 404, "ResourceNotFoundException"),
    (RefusedError, 403, "AccessDeniedException"),
    (UnavailableError, 503, "ServiceUnavailableException"),
)
_JOB_REJECTIONS = {
    Code.RESOURCE_NOT_FOUND: (404, "ResourceNotFoundException"),
    Code.INVALID_STATE_TRANSITION: (409, "InvalidStateTransitionException"),
    Code.VERSION_MISMATCH: (409, "VersionMismatchException"),
    Code.TERMINAL_STATE_REACHED: (410, "TerminalStateException"),
    Code.REQUEST_THROTTLED: (429, "ThrottlingException"),
    Code.INTERNAL_ERROR: (503, "ServiceUnavailableException"),
}


Names = tuple[tuple[type[LinesideError], int, str], ...]


def _code_of(error: LinesideError, names: Names, *, other: tuple[int, str]) -> tuple[int, str]:
    """Status and a contract's name of a failure; ``other`` where it has none of its own."""
    return next(((status, code) for kind, status, code in names if isinstance(error, kind)), other)


def _runtime_code(error: LinesideError) -> tuple[int, str]:
    """Status and the SageMaker runtime's name of a failure."""
    if isinstance(error, SignatureRefusedError):
        return 403, error.code
    status = error.http_status if error.http_status in (413, 415) else 400
    other = (500, "InternalFailure") if error.http_status >= 500 else (status, "ValidationError")
    return _code_of(error, _RUNTIME_NAMES, other=other)


def _function_code(error: LinesideError) -> tuple[int, str]:
    """Status and AWS' name of what stands between a caller and a function."""
    if isinstance(error, SignatureRefusedError):
        return 403, error.code
    return _code_of(error, _FUNCTION_NAMES, other=(error.http_status, "ServiceException"))


def _job_code(error: LinesideError) -> tuple[int, str]:
    """Status and AWS IoT's name of a failure."""
    if isinstance(error, SignatureRefusedError):
        return 403, error.code
    if isinstance(error, JobRejectedError):
        return _JOB_REJECTIONS.get(error.code, (400, "InvalidRequestException"))
    status, name = error.http_status, "InvalidRequestException"
    other = (status, name) if status < 500 else (500, "InternalFailureException")
    return _code_of(error, _JOB_NAMES, other=other)


def _s3_code(error: LinesideError, *, bucket: str) -> tuple[int, str]:
    """Status and S3's name of a failure."""
    if isinstance(error, LinkRefusedError):
        return error.http_status, error.code
    if isinstance(error, SignatureRefusedError):
        return 403, _S3_SIGNATURES.get(error.code, "SignatureDoesNotMatch")
    if isinstance(error, NotFoundError) and not isinstance(error, UnknownOperationError):
        return 404, "NoSuchKey" if bucket == BUCKET else "NoSuchBucket"
    is_own = error.http_status >= 500
    other = (500, "InternalError") if is_own else (error.http_status, "AccessDenied")
    return _code_of(error, _S3_NAMES, other=other)


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
