"""Found boxes held against marked objects, one picture at a time.

1. A box meets the free object it overlaps most, the likelier box first; a point is met by a box
   that holds it, the one whose middle is nearest.
2. With labels, only objects of the box's label can be met. Without, any can: what is left is
   whether something was found, whatever it was called.
3. A refused picture found nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Marked
from lineside.training.measures.contract import Case
from lineside.vision import BoxAnswer, box_iou

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One picture's boxes and objects.

    Attributes:
        said: (n,) label of each box, the likeliest box first.
        probability: (n,).
        truth: (m,) label of each object.
        fit: (n, m): the overlap, 0-1; 1 and less where a box holds a point, 0 where not.
    """

    said: Places
    probability: Floats
    truth: Places
    fit: Floats

    def met(self, *, least: float, labelled: bool) -> Places:
        """(n,) the object each box met with an overlap above ``least``, -1 for none."""
        fit = self.fit.copy()
        if labelled:
            fit[self.said[:, None] != self.truth[None, :]] = 0.0
        hit = np.full(len(self.said), -1, np.intp)
        for place in range(len(self.said) if fit.shape[1] else 0):
            best = int(np.argmax(fit[place]))
            if fit[place, best] > least:
                hit[place] = best
                fit[:, best] = 0.0
        return hit


def picture_of(case: Case, *, labels: Sequence[str]) -> Picture:
    """A case's boxes and objects of the labels given."""
    boxes = sorted(
        (box for box in case.prediction.boxes if box.label in labels), key=lambda b: -b.probability
    )
    marks = [mark for mark in case.sample.marked or () if mark.label in labels]
    return Picture(
        said=np.array([labels.index(box.label) for box in boxes], np.intp),
        probability=np.array([box.probability for box in boxes], np.float64),
        truth=np.array([labels.index(mark.label) for mark in marks], np.intp),
        fit=_fit(boxes, marks),
    )


def _fit(boxes: Sequence[BoxAnswer], marks: Sequence[Marked]) -> Floats:
    found, true = corners_of(boxes), corners_of(marks)
    dotted = np.array([mark.is_point for mark in marks], np.bool_)
    return np.where(dotted[None, :], _holding(found, true), box_iou(found, true))


def _holding(boxes: Floats, points: Floats) -> Floats:
    """1 where a point is the box's middle, falling to a half at its edge, 0 outside."""
    middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    half = np.maximum((boxes[:, None, 2:] - boxes[:, None, :2]) / 2, 1e-6)
    away = np.abs((points[None, :, :2] - middle) / half).max(axis=2)
    return np.where(away <= 1, 1 - 0.25 * away, 0.0)


def corners_of(boxes: Sequence[BoxAnswer] | Sequence[Marked]) -> Floats:
    """(n, 4) x0, y0, x1, y1."""
    rows = [(b.x0_px, b.y0_px, b.x1_px, b.y1_px) for b in boxes]
    return np.array(rows, np.float64).reshape(-1, 4)
