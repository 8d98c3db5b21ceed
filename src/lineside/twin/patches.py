"""JSON Patch (RFC 6902) from one state to the next, for browsers that hold the one before.

A small difference of plain documents: tables by key, lists by their common ends. It makes correct
patches, not shortest ones.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from lineside.core import Json, to_plain
from lineside.twin.state import LineState

Patch = list[dict[str, Any]]


def patch(before: LineState, after: LineState) -> Patch:
    """Operations that turn ``to_plain(before)`` into ``to_plain(after)``."""
    operations: Patch = []
    for field in fields(LineState):
        was, now = getattr(before, field.name), getattr(after, field.name)
        # States share what stayed the same, so most of a state is passed over here.
        if was is not now:
            operations += difference(to_plain(was), to_plain(now), at=f"/{field.name}")
    return operations


def difference(before: Json, after: Json, *, at: str = "") -> Iterator[dict[str, Any]]:
    """Operations from one plain document to another, below the JSON Pointer ``at``."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_tables(before, after, at=at)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, at=at)
    elif not _same(before, after):
        yield {"op": "replace", "path": at, "value": after}


def _same(before: Json, after: Json) -> bool:
    """Equal as JSON: true is not 1, and 1 is 1.0."""
    return before == after and isinstance(before, bool) is isinstance(after, bool)


def _of_tables(
    before: dict[str, Json], after: dict[str, Json], *, at: str
) -> Iterator[dict[str, Any]]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": f"{at}/{_escaped(key)}"}
    for key, value in after.items():
        place = f"{at}/{_escaped(key)}"
        if key not in before:
            yield {"op": "add", "path": place, "value": value}
        elif before[key] is not value:
            yield from difference(before[key], value, at=place)


def _of_lists(before: list[Json], after: list[Json], *, at: str) -> Iterator[dict[str, Any]]:
    """Drop from the end what was pushed out, put new ones in, then compare place by place."""
    head, kept = _shift(before, after)
    for place in range(len(before) - 1, kept - 1, -1):
        yield {"op": "remove", "path": f"{at}/{place}"}
    for place in range(head):
        yield {"op": "add", "path": f"{at}/{place}", "value": after[place]}
    for place in range(kept):
        yield from difference(before[place], after[head + place], at=f"{at}/{head + place}")
    for place in range(head + kept, len(after)):
        yield {"op": "add", "path": f"{at}/{place}", "value": after[place]}


def _shift(before: list[Json], after: list[Json]) -> tuple[int, int]:
    """How many new ones stand before the old, and how many old ones stay behind them."""
    for head in range(min(4, len(after)) if before else 0):
        if _named(after[head]) == _named(before[0]):
            return head, min(len(before), len(after) - head)
    return 0, min(len(before), len(after))


def _named(value: Json) -> Json:
    """What tells one item of a list from another."""
    return value.get("id", value.get("slot")) if isinstance(value, dict) else value


def _escaped(key: str) -> str:
    """A key as a step of a JSON Pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
