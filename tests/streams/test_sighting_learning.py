"""What a labelled clip teaches: dwell, gap, flicker, and what cannot be learned from."""

from dataclasses import replace

import pytest

from lineside.core import InvalidError, Rule
from lineside.core.plant_rules import DwellTimes, RuleInput, TrackStep
from lineside.streams.rules.contract import Output
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.tracks.learning import Stretch, fit_dwell_times, frames_of_records
from lineside.streams.rules.tracks.smoothing import Observation
from lineside.testing.belts import Belt, records_of_belt, things_of

STEP = TrackStep(blank=("Blank",))
BELT = Belt(seed=5, things=20, frames_hz=8, flicker=0.2, dwell_s=(3.0, 6.0), gap_s=(2.0, 5.0))


def clip(belt: Belt) -> tuple[list[Observation], list[Stretch]]:
    frames = frames_of_records(records_of_belt(belt), STEP)
    return frames, [
        Stretch(from_us=round(one.begin_s * 1e6), to_us=round(one.end_s * 1e6), label=one.label)
        for one in things_of(belt)
    ]


def test_a_clip_teaches_dwell_gap_and_flicker() -> None:
    frames, stretches = clip(BELT)
    habits = fit_dwell_times(frames, stretches)
    shortest_s = min(one.to_us - one.from_us for one in stretches) / 1e6
    assert habits.dwell_s == pytest.approx(shortest_s / 2, abs=1e-3)
    assert 1.0 <= habits.gap_s <= 3.5
    assert 0.15 < habits.flicker < 0.3
    assert 0.05 < habits.look_s < habits.dwell_s  # errors of the belt last 0.1 s
    assert (habits.things, habits.frames) == (20, len(frames))
    assert set(habits.confusion) == {"", *(one.label for one in stretches)}
    assert all(sum(row.values()) == pytest.approx(1, abs=1e-4) for row in habits.confusion.values())
    assert all(row[true] == max(row.values()) for true, row in habits.confusion.items())


def test_what_was_learned_counts_another_belt_right() -> None:
    habits = fit_dwell_times(*clip(BELT))
    rule = Rule(
        id="s",
        read=RuleInput(predictions="i"),
        key=("camera",),
        sighting=replace(STEP, habits=habits),
    )
    other = replace(BELT, seed=6, things=30)
    step, found = make_step(rule), list[Output]()
    for record in records_of_belt(other):
        found += step.feed(record, key=("c",))
    found += step.advance(10**12)
    assert [one.values["label"] for one in found] == [one.label for one in things_of(other)]


def test_a_label_that_is_often_called_another_is_known_after_learning() -> None:
    """A says "B" in four of ten frames, B never says "A"."""

    def said(number: int, truth: str) -> str:
        return "B" if truth == "A" and number % 5 in {1, 3} else truth

    def truth(number: int) -> str:
        return ("", "A", "", "B")[number // 20 % 4]

    frames = [
        Observation(at_us=n * 200_000, id=f"e{n}", scores={said(n, truth(n)): 0.9})
        for n in range(400)
    ]
    things = [
        Stretch(from_us=n * 4_000_000, to_us=(n + 1) * 4_000_000, label=("", "A", "", "B")[n % 4])
        for n in range(20) if n % 2
    ]  # fmt: skip
    habits = fit_dwell_times(frames, things)
    assert habits.confusion["A"]["B"] == pytest.approx(0.4, abs=0.02)
    assert habits.confusion["B"]["A"] < 0.01


def test_a_clip_without_faults_leaves_the_usual_times() -> None:
    frames = [
        Observation(at_us=n * 100_000, id=f"e{n}", scores={"A" if 20 <= n < 60 else "": 0.9})
        for n in range(100)
    ]
    habits = fit_dwell_times(frames, [Stretch(from_us=2_000_000, to_us=6_000_000, label="A")])
    assert habits == DwellTimes(
        dwell_s=2.0, gap_s=0.75, look_s=0.0, flicker=0.02, things=1, frames=100,
        confusion=habits.confusion,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([], "no frame lies in a labelled stretch"),
        ([(900, 901)], "no frame lies in a labelled stretch"),
        ([(1, 4), (3, 6)], "overlap"),
    ],
)
def test_labels_that_fit_nothing_are_refused(spans: list[tuple[int, int]], said: str) -> None:
    frames = [Observation(at_us=n * 100_000, id=f"e{n}", scores={}) for n in range(100)]
    stretches = [Stretch(from_us=a * 10**6, to_us=b * 10**6, label="A") for a, b in spans]
    with pytest.raises(InvalidError, match=said):
        fit_dwell_times(frames, stretches)


def test_too_few_frames_and_a_stretch_that_is_none_are_refused() -> None:
    with pytest.raises(InvalidError, match="0 frames, fewer than 20"):
        fit_dwell_times([], [])
    with pytest.raises(InvalidError, match="ends before it begins"):
        Stretch(from_us=5, to_us=5, label="A")


@pytest.mark.parametrize(
    "faulty", [{"dwell_s": 0.0}, {"gap_s": float("nan")}, {"flicker": 1.0}, {"flicker": 0.0},
               {"look_s": -1.0}, {"confusion": {"A": {"B": 1.5}}}],
)  # fmt: skip
def test_habits_that_cannot_be_are_refused(faulty: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        DwellTimes(**{"dwell_s": 1.0, "gap_s": 1.0, **faulty})  # type: ignore[arg-type]  # on purpose


def test_things_that_look_like_another_are_learned_as_such() -> None:
    """The belt's own: half of the frames of a double say the other label."""
    twins = replace(BELT, flicker=0.01, doubles=1.0, things=40)
    confusion = fit_dwell_times(*clip(twins)).confusion
    right = [row[label] for label, row in confusion.items() if label]
    assert 0.35 < sum(right) / len(right) < 0.65
    assert confusion[""][""] > 0.9
