"""Frames in a hurry: kept after a glance, read to their end when nothing waits."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lineside.core import digest_of
from lineside.hub import Services
from lineside.hub.ingest.frames import needs_thumbnail
from lineside.links import Message
from lineside.testing import FakeClock
from lineside.vision import picture_size

if TYPE_CHECKING:
    from tests.hub.conftest import Line

Pictures = Callable[..., bytes]


@pytest.fixture
def burst(line: "Line", jpeg: Pictures, clock: FakeClock) -> list[Message]:
    """More frames at once than are decoded on the spot."""
    begin = clock.now() - timedelta(seconds=1)
    return [
        line.camera(jpeg(seed=number % 4), at=begin + timedelta(milliseconds=number))
        for number in range(40)
    ]


def unfinished(hub: Services) -> int:
    return sum(needs_thumbnail(row) for row in hub.frames.page(limit=1000))


def finish(hub: Services) -> None:
    while hub.thumbnails.step():
        pass


def test_a_burst_is_kept_at_once_and_finished_later(
    hub: Services, burst: list[Message], jpeg: Pictures
) -> None:
    hub.plant_ingest.take(burst)
    assert hub.stats.plain()["frames_stored"] == 40
    assert unfinished(hub) == hub.thumbnails.waiting == 40
    newest = hub.frames.page(limit=1)[0]
    assert (newest.width_px, newest.height_px) == (160, 120)
    assert hub.frames.picture(newest.id).data == jpeg(seed=3)
    before = hub.frames.thumbnail(newest.id)
    finish(hub)
    assert unfinished(hub) == hub.thumbnails.waiting == 0
    assert hub.frames.thumbnail(newest.id) == before
    assert picture_size(before.data) == (160, 120)


def test_a_few_frames_are_decoded_on_the_spot(hub: Services, burst: list[Message]) -> None:
    hub.plant_ingest.take(burst[:9])
    assert unfinished(hub) == hub.thumbnails.waiting == 0


def test_in_a_hurry_a_cut_picture_is_still_refused_on_the_spot(
    hub: Services, line: "Line", burst: list[Message], jpeg: Pictures
) -> None:
    cut = line.camera(jpeg("red")[:-200])
    noise = line.camera(b"\xff\xd8\xff" + bytes(500))
    hub.plant_ingest.take([*burst, cut, noise])
    assert hub.dead_letters.counts() == {"picture cannot be read": 2}
    assert len(hub.frames.page()) == 40


def test_a_picture_that_is_damaged_inside_becomes_a_dead_letter_when_it_is_read(
    hub: Services, line: "Line", burst: list[Message], jpeg: Pictures
) -> None:
    whole = jpeg("red")
    damaged = whole[:700] + bytes(900) + whole[1600:]
    hub.plant_ingest.take([*burst, line.camera(damaged)])
    assert hub.dead_letters.counts() == {}
    finish(hub)
    assert hub.dead_letters.counts() == {"picture cannot be read": 1}
    (letter,) = hub.dead_letters.page()
    row = hub.frames.page(limit=1)[0]
    assert row.digest == digest_of(damaged)
    assert letter.detail.startswith(row.id)
    assert hub.dead_letters.payload(letter.id) == damaged
    assert not needs_thumbnail(row)
    hub.thumbnails.look_back()
    assert hub.thumbnails.waiting == 0


def test_what_a_crash_left_unfinished_is_found_again(hub: Services, burst: list[Message]) -> None:
    hub.plant_ingest.take(burst)
    hub.thumbnails._waiting.clear()
    hub.thumbnails.look_back()
    assert hub.thumbnails.waiting == 40
    finish(hub)
    assert unfinished(hub) == 0


def test_the_thread_waits_while_frames_come_and_works_when_they_stop(
    hub: Services, burst: list[Message]
) -> None:
    pause, busy = threading.Event(), True
    hub.thumbnails.busy = lambda: busy
    hub.thumbnails.start()
    hub.plant_ingest.take(burst)
    pause.wait(0.2)
    assert unfinished(hub) == 40
    busy = False
    while unfinished(hub):
        pause.wait(0.02)
    hub.thumbnails.stop()


def test_an_unfinished_frame_keeps_its_picture_when_it_ages_out(
    hub: Services, burst: list[Message], clock: FakeClock
) -> None:
    hub.plant_ingest.take(burst)
    clock.advance(10)
    assert hub.records.frames.age_out(older_than=clock.now()) == []
    frame = hub.frames.page(limit=1)[0]
    assert frame.aged_out_at is not None
    assert hub.frames.thumbnail(frame.id).data
    finish(hub)
    assert unfinished(hub) == 0
    assert hub.records.documents.page("blob-leaving")


def test_more_than_is_remembered_is_found_again_in_the_index(
    hub: Services, burst: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineside.hub.ingest.frames._MOST_WAITING", 16)
    hub.plant_ingest.take(burst)
    assert hub.thumbnails.waiting == 16
    assert unfinished(hub) == 40
    rounds = 0
    while unfinished(hub):
        finish(hub)
        hub.thumbnails.look_back()
        rounds += 1
    assert rounds == 3
