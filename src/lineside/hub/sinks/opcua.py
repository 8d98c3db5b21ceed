"""OPC UA server of the hub; the address space stands in ``docs/reference/opcua.md``.

1. The newest of everything is read after each commit, at most twenty times a second, and once a
   second for what grows old by time alone; only changed values are written.
2. A value's time is that of its image or message. One older than the ``max_age_s`` of its
   inspection or line is stale, and so is a label's while the image cannot be judged; it keeps its
   last value. An answer that is ``unsure``, and a verdict that is neither ``ok`` nor ``reject``,
   has the quality Uncertain; ``unknown`` is no answer yet.
3. Rule events are counted from the log, each once, also over a crash: count and place in the log
   are one document. The ``Sequence`` of a line is the place of its newest verdict in the line's own
   chain of the log, so that every hub gives the same and none goes back. Both kinds are fired as
   events too.
4. Sign-in is that of lineside's users, over an encrypted channel; the certificate is of the site's
   authority, renewed at a start.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from lineside.core import (
    Inspection,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    encode,
    replace_durably,
)
from lineside.core.plant import Line
from lineside.core.rule_check import HUB_EVENTS
from lineside.core.worker import Worker
from lineside.fleet import CertificateAuthority, renewal_due, server_certificate
from lineside.hub.access.auth import Credentials
from lineside.hub.access.tls import hosts_of
from lineside.hub.config import HubConfig
from lineside.hub.eventlog.followers import Follower, follow_from_now, skip_entry
from lineside.hub.eventlog.ledger import Commit
from lineside.hub.eventlog.stats import NAMES
from lineside.hub.services import Services
from lineside.links.opcua import (
    Kind,
    OpcuaEvent,
    OpcuaNode,
    OpcuaServer,
    OpcuaSettings,
    OpcuaValue,
    Quality,
    opcua_address,
)
from lineside.store import Logged
from lineside.streams import (
    EVENT_TYPE,
    PREDICTION_TYPE,
    VERDICT_TYPE,
    Event,
    decode_event,
    read_prediction,
    read_verdict,
    verdict_lines,
)
from lineside.streams.verdicts import verdict_inspections
from lineside.twin import LineState, Presence
from lineside.twin.state import Evidence
from lineside.vision import Decision, PictureState, Prediction
from lineside.vision.verdict import PartVerdict

Values = dict[OpcuaNode, OpcuaValue]
_WAITING = OpcuaValue(value=None, at=None, quality=Quality.WAITING)
_OLD_SENSOR_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """Number of a rule's events since the server's first start, and the newest one."""

    count: int = 0
    last: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantSnapshot:
    """Everything that is told, at one moment; ``counters`` by the paths of their nodes."""

    state: LineState
    predictions: Mapping[str, Prediction]
    rules: Mapping[str, RuleCount]
    counters: Mapping[str, int]
    now: datetime


def node_values(snapshot: PlantSnapshot, *, plant: Plant) -> Values:
    """Every node's value; one that nothing was ever said of is waiting."""
    values = dict.fromkeys(_declared(plant), _WAITING)
    for inspection in plant.inspection:
        prediction = snapshot.predictions.get(inspection.id)
        if prediction is not None:
            values.update(_inspection(prediction, inspection, now=snapshot.now))
    values.update(_twin(snapshot, plant=plant))
    for line in plant.line:
        values.update(_verdict(snapshot, line=line, plant=plant))
    for name, rule in snapshot.rules.items():
        values.update(_rule(name, rule))
    for path, count in snapshot.counters.items():
        values[_node(path, Kind.INTEGER)] = OpcuaValue(value=count, at=None)
    return values


def changes(values: Values, *, before: Values, now: datetime) -> Values:
    """Return the values to write; a node whose value is gone becomes stale.

    A value without a time of its own gets that of its change.
    """
    found: Values = {}
    for node, value in values.items():
        was = before.get(node, _WAITING)
        if value.quality is Quality.WAITING and was.value is not None:
            value = replace(was, quality=Quality.STALE)  # noqa: PLW2901  the same node's
        if value.at is None and value.quality is not Quality.WAITING:
            same = (value.value, value.quality) == (was.value, was.quality)
            value = replace(value, at=was.at if same else now)  # noqa: PLW2901
        if node not in before or value != was:
            found[node] = value
    for node, was in before.items():
        if node not in values and was.quality is not Quality.STALE:
            found[node] = replace(was, quality=Quality.STALE)
    return found


