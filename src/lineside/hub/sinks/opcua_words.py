"""What the hub's OPC UA server says, made from the plant's state; pure.

The address space stands in ``docs/reference/opcua.md``. Rules:

1. A value's time is that of its picture or message. One older than its inspection's ``max_age_s``
   is stale, and so is a label's while the picture cannot be judged; it keeps its last value.
2. ``unsure`` and ``unknown`` are answers: the first with quality Uncertain, the second not yet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lineside.core import Inspection, Plant, encode
from lineside.links import Kind, OpcuaEvent, OpcuaNode, OpcuaValue, Quality
from lineside.streams import Event
from lineside.twin import Evidence, LineState, Seen
from lineside.vision import Decision, PictureState, Prediction

OWN_RULES = ("device", "discrepancy", "drift", "picture")
Values = dict[OpcuaNode, OpcuaValue]
_WAITING = OpcuaValue(value=None, at=None, quality=Quality.WAITING)
_OLD_SENSOR_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSaid:
    """How often a rule spoke since the server was first there, and its newest event."""

    count: int = 0
    last: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything that is told, at one moment."""

    state: LineState
    predictions: Mapping[str, Prediction]
    rules: Mapping[str, RuleSaid]
    counters: Mapping[str, int]
    now: datetime


def values_of(known: Known, *, plant: Plant) -> Values:
    """Every node's value; one that nothing was ever said of is waiting."""
    told = dict.fromkeys(_declared(plant), _WAITING)
    for inspection in plant.inspection:
        prediction = known.predictions.get(inspection.id)
        if prediction is not None:
            told.update(_inspection(prediction, inspection, now=known.now))
    told.update(_twin(known, plant=plant))
    for name, said in known.rules.items():
        told.update(_rule(name, said))
    for name, count in known.counters.items():
        told[_node(f"Counters/{name}", Kind.INTEGER)] = OpcuaValue(value=count, at=None)
    return told


def changed(values: Values, *, before: Values, now: datetime) -> Values:
    """What is to be written anew; what was known and is not said any more is stale.

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


def event_told(event: Event) -> OpcuaEvent:
    """A rule's event as subscribers get it."""
    action = str(event.data.get("action", ""))
    return OpcuaEvent(
        id=event.id, rule=event.subject, at=event.time,
        message=f"{event.subject} {action}".strip(), data=encode(event.data).decode(),
    )  # fmt: skip


def _node(path: str, kind: Kind) -> OpcuaNode:
    return OpcuaNode(path=path, kind=kind)


def _declared(plant: Plant) -> Iterator[OpcuaNode]:
    """What the plant file alone says will be there."""
    for inspection in plant.inspection:
        path = f"Inspections/{inspection.id}"
        for name in ("State", "Frame", "Package"):
            yield _node(f"{path}/{name}", Kind.TEXT)
        for label in _labels(inspection):
            yield _node(f"{path}/Labels/{label}/Decision", Kind.TEXT)
            yield _node(f"{path}/Labels/{label}/Probability", Kind.DOUBLE)
    for rule in (*(one.id for one in plant.rule), *OWN_RULES):
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
    old = now - at > timedelta(seconds=inspection.max_age_s)
    said: list[tuple[str, Kind, Any, Decision | None]] = [
        ("State", Kind.TEXT, str(prediction.state), None),
        ("Frame", Kind.TEXT, prediction.frame.id, None),
        ("Package", Kind.TEXT, prediction.package, None),
    ]
    if prediction.state is PictureState.OK:
        said += _answers(prediction)
    return {
        _node(f"{path}/{name}", kind): OpcuaValue(
            value=value, at=at, quality=_quality(decision, old=old)
        )
        for name, kind, value, decision in said
    }


def _answers(prediction: Prediction) -> Iterator[tuple[str, Kind, Any, Decision | None]]:
    for label in prediction.labels:
        yield f"Labels/{label.name}/Decision", Kind.TEXT, str(label.decision), label.decision
        yield f"Labels/{label.name}/Probability", Kind.DOUBLE, label.probability, label.decision
    if prediction.labels:
        top = max(prediction.labels, key=lambda one: one.probability)
        yield "Top", Kind.TEXT, top.label, top.decision
        yield "TopProbability", Kind.DOUBLE, top.probability, top.decision
    if prediction.task == "detect":
        yield "Boxes", Kind.INTEGER, _sure(prediction), None
    if (count := prediction.count) is not None:
        for name, value in (("Value", count.value), ("Low", count.low), ("High", count.high)):
            yield f"Count/{name}", Kind.INTEGER, value, count.decision
    if (anomaly := prediction.anomaly) is not None:
        yield "Anomaly/Score", Kind.DOUBLE, anomaly.score, anomaly.decision
        yield "Anomaly/Limit", Kind.DOUBLE, anomaly.limit, None
        yield "Anomaly/Decision", Kind.TEXT, str(anomaly.decision), anomaly.decision
    if prediction.mask is not None:
        yield "DefectShare", Kind.DOUBLE, prediction.mask.share, None


