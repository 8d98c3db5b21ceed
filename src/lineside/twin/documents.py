"""The reference's documents: what its other readers find in their collections.

Rules:

1. Every document carries ``_partition``; ``ts`` is a date, the capture time, never now.
2. ``is_present`` knows true and false only: unsure and unknown are false, with the true word in
   ``state`` beside it, and probability, frame and package as far as there are any.
3. There is no stock document before the first picture was judged; then there is one.
4. ``_id`` is 24 hex digits made of the thing's own id, so writing twice keeps one. An order that
   another twin submitted keeps the ``_id`` of its submitter's document, which gets status, reason
   and steps; a refused one too.


The reference's sensor panel has five lines, in this order and wording, each with its age.

JSON Patch (RFC 6902) from one state to the next, for browsers that hold the one before.

A small difference of records and plain documents: records by field, tables by key, lists by their
first item. States share what stayed the same, so most of a state is passed over by identity and
only what is sent is turned into JSON. It makes correct patches, not shortest ones.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from lineside.core import Plant, rfc3339, to_plain
from lineside.core.factory import CAMERA_COLLECTION, ORDER_COLLECTION, PARTITION, STOCK_COLLECTION
from lineside.streams import Event
from lineside.twin.orders import read_order
from lineside.twin.state import ColourState, LineState, Order, OrderStatus, Presence, SensorState

Document = dict[str, Any]
REFUSED = "REFUSED"
"""``orderStatus`` of an order that was refused; its sentence stands in ``reason``."""


def documents(state: LineState, *, plant: Plant) -> dict[str, list[Document]]:
    """The documents that follow from the state, by collection."""
    stock = stock_document(state, plant=plant)
    return {
        STOCK_COLLECTION: [stock] if stock else [],
        ORDER_COLLECTION: [order_document(order) for order in state.orders],
    }


def stock_document(state: LineState, *, plant: Plant) -> Document | None:
    """The one document of the stock; None before a picture was judged."""
    judged = [slot.evidence.at for slot in state.slots.values() if slot.evidence.at]
    if not judged:
        return None
    colours = state.colours
    return {
        "_id": object_id("stock", plant.site),
        "_partition": PARTITION,
        "ts": max(judged),
        "is_present": {name: each.seen is Presence.PRESENT for name, each in colours.items()},
        "state": {name: each.seen.value for name, each in colours.items()},
        "probability": {name: each.probability for name, each in colours.items()},
        "count": {name: each.present for name, each in colours.items()},
        "evidence": {name: _evidence(each) for name, each in colours.items()},
        "picture": {
            "state": state.picture.state,
            "reason": state.picture.reason,
            "ts": state.picture.evidence.at,
            "frame": state.picture.evidence.frame,
            "package": state.picture.evidence.package,
        },
    }


def _evidence(colour: ColourState) -> Document:
    told = colour.evidence
    return {"ts": told.at, "event": told.event, "frame": told.frame, "package": told.package}


def order_document(order: Order) -> Document:
    """An order as the reference's twin writes it; its constant fields are constants here too."""
    return {
        "_partition": PARTITION,
        "color": order.colour,
        "firstName": "H",
        "lastName": "A",
        "ship_from": "North York",
        "ship_to": "Barcelona",
        "userId": "DT",
        "timeStamp": order.placed_at,
        **order_progress(order),
    }


def order_progress(order: Order) -> Document:
    """Return an order's progress: the fields that a submitter's own document gets."""
    steps = [
        {"name": step.name, "ts": step.at, "event": step.event, "frame": step.frame}
        for step in order.steps
    ]
    return {
        "_id": order.document or object_id(order.id),
        "orderStatus": order.status.value,
        "order": order.id,
        "placedBy": order.placed_by,
        "slot": order.slot,
        "reason": order.reason,
        "steps": steps,
    }


def submitted_progress(event: Event, *, document: str) -> Document:
    """The same from an order event alone: of a refused order, or one that the state let go.

    Args:
        event: of type ``lineside.order.v1``.
        document: ``_id`` of the submitter's document.
    """
    data = read_order(event)
    match data.action:
        case "refused":
            step = {"name": "refused", "ts": event.time, "event": event.id, "frame": data.frame}
            found = {
                "orderStatus": REFUSED, "placedBy": data.by, "reason": data.reason, "steps": [step],
            }  # fmt: skip
        case "advanced":
            found = {"orderStatus": data.status}
        case "released":
            found = {"orderStatus": OrderStatus.RELEASED.value, "reason": data.reason}
        case "placed" | "sending" | "sent":
            found = {}
        case _:
            assert_never(data.action)
    return {"_id": document, "order": data.order, **found}


def reference_document(event: Event, *, collection: str) -> tuple[str, Document]:
    """A message of the plant as its collection holds it: as sent, with ``ts`` as a date.

    Args:
        event: of type ``lineside.plant.<kind>.v1``; its data carries the topic.
        collection: that of the message's route.
    """
    own = {"_id": object_id(event.id), "_partition": PARTITION, "ts": event.time}
    return collection, {**event.data, **own}


