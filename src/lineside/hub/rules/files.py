"""Events of rules as a file: CSV, JSON Lines or Parquet, written piece by piece.

1. The columns follow from the declarations, not from what happens to be in the log: first those of
   every event, then ``key.…`` and ``values.…`` of the rules that are asked for. ``key`` and
   ``values`` hold all of it as JSON besides, so nothing is lost that has no column.
2. Times are UTC by RFC 3339; in Parquet timestamps in microseconds.
3. In CSV a text that begins with ``=``, ``+``, ``-``, ``@``, ``'``, tab or carriage return gets a
   ``'`` in front, so that a spreadsheet takes it for text (OWASP, "CSV Injection"); whoever reads
   it drops a ``'`` at the front. Numbers stay numbers.
4. A line of JSON Lines is the event as it was published, with ``arrivedat``: what
   ``lineside rule run --events`` reads.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

from lineside.core import InvalidError, Plant, Rule, encode, need, parse_rfc3339
from lineside.core.rule_check import values_given
from lineside.hub.rules.log import RuleFilter, all_of
from lineside.hub.views import EventView
from lineside.store import EventLog
from lineside.streams import written_time

T = TypeVar("T")
Kind = Literal["text", "whole", "number", "time"]
Value = str | int | float | None

MEDIA: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
"""The forms a file may have, and what each is called on the wire."""

_ROWS = 500
_GROUP = 5000
_MOST = 2**63
"""Figures as large as this, which no column can hold, stand in ``values`` alone."""

_RISKY = ("=", "+", "-", "@", "'", "\t", "\r")
_TEXTS = frozenset(
    {"label", "runner_up", "first_frame", "last_frame", "direction", "pair_seen", "session"}
)
_WHOLE = frozenset(
    {"frames", "seen", "pairs", "left_over", "matches", "waiting", "records", "track"}
)
_MEASURED = frozenset({"apart_s", "probability", "score", "seconds", "dwell_s"})
_FIGURES: Mapping[str, Kind] = {
    "count": "whole", "distinct": "whole", "first": "text", "last": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: what it holds, and where an event has it."""

    name: str
    kind: Kind
    of: Callable[[EventView], object]

    def value(self, event: EventView) -> Value:
        """Return the value of a column; None for nothing or for no number."""
        return _as(self.kind, self.of(event))


def rule_events_file(
    log: EventLog, wanted: RuleFilter, *, plant: Plant, form: str
) -> Iterator[bytes]:
    """Everything that passes as a file in pieces, with the columns of the rules asked for."""
    rules = [one for one in plant.rule if wanted.rule in {"", one.id}]
    return file_of(all_of(log, wanted), columns_of(rules), form=form)


def columns_of(rules: Iterable[Rule]) -> tuple[Column, ...]:
    """The columns of what these rules say."""
    keys: dict[str, Kind] = {}
    values: dict[str, Kind] = {}
    for rule in rules:
        keys |= dict.fromkeys(rule.key, "text")
        for name in values_given(rule) or ():
            kind = _kind(rule, name)
            values[name] = kind if values.get(name, kind) == kind else "text"
    values.pop("frame", None)  # it has a column of its own
    return (
        *_FIXED,
        *(Column(name=f"key.{name}", kind=kind, of=_inner("key", name))
          for name, kind in keys.items()),
        *(Column(name=f"values.{name}", kind=kind, of=_inner("values", name))
          for name, kind in values.items()),
    )  # fmt: skip


