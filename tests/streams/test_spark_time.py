"""What Spark is told of a rule, without Spark: the engine's turn at each batch, SQL, programs."""

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Plant, parse_plant
from lineside.streams import Entry, explain, read_entries
from lineside.streams.spark.ordering import COLUMNS, UNREADABLE, Turn
from lineside.streams.spark.rule import spark_program
from lineside.streams.spark.sql import (
    columns_of,
    interval,
    literal,
    quoted,
    why_not_sql,
    windows_sql,
)
from tests.streams.spark_cases import cases

CASES = cases(1)
FIRST_AS_COUNT = """
aggregate = [{ name = "count", of = "first", field = "x" }]
having = [{ field = "count", above = 1 }]
"""
HOSTILE = "x\"\"\"'''\\ `\n\rimport os\n# $words {sql}"


def plant_of(table: str) -> Plant:
    return parse_plant(
        f'schema = "lineside.plant/1"\nsite = "s"\n[[rule]]\nid = "r"\n{table}'.encode(),
        where="plant",
    )


def rows_of(name: str, cuts: list[int]) -> list[tuple[Any, ...]]:
    """The rows of a rule, each batch in a turn that knows its memory only; without marks."""
    case, found, memory = CASES[name], list[tuple[Any, ...]](), ""
    columns = None if why_not_sql(case.rule) else columns_of(case.rule)
    entries = list(read_entries(case.lines, plant=case.plant, where="lines"))
    for begin, end in zip([0, *cuts], [*cuts, len(entries)], strict=True):
        turn = Turn(case.rule, plant=case.plant, columns=columns)
        if memory:
            turn.load(memory)
        found += [row for row in turn.take(entries[begin:end]) if row[0] or row[3]]
        memory = turn.dump()
    # Where events about late records are put in time depends on the batch; they say their own time.
    return [row if row[3] else (row[0],) for row in found]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tumbling", "of-cameras", "seen", "pair", "pairs-of-windows"])
@given(data=st.data())
def test_batches_make_no_difference(name: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, 239), max_size=6)))
    told, whole = rows_of(name, cuts), rows_of(name, [])
    assert [row for row in told if len(row) > 1] == [row for row in whole if len(row) > 1]
    assert sorted(row for row in told if len(row) == 1) == sorted(
        row for row in whole if len(row) == 1
    )


def test_records_come_in_order_of_time_and_numbered() -> None:
    records = [row for row in rows_of("tumbling", [100]) if len(row) > 1]
    places = [(row[1], row[2]) for row in records]
    assert places == sorted(places)
    assert [row[2] for row in records] == list(range(1, len(records) + 1))


def test_a_mark_says_how_far_time_has_come_and_what_was_left_out() -> None:
    case = CASES["sessions"]
    turn = Turn(case.rule, plant=case.plant, columns=columns_of(case.rule))
    entries = list(read_entries(case.lines, plant=case.plant, where="lines"))
    broken = Entry(type=UNREADABLE, subject="", arrived_us=0, body=b"")
    *_, mark = turn.take([*entries, broken])
    told = dict(zip(COLUMNS, mark, strict=False))
    assert told["at_us"] > 1_700_000_000_000_000
    assert told["late"] > 0
    assert told["keyless"] > 0
    assert told["unreadable"] == 1
    assert told["id"] is None


@pytest.mark.parametrize("name", CASES)
def test_a_program_is_python_that_says_what_it_does(name: str) -> None:
    case = CASES[name]
    text = spark_program(case.rule, plant=case.plant, spark="4.3.0")
    tree = ast.parse(text)
    names = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    assert names == {"events_of", "lines_of", "main"}
    assert explain(case.rule).splitlines()[0] in text
    assert ("GROUP BY" in text) is not bool(why_not_sql(case.rule))


def test_names_of_a_plant_file_stay_text_in_the_program() -> None:
    name = json.dumps(HOSTILE)
    plant = plant_of(f"""
name = {name}
read = {{ topic = {name.replace("+", "").replace("#", "")} }}
key = [{name}]
window = {{ size_s = 5 }}
aggregate = [{{ name = {name}, of = "share", where = [{{ field = {name}, equals = {name} }}] }}]
""")
    text = spark_program(plant.rule[0], plant=plant, spark="4.3.0")
    tree = ast.parse(text)
    assert not [one for one in ast.walk(tree) if isinstance(one, ast.Import) and
                any(alias.name == "os" for alias in one.names)]  # fmt: skip
    values = {
        one.targets[0].id: ast.literal_eval(one.value)
        for one in tree.body if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
    }  # fmt: skip
    assert values["WINDOWS"].strip() == windows_sql(plant.rule[0])
    assert json.loads(values["RULE"])["plant"]["rule"][0]["name"] == HOSTILE


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('emit = "changes"', "every change"),
        ('having = [{ field = "action", equals = "final" }]', "action"),
        ('aggregate = [{ name = "_count", of = "count" }]', "names"),
        (FIRST_AS_COUNT, "count"),
        ('having = [{ field = "count", above = 1 }, { field = "seconds", known = true }]', ""),
    ],
)  # fmt: skip
def test_which_windows_are_sql(table: str, reason: str) -> None:
    rule = plant_of(f'read = {{ topic = "a" }}\nwindow = {{ size_s = 5 }}\n{table}').rule[0]
    assert reason in why_not_sql(rule)
    assert bool(why_not_sql(rule)) is bool(reason)


def test_words_of_sql() -> None:
    assert [interval(us) for us in (5_000_000, 90_000_000, 7_200_000_000, 500_001)] == [
        "5 seconds", "90 seconds", "2 hours", "500001 microseconds",
    ]  # fmt: skip
    assert quoted("a`b") == "`a``b`"
    assert [literal(one) for one in ("a'\\", True, 3, 2.5)] == ["'a\\'\\\\'", "true", "3", "2.5D"]
