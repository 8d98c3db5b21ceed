"""The listener for devices of a site's own broker: mutual TLS, and who came in as what."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lineside.links.topic_access import TopicAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
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


Admit = Callable[[bytes], Admitted]
"""From a certificate (DER) that the site's authority signed; ``RefusedError`` where it holds no
longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDoor:
    """Where devices connect. ``port`` 0 takes a free one.

    Attributes:
        certificate, key: of the broker, PEM files.
        authority: PEM file that devices' certificates are checked against.
        admit: is asked once for each connection, on a thread of its own (amqtt).
        revoked: file of the revocation list (mosquitto).
        access_list: makes the access list as the site stands now (mosquitto).
    """

    host: str
    port: int
    certificate: Path
    key: Path
    authority: Path
    admit: Admit
    revoked: Path
    access_list: Callable[[], str]
