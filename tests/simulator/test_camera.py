import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.simulator import slot_boxes
from lineside.simulator.warehouse.scene import (
    LIGHTS,
    SEATS,
    Content,
    Lighting,
    Pose,
    RackCamera,
    disc_box,
    encode_picture,
    first_pose,
    next_pose,
)
from lineside.vision import decode_picture

NINE = [
    *(Content.BLUE, Content.RED, Content.WHITE),
    *(Content.EMPTY, Content.BARE, Content.BLUE),
    *(Content.RED, Content.WHITE, Content.EMPTY),
]
LIGHTINGS: list[Lighting] = ["dark", "light", "neutral"]


def shot(
    *, seed: int = 1, lighting: Lighting = "light", pose: Pose | None = None, drift_px: float = 4.0
) -> NDArray[np.uint8]:
    camera = RackCamera(seed=seed, drift_px=drift_px)
    return camera.picture(NINE, lighting=lighting, pose=pose or Pose())


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert encode_picture(shot()) == encode_picture(shot())


def test_seed_lighting_and_pose_change_the_picture() -> None:
    pictures = [
        shot(),
        shot(seed=2),
        shot(lighting="dark"),
        shot(lighting="neutral"),
        shot(pose=Pose(right=0.5)),
        shot(pose=Pose(turn=1.0)),
        shot(pose=Pose(nearer=1.0)),
    ]
    assert len({encode_picture(picture) for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("lighting", LIGHTINGS)
def test_a_picture_is_as_large_and_as_bright_as_the_real_ones(lighting: Lighting) -> None:
    picture = shot(lighting=lighting)
    assert picture.shape == (240, 320, 3)
    assert 85 < picture.mean() < 125
    assert picture.std() > 55
    assert 38_000 < len(encode_picture(picture)) < 57_000


def test_dark_is_violet_and_light_is_green_yellow() -> None:
    dark, light = (shot(lighting=one).mean(axis=(0, 1)) for one in ("dark", "light"))
    assert dark[2] > dark[1]
    assert light[1] > light[2] + 10
    assert set(LIGHTS) == set(LIGHTINGS)


def test_a_jpeg_decodes_to_nearly_the_same_picture() -> None:
    picture = shot()
    again = decode_picture(encode_picture(picture))
    assert np.abs(again.astype(int) - picture).mean() < 4


@pytest.mark.parametrize("lighting", LIGHTINGS)
def test_each_colour_is_seen_in_its_slot(lighting: Lighting) -> None:
    camera = RackCamera(seed=3, drift_px=0)
    for place, seat in enumerate(SEATS):
        box = disc_box(seat)
        y, x = round((box.y0_px + box.y1_px) / 2) - 2, round((box.x0_px + box.x1_px) / 2)
        rows = slice(round(box.y0_px), round(box.y1_px))
        columns = slice(round(box.x0_px), round(box.x1_px))
        seen: dict[Content, NDArray[np.float64]] = {}
        whole: dict[Content, NDArray[np.float64]] = {}
        for content in (Content.BLUE, Content.RED, Content.WHITE, Content.EMPTY):
            contents = [Content.EMPTY] * 9
            contents[place] = content
            picture = camera.picture(contents, lighting=lighting, pose=Pose())
            whole[content] = picture[rows, columns].astype(np.float64)
            seen[content] = picture[y - 1 : y + 2, x - 4 : x + 5].mean(axis=(0, 1))
        assert seen[Content.BLUE].argmax() == 2
        assert seen[Content.RED].argmax() == 0
        assert seen[Content.WHITE].min() > 120
        for one, other in itertools.combinations(whole.values(), 2):
            assert np.abs(one - other).max(axis=2).mean() > 30


def test_a_slot_that_changes_changes_nothing_outside_its_region() -> None:
    still = RackCamera(seed=3, drift_px=0)
    other = RackCamera(seed=3, drift_px=0)
    emptied = [Content.EMPTY, *NINE[1:]]
    before = still.picture(NINE, lighting="dark", pose=Pose())
    after = other.picture(emptied, lighting="dark", pose=Pose())
    box = slot_boxes()["A1"]
    differs = (before != after).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert box.x0_px <= columns.min() <= columns.max() <= box.x1_px
    assert box.y0_px <= rows.min() <= rows.max() <= box.y1_px


def test_going_back_to_a_rack_shows_it_as_before() -> None:
    camera = RackCamera(seed=3, drift_px=0)
    fresh = RackCamera(seed=3, drift_px=0)
    camera.picture([Content.BARE] * 9, lighting="dark", pose=Pose())
    fresh.picture([Content.RED] * 9, lighting="dark", pose=Pose())
    one = camera.picture(NINE, lighting="dark", pose=Pose())
    assert np.array_equal(one, fresh.picture(NINE, lighting="dark", pose=Pose()))


def test_blur_takes_detail_away() -> None:
    sharp = RackCamera(seed=1, drift_px=0).picture(NINE, lighting="light", pose=Pose())
    soft = RackCamera(seed=1, drift_px=0, blur_px=2.0).picture(NINE, lighting="light", pose=Pose())
    assert np.abs(np.diff(soft.astype(int), axis=1)).mean() < (
        0.7 * np.abs(np.diff(sharp.astype(int), axis=1)).mean()
    )


def test_at_the_end_of_its_range_the_camera_still_sees_the_scene() -> None:
    corner = shot(drift_px=20, pose=Pose(right=1, down=1, turn=1, nearer=-1))
    assert (corner[:4].mean(axis=2) > 0).all()
    assert (corner[:, :4].mean(axis=2) > 0).all()


def test_the_pose_moves_the_picture_as_its_matrix_says() -> None:
    pose = Pose(right=0.5, down=-0.25)
    assert np.allclose(pose.matrix(drift_px=8), [[1, 0, 4], [0, 1, -2]])
    still, moved = (
        RackCamera(seed=2, drift_px=8).picture(NINE, lighting="light", pose=one).astype(int)
        for one in (Pose(), pose)
    )
    assert np.abs(moved[:-2, 4:] - still[2:, :-4]).mean() < 5  # the sensor's noise, twice
    assert np.abs(moved - still).mean() > 10


@given(seed=st.integers(0, 2**32), stride=st.floats(0, 3))
def test_the_camera_never_leaves_its_range(seed: int, stride: float) -> None:
    rng = np.random.default_rng(seed)
    pose = first_pose(rng)
    for _ in range(20):
        pose = next_pose(pose, rng, stride=stride)
        for share in (pose.right, pose.down, pose.turn, pose.nearer):
            assert -1 <= share <= 1
