"""Records in PostgreSQL keep the contracts."""

from collections.abc import Iterator

import pytest

from lineside.store import Records, open_records
from lineside.testing import FakeClock
from lineside.testing.store import (
    DocumentsContract,
    EventLogContract,
    FrameIndexContract,
    RecordsContract,
)

pytestmark = pytest.mark.service


@pytest.fixture
def records(postgres_url: str, clock: FakeClock) -> Iterator[Records]:
    with open_records(postgres_url, clock=clock) as opened:
        yield opened


class TestDocuments(DocumentsContract):
    pass


class TestEventLog(EventLogContract):
    pass


class TestFrameIndex(FrameIndexContract):
    pass


class TestRecords(RecordsContract):
    pass
