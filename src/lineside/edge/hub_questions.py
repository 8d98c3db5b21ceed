"""Questions of a device to its hub before it has a token: JSON over TLS, one at a time.

Whoever answers is checked against the authority handed in, by name and by time; redirects are not
followed; an answer has a limit.
"""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
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

T = TypeVar("T")

_TIMEOUT_S = 15.0
_MOST_BYTES = 2_000_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A hub's address taken apart."""

    url: str
    host: str
    port: int
    secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer with the time at which the hub says it was made; None: it does not say."""

    status: int
    body: bytes
    at: datetime | None


def place_of(url: str) -> HubPlace:
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
    return HubPlace(url=base, host=parts.hostname, port=port, secure=secure)


class HubQuestions:
    """Asks one hub."""

    def __init__(self, place: HubPlace, *, tls: ssl.SSLContext | None) -> None:
        """Ask nothing yet; ``tls`` is used where the address wants it."""
        self._place = place
        self._tls = tls

    def get(self, path: str) -> Answered:
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

    def _ask(self, method: str, path: str, *, body: bytes | None) -> Answered:
        place = self._place
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection: http.client.HTTPConnection
        if place.secure:
            connection = http.client.HTTPSConnection(
                place.host, place.port, timeout=_TIMEOUT_S, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(place.host, place.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Answered(
                status=answer.status,
                body=answer.read(_MOST_BYTES),
                at=_date_of(answer.headers.get("Date", "")),
            )
        except ssl.SSLCertVerificationError as error:
            raise not_proved(error, place) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"the hub does not answer: {error}", where=place.url, fix="Start the hub."
            ) from error
        finally:
            connection.close()


def look_up(place: HubPlace) -> str:
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


def not_proved(error: ssl.SSLCertVerificationError, place: HubPlace) -> RefusedError:
    """Why a certificate is not believed, and what to do about it."""
    why = error.verify_message or str(error)
    fix = 'Let the hub answer with the site\'s certificate: tls = "site".'
    if "mismatch" in why.lower() or "doesn't match" in why.lower():
        fix = f"Use a name that the hub's certificate has: lineside hub init --hosts {place.host}."
    elif "not yet valid" in why.lower() or "expired" in why.lower():
        fix = "Set this device's clock; else restart the hub, which renews its certificate."
    return RefusedError(f"the hub's certificate is not believed: {why}", where=place.url, fix=fix)


def refusal_of(answered: Answered, *, where: str) -> LinesideError:
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
    said = str(problem.get("detail") or f"the hub answers {answered.status}")
    return kind(said, where=str(problem.get("where") or where), fix=str(problem.get("fix") or ""))


def _date_of(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
