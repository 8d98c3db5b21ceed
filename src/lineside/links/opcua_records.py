"""What an OPC UA server says, as records: nodes, values with quality and time, events, settings."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from lineside.core import InvalidError

NAMESPACE = "urn:lineside:ua:1"
ROOT = "Lineside"

Scalar = bool | int | float | str
SignIn = Callable[[str, str], bool]
"""Whether name and password belong together."""


class Kind(StrEnum):
    """Types of values, as OPC UA names them."""

    BOOLEAN = "Boolean"
    INTEGER = "Int64"
    DOUBLE = "Double"
    TEXT = "String"


class Quality(StrEnum):
    """How far a value may be relied on; the names are those of OPC UA's status codes."""

    GOOD = "Good"
    UNSURE = "Uncertain"
    STALE = "UncertainLastUsableValue"
    WAITING = "BadWaitingForInitialData"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaNode:
    """A variable: its place below ``Lineside``, levels parted by ``/``, and its type."""

    path: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaValue:
    """A value, when it was captured, and how far it may be relied on."""

    value: Scalar | None
    at: datetime | None
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaEvent:
    """One event: ``at`` is its time, ``data`` its figures as JSON."""

    id: str
    rule: str
    at: datetime
    message: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaSettings:
    """Where and for whom.

    Attributes:
        url: ``opc.tcp://host:port``.
        application: its name in the world, ``urn:…``, as in its certificate.
        certificate, key: PEM files (RSA); None: no encrypted endpoint.
        anonymous: anybody may read, also without encryption.
    """

    url: str
    application: str
    certificate: Path | None = None
    key: Path | None = None
    anonymous: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen at.

        Raises:
            InvalidError: the URL is none.
        """
        return opcua_address(self.url)


def opcua_address(url: str) -> tuple[str, int]:
    """Host and port of ``opc.tcp://host:port``.

    Raises:
        InvalidError: it is no such address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme != "opc.tcp" or not host or not port or parts.username:
        raise InvalidError(
            f"{url!r} is no address of OPC UA", where="opcua",
            fix='Write opcua = "opc.tcp://127.0.0.1:4840".',
        )  # fmt: skip
    return host, port
