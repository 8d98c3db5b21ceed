"""Fetch a package from the hub.

The token goes to the configured hub only: of an address that came over the bus nothing but path
and query are used, and redirects are not followed.
"""

import json
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError

_MOST_BYTES = 512_000_000
_TIMEOUT_S = 20.0
_PART_BYTES = 1 << 20
_SECONDS = re.compile(r"[0-9]{1,9}")
_LONGEST_WAIT_S = 3600.0
_MOST_SAID_BYTES = 4096
_LONGEST_DETAIL = 200


class BusyError(UnavailableError):
    """The hub has enough to do right now."""

    def __init__(self, message: str, *, where: str = "", fix: str = "", after_s: float) -> None:
        """As every error, and when to come again.

        Args:
            message: what is so.
            where: the address.
            fix: what to do.
            after_s: how long to wait at least, as the hub asks.
        """
        super().__init__(message, where=where, fix=fix)
        self.after_s = after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who this device is to the hub, and whom it believes; files, read again for each request.

    Attributes:
        token_file: with the device's token; "": none is sent.
        ca: authorities that may vouch for the hub, as PEM; "": the machine's own.
        cert, key: of this device, as PEM; "": none is shown.
    """

    token_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""

    def token(self) -> str:
        """``RefusedError`` where the file cannot be read."""
        return read_token(Path(self.token_file) if self.token_file else None)

    def tls(self) -> ssl.SSLContext | None:
        """For HTTPS; None: as the machine does it.

        Raises:
            RefusedError: a file is not there, or is none.
        """
        if not (self.ca or self.cert):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except OSError as error:  # ssl.SSLError is one
            raise RefusedError(
                f"certificates cannot be used: {error}",
                where=f"{self.ca or self.cert}",
                fix="Name PEM files that this program may read: ca, cert, key.",
            ) from error
        return context


def opener_for(tls: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Opens addresses without following redirects."""
    if tls is None:
        return urllib.request.build_opener(NoRedirect)
    return urllib.request.build_opener(NoRedirect, urllib.request.HTTPSHandler(context=tls))


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer, not an order."""

    def redirect_request(  # noqa: PLR0917  the library's signature
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None


def fetch(
    url: str,
    *,
    hub: str,
    token: str,
    tls: ssl.SSLContext | None = None,
    most_bytes: int = _MOST_BYTES,
) -> bytes:
    """Get what the hub has under this address.

    Raises:
        UnavailableError: the hub is away, overloaded, or broke off.
        RefusedError: the token is not taken.
        NotFoundError: there is no such package.
        InvalidError: no hub is configured, or the answer is too long or a redirect.
    """
    address = rebased(url, hub=hub)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  the scheme is checked
    opener = opener_for(tls)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return _read(answer, most_bytes=most_bytes, where=address)
    except urllib.error.HTTPError as error:
        raise translated(error.code, address, said=said_by(error)) from error
    except (OSError, HTTPException) as error:
        raise UnavailableError(
            f"the hub does not answer: {error}", where=address, fix="Start the hub."
        ) from error


def rebased(url: str, *, hub: str) -> str:
    """The address on the configured hub."""
    base, asked = urlsplit(hub), urlsplit(url)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise InvalidError("no hub is configured", where="hub", fix='Set hub = "http://host:8080".')
    if not asked.path.startswith("/"):
        raise InvalidError(f"{url[:100]!r} has no path", where="desired", fix="Send a whole URL.")
    return base._replace(path=asked.path, query=asked.query, fragment="").geturl()


def read_token(path: Path | None) -> str:
    """The device's token; read again for each fetch, so that it can be changed.

    Raises:
        RefusedError: the file cannot be read.
    """
    if path is None:
        return ""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(
            f"the token cannot be read: {error}", where=str(path), fix="Name the token's file."
        ) from error


def _read(answer: HTTPResponse, *, most_bytes: int, where: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := answer.read(_PART_BYTES):
        size += len(part)
        if size > most_bytes:
            raise InvalidError(
                f"more than {most_bytes} bytes", where=where, fix="Make a smaller package."
            )
        parts.append(part)
    if answer.length:  # http.client tells of a short answer only when it is read in one piece
        raise UnavailableError(
            f"the hub broke off, {answer.length} bytes missing", where=where, fix="Try again."
        )
    return b"".join(parts)


def asked_to_wait(headers: Message, *, address: str) -> BusyError | None:
    """What a 429 or 503 that says when to come again means (RFC 9110, 10.2.3: seconds).

    More than an hour is not waited for, and a date is passed over: a device's clock may be wrong.
    """
    asked = headers.get("Retry-After", "").strip()
    if not _SECONDS.fullmatch(asked):
        return None
    return BusyError(
        "the hub is busy", where=address, fix="It is tried again.",
        after_s=min(float(asked), _LONGEST_WAIT_S),
    )  # fmt: skip


def said_by(error: urllib.error.HTTPError) -> bytes:
    """The first bytes of what came with a refusal; it is closed then."""
    try:
        return error.read(_MOST_SAID_BYTES)
    except (OSError, HTTPException):
        return b""
    finally:
        error.close()


def translated(
    status: int, address: str, *, said: bytes = b""
) -> InvalidError | NotFoundError | RefusedError | UnavailableError:
    """What an HTTP status means to whoever asked.

    Args:
        status: of the answer.
        address: that was asked for.
        said: the answer's body; of a 403 the detail is told (RFC 9457), because not only a token is
            refused so.
    """
    if status == HTTPStatus.FORBIDDEN and (detail := _detail(said)):
        return RefusedError(
            f"the hub refuses: {detail}", where=address, fix="Look at the hub's log."
        )
    if status in (401, 403):
        return RefusedError("the hub refuses the token", where=address, fix="Enrol the device.")
    if status in (404, 410):
        return NotFoundError("the hub has no such package", where=address, fix="Upload it again.")
    if status in (408, 425, 429) or status >= 500:
        return UnavailableError(f"the hub answers {status}", where=address, fix="Try later.")
    return InvalidError(f"the hub answers {status}", where=address, fix="Correct the address.")


def _detail(said: bytes) -> str:
    """Of a problem document, one line of it; "" for anything else."""
    try:
        problem = json.loads(said)
    except ValueError:
        return ""
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return " ".join(detail.split())[:_LONGEST_DETAIL] if isinstance(detail, str) else ""
