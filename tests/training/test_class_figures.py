"""Figures of classes, by hand."""

from dataclasses import replace

import pytest

from lineside.core import InvalidError, digest_of
from lineside.datasets import Sample
from lineside.models import Manifest
from lineside.testing.bare import bare_frame, bare_label, bare_manifest, bare_prediction
from lineside.training.tasks.classify.metrics import measure
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import TaskMetrics
from lineside.vision import (
    Decision,
    HealthFigures,
    PictureState,
)

LABELS = ("crack", "dent", "good")
Chances = tuple[float, ...]


def manifest(labels: tuple[str, ...] = LABELS) -> Manifest:
    return bare_manifest("classify", labels=labels)


def case(
    truth: str, chances: Chances, *, inside: str, number: int, labels: tuple[str, ...] = LABELS
) -> Case:
    """``inside``: the classes of the set, by comma; "" for a picture that was refused."""
    names = inside.split(",") if inside else []
    verdict = Decision.PRESENT if len(names) == 1 else Decision.UNSURE
    answers = tuple(
        bare_label(label, chance, verdict if label in names else Decision.ABSENT)
        for label, chance in zip(labels, chances, strict=True)
    )
    digest = digest_of(str(number).encode())
    return Case(
        sample=Sample(name=f"{number}.png", digest=digest, labels=(truth,) if truth else ()),
        prediction=bare_prediction(
            bare_frame(f"frm_{number}", digest=digest),
            state=PictureState.OK if inside else PictureState.BLURRED,
            labels=answers if inside else (),
            health=HealthFigures(sharpness=1, mean_grey=100 + number, clipped_share=0),
            reason="" if inside else "too soft",
        ),
    )


CASES = [
    case("crack", (0.9, 0.05, 0.05), inside="crack", number=0),
    case("crack", (0.6, 0.3, 0.1), inside="crack,dent", number=1),
    case("dent", (0.7, 0.2, 0.1), inside="crack", number=2),
    case("dent", (0.1, 0.8, 0.1), inside="dent", number=3),
    case("good", (0.1, 0.1, 0.8), inside="good", number=4),
    case("good", (0.0, 0.0, 0.0), inside="", number=5),
]
GUESS = {"majority": 2.0}


def found() -> TaskMetrics:
    return measure(CASES, manifest=manifest(), baseline=GUESS)


def test_unsure_is_not_right_but_the_forced_choice_may_be() -> None:
    metrics = found().metrics
    assert metrics["accuracy"].value == pytest.approx(3 / 6, abs=1e-6)
    assert metrics["argmax_accuracy"].value == pytest.approx(4 / 6, abs=1e-6)
    assert metrics["accuracy"].baseline == pytest.approx(2 / 6, abs=1e-6)
    assert metrics["unsure_rate"].value == pytest.approx(1 / 6, abs=1e-6)
    assert metrics["refused_rate"].value == pytest.approx(1 / 6, abs=1e-6)


def test_sets_are_counted_over_pictures_that_were_judged() -> None:
    metrics = found().metrics
    assert metrics["coverage"].value == pytest.approx(4 / 5)
    assert metrics["coverage"].n == 5
    assert metrics["set_size"].value == pytest.approx(6 / 5)


def test_recall_and_precision_have_their_counts() -> None:
    per_class = found().per_class
    assert per_class["recall/crack"].value == pytest.approx(1 / 2)
    assert per_class["recall/crack"].n == 2
    assert per_class["precision/crack"].value == pytest.approx(1 / 2)
    assert per_class["argmax_recall/crack"].value == pytest.approx(1.0)


def test_the_confusion_has_a_column_for_unsure() -> None:
    table = found().confusion["parts"]
    assert (table.classes, table.rows) == (LABELS, ((1, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1)))


def test_figures_of_defects_go_by_the_class_that_is_named_good() -> None:
    named = measure(CASES, manifest=replace(manifest(), good=("crack",)), baseline=GUESS)
    assert named.metrics["defect_auroc"].value == named.metrics["auroc/crack"].value
    assert named.limits["defect"] != found().limits["defect"]


def test_a_class_that_means_nothing_is_wrong_gives_figures_of_defects() -> None:
    metrics = found().metrics
    # Of the refused good picture every class is said to be as likely: below all defective ones.
    assert metrics["defect_auroc"].value == pytest.approx(1.0)
    assert "defect_average_precision" in metrics
    assert "defect" in found().limits


def test_mistakes_stand_with_the_surest_first_and_say_why() -> None:
    worst = found().mistakes
    assert [each.picture for each in worst] == ["2.png", "1.png", "5.png"]
    assert (worst[0].truth, worst[0].said) == ("dent", "crack")
    assert worst[2].reason == "blurred: too soft"


def test_few_pictures_of_a_class_are_said() -> None:
    assert any("fewer than 10 pictures" in warning for warning in found().warnings)


def test_of_two_classes_the_rarer_one_is_ranked() -> None:
    labels = ("bad", "fine")
    cases = [
        case("bad", (0.8, 0.2), inside="bad", number=0, labels=labels),
        case("fine", (0.3, 0.7), inside="fine", number=1, labels=labels),
        case("fine", (0.9, 0.1), inside="bad", number=2, labels=labels),
    ]
    metrics = measure(cases, manifest=manifest(labels), baseline={"majority": 1.0}).metrics
    assert metrics["auroc"] == metrics["auroc/bad"]
    assert metrics["auroc"].value == pytest.approx(0.5)
    assert metrics["average_precision"].value == pytest.approx(0.5)
    assert metrics["average_precision"].baseline == pytest.approx(1 / 3, abs=1e-6)


def test_pictures_of_no_class_are_left_out_and_counted() -> None:
    more = [*CASES, case("", (0.4, 0.3, 0.3), inside="crack", number=9)]
    said = measure(more, manifest=manifest(), baseline=GUESS)
    assert said.metrics["accuracy"].n == 6
    assert any(warning.startswith("1 pictures") for warning in said.warnings)
    with pytest.raises(InvalidError):
        measure(more[-1:], manifest=manifest(), baseline=GUESS)
