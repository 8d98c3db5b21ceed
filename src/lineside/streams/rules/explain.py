"""A rule in plain words, for people who did not write it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from lineside.core import Rule
from lineside.core.clock import duration_text
from lineside.core.plant_rules import Aggregate, Condition, Scalar, WindowStep

_PLANT: Mapping[str, str] = {
    "alert": "the plant's alerts", "frame": "the plant's pictures",
    "message": "the plant's messages", "order": "orders of the plant",
    "sensor": "what the plant's sensors measure", "station": "what the plant's stations report",
    "stock": "the plant's reports of its stock",
}  # fmt: skip
_SIZES = (
    ("at_least", "is at least"), ("at_most", "is at most"), ("above", "is above"),
    ("below", "is below"),
)  # fmt: skip


def explain(rule: Rule) -> str:
    """Explain a rule in sentences, one a line."""
    return "\n".join(_sentences(rule))


def conditions_in_words(conditions: Iterable[Condition]) -> str:
    """Conditions joined by "and"."""
    return " and ".join(_condition(one) for one in conditions)


def _sentences(rule: Rule) -> Iterator[str]:
    yield f"{rule.name or rule.id}: reads {_read(rule)}{_where(rule)}."
    yield from _STEPS[rule.step](rule)
    if rule.emit == "edges":
        yield (
            f"It tells when, from one stretch to the next, {conditions_in_words(rule.having)} "
            "begins to hold, and when that ends."
        )
    elif rule.having:
        yield f"Of these it tells only those where {conditions_in_words(rule.having)}."
    yield _emit(rule)
    yield _lateness(rule)
    if rule.key:
        yield (
            f"It remembers at most {rule.most_keys} keys; beyond that, the one unused longest is "
            "given up: what is known of it is emitted early, and counted."
        )


def _read(rule: Rule) -> str:
    read = rule.read
    cameras = f" of {_listed(read.cameras)}" if read.cameras else ""
    if read.inspections:
        each = "every answer" if read.answers == "each" else "the likeliest label of each picture"
        return f"{each} of {_named('inspection', read.inspections)}{cameras}"
    if read.rules:
        return f"the events of {_named('rule', read.rules)}{cameras}"
    if read.plant:
        return _PLANT.get(read.plant, f"the plant's messages of kind {read.plant}") + cameras
    return f"messages on {read.topic}{cameras}"


def _where(rule: Rule) -> str:
    if not rule.where or (rule.hold is not None and not rule.hold.field):
        return ""
    return f" where {conditions_in_words(rule.where)}"


def _it(rule: Rule) -> str:
    """Return the beginning of a sentence about the step; a rule with a key does it for each."""
    return f"For each {_listed(rule.key)} it" if rule.key else "It"


def _window(rule: Rule) -> Iterator[str]:
    assert rule.window is not None  # noqa: S101  the table is by step
    figures = _listed(_figure(one) for one in rule.aggregate) if rule.aggregate else ""
    more = f", and takes {figures}," if figures else ""
    yield f"{_it(rule)} counts the records{more} over {_stretch(rule.window)}."


def _stretch(window: WindowStep) -> str:
    if window.kind == "session":
        return f"stretches in which records follow one another within {duration_text(window.gap_s)}"
    hopping = window.kind == "hopping"
    every = f"a new one every {duration_text(window.every_s)}" if hopping else "one after the other"
    return f"stretches of {duration_text(window.size_s)}, {every}{_by_clock(window)}"


def _by_clock(window: WindowStep) -> str:
    if not window.offset_s and not window.zone:
        return ""
    hours, rest_s = divmod(window.offset_s, 3600)
    at = f"{hours:02.0f}:{rest_s / 60:02.0f}" if hours < 24 and not rest_s % 60 else ""
    since = at or f"{duration_text(window.offset_s)} after midnight of 1970-01-01"
    return f", counted from {since} by the clock of {window.zone or 'UTC'}"


def _figure(one: Aggregate) -> str:
    of = f" {one.field}" if one.field else ""
    word = {
        "count": "number of records", "distinct": f"number of different{of}",
        "share": "share of records",
    }.get(one.of, f"{one.of}{of}")  # fmt: skip
    only = f" where {conditions_in_words(one.where)}" if one.where else ""
    return f"the {word}{only} ({one.name})"


def _object_event(rule: Rule) -> Iterator[str]:
    step = rule.sighting
    assert step is not None  # noqa: S101
    blank = f"; {_either(step.blank)} means that nothing is in view" if step.blank else ""
    yield f"{_it(rule)} tells one event for each thing that passes{blank}."
    if step.learned:
        yield f"How long things stay and how answers flicker was learned: {step.learned}."
    else:
        yield (
            f"A thing is in view for at least {duration_text(step.dwell_s)}, and an absence "
            f"shorter than {duration_text(step.gap_s)} does not end it."
        )
    yield f"Below a probability of {step.least_probability:g} the label is unknown."


def _crossing(rule: Rule) -> Iterator[str]:
    step = rule.crossing
    assert step is not None  # noqa: S101
    way = "either way" if step.direction == "either" else f"{step.direction}, looking along it"
    yield (
        f"{_it(rule)} follows boxes and tells each whose centre passes the line from "
        f"({step.x0_px:g}, {step.y0_px:g}) to ({step.x1_px:g}, {step.y1_px:g}) px, {way}."
    )


def _sequence(rule: Rule) -> Iterator[str]:
    step = rule.sequence
    assert step is not None  # noqa: S101
    first, then = conditions_in_words(step.first), conditions_in_words(step.then)
    if step.missing:
        yield (
            f"{_it(rule)} tells when, after a record where {first}, none where {then} comes "
            f"within {duration_text(step.within_s)}."
        )
    else:
        yield (
            f"{_it(rule)} tells when a record where {first} is followed by one where {then} "
            f"within {duration_text(step.within_s)}."
        )


def _pair(rule: Rule) -> Iterator[str]:
    step = rule.pair
    assert step is not None  # noqa: S101
    apart = f", at most {duration_text(step.within_s)} apart" if step.within_s else ""
    yield f"{_it(rule)} makes a pair of every second record and the one before it{apart}."
    if step.session:
        yield f"A message on {step.session} begins a new sorting session with new counts."


def _rate(rule: Rule) -> Iterator[str]:
    step = rule.rate
    assert step is not None  # noqa: S101
    limit = f"more than {step.above:g}" if step.above is not None else f"fewer than {step.below:g}"
    yield (
        f"{_it(rule)} tells when there begin to be {limit} records in "
        f"{duration_text(step.per_s)}, and when that ends."
    )


def _hold(rule: Rule) -> Iterator[str]:
    step = rule.hold
    assert step is not None  # noqa: S101
    if step.field:
        yield (
            f"{_it(rule)} tells each value of {step.field} that stayed the same for "
            f"{duration_text(step.for_s)}."
        )
        return
    gap = f", failing no longer than {duration_text(step.gap_s)} in between" if step.gap_s else ""
    yield (
        f"{_it(rule)} tells when {conditions_in_words(rule.where)} has held for "
        f"{duration_text(step.for_s)}{gap}, and when that ends."
    )


def _repeat(rule: Rule) -> Iterator[str]:
    step = rule.repeat
    assert step is not None  # noqa: S101
    row = step.last in {0, step.times}
    many = f"{step.times} records in a row" if row else f"{step.times} of the last {step.last}"
    within = f", at most {duration_text(step.within_s)} apart" if step.within_s else ""
    yield (
        f"{_it(rule)} tells when, in {many}{within}, {conditions_in_words(step.match)}, and when "
        "that ends."
    )


def _join(rule: Rule) -> Iterator[str]:
    step = rule.join
    assert step is not None  # noqa: S101
    sides = _listed(rule.read.inspections or rule.read.rules)
    yield (
        f"{_it(rule)} joins one record of each of {sides} that lie at most "
        f"{duration_text(step.within_s)} apart, and tells {_listed(step.fields)} of each."
    )
    if step.incomplete:
        yield "Those of which one did not come are told too."


def _python(rule: Rule) -> Iterator[str]:
    yield f"{_it(rule)} does what the installed Python rule {rule.python} decides."


_STEPS: Mapping[str, Callable[[Rule], Iterator[str]]] = {
    "window": _window, "sighting": _object_event, "crossing": _crossing, "sequence": _sequence,
    "pair": _pair, "rate": _rate, "hold": _hold, "repeat": _repeat, "join": _join,
    "python": _python,
}  # fmt: skip


def _emit(rule: Rule) -> str:
    topic = f"…/event/{rule.id}"
    if rule.emit == "changes":
        return f"Each change is told at once on {topic}, as records come."
    return f"What it found is told on {topic} once nothing can change it any more."


def _lateness(rule: Rule) -> str:
    clock = "the time of arrival" if rule.time == "arrival" else "the time of capture"
    late = "told as events of their own" if rule.late == "event" else "counted"
    behind = (
        f"more than {duration_text(rule.lateness_s)} behind" if rule.lateness_s else "older than"
    )
    return (
        f"It goes by {clock}; records {behind} the newest of their source are left out and {late}. "
        f"A source that is silent for {duration_text(rule.idle_s)} is not waited for."
    )


def _condition(one: Condition) -> str:
    parts = []
    if one.equals is not None:
        parts.append(f"is {_value(one.equals)}")
    if one.any_of:
        parts.append(f"is {_either(map(_value, one.any_of))}")
    if one.none_of:
        parts.append(f"is not {_either(map(_value, one.none_of))}")
    if one.like:
        parts.append(f"is like {one.like!r}")
    if one.known is not None:
        parts.append("is known" if one.known else "is not known")
    bounds = ((words, getattr(one, name)) for name, words in _SIZES)
    parts += [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
    return f"{one.field} {' and '.join(parts)}"


def _value(value: Scalar) -> str:
    """Text in quotes, true and false as the plant file has them."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _named(noun: str, names: Sequence[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {_listed(names)}"


def _either(names: Iterable[str]) -> str:
    *head, last = list(names)
    return f"{', '.join(head)} or {last}" if head else last


def _listed(names: Iterable[str]) -> str:
    *head, last = list(names)
    return f"{', '.join(head)} and {last}" if head else last
