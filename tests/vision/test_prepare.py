"""One way from a picture to the network's input."""

import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.core import Box, Region
from lineside.testing.pictures import moved, rack
from lineside.vision import Crop, Matrix, Prepare, prepare
from lineside.vision.geometry import apply, identity, similarity
from lineside.vision.prepare import (
    activation_on_picture,
    crop_matrix,
    crops_for,
    cut,
    fitted,
    normalise,
)


def box(x0: float, y0: float, *, width: float, height: float) -> Box:
    return Box(x0_px=x0, y0_px=y0, x1_px=x0 + width, y1_px=y0 + height)


def one_crop(where: Box, *, width_px: int, height_px: int) -> Prepare:
    return Prepare(crops=(Crop(region="r", box_px=where),), width_px=width_px, height_px=height_px)


def sampled(
    image: NDArray[np.uint8], matrix: Matrix, *, size: tuple[int, int]
) -> NDArray[np.float64]:
    """The oracle: bilinear sampling with repeated edges, written out."""
    width, height = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    places = apply(matrix, np.column_stack([columns.ravel(), rows.ravel()]).astype(float))
    x, y = places[:, 0], places[:, 1]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros((len(x), 3))
    for down in (0, 1):
        for across in (0, 1):
            weight = np.abs(1 - across - (x - left)) * np.abs(1 - down - (y - top))
            at_x = np.clip(left + across, 0, image.shape[1] - 1)
            at_y = np.clip(top + down, 0, image.shape[0] - 1)
            total += weight[:, None] * image[at_y, at_x]
    return total.reshape(height, width, 3)


def test_a_crop_at_its_own_size_is_the_picture_itself() -> None:
    image = rack(width=80, height=60)
    pixels = cut(image, one_crop(box(10, 20, width=32, height=24), width_px=32, height_px=24))
    assert np.array_equal(pixels[0], image[20:44, 10:42])


def test_the_input_is_planes_of_normalised_rgb() -> None:
    image = rack(width=80, height=60)
    settings = one_crop(box(10, 20, width=32, height=24), width_px=32, height_px=24)
    crops = prepare(image, settings)
    assert crops.shape == (1, 3, 24, 32)
    assert crops.dtype == np.float32
    assert crops.flags.c_contiguous
    wanted = (image[20:44, 10:42].astype(np.float32) - 127) / 128
    assert np.allclose(crops[0], wanted.transpose(2, 0, 1), atol=1e-6)
    assert crops.min() >= -127 / 128
    assert crops.max() <= 1.0


@settings(max_examples=60, deadline=None)
@given(
    turn=st.floats(-20, 20),
    scale=st.floats(0.85, 1.15),
    dx=st.floats(-30, 30),
    dy=st.floats(-30, 30),
)
def test_a_crop_is_one_bilinear_sampling_of_the_picture(
    *, turn: float, scale: float, dx: float, dy: float
) -> None:
    image = rack(width=100, height=80)
    where = box(20, 15, width=40, height=30)
    matrix = similarity(scale=scale, rotation_deg=turn, dx_px=dx, dy_px=dy)
    pixels = cut(image, one_crop(where, width_px=48, height_px=36), matrix=matrix)[0]
    to_view = crop_matrix(where, width_px=48, height_px=36)
    there = np.vstack([matrix, [0, 0, 1]]) @ np.vstack([to_view, [0, 0, 1]])
    wanted = sampled(image, there[:2], size=(48, 36))
    assert np.abs(pixels - wanted).max() < 6
    assert np.abs(pixels - wanted).mean() < 0.6


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    turn=st.floats(-20, 20),
    place=st.floats(-40, 80),
    side=st.integers(4, 120),
    border=st.sampled_from(["edge", "black"]),
)
def test_a_fourth_channel_changes_no_pixel(
    *, seed: int, turn: float, place: float, side: int, border: Literal["edge", "black"]
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).astype(np.uint8)[:, ::-1]
    own = one_crop(box(place, 5, width=side, height=side), width_px=24, height_px=36)
    matrix = similarity(rotation_deg=turn, dx_px=2.3)
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules[cut.__module__]
        patch.setattr(module, "_WIDENED_ABOVE", 0)
        wide = cut(image, replace(own, border=border), matrix=matrix)
        patch.setattr(module, "_WIDENED_ABOVE", 1e9)
        plain = cut(image, replace(own, border=border), matrix=matrix)
    assert np.array_equal(wide, plain)


