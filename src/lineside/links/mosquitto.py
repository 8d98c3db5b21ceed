"""Configuration of a mosquitto that serves a site: devices by certificate, the hub beside it.

Two listeners with settings of their own (mosquitto.conf(5)): one for devices, where the certificate
is the name and the access list holds, and one on loopback for the hub and what stands on the same
machine. Rules:

1. A device's client id is its name: nobody can throw out another by taking its id, and a device
   has one connection.
2. ``set_tcp_nodelay``: with TLS a small message waits 40 ms otherwise (measured).
3. What waits for an absent client is bounded well below the broker's own default.
"""

from dataclasses import dataclass
from pathlib import Path

from lineside.core import InvalidError

_QUEUED = 1000
_QUEUED_BYTES = 48_000_000
_PACKET_BYTES = 12_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MosquittoFiles:
    """Where the broker finds what it needs; absolute paths.

    Attributes:
        authority: certificate that devices' certificates are checked against.
        certificate, key: of the broker.
        revoked: the revocation list.
        access: the access list.
    """

    authority: Path
    certificate: Path
    key: Path
    revoked: Path
    access: Path


def mosquitto_config(files: MosquittoFiles, *, port: int = 8883, local_port: int = 1883) -> str:
    """The text of ``mosquitto.conf``.

    Raises:
        InvalidError: a path with a line break.
    """
    for path in (files.authority, files.certificate, files.key, files.revoked, files.access):
        if "\n" in str(path) or "\r" in str(path):
            raise InvalidError("a line break", where=repr(str(path)), fix="Name another folder.")
    return f"""\
# Written by lineside hub mosquitto-config; written anew, it is the same for the same site.
per_listener_settings true
set_tcp_nodelay true
max_queued_messages {_QUEUED}
max_queued_bytes {_QUEUED_BYTES}
message_size_limit {_PACKET_BYTES}

# Devices: the certificate's common name is who asks.
listener {port}
allow_anonymous false
require_certificate true
use_identity_as_username true
use_username_as_clientid true
cafile {files.authority}
certfile {files.certificate}
keyfile {files.key}
crlfile {files.revoked}
acl_file {files.access}
tls_version tlsv1.2

# The hub and what runs beside it.
listener {local_port} 127.0.0.1
allow_anonymous true
"""
