"""The windows of a rule as one SELECT of Spark SQL over its records, and its rows as events.

The records are a stream of their own (``spark_time``): in order of time, numbered, late ones and
those that ``where`` leaves out already gone. Rules that the SELECT keeps, so that what it gives is
what the embedded engine gives, to the last bit:

1. Windows are aligned to the epoch as ours. A session is closed by a gap longer than ``gap_s``: to
   Spark too a record at its very end belongs to it, if it comes before the watermark is there.
2. Keys that are one key (1, 1.0, true) are one group; told is the key of its first record.
3. Sums are added in the order of time, since adding in another gives other last digits. For that
   the figures of an open window are kept until it closes; all else is kept as one value.
4. An event about a late record stands in a group of its own, and comes out as it is.
5. A mark has no ``id``. It moves the watermark, so it is filtered out behind it: the test names
   ``at`` lest Spark's optimiser draws it before.


Conditions: a value that may be text, a figure or a truth value stands in three columns, of
which at most one
is filled. Comparing with what is not there gives NULL, which no filter lets through; only
``none_of`` and ``known = false`` hold for a field that is not there.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lineside.core import Plant, Rule, decode_json
from lineside.core.plant_rules import Aggregate, Condition, Scalar, WindowStep
from lineside.streams.event import encode_event
from lineside.streams.rules.conditions import MOST_DISTINCT, is_figure
from lineside.streams.rules.contract import MOST_CAUSES, Output, rule_event
from lineside.streams.rules.engine import rule_digest

_SIZES = (("at_least", ">="), ("at_most", "<="), ("above", ">"), ("below", "<"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The SQL of a value by its type; "" where it is never of that type."""

    text: str = ""
    number: str = ""
    truth: str = ""


Find = Callable[[str], Typed]


def conditions_sql(conditions: Sequence[Condition], *, find: Find) -> str:
    """SQL that is true where all conditions hold; "" where there is none.

    Args:
        conditions: what is tested.
        find: where the field of a name stands.
    """
    return " AND ".join(test for one in conditions for test in _tests(one, find(one.field)))


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return "`" + name.replace("`", "``") + "`"


def literal(value: Scalar) -> str:
    """A value as SQL has it."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value!r}D"


def _tests(condition: Condition, typed: Typed) -> Iterator[str]:
    if condition.equals is not None:
        yield _among((condition.equals,), typed)
    if condition.any_of:
        yield _among(condition.any_of, typed)
    if condition.none_of:
        yield f"NOT coalesce({_among(condition.none_of, typed)}, false)"
    if condition.like:
        yield f"{typed.text} RLIKE {_pattern(condition.like)}" if typed.text else "false"
    if condition.known is not None:
        yield _known(typed) if condition.known else f"NOT {_known(typed)}"
    for name, sign in _SIZES:
        bound = getattr(condition, name)
        if bound is not None:
            yield f"{typed.number} {sign} {literal(bound)}" if typed.number else "false"


def _among(values: Sequence[Scalar], typed: Typed) -> str:
    """Equal to one of some values, each compared with its like only."""
    kinds = (
        (typed.text, [one for one in values if isinstance(one, str)]),
        (typed.number, [one for one in values if is_figure(one)]),
        (typed.truth, [one for one in values if isinstance(one, bool)]),
    )
    tests = [f"{sql} IN ({', '.join(map(literal, wanted))})" for sql, wanted in kinds
             if sql and wanted]  # fmt: skip
    return f"({' OR '.join(tests)})" if len(tests) > 1 else (tests or ["false"])[0]


def _known(typed: Typed) -> str:
    columns = [one for one in (typed.text, typed.number, typed.truth) if one]
    return f"({' OR '.join(f'{one} IS NOT NULL' for one in columns)})"


def _pattern(like: str) -> str:
    """``*`` and ``?`` as a regular expression of Java's."""
    parts = {"*": ".*", "?": "."}
    body = "".join(parts.get(one, one if one.isalnum() else f"\\{one}") for one in like)
    return literal(f"(?s)^{body}\\z")


_TAKEN = frozenset(("frame", "event"))

_UNITS = ((3_600_000_000, "hours"), (60_000_000, "minutes"), (1_000_000, "seconds"),
          (1000, "milliseconds"), (1, "microseconds"))  # fmt: skip


