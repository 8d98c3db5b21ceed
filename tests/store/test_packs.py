"""Batches of blobs in packs keep the contract, also when packs or their index are cut or lost."""

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Digest, NotFoundError, RefusedError, UnavailableError, digest_of
from lineside.store import Blobs, open_blobs
from lineside.store.folder import FolderBlobs
from lineside.testing import FakeClock
from lineside.testing.store import BlobsContract, Tamper


class PackResult:
    """A folder whose ``put`` puts into a pack, so that the whole contract is asked of packs."""

    def __init__(self, blobs: FolderBlobs) -> None:
        self._blobs = blobs

    def __getattr__(self, name: str) -> object:
        return getattr(self._blobs, name)

    def put(self, data: bytes) -> Digest:
        self._blobs._packs.put({digest_of(data): data})
        return digest_of(data)


@pytest.fixture
def folder(tmp_path: Path, clock: FakeClock) -> Iterator[FolderBlobs]:
    opened = open_blobs(f"file://{tmp_path}/blobs", clock=clock)
    assert isinstance(opened, FolderBlobs)
    yield opened
    opened.close()


@pytest.fixture
def blobs(folder: FolderBlobs) -> Blobs:
    return PackResult(folder)  # type: ignore[return-value]  # the rest is the folder's own


@pytest.fixture
def tamper(tmp_path: Path) -> Tamper:
    def overwrite(digest: Digest, data: bytes) -> None:
        index = sqlite3.connect(tmp_path / "blobs" / "packs" / "index.db")
        raw = bytes.fromhex(digest.removeprefix("sha256:"))
        name, place, size = index.execute(
            "SELECT pack, place, size FROM blob WHERE digest = ?", (raw,)
        ).fetchone()
        index.close()
        with (tmp_path / "blobs" / "packs" / f"{name}.pack").open("r+b") as file:
            file.seek(place)
            file.write((data + bytes(size))[: max(size, len(data))])

    return overwrite


class TestPackedBlobs(BlobsContract):
    pass


DATA = [b"%d" % number * 400 for number in range(12)]


def packs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "blobs" / "packs").glob("*.pack"))


def again(tmp_path: Path, clock: FakeClock) -> Blobs:
    return open_blobs(f"file://{tmp_path}/blobs", clock=clock)


def test_a_batch_is_one_file(folder: FolderBlobs, tmp_path: Path) -> None:
    folder.put_many(DATA)
    assert len(packs(tmp_path)) == 1
    assert not list((tmp_path / "blobs" / "passing").iterdir())
    folder.put_many(DATA)
    assert len(packs(tmp_path)) == 1
    folder.put_many([*DATA[6:], b"new", b"newer"])
    assert len(packs(tmp_path)) == 2
    assert len(list(folder.digests())) == 14


def test_single_and_packed_blobs_live_together(folder: FolderBlobs) -> None:
    single = folder.put(b"alone")
    digests = folder.put_many([b"alone", *DATA])
    folder.put(DATA[0])
    assert digests[0] == single
    assert sorted(folder.digests()) == sorted(digests)
    folder.delete(digests[1])
    with pytest.raises(NotFoundError):
        folder.get(digests[1])


def test_another_process_sees_what_was_put(
    folder: FolderBlobs, tmp_path: Path, clock: FakeClock
) -> None:
    other = again(tmp_path, clock)
    digests = folder.put_many(DATA)
    assert [other.get(digest) for digest in digests] == DATA
    other.delete(digests[0])
    with pytest.raises(NotFoundError):
        folder.get(digests[0])
    other.close()


@pytest.mark.parametrize("damage", ["lost", "garbage", "empty"])
def test_a_lost_or_broken_index_is_made_from_the_packs(
    folder: FolderBlobs, tmp_path: Path, clock: FakeClock, damage: str
) -> None:
    digests = folder.put_many(DATA)
    folder.close()
    index = tmp_path / "blobs" / "packs" / "index.db"
    for path in index.parent.glob("index.db-*"):
        path.unlink()
    if damage == "lost":
        index.unlink()
    else:
        index.write_bytes(b"no database" * 1000 if damage == "garbage" else b"")
    opened = again(tmp_path, clock)
    assert [opened.get(digest) for digest in digests] == DATA
    opened.close()


def test_an_index_with_damaged_pages_is_made_anew_when_that_shows(
    folder: FolderBlobs, tmp_path: Path, clock: FakeClock
) -> None:
    data = [f"image {number}".encode() for number in range(2000)]
    digests = folder.put_many(data)
    folder.close()
    index = tmp_path / "blobs" / "packs" / "index.db"
    # 40 pages of 4096 bytes in the middle
    index.write_bytes((raw := index.read_bytes())[:40_960] + b"x" * 163_840 + raw[204_800:])
    opened = again(tmp_path, clock)
    with pytest.raises(UnavailableError, match="index of the packs is damaged and is made anew"):
        list(map(opened.get, digests))
    assert [opened.get(digest) for digest in digests] == data
    opened.close()


def test_an_index_stays_where_a_statement_alone_is_wrong(
    folder: FolderBlobs, tmp_path: Path
) -> None:
    folder.put_many(DATA)
    with pytest.raises(sqlite3.IntegrityError), folder._packs._index() as index:
        index.execute("INSERT INTO pack VALUES ('x', NULL)")
    assert (tmp_path / "blobs" / "packs" / "index.db").exists()


