"""Topic patterns, found by the topics that fall under them without looking at each.

A thousand devices with six patterns each are six thousand patterns; a message is for a few of them.
Patterns stand in a tree of their levels, and a topic is followed down it.
"""

from collections import UserDict
from collections.abc import Iterator
from typing import TypeVar

V = TypeVar("V")


class _Node:
    """A level; ``pattern`` is the one that ends here."""

    __slots__ = ("below", "pattern")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.pattern: str | None = None


class PatternIndex(UserDict[str, V]):
    """A dictionary by pattern; patterns are as ``check_pattern`` takes them."""

    def __init__(self) -> None:
        self._root = _Node()
        super().__init__()

    def __setitem__(self, pattern: str, value: V) -> None:
        node = self._root
        for level in pattern.split("/"):
            node = node.below.setdefault(level, _Node())
        node.pattern = pattern
        super().__setitem__(pattern, value)

    def __delitem__(self, pattern: str) -> None:
        super().__delitem__(pattern)
        levels, path = pattern.split("/"), [self._root]
        for level in levels:
            path.append(path[-1].below[level])
        path[-1].pattern = None
        for before, level, node in reversed(list(zip(path, levels, path[1:], strict=False))):
            if node.below or node.pattern is not None:
                return
            del before.below[level]

    def matching(self, topic: str) -> Iterator[tuple[str, V]]:
        """Patterns that the topic falls under, with their values; as ``topic_matches`` decides."""
        nodes, wild = [self._root], not topic.startswith("$")
        for level in topic.split("/"):
            following = []
            for node in nodes:
                if wild:
                    yield from self._rest(node)
                for key in (level, "+") if wild else (level,):
                    below = node.below.get(key)
                    if below is not None:
                        following.append(below)
            nodes, wild = following, True
        for node in nodes:
            if node.pattern is not None:
                yield node.pattern, self[node.pattern]
            yield from self._rest(node)

    def _rest(self, node: _Node) -> Iterator[tuple[str, V]]:
        """``#`` stands for the level before it and all below."""
        rest = node.below.get("#")
        if rest is not None and rest.pattern is not None:
            yield rest.pattern, self[rest.pattern]


def fixed_part(pattern: str) -> str:
    """What every topic under a pattern begins with."""
    before = pattern.partition("#")[0].partition("+")[0]
    return before.removesuffix("/") if before != pattern else pattern
