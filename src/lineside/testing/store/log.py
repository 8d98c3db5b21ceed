"""The suite of every event log."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from lineside.core import InvalidError, NotFoundError, encode
from lineside.store import ANCHOR_TYPE, CHECKPOINT, Logged, Records, anchor, check_anchors
from lineside.store.contract import VERIFIED
from lineside.testing.clock import NOON, FakeClock
from lineside.testing.store.rows import HUB, log_entry

PLANT = "/site/plant"


def ids(logged: list[Logged]) -> list[str]:
    """The events' ids."""
    return [one.entry.id for one in logged]


class EventLogContract:
    """Contract suite of event logs."""

    def test_an_entry_comes_back_as_it_was_offered(
        self, records: Records, clock: FakeClock
    ) -> None:
        entry = log_entry(1, subject="i/cam", at=NOON + timedelta(microseconds=123000))
        (logged,) = records.log.append([entry])
        assert logged.entry == entry
        assert (logged.source_position, logged.previous) == (1, "")
        assert (logged.arrived_at, logged.duplicate) == (clock.now(), False)
        assert records.log.get("evt_000001") == logged
        assert records.log.read() == [logged]

    def test_nothing_may_be_appended(self, records: Records) -> None:
        assert records.log.append([]) == []
        assert records.log.heads() == {}

    def test_each_source_has_a_chain_of_its_own(self, records: Records) -> None:
        records.log.append([log_entry(1), log_entry(2, source=PLANT), log_entry(3)])
        records.log.append([log_entry(4), log_entry(5, source=PLANT)])
        hub, plant = (records.log.read(source=source) for source in (HUB, PLANT))
        for chain in (hub, plant):
            assert [logged.source_position for logged in chain] == list(range(1, len(chain) + 1))
            assert [logged.previous for logged in chain[1:]] == [one.hash for one in chain[:-1]]
        assert records.log.heads() == {HUB: hub[-1], PLANT: plant[-1]}
        assert set(records.log.sources()) == {HUB, PLANT}

    def test_appending_twice_keeps_one(self, records: Records, clock: FakeClock) -> None:
        first = records.log.append([log_entry(1), log_entry(2)])
        clock.advance(60)
        again = records.log.append([log_entry(2), log_entry(3), log_entry(3), log_entry(1)])
        assert [logged.duplicate for logged in again] == [True, False, True, True]
        assert again[0] == replace(first[1], duplicate=True)
        assert again[2] == replace(again[1], duplicate=True)
        assert ids(records.log.read()) == ["evt_000001", "evt_000002", "evt_000003"]

    def test_two_sources_may_use_one_id(self, records: Records) -> None:
        first, second = records.log.append([log_entry(1), log_entry(1, source=PLANT)])
        assert not second.duplicate
        assert records.log.get("evt_000001") == first

    def test_an_entry_that_cannot_be_kept_keeps_the_others_out(self, records: Records) -> None:
        with pytest.raises(InvalidError):
            records.log.append([log_entry(1), replace(log_entry(2), type="other")])
        assert records.log.read() == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"id": "evt_x"},
            {"source": "/site/other"},
            {"type": "lineside.other.v1"},
            {"subject": "other"},
            {"captured_at": NOON + timedelta(milliseconds=2)},
            {"captured_at": NOON.replace(tzinfo=None)},
            {"body": b""},
            {"body": b"[]"},
            {"body": b'{"id":"evt_000001"}'},
            {"body": b"\xff\xfe"},
            {"id": ""},
            {"subject": "nul \x00"},
            {"source": "long" * 600},
        ],
    )
    def test_attributes_that_differ_from_the_body_are_refused(
        self, records: Records, wrong: dict[str, object]
    ) -> None:
        with pytest.raises(InvalidError):
            records.log.append([replace(log_entry(1), **wrong)])  # type: ignore[arg-type]  # on purpose

    def test_the_capture_time_is_the_bodys_own(self, records: Records) -> None:
        entry = log_entry(1)
        offered = entry.captured_at.astimezone(timezone(timedelta(hours=2)))
        (logged,) = records.log.append(
            [replace(entry, captured_at=offered + timedelta(microseconds=999))]
        )
        assert logged.entry == entry
        assert records.log.read() == [logged]

    def test_readers_go_on_where_they_were(self, records: Records) -> None:
        records.log.append([log_entry(number) for number in range(1, 8)])
        found: list[Logged] = []
        while page := records.log.read(after=found[-1].position if found else 0, limit=3):
            found += page
        assert ids(found) == [f"evt_{number:06d}" for number in range(1, 8)]
        positions = [logged.position for logged in found]
        assert positions == sorted(set(positions))
        assert positions[0] >= 1

    def test_newest_first_goes_back_from_the_end(self, records: Records) -> None:
        records.log.append([log_entry(number) for number in range(1, 6)])
        newest = records.log.read(newest_first=True, limit=2)
        assert ids(newest) == ["evt_000005", "evt_000004"]
        before = records.log.read(newest_first=True, after=newest[-1].position, limit=9)
        assert ids(before) == ["evt_000003", "evt_000002", "evt_000001"]

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_readers_may_ask_for_one_source_type_or_subject(
        self, records: Records, *, newest_first: bool
    ) -> None:
        entries = [
            log_entry(
                number,
                source=(HUB, PLANT)[number % 2],
                kind=("a.v1", "b.v1", "c.v1")[number % 3],
                subject=("", "x", "y", "z")[number % 4],
            )
            for number in range(48)
        ]
        records.log.append(entries)
        for source in ("", HUB, PLANT, "/none"):
            for kind in ("", "b.v1"):
                for subject in ("", "y"):
                    expected = [
                        entry.id
                        for entry in entries
                        if source in ("", entry.source)
                        and kind in ("", entry.type)
                        and subject in ("", entry.subject)
                    ]
                    found = records.log.read(
                        source=source, type=kind, subject=subject, newest_first=newest_first
                    )
                    assert ids(found) == (expected[::-1] if newest_first else expected)

    def test_an_absent_event_is_not_found(self, records: Records) -> None:
        with pytest.raises(NotFoundError):
            records.log.get("evt_none")
        with pytest.raises(NotFoundError):
            records.log.verify("/nobody")

    def test_a_page_of_nothing_is_refused(self, records: Records) -> None:
        with pytest.raises(InvalidError):
            records.log.read(limit=0)

    def test_an_untouched_chain_verifies(self, records: Records, clock: FakeClock) -> None:
        for number in range(0, 30, 3):
            clock.advance(0.0137)
            records.log.append([log_entry(number + step) for step in range(3)])
        report = records.log.verify(HUB)
        assert (report.ok, report.entries, report.reason) == (True, 30, "")

    def test_a_check_goes_on_after_the_last_one(self, records: Records) -> None:
        walked = []
        for number in range(0, 30, 10):
            records.log.append([log_entry(number + step) for step in range(10)])
            walked.append(records.log.verify(HUB, resume=True).entries)
        assert walked == [10, 10, 10]
        again = records.log.verify(HUB, resume=True)
        assert (again.ok, again.entries) == (True, 0)
        assert records.log.verify(HUB).entries == 30
        records.documents.put(VERIFIED, HUB, body={"source_position": 20, "hash": "sha256:0"})
        other = records.log.verify(HUB, resume=True)
        assert (other.ok, other.broken_at) == (False, 20)
        assert other.reason == "an earlier check found another entry there"

    def test_writers_at_once_keep_every_chain_whole(self, records: Records) -> None:
        def write(number: int) -> None:
            source = f"/site/device/{number % 4}"
            records.log.append([log_entry(number * 10 + step, source=source) for step in range(5)])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(40)))
        heads = records.log.heads()
        assert sorted(head.source_position for head in heads.values()) == [50] * 4
        assert all(records.log.verify(source).ok for source in heads)

    def test_the_same_batch_from_many_writers_is_kept_once(self, records: Records) -> None:
        batch = [log_entry(number) for number in range(20)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: records.log.append(batch), range(8)))
        fresh = sum(not logged.duplicate for answer in answers for logged in answer)
        assert fresh == 20
        assert len(records.log.read()) == 20
        assert records.log.verify(HUB).ok

    def test_a_reader_that_follows_writers_misses_nothing(self, records: Records) -> None:
        done = threading.Event()
        found: list[Logged] = []

        def follow() -> None:
            ended = False
            while not ended:
                ended = done.is_set()
                while page := records.log.read(after=found[-1].position if found else 0, limit=7):
                    found.extend(page)
                done.wait(0.001)  # a reader without a pause would keep the writers waiting

        def write(number: int) -> None:
            source = f"/site/device/{number % 5}"
            with records.transaction():
                for step in range(4):
                    records.log.append([log_entry(number * 10 + step, source=source)])

        with ThreadPoolExecutor(6) as pool:
            reader = pool.submit(follow)
            try:
                list(pool.map(write, range(60)))
            finally:
                done.set()
            reader.result()
        assert len(found) == 240
        assert len(set(ids(found))) == 240

    def test_anchors_name_every_head_and_idle_ones_are_left_out(
        self, records: Records, clock: FakeClock
    ) -> None:
        assert anchor(records.log, clock=clock, source=HUB) is None
        records.log.append([log_entry(1, source=PLANT)])
        first = anchor(records.log, clock=clock, source=HUB)
        assert first is not None
        assert (first.entry.type, first.entry.source) == (ANCHOR_TYPE, HUB)
        assert anchor(records.log, clock=clock, source=HUB) is None
        records.log.append([log_entry(2)])
        assert anchor(records.log, clock=clock, source=HUB) is not None
        records.log.append([log_entry(3, source=PLANT)])
        assert anchor(records.log, clock=clock, source=HUB) is not None
        assert check_anchors(records.log, source=HUB).ok
        assert records.log.verify(HUB).entries == 4

    def test_without_an_anchor_nothing_is_pruned(self, records: Records, clock: FakeClock) -> None:
        records.log.append([log_entry(number, source=PLANT) for number in range(5)])
        clock.advance(1000)
        assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 0
        anchor(records.log, clock=clock, source=HUB)
        assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 0
        assert records.log.verify(PLANT).entries == 5

    def test_behind_an_anchor_a_chain_is_pruned_and_still_verifies(
        self, records: Records, clock: FakeClock
    ) -> None:
        records.log.append([log_entry(number, source=PLANT) for number in range(10)])
        anchor(records.log, clock=clock, source=HUB)
        clock.advance(60)
        records.log.append([log_entry(number, source=PLANT) for number in range(10, 15)])
        assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 9
        report = records.log.verify(PLANT)
        assert (report.ok, report.entries) == (True, 6)
        assert records.documents.get(CHECKPOINT, PLANT).body["source_position"] == 9
        assert check_anchors(records.log, source=HUB).ok
        assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 0
        (logged,) = records.log.append([log_entry(20, source=PLANT)])
        assert logged.source_position == 16

    def test_the_anchors_own_chain_can_be_pruned(self, records: Records, clock: FakeClock) -> None:
        for number in range(6):
            records.log.append([log_entry(number, source=PLANT)])
            anchor(records.log, clock=clock, source=HUB)
            clock.advance(60)
        assert records.log.prune(HUB, before=clock.now(), anchors=HUB) == 4
        assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 5
        for source in (HUB, PLANT):
            assert records.log.verify(source).ok
        assert check_anchors(records.log, source=HUB).ok
        assert ids(records.log.read(source=PLANT)) == ["evt_000005"]

    def test_hostile_sources_are_only_text(self, records: Records) -> None:
        source = "'; DROP TABLE entries; -- %s {} \\ 😀"
        body = encode(
            {"id": "e", "source": source, "type": "t", "time": "2026-01-01T12:00:00Z", "data": {}}
        )
        entry = replace(log_entry(1), id="e", source=source, type="t", body=body)
        records.log.append([entry])
        assert records.log.read(source=source)[0].entry == entry
        assert records.log.verify(source).ok
