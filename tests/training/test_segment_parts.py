"""What segmentation is made of: which pictures are defective, scale, crops, losses, rule."""

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.core import Digest, InvalidError, Policy, digest_of
from lineside.datasets import Part, Sample
from lineside.testing.clock import FakeClock
from lineside.training.common.backbone import lite0_full
from lineside.training.common.loop import Round, rounds
from lineside.training.common.methods import bank_distances, feature_bank
from lineside.training.job import Steps
from lineside.training.tasks import Work
from lineside.training.tasks.segment.fit import drawn_loss, laid_on, picture_loss, pixel_loss
from lineside.training.tasks.segment.learn import (
    ValidationMap,
    label_of,
    mask_rule,
    samples_to_fit,
    score_of,
    tops_of,
    warnings_of,
)
from lineside.training.tasks.segment.network import new_unet
from lineside.training.tasks.segment.training_set import (
    IGNORED,
    Draw,
    Facts,
    PreparedPicture,
    cut_piece,
    facts_of,
    plan_turn,
    prepare_for,
    prepared_picture,
    shown_by,
    zoom_for,
)
from lineside.vision import HealthFigures, MaskRule, encode_png
from lineside.vision.masks import decide_score, on_picture

Image = NDArray[np.uint8]
MASK = digest_of(b"mask")
DRAWN = Sample(name="a", digest=digest_of(b"a"), labels=("crack",), mask_digest=MASK)
HEALTH = HealthFigures(sharpness=100.0, mean_grey=120.0, clipped_share=0.0)


def sample(name: str, *labels: str, group: str = "", part: Part = Part.OPEN) -> Sample:
    return Sample(
        name=name, digest=digest_of(name.encode()), labels=labels, group=group, split=part
    )


def facts(name: str, *, defective: bool = False, drawn: bool = True, **more: Any) -> Facts:  # noqa: ANN401  fields of the test's choice
    label = "crack" if defective else "good"
    found = Facts(
        sample=sample(name, label),
        defective=defective,
        drawn=drawn,
        width_px=300,
        height_px=200,
        health=HEALTH,
    )
    return replace(found, **more)


def work_of(image: Image, mask: NDArray[np.bool_]) -> tuple[Work, list[Digest]]:
    """One picture and its mask, and the digests that were read."""
    white = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    read: list[Digest] = []

    def files(digest: Digest) -> bytes:
        read.append(digest)
        return encode_png(white if digest == MASK else image)

    steps = Steps(clock=FakeClock(), progress=lambda _: None, cancelled=threading.Event())
    return Work(folder=Path(), steps=steps, training=(), files=files), read


def marked(size: tuple[int, int] = (60, 90)) -> tuple[Image, NDArray[np.bool_]]:
    """A picture that is white exactly where its mask is set."""
    mask = np.zeros(size, np.bool_)
    mask[20:32, 30:50] = True
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2), mask


def test_a_blank_mask_of_a_defect_says_nothing_of_where_it_is() -> None:
    image, _ = marked()
    blank = np.zeros(image.shape[:2], np.bool_)
    found = facts_of(DRAWN, work=work_of(image, blank)[0])
    assert (found.defective, found.drawn) == (True, False)


def test_widths_and_areas_are_those_of_the_pieces() -> None:
    image, mask = marked()
    mask[50, 5] = True
    found = facts_of(DRAWN, work=work_of(image, mask)[0])
    assert sorted(found.areas_px) == [1, 240]
    assert max(found.widths_px) == pytest.approx(12, abs=1.5)
    assert found.share == pytest.approx(241 / 5400)


def test_a_mask_of_another_size_is_named() -> None:
    image, mask = marked()
    with pytest.raises(InvalidError, match="80, 60") as caught:
        facts_of(DRAWN, work=work_of(image, mask[:, :80])[0])
    assert caught.value.where == "a"


def test_the_label_is_the_inspections_one_defect() -> None:
    assert label_of(("good", "scratch")) == "scratch"
    assert label_of(()) == label_of(("good", "scratch", "dent")) == "defect"
    assert label_of(("i.O.", "kratzer"), good=("i.O.",)) == "kratzer"


# ---- scale


def test_narrow_defects_keep_the_pictures_size_and_wide_ones_do_not() -> None:
    large: dict[str, Any] = {"width_px": 1000, "height_px": 700}
    narrow = [facts("a", defective=True, widths_px=(4.0, 30.0), areas_px=(90, 900), **large)]
    wide = [facts("a", defective=True, widths_px=(21.0, 30.0), areas_px=(90, 900), **large)]
    assert zoom_for(narrow) == 1.0
    assert zoom_for(wide) == 0.25


