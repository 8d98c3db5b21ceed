"""The simulated sorting table: the walk, the pictures, the folder, the line on a bus."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from lineside.core import InvalidError, decode, digest_of
from lineside.core.factory import read_message
from lineside.datasets import load_source
from lineside.links import FrameMessage
from lineside.simulator import SocksSettings, simulate_socks, write_socks
from lineside.simulator.socks import (
    BLANK,
    DESIGNS,
    HEIGHT_PX,
    LABELS,
    SIDE_PX,
    WIDTH_PX,
    View,
    encode_view,
    knit_sock,
    moments,
    passings,
    render_view,
    resting,
    socks,
)
from lineside.vision import decode_picture
from tests.simulator.conftest import Line, MovingStop


def test_socks_follow_from_their_seed_and_a_longer_walk_begins_alike() -> None:
    first = list(islice(socks(1), 30))
    assert first == list(islice(socks(1), 50))[:30]
    assert first != list(islice(socks(2), 30))
    assert [sock.number for sock in first] == list(range(1, 31))


def test_most_socks_are_pairs_of_one_design_and_some_have_no_fellow() -> None:
    there = list(islice(socks(5), 600))
    of_pair = Counter(sock.pair for sock in there[:-4])
    assert set(of_pair.values()) == {1, 2}
    alone = sum(count == 1 for count in of_pair.values())
    assert 0.02 < alone / len(of_pair) < 0.3
    designs: dict[int, set[str]] = {}
    for sock in there:
        designs.setdefault(sock.pair, set()).add(sock.design)
    assert all(len(names) == 1 for names in designs.values())
    assert {name for names in designs.values() for name in names} == set(DESIGNS)
    crossed = sum(first.pair != second.pair for first, second in pairwise(there))
    assert crossed > len(of_pair)  # pairs do not all lie side by side


def test_socks_pass_one_after_the_other_with_the_table_empty_in_between() -> None:
    walk = list(islice(passings(3), 100))
    for passing in walk:
        assert passing.enters_s < passing.lies_s < passing.lifted_s < passing.leaves_s
        assert passing.at(passing.enters_s - 0.01) is None
        assert passing.at(passing.leaves_s) is None
        resting_pose = passing.at((passing.lies_s + passing.lifted_s) / 2)
        assert resting_pose is not None
        assert (resting_pose.x, resting_pose.y) == (passing.rests.x, passing.rests.y)
    for first, second in pairwise(walk):
        assert 1.8 < second.enters_s - first.leaves_s < 3.3


def test_a_sock_comes_from_outside_the_picture_and_leaves_it_again() -> None:
    for passing in islice(passings(4), 6):
        for time_s in (passing.enters_s, passing.leaves_s - 1e-6):
            view = View(sock=passing.sock, pose=passing.at(time_s), laid=1, table=1, moment=1)
            assert render_view(view).label == BLANK


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_is_cloth_with_marks(design: str) -> None:
    cloth = knit_sock(next(one for one in DESIGNS if one == design), seed=3, laid=4)
    assert cloth.shape == (SIDE_PX, SIDE_PX, 4)
    inside = cloth[..., 3] > 0.5
    assert 0.15 < inside.mean() < 0.45
    assert cloth[inside][:, :3].std() > 12


def test_two_socks_of_one_design_differ_and_one_sock_lies_differently_each_time() -> None:
    one = knit_sock("Dots", seed=1, laid=1)
    assert not np.array_equal(one, knit_sock("Dots", seed=2, laid=1))
    assert not np.array_equal(one, knit_sock("Dots", seed=1, laid=2))
    assert np.array_equal(one, knit_sock("Dots", seed=1, laid=1))


def test_a_moment_gives_the_same_pixels_again_and_the_next_other_noise() -> None:
    view = next(one for one in moments(11, fps=5) if one.sock is not None)
    first = render_view(view)
    assert first.picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert np.array_equal(first.picture, render_view(view).picture)
    assert not np.array_equal(
        first.picture, render_view(replace(view, moment=view.moment + 1)).picture
    )


def test_what_is_seen_of_a_sock_says_its_label() -> None:
    sock = next(socks(1))
    lies = replace(resting(np.random.default_rng(1)), x=0.5, y=0.5, scale=0.9, hand=1.0)
    view = View(sock=sock, pose=lies, laid=1, table=2, moment=3)
    whole = render_view(view)
    assert whole.share > 0.97
    assert whole.label == sock.design
    shares, labels = [], []
    for x in np.linspace(0.5, 1.4, 46):
        found = render_view(replace(view, pose=replace(lies, x=float(x))))
        shares.append(found.share)
        labels.append(found.label)
    assert all(later <= earlier + 0.01 for earlier, later in pairwise(shares))
    assert list(dict.fromkeys(labels)) == [sock.design, "", BLANK]


def test_a_hand_alone_is_no_sock_and_changes_the_picture() -> None:
    hand = replace(resting(np.random.default_rng(2)), hand=0.0)
    empty = View(sock=None, pose=None, laid=0, table=4, moment=5)
    with_hand = render_view(replace(empty, pose=hand))
    assert with_hand.label == BLANK
    apart = np.abs(with_hand.picture.astype(int) - render_view(empty).picture.astype(int)).max(
        axis=2
    )
    assert (apart > 30).mean() > 0.03


def test_tables_are_of_several_kinds() -> None:
    greys = [
        render_view(View(sock=None, pose=None, laid=0, table=table, moment=1)).picture.mean(
            axis=(0, 1)
        )
        for table in range(4)
    ]
    for one, other in pairwise(greys):
        assert np.abs(one - other).max() > 20


@pytest.mark.slow
def test_a_folder_holds_every_label_and_the_pictures_of_a_sock_in_one_group(
    tmp_path: Path,
) -> None:
    told: list[int] = []
    truth = write_socks(tmp_path, pictures=42, seed=3, progress=told.append)
    assert told == list(range(1, 43))
    found = load_source(truth)
    assert found.skipped == ()
    assert Counter(label for sample in found.samples for label in sample.labels) == dict.fromkeys(
        LABELS, 6
    )
    groups: dict[str, list[str]] = {}
    for sample in found.samples:
        groups.setdefault(sample.group, []).extend(sample.labels)
    assert set(map(len, groups.values())) == {3}
    assert all(len(set(labels)) == 1 for labels in groups.values())


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    one, other, third = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    for folder, seed in ((one, 9), (other, 9), (third, 10)):
        write_socks(folder, pictures=4, seed=seed)
    files = [path for path in one.rglob("*.*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()
    first = Path("pictures/Argyle/00001.jpg")
    assert (one / first).read_bytes() != (third / first).read_bytes()


def test_the_line_tells_nobody_which_sock_it_is_and_notes_what_is_true(
    line: Line, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.jsonl"
    settings = SocksSettings(seed=5, frames=12, fps=2, truth=str(truth))
    stop = MovingStop(line.clock, after_s=60)
    ran = simulate_socks(settings, bus=line.bus, clock=line.clock, stop=stop)
    assert (ran.frames, ran.dropped) == (12, 0)
    said = line.said("socks/cam")
    notes = [json.loads(row) for row in truth.read_text().splitlines()]
    assert notes.pop() == {"dropped": 0, "end": True, "frames": 12}
    assert {note["label"] for note in notes} >= {BLANK, notes[-4]["design"]}
    for message, note, view in zip(said, notes, moments(5, fps=2), strict=False):
        told = read_message(FrameMessage, message.payload, where="cam")
        assert told.part == ""
        assert (
            digest_of(told.picture())
            == note["digest"]
            == digest_of(encode_view(render_view(view).picture))
        )
        assert decode_picture(told.picture()).ndim == 3
        assert note["sock"] == (view.sock.id if view.sock else "")
        for name in DESIGNS:
            assert name.encode() not in message.payload[:200]


def test_a_faster_camera_sees_the_same_walk() -> None:
    slow = [view.sock for view in islice(moments(6, fps=2), 40)]
    fast = [view.sock for view in islice(moments(6, fps=10), 200)][::5]
    assert slow == fast


@pytest.mark.parametrize(
    ("wrong", "where"), [({"seed": -1}, "seed"), ({"frames": -1}, "frames"), ({"fps": 0}, "fps")]
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidError) as refused:
        decode(SocksSettings, wrong, where="settings")
    assert where in str(refused.value)
