"""Every route of the API on one application, and failures as problem documents.

A module is imported when a request may be for one of its routes, or soon after the start. Where a
browser asked for a page, ``pages`` shows the same failure as one.

A query parameter that a route below ``/api/v1`` does not declare is refused: passed over, a filter
with a wrong name would give everything. Contracts of other systems take what their clients send.
"""

import logging
import uuid
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pkgutil import resolve_name
from typing import Any, get_args

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.params import Query as QueryParameter
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from lineside.core import Fault, InvalidError, LinesideError
from lineside.core.codec import faults_error, known
from lineside.hub.api.wire import error_response, refusal_response
from lineside.hub.config import Contract
from lineside.hub.middleware import RoutePart, route_parts
from lineside.hub.problems import plain_refusal

logger = logging.getLogger(__name__)

_CONTRACTS: dict[Contract, tuple[str, str]] = {
    "sagemaker": ("aws_inference:router", "2015-03-31 endpoints ping"),
    "iot-jobs": ("iot:router", "endpoint jobs role-aliases sagemaker things"),
    "s3": ("s3:router", "s3"),
    "open-inference": ("open_inference:router", "v2"),
}
# Before ``line``: its ``/twin/{path}`` would take ``/twin/live``.
_PARTS = (
    ("s3:tuf_router", "tuf"),
    ("devices:router", "devices enrolment local-device"),
    ("live:router", "twin ws"),
    ("frames:router", "cameras frames"),
    ("learning:router", "datasets packages runs"),
    ("models:router", "models"),
    ("counting:router", "counts functions"),
    ("jobs:router", "jobs"),
    ("rollouts:router", "rollouts"),
    ("replays:router", "replays"),
    ("rules:router", "rule-events rules"),
    ("setup:router", "cameras plant tokens users"),
    ("line:router", "dead-letters events lines orders trace twin verdicts"),
    ("health:log_router", "followers stats"),
    ("line:ingest_router", "mqttingest"),
    ("labelling:router", "datasets"),
    ("review:router", "review"),
    ("health:router", "healthz metrics readyz"),
    ("session:router", "me sign-in sign-out"),
    ("openapi:router", "api"),
    ("models:points_router", "operating-points"),
    ("alerts:router", "alerts"),
)  # fmt: skip
"""Routers by module, and where the paths of their routes begin."""


def mount_api(
    app: FastAPI, *, contracts: Sequence[Contract] = get_args(Contract)
) -> list[RoutePart]:
    """Add failure handlers; return the routes, of other systems those of ``contracts`` alone."""
    others = [_CONTRACTS[name] for name in get_args(Contract) if name in contracts]

    @cache
    def document() -> dict[str, Any]:
        from lineside.hub.api.openapi import openapi_document

        routers = (resolve_name(f"{__package__}.{name}") for name, _ in (*others, *_PARTS))
        routes = [one for each in routers for one in each.routes if isinstance(one, APIRoute)]
        return openapi_document(app, routes)

    app.openapi = document  # type: ignore[method-assign]  # the way FastAPI documents
    app.add_exception_handler(LinesideError, _named)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unnamed)
    return [
        *route_parts(app, __package__, others),
        *route_parts(app, __package__, _PARTS, dependencies=[Depends(_declared_query)]),
    ]


async def _declared_query(connection: HTTPConnection) -> None:
    """Refuse query parameters that a route below ``/api/v1`` does not declare; ten are named."""
    scope = connection.scope
    if scope["query_string"] and scope["path"].startswith("/api/v1/"):
        declared = get_flat_params(scope["route"].dependant)  # codespell:ignore dependant
        names = [one.alias for one in declared if isinstance(one.field_info, QueryParameter)]
        unknown = (
            fault for name in connection.query_params
            for fault in known(name, names, path=f"query.{name}", noun="query parameter")
        )  # fmt: skip
        if faults := tuple(islice(unknown, 10)):
            raise faults_error(faults, where=faults[0].path)


async def _named(request: Request, error: Exception) -> Response:
    assert isinstance(error, LinesideError)  # noqa: S101  registered for this class
    return error_response(error, request=request)


async def _parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class
    faults = tuple(
        Fault(
            path=".".join(str(part) for part in found["loc"]),
            value="nothing" if found["type"] == "missing" else repr(found.get("input"))[:80],
            expected=str(found["msg"])
            .removeprefix("Input should be ")
            .replace("String should have ", "text of "),
            fix="See /api/docs.",
        )
        for found in error.errors()
    )
    refused = InvalidError(
        f"{faults[0].path}: {faults[0].sentence}", where=faults[0].path, fix="See /api/docs.",
        faults=faults,
    )  # fmt: skip
    return error_response(refused, request=request)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class
    answer = refusal_response(
        plain_refusal(
            error.status_code, path=request.url.path, detail=str(error.detail),
            fix="See /api/docs for every path.",
        )
    )  # fmt: skip
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _unnamed(request: Request, error: Exception) -> Response:
    number = uuid.uuid4().hex
    logger.error("request failed id=%s path=%s", number, request.url.path, exc_info=error)
    return refusal_response(
        plain_refusal(
            500, title="Internal error", detail="something failed that nobody foresaw",
            path=request.url.path, fix=f"Read the hub's log about request {number}.",
        )
    )  # fmt: skip
