"""Outputs of the line: points of a PLC or of this machine that are set, or read for them.

1. A driver belongs to one thread. Every call returns or fails within about ``WAIT_S``, and at once
   where the connection ends.
2. A connection that broke is not mended behind the caller: the driver fails until it is opened
   anew, so that whoever drives knows that what it wrote may be gone.
3. Modbus TCP (pymodbus): ``coil/12`` and ``register/40``. Addresses count from 0, as on the wire:
   the coil that manuals call 00013 is ``coil/12``, the register 40041 is ``register/40``.
4. MQTT (paho-mqtt): a point is a topic. The connection is the output's own; when it ends, however
   that is, the broker publishes the fail-safe value as the last will.
5. OPC UA (asyncua): a point is the id of a node, a Boolean or a number.
6. GPIO (libgpiod): a point is the offset of a line of the chip, as ``gpioinfo`` lists it. When the
   driver is closed, or the program dies, the kernel takes the line back; most boards then keep its
   value, some follow their pull resistors: the wiring has to make that the safe one.
"""

import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

from lineside.core import InvalidError, LinesideError, RefusedError, UnavailableError, need
from lineside.core.drivers import find_driver
from lineside.core.outputs import (
    MODBUS_PORT,
    OPCUA_PORT,
    PLANT_BUS,
    MessageConfig,
    OutputConfig,
)
from lineside.links.mqtt import (
    MqttAddress,
    broker_away,
    broker_refusal,
    certificate_refusal,
    make_client,
    parse_address,
)

if TYPE_CHECKING:
    import paho.mqtt.client as paho
    from paho.mqtt.reasoncodes import ReasonCode

WAIT_S = 0.5
"""The longest wait for a connection, and for the answer to one request."""
_KEEPALIVE_S = 2
"""MQTT: a broker takes a device for gone after one and a half times as long."""
OUTPUTS = {
    "gpio": "lineside.links.output:open_gpio",
    "modbus": "lineside.links.output:open_modbus",
    "mqtt": "lineside.links.output:open_mqtt",
    "mqtts": "lineside.links.output:open_mqtt",
    "opc.tcp": "lineside.links.output:open_opcua",
}


class OutputDriver(Protocol):
    """An open connection to the points of one address."""

    def write(self, point: str, value: int) -> None:
        """Set a point; returns once the other side has confirmed it.

        Raises:
            UnavailableError: the other side is away, or did not answer in time.
            RefusedError: it refuses this point or value.
        """
        ...

    def read(self, point: str) -> bool:
        """Return whether an input, coil or line is 1; raises as ``write`` does."""
        ...

    def close(self) -> None:
        """Close the connection; what was written stays."""
        ...


def open_output(config: OutputConfig, *, bus: str = "", client_id: str = "") -> OutputDriver:
    """Open the points of an ``[[output]]``; the caller closes it.

    What drives a point from the moment it is opened, as GPIO does, begins with ``fail_safe``, and
    with 0 at every other point; others are only written by ``write``.

    Args:
        config: the output; its ``url`` chooses the driver.
        bus: address of the plant's bus, which ``mqtt:`` stands for.
        client_id: of a connection to a broker; one per output and broker.

    Raises:
        UnavailableError: the other side is away.
        RefusedError: there is no permission.
        InvalidError: the address can never work.
        MissingExtraError: the library is not installed.
    """
    opener = find_driver("outputs", config.url, table=OUTPUTS)
    return cast("OutputDriver", opener(config, bus=bus, client_id=client_id))


def open_modbus(config: OutputConfig, **_: str) -> "ModbusOutput":
    """Open ``modbus://host:502?unit=1``; see ``open_output``."""
    url, parts = str(config.url), urlsplit(config.url.reveal())
    host, port = parts.hostname or "", parts.port or MODBUS_PORT
    need("pymodbus", extra="modbus")
    from pymodbus.client import ModbusTcpClient

    # It logs each attempt that fails; whoever drives logs the first one.
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    client: Any = ModbusTcpClient(host, port=port, timeout=WAIT_S, retries=0)
    if not client.connect():
        raise UnavailableError(
            f"no Modbus server answers at {host}:{port}", where=url,
            fix="Check its power, the address, and that it allows one more connection.",
        )  # fmt: skip
    return ModbusOutput(client, unit=int(dict(parse_qsl(parts.query)).get("unit", "1")), url=url)


