"""The feature cache: found again, bounded, the longest unread first, never wrong."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Box, Digest, InvalidError
from lineside.testing.links import LONG_S
from lineside.training.common.cache import FeatureCache, feature_key
from lineside.vision import Crop, Prepare

_WHOLE = Prepare(
    crops=(Crop(region="", box_px=Box(x0_px=0, y0_px=0, x1_px=64, y1_px=64)),),
    width_px=64,
    height_px=64,
    fit="stretch",
)
_DIGEST = Digest("sha256:" + "a" * 64)
_SIZE = len(np.zeros(1000).tobytes())


def key(number: int) -> str:
    return feature_key(Digest(f"sha256:{number:064x}"), backbone="lite0", prepare=_WHOLE)


def numbers(value: float) -> dict[str, np.ndarray]:
    return {"features": np.full(1000, value)}


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    assert cache.get(key(1)) is None
    cache.put(key(1), numbers(0.5))
    found = FeatureCache(tmp_path).get(key(1))
    assert found is not None
    assert np.array_equal(found["features"], np.full(1000, 0.5))


def test_picture_network_and_preparation_each_change_the_name() -> None:
    names = {
        feature_key(_DIGEST, backbone="lite0", prepare=_WHOLE),
        feature_key(Digest("sha256:" + "b" * 64), backbone="lite0", prepare=_WHOLE),
        feature_key(_DIGEST, backbone="lite1", prepare=_WHOLE),
        feature_key(_DIGEST, backbone="lite0", prepare=replace(_WHOLE, width_px=96)),
        feature_key(_DIGEST, backbone="lite0", prepare=replace(_WHOLE, fit="pad")),
    }
    assert len(names) == 5


def test_the_folder_stays_below_its_limit_and_the_longest_unread_go_first(tmp_path: Path) -> None:
    limit = 12 * _SIZE
    cache = FeatureCache(tmp_path, most_bytes=limit)
    for number in range(8):
        cache.put(key(number), numbers(number))
        path = next(tmp_path.glob(f"??/{key(number)}.npz"))
        os.utime(path, ns=(number, number))  # as if they had been read in this order, long ago
    assert cache.get(key(0)) is not None  # read just now: the last to go
    for number in range(8, 14):
        cache.put(key(number), numbers(number))
    assert cache.held_bytes() <= limit
    assert cache.get(key(0)) is not None
    assert cache.get(key(1)) is None
    assert cache.get(key(13)) is not None


def test_a_damaged_entry_counts_as_absent(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(key(1), numbers(1))
    path = next(tmp_path.glob("??/*.npz"))
    whole = path.read_bytes()
    for cut in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert cache.get(key(1)) is None
    for start in range(0, len(whole), 512):  # what a power cut leaves of a file that is not synced
        path.write_bytes(whole[:start] + bytes(512) + whole[start + 512 :])
        assert cache.get(key(1)) is None
    cache.put(key(1), numbers(1))
    assert cache.get(key(1)) is not None


@given(st.text(max_size=12))
def test_a_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    cache = FeatureCache(Path("never-made"))
    if name.isascii() and name.isalnum():
        assert cache.get(name) is None
    else:
        with pytest.raises(InvalidError):
            cache.get(name)


def test_a_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError):
        FeatureCache(tmp_path, most_bytes=0)


def _fill(folder: str, first: int) -> None:
    cache = FeatureCache(Path(folder), most_bytes=20 * _SIZE)
    for number in range(first, first + 30):
        cache.put(key(number), numbers(number))
        found = cache.get(key(number % 7))
        assert found is None or found["features"][0] == number % 7


def test_two_processes_share_a_folder_and_its_limit(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_fill, args=(str(tmp_path), first)) for first in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONG_S)
    assert [worker.exitcode for worker in workers] == [0, 0]
    cache = FeatureCache(tmp_path, most_bytes=20 * _SIZE)
    cache.put(key(99), numbers(99))
    assert cache.held_bytes() <= 20 * _SIZE
    assert not list(tmp_path.glob("??/.new-*"))