def camera_document(
    event: Event, encoded: bytes, *, picture: Literal["text", "binary", "digest"] = "text"
) -> tuple[str, Document]:
    """A picture's document: base64 text as the reference has it, bytes, or its digest alone.

    Args:
        event: the frame's event, of type ``lineside.plant.frame.v1``.
        encoded: JPEG or PNG bytes as they came.
        picture: what ``data`` holds.
    """
    collection, document = reference_document(event, collection=CAMERA_COLLECTION)
    match picture:
        case "text":
            kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
            text = base64.b64encode(encoded).decode()
            return collection, {**document, "data": f"data:image/{kind};base64,{text}"}
        case "binary":
            return collection, {**document, "data": encoded}
        case "digest":
            return collection, document


def object_id(*parts: str) -> str:
    """24 hex digits, the form of a MongoDB object id, from the thing's own names."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


PANEL_TITLE = "Real-Time BCN Sensors"
# The factory sends its sensors about once a minute; one and a half periods is silence.
SILENT_AFTER_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelLine:
    """One line of the panel.

    Attributes:
        text: label and value as the reference writes them; "no data" where none ever came.
        note: "" while data flows, else ``no data since <time>`` or ``no data since the start``.
        age_s: of the value; None where none ever came.
    """

    sensor: str
    text: str
    note: str
    age_s: float | None


def sensor_panel(
    state: LineState, *, now: datetime, silent_after_s: float = SILENT_AFTER_S
) -> tuple[PanelLine, ...]:
    """The five lines at ``now``."""
    return tuple(
        _line(sensor, now=now, silent_after_s=silent_after_s) for sensor in state.sensors.values()
    )


def _line(sensor: SensorState, *, now: datetime, silent_after_s: float) -> PanelLine:
    label, at = f"{sensor.name} [{sensor.unit}]", sensor.evidence.at
    if at is None:
        return PanelLine(
            sensor=sensor.id, text=f"{label}: no data", note="no data since the start", age_s=None
        )
    silent = now - at > timedelta(seconds=silent_after_s)
    return PanelLine(
        sensor=sensor.id,
        text=f"{label}: {sensor.shown}",
        note=f"no data since {rfc3339(at)}" if silent else "",
        age_s=(now - at).total_seconds(),
    )


Operation = dict[str, Any]

_MOST_NEW = 4
_PLAIN = (str, int, float, bool, type(None))


def patch(before: LineState, after: LineState) -> list[Operation]:
    """Operations that turn ``to_plain(before)`` into ``to_plain(after)``."""
    return list(difference(before, after))


def difference(before: object, after: object, *, at: str = "") -> Iterator[Operation]:
    """Operations from one document to another, below the JSON Pointer ``at``."""
    if before is after:
        return
    if is_dataclass(before) and type(before) is type(after):
        for field in fields(before):
            was, now = getattr(before, field.name), getattr(after, field.name)
            yield from difference(was, now, at=f"{at}/{field.name}")
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _of_tables(before, after, at=at)
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        yield from _of_lists(before, after, at=at)
    elif not _same(before, after):
        yield {"op": "replace", "path": at, "value": _plain_value(after)}


def _same(before: object, after: object) -> bool:
    """Equal as JSON: true is not 1, and 1 is 1.0."""
    return before == after and isinstance(before, bool) is isinstance(after, bool)


def _of_tables(
    before: Mapping[str, object], after: Mapping[str, object], *, at: str
) -> Iterator[Operation]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": f"{at}/{_escaped(key)}"}
    for key, value in after.items():
        if key in before:
            yield from difference(before[key], value, at=f"{at}/{_escaped(key)}")
        else:
            yield {"op": "add", "path": f"{at}/{_escaped(key)}", "value": _plain_value(value)}


def _of_lists(before: Sequence[object], after: Sequence[object], *, at: str) -> Iterator[Operation]:
    """Drop from the end what was pushed out, put new ones in, then compare place by place."""
    head, kept = _shift(before, after)
    for place in range(len(before) - 1, kept - 1, -1):
        yield {"op": "remove", "path": f"{at}/{place}"}
    for place in range(head):
        yield {"op": "add", "path": f"{at}/{place}", "value": _plain_value(after[place])}
    for place in range(head, head + kept):
        yield from difference(before[place - head], after[place], at=f"{at}/{place}")
    for place in range(head + kept, len(after)):
        yield {"op": "add", "path": f"{at}/{place}", "value": _plain_value(after[place])}


def _shift(before: Sequence[object], after: Sequence[object]) -> tuple[int, int]:
    """Return how many new items stand before the old, and how many old ones stay."""
    for head in range(min(_MOST_NEW, len(after)) if before else 0):
        if _by_id(after[head]) == _by_id(before[0]):
            return head, min(len(before), len(after) - head)
    return 0, min(len(before), len(after))


def _by_id(value: object) -> object:
    """Return the identity of an item in a list."""
    if isinstance(value, dict):
        return value.get("id", value.get("slot"))
    if is_dataclass(value):
        return getattr(value, "id", None) or getattr(value, "slot", None)
    return value


def _plain_value(value: object) -> object:
    """The value as JSON; the plain ones, nearly all, without a way round through the codec."""
    return value if type(value) in _PLAIN else to_plain(value)


def _escaped(key: str) -> str:
    """A key as a step of a JSON Pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
