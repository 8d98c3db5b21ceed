"""Every route of the API on one application, and failures as problem documents.

Where a browser asked for a page, ``pages`` shows the same document as one.
"""

import logging
from functools import cache, partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from lineside.core import Fault, LinesideError
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
    operating_points,
    replays,
    review,
    rollouts,
    rules,
    s3,
    session,
    setup,
)
from lineside.hub.api.openapi import openapi_document
from lineside.hub.api.wire import error_response
from lineside.hub.problems import MEDIA_TYPE, document

logger = logging.getLogger(__name__)


def mount_api(app: FastAPI) -> None:
    """Add routes and failure handlers."""
    # Before ``line``: its ``/twin/{path}`` would take ``/twin/live``.
    parts = (
        devices.router, live.router, frames.router, learning.router, s3.router, models.router,
        open_inference.router, counting.router, jobs.router, rollouts.router, replays.router,
        rules.router, setup.router, iot.router, line.router, health.log_router, line.ingest_router,
        labelling.router, review.router,
        aws_inference.router, health.router, session.router, openapi.router,
        operating_points.router, alerts.router,
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


def _answer(status: int, body: bytes) -> Response:
    return Response(body, status_code=status, media_type=MEDIA_TYPE)


async def _named(request: Request, error: Exception) -> Response:
    assert isinstance(error, LinesideError)  # noqa: S101  registered for this class
    if error.http_status >= 500:
        logger.warning("request failed reason=%s", error)
    return error_response(error, path=request.url.path)


async def _parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class
    faults = tuple(
        Fault(
            path=".".join(str(part) for part in found["loc"]),
            value=repr(found.get("input"))[:80],
            expected=str(found["msg"]),
            fix="See /api/docs.",
        )
        for found in error.errors()
    )
    body = document(
        status=400, title="Invalid input", detail=f"{faults[0].path}: {faults[0].expected}",
        where=faults[0].path, fix="See /api/docs.", faults=faults,
    )  # fmt: skip
    return _answer(400, body)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class
    body = document(
        status=error.status_code, detail=str(error.detail), where=request.url.path,
        fix="See /api/docs for every path.",
    )  # fmt: skip
    answer = _answer(error.status_code, body)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _unnamed(request: Request, error: Exception) -> Response:
    logger.error("request failed path=%s", request.url.path, exc_info=error)
    body = document(
        status=500, title="Internal error", detail="something failed that nobody foresaw",
        where=request.url.path, fix="Read the hub's log.",
    )  # fmt: skip
    return _answer(500, body)
