"""The simulated belt: parts, pictures with masks, the folder, the line on a bus."""

import csv
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import InvalidError, decode, digest_of
from lineside.core.factory import read_message
from lineside.datasets import load_source
from lineside.links import FrameMessage
from lineside.simulator import SurfaceSettings, simulate_surface, write_surface
from lineside.simulator.surface import (
    VIEW_HEIGHT_PX,
    VIEW_WIDTH_PX,
    Fault,
    FaultKind,
    Part,
    encode_part,
    parts,
    render_part,
)
from lineside.vision import decode_picture
from tests.simulator.conftest import Line, MovingStop

PLAIN = Part(
    number=3, seed=9, shift_x_px=0.0, shift_y_px=0.0, turn_deg=0.0, exposure=1.0, faults=()
)


def walk(count: int, *, seed: int = 1, faulty_share: float = 0.3) -> list[Part]:
    return list(islice(parts(seed, faulty_share=faulty_share), count))


def fault(kind: FaultKind, *, strength: float = 0.9) -> Fault:
    return Fault(kind=kind, x=0.5, y=0.5, size=0.2, turn_deg=60, strength=strength, seed=4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), share=st.floats(0, 1))
def test_a_longer_walk_begins_like_a_shorter_one_and_keeps_its_bounds(
    seed: int, share: float
) -> None:
    found = walk(30, seed=seed, faulty_share=share)
    assert found[:11] == walk(11, seed=seed, faulty_share=share)
    assert len({part.id for part in found}) == 30
    for part in found:
        assert abs(part.shift_x_px) <= 18
        assert abs(part.shift_y_px) <= 13
        assert abs(part.turn_deg) <= 4
        assert 0.7 < part.exposure < 1.3
        assert part.label == ("anomalous" if part.faults else "normal")
        assert all(0 < one.x < 1 and 0 < one.y < 1 for one in part.faults)


def test_seeds_differ_and_the_share_of_faults_is_as_asked() -> None:
    assert walk(5) != walk(5, seed=2)
    for share in (0.0, 0.3, 1.0):
        found = [bool(part.faults) for part in walk(1500, faulty_share=share)]
        assert abs(np.mean(found) - share) < 0.04
    kinds = [one.kind for part in walk(1500) for one in part.faults]
    assert {kinds.count(kind) > 100 for kind in ("scratch", "dent", "stain")} == {True}


@pytest.mark.parametrize("kind", ["scratch", "dent", "stain"])
def test_a_fault_changes_the_picture_within_its_mask_and_hardly_elsewhere(kind: FaultKind) -> None:
    good, bad = render_part(PLAIN), render_part(replace(PLAIN, faults=(fault(kind),)))
    assert not good.mask.any()
    inside = bad.mask > 0
    assert 20 < inside.sum() < 0.1 * inside.size
    change = np.abs(good.picture.astype(float) - bad.picture).mean(axis=2)
    assert change[inside].mean() > 12
    around = np.zeros_like(inside)
    around[60:180, 90:230] = True
    assert change[~around].max() == 0
    assert change[inside].mean() > 8 * change[~inside].mean()


@pytest.mark.parametrize("kind", ["scratch", "dent", "stain"])
def test_a_weaker_fault_shows_less(kind: FaultKind) -> None:
    good = render_part(PLAIN).picture.astype(float)
    shown = [
        np.abs(
            good - render_part(replace(PLAIN, faults=(fault(kind, strength=one),))).picture
        ).mean()
        for one in (0.3, 0.6, 1.0)
    ]
    assert shown == sorted(shown)


def test_the_metal_is_brushed_along_the_plate() -> None:
    grey = render_part(PLAIN).picture[70:170, 80:240].mean(axis=2)
    along, across = np.abs(np.diff(grey, axis=1)).mean(), np.abs(np.diff(grey, axis=0)).mean()
    assert across > 1.3 * along


def test_the_part_moves_with_its_place_and_the_picture_with_the_light() -> None:
    middle = _middle(PLAIN)
    moved = _middle(replace(PLAIN, shift_x_px=10.0, shift_y_px=-6.0))
    assert moved[0] - middle[0] == pytest.approx(10, abs=1)
    assert moved[1] - middle[1] == pytest.approx(-6, abs=1)
    light = [render_part(replace(PLAIN, exposure=one)).picture.mean() for one in (0.8, 1.0, 1.2)]
    assert light == sorted(light)


