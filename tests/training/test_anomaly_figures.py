"""Figures of good-only detection, from answers made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import digest_of
from lineside.datasets import Sample
from lineside.models import Manifest
from lineside.testing.bare import bare_frame, bare_manifest, bare_prediction
from lineside.training.tasks.anomaly.metrics import measure
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import TaskMetrics
from lineside.vision import (
    AnomalyRule,
    PictureState,
    Prepare,
)
from lineside.vision.anomaly import decide_anomaly

SIZE = (20, 30)
RULE = AnomalyRule(
    limit=2.0, unsure_above=1.5, unit=1.0, false_reject_rate=0.1, calibration_pictures=9
)
MARK = np.zeros(SIZE, np.bool_)
MARK[5:10, 5:15] = True
Mask = NDArray[np.bool_]


def manifest() -> Manifest:
    prepare = Prepare(crops=(), width_px=32, height_px=32, fit="zoom")
    return replace(bare_manifest("anomaly", prepare=prepare), anomaly=RULE)


def case(name: str, label: str, *, score: float, truth: Mask | None = None) -> Case:
    """A judged picture; its map is ``score`` where the defect was drawn, 0.1 elsewhere."""
    anomaly = decide_anomaly(score, RULE)
    said = bare_prediction(bare_frame(name), task="anomaly", anomaly=anomaly)
    heat = np.full(SIZE, 0.1, np.float32)
    if truth is not None:
        heat[truth] = score
    sample = Sample(name=name, digest=digest_of(name.encode()), labels=(label,))
    return Case(sample=sample, prediction=said, heat=heat, truth_mask=truth)


def refused(one: Case) -> Case:
    said = replace(
        one.prediction,
        state=PictureState.CAMERA_MOVED,
        anomaly=None,
        reason="nothing stands out from the ground",
    )
    return replace(one, prediction=said, heat=None)


def measured(*cases: Case) -> TaskMetrics:
    return measure(cases, manifest=manifest(), baseline={})


GOODS = tuple(case(f"g{n}", "good", score=1.0 + n / 10) for n in range(4))
BADS = tuple(case(f"d{n}", "chip", score=3.0 + n, truth=MARK) for n in range(4))


def test_answers_that_are_right_reach_one_and_nothing_is_said_of_refusals() -> None:
    found = measured(*GOODS, *BADS)
    for name in ("auroc", "average_precision", "balanced_accuracy", "recall", "pixel_auroc"):
        assert found.metrics[name].value == pytest.approx(1.0, abs=1e-6), name
    assert found.metrics["refused_rate"].value == 0.0
    assert found.warnings == ()


def test_a_refused_defect_stands_below_every_good_picture() -> None:
    found = measured(*GOODS, *BADS[:3], refused(BADS[3]))
    assert found.metrics["auroc"].value == pytest.approx(0.75)
    assert found.metrics["auroc"].n == 8
    assert found.metrics["recall"].value == 0.75
    assert found.metrics["refused_rate"].value == 0.125
    (said,) = found.warnings
    assert said.startswith("1 of 8 pictures were refused (0 good, 1 defective), such as d3: ")
    assert "nothing stands out" in said


def test_a_refused_good_picture_stands_above_every_defect() -> None:
    found = measured(refused(GOODS[0]), *GOODS[1:], *BADS)
    assert found.metrics["auroc"].value == pytest.approx(0.75)
    assert found.metrics["auroc"].n == 8
    assert "(1 good, 0 defective)" in found.warnings[0]


def test_the_defect_of_a_refused_picture_is_found_nowhere() -> None:
    whole, lost = measured(*GOODS, *BADS), measured(*GOODS, *BADS[:2], *map(refused, BADS[2:]))
    assert whole.metrics["pro"].n == lost.metrics["pro"].n == 8
    assert lost.metrics["pro"].value == pytest.approx(whole.metrics["pro"].value / 2, abs=0.02)
    assert lost.metrics["pixel_auroc"].value < whole.metrics["pixel_auroc"].value


def test_a_refused_good_picture_shows_no_places() -> None:
    found = measured(refused(GOODS[0]), *GOODS[1:], *BADS)
    assert found.metrics["pro"].n == 7


def test_defects_that_nobody_drew_are_counted_even_where_refused() -> None:
    bare = case("bare", "chip", score=3.0)
    found = measured(*GOODS, *BADS, bare, refused(replace(bare)))
    assert any(line.startswith("2 of 6 defective pictures have no mask") for line in found.warnings)
    assert found.metrics["pro"].n == 8


def test_of_good_pictures_alone_false_rejects_are_known_and_detection_is_not() -> None:
    found = measured(*GOODS, refused(GOODS[0]), case("g9", "normal", score=9.0))
    assert set(found.metrics) == {"false_reject_rate", "unsure_rate", "refused_rate"}
    rejected = found.metrics["false_reject_rate"]
    assert rejected.n == 6
    assert rejected.value == pytest.approx(1 / 6, abs=1e-6)
    assert rejected.low < rejected.value < rejected.high
    told, lost = found.warnings
    assert told.startswith("all 6 pictures measured are good: how many are rejected is known, how")
    assert "many defects are found is not" in told
    assert "auroc" not in lost


def test_of_defects_alone_what_is_found_is_known_and_false_rejects_are_not() -> None:
    found = measured(*BADS)
    assert set(found.metrics) == {"recall", "unsure_rate", "refused_rate"}
    assert found.warnings[0].startswith("all 4 pictures measured show defects: ")