def test_slips_of_the_pen_do_not_choose_the_scale() -> None:
    pen = [
        facts("a", defective=True, widths_px=(2.0,) * 9 + (22.0,), areas_px=(1,) * 9 + (400,)),
        facts("b", width_px=2000, height_px=1200),
    ]
    assert zoom_for(pen) < 1.0


def test_small_pictures_are_enlarged_and_large_ones_bounded() -> None:
    assert zoom_for([facts("a", width_px=80, height_px=64)]) == 2.0
    huge = [facts("a", defective=True, widths_px=(3.0,), areas_px=(50,), width_px=9000)]
    zoom = zoom_for([replace(each, height_px=9000) for each in huge])
    assert 9000 * 9000 * zoom**2 <= 2**20 + 1


@pytest.mark.parametrize("zoom", [0.5, 1.0])
def test_masks_stay_bits_and_what_fills_the_picture_up_is_ignored(zoom: float) -> None:
    image, mask = marked()
    shown = prepared_picture(image, mask=mask, settings=prepare_for(zoom))
    assert set(np.unique(shown.mask)) <= {0, 1, IGNORED}
    assert shown.inside == (math.ceil(60 * zoom), math.ceil(90 * zoom))
    assert (shown.mask[shown.inside[0] :] == IGNORED).all()
    assert int((shown.mask == 1).sum()) == pytest.approx(240 * zoom**2, rel=0.05)
    assert (shown.mask[shown.points[:, 0], shown.points[:, 1]] == 1).all()
    assert np.array_equal(shown.pixels[..., 0] > 127, shown.mask == 1)


def test_pictures_are_kept_only_while_they_fit() -> None:
    image, mask = marked()
    for most_bytes, times in ((100_000, 1), (10, 3)):
        work, read = work_of(image, mask)
        show = shown_by(prepare_for(1.0), work=work, most_bytes=most_bytes)
        for _ in range(3):
            show(DRAWN)
        assert read == [DRAWN.digest, MASK] * times


# ---- pieces


def lesson() -> list[Facts]:
    return [
        *(facts(f"good{n}") for n in range(5)),
        *(facts(f"drawn{n}", defective=True) for n in range(3)),
        *(facts(f"bare{n}", defective=True, drawn=False) for n in range(2)),
    ]


def test_a_turn_deals_every_kind_its_share() -> None:
    batches = plan_turn(lesson(), steps=10, batch=4, rng=np.random.default_rng(0))
    kinds = [draw.kind for batch in batches for draw in batch]
    assert {len(batch) for batch in batches} == {4}
    assert [kinds.count(kind) for kind in ("defect", "any", "whole")] == [19, 19, 2]
    assert {draw.place for each in batches for draw in each if draw.kind == "whole"} == {8, 9}
    goods = [draw.place for batch in batches for draw in batch if draw.kind == "any"]
    assert {goods.count(place) for place in range(5)} <= {3, 4}


def test_without_good_pictures_every_piece_lies_around_a_defect() -> None:
    only = [facts("a", defective=True), facts("b", defective=True)]
    batches = plan_turn(only, steps=2, batch=4, rng=np.random.default_rng(0))
    assert {draw.kind for batch in batches for draw in batch} == {"defect"}


@given(seed=st.integers(0, 10_000), side=st.sampled_from([32, 64, 96]))
@settings(max_examples=30, deadline=None)
def test_picture_and_mask_are_changed_together(seed: int, side: int) -> None:
    image, mask = marked()
    shown = prepared_picture(image, mask=mask, settings=prepare_for(1.0))
    piece = cut_piece(
        Draw(place=0, kind="defect"),
        [facts("a", defective=True)],
        show=lambda _: shown,
        side_px=side,
        rng=np.random.default_rng(seed),
    )
    assert piece.pixels.shape == (side, side, 3)
    assert set(np.unique(piece.bits)) <= {0, 1, IGNORED}
    assert (piece.bits == 1).any()
    told = piece.bits != IGNORED
    bright = piece.pixels.mean(axis=2) > 110
    assert np.mean(bright[told] == (piece.bits[told] == 1)) > 0.9


def test_a_whole_picture_keeps_its_size_and_has_no_bits_to_learn() -> None:
    image, _ = marked()
    shown = prepared_picture(image, mask=None, settings=prepare_for(1.0))
    piece = cut_piece(
        Draw(place=0, kind="whole"),
        [facts("a", defective=True, drawn=False)],
        show=lambda _: shown,
        side_px=32,
        rng=np.random.default_rng(1),
    )
    assert not piece.drawn
    assert piece.pixels.shape == shown.pixels.shape


