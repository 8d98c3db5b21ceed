"""Blobs in memory keep the contract; records in memory are loaded whole or not at all."""

import pytest

from lineside.core import ConflictError, Digest, digest_of
from lineside.store import Blobs, Records, open_blobs, open_records
from lineside.store.memory import MemoryBlobs
from lineside.testing import FakeClock
from lineside.testing.store import (
    BlobsContract,
    Tamper,
    frame_row,
    log_entry,
)


@pytest.fixture
def blobs(clock: FakeClock) -> Blobs:
    return open_blobs("memory://", clock=clock)


@pytest.fixture
def tamper(blobs: Blobs) -> Tamper:
    assert isinstance(blobs, MemoryBlobs)
    kept = blobs._kept

    def overwrite(digest: Digest, data: bytes) -> None:
        kept[digest] = data

    return overwrite


class TestBlobs(BlobsContract):
    pass


def test_each_opening_has_its_own(clock: FakeClock) -> None:
    with (
        open_records("memory://", clock=clock) as one,
        open_records("memory://", clock=clock) as two,
    ):
        one.documents.put("order", "1", body={})
        assert two.documents.page("order") == []


def test_many_rows_of_every_kind_are_loaded_as_they_were(
    records: Records, clock: FakeClock
) -> None:
    for number in range(600):
        body = {"sample": digest_of(b"%d" % number)}
        records.documents.put("sample", f"{number:04d}", body=body)
    records.log.append([log_entry(number, source=f"/s/{number % 3}") for number in range(1700)])
    records.frames.add([frame_row(second, pins=("order:1",)) for second in range(700)])
    with open_records("memory://", clock=clock) as other:
        other.load(records.export())
        assert list(other.export()) == list(records.export())
        assert other.log.heads() == records.log.heads()
        named = [digest_of(b"599"), frame_row(699).digest]
        assert other.named([*named, digest_of(b"600")]) == set(named)
        assert other.log.append([log_entry(9999)])[0].position == 1701


def test_rows_that_cannot_be_loaded_leave_the_records_empty(
    records: Records, clock: FakeClock
) -> None:
    records.frames.add([frame_row(1), frame_row(2)])
    rows = list(records.export())
    with open_records("memory://", clock=clock) as other:
        with pytest.raises(ConflictError):
            other.load([*rows, rows[0]])
        assert list(other.export()) == []
        other.load(rows)
        assert list(other.export()) == rows
