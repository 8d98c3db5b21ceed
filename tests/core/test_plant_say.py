"""``[route.say]``: what devices say on the plant's own topics, and what is wrong with it."""

import pytest

from lineside.core import InvalidError, Plant, decode, encode, load_plant, parse_plant
from lineside.core.plant_say import ANSWER_FIELDS, EXTENDED, Say, can_say
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
    assert set(EXTENDED) <= set(ANSWER_FIELDS)


def test_the_example_of_the_socks_reads_and_says_its_answers() -> None:
    plant = load_plant(EXAMPLES.parent / "socks" / "plant.toml")
    said = {route.topic: route.say for route in plant.route if route.say is not None}
    assert list(said["sockfound"].fields.items()) == [
        ("image", "label"),
        ("probability", "percent"),
    ]
    assert plant.find_inspection("sock").labels[-1] == "Blank"


SAID = Say(inspection="sock", fields={"image": "label"})
LOOP = """
[[route]]
topic = "{before}"
kind = "{kind}"
time = "{time}"
"""


def faults_by_path(text: str) -> dict[str, str]:
    try:
        parse_plant(text.encode(), where="plant.toml")
    except InvalidError as error:
        return {fault.path: str(fault) for fault in error.faults}
    return {}


def test_unsure_has_a_word_of_its_own_unless_the_plant_file_names_another_or_none() -> None:
    assert SAID.unknown == "unsure"
    assert Say(inspection="sock", fields={"image": "label"}, unknown="").unknown == ""
    assert Say(inspection="pile", fields={"n": "count"}).unknown == "unsure"  # it is not said


def test_the_word_for_unsure_is_none_of_the_labels() -> None:
    text = PLANT.replace('["Google", "Blank"]', '["Google", "unsure"]')
    assert list(faults_by_path(text)) == ["$.route[0].say.unknown"]
    assert faults_by_path(text.replace('form = "', 'unknown = "?"\nform = "')) == {}


def test_what_is_said_without_a_time_is_taken_in_by_arrival_only() -> None:
    ts = PLANT.replace('time = "arrival"\n', "")
    (told,) = faults_by_path(ts).items()
    assert told[0] == "$.route[0].time"
    assert "name no ts" in told[1]
    assert 'Write time = "arrival"' in told[1]
    assert faults_by_path(ts.replace('form = "compatible"', 'form = "extended"')) == {}
    assert faults_by_path(ts.replace('"percent" }', '"percent", ts = "ts" }')) == {}
    other = PLANT.replace('"percent" }', '"percent", ts = "sequence" }')
    assert "name sequence as ts" in faults_by_path(other)["$.route[0].time"]


@pytest.mark.parametrize("before", ["sockfound", "+", "#", "sockfound/#"])
@pytest.mark.parametrize(
    ("kind", "time", "path"),
    [
        ("alert", "arrival", "$.route[1].topic"), ("message", "ts", "$.route[0].time"),
        ("message", "arrival", ""),
    ],
)  # fmt: skip
def test_a_said_topic_that_another_route_takes_in_first_is_a_loop_it_must_be_able_to_read(
    before: str, kind: str, time: str, path: str
) -> None:
    head, route = PLANT.split("[[route]]")
    loop = LOOP.format(before=before, kind=kind, time=time)
    found = faults_by_path(f"{head}{loop}[[route]]{route}")
    found.pop("$.route", None)  # the topic that is used twice
    assert list(found) == ([path] if path else [])
    assert all(f"loops back by {before!r} ($.route[0])" in told for told in found.values())
    assert not set(faults_by_path(PLANT + loop)) - {"$.route"}  # its own route is first


@pytest.mark.parametrize("topic", ["cam", "lineside/laundry/table/top/frame", "lineside/x"])
def test_nothing_is_said_where_pictures_or_linesides_own_messages_come(topic: str) -> None:
    found = faults_by_path(PLANT.replace('topic = "sockfound"', f'topic = "{topic}"'))
    assert list(found) == ["$.route[0].topic"]


def test_answers_that_let_their_own_inspection_look_again_are_a_loop() -> None:
    trigger = 'trigger = { on = "topic", topic = "TOPIC" }\n'
    again = PLANT.replace("labels =", trigger.replace("TOPIC", "sockfound") + "labels =")
    assert "'sock' → 'sock'" in faults_by_path(again)["$.route[0].topic"]
    there = PLANT.replace(
        'task = "count"', trigger.replace("TOPIC", "sockfound") + 'task = "count"'
    )
    assert faults_by_path(there) == {}  # the other one looks, and says nothing
    back = (
        there.replace("labels =", trigger.replace("TOPIC", "counted") + "labels =")
        + """
[[route]]
topic = "counted"
kind = "message"
say = { inspection = "pile", fields = { n = "count" } }
"""
    )
    found = faults_by_path(back)
    assert "'sock' → 'pile' → 'sock'" in found["$.route[0].topic"]
    assert set(found) == {"$.route[0].topic", "$.route[1].topic"}
