"""Learning curves over features that are drawn here: nothing is trained but small linear heads."""

import numpy as np
import pytest

from lineside.core import Box, Inspection, Region, View
from lineside.models.result import LearningCurve
from lineside.training.tasks.classify.network import Space
from lineside.training.tasks.learning_curve import SHARES, learning_curve, mean_rise, share_of
from lineside.training.tasks.multilabel.heads import UNKNOWN, Truth, plan_heads
from lineside.training.tasks.multilabel.held_out import _named_answers, right_answers

LABELS = ("good", "scratch", "stain")


def features_of(n: int, *, hidden: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 40) float32 and their classes; a scratch shows in as many ways as there are pictures."""
    rng = np.random.default_rng(5)
    truth = np.arange(n) % 3
    found = rng.normal(0, 1, (n, 40))
    found[truth == 2, 1] += 9.0
    found[np.arange(n), 4 + rng.integers(0, 12, n)] += hidden * (truth == 1)
    return found.astype(np.float32), truth.astype(np.intp)


def curve_of(features: np.ndarray, truth: np.ndarray, groups: list[str]) -> LearningCurve:
    numbers = np.unique(np.array(groups), return_inverse=True)[1] % 4
    shown = truth[:, None] == np.arange(3)

    def answer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        assert not {groups[n] for n in inside} & {groups[n] for n in outside}
        head = Space(features[inside]).fit(truth[inside], classes=3, strength=1.0)
        right = head.logits(features[outside]).argmax(axis=1) == truth[outside]
        return np.asarray(right[:, None], np.float64)

    whole = np.concatenate(
        [np.column_stack([np.flatnonzero(numbers == fold), answer(
            np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        )]) for fold in range(4)]
    )  # fmt: skip
    return learning_curve(
        answer, whole=whole[np.argsort(whole[:, 0]), 1:], kinds=shown,
        named={name: shown[:, [n]] for n, name in enumerate(LABELS)}, groups=groups,
        folds=numbers.tolist(), seed=7, heads="a linear head",
    )  # fmt: skip


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    features, truth = features_of(360, hidden=5.0)
    return curve_of(features, truth, [f"part {n // 2}" for n in range(360)])


def test_more_pictures_help_most_where_the_second_half_raised_right_answers(
    curve: LearningCurve,
) -> None:
    assert [point.share for point in curve.points] == [*SHARES, 1.0]
    assert [point.pictures for point in curve.points] == [72, 144, 209, 270]
    assert all(point.right.low <= point.right.value <= point.right.high for point in curve.points)
    assert curve.points[0].right.value < curve.points[-1].right.value
    assert curve.points[-1].labels["scratch"].n == 120
    assert curve.helped in {"good", "scratch"}  # taken for each other; a stain is plain
    assert f"of those on {curve.helped}" in curve.words


def test_the_same_seed_gives_the_same_curve(curve: LearningCurve) -> None:
    features, truth = features_of(360, hidden=5.0)

    assert curve_of(features, truth, [f"part {n // 2}" for n in range(360)]) == curve


def test_what_was_learned_at_once_promises_nothing() -> None:
    truth = np.arange(60) % 3
    features = np.eye(3, dtype=np.float32)[truth]

    flat = curve_of(features, truth, [str(n) for n in range(60)])

    assert flat.helped == ""
    assert flat.points[-1].right.value == 1.0
    assert flat.points[-1].right.low < 0.95  # sixty pictures prove no more
    assert flat.words.endswith("that more of the same would help is not sure.")


@pytest.mark.parametrize(
    ("parts", "names", "sure"),
    [(2, 1, False), (5, 1, False), (6, 1, True), (6, 2, False), (7, 2, True)],
)
def test_a_rise_is_sure_where_more_parts_rose_than_chance_would(
    parts: int, names: int, *, sure: bool
) -> None:
    twice = np.repeat(np.arange(parts), 2)

    found = mean_rise(np.ones((2 * parts, 1)), owners=twice, names=names)

    assert (found.value, found.low > 0) == (1.0, sure)
    assert mean_rise(np.zeros((2 * parts, 1)), owners=twice).low == 0


def test_shares_are_nested_keep_groups_and_keep_each_kind() -> None:
    inside = np.arange(40)
    rank = np.repeat(np.random.default_rng(1).permutation(20), 2)
    kinds = np.stack([inside < 38, inside >= 38], axis=1)

    parts = [
        set(share_of(inside, share=one, rank=rank, kinds=kinds).tolist()) for one in (*SHARES, 1.0)
    ]

    assert parts[0] < parts[1] < parts[2] < parts[3] == set(range(40))
    assert all({38, 39} <= part for part in parts)
    assert all((n ^ 1) in part for part in parts for n in part)
    assert [len(part) for part in parts] == [12, 22, 32, 40]


def test_answers_of_regions_are_told_by_label_and_by_region() -> None:
    box = Box(x0_px=0.0, y0_px=0.0, x1_px=8.0, y1_px=8.0)
    plan = plan_heads(
        Inspection(
            id="i", camera="c", view=View(width_px=32, height_px=32),
            region=(
                Region(id="lid", label="closed", box_px=box),
                Region(id="A1", classes=("blue", "red"), box_px=box),
                Region(id="A2", classes=("blue", "red"), box_px=box),
            ),
        )
    )  # fmt: skip
    truth: Truth = np.full((2, 3, 2), UNKNOWN, np.int8)
    truth[0, 0, 0] = 1  # closed, A1 blue; the rest was not judged
    truth[0, 1] = (1, 0)
    truth[1, 0, 0] = 0  # open, A1 red, A2 blue
    truth[1, 1], truth[1, 2] = (0, 1), (1, 0)
    logits = np.array([[[2, 0], [3, 1], [0, 0]], [[2, 0], [3, 1], [3, 1]]], np.float32)

    right = right_answers(plan, logits, truth=truth)
    named = _named_answers(plan, truth)

    assert np.array_equal(right, np.array([[1, 1, np.nan], [0, 0, 1]]), equal_nan=True)
    assert sorted(named) == ["blue", "closed", "red", "region A1", "region A2"]
    told = {name: right[mask].tolist() for name, mask in named.items()}
    assert told["closed"] == [1, 0]
    assert told["blue"] == [1, 1]
    assert told["red"] == [0]
    assert told["region A1"] == [1, 0]
