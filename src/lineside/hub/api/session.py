"""Signing in by name and password or by a link that works once, signing out, a new password."""

import re
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from lineside.core import InvalidError, RefusedError
from lineside.hub.access.auth import Credentials, TooManyAttemptsError
from lineside.hub.access.permissions import COOKIE, Identity
from lineside.hub.api.wire import Hub, Requester, json_body, json_response, responds
from lineside.hub.pages import problem_page, sign_in_page, signed_in_page
from lineside.hub.problems import WrongTypeError
from lineside.hub.services import Services
from lineside.web.security import TooLargeError

router = APIRouter(tags=["session"])


_LONGEST_FORM = 4096
_MOST_FIELDS = 8
_OWN_PAGE = re.compile(r"/(?![/\\])[^\s\\]*\Z")


async def _credentials(request: Request) -> Credentials:
    """The form of the sign-in page."""
    raw = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise WrongTypeError(f"{kind or 'no type'!r}", fix="Send the form of the sign-in page.")
    if len(raw) > _LONGEST_FORM:
        raise TooLargeError(f"more than {_LONGEST_FORM} bytes", fix="Send name and password.")
    try:
        fields = parse_qs(
            raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise InvalidError(
            "more fields than a sign-in has", where="body", fix="Send name and password."
        ) from error
    address = request.client.host if request.client else ""
    return Credentials(
        name=fields.get("name", [""])[0],
        password=fields.get("password", [""])[0],
        address=address,
    )


@router.get("/sign-in", summary="Sign in by a one-time link", include_in_schema=False)
def sign_in(
    hub: Hub, request: Request, *, token: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """Turn the link into a session; without one, the page that asks for a name."""
    if not token:
        return RedirectResponse("/welcome", status_code=303)
    try:
        session = hub.auth.sign_in(token)
    except (RefusedError, TooManyAttemptsError) as error:
        return problem_page(request, error)
    # The cookie is SameSite=Strict, so a redirect would lose it when the link was opened from
    # another site's page; a page that goes on by itself is a navigation of our own.
    return _with_session(signed_in_page(request), session, hub=hub, request=request)


@router.post("/sign-in", summary="Sign in by name and password", include_in_schema=False)
def sign_in_by_password(
    hub: Hub, request: Request, *, given: Annotated[Credentials, Depends(_credentials)],
    onward: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:  # fmt: skip
    """The form again with the reason, or on to the page that was asked for, else the first."""
    try:
        session = hub.auth.sign_in_by_password(given)
    except (RefusedError, TooManyAttemptsError) as error:
        return sign_in_page(request, error)
    hub.auth.sign_out(request.cookies.get(COOKIE, ""))
    to = onward if _OWN_PAGE.match(onward) else "/"  # nobody is sent to another site
    response = RedirectResponse(to, status_code=303)
    return _with_session(response, session, hub=hub, request=request)


def _with_session(response: Response, token: str, *, hub: Services, request: Request) -> Response:
    response.set_cookie(
        COOKIE, token, max_age=int(hub.config.session_hours * 3600), path="/", httponly=True,
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
@responds(Identity)
def me(who: Requester) -> Response:
    """Name, kind and role."""
    return json_response(who)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPasswordChange:
    """Body of ``POST /api/v1/me/password``."""

    current: str
    password: str


@router.post("/api/v1/me/password", summary="Change your own password")
@responds(Identity)
def change_own_password(
    hub: Hub, who: Requester, request: Request, *,
    body: Annotated[OwnPasswordChange, Depends(json_body(OwnPasswordChange))],
) -> Response:  # fmt: skip
    """Every other session of the user ends; this one goes on under another cookie."""
    if hub.accounts.user_of(who) is None:
        raise RefusedError(
            f"{who.name} has no password here", where="current",
            fix="Sign in by name and password; an administrator adds users on Set-up, Users.",
        )  # fmt: skip
    address = request.client.host if request.client else ""
    known = Credentials(name=who.name, password=body.current, address=address)
    user = hub.auth.user_of(known)
    hub.accounts.set_password(user.name, password=body.password, by=user.name)
    hub.auth.sign_out(request.cookies.get(COOKIE, ""))
    session = hub.auth.sign_in_by_password(replace(known, password=body.password))
    return _with_session(json_response(who), session, hub=hub, request=request)
