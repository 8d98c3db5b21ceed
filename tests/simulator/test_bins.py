"""The simulated store: the walk, the pictures, the folder, the line on a bus."""

import json
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import InvalidError, decode, digest_of
from lineside.core.factory import read_message
from lineside.datasets import load_source
from lineside.links import FrameMessage
from lineside.simulator import BinsSettings, simulate_bins, write_bins
from lineside.simulator.bins import (
    MOST_ITEMS,
    View,
    encode_view,
    file_stem,
    new_product,
    patch_of,
    picture_of,
    record_of,
    views,
)
from lineside.vision import decode_picture
from tests.simulator.conftest import Line, MovingStop


def walk(count: int, *, seed: int = 1) -> list[View]:
    return list(islice(views(seed), count))


def test_the_walk_follows_from_its_seed_and_a_longer_one_begins_alike() -> None:
    assert walk(40) == walk(60)[:40]
    assert walk(40) != walk(40, seed=2)


@pytest.mark.slow
def test_neighbours_go_down_and_up_by_one_as_often_as_in_a_real_store() -> None:
    counts = np.array([view.bin.count for view in walk(9000)])
    steps = np.diff(counts)
    assert abs((steps == -1).mean() - 0.26) < 0.015
    assert abs((steps == 1).mean() - 0.15) < 0.015
    assert set(counts) == set(range(MOST_ITEMS + 1))
    assert np.bincount(counts).min() > 0.04 * len(counts)


def test_a_bin_s_pictures_follow_one_another_and_change_by_one_piece_at_most() -> None:
    seen = walk(400)
    for before, after in pairwise(seen):
        assert after.number == before.number + 1
        assert after.bin.number - before.bin.number in (0, 1)
        if after.bin.number == before.bin.number:
            assert abs(after.bin.count - before.bin.count) <= 1
            assert after.bin.offset == before.bin.offset
            assert after.bin.seed == before.bin.seed


def test_some_records_are_wrong_and_stay_so_until_the_bin_is_left() -> None:
    seen = walk(3000)
    wrong = [view for view in seen if view.bin.recorded != view.bin.count]
    assert 0.02 < len(wrong) / len(seen) < 0.1
    assert min(view.bin.recorded for view in seen) == 0


def test_a_record_s_quantities_sum_to_what_it_expects() -> None:
    gaps = {"key": 0, "asin": 0, "name": 0, "image": 0}
    for view in walk(600):
        record = record_of(view)
        entries = record["BIN_FCSKU_DATA"]
        total = sum(entry["quantity"] for entry in entries.values())
        assert record["EXPECTED_QUANTITY"] == total == view.bin.recorded
        gaps["key"] += sum(entry["asin"] != key for key, entry in entries.items())
        gaps["asin"] += sum(entry["asin"] is None for entry in entries.values())
        gaps["name"] += sum("normalizedName" not in entry for entry in entries.values())
        gaps["image"] += "image_fname" in record
    assert all(gaps.values())


@pytest.mark.parametrize(
    ("number", "stem"), [(2, "00002"), (523, "00523"), (499_993, "499993"), (18, "00018")]
)
def test_files_are_named_as_in_the_data_set(number: int, stem: str) -> None:
    assert file_stem(number) == stem


def test_pictures_differ_in_size_and_light_and_of_one_bin_only_in_light() -> None:
    seen = walk(40)
    sizes = {view.bin.number: picture_of(view).shape for view in seen}
    assert len(set(sizes.values())) > 10
    assert all(picture_of(view).shape == sizes[view.bin.number] for view in seen[:12])
    greys = [float(picture_of(view).mean()) for view in seen]
    assert max(greys) - min(greys) > 40
    assert all(picture_of(view).min() >= 12 and picture_of(view).max() <= 250 for view in seen[:5])


def test_one_piece_more_changes_the_picture_where_it_lies() -> None:
    for before, after in pairwise(walk(400)):
        if before.bin.number == after.bin.number and after.bin.count == before.bin.count + 1:
            a, b = (picture_of(view).astype(float) for view in (before, after))
            assert np.abs(a / a.mean() - b / b.mean()).max() > 0.3
            return
    pytest.fail("no stow in the walk")


def test_every_shape_has_an_outline_and_a_surface() -> None:
    rng = np.random.default_rng(4)
    kinds: dict[str, NDArray[np.uint8]] = {}
    while len(kinds) < 6:
        product = new_product(rng)
        kinds[product.kind] = patch_of(product, width_px=40, height_px=60)
    for kind, patch in kinds.items():
        share = (patch[..., 3] > 127).mean()
        assert 0.5 < share <= 1, kind
        assert patch[patch[..., 3] > 127][:, :3].std() > 3, kind


def test_a_folder_holds_pictures_records_and_the_truth(tmp_path: Path) -> None:
    told: list[int] = []
    truth = write_bins(tmp_path, pictures=12, seed=3, progress=told.append)
    assert told == list(range(1, 13))
    assert len(list((tmp_path / "bin-images").glob("*.jpg"))) == 12
    found = load_source(truth)
    assert found.skipped == ()
    by_file = {sample.name: sample for sample in found.samples}
    for view in walk(12, seed=3):
        sample = by_file[f"bin-images/{file_stem(view.number)}.jpg"]
        assert (sample.count, sample.group) == (view.bin.count, view.bin.part)
        assert sample.digest == digest_of(encode_view(view))
        record = json.loads((tmp_path / "metadata" / f"{file_stem(view.number)}.json").read_text())
        assert record["EXPECTED_QUANTITY"] == int(sample.facts["recorded"])


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    write_bins(one, pictures=4, seed=9)
    write_bins(other, pictures=4, seed=9)
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_the_line_names_each_picture_s_bin_and_notes_what_is_true(
    line: Line, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.jsonl"
    settings = BinsSettings(seed=5, frames=6, fps=2, truth=str(truth))
    stop = MovingStop(line.clock, after_s=60)
    ran = simulate_bins(settings, bus=line.bus, clock=line.clock, stop=stop)
    assert (ran.frames, ran.dropped) == (6, 0)
    said = [read_message(FrameMessage, one.payload, where="cam") for one in line.said("bins/cam")]
    notes = [json.loads(row) for row in truth.read_text().splitlines()]
    assert notes.pop() == {"dropped": 0, "end": True, "frames": 6}
    for message, note, view in zip(said, notes, walk(6, seed=5), strict=True):
        assert message.part == note["part"] == view.bin.part
        assert message.sequence == view.number
        assert digest_of(message.picture()) == note["digest"]
        assert (note["count"], note["recorded"]) == (view.bin.count, view.bin.recorded)
        assert decode_picture(message.picture()).ndim == 3
    assert line.clock.monotonic() == pytest.approx(2.5)


def test_the_line_ends_when_it_is_stopped(line: Line) -> None:
    stop = MovingStop(line.clock, after_s=1.6)
    ran = simulate_bins(BinsSettings(fps=2), bus=line.bus, clock=line.clock, stop=stop)
    assert ran.frames == 4


@pytest.mark.parametrize(
    ("wrong", "where"), [({"seed": -1}, "seed"), ({"frames": -1}, "frames"), ({"fps": 0}, "fps")]
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidError) as refused:
        decode(BinsSettings, wrong, where="settings")
    assert where in str(refused.value)
