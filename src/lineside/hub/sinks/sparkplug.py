"""Sparkplug B 3.0 (Ignition, …): the hub as an edge node, its devices and lines as devices of it.

Rules, after chapters 4 to 6 of the Eclipse Sparkplug specification, version 3.0:

1. The node has a client of its own, whose last will is NDEATH. ``bdSeq`` there and in NBIRTH
   counts connections, from 0 to 255, and goes on over restarts and over the hubs of a site.
2. NBIRTH is the first message of a connection; DBIRTH of everything that is there follows it, then
   data. ``seq`` counts all of them from 0 to 255; NDEATH has none.
3. A metric is said when it changed. A device whose metrics are others than before is born again;
   one that is offline or silent gets DDEATH.
4. Each verdict is one DDATA. Those that came while nobody could hear them follow the births, as
   historical; of more than ``_MOST_WAITING`` the oldest go, counted.
5. NCMD with ``Node Control/Rebirth`` lets everything be said anew. Nothing else is written to.
6. A clean stop says NDEATH. A message that the bus does not take makes the node be born again.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version

from lineside.core import LinesideError, NotFoundError, UnavailableError
from lineside.hub.eventlog.ledger import Commit
from lineside.hub.services import Services
from lineside.hub.views import DeviceView
from lineside.links import Bus, Mailbox, Message, Will, open_bus
from lineside.streams import VERDICT_TYPE, Event, read_verdict
from lineside.twin import LineState

Value = bool | int | float | str | None
Metrics = Mapping[str, Value]

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
BD_SEQ = "bdSeq"
_KIND = "sparkplug"
_COUNT = 256
_MOST_WAITING = 1000
_DEVICES_S = 2.0
_INT64, _DOUBLE, _BOOLEAN, _STRING = 4, 10, 11, 12
_MASK = 2**64 - 1


def encode_payload(
    metrics: Metrics, *, at: datetime, seq: int | None = None, measured_at: datetime | None = None,
    historical: bool = False,
) -> bytes:  # fmt: skip
    """Return a payload with metrics of the types String, Int64, Double and Boolean.

    Args:
        metrics: by name; None is a String without a value.
        at: when it is sent.
        seq: of the message; None leaves it out.
        measured_at: time of the metrics; None: ``at``.
        historical: they are not the current values.
    """
    from lineside.hub.sinks import sparkplug_b_pb2 as pb2

    payload = pb2.Payload(timestamp=_milliseconds(at), seq=seq)
    for name, value in metrics.items():
        metric = payload.metrics.add(name=name, timestamp=_milliseconds(measured_at or at))
        if historical:
            metric.is_historical = True
        match value:
            case None:
                metric.datatype, metric.is_null = _STRING, True
            case bool():
                metric.datatype, metric.boolean_value = _BOOLEAN, value
            case int():
                metric.datatype, metric.long_value = _INT64, value & _MASK
            case float():
                metric.datatype, metric.double_value = _DOUBLE, value
            case str():
                metric.datatype, metric.string_value = _STRING, value
    return bytes(payload.SerializeToString())


def asks_for_rebirth(payload: bytes) -> bool:
    """Return whether an NCMD asks for a rebirth; False where it cannot be read."""
    from google.protobuf.message import DecodeError

    from lineside.hub.sinks import sparkplug_b_pb2 as pb2

    try:
        read = pb2.Payload.FromString(payload)
    except DecodeError:
        return False
    return any(one.name == REBIRTH and one.boolean_value for one in read.metrics)


def device_metrics(device: DeviceView) -> Metrics | None:
    """Return what a device reported last; None where it does not report now."""
    if device.state != "online":
        return None
    status = device.status
    counts = (
        ("Frames", "frames"),
        ("Predictions", "predictions"),
        ("Spool/Dropped", "spool_dropped"),
    )
    return {
        "Version": device.version,
        "Faults": "; ".join(map(str, status.get("faults", ()))),
        "Spool/Depth": device.spool_depth,
        **{name: int(status.get(key, 0)) for name, key in counts},
        **{
            f"Cameras/{one.get('camera')}/Connected": one.get("state") == "connected"
            for one in status.get("cameras", ()) if isinstance(one, dict)
        },
        **{f"Packages/{one.get('inspection')}": str(one.get("digest")) for one in device.packages},
    }  # fmt: skip


def line_metrics(line: str, state: LineState) -> Metrics:
    """Return the last verdict of a line, without values where it has none yet."""
    last = state.verdicts.get(line)
    if last is None:
        return dict.fromkeys(("Verdict", "Part", "Reasons", "Event"))
    return _verdict_metrics(str(last.verdict), last.part, last.reasons, event=last.evidence.event)


def _verdict_metrics(verdict: str, part: str, reasons: Iterable[str], *, event: str) -> Metrics:
    return {"Verdict": verdict, "Part": part, "Reasons": "; ".join(reasons), "Event": event}


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


class EdgeNode:
    """Messages of one node in their order: what is born, what was said, the next ``seq``."""

    def __init__(self, group: str, node: str) -> None:
        self._group, self._node = group, node
        self._seq = 0
        self._said: dict[str, Metrics] = {}

    def topic(self, kind: str, device: str = "") -> str:
        """Return the topic of a kind of message."""
        tail = f"/{device}" if device else ""
        return f"{NAMESPACE}/{self._group}/{kind}/{self._node}{tail}"

    def death(self, bd_seq: int, *, at: datetime) -> Message:
        """Return NDEATH."""
        return Message(topic=self.topic("NDEATH"), payload=encode_payload({BD_SEQ: bd_seq}, at=at))

    def birth(
        self, bd_seq: int, own: Metrics, devices: Mapping[str, Metrics | None], *, at: datetime
    ) -> Iterator[Message]:
        """Yield NBIRTH, and DBIRTH of every device that has metrics."""
        self._seq, self._said = 0, {"": own}
        metrics = {BD_SEQ: bd_seq, REBIRTH: False, **own}
        yield self._message("NBIRTH", "", metrics, at=at)
        yield from self.changes(own, devices, at=at)

    def changes(
        self, own: Metrics, devices: Mapping[str, Metrics | None], *, at: datetime
    ) -> Iterator[Message]:
        """Yield deaths, births and changed metrics since the last call; None: not there."""
        for device in [one for one in self._said if one and devices.get(one) is None]:
            del self._said[device]
            yield self._message("DDEATH", device, {}, at=at)
        for device, metrics in devices.items():
            before = self._said.get(device)
            if metrics is not None and (before is None or before.keys() != metrics.keys()):
                self._said[device] = metrics
                yield self._message("DBIRTH", device, metrics, at=at)
        for device, metrics in {"": own, **devices}.items():
            if metrics is not None:
                yield from self._data(device, metrics, at=at)

    def data(
        self, device: str, metrics: Metrics, *, at: datetime, measured_at: datetime,
        historical: bool,
    ) -> Message:  # fmt: skip
        """Return DDATA of these metrics, changed or not."""
        if not historical:
            self._said[device] = {**self._said.get(device, {}), **metrics}
        return self._message(
            "DDATA", device, metrics, at=at, measured_at=measured_at, historical=historical
        )

    def _data(self, device: str, metrics: Metrics, *, at: datetime) -> Iterator[Message]:
        before = self._said[device]
        changed = {name: value for name, value in metrics.items() if value != before[name]}
        if changed:
            self._said[device] = metrics
            yield self._message("DDATA" if device else "NDATA", device, changed, at=at)

    def _message(
        self, kind: str, device: str, metrics: Metrics, *, at: datetime,
        measured_at: datetime | None = None, historical: bool = False,
    ) -> Message:  # fmt: skip
        payload = encode_payload(
            metrics, at=at, seq=self._seq, measured_at=measured_at, historical=historical
        )
        self._seq = (self._seq + 1) % _COUNT
        return Message(topic=self.topic(kind, device), payload=payload)


class SparkplugFeed:
    """Connection of the node; opened where this hub reads the devices, stepped by the timers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._node = EdgeNode(services.config.sparkplug, services.plant.site)
        self._lock, self._queue = threading.Lock(), threading.Lock()
        self._bus: Bus | None = None
        self._commands: Mailbox | None = None
        self._first = 0
        self._connection = 0
        self._verdicts: deque[Event] = deque(maxlen=_MOST_WAITING)
        self._devices: dict[str, Metrics | None] = {}
        self._read_again_s = 0.0
        self.dropped = 0
        services.ledger.listen(self._heard)

    def open(self, url: str) -> None:
        """Join the bus, where the settings name a group.

        Raises:
            InvalidError, RefusedError: as ``open_bus``.
            UnavailableError: the store is away.
        """
        services = self._services
        if not services.config.sparkplug:
            return
        self._first = self._stored()
        self._store(self._first + 1)
        name = f"hub-{services.plant.site}-{services.leases.hub}-sparkplug"
        bus = open_bus(url, client_id=name, clock=services.clock, will=self._will)
        try:
            commands = bus.subscribe((self._node.topic("NCMD"),), qos=1, size=100, name="NCMD")
        except LinesideError:
            bus.close()
            raise
        with self._lock, self._queue:
            self._bus, self._commands, self._connection = bus, commands, 0
            self._verdicts.clear()

    def close(self) -> None:
        """Say NDEATH and leave."""
        with self._lock:
            bus, self._bus = self._bus, None
        if bus is None:
            return
        if self._connection and bus.connected():
            death = self._node.death(self._bd_seq(), at=self._services.clock.now())
            bus.publish_soon(death.topic, death.payload, qos=1)
        bus.close()

    def tick(self) -> None:
        """Say what is new.

        Raises:
            UnavailableError: the store is away, or the bus went meanwhile.
        """
        with self._lock:
            if self._bus is not None and self._bus.connected():
                try:
                    self._step(self._bus)
                except UnavailableError:
                    self._connection = 0
                    raise

    def _step(self, bus: Bus) -> None:
        with self._queue:
            waiting = list(self._verdicts)
        connection = bus.connections()  # once: what is said here is of no later one
        is_born = connection == self._connection and not self._rebirth_wanted()
        self._connection = connection
        for message in self._messages(waiting, is_born=is_born):
            bus.publish(message.topic, message.payload, qos=0)
        if not is_born:
            self._store(self._bd_seq() + 1)
        with self._queue:
            for event in waiting:
                if self._verdicts and self._verdicts[0] is event:
                    self._verdicts.popleft()

    def _messages(self, waiting: Sequence[Event], *, is_born: bool) -> Iterator[Message]:
        now, own, devices = self._services.clock.now(), self._own(), self._all()
        verdicts = (self._verdict(one, now=now, historical=not is_born) for one in waiting)
        if is_born:
            yield from verdicts
            yield from self._node.changes(own, devices, at=now)
        else:
            yield from self._node.birth(self._bd_seq(), own, devices, at=now)
            yield from verdicts

    def _rebirth_wanted(self) -> bool:
        """Return whether one of the commands that came asks for it."""
        commands = self._commands
        came = commands.get_many(most=100, timeout_s=0) if commands is not None else []
        return any(asks_for_rebirth(one.payload) for one in came)

    def _own(self) -> Metrics:
        online, known = self._services.devices.count()
        return {
            "Properties/Version": version("lineside"),
            "Alerts/Open": self._services.alerts.count(),
            "Devices/Online": online,
            "Devices/Known": known,
        }

    def _all(self) -> dict[str, Metrics | None]:
        """Lines, and devices as they were read within the last seconds."""
        services, now_s = self._services, self._services.clock.monotonic()
        if now_s >= self._read_again_s:
            self._read_again_s = now_s + _DEVICES_S
            self._devices = {
                f"device-{one.id}": device_metrics(one) for one in services.devices.all()
            }
        state = services.ledger.state
        lines = {f"line-{one.id}": line_metrics(one.id, state) for one in services.plant.line}
        return {**lines, **self._devices}

    def _verdict(self, event: Event, *, now: datetime, historical: bool) -> Message:
        data = read_verdict(event)
        metrics = _verdict_metrics(str(data.verdict), data.part, data.reasons, event=event.id)
        return self._node.data(
            f"line-{data.line}", metrics, at=now, measured_at=event.time, historical=historical
        )

    def _heard(self, commit: Commit) -> None:
        """Hear of a commit, on the writer's thread."""
        if self._bus is None:
            return
        for event in (*commit.events, *commit.raised):
            if event.type == VERDICT_TYPE:
                with self._queue:
                    self.dropped += len(self._verdicts) == _MOST_WAITING
                    self._verdicts.append(event)

    # ---- bdSeq

    def _will(self, connections: int) -> Will:
        """NDEATH of the connection that follows so many."""
        said = self._node.death((self._first + connections) % _COUNT, at=self._services.clock.now())
        return Will(topic=said.topic, payload=said.payload, qos=1, retain=False)

    def _bd_seq(self) -> int:
        return (self._first + self._connection - 1) % _COUNT

    def _stored(self) -> int:
        try:
            body = self._services.records.documents.get(_KIND, self._services.plant.site).body
        except NotFoundError:
            return 0
        return int(body["next"])

    def _store(self, number: int) -> None:
        body = {"next": number % _COUNT}
        self._services.records.documents.put(_KIND, self._services.plant.site, body=body)
