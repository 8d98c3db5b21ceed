"""Outputs as the plant file declares them: points that a device switches on a line's verdicts.

1. A point is an address within what ``url`` opens: ``coil/12`` or ``register/40`` of a Modbus
   server, the offset of a line (``17``) of a GPIO chip, a topic of an MQTT broker,
   the node id (``ns=3;s="Gate"."Reject"``) of a Boolean or a number of an OPC UA server.
   Where the device reads (``handshake``), ``input/7`` is a discrete input.
2. ``fail_safe`` has no default: which value is safe only the plant knows.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from lineside.core.clock import Seconds
from lineside.core.codec import (
    above_zero,
    entries,
    good_id,
    known,
    nearest,
    refuse,
    twice,
    unless,
    within,
    zero_or_more,
)
from lineside.core.drivers import SecretUrl
from lineside.core.errors import Fault
from lineside.core.topics import topics_meet

Verdict = Literal["ok", "reject", "review", "incomplete"]

_MOST = 65535
_MOST_UNIT = 255
_MOST_QOS = 2
MODBUS_PORT = 502
OPCUA_PORT = 4840
PLANT_BUS = "mqtt:"
"""Address of the plant's own bus, as the device reaches it."""
_PORTS = {"modbus": MODBUS_PORT, "mqtt": 1883, "mqtts": 8883, "opc.tcp": OPCUA_PORT}
_NODE = re.compile(r"(?:ns=\d{1,5};)?(?:i=\d{1,10}|[sgb]=[^\x00-\x1f\x7f]+)")
_TOPIC = re.compile(r"[^$+#\x00-\x20\x7f][^+#\x00-\x1f\x7f]*")
_POINTS = {
    "gpio": re.compile(r"(?P<number>0|[1-9]\d{0,4})"),
    "modbus": re.compile(r"(?:coil|register)/(?P<number>0|[1-9]\d{0,4})"),
    "mqtt": _TOPIC,
    "mqtts": _TOPIC,
    "opc.tcp": _NODE,
}
_READ_POINTS = {
    "gpio": _POINTS["gpio"],
    "modbus": re.compile(r"(?:coil|input)/(?P<number>0|[1-9]\d{0,4})"),
    "opc.tcp": _NODE,
}
_TOPIC_FORM = "a topic without wildcards: west/gate"
_POINT_FORMS = {
    "gpio": "the offset of a line: 17", "modbus": "coil/12 or register/12",
    "mqtt": _TOPIC_FORM, "mqtts": _TOPIC_FORM, "opc.tcp": "the id of a node: ns=3;s=Gate.Reject",
}  # fmt: skip
_READ_FORMS = {**_POINT_FORMS, "modbus": "coil/12 or input/12"}
_FORMS = {
    "gpio": "gpio:///dev/gpiochip0", "modbus": "modbus://plc.plant.lan:502?unit=1",
    "mqtt": "mqtt: for the plant's bus, or mqtt://broker.plant.lan:1883",
    "mqtts": "mqtts://broker.plant.lan:8883?ca=/etc/lineside/ca.pem",
    "opc.tcp": "opc.tcp://plc.plant.lan:4840; a user or encryption needs certificate=, key= and"
    " server= behind a question mark",
}  # fmt: skip
_BROKERS = frozenset({"mqtt", "mqtts"})
_WITH_USER = _BROKERS | {"opc.tcp"}
_OPTIONS = {
    "modbus": frozenset({"unit"}), "mqtt": frozenset({"version"}),
    "mqtts": frozenset({"ca", "certificate", "key", "version"}),
    "opc.tcp": frozenset({"certificate", "key", "server"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeConfig:
    """Points by which a PLC asks for the result of a part and confirms that it has it.

    Attributes:
        trigger: point that is read; the PLC sets it once a part is in place: ``coil/1``,
            ``input/1`` (a discrete input), or the offset of a GPIO line.
        acknowledge: point that is read; the PLC sets it once it has read the result.
        done: point; 1 while a result stands in ``switch``.
        timeout_s: seconds above 0; the longest wait for the verdict, and then for the
            acknowledgement.
        settle_s: seconds; an image counts from so long after the trigger on: for cameras whose
            images are dated when they arrive.
    """

    trigger: str
    acknowledge: str
    done: str
    timeout_s: Seconds = 2.0
    settle_s: Seconds = 0.0

    def __post_init__(self) -> None:
        refuse(self, above_zero(self, "timeout_s"), zero_or_more(self, "settle_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageConfig:
    """Form in which a value is published to a topic.

    Attributes:
        on, off: payload of ``switch`` for the values 1 and 0; those of
            ``heartbeat`` are 1 and 0.
        qos: 0, 1 or 2; of everything that the output publishes. With 0 nobody confirms that the
            broker took it.
        retain: the broker keeps the last value of ``switch`` for clients that come later; never
            that of ``heartbeat``.
    """

    on: str = "1"
    off: str = "0"
    qos: int = 1
    retain: bool = True

    def __post_init__(self) -> None:
        refuse(
            self,
            unless(
                self.on != self.off, key="off", value=self.off,
                expected="another payload than on", fix='Write on = "1" and off = "0".',
            ),
            within(self, "qos", high=_MOST_QOS),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """A point that a device switches on the verdicts of a line that it inspects alone.

    Attributes:
        id: id; names the output.
        line: id of a line; whose verdicts.
        url: ``modbus://host:502?unit=1`` (port 502 and unit 1 if left out; unit 0 to 255),
            ``gpio:///dev/gpiochip0``, [``mqtt:``](#outputs-on-mqtt) for the plant's bus,
            ``mqtt://user:password@host:1883`` (``mqtts:``) for another broker, or
            [``opc.tcp://host:4840/path``](#outputs-on-opc-ua).
        switch: point; what is written: ``coil/12`` or ``register/40``, counted from 0 as on the
            wire, the offset of a GPIO line (``"17"``), a topic, or the id of a node.
        fail_safe: whole number; written while a camera is lost or an inspection has no package,
            after a start or a lost connection until the next verdict falls due, when the device
            stops, and in place of ``rest`` while images have a fault of their camera. 0 or 1; of a
            register or a node that is a number up to 65535.
        on: verdicts; which switch it.
        value, rest: whole numbers; written by a verdict that switches it, and otherwise.
        pulse_s: seconds; how long ``value`` stands; 0: until the next verdict falls due.
        delay_s: seconds; from the capture of a part's last image to the switching: the way from
            camera to gate. 0: at once.
        max_age_s: seconds above 0; with ``delay_s`` 0: the verdict on an older image does not
            switch.
        camera: id of a camera; whose images ``delay_s`` counts from; needed where inspections on
            several cameras of the line count.
        device: the one device that drives it; needed only where several have the whole line.
        heartbeat: point; shows that the device is alive: a register counts up to 65535 and begins
            again at 0, any other changes between 0 and 1.
        heartbeat_s: seconds above 0; the time between two changes.
        handshake: table; a PLC asks for each result: [handshake](#outputhandshake); then without
            ``delay_s`` and ``pulse_s``, and not on MQTT.
        message: table; payloads and flags of [MQTT](#outputs-on-mqtt).
    """

    id: str
    line: str
    url: SecretUrl
    switch: str
    fail_safe: int
    on: tuple[Verdict, ...] = ("reject", "review", "incomplete")
    value: int = 1
    rest: int = 0
    pulse_s: Seconds = 0.0
    delay_s: Seconds = 0.0
    max_age_s: Seconds = 1.0
    camera: str = ""
    device: str = ""
    heartbeat: str = ""
    heartbeat_s: Seconds = 1.0
    handshake: HandshakeConfig | None = None
    message: MessageConfig | None = None

    def __post_init__(self) -> None:
        refuse(
            self,
            self._check_url(),
            self._check_point("switch", self.switch),
            self._check_point("heartbeat", self.heartbeat) if self.heartbeat else (),
            self._check_handshake(),
            unless(
                self.message is None or self.scheme not in _FORMS or self.scheme in _BROKERS,
                key="message", value="", expected="message with an address of mqtt: only",
                fix="Remove message.", needs=("url",),
            ),
            unless(
                self.heartbeat != self.switch, key="heartbeat", value=self.heartbeat,
                expected="another point than switch", fix="Give it a point of its own.",
            ),
            unless(
                self.on, key="on", value="", expected="at least one verdict",
                fix='Write on = ["reject"], say.',
            ),
            self._check_values(),
            unless(
                self.value != self.rest, key="rest", value=self.rest,
                expected="another value than value", fix="Write value = 1 and rest = 0.",
            ),
            zero_or_more(self, "pulse_s", "delay_s"),
            above_zero(self, "heartbeat_s", "max_age_s"),
        )  # fmt: skip

    @property
    def scheme(self) -> str:
        """Kind of the connection: ``modbus``, ``gpio``, ``mqtt``, ``mqtts``, ``opc.tcp``."""
        return _split(self.url)[0]

    @property
    def bus_topics(self) -> tuple[str, ...]:
        """Every topic of the plant's bus that it publishes to."""
        return self.points if self.url == PLANT_BUS else ()

    @property
    def points(self) -> tuple[str, ...]:
        """Every point that it writes."""
        done = self.handshake.done if self.handshake is not None else ""
        return tuple(one for one in (self.switch, self.heartbeat, done) if one)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every point that it reads."""
        shake = self.handshake
        return (shake.trigger, shake.acknowledge) if shake is not None else ()

    def most_value(self, point: str) -> int:
        """Return the largest value of a point: 65535 of a register, 1 of any other."""
        return _MOST if self.scheme == "modbus" and point.startswith("register/") else 1

    def _check_url(self) -> Iterator[Fault]:
        scheme, place, options = _split(self.url)
        yield from unless(
            scheme in _FORMS, key="url", value=self.url,
            expected="an address that lineside can open", fix=nearest(scheme, list(_FORMS)),
        )  # fmt: skip
        unit = options.get("unit", "1")
        usable = place and unit.isdecimal() and int(unit) <= _MOST_UNIT
        allowed = _OPTIONS.get(scheme, frozenset())
        usable = usable and options.keys() <= allowed
        if scheme == "opc.tcp" and (options or "@" in self.url.reveal()):
            usable = usable and options.keys() == allowed
        yield from unless(
            usable or scheme not in _FORMS, key="url", value=self.url,
            expected="an address that can be opened", fix=f"Write {_FORMS.get(scheme)}, say.",
        )  # fmt: skip

    def _check_handshake(self) -> Iterator[Fault]:
        if self.handshake is None:
            return
        yield from self._check_point("handshake.done", self.handshake.done)
        for key in ("trigger", "acknowledge"):
            point = getattr(self.handshake, key)
            yield from self._check_point(f"handshake.{key}", point, read=True)
        yield from unless(
            self.scheme in _READ_POINTS or self.scheme not in _FORMS, key="handshake", value="",
            expected=f"an address of {' or '.join(_READ_POINTS)} with a handshake",
            fix="Remove handshake: a topic has no inputs that could be read.", needs=("url",),
        )  # fmt: skip
        points = self.points + self.inputs
        yield from unless(
            len(set(points)) == len(points) or self.heartbeat == self.switch, key="handshake",
            value="", expected="a point of its own for each purpose",
            fix="Write another point for one of them.", needs=("switch", "heartbeat"),
        )  # fmt: skip
        yield from unless(
            not self.delay_s and not self.pulse_s, key="handshake", value="",
            expected="neither delay_s nor pulse_s beside it: the PLC says when",
            fix="Remove them.", needs=("delay_s", "pulse_s"),
        )  # fmt: skip

    def _check_point(self, key: str, point: str, *, read: bool = False) -> Iterator[Fault]:
        scheme, forms = self.scheme, _READ_FORMS if read else _POINT_FORMS
        known_points = _READ_POINTS if read else _POINTS
        found = known_points[scheme].fullmatch(point) if scheme in known_points else None
        number = found.groupdict().get("number") if found is not None else None
        yield from unless(
            scheme not in known_points or (found is not None and int(number or 0) <= _MOST),
            key=key, value=point, expected=f"a point of {scheme}",
            fix=f"Write {forms.get(scheme)}.", needs=("url",),
        )  # fmt: skip

    def _check_values(self) -> Iterator[Fault]:
        most = _MOST if self.scheme == "opc.tcp" else self.most_value(self.switch)
        for key in ("value", "rest", "fail_safe"):
            value = getattr(self, key)
            yield from unless(
                0 <= value <= most, key=key, value=value,
                expected=f"0 to {most} of {self.switch}", fix="Write 0 or 1.", needs=("switch",),
            )  # fmt: skip


def trigger_topic(site: str, line: str) -> str:
    """Return the topic that a PLC's trigger stands for, for inspections that wait for one."""
    return f"lineside/{site}/{line}/trigger"


def _split(secret: SecretUrl) -> tuple[str, str, dict[str, str]]:
    """Scheme, place (host, or path of a chip; "" where it is none) and options of an address."""
    url = secret.reveal()
    if url == PLANT_BUS:
        return "mqtt", "bus", {}
    try:
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        is_plain = parts.port != 0 and not parts.fragment
        is_plain = is_plain and (parts.username is None or parts.scheme in _WITH_USER)
    except ValueError:
        return url.partition(":")[0], "", {}
    place = parts.path if parts.scheme == "gpio" else parts.hostname or ""
    spare = parts.netloc if parts.scheme == "gpio" else parts.path.strip("/")
    if parts.scheme == "opc.tcp":
        spare = ""
    return parts.scheme, place if is_plain and not spare else "", options


def _server(output: OutputConfig) -> str:
    """Name of what has the points of an output, however its address is spelled."""
    scheme, place, options = _split(output.url)
    if scheme == "gpio":
        return f"{output.device} {place}".strip()
    if output.url == PLANT_BUS:
        return place
    unit = f" unit {options.get('unit', '1')}" if scheme == "modbus" else ""
    return f"{place}:{urlsplit(output.url.reveal()).port or _PORTS.get(scheme)}{unit}"


def check_outputs(
    outputs: tuple[OutputConfig, ...], *, lines: Iterable[str], cameras: Mapping[str, set[str]],
    topics: Collection[str],
) -> Iterator[Fault]:  # fmt: skip
    """Return the faults of reference of a plant file's outputs.

    Args:
        outputs: as declared.
        lines: every id of a line.
        cameras: line → its cameras with an inspection that counts for the verdict.
        topics: patterns of the plant's bus that lineside says or reads.
    """
    declared = list(entries(outputs))
    yield from twice((one.id for _, one in declared), "$.output")
    yield from twice((f"{_server(one)} {point}" for _, one in declared for point in one.points),
                     "$.output")  # fmt: skip
    names = list(lines)
    for place, one in declared:
        path = f"$.output[{place}]"
        yield from good_id(one.id, f"{path}.id")
        yield from known(one.line, names, path=f"{path}.line", noun="line")
        for topic in one.bus_topics:
            if any(topics_meet(taken, topic) for taken in topics):
                yield Fault(
                    path=f"{path}.{'switch' if topic == one.switch else 'heartbeat'}",
                    value=repr(topic), expected="a topic that lineside neither says nor reads",
                    fix="Choose another topic.",
                )  # fmt: skip
        if one.line not in names:
            continue
        counting = sorted(cameras.get(one.line, ()))
        if not counting:
            yield Fault(
                path=f"{path}.line", value=repr(one.line),
                expected="a line with an inspection that counts for its verdict",
                fix="Declare an inspection on a camera of the line.",
            )  # fmt: skip
        elif one.camera:
            yield from known(one.camera, counting, path=f"{path}.camera", noun="camera")
        elif one.delay_s and len(counting) > 1:
            yield Fault(
                path=f"{path}.camera", value="''",
                expected="the camera that delay_s counts from, as the line has several",
                fix=f'Write camera = "{counting[0]}", say.',
            )  # fmt: skip
