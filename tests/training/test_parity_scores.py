"""What a variant is judged by, task by task, by hand; both packages on the same pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lineside.core import InvalidError, digest_of
from lineside.datasets import Marked, Sample
from lineside.models import Manifest
from lineside.testing.bare import bare_label, bare_manifest, bare_prediction
from lineside.training.evaluation.compare import paired_loss
from lineside.training.tasks.contract import Case
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    CountRule,
    Crop,
    Decision,
    LabelRule,
    MaskAnswer,
    PictureState,
    Prediction,
    Prepare,
)
from lineside.vision.masks import rle_of

from lineside.core import Box  # isort: skip

BLANK = bare_prediction(task="t")
REFUSED = replace(BLANK, state=PictureState.BLACK)


def sample(number: int, **known: object) -> Sample:
    return replace(
        Sample(name=f"{number}.png", digest=digest_of(str(number).encode())),
        **known,  # type: ignore[arg-type]
    )


def cases(samples: Sequence[Sample], said: Sequence[Prediction]) -> list[Case]:
    return [Case(sample=one, prediction=other) for one, other in zip(samples, said, strict=True)]


def classed(name: str, *, unsure: bool = False) -> Prediction:
    decision = Decision.UNSURE if unsure else Decision.PRESENT
    others = [bare_label(each, decision="absent") for each in ("a", "b") if each != name]
    return replace(BLANK, labels=(bare_label(name, 0.9, decision), *others))


def test_classes_lose_what_is_no_longer_right() -> None:
    samples = [sample(n, labels=("a",)) for n in range(10)]
    before = cases(samples, [classed("a")] * 10)
    after = cases(samples, [classed("b"), classed("a", unsure=True), REFUSED, *[classed("a")] * 7])
    loss = paired_loss(before, after, manifest=bare_manifest("classify", labels=("a", "b")))
    assert (loss.metric, loss.original, loss.variant) == ("accuracy", 1.0, 0.7)
    assert loss.value == pytest.approx(0.3)
    assert loss.low < 0.3 < loss.high
    assert (loss.n, loss.changed) == (10, 3)


def test_the_same_answers_lose_nothing_for_certain() -> None:
    samples = [sample(n, labels=("a",)) for n in range(6)]
    said = cases(samples, [classed("a"), classed("b")] * 3)
    loss = paired_loss(said, said, manifest=bare_manifest("classify", labels=("a", "b")))
    assert (loss.value, loss.low, loss.high, loss.changed) == (0.0, 0.0, 0.0, 0)


def test_pictures_of_one_group_are_drawn_together() -> None:
    samples = [sample(n, labels=("a",), group="one" if n < 9 else "two") for n in range(10)]
    before = cases(samples, [classed("a")] * 10)
    after = cases(samples, [*[classed("a")] * 9, classed("b")])
    loss = paired_loss(before, after, manifest=bare_manifest("classify", labels=("a", "b")))
    assert loss.high == 1.0  # both groups may be the second one


def regions() -> Manifest:
    rules = tuple(
        LabelRule(
            name=name, region="", label=name, output=place, slope=1, offset=0, floor=0.1, low=0.4,
            high=0.6, error_rate=0.1, calibration_pictures=9,
        )
        for place, name in enumerate(("a", "b"))
    )  # fmt: skip
    box = Box(x0_px=0, y0_px=0, x1_px=9, y1_px=9)
    look = Prepare(crops=(Crop(region="", box_px=box),), width_px=16, height_px=16)
    return replace(bare_manifest("multilabel", labels=("a", "b"), prepare=look), rules=rules)


def test_labels_are_counted_one_by_one() -> None:
    samples = [sample(n, labels=("a",), known=("a", "b")) for n in range(4)]
    right = replace(
        BLANK,
        labels=(bare_label("a"), bare_label("b", decision="absent")),
    )
    half = replace(
        BLANK,
        labels=(bare_label("a"), bare_label("b", decision="unsure")),
    )
    loss = paired_loss(
        cases(samples, [right] * 4), cases(samples, [half, REFUSED, right, right]),
        manifest=regions(),
    )  # fmt: skip
    assert (loss.metric, loss.original) == ("accuracy", 1.0)
    assert loss.variant == pytest.approx(5 / 8)


def box(x: float, name: str = "disc") -> BoxAnswer:
    return BoxAnswer(
        label=name, x0_px=x, y0_px=0, x1_px=x + 10, y1_px=10, probability=0.9,
        decision=Decision.PRESENT,
    )  # fmt: skip


def test_boxes_are_held_against_marked_objects() -> None:
    mark = Marked(label="disc", x0_px=0, y0_px=0, x1_px=10, y1_px=10)
    samples = [sample(n, marked=(mark,)) for n in range(4)]
    found, missed = replace(BLANK, boxes=(box(0),)), replace(BLANK, boxes=(box(50),))
    manifest = bare_manifest("detect", labels=("disc",))
    loss = paired_loss(
        cases(samples, [found] * 4), cases(samples, [found, found, found, missed]),
        manifest=manifest,
    )  # fmt: skip
    assert (loss.metric, loss.original, loss.variant) == ("f1_iou33", 1.0, 0.75)
    assert loss.changed == 0  # the same number of the same objects, elsewhere


def test_counts_are_exact_or_not() -> None:
    rule = CountRule(most=9, reach=1.0, error_rate=0.1, calibration_pictures=40)
    manifest = replace(bare_manifest("count"), count=rule)
    samples = [sample(n, count=3) for n in range(3)] + [sample(9)]
    three = replace(BLANK, count=CountAnswer(value=3, low=3, high=3, more=False))
    four = replace(BLANK, count=CountAnswer(value=4, low=3, high=5, more=False))
    loss = paired_loss(
        cases(samples, [three] * 4), cases(samples, [three, four, REFUSED, four]),
        manifest=manifest,
    )  # fmt: skip
    assert (loss.metric, loss.n, loss.original) == ("exact", 3, 1.0)
    assert loss.variant == pytest.approx(1 / 3, abs=1e-6)
    assert loss.changed == 2


def mask(filled: int) -> Prediction:
    found = np.zeros((4, 4), np.bool_)
    found[:filled] = True
    said = MaskAnswer(
        rle=rle_of(found), width_px=4, height_px=4, share=filled / 4, areas_px=(4 * filled,)
    )
    return replace(BLANK, labels=(bare_label("spot"),), mask=said)


def test_masks_are_counted_by_pixels_where_they_were_drawn() -> None:
    truth = np.zeros((4, 4), np.bool_)
    truth[:2] = True
    samples = [sample(n, labels=("spot",)) for n in range(2)]

    def judged(said: list[Prediction], drawn: np.ndarray | None) -> list[Case]:
        pairs = zip(samples, said, strict=True)
        return [Case(sample=s, prediction=p, truth_mask=drawn) for s, p in pairs]

    manifest = bare_manifest("segment", labels=("spot",))
    before, after = [mask(2), mask(2)], [mask(2), mask(4)]
    loss = paired_loss(judged(before, truth), judged(after, truth), manifest=manifest)
    assert (loss.metric, loss.original) == ("pixel_f1", 1.0)
    assert loss.variant == pytest.approx(2 * 16 / (2 * 16 + 8))
    other = paired_loss(judged(before, None), judged([mask(2), REFUSED], None), manifest=manifest)
    assert (other.metric, other.original, other.variant) == ("accuracy", 1.0, 0.5)


def odd(score: float) -> Prediction:
    decision = Decision.PRESENT if score > 1 else Decision.ABSENT
    return replace(BLANK, anomaly=AnomalyAnswer(score=score, limit=1.0, decision=decision))


def test_anomalies_are_ranked_and_a_refused_one_is_ranked_wrongly() -> None:
    samples = [sample(n, labels=("good",) if n < 3 else ("bent",)) for n in range(6)]
    before = cases(samples, [odd(0.1), odd(0.2), odd(0.3), odd(2), odd(3), odd(4)])
    after = cases(samples, [odd(0.1), odd(0.2), REFUSED, odd(2), odd(3), odd(4)])
    manifest = bare_manifest("anomaly")
    loss = paired_loss(before, after, manifest=manifest)
    assert (loss.metric, loss.original) == ("auroc", 1.0)
    assert loss.variant == pytest.approx(6 / 9, abs=1e-6)
    good = paired_loss(before[:3], after[:3], manifest=manifest)
    assert (good.metric, good.original) == ("accuracy", 1.0)


def test_pictures_that_tell_nothing_are_refused() -> None:
    samples = [sample(1)]
    said = cases(samples, [classed("a")])
    with pytest.raises(InvalidError, match="accuracy"):
        paired_loss(said, said, manifest=bare_manifest("classify", labels=("a", "b")))