def opcua_event(logged: Logged) -> OpcuaEvent:
    """A rule's event or a verdict as subscribers get it."""
    event = decode_event(logged.entry.body, where=logged.entry.id)
    if event.type == EVENT_TYPE:
        kind, message = "LinesideEventType", f"{event.subject} {event.data.get('action', '')}"
        fields: dict[str, Any] = {"Rule": event.subject, "Data": encode(event.data).decode()}
    else:
        kind, given = "LinesideVerdictEventType", read_verdict(event)
        message = f"{given.part} {given.verdict}"
        fields = {
            "Line": given.line, "Part": given.part, "Verdict": str(given.verdict),
            "Reasons": "; ".join(given.reasons), "Sequence": logged.source_position,
        }  # fmt: skip
    return OpcuaEvent(
        type=kind, source=event.subject, at=event.time, message=message.strip(),
        fields={"LinesideId": event.id, **fields},
    )  # fmt: skip


def _node(path: str, kind: Kind) -> OpcuaNode:
    return OpcuaNode(path=path, kind=kind)


def _declared(plant: Plant) -> Iterator[OpcuaNode]:
    """Nodes that the plant file alone declares."""
    for line in verdict_lines(plant):
        for name in _VERDICT_NODES:
            yield _node(f"Lines/{line}/{name}", Kind.TEXT)
    for inspection in plant.inspection:
        path = f"Inspections/{inspection.id}"
        for name in ("State", "Frame", "Package"):
            yield _node(f"{path}/{name}", Kind.TEXT)
        for label in _labels(inspection):
            yield _node(f"{path}/Labels/{label}/Decision", Kind.TEXT)
            yield _node(f"{path}/Labels/{label}/Probability", Kind.DOUBLE)
    for rule in (*(one.id for one in plant.rule), *HUB_EVENTS):
        yield _node(f"Rules/{rule}/Last", Kind.TEXT)
        yield _node(f"Rules/{rule}/LastId", Kind.TEXT)


def _labels(inspection: Inspection) -> Iterator[str]:
    for region in inspection.region:
        if region.label:
            yield region.label
        else:
            yield from (f"{region.id}/{one}" for one in region.classes)


# ---- inspections


def _inspection(prediction: Prediction, inspection: Inspection, *, now: datetime) -> Values:
    path, at = f"Inspections/{inspection.id}", prediction.frame.captured_at
    entries: list[tuple[str, Kind, Any, Decision | None]] = [
        ("State", Kind.TEXT, str(prediction.state), None),
        ("Frame", Kind.TEXT, prediction.frame.id, None),
        ("Package", Kind.TEXT, prediction.package, None),
    ]
    if prediction.state is PictureState.OK:
        entries += _answers(prediction)
    values = {
        _node(f"{path}/{name}", kind): _value(value, at=at, unsure=decision is Decision.UNSURE)
        for name, kind, value, decision in entries
    }
    return _aged(values, now=now, limit_s=inspection.max_age_s)


def _answers(prediction: Prediction) -> Iterator[tuple[str, Kind, Any, Decision | None]]:
    for label in prediction.labels:
        yield f"Labels/{label.name}/Decision", Kind.TEXT, str(label.decision), label.decision
        yield f"Labels/{label.name}/Probability", Kind.DOUBLE, label.probability, label.decision
    if prediction.labels:
        top = max(prediction.labels, key=lambda one: one.probability)
        yield "Top", Kind.TEXT, top.label, top.decision
        yield "TopProbability", Kind.DOUBLE, top.probability, top.decision
    if prediction.task == "detect":
        sure = sum(box.decision is Decision.PRESENT for box in prediction.boxes)
        yield "Boxes", Kind.INTEGER, sure, None
    if (count := prediction.count) is not None:
        for name, value in (("Value", count.value), ("Low", count.low), ("High", count.high)):
            yield f"Count/{name}", Kind.INTEGER, value, count.decision
    if (anomaly := prediction.anomaly) is not None:
        yield "Anomaly/Score", Kind.DOUBLE, anomaly.score, anomaly.decision
        yield "Anomaly/Limit", Kind.DOUBLE, anomaly.limit, None
        yield "Anomaly/Decision", Kind.TEXT, str(anomaly.decision), anomaly.decision
    if prediction.mask is not None:
        yield "DefectShare", Kind.DOUBLE, prediction.mask.share, None


# ---- the twin


