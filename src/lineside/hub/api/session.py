"""Signing in by a link that works once, and signing out."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from lineside.core import RefusedError
from lineside.hub.access import COOKIE
from lineside.hub.api.wire import Hub, Who, answer
from lineside.hub.auth import TooManyError
from lineside.hub.pages import problem_page, signed_in_page

router = APIRouter(tags=["session"])


@router.get("/sign-in", summary="Sign in by a one-time link", include_in_schema=False)
def sign_in(
    hub: Hub, request: Request, *, token: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """Turn the link into a session."""
    try:
        session = hub.auth.sign_in(token)
    except (RefusedError, TooManyError) as error:
        return problem_page(request, error)
    # The cookie is SameSite=Strict, so a redirect would lose it when the link was opened from
    # another site's page; a page that goes on by itself is a navigation of our own.
    response = signed_in_page(request)
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
