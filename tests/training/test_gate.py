"""The gate before registration: never accuracy alone, and a sentence for every refusal."""

from dataclasses import replace

import pytest

from lineside.core import decode_json
from lineside.models import Metric
from lineside.models.result import Confusion
from lineside.training import Evaluation
from lineside.training.pipeline import Limits, check_quality
from lineside.training.pipeline.definition import published_report
from lineside.vision.metrics import wilson


def evaluation(rows: tuple[tuple[int, ...], ...], *, leaking: int = 0) -> Evaluation:
    """What would be found of a two-class model that answered so."""
    labels = ("normal", "anomalous")
    total = sum(map(sum, rows))
    right = wilson(sum(row[place] for place, row in enumerate(rows)), total)
    recalls = {
        f"recall/{label}": _metric(wilson(rows[place][place], sum(rows[place])), baseline=0.5)
        for place, label in enumerate(labels)
    }
    mean = sum(metric.value for metric in recalls.values()) / 2
    balanced = Metric(
        value=mean, low=mean - 0.05, high=min(1.0, mean + 0.05), n=total, baseline=0.5
    )
    return Evaluation(
        metrics={
            "accuracy": _metric(right, baseline=sum(rows[0]) / total),
            "balanced_accuracy": balanced,
        },
        per_class=recalls,
        confusion={"class": Confusion(classes=labels, rows=rows)},
        slices={},
        leaking=leaking,
    )


def _metric(found: object, *, baseline: float) -> Metric:
    value, low, high, n = (getattr(found, name) for name in ("value", "low", "high", "n"))
    return Metric(value=value, low=low, high=high, n=n, baseline=baseline)


LIMITS = Limits(recall=0.5, least={"balanced_accuracy": 0.8})


def test_always_normal_on_a_set_that_is_89_percent_normal_is_refused_and_told_why() -> None:
    found = evaluation(((298, 0, 0), (35, 0, 0)))
    assert found.metrics["accuracy"].value == pytest.approx(0.895, abs=1e-3)
    quality = check_quality(found, LIMITS)
    assert not quality.passed
    assert (
        "the model predicts one class only: it always answers normal, and 298 of 333 pictures are "
        "normal, so saying so without looking is right for 0.895 of them; its accuracy of 0.895 is "
        "no more than that"
    ) in quality.reason
    assert "recall of anomalous is 0.000 (0.000 to 0.099, n 35); 0.500 is asked" in quality.reason
    assert "balanced_accuracy is 0.500" in quality.reason


def test_a_sound_model_passes() -> None:
    quality = check_quality(evaluation(((290, 5, 3), (2, 33, 0))), LIMITS)
    assert (quality.passed, quality.reason) == (True, "")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (((298, 0, 0), (20, 15, 0)), "recall of anomalous is 0.429"),
        (((20, 0, 0), (0, 3, 0)), "recall of anomalous is 1.000 (0.439"),  # too few to know
        (((0, 0, 298), (0, 0, 35)), "every picture is unsure"),
    ],
)
def test_what_is_not_shown_is_refused(rows: tuple[tuple[int, ...], ...], said: str) -> None:
    quality = check_quality(evaluation(rows), LIMITS)
    assert not quality.passed
    assert said in quality.reason


def test_a_leaking_split_and_a_missing_figure_are_refused() -> None:
    good = ((290, 8, 0), (2, 33, 0))
    assert "9 pairs" in check_quality(evaluation(good, leaking=9), LIMITS).reason
    assert check_quality(evaluation(good, leaking=6), LIMITS).passed
    asked = replace(LIMITS, least={"pixel_f1": 0.3})
    assert "pixel_f1 was not measured" in check_quality(evaluation(good), asked).reason
    bare = Evaluation(metrics={}, per_class={}, confusion={}, slices={})
    assert (
        "no class's recall was measured" in check_quality(bare, Limits(recall=0.5, least={})).reason
    )


def test_the_published_report_has_numbers_only() -> None:
    told = decode_json(published_report(evaluation(((8, 2, 0), (1, 9, 0)))), where="report")
    assert isinstance(told, dict)
    first = told["multiclass_classification_metrics"]["accuracy"]
    assert first["value"] == pytest.approx(0.85)
    assert isinstance(first["standard_deviation"], float)
    assert told["classification_report"]["bad"] == {
        "precision": pytest.approx(9 / 11), "recall": 0.9, "f1-score": pytest.approx(6 / 7),
        "support": 10.0,
    }  # fmt: skip
