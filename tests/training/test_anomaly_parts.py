"""Scorers, their ONNX form, held-out maps, the rule, figures and erasing by real material."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lineside.core import Policy, digest_of
from lineside.datasets import Sample
from lineside.testing.bare import bare_prediction
from lineside.training.common.backbone import STRIDE_8_CHANNELS
from lineside.training.common.export import onnx_bytes
from lineside.training.common.methods import calibrated_limit
from lineside.training.evaluation.baselines import inpainted
from lineside.training.tasks.anomaly.choice import (
    KINDS,
    USABLE_AUROC,
    Candidate,
    ScorerChoice,
    SyntheticBenchmark,
    fold_numbers,
    perturbed,
)
from lineside.training.tasks.anomaly.learn import bound_of, rule_of, warnings_for
from lineside.training.tasks.anomaly.scene import CHANNELS, Scene
from lineside.training.tasks.anomaly.scorers import (
    ContrastPlan,
    Mahalanobis,
    MaskedScorer,
    Scorer,
    ScorerMean,
    fit_contrast,
    fit_local_neighbours,
    fit_mahalanobis,
    fit_memory,
    map_of,
)
from lineside.training.tasks.contract import Case
from lineside.vision import (
    Prediction,
    Prepare,
    decode_picture,
    encode_png,
    open_frame,
)

ROWS, COLUMNS = 5, 7
CELLS = np.zeros((ROWS, COLUMNS), np.bool_)
CELLS[1:4, 2:6] = True
YARDSTICK = SyntheticBenchmark(blur_cells=0.0, top_share=0.1)

NOW = datetime(2026, 3, 1, tzinfo=UTC)

Halves = NDArray[np.float16]


def grids(count: int) -> list[Halves]:
    """Each place has features of its own, each picture a little noise."""
    rng = np.random.default_rng(2)
    place = rng.normal(0, 1, (CHANNELS, ROWS, COLUMNS))
    return [np.asarray(place + rng.normal(0, 0.1, place.shape), np.float16) for _ in range(count)]


def in_onnx(scorer: Scorer, grid: Halves) -> NDArray[np.float32]:
    crops = grid.astype(np.float32)[None]
    encoded = onnx_bytes(scorer.eval(), crops, outputs=("map",), fold=False)
    session = onnxruntime.InferenceSession(encoded, providers=["CPUExecutionProvider"])
    (found,) = session.run(["map"], {"crops": crops})
    return np.asarray(found[0, 0], np.float32)


def scorers() -> dict[str, Scorer]:
    some = grids(6)
    spread = fit_mahalanobis(some, channels=slice(STRIDE_8_CHANNELS, None), seed=1)
    plan = ContrastPlan(steps=20, batch=64, least_batch=32)
    return {
        "placed": fit_local_neighbours(some, cells=CELLS, owners=range(6), seed=1).scorer,
        "memory": fit_memory(some, seed=1),
        "spread": spread,
        "contrast": fit_contrast(some, seed=1, plan=plan),
        "together": MaskedScorer(
            ScorerMean([spread, fit_memory(some, seed=1)], means=(1.0, 2.0), units=(0.5, 2.0)),
            cells=CELLS,
        ),
    }


@pytest.mark.parametrize("name", ["placed", "memory", "spread", "contrast", "together"])
def test_what_is_exported_is_what_was_learned(name: str) -> None:
    scorer, grid = scorers()[name], grids(7)[6]
    ours, theirs = map_of(scorer, grid), in_onnx(scorer, grid)
    assert ours.shape == (ROWS, COLUMNS)
    assert (ours >= 0).all()
    assert np.abs(ours - theirs).max() < 1e-4


def test_the_same_patches_give_the_same_scorer() -> None:
    for one, other in zip(scorers().values(), scorers().values(), strict=True):
        pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


class LargeTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts new tensors of at least so many bytes."""

    def __init__(self, least: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.least, self.count = least, 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        known = [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, Tensor)]
        if isinstance(made, Tensor) and made.nbytes >= self.least:
            self.count += made.data_ptr() not in [each.data_ptr() for each in known]
        return made


def test_choosing_patches_needs_no_more_memory_the_more_are_chosen() -> None:
    """Each further block of the size of all patches left a hole that malloc kept: 2 GB in all."""
    some = grids(60)
    with LargeTensors(least=2 * 64 * 60 * ROWS * COLUMNS) as made:
        bank = fit_memory(some, seed=1).bank
    assert (len(bank) > 500, made.count < 20) == (True, True)