def test_the_same_seed_cuts_the_same_piece() -> None:
    image, mask = marked()
    shown: PreparedPicture = prepared_picture(image, mask=mask, settings=prepare_for(1.0))
    pieces = [
        cut_piece(
            Draw(place=0, kind="any"),
            [facts("a")],
            show=lambda _: shown,
            side_px=48,
            rng=np.random.default_rng(seed),
        )
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(pieces[0].pixels, pieces[1].pixels)
    assert not np.array_equal(pieces[0].pixels, pieces[2].pixels)


# ---- losses


def bits_of(mask: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.uint8))[None]


def test_a_map_that_is_right_costs_little_and_one_that_is_wrong_much() -> None:
    mask = np.zeros((32, 32), np.bool_)
    mask[8:20, 8:20] = True
    right = torch.from_numpy(np.where(mask[::2, ::2], 12.0, -12.0).astype(np.float32))[None, None]
    assert float(drawn_loss(right, bits_of(mask))) < 0.6
    assert float(drawn_loss(-right, bits_of(mask))) > 5


def test_what_is_ignored_costs_nothing() -> None:
    bits = torch.zeros((1, 32, 32), dtype=torch.uint8)
    bits[:, 16:] = IGNORED
    quiet = torch.full((1, 1, 16, 16), -8.0)
    loud = quiet.clone()
    loud[:, :, 10:] = 8.0
    assert float(pixel_loss(loud, bits)) == pytest.approx(float(pixel_loss(quiet, bits)), abs=1e-4)


def test_a_small_defect_weighs_as_much_as_a_large_one() -> None:
    losses = []
    for side in (4, 24):
        mask = np.zeros((32, 32), np.bool_)
        mask[:side, :side] = True
        missed = torch.full((1, 1, 16, 16), -8.0)
        dice = float(pixel_loss(missed, bits_of(mask))) - 8.0 * side * side / 1024
        losses.append(dice)
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


def test_the_loss_sees_the_map_where_a_device_lays_it() -> None:
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(16, 16)).astype(np.float32)
    laid = laid_on(torch.from_numpy(grid)[None, None], torch.zeros((1, 32, 32)))[0].numpy()
    on_device = on_picture(grid, prepare_for(1.0), width_px=32, height_px=32)
    assert np.allclose(laid, on_device, atol=0.05)


def test_one_bright_cell_makes_a_picture_defective() -> None:
    logits = torch.full((2, 1, 16, 16), -9.0)
    logits[1, 0, 3, 3] = 9.0
    losses = picture_loss(logits, torch.ones(2))
    assert losses[1] < 0.1 < losses[0]


# ---- network


def test_two_networks_of_one_seed_are_equal_and_settling_evens_the_outputs() -> None:
    one, other = (new_unet(3, backbone=lite0_full()) for _ in range(2))
    for mine, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    one.settle(x)
    with torch.no_grad():
        before, _ = one(x)
        one.fold()
        after, pooled = one(x)
    assert before.shape == (2, 1, 32, 32)
    assert pooled.shape == (2, 112)
    assert torch.allclose(before, after, atol=1e-4)
    assert all(bool((scale == 1).all()) for scale in one.scales)


def test_known_pictures_are_near_and_others_far() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 8)).astype(np.float32)
    known = feature_bank(features, spread=features.std(axis=0), owners=range(40), size=40)

    def distance(each: np.ndarray) -> float:
        bank, spread = torch.from_numpy(known.bank), torch.from_numpy(known.spread)
        unit = torch.tensor(known.unit)
        apart = bank_distances(torch.from_numpy(each), bank=bank, spread=spread, unit=unit)
        return float(apart.amin())

    assert distance(features[:1]) == 0
    assert distance(features[:1] + 50) > 3
    alone = feature_bank(features[:1], spread=np.ones(8), owners=["one"], size=1)
    assert (alone.unit, alone.farthest) == (1.0, 0.0)
    assert known.rows.tolist() == list(range(40))


# ---- rule


def held_map(name: str, *, defective: bool, strong: float, size: int = 40) -> ValidationMap:
    """A map with a square of that logit, in the right place where it is defective."""
    logits = np.full((size, size), -6.0, np.float32)
    logits[5:15, 5:15] = strong
    truth = np.zeros((size, size), np.bool_)
    if defective:
        truth[5:15, 5:15] = True
    return ValidationMap(
        facts=facts(name, defective=defective),
        tops=tops_of(logits),
        logits=logits.astype(np.float16),
        truth=truth,
    )