class ModbusOutput:
    """Made by ``open_modbus``; ``client`` is pymodbus' own, connected."""

    def __init__(self, client: Any, *, unit: int, url: str) -> None:  # noqa: ANN401  pymodbus is optional
        self._client = client
        self._unit = unit
        self._url = url

    def write(self, point: str, value: int) -> None:
        if point.startswith("coil/"):
            self._ask(self._client.write_coil, point, bool(value))
        else:
            self._ask(self._client.write_register, point, value)

    def read(self, point: str) -> bool:
        is_coil = point.startswith("coil/")
        read = self._client.read_coils if is_coil else self._client.read_discrete_inputs
        return bool(self._ask(read, point).bits[0])

    def _ask(self, call: Callable[..., Any], point: str, *value: int) -> Any:  # noqa: ANN401  pymodbus is optional
        from pymodbus.exceptions import ModbusException

        if not self._client.connected:  # it would connect by itself, and nobody would know
            raise self._away("the connection is closed")
        try:
            reply = call(int(point.partition("/")[2]), *value, device_id=self._unit)
        except (ModbusException, OSError) as error:
            raise self._away(f"no answer within {WAIT_S:g} s") from error
        if reply.isError():
            request = " = ".join([point, *(str(int(one)) for one in value)])
            raise RefusedError(
                f"the Modbus server refuses {request} (exception {reply.exception_code})",
                where=self._url, fix="Check the address (it counts from 0) and the unit.",
            )  # fmt: skip
        return reply

    def close(self) -> None:
        self._client.close()

    def _away(self, reason: str) -> UnavailableError:
        return UnavailableError(
            f"the Modbus server is away: {reason}", where=self._url, fix="Check power and cable."
        )


def open_mqtt(config: OutputConfig, *, bus: str, client_id: str) -> "MqttOutput":
    """Open ``mqtt:`` or ``mqtt://user:password@host:1883``; see ``open_output``."""
    address = parse_address(bus if config.url == PLANT_BUS else config.url.reveal())
    client, context = make_client(address, client_id=client_id, persistent=False)
    output = MqttOutput(client, address=address, config=config)
    try:
        output.connect()
    except LinesideError:
        output.close()
        if context is not None:
            context.close_last()
        raise
    return output


class MqttOutput:
    """Made by ``open_mqtt``; ``client`` is paho's own, which does not connect by itself again."""

    def __init__(
        self, client: "paho.Client", *, address: MqttAddress, config: OutputConfig
    ) -> None:
        self._client = client
        self._address = address
        self._switch = config.switch
        self._message = message = config.message or MessageConfig()
        self._payloads = {0: message.off, 1: message.on}
        self._changed = threading.Condition()
        self._answered: int | None = None
        self._failure: LinesideError | None = None
        client.connect_timeout = WAIT_S
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.will_set(
            config.switch, self._payloads[config.fail_safe], qos=message.qos, retain=message.retain
        )

    def connect(self) -> None:
        """Connect, and wait for the broker's answer.

        Raises:
            UnavailableError: the broker is away, or did not answer in time.
            RefusedError: it refuses the credentials, or nobody vouches for its certificate.
        """
        address = self._address
        try:
            self._client.connect(address.host, address.port, keepalive=_KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise certificate_refusal(address, error) from error
        except (OSError, ValueError) as error:
            raise broker_away(address, str(error)) from error
        sock: Any = self._client.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.loop_start()
        self._wait_for(0)

    def write(self, point: str, value: int) -> None:
        message, is_switch = self._message, point == self._switch
        payload = self._payloads[value] if is_switch else str(value)
        info = self._client.publish(
            point, payload, qos=message.qos, retain=message.retain and is_switch
        )
        self._wait_for(info.mid)

    def read(self, point: str) -> bool:
        raise RefusedError(
            "a topic cannot be read", where=point, fix="Remove handshake from the output."
        )

    def close(self) -> None:
        sock: Any = self._client.socket()
        if sock is not None:
            with suppress(OSError):  # without a goodbye, so that the broker publishes the will
                sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def _wait_for(self, answer: int) -> None:  # 0: to CONNECT; messages have numbers from 1
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._answered == answer, WAIT_S)
            if self._failure is not None:
                raise self._failure
            if self._answered != answer:
                raise broker_away(self._address, f"no answer within {WAIT_S:g} s")

    def _note(self, answer: int | None, failure: LinesideError | None) -> None:
        with self._changed:
            self._answered, self._failure = answer, self._failure or failure
            self._changed.notify_all()

    def _on_connect(
        self, _client: object, _data: object, _flags: object, reason: "ReasonCode", _more: object
    ) -> None:
        self._note(0, broker_refusal(self._address, str(reason)) if reason.is_failure else None)

    def _on_disconnect(self, *_: object) -> None:
        self._note(None, broker_away(self._address, "the connection is closed"))

    def _on_publish(
        self, _client: object, _data: object, mid: int, reason: "ReasonCode", _more: object
    ) -> None:
        refused = None if not reason.is_failure else RefusedError(  # said by MQTT 5 alone
            f"the broker refused the message: {reason}", where=self._address.shown,
            fix="Let the broker's access list allow the topics of the output.",
        )  # fmt: skip
        self._note(mid, refused)