def test_a_changed_place_is_farther_and_other_places_are_not() -> None:
    scorer = fit_local_neighbours(grids(6), cells=CELLS, owners=range(6), seed=1).scorer
    grid = grids(7)[6].copy()
    before = map_of(scorer, grid)
    grid[:, 2, 3] += 1
    after = map_of(scorer, grid)
    assert after[2, 3] > 3 * before[2, 3]
    assert np.abs(after - before)[CELLS].sum() == pytest.approx(
        float(after[2, 3] - before[2, 3]), rel=1e-4
    )
    assert (after[~CELLS] == 0).all()


def test_a_held_out_picture_is_farther_than_one_that_is_banked() -> None:
    some = grids(6)
    fitted = fit_local_neighbours(some, cells=CELLS, owners=range(6), seed=1)
    held, seen = fitted.without(0, some[0]), map_of(fitted.scorer, some[0])
    assert (held[CELLS] > seen[CELLS]).all()


def test_a_picture_is_held_out_with_its_group() -> None:
    some, rng = grids(6), np.random.default_rng(4)
    again = [np.asarray(one + rng.normal(0, 0.01, one.shape), np.float16) for one in some]
    some, parts = [*some, *again], [n % 6 for n in range(12)]
    grouped = fit_local_neighbours(some, cells=CELLS, owners=parts, seed=1)
    apart = fit_local_neighbours(some, cells=CELLS, owners=range(12), seed=1)
    one = fit_local_neighbours(some, cells=CELLS, owners=[0] * 12, seed=1)
    held = grouped.without(0, some[0])
    assert (held[CELLS] > 1.2 * apart.without(0, some[0])[CELLS]).all()
    assert np.array_equal(one.without(0, some[0]), apart.without(0, some[0]))  # no other group


def test_pictures_of_one_group_alone_are_held_out_one_by_one() -> None:
    samples = [
        Sample(name=str(n), digest=digest_of(bytes([n])), group=f"g{n % 3}") for n in range(9)
    ]
    numbers = fold_numbers(samples, seed=7)
    assert len({*zip(numbers, (one.group for one in samples), strict=True)}) == 3
    alone = fold_numbers([replace(one, group="g") for one in samples], seed=7)
    assert len(set(alone)) >= 2


