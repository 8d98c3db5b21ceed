"""References of the rules of a plant file: what they read, whose fields they test, no circles.

Values are checked as far as they are known before the first record: labels are those that the
inspection declares, shares and probabilities lie between 0 and 1, other fields hold anything.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

from lineside.core.codec import entries, good_id, known, nearest, twice
from lineside.core.errors import Fault, InvalidError
from lineside.core.plant import Inspection, Task
from lineside.core.plant_rules import Aggregate, Condition, Rule, RuleInput, Scalar
from lineside.core.topics import check_pattern, topics_meet

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
RuleAction = Literal["final", "change", "begun", "ended", "late"]
ACTIONS: tuple[RuleAction, ...] = get_args(RuleAction)
_ANSWERS = ("label", "box", "count", "mask", "anomaly", "none")


def _one_of(*texts: str) -> Values:
    return Values(kind="text", texts=texts)


_PICTURE_VALUES: Known = {
    "device": _TEXT, "package": _TEXT, "frame": _TEXT, "part": _TEXT, "sequence": _COUNT,
    "state": _one_of(*STATES), "answer": _one_of(*_ANSWERS), "decision": _one_of(*DECISIONS),
    "probability": _SHARE, "share": _SHARE, "more": _TRUTH,
    **dict.fromkeys(("value", "low", "high", "pieces"), _COUNT),
    **dict.fromkeys(("score", "limit"), _FIGURE),
    **dict.fromkeys(("x0_px", "y0_px", "x1_px", "y1_px", "x_px", "y_px"), _FIGURE),
}  # fmt: skip
_EVENT_VALUES: Known = {
    "action": _one_of(*ACTIONS), "name": _TEXT, "revision": _COUNT, "seconds": _COUNT,
}  # fmt: skip
_STEP_VALUES: Mapping[str, Known] = {
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
class PossibleValues:
    """Possible values of the fields of a plant file's rules.

    Attributes:
        inspections, rules: by id, as far as they could be built.
        cameras: ids of those that are declared.
    """

    inspections: Mapping[str, Inspection]
    rules: Mapping[str, Rule]
    cameras: tuple[str, ...]

    def read(self, read: RuleInput, *, above: tuple[str, ...] = ()) -> Known:
        """Return the possible values of a rule's records' fields; ``above``: rules that ask."""
        if read.inspections:
            return _merged([self._answered(name, read) for name in read.inspections])
        named = [name for name in read.rules if name not in above]
        return _merged([self._given(name, above=above) for name in named])

    def tested(self, rule: Rule, *, above: tuple[str, ...] = ()) -> Known:
        """Return the possible values of the fields that ``having`` tests."""
        read = self.read(rule.read, above=(*above, rule.id))
        found = {**_EVENT_VALUES, **_STEP_VALUES.get(rule.step, {}), **self._of_step(rule, read)}
        figures = ((one.name, _figure(one, read)) for _, one in entries(rule.aggregate))
        # A figure, or a field of the key, takes the place of what has the same name.
        for name, values in (*figures, *((name, read.get(name)) for _, name in entries(rule.key))):
            found.pop(name, None)
            if values is not None:
                found[name] = values
        return found

    def _answered(self, name: str, read: RuleInput) -> Known:
        inspection = self.inspections.get(name)
        found = {**_PICTURE_VALUES, "inspection": _one_of(*read.inspections)}
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


HUB_EVENTS = ("camera", "device", "discrepancy", "drift", "picture")
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


def fields_read(read: RuleInput, *, rules: Mapping[str, Rule]) -> tuple[str, ...] | None:
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

    The step alone may know them, and of a faulty rule nobody does (see ``checks``).
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


_ROUTE_KINDS = ("frame", "sensor", "stock", "order", "station", "alert", "message")
_NEEDS_BOXES = ("crossing",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Names that rules may refer to.

    Attributes:
        lines, cameras, inspections, rules: ids of the plant file.
        routes: topic patterns of the plant file.
        pictures: topics that the hub takes pictures on without a route.
        built: the inspections that could be built, by id.
    """

    lines: Sequence[str]
    cameras: Sequence[str]
    inspections: Sequence[str]
    rules: Sequence[str]
    routes: Sequence[str] = ()
    pictures: Sequence[str] = ()
    built: Mapping[str, Inspection] = field(default_factory=dict)


