"""The chains: any change of a kept row is found, and appending is what a simple list would be."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import ConflictError, RefusedError, digest_of
from lineside.store import (
    CHECKPOINT,
    LogEntry,
    Logged,
    Records,
    anchor,
    check_anchors,
    open_records,
)
from lineside.store.chain import Link, chain_hash, fault_of
from lineside.store.records import SqlRecords
from lineside.store.tables import chains, entries
from lineside.testing import FakeClock
from lineside.testing.store import HUB, NOON, log_entry

PLANT = "/site/plant"
CLOCK = FakeClock()


@contextmanager
def some_records() -> Iterator[SqlRecords]:
    with open_records("memory://", clock=FakeClock()) as records:
        assert isinstance(records, SqlRecords)
        yield records


def change(records: SqlRecords, statement: sa.UpdateBase) -> int:
    """Write behind the store's back; how many rows were touched."""
    with records._session.writing() as connection:
        return connection.execute(statement).rowcount


def all_well(records: Records) -> bool:
    """What an inspector of the log would see."""
    known = records.log.heads()
    if set(known) != {HUB, PLANT} or not check_anchors(records.log, source=HUB).ok:
        return False
    return all(records.log.verify(source).ok for source in known)


def fill(records: Records, *, count: int) -> None:
    for number in range(count):
        records.log.append([log_entry(number, source=PLANT), log_entry(number)])
    assert anchor(records.log, clock=records.clock, source=HUB) is not None
    assert all_well(records)


TEXT = st.sampled_from(["", "evt_000001", "lineside.event.v1", "sha256:" + "0" * 64, HUB, "x"])
NUMBER = st.integers(min_value=-3, max_value=40)
TIME = st.datetimes(
    min_value=NOON.replace(tzinfo=None) - timedelta(days=1),
    max_value=NOON.replace(tzinfo=None) + timedelta(days=1),
    timezones=st.just(UTC),
)
BODY = st.one_of(
    st.binary(max_size=40), st.just(log_entry(1).body), st.just(log_entry(9, source=PLANT).body)
)
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "source_position": NUMBER,
    "id": TEXT,
    "type": TEXT,
    "subject": TEXT,
    "captured_at_us": TIME,
    "arrived_at_us": TIME,
    "body": BODY,
    "previous": TEXT,
    "hash": TEXT,
    "chain": NUMBER,
}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_change_of_an_entry_is_found(data: st.DataObject) -> None:
    column = data.draw(st.sampled_from(sorted(CHANGES)))
    position = data.draw(st.integers(min_value=1, max_value=9))
    value = data.draw(CHANGES[column])
    with some_records() as records:
        fill(records, count=4)
        row = entries.c.position == position
        with records._session.reading() as connection:
            before = connection.execute(sa.select(entries.c[column]).where(row)).scalar_one()
        with suppress(ConflictError):  # the database itself forbids a number twice
            change(records, sa.update(entries).where(row).values({column: value}))
            assert all_well(records) is (value == before)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_change_of_a_chains_head_is_found(data: st.DataObject) -> None:
    column, values = data.draw(
        st.sampled_from(
            [("length", NUMBER), ("head_position", NUMBER), ("head_hash", TEXT), ("source", TEXT)]
        )
    )
    value = data.draw(values)
    source = data.draw(st.sampled_from([HUB, PLANT]))
    with some_records() as records:
        fill(records, count=3)
        row = chains.c.source == source
        with records._session.reading() as connection:
            before = connection.execute(sa.select(chains.c[column]).where(row)).scalar_one()
        with suppress(ConflictError):  # the database itself forbids a name twice
            change(records, sa.update(chains).where(row).values({column: value}))
            assert all_well(records) is (value == before)


@settings(max_examples=40, deadline=None)
@given(gone=st.sets(st.integers(min_value=1, max_value=9), min_size=1))
def test_entries_taken_out_are_missed(gone: set[int]) -> None:
    with some_records() as records:
        fill(records, count=4)
        change(records, sa.delete(entries).where(entries.c.position.in_(gone)))
        assert not all_well(records)


def test_a_chain_written_anew_with_right_hashes_is_found_by_its_anchor() -> None:
    with some_records() as records:
        fill(records, count=4)
        link = Link()
        for logged in records.log.read(source=PLANT):
            entry = log_entry(logged.source_position + 100, source=PLANT)
            forged = chain_hash(
                previous=link.hash,
                source_position=logged.source_position,
                arrived_at=logged.arrived_at,
                body=entry.body,
            )
            values = {"id": entry.id, "body": entry.body, "previous": link.hash, "hash": forged}
            change(
                records,
                sa.update(entries).where(entries.c.position == logged.position).values(values),
            )
            link = Link(source_position=logged.source_position, hash=forged)
        change(
            records, sa.update(chains).where(chains.c.source == PLANT).values(head_hash=link.hash)
        )
        assert records.log.verify(PLANT).ok
        report = check_anchors(records.log, source=HUB)
        assert (report.ok, report.broken_at) == (False, 5)
        assert "another hash" in report.reason


