"""Boxes and counts on the picture's own pixels, through a package, tiles and templates."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.models import Predictor, task_heads
from lineside.models.task_heads import (
    MARGIN_PX,
    TILE_PX,
    HeadInput,
    bounded,
    task_head_for,
    tiles,
)
from lineside.testing import FakeClock
from lineside.testing.objects import UNTRAINED_RULE as RULE
from lineside.testing.objects import untrained, untrained_network
from lineside.testing.pictures import tray
from lineside.vision import CountRule, PictureState, encode_png, open_frame, prepare
from lineside.vision.detections import find_objects


def network_maps(
    image: np.ndarray, *, template: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """What the same network says in torch."""
    network = untrained_network(template=template is not None)
    settings = untrained(template=template is not None).manifest.prepare
    crops = prepare(image, settings)
    if template is not None:
        beside = prepare(template, settings)
        crops = np.concatenate([crops, beside, crops - beside], axis=1)
    with torch.inference_mode():
        return tuple(each[0].numpy() for each in network(torch.from_numpy(crops)))


def test_a_package_says_what_its_network_says_on_the_pictures_own_pixels() -> None:
    image = tray(3, seed=1).image
    said = task_head_for(untrained(), clock=FakeClock()).answer(HeadInput(image=image))
    maps = network_maps(image)
    wanted = find_objects((maps[0], maps[1], maps[2]), rule=RULE).inside(96, height_px=96)
    told = wanted.only(wanted.chance > RULE.cut)
    assert len(said.boxes) == len(told)
    assert len(told) > 0
    corners = np.clip(told.boxes_px, 0, 96)
    got = np.array([(b.x0_px, b.y0_px, b.x1_px, b.y1_px) for b in said.boxes])
    np.testing.assert_allclose(got, corners, atol=0.02)
    assert all(0 <= box.probability <= 1 for box in said.boxes)


def test_boxes_lie_in_the_picture_whatever_its_size_and_zoom() -> None:
    head = task_head_for(untrained(zoom=0.61), clock=FakeClock())
    for height, width in ((1, 1), (33, 190), (200, 50)):
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
        place = HeadInput(image=image)
        for box in head.answer(place).boxes:
            assert 0 <= box.x0_px <= box.x1_px <= width
            assert 0 <= box.y0_px <= box.y1_px <= height
        assert head.explain(place)["objects"].shape == (height, width)
        assert head.golden(place).shape == (3, 64)


@pytest.mark.parametrize("size", [(96, 160), (4032, 64), (1552, 3024), (16, 20000)])
def test_a_picture_is_compared_whole_at_a_size_that_fits_into_memory(size: tuple[int, int]) -> None:
    crops = np.broadcast_to(np.array([1, 2, 3], np.float32)[None, :, None, None], (1, 3, *size))
    found = bounded(crops)
    assert max(found.shape[2:]) <= TILE_PX
    assert not any(side % 16 for side in found.shape[2:])
    assert found.shape[2:] == size or max(size) > TILE_PX
    np.testing.assert_allclose(found[0, :, -1, -1], (1, 2, 3), rtol=1e-6)


def test_a_template_stands_beside_the_picture_as_in_training() -> None:
    made = tray(3, seed=2)
    head = task_head_for(untrained(template=True), clock=FakeClock())
    said = head.answer(HeadInput(image=made.image, template=made.empty))
    maps = network_maps(made.image, template=made.empty)
    wanted = find_objects((maps[0], maps[1], maps[2]), rule=RULE).inside(96, height_px=96)
    assert len(said.boxes) == int(np.sum(wanted.chance > RULE.cut))
    with pytest.raises(InvalidError):
        head.answer(HeadInput(image=made.image))


def test_a_count_counts_the_labels_that_it_names() -> None:
    image = tray(4, seed=5).image
    rule = CountRule(most=100, reach=0.0, error_rate=0.5, calibration_pictures=9)
    every = task_head_for(untrained(count=rule), clock=FakeClock()).answer(HeadInput(image=image))
    assert every.count is not None
    assert every.count.value == len(every.boxes)
    only = CountRule(most=100, reach=0.0, error_rate=0.5, calibration_pictures=9, labels=("disc",))
    discs = task_head_for(untrained(count=only), clock=FakeClock()).answer(HeadInput(image=image))
    assert discs.count is not None
    assert discs.count.value == sum(box.label == "disc" for box in every.boxes)


@given(st.integers(1, 600).map(lambda cells: 16 * cells))
def test_tiles_speak_for_every_pixel_once_and_see_beyond_what_they_speak_for(length: int) -> None:
    spoken = np.zeros(length, int)
    for (start, end), (kept_from, kept_to) in tiles(length):
        assert 0 <= start <= kept_from < kept_to <= end <= length
        assert end - start <= TILE_PX
        assert all(each % 16 == 0 for each in (start, end, kept_from, kept_to))
        assert kept_from == 0 or kept_from - start == MARGIN_PX
        assert kept_to == length or end - kept_to == MARGIN_PX
        spoken[kept_from:kept_to] += 1
    assert np.all(spoken == 1)


def test_a_large_picture_is_read_in_tiles_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = np.tile(tray(3, seed=1).image, (4, 6, 1))
    place = HeadInput(image=image)
    head = task_head_for(untrained(), clock=FakeClock())
    whole = head.explain(place)["objects"]
    monkeypatch.setattr(task_heads, "TILE_PX", 352)
    tiled = head.explain(place)["objects"]
    assert np.abs(whole - tiled).max() < 0.05 * float(whole.max())


def test_objects_of_another_size_than_trained_make_a_picture_unfamiliar() -> None:
    image = tray(3, seed=1).image
    place = HeadInput(image=image)
    found = task_head_for(untrained(), clock=FakeClock()).answer(place)
    assert found.unfamiliar == ""
    assert len(found.boxes) > 0
    sides = [math.sqrt((b.x1_px - b.x0_px) * (b.y1_px - b.y0_px)) for b in found.boxes]
    for factor in (0.3, 3.0):
        limits = (min(sides) * factor, max(sides) * factor)
        rule = replace(RULE, sides_px=(limits[0] * 0.9, limits[1] * 1.1))
        counting = CountRule(most=100, reach=0.0, error_rate=0.5, calibration_pictures=9)
        package = untrained(rule=rule, count=counting)
        said = task_head_for(package, clock=FakeClock()).answer(place)
        assert "px large, trained were" in said.unfamiliar
        frame = open_frame(encode_png(image), camera="c", captured_at=FakeClock().now())
        prediction = Predictor(package, clock=FakeClock()).predict(frame)
        assert prediction.state is PictureState.UNFAMILIAR
        assert (prediction.count, prediction.boxes) == (None, ())
    fitting = replace(RULE, sides_px=(min(sides) * 0.5, max(sides) * 1.5))
    assert task_head_for(untrained(rule=fitting), clock=FakeClock()).answer(place) == replace(
        found, prepare_ms=0.0, infer_ms=0.0
    )