def parted(count: int) -> list[ValidationMap]:
    return [
        *(held_map(f"d{n}", defective=True, strong=1.0 + 0.1 * n) for n in range(count)),
        *(held_map(f"g{n}", defective=False, strong=-4.0 - 0.1 * n) for n in range(count)),
    ]


def test_maps_apart_give_a_rule_that_decides_them_all() -> None:
    held = parted(12)
    rule, bound = mask_rule(held, areas_px=(90,) * 20, label="crack", policy=Policy())
    assert rule.calibration_pictures == 24
    assert rule.error_rate == 0.1  # what 24 answers without a mistake show
    assert (bound.answered, bound.wrong) == (24, 0)
    assert bound.bound == rule.error_rate  # the report and the package state one rate
    said = [decide_score(score_of(each, rule), rule, policy=Policy()).decision for each in held]
    assert said == ["present"] * 12 + ["absent"] * 12
    assert rule.absent_below < rule.present_above
    assert 0.05 < rule.cut < 0.74


def test_maps_that_overlap_leave_an_unsure_band() -> None:
    held = [
        *(held_map(f"d{n}", defective=True, strong=-2.0 + 0.3 * n) for n in range(12)),
        *(held_map(f"g{n}", defective=False, strong=-4.0 + 0.3 * n) for n in range(12)),
    ]
    rule, _ = mask_rule(held, areas_px=(90,) * 20, label="crack", policy=Policy())
    said = {decide_score(score_of(each, rule), rule, policy=Policy()).decision for each in held}
    assert said == {"present", "absent", "unsure"}


def scored(rng: np.random.Generator, *, good: int, defective: int) -> list[ValidationMap]:
    """Pictures without maps whose scores overlap, defective ones first."""
    truth = np.arange(good + defective) < defective
    chances = 1 / (1 + np.exp(-rng.normal(np.where(truth, 1.5, -1.5), 1.2)))
    return [
        ValidationMap(facts=facts(str(number), defective=shows), tops=(chance,) * 7)
        for number, (shows, chance) in enumerate(zip(truth.tolist(), chances.tolist(), strict=True))
    ]


def errors_of(held: list[ValidationMap], rule: MaskRule, *, policy: Policy) -> tuple[int, int]:
    """Answers that are given, and wrong ones of them."""
    said = [decide_score(score_of(each, rule), rule, policy=policy).decision for each in held]
    right = ["present" if each.facts.defective else "absent" for each in held]
    given = [pair for pair in zip(said, right, strict=True) if pair[0] != "unsure"]
    return len(given), sum(one != other for one, other in given)


@pytest.mark.parametrize("policy", [Policy(), Policy(present_above=0.4)])
@pytest.mark.parametrize(("good", "defective"), [(30, 30), (200, 30)])
def test_new_answers_are_wrong_no_more_often_than_the_rule_states(
    good: int, defective: int, policy: Policy
) -> None:
    kept, rng = 0, np.random.default_rng(5)
    unseen = scored(rng, good=5 * good, defective=5 * defective)
    for _ in range(40):
        held = scored(rng, good=good, defective=defective)
        rule, bound = mask_rule(held, areas_px=(), label="crack", policy=policy)
        assert (bound.answered, bound.wrong) == errors_of(held, rule, policy=policy)
        assert bound.bound == rule.error_rate
        answered, wrong = errors_of(unseen, rule, policy=policy)
        kept += wrong <= rule.error_rate * answered
    assert kept >= 34


def test_a_defect_that_nothing_shows_does_not_lower_the_stated_rate() -> None:
    """The conformal band leaves five sure good pictures; the test alone would state 0.05."""
    logits = [*np.linspace(-6, -3, 190), *np.linspace(1, 2, 10), -5.95, *np.linspace(1, 4, 29)]
    held = [
        ValidationMap(
            facts=facts(str(number), defective=number >= 200),
            tops=(float(1 / (1 + np.exp(-value))),) * 7,
        )
        for number, value in enumerate(logits)
    ]
    rule, bound = mask_rule(held, areas_px=(), label="crack", policy=Policy())
    assert 0.05 < bound.bound == rule.error_rate
    assert (bound.answered, bound.wrong) == errors_of(held, rule, policy=Policy())


def test_where_no_rate_is_shown_every_picture_is_unsure() -> None:
    held = parted(10)
    for number, each in enumerate(held):
        sample = replace(each.facts.sample, group="a" if number else "b")
        held[number] = replace(each, facts=replace(each.facts, sample=sample))
    rule, bound = mask_rule(held, areas_px=(), label="crack", policy=Policy())
    assert (rule.error_rate, rule.absent_below, rule.present_above) == (1.0, 0.0, 1.0)
    told = warnings_of([each.facts for each in held], [each.facts for each in held], rule=rule,
                       bound=bound)  # fmt: skip
    assert "so that all are unsure" in told[-1]


