"""Figures of good-only detection, from answers made by hand."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Digest, FrameId, Policy, digest_of
from lineside.datasets import Sample
from lineside.models import Engine, HealthLimits, Lineage, Manifest
from lineside.training.tasks.anomaly.metrics import measure
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import TaskMetrics
from lineside.vision import (
    AnomalyRule,
    FrameRef,
    HealthFigures,
    PictureState,
    Prediction,
    Prepare,
    RegistrationFigures,
    StageTimes,
)
from lineside.vision.anomaly import decide_anomaly

SIZE = (20, 30)
DIGEST = Digest("sha256:" + "0" * 64)
RULE = AnomalyRule(
    limit=2.0, unsure_above=1.5, unit=1.0, false_reject_rate=0.1, calibration_pictures=9
)
MARK = np.zeros(SIZE, np.bool_)
MARK[5:10, 5:15] = True
Mask = NDArray[np.bool_]


def manifest() -> Manifest:
    return Manifest(
        schema="lineside.manifest/2",
        name="keys",
        task="anomaly",
        inspection="i",
        labels=(),
        prepare=Prepare(crops=(), width_px=32, height_px=32, fit="zoom"),
        rules=(),
        policy=Policy(),
        health=HealthLimits(
            sharpness_min=0,
            mean_grey_min=0,
            mean_grey_max=255,
            clipped_share_max=1,
            residual_max_px=4,
            feature_distance_max=3,
        ),
        engine=Engine(file="network.onnx", digest=DIGEST),
        golden=(),
        lineage=Lineage(
            dataset="d/1", data_digest=DIGEST, pictures=1, seed=1, code_version="", created_at=""
        ),
        anomaly=RULE,
    )


def case(name: str, label: str, *, score: float, truth: Mask | None = None) -> Case:
    """A judged picture; its map is ``score`` where the defect was drawn, 0.1 elsewhere."""
    said = Prediction(
        frame=FrameRef(
            id=FrameId(name),
            camera="c",
            sequence=0,
            captured_at=datetime(2026, 1, 1, tzinfo=UTC),
            digest=DIGEST,
        ),
        inspection="i",
        task="anomaly",
        state=PictureState.OK,
        labels=(),
        package=DIGEST,
        dataset="d/1",
        registration=RegistrationFigures(state="none"),
        health=HealthFigures(sharpness=1.0, mean_grey=100.0, clipped_share=0.0),
        latency_ms=StageTimes(),
        anomaly=decide_anomaly(score, RULE),
    )
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
