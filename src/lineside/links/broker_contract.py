"""Limits and figures of a site's own broker, and what both brokers have in common."""

import ipaddress
import logging
import secrets
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self, TypedDict, Unpack

from lineside.core import Clock, InvalidError, SystemClock, UnavailableError
from lineside.links.bus_access import TopicAccess

logger = logging.getLogger(__name__)

OWN_NAME = "lineside-hub"
"""The user name by which the broker's own process joins."""

_LOG_EVERY_S = 60.0
_MOST_KEYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """Limits of one client, and of all of them together.

    Attributes:
        packet_bytes: a longer packet ends the connection; a picture of 8 MB as base64 fits.
        outbox_bytes, outbox_messages: what may wait for one client.
        inbox_messages: what of one client may wait to be passed on.
        in_flight: messages sent to one client and not yet acknowledged.
        stalled_s: a client that takes none of its messages for so long is cut off.
        connect_s: from the connection to a whole CONNECT packet.
        session_s: how long an absent persistent session is kept.
        connections, retained_topics, retained_bytes: of the whole broker.
    """

    packet_bytes: int = 12_000_000
    outbox_bytes: int = 48_000_000
    outbox_messages: int = 20_000
    inbox_messages: int = 64
    in_flight: int = 64
    stalled_s: float = 10.0
    connect_s: float = 10.0
    session_s: int = 3600
    connections: int = 500
    retained_topics: int = 10_000
    retained_bytes: int = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFigures:
    """Counts since the broker was started, and what it holds now."""

    clients: int = 0
    sessions: int = 0
    retained: int = 0
    waiting_messages: int = 0
    waiting_bytes: int = 0
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    cut_off: int = 0
    refused: int = 0
    oversized: int = 0


NO_FIGURES = BrokerFigures()


@dataclass(frozen=True, slots=True, kw_only=True)
class OversizedPacket:
    """A packet above the limit; its connection was ended and its sender told nothing more.

    Attributes:
        client_id: of its sender.
        limit_bytes: what is allowed.
        topic: "" where the broker does not say it (mosquitto).
        size_bytes: of the packet behind its head; 0 where the broker does not say it.
    """

    client_id: str
    limit_bytes: int
    topic: str = ""
    size_bytes: int = 0

    def __str__(self) -> str:
        size = f" of {self.size_bytes} bytes" if self.size_bytes else ""
        topic = f" topic={self.topic[:200]!r}" if self.topic else ""
        return f"packet{size} above the limit of {self.limit_bytes} client={self.client_id}{topic}"


class LogLimiter:
    """Says whether something may be logged: each key once a minute; safe from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_s: OrderedDict[str, float] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Return whether the last time is a minute ago; this counts as the next."""
        now_s = self._clock.monotonic()
        with self._lock:
            last_s = self._logged_s.get(key)
            if last_s is not None and now_s - last_s < _LOG_EVERY_S:
                return False
            self._logged_s[key] = now_s
            self._logged_s.move_to_end(key)
            if len(self._logged_s) > _MOST_KEYS:
                self._logged_s.popitem(last=False)
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedDevice:
    """A device that proved its name.

    Attributes:
        identity: its name.
        serial: of its certificate, hexadecimal.
        ends_at: when that certificate is over.
        access: what it may say and hear as long as this connection lasts.
    """

    identity: str
    serial: str
    ends_at: datetime
    access: TopicAccess


AuthenticateDevice = Callable[[bytes], AuthenticatedDevice]
"""From a certificate (DER) that the site's authority signed; ``RefusedError`` where it holds no
longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceListener:
    """Where devices connect. ``port`` 0 takes a free one.

    Attributes:
        certificate, key: of the broker, PEM files.
        ca_file: PEM file that devices' certificates are checked against.
        admit: is asked once for each connection, on a thread of its own (amqtt).
        revoked: file of the revocation list (mosquitto).
        access_list: makes the access list as the site stands now (mosquitto).
    """

    host: str
    port: int
    certificate: Path
    key: Path
    ca_file: Path
    admit: AuthenticateDevice
    revoked: Path
    access_list: Callable[[], str]


class BrokerOptions(TypedDict, total=False):
    """Options of every broker; nothing is opened before ``start``.

    Attributes:
        host: address to listen on; 127.0.0.1 by default.
        port: 0 takes a free one, which a later ``start`` takes again.
        password_file: lines of ``hash_bus_password``; needed off loopback.
        limits: the defaults fit one plant.
        devices: where devices come in by certificate; None: nowhere.
        topics: patterns that this process has to subscribe to before others may come in.
        oversized: is told of a packet above the limit, once a minute for each client.
        clock: gives the times of sessions, restarts and log limits.
    """

    host: str
    port: int
    password_file: Path | None
    limits: BrokerLimits
    devices: DeviceListener | None
    topics: Sequence[str]
    oversized: Callable[[OversizedPacket], None] | None
    clock: Clock


class Broker(ABC):
    """A site's own broker; ``with`` starts and stops it.

    Attributes:
        port: it listens on; 0 before the first start.
        device_port: where devices connect; 0 where there is no listener, or before the first start.
    """

    def __init__(self, **options: Unpack[BrokerOptions]) -> None:
        self._host = options.get("host", "127.0.0.1")
        self._password_file = options.get("password_file")
        check_reach(self._host, self._password_file)
        self.port = options.get("port", 0)
        self.device_port = 0
        self._own_password = secrets.token_urlsafe(24)
        self._limits = options.get("limits") or BrokerLimits()
        self._devices = options.get("devices")
        self._topics = sorted(options.get("topics", ()))
        self._oversized = options.get("oversized")
        self._clock = options.get("clock") or SystemClock()
        self._log_limit = LogLimiter(self._clock)

    @property
    def url(self) -> str:
        """``mqtt://host:port`` of the running broker."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"mqtt://{host}:{self.port}"

    @abstractmethod
    def start(self) -> None:
        """Listen; returns when clients can connect."""

    @abstractmethod
    def stop(self) -> None:
        """Close every connection and end."""

    def _note_oversized(self, packet: OversizedPacket) -> None:
        """Tell of a packet, once a minute for each client and topic."""
        if not self._log_limit.allows(f"oversized {packet.client_id} {packet.topic}"):
            return
        logger.warning("%s", packet)
        try:
            if self._oversized is not None:
                self._oversized(packet)
        except Exception:  # boundary: the broker goes on
            logger.exception("packet not noted client=%s", packet.client_id)

    def _not_started(self, reason: object) -> UnavailableError:
        return UnavailableError(
            f"the broker did not start: {reason or 'no answer'}",
            where=f"{self._host}:{self.port}",
            fix="Choose a free port, or 0 for any.",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check_reach(host: str, password_file: Path | None) -> None:
    """Raise ``InvalidError`` where others could come in without a password."""
    if password_file is None and not _is_loopback(host):
        raise InvalidError(
            f"{host} can be reached from outside and no password file is given",
            where="bus_host",
            fix="Listen on 127.0.0.1, or give a password file.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
