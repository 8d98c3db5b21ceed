"""A drawn key, laid anywhere and turned anyhow, is found and laid level again."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.vision.geometry import apply, invert, rotation_of
from lineside.vision.pose import Pose, PoseEstimator, Silhouette, laid_level, silhouette

WIDTH, HEIGHT = 192, 96
MARKS = np.array([[30.0, 48.0], [160.0, 40.0], [96.0, 48.0]])

Grey = NDArray[np.uint8]


def key(
    *, turn_deg: float = 0.0, x: float = 160, y: float = 150, light: float = 1.0, grow: float = 1.0
) -> Grey:
    """(300, 320) uint8: a dark key with a round head and two teeth on a bright, slanted ground."""
    rng = np.random.default_rng(3)
    part = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(part, (40, 48), 26, 150, -1)
    cv2.circle(part, (40, 48), 9, 60, -1)
    cv2.rectangle(part, (60, 40), (170, 56), 150, -1)
    cv2.rectangle(part, (140, 56), (148, 74), 150, -1)
    cv2.rectangle(part, (158, 56), (164, 68), 150, -1)
    matrix = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), -turn_deg, grow)
    shift = np.array([[x - (WIDTH - 1) / 2], [y - (HEIGHT - 1) / 2]])
    matrix = np.hstack([matrix[:, :2], matrix[:, 2:] + shift])
    laid = cv2.warpAffine(part, matrix, (320, 300)).astype(np.float32)
    ground = 190 + np.linspace(-12, 12, 320)[None] + rng.normal(0, 2, (300, 320))
    return np.asarray(np.clip((ground - laid) * light, 0, 255), np.uint8)


def finder(*, correlation_min: float = 0.4, reductions: tuple[int, ...] = (4, 2)) -> PoseEstimator:
    found = silhouette(key())
    assert isinstance(found, Silhouette)
    start = laid_level(found, width_px=WIDTH, height_px=HEIGHT, zoom=1.0)
    seen = cv2.warpAffine(
        key(), start, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    pose = Pose(
        template_file="pose.png",
        zoom=1.0,
        area_low=50.0,
        area_high=90.0,
        correlation_min=correlation_min,
        reductions=reductions,
    )
    return PoseEstimator(pose, np.dstack([np.asarray(seen, np.uint8)] * 3))


@settings(max_examples=20, deadline=None)
@given(
    turn=st.floats(-180, 180),
    x=st.floats(125, 195),
    y=st.floats(125, 175),
    reductions=st.sampled_from([(1,), (4, 2)]),
)
def test_a_part_turned_and_moved_lies_in_the_same_place_again(
    turn: float, x: float, y: float, reductions: tuple[int, ...]
) -> None:
    finds = finder(reductions=reductions)
    straight, turned = finds.find(key()), finds.find(key(turn_deg=turn, x=x, y=y))
    assert straight.matrix is not None
    assert turned.matrix is not None, turned.reason
    here = apply(turned.matrix, apply(invert(straight.matrix), MARKS + np.array([64, 102])))
    radians = np.deg2rad(turn)
    spin = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    wanted = (MARKS - [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]) @ spin.T + [x, y]
    offset = np.array([160, 150]) - [64, 102] - [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    moved = wanted - (spin @ offset)
    assert np.abs(here - moved).max() < 2.0


def test_light_changes_nothing() -> None:
    bright, dim = finder().find(key(turn_deg=20)), finder().find(key(turn_deg=20, light=0.6))
    assert bright.matrix is not None
    assert dim.matrix is not None
    assert np.abs(bright.matrix - dim.matrix)[:, :2].max() < 0.01
    assert np.abs(bright.matrix - dim.matrix)[:, 2].max() < 1.0


def test_the_same_picture_always_lies_the_same() -> None:
    one, other = finder().find(key(turn_deg=33)), finder().find(key(turn_deg=33))
    assert one.matrix is not None
    assert other.matrix is not None
    assert np.array_equal(one.matrix, other.matrix)
    assert abs(rotation_of(one.matrix) - 33) < 2


def test_nothing_to_see_is_refused_with_its_sentence() -> None:
    plain = np.full((120, 160), 128, np.uint8)
    posed = finder().find(plain)
    assert posed.matrix is None
    assert posed.figures.state == "moved"
    assert "stands out" in posed.reason


def test_a_surface_without_a_ground_has_no_silhouette() -> None:
    grain = np.random.default_rng(1).integers(0, 255, (200, 200)).astype(np.uint8)
    assert isinstance(silhouette(np.asarray(cv2.GaussianBlur(grain, (0, 0), 3), np.uint8)), str)


def test_a_part_that_leaves_the_picture_is_refused() -> None:
    assert "edge" in finder().find(key(x=30)).reason


def test_a_part_of_another_size_is_refused() -> None:
    assert "px" in finder().find(key(grow=0.6)).reason


def test_another_part_is_refused_by_its_edges() -> None:
    other = np.full((300, 320), 190, np.uint8)
    cv2.ellipse(other, (160, 150), (80, 18), 0, 0, 360, 60, -1)
    cv2.line(other, (100, 150), (220, 150), 150, 3)
    refused = finder(correlation_min=0.8).find(other)
    assert refused.matrix is None
    assert "edges" in refused.reason or "px" in refused.reason


def test_a_round_part_is_tried_in_many_turns() -> None:
    disc = np.full((200, 200), 200, np.uint8)
    cv2.circle(disc, (100, 100), 50, 80, -1)
    cv2.circle(disc, (130, 100), 8, 220, -1)
    spin = np.asarray(cv2.getRotationMatrix2D((100, 100), 75, 1), np.float64)
    turned = np.asarray(cv2.warpAffine(disc, spin, (200, 200), borderValue=200), np.uint8)
    pose = Pose(template_file="p.png", zoom=1.0, area_low=1, area_high=500, correlation_min=0.3)
    finds = PoseEstimator(pose, np.dstack([disc] * 3))
    posed = finds.find(turned)
    assert posed.matrix is not None
    hole = apply(posed.matrix, np.array([[130.0, 100.0]]))[0]
    wanted = apply(spin, np.array([[130.0, 100.0]]))[0]
    assert np.abs(hole - wanted).max() < 4


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (9, 9)])
def test_tiny_pictures_are_refused_not_broken(size: tuple[int, int]) -> None:
    posed = finder().find(np.random.default_rng(0).integers(0, 255, size).astype(np.uint8))
    assert posed.matrix is None


def test_limits_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(InvalidError, match="area_low"):
        Pose(template_file="p.png", zoom=1.0, area_low=3, area_high=2, correlation_min=0)


@pytest.mark.parametrize("reductions", [(), (0,), (4, 17)])
def test_reductions_that_cannot_be_are_refused(reductions: tuple[int, ...]) -> None:
    with pytest.raises(InvalidError, match="reductions"):
        finder(reductions=reductions)
