"""Maps of centres read into boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.vision import DetectRule
from lineside.vision.detections import box_iou, chance_of, find_objects

RULE = DetectRule(labels=("disc", "square"), stride_px=4, cut=0.5, unsure_below=0.7)
Maps = tuple[np.ndarray, np.ndarray, np.ndarray]


def maps(*objects: tuple[float, float, float, float, int, float], size: int = 32) -> Maps:
    """Maps that show boxes (x0, y0, x1, y1, label, logit), one cell each."""
    objectness = np.full((1, size, size), -8.0, np.float32)
    geometry = np.zeros((4, size, size), np.float32)
    classes = np.zeros((2, size, size), np.float32)
    for x0, y0, x1, y1, label, logit in objects:
        x, y = (x0 + x1) / 8, (y0 + y1) / 8
        column, row = int(x), int(y)
        objectness[0, row, column] = logit
        geometry[:, row, column] = (
            x - column - 0.5,
            y - row - 0.5,
            np.log(x1 - x0),
            np.log(y1 - y0),
        )
        classes[label, row, column] = 4.0
    return objectness, geometry, classes


@given(
    st.floats(10, 100), st.floats(10, 100), st.floats(2, 60), st.floats(2, 60), st.integers(0, 1)
)
def test_a_peak_gives_back_the_box_it_was_made_of(
    x: float, y: float, width: float, height: float, label: int
) -> None:
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    found = find_objects(maps((*box, label, 3.0)), rule=RULE)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_px[0], box, atol=1e-3)
    assert found.label[0] == label
    assert found.label_chance[0] > 0.9


def test_of_two_boxes_on_one_object_the_likelier_stays_whatever_they_are_called() -> None:
    found = find_objects(
        maps((20, 20, 48, 48, 0, 2.0), (24, 22, 50, 49, 1, 1.0), (80, 80, 100, 100, 1, 0.5)),
        rule=RULE,
    )
    assert found.label.tolist() == [0, 1]
    assert found.boxes_px[1, 0] == pytest.approx(80, abs=1e-3)


def test_candidates_come_likeliest_first_and_those_below_the_cut_are_listed() -> None:
    found = find_objects(
        maps((8, 8, 20, 20, 0, -1.0), (40, 40, 60, 60, 0, 3.0), (90, 90, 110, 110, 0, 1.0)),
        rule=RULE,
    )
    assert np.all(np.diff(found.chance) < 0)
    assert len(found) == 3
    assert int(np.sum(found.chance > RULE.cut)) == 2


def test_nothing_there_is_no_candidate() -> None:
    assert len(find_objects(maps(), rule=RULE)) == 0


def test_no_more_objects_are_told_than_the_rule_allows() -> None:
    rule = DetectRule(labels=("disc", "square"), stride_px=4, cut=0.5, unsure_below=0.5, most=2)
    boxes = [(x, 10.0, x + 8, 18.0, 0, 1.0 + x / 100) for x in (8.0, 40.0, 72.0, 104.0)]
    found = find_objects(maps(*boxes), rule=rule)
    assert [round(x) for x in found.boxes_px[:, 0]] == [104, 72]


def test_calibration_moves_probabilities_and_keeps_their_order() -> None:
    rule = DetectRule(
        labels=("disc", "square"), stride_px=4, cut=0.5, unsure_below=0.5, slope=2.0, offset=-1.0
    )
    logits = np.array([-2.0, 0.0, 0.5, 3.0])
    chances = chance_of(logits, rule=rule)
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-(2 * logits - 1))))
    assert np.all(np.diff(chances) > 0)


def test_boxes_are_laid_back_onto_finer_pixels_and_what_lies_outside_is_dropped() -> None:
    found = find_objects(maps((100, 100, 120, 120, 0, 2.0), (8, 8, 20, 20, 0, 1.0)), rule=RULE)
    laid = found.scaled(2.0, down=0.5)
    assert laid.boxes_px[1].tolist() == pytest.approx([16, 4, 40, 10], abs=1e-3)
    assert len(laid.inside(100, height_px=100)) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_maps_of_other_sizes_or_without_numbers_are_refused(place: int) -> None:
    good = maps((20, 20, 40, 40, 0, 2.0))
    cut = [*good]
    cut[place] = good[place][:, :-1]
    with pytest.raises(InvalidError):
        find_objects((cut[0], cut[1], cut[2]), rule=RULE)
    cut[place] = np.where(good[place] == good[place].max(), np.nan, good[place])
    with pytest.raises(InvalidError):
        find_objects((cut[0], cut[1], cut[2]), rule=RULE)


@given(st.floats(-1e6, 1e6, width=32))
def test_no_size_a_network_can_say_overflows(size: float) -> None:
    objectness, geometry, classes = maps((20, 20, 40, 40, 0, 2.0))
    geometry[2:] = size
    assert np.isfinite(find_objects((objectness, geometry, classes), rule=RULE).boxes_px).all()


boxes = st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(0.1, 50), st.floats(0.1, 50)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(st.lists(boxes, min_size=1, max_size=5), st.lists(boxes, min_size=1, max_size=5))
def test_overlap_is_symmetric_within_bounds_and_one_with_itself(
    one: list[tuple[float, ...]], other: list[tuple[float, ...]]
) -> None:
    a, b = np.array(one), np.array(other)
    shares = box_iou(a, b)
    np.testing.assert_allclose(shares, box_iou(b, a).T)
    assert np.all((shares >= 0) & (shares <= 1 + 1e-9))
    np.testing.assert_allclose(np.diag(box_iou(a, a)), 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cut": 0.0},
        {"cut": 0.8, "unsure_below": 0.7},
        {"stride_px": 0},
        {"labels": ()},
        {"most": 0},
    ],
)
def test_a_rule_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    usual: dict[str, object] = {
        "labels": ("disc",), "stride_px": 4, "cut": 0.4, "unsure_below": 0.5,
    }  # fmt: skip
    with pytest.raises(InvalidError):
        DetectRule(**{**usual, **wrong})  # type: ignore[arg-type]
