"""Requests of a device to its hub over HTTP.

1. The token goes to the configured hub only: of an address that came over the bus nothing but path
   and query are used, and redirects are not followed.
2. The hub is checked against the authority handed in, by name and by time; an answer has a limit.
"""

import http.client
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit

from lineside.core import (
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode_fast,
    encode,
)

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
        raise translated(error.code, address, body=refusal_body(error)) from error
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


def busy_error(headers: Message, *, address: str) -> BusyError | None:
    """Error of a 429 or 503 with Retry-After (RFC 9110, 10.2.3: seconds); None without one.

    More than an hour is not waited for, and a date is passed over: a device's clock may be wrong.
    """
    asked = headers.get("Retry-After", "").strip()
    if not _SECONDS.fullmatch(asked):
        return None
    return BusyError(
        "the hub is busy", where=address, fix="It is tried again.",
        after_s=min(float(asked), _LONGEST_WAIT_S),
    )  # fmt: skip


def refusal_body(error: urllib.error.HTTPError) -> bytes:
    """The first bytes of what came with a refusal; it is closed then."""
    try:
        return error.read(_MOST_SAID_BYTES)
    except (OSError, HTTPException):
        return b""
    finally:
        error.close()


def translated(
    status: int, address: str, *, body: bytes = b""
) -> InvalidError | NotFoundError | RefusedError | UnavailableError:
    """The error of an HTTP status.

    Args:
        status: of the answer.
        address: that was asked for.
        body: of the answer; of a 403 the detail is told (RFC 9457), because not only a token is
            refused so.
    """
    if status == HTTPStatus.FORBIDDEN and (detail := _detail(body)):
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


def _detail(body: bytes) -> str:
    """Of a problem document, one line of it; "" for anything else."""
    try:
        problem = json.loads(body)
    except ValueError:
        return ""
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return " ".join(detail.split())[:_LONGEST_DETAIL] if isinstance(detail, str) else ""


T = TypeVar("T")

_QUESTION_TIMEOUT_S = 15.0
_MOST_ANSWER_BYTES = 2_000_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """A hub's address taken apart."""

    url: str
    host: str
    port: int
    secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HubResponse:
    """An answer with the time at which the hub says it was made; None: it does not say."""

    status: int
    body: bytes
    at: datetime | None


def address_of(url: str) -> HubAddress:
    """Take an address apart.

    Raises:
        InvalidError: no address, or one without TLS that leaves this machine.
    """
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise InvalidError(
            f"{url!r} is no address of a hub", where="hub", fix="Write https://host:8443."
        )
    secure = parts.scheme == "https"
    if not secure and parts.hostname not in _LOOPBACK:
        raise InvalidError(
            "a code would be sent in the open", where=url,
            fix='Write https://…; the hub serves it with tls = "site".',
        )  # fmt: skip
    port = port or (443 if secure else 80)
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = f"{parts.scheme}://{shown}:{port}"
    return HubAddress(url=base, host=parts.hostname, port=port, secure=secure)


class HubConnection:
    """Asks one hub."""

    def __init__(self, place: HubAddress, *, tls: ssl.SSLContext | None) -> None:
        """Ask nothing yet; ``tls`` is used where the address wants it."""
        self._place = place
        self._tls = tls

    def get(self, path: str) -> HubResponse:
        """``UnavailableError`` where nobody answers."""
        return self._ask("GET", path, body=None)

    def post(self, path: str, body: object, *, kind: type[T]) -> T:
        """Send a record, read one.

        Raises:
            LinesideError: what the hub said, in its words; its class is by the status.
        """
        answered = self._ask("POST", path, body=encode(body))
        if answered.status >= 400:
            raise refusal_of(answered, where=f"{self._place.url}{path}")
        return decode_fast(kind, answered.body, where=f"{self._place.url}{path}")

    def _ask(self, method: str, path: str, *, body: bytes | None) -> HubResponse:
        place = self._place
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection: http.client.HTTPConnection
        if place.secure:
            connection = http.client.HTTPSConnection(
                place.host, place.port, timeout=_QUESTION_TIMEOUT_S, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(
                place.host, place.port, timeout=_QUESTION_TIMEOUT_S
            )
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return HubResponse(
                status=answer.status,
                body=answer.read(_MOST_ANSWER_BYTES),
                at=_date_of(answer.headers.get("Date", "")),
            )
        except ssl.SSLCertVerificationError as error:
            raise certificate_refusal(error, place) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"the hub does not answer: {error}", where=place.url, fix="Start the hub."
            ) from error
        finally:
            connection.close()


def look_up(place: HubAddress) -> str:
    """The first address of the hub's name.

    Raises:
        UnavailableError: nobody knows the name.
    """
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(
            f"no address is known for {place.host!r}: {error}", where="name",
            fix="Mend the name server of this device, or write the hub's address as a number.",
        ) from error  # fmt: skip
    return str(found[0][4][0])


def reach(host: str, port: int, *, what: str) -> None:
    """Open a connection and close it again.

    Raises:
        UnavailableError: nobody listens, or something stands between.
    """
    try:
        socket.create_connection((host, port), timeout=_QUESTION_TIMEOUT_S).close()
    except TimeoutError as error:
        raise UnavailableError(
            f"{what} does not answer within {_QUESTION_TIMEOUT_S:g} s", where=f"{host}:{port}",
            fix="Look at the cable, the address, and the firewall between.",
        ) from error  # fmt: skip
    except OSError as error:
        raise UnavailableError(
            f"{what} cannot be reached: {error.strerror or error}", where=f"{host}:{port}",
            fix="Start it, or write the port it listens on.",
        ) from error  # fmt: skip


def certificate_refusal(error: ssl.SSLCertVerificationError, place: HubAddress) -> RefusedError:
    """Why a certificate is not believed, and what to do about it."""
    why = error.verify_message or str(error)
    fix = 'Let the hub answer with the site\'s certificate: tls = "site".'
    if "mismatch" in why.lower() or "doesn't match" in why.lower():
        fix = f"Use a name that the hub's certificate has: lineside hub init --hosts {place.host}."
    elif "not yet valid" in why.lower() or "expired" in why.lower():
        fix = "Set this device's clock; else restart the hub, which renews its certificate."
    return RefusedError(f"the hub's certificate is not believed: {why}", where=place.url, fix=fix)


def refusal_of(answered: HubResponse, *, where: str) -> LinesideError:
    """A problem document (RFC 9457) as the error it was."""
    try:
        problem = json.loads(answered.body)
    except ValueError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    kinds: dict[int, type[LinesideError]] = {
        400: InvalidError, 401: RefusedError, 403: RefusedError, 404: NotFoundError,
        409: ConflictError,
    }  # fmt: skip
    kind = kinds.get(answered.status, UnavailableError)
    detail = str(problem.get("detail") or f"the hub answers {answered.status}")
    return kind(detail, where=str(problem.get("where") or where), fix=str(problem.get("fix") or ""))


def _date_of(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
