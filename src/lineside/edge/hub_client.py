"""Requests of a device to its hub over HTTP.

1. The token goes to the configured hub only: of an address that came over the bus nothing but path
   and query are used, redirects are not followed, and no proxy of the environment is asked.
2. The hub is checked against the authority handed in, by name and by time; an answer has a limit.
"""

import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

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
from lineside.core.config import LOOPBACK
from lineside.core.drivers import http_opener, problem_texts
from lineside.fleet import Part

T = TypeVar("T")

_MOST_BYTES = 512_000_000
_MOST_ANSWER_BYTES = 2_000_000
_TIMEOUT_S = 20.0
_CHUNK_BYTES = 1 << 16
_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,9}")
_LONGEST_WAIT_S = 3600.0
_LONGEST_DETAIL = 200


class StoppingError(UnavailableError):
    """The agent is closing: what was begun is gone on with at its next start."""


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
        """The device's token; ``RefusedError`` where the file cannot be read."""
        if not self.token_file:
            return ""
        try:
            return Path(self.token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(
                f"the token cannot be read: {error}", where=self.token_file,
                fix="Name the token's file.",
            ) from error  # fmt: skip

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


class HubResponse(NamedTuple):
    """An answer with the time at which the hub says it was made; None: it does not say."""

    body: bytes
    at: datetime | None


class HubClient:
    """Requests of a device to its hub, one at a time; a ``fleet.Source`` below ``/tuf/``."""

    def __init__(
        self,
        hub: str,
        *,
        token: Callable[[], str] = str,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """Ask nothing yet.

        Args:
            hub: base URL.
            token: the device's token, read for each request; "": none is sent.
            tls: whom to believe and what to show, for a hub that speaks HTTPS.
        """
        self._hub = hub
        self._token = token
        self._tls = tls
        self._closed = False

    def close(self) -> None:
        """Send no more requests: each one from now on fails with ``StoppingError``.

        A hub that takes requests and does not answer then holds up the end for one of them only.
        """
        self._closed = True

    def fetch(self, url: str, *, most_bytes: int = _MOST_BYTES) -> bytes:
        """Bytes that the hub has under this address.

        Raises:
            UnavailableError: the hub is away, overloaded, or broke off.
            RefusedError: the token is not taken.
            NotFoundError: there is no such package.
            InvalidError: no hub is configured, or the answer is too long or a redirect.
        """
        address = rebased(url, hub=self._hub)
        with self._send(address) as answer:
            return _whole(answer, address, most_bytes=most_bytes)

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """A file of the update repository; part of it where the hub knows ranges (RFC 9110, 14).

        Raises:
            BusyError: the hub says when to come again.
        """
        address = rebased(f"/tuf/{quote(path)}", hub=self._hub)
        headers = {}
        if start_byte or end_byte is not None:
            last = "" if end_byte is None else end_byte - 1
            headers["Range"] = f"bytes={start_byte}-{last}"
        answer = None
        try:
            answer = self._send(address, headers=headers)
        except InvalidError as error:
            status = getattr(error.__cause__, "code", 0)
            if status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                # A proxy's fault is mended by people, not by another order.
                raise UnavailableError(
                    error.message, where=address, fix="Look after the hub's proxy."
                ) from error
        if answer is None:
            yield Part(start_byte=start_byte, chunks=iter(()))  # it has no more than that
            return
        with answer:
            yield Part(start_byte=_begin(answer), chunks=_chunks(answer, address))

    def get(self, path: str) -> HubResponse:
        """A short answer.

        Raises:
            LinesideError: what the hub said, in its words; its class is by the status.
            RefusedError: the hub's certificate is not believed.
        """
        return self._ask(path, body=None)

    def post(self, path: str, body: object, *, kind: type[T]) -> T:
        """Send a record, read one; raises as ``get``."""
        answer = self._ask(path, body=encode(body))
        return decode_fast(kind, answer.body, where=f"{self._hub}{path}")

    def _ask(self, path: str, *, body: bytes | None) -> HubResponse:
        address = rebased(path, hub=self._hub)
        try:
            with self._send(address, body=body) as answer:
                at = _date_of(answer.headers.get("Date", ""))
                found = _whole(answer, address, most_bytes=_MOST_ANSWER_BYTES)
        except UnavailableError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise _certificate_refusal(error.__cause__, self._hub) from error
            raise
        return HubResponse(found, at)

    def _send(
        self, address: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> HTTPResponse:
        """The answer, open, of a status below 300."""
        if self._closed:
            raise StoppingError("the agent is closing", where=address)
        request = urllib.request.Request(address, data=body, headers=dict(headers or {}))  # noqa: S310  the scheme is checked
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if token := self._token():
            request.add_header("Authorization", f"Bearer {token}")
        opener = http_opener(self._tls())
        try:
            answer: HTTPResponse = opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise _refusal(error, address) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)  # of a TLS alert it is text
            raise _away(error, address) from reason if isinstance(reason, OSError) else error
        return answer


def rebased(url: str, *, hub: str) -> str:
    """The address on the configured hub."""
    base, asked = urlsplit(hub), urlsplit(url)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise InvalidError("no hub is configured", where="hub", fix='Set hub = "http://host:8080".')
    if not asked.path.startswith("/"):
        raise InvalidError(f"{url[:100]!r} has no path", where="desired", fix="Send a whole URL.")
    return base._replace(path=asked.path, query=asked.query, fragment="").geturl()


def _whole(answer: HTTPResponse, address: str, *, most_bytes: int) -> bytes:
    found = bytearray()
    for chunk in _chunks(answer, address):
        found += chunk
        if len(found) > most_bytes:
            raise InvalidError(
                f"more than {most_bytes} bytes", where=address, fix="Make a smaller package."
            )
    return bytes(found)


def _chunks(answer: HTTPResponse, address: str) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(_CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _away(error, address) from error
    if answer.length:  # http.client tells of a short answer only when it is read in one piece
        raise _away(EOFError(f"{answer.length} bytes missing"), address)


def _begin(answer: HTTPResponse) -> int:
    """Where the answer begins; a server that ignored the range sends all of it."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[1]) if answer.status == HTTPStatus.PARTIAL_CONTENT and found else 0


def _away(error: Exception, address: str) -> UnavailableError:
    return UnavailableError(
        f"the hub does not answer: {error}", where=address, fix="Start the hub."
    )


def _refusal(error: urllib.error.HTTPError, address: str) -> LinesideError:
    """The error of an answer; its words are those of a problem document (RFC 9457), if it is one.

    A busy hub (429 or 503) says in Retry-After when to come again (RFC 9110, 10.2.3: seconds). More
    than an hour is not waited for, and a date is passed over: a device's clock may be wrong.
    """
    status, problem = error.code, problem_texts(error)
    detail = " ".join(problem.get("detail", "").split())[:_LONGEST_DETAIL]
    where, fix = problem.get("where") or address, problem.get("fix", "")
    after = error.headers.get("Retry-After", "").strip()
    if status in (429, 503) and _SECONDS.fullmatch(after):
        return BusyError(
            detail or "the hub is busy", where=where, fix=fix or "It is tried again.",
            after_s=min(float(after), _LONGEST_WAIT_S),
        )  # fmt: skip
    if status in (401, 403):
        by_rule = status == HTTPStatus.FORBIDDEN and detail  # not only a token is refused so
        return RefusedError(
            f"the hub refuses: {detail}" if by_rule else "the hub refuses the token",
            where=where, fix=(fix if by_rule else "") or "Enrol the device, or give another token.",
        )  # fmt: skip
    said = detail or f"the hub answers {status}"
    if status in (404, 410):
        said = detail or "the hub has no such package"
        return NotFoundError(said, where=where, fix=fix or "Upload it again.")
    if status == HTTPStatus.CONFLICT:
        return ConflictError(said, where=where, fix=fix)
    if status in (408, 425, 429) or status >= 500:
        return UnavailableError(said, where=where, fix=fix or "Try later.")
    return InvalidError(said, where=where, fix=fix or "Correct the address.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """A hub's address taken apart."""

    url: str
    host: str
    port: int
    secure: bool


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
    if not secure and parts.hostname not in LOOPBACK:
        raise InvalidError(
            "a code would be sent in the open", where=url,
            fix='Write https://…; the hub serves it with tls = "site".',
        )  # fmt: skip
    port = port or (443 if secure else 80)
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = f"{parts.scheme}://{shown}:{port}"
    return HubAddress(url=base, host=parts.hostname, port=port, secure=secure)


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
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except TimeoutError as error:
        raise UnavailableError(
            f"{what} does not answer within {_TIMEOUT_S:g} s", where=f"{host}:{port}",
            fix="Look at the cable, the address, and the firewall between.",
        ) from error  # fmt: skip
    except OSError as error:
        raise UnavailableError(
            f"{what} cannot be reached: {error.strerror or error}", where=f"{host}:{port}",
            fix="Start it, or write the port it listens on.",
        ) from error  # fmt: skip


def _certificate_refusal(error: ssl.SSLCertVerificationError, hub: str) -> RefusedError:
    """Why a certificate is not believed, and what to do about it."""
    why = error.verify_message or str(error)
    fix = 'Let the hub answer with the site\'s certificate: tls = "site".'
    if "mismatch" in why.lower() or "doesn't match" in why.lower():
        host = urlsplit(hub).hostname
        fix = f"Use a name that the hub's certificate has: lineside hub init --hosts {host}."
    elif "not yet valid" in why.lower() or "expired" in why.lower():
        fix = "Set this device's clock; else restart the hub, which renews its certificate."
    return RefusedError(f"the hub's certificate is not believed: {why}", where=hub, fix=fix)


def _date_of(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
