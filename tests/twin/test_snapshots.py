"""A snapshot and the log behind it give the live state, on the real stores."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core.factory import SLOTS
from lineside.store import LogEntry, Records, open_records
from lineside.streams import Event, encode_event
from lineside.testing import FakeClock
from lineside.testing.events import after, factory_event, picture_event, small_plant, stock_event
from lineside.twin import (
    Snapshot,
    initial,
    load_snapshot,
    order_event,
    rebuild,
    replay,
    save_snapshot,
)

PLANT = small_plant()
EVENTS = [
    picture_event(dict.fromkeys(SLOTS, "red"), at_s=1),
    order_event("ord_1", "placed", at=after(2), site="hall", colour="red", slot="A2"),
    order_event("ord_1", "sending", at=after(2), site="hall"),
    stock_event(dict.fromkeys(SLOTS, "red"), at_s=3),
    factory_event("ORDERED", "red", at_s=4),
    picture_event({**dict.fromkeys(SLOTS, "red"), "A2": "empty"}, at_s=5),
    factory_event("SHIPPED", "red", at_s=6),
]


@pytest.fixture(params=["memory", "sqlite"])
def records(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(url, clock=clock) as opened:
        yield opened


def logged(records: Records, *events: Event) -> None:
    entries = [
        LogEntry(
            id=event.id, source=event.source, type=event.type, subject=event.subject,
            captured_at=event.time, body=encode_event(event),
        )
        for event in events
    ]  # fmt: skip
    records.log.append(entries)


def test_the_log_alone_gives_the_live_state(records: Records) -> None:
    logged(records, *EVENTS)
    rebuilt = rebuild(records.log, plant=PLANT)
    assert rebuilt.state == replay(EVENTS, plant=PLANT)
    assert rebuilt.position == records.log.read(newest_first=True, limit=1)[0].position


@pytest.mark.parametrize("cut", range(len(EVENTS) + 1))
def test_a_snapshot_and_what_came_after_give_the_live_state(records: Records, cut: int) -> None:
    logged(records, *EVENTS[:cut])
    save_snapshot(records.documents, rebuild(records.log, plant=PLANT), plant=PLANT)
    logged(records, *EVENTS[cut:])
    kept = load_snapshot(records.documents, plant=PLANT)
    assert kept is not None
    assert kept.state == replay(EVENTS[:cut], plant=PLANT)
    assert rebuild(records.log, plant=PLANT, snapshot=kept).state == replay(EVENTS, plant=PLANT)


def test_a_snapshot_taken_before_its_entries_were_folded_twice_changes_nothing(
    records: Records,
) -> None:
    logged(records, *EVENTS)
    whole = rebuild(records.log, plant=PLANT)
    behind = Snapshot(state=whole.state, position=0)
    assert rebuild(records.log, plant=PLANT, snapshot=behind).state == whole.state


def test_there_is_no_snapshot_before_one_was_saved(records: Records) -> None:
    assert load_snapshot(records.documents, plant=PLANT) is None


def test_a_snapshot_of_another_plant_file_is_passed_over(records: Records) -> None:
    save_snapshot(records.documents, Snapshot(state=initial(PLANT), position=0), plant=PLANT)
    assert load_snapshot(records.documents, plant=PLANT) is not None
    fewer = small_plant(slots=SLOTS[:3])
    assert load_snapshot(records.documents, plant=fewer) is None
    assert load_snapshot(records.documents, plant=replace(PLANT, site="other")) is None


@pytest.mark.parametrize(
    "spoil",
    [
        {"schema": "lineside.twin-snapshot/9"},
        {"state": {"schema": "lineside.twin/0", "mood": "good"}},
        {"state": None},
        {"position": "far"},
    ],
)
def test_a_snapshot_that_cannot_be_read_is_passed_over(
    records: Records, spoil: dict[str, object]
) -> None:
    save_snapshot(records.documents, Snapshot(state=initial(PLANT), position=0), plant=PLANT)
    body = records.documents.get("twin", "hall").body
    records.documents.put("twin", "hall", body={**body, **spoil})
    assert load_snapshot(records.documents, plant=PLANT) is None


def test_an_unreadable_entry_in_the_log_does_not_stop_a_rebuild(records: Records) -> None:
    odd = replace(EVENTS[3], id="evt_odd", data={"ts": "2026-01-01T12:00:03Z", "stockItems": 3})
    logged(records, *EVENTS[:3], odd, *EVENTS[3:])
    assert rebuild(records.log, plant=PLANT).state == replay(EVENTS, plant=PLANT)