def check_rules(rules: Iterable[Rule], declared: Declared) -> Iterator[Fault]:
    """Every fault of reference of the rules."""
    found = list(entries(rules))
    by_id = {rule.id: rule for _, rule in found}
    values = PossibleValues(
        inspections=declared.built, rules=by_id, cameras=tuple(declared.cameras)
    )
    yield from twice(declared.rules, "$.rule")
    for place, rule in found:
        path = f"$.rule[{place}]"
        yield from good_id(rule.id, f"{path}.id")
        yield from _not_the_hubs(rule, path)
        if rule.line:
            yield from known(rule.line, declared.lines, path=f"{path}.line", noun="line")
        yield from _check_read(rule, declared, path=f"{path}.read")
        yield from _check_fields(rule, by_id, path=path)
        yield from _check_values(rule, values, path=path)
        yield from _check_step(rule, declared, path=path)
    yield from _circles(by_id, {rule.id: place for place, rule in found})


def _not_the_hubs(rule: Rule, path: str) -> Iterator[Fault]:
    if rule.id in HUB_EVENTS:
        yield Fault(
            path=f"{path}.id", value=repr(rule.id), expected="an id that the hub does not use",
            fix="Rename it: the hub itself says events of that name.",
        )  # fmt: skip


def _check_read(rule: Rule, declared: Declared, *, path: str) -> Iterator[Fault]:
    read = rule.read
    for name, here in _named(read.predictions, path=f"{path}.predictions"):
        yield from known(name, declared.inspections, path=here, noun="inspection")
    for name, here in _named(read.event, path=f"{path}.event"):
        others = [one for one in (*declared.rules, *HUB_EVENTS) if one != rule.id]
        yield from known(name, others, path=here, noun="rule")
    yield from twice(read.inspections or read.rules, path)
    if read.plant:
        yield from known(read.plant, _ROUTE_KINDS, path=f"{path}.plant", noun="kind of route")
    for place, camera in entries(read.cameras):
        here = f"{path}.cameras[{place}]"
        yield from known(camera, declared.cameras, path=here, noun="camera")
    if read.topic and not _is_pattern(read.topic):
        yield Fault(
            path=f"{path}.topic", value=repr(read.topic), expected="a topic pattern",
            fix='Write levels as in "f/i/state/+"; "#" only as the whole last level.',
        )  # fmt: skip
    elif read.topic:
        yield from _routed(read.topic, declared, path=f"{path}.topic")


def _named(named: str | Sequence[str], *, path: str) -> Iterator[tuple[str, str]]:
    """One name, or several, with their places."""
    if isinstance(named, str):
        yield from [(named, path)] if named else []
    else:
        yield from ((name, f"{path}[{place}]") for place, name in entries(named))


def _routed(pattern: str, declared: Declared, *, path: str) -> Iterator[Fault]:
    """A pattern that nothing can come on; a plant without routes may still read recordings."""
    taken = (*declared.routes, *declared.pictures)
    if declared.routes and not any(topics_meet(pattern, topic) for topic in taken):
        yield Fault(
            path=path, value=repr(pattern), expected="a topic that a route takes",
            fix=f"{nearest(pattern, declared.routes)} Or add a [[route]] with it.",
        )  # fmt: skip


def _is_pattern(topic: str) -> bool:
    try:
        check_pattern(topic)
    except InvalidError:
        return False
    return True


def _check_fields(rule: Rule, rules: Mapping[str, Rule], *, path: str) -> Iterator[Fault]:
    """Fields that what is read does not have; where they are not known ahead, none is a fault."""
    yield from twice((name for _, name in entries(rule.key)), f"{path}.key")
    yield from twice((figure.name for _, figure in entries(rule.aggregate)), f"{path}.aggregate")
    tested = fields_tested(rule, rules=rules)
    if tested is not None:
        yield from _having(rule.having, tested, path=f"{path}.having")
    names = fields_read(rule.read, rules=rules)
    if names is None:
        return
    for place, name in entries(rule.key):
        yield from _field(name, names, path=f"{path}.key[{place}]")
    yield from _conditions(rule.where, names, path=f"{path}.where")
    for place, figure in entries(rule.aggregate):
        here = f"{path}.aggregate[{place}]"
        if figure.field:
            yield from _field(figure.field, names, path=f"{here}.field")
        yield from _conditions(figure.where, names, path=f"{here}.where")
    yield from _check_step_fields(rule, names, path=path)


def _check_step_fields(rule: Rule, names: Sequence[str], *, path: str) -> Iterator[Fault]:
    if rule.sequence is not None:
        yield from _conditions(rule.sequence.first, names, path=f"{path}.sequence.first")
        yield from _conditions(rule.sequence.then, names, path=f"{path}.sequence.then")
    if rule.join is not None:
        for place, name in entries(rule.join.fields):
            yield from _field(name, names, path=f"{path}.join.fields[{place}]")
    if rule.repeat is not None:
        yield from _conditions(rule.repeat.match, names, path=f"{path}.repeat.match")
    if rule.hold is not None and rule.hold.field:
        yield from _field(rule.hold.field, names, path=f"{path}.hold.field")


