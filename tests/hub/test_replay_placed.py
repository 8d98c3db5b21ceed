"""A replay of a camera whose pictures are registered: what the device remembered is led by it."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from lineside.core import parse_plant
from lineside.hub import HubConfig
from lineside.models import build_package
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.testing import FakeClock
from lineside.vision import encode_jpeg
from tests.hub.conftest import DISC_PLANT
from tests.hub.replayed import Day, recorded_day
from tests.models.conftest import package_parts, scene

PLACES_PX = (0, 0, 0, 3, 3, 3, 3, 0, 0)
"""How far the camera is moved to the right at each picture."""


def seen(*, seed: int) -> bytes:
    """The scene from where the camera is at a picture, with grain of its own."""
    moved = np.roll(scene(lit=seed % 2 == 0), PLACES_PX[seed - 1], axis=1).astype(np.int16)
    grain = np.random.default_rng(seed).integers(-1, 2, moved.shape)
    return encode_jpeg(np.clip(moved + grain, 0, 255).astype(np.uint8), quality=95)


@pytest.fixture
def day(config: HubConfig, clock: FakeClock) -> Iterator[Day]:
    archive, plant = build_package(*package_parts()), parse_plant(DISC_PLANT, where="plant")
    with recorded_day(config, plant, clock, archive=archive, jpeg=seen) as made:
        made.record(((),) * len(PLACES_PX))
        yield made


def states(day: Day) -> list[str]:
    return [
        read_prediction(decode_event(logged.entry.body, where="log")).registration.state
        for logged in day.hub.records.log.read(type=PREDICTION_TYPE)
    ]


@pytest.mark.parametrize("begin", range(len(PLACES_PX)))
def test_from_any_picture_on_the_same_package_says_the_same(day: Day, *, begin: int) -> None:
    assert states(day) == [
        "aligned", "still", "still", "aligned", "still", "still", "still", "aligned", "still",
    ]  # fmt: skip
    day.since += timedelta(seconds=begin)
    found = day.again(day.package)
    assert found.frames == len(PLACES_PX) - begin
    assert found.bit_identical
