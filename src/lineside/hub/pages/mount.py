"""Brings routes and files into the application.

The module of a page is imported when a browser first asks for it, or soon after the start.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from os import PathLike, stat_result
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from lineside.core import LinesideError, decode_json
from lineside.hub.live import Shows
from lineside.hub.middleware import RoutePart, route_parts
from lineside.hub.page_parts import PartSource
from lineside.hub.pages.site import STATIC, Site
from lineside.hub.problems import problem, redact_in
from lineside.hub.services import Services
from lineside.web.answers import SHARED_STATIC

Handler = Callable[[Request, Any], Response | Awaitable[Response]]
PageHandler = Callable[[Request, Exception], Awaitable[Response]]

_FOR_EVER = "public, max-age=31536000, immutable"
_MOVED = {
    "data": "datasets", "fleet": "devices", "runs": "training",
    "dead-letters": "rejected-messages",
}  # fmt: skip
"""Former addresses of pages, which lead on: what their path began with."""
_PAGES = (
    ("lines", "/ frames lines trace"),
    ("pictures", "frames pictures"),
    ("twin", "twin"),
    ("models", "models"),
    ("learning", "datasets models regions training try"),
    ("count", "count"),
    ("fleet", "devices"),
    ("rollouts", "rollouts"),
    ("rules", "events"),
    ("setup", "setup"),
    ("replays", "replays"),
    ("log", "events favicon.ico rejected-messages search welcome"),
    ("labelling", "datasets"),
    ("review", "review"),
    ("operating_point", "inspections"),
    ("alerts", "alerts"),
    ("new_inspection", "inspections"),
)
"""Modules of pages, and where the paths of their routes begin."""
_FOR_PROGRAMS = ("/api/", "/endpoints/", "/2015-03-31/", "/v2/", "/static/")


class ReleasedFiles(StaticFiles):
    """Files below an address that names their release: they never change there.

    Scripts and styles are sent compressed to browsers that take it.
    """

    def file_response(  # noqa: PLR0917  starlette's own
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        kind = response.media_type or ""
        takes = Headers(scope=scope).get("accept-encoding", "")
        if response.status_code == 200 and kind.startswith("text/") and "gzip" in takes:
            data = _compressed(str(full_path))
            response = Response(data, media_type=kind, headers={"content-encoding": "gzip"})
        response.headers["vary"] = "accept-encoding"
        response.headers["cache-control"] = _FOR_EVER
        return response


@lru_cache(maxsize=512)
def _compressed(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), mtime=0)


def mount_pages(app: FastAPI, services: Services) -> list[RoutePart]:
    """Add the files that pages load, show failures as pages to browsers, and return the pages.

    Call it after everything else is mounted: the failure handlers that stand then keep answering
    programs.
    """
    app.state.services = services
    app.state.site = site = Site()
    services.live.load_pages = partial(_live_parts, site, services)
    files = ReleasedFiles(directory=STATIC)
    files.all_directories.append(SHARED_STATIC)
    app.mount(f"/static/{site.release}", files, name="static")
    for kind, handler in list(app.exception_handlers.items()):
        app.exception_handlers[kind] = _as_page(handler)
    return route_parts(app, __package__, ((f"{name}:router", paths) for name, paths in _PAGES))


def _live_parts(site: Site, services: Services) -> tuple[Shows, dict[str, PartSource]]:
    """Return what open pages are sent with each frame, and again when something changed."""
    from lineside.hub.pages import line_figures, lines, twin

    parts = {"/twin": twin.live_page(site, services), **line_figures.live_parts(site, services)}
    return lines.live_frames(site, services), parts


def signed_in_page(request: Request) -> HTMLResponse:
    """Says that the link worked, and goes on to the first page by itself."""
    site: Site = request.app.state.site
    return site.page(request, "signed_in.html", title="Signed in")


def sign_in_page(request: Request, error: LinesideError) -> HTMLResponse:
    """The sign-in form once more, with the reason why it did not work."""
    site: Site = request.app.state.site
    page = site.page(
        request, "welcome.html", title="Sign in", problem=_shown(request, error), chrome=None,
        next=request.query_params.get("next", ""),
    )  # fmt: skip
    page.status_code = error.http_status
    return page


def problem_page(request: Request, error: LinesideError) -> HTMLResponse:
    """A failure as a page, in the words of its problem document."""
    return _page_of(request, _shown(request, error))


def _shown(request: Request, error: LinesideError) -> dict[str, Any]:
    """The problem document of a failure, as a page tells it."""
    shown = redact_in(error, scope=request.scope)
    return cast("dict[str, Any]", decode_json(problem(shown), where="problem"))


def refusal_page(scope: Scope, error: LinesideError) -> HTMLResponse | None:
    """A refusal as a page; None where a program asked."""
    request = Request(scope)
    return problem_page(request, error) if _wants_page(request) else None


def _page_of(request: Request, fields: dict[str, Any]) -> HTMLResponse:
    site: Site = request.app.state.site
    page = site.page(request, "problem.html", title=fields["title"], problem=fields)
    page.status_code = fields["status"]
    return page


def _as_page(handler: Handler) -> PageHandler:
    """The same failure as a page, in the same words, where a browser asked for one."""

    async def handle(request: Request, error: Exception) -> Response:
        answer = handler(request, error)
        response = answer if isinstance(answer, Response) else await answer
        if not _wants_page(request) or response.media_type != "application/problem+json":
            return response
        told = decode_json(bytes(response.body), where="problem")
        if isinstance(error, HTTPException) and error.status_code == 404:
            first, slash, rest = request.url.path[1:].partition("/")
            if first in _MOVED:
                named = filter(None, (f"/{_MOVED[first]}{slash}{rest}", request.url.query))
                return RedirectResponse("?".join(named), status_code=301)
            told |= {"detail": "Page not found.", "fix": "Go to Lines."}
        return await asyncio.to_thread(_page_of, request, told)

    return handle


def _wants_page(request: Request) -> bool:
    reads = request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")
    return reads and not request.url.path.startswith(_FOR_PROGRAMS)
