"""Conditions of a rule as functions of a record's fields.

They are compiled once, because a rule asks them of every record. What each test means stands in
``core.Condition``: a field that is not there fails every test but ``none_of`` and
``known = false``; figures are compared with figures only, truth values likewise, text exactly.
"""

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from lineside.core.plant_rules import Condition, Scalar

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
