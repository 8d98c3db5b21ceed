"""Records in memory, in SQLite and in PostgreSQL keep the contracts."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineside.store import Records, open_records, postgres
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from lineside.testing.store import (
    DocumentsContract,
    EventLogContract,
    FrameFilterContract,
    FrameIndexContract,
    LeasesContract,
    Outlast,
    RecordsContract,
)
from tests.store.rule_sums import RuleSumsContract


@pytest.fixture(
    params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.service)],
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/records.db"


@pytest.fixture
def records(url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    # A transaction in which a test waits for its other thread is not ended meanwhile.
    monkeypatch.setattr(postgres, "REST_S", int(LONG_S))
    with open_records(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def outlast(url: str, clock: FakeClock) -> Outlast:
    """Moves the clock; the one of a PostgreSQL server cannot be moved."""
    return threading.Event().wait if url.startswith("postgresql") else clock.advance


class TestDocuments(DocumentsContract):
    pass


class TestEventLog(EventLogContract):
    pass


class TestFrameIndex(FrameIndexContract):
    pass


class TestFrameFilter(FrameFilterContract):
    pass


class TestRecords(RecordsContract):
    pass


class TestLeases(LeasesContract):
    pass


class TestRuleSums(RuleSumsContract):
    pass
