"""Faults of a camera by its pictures: three in a row count, and one good picture ends them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from lineside.core import digest_of, frame_id
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Camera
from lineside.models.camera_faults import CameraWatch
from lineside.vision import FrameRef, HealthFigures, check_picture, encode_jpeg

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
CAMERA = Camera(id="rack", line="line", source=SecretUrl("mqtt:i/cam"), frozen_after=4)
GOOD = HealthFigures(sharpness=100.0, mean_grey=100.0, clipped_share=0.0)
DARK, FLAT = replace(GOOD, mean_grey=2.0), replace(GOOD, sharpness=0.1)


def frame(number: int, *, content: str = "") -> FrameRef:
    at, digest = BEGIN + timedelta(seconds=number), digest_of(f"{content or number}".encode())
    name = frame_id(camera="rack", captured_at=at, digest=digest)
    return FrameRef(id=name, camera="rack", captured_at=at, digest=digest)


def after(*pictures: HealthFigures, camera: Camera = CAMERA) -> CameraWatch:
    watch = CameraWatch()
    for number, health in enumerate(pictures):
        watch.take_frame(frame(number), health=health, camera=camera)
    return watch


def state(watch: CameraWatch) -> str:
    found = watch.fault(since=BEGIN)
    return found.state if found else "none"


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        ((DARK, DARK), "none"),
        ((DARK, DARK, DARK), "dark"),
        ((DARK, DARK, GOOD, DARK), "none"),
        ((DARK, DARK, DARK, GOOD), "none"),
        ((FLAT, FLAT, FLAT), "blurred"),
        ((DARK, DARK, FLAT), "none"),
    ],
)
def test_three_pictures_in_a_row_are_a_fault(
    pictures: tuple[HealthFigures, ...], told: str
) -> None:
    assert state(after(*pictures)) == told


def test_the_first_of_them_is_the_frame_that_shows_it() -> None:
    found = after(GOOD, DARK, DARK, DARK).fault(since=BEGIN)
    assert found is not None
    assert (found.frame, found.since) == (frame(1).id, frame(1).captured_at)
    assert found.reason == "mean grey 2.0 is below 12.0"


def test_limits_of_nought_never_speak() -> None:
    blind = replace(CAMERA, dark_below=0.0, blurred_below=0.0, frozen_after=0)
    assert state(after(*[replace(DARK, sharpness=0.0)] * 5, camera=blind)) == "none"


def test_the_same_bytes_again_and_again_are_frozen_until_another_picture() -> None:
    watch = CameraWatch()
    for number in range(4):
        watch.take_frame(frame(number, content="same"), health=GOOD, camera=CAMERA)
    assert state(watch) == "frozen"
    watch.take_frame(frame(3, content="same"), health=GOOD, camera=CAMERA)  # delivered twice
    watch.take_frame(frame(9), health=GOOD, camera=CAMERA)
    assert state(watch) == "none"


def test_figures_that_come_later_count_and_late_ones_change_nothing() -> None:
    watch = CameraWatch()
    for number in range(4):
        watch.take_frame(frame(number), health=None, camera=CAMERA)
    for number in (0, 1, 2):
        watch.take_health(frame(number), health=DARK, camera=CAMERA)
    watch.take_health(frame(1), health=GOOD, camera=CAMERA)
    assert state(watch) == "dark"
    watch.take_health(frame(3), health=GOOD, camera=CAMERA)
    assert state(watch) == "none"


def test_a_covered_lens_is_dark_and_a_white_cover_is_blurred_by_the_small_picture() -> None:
    rng = np.random.default_rng(1)
    covered = encode_jpeg(rng.integers(0, 5, (480, 640, 3)).astype(np.uint8))
    white = encode_jpeg(np.full((480, 640, 3), 230, np.uint8))
    for encoded, told in ((covered, "dark"), (white, "blurred")):
        assert state(after(*[check_picture(encoded).health] * 3)) == told