def _sure(prediction: Prediction) -> int:
    return sum(box.decision is Decision.PRESENT for box in prediction.boxes)


def _quality(decision: Decision | None, *, old: bool) -> Quality:
    if old:
        return Quality.STALE
    return Quality.UNSURE if decision is Decision.UNSURE else Quality.GOOD


# ---- the twin


def _twin(known: Known, *, plant: Plant) -> Values:
    told: Values = {}
    state, now = known.state, known.now
    if plant.twin is not None:
        limit_s = plant.find_inspection(plant.twin.inspection).max_age_s
        told.update(_seen(state, now=now, limit_s=limit_s))
    for station in state.stations.values():
        at = station.evidence.at
        path = f"Twin/Stations/{station.id}"
        told[_node(f"{path}/Active", Kind.BOOLEAN)] = _value(station.active, at=at)
        target = station.target if station.active is not None else None
        told[_node(f"{path}/Target", Kind.TEXT)] = _value(target, at=at)
    for sensor in state.sensors.values():
        told[_node(f"Twin/Sensors/{sensor.id}", Kind.DOUBLE)] = _aged(
            _value(sensor.value, at=sensor.evidence.at), now=now, limit_s=_OLD_SENSOR_S
        )
    open_orders = sum(order.open for order in state.orders)
    told[_node("Twin/OpenOrders", Kind.INTEGER)] = OpcuaValue(value=open_orders, at=None)
    differing = len(state.discrepancies)
    told[_node("Twin/Discrepancies", Kind.INTEGER)] = OpcuaValue(value=differing, at=None)
    factory = state.factory.state or None
    told[_node("Twin/Factory", Kind.TEXT)] = _value(factory, at=state.factory.evidence.at)
    return told


def _seen(state: LineState, *, now: datetime, limit_s: float) -> Values:
    told: Values = {}
    for slot in state.slots.values():
        figures: dict[str, tuple[Kind, Any]] = {
            "Seen": (Kind.TEXT, str(slot.seen)),
            "Colour": (Kind.TEXT, slot.colour),
            "Probability": (Kind.DOUBLE, slot.probability),
        }
        told.update(_of(f"Twin/Slots/{slot.id}", figures, seen=slot.seen, evidence=slot.evidence))
        reported = _value(slot.reported, at=slot.reported_evidence.at)
        told[_node(f"Twin/Slots/{slot.id}/Reported", Kind.TEXT)] = reported
    for colour in state.colours.values():
        figures = {
            "Seen": (Kind.TEXT, str(colour.seen)),
            "Present": (Kind.INTEGER, colour.present),
            "Reserved": (Kind.INTEGER, colour.reserved),
            "Free": (Kind.INTEGER, colour.free),
        }
        path = f"Twin/Colours/{colour.colour}"
        told.update(_of(path, figures, seen=colour.seen, evidence=colour.evidence))
    told[_node("Twin/Picture", Kind.TEXT)] = _value(
        state.picture.state if state.picture.evidence.at else None, at=state.picture.evidence.at
    )
    return {node: _aged(value, now=now, limit_s=limit_s) for node, value in told.items()}


def _of(
    path: str, figures: Mapping[str, tuple[Kind, Any]], *, seen: Seen, evidence: Evidence
) -> Values:
    quality = Quality.UNSURE if seen is Seen.UNSURE else Quality.GOOD
    return {
        _node(f"{path}/{name}", kind): _value(
            None if seen is Seen.UNKNOWN else value, at=evidence.at, quality=quality
        )
        for name, (kind, value) in figures.items()
    }


def _value(value: Any, *, at: datetime | None, quality: Quality = Quality.GOOD) -> OpcuaValue:  # noqa: ANN401  of any kind
    """A value, or waiting where there is none."""
    return _WAITING if value is None else OpcuaValue(value=value, at=at, quality=quality)


def _aged(value: OpcuaValue, *, now: datetime, limit_s: float) -> OpcuaValue:
    if value.at is None or now - value.at <= timedelta(seconds=limit_s):
        return value
    return replace(value, quality=Quality.STALE)


# ---- rules


def _rule(name: str, said: RuleSaid) -> Values:
    at = said.last.time if said.last else None
    told = {_node(f"Rules/{name}/Count", Kind.INTEGER): OpcuaValue(value=said.count, at=at)}
    if said.last is not None:
        data = encode(said.last.data).decode()
        told[_node(f"Rules/{name}/Last", Kind.TEXT)] = OpcuaValue(value=data, at=at)
        told[_node(f"Rules/{name}/LastId", Kind.TEXT)] = OpcuaValue(value=said.last.id, at=at)
    return told
