"""Checks of one record, for its ``__post_init__``: all that is wrong with it is said at once.

A fault's path is the key within the record, "" for the record as a whole; whoever decodes a
document puts the record's own path before it.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, TypeVar, cast

from lineside.core.codec import nearest, shown
from lineside.core.errors import Fault, InvalidError, JointFault


def refuse(record: object, *checks: Iterable[Fault]) -> None:
    """Raise one error for all faults of a record; return where there is none."""
    faults = tuple(fault for check in checks for fault in check)
    if not faults:
        return
    noun = type(record).__name__.lower()
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise InvalidError(
        f"{faults[0].value} is not {faults[0].expected}{more}",
        where=f"{noun}.{faults[0].path}" if faults[0].path else noun,
        fix=faults[0].fix,
        faults=faults,
    )


def unless(
    sound: object,
    *,
    expected: str,
    fix: str,
    key: str = "",
    seen: object = "",
    beside: tuple[str, ...] = (),
) -> Iterator[Fault]:
    """One fault unless ``sound``; ``seen`` is the value of ``key``.

    ``beside`` are other keys that ``sound`` rests on: where one cannot be read, it is not told.
    """
    if not sound:
        value = shown(seen) if key else "it"
        yield JointFault(path=key, value=value, expected=expected, fix=fix, beside=beside)


def above_zero(record: object, *keys: str) -> Iterator[Fault]:
    """Figures that must be greater than 0."""
    for key in keys:
        yield from _figure(record, key, low=math.ulp(0.0), expected="above 0")


def zero_or_more(record: object, *keys: str) -> Iterator[Fault]:
    """Figures that may be 0."""
    for key in keys:
        yield from _figure(record, key, expected="0 or more")


def within(record: object, *keys: str, high: float = 1) -> Iterator[Fault]:
    """Figures from 0 to ``high``."""
    for key in keys:
        yield from _figure(record, key, high=high, expected=f"between 0 and {high:g}")


def _figure(
    record: object, key: str, *, expected: str, low: float = 0, high: float = math.inf
) -> Iterator[Fault]:
    """One fault where a figure lies outside; None stands for "not given"."""
    figure = getattr(record, key)
    sound = figure is None or low <= figure <= high
    usual = next(field.default for field in fields(cast("Any", record)) if field.name == key)
    told = isinstance(usual, int | float) and usual > 0
    fix = f"Write {key} = {usual}, say." if told else f"Write a number {expected}."
    return unless(sound, key=key, seen=figure, expected=expected, fix=fix)


_Item = TypeVar("_Item")

# Ids become levels of topics, parts of addresses and names of files.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def entries(items: Iterable[_Item]) -> Iterator[tuple[int, _Item]]:
    """The entries with their places; those that could not be built are passed over."""
    return ((place, item) for place, item in enumerate(items) if item is not None)


def known(name: str, known: Iterable[str], *, path: str, noun: str) -> Iterator[Fault]:
    """A fault where a name is none of the known ones."""
    if name not in known:
        yield Fault(
            path=path,
            value=repr(name),
            expected=f"a declared {noun}",
            fix=nearest(name, list(known)),
        )


def twice(names: Iterable[str], path: str) -> Iterator[Fault]:
    """A fault for each name that was there before."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield Fault(path=path, value=repr(name), expected="used once", fix="Rename one.")
        seen.add(name)


def good_id(name: str, path: str) -> Iterator[Fault]:
    """A fault where a name cannot be part of a topic, an address or a file's name."""
    if not _ID.fullmatch(name):
        yield Fault(
            path=path,
            value=repr(name),
            expected="an id",
            fix="Use letters, digits, '.', '_' and '-', a letter or digit first.",
        )


def good_name(name: str, path: str) -> Iterator[Fault]:
    """A fault where a name cannot be joined to another by a slash."""
    if not name.strip() or "/" in name or not name.isprintable():
        yield Fault(
            path=path,
            value=repr(name),
            expected="a name",
            fix="Use readable text without '/', which joins region and class.",
        )
