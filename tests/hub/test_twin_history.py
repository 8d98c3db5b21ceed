"""The twin of the past is the one that the hub showed then."""

import runpy
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lineside.core import NotFoundError, rfc3339, to_plain
from lineside.core.factory import SLOTS
from lineside.hub import Role, Services
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.eventlog.twin_history import history_span, known_twin_at, twin_at
from lineside.store import Records, open_records
from lineside.streams import Event
from lineside.testing import FakeClock
from lineside.testing.events import (
    factory_event,
    picture_event,
    plant_event,
    small_plant,
    station_event,
    stock_event,
)
from lineside.twin import (
    CHECKPOINT_EVERY,
    Snapshot,
    first_checkpoint,
    forget_checkpoints,
    initial,
    load_checkpoint,
    save_checkpoint,
)
from tests.hub.conftest import Line

PLANT = small_plant()
EXAMPLE = Path(__file__).parents[2] / "examples" / "twin" / "twin_client.py"
RED = dict.fromkeys(SLOTS, "red")
DAY = [
    picture_event(RED, at_s=1),
    stock_event(RED, at_s=2),
    station_event("hbw", active=True, at_s=3),
    picture_event({**RED, "A2": "empty"}, at_s=5),
    picture_event({**RED, "A2": "blue"}, at_s=4),  # captured before, arrived after
    factory_event("SHIPPED", "red", at_s=6),
]


