"""Which fields the records of a rule have: what the checks know before anything has been seen.

The meaning of each stands in docs/reference/rules.md; ``lineside.streams`` makes them.
"""

from collections.abc import Iterable, Mapping

from lineside.core.plant_rules import Read, Rule

HUB_EVENTS = ("drift", "discrepancy", "picture", "device")
"""Events that the hub itself says, under these subjects; no rule may be called so."""

_PICTURE = (
    "camera", "inspection", "task", "state", "device", "package", "frame", "part", "sequence",
)  # fmt: skip
_LABEL = ("answer", "name", "region", "label", "probability", "decision")
_BOX = ("x0_px", "y0_px", "x1_px", "y1_px", "x_px", "y_px")
_FIGURES = ("value", "low", "high", "more", "share", "pieces", "score", "limit")
_EVENT = ("rule", "action", "name", "revision", "seconds", "frame")
_TESTED = ("action", "name", "revision", "seconds")
_PLANT: Mapping[str, tuple[str, ...]] = {
    "alert": ("id", "code", "data"),
    "frame": ("camera", "frame", "digest", "ts_is", "sequence", "part"),
}
_STEPS: Mapping[str, tuple[str, ...]] = {
    "sighting": (
        "label",
        "probability",
        "runner_up",
        "runner_up_probability",
        "dwell_s",
        "frames",
        "frame",
        "first_frame",
        "last_frame",
        "best_score",
        "best_after_s",
    ),
    "crossing": (
        "label",
        "probability",
        "direction",
        "track",
        "x_px",
        "y_px",
        "speed_px_s",
        "frames",
        "frame",
        "best_score",
    ),
    "pair": ("seen", "pairs", "left_over", "pair_seen", "session"),
    "sequence": ("after_s", "waiting"),
    "rate": ("records", "per_s", "lasted_s"),
    "hold": ("for_s", "lasted_s"),
    "repeat": ("matches", "records", "lasted_s"),
    "join": ("apart_s", "complete", "agree", "missing"),
}


def fields_read(read: Read, *, rules: Mapping[str, Rule]) -> tuple[str, ...] | None:
    """Names of the fields a rule finds in what it reads; None where they are not known ahead."""
    if read.inspections:
        each = (*_BOX, *_FIGURES) if read.answers == "each" else ()
        return (*_PICTURE, *_LABEL, *each)
    if read.rules:
        return _fields_of_rules(read.rules, rules=rules)
    if read.plant in _PLANT:
        return (*_PLANT[read.plant], "topic", "ts")
    return None


def _fields_of_rules(names: Iterable[str], *, rules: Mapping[str, Rule]) -> tuple[str, ...] | None:
    """Fields that the events of any of some rules have."""
    given = [fields_given(rules[name]) if name in rules else None for name in names]
    if None in given:
        return None
    return tuple(dict.fromkeys(name for one in given for name in one or ()))


def fields_given(rule: Rule) -> tuple[str, ...] | None:
    """Names of the fields of what a rule gives out; None where its step alone knows them."""
    given = values_given(rule)
    return None if given is None else (*_EVENT, *rule.key, *given)


def fields_tested(rule: Rule, *, rules: Mapping[str, Rule]) -> tuple[str, ...] | None:
    """Names of what ``having`` may test; None where the step alone knows them."""
    given = values_given(rule)
    if given is None:
        return None
    read = fields_read(rule.read, rules=rules)
    frame = ("frame",) if read is None or "frame" in read else ()  # of the record, where it has one
    return (*_TESTED, *frame, *rule.key, *given)


def values_given(rule: Rule) -> tuple[str, ...] | None:
    """Names of the figures a rule's step gives out; None where they are not known.

    The step alone may know them, and of a faulty rule nobody does (see ``reference_checks``).
    """
    if None in (*rule.aggregate, *rule.key, *(rule.join.fields if rule.join else ())):
        return None
    if rule.window is not None:
        edges = ("windows",) if rule.emit == "edges" else ()
        return ("count", *edges, *(figure.name for figure in rule.aggregate))
    if rule.hold is not None and rule.hold.field:
        return (*_STEPS["hold"], rule.hold.field)
    if rule.join is not None:
        sides = rule.read.inspections or rule.read.rules
        told = (f"{side}.{name}" for side in sides for name in rule.join.fields)
        return (*_STEPS["join"], *told)
    return _STEPS.get(rule.step)
