"""Possible values of the fields of a rule's records, as far as they are known before the first one.

Labels are those that the inspection declares; shares and probabilities lie between 0 and 1. A field
that is not here may hold anything. Names of fields stand in ``rule_check``.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from lineside.core.checks import entries
from lineside.core.codec import nearest
from lineside.core.errors import Fault
from lineside.core.plant import Inspection, Task
from lineside.core.plant_rules import Aggregate, Condition, Read, Rule, Scalar

_LABELLED = (Task.MULTILABEL, Task.CLASSIFY, Task.DETECT)
_MOST_LISTED = 12
_BOUNDS = ("at_least", "above", "at_most", "below")


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Possible values of a field: truth, figures from ``low`` to ``high``, or text.

    Attributes:
        texts: which texts; empty for any.
    """

    kind: Literal["text", "figure", "truth"]
    texts: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def could_be(self, value: Scalar) -> bool:
        """Return whether a record may hold this very value."""
        if isinstance(value, bool):
            return self.kind == "truth"
        if isinstance(value, str):
            return self.kind == "text" and (not self.texts or value in self.texts)
        return self.kind == "figure" and self.low <= value <= self.high

    def could_pass(self, name: str, bound: float) -> bool:
        """Return whether a record may hold something beyond a bound, such as ``above``."""
        if self.kind != "figure":
            return False
        return {
            "at_least": bound <= self.high, "above": bound < self.high,
            "at_most": bound >= self.low, "below": bound > self.low,
        }[name]  # fmt: skip

    @property
    def words(self) -> str:
        """Return the possible values in words."""
        if self.kind == "truth":
            return "true or false"
        if self.kind == "text":
            few = len(self.texts) <= _MOST_LISTED
            return ", ".join(map(repr, self.texts)) if few and self.texts else "text"
        if self.low == -math.inf:
            return "a figure" if self.high == math.inf else f"a figure up to {self.high:g}"
        more = "or more" if self.high == math.inf else f"to {self.high:g}"
        return f"a figure, {self.low:g} {more}"


Known = Mapping[str, Values]
_TEXT, _TRUTH, _FIGURE = Values(kind="text"), Values(kind="truth"), Values(kind="figure")
_SHARE, _COUNT = Values(kind="figure", low=0, high=1), Values(kind="figure", low=0)
DECISIONS = ("present", "absent", "unsure")
STATES = (
    "ok", "camera moved", "black", "overexposed", "blurred", "frozen", "unfamiliar",
)  # fmt: skip
ACTIONS = ("final", "change", "begun", "ended", "late")
_ANSWERS = ("label", "box", "count", "mask", "anomaly", "none")


def _one_of(*texts: str) -> Values:
    return Values(kind="text", texts=texts)


