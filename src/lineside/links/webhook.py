"""Events posted to a URL, signed as Standard Webhooks says.

1. ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature`` are made as in
   https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md:
   ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``, one for each secret, so that
   a secret can be changed without a gap.
2. An answer is judged by its status; its body is read to 64 kB and thrown away. No redirect
   is followed: a signed body goes where the settings say, and nowhere else.
3. Joining and asking each end at a deadline, however slowly the other side speaks; joining after
   ``_LONGEST_JOIN_S`` at the latest. ``stop`` ends a post in hand at once.
4. Certificates are always verified, against the machine's authorities or a file of them.
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.core.webhooks import WebhookConfig, is_header_value

PREFIX = "whsec_"
_SECRET_BYTES = (24, 64)
_MOST_FILE_BYTES = 65_536
_MOST_ANSWER_BYTES = 65_536
_LONGEST_WAIT_S = 3600.0
_LONGEST_JOIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAnswer:
    """Answer of the receiver; ``retry_after_s`` 0: it did not say when to come again."""

    status: int
    retry_after_s: float = 0.0

    @property
    def accepted(self) -> bool:
        """Return whether it has the event."""
        return 200 <= self.status < 300


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file, one a line.

    Raises:
        NotFoundError: it cannot be read.
        InvalidError: no secret in it, or one that is none.
    """
    found = tuple(_secret(line, where=str(path)) for line in _text(path).split())
    if not found:
        raise InvalidError("no secret", where=str(path), fix="Write one a line: whsec_<base64>.")
    return found


def _secret(line: str, *, where: str) -> bytes:
    low, high = _SECRET_BYTES
    try:
        raw = base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not low <= len(raw) <= high:
        raise InvalidError(
            "a secret that is none", where=where,
            fix=f"Write whsec_ and the base64 of {low} to {high} random bytes.",
        )  # fmt: skip
    return raw


def sign(secrets: Sequence[bytes], *, message_id: str, at: datetime, body: bytes) -> str:
    """The text of ``webhook-signature``."""
    signed = b".".join((message_id.encode(), str(int(at.timestamp())).encode(), body))
    made = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in made)


