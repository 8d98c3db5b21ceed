"""The figures of a window: how each is begun, moved on by a record, joined with another, told.

What a figure remembers is plain JSON, because it is part of a rule's kept state. A record that
lacks the field, or holds text where a figure is needed, does not count for that figure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lineside.core.plant_rules import Aggregate, Scalar
from lineside.streams.rules.conditions import Test, compile_conditions, is_figure
from lineside.streams.rules.contract import Record

MOST_DISTINCT = 10_000
"""Values that ``distinct`` tells apart within one window; above it the figure stays there."""

Memory = list[Any]
Timed = tuple[Any, int]
Add = Callable[[Memory, Timed], None]
Join = Callable[[Memory, Memory], None]
Tell = Callable[[Memory], Scalar | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One way to make a figure; ``figures`` alone: text does not count for it."""

    begin: Callable[[], Memory]
    add: Add
    join: Join
    tell: Tell
    figures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A declared figure, ready to be made."""

    name: str
    begin: Callable[[], Memory]
    feed: Callable[[Memory, Record], None]
    join: Join
    tell: Tell


def figures_of(aggregates: Sequence[Aggregate]) -> tuple[Figure, ...]:
    """The figures of a rule in their order."""
    return tuple(_figure(declared) for declared in aggregates)


def values_of(figures: Sequence[Figure], memories: Sequence[Memory]) -> dict[str, Scalar]:
    """Names and values; a figure without any record is left out."""
    found: dict[str, Scalar] = {}
    for figure, memory in zip(figures, memories, strict=True):
        value = figure.tell(memory)
        if value is not None:
            found[figure.name] = value
    return found


def _figure(declared: Aggregate) -> Figure:
    test = compile_conditions(declared.where)
    if declared.of == "share":
        assert test is not None  # noqa: S101  the record of the rule needs it
        feed, kind = _share(test), _KINDS["share"]
    else:
        kind = _KINDS[declared.of]
        feed = _counted(test) if declared.of == "count" else _fed(declared.field, kind, test=test)
    return Figure(name=declared.name, begin=kind.begin, feed=feed, join=kind.join, tell=kind.tell)


def _share(test: Test) -> Callable[[Memory, Record], None]:
    def feed(memory: Memory, record: Record) -> None:
        memory[0] += test(record.fields)
        memory[1] += 1

    return feed


def _counted(test: Test | None) -> Callable[[Memory, Record], None]:
    def feed(memory: Memory, record: Record) -> None:
        if test is None or test(record.fields):
            memory[0] += 1

    return feed


def _fed(name: str, kind: _Kind, *, test: Test | None) -> Callable[[Memory, Record], None]:
    add, figures = kind.add, kind.figures

    def feed(memory: Memory, record: Record) -> None:
        fields: Mapping[str, Scalar] = record.fields
        value = fields.get(name)
        if value is None or (test is not None and not test(fields)):
            return
        if not figures or is_figure(value):
            add(memory, (value, record.at_us))

    return feed


def _add_sum(memory: Memory, timed: Timed) -> None:
    memory[0] += timed[0]
    memory[1] += 1


def _join_sum(memory: Memory, other: Memory) -> None:
    memory[0] += other[0]
    memory[1] += other[1]


def _least(memory: Memory, timed: Timed) -> None:
    memory[:] = [min(memory[0], timed[0])] if memory else [timed[0]]


def _most(memory: Memory, timed: Timed) -> None:
    memory[:] = [max(memory[0], timed[0])] if memory else [timed[0]]


def _each_of(add: Add) -> Join:
    """Join by adding what the other remembers, which is one value."""

    def join(memory: Memory, other: Memory) -> None:
        for value in other:
            add(memory, (value, 0))

    return join


def _apart(memory: Memory, timed: Timed) -> None:
    known, value = memory[0], timed[0]
    if len(known) < MOST_DISTINCT:
        known[repr(float(value)) if is_figure(value) else repr(value)] = True


def _join_apart(memory: Memory, other: Memory) -> None:
    for name in other[0]:
        if len(memory[0]) < MOST_DISTINCT:
            memory[0][name] = True


def _first(memory: Memory, timed: Timed) -> None:
    if not memory or timed[1] < memory[0]:
        memory[:] = [timed[1], timed[0]]


def _last(memory: Memory, timed: Timed) -> None:
    if not memory or timed[1] >= memory[0]:
        memory[:] = [timed[1], timed[0]]


def _by_time(add: Add) -> Join:
    def join(memory: Memory, other: Memory) -> None:
        if other:
            add(memory, (other[1], other[0]))

    return join


def _value(place: int) -> Tell:
    return lambda memory: memory[place] if memory else None


def _ratio(memory: Memory) -> Scalar | None:
    return memory[0] / memory[1] if memory[1] else None


def _two() -> Memory:
    return [0, 0]


def _empty() -> Memory:
    return []


_KINDS: Mapping[str, _Kind] = {
    "count": _Kind(begin=_two, add=_add_sum, join=_join_sum, tell=_value(0)),
    "share": _Kind(begin=_two, add=_add_sum, join=_join_sum, tell=_ratio),
    "sum": _Kind(begin=_two, add=_add_sum, join=_join_sum, tell=_value(0), figures=True),
    "mean": _Kind(begin=_two, add=_add_sum, join=_join_sum, tell=_ratio, figures=True),
    "min": _Kind(begin=_empty, add=_least, join=_each_of(_least), tell=_value(0), figures=True),
    "max": _Kind(begin=_empty, add=_most, join=_each_of(_most), tell=_value(0), figures=True),
    "distinct": _Kind(
        begin=lambda: [{}], add=_apart, join=_join_apart, tell=lambda memory: len(memory[0])
    ),
    "first": _Kind(begin=_empty, add=_first, join=_by_time(_first), tell=_value(1)),
    "last": _Kind(begin=_empty, add=_last, join=_by_time(_last), tell=_value(1)),
}
