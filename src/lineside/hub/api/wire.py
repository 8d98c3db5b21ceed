"""Requests and responses: one way for every route to read and write them."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, cast

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from lineside.compat.aws.errors import Refusal
from lineside.compat.aws.sigv4 import SignedRequest
from lineside.core import (
    InvalidError,
    LinesideError,
    decode,
    decode_json,
    encode,
)
from lineside.hub.access.permissions import Identity
from lineside.hub.problems import WrongTypeError, redact_in, refusal
from lineside.hub.services import Services

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
JSON = "application/json"
PICTURE_TYPES = ("image/jpeg", "image/png", "application/x-image", "application/octet-stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A body as the OpenAPI document has it: JSON of ``kind``, or bytes of these media types."""

    kind: Any = bytes
    media_types: tuple[str, ...] = (JSON,)
    status: int = 200
    example: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A page of a list; ``cursor`` names the parameter that takes ``next``, null at the end."""

    items: Sequence[T]
    next: str | None
    cursor: str


async def services_of(request: Request) -> Services:
    """The hub's parts; no thread is waited for."""
    return cast("Services", request.app.state.services)


def identity_of(request: Request) -> Identity:
    """Who asks; the gate has checked it."""
    return cast("Identity", request.state.identity)


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]
Hub = Annotated[Services, Depends(services_of)]
Requester = Annotated[Identity, Depends(identity_of)]
_POSITION = re.compile(r"[0-9]{1,18}")  # what a column of 64 bits holds
Limit = Annotated[int, Query(ge=1, le=1000, description="how many items at most")]


def responds(
    kind: Any, *media_types: str, status: int = 200, example: object = None,  # noqa: ANN401  any type
) -> Callable[[F], F]:  # fmt: skip
    """Say what a route answers on success; above one another for several statuses.

    Args:
        kind: record type of the JSON; ``bytes`` for anything else; None for no body.
        media_types: of bytes.
        status: of the answer.
        example: where the sample that the document makes of ``kind`` says too little.
    """
    known = () if kind is None else media_types or (JSON,)
    content = Content(kind=kind, media_types=known, status=status, example=example)

    def note(function: F) -> F:
        vars(function)["gives"] = (content, *vars(function).get("gives", ()))
        return function

    return note


def json_response(record: object, *, status: int = 200) -> Response:
    """Any record as JSON."""
    return Response(encode(record), status_code=status, media_type="application/json")


def error_response(error: LinesideError, *, request: Request) -> Response:
    """A failure in the form of the path's contract."""
    shown = redact_in(error, scope=request.scope)
    return refusal_response(refusal(shown, path=request.url.path))


def refusal_response(failure: Refusal) -> Response:
    """A failure that has its form already."""
    return Response(
        failure.body,
        status_code=failure.status,
        media_type=failure.media_type,
        headers=failure.headers,
    )


def page_response(
    items: Sequence[object], *, following: str = "", cursor: str = "after"
) -> Response:
    """A page of a list; ``cursor`` names the parameter that takes ``next``."""
    return json_response(Page(items=items, next=following or None, cursor=cursor))


def next_cursor(items: Sequence[T], limit: int, *, key: Callable[[T], object]) -> str:
    """The cursor behind a full page; "" where the list ended."""
    return str(key(items[-1])) if items and len(items) >= limit else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedReason:
    """Body of a request that says only why."""

    reason: str


def json_body(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads a JSON body into a record; an empty body is ``{}``."""

    async def read(request: Request) -> T:
        content = request.headers.get("content-type", "application/json")
        raw = await request.body()
        if raw and content.partition(";")[0].strip().lower() != "application/json":
            raise WrongTypeError(f"{content!r} is no JSON", fix="Send application/json.")
        return decode(kind, _spelled(decode_json(raw or b"{}", where="body")), where="body")

    vars(read)["takes"] = Content(kind=kind)
    return read


def bytes_body(*media_types: str) -> Callable[[Request], Awaitable[bytes]]:
    """A dependency that reads a body of bytes of one of these media types."""

    async def read(request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in media_types:
            fix = f"Send one of {', '.join(media_types)}."
            raise WrongTypeError(f"{kind or 'no type'!r}", fix=fix)
        return await request.body()

    vars(read)["takes"] = Content(media_types=media_types)
    return read


def _spelled(document: object) -> object:
    """``from`` and ``to`` as a record can name them: the first is a Python word."""
    if not isinstance(document, dict):
        return document
    spelled = {"from": "from_frame", "to": "to_frame"}
    return {spelled.get(key, key): value for key, value in document.items()}


def raw_body(*media_types: str) -> dict[str, Any]:
    """Describe in the OpenAPI document a body that a route reads by itself."""
    binary = {"type": "string", "format": "binary"}
    return {"requestBody": {"content": {
        one: {"schema": {} if one == JSON else binary} for one in media_types
    }}}  # fmt: skip


def whole_number(text: str, *, name: str) -> int:
    """A cursor that is a number."""
    if text and not _POSITION.fullmatch(text):
        raise InvalidError(f"{text!r} is no cursor", where=name, fix="Take next of the last page.")
    return int(text or 0)


def signed_request(request: Request, body: bytes) -> SignedRequest:
    """The request as whoever signed it wrote it."""
    return SignedRequest(
        method=request.method,
        path=request.scope.get("raw_path", request.url.path.encode()).decode("latin-1"),
        query=request.scope.get("query_string", b"").decode("latin-1"),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=body,
    )