def test_shrinking_averages_every_pixel() -> None:
    """A crop four times too large: each output pixel is the mean of its sixteen."""
    image = rack(width=128, height=96)
    pixels = cut(image, one_crop(box(0, 0, width=128, height=96), width_px=32, height_px=24))[0]
    wanted = image.reshape(24, 4, 32, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(pixels - wanted).max() <= 1


def test_shrinking_keeps_a_fine_line_wherever_it_lies() -> None:
    settings = one_crop(box(0, 0, width=120, height=90), width_px=24, height_px=18)
    for column in range(40, 50):
        image = np.zeros((90, 120, 3), np.uint8)
        image[:, column] = 250
        assert cut(image, settings)[0].astype(int).sum(axis=1)[9].sum() == pytest.approx(
            3 * 50, abs=12
        )


def test_a_crop_over_the_edge_repeats_it() -> None:
    image = rack(width=40, height=30)
    pixels = cut(image, one_crop(box(-10, -10, width=20, height=20), width_px=20, height_px=20))[0]
    assert np.array_equal(pixels[10:, 10:], image[:10, :10])
    assert (pixels[:10, :10] == image[0, 0]).all()


def test_a_moved_picture_gives_the_crops_of_the_reference() -> None:
    image = rack()
    where = crops_for(
        [
            Region(id=str(n), label="x", box_px=box(60 + 50 * n, 80, width=30, height=30))
            for n in range(3)
        ],
        width_px=320,
        height_px=240,
        margin=0.2,
    )
    settings = Prepare(crops=where, width_px=48, height_px=48)
    matrix = similarity(scale=1.02, rotation_deg=1.5, dx_px=6.3, dy_px=-8.6)
    still = prepare(image, settings)
    again = prepare(moved(image, matrix), settings, matrix=matrix)
    assert np.abs(still - again).mean() < 0.06


def test_batches_do_not_depend_on_their_company() -> None:
    image = rack()
    crops = tuple(
        Crop(region=str(n), box_px=box(30 * n, 20 * n, width=50, height=40)) for n in range(5)
    )
    together = prepare(image, Prepare(crops=crops, width_px=32, height_px=32))
    for place, crop in enumerate(crops):
        alone = prepare(image, Prepare(crops=(crop,), width_px=32, height_px=32))
        assert np.array_equal(together[place], alone[0])


def test_crops_carry_the_region_and_its_margin() -> None:
    region = Region(id="A1", label="blue", box_px=box(50, 40, width=20, height=10))
    (crop,) = crops_for([region], width_px=320, height_px=240, margin=0.5)
    assert (crop.region, crop.region_px) == ("A1", region.box_px)
    assert crop.box_px == box(40, 35, width=40, height=20)


def test_without_regions_the_whole_view_is_the_crop() -> None:
    (crop,) = crops_for([], width_px=320, height_px=240, margin=0.5)
    assert (crop.region, crop.box_px) == ("", box(0, 0, width=320, height=240))


def test_normalising_is_exact_for_every_value() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    settings = Prepare(crops=(), width_px=16, height_px=16, mean=127.0, scale=128.0)
    wanted = ((np.arange(256) - 127) / 128).astype(np.float32).reshape(16, 16)
    assert np.array_equal(normalise(pixels, settings)[0, 0], wanted)


def test_a_map_lies_where_its_crop_was_cut() -> None:
    grid = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    crop = Crop(region="r", box_px=box(40, 20, width=40, height=40))
    laid = activation_on_picture(grid, crop, width_px=120, height_px=90)
    assert laid.shape == (90, 120)
    assert laid[20:30, 40:50].min() == pytest.approx(1.0)
    assert laid[50:60, 70:80].max() == pytest.approx(0.0)
    assert laid[:20].max() == laid[60:].max() == laid[:, :40].max() == laid[:, 80:].max() == 0


def test_a_map_follows_the_registration() -> None:
    grid = np.ones((3, 3), np.float32)
    crop = Crop(region="r", box_px=box(40, 20, width=30, height=30))
    still = activation_on_picture(grid, crop, width_px=120, height_px=90, matrix=identity())
    slid = activation_on_picture(
        grid, crop, width_px=120, height_px=90, matrix=similarity(dx_px=12, dy_px=7)
    )
    assert np.array_equal(slid[7:, 12:], still[:-7, :-12])


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0, 3.0, 1 / 3])
def test_a_picture_of_the_trained_proportions_is_brought_to_the_trained_scale(
    times: float,
) -> None:
    look = Prepare(
        crops=(), width_px=32, height_px=32, fit="zoom", zoom=0.61, trained_px=(1280, 960)
    )
    trained = fitted(look, width_px=1280, height_px=960)
    width, height = round(1280 * times), round(960 * times)
    found = fitted(look, width_px=width, height_px=height)
    assert (found.width_px, found.height_px) == (trained.width_px, trained.height_px)
    across = found.width_px / (found.crops[0].box_px.x1_px - found.crops[0].box_px.x0_px)
    assert across == pytest.approx(0.61 / times, rel=2e-3)


@pytest.mark.parametrize("size", [(960, 1280), (1280, 1280), (1280, 900)])
def test_a_picture_of_other_proportions_keeps_the_scale_of_its_pixels(
    size: tuple[int, int],
) -> None:
    look = Prepare(
        crops=(), width_px=32, height_px=32, fit="zoom", zoom=0.5, trained_px=(1280, 960)
    )
    plain = replace(look, trained_px=None)
    found = fitted(look, width_px=size[0], height_px=size[1])
    assert found.crops == fitted(plain, width_px=size[0], height_px=size[1]).crops
