"""What a rule gives out as an event: the same output is the same event, whoever computes it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lineside.core import Rule, Scalar, encode, stable_id
from lineside.streams.contract import Output
from lineside.streams.event import EVENT_TYPE, Event

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRAMES = ("frame", "best_frame", "last_frame", "first_frame")


def moment(at_us: int) -> datetime:
    """Whole microseconds since the epoch as an aware time."""
    return _EPOCH + timedelta(microseconds=at_us)


def rule_event(rule: Rule, output: Output, *, digest: str, source: str) -> Event:
    """``lineside.event.v1`` of a rule.

    Args:
        rule: whose event it is.
        output: what its step gave out.
        digest: ``rule_digest`` of the declaration; part of the id, so that a changed rule says its
            own.
        source: who says it, ``/<site>/hub``.
    """
    values = dict(output.values)
    frame = next((values[name] for name in _FRAMES if isinstance(values.get(name), str)), "")
    values.pop("frame", None)
    data: dict[str, Any] = {
        "rule": rule.id, "action": output.action, "name": output.name, "key": dict(output.key),
        "values": values, "from": _written(output.start_us), "to": _written(output.end_us),
        "seconds": (output.end_us - output.start_us) / 1e6, "causes": list(output.causes),
    }  # fmt: skip
    if output.revision:
        data["revision"] = output.revision
    if frame:
        data["frame"] = frame
    return Event(
        id=_id(rule, output, digest=digest), source=source, type=EVENT_TYPE, subject=rule.id,
        time=moment(output.end_us), data=data,
    )  # fmt: skip


def _id(rule: Rule, output: Output, *, digest: str) -> str:
    key: Mapping[str, Scalar] = output.key
    of = encode(dict(key)).decode()
    return stable_id("evt", rule.id, digest, of, output.name, str(output.revision))


def _written(at_us: int) -> str:
    return moment(at_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
