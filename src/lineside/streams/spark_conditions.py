"""Conditions of a rule as SQL of Spark; they mean what ``conditions`` makes of them.

A value that may be text, a figure or a truth value stands in three columns, of which at most one
is filled. Comparing with what is not there gives NULL, which no filter lets through; only
``none_of`` and ``known = false`` hold for a field that is not there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lineside.core import Condition, Scalar
from lineside.streams.conditions import is_figure

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
