"""The suite of every frame index."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from lineside.core import Digest, FrameId, InvalidError, NotFoundError
from lineside.store import LEAVING, FrameRow, Records
from lineside.testing.clock import FakeClock
from lineside.testing.store.rows import NOON, frame_row


def seconds(rows: list[FrameRow]) -> list[float]:
    """When the frames were captured, in seconds after noon."""
    return [(row.captured_at - NOON).total_seconds() for row in rows]


def leaving(records: Records) -> set[str]:
    """The digests noted as about to be deleted."""
    return {document.id for document in records.documents.page(LEAVING)}


class FrameIndexContract:
    """Contract suite of frame indexes."""

    def test_a_row_comes_back_as_it_was_added(self, records: Records) -> None:
        row = replace(
            frame_row(1.234567, pins=("dataset:rack/3", "order:ord_1")),
            part="part 7",
            sequence=2**40,
            size_bytes=2**33,
        )
        assert records.frames.add([row]) == 1
        assert records.frames.get(row.id) == row
        assert records.frames.newest("rack") == row
        assert records.frames.page() == [row]

    def test_a_frame_already_there_is_kept(self, records: Records) -> None:
        row = frame_row(1)
        assert records.frames.add([row, row, frame_row(2)]) == 2
        assert records.frames.add([replace(row, part="other", pins=("x",)), frame_row(3)]) == 1
        assert records.frames.get(row.id) == row
        assert records.frames.add([]) == 0

    def test_a_frame_gets_its_thumbnail_later(self, records: Records) -> None:
        rows = [replace(row, thumbnail=row.digest) for row in (frame_row(1), frame_row(2))]
        records.frames.add(rows)
        small = frame_row(3).thumbnail
        absent = FrameId("frm_none")
        records.frames.set_thumbnails({rows[0].id: small, absent: small})
        records.frames.set_thumbnails({})
        assert records.frames.get(rows[0].id) == replace(rows[0], thumbnail=small)
        assert records.frames.get(rows[1].id) == rows[1]
        assert leaving(records) == set()

    def test_a_picture_that_is_its_own_thumbnail_stays_until_it_has_a_small_one(
        self, records: Records
    ) -> None:
        row = replace(frame_row(1), thumbnail=frame_row(1).digest)
        records.frames.add([row])
        assert records.frames.age_out(older_than=NOON + timedelta(days=1), keep_bytes=None) == []
        assert leaving(records) == set()
        records.frames.set_thumbnails({row.id: frame_row(2).thumbnail})
        assert leaving(records) == {row.digest}

    def test_an_absent_frame_is_not_found(self, records: Records) -> None:
        with pytest.raises(NotFoundError):
            records.frames.get(FrameId("frm_none"))
        with pytest.raises(NotFoundError):
            records.frames.page(before=FrameId("frm_none"))
        assert records.frames.newest("rack") is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"camera": ""},
            {"camera": "nul \x00"},
            {"size_bytes": -1},
            {"sequence": 2**63},
            {"captured_at": NOON.replace(tzinfo=None)},
            {"pins": ("",)},
            {"pins": ("x" * 501,)},
        ],
    )
    def test_rows_no_database_could_keep_are_refused(
        self, records: Records, wrong: dict[str, object]
    ) -> None:
        with pytest.raises(InvalidError):
            records.frames.add([frame_row(1), replace(frame_row(2), **wrong)])  # type: ignore[arg-type]  # on purpose
        assert records.frames.page() == []

    def test_the_newest_is_by_capture_time_not_by_arrival(self, records: Records) -> None:
        records.frames.add([frame_row(5), frame_row(9, camera="gate")])
        records.frames.add([frame_row(3)])
        newest = records.frames.newest("rack")
        assert newest is not None
        assert seconds([newest]) == [5]

    def test_pages_go_back_from_the_newest(self, records: Records) -> None:
        rows = [frame_row(second % 7, picture=bytes([second])) for second in range(20)]
        records.frames.add(rows)
        expected = sorted(rows, key=lambda row: (row.captured_at, row.id), reverse=True)
        found: list[FrameRow] = []
        while page := records.frames.page(before=found[-1].id if found else None, limit=3):
            found += page
        assert found == expected

    def test_pages_may_be_of_one_camera_and_span(self, records: Records) -> None:
        rows = [frame_row(second, camera=("rack", "gate")[second % 2]) for second in range(10)]
        records.frames.add(rows)
        page = records.frames.page(
            camera="rack", since=NOON + timedelta(seconds=2), until=NOON + timedelta(seconds=8)
        )
        assert seconds(page) == [6, 4, 2]
        assert seconds(records.frames.page(until=NOON)) == []
        with pytest.raises(InvalidError):
            records.frames.page(since=NOON.replace(tzinfo=None))

    def test_pins_are_kept_once_each(self, records: Records) -> None:
        rows = [frame_row(1), frame_row(2)]
        records.frames.add(rows)
        ids = [row.id for row in rows]
        records.frames.pin(ids, reason="order:1")
        records.frames.pin([ids[0], ids[0]], reason="order:1")
        records.frames.pin([ids[0]], reason="dataset:a/1")
        assert records.frames.get(ids[0]).pins == ("dataset:a/1", "order:1")
        assert records.frames.get(ids[1]).pins == ("order:1",)

    def test_pinning_an_absent_frame_pins_none(self, records: Records) -> None:
        row = frame_row(1)
        records.frames.add([row])
        with pytest.raises(NotFoundError):
            records.frames.pin([row.id, FrameId("frm_none")], reason="order:1")
        assert records.frames.get(row.id).pins == ()

    def test_old_frames_become_tombstones(self, records: Records, clock: FakeClock) -> None:
        rows = [frame_row(second) for second in range(5)]
        records.frames.add(rows)
        aged = records.frames.age_out(older_than=NOON + timedelta(seconds=2), keep_bytes=None)
        assert aged == [replace(row, aged_out_at=clock.now()) for row in rows[:2]]
        assert records.frames.get(rows[0].id) == aged[0]
        assert records.frames.get(rows[2].id) == rows[2]
        assert leaving(records) == {row.digest for row in aged}
        assert records.frames.age_out(older_than=NOON, keep_bytes=None) == []

    def test_by_size_the_oldest_go_first(self, records: Records) -> None:
        records.frames.add([frame_row(second, size_bytes=100) for second in range(6)])
        assert records.frames.age_out(older_than=None, keep_bytes=600) == []
        assert seconds(records.frames.age_out(older_than=None, keep_bytes=399)) == [0, 1, 2]
        assert seconds(records.frames.age_out(older_than=None, keep_bytes=0)) == [3, 4, 5]

    def test_tombstones_are_forgotten_and_their_thumbnails_leave(self, records: Records) -> None:
        rows = [frame_row(second, size_bytes=100) for second in range(4)]
        records.frames.add(rows)
        records.frames.pin([rows[1].id], reason="order:a")
        assert records.frames.stored_bytes() == 400
        records.frames.age_out(older_than=NOON + timedelta(seconds=3), keep_bytes=None)
        assert records.frames.stored_bytes() == 200
        before = NOON + timedelta(days=1)
        assert records.frames.forget(before=NOON) == 0
        assert records.frames.forget(before=before, limit=1) == 1
        assert records.frames.forget(before=before) == 1
        assert [row.id for row in records.frames.page()] == [rows[3].id, rows[1].id]
        assert {rows[0].thumbnail, rows[2].thumbnail} <= leaving(records)

    def test_nothing_asked_nothing_aged(self, records: Records) -> None:
        records.frames.add([frame_row(1)])
        assert records.frames.age_out(older_than=None, keep_bytes=None) == []

    def test_pinned_frames_stay_and_their_bytes_count(self, records: Records) -> None:
        rows = [frame_row(second, size_bytes=100) for second in range(4)]
        records.frames.add(rows)
        records.frames.pin([rows[0].id], reason="dataset:a/1")
        assert seconds(records.frames.age_out(older_than=None, keep_bytes=200)) == [1, 2]
        later = NOON + timedelta(days=1)
        assert seconds(records.frames.age_out(older_than=later, keep_bytes=0)) == [3]
        assert records.frames.get(rows[0].id).aged_out_at is None

    def test_a_picture_that_another_kept_frame_names_stays(self, records: Records) -> None:
        rows = [frame_row(second, picture=b"frozen camera") for second in range(4)]
        records.frames.add(rows)
        assert records.frames.age_out(older_than=rows[3].captured_at, keep_bytes=None) == []
        assert [row.aged_out_at is None for row in records.frames.page()] == [True, *[False] * 3]
        last = records.frames.age_out(older_than=NOON + timedelta(days=1), keep_bytes=None)
        assert [row.id for row in last] == [rows[3].id]

    def test_a_shared_picture_counts_once(self, records: Records) -> None:
        rows = [frame_row(second, picture=b"frozen", size_bytes=100) for second in range(3)]
        records.frames.add([*rows, frame_row(9, size_bytes=100)])
        assert records.frames.age_out(older_than=None, keep_bytes=200) == []
        aged = records.frames.age_out(older_than=None, keep_bytes=199)
        assert seconds(aged) == [2]

    def test_a_picture_that_is_a_thumbnail_or_in_a_document_stays(self, records: Records) -> None:
        first, second, third = (frame_row(number) for number in range(3))
        records.frames.add([first, second, replace(third, thumbnail=first.digest)])
        records.documents.put("dataset-sample", "1", body={"digest": second.digest})
        assert records.frames.age_out(older_than=NOON + timedelta(days=1), keep_bytes=None) == [
            replace(third, thumbnail=first.digest, aged_out_at=NOON)
        ]
        assert leaving(records) == {third.digest}

    def test_a_tombstone_whose_picture_comes_again_leaves_again(self, records: Records) -> None:
        row = frame_row(1)
        records.frames.add([row])
        records.frames.age_out(older_than=NOON + timedelta(days=1), keep_bytes=None)
        records.documents.delete(LEAVING, row.digest)
        assert records.frames.add([row]) == 0
        assert leaving(records) == {row.digest}

    def test_a_call_takes_at_most_its_limit(self, records: Records) -> None:
        records.frames.add([frame_row(second) for second in range(7)])
        later = NOON + timedelta(days=1)
        sizes = [
            len(records.frames.age_out(older_than=later, keep_bytes=None, limit=3))
            for _ in range(4)
        ]
        assert sizes == [3, 3, 1, 0]
        with pytest.raises(InvalidError):
            records.frames.age_out(older_than=later, keep_bytes=None, limit=0)

    def test_many_rows_at_once_are_all_kept(self, records: Records) -> None:
        rows = [frame_row(second) for second in range(1500)]
        assert records.frames.add(rows) == 1500
        records.frames.pin([row.id for row in rows], reason="report:1")
        assert {row.id for row in records.frames.page(limit=2000)} == {row.id for row in rows}
        assert records.frames.age_out(older_than=datetime.max.replace(tzinfo=NOON.tzinfo),
                                      keep_bytes=None) == []  # fmt: skip
        assert len(records.named([Digest(row.digest) for row in rows])) == 1500

    def test_the_same_rows_from_many_writers_are_new_once(self, records: Records) -> None:
        rows = [frame_row(second) for second in range(30)]
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda _: records.frames.add(rows), range(8))) == 30
