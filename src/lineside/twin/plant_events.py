"""The plant's own messages: stock report, stations, sensors, alerts.

What a message does not say stays as it was, with its age; nothing is filled in.
"""

from dataclasses import replace

from lineside.core import Plant
from lineside.core.factory import (
    AlertMessage,
    BrightnessMessage,
    ClimateMessage,
    Colour,
    StationMessage,
    StockMessage,
    read_message,
)
from lineside.streams import Event
from lineside.twin.state import (
    Alert,
    Applied,
    Evidence,
    LineState,
    OrderStep,
    Outcome,
    SensorState,
    SlotState,
    StationState,
    ignored,
    is_newer,
    late,
    watched,
    with_slots,
)

_MOST_ALERTS = 20
_MOST_STEPS = 64
_MOST_TEXT = 200


def fold_stock(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """``f/i/stock``: what the factory believes of each place."""
    twin = plant.twin
    message = read_message(StockMessage, event.data, where=event.subject)
    told = {item.location: item.workpiece for item in message.stock_items}
    if twin is None or not told.keys() & state.slots.keys():
        return ignored(state)
    changed: dict[str, SlotState] = {}
    standing = Evidence()
    for declared in twin.slot:
        slot = state.slots.get(declared.id)
        if slot is None or slot.id not in told:
            continue
        if not is_newer(slot.reported_evidence, event):
            standing = slot.reported_evidence
            continue
        piece = told[slot.id]
        colour = piece.type.lower() if piece and piece.type is not Colour.NONE else ""
        evidence = Evidence(at=event.time, event=event.id)
        reported = replace(slot, reported=colour, reported_evidence=evidence)
        changed[slot.id] = watched(reported, declared, at=event.time)
    if not changed:
        return late(state, standing)
    return Applied(state=with_slots(state, changed, twin=twin))


def fold_station(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """``f/i/state/<code>``: one station, and the order that it begins to work on."""
    del plant
    message = read_message(StationMessage, event.data, where=event.subject)
    station = _find_station(state, event, named=message.station)
    if station is None:
        return ignored(state)
    if not is_newer(station.evidence, event):
        return late(state, station.evidence)
    begins = bool(message.active) and not station.active
    told = replace(
        station,
        active=bool(message.active),
        description=message.description[:_MOST_TEXT],
        target=message.target[:_MOST_TEXT],
        evidence=Evidence(at=event.time, event=event.id),
    )
    after = replace(state, stations={**state.stations, station.id: told})
    return Applied(state=_with_station_step(after, event, station=told) if begins else after)


def _find_station(state: LineState, event: Event, *, named: str) -> StationState | None:
    """By the last level of the topic; by the name in the message where there is no topic."""
    topic = event.data.get("topic") or event.subject
    code = topic.rpartition("/")[2] if isinstance(topic, str) and topic else named
    known = (station for station in state.stations.values() if station.code == code)
    return next(known, None)


def _with_station_step(state: LineState, event: Event, *, station: StationState) -> LineState:
    running = state.order(state.factory.order)
    if running is None or not running.begun:
        return state
    visited = [step.name for step in running.steps if step.name in state.stations]
    if visited[-1:] == [station.id] or len(running.steps) >= _MOST_STEPS:
        return state
    step = OrderStep(
        name=station.id, at=event.time, event=event.id, frame=state.picture.evidence.frame
    )
    moved = replace(running, steps=(*running.steps, step))
    orders = tuple(moved if order.id == moved.id else order for order in state.orders)
    return replace(state, orders=orders)


def fold_sensor(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """``i/bme680`` and ``i/ldr``: the values that are there, each with its time."""
    del plant
    told = _values(event)
    newer = {key: value for key, value in told.items() if is_newer(_held(state, key), event)}
    if not told:
        return ignored(state)
    if not newer:
        return late(state, _held(state, next(iter(told))))
    evidence = Evidence(at=event.time, event=event.id)
    changed: dict[str, SensorState] = {
        key: replace(state.sensors[key], value=value, shown=shown, evidence=evidence)
        for key, (value, shown) in newer.items()
    }
    return Applied(state=replace(state, sensors={**state.sensors, **changed}))


def _held(state: LineState, sensor: str) -> Evidence:
    return state.sensors[sensor].evidence


def _values(event: Event) -> dict[str, tuple[float, str]]:
    climate = read_message(ClimateMessage, event.data, where=event.subject)
    light = read_message(BrightnessMessage, event.data, where=event.subject)
    numbers = {
        "temperature": climate.t,
        "pressure": climate.p,
        "humidity": climate.h,
        "air_quality": climate.iaq,
        "brightness": light.brightness,
    }
    told = {key: (value, _shown(value)) for key, value in numbers.items() if value is not None}
    if isinstance(light.br, str) and "brightness" in told:
        told["brightness"] = (told["brightness"][0], light.br.strip()[:_MOST_TEXT])
    return told


def _shown(value: float) -> str:
    """The number as its sender would write it: 1020, not 1020.0."""
    return f"{value:.10g}"


def fold_alert(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """``i/alert``: the newest of each sensor and code; the picture in ``data`` is not kept."""
    del plant
    message = read_message(AlertMessage, event.data, where=event.subject)
    key = (message.id[:_MOST_TEXT], message.code)
    held = next((alert for alert in state.alerts if (alert.id, alert.code) == key), None)
    if held is not None and not is_newer(held.evidence, event):
        return late(state, held.evidence)
    evidence = Evidence(at=event.time, event=event.id)
    told = Alert(id=key[0], code=message.code, text=_alert_text(message), evidence=evidence)
    others = [alert for alert in state.alerts if alert is not held]
    newest = sorted([told, *others], key=_alert_time, reverse=True)[:_MOST_ALERTS]
    if told not in newest:
        return Applied(state=state, outcome=Outcome.LATE, reason="newer alerts fill the list")
    return Applied(state=replace(state, alerts=tuple(newest)))


def _alert_time(alert: Alert) -> float:
    return alert.evidence.at.timestamp() if alert.evidence.at else 0.0


def _alert_text(message: AlertMessage) -> str:
    """Meanings of the factory's codes (interface page of the training factory)."""
    if message.code == 100:
        return "Movement before the camera"
    measured = f"{message.data:g}" if isinstance(message.data, float) else message.data[:20]
    if message.code == 200:
        return f"Frost: {measured} °C, limit 4 °C"
    if message.code == 300:
        return f"Humidity {measured} %, limit 80 %"
    return f"Alert {message.code} of {message.id[:_MOST_TEXT]}"