_PICTURE: Known = {
    "device": _TEXT, "package": _TEXT, "frame": _TEXT, "part": _TEXT, "sequence": _COUNT,
    "state": _one_of(*STATES), "answer": _one_of(*_ANSWERS), "decision": _one_of(*DECISIONS),
    "probability": _SHARE, "share": _SHARE, "more": _TRUTH,
    **dict.fromkeys(("value", "low", "high", "pieces"), _COUNT),
    **dict.fromkeys(("score", "limit"), _FIGURE),
    **dict.fromkeys(("x0_px", "y0_px", "x1_px", "y1_px", "x_px", "y_px"), _FIGURE),
}  # fmt: skip
_EVENT: Known = {
    "action": _one_of(*ACTIONS), "name": _TEXT, "revision": _COUNT, "seconds": _COUNT,
}  # fmt: skip
_STEPS: Mapping[str, Known] = {
    "sighting": {
        "probability": _SHARE, "runner_up_probability": _SHARE, "dwell_s": _COUNT,
        "frames": _COUNT, "best_score": _FIGURE, "best_after_s": _COUNT,
    },
    "crossing": {
        "probability": _SHARE, "direction": _one_of("to left", "to right"), "x_px": _FIGURE,
        "y_px": _FIGURE, "speed_px_s": _COUNT, "frames": _COUNT, "best_score": _FIGURE,
    },
    "pair": {
        "seen": _COUNT, "pairs": _COUNT, "left_over": _COUNT, "session": _TEXT,
        "pair_seen": _one_of("Pair", "Un-matched"),
    },
    "sequence": {"after_s": _FIGURE, "waiting": _COUNT},
    "rate": {"records": _COUNT, "per_s": _COUNT, "lasted_s": _COUNT},
    "hold": {"for_s": _COUNT, "lasted_s": _COUNT},
    "repeat": {"matches": _COUNT, "records": _COUNT, "lasted_s": _COUNT},
    "join": {"apart_s": _COUNT, "complete": _TRUTH, "agree": _TRUTH, "missing": _TEXT},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownValues:
    """Possible values of the fields of a plant file's rules.

    Attributes:
        inspections, rules: by id, as far as they could be built.
        cameras: ids of those that are declared.
    """

    inspections: Mapping[str, Inspection]
    rules: Mapping[str, Rule]
    cameras: tuple[str, ...]

    def read(self, read: Read, *, above: tuple[str, ...] = ()) -> Known:
        """Return the possible values of a rule's records' fields; ``above``: rules that ask."""
        if read.inspections:
            return _merged([self._answered(name, read) for name in read.inspections])
        named = [name for name in read.rules if name not in above]
        return _merged([self._given(name, above=above) for name in named])

    def tested(self, rule: Rule, *, above: tuple[str, ...] = ()) -> Known:
        """Return the possible values of the fields that ``having`` tests."""
        read = self.read(rule.read, above=(*above, rule.id))
        found = {**_EVENT, **_STEPS.get(rule.step, {}), **self._of_step(rule, read)}
        figures = ((one.name, _figure(one, read)) for _, one in entries(rule.aggregate))
        # A figure, or a field of the key, takes the place of what has the same name.
        for name, values in (*figures, *((name, read.get(name)) for _, name in entries(rule.key))):
            found.pop(name, None)
            if values is not None:
                found[name] = values
        return found

    def _answered(self, name: str, read: Read) -> Known:
        inspection = self.inspections.get(name)
        found = {**_PICTURE, "inspection": _one_of(*read.inspections)}
        if self.cameras:
            found["camera"] = _one_of(*self.cameras)
        if inspection is None or inspection.task not in _LABELLED:
            return found
        labels = inspection.known_labels
        if not labels or None in labels or None in inspection.region:
            return found
        found["label"] = _one_of(*sorted(labels))
        names = [
            f"{region.id}/{one}" if region.classes else one
            for region in inspection.region for one in region.answers
        ]  # fmt: skip
        found["name"] = _one_of(*(names or sorted(labels)))
        return found

    def _given(self, name: str, *, above: tuple[str, ...]) -> Known:
        rule = self.rules.get(name)
        if rule is None:
            return {}
        return {**self.tested(rule, above=above), "rule": _one_of(name), "frame": _TEXT}

    def _of_step(self, rule: Rule, read: Known) -> Known:
        """Return the values that follow from the rule's input, or from its step's declaration."""
        if rule.window is not None:
            return {"count": Values(kind="figure", low=1), "windows": Values(kind="figure", low=1)}
        if rule.hold is not None and rule.hold.field in read:
            return {rule.hold.field: read[rule.hold.field]}
        if rule.crossing is not None and "label" in read:
            return {"label": read["label"]}
        if rule.sighting is not None and "label" in read:
            told = rule.sighting.labels or read["label"].texts
            texts = [one for one in told if one not in rule.sighting.blank]
            return {"label": _one_of(*texts, "unknown")} if texts else {}
        if rule.join is not None:
            return {
                f"{side}.{name}": known[name]
                for side in (*rule.read.inspections, *rule.read.rules)
                for known in [self._side(rule, side)] for name in rule.join.fields if name in known
            }  # fmt: skip
        return {}

    def _side(self, rule: Rule, side: str) -> Known:
        if rule.read.inspections:
            return self._answered(side, rule.read)
        return self._given(side, above=(rule.id,))


def _figure(declared: Aggregate, read: Known) -> Values | None:
    """Return the possible values of a window's figure; None where nothing is known of it."""
    if declared.of in {"count", "distinct"}:
        return _COUNT
    if declared.of == "share":
        return _SHARE
    if declared.of == "sum":
        return _FIGURE
    of = read.get(declared.field)
    if of is None or declared.of in {"first", "last"}:
        return of
    return of if of.kind == "figure" else _FIGURE


def _merged(found: list[Known]) -> Known:
    """Return a field's possible values in any of several; unknown where one of them is."""
    if not found:
        return {}
    first, *others = found
    names = [name for name in first if all(name in other for other in others)]
    merged = {name: _hull([one[name] for one in found]) for name in names}
    return {name: values for name, values in merged.items() if values is not None}


def _hull(values: list[Values]) -> Values | None:
    if len({one.kind for one in values}) > 1:
        return None
    texts = dict.fromkeys(text for one in values for text in one.texts)
    return Values(
        kind=values[0].kind, texts=tuple(texts) if all(one.texts for one in values) else (),
        low=min(one.low for one in values), high=max(one.high for one in values),
    )  # fmt: skip


def check_values(conditions: Iterable[Condition], known: Known, *, path: str) -> Iterator[Fault]:
    """Conditions that no record can fulfil, or none can fail, since no field holds such a thing."""
    for place, condition in entries(conditions):
        values = known.get(condition.field)
        if values is not None:
            yield from _check_value(condition, values, path=f"{path}[{place}]")


def _check_value(condition: Condition, values: Values, *, path: str) -> Iterator[Fault]:
    name = condition.field
    for key, value in _tested(condition):
        if not values.could_be(value):
            yield _never(name, value, values, path=f"{path}.{key}")
    pattern = condition.like.replace("[", "[[]")
    fits = not values.texts or any(fnmatchcase(text, pattern) for text in values.texts)
    if condition.like and not (values.kind == "text" and fits):
        yield _never(name, condition.like, values, path=f"{path}.like")
    for key in _BOUNDS:
        bound = getattr(condition, key)
        if bound is not None and not values.could_pass(key, bound):
            yield _never(name, bound, values, path=f"{path}.{key}")


def _tested(condition: Condition) -> Iterator[tuple[str, Scalar]]:
    """The values that a condition compares with, with their places."""
    if condition.equals is not None:
        yield "equals", condition.equals
    for key in ("any_of", "none_of"):
        yield from ((f"{key}[{at}]", one) for at, one in entries(getattr(condition, key)))


def _never(name: str, value: Scalar, values: Values, *, path: str) -> Fault:
    if values.texts and isinstance(value, str):
        fix = nearest(value, values.texts)
    elif values == _SHARE and isinstance(value, int | float) and 1 < value <= 100:
        fix = f"Write {value / 100:g} for {value:g} percent."
    else:
        fix = f"{name!r} holds {values.words}."
    return Fault(
        path=path, value=repr(value), expected=f"what {name!r} can be ({values.words})", fix=fix
    )
