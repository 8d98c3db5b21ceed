"""Client of the hub's HTTP API: JSON and bytes with a token, failures as the six errors."""

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

from lineside.core import (
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.core.drivers import SecretUrl, http_opener, problem_texts
from lineside.core.worker import retry

if TYPE_CHECKING:
    from lineside.fleet import Source

T = TypeVar("T")


class HubClient:
    """JSON requests with a token; failures come back as the six classes."""

    def __init__(
        self, base: str, *, token: str, ca: Path | None = None, retry_s: float = 0.0
    ) -> None:
        """Send nothing yet.

        Args:
            base: such as ``https://hub.plant.lan:8443``.
            token: an access token.
            ca: of the site's own authority, where the hub answers with its certificate.
            retry_s: how long a list that was begun asks again for a page while the hub is away.

        Raises:
            InvalidError: the base is no address of a hub, the token cannot be one, or ``ca`` is no
                certificate that can be read.
        """
        if not _is_address(base):
            raise InvalidError(
                f"{str(SecretUrl(base))!r} is no hub", where="url", fix="Write https://HOST:PORT."
            )
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise InvalidError(
                "the token is not one word of ASCII characters", where="token",
                fix="Give what lineside token issue printed, and nothing beside it.",
            )  # fmt: skip
        self.base = base.rstrip("/")
        self._token = token
        self._retry_s = retry_s
        self._trust = None if ca is None else _trust(ca)

    def get(self, path: str, **query: object) -> Any:  # noqa: ANN401  JSON of many shapes
        """GET a path below ``/api/v1``."""
        given = {key: value for key, value in query.items() if value is not None}
        asked = f"?{urlencode(given, doseq=True)}" if given else ""
        return self._send("GET", f"/api/v1{path}{asked}")

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401  JSON of many shapes
        """POST JSON to a path below ``/api/v1``."""
        return self._send("POST", f"/api/v1{path}", json.dumps(body or {}).encode())

    def post_bytes(self, path: str, body: object) -> bytes:
        """POST JSON to a path below ``/api/v1`` whose answer is bytes."""
        return self._exchange("POST", f"/api/v1{path}", json.dumps(body).encode())

    def upload(self, path: str, data: bytes) -> Any:  # noqa: ANN401  JSON of many shapes
        """POST bytes to a path below ``/api/v1``."""
        return self._send("POST", f"/api/v1{path}", data, kind="application/octet-stream")

    def get_bytes(self, path: str) -> bytes:
        """GET bytes, of an image or a package, below ``/api/v1``."""
        return self._exchange("GET", f"/api/v1{path}")

    def updates(self) -> "Source":
        """Files of the hub's update repository, as devices read them."""
        from lineside.edge import HubClient as DeviceClient

        return DeviceClient(self.base, token=lambda: self._token, tls=lambda: self._trust)

    def items(self, path: str, **query: object) -> list[Any]:
        """Every item of a list, page after page."""
        return list(self.rows(path, **query))

    def rows(self, path: str, items: str = "items", /, **query: object) -> Iterator[Any]:
        """Every item of a list; a page is fetched when the one before is read.

        A page behind the first is asked for again, for ``retry_s``, while the hub is away.

        Raises:
            InvalidError: an answer has no list of that name.
        """
        within_s = 0.0
        while True:
            ask = partial(self.get, path, **query)
            page = retry(ask, stop=threading.Event(), within_s=within_s)
            yield from self.part(page, items, list, path=path)
            if not page.get("next"):
                return
            query |= {str(page.get("cursor", "after")): page["next"]}
            within_s = self._retry_s

    def part(self, answer: object, name: str, kind: type[T], *, path: str) -> T:
        """Return what an answer has under a name; ``InvalidError`` where it is not of the kind."""
        found = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(found, kind):
            raise InvalidError(
                f"the answer has no {kind.__name__} {name!r}", where=f"{self.base}/api/v1{path}",
                fix="Name a hub of this release, and a list that docs/reference/http.md names.",
            )  # fmt: skip
        return found

    def ready(self) -> bool:
        """Return True where the hub answers that it is ready."""
        try:
            self._send("GET", "/readyz")
        except LinesideError:
            return False
        return True

    def _send(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json"
    ) -> Any:  # noqa: ANN401  JSON of many shapes
        text = self._exchange(method, path, body, kind=kind)
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise UnavailableError(
                f"the answer is no JSON, or not all of it: {error}",
                where=f"{method} {self.base}{path}",
                fix="Try again; if it stays so, look after what stands before the hub.",
            ) from error

    def _exchange(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json"
    ) -> bytes:
        request = urllib.request.Request(  # noqa: S310  the base URL is the user's own
            self.base + path,
            data=body,
            method=method,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": kind,
            },
        )
        try:
            opener = http_opener(self._trust, urllib.request.ProxyHandler())
            with opener.open(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error, where=f"{method} {path}") from error
        except (OSError, HTTPException) as error:
            raise UnavailableError(
                f"the hub does not answer: {error}", where=self.base, fix="Start lineside hub."
            ) from error


_KINDS: dict[int, type[LinesideError]] = {
    400: InvalidError, 401: RefusedError, 403: RefusedError, 404: NotFoundError,
    409: ConflictError, 429: UnavailableError, 502: UnavailableError, 503: UnavailableError,
    504: UnavailableError,
}  # fmt: skip


def _is_address(base: str) -> bool:
    try:
        parts = urlsplit(base)
        usable = bool(parts.hostname and parts.hostname.encode("idna")) and parts.port != 0
    except ValueError:  # such as half a bracket, or a port that is no number
        return False
    plain = base.isprintable() and not set(base) & set(" @?#")
    return usable and plain and parts.scheme in ("http", "https") and parts.path in ("", "/")


def _trust(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidError(
            f"the authority's certificate cannot be used: {error}", where=str(ca),
            fix="Name a PEM file, as the hub's folder authority has it.",
        ) from error  # fmt: skip


def _refusal(error: urllib.error.HTTPError, *, where: str) -> LinesideError:
    """The error of an answer, in the words of its problem document (RFC 9457) if it has one."""
    found = problem_texts(error)
    if 300 <= error.code < 400:
        return InvalidError(
            f"what answers there sends on to {error.headers.get('Location', '')!r:.200}",
            where=where,
            fix="Give the address of the hub itself: the token is sent to no other.",
        )  # fmt: skip
    after_s = error.headers.get("Retry-After", "")
    later = f"Try again in {after_s} s." if after_s.isdecimal() else ""
    return _KINDS.get(error.code, LinesideError)(
        found.get("detail", str(error.reason)), where=where, fix=found.get("fix", later)
    )
