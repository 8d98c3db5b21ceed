"""Records in SQLite keep the contracts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lineside.store import Records, open_records
from lineside.testing import FakeClock
from lineside.testing.store import (
    DocumentsContract,
    EventLogContract,
    FrameIndexContract,
    RecordsContract,
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/records.db"


@pytest.fixture
def records(url: str, clock: FakeClock) -> Iterator[Records]:
    with open_records(url, clock=clock) as opened:
        yield opened


class TestDocuments(DocumentsContract):
    pass


class TestEventLog(EventLogContract):
    pass


class TestFrameIndex(FrameIndexContract):
    pass


class TestRecords(RecordsContract):
    pass
