"""Where a picture lies, and when that cannot be said."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.core import Box, InvalidError, View
from lineside.testing.pictures import lit, moved, rack, shifted
from lineside.vision import Matrix, Registrar, RegistrationFigures, decode_picture, encode_jpeg
from lineside.vision.geometry import about, apply, identity, scale_of, similarity
from lineside.vision.registration import CameraRegistrar

VIEW = View(width_px=320, height_px=240)
REFERENCE = rack()
REGISTRAR = Registrar(VIEW, REFERENCE)
MARKS = np.array([[60.0, 60.0], [260.0, 60.0], [160.0, 180.0]])


def error_px(found: Matrix | None, true: Matrix) -> float:
    assert found is not None
    return float(np.linalg.norm(apply(found, MARKS) - apply(true, MARKS), axis=1).max())


@settings(max_examples=25, deadline=None)
@given(
    dx=st.floats(-20, 20),
    dy=st.floats(-20, 20),
    turn=st.floats(-10, 10),
    scale=st.floats(0.9, 1.1),
    gain=st.floats(0.7, 1.3),
)
def test_a_known_movement_is_found(
    *, dx: float, dy: float, turn: float, scale: float, gain: float
) -> None:
    true = about((160.0, 120.0), similarity(scale=scale, rotation_deg=turn))
    true = true + np.array([[0, 0, dx], [0, 0, dy]])
    picture = decode_picture(encode_jpeg(lit(moved(REFERENCE, true), gain=gain), quality=50))
    answer = REGISTRAR.register(picture)
    assert answer.figures.state == "aligned", answer.figures.reason
    assert error_px(answer.matrix, true) < 0.75
    assert answer.figures.scale == pytest.approx(scale, abs=0.01)
    assert answer.figures.rotation_deg == pytest.approx(turn, abs=0.3)
    assert answer.figures.dx_px == pytest.approx(dx, abs=0.75)
    assert answer.figures.dy_px == pytest.approx(dy, abs=0.75)


def test_the_reference_lies_on_itself() -> None:
    answer = REGISTRAR.register(REFERENCE)
    assert error_px(answer.matrix, identity()) < 0.01
    assert answer.figures.correlation > 0.99
    assert answer.figures.residual_px == 0.0


@pytest.mark.parametrize("size", [(640, 480), (160, 120), (480, 360)])
def test_the_same_view_at_another_resolution_is_found(size: tuple[int, int]) -> None:
    import cv2

    picture = cv2.resize(shifted(REFERENCE, dx_px=8, dy_px=-6), size, interpolation=cv2.INTER_AREA)
    answer = REGISTRAR.register(np.asarray(picture, np.uint8))
    grow = size[0] / 320
    assert answer.matrix is not None
    wanted = (MARKS + np.array([8.5, -5.5])) * grow - 0.5
    assert np.abs(apply(answer.matrix, MARKS) - wanted).max() < 0.75 * max(1.0, grow)
    assert answer.figures.dx_px == pytest.approx(8, abs=0.75)


def test_a_large_picture_is_registered_reduced_and_answered_in_its_own_pixels() -> None:
    reference = rack(width=1200, height=900, seed=5)
    registrar = Registrar(View(width_px=1200, height_px=900), reference)
    true = about((600.0, 450.0), similarity(scale=1.03, rotation_deg=3))
    true = true + np.array([[0, 0, 55.0], [0, 0, -38.0]])
    answer = registrar.register(moved(reference, true))
    assert answer.matrix is not None
    marks = MARKS * 3.5
    assert np.abs(apply(answer.matrix, marks) - apply(true, marks)).max() < 1.5


def blurred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), 15), np.uint8)


STRANGE = {
    "black": np.zeros_like(REFERENCE),
    "white": np.full_like(REFERENCE, 255),
    "grey": np.full_like(REFERENCE, 128),
    "noise": np.random.default_rng(0).integers(0, 256, REFERENCE.shape, np.uint8),
    "blurred": blurred(REFERENCE),
    "mirrored": REFERENCE[:, ::-1].copy(),
    "upside down": REFERENCE[::-1, ::-1].copy(),
    "negative": 255 - REFERENCE[:, ::-1],
    "zoomed": moved(REFERENCE, about((160.0, 120.0), similarity(scale=1.5))),
    "far away": moved(REFERENCE, about((160.0, 120.0), similarity(scale=0.5))),
    "turned": moved(REFERENCE, about((160.0, 120.0), similarity(rotation_deg=45))),
    "shifted by 40 %": shifted(REFERENCE, dx_px=128, dy_px=0),
    "another rack": rack(seed=77),
    "stripes": np.tile(np.array([[[0] * 3], [[255] * 3]], np.uint8), (120, 320, 1)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_the_view_is_refused_with_a_reason(name: str) -> None:
    answer = REGISTRAR.register(STRANGE[name])
    assert answer.matrix is None
    assert answer.figures.state == "moved"
    assert answer.figures.reason


@pytest.mark.parametrize(
    ("true", "words"),
    [
        (similarity(dx_px=70), "shifted by 70 px across and 0 px down, at most 20% of the view"),
        (about((160.0, 120.0), similarity(rotation_deg=8)), "turned by 8.0 degrees, at most 5"),
        (about((160.0, 120.0), similarity(scale=1.3)), "scale 1.30 lies outside"),
    ],
)
def test_a_movement_beyond_the_limits_is_told_with_its_size(true: Matrix, words: str) -> None:
    view = View(width_px=320, height_px=240, max_shift_share=0.2, max_rotation_deg=5.0)
    answer = Registrar(view, REFERENCE).register(moved(REFERENCE, true))
    assert answer.matrix is None
    assert answer.figures.reason.startswith(words)


def test_a_region_that_left_the_picture_refuses_it() -> None:
    box = Box(x0_px=4, y0_px=100, x1_px=34, y1_px=130)
    registrar = Registrar(VIEW, REFERENCE, boxes=[box])
    assert registrar.register(shifted(REFERENCE, dx_px=-10, dy_px=0)).matrix is not None
    gone = registrar.register(shifted(REFERENCE, dx_px=-25, dy_px=0))
    assert gone.matrix is None
    assert "a region lies outside the picture" in gone.figures.reason


@pytest.mark.parametrize(
    ("figures", "overlap", "words"),
    [
        ({"inliers": 50, "correlation": 0.9}, 0.4, "only 40% of the view"),
        ({"inliers": 50, "correlation": 0.2}, 0.9, "edges agree by 0.20, 0.3"),
        ({"inliers": 8, "correlation": 0.35}, 0.9, "8 features agree, 12 are needed"),
        ({"inliers": 3, "correlation": 0.9}, 0.9, "3 features agree, 4 are needed"),
        ({"inliers": 4, "correlation": 0.4}, 0.9, ""),
        ({"inliers": 12, "correlation": 0.3}, 0.5, ""),
    ],
)
def test_few_features_are_enough_where_edges_agree(
    *, figures: dict[str, Any], overlap: float, words: str
) -> None:
    reason = REGISTRAR._unlike(RegistrationFigures(state="aligned", **figures), overlap)
    assert reason.startswith(words)
    assert bool(reason) is bool(words)


def test_a_reference_of_another_size_than_the_view_is_refused() -> None:
    with pytest.raises(InvalidError, match="the reference picture is 320 x 240"):
        Registrar(View(width_px=640, height_px=480), REFERENCE)


def test_a_view_that_is_not_registered_only_adapts_the_size() -> None:
    registrar = Registrar(View(width_px=320, height_px=240, register=False), REFERENCE)
    same, twice = (
        registrar.register(STRANGE["noise"]),
        registrar.register(rack(width=640, height=480)),
    )
    assert same.figures.state == twice.figures.state == "none"
    assert error_px(same.matrix, identity()) < 1e-9
    assert twice.matrix is not None
    assert scale_of(twice.matrix) == pytest.approx(2.0)


def test_a_camera_that_stands_still_is_only_checked() -> None:
    registrar = CameraRegistrar(REGISTRAR)
    first = registrar.register(shifted(REFERENCE, dx_px=6, dy_px=4))
    noise = np.random.default_rng(1)
    for _ in range(5):
        picture = shifted(REFERENCE, dx_px=6, dy_px=4).astype(float) + noise.normal(
            0, 3, (240, 320, 3)
        )
        picture[80:110, 100:140] = 230
        answer = registrar.register(np.clip(picture, 0, 255).astype(np.uint8))
        assert answer.figures.state == "still"
        assert error_px(answer.matrix, similarity(dx_px=6, dy_px=4)) < 0.2
        assert answer.matrix is first.matrix


@settings(max_examples=40, deadline=None)
@given(distance=st.floats(1.0, 40.0), direction=st.floats(0, 6.28), gain=st.floats(0.8, 1.2))
def test_a_movement_of_a_pixel_or_more_is_noticed(
    *, distance: float, direction: float, gain: float
) -> None:
    camera = CameraRegistrar(REGISTRAR)
    camera.register(REFERENCE)
    dx, dy = distance * np.cos(direction), distance * np.sin(direction)
    answer = camera.register(lit(shifted(REFERENCE, dx_px=dx, dy_px=dy), gain=gain))
    assert answer.figures.state == "aligned"
    assert error_px(answer.matrix, similarity(dx_px=dx, dy_px=dy)) < 0.5


@pytest.mark.parametrize("turn", [0.4, -0.4, 2.0])
def test_a_small_turn_is_noticed(turn: float) -> None:
    registrar = CameraRegistrar(REGISTRAR)
    registrar.register(REFERENCE)
    turned = moved(REFERENCE, about((160.0, 120.0), similarity(rotation_deg=turn)))
    assert registrar.register(turned).figures.state == "aligned"


def test_slow_drift_does_not_add_up_unseen() -> None:
    registrar = CameraRegistrar(REGISTRAR)
    for step in range(60):
        true = similarity(dx_px=step * 0.15, dy_px=step * -0.1)
        answer = registrar.register(moved(REFERENCE, true))
        assert error_px(answer.matrix, true) < 0.9


def test_another_picture_ends_standing_still() -> None:
    registrar = CameraRegistrar(REGISTRAR)
    registrar.register(REFERENCE)
    assert registrar.register(rack(seed=77)).matrix is None
    assert registrar.register(REFERENCE).figures.state == "aligned"


def test_the_same_pictures_in_the_same_order_give_the_same_answers() -> None:
    pictures = [shifted(REFERENCE, dx_px=n * 3.3, dy_px=-n * 1.7) for n in range(4)]
    runs = []
    for _ in range(2):
        registrar = CameraRegistrar(REGISTRAR)
        runs.append([registrar.register(picture).figures for picture in pictures])
    assert runs[0] == runs[1]


def test_a_picture_registered_by_itself_does_not_depend_on_those_before() -> None:
    pictures = [shifted(REFERENCE, dx_px=n * 0.4, dy_px=-n * 0.3) for n in range(4)]
    alone = [Registrar(VIEW, REFERENCE).register(picture).figures for picture in pictures]
    for order in itertools.permutations(range(4)):
        assert [REGISTRAR.register(pictures[n]).figures for n in order] == [alone[n] for n in order]
