"""Blobs in a folder keep the contract."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lineside.core import Digest, InvalidError, UnavailableError
from lineside.store import Blobs, open_blobs
from lineside.store.folder import FolderBlobs
from lineside.testing import FakeClock
from lineside.testing.store import BlobsContract, Tamper


@pytest.fixture
def blobs(tmp_path: Path, clock: FakeClock) -> Iterator[Blobs]:
    with closing(open_blobs(f"file://{tmp_path}/blobs", clock=clock)) as opened:
        yield opened


@pytest.fixture
def tamper(tmp_path: Path) -> Tamper:
    def overwrite(digest: Digest, data: bytes) -> None:
        (path,) = (tmp_path / "blobs").glob(f"*/{digest.removeprefix('sha256:')}")
        path.write_bytes(data)

    return overwrite


class TestBlobs(BlobsContract):
    pass


class Meddling(FolderBlobs):
    """A folder in which somebody puts the bytes again after ``discard`` looked at their time."""

    data = b"wanted after all"

    def _is_fresh(self, path: Path, *, idle_s: float) -> bool:
        fresh = super()._is_fresh(path, idle_s=idle_s)
        if not path.name.startswith("leaving-"):
            self.put(self.data)
        return fresh


def test_bytes_put_while_they_are_being_discarded_stay(tmp_path: Path, clock: FakeClock) -> None:
    blobs = Meddling(tmp_path, clock=clock)
    blobs.prepare()
    digest = blobs.put(Meddling.data)
    clock.advance(3600)
    assert not blobs.discard(digest, idle_s=300)
    assert blobs.get(digest) == Meddling.data
    assert list((tmp_path / "passing").iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away_or_put_back(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"file://{tmp_path}"
    digest = open_blobs(url, clock=clock).put(b"was being discarded")
    (path,) = tmp_path.glob("*/*")
    path.rename(tmp_path / "passing" / f"leaving-{path.name}")
    old, new = (tmp_path / "passing" / f"put-{name}" for name in ("old", "new"))
    for left, age_s in ((old, 7200), (new, 60)):
        left.write_bytes(b"half")
        then = clock.now().timestamp() - age_s
        os.utime(left, (then, then))
    blobs = open_blobs(url, clock=clock)
    assert blobs.get(digest) == b"was being discarded"
    assert list((tmp_path / "passing").iterdir()) == [new]


def test_other_files_in_the_folder_are_not_blobs(blobs: Blobs, tmp_path: Path) -> None:
    digest = blobs.put(b"one")
    (tmp_path / "blobs" / "README").write_text("what this is")
    (tmp_path / "blobs" / "ab").mkdir(exist_ok=True)
    (tmp_path / "blobs" / "ab" / "notes").write_text("x")
    (tmp_path / "blobs" / "zz").mkdir()
    assert list(blobs.digests()) == [digest]


def test_a_folder_that_may_not_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError):
        open_blobs(f"file://{tmp_path}/file")


@pytest.mark.parametrize("url", ["file://host/dir", "file:///", "file:dir", "ftp://x/y"])
def test_a_url_that_names_no_absolute_folder_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        open_blobs(url)


def test_odd_characters_in_the_url_are_unquoted(tmp_path: Path) -> None:
    open_blobs(f"file://{tmp_path}/line%20a").put(b"one")
    assert (tmp_path / "line a").is_dir()
