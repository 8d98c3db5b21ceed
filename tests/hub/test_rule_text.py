"""A rule as TOML and back; what is wrong with a text, and on which line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, Plant, Rule, load_plant
from lineside.core.plant_rules import Condition
from lineside.hub.rules.text import read_rule, rule_toml
from lineside.testing.rules import rule_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "socks"
WINDOWS = """[[rule]]
id = "windows"
read = { topic = "sockfound" }
key = ["image"]

[rule.window]
size_s = 5
"""
STEPS = (
    ('window = { kind = "hopping", size_s = 10, every_s = 2.5 }\n'
    'aggregate = [{ name = "m", of = "mean", field = "t" }, { name = "n", of = "share", '
    "where = [{ field = 'ok', equals = true }] }]"),
    'sighting = { blank = ["none"], labels = ["a", "b"], dwell_s = 0.25 }',
    "crossing = { x0_px = 0, y0_px = 0, x1_px = 10, y1_px = -4, direction = 'to left' }",
    ("sequence = { first = [{ field = 'a', any_of = [1, 2.5, 'x', true] }], "
    "then = [{ field = 'a', known = false }], within_s = 3, missing = true }"),
    "pair = {}", "pair = { within_s = 5, session = 's/t' }", "rate = { per_s = 10, below = 0 }",
    "join = { within_s = 90, fields = ['a'], incomplete = true }",
    "repeat = { times = 3, match = [{ field = 'v', equals = 'reject' }] }",
    "repeat = { times = 3, last = 5, within_s = 60, match = [{ field = 'v', above = 1 }] }",
    "hold = { for_s = 2, field = 'v' }", "hold = { for_s = '90 min', field = 'v' }",
    'python = "ours"\nsettings = { "a key" = 1e300, b = "x", c = false, d = 3 }',
)  # fmt: skip


def bare(*rules: Rule) -> Plant:
    return Plant(schema="lineside.plant/1", site="hall", rule=rules)


@pytest.mark.parametrize("name", ["plant.toml", "ksql.toml"])
def test_the_rules_of_the_examples_come_back_as_they_were(name: str) -> None:
    plant = load_plant(EXAMPLES / name)
    for rule in plant.rule:
        assert read_rule(rule_toml(rule), plant=plant) == rule


@pytest.mark.parametrize("step", STEPS)
def test_every_step_comes_back_as_it_was(step: str) -> None:
    read = 'event = ["drift", "device"]' if "join" in step else 'topic = "a/b"'
    rule = rule_of(f'id = "r"\nread = {{ {read} }}\nlate = "event"\nidle_s = 0.5\n{step}')
    assert read_rule(rule_toml(rule), plant=bare()) == rule


@given(
    st.text(max_size=20), st.floats(min_value=1e-6, max_value=1e12),
    st.one_of(st.text(min_size=1, max_size=10), st.integers(-(2**53), 2**53), st.booleans(),
              st.floats(allow_nan=False, allow_infinity=False)),
)  # fmt: skip
def test_any_name_and_any_figure_come_back(name: str, size_s: float, value: Any) -> None:  # noqa: ANN401  a scalar
    rule = rule_of(f'id = "r"\nread = {{ topic = "a" }}\nwindow = {{ size_s = {size_s!r} }}')
    told = replace(rule, name=name, where=(Condition(field="x", equals=value),), key=("image",))
    assert read_rule(rule_toml(told), plant=bare()) == told


def test_figures_of_a_step_stand_there_to_be_changed() -> None:
    text = rule_toml(rule_of('id = "r"\nread = { topic = "a" }\nsighting = {}'))
    assert "sighting = { dwell_s = 0.6, gap_s = 1.5, least_probability = 0.5 }" in text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("size_s = 5", "size_s = -1", "line 7, window.size_s: -1.0 is not above 0."),
        ('key = ["image"]', 'key = "image"', "line 4, key: 'image' is not a list."),
        ('topic = "sockfound"', 'event = "seen"', "line 3, read.event: 'seen' is not"),
        ('topic = "sockfound"', 'predictions = "p"', "line 3, read.predictions: 'p' is not"),
        ('key = ["image"]', 'keys = ["image"]', "line 4, keys"),
        ('id = "windows"\n', "", "id: missing, expected text. Add 'id'."),
        ("[rule.window]\nsize_s = 5", "", "a rule with one step"),
        ("[rule.window]\nsize_s = 5", 'sighting = { learned = "x.json" }',
         "line 6, sighting.learned: 'x.json' is not a file that the plant file names. Known: none"),
    ],
)  # fmt: skip
def test_each_fault_names_its_line(old: str, new: str, told: str) -> None:
    assert old in WINDOWS
    with pytest.raises(InvalidError) as refused:
        read_rule(WINDOWS.replace(old, new), plant=bare())
    assert any(told in str(fault) for fault in refused.value.faults), refused.value.faults


def test_all_faults_are_told_at_once() -> None:
    text = WINDOWS.replace("= 5", "= 0").replace('["image"]', "[3]")
    with pytest.raises(InvalidError) as refused:
        read_rule(text, plant=bare())
    assert len(refused.value.faults) == 2


def test_text_that_is_no_toml_names_line_and_column() -> None:
    with pytest.raises(InvalidError, match="line 2, column"):
        read_rule('[[rule]]\nid = "x\n', plant=bare())


def test_a_change_that_takes_a_field_from_another_rule_is_a_fault_of_it() -> None:
    windows = rule_of(WINDOWS.replace("[[rule]]\n", "").replace("rule.window", "window"))
    pairs = rule_of('id = "pairs"\nread = { event = "windows" }\nkey = ["image"]\npair = {}')
    text = WINDOWS.replace('key = ["image"]\n', "")
    with pytest.raises(InvalidError) as refused:
        read_rule(text, plant=bare(windows, pairs))
    assert [fault.path for fault in refused.value.faults] == ["rule pairs: key[0]"]


def test_a_fault_that_stands_in_the_plant_file_already_is_not_of_the_text() -> None:
    broken = rule_of('id = "broken"\nread = { event = "nobody" }\npair = {}')
    assert read_rule(WINDOWS, plant=bare(broken)).id == "windows"


def test_a_new_rule_may_read_those_there_are() -> None:
    plant = load_plant(EXAMPLES / "plant.toml")
    text = 'id = "many"\nread = { event = "sock-seen" }\nkey = ["label"]\nwindow = { size_s = 60 }'
    assert read_rule(text, plant=plant).read.event == "sock-seen"


def test_long_durations_are_written_with_their_unit() -> None:
    rule = rule_of(
        'id = "r"\nread = { topic = "a" }\nidle_s = 120\nrate = { per_s = 3600, above = 4 }'
    )
    text = rule_toml(rule)
    assert 'rate = { per_s = "1 h", above = 4 }' in text
    assert 'idle_s = "2 min"' in text
