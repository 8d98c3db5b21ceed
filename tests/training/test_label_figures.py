from dataclasses import replace

import numpy as np
import pytest

from lineside.core import Box, Digest, Inspection, Region, View
from lineside.datasets import Sample
from lineside.models.result import PRESENCE
from lineside.training.common.loop import one_group
from lineside.training.tasks.multilabel.heads import plan_heads, truth_of
from lineside.training.tasks.multilabel.learn import bound_of, confounded, monotonous
from lineside.training.tasks.multilabel.metrics import (
    Answer,
    PictureAnswers,
    confusion_of,
    figures,
    majority_of,
    mistakes_of,
    per_class,
)
from lineside.vision.metrics import UNSURE, upper_share

BOX = Box(x0_px=0.0, y0_px=0.0, x1_px=8.0, y1_px=8.0)
CLASSES = ("empty", "blue", "red")
SLOTS = Inspection(
    id="i",
    camera="c",
    view=View(width_px=32, height_px=32),
    region=tuple(Region(id=f"A{n}", box_px=BOX, classes=CLASSES) for n in (1, 2, 3)),
)


def sample(number: int, *labels: str, group: str = "") -> Sample:
    digest = Digest(f"sha256:{number:064x}")
    return Sample(name=f"p{number}", digest=digest, labels=labels, known=labels, group=group)


def presence(name: str, *, truth: int, predicted: int, chance: float = 0.9) -> Answer:
    chances = (1 - chance, chance)
    return Answer(
        name=name, head=0, classes=PRESENCE, truth=truth, predicted=predicted, chances=chances
    )


def picture(number: int, *answers: Answer, group: str = "") -> PictureAnswers:
    return PictureAnswers(sample=sample(number, group=group), answers=answers)


def test_a_class_that_stands_in_one_place_alone_is_called_confounded() -> None:
    plan = plan_heads(SLOTS)
    shown = [("A1/blue", "A2/empty", "A3/empty"), ("A1/empty", "A2/red", "A3/empty")]
    truth = truth_of(plan, [sample(n, *labels) for n, labels in enumerate(shown)])
    found = " ".join(confounded(plan, truth))
    assert "blue only ever stands at A1" in found
    assert "red only ever stands at A2" in found


def test_classes_that_change_places_are_not_confounded() -> None:
    plan = plan_heads(SLOTS)
    shown = [("A1/blue", "A2/red", "A3/empty"), ("A1/red", "A2/blue", "A3/empty")]
    truth = truth_of(plan, [sample(n, *labels) for n, labels in enumerate(shown)])
    assert confounded(plan, truth) == []


def test_unsure_is_not_right_and_intervals_and_baselines_stand_beside() -> None:
    pictures = [
        picture(1, presence("a", truth=1, predicted=1), presence("b", truth=0, predicted=0)),
        picture(2, presence("a", truth=1, predicted=UNSURE), presence("b", truth=0, predicted=1)),
    ]
    found = figures(pictures, majority=majority_of(pictures))
    assert found["accuracy"].value == 0.5
    assert found["accuracy"].baseline == 1.0
    assert found["accuracy/a"].value == 0.5
    assert found["exact"].value == 0.5
    assert found["unsure_rate"].value == 0.25
    assert found["coverage"].value == 0.75
    assert 0 < found["accuracy"].low < 0.5 < found["accuracy"].high < 1
    assert all(np.isfinite([m.value, m.low, m.high]).all() for m in found.values())


def test_figures_of_nothing_are_none() -> None:
    assert figures([], majority={}) == {}
    assert figures([picture(1)], majority={}) == {}


def test_confusion_counts_unsure_in_its_own_column() -> None:
    answers = [
        Answer(name="A1", head=1, classes=CLASSES, truth=1, predicted=1, chances=(0.1, 0.8, 0.1)),
        Answer(name="A2", head=1, classes=CLASSES, truth=2, predicted=UNSURE, chances=()),
    ]
    table = confusion_of([picture(1, *answers)])["empty / blue / red"]
    assert table.rows == ((0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1))
    recalls = per_class([picture(1, *answers)])
    assert recalls["recall/blue"].value == 1.0
    assert recalls["recall/red"].value == 0.0


def test_the_surest_mistakes_come_first_and_unsure_last() -> None:
    pictures = [
        picture(1, presence("a", truth=0, predicted=UNSURE, chance=0.95)),
        picture(2, presence("a", truth=0, predicted=1, chance=0.7)),
        picture(3, presence("a", truth=0, predicted=1, chance=0.9)),
        picture(4, presence("a", truth=0, predicted=0, chance=0.1)),
    ]
    assert [mistake.picture for mistake in mistakes_of(pictures)] == ["p3", "p2", "p1"]


def test_a_head_that_gives_one_answer_only_is_called_so() -> None:
    pictures = [picture(n, presence("a", truth=n, predicted=1)) for n in (0, 1)]
    assert monotonous(pictures) == ["a"]
    assert monotonous([picture(1, presence("a", truth=1, predicted=1))]) == []


def test_one_group_alone_is_told() -> None:
    assert one_group([sample(1, group="x"), sample(2, group="x")])
    assert not one_group([sample(1), sample(2)])
    assert not one_group([sample(1, group="x"), sample(2, group="y")])


def test_flawless_figures_have_an_interval_too() -> None:
    pictures = [picture(n, presence("a", truth=n % 2, predicted=n % 2, chance=0.1 + 0.8 * (n % 2)))
                for n in range(8)]  # fmt: skip
    found = figures(pictures, majority={"a": 0})
    for name in ("balanced_accuracy", "macro_f1", "auroc/a", "average_precision/a"):
        assert found[name].value == 1.0
        assert found[name].low == pytest.approx(0.510109)  # of four of each class


def test_the_error_among_labels_is_bounded_by_the_pictures_that_they_are_on() -> None:
    pictures = [
        picture(
            n,
            presence("a", truth=1, predicted=1),
            presence("b", truth=0, predicted=UNSURE, chance=0.4),
            presence("c", truth=0, predicted=int(n < 2)),
        )
        for n in range(40)
    ]
    bound = bound_of(pictures, target=0.05)
    assert bound is not None
    assert (bound.pictures, bound.answered, bound.wrong) == (120, 80, 2)
    assert bound.bound == 0.1  # the first rate of the ladder above the upper bound
    assert 0.08 < upper_share(1, 40, confidence=0.9) < 0.1
    grouped = [replace(p, sample=sample(n, group=str(n // 2))) for n, p in enumerate(pictures)]
    wider = bound_of(grouped, target=0.05)
    assert wider is not None
    assert wider.bound > bound.bound
    assert bound_of([picture(1)], target=0.05) is None
