"""``[route.say]``: what devices say on the plant's own topics, and what is wrong with it."""

import pytest

from lineside.core import Plant, Say, decode, encode, load_plant, parse_plant
from lineside.core.plant_say import EXTENDED, TOLD, can_say
from tests.core.test_plant import EXAMPLES, faults_of

PLANT = """
schema = "lineside.plant/1"
site = "laundry"
line = [{ id = "table", name = "Table" }]
camera = [{ id = "top", line = "table", source = "mqtt:cam" }]
[[inspection]]
id = "sock"
camera = "top"
task = "classify"
labels = ["Google", "Blank"]
[[inspection]]
id = "pile"
camera = "top"
task = "count"
[[route]]
topic = "sockfound"
kind = "message"
time = "arrival"
[route.say]
inspection = "sock"
form = "compatible"
fields = { image = "label", probability = "percent" }
"""


def test_a_route_says_answers_in_the_order_of_its_file() -> None:
    plant = parse_plant(PLANT.encode(), where="plant.toml")
    (route,) = plant.route
    assert route.time == "arrival"
    assert route.say is not None
    assert list(route.say.fields.items()) == [("image", "label"), ("probability", "percent")]
    assert route.say.all_fields("classify") == {"image": "label", "probability": "percent"}
    assert decode(Plant, encode(plant), where="") == plant


def test_extended_adds_what_is_not_said_yet_and_the_task_has() -> None:
    say = Say(inspection="sock", fields={"image": "label", "at": "ts", "device": "camera"})
    found = say.all_fields("classify")
    assert list(found)[:3] == ["image", "at", "device"]
    assert found["device"] == "camera"  # a name of the plant file stays what it is
    assert "ts" not in found
    assert {"score", "second", "second_score", "sequence", "package"} <= set(found)
    assert set(Say(inspection="x", fields={"n": "count"}).all_fields("count").values()) == {
        "count", *(told for told in EXTENDED if can_say(told, task="count"))
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('inspection = "sock"', 'inspection = "sok"', "$.route[0].say.inspection"),
        ('"percent" }', '"limit" }', "$.route[0].say.fields.probability"),
        ('inspection = "sock"', 'inspection = "pile"', "$.route[0].say.fields.image"),
        ('"percent" }', '"procent" }', "$.route[0].say.fields"),
        ("fields = {", "other = {", "$.route[0].say.other"),
        ('image = "label", probability = "percent"', "", "$.route[0].say.fields"),
        ('form = "compatible"', 'form = "short"', "$.route[0].say.form"),
        ('topic = "sockfound"', 'topic = "sock/+"', "$.route[0].topic"),
        ('kind = "message"', 'kind = "alert"', "$.route[0].kind"),
        ('image = "label",', 'unsaid = "score",', ""),
    ],
)  # fmt: skip
def test_every_fault_has_its_place(old: str, new: str, path: str) -> None:
    assert PLANT.count(old) == 1
    text = PLANT.replace(old, new)
    if path:
        found = faults_of(text)
        assert path in [fault.path for fault in found]
        assert all(fault.fix for fault in found)
    else:
        parse_plant(text.encode(), where="plant.toml")


def test_a_name_for_the_unknown_needs_a_field_to_stand_in() -> None:
    text = PLANT.replace('image = "label",', "").replace(
        'form = "compatible"', 'unknown = "Unknown"'
    )
    assert [fault.path for fault in faults_of(text)] == ["$.route[0].say.unknown"]


def test_what_extended_adds_can_be_said() -> None:
    assert set(EXTENDED) <= set(TOLD)


def test_the_example_of_the_socks_reads_and_says_its_answers() -> None:
    plant = load_plant(EXAMPLES.parent / "socks" / "plant.toml")
    said = {route.topic: route.say for route in plant.route if route.say is not None}
    assert list(said["sockfound"].fields.items()) == [
        ("image", "label"),
        ("probability", "percent"),
    ]
    assert plant.find_inspection("sock").labels[-1] == "Blank"
