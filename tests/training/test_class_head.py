"""Heads, calibration and conformal cuts of classes, on numbers drawn here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Policy
from lineside.training.common.loop import Parallel
from lineside.training.common.methods import temperature_of
from lineside.training.tasks.classify import network as head
from lineside.training.tasks.classify.features import input_specs_for
from lineside.training.tasks.classify.network import (
    Space,
    choose,
    class_rule,
    hold_out,
)
from lineside.training.tasks.classify.tuning import (
    MIRRORS,
    Recipe,
    TrainingSet,
    Tuned,
    augmented,
    harmless,
    tune,
)
from lineside.vision import Decision, prepare
from lineside.vision.decide import decide_classes

LABELS = ("a", "b", "c")


def cloud(n: int, *, width: int, seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(n, width) float32 of three classes, each moved along an axis of its own."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    features = rng.normal(0, 1, (n, width))
    features[np.arange(n), truth] += apart
    return features.astype(np.float32), truth.astype(np.intp)


def test_a_fit_in_the_space_of_the_pictures_is_the_fit_in_all_features() -> None:
    features, truth = cloud(40, width=60, seed=1, apart=2.0)
    narrow = Space(features).fit(truth, classes=3, strength=1.0)
    wide = Space(features)
    wide.points = (features.astype(np.float64) - wide.mean) / wide.spread * (10 / np.sqrt(60))
    wide._back = None
    direct = wide.fit(truth, classes=3, strength=1.0)
    assert np.allclose(narrow.logits(features), direct.logits(features), atol=0.02)


def test_very_many_pictures_are_fitted_in_the_space_of_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, truth = cloud(300, width=20, seed=12, apart=3.0)
    whole = Space(features).fit(truth, classes=3, strength=1.0)
    monkeypatch.setattr(head, "_MOST_SPANNING", 100)
    some = Space(features).fit(truth, classes=3, strength=1.0)
    assert np.allclose(whole.logits(features), some.logits(features), atol=0.05)


def test_held_out_answers_come_from_heads_that_saw_none_of_the_fold() -> None:
    features, truth = cloud(60, width=5, seed=2)
    noise = np.random.default_rng(0).permutation(truth)
    found = hold_out(features, noise, folds=[n % 5 for n in range(60)], classes=3, strengths=(1.0,))
    assert abs(float((found.logits.argmax(axis=1) == noise).mean()) - 1 / 3) < 0.25
    learned = hold_out(
        cloud(60, width=5, seed=2, apart=6)[0],
        truth,
        folds=[n % 5 for n in range(60)],
        classes=3,
        strengths=(1.0,),
    )
    assert (learned.logits.argmax(axis=1) == truth).mean() > 0.9


def test_a_costlier_sight_has_to_earn_its_cost() -> None:
    features, truth = cloud(90, width=6, seed=3, apart=1.5)
    folds = [n % 5 for n in range(90)]
    plain = hold_out(features, truth, folds=folds, classes=3, strengths=(1.0,))
    clear = hold_out(
        cloud(90, width=6, seed=3, apart=6)[0], truth, folds=folds, classes=3, strengths=(1.0,)
    )
    assert choose([plain, plain]) == 0
    assert choose([plain, clear]) == 1
    assert choose([clear, plain]) == 0


def test_a_class_that_a_fold_lacks_is_never_likely() -> None:
    features, truth = cloud(30, width=4, seed=4)
    fitted = Space(features[truth != 2]).fit(truth[truth != 2], classes=3, strength=1.0)
    assert (fitted.logits(features).argmax(axis=1) != 2).all()


def test_the_temperature_undoes_a_factor() -> None:
    features, truth = cloud(3000, width=3, seed=5, apart=2.0)
    logits = features.astype(np.float64) * 2.0  # about the log-odds of these clouds
    own = temperature_of(logits, truth)
    assert temperature_of(logits * 5, truth) == pytest.approx(5 * own, rel=0.06)


@pytest.mark.parametrize("each_class", [True, False])
def test_sets_hold_the_truth_as_often_as_promised(*, each_class: bool) -> None:
    logits, truth = _scores(1200, seed=6)
    rule = class_rule(
        logits, truth, labels=LABELS, policy=Policy(error_rate=0.1), class_conditional=each_class
    )
    held = []
    for seed in range(10, 15):
        fresh, wanted = _scores(600, seed=seed)
        held += [
            decide_classes(row.astype(np.float32), rule)[place].decision is not Decision.ABSENT
            for row, place in zip(fresh, wanted.tolist(), strict=True)
        ]
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)
    assert rule.class_conditional is each_class


def _scores(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    features, truth = cloud(n, width=3, seed=seed, apart=1.2)
    return features.astype(np.float64), truth


def test_few_pictures_hold_no_smaller_rate_than_one_in_one_more() -> None:
    logits, truth = _scores(16, seed=7)
    policy = Policy(error_rate=0.05)
    whole = class_rule(logits, truth, labels=LABELS, policy=policy, class_conditional=False)
    assert whole.error_rate == pytest.approx(1 / 17)
    single = class_rule(logits, truth, labels=LABELS, policy=policy, class_conditional=True)
    assert single.error_rate == pytest.approx(1 / 6)
    assert not class_rule(logits, truth, labels=LABELS, policy=policy).class_conditional


def test_no_cut_is_above_one_half_however_good_the_network() -> None:
    features, truth = cloud(300, width=3, seed=8, apart=30.0)
    rule = class_rule(
        features.astype(np.float64), truth, labels=LABELS, policy=Policy(error_rate=0.1)
    )
    assert max(rule.cuts) <= 0.5


def test_a_policy_that_fixes_the_cut_is_followed() -> None:
    logits, truth = _scores(60, seed=9)
    rule = class_rule(logits, truth, labels=LABELS, policy=Policy(present_above=0.7))
    assert rule.cuts == (0.7, 0.7, 0.7)


def test_sights_keep_the_pictures_proportions_and_do_not_blow_them_up() -> None:
    wide = input_specs_for([(640, 320)] * 3)
    assert [spec.scales for spec in wide] == [1, 1, 2]
    assert all(1.5 < spec.width_px / spec.height_px < 2.6 for spec in wide)
    assert all(spec.width_px % (32 * spec.scales) == 0 for spec in wide)
    assert len(input_specs_for([(40, 40)])) == 1
    assert input_specs_for([(640, 320)], side_px=64)[0].scales == 1
    assert [spec.width_px for spec in input_specs_for([(1, 1)], side_px=224)] == [224]


def test_a_sight_of_one_brightness_differs_in_nothing_else() -> None:
    plain = input_specs_for([(640, 480)])[0]
    assert plain.prepare.level == 0.0
    assert replace(plain.evened.prepare, level=0.0) == plain.prepare
    image = np.random.default_rng(4).integers(20, 60, (480, 640, 3)).astype(np.uint8)
    dark, light = (prepare(image * gain, plain.evened.prepare) for gain in (1, 3))
    assert np.abs(dark - light).max() < 0.1
    assert np.abs(prepare(image, plain.prepare) - dark).max() > 0.1


def test_mirrors_are_used_only_where_they_change_no_answer() -> None:
    assert harmless(90, 89, pictures=100)
    assert not harmless(90, 60, pictures=100)
    assert not harmless(0, 0, pictures=0)


@given(st.integers(0, 2**32), st.sets(st.sampled_from(sorted(MIRRORS))))
def test_the_same_draw_gives_the_same_pixels(seed: int, mirrors: set[str]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    one, other = (
        augmented(image, mirrors=tuple(sorted(mirrors)), rng=np.random.default_rng(seed))
        for _ in range(2)
    )
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    assert np.array_equal(one, other)


def _training_set() -> TrainingSet:
    rng = np.random.default_rng(0)
    truth = (np.arange(24) % 2).astype(np.intp)
    pictures = rng.integers(0, 90, (24, 32, 32, 3)).astype(np.uint8)
    pictures[truth == 1, 8:24, 8:24] += 100
    features = rng.normal(0, 1, (24, 3504)).astype(np.float32)
    start = Space(features).fit(truth, classes=2, strength=0.1)
    return TrainingSet(
        pictures=lambda place: pictures[place],
        truth=truth,
        inside=np.arange(16),
        outside=np.arange(16, 24),
        start=start,
        name="x",
    )


def _tune(folder: Path, *, epochs: int = 2, stop_at: int = 0) -> Tuned:
    def tell(figures: Mapping[str, float]) -> None:
        if figures["epoch"] == stop_at:
            raise InterruptedError

    return tune(
        _training_set(),
        Recipe(epochs=epochs, batch=8, learning_rate=1e-3),
        folder=folder,
        parallel=Parallel(),
        tell=tell,
    )


@pytest.mark.timeout(180)
def test_tuning_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = _tune(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        _tune(tmp_path / "stopped", stop_at=1)
    gone_on = _tune(tmp_path / "stopped")
    assert np.array_equal(whole.head.weight, gone_on.head.weight)
    assert np.array_equal(whole.logits, gone_on.logits)
    assert len(whole.history) == len(gone_on.history) == 2
    ours, theirs = whole.backbone.state_dict(), gone_on.backbone.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


@pytest.mark.timeout(180)
def test_tuning_lowers_the_loss_on_pictures_held_out(tmp_path: Path) -> None:
    tuned = _tune(tmp_path, epochs=3)
    losses = [row["validation_loss"] for row in tuned.history]
    assert min(losses) < losses[0] or tuned.epochs <= 1
    assert {"epoch", "loss", "validation_loss", "accuracy"} <= set(tuned.history[0])
