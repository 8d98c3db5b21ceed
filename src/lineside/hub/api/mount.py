"""Every route of the API on one application, their index, and failures as problem documents.

Where a browser asked for a page, ``pages`` shows the same document as one.
"""

import logging
import uuid
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import get_args

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from lineside.core import Fault, InvalidError, LinesideError
from lineside.hub.api import (
    alerts,
    aws_inference,
    counting,
    devices,
    frames,
    health,
    iot,
    jobs,
    labelling,
    learning,
    line,
    live,
    models,
    open_inference,
    openapi,
    replays,
    review,
    rollouts,
    rules,
    s3,
    session,
    setup,
)
from lineside.hub.api.openapi import openapi_document
from lineside.hub.api.wire import error_response, refusal_response
from lineside.hub.config import Contract
from lineside.hub.problems import plain_refusal

logger = logging.getLogger(__name__)
_CHOSEN = "lineside.route"
_API = ("api", "v1")
_ANY = ""


def mount_api(app: FastAPI, *, contracts: Sequence[Contract] = get_args(Contract)) -> None:
    """Add routes, of other systems those of ``contracts`` alone, and failure handlers."""
    routers: dict[Contract, APIRouter] = {
        "sagemaker": aws_inference.router, "iot-jobs": iot.router, "s3": s3.router,
        "open-inference": open_inference.router,
    }  # fmt: skip
    # Before ``line``: its ``/twin/{path}`` would take ``/twin/live``.
    parts = (
        *(routers[name] for name in get_args(Contract) if name in contracts), s3.tuf_router,
        devices.router, live.router, frames.router, learning.router, models.router,
        counting.router, jobs.router, rollouts.router, replays.router, rules.router, setup.router,
        line.router, health.log_router, line.ingest_router, labelling.router, review.router,
        health.router, session.router, openapi.router, models.points_router, alerts.router,
    )  # fmt: skip
    for part in parts:
        app.include_router(part)
    routes = [one for part in parts for one in part.routes if isinstance(one, APIRoute)]
    document_of_app = cache(partial(openapi_document, app, routes))
    app.openapi = document_of_app  # type: ignore[method-assign]  # the way FastAPI documents
    app.add_exception_handler(LinesideError, _named)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unnamed)


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


class RouteIndex(BaseRoute):
    """The routes of an application, in their order, asked only where one may match.

    Starlette asks one route after the other, and FastAPI each router for all of its own: with two
    hundred routes that is a millisecond before anything is done.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.routes = tuple(routes)
        beginnings = [(route, set(_beginnings(route))) for route in self.routes]
        known = {one for _, found in beginnings for one in found}
        self._routes = {
            name: [route for route, found in beginnings if found & {name, _ANY}] for name in known
        }
        self._others = [route for route, found in beginnings if _ANY in found]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        partial: tuple[Match, Scope] = (Match.NONE, {})
        for route in self._routes.get(_beginning(scope["path"]), self._others):
            match, child = route.matches(scope)
            if match is not Match.NONE and partial[0] is Match.NONE:
                partial = match, {**child, _CHOSEN: route}
            if match is Match.FULL:
                return match, {**child, _CHOSEN: route}
        return partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_CHOSEN].handle(scope, receive, send)


def _beginning(path: str) -> str:
    """Return the first part of a path that tells routers apart; "" where it is a parameter."""
    parts = path.split("/")[1:]
    place = len(_API) if tuple(parts[: len(_API)]) == _API else 0
    name = parts[place] if place < len(parts) else ""
    return _ANY if "{" in name else name


def _beginnings(route: BaseRoute) -> Iterator[str]:
    """Yield the beginnings of the paths that a route, or a router with its routes, may take."""
    inner = getattr(route, "original_router", None)
    if inner is not None:
        for one in inner.routes:
            yield from _beginnings(one)
    elif isinstance(path := getattr(route, "path", None), str):
        yield _beginning(path)
    else:
        yield _ANY