def _twin(snapshot: PlantSnapshot, *, plant: Plant) -> Values:
    values: Values = {}
    state, now = snapshot.state, snapshot.now
    if plant.twin is not None:
        inspection = plant.find_inspection(plant.twin.inspection)
        values.update(_slots(state, now=now, limit_s=inspection.max_age_s))
    for station in state.stations.values():
        at = station.evidence.at
        path = f"Twin/Stations/{station.id}"
        values[_node(f"{path}/Active", Kind.BOOLEAN)] = _value(station.active, at=at)
        target = station.target if station.active is not None else None
        values[_node(f"{path}/Target", Kind.TEXT)] = _value(target, at=at)
    sensors = {
        _node(f"Twin/Sensors/{one.id}", Kind.DOUBLE): _value(one.value, at=one.evidence.at)
        for one in state.sensors.values()
    }
    values.update(_aged(sensors, now=now, limit_s=_OLD_SENSOR_S))
    values[_node("Twin/OpenOrders", Kind.INTEGER)] = OpcuaValue(
        value=sum(order.open for order in state.orders), at=None
    )
    values[_node("Twin/Discrepancies", Kind.INTEGER)] = OpcuaValue(
        value=len(state.discrepancies), at=None
    )
    values[_node("Twin/Factory", Kind.TEXT)] = _value(
        state.factory.state or None, at=state.factory.evidence.at
    )
    return values


def _slots(state: LineState, *, now: datetime, limit_s: float) -> Values:
    values: Values = {}
    for slot in state.slots.values():
        figures: dict[str, tuple[Kind, Any]] = {
            "Seen": (Kind.TEXT, str(slot.seen)),
            "Colour": (Kind.TEXT, slot.colour),
            "Probability": (Kind.DOUBLE, slot.probability),
        }
        values.update(
            _of(f"Twin/Slots/{slot.id}", figures, presence=slot.seen, evidence=slot.evidence)
        )
        reported = _value(slot.reported, at=slot.reported_evidence.at)
        values[_node(f"Twin/Slots/{slot.id}/Reported", Kind.TEXT)] = reported
    for colour in state.colours.values():
        figures = {
            "Seen": (Kind.TEXT, str(colour.seen)),
            "Present": (Kind.INTEGER, colour.present),
            "Reserved": (Kind.INTEGER, colour.reserved),
            "Free": (Kind.INTEGER, colour.free),
        }
        path = f"Twin/Colours/{colour.colour}"
        values.update(_of(path, figures, presence=colour.seen, evidence=colour.evidence))
    values[_node("Twin/Picture", Kind.TEXT)] = _value(
        state.picture.state if state.picture.evidence.at else None, at=state.picture.evidence.at
    )
    return _aged(values, now=now, limit_s=limit_s)


def _of(
    path: str, figures: Mapping[str, tuple[Kind, Any]], *, presence: Presence, evidence: Evidence
) -> Values:
    return {
        _node(f"{path}/{name}", kind): _value(
            None if presence is Presence.UNKNOWN else value,
            at=evidence.at,
            unsure=presence is Presence.UNSURE,
        )
        for name, (kind, value) in figures.items()
    }


def _value(value: Any, *, at: datetime | None, unsure: bool = False) -> OpcuaValue:  # noqa: ANN401  of any kind
    """A value, or waiting where there is none."""
    quality = Quality.UNSURE if unsure else Quality.GOOD
    return _WAITING if value is None else OpcuaValue(value=value, at=at, quality=quality)


def _aged(values: Values, *, now: datetime, limit_s: float) -> Values:
    """The values, stale where they are older than the limit."""
    limit = timedelta(seconds=limit_s)
    return {
        node: replace(value, quality=Quality.STALE)
        if value.at and now - value.at > limit
        else value
        for node, value in values.items()
    }


# ---- verdicts

_VERDICT_NODES = ("Verdict", "Part", "Reasons", "LastId")


def _verdict(snapshot: PlantSnapshot, *, line: Line, plant: Plant) -> Values:
    """The newest verdict of a line, each of its values with the same time and quality."""
    verdict, counting = snapshot.state.verdicts.get(line.id), verdict_inspections(plant, line.id)
    if verdict is None or not counting:
        return {}
    told = (verdict.verdict, verdict.part, "; ".join(verdict.reasons), verdict.evidence.event)
    unsure = verdict.verdict not in {PartVerdict.OK, PartVerdict.REJECT}
    values = {
        _node(f"Lines/{line.id}/{name}", Kind.TEXT): _value(
            value, at=verdict.evidence.at, unsure=unsure
        )
        for name, value in zip(_VERDICT_NODES, told, strict=True)
    }
    limit_s = line.max_age_s or max(one.max_age_s for one in counting)
    return _aged(values, now=snapshot.now, limit_s=limit_s)