def why_not_sql(rule: Rule) -> str:
    """Why a rule's step runs as embedded within Spark's state operator; "" where it is SQL."""
    if rule.window is None:
        return f"a {rule.step} is no window"
    if rule.emit != "final":
        return "it tells every change" if rule.emit == "changes" else "it tells begin and end"
    if rule.window.zone:
        return f"its windows follow the clock of {rule.window.zone}"
    if any(one.name[:1] in {"_", ""} or one.name in _TAKEN for one in rule.aggregate):
        return "its figures have names that are not for columns"
    tested = {one.field for one in rule.having}
    untyped = tested - _typed(rule).keys()
    return f"having tests {', '.join(sorted(untyped))}, which is no figure" if untyped else ""


def columns_of(rule: Rule) -> tuple[str, ...]:
    """The columns that the SELECT needs of a record's fields, ``<field> as <kind>``."""
    needed = [f"{name} as key" for name in rule.key]
    for one in rule.aggregate:
        needed += (f"{one.field} as {kind}" for kind in _NEEDED[one.of])
        needed += (
            f"{test.field} as {kind}" for test in one.where for kind in ("text", "number", "truth")
        )
    return tuple(dict.fromkeys(needed))


def windows_sql(rule: Rule) -> str:
    """The SELECT, from the view ``records``; see ``why_not_sql`` for which rules."""
    window = rule.window
    assert window is not None  # noqa: S101  asked before
    late = rule.late == "event"
    grouped = [_window(window), *(quoted(f"{name} as key") for name in rule.key)]
    grouped += ["event"] if late else []
    counted = "id IS NOT NULL OR event IS NOT NULL" if late else "id IS NOT NULL"
    select = ",\n    ".join(f"{sql} AS {quoted(name)}" for name, sql in _selected(rule, window))
    text = (
        f"  SELECT\n    {select}\n  FROM records\n"
        f"  WHERE {counted} OR at IS NULL\n  GROUP BY {', '.join(grouped)}"
    )
    having = conditions_sql(rule.having, find=lambda name: _typed(rule)[name])
    having = f"event IS NOT NULL OR ({having})" if having and late else having
    return f"SELECT * FROM (\n{text}\n)" + (f"\nWHERE {having}" if having else "")  # noqa: S608  quoted by spark_conditions


def allowance(rule: Rule) -> str:
    """Return how far Spark's watermark stays behind the records.

    They come in order of time, so windows need none. A session waits for the next millisecond,
    since a record at its very end may come in the next micro-batch.
    """
    session = rule.window is not None and rule.window.kind == "session"
    return "1 millisecond" if session else "0 seconds"


def interval(span_us: int) -> str:
    """A length of time as Spark's functions read it, in the largest unit that divides it."""
    unit, name = next((unit, name) for unit, name in _UNITS if span_us % unit == 0)
    return f"{span_us // unit} {name}"


def _window(window: WindowStep) -> str:
    if window.kind == "session":
        return f"session_window(at, '{interval(_us(window.gap_s))}')"
    every_us = _us(window.every_s if window.kind == "hopping" else window.size_s)
    offset_us = _us(window.offset_s) % every_us
    spans = [_us(window.size_s)]
    if window.kind == "hopping" or offset_us:
        spans.append(every_us)
    if offset_us:
        spans.append(offset_us)
    return f"window(at, {', '.join(repr(interval(one)) for one in spans)})"


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _selected(rule: Rule, window: WindowStep) -> Iterator[tuple[str, str]]:
    session = window.kind == "session"
    yield "_shown", "min_by(shown, seq)"
    yield "_start_us", "unix_micros(min(at))" if session else "unix_micros(window.start)"
    yield "_end_us", "unix_micros(max(at))" if session else "unix_micros(window.end)"
    yield "_ids", f"min_by(id, seq, {MOST_CAUSES})"
    yield "_last_id", "max_by(id, seq)"
    yield "_frame", "max_by(frame, seq) FILTER (WHERE frame IS NOT NULL)"
    yield "_count", "count(*)"
    for one in rule.aggregate:
        yield one.name, _figure(one)
    if rule.late == "event":
        yield "event", "event"


