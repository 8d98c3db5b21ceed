"""The address of an MQTT broker, and the paho client made for it.

``mqtt://user:password@host:1883`` and ``mqtts://…``; after ``?``: ``version=5`` (3.1.1
otherwise), ``ca=/path/ca.pem`` (the system's authorities otherwise), ``keepalive=30`` (seconds),
``certificate=`` and ``key=`` (PEM files by which a device proves its name; one may hold both).
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lineside.core import InvalidError, need
from lineside.core.drivers import without_secret
from lineside.links.contract import Will

if TYPE_CHECKING:
    import paho.mqtt.client as paho
    from paho.mqtt.properties import Properties

CONNECT_S = 5.0
_FOR_EVER_S = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttAddress:
    """A bus URL taken apart."""

    shown: str
    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool
    version: int
    ca: Path | None
    keepalive_s: int
    certificate: Path | None = None
    key: Path | None = None


def parse_address(url: str) -> MqttAddress:
    """Take a bus URL apart.

    Raises:
        InvalidError: no host, no number where one is needed, or an unknown option.
    """
    shown = without_secret(url)
    known = {"version", "ca", "keepalive", "certificate", "key"}
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        keepalive_s = int(options.get("keepalive", "30"))
    except ValueError as error:
        raise InvalidError(
            f"not a bus address: {error}", where=shown, fix="Write mqtt://host:1883."
        ) from error
    version = options.get("version", "3.1.1")
    if not parts.hostname or not set(options) <= known or version not in ("3.1.1", "5"):
        raise InvalidError(
            "not a bus address",
            where=shown,
            fix=f"Write mqtt://host:1883; options: {', '.join(sorted(known))}.",
        )
    return MqttAddress(
        shown=shown,
        host=parts.hostname,
        port=port,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "mqtts",
        version=5 if version == "5" else 4,
        ca=Path(options["ca"]) if "ca" in options else None,
        keepalive_s=keepalive_s,
        certificate=Path(options["certificate"]) if "certificate" in options else None,
        key=Path(options["key"]) if "key" in options else None,
    )


class ClosingContext(ssl.SSLContext):
    """Remembers its last socket, because paho leaves one open whose handshake failed.

    It reads the client's certificate again when told to: renewal replaces the file.
    """

    _last: ssl.SSLSocket | None = None
    _shown: tuple[Path, Path | None] | None = None

    def show(self, certificate: Path, key: Path | None) -> None:
        """Prove the name by this certificate from the next handshake on."""
        self._shown = certificate, key
        self.read_again()

    def read_again(self) -> None:
        """``OSError`` where the files are no certificate with its key."""
        if self._shown is not None:
            certificate, key = self._shown
            self.load_cert_chain(certificate, key)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:  # noqa: ANN401  passed on
        self._last = super().wrap_socket(*args, **kwargs)
        return self._last

    def close_last(self) -> None:
        """After a failed attempt."""
        if self._last is not None:
            self._last.close()


def make_client(
    address: MqttAddress, *, client_id: str, will: Will | None, persistent: bool
) -> "tuple[paho.Client, ClosingContext | None]":
    """A client that is not connected yet, with credentials, encryption and last will set."""
    module = need("paho.mqtt.client", extra="edge")
    enums = need("paho.mqtt.enums", extra="edge")
    five = address.version == 5
    client: paho.Client = module.Client(
        enums.CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if five else not persistent,
        protocol=enums.MQTTProtocolVersion.MQTTv5 if five else enums.MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,  # the thread below waits and retries, with jitter
    )
    client.max_inflight_messages_set(0)  # the window is kept here
    client.connect_timeout = CONNECT_S
    if address.user is not None:
        client.username_pw_set(address.user, address.password)
    context = _tls_context(address) if address.tls else None
    if context is not None:
        client.tls_set_context(context)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
    return client, context


def _tls_context(address: MqttAddress) -> ClosingContext:
    context = ClosingContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if address.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=str(address.ca))
    except OSError as error:  # ssl.SSLError is one
        raise InvalidError(
            f"cannot read the authorities: {error}",
            where=str(address.ca),
            fix="Give ca= a PEM file of certificates.",
        ) from error
    _show(context, address)
    return context


def _show(context: ClosingContext, address: MqttAddress) -> None:
    if address.certificate is None:
        return
    try:
        context.show(address.certificate, address.key)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidError(
            f"no certificate with its key: {error}",
            where=str(address.certificate),
            fix="Give certificate= and key= files that belong together, or enrol the device.",
        ) from error


def pattern_identifier(number: int) -> "Properties":
    """MQTT 5: the number a broker gives back with each message of a pattern."""
    properties_module = need("paho.mqtt.properties", extra="edge")
    packet_types = need("paho.mqtt.packettypes", extra="edge").PacketTypes
    properties: Properties = properties_module.Properties(packet_types.SUBSCRIBE)
    properties.SubscriptionIdentifier = number
    return properties


def session_kept(*, window: int) -> "Properties":
    """MQTT 5: the broker keeps an absent client's session for ever (3.1.2.11.2), as with 3.1.1.

    ``window``: how many messages it may send ahead of their acknowledgement (3.1.2.11.3).
    """
    properties_module = need("paho.mqtt.properties", extra="edge")
    packet_types = need("paho.mqtt.packettypes", extra="edge").PacketTypes
    properties: Properties = properties_module.Properties(packet_types.CONNECT)
    properties.SessionExpiryInterval = _FOR_EVER_S
    properties.ReceiveMaximum = window
    return properties
