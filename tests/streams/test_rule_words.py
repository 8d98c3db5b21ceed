"""The words of the rules' language mean something everywhere: what one part lacks fails here.

Parts: the declaration, the embedded engine, Spark's SQL, the explanation, the reference.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from lineside.core import Rule
from lineside.core.plant_rules import _TESTS, STEPS, Aggregate, Condition
from lineside.core.rule_check import DECISIONS, STATES
from lineside.streams import explain
from lineside.streams.rules.conditions import _KINDS, compile_conditions, figures_of, values_of
from lineside.streams.rules.explain import conditions_in_words
from lineside.streams.rules.steps import make_step
from lineside.streams.spark.sql import (
    _MADE,
    _NEEDED,
    Typed,
    columns_of,
    conditions_sql,
    windows_sql,
)
from lineside.testing.rules import record, rule_of
from lineside.vision import Decision, PictureState

WORDS: tuple[str, ...] = get_args(get_type_hints(Aggregate)["of"])
REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "plant-file.md").read_text()
FIELD, WHERE = 'field = "score"', 'where = [{ field = "score", at_least = 0.5 }]'
VALUES: dict[str, Any] = {
    "equals": 2, "any_of": (2, 3), "none_of": (1, 4), "like": "a*", "at_least": 2, "at_most": 2,
    "above": 1, "below": 3, "known": True,
}  # fmt: skip
HOLDS = {"like": "ab"}
TYPED = Typed(text="t", number="n", truth="b")


def window(word: str) -> Rule:
    more = {"count": "", "share": f", {WHERE}"}.get(word, f", {FIELD}")
    figure = f'aggregate = [{{ name = "made", of = "{word}"{more} }}]'
    return rule_of(f'id = "r"\nread = {{ topic = "a" }}\nwindow = {{ size_s = 5 }}\n{figure}')


def test_every_figure_is_made_embedded_and_by_spark_and_no_other() -> None:
    assert set(_KINDS) == set(WORDS)
    assert set(_NEEDED) == set(WORDS)
    assert set(_MADE) == {word for word, columns in _NEEDED.items() if columns}
    assert set(WORDS) - set(_MADE) == {"count", "share"}


@pytest.mark.parametrize("word", WORDS)
def test_a_figure_is_told_kept_bounded_explained_and_in_the_reference(word: str) -> None:
    rule = window(word)
    [figure] = figures_of(rule.aggregate)
    memory = figure.begin()
    figure.feed(memory, record(0, {"score": 0.75}))
    assert set(values_of([figure], [memory])) == {"made"}
    assert "AS `made`" in windows_sql(rule)
    assert bool(columns_of(rule)) is (word != "count")
    assert len({explain(window(one)) for one in WORDS}) == len(WORDS)
    assert f"`{word}`" in REFERENCE


@pytest.mark.parametrize("word", WORDS)
def test_what_a_figure_remembers_does_not_grow_with_the_records(word: str) -> None:
    step, sizes = make_step(window(word)), []
    for half in range(2):
        for number in range(12_000 * half, 12_000 * (half + 1)):
            step.feed(record(number * 1e-4, {"score": float(number)}), key=())
        sizes.append(len(repr(step.dump())))
    assert sizes[1] - sizes[0] < 100  # digits; distinct has ten thousand values long before
    assert step.advance(record(60).at_us)


def test_every_test_of_a_condition_has_a_value_here() -> None:
    assert set(_TESTS) == {field.name for field in fields(Condition)} - {"field"} == set(VALUES)


@pytest.mark.parametrize("word", _TESTS)
def test_a_test_decides_embedded_and_by_spark_is_explained_and_in_the_reference(word: str) -> None:
    condition = Condition(field="score", **{word: VALUES[word]})
    test = compile_conditions([condition])
    assert test is not None
    assert test({"score": HOLDS.get(word, 2)})
    assert not test({} if word != "none_of" else {"score": 1})
    assert conditions_sql([condition], find=lambda _name: TYPED)
    words = {conditions_in_words([Condition(field="f", **{one: VALUES[one]})]) for one in _TESTS}
    assert len(words) == len(_TESTS)
    assert "f " not in words  # nothing said but the field
    assert f"`{word}`" in REFERENCE


def test_every_step_is_a_key_of_the_reference() -> None:
    assert [step for step in STEPS if f"`{step}`" not in REFERENCE] == []


def test_durations_are_explained_in_their_largest_whole_unit() -> None:
    rule = rule_of(
        'id = "r"\nread = { topic = "a" }\nlateness_s = 0.5\nidle_s = "5 min"\n'
        'window = { kind = "hopping", size_s = "36 h", every_s = "90 min" }'
    )
    words = explain(rule)
    assert "over stretches of 36 h, a new one every 90 min." in words
    assert "more than 0.5 s behind" in words
    assert "silent for 5 min" in words


def test_checks_know_every_decision_and_every_state_of_a_picture() -> None:
    assert tuple(Decision) == DECISIONS
    assert tuple(PictureState) == STATES