def test_an_end_cut_off_with_a_head_to_match_is_found_by_its_anchor() -> None:
    with some_records() as records:
        fill(records, count=4)
        last, before = records.log.read(source=PLANT, newest_first=True, limit=2)
        change(records, sa.delete(entries).where(entries.c.position == last.position))
        change(
            records,
            sa.update(chains)
            .where(chains.c.source == PLANT)
            .values(
                length=before.source_position,
                head_position=before.position,
                head_hash=before.hash,
            ),
        )
        assert records.log.verify(PLANT).ok
        assert "is gone" in check_anchors(records.log, source=HUB).reason


def test_a_report_names_the_place_and_the_reason() -> None:
    with some_records() as records:
        fill(records, count=4)
        body = log_entry(2, source=PLANT).body.replace(b'"number":2', b'"number":7')
        change(records, sa.update(entries).where(entries.c.position == 5).values(body=body))
        report = records.log.verify(PLANT)
        assert (report.ok, report.broken_at, report.entries) == (False, 3, 2)
        assert report.reason == "its hash is not that of its content"


def test_a_broken_chain_is_not_pruned() -> None:
    with some_records() as records:
        fill(records, count=6)
        change(
            records,
            sa.update(entries).where(entries.c.position == 5).values(hash=digest_of(b"other")),
        )
        with pytest.raises(RefusedError, match="not as it was written"):
            records.log.prune(PLANT, before=NOON + timedelta(days=1), anchors=HUB)
        assert len(records.log.read(source=PLANT)) == 6


def test_a_checkpoint_that_was_changed_is_found() -> None:
    with some_records() as records:
        fill(records, count=6)
        records.log.prune(PLANT, before=NOON + timedelta(days=1), anchors=HUB)
        good = records.documents.get(CHECKPOINT, PLANT).body
        for wrong in ({"hash": digest_of(b"x")}, {"source_position": 3}):
            records.documents.put(CHECKPOINT, PLANT, body={**good, **wrong})
            assert not records.log.verify(PLANT).ok
        records.documents.put(CHECKPOINT, PLANT, body={"hash": 7})
        with pytest.raises(RefusedError, match="damaged"):
            records.log.verify(PLANT)
        records.documents.delete(CHECKPOINT, PLANT)
        assert "missing" in records.log.verify(PLANT).reason


def test_long_chains_are_walked_and_pruned_in_steps() -> None:
    with some_records() as records:
        records.log.append([log_entry(number, source=PLANT) for number in range(12_345)])
        anchor(records.log, clock=records.clock, source=HUB)
        assert records.log.verify(PLANT).entries == 12_345
        later = NOON + timedelta(days=1)
        assert records.log.prune(PLANT, before=later, anchors=HUB) == 12_344
        assert records.log.verify(PLANT).ok


def oracle(batches: list[list[LogEntry]], *, arrived_at: datetime) -> list[Logged]:
    """The log as a plain list."""
    kept: list[Logged] = []
    for entry in (entry for batch in batches for entry in batch):
        mine = [logged for logged in kept if logged.entry.source == entry.source]
        if any(logged.entry.id == entry.id for logged in mine):
            continue
        previous = mine[-1].hash if mine else ""
        kept.append(
            Logged(
                position=len(kept) + 1,
                source_position=len(mine) + 1,
                entry=entry,
                arrived_at=arrived_at,
                previous=previous,
                hash=chain_hash(
                    previous=previous,
                    source_position=len(mine) + 1,
                    arrived_at=arrived_at,
                    body=entry.body,
                ),
            )
        )
    return kept


ENTRIES = st.builds(
    lambda number, source: log_entry(number, source=source),
    st.integers(min_value=0, max_value=12),
    st.sampled_from([HUB, PLANT, "/site/device/a"]),
)


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.lists(ENTRIES, max_size=6), max_size=8))
def test_batches_in_any_order_with_any_repetition_give_what_a_list_would(
    batches: list[list[LogEntry]],
) -> None:
    with some_records() as records:
        for batch in batches:
            answers = records.log.append(batch)
            assert [logged.entry for logged in answers] == batch
        expected = oracle(batches, arrived_at=NOON)
        assert records.log.read() == expected
        for batch in batches:
            assert all(logged.duplicate for logged in records.log.append(batch))
        assert records.log.read() == expected
        assert all(records.log.verify(source).ok for source in records.log.heads())


@given(cut=st.integers(min_value=0, max_value=999))
def test_an_arrival_time_finer_than_the_hash_is_a_change(cut: int) -> None:
    entry = log_entry(1)
    whole = Logged(
        position=1,
        source_position=1,
        entry=entry,
        arrived_at=NOON,
        previous="",
        hash=chain_hash(previous="", source_position=1, arrived_at=NOON, body=entry.body),
    )
    moved = replace(whole, arrived_at=NOON + timedelta(microseconds=cut))
    assert (fault_of(moved, after=Link()) == "") is (cut == 0)
