"""Crossings: one event for each thing that passes a line, with its direction."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Rule
from lineside.core.plant_rules import CrossingStep, RuleInput, Scalar
from lineside.streams.rules.contract import Output, Record
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.steps.crossing import MOST_TRACKS
from lineside.testing.rules import Handed, StepContract

SECOND = 1_000_000
ACROSS = CrossingStep(x0_px=0, y0_px=240, x1_px=220, y1_px=240)
Way = tuple[float, float, float, float, float]
"""When it appears, x, y, and its speed in x and y (px/s)."""


def rule_of(line: CrossingStep = ACROSS, *, most_keys: int = 100) -> Rule:
    return Rule(
        id="passed", read=RuleInput(predictions="parts", answers="each"), key=("camera",),
        crossing=line, most_keys=most_keys,
    )  # fmt: skip


def box(at_us: int, x: float, y: float, *, place: int = 1, **more: Scalar) -> Record:
    fields: dict[str, Scalar] = {
        "camera": "c", "answer": "box", "label": "part", "probability": 0.8, "x_px": x, "y_px": y,
        "frame": f"frm_{at_us}", **more,
    }  # fmt: skip
    return Record(
        id=f"evt_{at_us:020d}#{place}", source="c", at_us=at_us, arrived_us=at_us, fields=fields
    )


def boxes(ways: Sequence[Way], *, hz: float, until_s: float) -> Iterator[Record]:
    for number in range(int(until_s * hz)):
        at_s = number / hz
        for place, (since, x, y, right, down) in enumerate(ways, start=1):
            here = (x + right * (at_s - since), y + down * (at_s - since))
            if at_s >= since and -10 < here[1] < 490 and -10 < here[0] < 230:
                yield box(round(at_s * SECOND), *here, place=place)


def told(records: Iterable[Record], *, rule: Rule | None = None) -> list[Output]:
    step, found, last = make_step(rule or rule_of()), list[Output](), 0
    for record in records:
        found += [*step.advance(record.at_us), *step.feed(record, key=("c",))]
        last = record.at_us
    return [*found, *step.advance(last + 1000 * SECOND)]


def directions(outputs: Iterable[Output]) -> list[Scalar]:
    return [output.values["direction"] for output in outputs]


def test_things_that_pass_are_counted_with_their_direction() -> None:
    ways = [(0.0, 60, 470, 0, -100), (1.0, 160, 10, 0, 120), (3.0, 60, 470, 0, -90)]
    found = told(boxes(ways, hz=10, until_s=12))
    assert directions(found) == ["to left", "to right", "to left"]
    assert len({one.name for one in found}) == 3


@pytest.mark.parametrize("hz", [3, 5, 10, 30])
def test_the_frame_rate_does_not_matter(hz: float) -> None:
    ways = [(n * 2.0, 60 + 50 * (n % 3), 470, 5, -100) for n in range(8)]
    found = told(boxes(ways, hz=hz, until_s=30))
    assert directions(found) == ["to left"] * 8
    for number, one in enumerate(found):
        passed = number * 2.0 + 2.3
        assert one.start_us / SECOND <= passed + 0.05
        assert one.end_us / SECOND >= passed - 0.05


@pytest.mark.parametrize(("direction", "count"), [("either", 3), ("to left", 2), ("to right", 1)])
def test_only_the_direction_asked_for_counts(direction: str, count: int) -> None:
    ways = [(0.0, 60, 470, 0, -100), (1.0, 160, 10, 0, 120), (3.0, 60, 470, 0, -90)]
    line = CrossingStep(x0_px=0, y0_px=240, x1_px=220, y1_px=240, direction=direction)  # type: ignore[arg-type]  # of the table
    assert len(told(boxes(ways, hz=10, until_s=12), rule=rule_of(line))) == count


def test_right_and_left_are_seen_along_the_line() -> None:
    """Down a line that runs to the right is to its right; the line turned, to its left."""
    ways = [(0.0, 100, 10, 0, 120)]
    turned = CrossingStep(x0_px=220, y0_px=240, x1_px=0, y1_px=240)
    assert directions(told(boxes(ways, hz=10, until_s=5))) == ["to right"]
    assert directions(told(boxes(ways, hz=10, until_s=5), rule=rule_of(turned))) == ["to left"]


def test_what_passes_beside_the_ends_of_the_line_does_not_cross_it() -> None:
    short = CrossingStep(x0_px=100, y0_px=240, x1_px=220, y1_px=240)
    ways = [(0.0, 60, 470, 0, -100), (0.0, 160, 470, 0, -100)]
    found = told(boxes(ways, hz=10, until_s=6), rule=rule_of(short))
    assert [one.values["x_px"] for one in found] == [160.0]


def test_what_trembles_on_the_line_crosses_once() -> None:
    ys = [280, 260, 250, 242, 238, 242, 237, 243, 238, 242, 230, 200, 180]
    found = told(box(n * 100_000, 100, y) for n, y in enumerate(ys))
    assert directions(found) == ["to left"]


def test_what_goes_back_and_forth_crosses_each_time_under_its_own_name() -> None:
    ys = [280, 260, 220, 200, 220, 260, 280, 260, 220]
    found = told(box(n * 100_000, 100, y) for n, y in enumerate(ys))
    assert directions(found) == ["to left", "to right", "to left"]
    assert len({one.name for one in found}) == 3
    assert len({one.values["track"] for one in found}) == 1


def test_a_thing_missed_while_it_crosses_is_counted_if_it_comes_back_in_time() -> None:
    records = list(boxes([(0.0, 100, 470, 0, -100)], hz=10, until_s=5))
    short = [one for one in records if not 2.0 <= one.at_us / SECOND < 2.6]
    assert directions(told(short)) == ["to left"]
    long = [one for one in records if not 1.7 <= one.at_us / SECOND < 2.9]
    assert directions(told(long)) == []


def test_two_close_together_are_two() -> None:
    ways = [(0.0, 100, 470, 0, -150), (0.3, 100, 470, 0, -150), (0.6, 130, 470, 0, -150)]
    assert directions(told(boxes(ways, hz=10, until_s=5))) == ["to left"] * 3


def test_an_event_says_what_crossed_where_and_how_fast() -> None:
    records = [
        box(one.at_us, float(one.fields["x_px"]), float(one.fields["y_px"]), probability=score,
            label=label)
        for one, score, label in zip(
            boxes([(0.0, 100, 300, 0, -100)], hz=10, until_s=1.2),
            [0.5, 0.6, 0.9, 0.7] + [0.5] * 8, ["cup"] * 3 + ["lid"] + ["cup"] * 8, strict=True,
        )
    ]  # fmt: skip
    (found,) = told(records)
    assert found.key == {"camera": "c"}
    assert (found.start_us, found.end_us) == (500_000, 700_000)
    values = found.values
    assert (values["label"], values["x_px"], values["y_px"]) == ("cup", 100.0, 240.0)
    assert values["speed_px_s"] == 100.0
    assert (values["frame"], values["best_score"]) == ("frm_200000", 0.9)
    assert 0.8 < float(values["probability"]) < 0.9
    assert values["frames"] == 8
    assert [cause[-9:] for cause in found.causes] == ["0000000#1", "0200000#1", "0700000#1"]


def test_records_that_are_no_boxes_and_figures_that_are_none_do_no_harm() -> None:
    ys: list[Scalar] = [280, 270, float("nan"), 260, "here", 230, True, 220]
    records = [box(n * 100_000, 100, 0, y_px=y) for n, y in enumerate(ys)]
    assert directions(told(records)) == ["to left"]


def test_memory_is_bounded_in_tracks_and_in_keys() -> None:
    step = make_step(rule_of(most_keys=2))
    for n in range(3):
        for place in range(400):
            at_us = n * 100_000
            step.feed(box(at_us, place * 40 % 2000, place * 7, place=place), key=("c",))
    step.advance(250_000)
    assert len(step.dump()["keys"][0]["tracks"]) == MOST_TRACKS
    for n in range(5):
        step.feed(box(300_000 + n, 1, 1), key=(f"k{n}",))
    assert len(step.dump()["keys"]) == 2


def test_what_is_lost_is_forgotten() -> None:
    step = make_step(rule_of())
    step.feed(box(0, 100, 100), key=("c",))
    step.advance(500_000)
    assert len(step.dump()["keys"]) == 1
    step.advance(2 * SECOND)
    assert step.dump()["keys"] == []


WAYS = st.lists(
    st.tuples(
        st.floats(0, 5), st.sampled_from([30.0, 110.0, 190.0]), st.sampled_from([10.0, 470.0]),
        st.just(0.0), st.sampled_from([-120.0, -60.0, 60.0, 120.0]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(ways=WAYS, cut=st.integers(1, 9))
def test_neither_chunks_nor_a_restart_can_be_seen(ways: list[Way], cut: int) -> None:
    records = list(boxes(ways, hz=8, until_s=12))
    whole = told(records)
    step, found = make_step(rule_of()), list[Output]()
    for place in range(0, len(records), cut):
        for record in records[place : place + cut]:
            found += step.feed(record, key=("c",))
        again = make_step(rule_of())
        again.load(step.dump())
        step = again
    found += step.advance(10**12)
    assert found == whole
    assert all(one.end_us <= two.end_us for one, two in pairwise(found))


class TestCrossingKeepsTheContract(StepContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of()

    @pytest.fixture
    def handed(self) -> list[Handed]:
        ways = [(0.0, 60, 470, 0, -100), (1.0, 160, 10, 0, 120), (3.0, 60, 470, 0, -90)]
        return [(record, ("c",)) for record in boxes(ways, hz=8, until_s=9)]
