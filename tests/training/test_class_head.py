"""Heads, calibration and cuts of classes, on numbers drawn here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Policy
from lineside.training.common.backbone import lite0_full
from lineside.training.common.loop import Parallel
from lineside.training.common.methods import CONFIDENCE, spread, temperature_of
from lineside.training.tasks.classify import network as head
from lineside.training.tasks.classify import tuning
from lineside.training.tasks.classify.features import InputSpec, input_specs_for
from lineside.training.tasks.classify.learn import decide_held_out
from lineside.training.tasks.classify.network import (
    Space,
    ValidationLogits,
    calibrated_loss,
    choose,
    class_rule,
    hold_out,
)
from lineside.training.tasks.classify.tuning import (
    MIRRORS,
    Recipe,
    TrainingSet,
    Tuned,
    TuningTask,
    augmented,
    harmless,
    is_better,
    mirrors_for,
    try_tuning,
    tune,
    worth_trying,
)
from lineside.vision import ClassRule, LabelAnswer, prepare
from lineside.vision.decide import class_probabilities

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


def _scores(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    features, truth = cloud(n, width=3, seed=seed, apart=1.2)
    return features.astype(np.float64), truth


def rule_of(logits: np.ndarray, truth: np.ndarray, *, rate: float = 0.1) -> ClassRule:
    return class_rule(
        logits, truth, labels=LABELS, policy=Policy(error_rate=rate), owners=range(len(truth))
    )[0]


def test_of_the_answers_given_no_more_are_wrong_than_the_rule_states() -> None:
    fresh, wanted = _scores(3000, seed=1)
    kept = []
    for seed in range(10, 30):
        rule = rule_of(*_scores(400, seed=seed))
        chances = class_probabilities(fresh.astype(np.float32), rule)
        given = chances.max(axis=1) >= rule.cuts[0]
        kept.append(np.mean((chances.argmax(axis=1) != wanted)[given]) <= rule.error_rate)
    assert np.mean(kept) >= 0.9


def test_few_pictures_state_the_rate_that_they_show() -> None:
    features, truth = cloud(12, width=3, seed=7, apart=30.0)
    rule = rule_of(features.astype(np.float64), truth, rate=0.05)
    assert rule.error_rate == 0.2  # the first of the ladder above 1 - 0.1 ** (1 / 12)
    assert rule.cuts == (0.5, 0.5, 0.5)


def test_where_no_answer_is_likelier_than_not_no_rate_is_stated() -> None:
    rule = rule_of(np.zeros((30, 3)), np.arange(30) % 3)
    assert (rule.error_rate, rule.cuts) == (1.0, (0.5, 0.5, 0.5))


def test_probabilities_are_those_of_all_pictures_and_of_no_rarest_class() -> None:
    logits, truth = _scores(300, seed=8)
    common = np.flatnonzero((truth > 0) | (np.arange(300) < 30))
    rule = rule_of(logits[common], truth[common])
    chances = class_probabilities(logits.astype(np.float32), rule)
    assert chances.sum(axis=1) == pytest.approx(1)
    assert len(np.unique(chances.max(axis=1))) > 290
    certain = rule_of(30 * logits[:12], logits[:12].argmax(axis=1).astype(np.intp))
    few = class_probabilities(30 * logits[:12].astype(np.float32), certain)
    assert few.max(axis=1).mean() < 0.95


def test_no_cut_is_below_one_half_however_good_the_network() -> None:
    features, truth = cloud(300, width=3, seed=8, apart=30.0)
    assert rule_of(features.astype(np.float64), truth).cuts == (0.5, 0.5, 0.5)


def test_a_policy_that_fixes_the_cut_is_followed() -> None:
    logits, truth = _scores(60, seed=9)
    policy = Policy(present_above=0.7)
    rule, confidence = class_rule(logits, truth, labels=LABELS, policy=policy, owners=range(60))
    assert rule.cuts == (0.7, 0.7, 0.7)
    assert confidence == CONFIDENCE  # of one cut that no answer chose


def test_a_fixed_cut_states_the_rate_that_it_shows() -> None:
    policy, kept = Policy(present_above=0.6), 0
    unseen, true = _scores(2000, seed=1)
    for seed in range(2, 42):
        rule, _ = class_rule(
            *_scores(60, seed=seed), labels=LABELS, policy=policy, owners=range(60)
        )
        chances = class_probabilities(unseen, rule)
        given = chances.max(axis=1) >= 0.6
        kept += np.mean((chances.argmax(axis=1) != true)[given]) <= rule.error_rate
    assert kept >= 34


def test_a_picture_takes_no_part_in_the_rule_that_decides_it() -> None:
    logits, truth = _scores(60, seed=9)
    numbers = np.arange(60) // 3 % 5

    def decided(known: np.ndarray) -> list[tuple[LabelAnswer, ...]]:
        return decide_held_out(
            logits, known, labels=LABELS, policy=Policy(error_rate=0.1), owners=range(60),
            folds=numbers.tolist(),
        )  # fmt: skip

    own, others = numbers == 2, numbers != 2
    before, after = decided(truth), decided(np.where(own, (truth + 1) % 3, truth))
    assert [before[n] for n in np.flatnonzero(own)] == [after[n] for n in np.flatnonzero(own)]
    assert [before[n] for n in np.flatnonzero(others)] != [after[n] for n in np.flatnonzero(others)]


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


THIRDS = tuple((np.arange(120) // 3 % 3).tolist())


def tuning_task(*, seed: int, owners: np.ndarray) -> tuple[TuningTask, np.ndarray]:
    """What a frozen network answered, and the true classes."""
    features, truth = cloud(120, width=3, seed=seed, apart=1.2)
    frozen = ValidationLogits(logits=features.astype(np.float64), losses=np.ones(120), strength=1.0)
    task = TuningTask(
        spec=InputSpec(width_px=32, height_px=32), inputs=lambda _: np.zeros((32, 32, 3), np.uint8),
        features=features, own=frozen, best=frozen, truth=truth, owners=owners,
        folds=tuple(range(2)) * 60, classes=3,
    )  # fmt: skip
    return task, truth


def test_a_tuned_network_is_used_only_where_it_is_surely_better() -> None:
    task, truth = tuning_task(seed=3, owners=np.arange(120))
    one_hot = np.eye(3)[truth]
    assert is_better(task, logits=task.best.logits + one_hot)
    assert not is_better(task, logits=task.best.logits)
    assert not is_better(task, logits=task.best.logits - one_hot)
    by_luck = 0
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 0.3, (120, 3))
        by_luck += is_better(task, logits=task.best.logits + noise)
    assert by_luck <= 1


def test_a_gain_on_the_pictures_of_one_part_is_no_gain() -> None:
    every, one_part = np.arange(120), np.maximum(np.arange(120) - 39, 0)
    task, truth = tuning_task(seed=3, owners=one_part)
    gained = task.best.logits + 3.0 * np.eye(3)[truth] * (every < 40)[:, None]
    assert not is_better(task, logits=gained)
    apart, _ = tuning_task(seed=3, owners=every)
    assert is_better(apart, logits=gained)


@pytest.mark.parametrize(("parts", "sure"), [(2, False), (5, False), (8, True)])
def test_a_gain_on_few_parts_is_no_gain(parts: int, *, sure: bool) -> None:
    every = np.arange(120)
    task, truth = tuning_task(seed=3, owners=every % parts)
    assert is_better(task, logits=task.best.logits + 3.0 * np.eye(3)[truth]) == sure


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


def _tune(
    folder: Path, *, epochs: int = 2, stop_at: int = 0, known: TrainingSet | None = None,
    parallel: Parallel | None = None,
) -> Tuned:  # fmt: skip
    def tell(figures: Mapping[str, float]) -> None:
        if figures["epoch"] == stop_at:
            raise InterruptedError

    return tune(
        known or _training_set(),
        Recipe(epochs=epochs, batch=8, learning_rate=1e-3),
        folder=folder,
        parallel=parallel or Parallel(),
        tell=tell,
    )


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


@pytest.mark.slow
def test_tuning_on_another_device_gives_the_same_where_it_rounds_alike(tmp_path: Path) -> None:
    moving = Parallel(torch.device("cpu:0"))  # not the default one, so that all is moved
    whole = _tune(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        _tune(tmp_path / "moved", stop_at=1, parallel=moving)
    moved = _tune(tmp_path / "moved", parallel=moving)
    assert moving.used
    assert np.array_equal(whole.head.weight, moved.head.weight)
    assert np.array_equal(whole.logits, moved.logits)


def test_tuning_lowers_the_loss_on_pictures_held_out(tmp_path: Path) -> None:
    tuned = _tune(tmp_path, epochs=3)
    losses = [row["validation_loss"] for row in tuned.history]
    assert losses[-1] < losses[0]
    assert {"epoch", "loss", "validation_loss", "accuracy"} <= set(tuned.history[0])


def test_pictures_held_out_choose_nothing_of_the_network_that_answers_them(tmp_path: Path) -> None:
    known = _training_set()
    wrong = replace(known, truth=np.where(np.arange(24) < 16, known.truth, 1 - known.truth))
    one, other = (_tune(tmp_path, epochs=1, known=each) for each in (known, wrong))
    assert np.array_equal(one.head.weight, other.head.weight)
    assert np.array_equal(one.logits, other.logits)
    last = calibrated_loss(one.logits, known.truth[16:])
    assert one.history[-1]["validation_loss"] == pytest.approx(last)


def test_mirrors_of_a_fold_are_chosen_without_it() -> None:
    task, truth = tuning_task(seed=3, owners=np.arange(120))
    task = replace(task, folds=THIRDS)
    asked = []

    def mirrored(name: str, fold: int) -> np.ndarray:
        asked.append(fold)
        shown = np.flatnonzero(np.array(task.folds) == fold)
        return task.features[shown] if name == "down" else task.features[shown][:, ::-1]

    found = mirrors_for(task, mirrored, without=0)
    assert found == ("down",)
    assert set(asked) == {1}
    held = np.array(task.folds) == 0
    scrambled = replace(task, truth=np.where(held, (truth + 1) % 3, truth))
    assert mirrors_for(scrambled, mirrored, without=0) == found
    assert mirrors_for(replace(task, folds=tuple(range(2)) * 60), mirrored, without=0) == ()


def test_mirrors_are_chosen_by_pictures_of_every_class_of_a_sorted_source() -> None:
    task, _ = tuning_task(seed=3, owners=np.arange(120))
    truth = np.repeat(np.arange(3), 150)
    task = replace(
        task, truth=truth, features=5 * np.eye(3, dtype=np.float32)[truth], folds=(0, 1, 2) * 150
    )

    def mirrored(name: str, fold: int) -> np.ndarray:
        places = spread(np.flatnonzero(np.array(task.folds) == fold).tolist(), 100)
        assert set(truth[places]) == {0, 1, 2}
        swapped = task.features[places][:, [0, 2, 1]]  # one class looks like another, mirrored
        return swapped if name == "across" else task.features[places]

    assert mirrors_for(task, mirrored) == ("down", "over")


@pytest.mark.parametrize(("gain", "fits"), [(1.0, 4), (0.0, 1)])
def test_every_picture_is_answered_by_a_tuned_network_that_did_not_learn_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gain: float, fits: int
) -> None:
    task, truth = tuning_task(seed=3, owners=np.arange(120))
    task = replace(task, folds=THIRDS, spec=InputSpec(width_px=64, height_px=32))
    learned: list[TrainingSet] = []
    monkeypatch.setattr(tuning, "mirrors_for", lambda *_, **__: ())

    def fitted(lesson: TrainingSet, *_: object, **__: object) -> Tuned:
        learned.append(lesson)
        logits = task.best.logits[lesson.outside] + gain * np.eye(3)[truth[lesson.outside]]
        return Tuned(backbone=lite0_full(), head=lesson.start, logits=logits, history=())

    monkeypatch.setattr(tuning, "tune", fitted)
    trial = try_tuning(task, Recipe(), folder=tmp_path, parallel=Parallel(), tell=lambda *_: None)
    assert len(learned) == fits
    assert (trial.tuned is not None) == (fits == 4)
    for lesson in learned:
        assert not set(lesson.inside.tolist()) & set(lesson.outside.tolist())
    if trial.tuned is not None:
        assert len(learned[-1].inside) == 120
        assert np.allclose(trial.logits, task.best.logits + np.eye(3)[truth])


def test_fewer_than_six_groups_are_not_worth_a_trial() -> None:
    task, _ = tuning_task(seed=3, owners=np.arange(120) % 5)
    assert worth_trying(task) == "too few groups"
    assert worth_trying(replace(task, owners=np.arange(120) % 6)) == ""
