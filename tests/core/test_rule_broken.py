"""Whatever one value of a plant file is broken: faults with their places, never a crash."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lineside.core import Fault, InvalidError, decode_toml, parse_plant

EXAMPLES = Path(__file__).parents[2] / "examples"
PLANT: dict[str, Any] = decode_toml(
    b"""
schema = "lineside.plant/1"
site = "works"
line = [{ id = "belt", name = "Belt" }]
camera = [{ id = "top", line = "belt", source = "folder:pictures" }]
inspection = [
  { id = "sock", camera = "top", task = "detect", labels = ["Google", "Blank"], good = ["Google"] },
]
route = [
  { topic = "i/alert", kind = "alert" }, { topic = "i/+", kind = "message" },
  { topic = "said", kind = "message", say = { inspection = "sock", fields = { a = "label" } } },
]
""",
    where="",
)
RULES: dict[str, Any] = decode_toml(
    b"""
[[rule]]
id = "windows"
line = "belt"
read = { predictions = "sock", answers = "each", cameras = ["top"] }
where = [{ field = "label", none_of = ["Blank"], like = "G*" }, { field = "score", above = 0 }]
key = ["label", "camera"]
window = { kind = "hopping", size_s = 5, every_s = 2 }
aggregate = [
  { name = "sure", of = "mean", field = "probability" },
  { name = "part", of = "share", where = [{ field = "label", any_of = ["Google"] }] },
]
having = [{ field = "count", above = 3 }]
lateness_s = 1
[[rule]]
id = "pairs"
read = { event = "windows" }
key = ["label"]
pair = { within_s = 3, session = "i/session" }
[[rule]]
id = "door"
read = { plant = "alert" }
[rule.sequence]
first = [{ field = "code", equals = 1 }]
then = [{ field = "id", known = true }]
within_s = 3
[[rule]]
id = "busy"
read = { topic = "i/alert" }
key = ["id"]
rate = { per_s = 3, above = 2 }
[[rule]]
id = "again"
read = { predictions = "sock", answers = "each" }
repeat = { times = 2, last = 4, within_s = 3, match = [{ field = "label", equals = "Blank" }] }
[[rule]]
id = "held"
read = { topic = "i/#" }
hold = { for_s = 3, field = "code", gap_s = 1 }
[[rule]]
id = "over"
read = { predictions = "sock", answers = "each" }
crossing = { x0_px = 0, y0_px = 0, x1_px = 1, y1_px = 1 }
[[rule]]
id = "seen"
read = { predictions = "sock" }
sighting = { blank = ["Blank"], labels = ["Google"], dwell_s = 1 }
[[rule]]
id = "own"
read = { event = "drift" }
python = "ours"
settings = { a = 1, b = "x" }
""",
    where="",
)  # fmt: skip
BROKEN: tuple[Any, ...] = (
    "", "median", "a/#/b", -1, 0, 2.5, True, [], {}, [[]], ["x", 5, "x"], [5, 6], [{}, {}],
    {"x": [1]}, {"field": 3},
)  # fmt: skip


def toml(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


def document(tables: dict[str, Any]) -> bytes:
    return "\n".join(f"{key} = {toml(value)}" for key, value in tables.items()).encode()


def broken(value: object) -> Iterator[Any]:
    """Each copy of a value in which one thing, wherever it stands, is another or is not there."""
    yield from BROKEN
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: item for name, item in value.items() if name != key}
            yield from ({**value, key: one} for one in broken(inner))
        yield {**value, "strange": 1}
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], one, *value[place + 1 :]] for one in broken(inner))
        yield [*value, *value]


def faults_of(tables: dict[str, Any]) -> tuple[Fault, ...]:
    try:
        parse_plant(document(tables), where="plant.toml")
    except InvalidError as error:
        return error.faults or (Fault(path="", value="", expected="", fix=""),)
    return ()


def look_at(tables: dict[str, Any]) -> int:
    """How many faults there are; each has its place and its sentence."""
    faults = faults_of(tables)
    for fault in faults:
        assert fault.path.startswith("$"), fault
        assert all((fault.value, fault.expected, fault.fix)), fault
        assert "object at 0x" not in str(fault), fault
    return len(faults)


def test_the_plant_is_sound_before_it_is_broken() -> None:
    assert look_at({**PLANT, **RULES}) == 0


@pytest.mark.parametrize("rule", RULES["rule"], ids=lambda rule: rule["id"])
def test_one_broken_value_of_a_rule_is_never_a_crash(rule: dict[str, Any]) -> None:
    others = [one for one in RULES["rule"] if one["id"] == "windows" != rule["id"]]
    found = [look_at({**PLANT, "rule": [*others, one]}) for one in broken(rule)]
    assert sum(map(bool, found)) > len(found) / 2


@pytest.mark.parametrize("part", ["line", "camera", "inspection", "route"])
def test_one_broken_value_of_what_rules_name_is_never_a_crash(part: str) -> None:
    found = [look_at({**PLANT, **RULES, part: one}) for one in broken(PLANT[part])]
    assert sum(map(bool, found)) > len(found) / 2


def few(table: dict[str, Any]) -> dict[str, Any]:
    """The same with two entries at most of each list of tables."""
    return {key: _few(item) for key, item in table.items()}


def _few(value: object) -> object:
    if isinstance(value, dict):
        return few(value)
    return [_few(item) for item in value[:2]] if isinstance(value, list) else value


@pytest.mark.parametrize("part", ["inspection", "twin"])
def test_one_broken_value_of_an_example_is_never_a_crash(part: str) -> None:
    plant = few(decode_toml((EXAMPLES / "warehouse" / "plant.toml").read_bytes(), where=""))
    assert look_at(plant) == 0
    found = [look_at({**plant, part: one}) for one in broken(plant[part])]
    assert sum(map(bool, found)) > len(found) / 2