class WebhookSender:
    """One target; used by one thread; keeps its connection from one event to the next."""

    def __init__(self, config: WebhookConfig) -> None:
        self._config = config
        self._parts = urlsplit(config.url.reveal())
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._is_stopped = False
        self._context: ssl.SSLContext | None = None

    def post(self, message_id: str, body: bytes, *, at: datetime, content: str) -> WebhookAnswer:
        """One attempt.

        Args:
            message_id: the same for each attempt of an event.
            body: as it is signed.
            at: now.
            content: the body's type.

        Raises:
            UnavailableError: nobody answers, or not in time.
            RefusedError: the host's certificate is not vouched for.
            NotFoundError, InvalidError: a file of the settings.
        """
        headers = self._headers(message_id, body, at=at) | {"content-type": content}
        kept = self._connection is not None
        try:
            return self._post(body, headers)
        except (OSError, http.client.HTTPException):
            self.close()
            if not kept:  # a connection that was kept may have ended meanwhile; a new one did not
                raise self._away("the connection broke") from None
        return self._again(body, headers)

    def check(self) -> str:
        """Read the files and join the host; the words for ``lineside doctor``."""
        if self._config.secret_file:
            read_secrets(Path(self._config.secret_file))
        for path in self._config.header_files.values():
            _text(Path(path))
        self._opened()
        self.close()
        return f"{self._parts.hostname} answers"

    def close(self) -> None:
        """Leave."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """End the post in hand and refuse further ones; another thread may call this."""
        self._is_stopped = True
        if self._socket is not None:
            shut_down(self._socket)

    def _again(self, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        try:
            return self._post(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._away(str(error) or "the connection broke") from error

    def _post(self, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        connection, joined = self._opened()
        path = self._parts.path or "/"
        query = f"?{self._parts.query}" if self._parts.query else ""
        try:
            with deadline(joined, self._config.timeout_s):
                connection.request("POST", path + query, body=body, headers=dict(headers))
                answer = connection.getresponse()
                answer.read(_MOST_ANSWER_BYTES)
        except TimeoutError as error:
            self.close()
            raise self._away(f"no answer within {self._config.timeout_s:g} s") from error
        if not answer.isclosed() or answer.will_close:
            self.close()
        return WebhookAnswer(
            status=answer.status, retry_after_s=_seconds(answer.getheader("retry-after"))
        )

    def _opened(self) -> tuple[http.client.HTTPConnection, socket.socket]:
        """The connection and its socket, which the former forgets before an answer's end."""
        if self._connection is None and not self._is_stopped:
            self._connection = self._joined()
            self._socket = self._connection.sock
        # Looked at after the socket is set: ``stop`` sets this first and looks for a socket then.
        if self._connection is None or self._socket is None or self._is_stopped:
            raise self._away("it was stopped")
        return self._connection, self._socket

    def _joined(self) -> http.client.HTTPConnection:
        made = self._made()
        try:
            made.connect()
        except ssl.SSLCertVerificationError as error:
            raise RefusedError(
                f"the certificate is not vouched for: {error.verify_message}",
                where=str(self._config.url),
                fix="Name the file of its authority: ca.",
            ) from error  # fmt: skip
        except OSError as error:
            raise self._away(error.strerror or str(error)) from error
        made.sock.settimeout(self._config.timeout_s)
        return made

    def _made(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        join_s = min(self._config.timeout_s, _LONGEST_JOIN_S)
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=join_s)
        if self._context is None:
            self._context = _context(self._config.ca)
        return http.client.HTTPSConnection(host, port, timeout=join_s, context=self._context)

    def _headers(self, message_id: str, body: bytes, *, at: datetime) -> dict[str, str]:
        told = {**self._config.headers, "user-agent": "lineside"}
        for name, path in self._config.header_files.items():
            told[name] = _text(Path(path)).strip()
            if not is_header_value(told[name]):
                raise InvalidError(
                    "signs that no header can carry", where=path, fix="Write plain ASCII."
                )
        told |= {"webhook-id": message_id, "webhook-timestamp": str(int(at.timestamp()))}
        if self._config.secret_file:
            secrets = read_secrets(Path(self._config.secret_file))
            told["webhook-signature"] = sign(secrets, message_id=message_id, at=at, body=body)
        return told

    def _away(self, reason: str) -> UnavailableError:
        return UnavailableError(
            f"the webhook is away: {reason}", where=str(self._config.url), fix="It is tried again."
        )


@contextmanager
def deadline(joined: socket.socket, timeout_s: float) -> Iterator[None]:
    """End the connection after so long; a socket's own limit begins anew with each byte.

    Raises:
        TimeoutError: it was not done by then.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        shut_down(joined)

    timer = threading.Timer(timeout_s, end)
    timer.name = "deadline"
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if over.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        timer.join()
    if over.is_set():
        raise TimeoutError


def shut_down(joined: socket.socket) -> None:
    """End what another thread does with a socket; one of TLS stays one until it is closed."""
    with suppress(OSError):  # it has ended already
        socket.socket.shutdown(joined, socket.SHUT_RDWR)


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidError(
            f"cannot read the authorities: {error}", where=ca, fix="Name a PEM file: ca."
        ) from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return opened.read(_MOST_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            "the secret cannot be read", where=str(path), fix="Name a text file that is there."
        ) from error


def _seconds(text: str | None) -> float:
    """``Retry-After`` in seconds (RFC 9110, 10.2.3); its form as a date is not waited for."""
    if text is None or not text.isdecimal() or not text.isascii():
        return 0.0
    return min(float(text[:9]), _LONGEST_WAIT_S)
