"""Records and blobs in memory keep the contracts."""

from collections.abc import Iterator

import pytest

from lineside.core import Digest
from lineside.store import Blobs, Records, open_blobs, open_records
from lineside.store.memory import MemoryBlobs
from lineside.testing import FakeClock
from lineside.testing.store import (
    BlobsContract,
    DocumentsContract,
    EventLogContract,
    FrameIndexContract,
    RecordsContract,
    Tamper,
)


@pytest.fixture
def records(clock: FakeClock) -> Iterator[Records]:
    with open_records("memory://", clock=clock) as opened:
        yield opened


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


class TestDocuments(DocumentsContract):
    pass


class TestEventLog(EventLogContract):
    pass


class TestFrameIndex(FrameIndexContract):
    pass


class TestRecords(RecordsContract):
    pass


def test_each_opening_has_its_own(clock: FakeClock) -> None:
    with (
        open_records("memory://", clock=clock) as one,
        open_records("memory://", clock=clock) as two,
    ):
        one.documents.put("order", "1", body={})
        assert two.documents.page("order") == []