@pytest.mark.parametrize("cut", [0.0, 0.01, 0.5])
def test_a_fixed_cut_answers_all_and_the_report_says_how_many_wrongly(cut: float) -> None:
    policy = Policy(present_above=cut)
    held = scored(np.random.default_rng(1), good=30, defective=30)
    rule, bound = mask_rule(held, areas_px=(), label="crack", policy=policy)
    assert (bound.answered, bound.wrong) == errors_of(held, rule, policy=policy)
    assert bound.answered == 60
    assert bound.wrong > 0
    assert bound.bound == rule.error_rate > policy.error_rate
    told = warnings_of([each.facts for each in held], [each.facts for each in held], rule=rule,
                       bound=bound)  # fmt: skip
    assert any("the package states" in one or "any share" in one for one in told)


def test_few_pictures_cannot_promise_a_small_rate() -> None:
    rule, _ = mask_rule(parted(3), areas_px=(90,) * 20, label="crack", policy=Policy())
    assert rule.error_rate == 0.4
    assert rule.floor == pytest.approx(0.2)


def test_one_side_alone_is_always_unsure() -> None:
    held = [held_map(f"d{n}", defective=True, strong=2.0) for n in range(5)]
    rule, bound = mask_rule(held, areas_px=(90,) * 20, label="crack", policy=Policy())
    assert bound.answered == 0
    assert (rule.absent_below, rule.present_above) == (0.0, 1.0)
    assert decide_score(score_of(held[0], rule), rule, policy=Policy()).decision == "unsure"


def test_specks_are_dropped_where_that_helps() -> None:
    held = parted(6)
    for each in held:
        assert each.logits is not None
        each.logits[30, 30:32] = 3.0
    rule, _ = mask_rule(held, areas_px=(100,) * 20, label="crack", policy=Policy())
    assert 2 < rule.least_px <= 50


# ---- what is held out


def held_part(*, defective: int, of_group: int, odd: Part) -> Round:
    """Round of 330 pictures, defective ones first; ``odd``: declared part of every second one."""
    some = [
        replace(facts(name, defective=n < defective), sample=replace(
            sample(name), group=f"tile{n // of_group}", split=odd if n % 2 else Part.OPEN
        ))
        for n, name in enumerate(f"p{n}" for n in range(330))
    ]  # fmt: skip
    return rounds(samples_to_fit(some, seed=7), seed=7)[0]


def test_the_declared_validation_part_is_held_out() -> None:
    part = held_part(defective=100, of_group=1, odd=Part.VALID)
    assert sorted(one.name for one in part.judge) == sorted(f"p{n}" for n in range(1, 330, 2))


@pytest.mark.parametrize(("defective", "of_group"), [(30, 10), (2, 1)])
def test_masks_are_on_both_sides_of_the_one_held_out_part(defective: int, of_group: int) -> None:
    part = held_part(defective=defective, of_group=of_group, odd=Part.OPEN)
    assert all(any("mask" in one.labels for one in side) for side in (part.learn, part.judge))
    assert not {one.group for one in part.learn} & {one.group for one in part.judge}


def test_every_fold_gets_its_share_of_masks_though_good_pictures_have_blank_ones() -> None:
    some = [
        replace(one, sample=replace(one.sample, labels=(), mask_digest=MASK))
        for one in (facts(f"p{number}", defective=number < 6) for number in range(60))
    ]
    made = rounds(samples_to_fit(some, seed=7), seed=7)
    assert [sum("mask" in one.labels for one in each.judge) for each in made] == [2, 2, 2]


def test_masks_of_one_group_alone_are_refused() -> None:
    some = [replace(each, sample=replace(each.sample, group="tile")) for each in lesson()]
    with pytest.raises(InvalidError, match="one group"):
        samples_to_fit(some, seed=7)


def test_warnings_say_what_the_decisions_rest_on() -> None:
    rule, bound = mask_rule(parted(3), areas_px=(), label="crack", policy=Policy())
    told = warnings_of(lesson(), lesson()[:6], rule=rule, bound=bound)
    assert any("few masks" in line for line in told)
    assert any("2 defective pictures without a mask" in line for line in told)
    assert any("0.05 among the answers could not be shown" in line for line in told)
    alone = warnings_of(lesson(), lesson()[:5], rule=rule, bound=bound)
    assert any("no defective picture was held out" in line for line in alone)
    assert any("held out of the defective pictures: 1; up to 50%" in line for line in told)