def _figure(declared: Aggregate) -> str:
    test = conditions_sql(declared.where, find=_field)
    if declared.of == "count":
        return f"count_if({test})" if test else "count(*)"
    if declared.of == "share":
        return f"count_if({test}) / count(*)"
    needed = _NEEDED[declared.of]
    columns = {kind: quoted(f"{declared.field} as {kind}") for kind in needed}
    there = " AND ".join([f"{columns[needed[0]]} IS NOT NULL", *([test] if test else [])])
    return _MADE[declared.of].format(only=f"FILTER (WHERE {there})", **columns)


_SUM = (
    "aggregate(array_sort(collect_list(struct(seq, {number} AS figure)) {only}), 0D, "
    "(total, one) -> total + one.figure)"
)
_WHOLE = "coalesce(bool_and({json} NOT RLIKE '[.eE]') {only}, true)"
_MADE = {
    "sum": f"coalesce(if({_WHOLE}, CAST(try_cast({_SUM} AS BIGINT) AS STRING), NULL), "
    f"CAST({_SUM} AS STRING))",
    "mean": f"{_SUM} / nullif(count(*) {{only}}, 0)",
    "min": "min_by({json}, struct({number}, seq)) {only}",
    "max": "max_by({json}, struct({number}, -seq)) {only}",
    "distinct": f"least(size(collect_set({{apart}}) {{only}}), {MOST_DISTINCT})",
    "first": "min_by({json}, seq) {only}",
    "last": "max_by({json}, seq) {only}",
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "count": (), "share": (), "sum": ("number", "json"), "mean": ("number",),
    "min": ("number", "json"), "max": ("number", "json"), "distinct": ("apart",),
    "first": ("json",), "last": ("json",),
}  # fmt: skip


def _field(name: str) -> Typed:
    """Where a field of the records stands."""
    return Typed(**{kind: quoted(f"{name} as {kind}") for kind in ("text", "number", "truth")})


def _typed(rule: Rule) -> dict[str, Typed]:
    """The fields that ``having`` may test, with their columns."""
    found = {
        "count": Typed(number="_count"), "seconds": Typed(number="(_end_us - _start_us) / 1000000D")
    }  # fmt: skip
    for one in rule.aggregate:
        found.pop(one.name, None)
        if one.of not in {"first", "last"}:
            cast = one.of in {"sum", "min", "max"}
            column = quoted(one.name)
            found[one.name] = Typed(number=f"CAST({column} AS DOUBLE)" if cast else column)
    return {name: typed for name, typed in found.items() if name not in rule.key}


_WHOLE_NUMBER = re.compile(r"-?\d+")
_TOLD_AS_JSON = frozenset(("min", "max", "first", "last"))


class WindowEvents:
    """Rows of ``windows_sql`` as events."""

    def __init__(self, rule: Rule, *, plant: Plant) -> None:
        self._rule, self._digest = rule, rule_digest(rule)
        self._source = f"/{plant.site}/hub"

    def event(self, row: Mapping[str, Any]) -> str:
        """JSON of the event of one window; what was told of a late record as it stands."""
        if row.get("event"):
            return str(row["event"])
        output = Output(
            name=str(row["_start_us"]),
            key=dict(zip(self._rule.key, _read_json(row["_shown"]), strict=True)), action="final",
            start_us=row["_start_us"], end_us=row["_end_us"], values=self._values(row),
            causes=_causes(row["_ids"], last=row["_last_id"]),
        )  # fmt: skip
        event = rule_event(self._rule, output, digest=self._digest, source=self._source)
        return encode_event(event).decode()

    def _values(self, row: Mapping[str, Any]) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {"count": row["_count"]}
        for one in self._rule.aggregate:
            told = row[one.name]
            if told is None:
                continue
            values[one.name] = (
                _read_json(told)
                if one.of in _TOLD_AS_JSON
                else _read_sum(told)
                if one.of == "sum"
                else told
            )
        if row["_frame"]:
            values["frame"] = row["_frame"]
        return values


def _read_json(text: str) -> Any:  # noqa: ANN401  what JSON holds
    return decode_json(text.encode(), where="a window")


def _read_sum(text: str) -> Scalar:
    """A sum as Spark writes it: whole where all its figures were."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else float(text)


def _causes(ids: Sequence[str], *, last: str) -> tuple[str, ...]:
    """The first records and the last one."""
    return tuple(ids) if last in ids else (*ids[: MOST_CAUSES - 1], last)
