"""Events, devices and search results in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from lineside.core import Json, decode
from lineside.hub.eventlog.followers import FollowerState, FollowerView
from lineside.hub.pages.format import counted, number, probability, span
from lineside.hub.pages.views.answers import Mark, finding_text
from lineside.hub.pages.views.rules import rule_words
from lineside.hub.views import DeviceView, EventView
from lineside.streams import Event, read_prediction
from lineside.vision import Decision, PictureState, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event in the list; ``what`` says in words what happened."""

    id: str
    position: int
    time: datetime
    type: str
    type_href: str
    subject: str
    source: str
    what: str
    frame: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """The filters of the log page, as its address carries them. ``before`` is a position."""

    type: str = ""
    source: str = ""
    subject: str = ""
    before: int = 0

    def href(self, **change: str | int) -> str:
        """The page with some filters changed."""
        fields = {
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
            "before": self.before,
        }
        kept = {key: value for key, value in {**fields, **change}.items() if value}
        return f"/events?{urlencode(kept)}" if kept else "/events"

    @property
    def filtered(self) -> bool:
        """Whether anything narrows the log."""
        return bool(self.type or self.source or self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePackage:
    """What a device runs for one inspection against what is wished."""

    inspection: str
    runs: str
    wished: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device."""

    id: str
    mark: Mark
    at: datetime | None
    facts: tuple[tuple[str, str], ...]
    packages: tuple[DevicePackage, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something the search found."""

    kind: str
    name: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerRow:
    """A follower of the log; ``retryable``: its quarantined records can be tried again."""

    name: str
    mark: Mark
    since: datetime | None
    reason: str
    position: int
    lag: str
    quarantined: int
    retryable: bool


_FOLLOWER_MARKS = {
    FollowerState.RUNNING: Mark(shape="ring", word="running"),
    FollowerState.WAITING: Mark(shape="triangle", word="waiting", tone="warn"),
    FollowerState.STANDBY: Mark(shape="dot", word="on another hub"),
    FollowerState.STOPPED: Mark(shape="bar", word="stopped", tone="bad"),
}


def follower_rows(followers: Sequence[FollowerView]) -> tuple[FollowerRow, ...]:
    """Followers, with their lag in words."""
    return tuple(
        FollowerRow(
            name=one.name, mark=_FOLLOWER_MARKS[one.state], since=one.since, reason=one.reason,
            position=one.position, lag=_lag(one), quarantined=one.quarantined,
            retryable=one.retryable,
        )
        for one in followers
    )  # fmt: skip


def _lag(one: FollowerView) -> str:
    if not one.lag:
        return "none"
    return f"{counted(one.lag, 'record')}, {span(one.lag_s)}"


def event_rows(events: Sequence[EventView], *, query: EventQuery) -> tuple[EventRow, ...]:
    """Events in words."""
    return tuple(
        EventRow(
            id=event.id,
            position=event.position,
            time=event.time,
            type=short_type(event.type),
            type_href=query.href(type=event.type, before=0),
            subject=event.subject,
            source=event.source,
            what=what_happened(event),
            frame=frame_of(event),
        )
        for event in events
    )


def short_type(kind: str) -> str:
    """``lineside.plant.stock.v1`` reads ``plant.stock``."""
    return kind.removeprefix("lineside.").rpartition(".v")[0] or kind


def frame_of(event: EventView) -> str:
    """The frame an event names; "" for none."""
    data = event.event.get("data", {})
    frame = data.get("frame", "")
    if isinstance(frame, Mapping):
        return str(frame.get("id", ""))
    return frame if isinstance(frame, str) and frame.startswith("frm_") else ""


def package_of(event: EventView) -> str:
    """The package an event names; "" for none."""
    data = event.event.get("data", {})
    named = data.get("package") or data.get("digest") or ""
    return named if isinstance(named, str) and event.type != "lineside.plant.frame.v1" else ""


def what_happened(event: EventView) -> str:
    """One line for an event of any type."""
    data = event.event.get("data", {})
    kind = short_type(event.type)
    if kind == "prediction":
        return prediction_words(read_prediction(decode(Event, event.event, where=event.id)))
    if kind == "anchor":
        return "heads of all chains written down"
    if kind == "plant.frame":
        return f"picture of {data.get('camera', 'a camera')}"
    if kind.startswith("plant."):
        return _message(data)
    if "rule" in data and "values" in data:
        return rule_words(data)
    words = [data.get("action"), data.get("colour"), data.get("sentence"), data.get("reason")]
    return ", ".join(str(word) for word in words if word) or _message(data)


def prediction_words(prediction: Prediction) -> str:
    """An answer of any task in a line."""
    if prediction.state is not PictureState.OK:
        return f"{prediction.state}: {prediction.reason or 'not judged'}"
    if found := finding_text(prediction):
        return found
    held = [label for label in prediction.labels if label.decision is Decision.PRESENT]
    unsure = sum(label.decision is Decision.UNSURE for label in prediction.labels)
    named = [f"{label.name} {probability(label.probability)}" for label in held[:3]]
    more = [f"{len(held) - 3} more"] if len(held) > 3 else []
    doubt = [f"{unsure} unsure"] if unsure else []
    return ", ".join([*named, *more, *doubt]) or "nothing present"


_LONGEST = 90
_NOT_SHOWN = ("ts", "topic", "data", "schema", "_partition")


def _message(data: Mapping[str, Any]) -> str:
    """A message's plain values in a line; nested ones are counted."""
    parts = []
    for key, value in data.items():
        if key in _NOT_SHOWN or value in ("", None):
            continue
        if isinstance(value, Mapping | list):
            parts.append(f"{key}: {len(value)}")
        else:
            parts.append(f"{key} {value}")
    text = ", ".join(parts)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_LONGEST_VALUE = 2000


def shortened(value: Json) -> Json:
    """The same with long texts (pictures as base64) cut and their length said."""
    if isinstance(value, dict):
        return {key: shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner) for inner in value]
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        return f"{value[:60]}… ({number(len(value))} characters)"
    return value


