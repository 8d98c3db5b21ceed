"""Streams with the answer written on each picture: one part a frame, text and frame together."""

import http.client
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from lineside.core import InvalidError
from lineside.edge.page.gallery import (
    PERIOD_S,
    USUAL_SIZE,
    Gallery,
    caption_of,
    check_size,
    labelled,
)
from lineside.testing import FakeClock
from lineside.testing.bare import bare_label
from lineside.testing.links import LONG_S
from lineside.vision import Decision, PictureState, decode_picture
from tests.edge.page.asking import ask
from tests.edge.page.pages import Shown, classified, counted, said_of, shown


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Shown]:
    from lineside.core import SystemClock

    with shown(tmp_path, clock=SystemClock()) as steered:
        yield steered


class Stream:
    """A browser at one of the streams."""

    def __init__(self, url: str, path: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            place.hostname or "", place.port or 0, timeout=LONG_S
        )
        self._connection.request("GET", path)
        self.answer = self._connection.getresponse()

    def next(self) -> bytes:
        """The next part, read as RFC 2046 says."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.answer.readline()
        assert b"--lineside-frame\r\nContent-Type: image/jpeg\r\n" in head
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        picture = self.answer.read(length)
        assert self.answer.read(2) == b"\r\n"
        return picture

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def red_share(encoded: bytes) -> float:
    image = decode_picture(encoded, max_bytes=10_000_000).astype(int)
    return float(((image[..., 0] - image[..., 1:].max(axis=2)) > 120).mean())


@pytest.mark.parametrize(
    ("query", "size"),
    [("", (640, 480)), ("?size=720p", (960, 720)), ("?size=1080p&inspection=defect", (1440, 1080))],
)
def test_each_frame_is_a_part_of_the_wished_height_with_its_answer(
    page: Shown, query: str, size: tuple[int, int]
) -> None:
    stream = Stream(page.url, f"/cameras/surface/answers.mjpeg{query}")
    assert stream.answer.status == 200
    assert stream.answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
    for seed in (1, 2):
        frame = page.frame(seed=seed)
        page.see(frame, classified(frame))
        picture = stream.next()
        height, width = decode_picture(picture, max_bytes=10_000_000).shape[:2]
        assert (width, height) == size
        assert red_share(picture) > 0.005
    stream.close()


def test_everybody_who_watches_alike_is_given_the_same_picture(page: Shown) -> None:
    streams = [Stream(page.url, "/cameras/surface/answers.mjpeg") for _ in range(2)]
    frame = page.frame()
    page.see(frame, classified(frame))
    one, other = (stream.next() for stream in streams)
    assert one == other
    for stream in streams:
        stream.close()


@pytest.mark.parametrize(
    ("path", "status", "fix"),
    [
        ("/cameras/none/answers.mjpeg", 404, "surface, bin"),
        ("/cameras/surface/answers.mjpeg?inspection=fill", 404, "defect, where"),
        ("/cameras/surface/answers.mjpeg?size=4k", 400, "480p, 720p, 1080p"),
    ],
)
def test_what_is_not_there_is_a_sentence(page: Shown, path: str, status: int, fix: str) -> None:
    answer = ask(page.url, path)
    assert answer.status == status
    assert fix in answer.json["fix"]


def test_seats_are_shared_with_those_who_watch_otherwise(page: Shown) -> None:
    streams = [Stream(page.url, "/cameras/surface/answers.mjpeg") for _ in range(8)]
    assert ask(page.url, "/cameras/surface/answers.mjpeg").status == 503
    for stream in streams:
        stream.close()


def gallery(clock: FakeClock) -> Gallery:
    return Gallery({"defect": "surface"}, clock=clock)


def test_a_picture_is_made_once_and_at_most_ten_times_a_second(page: Shown) -> None:
    clock = FakeClock()
    there = gallery(clock)
    ask = partial(there.labelled, "surface", inspection="defect", size=USUAL_SIZE)
    assert ask() is None
    first = page.frame(seed=1)
    there.look(first, classified(first))
    there.show(first)
    made = ask()
    assert made is not None
    second = page.frame(seed=2)
    there.show(second)
    assert ask() is made
    clock.advance(PERIOD_S)
    later = ask()
    assert later is not None
    assert later.newest.frame.id == second.id
    assert ask() is later


def test_text_is_of_the_frame_that_is_shown(page: Shown) -> None:
    there = gallery(FakeClock())
    frame = page.frame(seed=3)
    there.show(frame)  # no package answered
    newest = there.newest("surface")
    assert newest is not None
    plain = labelled(newest, inspection="defect")
    there.look(frame, classified(frame))
    there.show(frame)
    newest = there.newest("surface")
    assert newest is not None
    named = labelled(newest, inspection="defect")
    assert plain.picture != named.picture
    assert named.newest.predictions["defect"].frame.id == named.newest.frame.id == frame.id


def test_the_caption_is_label_and_whole_percent(page: Shown) -> None:
    frame = page.frame()
    said = said_of(
        frame,
        "defect",
        labels=(bare_label("Blank", 0.02, Decision.ABSENT), bare_label("Google", 0.97314453125)),
    )
    assert caption_of(said) == "Google 97%"
    assert caption_of(None) == "no answer yet"
    assert caption_of(said_of(frame, "defect", state=PictureState.BLACK)) == "black"


def test_other_answers_are_drawn_as_on_the_page(page: Shown) -> None:
    there = Gallery({"fill": "bin"}, clock=FakeClock())
    frame = page.frame("bin")
    there.look(frame, counted(frame))
    there.show(frame)
    newest = there.newest("bin")
    assert newest is not None
    made = decode_picture(labelled(newest, inspection="fill").picture, max_bytes=10_000_000)
    plain = decode_picture(labelled(newest, inspection="none").picture, max_bytes=10_000_000)
    assert np.abs(made.astype(int) - plain.astype(int)).max() > 60


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidError, match="no size"):
        check_size("360p")