# ---- rules


def _rule(name: str, rule: RuleCount) -> Values:
    at, last_id = (rule.last.time, rule.last.id) if rule.last else (None, None)
    data = encode(rule.last.data).decode() if rule.last else None
    return {
        _node(f"Rules/{name}/Count", Kind.INTEGER): OpcuaValue(value=rule.count, at=at),
        _node(f"Rules/{name}/Last", Kind.TEXT): _value(data, at=at),
        _node(f"Rules/{name}/LastId", Kind.TEXT): _value(last_id, at=at),
    }


_FOLLOWER = "opcua"
_KIND = "opcua-counts"
_SOON_S = 0.05
_OFTEN_S = 1.0
_RECENT = timedelta(seconds=60)


class OpcuaFeed:
    """Brings what is new to the server; one thread, and the follower's."""

    def __init__(self, server: OpcuaServer, *, services: Services) -> None:
        self._server = server
        self._services = services
        self._lock = threading.Lock()
        self._newest: dict[str, Event] = {}
        self._written: Values = {}
        self._position = 0
        self._rules = {
            name: RuleCount() for name in (*(one.id for one in services.plant.rule), *HUB_EVENTS)
        }
        self._sequences = dict.fromkeys(verdict_lines(services.plant), 0)
        self._worker = Worker("opcua-feed", self._turn, every_s=_OFTEN_S)

    def load(self) -> None:
        """Read the newest predictions, verdicts and rule events from the log."""
        newest = partial(self._services.records.log.read, newest_first=True, limit=1)
        for inspection in self._services.plant.inspection:
            for logged in newest(type=PREDICTION_TYPE, subject=inspection.id):
                self._newest[inspection.id] = decode_event(logged.entry.body, where=inspection.id)
        for line in self._sequences:
            for logged in newest(type=VERDICT_TYPE, subject=line):
                self._sequences[line] = logged.source_position
        for name, count in self._stored_counts().items():
            page = newest(type=EVENT_TYPE, subject=name)
            last = decode_event(page[0].entry.body, where=name) if page else None
            self._rules[name] = RuleCount(count=count, last=last)
        self.step()

    def start(self) -> None:
        """Begin."""
        self._services.ledger.listen(self._heard)
        self._worker.start()

    def stop(self) -> None:
        """End."""
        self._worker.stop()

    def step(self) -> int:
        """Say what changed; how many nodes."""
        with self._lock:
            newest, rules = dict(self._newest), dict(self._rules)
            counters = {f"Lines/{line}/Sequence": one for line, one in self._sequences.items()}
        counts, now = self._services.stats.plain(), self._services.clock.now()
        snapshot = PlantSnapshot(
            state=self._services.ledger.state,
            predictions={name: read_prediction(event) for name, event in newest.items()},
            rules=rules,
            counters=counters | {f"Counters/{name}": int(counts[name]) for name in NAMES},
            now=now,
        )
        values = changes(
            node_values(snapshot, plant=self._services.plant), before=self._written, now=now
        )
        self._written |= values
        self._server.set(values)
        return len(values)

    def resume(self, position: int) -> int:
        """Go on behind the kept counts, whichever hub of the site kept them."""
        return self._position or position

    def take(self, entries: Sequence[Logged]) -> None:
        """Rule events, by a follower of the log."""
        fresh = [one for one in entries if one.position > self._position]
        rules = dict(self._rules)  # which only this thread replaces
        for one in fresh:
            event = decode_event(one.entry.body, where=one.entry.id)
            count = rules.get(event.subject, RuleCount()).count + 1
            rules[event.subject] = RuleCount(count=count, last=event)
        position = max((one.position for one in fresh), default=self._position)
        body = {"position": position, "counts": {name: one.count for name, one in rules.items()}}
        self._services.records.documents.put(_KIND, _FOLLOWER, body=body)
        self._position = position
        with self._lock:
            self._rules = rules
        self._fire(fresh)

    def take_verdicts(self, entries: Sequence[Logged]) -> None:
        """Verdicts, by a follower of the log."""
        with self._lock:
            for one in entries:
                newest = self._sequences.get(one.entry.subject, 0)
                self._sequences[one.entry.subject] = max(newest, one.source_position)
        self._fire(entries)

    def _fire(self, entries: Sequence[Logged]) -> None:
        recent = self._services.clock.now() - _RECENT
        self._server.tell([opcua_event(one) for one in entries if one.arrived_at >= recent])
        self._worker.wake()

    def _stored_counts(self) -> Mapping[str, int]:
        try:
            body = self._services.records.documents.get(_KIND, _FOLLOWER).body
        except NotFoundError:
            return {}
        self._position = int(body["position"])
        return {name: int(count) for name, count in body["counts"].items()}

    def _heard(self, commit: Commit) -> None:
        """After each commit, on the writer's thread."""
        declared = {one.id for one in self._services.plant.inspection}
        with self._lock:
            for event in commit.events:
                if event.type == PREDICTION_TYPE and event.subject in declared:
                    held = self._newest.get(event.subject)
                    if held is None or held.time <= event.time:
                        self._newest[event.subject] = event
        self._worker.wake()

    def _turn(self) -> None:
        self.step()
        self._worker.stopping.wait(_SOON_S)  # what comes within it goes with the next turn


