"""Figures of boxes, by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lineside.core import digest_of
from lineside.datasets import Marked, Sample
from lineside.models import Manifest
from lineside.models.result import measured_result
from lineside.testing.bare import bare_frame, bare_manifest, bare_prediction
from lineside.training.tasks.contract import Case
from lineside.training.tasks.detect.metrics import measure, picture_of
from lineside.vision import (
    BoxAnswer,
    Decision,
    DetectRule,
    HealthFigures,
    PictureState,
)

LABELS = ("disc", "square")
Box = tuple[str, float, float, float, float]


def manifest() -> Manifest:
    return replace(
        bare_manifest("detect", labels=LABELS),
        detect=DetectRule(labels=LABELS, stride_px=4, cut=0.4, unsure_below=0.6),
    )


def case(
    truth: Sequence[Box] | None,
    said: Sequence[tuple[Box, float]],
    *,
    number: int = 0,
    state: PictureState = PictureState.OK,
    group: str = "",
) -> Case:
    boxes = tuple(
        BoxAnswer(
            label=label,
            x0_px=x0,
            y0_px=y0,
            x1_px=x1,
            y1_px=y1,
            probability=chance,
            decision=Decision.PRESENT if chance >= 0.6 else Decision.UNSURE,
        )
        for (label, x0, y0, x1, y1), chance in said
    )
    marks = None
    if truth is not None:
        marks = tuple(
            Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)
            for label, x0, y0, x1, y1 in truth
        )
    sample = Sample(
        name=f"{number}.png", digest=digest_of(str(number).encode()), marked=marks, group=group
    )
    prediction = bare_prediction(
        bare_frame(f"frm_{number}", digest=sample.digest), task="detect", state=state, boxes=boxes,
        health=HealthFigures(sharpness=1, mean_grey=100.0 + number, clipped_share=0),
    )  # fmt: skip
    return Case(sample=sample, prediction=prediction)


A: Box = ("disc", 0, 0, 20, 20)
B: Box = ("square", 40, 40, 60, 60)
SHIFTED: Box = ("disc", 8, 0, 28, 20)  # overlaps A by 12 / 28 = .43
WRONG: Box = ("square", 0, 0, 20, 20)
ELSEWHERE: Box = ("disc", 70, 70, 90, 90)


def test_boxes_meet_objects_by_overlap_label_and_once_each() -> None:
    picture = picture_of(
        case([A, B], [(A, 0.9), (SHIFTED, 0.8), (WRONG, 0.7), (ELSEWHERE, 0.5)]), labels=LABELS
    )
    assert picture.hits(least=0.33, labelled=True).tolist() == [0, -1, -1, -1]
    alone = picture_of(case([A], [(SHIFTED, 0.8)]), labels=LABELS)
    assert alone.hits(least=0.33, labelled=True).tolist() == [0]
    assert alone.hits(least=0.5, labelled=True).tolist() == [-1]
    named = picture_of(case([A], [(WRONG, 0.8)]), labels=LABELS)
    assert named.hits(least=0.5, labelled=True).tolist() == [-1]
    assert named.hits(least=0.5, labelled=False).tolist() == [0]


def test_a_point_is_met_by_the_box_that_holds_it_the_likelier_first() -> None:
    point: Box = ("disc", 10, 10, 10, 10)
    picture = picture_of(case([point], [(A, 0.9), (SHIFTED, 0.8)]), labels=LABELS)
    assert picture.hits(least=0.5, labelled=True).tolist() == [0, -1]
    outside = picture_of(case([point], [(ELSEWHERE, 0.9)]), labels=LABELS)
    assert outside.hits(least=0.33, labelled=False).tolist() == [-1]


def test_figures_are_those_counted_by_hand() -> None:
    cases = [
        case([A, B], [(A, 0.9), (ELSEWHERE, 0.5)], number=0),
        case([A], [(SHIFTED, 0.8)], number=1),
        case([A], [(WRONG, 0.7)], number=2),
        case([], [], number=3),
    ]
    found = measure(cases, manifest=manifest(), baseline={"median_count": 1.0})
    # Four objects, four boxes; at .33 two are right, at .5 one; whatever the name three and two.
    assert found.metrics["f1_iou33"].value == pytest.approx(2 * 2 / 8)
    assert found.metrics["f1_iou50"].value == pytest.approx(2 * 1 / 8)
    assert found.metrics["f1_any_iou33"].value == pytest.approx(2 * 3 / 8)
    assert found.metrics["precision_iou33"].value == pytest.approx(2 / 4)
    assert found.metrics["recall_iou33"].value == pytest.approx(2 / 4)
    assert found.per_class["f1_iou33/square"].value == 0
    assert found.per_class["recall/disc"].value == pytest.approx(2 / 3)
    assert all(0 <= m.low <= m.value <= m.high <= 1 for n, m in found.metrics.items() if "f1" in n)
    assert {mistake.picture for mistake in found.mistakes} == {"0.png", "2.png"}


def test_the_confusion_says_what_was_taken_for_what_missed_or_unsure() -> None:
    cases = [
        case([A, B], [(A, 0.9), (ELSEWHERE, 0.7)], number=0),
        case([A], [(WRONG, 0.7)], number=1),
        case([A], [(A, 0.5), (ELSEWHERE, 0.4)], number=2),
    ]
    table = measure(cases, manifest=manifest(), baseline={}).confusion["objects"]
    assert table.classes == ("disc", "square", "nothing")
    assert table.rows == ((1, 1, 0, 1), (0, 0, 1, 0), (1, 0, 0, 1))


def test_the_sentence_on_objects_has_the_intervals_of_the_table() -> None:
    crowd: list[Box] = [
        ("disc", 30 * x, 30 * y, 30 * x + 20, 30 * y + 20) for x in range(8) for y in range(8)
    ]
    found_of = [(box, 0.9) for box in crowd]
    cases = [case(crowd, found_of if number < 4 else [], number=number) for number in range(6)]
    found = measure(cases, manifest=manifest(), baseline={})
    missed = found.metrics["missed_objects"]
    assert missed.value == pytest.approx(1 / 3)
    assert (missed.low, missed.high) == pytest.approx((0.0, 0.833), abs=0.01)  # of six images
    assert found.metrics["empty_boxes"].high > 0.3
    told = measured_result(
        "detect", confusion=found.confusion, metrics=found.metrics, pictures=len(cases)
    )
    assert told is not None
    assert told.shares[0].words == "of 100 objects about 33 are missed (0 to 84)"
    older = measured_result(
        "detect", confusion=found.confusion, metrics={"f1_iou33": found.metrics["f1_iou33"]},
        pictures=len(cases),
    )  # fmt: skip
    assert older is not None
    assert older.shares[0].words == "of 100 objects about 33 are missed (9 to 71)"


def test_pictures_without_an_object_narrow_no_interval_of_what_is_found() -> None:
    seen, empty = case([A], [(A, 0.9)], number=0), [case([], [], number=n) for n in range(1, 40)]
    alone = measure([seen], manifest=manifest(), baseline={}).metrics
    found = measure([seen, *empty], manifest=manifest(), baseline={})
    for name in ("recall_iou33", "f1_iou50", "average_precision"):
        assert (found.metrics[name].low, found.metrics[name].high) == (alone[name].low, 1.0)
        assert alone[name].low < 0.3
    assert found.metrics["missed_objects"].high == alone["missed_objects"].high > 0.7
    assert found.per_class["recall/disc"].low == alone["recall_iou33"].low


def test_the_twenty_worst_pictures_are_the_mistakes() -> None:
    cases = [case([A], [], number=number) for number in range(21)]
    assert len(measure(cases, manifest=manifest(), baseline={}).mistakes) == 20


def test_a_refused_picture_found_nothing() -> None:
    cases = [case([A], [], state=PictureState.BLURRED), case([A], [(A, 0.9)], number=1)]
    found = measure(cases, manifest=manifest(), baseline={})
    assert found.metrics["recall_iou33"].value == pytest.approx(0.5)
    assert found.metrics["refused_rate"].value == pytest.approx(0.5)
    assert found.mistakes[0].said == "blurred"


def test_counts_that_do_not_beat_the_median_guess_are_warned_of() -> None:
    many: list[Box] = [("disc", 20.0 * n, 0, 20.0 * n + 15, 15) for n in range(4)]
    poor = [case(many, [(many[0], 0.9)], number=n) for n in range(5)]
    warned = measure(
        poor, manifest=manifest(), baseline={"median_count": 4, "median_count/disc": 4}
    )
    assert any("do not beat" in warning for warning in warned.warnings)
    mixed = [case(many[: n % 3], [(box, 0.9) for box in many[: n % 3]], number=n) for n in range(6)]
    fine = measure(mixed, manifest=manifest(), baseline={"median_count": 1, "median_count/disc": 1})
    assert not [w for w in fine.warnings if "disc" in w]
    assert fine.metrics["count_exact"].value == 1.0
    assert fine.metrics["count_mae"].baseline > 0


def test_average_precision_falls_with_false_boxes_that_are_sure_of_themselves() -> None:
    sure = [case([A], [(ELSEWHERE, 0.95), (A, 0.6)], number=n) for n in range(4)]
    unsure = [case([A], [(A, 0.95), (ELSEWHERE, 0.6)], number=n) for n in range(4)]
    low, high = (
        measure(cases, manifest=manifest(), baseline={}).metrics["average_precision"].value
        for cases in (sure, unsure)
    )
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(1.0)


def test_slices_are_by_group_where_there_are_groups() -> None:
    cases = [
        case([A], [(A, 0.9)] if n < 3 else [], number=n, group="left" if n < 3 else "right")
        for n in range(6)
    ]
    found = measure(cases, manifest=manifest(), baseline={}).slices
    assert found["group"]["left"].value == 1.0
    assert found["group"]["right"].value == 0.0


def test_pictures_that_nobody_marked_are_passed_over() -> None:
    assert measure([case(None, [(A, 0.9)])], manifest=manifest(), baseline={}).metrics == {}
    both = [case(None, [(ELSEWHERE, 0.9)]), case([A], [(A, 0.9)], number=1)]
    assert measure(both, manifest=manifest(), baseline={}).metrics["f1_iou33"].value == 1.0


def test_nothing_said_of_nothing_is_measured_without_a_fault() -> None:
    found = measure([case([], [])], manifest=manifest(), baseline={})
    assert np.isfinite([m.value for m in found.metrics.values()]).all()