@pytest.fixture
def records(tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    with open_records(f"sqlite:///{tmp_path / 'records.db'}", clock=clock) as opened:
        yield opened


def readings(count: int, *, first: int = 0) -> list[Event]:
    """As many sensor messages, a second apart in capture."""
    topic = "i/ldr"
    return [
        plant_event("sensor", at_s=100.0 + first + n, topic=topic, br=str(n % 90))
        for n in range(count)
    ]


def test_every_moment_of_the_log_gives_the_state_of_that_moment(
    records: Records, clock: FakeClock
) -> None:
    ledger = Ledger(records, plant=PLANT, clock=clock)
    begin = clock.now()
    shown = []
    for event in DAY:
        ledger.record([event])
        shown.append((clock.now(), ledger.state))
        clock.advance(90)
    for at, state in shown:
        assert twin_at(records, at, plant=PLANT) == state
        assert twin_at(records, at + timedelta(seconds=89), plant=PLANT) == state
    before = begin - timedelta(seconds=1)
    assert twin_at(records, before, plant=PLANT) == initial(PLANT)


def test_a_long_log_is_folded_from_the_checkpoint_before_the_time(
    records: Records, clock: FakeClock
) -> None:
    ledger = Ledger(records, plant=PLANT, clock=clock)
    ledger.record([DAY[0]])
    for n in range(2):
        ledger.record(readings(CHECKPOINT_EVERY, first=n * CHECKPOINT_EVERY))
        clock.advance(3600)
    asked, state = clock.now(), ledger.state
    clock.advance(3600)
    ledger.record([picture_event({**RED, "A2": "blue"}, at_s=9000)])
    kept = load_checkpoint(records.documents, upto=2 * CHECKPOINT_EVERY, plant=PLANT)
    assert kept is not None
    assert kept.position > CHECKPOINT_EVERY
    assert twin_at(records, asked, plant=PLANT) == state
    early = load_checkpoint(records.documents, upto=CHECKPOINT_EVERY - 1, plant=PLANT)
    assert early is None


def test_checkpoints_that_are_missing_are_kept_by_who_asks(
    records: Records, clock: FakeClock
) -> None:
    ledger = Ledger(records, plant=PLANT, clock=clock)
    ledger.record([DAY[0], *readings(CHECKPOINT_EVERY - 2)])
    other = small_plant(slots=SLOTS[:3])  # declared otherwise: nothing kept fits
    assert load_checkpoint(records.documents, upto=10**6, plant=other) is None
    clock.advance(3600)
    ledger.record(readings(1500, first=CHECKPOINT_EVERY))
    state = twin_at(records, clock.now(), plant=other)
    assert load_checkpoint(records.documents, upto=10**6, plant=other) is None
    assert twin_at(records, clock.now(), plant=other, keep=records.documents) == state
    assert twin_at(records, clock.now(), plant=other) == state
    assert load_checkpoint(records.documents, upto=10**6, plant=other) is not None


def test_where_entries_were_forgotten_history_begins_behind_them(
    records: Records, clock: FakeClock
) -> None:
    ledger = Ledger(records, plant=PLANT, clock=clock)
    ledger.record(DAY)
    clock.advance(60)
    ledger.anchor()
    clock.advance(60)
    ledger.record([picture_event({**RED, "A3": "blue"}, at_s=200)])
    ledger.keep_snapshot()
    kept_at, state = clock.now(), ledger.state
    clock.advance(60)
    hub = hub_source(PLANT.site)
    forgotten = sum(
        records.log.prune(source, before=clock.now(), anchors=hub) for source in records.log.heads()
    )
    assert forgotten
    span = history_span(records, plant=PLANT, now=clock.now())
    assert span is not None
    assert (span.begin, span.end) == (kept_at, clock.now())
    assert twin_at(records, kept_at, plant=PLANT) == state
    with pytest.raises(NotFoundError, match="no state of the twin"):
        known_twin_at(
            records, rfc3339(kept_at - timedelta(seconds=70)), plant=PLANT, now=clock.now()
        )


def test_checkpoints_go_with_the_entries_that_they_stand_for(records: Records) -> None:
    state, documents = initial(PLANT), records.documents
    here = [100 + block * CHECKPOINT_EVERY for block in range(50)]
    for position in here:
        save_checkpoint(documents, Snapshot(state=state, position=position), plant=PLANT)
    forget_checkpoints(documents, before=here[30] + 1, plant=PLANT)
    assert load_checkpoint(documents, upto=here[30] - 1, plant=PLANT) is None
    ids = [one.id for one in documents.page("twin-checkpoint", limit=100)]
    assert ids == [f"hall/{block:012d}" for block in range(30, 50)]
    for since, first in ((0, 30), (here[30], 30), (here[30] + 1, 31)):
        found = first_checkpoint(documents, since=since, upto=here[-1], plant=PLANT)
        assert found is not None
        assert found.position == here[first]
    assert first_checkpoint(documents, since=0, upto=here[29], plant=PLANT) is None


def test_the_twin_of_a_time_is_written_nowhere_by_who_only_asks(
    records: Records, clock: FakeClock
) -> None:
    ledger = Ledger(records, plant=PLANT, clock=clock)
    ledger.record([DAY[0], *readings(CHECKPOINT_EVERY)])
    before = records.documents.page("twin-checkpoint")
    other = small_plant(slots=SLOTS[:3])
    known_twin_at(records, rfc3339(clock.now()), plant=other, now=clock.now())
    assert records.documents.page("twin-checkpoint") == before != []


def test_the_twin_of_a_time_is_answered_over_http(
    client: TestClient, line: Line, clock: FakeClock
) -> None:
    assert client.get("/api/v1/twin", params={"at": "2026-01-01T12:00:00Z"}).status_code == 404
    line.see("blue")
    at = rfc3339(clock.now())
    then = client.get("/api/v1/twin").json()
    clock.advance(600)
    line.see("")
    assert client.get("/api/v1/twin").json() != then
    assert client.get("/api/v1/twin", params={"at": at}).json() == then
    early = client.get("/api/v1/twin", params={"at": "2020-01-01T00:00:00Z"})
    assert (early.status_code, at in early.json()["fix"]) == (404, True)
    assert client.get("/api/v1/twin", params={"at": "yesterday"}).status_code == 400


def test_the_twin_of_a_time_is_downloaded(client: TestClient, line: Line, clock: FakeClock) -> None:
    line.see("blue")
    at = rfc3339(clock.now())
    then = client.get("/api/v1/twin").json()
    clock.advance(600)
    line.see("")
    found = client.get("/api/v1/twin/export", params={"at": at})
    assert found.json()["state"] == {**then, "recent": []}
    assert 'filename="twin-2026-' in found.headers["content-disposition"]
    packed = client.get("/api/v1/twin/export", params={"format": "aasx", "at": at})
    assert packed.headers["content-type"] == "application/asset-administration-shell-package"
    assert packed.content[:2] == b"PK"
    assert client.get("/api/v1/twin/export", params={"format": "pdf"}).status_code == 400


def test_the_example_in_python_follows_the_twin(
    hub: Services, served: str, line: Line, clock: FakeClock
) -> None:
    client = runpy.run_path(str(EXAMPLE))
    token = hub.auth.issue_token("reader", kind="api", role=Role.VIEWER)
    line.see("blue")
    with closing(client["states"](served, token)) as states:
        assert next(states) == to_plain(hub.ledger.state)
        before = hub.ledger.state.revision
        clock.advance(1)
        line.see("red")
        then = next(states)
    assert then["revision"] > before
    assert then == to_plain(hub.ledger.state)
