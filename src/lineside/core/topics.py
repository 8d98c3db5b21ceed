"""Topic names and patterns of MQTT (OASIS MQTT 3.1.1, section 4.7)."""

from itertools import zip_longest

from lineside.core.errors import InvalidError

_LONGEST_BYTES = 65535


def topic_matches(pattern: str, topic: str) -> bool:
    """Return whether a topic falls under a pattern.

    ``+`` stands for one level, a closing ``#`` for the level before it and all below. A pattern
    that begins with a wildcard does not match topics that begin with ``$`` (4.7.2-1).
    """
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    if "+" not in pattern and "#" not in pattern:
        return pattern == topic
    wanted, levels = pattern.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(levels) or level not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)


def check_topic(topic: str) -> None:
    """Refuse a name that no message can carry.

    Raises:
        InvalidError: empty, too long, with wildcards or a null character.
    """
    if not _possible(topic) or "+" in topic or "#" in topic:
        raise InvalidError(
            f"{topic[:80]!r} is no topic",
            where="topic",
            fix="Write levels separated by '/', without + and #.",
        )


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that no broker takes.

    Raises:
        InvalidError: empty, too long, or a wildcard that does not fill its level.
    """
    levels = pattern.split("/")
    bad = any(
        ("+" in level and level != "+")
        or ("#" in level and (level != "#" or place != len(levels) - 1))
        for place, level in enumerate(levels)
    )
    if bad or not _possible(pattern):
        raise InvalidError(
            f"{pattern[:80]!r} is no topic pattern",
            where="topic",
            fix="Let + fill one whole level, and # the last one.",
        )


def _possible(text: str) -> bool:
    return bool(text) and "\0" not in text and len(text.encode()) <= _LONGEST_BYTES


def topics_meet(one: str, other: str) -> bool:
    """Return whether a topic can fall under both patterns."""
    first, second = one[:1], other[:1]
    if (first == "$" and second in {"+", "#"}) or (second == "$" and first in {"+", "#"}):
        return False
    for left, right in zip_longest(one.split("/"), other.split("/")):
        if "#" in {left, right}:
            return True
        if None in {left, right} or (left != right and "+" not in {left, right}):
            return False
    return True


def pattern_covers(allowed: str, requested: str) -> bool:
    """Return whether every topic under ``requested`` falls under ``allowed``."""
    if requested.startswith("$") and allowed[:1] in ("+", "#"):
        return False
    wide, narrow = allowed.split("/"), requested.split("/")
    for place, level in enumerate(wide):
        if level == "#":
            return True
        if place >= len(narrow) or narrow[place] == "#":
            return False
        if level not in ("+", narrow[place]):
            return False
    return len(wide) == len(narrow)
