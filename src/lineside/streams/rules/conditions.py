"""Conditions of a rule as functions of a record's fields.

They are compiled once, because a rule asks them of every record. What each test means stands in
``core.Condition``: a field that is not there fails every test but ``none_of`` and
``known = false``; figures are compared with figures only, truth values likewise, text exactly.

The figures of a window: how each is begun, moved on by a record, joined with another, told.

What a figure remembers is plain JSON, because it is part of a rule's kept state. A record that
lacks the field, or holds text where a figure is needed, does not count for that figure.
"""

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lineside.core.plant_rules import Aggregate, Condition, Scalar
from lineside.streams.rules.contract import Record

Fields = Mapping[str, Scalar]
Test = Callable[[Fields], bool]


def compile_conditions(conditions: Sequence[Condition]) -> Test | None:
    """One function that is true where all conditions hold; None where there is no condition."""
    tests = [test for condition in conditions for test in _tests_of(condition)]
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda fields: first(fields) and second(fields)
    return lambda fields: all(test(fields) for test in tests)


def same(left: Scalar | None, right: Scalar | None) -> bool:
    """Return whether two values are equal and of one kind: 1 is 1.0, but neither true nor "1"."""
    return left == right and isinstance(left, bool) is isinstance(right, bool)


def is_figure(value: object) -> bool:
    """Return whether a value can be compared in size."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tests_of(condition: Condition) -> Iterable[Test]:
    name = condition.field
    if condition.equals is not None:
        yield _equals(name, condition.equals)
    if condition.any_of:
        yield _any_of(name, condition.any_of)
    if condition.none_of:
        yield _none_of(name, condition.none_of)
    if condition.like:
        yield _like(name, condition.like)
    if condition.known is not None:
        yield _known(name, condition.known)
    yield from _sizes(condition)


def _equals(name: str, wanted: Scalar) -> Test:
    if isinstance(wanted, str):  # text equals text only, so the kind needs no second look
        return lambda fields: fields.get(name) == wanted
    return lambda fields: same(fields.get(name), wanted)


def _any_of(name: str, wanted: tuple[Scalar, ...]) -> Test:
    if all(isinstance(one, str) for one in wanted):
        texts = frozenset(wanted)
        return lambda fields: fields.get(name) in texts
    return lambda fields: any(same(fields.get(name), one) for one in wanted)


def _none_of(name: str, wanted: tuple[Scalar, ...]) -> Test:
    if all(isinstance(one, str) for one in wanted):
        texts = frozenset(wanted)
        return lambda fields: fields.get(name) not in texts
    return lambda fields: not any(same(fields.get(name), one) for one in wanted)


def _like(name: str, pattern: str) -> Test:
    matches = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match

    def test(fields: Fields) -> bool:
        value = fields.get(name)
        return isinstance(value, str) and matches(value) is not None

    return test


def _known(name: str, wanted: bool) -> Test:  # noqa: FBT001  the declared value itself
    return lambda fields: (name in fields) is wanted


def _sizes(condition: Condition) -> Iterable[Test]:
    for bound, holds in (
        (condition.at_least, operator.ge),
        (condition.at_most, operator.le),
        (condition.above, operator.gt),
        (condition.below, operator.lt),
    ):
        if bound is not None:
            yield _size(condition.field, bound, holds=holds)


def _size(name: str, bound: float, *, holds: Callable[[float, float], bool]) -> Test:
    def test(fields: Fields) -> bool:
        value = fields.get(name)
        return (
            isinstance(value, int | float) and value.__class__ is not bool and holds(value, bound)
        )

    return test


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
