"""A change that lasts is told once; what only varies is not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Digest
from lineside.streams.drift import (
    Drift,
    DriftSettings,
    DriftState,
    feed_drift,
    figures_of,
    score_of,
)
from lineside.testing.events import prediction_of
from lineside.vision import (
    AnomalyAnswer,
    CountAnswer,
    Decision,
    HealthFigures,
    PictureState,
    Prediction,
)

BURN_IN = DriftSettings().block * DriftSettings().burn_in


def seen(number: int, *, grey: float = 100.0, distance: float = 0.5) -> Prediction:
    said = prediction_of({"A1": "blue"}, at_s=float(number))
    health = HealthFigures(
        sharpness=120.0, mean_grey=grey, clipped_share=0.0, feature_distance=distance
    )
    return replace(said, health=health)


def run(
    predictions: list[Prediction], state: DriftState | None = None
) -> tuple[DriftState, list[tuple[int, Drift]]]:
    state = state or DriftState()
    found = []
    for number, prediction in enumerate(predictions):
        state, drifts = feed_drift(state, prediction)
        found += [(number, drift) for drift in drifts]
    return state, found


def noisy(count: int, *, seed: int, shift: float = 0.0, start: int = 0) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    greys = 100 + shift + rng.normal(0, 6, count)
    return [seen(start + number, grey=float(grey)) for number, grey in enumerate(greys)]


@pytest.mark.parametrize("seed", range(8))
def test_pictures_that_only_vary_raise_nothing(seed: int) -> None:
    assert run(noisy(6000, seed=seed))[1] == []


@pytest.mark.parametrize("seed", range(10))
def test_a_light_that_fades_by_three_spreads_of_a_block_is_told_within_ten_blocks(
    seed: int,
) -> None:
    before = noisy(2 * BURN_IN, seed=seed)
    after = noisy(400, seed=seed + 100, shift=-4.5, start=len(before))
    _, found = run(before + after)
    assert found
    number, drift = found[0]
    assert (drift.figure, drift.direction) == ("mean_grey", "down")
    assert len(before) <= number < len(before) + 200


def test_what_lasts_is_told_once() -> None:
    before = noisy(2 * BURN_IN, seed=3)
    after = noisy(5000, seed=4, shift=30.0, start=len(before))
    _, found = run(before + after)
    assert len(found) == 1


def test_nothing_is_told_before_anything_is_known_to_be_usual() -> None:
    assert run(noisy(BURN_IN // 2, seed=1) + noisy(BURN_IN // 2, seed=2, shift=80.0))[1] == []


def test_another_package_is_learned_anew() -> None:
    state, _ = run(noisy(BURN_IN, seed=5))
    other = Digest("sha256:" + "5" * 64)
    moved = [replace(one, package=other) for one in noisy(BURN_IN, seed=6, shift=60.0, start=9000)]
    state, found = run(moved, state)
    assert found == []
    assert state.package == other


def test_a_picture_that_could_not_be_judged_has_no_distance_and_no_answers() -> None:
    refused = prediction_of({"A1": "blue"}, at_s=1.0, state=PictureState.BLURRED)
    assert set(figures_of(refused)) == {"mean_grey", "sharpness"}


def test_the_score_is_of_what_the_answers_say() -> None:
    assert score_of(replace(seen(1), labels=())) is None
    unlike = AnomalyAnswer(score=3.0, limit=4.0, decision=Decision.ABSENT)
    assert score_of(replace(seen(1), anomaly=unlike)) == 0.75
    count = CountAnswer(value=1, low=1, high=2, chances=(0.25, 0.5, 0.25))
    assert score_of(replace(seen(1), labels=(), count=count)) == 0.5
    blue = seen(1).labels[0]
    red = replace(blue, name="A1/red", label="red", probability=0.25)
    two = (replace(blue, probability=0.5), red)  # classes of one region
    assert score_of(replace(seen(1), labels=two)) == 0.5
    apart = tuple(replace(one, region="", name=one.label) for one in two)  # two labels
    assert score_of(replace(seen(1), labels=apart)) == (0.5 + 0.75) / 2


def test_a_package_that_is_ever_less_certain_is_told_by_its_score() -> None:
    answer = seen(0).labels[0]
    rng = np.random.default_rng(11)

    def answers(count: int, *, low: float, start: int) -> list[Prediction]:
        return [
            replace(
                seen(start + number),
                labels=(replace(answer, probability=float(rng.uniform(low, low + 0.04))),),
            )
            for number in range(count)
        ]

    before = answers(2 * BURN_IN, low=0.95, start=0)
    _, found = run(before + answers(400, low=0.86, start=len(before)))
    assert [(drift.figure, drift.direction) for _, drift in found] == [("score", "down")]
    _, found = run(before + answers(400, low=0.01, start=len(before)))  # sure of the opposite
    assert found == []


def test_pictures_that_come_again_change_nothing() -> None:
    predictions = noisy(BURN_IN + 300, seed=8)
    state, _ = run(predictions)
    again, found = run(predictions[:-1], state)
    assert found == []
    assert again == state


def test_numbers_that_are_none_are_passed_over() -> None:
    state, found = run([seen(number, grey=float("nan")) for number in range(100)])
    assert found == []
    assert state.figures["mean_grey"].inside == 0


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(min_value=0, max_value=900))
def test_it_makes_no_difference_where_the_stream_is_cut(cut: int) -> None:
    predictions = noisy(2 * BURN_IN, seed=9) + noisy(500, seed=10, shift=9.0, start=2 * BURN_IN)
    whole = run(predictions)
    first, before = run(predictions[:cut])
    last, after = run(predictions[cut:], first)
    assert last == whole[0]
    assert len(before) + len(after) == len(whole[1])