def start_opcua(services: Services, *, stack: ExitStack) -> None:
    """The server, where the settings ask for one; ended by the stack in reverse."""
    config = services.config
    if not config.opcua:
        return
    server = OpcuaServer(
        opcua_settings(services),
        sign_in=lambda name, word: is_signed_in_user(services, name=name, password=word),
    )
    feed = OpcuaFeed(server, services=services)
    feed.load()
    server.start()
    stack.callback(server.close)
    feed.start()
    stack.callback(feed.stop)
    log: dict[str, Any] = {"records": services.records, "ledger": services.ledger}
    for name, kind, handle, resume in (
        (_FOLLOWER, EVENT_TYPE, feed.take, feed.resume),
        ("opcua-verdicts", VERDICT_TYPE, feed.take_verdicts, None),
    ):
        follow_from_now(name, **log)
        follower = Follower(name, type=kind, handle=handle, skip=skip_entry, resume=resume, **log)
        services.followers.start(follower, stack=stack, each=True)
    services.stats.watch("opcua_clients", server.clients)
    services.stats.watch("opcua_dropped", lambda: server.dropped)


def opcua_settings(services: Services) -> OpcuaSettings:
    """Where it listens, and with which certificate.

    Raises:
        InvalidError: nobody could read from it.
    """
    config, site = services.config, services.plant.site
    settings = OpcuaSettings(
        url=config.opcua, application=f"urn:lineside:{site}:hub", anonymous=config.opcua_anonymous
    )
    if (config.ca_folder / "authority.key").exists():
        certificate, key = _files(services, application=settings.application)
        return replace(settings, certificate=certificate, key=key)
    check_opcua(config)
    return settings


def check_opcua(config: HubConfig) -> None:
    """Refuse a server that nobody could read from; before a start makes anything.

    Raises:
        InvalidError: there is neither an authority for its sign-in, nor may anybody read.
    """
    signed = (config.ca_folder / "authority.key").exists()
    if config.opcua and not (signed or config.opcua_anonymous):
        raise InvalidError(
            "an OPC UA server that nobody could sign in to", where="opcua",
            fix="Run lineside hub init, or set opcua_anonymous = true.",
        )  # fmt: skip


def _files(services: Services, *, application: str) -> tuple[Path, Path]:
    """Certificate and key, made or renewed where that is due; the key last."""
    folder = services.config.folder / "opcua"
    certificate, key = folder / "server.crt", folder / "server.key"
    if not (key.exists() and _holds(certificate, services=services)):
        authority = CertificateAuthority.open(services.config.ca_folder, clock=services.clock)
        pair = authority.issue_application(application, hosts=_hosts(services.config))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key.unlink(missing_ok=True)
        replace_durably(certificate, pair.certificate, mode=0o600)
        replace_durably(key, pair.key, mode=0o600)
    return certificate, key


def _holds(certificate: Path, *, services: Services) -> bool:
    try:
        found = server_certificate(certificate.read_bytes(), where=str(certificate))
    except (OSError, LinesideError):
        return False
    return not renewal_due(found, now=services.clock.now())


def _hosts(config: HubConfig) -> tuple[str, ...]:
    host, _ = opcua_address(config.opcua)
    own = () if host in {"0.0.0.0", "::"} else (host,)  # noqa: S104  compared, not listened at
    return tuple(dict.fromkeys((*own, *hosts_of(config))))


def is_signed_in_user(services: Services, *, name: str, password: str) -> bool:
    """Return True if name and password are a user's; wrong tries count as those of the pages."""
    try:
        token = services.auth.sign_in_by_password(
            Credentials(name=name, password=password, address="opcua")
        )
    except LinesideError:
        return False
    services.auth.sign_out(token)
    return True