def test_some_cells_are_judged_alone_as_among_all() -> None:
    some, cells = grids(6), (slice(2, 5), slice(1, 5))
    fitted = fit_local_neighbours(some, cells=CELLS, owners=range(6), seed=1)
    whole = fitted.without(2, some[2])
    part = fitted.part(cells).without(2, some[2][:, *cells])
    assert part == pytest.approx(whole[cells], abs=1e-4)
    assert (part[~CELLS[cells]] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_made_up_changes_are_local_and_come_back_the_same(kind: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(90, 150, (96, 128, 3)).astype(np.uint8)
    cover = np.zeros((96, 128), np.bool_)
    cover[20:80, 20:100] = True
    made = [
        perturbed(image, others=[image[::-1]], kind=kind, cover=cover, rng=np.random.default_rng(4))
        for _ in range(2)
    ]
    assert np.array_equal(made[0], made[1])
    changed = (made[0] != image).any(axis=2)
    assert 12 <= changed.sum() <= 0.6 * changed.size
    assert (changed & cover).any()


def chosen(scores: list[float], changed: list[float]) -> ScorerChoice:
    spread = scorers()["spread"]
    assert isinstance(spread, Mahalanobis)
    return ScorerChoice(
        best=Candidate(
            name="surface",
            scorer=spread,
            scores=np.array(scores),
            changed=np.array(changed),
            kinds=tuple("line" for _ in changed),
            held_out=lambda _picture, some, _cells: map_of(spread, some),
        )
    )


def test_the_limit_is_the_least_that_good_pictures_show_to_hold_the_rate() -> None:
    scores = [float(n) for n in range(1, 80)]
    found = chosen(scores, [200.0] * 5)
    policy = Policy(error_rate=0.05)
    rule = rule_of(found, policy=policy, benchmark=YARDSTICK)
    assert rule.unit == 40.0
    assert rule.limit * rule.unit == pytest.approx(78.0, abs=1e-4)  # 2 wrong of 79 show it no more
    assert rule.unsure_above * rule.unit == pytest.approx(72.0, abs=1e-4)
    assert rule.false_reject_rate == 0.05
    assert rule.usable
    bound = bound_of(found, rule, target=0.05)
    assert bound is not None
    assert (bound.answered, bound.wrong) == (73, 1)
    assert bound.words.startswith("Of the answers given for good pictures at most")
    found = replace(found, owners=tuple(str(n // 2) for n in range(79)))
    pairs = rule_of(found, policy=policy, benchmark=YARDSTICK)
    assert pairs.false_reject_rate == 0.0625


def test_the_picture_that_made_the_limit_does_not_lie_above_it() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        found = chosen(rng.normal(5, 1, 45).tolist(), [200.0] * 5)
        rule = rule_of(found, policy=Policy(error_rate=0.05), benchmark=YARDSTICK)
        bound = bound_of(found, rule, target=0.05)
        assert bound is not None
        assert (bound.pictures, bound.answered, bound.wrong) == (45, 42, 0)


def test_false_rejects_exceed_what_is_stated_in_one_of_ten_sets_at_most() -> None:
    rng = np.random.default_rng(6)
    for n in (30, 120):
        limits = [calibrated_limit(rng.random(n), owners=range(n), rate=0.05) for _ in range(200)]
        assert np.mean([1 - each.cut <= each.rate for each in limits]) >= 0.87


def test_few_pictures_state_the_rate_that_they_show() -> None:
    found = chosen([1.0, 2.0, 3.0], [9.0])
    rule = rule_of(found, policy=Policy(), benchmark=YARDSTICK)
    assert rule.false_reject_rate == 0.625  # the first of the ladder above 1 - 0.1 ** (1 / 3)
    assert rule.limit * rule.unit == pytest.approx(3.0)


def test_a_wished_rate_that_is_not_shown_is_a_warning_however_many_pictures_there_are() -> None:
    scene = Scene(prepare=Prepare(crops=(), width_px=1, height_px=1))
    found = chosen([float(n) for n in range(1, 81)], [200.0] * 5)
    for owners, target, wanted in (
        ([f"part {n // 10}" for n in range(80)], 0.05, ["80 good ones", "the limit holds 0.315"]),
        ([str(n) for n in range(80)], 0.05, []),
        ([f"part {n // 4}" for n in range(80)], 0.2, []),
    ):
        rule = rule_of(
            replace(found, owners=owners), policy=Policy(error_rate=target), benchmark=YARDSTICK
        )
        warnings = warnings_for(scene, rule, target=target)
        assert len(warnings) == bool(wanted)
        assert all(word in warnings[0] for word in wanted)


def test_good_pictures_that_vary_like_defects_are_not_usable_and_say_so() -> None:
    rng = np.random.default_rng(1)
    found = chosen(rng.normal(5, 1, 30).tolist(), rng.normal(5.2, 1, 30).tolist())
    rule = rule_of(found, policy=Policy(), benchmark=YARDSTICK)
    assert not rule.usable
    assert bound_of(found, rule, target=0.05) is None  # no answer is given
    assert f"{USABLE_AUROC}" in rule.reason
    assert "label some defects" in rule.reason


def said() -> Prediction:
    frame = open_frame(encode_png(np.zeros((8, 8, 3), np.uint8)), camera="c", captured_at=NOW)
    return bare_prediction(frame.ref, task="anomaly")


def test_a_stripe_is_erased_by_the_pictures_own_grain() -> None:
    rng = np.random.default_rng(3)
    x = np.mgrid[:120, :160][1]
    clean = np.clip(128 + 30 * np.sin(x / 2) + rng.normal(0, 6, x.shape), 0, 255)
    image = np.repeat(clean.astype(np.uint8)[..., None], 3, axis=2)
    mask = np.zeros((120, 160), np.bool_)
    mask[50:60, 40:70] = True
    spoilt = image.copy()
    spoilt[mask] = 20
    case = Case(sample=Sample(name="a", digest=digest_of(b"a")), prediction=said(), truth_mask=mask)
    after = decode_picture(inpainted(encode_png(spoilt), case, poses=None))
    inside = after[mask].astype(float)
    assert abs(inside.mean() - image[mask].mean()) < 12
    assert inside.std() > 0.6 * image[mask].std()  # grain, not paint
    assert np.array_equal(after[:30], spoilt[:30])
