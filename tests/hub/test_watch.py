"""What a tile shows where several inspections answer the frames of one camera."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Digest, digest_of, frame_id, load_plant
from lineside.hub.live import LiveCameras
from lineside.hub.pages.lines import tile_of
from lineside.store import FrameRow, open_records
from lineside.testing import FakeClock
from lineside.testing.bare import bare_frame, bare_label, bare_prediction
from lineside.vision import (
    Prediction,
)
from lineside.web.format import DASH

PLANT = load_plant(Path(__file__).parents[2] / "examples" / "surface" / "plant.toml")
PACKAGE = Digest("sha256:" + "1" * 64)
JPEG = b"\xff\xd8\xff"
ORDER = ("surface", "defects", "unlike")
NOTHING = (("defects", DASH), ("unlike", DASH))


@pytest.fixture
def watch(clock: FakeClock) -> Iterator[LiveCameras]:
    with open_records("memory://", clock=clock) as records:
        yield LiveCameras(records, plant=PLANT, clock=clock)


def stored(clock: FakeClock, *, number: int = 1) -> FrameRow:
    at = clock.now() + timedelta(seconds=number)
    digest = digest_of(b"%d" % number)
    return FrameRow(
        id=frame_id(camera="plate", captured_at=at, digest=digest), camera="plate",
        captured_at=at, arrived_at=at, digest=digest, size_bytes=1, width_px=320, height_px=240,
        thumbnail=digest,
    )  # fmt: skip


def predicted(row: FrameRow, inspection: str, *, label: str = "anomalous") -> Prediction:
    frame = bare_frame(
        row.id, camera=row.camera, at=row.captured_at, digest=row.digest, sequence=row.sequence,
        part=row.part,
    )  # fmt: skip
    return bare_prediction(
        frame, inspection=inspection, labels=(bare_label(label),), package=PACKAGE
    )


def names(watch: LiveCameras) -> tuple[str, ...]:
    shown = watch.shown("plate")
    assert shown is not None
    first = (shown.prediction,) if shown.prediction else ()
    return tuple(one.inspection for one in (*first, *shown.also))


def test_answers_to_one_frame_stand_together_in_the_plant_s_order(
    watch: LiveCameras, clock: FakeClock
) -> None:
    frame = stored(clock)
    watch.frame(frame, JPEG)
    assert names(watch) == ()
    for inspection in ("unlike", "surface", "defects"):
        watch.prediction(predicted(frame, inspection), f"evt_{inspection}")
    assert names(watch) == ORDER
    view = watch.one("plate")
    assert view.prediction is not None
    assert (view.prediction.inspection, view.event) == ("surface", "evt_surface")
    assert [one.inspection for one in view.also] == ["defects", "unlike"]


def test_answers_that_come_before_their_frame_are_shown_with_it(
    watch: LiveCameras, clock: FakeClock
) -> None:
    frame = stored(clock)
    for inspection in ("defects", "surface"):
        watch.prediction(predicted(frame, inspection), "evt")
    assert watch.shown("plate") is None
    watch.frame(frame, JPEG)
    assert names(watch) == ("surface", "defects")


@settings(max_examples=40, deadline=None)
@given(heard=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(ORDER)), max_size=14))
def test_no_answer_stands_beside_one_to_another_frame(heard: list[tuple[int, str]]) -> None:
    clock = FakeClock()
    frames = {number: stored(clock, number=number) for number in range(1, 5)}
    with open_records("memory://", clock=clock) as records:
        watch = LiveCameras(records, plant=PLANT, clock=clock)
        watch.frame(frames[1], JPEG)
        for number, inspection in heard:
            watch.frame(frames[number], JPEG)
            watch.prediction(predicted(frames[number], inspection), "evt")
        shown = watch.shown("plate")
        assert shown is not None
        of = {one.frame.id for one in (shown.prediction, *shown.also) if one is not None}
        assert of <= {shown.ref.id}
        last = max((number for number, _ in heard), default=0)
        wanted = {one for number, one in heard if number == last}
        assert set(names(watch)) == (wanted if last else set())


def test_a_tile_says_what_each_inspection_predicted(watch: LiveCameras, clock: FakeClock) -> None:
    frame = stored(clock)
    watch.frame(frame, JPEG)
    watch.prediction(predicted(frame, "surface"), "evt")
    watch.prediction(predicted(frame, "unlike", label="spotted"), "evt")
    shown = tile_of(watch.one("plate"), plant=PLANT, names=str, now=clock.now()).shown
    assert (shown.answer, shown.others) == ("anomalous", (("defects", DASH), ("unlike", "spotted")))
    assert len(shown.overlays) == 2
    bare = replace(watch.one("plate"), prediction=None, also=())
    nothing = tile_of(bare, plant=PLANT, names=str, now=clock.now()).shown
    assert (nothing.answer, nothing.others) == (DASH, NOTHING)


def test_a_frame_that_nothing_answers_stands_without_the_answers_before(
    watch: LiveCameras, clock: FakeClock
) -> None:
    answered = stored(clock)
    watch.frame(answered, JPEG)
    watch.prediction(predicted(answered, "surface"), "evt")
    watch.prediction(predicted(answered, "unlike"), "evt")
    clock.advance(5)
    later = stored(clock, number=2)
    watch.frame(later, JPEG)
    assert names(watch) == ()
    shown = tile_of(watch.one("plate"), plant=PLANT, names=str, now=clock.now()).shown
    assert (shown.id, shown.answer) == (later.id, DASH)
    assert (shown.overlays, shown.regions, shown.others) == ((), (), NOTHING)


def test_a_tile_waits_for_the_frame_of_an_answer_that_came_first(
    watch: LiveCameras, clock: FakeClock
) -> None:
    def shown() -> str:
        return tile_of(watch.one("plate"), plant=PLANT, names=str, now=clock.now()).shown.id

    first, second = stored(clock), stored(clock, number=2)
    watch.prediction(predicted(first, "surface"), "evt")
    assert shown() == ""
    watch.frame(first, JPEG)
    assert shown() == first.id
    watch.prediction(predicted(second, "surface"), "evt")
    assert shown() == first.id
    watch.frame(second, JPEG)
    assert shown() == second.id