def _middle(part: Part) -> tuple[float, float]:
    rows, columns = np.nonzero(render_part(part).picture.mean(axis=2)[20:220] > 100)
    return float(columns.mean()), float(rows.mean())


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_a_picture_follows_from_its_part_and_every_fault_can_be_seen(seed: int) -> None:
    for part in walk(2, seed=seed, faulty_share=0.8):
        one, other = render_part(part), render_part(part)
        assert one.picture.shape == (VIEW_HEIGHT_PX, VIEW_WIDTH_PX, 3)
        assert set(np.unique(one.mask)) <= {0, 255}
        assert encode_part(one.picture) == encode_part(other.picture)
        assert one.mask.any() == bool(part.faults)


def test_a_folder_has_both_layouts_and_the_truth(tmp_path: Path) -> None:
    told: list[int] = []
    truth = write_surface(tmp_path, pictures=10, seed=3, faulty_share=0.5, progress=told.append)
    assert told == list(range(1, 11))
    known = walk(10, seed=3, faulty_share=0.5)
    rows = list(csv.DictReader(truth.read_text().splitlines()))
    assert [row["group"] for row in rows] == [part.id for part in known]
    classes = load_source(tmp_path / "img-classification")
    pixels = load_source(tmp_path / "semantic-segmentation")
    whole = load_source(truth)
    assert not classes.skipped + pixels.skipped + whole.skipped
    assert len(classes.samples) == len(pixels.samples) == len(whole.samples) == 10
    faulty = sum(bool(part.faults) for part in known)
    assert 0 < faulty < 10
    for source in (classes, pixels, whole):
        assert sum("anomalous" in sample.labels for sample in source.samples) == faulty
    assert sum(sample.mask_digest is not None for sample in pixels.samples) == faulty


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    for folder in (one, other):
        write_surface(folder, pictures=3, seed=9, faulty_share=0.5)
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_the_line_names_each_part_and_notes_what_is_true(line: Line, tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    asked = SurfaceSettings(seed=5, frames=6, fps=2, faulty_share=0.5, truth=str(truth))
    stop = MovingStop(line.clock, after_s=60)
    ran = simulate_surface(asked, bus=line.bus, clock=line.clock, stop=stop)
    assert (ran.frames, ran.dropped) == (6, 0)
    topic = "surface/cam"
    said = [read_message(FrameMessage, one.payload, where=topic) for one in line.said(topic)]
    notes = [json.loads(row) for row in truth.read_text().splitlines()]
    assert notes.pop() == {"dropped": 0, "end": True, "frames": 6}
    known = walk(6, seed=5, faulty_share=0.5)
    for message, note, part in zip(said, notes, known, strict=True):
        assert message.part == note["part"] == part.id
        assert message.sequence == part.number
        assert digest_of(message.picture()) == note["digest"]
        assert note["label"] == part.label
        assert bool(note["faults"]) == bool(note["wrong_px"]) == bool(part.faults)
        assert decode_picture(message.picture()).shape == (VIEW_HEIGHT_PX, VIEW_WIDTH_PX, 3)
    assert line.clock.monotonic() == pytest.approx(2.5)


def test_the_line_ends_when_it_is_stopped(line: Line) -> None:
    stop = MovingStop(line.clock, after_s=1.6)
    ran = simulate_surface(SurfaceSettings(fps=2), bus=line.bus, clock=line.clock, stop=stop)
    assert ran.frames == 4


@pytest.mark.parametrize(
    ("wrong", "where"),
    [({"seed": -1}, "seed"), ({"frames": -1}, "frames"), ({"fps": 0}, "fps")]
    + [({"faulty_share": share}, "faulty_share") for share in (-0.1, 1.1, float("nan"))],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidError) as refused:
        decode(SurfaceSettings, wrong, where="settings")
    assert where in str(refused.value)


def test_a_share_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="0 to 1"):
        write_surface(tmp_path / "x", pictures=2, seed=1, faulty_share=2.0)
    assert not (tmp_path / "x").exists()