def _check_values(rule: Rule, known_values: PossibleValues, *, path: str) -> Iterator[Fault]:
    """Labels that the inspection does not have, and bounds that no figure can pass."""
    read = known_values.read(rule.read, above=(rule.id,))
    yield from check_values(rule.having, known_values.tested(rule), path=f"{path}.having")
    yield from check_values(rule.where, read, path=f"{path}.where")
    for place, figure in entries(rule.aggregate):
        yield from check_values(figure.where, read, path=f"{path}.aggregate[{place}].where")
    if rule.sequence is not None:
        yield from check_values(rule.sequence.first, read, path=f"{path}.sequence.first")
        yield from check_values(rule.sequence.then, read, path=f"{path}.sequence.then")
    if rule.repeat is not None:
        yield from check_values(rule.repeat.match, read, path=f"{path}.repeat.match")
    labels = read["label"].texts if "label" in read else ()
    if rule.sighting is not None and labels:
        for key, names in (("blank", rule.sighting.blank), ("labels", rule.sighting.labels)):
            for place, name in entries(names):
                here = f"{path}.sighting.{key}[{place}]"
                yield from known(name, labels, path=here, noun="label")


def _having(conditions: Iterable[Condition], names: Sequence[str], *, path: str) -> Iterator[Fault]:
    for fault in _conditions(conditions, names, path=path):
        yield replace(fault, expected="a field of what the step gives out")


def _conditions(
    conditions: Iterable[Condition], names: Sequence[str], *, path: str
) -> Iterator[Fault]:
    for place, condition in entries(conditions):
        yield from _field(condition.field, names, path=f"{path}[{place}].field")


def _field(name: str, names: Sequence[str], *, path: str) -> Iterator[Fault]:
    if name not in names:
        yield Fault(
            path=path, value=repr(name), expected="a field of what is read",
            fix=nearest(name, sorted(set(names))),
        )  # fmt: skip


def _check_step(rule: Rule, declared: Declared, *, path: str) -> Iterator[Fault]:
    if rule.hold is not None and not rule.hold.field and not rule.where:
        yield Fault(
            path=f"{path}.where", value="nothing", expected="what must hold",
            fix="Add where = [{ field = …, … }], or hold.field.",
        )  # fmt: skip
    if rule.join is not None and len(rule.read.inspections or rule.read.rules) < 2:
        yield Fault(
            path=f"{path}.read", value=repr(rule.read.source[1]),
            expected="two or more inspections, or rules, to join",
            fix='Write predictions = ["…", "…"], or event = ["…", "…"].',
        )  # fmt: skip
    if rule.step in _NEEDS_BOXES and rule.read.predictions and rule.read.answers != "each":
        yield Fault(
            path=f"{path}.read.answers", value=repr(rule.read.answers), expected="every box",
            fix='Write answers = "each".',
        )  # fmt: skip
    if rule.pair is not None and {"+", "#"} & set(rule.pair.session):
        yield Fault(
            path=f"{path}.pair.session", value=repr(rule.pair.session), expected="one topic",
            fix="Name the topic whose messages begin a session.",
        )  # fmt: skip
    elif rule.pair is not None and rule.pair.session:
        yield from _routed(rule.pair.session, declared, path=f"{path}.pair.session")


def _circles(rules: Mapping[str, Rule], places: Mapping[str, int]) -> Iterator[Fault]:
    """Rules that read, over others, what they give out themselves; each circle is told once."""
    reported: set[str] = set()
    for rule in rules.values():
        chain = () if rule.id in reported else _way_back(rule.id, rules)
        if not chain:
            continue
        reported |= set(chain)
        way = " → ".join(repr(name) for name in (*chain, rule.id))
        yield Fault(
            path=f"$.rule[{places[rule.id]}].read.event", value=repr(rule.read.source[1]),
            expected=f"a rule that does not read this one ({way})",
            fix="Break the circle: let one of them read predictions or the plant.",
        )  # fmt: skip


def _way_back(name: str, rules: Mapping[str, Rule]) -> tuple[str, ...]:
    """The rules on a way from one over those it reads back to itself; none where there is none."""
    ways: list[tuple[str, ...]] = [(name,)]
    visited: set[str] = set()
    while ways:
        way = ways.pop()
        for following in rules[way[-1]].read.rules:
            if following == name:
                return way
            if following in rules and following not in visited:
                visited.add(following)
                ways.append((*way, following))
    return ()
