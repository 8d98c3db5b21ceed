"""The steps of rules: a class for each, found by the table.

The table of steps: which class does what a rule declares.

A step is made anew for each rule, keeps the ``Step`` contract and is the only thing that knows what
its declaration means. To add one: a record in ``core.plant_rules``, a class, and a line here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lineside.core import InvalidError, Rule
from lineside.core.drivers import find_driver
from lineside.streams.rules.contract import Step
from lineside.streams.rules.steps.combine import Joins, Pairs, Sequences
from lineside.streams.rules.steps.crossing import Crossings
from lineside.streams.rules.steps.lasting import LastingConditions, Rates, Repeats, SteadyValues
from lineside.streams.rules.steps.window import AlignedWindows, SessionWindows, WindowEdges
from lineside.streams.rules.tracks.step import TrackEvents


def make_step(rule: Rule) -> Step:
    """The step of a rule, without memory.

    Raises:
        InvalidError: a Python rule that is not installed, or that refuses its settings.
    """
    if rule.step == "python":
        return _python(rule)
    return _class_of(rule)(rule, getattr(rule, rule.step))


def _class_of(rule: Rule) -> Callable[[Rule, Any], Step]:
    if rule.window is not None and rule.window.kind == "session":
        return SessionWindows
    if rule.window is not None and rule.emit == "edges":
        return WindowEdges
    if rule.hold is not None and rule.hold.field:
        return SteadyValues
    return _STEPS[rule.step]


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


_STEPS: Mapping[str, Callable[[Rule, Any], Step]] = {
    "window": AlignedWindows,
    "sighting": TrackEvents,
    "crossing": Crossings,
    "sequence": Sequences,
    "pair": Pairs,
    "rate": Rates,
    "hold": LastingConditions,
    "repeat": Repeats,
    "join": Joins,
}
