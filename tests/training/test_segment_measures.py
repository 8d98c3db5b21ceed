"""Figures of masks, from answers made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import InvalidError, digest_of
from lineside.datasets import Sample
from lineside.models import Manifest
from lineside.testing.bare import bare_frame, bare_label, bare_manifest, bare_prediction
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import TaskMetrics
from lineside.training.tasks.segment.metrics import measure
from lineside.vision import (
    Decision,
    MaskRule,
    PictureState,
)
from lineside.vision.masks import mask_answer

SIZE = (20, 30)
Mask = NDArray[np.bool_]


def manifest() -> Manifest:
    return replace(
        bare_manifest("segment", labels=("crack",)),
        mask=MaskRule(
            label="crack",
            cut=0.5,
            least_px=1,
            present_above=0.6,
            absent_below=0.4,
            error_rate=0.1,
            calibration_pictures=10,
            top_share=0.01,
        ),
    )


def patch(rows: slice, columns: slice) -> Mask:
    mask = np.zeros(SIZE, np.bool_)
    mask[rows, columns] = True
    return mask


TRUE = patch(slice(5, 10), slice(5, 15))
HALF = patch(slice(5, 10), slice(5, 10))
NONE = np.zeros(SIZE, np.bool_)


def case(
    name: str,
    *labels: str,
    truth: Mask | None = None,
    found: Mask = NONE,
    sure: float = 0.9,
    group: str = "",
) -> Case:
    """A judged picture whose map is ``sure`` where the mask was found, .05 elsewhere."""
    decision = Decision.PRESENT if found.any() else Decision.ABSENT
    if 0.4 <= sure <= 0.6:
        decision = Decision.UNSURE
    answer = bare_label("crack", sure if found.any() else 0.1, decision)
    mask = mask_answer(found, (int(found.sum()),) if found.any() else ())
    said = bare_prediction(bare_frame(name), task="segment", labels=(answer,), mask=mask)
    sample = Sample(name=name, digest=digest_of(name.encode()), labels=labels, group=group)
    heat = np.where(found, sure, 0.05).astype(np.float32)
    return Case(sample=sample, prediction=said, heat=heat, truth_mask=truth)


def refused(one: Case) -> Case:
    said = replace(
        one.prediction, state=PictureState.BLACK, labels=(), mask=None, reason="too dark"
    )
    return replace(one, prediction=said, heat=None)


def measured(*cases: Case) -> TaskMetrics:
    return measure(cases, manifest=manifest(), baseline={"pixel_share": 0.1})


GOODS = [case(f"g{n}", "good") for n in range(4)]


def test_answers_that_are_right_reach_one() -> None:
    found = measured(*GOODS, *(case(f"d{n}", "crack", truth=TRUE, found=TRUE) for n in range(4)))
    for name in ("auroc", "average_precision", "pixel_f1", "pixel_f1_per_picture", "iou", "pro"):
        assert found.metrics[name].value == pytest.approx(1.0, abs=1e-6), name
        assert found.metrics[name].low < 1.0
    assert found.metrics["balanced_accuracy"].value == 1.0
    assert found.metrics["unsure_rate"].value == 0.0
    assert found.metrics["pixel_f1"].n == 8
    assert found.metrics["pixel_f1_per_picture"].n == 4
    assert found.mistakes == ()


def test_the_baseline_sets_every_pixel() -> None:
    found = measured(*GOODS, case("d", "crack", truth=TRUE, found=TRUE))
    assert found.metrics["pixel_f1"].baseline == pytest.approx(0.2 / 1.1, abs=1e-6)
    assert found.metrics["iou"].baseline == pytest.approx(0.1)
    share = TRUE.mean()
    wanted = 2 * share / (1 + share)
    assert found.metrics["pixel_f1_per_picture"].baseline == pytest.approx(wanted, abs=1e-6)
    assert found.metrics["average_precision"].baseline == pytest.approx(0.2)


def test_pictures_count_alike_in_one_figure_and_pixels_in_the_other() -> None:
    small = patch(slice(0, 2), slice(0, 2))
    found = measured(
        *GOODS,
        case("large", "crack", truth=TRUE, found=TRUE),
        case("small", "pit", truth=small, found=NONE),
    )
    assert found.metrics["pixel_f1"].value == pytest.approx(2 * 50 / (2 * 50 + 4), abs=1e-6)
    assert found.metrics["pixel_f1_per_picture"].value == 0.5
    assert found.per_class["pixel_f1_per_picture/pit"].value == 0.0
    assert found.per_class["recall/crack"].value == 1.0
    assert found.per_class["recall/pit"].value == 0.0
    assert found.per_class["recall/good"].n == 4


def test_good_pictures_without_a_find_narrow_no_interval_of_pixels() -> None:
    many = [case(f"m{n}", "good") for n in range(40)]
    for answer in (TRUE, NONE):
        defect = case("d", "crack", truth=TRUE, found=answer)
        few, found = measured(*GOODS, defect).metrics, measured(*many, defect).metrics
        for name in ("pixel_f1", "iou"):
            assert (found[name].low, found[name].high) == (few[name].low, few[name].high)
            assert found[name].high - found[name].low > 0.7


def test_unsure_is_not_right_and_is_counted() -> None:
    found = measured(*GOODS, case("d", "crack", truth=TRUE, found=TRUE, sure=0.5))
    assert found.metrics["unsure_rate"].value == pytest.approx(0.2)
    assert found.metrics["balanced_accuracy"].value == 0.5
    assert found.confusion["crack"].rows == ((4, 0, 0), (0, 0, 1))


def test_a_refused_picture_counts_as_not_right_on_either_side() -> None:
    whole = [*GOODS, *(case(f"d{n}", "crack", truth=TRUE, found=TRUE) for n in range(4))]
    lost = measured(*whole[:-1], refused(whole[-1]))
    assert lost.metrics["auroc"].value == pytest.approx(0.75, abs=0.01)
    assert lost.metrics["pixel_f1_per_picture"].value == 0.75
    assert lost.metrics["refused_rate"].value == 0.125
    assert any("refused" in line for line in lost.warnings)
    stopped = measured(refused(whole[0]), *whole[1:])
    assert stopped.metrics["auroc"].value == pytest.approx(0.75, abs=0.01)
    assert {mistake.picture for mistake in stopped.mistakes} == {"g0"}


def test_defects_without_a_mask_count_as_pictures_alone() -> None:
    found = measured(
        *GOODS, case("d", "crack", truth=TRUE, found=HALF), case("bare", "crack", found=HALF)
    )
    assert found.metrics["auroc"].n == 6
    assert found.metrics["pixel_f1"].n == 5
    assert found.metrics["pixel_f1"].value == pytest.approx(2 / 3, abs=1e-6)
    assert found.metrics["iou"].value == pytest.approx(0.5)
    assert any("no mask" in line for line in found.warnings)


def test_without_any_mask_there_are_no_figures_of_pixels() -> None:
    found = measured(*GOODS, case("bare", "crack", found=HALF))
    assert "pixel_f1" not in found.metrics
    assert found.metrics["auroc"].value == 1.0


def test_the_worst_are_told_with_truth_and_answer() -> None:
    found = measured(
        case("alarm", "good", found=TRUE, sure=0.95),
        *GOODS,
        case("escape", "crack", truth=TRUE, found=NONE),
        case("askew", "crack", truth=TRUE, found=patch(slice(12, 18), slice(2, 8))),
    )
    told = {mistake.picture: mistake for mistake in found.mistakes}
    assert set(told) == {"alarm", "escape", "askew"}
    assert (told["alarm"].truth, told["alarm"].said) == ("good", "crack")
    assert (told["escape"].truth, told["escape"].said) == ("crack", "good")
    assert "F1 0.00" in told["askew"].said


def test_slices_stand_by_label_and_group() -> None:
    found = measured(
        *(case(f"a{n}", "good", group="left") for n in range(3)),
        *(case(f"b{n}", "crack", truth=TRUE, found=TRUE, group="right") for n in range(3)),
    )
    assert set(found.slices["label"]) == {"good", "crack"}
    assert found.slices["group"]["right"].value == 1.0


def test_good_pictures_alone_say_so() -> None:
    found = measured(*GOODS)
    assert any("escapes" in line for line in found.warnings)
    assert "pixel_f1" not in found.metrics


def test_pictures_nobody_judged_are_refused() -> None:
    with pytest.raises(InvalidError, match="nobody"):
        measured(case("x"))
