"""Comparison of two packages' predictions of one frame, without ground truth.

1. What a package *finds* is every label, class or box label that it says is present, but for those
   that mean a good part (``good``), a count, a mask with any pixel set, an anomaly, or a picture
   that cannot be judged. Which of these stops a part is the plant's matter: gained and lost are
   counted for all alike.
2. An answer *changed* when what is present, good labels too, or what is left undecided differs.
3. The score of an answer is one number in [0, 1], whose drift shows before decisions change:
   labels: the mean of their regions, a region of one label its probability, one of k classes the
   mean place of the class, 0 for the first and 1 for the last; boxes: the largest probability; a
   count: its expectation over the largest number the package can tell, or value / (value + 1);
   a mask: the root of its share; an anomaly: score / (score + limit), a half at the limit. A
   picture that cannot be judged: 0.

Things on a belt without a trained model: what stands out from its own row of the picture.

A belt that moves up or down the picture looks much the same across its width, whatever its marks,
seams and light along it. So each row's median is the belt there, and what differs from it is a
thing, if it is narrower than half of the picture and touches neither of its sides. For a belt that
moves across, turn the picture.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.vision.decide import says_good
from lineside.vision.prediction import BoxAnswer, Decision, PictureState, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One frame.

    Attributes:
        found_before: the old one finds something.
        gained, lost: the new one finds what the old one does not, and the reverse.
        unsure_before: the old one leaves something undecided.
        unsure_gained: only the new one does.
        score: new minus old, in [-1, 1].
    """

    changed: bool
    found_before: bool
    gained: bool
    lost: bool
    unsure_before: bool
    unsure_gained: bool
    score: float


def difference(old: Prediction, new: Prediction, *, good: Collection[str] = ()) -> Difference:
    """Difference of two packages' predictions of the same frame.

    Args:
        old: of the package before.
        new: of the package in use.
        good: the inspection's labels of a good part; empty: the usual words.
    """
    before, after = frozenset(_found(old, good)), frozenset(_found(new, good))
    unsure_before, unsure_after = frozenset(_unsure(old)), frozenset(_unsure(new))
    return Difference(
        changed=(frozenset(_present(old)), unsure_before)
        != (frozenset(_present(new)), unsure_after),
        found_before=bool(before),
        gained=bool(after - before),
        lost=bool(before - after),
        unsure_before=bool(unsure_before),
        unsure_gained=bool(unsure_after) and not unsure_before,
        score=score_of(new) - score_of(old),
    )


def score_of(prediction: Prediction) -> float:
    """The answer as one number in [0, 1]."""
    if prediction.state is not PictureState.OK:
        return 0.0
    parts = [*_label_scores(prediction), *_other_scores(prediction)]
    mean = sum(parts) / len(parts) if parts else 0.0
    return min(1.0, max(0.0, mean))


def _label_scores(prediction: Prediction) -> Iterator[float]:
    regions: dict[str, list[float]] = defaultdict(list)
    for answer in prediction.labels:
        # A label that stands for itself has its own name; classes are named with their region.
        of_classes = prediction.task == "classify" or answer.name != answer.label
        key = f"region {answer.region}" if of_classes else f"label {answer.name}"
        regions[key].append(answer.probability)
    for chances in regions.values():
        last, total = len(chances) - 1, sum(chances)
        if last == 0:
            yield chances[0]
        elif total > 0:
            yield sum(place * chance for place, chance in enumerate(chances)) / (last * total)


def _other_scores(prediction: Prediction) -> Iterator[float]:
    if prediction.task == "detect":
        yield max((box.probability for box in prediction.boxes), default=0.0)
    if prediction.count is not None:
        chances, value = prediction.count.chances, prediction.count.value
        if len(chances) > 1:
            yield sum(place * chance for place, chance in enumerate(chances)) / (len(chances) - 1)
        else:
            yield value / (value + 1)
    if prediction.mask is not None:
        yield prediction.mask.share**0.5
    if prediction.anomaly is not None:
        score, limit = max(0.0, prediction.anomaly.score), prediction.anomaly.limit
        yield score / (score + limit) if score + limit > 0 else 0.0


def _found(prediction: Prediction, good: Collection[str]) -> Iterator[str]:
    """Return the present labels that do not mean a good part."""
    fine = {
        kind
        for kind, label in (
            *((f"label {answer.name}", answer.label) for answer in prediction.labels),
            *((f"box {box.label}", box.label) for box in prediction.boxes),
        )
        if says_good(label, named=good)
    }
    yield from (kind for kind in _present(prediction) if kind not in fine)


def _present(prediction: Prediction) -> Iterator[str]:
    if prediction.state is not PictureState.OK:
        yield f"picture {prediction.state}"
        return
    for answer in prediction.labels:
        if answer.decision is Decision.PRESENT:
            yield f"label {answer.name}"
    for box in prediction.boxes:
        if box.decision is Decision.PRESENT:
            yield f"box {box.label}"
    if prediction.count is not None and prediction.count.decision is Decision.PRESENT:
        yield f"count {prediction.count.value}"
    if prediction.mask is not None and prediction.mask.share > 0:
        yield "mask"
    if prediction.anomaly is not None and prediction.anomaly.decision is Decision.PRESENT:
        yield "anomaly"


def _unsure(prediction: Prediction) -> Iterator[str]:
    if prediction.state is not PictureState.OK:
        return
    yield from (one.name for one in prediction.labels if one.decision is Decision.UNSURE)
    yield from (one.label for one in prediction.boxes if one.decision is Decision.UNSURE)
    if prediction.count is not None and prediction.count.decision is Decision.UNSURE:
        yield "count"
    if prediction.anomaly is not None and prediction.anomaly.decision is Decision.UNSURE:
        yield "anomaly"


LABEL = "thing"
_COLOUR = 2.0  # a step of colour tells more than one of lightness, which shadows change too
_BLUR_PX = 2.0


def foreground_boxes(
    picture: NDArray[np.uint8], *, contrast: float = 28.0, least_px: int = 500, join_px: int = 15
) -> tuple[BoxAnswer, ...]:
    """Boxes of what stands out.

    Args:
        picture: (height, width, 3) uint8 RGB.
        contrast: distance in CIE L*a*b* (8-bit scale, colour doubled) from the row's median.
        least_px: smallest area.
        join_px: parts closer than this are one thing.

    Returns:
        In order of the component labels; the score is the share of the box that stands out.
    """
    import cv2

    soft = cv2.GaussianBlur(picture, (0, 0), _BLUR_PX)
    lab = cv2.cvtColor(soft, cv2.COLOR_RGB2LAB).astype(np.float32)
    off = (lab - np.median(lab, axis=1, keepdims=True)) * np.array([1, _COLOUR, _COLOUR])
    mask = (np.sqrt((off**2).sum(axis=2)) > contrast).astype(np.uint8)
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((join_px, join_px), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    width = picture.shape[1]
    return tuple(
        _box(*(int(figure) for figure in row))
        for row in stats[1:]
        if row[4] >= least_px and row[2] < width / 2 and row[0] > 0 and row[0] + row[2] < width
    )


def _box(x: int, y: int, width: int, height: int, area: int) -> BoxAnswer:  # noqa: PLR0917  a row of OpenCV's
    return BoxAnswer(
        label=LABEL, x0_px=x, y0_px=y, x1_px=x + width, y1_px=y + height,
        probability=round(area / (width * height), 4),
    )  # fmt: skip
