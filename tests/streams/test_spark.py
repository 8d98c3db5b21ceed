"""Spark says what the embedded engine says: the same ids, the same bodies, nothing else.

One process runs every rule's program on one Spark session; the tests compare.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lineside.core.plant_rules import Condition, Scalar
from lineside.streams import Event, closing_ticks, encode_event, moment, read_entries
from lineside.streams.rules.conditions import compile_conditions
from lineside.streams.spark.ordering import cell_of
from lineside.streams.spark.rule import spark_program
from lineside.streams.spark.sql import Typed, conditions_sql, why_not_sql
from tests.streams.spark_cases import RULES, Case, cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUNNER = Path(__file__).with_name("spark_runner.py")
CASES = cases(1)
VALUES: tuple[Scalar | None, ...] = (
    None, "Google", "a\\b'c", "a\nb", "3", "", 3, 3.0, 2.5, -1, True, False, 1e300, "G*?[x",
)  # fmt: skip
CONDITIONS: tuple[dict[str, Any], ...] = (
    {"equals": "Google"}, {"equals": 3}, {"equals": True}, {"equals": "a\\b'c"},
    {"any_of": ("Google", 3, True)}, {"any_of": (False, 2.5)}, {"none_of": ("Google", "3")},
    {"none_of": (3, True)}, {"like": "G*"}, {"like": "a?b"}, {"like": "*[x"}, {"like": "a\\*"},
    {"like": "G\\*"}, {"at_least": 2.5}, {"at_most": 3.0}, {"above": 2.5, "below": 1e301},
    {"known": True}, {"known": False}, {"known": False, "none_of": (1,)},
)  # fmt: skip
KAFKA = (
    (None, '{"type":"lineside.tick.v1"}', "lineside.log", 0, 7, 1_767_225_600_123),
    ("i/cam", '{"ts":"now"}', "plant", 12, 8, 1_767_225_600_124),
)
"""Records as Spark reads them of Kafka: key, value, topic, partition, offset, time in ms."""
KINDS = ("text", "number", "truth")


def write(case: Case, folder: Path) -> None:
    """Program and micro-batches; the last one ends with what the hub writes in silence."""
    (folder / "in").mkdir(parents=True)
    program = spark_program(case.rule, plant=case.plant, spark="4.3.0")
    (folder / "program.py").write_text(program)
    entries = read_entries(case.lines, plant=case.plant, where="lines")
    newest_us = max(entry.arrived_us for entry in entries)
    ticks = [
        encode_event(Event(id=f"t{one.arrived_us}", source="/s/hub", type=one.type,
                           time=moment(one.arrived_us), data={}))
        for one in closing_ticks(case.rule, plant=case.plant, newest_us=newest_us)
    ]  # fmt: skip
    *others, last = case.batches()
    for place, batch in enumerate([*others, [*last, *ticks]]):
        path = folder / "in" / f"{place:03d}.jsonl"
        path.write_bytes(b"\n".join(batch) + b"\n")
        os.utime(path, (place, place))


def condition_rows() -> dict[str, Any]:
    cells = [cell_of(f"field as {kind}") for kind in KINDS]
    rows = [[cell({"field": one} if one is not None else {}) for cell in cells] for one in VALUES]
    tests = [
        conditions_sql(
            [condition_of(one)], find=lambda _name: Typed(text="t", number="n", truth="b")
        )
        for one in CONDITIONS
    ]
    return {"rows": rows, "schema": "t STRING, n DOUBLE, b BOOLEAN", "tests": tests}


def condition_of(tests: dict[str, Any]) -> Condition:
    return Condition(field="field", **tests)


@pytest.fixture(scope="module")
def ran(absent: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every case was run by Spark."""
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        absent("scale", "pyspark or Java is not installed")
    root = tmp_path_factory.mktemp("spark")
    for name, case in CASES.items():
        write(case, root / name)
    (root / "kafka.json").write_text(json.dumps(KAFKA))
    (root / "conditions.json").write_text(json.dumps(condition_rows()))
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(root)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},  # noqa: TID251  handed to the child
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return root


@pytest.mark.parametrize("name", CASES)
def test_spark_says_what_the_engine_says(name: str, ran: Path) -> None:
    told = sorted((ran / name / "told.jsonl").read_bytes().splitlines())
    assert told == CASES[name].embedded()
    assert told


def test_conditions_in_sql_hold_where_conditions_hold(ran: Path) -> None:
    held = json.loads((ran / "held.json").read_text())
    for row, value in zip(held, VALUES, strict=True):
        fields = {} if value is None else {"field": value}
        for answer, tests in zip(row, CONDITIONS, strict=True):
            test = compile_conditions([condition_of(tests)])
            assert test is not None
            assert answer is test(fields), (value, tests)


def test_records_of_kafka_are_lines_with_their_place(ran: Path) -> None:
    assert json.loads((ran / "lines.json").read_text()) == [
        {"stamp": ms * 1000, "part": f"{topic}/{partition:09d}", "start": offset, "topic": key,
         "line": value}
        for key, value, topic, partition, offset, ms in KAFKA
    ]  # fmt: skip


def test_plain_windows_are_sql() -> None:
    plain = {"tumbling", "keys-of-all-kinds", "hopping", "sessions", "without-key", "of-cameras",
             "seen", "of-two-inspections", "offset", "hopping-with-an-offset"}  # fmt: skip
    assert {name for name, case in CASES.items() if not why_not_sql(case.rule)} == plain


def test_the_streams_are_hard_enough() -> None:
    """Late data, sessions of several records, events of several cameras and of late records."""
    told = [json.loads(line)["data"] for name in CASES for line in CASES[name].embedded()]
    assert {"final", "late", "change", "begun", "ended"} <= {one["action"] for one in told}
    assert len(CASES) == len(RULES)
    assert any(one["rule"] == "sessions" and one["values"].get("count", 0) > 3 for one in told)