def file_of(
    events: Iterable[EventView], columns: Sequence[Column], *, form: str
) -> Iterator[bytes]:
    """The file in pieces; it is never whole in memory.

    Raises:
        InvalidError: no such form.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    if form == "csv":
        return _csv(events, columns)
    if form == "jsonl":
        return map(_line, events)
    if form == "parquet":
        return _parquet(events, columns, arrow=need("pyarrow", extra="hub"))
    raise InvalidError(f"no form {form!r}", where="format", fix=f"Known: {', '.join(MEDIA)}.")


def _csv(events: Iterable[EventView], columns: Sequence[Column]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_safe(column.name) for column in columns])
    for some in _batches(events, _ROWS):
        writer.writerows([_safe(one.value(event)) for one in columns] for event in some)
        yield _taken(text)
    yield _taken(text)


def _safe(value: Value) -> Value:
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value


def _taken(text: io.StringIO) -> bytes:
    written = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return written


def _line(event: EventView) -> bytes:
    return encode({**event.event, "arrivedat": written_time(event.arrived_at)}) + b"\n"


class _Drain(io.RawIOBase):
    """A file that gives out what was written to it since it was last asked."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, piece: Any, /) -> int:  # noqa: ANN401  any buffer
        copied = bytes(piece)
        self._pieces.append(copied)
        self._written += len(copied)
        return len(copied)

    def taken(self) -> bytes:
        """Return the bytes written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _parquet(
    events: Iterable[EventView], columns: Sequence[Column], *, arrow: Any  # noqa: ANN401  a module
) -> Iterator[bytes]:  # fmt: skip
    kinds = {
        "text": arrow.string(), "whole": arrow.int64(), "number": arrow.float64(),
        "time": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = arrow.schema([(column.name, kinds[column.kind]) for column in columns])
    writer_of = need("pyarrow.parquet", extra="hub").ParquetWriter

    def pieces() -> Iterator[bytes]:
        drain = _Drain()
        with writer_of(drain, schema, compression="zstd") as writer:
            for some in _batches(events, _GROUP):
                arrays = [
                    arrow.array([_moment(one, event) for event in some], kinds[one.kind])
                    for one in columns
                ]
                writer.write_table(arrow.table(arrays, schema=schema))
                yield drain.taken()
        yield drain.taken()

    return pieces()


def _moment(column: Column, event: EventView) -> object:
    value = column.value(event)
    if column.kind != "time" or value is None:
        return value
    try:
        return parse_rfc3339(str(value), where=event.id)
    except InvalidError:
        return None


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def _kind(rule: Rule, name: str) -> Kind:
    """Return the kind of a rule's figure; ``aggregate`` names its own."""
    if rule.window is not None:
        made = {one.name: one.of for one in rule.aggregate}.get(name, "count")
        return _FIGURES.get(made, "number")
    if rule.join is not None:
        return "number" if name.rpartition(".")[2] in _MEASURED else "text"
    if name in _TEXTS or (rule.hold is not None and name == rule.hold.field):
        return "text"
    return "whole" if name in _WHOLE else "number"


def _as(kind: Kind, value: object) -> Value:
    if value is None or (value == "" and kind == "time"):
        return None
    if kind in {"text", "time"}:
        return value if isinstance(value, str) else encode(value).decode()
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= _MOST:
        return None
    if kind == "whole":
        return int(value) if value == int(value) else None
    return float(value)


def _data(name: str) -> Callable[[EventView], object]:
    return lambda event: event.event.get("data", {}).get(name)


def _inner(outer: str, name: str) -> Callable[[EventView], object]:
    return lambda event: event.event.get("data", {}).get(outer, {}).get(name)


def _written(name: str) -> Callable[[EventView], object]:
    return lambda event: encode(event.event.get("data", {}).get(name)).decode()


def _late(event: EventView) -> object:
    return event.event.get("data", {}).get("values", {}).get("late_by_s")


_FIXED = (
    Column(name="position", kind="whole", of=lambda event: event.position),
    Column(name="id", kind="text", of=lambda event: event.id),
    Column(name="rule", kind="text", of=lambda event: event.subject),
    Column(name="action", kind="text", of=_data("action")),
    Column(name="name", kind="text", of=_data("name")),
    Column(name="revision", kind="whole", of=_data("revision")),
    Column(name="time", kind="time", of=lambda event: event.event.get("time")),
    Column(name="arrived_at", kind="time", of=lambda event: written_time(event.arrived_at)),
    Column(name="from", kind="time", of=_data("from")),
    Column(name="to", kind="time", of=_data("to")),
    Column(name="seconds", kind="number", of=_data("seconds")),
    Column(name="late_by_s", kind="number", of=_late),
    Column(name="frame", kind="text", of=_data("frame")),
    Column(name="key", kind="text", of=_written("key")),
    Column(name="values", kind="text", of=_written("values")),
    Column(name="causes", kind="text", of=_written("causes")),
)