def comes_near(found: Found, wanted: str) -> bool:
    """Whether a name holds what was typed; digests by their first digits."""
    name, asked = found.name.lower(), wanted.lower().removeprefix("sha256:")
    if found.kind == "package":
        return len(asked) >= 4 and name.removeprefix("sha256:").startswith(asked)
    return asked in name


def device_row(device: DeviceView) -> DeviceRow:
    """A device with what it runs against what is wished."""
    status = device.status
    online = device.state == "online"
    runs = {str(one["inspection"]): str(one["digest"]) for one in device.packages}
    wished = {str(one["inspection"]): str(one["digest"]) for one in device.desired}
    return DeviceRow(
        id=device.id,
        mark=Mark(shape="ring", word="online")
        if online
        else Mark(shape="bar", word=device.state or "never reported", tone="warn"),
        at=device.at,
        facts=(
            ("Version", device.version or "not told"),
            ("Frames judged", number(int(status.get("predictions", 0)))),
            ("Passed over", _refused(status.get("refused", {}))),
            ("Waiting to be sent", counted(device.spool_depth, "event")),
            ("Stored here up to", number(device.acked)),
        ),
        packages=tuple(
            DevicePackage(
                inspection=name,
                runs=runs.get(name, ""),
                wished=wished.get(name, ""),
                mark=_swap(runs.get(name, ""), wished.get(name, "")),
            )
            for name in sorted(runs.keys() | wished.keys())
        ),
        faults=tuple(str(fault) for fault in status.get("faults", ())),
    )


def _refused(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{number(n)} {reason}" for reason, n in sorted(refused.items())) or "none"


def _swap(runs: str, wished: str) -> Mark:
    if runs == wished:
        return Mark(shape="ring", word="up to date")
    if not wished:
        return Mark(shape="square", word="unexpected version")
    return Mark(shape="triangle", word="loading" if not runs else "swapping", tone="warn")
