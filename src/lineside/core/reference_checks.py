"""What the checks of a plant file's references share: known names, good ids, topics that meet."""

import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import TypeVar

from lineside.core.codec import nearest
from lineside.core.errors import Fault

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


def topics_meet(one: str, other: str) -> bool:
    """Whether a topic can be of both patterns (MQTT 3.1.1, 4.7)."""
    for left, right in zip_longest(one.split("/"), other.split("/")):
        if "#" in {left, right}:
            return True
        if None in {left, right} or (left != right and "+" not in {left, right}):
            return False
    return True
