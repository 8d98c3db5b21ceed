"""Failures as problem documents (RFC 9457), whoever raised them."""

from http import HTTPStatus
from typing import Any

from lineside.core import Fault, LinesideError, encode, to_plain

MEDIA_TYPE = "application/problem+json"


class TooLargeError(LinesideError):
    """The body is larger than this route takes."""

    exit_code = 2
    http_status = 413
    title = "Too large"


class WrongTypeError(LinesideError):
    """The body is of a media type that this route does not take."""

    exit_code = 2
    http_status = 415
    title = "Unsupported media type"


def problem(error: LinesideError) -> bytes:
    """The document of one of lineside's errors."""
    return document(
        status=error.http_status,
        title=error.title,
        detail=error.message,
        where=error.where,
        fix=error.fix,
        faults=error.faults,
    )


def document(
    *, status: int, title: str = "", detail: str = "", where: str = "", fix: str = "",
    faults: tuple[Fault, ...] = (),
) -> bytes:  # fmt: skip
    """Any problem document; title and detail default to the status' own words."""
    title = title or HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": "about:blank", "title": title, "status": status, "detail": detail or title,
        "where": where, "fix": fix, "faults": to_plain(faults),
    }  # fmt: skip
    return encode(body)
