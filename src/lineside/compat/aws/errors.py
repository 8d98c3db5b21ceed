"""Failures as AWS' clients read them, so that they raise their own exceptions.

1. SageMaker's runtime, functions and jobs: status, JSON and header ``x-amzn-ErrorType``.
2. S3: XML with code and request id.

A table names a failure by its kind or by its HTTP status, the first row that fits.
"""

import re
import uuid
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from lineside.compat.aws.sigv4 import BUCKET, LinkRefusedError, SignatureRefusedError
from lineside.core import (
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

XML = "application/xml"
_UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PayloadError(LinesideError):
    """The payload of an invocation is no JSON document."""

    exit_code = 2
    http_status = 400
    title = "Invalid input"


class ParameterError(InvalidError):
    """A parameter of the query has a value that it cannot have."""


class UnknownOperationError(NotFoundError):
    """A call of a contract that is not offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failure as it is sent."""

    status: int
    body: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


Names = tuple[tuple[type[LinesideError] | int, int, str], ...]

_S3_NAMES = (
    (UnknownOperationError, 501, "NotImplemented"),
    (ParameterError, 400, "InvalidArgument"),
    (InvalidError, 400, "InvalidRequest"),
    (413, 400, "EntityTooLarge"),
    (UnavailableError, 503, "ServiceUnavailable"),
)
_S3_SIGNATURES = {
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "MissingAuthenticationTokenException": "AccessDenied",
}
_RUNTIME_NAMES = (
    (429, 429, "ThrottlingException"),
    (UnknownOperationError, 404, "UnknownOperationException"),
    (UnavailableError, 503, "ServiceUnavailable"),
)
_FUNCTION_NAMES = (
    (PayloadError, 400, "InvalidRequestContentException"),
    (429, 429, "TooManyRequestsException"),
    (UnknownOperationError, 404, "UnknownOperationException"),
    (413, 413, "RequestTooLargeException"),
    (NotFoundError, 404, "ResourceNotFoundException"),
    (InvalidError, 400, "InvalidParameterValueException"),
    (RefusedError, 400, "InvalidParameterValueException"),
)
_JOB_NAMES = (
    (401, 401, "UnauthorizedException"),
    (429, 429, "ThrottlingException"),
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


def aws_refusal(message: str, named: tuple[int, str]) -> Refusal:
    """An error as AWS' JSON protocol writes it, by status and name."""
    status, code = named
    body = encode({"message": message, "Message": message, "ErrorCode": code, "__type": code})
    return Refusal(
        status=status, body=body, media_type="application/json",
        headers={"x-amzn-ErrorType": code, **request_id(),
                 **({"retry-after": "1"} if status == 429 else {})},
    )  # fmt: skip


def runtime_refusal(error: LinesideError) -> Refusal:
    """A failure as clients of the SageMaker runtime read it."""
    status = error.http_status if error.http_status in (413, 415) else 400
    other = (500, "InternalFailure") if error.http_status >= 500 else (status, "ValidationError")
    return _named_refusal(error, _RUNTIME_NAMES, other=other)


def function_refusal(error: LinesideError) -> Refusal:
    """A failure between a caller and a function, as clients of Lambda read it."""
    return _named_refusal(error, _FUNCTION_NAMES, other=(error.http_status, "ServiceException"))


def jobs_refusal(error: LinesideError) -> Refusal:
    """A failure as clients of AWS IoT's jobs read it."""
    status, name = error.http_status, "InvalidRequestException"
    other = (status, name) if status < 500 else (500, "InternalFailureException")
    if isinstance(error, JobRejectedError):
        return aws_refusal(error.message, _JOB_REJECTIONS.get(error.code, (400, name)))
    return _named_refusal(error, _JOB_NAMES, other=other)


def _named_refusal(error: LinesideError, names: Names, *, other: tuple[int, str]) -> Refusal:
    if isinstance(error, SignatureRefusedError):
        return aws_refusal(error.message, (403, error.code))
    return aws_refusal(str(error), _code_of(error, names, other=other))


def s3_refusal(error: LinesideError, *, path: str) -> Refusal:
    """A failure as S3's clients read it; ``path`` begins with ``/s3``."""
    status, code = _s3_code(error, bucket=path.removeprefix("/s3").lstrip("/").partition("/")[0])
    message = error.message if isinstance(error, SignatureRefusedError) else str(error)
    headers = s3_request_id()
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{xml_text(message)}</Message>"
        f"<Resource>{xml_text(path[:300])}</Resource>"
        f"<RequestId>{headers['x-amz-request-id']}</RequestId></Error>"
    )
    return Refusal(status=status, body=body.encode(), media_type=XML, headers=headers)


def request_id() -> dict[str, str]:
    """The header by which AWS' clients name a call."""
    return {"x-amzn-RequestId": str(uuid.uuid4())}


def s3_request_id() -> dict[str, str]:
    """The header by which S3's clients name a call."""
    return {"x-amz-request-id": uuid.uuid4().hex[:16].upper()}


def xml_text(text: str) -> str:
    """A text as it stands in XML, without the characters that XML cannot hold."""
    return escape(_UNWRITABLE.sub("\ufffd", text))


def _code_of(error: LinesideError, names: Names, *, other: tuple[int, str]) -> tuple[int, str]:
    """Status and a contract's name of a failure; ``other`` where it has none of its own."""
    for kind, status, code in names:
        if error.http_status == kind if isinstance(kind, int) else isinstance(error, kind):
            return status, code
    return other


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
