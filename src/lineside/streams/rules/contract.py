"""Records, outputs, steps and events of rules: the parts of the engine and what passes between.

1. Times are whole microseconds since the epoch, UTC. ``at_us`` is the time the rule goes by (that
   of capture, or of arrival), ``arrived_us`` when the log took the record.
2. A step is handed the records of **all** keys that passed ``where``, in order of time (then of
   id): the engine holds them back until no earlier one can come. So a step never sees disorder, and
   neither chunking nor the interleaving of cameras can be seen in what it gives out. Where
   ``emit = "changes"``, records are handed on as they come, and steps must cope.
3. After records up to a time were handed over, ``advance`` says that nothing earlier will come.
4. A step draws no random numbers, reads no clock and does no I/O. ``dump`` and ``load`` are the
   whole of its memory, as plain JSON; a step loaded from a dump goes on as if nothing had been.
   Structs may stand in a dump for the objects that they are as JSON: it is written before the step
   is fed again.
5. A step's memory is bounded by the rule's ``most_keys``.

The same output is the same event, whoever computes it (``rule_event``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NotRequired, Protocol, TypedDict

import msgspec

from lineside.core import Rule, encode, stable_id
from lineside.core.plant_rules import Scalar
from lineside.core.rule_check import RuleAction
from lineside.core.webhooks import EVENT_TYPE
from lineside.streams.event import Event

UNKNOWN = "unknown"


# A struct, because some hundred thousand are made a second: a frozen dataclass takes six times as
# long to make.
class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing seen or said, flat.

    Attributes:
        id: of the event it was made of, with ``#n`` behind it where one event gives several.
        source: whose time it keeps: a camera, a topic, a rule.
        fields: by name; see docs/reference/rules.md for those of each kind of record.
    """

    id: str
    source: str
    at_us: int
    arrived_us: int
    fields: Mapping[str, Scalar] = {}


def frame_of(record: Record) -> str:
    """The picture that a record is of; "" where it is of none."""
    frame = record.fields.get("frame")
    return frame if isinstance(frame, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The output of a step; it becomes an event of the rule.

    Attributes:
        name: what it is of, unique with the key within the rule, as the window's start; the
            event's id is made of rule, key, name and revision.
        key: field → value.
        action: ``final``, ``change``, ``late``, ``begun`` or ``ended``.
        start_us, end_us: the stretch of time it speaks of; the event's time is ``end_us``.
        values: the figures.
        causes: ids of records it rests on, first and last among them, at most ``MOST_CAUSES``.
        revision: counts the changes of one name from 1; 0 for what is final.
    """

    name: str
    key: Mapping[str, Scalar]
    action: RuleAction
    start_us: int
    end_us: int
    values: Mapping[str, Scalar]
    causes: tuple[str, ...] = ()
    revision: int = 0


def tested_fields(output: Output) -> dict[str, Scalar]:
    """Return the fields that ``having`` sees."""
    return {
        "action": output.action, "name": output.name, "revision": output.revision,
        "seconds": (output.end_us - output.start_us) / 1e6, **output.values, **output.key,
    }  # fmt: skip


MOST_CAUSES = 16

_Span = TypedDict("_Span", {"from": str, "to": str})


class RuleData(_Span):
    """Event of a rule of the plant file."""

    rule: str
    action: RuleAction
    name: str
    key: dict[str, Scalar]
    values: dict[str, Scalar]
    seconds: float
    causes: Annotated[list[str], msgspec.Meta(max_length=MOST_CAUSES)]
    revision: NotRequired[Annotated[int, msgspec.Meta(ge=1)]]
    frame: NotRequired[str]


class Step(Protocol):
    """The one thing a rule does; made anew for each rule, owned by one thread."""

    def feed(self, record: Record, *, key: tuple[Scalar, ...]) -> Iterable[Output]:
        """Take one record."""
        ...

    def advance(self, now_us: int) -> Iterable[Output]:
        """Nothing earlier than ``now_us`` will come."""
        ...

    def dump(self) -> dict[str, Any]:
        """Its memory, as plain JSON."""
        ...

    def load(self, memory: Mapping[str, Any]) -> None:
        """Go on from a dump; ``InvalidError`` where it is none of this step."""
        ...


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
    shown = (values.get(name) for name in _FRAMES)
    frame = next((one for one in shown if isinstance(one, str)), "")
    values.pop("frame", None)
    data: RuleData = {
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
        time=moment(output.end_us), data=dict(data),
    )  # fmt: skip


def _id(rule: Rule, output: Output, *, digest: str) -> str:
    key: Mapping[str, Scalar] = output.key
    of = encode(dict(key)).decode()
    return stable_id("evt", rule.id, digest, of, output.name, str(output.revision))


def _written(at_us: int) -> str:
    return moment(at_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
