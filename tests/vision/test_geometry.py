"""Transforms: what goes there comes back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Box, InvalidError
from lineside.vision import Matrix
from lineside.vision.geometry import (
    about,
    apply,
    compose,
    corners,
    identity,
    invert,
    rotation_of,
    scale_of,
    scaled,
    share_inside,
    similarity,
    transform_box,
)

px = st.floats(-500, 500)
transforms = st.builds(
    lambda s, r, x, y: similarity(scale=s, rotation_deg=r, dx_px=x, dy_px=y),
    st.floats(0.2, 5),
    st.floats(-179, 179),
    px,
    px,
)
points = st.lists(st.tuples(px, px), min_size=1, max_size=8).map(np.array)
boxes = st.builds(
    lambda x, y, w, h: Box(x0_px=x, y0_px=y, x1_px=x + w, y1_px=y + h),
    px,
    px,
    st.floats(1, 300),
    st.floats(1, 300),
)


@given(transforms, points)
def test_there_and_back_is_where_it_was(matrix: Matrix, where: np.ndarray) -> None:
    assert np.allclose(apply(invert(matrix), apply(matrix, where)), where, atol=1e-6)


@given(a=transforms, b=transforms, where=points)
def test_composing_is_one_after_the_other(*, a: Matrix, b: Matrix, where: np.ndarray) -> None:
    assert np.allclose(apply(compose(a, b), where), apply(a, apply(b, where)), atol=1e-5)


@given(transforms)
def test_scale_and_rotation_are_read_back(matrix: Matrix) -> None:
    again = similarity(
        scale=scale_of(matrix),
        rotation_deg=rotation_of(matrix),
        dx_px=matrix[0, 2],
        dy_px=matrix[1, 2],
    )
    assert np.allclose(again, matrix)
    assert math.isclose(scale_of(invert(matrix)), 1 / scale_of(matrix), rel_tol=1e-9)


@given(transforms, boxes)
def test_a_transformed_box_holds_its_transformed_corners(matrix: Matrix, box: Box) -> None:
    around = transform_box(matrix, box)
    moved = apply(matrix, corners(box)) + 0.5
    assert (moved >= [around.x0_px - 1e-6, around.y0_px - 1e-6]).all()
    assert (moved <= [around.x1_px + 1e-6, around.y1_px + 1e-6]).all()


@given(boxes)
def test_the_identity_leaves_a_box_alone(box: Box) -> None:
    same = transform_box(identity(), box)
    assert np.allclose([same.x0_px, same.y1_px], [box.x0_px, box.y1_px])


def test_a_flat_transform_has_no_way_back() -> None:
    with pytest.raises(InvalidError, match="inverted"):
        invert(np.zeros((2, 3)))


@given(matrix=transforms, target=st.floats(0.3, 3), source=st.floats(0.3, 3))
def test_resizing_both_pictures_moves_pixel_centres_alike(
    *, matrix: Matrix, target: float, source: float
) -> None:
    point = np.array([[12.0, 34.0]])
    at_size = (point + 0.5) * source - 0.5
    wanted = (apply(matrix, point) + 0.5) * target - 0.5
    assert np.allclose(apply(scaled(matrix, target=target, source=source), at_size), wanted)


def test_turning_about_a_point_leaves_it() -> None:
    turn = about((20.0, 30.0), similarity(scale=1.5, rotation_deg=40))
    assert np.allclose(apply(turn, np.array([[20.0, 30.0]])), [[20.0, 30.0]])


def test_positive_rotation_is_clockwise_as_seen() -> None:
    right = apply(similarity(rotation_deg=90), np.array([[1.0, 0.0]]))
    assert np.allclose(right, [[0.0, 1.0]])


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((-5, 0, 5, 10), 0.5),
        ((-5, -5, 5, 5), 0.25),
        ((200, 0, 210, 10), 0.0),
        ((95, 0, 105, 10), 0.5),
    ],
)
def test_the_share_of_a_box_inside_is_its_area(
    box: tuple[float, float, float, float], share: float
) -> None:
    x0, y0, x1, y1 = box
    found = share_inside(Box(x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1), width_px=100, height_px=50)
    assert math.isclose(found, share)
