import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import digest_of
from lineside.core.factory import CameraMessage, StockMessage, read_message
from lineside.simulator import SimulateSettings
from lineside.simulator.warehouse.line import arrangements, lighting_of
from lineside.vision import decode_picture
from tests.simulator.conftest import Line


@given(count=st.integers(1, 60), seed=st.integers(0, 1000))
def test_every_slot_shows_every_content_equally_often(count: int, seed: int) -> None:
    racks = arrangements(count, rng=np.random.default_rng(seed))
    assert len(racks) == count
    for slot in range(9):
        for half in (racks[: count - count // 2], racks):
            shown = Counter(rack[slot].truth for rack in half)
            figures = [shown[name] for name in ("blue", "red", "white", "empty")]
            assert max(figures) - min(figures) <= 1


def test_racks_differ_and_some_empty_places_lack_their_tray() -> None:
    racks = arrangements(48, rng=np.random.default_rng(2))
    assert len({tuple(place.truth for place in rack) for rack in racks}) == 48
    empty = [place for rack in racks for place in rack if place.piece is None]
    bare = sum(not place.tray for place in empty) / len(empty)
    assert 0.2 < bare < 0.5


def test_the_first_half_is_dark_and_the_second_light() -> None:
    assert [lighting_of(frame, count=5) for frame in range(5)] == ["dark"] * 3 + ["light"] * 2


def test_each_frame_follows_the_stock_message_of_the_same_time(line: Line) -> None:
    sent = line.run(SimulateSettings(teach=12, fps=20), seconds=60)
    assert sent.frames == 12
    messages = line.said()
    assert [one.topic for one in messages] == ["f/i/stock", "i/cam"] * 12
    times = []
    for stock, frame in zip(messages[::2], messages[1::2], strict=True):
        told = read_message(StockMessage, stock.payload, where="")
        shown = read_message(CameraMessage, frame.payload, where="")
        assert told.ts == shown.ts
        times.append(told.at)
    assert times == sorted(set(times))
    assert (times[-1] - times[0]).total_seconds() < 1


def test_the_notebook_agrees_with_what_was_told(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    line.run(SimulateSettings(teach=8, fps=20, truth=str(file)), seconds=60)
    *frames, end = [json.loads(row) for row in file.read_text().splitlines()]
    messages = line.said()
    for row, stock, frame in zip(frames, messages[::2], messages[1::2], strict=True):
        told = read_message(StockMessage, stock.payload, where="")
        slots = {
            item.location: item.workpiece.type.value.lower() if item.workpiece else "empty"
            for item in told.stock_items
        }
        assert row["slots"] == slots
        assert row["ts"] == told.ts
        picture = read_message(CameraMessage, frame.payload, where="").picture()
        assert row["digest"] == digest_of(picture)
    assert end["slots"] == frames[-1]["slots"]


def test_both_lightings_and_a_wandering_camera_are_shown(line: Line) -> None:
    line.run(SimulateSettings(teach=20, fps=20, drift_px=8), seconds=60)
    pictures = [
        decode_picture(read_message(CameraMessage, one.payload, where="").picture())
        for one in line.said("i/cam")
    ]
    blueness = [float(p[..., 2].mean() - p[..., 1].mean()) for p in pictures]
    assert min(blueness[:10]) > max(blueness[10:])
    corner = [p[200:, 250:].astype(int) for p in pictures[:10]]
    moved = [np.abs(a - b).mean() for a, b in pairwise(corner)]
    assert min(moved) > 4


def test_teaching_ends_early_when_told_to_stop(line: Line) -> None:
    sent = line.run(SimulateSettings(teach=500, fps=10), seconds=1)
    assert 5 < sent.frames < 15
