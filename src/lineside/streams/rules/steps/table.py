"""The table of steps: which class does what a rule declares.

A step is made anew for each rule, keeps the ``Step`` contract and is the only thing that knows what
its declaration means. To add one: a record in ``core.plant_rules``, a class, and a line here.
"""

from collections.abc import Callable, Mapping

from lineside.core import InvalidError, Rule, find_driver
from lineside.streams.rules.contract import Step
from lineside.streams.rules.steps.count import Rates, Repeats
from lineside.streams.rules.steps.crossing import Crossings
from lineside.streams.rules.steps.hold import LastingConditions, SteadyValues
from lineside.streams.rules.steps.join import Joins
from lineside.streams.rules.steps.pair import Pairs
from lineside.streams.rules.steps.sequence import Sequences
from lineside.streams.rules.steps.window import AlignedWindows, SessionWindows, WindowEdges
from lineside.streams.rules.tracks.step import Sightings


def make_step(rule: Rule) -> Step:
    """The step of a rule, without memory.

    Raises:
        InvalidError: a Python rule that is not installed, or that refuses its settings.
    """
    return _STEPS[rule.step](rule)


def _window(rule: Rule) -> Step:
    assert rule.window is not None  # noqa: S101  the table is by step
    if rule.window.kind == "session":
        return SessionWindows(rule, rule.window)
    kind = WindowEdges if rule.emit == "edges" else AlignedWindows
    return kind(rule, rule.window)


def _sighting(rule: Rule) -> Step:
    assert rule.sighting is not None  # noqa: S101
    return Sightings(rule, rule.sighting)


def _crossing(rule: Rule) -> Step:
    assert rule.crossing is not None  # noqa: S101
    return Crossings(rule, rule.crossing)


def _sequence(rule: Rule) -> Step:
    assert rule.sequence is not None  # noqa: S101
    return Sequences(rule, rule.sequence)


def _pair(rule: Rule) -> Step:
    assert rule.pair is not None  # noqa: S101
    return Pairs(rule, rule.pair)


def _rate(rule: Rule) -> Step:
    assert rule.rate is not None  # noqa: S101
    return Rates(rule, rule.rate)


def _hold(rule: Rule) -> Step:
    assert rule.hold is not None  # noqa: S101
    kind = SteadyValues if rule.hold.field else LastingConditions
    return kind(rule, rule.hold)


def _repeat(rule: Rule) -> Step:
    assert rule.repeat is not None  # noqa: S101
    return Repeats(rule, rule.repeat)


def _join(rule: Rule) -> Step:
    assert rule.join is not None  # noqa: S101
    return Joins(rule, rule.join)


def _python(rule: Rule) -> Step:
    """An entry point of the group ``lineside.rules``: a function of the rule that makes a step."""
    try:
        make = find_driver("rules", f"{rule.python}:", table={})
    except InvalidError as error:
        raise InvalidError(
            f"no Python rule {rule.python!r} is installed", where=f"rule {rule.id}",
            fix=f"Install the package with the entry point {rule.python!r} of lineside.rules.",
        ) from error  # fmt: skip
    return make(rule)  # type: ignore[no-any-return]  # an entry point is untyped


_STEPS: Mapping[str, Callable[[Rule], Step]] = {
    "window": _window,
    "sighting": _sighting,
    "crossing": _crossing,
    "sequence": _sequence,
    "pair": _pair,
    "rate": _rate,
    "hold": _hold,
    "repeat": _repeat,
    "join": _join,
    "python": _python,
}
