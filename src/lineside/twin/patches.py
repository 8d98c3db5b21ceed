"""JSON Patch (RFC 6902) from one state to the next, for browsers that hold the one before.

A small difference of records and plain documents: records by field, tables by key, lists by their
first item. States share what stayed the same, so most of a state is passed over by identity and
only what is sent is turned into JSON. It makes correct patches, not shortest ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from lineside.core import to_plain
from lineside.twin.state import LineState

Operation = dict[str, Any]

_MOST_NEW = 4
_PLAIN = (str, int, float, bool, type(None))


def patch(before: LineState, after: LineState) -> list[Operation]:
    """Operations that turn ``to_plain(before)`` into ``to_plain(after)``."""
    return list(difference(before, after))


def difference(before: object, after: object, *, at: str = "") -> Iterator[Operation]:
    """Operations from one document to another, below the JSON Pointer ``at``."""
    if before is after:
        return
    if is_dataclass(before) and type(before) is type(after):
        for field in fields(before):
            was, now = getattr(before, field.name), getattr(after, field.name)
            yield from difference(was, now, at=f"{at}/{field.name}")
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _of_tables(before, after, at=at)
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        yield from _of_lists(before, after, at=at)
    elif not _same(before, after):
        yield {"op": "replace", "path": at, "value": _plain(after)}


def _same(before: object, after: object) -> bool:
    """Equal as JSON: true is not 1, and 1 is 1.0."""
    return before == after and isinstance(before, bool) is isinstance(after, bool)


def _of_tables(
    before: Mapping[str, object], after: Mapping[str, object], *, at: str
) -> Iterator[Operation]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": f"{at}/{_escaped(key)}"}
    for key, value in after.items():
        if key in before:
            yield from difference(before[key], value, at=f"{at}/{_escaped(key)}")
        else:
            yield {"op": "add", "path": f"{at}/{_escaped(key)}", "value": _plain(value)}


def _of_lists(before: Sequence[object], after: Sequence[object], *, at: str) -> Iterator[Operation]:
    """Drop from the end what was pushed out, put new ones in, then compare place by place."""
    head, kept = _shift(before, after)
    for place in range(len(before) - 1, kept - 1, -1):
        yield {"op": "remove", "path": f"{at}/{place}"}
    for place in range(head):
        yield {"op": "add", "path": f"{at}/{place}", "value": _plain(after[place])}
    for place in range(head, head + kept):
        yield from difference(before[place - head], after[place], at=f"{at}/{place}")
    for place in range(head + kept, len(after)):
        yield {"op": "add", "path": f"{at}/{place}", "value": _plain(after[place])}


def _shift(before: Sequence[object], after: Sequence[object]) -> tuple[int, int]:
    """Return how many new items stand before the old, and how many old ones stay."""
    for head in range(min(_MOST_NEW, len(after)) if before else 0):
        if _named(after[head]) == _named(before[0]):
            return head, min(len(before), len(after) - head)
    return 0, min(len(before), len(after))


def _named(value: object) -> object:
    """Return the identity of an item in a list."""
    if isinstance(value, dict):
        return value.get("id", value.get("slot"))
    if is_dataclass(value):
        return getattr(value, "id", None) or getattr(value, "slot", None)
    return value


def _plain(value: object) -> object:
    """The value as JSON; the plain ones, nearly all, without a way round through the codec."""
    return value if type(value) in _PLAIN else to_plain(value)


def _escaped(key: str) -> str:
    """A key as a step of a JSON Pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
