"""Who may ask for what; the whole table is here.

| Identity | May |
|---|---|
| nobody | sign in, welcome page, styles, health; inference calls (these are signed) |
| ``session``, ``api`` | everything |
| ``device`` | read a package's bytes |
| ``ingest`` | hand in messages at ``/mqttingest`` |
"""

import re

from lineside.core import RefusedError
from lineside.hub.views import Identity

COOKIE = "lineside_session"

_OPEN = ("/healthz", "/readyz", "/ping", "/sign-in", "/welcome", "/favicon.ico")
_OPEN_BELOW = ("/static/", "/endpoints/", "/2015-03-31/functions/")
_CONTENT = re.compile(r"/api/v1/packages/[^/]+/content")


def is_open(path: str) -> bool:
    """Whether a path answers to anybody."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def may(identity: Identity, *, method: str, path: str) -> None:
    """Refuse what this identity may not.

    Raises:
        RefusedError: its kind is not for this path.
    """
    if identity.kind in ("session", "api"):
        return
    if identity.kind == "device" and method in ("GET", "HEAD") and _CONTENT.fullmatch(path):
        return
    if identity.kind == "ingest" and path == "/mqttingest":
        return
    raise RefusedError(
        f"a token of kind {identity.kind!r} may not do this",
        where=f"{method} {path}",
        fix="Use a token of kind api.",
    )
