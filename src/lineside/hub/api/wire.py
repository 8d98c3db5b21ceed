"""How requests are read and answers written: one way for every route."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from lineside.core import (
    InvalidError,
    LinesideError,
    decode,
    decode_json,
    encode,
    json_schema,
    parse_rfc3339,
)
from lineside.hub.problems import Refusal, WrongTypeError, refusal
from lineside.hub.services import Services
from lineside.hub.views import Identity

T = TypeVar("T")


def services_of(request: Request) -> Services:
    """The hub's parts."""
    return cast("Services", request.app.state.services)


def identity_of(request: Request) -> Identity:
    """Who asks; the gate has checked it."""
    return cast("Identity", request.state.identity)


Hub = Annotated[Services, Depends(services_of)]
Who = Annotated[Identity, Depends(identity_of)]
_POSITION = re.compile(r"[0-9]{1,18}")  # what a column of 64 bits holds
Limit = Annotated[int, Query(ge=1, le=1000, description="how many items at most")]


def answer(record: object, *, status: int = 200) -> Response:
    """Any record as JSON."""
    return Response(encode(record), status_code=status, media_type="application/json")


def refused(error: LinesideError, *, path: str) -> Response:
    """A failure in the form of the path's contract."""
    return sent(refusal(error, path=path))


def sent(told: Refusal) -> Response:
    """A failure that has its form already."""
    return Response(
        told.body, status_code=told.status, media_type=told.media_type, headers=told.headers
    )


def listed(items: Sequence[object], *, following: str = "", cursor: str = "after") -> Response:
    """A page of a list; ``cursor`` names the parameter that takes ``next``."""
    return answer({"items": items, "next": following or None, "cursor": cursor})


def following_of(items: Sequence[T], limit: int, *, key: Callable[[T], object]) -> str:
    """The cursor behind a full page; "" where the list ended."""
    return str(key(items[-1])) if items and len(items) >= limit else ""


def body_of(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads a JSON body into a record; an empty body is ``{}``."""

    async def read(request: Request) -> T:
        content = request.headers.get("content-type", "application/json")
        raw = await request.body()
        if raw and content.partition(";")[0].strip().lower() != "application/json":
            raise WrongTypeError(f"{content!r} is no JSON", fix="Send application/json.")
        return decode(kind, _spelled(decode_json(raw or b"{}", where="body")), where="body")

    return read


def _spelled(document: object) -> object:
    """``from`` and ``to`` as a record can name them: the first is a Python word."""
    if not isinstance(document, dict):
        return document
    spelled = {"from": "from_frame", "to": "to_frame"}
    return {spelled.get(key, key): value for key, value in document.items()}


def described(kind: type[object]) -> dict[str, Any]:
    """What the OpenAPI document says of such a body."""
    schema = json_schema(kind)
    definitions = schema.pop("$defs", {})
    schema.pop("$schema", None)
    name = schema.get("$ref", "").rpartition("/")[2]
    inline = definitions.get(name, schema)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline}}}}


def raw_body(media_type: str) -> dict[str, Any]:
    """What the OpenAPI document says of a body of bytes."""
    schema = {"type": "string", "format": "binary"}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def moment(text: str, *, name: str) -> datetime | None:
    """A time from the query; None where it was not given."""
    return parse_rfc3339(text.replace(" ", "+"), where=name) if text else None


def whole_number(text: str, *, name: str) -> int:
    """A cursor that is a number."""
    if text and not _POSITION.fullmatch(text):
        raise InvalidError(f"{text!r} is no cursor", where=name, fix="Take next of the last page.")
    return int(text or 0)
