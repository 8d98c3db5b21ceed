"""Signing in by a link that works once, and signing out."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from lineside.core import RefusedError
from lineside.hub.access import COOKIE
from lineside.hub.api.wire import Hub, Who, answer
from lineside.hub.auth import TooManyError

router = APIRouter(tags=["session"])

# The cookie is SameSite=Strict, so a redirect would lose it when the link was opened from another
# site's page; a page that goes on by itself is a navigation of our own.
_GO_ON = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=/"><title>Signed in</title></head>
<body><h1>Signed in</h1><p><a href="/">Go on to lineside</a></p></body></html>"""
_REFUSED = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Not signed in</title></head><body><h1>Not signed in</h1><p>{reason}</p>
<p><a href="/welcome">How to sign in</a></p>
</body></html>"""


@router.get("/sign-in", summary="Sign in by a one-time link", include_in_schema=False)
def sign_in(
    hub: Hub, request: Request, *, token: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """Turn the link into a session."""
    try:
        session = hub.auth.sign_in(token)
    except (RefusedError, TooManyError) as error:
        page = _REFUSED.format(reason=escape(f"{error.message}. {error.fix}"))
        return HTMLResponse(page, status_code=error.http_status)
    response = HTMLResponse(_GO_ON)
    response.set_cookie(
        COOKIE, session, max_age=int(hub.config.session_hours * 3600), path="/", httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.post("/sign-out", summary="End the session", include_in_schema=False)
def sign_out(hub: Hub, request: Request) -> Response:
    """The cookie is worth nothing afterwards; open sockets close."""
    hub.auth.sign_out(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/welcome", status_code=303)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


@router.get("/api/v1/me", summary="Who asks")
def me(who: Who) -> Response:
    """Name and kind."""
    return answer(who)
