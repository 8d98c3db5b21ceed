"""What a rule reads of events, how conditions test it, and how it is said in words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lineside.core import Digest, RouteKind, encode
from lineside.core.plant_rules import Condition, Scalar
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, Entry, entry_of, explain, prediction_event
from lineside.streams.rules.conditions import compile_conditions
from lineside.streams.rules.contract import Record
from lineside.streams.rules.explain import conditions_in_words
from lineside.streams.rules.records import MOST_FIELDS, flat, reader_of
from lineside.testing.bare import bare_frame, bare_label, bare_prediction
from lineside.testing.rules import message, rule_of
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    MaskAnswer,
    PictureState,
)

AT = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
AT_US = round(AT.timestamp() * 1e6)
REF = bare_frame("frm_1", camera="top", at=AT, sequence=7, part="p1")
WORDS = 'id = "r"\nwindow = { size_s = 1 }\n'


def prediction(**more: Any) -> Entry:  # noqa: ANN401  handed on
    package = Digest("sha256:" + "1" * 64)
    made = bare_prediction(REF, inspection="sock", package=package, device="edge-1", **more)
    event = prediction_event(made, site="s", device="edge-1", sequence=1, first=1)
    return entry_of(event, arrived_us=5)


def read(entry: Entry, text: str) -> list[Record]:
    reader = reader_of(rule_of(WORDS + text))
    assert reader.takes(entry.type, entry.subject)
    return list(reader.read(entry))


def test_top_is_the_likeliest_label_of_each_picture() -> None:
    entry = prediction(
        labels=(bare_label("Google", 0.2, "unsure"), bare_label("Mongo", 0.7, "unsure"))
    )
    (one,) = read(entry, 'read = { predictions = "sock" }')
    assert (one.source, one.at_us, one.arrived_us) == ("top", AT_US, 5)
    assert dict(one.fields) == {
        "camera": "top", "inspection": "sock", "task": "classify", "state": "ok",
        "device": "edge-1", "package": "sha256:" + "1" * 64, "frame": "frm_1", "part": "p1",
        "sequence": 7, "answer": "label", "name": "Mongo", "region": "", "label": "Mongo",
        "probability": 0.7, "decision": "unsure",
    }  # fmt: skip


@pytest.mark.parametrize("answers", ["top", "each"])
def test_a_picture_without_answer_is_a_record_too(answers: str) -> None:
    entry = prediction(state=PictureState.BLACK)
    (one,) = read(entry, f'read = {{ predictions = "sock", answers = "{answers}" }}')
    assert (one.fields["answer"], one.fields["state"]) == ("none", "black")


def test_each_answer_of_every_kind_is_a_record() -> None:
    entry = prediction(
        labels=(bare_label("Google", 0.2, "unsure"),),
        boxes=(BoxAnswer(label="x", x0_px=1, y0_px=2, x1_px=5, y1_px=4, probability=0.9),),
        count=CountAnswer(value=3, low=2, high=4),
        mask=MaskAnswer(rle="0 4", width_px=2, height_px=2, share=1.0, areas_px=(3, 1)),
        anomaly=AnomalyAnswer(score=2.0, limit=1.0, decision=Decision.PRESENT),
    )
    found = read(entry, 'read = { predictions = "sock", answers = "each" }')
    kinds = [one.fields["answer"] for one in found]
    assert kinds == ["label", "box", "count", "mask", "anomaly"]
    assert [one.id.rpartition("#")[2] for one in found] == ["1", "2", "3", "4", "5"]
    assert (found[1].fields["x_px"], found[1].fields["y_px"]) == (3, 3)
    assert (found[2].fields["value"], found[3].fields["pieces"]) == (3, 2)
    assert found[4].fields["score"] == 2.0


def test_other_cameras_are_left_out() -> None:
    entry = prediction(labels=(bare_label("Google", 0.2, "unsure"),))
    assert read(entry, 'read = { predictions = "sock", cameras = ["gate"] }') == []
    assert len(read(entry, 'read = { predictions = "sock", cameras = ["top"] }')) == 1


def test_arrival_may_be_the_time() -> None:
    entry = prediction(labels=(bare_label("Google", 0.2, "unsure"),))
    (one,) = read(entry, 'time = "arrival"\nread = { predictions = "sock" }')
    assert one.at_us == 5


def test_nested_messages_become_flat() -> None:
    nested = {"a": {"b": [1, {"c": "x"}]}, "d": None, "e": True}
    assert flat(nested) == {"a.b.0": 1, "a.b.1.c": "x", "e": True}
    assert len(flat({str(place): place for place in range(MOST_FIELDS + 5)})) == MOST_FIELDS


@pytest.mark.parametrize(
    "beyond", [10**400, -(10**301), 1.7e308, -1.7e308], ids=["long", "-long", "large", "-large"]
)
@pytest.mark.parametrize("nested", [{}, {"more": {"deep": 1}}], ids=["plain", "nested"])
def test_a_number_that_no_sum_can_hold_is_a_field_that_is_not_there(
    beyond: float, nested: dict[str, Any]
) -> None:
    said: dict[str, Any] = {"label": "x", "v": beyond, "id": 2**64 - 1, **nested}
    reader = reader_of(rule_of(WORDS + 'read = { topic = "t" }'))
    (record,) = reader.read(message("t", said, at_s=1.0))
    assert (record.fields["label"], record.fields["id"]) == ("x", 2**64 - 1)
    assert "v" not in record.fields


def test_a_message_of_the_plant_is_read_by_kind_and_by_topic() -> None:
    alert = message("i/alert", {"id": "cam", "code": 100, "data": "x"}, at_s=1.0, kind="alert")
    for text in ('read = { plant = "alert" }', 'read = { topic = "i/+" }'):
        (one,) = read(alert, text)
        assert (one.source, one.fields["code"]) == ("i/alert", 100)
    nested = Entry(
        type="lineside.plant.stock.v1", subject="f/i/stock", arrived_us=1,
        body=encode({"id": "e", "time": "2026-01-01T12:00:00Z", "data": {"s": [{"l": "A1"}]}}),
    )  # fmt: skip
    (stock,) = read(nested, 'read = { plant = "stock" }')
    assert stock.fields == {"s.0.l": "A1"}


def test_events_of_rules_and_of_the_hub_are_read() -> None:
    told = {
        "rule": "w", "action": "final", "name": "1", "key": {"k": "x"}, "values": {"count": 3},
        "from": "…", "to": "…", "seconds": 5.0, "causes": [], "frame": "frm_1",
    }  # fmt: skip
    drift = {"rule": "drift", "action": "begun", "figure": "unsure", "now": 0.5}
    for subject, data, wanted in (("w", told, "count"), ("drift", drift, "figure")):
        body = encode({"id": "e", "time": "2026-01-01T12:00:00Z", "data": data})
        entry = Entry(type=EVENT_TYPE, subject=subject, arrived_us=1, body=body)
        (one,) = read(entry, f'read = {{ event = "{subject}" }}')
        assert one.source == subject
        assert wanted in one.fields
    assert not reader_of(rule_of(WORDS + 'read = { event = "w" }')).takes(PREDICTION_TYPE, "w")


FIELDS: dict[str, Scalar] = {"t": "Blank", "n": 3, "f": 1.0, "b": True}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition(field="t", equals="Blank"), True),
        (Condition(field="t", equals="blank"), False),
        (Condition(field="f", equals=1), True),
        (Condition(field="b", equals=1), False),
        (Condition(field="b", equals=True), True),
        (Condition(field="x", equals="y"), False),
        (Condition(field="t", any_of=("a", "Blank")), True),
        (Condition(field="n", any_of=(1, 3.0)), True),
        (Condition(field="b", any_of=(1, 2)), False),
        (Condition(field="t", none_of=("a", "Blank")), False),
        (Condition(field="n", none_of=(3,)), False),
        (Condition(field="n", none_of=(4,)), True),
        (Condition(field="x", none_of=("a",)), True),
        (Condition(field="t", like="Bl*"), True),
        (Condition(field="t", like="bl*"), False),
        (Condition(field="t", like="[B]*"), False),
        (Condition(field="n", like="*"), False),
        (Condition(field="n", at_least=3), True),
        (Condition(field="n", above=3), False),
        (Condition(field="n", at_most=3, below=4), True),
        (Condition(field="b", at_least=0), False),
        (Condition(field="t", above=0), False),
        (Condition(field="x", known=False), True),
        (Condition(field="n", known=True, above=2, below=9), True),
    ],
)
def test_conditions(condition: Condition, holds: bool) -> None:  # noqa: FBT001  a row of the table
    test = compile_conditions([condition])
    assert test is not None
    assert test(FIELDS) is holds


def test_all_conditions_must_hold() -> None:
    assert compile_conditions([]) is None
    three = [Condition(field="n", above=at) for at in (0, 1, 2)]
    test = compile_conditions(three)
    assert test is not None
    assert test({"n": 3})
    assert not test({"n": 2})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window = { size_s = 5 }", "each camera it counts the records over stretches of 5 s"),
        ('window = { kind = "hopping", size_s = 10, every_s = 5 }', "10 s, a new one every 5 s"),
        ('window = { kind = "session", gap_s = 2 }', "follow one another within 2 s"),
        ('sighting = { blank = ["none"] }', "none means that nothing is in view"),
        ("crossing = { x0_px = 1, y0_px = 2, x1_px = 3, y1_px = 4 }", "(1, 2) to (3, 4) px"),
        ("pair = { within_s = 5 }", "at most 5 s apart"),
        ('pair = { session = "s" }', "A message on s begins a new sorting session"),
        ("rate = { per_s = 10, above = 2 }", "more than 2 records in 10 s"),
        ("rate = { per_s = 10, below = 2 }", "fewer than 2 records in 10 s"),
        ('hold = { for_s = 2, field = "v" }', "each value of v that stayed the same for 2 s"),
        ("hold = { for_s = 2, gap_s = 1 }", "failing no longer than 1 s in between"),
        (
            'repeat = { times = 3, match = [{ field = "v", above = 1 }] }',
            "tells when, in 3 records in a row, v is above 1, and when that ends",
        ),
        (
            'repeat = { times = 3, last = 5, within_s = 60, match = [{ field = "v", above = 1 }] }',
            "tells when, in 3 of the last 5, at most 1 min apart, v is above 1",
        ),
        ('python = "ours"', "the installed Python rule ours"),
        ('late = "event"\npair = {}', "left out and told as events of their own"),
    ],
)
def test_every_step_is_said_in_words(text: str, words: str) -> None:
    where = 'where = [{ field = "v", above = 1 }]\n' if "hold" in text else ""
    read_ = 'read = { predictions = "sock", answers = "each", cameras = ["top"] }\n'
    said = explain(rule_of('id = "r"\nkey = ["camera"]\n' + where + read_ + text))
    assert words in said
    assert "every answer of inspection sock of top" in said


def test_figures_and_sequences_are_said_in_words() -> None:
    figures = '[[aggregate]]\nname = "hi"\nof = "share"\nwhere = [{ field = "v", known = true }]\n'
    figures += '[[aggregate]]\nname = "m"\nof = "mean"\nfield = "v"'
    said = explain(rule_of(WORDS + 'read = { plant = "sensor" }\n' + figures))
    assert "the share of records where v is known (hi) and the mean v (m)" in said
    steps = '[sequence]\nwithin_s = 3\nfirst = [{ field = "a", any_of = [1, 2] }]\n'
    steps += 'then = [{ field = "a", like = "x*", none_of = ["xx"] }]\n'
    text = 'id = "r"\nread = { event = "w" }\n' + steps
    assert "is followed by one where a is not 'xx' and is like 'x*' within 3 s" in explain(
        rule_of(text)
    )
    assert "none where a is not 'xx'" in explain(rule_of(text + "missing = true"))


def test_conditions_are_said_in_words() -> None:
    tests = [Condition(field="a", equals="x", known=False), Condition(field="b", at_least=1.5)]
    assert conditions_in_words(tests) == "a is 'x' and is not known and b is at least 1.5"


@pytest.mark.parametrize("kind", [kind.value for kind in RouteKind])
def test_what_the_plant_says_is_named_in_words(kind: str) -> None:
    said = explain(rule_of(f'id = "r"\nread = {{ plant = "{kind}" }}\nwindow = {{ size_s = 1 }}'))
    assert "message messages" not in said
    assert said.startswith(("r: reads the plant's ", "r: reads what the ", "r: reads orders"))


def test_a_rule_without_key_says_nothing_of_keys() -> None:
    said = explain(rule_of('id = "r"\nread = { topic = "a/b" }\npair = {}\nlateness_s = 2'))
    assert "keys" not in said
    assert "It makes a pair of every second record" in said
    assert "records more than 2 s behind the newest of their source" in said


def test_a_join_is_said_in_words() -> None:
    rule = rule_of(
        'id = "r"\nread = { predictions = ["front", "back"] }\nkey = ["part"]\n'
        'join = { within_s = 2, fields = ["label"], incomplete = true }'
    )
    said = explain(rule)
    assert "the likeliest label of each picture of inspections front and back" in said
    assert "joins one record of each of front and back that lie at most 2 s apart" in said
    assert "Those of which one did not come are told too." in said


def test_of_several_inspections_each_keeps_its_own_time() -> None:
    entry = prediction(labels=(bare_label("Google", 0.2, "unsure"),))
    (one,) = read(entry, 'read = { predictions = ["sock", "toe"] }')
    assert (one.source, one.fields["inspection"], one.fields["camera"]) == ("sock", "sock", "top")