def test_a_pack_the_index_does_not_know_is_read_when_the_folder_is_opened(
    folder: FolderBlobs, tmp_path: Path, clock: FakeClock
) -> None:
    """kill -9 between the pack and its rows; the mirror of it: rows of a pack that is gone."""
    digests = folder.put_many(DATA)
    (pack,) = packs(tmp_path)
    away = tmp_path / "away"
    pack.rename(away)
    without = again(tmp_path, clock)
    assert list(without.digests()) == []
    with pytest.raises(NotFoundError):
        without.get(digests[0])
    without.close()
    away.rename(pack)
    opened = again(tmp_path, clock)
    assert [opened.get(digest) for digest in digests] == DATA
    opened.close()


def test_a_cut_or_foreign_pack_is_passed_over(
    folder: FolderBlobs, tmp_path: Path, clock: FakeClock
) -> None:
    digests = folder.put_many(DATA)
    (pack,) = packs(tmp_path)
    content = pack.read_bytes()
    for name, data in (("cut", content[:-7]), ("tiny", b"x"), ("none", b""), ("odd", content[9:])):
        (pack.parent / f"{name}.pack").write_bytes(data)
    opened = again(tmp_path, clock)
    assert sorted(opened.digests()) == sorted(digests)
    opened.close()


def test_a_pack_goes_with_its_last_blob_and_shrinks_before(
    folder: FolderBlobs, tmp_path: Path
) -> None:
    digests = folder.put_many(DATA)
    (pack,) = packs(tmp_path)
    size = pack.stat().st_size
    for digest in digests[:8]:
        folder.delete(digest)
    (smaller,) = packs(tmp_path)
    assert smaller != pack
    assert smaller.stat().st_size < size / 2
    assert [folder.get(digest) for digest in digests[8:]] == DATA[8:]
    for digest in digests:
        folder.delete(digest)
    assert packs(tmp_path) == []


def test_a_shrunk_pack_keeps_the_time_of_its_blobs(folder: FolderBlobs, clock: FakeClock) -> None:
    digests = folder.put_many(DATA)
    clock.advance(400)
    folder.put_many(DATA[8:])
    for digest in digests[:8]:
        assert folder.discard(digest, idle_s=300)
    assert not any(folder.discard(digest, idle_s=300) for digest in digests[8:])
    clock.advance(400)
    assert all(folder.discard(digest, idle_s=300) for digest in digests)


def test_changed_bytes_are_refused_and_mended_by_putting_them_again(
    folder: FolderBlobs, tamper: Tamper
) -> None:
    digests = folder.put_many(DATA)
    tamper(digests[3], b"changed")
    with pytest.raises(RefusedError):
        folder.get(digests[3])
    folder.put_many(DATA)
    assert folder.get(digests[3]) == DATA[3]


def test_an_index_that_another_process_holds_is_waited_for_and_then_said(
    folder: FolderBlobs, tmp_path: Path
) -> None:
    digests = folder.put_many(DATA)
    assert folder._packs._opened is not None
    folder._packs._opened.execute("PRAGMA busy_timeout = 50")
    holder = sqlite3.connect(tmp_path / "blobs" / "packs" / "index.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="index of the packs"):
        folder.put_many([b"a", b"b", b"c", b"d"])
    holder.execute("ROLLBACK")
    holder.close()
    assert folder.get(digests[0]) == DATA[0]


def test_a_full_disk_leaves_nothing_behind(
    folder: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError, match="the disk is full"):
            folder.put_many(DATA)
    assert packs(tmp_path) == []
    assert not list((tmp_path / "blobs" / "passing").iterdir())
    assert list(folder.digests()) == []
    assert len(folder.put_many(DATA)) == 12


def test_threads_may_put_batches_at_once(folder: FolderBlobs) -> None:
    def put(number: int) -> bool:
        data = [b"%d" % ((number + step) % 30) for step in range(8)]
        return [folder.get(digest) for digest in folder.put_many(data)] == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(put, range(60)))
    assert len(list(folder.digests())) == 30


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "many", "delete", "reopen"]),
            st.lists(st.integers(0, 12), min_size=4, max_size=9),
        ),
        max_size=12,
    )
)
def test_whatever_is_done_the_folder_holds_what_it_should(
    steps: list[tuple[str, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = FakeClock()
    url = f"file://{tmp_path_factory.mktemp('blobs')}"
    blobs, expected = open_blobs(url, clock=clock), dict[Digest, bytes]()
    for step, numbers in steps:
        data = [b"%d" % number * 50 for number in numbers]
        if step == "put":
            expected[blobs.put(data[0])] = data[0]
        elif step == "many":
            expected |= dict(zip(blobs.put_many(data), data, strict=True))
        elif step == "delete":
            for each in data[:2]:
                blobs.delete(digest_of(each))
                expected.pop(digest_of(each), None)
        else:
            blobs.close()
            blobs = open_blobs(url, clock=clock)
    assert {digest: blobs.get(digest) for digest in blobs.digests()} == expected
    blobs.close()
