"""What is kept of the live line for those who look."""

import threading

import numpy as np
import pytest

from lineside.edge.page.gallery import MOST_RECENT, PERIOD_S, Gallery
from lineside.testing import FakeClock
from lineside.vision import Frame, decode_picture, encode_png, open_frame, picture_size
from tests.edge.page.pages import classified, counted, picture, said_of, segmented

CAMERAS = {"defect": "surface", "where": "surface", "fill": "bin"}


@pytest.fixture
def gallery(clock: FakeClock) -> Gallery:
    return Gallery(CAMERAS, clock=clock, width_px=160)


def frame_of(clock: FakeClock, *, camera: str = "surface", seed: int = 0) -> Frame:
    clock.advance(0.01)
    encoded = encode_png(picture(seed=seed))
    return open_frame(encoded, camera=camera, captured_at=clock.now())


def test_a_picture_is_shown_with_the_answers_to_that_very_picture(
    gallery: Gallery, clock: FakeClock
) -> None:
    first, second = frame_of(clock), frame_of(clock, seed=1)
    gallery.look(first, classified(first))
    assert gallery.newest("surface") is None  # not all have answered
    gallery.look(first, segmented(first))
    gallery.show(first)
    gallery.look(second, classified(second))
    newest = gallery.newest("surface")
    assert newest is not None
    assert newest.frame == first.ref
    assert set(newest.predictions) == {"defect", "where"}
    gallery.show(second)
    newest = gallery.newest("surface")
    assert newest is not None
    assert newest.frame == second.ref
    assert set(newest.predictions) == {"defect"}


def test_answers_of_a_picture_that_was_never_shown_are_not_laid_on_the_next(
    gallery: Gallery, clock: FakeClock
) -> None:
    broken, next_one = frame_of(clock), frame_of(clock, seed=1)
    gallery.look(broken, classified(broken))
    gallery.show(next_one)
    newest = gallery.newest("surface")
    assert newest is not None
    assert not newest.predictions


def test_numbers_count_up_over_all_cameras(gallery: Gallery, clock: FakeClock) -> None:
    for camera in ("surface", "bin", "surface"):
        gallery.show(frame_of(clock, camera=camera))
    assert [one.number for one in gallery.newer(0)] == [3, 2]
    assert [one.number for one in gallery.newer(2)] == [3]
    assert gallery.newer(3) == ()


def test_pictures_of_other_cameras_are_passed_over(gallery: Gallery, clock: FakeClock) -> None:
    other = frame_of(clock, camera="elsewhere")
    gallery.look(other, classified(other))
    gallery.show(other)
    assert gallery.newer(0) == ()
    assert gallery.newest("elsewhere") is None
    assert gallery.latest("defect") is None


def test_what_is_watched_is_smaller_and_the_judged_size_is_told(
    gallery: Gallery, clock: FakeClock
) -> None:
    assert gallery.small("surface") is None
    gallery.show(frame_of(clock))
    small = gallery.small("surface")
    assert small is not None
    assert (small.width_px, small.height_px) == (320, 240)
    assert picture_size(small.picture) == (160, 120)
    assert small.picture.startswith(b"\xff\xd8\xff")


def test_a_narrow_jpeg_is_passed_on_as_it_came(clock: FakeClock) -> None:
    from lineside.vision import encode_jpeg

    gallery = Gallery(CAMERAS, clock=clock)
    encoded = encode_jpeg(picture())
    gallery.show(open_frame(encoded, camera="bin", captured_at=clock.now()))
    small = gallery.small("bin")
    assert small is not None
    assert small.picture == encoded


def test_a_picture_is_made_small_once_for_all_and_not_too_often(
    gallery: Gallery, clock: FakeClock
) -> None:
    gallery.show(frame_of(clock))
    first = gallery.small("surface")
    assert gallery.small("surface") is first
    gallery.show(frame_of(clock, seed=1))
    assert gallery.small("surface") is first  # too soon
    clock.advance(PERIOD_S)
    second = gallery.small("surface")
    assert second is not None
    assert second is not first
    assert second.newest.number == 2


def test_many_at_once_are_given_the_same_bytes(gallery: Gallery, clock: FakeClock) -> None:
    gallery.show(frame_of(clock))
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(gallery.small("surface"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1


def test_the_last_answers_are_few_newest_first_and_without_pixels(
    gallery: Gallery, clock: FakeClock
) -> None:
    for seed in range(MOST_RECENT + 5):
        frame = frame_of(clock, seed=seed)
        gallery.look(frame, segmented(frame))
    recent = gallery.recent()
    assert len(recent) == MOST_RECENT
    assert recent[0].frame.captured_at > recent[-1].frame.captured_at
    assert all(one.mask is not None and one.mask.rle == "" for one in recent)
    assert all(one.mask is not None and one.mask.share > 0 for one in recent)
    latest = gallery.latest("where")
    assert latest is not None
    assert latest[0].mask is not None
    assert latest[0].mask.rle  # the newest one keeps its pixels


def test_who_waits_is_woken_by_each_picture(gallery: Gallery, clock: FakeClock) -> None:
    woken: list[int] = []
    gallery.wake_with(lambda: woken.append(1))
    frame = frame_of(clock, camera="bin")
    gallery.look(frame, counted(frame))
    assert not woken
    gallery.show(frame)
    assert woken == [1]


def test_the_latest_answer_stays_with_its_own_picture(gallery: Gallery, clock: FakeClock) -> None:
    first, second = frame_of(clock), frame_of(clock, seed=1)
    gallery.look(first, said_of(first, "defect"))
    gallery.show(first)
    gallery.show(second)  # its inspection was not due
    found = gallery.latest("defect")
    assert found is not None
    assert found[1] == first.encoded
    assert np.array_equal(decode_picture(found[1]), first.image)
