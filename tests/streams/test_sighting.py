"""Sightings: one event for each thing, whatever flickers, at any frame rate."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import InvalidError, Rule
from lineside.core.plant_rules import DwellTimes, RuleInput, Scalar, TrackStep
from lineside.streams.rules.contract import UNKNOWN, Output, Record
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.tracks.step import MOST_FRAMES
from lineside.testing.belts import Belt, records_of_belt, things_of, top_records_of_belt
from lineside.testing.rules import Handed, StepContract

SECOND = 1_000_000
RULE = Rule(
    id="socks", read=RuleInput(predictions="sock"), key=("camera",),
    sighting=TrackStep(blank=("Blank",)),
)  # fmt: skip


def frame(at_s: float, label: str, score: float = 0.95, **more: Scalar) -> Record:
    at_us = round(at_s * SECOND)
    fields: dict[str, Scalar] = {
        "camera": "c", "frame": f"frm_{at_us}", "label": label, "probability": score, **more,
    }  # fmt: skip
    if not label:
        del fields["label"]
    return Record(id=f"evt_{at_us:020d}", source="c", at_us=at_us, arrived_us=at_us, fields=fields)


def told(records: Iterable[Record], *, rule: Rule = RULE) -> list[Output]:
    step, found, last = make_step(rule), list[Output](), 0
    for record in records:
        found += [*step.advance(record.at_us), *step.feed(record, key=("c",))]
        last = record.at_us
    return [*found, *step.advance(last + 1000 * SECOND)]


def labels(outputs: Iterable[Output]) -> list[Scalar]:
    return [output.values["label"] for output in outputs]


def shown(*spans: tuple[float, float, str], hz: float, until_s: float) -> Iterator[Record]:
    """What a camera says of things in view in these spans."""
    for number in range(int(until_s * hz)):
        at_s = number / hz
        label = next((name for since, to, name in spans if since <= at_s < to), "Blank")
        yield frame(at_s, label, 0.95 if label != "Blank" else 0.5)


# ---- the table of what a count of windows gets wrong: every cell is one thing


@pytest.mark.parametrize("held_s", [2, 3, 6, 10])
@pytest.mark.parametrize("start_s", [0.0, 2.5, 3.0, 3.5, 4.0])
@pytest.mark.parametrize("wrong_at_the_ends", ["none", "one frame each"])
def test_one_sock_is_one_sighting_however_long_and_whenever(
    held_s: int, start_s: float, wrong_at_the_ends: str
) -> None:
    span = (5 + start_s, 5 + start_s + held_s, "Google")
    records = list(shown(span, hz=3, until_s=30))
    if wrong_at_the_ends == "one frame each":
        inside = [n for n, one in enumerate(records) if one.fields["label"] == "Google"]
        for place in (inside[0], inside[-1]):
            records[place] = frame(records[place].at_us / SECOND, "Mongo", 0.86)
    found = told(records)
    assert labels(found) == ["Google"]
    assert abs(found[0].start_us / SECOND - span[0]) < 0.7
    assert abs(found[0].end_us / SECOND - span[1]) < 1.0


def test_a_lone_wrong_label_before_and_after_a_thing_is_no_thing() -> None:
    records = list(shown((5, 8, "Google"), hz=3, until_s=15))
    for place in (13, 25):  # just before it comes, just after it went
        records[place] = frame(records[place].at_us / SECOND, "Mongo", 0.86)
    assert labels(told(records)) == ["Google"]


@pytest.mark.parametrize("hz", [1, 2, 3, 7.5, 10, 30])
def test_the_frame_rate_does_not_matter(hz: float) -> None:
    spans = ((4, 9, "Google"), (9, 14, "Mongo"), (17, 22, "Mongo"), (30, 60, "Github"))
    found = told(shown(*spans, hz=hz, until_s=70))
    assert labels(found) == ["Google", "Mongo", "Mongo", "Github"]
    for output, (since, to, _) in zip(found, spans, strict=True):
        assert abs(output.start_us / SECOND - since) <= max(1 / hz, 0.1) + 1e-6
        assert abs(output.end_us / SECOND - to) <= max(1 / hz, 0.1) + 1e-6


def test_an_absence_shorter_than_the_gap_does_not_part_and_a_longer_one_does() -> None:
    short = shown((4, 8, "Google"), (9.2, 13, "Google"), hz=10, until_s=20)
    long = shown((4, 8, "Google"), (9.8, 13, "Google"), hz=10, until_s=20)
    assert labels(told(short)) == ["Google"]
    assert labels(told(long)) == ["Google", "Google"]


@pytest.mark.parametrize(("stay_s", "things"), [(0.5, 0), (0.8, 0), (1.2, 1), (3.0, 1)])
def test_what_leaves_no_room_for_dwell_s_is_no_thing(stay_s: float, things: int) -> None:
    """However sure the frames are; those before and after it leave 0.1 s each."""
    slow = replace(RULE, sighting=TrackStep(blank=("Blank",), dwell_s=1.1))
    records = shown((4, 4 + stay_s, "Google"), hz=10, until_s=20)
    assert labels(told(records, rule=slow)) == ["Google"] * things


def test_records_that_leave_nothing_out_of_view_to_be_seen_part_by_time() -> None:
    kept = [one for one in shown((4, 8, "Google"), (12, 15, "Google"), hz=5, until_s=20)
            if one.fields["label"] != "Blank"]  # fmt: skip
    assert labels(told(kept)) == ["Google", "Google"]


def test_an_event_says_what_was_seen() -> None:
    records = list(shown((5, 8, "Google"), hz=10, until_s=15))
    records[63] = frame(6.3, "Google", 0.99)
    records[65] = frame(6.5, "Mongo", 0.9)
    (found,) = told(records)
    assert found.name == "5000000"
    assert found.key == {"camera": "c"}
    assert (found.start_us, found.end_us) == (5_000_000, 7_900_000)
    assert (found.action, found.revision) == ("final", 0)
    told_of = found.values
    assert told_of["frames"] == 30
    assert told_of["dwell_s"] == 2.9
    assert told_of["frame"] == "frm_6300000"
    assert told_of["best_score"] == 0.99
    assert told_of["best_after_s"] == 1.3
    assert (told_of["first_frame"], told_of["last_frame"]) == ("frm_5000000", "frm_7900000")
    assert 0.9 < float(told_of["probability"]) <= 1.0
    assert told_of["runner_up"] == "Mongo"
    assert float(told_of["runner_up_probability"]) < 0.1
    assert set(found.causes) == {"evt_" + str(at).zfill(20) for at in (5000000, 6300000, 7900000)}


def test_a_thing_that_none_of_the_labels_fits_is_unknown() -> None:
    names = ("Google", "Mongo", "Github", "Confluent", "Databricks", "Streamsets")
    records = [
        Record(
            id=f"evt_{n:03d}#{place}", source="c", at_us=n * 200_000, arrived_us=0,
            fields={"camera": "c", "label": label, "probability": score},
        )
        for n in range(100)
        for place, (label, score) in enumerate(
            [(name, 0.15 if 20 <= n < 60 else 0.01) for name in names]
            + [("Blank", 0.1 if 20 <= n < 60 else 0.94)]
        )
    ]  # fmt: skip
    found = told(records)
    assert labels(found) == [UNKNOWN]
    assert 4 * SECOND <= found[0].start_us < found[0].end_us < 12 * SECOND


def test_a_label_less_sure_than_asked_for_is_unknown_and_stands_as_runner_up() -> None:
    sighting = TrackStep(blank=("Blank",), least_probability=0.999)
    records = [
        frame(n / 5, ("Google", "Mongo")[n % 3 == 0], 0.5)
        if 20 <= n < 60
        else frame(n / 5, "Blank")
        for n in range(100)
    ]
    (found,) = told(records, rule=replace(RULE, sighting=sighting))
    assert found.values["label"] == UNKNOWN
    assert found.values["runner_up"] == "Google"


def test_labels_that_the_rule_does_not_list_say_nothing() -> None:
    listed = replace(RULE, sighting=TrackStep(blank=("Blank",), labels=("Google",)))
    spans = ((4, 8, "Google"), (12, 16, "Mongo"))
    assert labels(told(shown(*spans, hz=5, until_s=20), rule=listed)) == ["Google"]


def test_two_at_once_are_two_by_their_regions() -> None:
    rule = replace(RULE, key=("camera", "region"))
    step, found = make_step(rule), list[Output]()
    left = list(shown((4, 9, "Google"), hz=5, until_s=20))
    right = list(shown((5, 8, "Google"), hz=5, until_s=20))
    for pair in zip(left, right, strict=True):
        for place, (one, region) in enumerate(zip(pair, ("A", "B"), strict=True)):
            record = Record(
                id=f"{one.id}#{place}", source="c", at_us=one.at_us, arrived_us=one.arrived_us,
                fields=dict(one.fields),
            )  # fmt: skip
            found += step.feed(record, key=("c", region))
    found += step.advance(1000 * SECOND)
    assert [(one.key["region"], one.start_us) for one in found] == [
        ("B", 5 * SECOND), ("A", 4 * SECOND)
    ]  # fmt: skip


def test_presence_labels_are_seen_by_their_odds() -> None:
    records = [
        Record(
            id=f"evt_{n:03d}#{place}", source="c", at_us=n * 200_000, arrived_us=0,
            fields={
                "camera": "c", "task": "multilabel", "answer": "label", "name": label,
                "label": label, "probability": score,
            },
        )
        for n in range(100)
        for place, (label, score) in enumerate(
            (("lid", 0.9 if 30 <= n < 50 else 0.05), ("cap", 0.03)), start=1
        )
    ]  # fmt: skip
    (found,) = told(records)
    assert found.values["label"] == "lid"
    assert (found.start_us, found.end_us) == (6 * SECOND, 9_800_000)


def test_pictures_without_an_answer_show_nothing_and_bad_ones_say_nothing() -> None:
    def looks(nothing: Record) -> Iterator[Record]:
        for n in range(80):
            at_s = n / 10
            seen = 20 <= n < 40 or 50 <= n < 70
            yield (
                frame(at_s, "box", 0.9, answer="box")
                if seen
                else frame(at_s, "", answer="none", state=nothing.fields["state"])
            )

    wide = replace(RULE, sighting=TrackStep(gap_s=0.8))
    assert labels(told(looks(frame(0, "", state="ok")), rule=wide)) == ["box", "box"]
    longer = replace(RULE, sighting=TrackStep(gap_s=1.5))
    assert labels(told(looks(frame(0, "", state="blurred")), rule=longer)) == ["box"]


def test_the_references_own_message_is_read() -> None:
    records = [
        Record(
            id=f"evt_{n:03d}", source="sockfound", at_us=n * 400_000, arrived_us=0,
            fields={"image": "Google" if 10 <= n < 20 else "Blank", "probability": 64.6484375},
        )
        for n in range(40)
    ]  # fmt: skip
    (found,) = told(records)
    assert found.values["label"] == "Google"
    assert found.values["best_score"] == round(0.646484375, 6)


def test_changes_are_told_when_it_opens_and_when_it_is_over() -> None:
    changes = replace(RULE, emit="changes")
    found = told(shown((5, 12, "Google"), hz=10, until_s=20), rule=changes)
    assert [(one.action, one.revision, one.name) for one in found] == [
        ("begun", 1, "5000000"), ("ended", 2, "5000000"),
    ]  # fmt: skip
    assert found[0].end_us < found[1].end_us


def test_a_sighting_is_told_a_bounded_time_after_it_is_over() -> None:
    step, told_at = make_step(RULE), None
    for record in shown((5, 8, "Google"), hz=10, until_s=30):
        if told_at is None and (list(step.advance(record.at_us)) or step.feed(record, key=("c",))):
            told_at = record.at_us / SECOND
    assert told_at is not None
    assert 8 <= told_at <= 8 + 3 * 1.5 + 0.2


def test_frames_that_come_out_of_order_are_put_in_order_while_they_can_be() -> None:
    changes = replace(RULE, emit="changes")
    records = list(shown((5, 8, "Google"), hz=10, until_s=20))
    swapped = [one for pair in zip(records[1::2], records[::2], strict=True) for one in pair]
    step, found = make_step(changes), list[Output]()
    for record in swapped:
        found += step.feed(record, key=("c",))
    found += step.advance(1000 * SECOND)
    assert [(one.action, one.start_us) for one in found] == [
        ("begun", 5 * SECOND), ("ended", 5 * SECOND),
    ]  # fmt: skip


def test_memory_is_bounded_in_frames_and_in_keys() -> None:
    slow = TrackStep(blank=("Blank",), dwell_s=60, gap_s=60)
    few = replace(RULE, sighting=slow, most_keys=3)
    step = make_step(few)
    for n in range(1200):
        step.feed(frame(n / 30, f"label {n % 100}", 0.9), key=(f"c{n // 600}",))
    for n in range(10):
        step.feed(frame(100 + n, "Google"), key=(f"d{n}",))
    kept = step.dump()
    assert len(kept["keys"]) == 3
    assert getattr(step, "evicted", 0) == 9
    assert all(len(view["frames"]) < MOST_FRAMES for view in kept["keys"])
    assert all(len(view["labels"]) <= 64 for view in kept["keys"])


def test_a_key_that_makes_room_is_told_first() -> None:
    step = make_step(replace(RULE, most_keys=1))
    for record in shown((2, 6, "Google"), hz=5, until_s=5):
        assert not list(step.feed(record, key=("c",)))
    (found,) = step.feed(frame(6, "Blank"), key=("d",))
    assert (found.values["label"], found.key) == ("Google", {"camera": "c"})


def test_a_learned_file_that_nobody_read_is_refused() -> None:
    with pytest.raises(InvalidError, match="is not known"):
        make_step(replace(RULE, sighting=TrackStep(learned="sock.json")))
    habits = DwellTimes(dwell_s=1, gap_s=1)
    step = make_step(replace(RULE, sighting=TrackStep(learned="sock.json", habits=habits)))
    assert not step.advance(SECOND)


@pytest.mark.parametrize("probability", ["high", True, float("nan"), -3.0, 1e9])
def test_figures_that_are_none_do_no_harm(probability: Scalar) -> None:
    records = list(shown((5, 8, "Google"), hz=5, until_s=15))
    fields = {**records[10].fields, "probability": probability}
    at_us = records[10].at_us
    records[10] = Record(id="evt_x", source="c", at_us=at_us, arrived_us=at_us, fields=fields)
    assert labels(told(records)) == ["Google"]


# ---- what holds for every belt


BELTS = st.builds(
    Belt,
    seed=st.integers(0, 10**6),
    things=st.integers(2, 5),
    frames_hz=st.sampled_from([3.0, 8.0]),
    flicker=st.sampled_from([0.0, 0.1, 0.3]),
    dwell_s=st.just((4.0, 6.0)),
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(belt=BELTS, cut=st.integers(1, 50), each=st.booleans())
def test_neither_chunks_nor_a_restart_can_be_seen(belt: Belt, cut: int, each: bool) -> None:  # noqa: FBT001
    records = list(records_of_belt(belt) if each else top_records_of_belt(belt))
    whole = told(records)
    step, found = make_step(RULE), list[Output]()
    for place in range(0, len(records), cut):
        for record in records[place : place + cut]:
            found += step.feed(record, key=("c",))
        again = make_step(RULE)
        again.load(step.dump())
        step = again
    assert [*found, *step.advance(records[-1].at_us + 1000 * SECOND)] == whole


@settings(max_examples=15, deadline=None)
@given(belt=BELTS)
def test_sightings_of_a_place_follow_one_another_under_names_of_their_own(belt: Belt) -> None:
    found = told(records_of_belt(belt))
    assert all(one.end_us < two.start_us for one, two in pairwise(found))
    assert len({one.name for one in found}) == len(found)
    assert all(0.0 <= float(one.values["probability"]) <= 1.0 for one in found)


@pytest.mark.parametrize(("hz", "flicker"), [(2, 0.1), (5, 0.2), (10, 0.2)])
@pytest.mark.parametrize("answers", ["top", "each"])
def test_belts_are_counted_right(hz: float, flicker: float, answers: str) -> None:
    least = max(2.0, 12 / hz)
    belt = Belt(
        seed=3, things=40, frames_hz=hz, flicker=flicker, dwell_s=(least, 3 * least),
        gap_s=(max(2.0, 6 / hz), max(4.0, 12 / hz)),
    )  # fmt: skip
    sighting = TrackStep(blank=("Blank",), dwell_s=least / 2, gap_s=belt.gap_s[0] / 2)
    made = records_of_belt if answers == "each" else top_records_of_belt
    found = told(made(belt), rule=replace(RULE, sighting=sighting))
    assert labels(found) == [one.label for one in things_of(belt)]


class TestSightingKeepsTheContract(StepContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return RULE

    @pytest.fixture
    def handed(self) -> list[Handed]:
        belts = [Belt(seed=seed, things=3, frames_hz=5, labels=("A", "B", "C")) for seed in (1, 2)]
        made: list[Handed] = [
            (record, (camera,))
            for camera, belt in zip("cd", belts, strict=True)
            for record in records_of_belt(belt, camera=camera)
        ]
        return sorted(made, key=lambda one: (one[0].at_us, one[0].id))
