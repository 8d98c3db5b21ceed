"""Limits of HTTP connections: how many there are, and how slowly a request may come.

1. A connection beyond ``most`` of the server, or beyond ``most_per_address`` of its client (at most
   half of all), is closed at once. The machine itself has no limit of its own, because proxies
   connect from there.
2. The server never takes more connections than it has file descriptors for: a quarter of what the
   process may open is the most, so that store, bus and log can always be opened.
3. A request's head has to arrive within ``head_s`` of its connection, or of its own first byte.
4. A body has to go on: in each ``body_s`` at least ``_LEAST_BYTES`` of it, or its end. While the
   server itself does not read on, no time passes.
5. What is closed is counted, and said in the log once a minute.
6. A certificate that the client showed stands in each request's state: ``client_certificate``, DER.
7. An idle connection that the server closes is closed at once, over TLS too: a client that keeps it
   in a pool reads nothing and never answers close_notify, and nobody has to wait for that answer
   (RFC 8446, 6.1). asyncio would wait for 30 s, and a stopping server with it.
"""

import asyncio
import ipaddress
import logging
import resource
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

_LEAST_BYTES = 16_384
_SHARE_OF_DESCRIPTORS = 4
_LEAST_CONNECTIONS = 8
_LOGGED_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of a web server; see the module's rules. Times in seconds."""

    most: int = 2000
    most_per_address: int = 200
    head_s: float = 10.0
    body_s: float = 30.0

    def within_descriptors(self) -> int:
        """Return ``most``, or fewer where the process may open too few files."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or hard > soft:
            wanted = self.most * _SHARE_OF_DESCRIPTORS
            soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(_LEAST_CONNECTIONS, min(self.most, soft // _SHARE_OF_DESCRIPTORS))

    def backlog(self) -> int:
        """Return how many connections may wait to be accepted.

        asyncio accepts so many in one go before any of them can be closed, and logs each that finds
        no descriptor.
        """
        return max(_LEAST_CONNECTIONS, self.within_descriptors() // 2)


@dataclass(slots=True)
class ConnectionFigures:
    """Counts since the server started, by reason; written by the server's thread alone."""

    refused: int = 0
    too_slow: int = 0
    logged_s: float = field(default=-_LOGGED_AGAIN_S)

    def note(self, reason: str, *, client: str) -> None:
        """Count one closed connection."""
        if reason == "refused":
            self.refused += 1
        else:
            self.too_slow += 1
        if monotonic() - self.logged_s >= _LOGGED_AGAIN_S:
            self.logged_s = monotonic()
            logger.warning(
                "connections closed last=%s client=%s refused=%d too_slow=%d",
                reason, client, self.refused, self.too_slow,
            )  # fmt: skip


def limited_http(limits: ConnectionLimits, figures: ConnectionFigures) -> type[asyncio.Protocol]:
    """Return the class of HTTP connections that a ``uvicorn.Config`` takes as ``http``."""
    most = limits.within_descriptors()

    class LimitedConnection(_Connection):
        _limits, _figures, _most = limits, figures, most

    return LimitedConnection


class _Connection(H11Protocol):
    _limits: ConnectionLimits
    _figures: ConnectionFigures
    _most: int
    _timer: asyncio.TimerHandle | None = None
    _timed = ""  # "head" or "body": what the timer waits for
    _body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and (shown := tls.getpeercert(binary_form=True)):
            self.app_state = {**self.app_state, "client_certificate": shown}
        if self._is_one_too_many():
            self._end("refused")
        else:
            self._wait_for("head", within_s=self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_for("")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timed == "body":
            self._body_bytes += len(data)
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def shutdown(self) -> None:
        if not self.transport.is_closing():  # of TLS a second close leaves the transport unusable
            super().shutdown()
            self._expect_nothing_more()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_nothing_more()

    def _expect_nothing_more(self) -> None:
        """Of an idle connection that was closed, read no more: what was written still goes out."""
        if self.transport.is_closing() and self.transport.get_extra_info("ssl_object") is not None:
            with suppress(OSError):  # the client left first
                self.transport.get_extra_info("socket").shutdown(socket.SHUT_RD)

    def _follow(self) -> None:
        """Time what the client owes now."""
        state = self.conn.their_state
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._wait_for("")
        elif state is h11.SEND_BODY:
            if self._timed != "body":
                self._body_bytes = 0
                self._wait_for("body", within_s=self._limits.body_s)
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            if self._timed != "head":
                self._wait_for("head", within_s=self._limits.head_s)
        elif state is not h11.IDLE or self._timed == "body":
            self._wait_for("")

    def _wait_for(self, what: str, *, within_s: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timed = what
        self._timer = self.loop.call_later(within_s, self._time_is_over) if what else None

    def _time_is_over(self) -> None:
        going_on = self._body_bytes >= _LEAST_BYTES or self.flow.read_paused
        if self._timed == "body" and going_on:
            self._body_bytes = 0
            self._wait_for("body", within_s=self._limits.body_s)
        else:
            self._end("too slow")

    def _end(self, reason: str) -> None:
        self._wait_for("")
        self._figures.note(reason, client=_address(self))
        self.transport.abort()

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > self._most:
            return True
        own = _address(self)
        if _is_loopback(own):
            return False
        same = sum(_address(other) == own for other in self.connections)
        return same > min(self._limits.most_per_address, self._most // 2)


def _address(connection: Any) -> str:  # noqa: ANN401  HTTP and WebSocket have no class in common
    client = getattr(connection, "client", None) or connection.transport.get_extra_info("peername")
    return str(client[0]) if client else ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True