_OPCUA_S = 4 * WAIT_S
"""The longest wait for a session, which takes several requests."""
_NUMBERS = {
    "Boolean": bool, "Float": float, "Double": float,
    "SByte": int, "Byte": int, "Int16": int, "UInt16": int, "Int32": int, "UInt32": int,
    "Int64": int, "UInt64": int,
}  # fmt: skip


def open_opcua(config: OutputConfig, **_: str) -> "OpcuaOutput":
    """Open ``opc.tcp://user:password@host:4840/path``; see ``open_output``."""
    sync = need("asyncua.sync", extra="opcua")
    for name in ("asyncua.client", "asyncua.crypto", "asyncua.uaprotocol"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # whoever drives logs the first failure
    parts = urlsplit(config.url.reveal())
    place = parts.netloc if parts.port else f"{parts.netloc}:{OPCUA_PORT}"
    client = sync.Client(
        parts._replace(netloc=place, query="").geturl(), timeout=WAIT_S,
        sync_wrapper_timeout=_OPCUA_S,
    )  # fmt: skip
    output = OpcuaOutput(client, config=config)
    try:
        output.connect()
    except Exception:
        output.close()
        raise
    return output


class OpcuaOutput:
    """Made by ``open_opcua``; ``client`` is asyncua's own for threads, not connected yet."""

    def __init__(self, client: Any, *, config: OutputConfig) -> None:  # noqa: ANN401  asyncua is optional
        self._client = client
        self._config = config
        self._where = str(config.url)
        self._ua = need("asyncua", extra="opcua").ua
        self._nodes: dict[str, tuple[Any, Any]] = {}

    def connect(self) -> None:
        """Connect, and look up the types of the nodes.

        Raises:
            UnavailableError: the server is away, or did not answer in time.
            RefusedError: it refuses the user or the certificate, has no such node, or one of
                another type.
            InvalidError: the files of the address are no certificates.
        """
        files = dict(parse_qsl(urlsplit(self._config.url.reveal()).query))
        if files:
            self._secure(files)
        self._ask("the session", self._client.connect)
        for point in (*self._config.points, *self._config.inputs):
            node = self._ask(point, self._client.get_node, point)
            self._nodes[point] = node, self._ask(point, node.read_data_type_as_variant_type)
            self._check_type(point)

    def write(self, point: str, value: int) -> None:
        node, kind = self._nodes[point]
        typed = self._ua.Variant(_NUMBERS[kind.name](value), kind)
        # Without a time: many servers of PLCs refuse one.
        self._ask(f"{point} = {value}", node.write_value, self._ua.DataValue(typed))

    def read(self, point: str) -> bool:
        return bool(self._ask(point, self._nodes[point][0].read_value))

    def close(self) -> None:
        with suppress(OSError, self._ua.UaError):
            self._client.disconnect()

    def _secure(self, files: Mapping[str, str]) -> None:
        from cryptography import x509

        crypto = need("asyncua.crypto.uacrypto", extra="opcua")
        policies = need("asyncua.crypto.security_policies", extra="opcua")
        try:
            raw = {name: Path(path).read_bytes() for name, path in files.items()}
            names = x509.load_pem_x509_certificate(raw["certificate"]).extensions
            said = names.get_extension_for_class(x509.SubjectAlternativeName).value
            own = said.get_values_for_type(x509.UniformResourceIdentifier)
            self._client.application_uri = own[0]  # servers compare the two
            pem = {name: crypto.CertProperties(one, "pem") for name, one in raw.items()}
            self._client.set_security(
                policies.SecurityPolicyBasic256Sha256, pem["certificate"], pem["key"],
                server_certificate=pem["server"],
            )  # fmt: skip
        except (OSError, ValueError, TypeError, IndexError, x509.ExtensionNotFound) as error:
            raise InvalidError(
                f"cannot use the certificates: {error}", where=self._where,
                fix="Give certificate= (with a URI as alternative name), key= and server= PEM"
                " files that this program may read.",
            ) from error  # fmt: skip

    def _check_type(self, point: str) -> None:
        config, name = self._config, self._nodes[point][1].name
        most = max(config.value, config.rest, config.fail_safe) if point == config.switch else 1
        if name not in _NUMBERS or (name == "Boolean" and most > 1):
            raise RefusedError(
                f"{point} is of the type {name} and cannot be {most}", where=self._where,
                fix="Name a node that is a Boolean, for 0 and 1, or a number.",
            )  # fmt: skip

    def _ask(self, what: str, call: Callable[..., Any], *values: object) -> Any:  # noqa: ANN401  asyncua is optional
        try:
            return call(*values)
        except OSError as error:
            raise UnavailableError(
                f"the OPC UA server is away: {str(error) or f'no answer within {WAIT_S:g} s'}",
                where=self._where, fix="Check power, cable and address.",
            ) from error  # fmt: skip
        except (self._ua.UaError, struct.error) as error:
            raise RefusedError(
                f"the OPC UA server refuses {what}: {error}", where=self._where,
                fix="Check the id and its right to be written, the user, and whether the server"
                " trusts the certificate.",
            ) from error  # fmt: skip


def open_gpio(config: OutputConfig, **_: str) -> "GpioOutput":
    """Open ``gpio:///dev/gpiochip0``; see ``open_output``."""
    url, path = str(config.url), urlsplit(config.url.reveal()).path
    need("gpiod", extra="gpio")
    import gpiod

    library: Any = gpiod
    try:
        if not library.is_gpiochip_device(path):
            raise UnavailableError(
                f"{path} is no GPIO chip", where=url, fix="gpiodetect lists those of this machine."
            )
        lines = {
            int(point): library.LineSettings(
                direction=library.line.Direction.OUTPUT,
                output_value=_level(library, config.fail_safe if point == config.switch else 0),
            )
            for point in config.points
        }
        reading = library.LineSettings(direction=library.line.Direction.INPUT)
        lines |= {int(point): reading for point in config.inputs}
        request = library.request_lines(path, consumer="lineside", config=lines)
    except PermissionError as error:
        raise RefusedError(
            f"no permission to open {path}", where=url,
            fix="Add the service's user to the group that owns it, gpio say.",
        ) from error  # fmt: skip
    except (OSError, ValueError) as error:
        raise _gpio_error(url, error) from error
    return GpioOutput(request, library=library, url=url)


class GpioOutput:
    """Made by ``open_gpio``; ``request`` is gpiod's own, of the lines that are driven."""

    def __init__(self, request: Any, *, library: Any, url: str) -> None:  # noqa: ANN401  gpiod is optional
        self._request = request
        self._library = library
        self._url = url

    def write(self, point: str, value: int) -> None:
        try:
            self._request.set_value(int(point), _level(self._library, value))
        except (OSError, ValueError) as error:
            raise _gpio_error(self._url, error) from error

    def read(self, point: str) -> bool:
        try:
            return bool(self._request.get_value(int(point)))
        except (OSError, ValueError) as error:
            raise _gpio_error(self._url, error) from error

    def close(self) -> None:
        self._request.release()


def _level(library: Any, value: int) -> Any:  # noqa: ANN401  gpiod is optional
    return library.line.Value.ACTIVE if value else library.line.Value.INACTIVE


def _gpio_error(url: str, error: Exception) -> LinesideError:
    return UnavailableError(
        f"the GPIO line cannot be driven: {error}", where=url,
        fix="gpioinfo lists the lines, and which program uses them.",
    )  # fmt: skip
