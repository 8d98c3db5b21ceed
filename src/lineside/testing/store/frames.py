"""The suite of every frame index."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from lineside.core import Digest, FrameId, InvalidError, NotFoundError
from lineside.store import (
    LEAVING,
    FrameCount,
    FrameFilter,
    FrameOrder,
    FrameRow,
    FrameWithAnswer,
    Records,
    frame_query,
)
from lineside.testing.clock import NOON, FakeClock
from lineside.testing.store.rows import frame_answer, frame_row
from lineside.vision.verdict import PartVerdict


def seconds(rows: Sequence[FrameRow]) -> list[float]:
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
        assert records.frames.age_out(older_than=NOON + timedelta(days=1)) == []
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
        aged = records.frames.age_out(older_than=NOON + timedelta(seconds=2))
        assert aged == [replace(row, aged_out_at=clock.now()) for row in rows[:2]]
        assert records.frames.get(rows[0].id) == aged[0]
        assert records.frames.get(rows[2].id) == rows[2]
        assert leaving(records) == {row.digest for row in aged}
        assert records.frames.age_out(older_than=NOON) == []

    def test_by_size_the_oldest_go_first(self, records: Records) -> None:
        records.frames.add([frame_row(second, size_bytes=100) for second in range(6)])
        assert records.frames.age_out(older_than=None, excess_bytes=0) == []
        assert seconds(records.frames.age_out(older_than=None, excess_bytes=201)) == [0, 1, 2]
        assert seconds(records.frames.age_out(older_than=None, excess_bytes=999)) == [3, 4, 5]

    def test_tombstones_are_forgotten_and_their_thumbnails_leave(self, records: Records) -> None:
        rows = [frame_row(second, size_bytes=100) for second in range(4)]
        records.frames.add(rows)
        records.frames.pin([rows[1].id], reason="order:a")
        assert records.frames.stored_bytes() == 400
        records.frames.age_out(older_than=NOON + timedelta(seconds=3))
        assert records.frames.stored_bytes() == 200
        before = NOON + timedelta(days=1)
        assert records.frames.forget(before=NOON) == 0
        assert records.frames.forget(before=before, limit=1) == 1
        assert records.frames.forget(before=before) == 1
        assert [row.id for row in records.frames.page()] == [rows[3].id, rows[1].id]
        assert {rows[0].thumbnail, rows[2].thumbnail} <= leaving(records)

    def test_nothing_asked_nothing_aged(self, records: Records) -> None:
        records.frames.add([frame_row(1)])
        assert records.frames.age_out(older_than=None) == []

    def test_pinned_frames_stay_and_their_bytes_count(self, records: Records) -> None:
        rows = [frame_row(second, size_bytes=100) for second in range(4)]
        records.frames.add(rows)
        records.frames.pin([rows[0].id], reason="dataset:a/1")
        assert seconds(records.frames.age_out(older_than=None, excess_bytes=200)) == [1, 2]
        later = NOON + timedelta(days=1)
        assert seconds(records.frames.age_out(older_than=later, excess_bytes=200)) == [3]
        assert records.frames.get(rows[0].id).aged_out_at is None

    def test_a_picture_that_another_kept_frame_names_stays(self, records: Records) -> None:
        rows = [frame_row(second, picture=b"frozen camera") for second in range(4)]
        records.frames.add(rows)
        assert records.frames.age_out(older_than=rows[3].captured_at) == []
        assert [row.aged_out_at is None for row in records.frames.page()] == [True, *[False] * 3]
        last = records.frames.age_out(older_than=NOON + timedelta(days=1))
        assert [row.id for row in last] == [rows[3].id]

    def test_a_shared_picture_counts_once(self, records: Records) -> None:
        rows = [frame_row(second, picture=b"frozen", size_bytes=100) for second in range(3)]
        records.frames.add([*rows, frame_row(9, size_bytes=100)])
        assert records.frames.stored_bytes() == 200
        aged = records.frames.age_out(older_than=None, excess_bytes=1)
        assert seconds(aged) == [2]

    def test_a_picture_that_is_a_thumbnail_or_in_a_document_stays(self, records: Records) -> None:
        first, second, third = (frame_row(number) for number in range(3))
        records.frames.add([first, second, replace(third, thumbnail=first.digest)])
        records.documents.put("dataset-sample", "1", body={"digest": second.digest})
        assert records.frames.age_out(older_than=NOON + timedelta(days=1)) == [
            replace(third, thumbnail=first.digest, aged_out_at=NOON)
        ]
        assert leaving(records) == {third.digest}

    def test_a_tombstone_whose_picture_comes_again_leaves_again(self, records: Records) -> None:
        row = frame_row(1)
        records.frames.add([row])
        records.frames.age_out(older_than=NOON + timedelta(days=1))
        records.documents.delete(LEAVING, row.digest)
        assert records.frames.add([row]) == 0
        assert leaving(records) == {row.digest}

    def test_a_call_takes_at_most_its_limit(self, records: Records) -> None:
        records.frames.add([frame_row(second) for second in range(7)])
        later = NOON + timedelta(days=1)
        sizes = [len(records.frames.age_out(older_than=later, limit=3)) for _ in range(4)]
        assert sizes == [3, 3, 1, 0]
        with pytest.raises(InvalidError):
            records.frames.age_out(older_than=later, limit=0)

    def test_many_rows_at_once_are_all_kept(self, records: Records) -> None:
        rows = [frame_row(second) for second in range(1500)]
        assert records.frames.add(rows) == 1500
        records.frames.pin([row.id for row in rows], reason="report:1")
        assert {row.id for row in records.frames.page(limit=2000)} == {row.id for row in rows}
        assert records.frames.age_out(older_than=datetime.max.replace(tzinfo=NOON.tzinfo)) == []
        assert len(records.named([Digest(row.digest) for row in rows])) == 1500

    def test_the_same_rows_from_many_writers_are_new_once(self, records: Records) -> None:
        rows = [frame_row(second) for second in range(30)]
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda _: records.frames.add(rows), range(8))) == 30


class FrameFilterContract:
    """Contract suite of lists of frames: filters, order, pages."""

    @pytest.fixture(autouse=True)
    def _frames(self, records: Records) -> None:
        """Twelve frames of two cameras; every third is answered ok, review, reject in turn."""
        rows = [
            replace(frame_row(second, camera=("rack", "gate")[second % 2]), part=f"p{second // 2}")
            for second in range(12)
        ]
        verdicts = (PartVerdict.OK, PartVerdict.REVIEW, PartVerdict.REJECT)
        records.frames.add(rows)
        records.frames.answer(
            [
                frame_answer(
                    row,
                    verdict=verdicts[second % 3],
                    label="good" if second % 3 == 0 else "scratch",
                    labels=("good",) if second % 3 == 0 else ("dent", "scratch"),
                    score=second / 12,
                    doubt=(second * 5 % 12) / 12,
                    unsure=second % 3 == 1,
                    package=f"sha256:{second // 6}",
                )
                for second, row in enumerate(rows)
                if second < 10
            ]
        )
        records.frames.pin([row.id for row in rows[::4]], reason="dataset:rack")
        records.frames.pin([rows[8].id], reason="dataset:rack/3")

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (FrameFilter(), range(11, -1, -1)),
            (FrameFilter(cameras=("rack",)), [10, 8, 6, 4, 2, 0]),
            (FrameFilter(cameras=("rack", "gate")), range(11, -1, -1)),
            (FrameFilter(since=NOON + timedelta(seconds=3), until=NOON + timedelta(seconds=5)),
             [4, 3]),
            (FrameFilter(verdicts=(PartVerdict.REJECT,)), [8, 5, 2]),
            (FrameFilter(verdicts=(PartVerdict.REJECT, PartVerdict.REVIEW)), [8, 7, 5, 4, 2, 1]),
            (FrameFilter(verdicts=(PartVerdict.OK,), cameras=("gate",)), [9, 3]),
            (FrameFilter(label="dent"), [8, 7, 5, 4, 2, 1]),
            (FrameFilter(label="dent", cameras=("gate",), unsure=True), [7, 1]),
            (FrameFilter(least_score=0.25, most_score=0.5), [6, 5, 4, 3]),
            (FrameFilter(unsure=True), [7, 4, 1]),
            (FrameFilter(part="p2"), [5, 4]),
            (FrameFilter(part="p2", verdicts=(PartVerdict.REJECT,)), [5]),
            (FrameFilter(package="sha256:1"), [9, 8, 7, 6]),
            (FrameFilter(dataset="rack"), [8, 4, 0]),
            (FrameFilter(dataset="rack/3"), [8]),
            (FrameFilter(dataset="rack", label="scratch", since=NOON + timedelta(seconds=5)), [8]),
            (FrameFilter(order=FrameOrder.SCORE), range(9, -1, -1)),
            (FrameFilter(order=FrameOrder.SCORE, label="good"), [9, 6, 3, 0]),
            (FrameFilter(order=FrameOrder.DOUBT, cameras=("rack",)), [2, 4, 6, 8, 0]),
            (FrameFilter(label="none"), []),
            (FrameFilter(part="none", dataset="none"), []),
        ],
    )  # fmt: skip
    def test_frames_are_found_by_every_field_page_after_page(
        self, records: Records, wanted: FrameFilter, *, expected: Sequence[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        found = list[FrameWithAnswer]()
        for limit, most in ((100, 20_000), (2, 20_000), (2, 1)):
            monkeypatch.setattr(frame_query, "MOST_LOOKED_AT", most)
            found, before = list[FrameWithAnswer](), ""
            while True:
                page = records.frames.find(wanted, before=before, limit=limit)
                assert len(page.frames) <= limit
                found += page.frames
                before = page.following
                if not before:
                    break
            assert seconds(found) == list(expected)
        newest = replace(wanted, order=FrameOrder.NEWEST)
        count = records.frames.count(newest)
        edges = [NOON + timedelta(seconds=second) for second in (-1, 3, 6, 20)]
        assert records.frames.count_parts(newest, edges=edges) == [
            records.frames.count(replace(newest, since=begin, until=end))
            for begin, end in pairwise(edges)
        ]
        if wanted.order is FrameOrder.NEWEST:
            assert count.frames == len(expected)
            assert sum(count.verdicts.values()) == sum(one.answer is not None for one in found)
        assert count.whole

    def test_frames_come_with_their_answers(self, records: Records) -> None:
        frames = records.frames.find(FrameFilter(), limit=5).frames
        assert [one.answer is None for one in frames] == [True, True, False, False, False]
        answer = frames[3].answer
        assert answer is not None
        assert (answer.verdict, answer.labels) == (PartVerdict.REJECT, ("dent", "scratch"))
        assert (answer.score, answer.unsure) == (8 / 12, False)
        named = FrameFilter(frames=(frames[0].id, frames[4].id, FrameId("frm_none")))
        assert records.frames.find(named).frames == (frames[0], frames[4])
        assert records.frames.count(FrameFilter()) == FrameCount(
            frames=12, verdicts={PartVerdict.OK: 4, PartVerdict.REJECT: 3, PartVerdict.REVIEW: 3}
        )
        few = records.frames.count(FrameFilter(), most=4)
        assert (few.frames, few.whole) == (4, False)

    def test_the_worst_verdict_of_several_inspections_is_kept(self, records: Records) -> None:
        row = frame_row(50)
        first = frame_answer(row, verdict=PartVerdict.REVIEW, inspection="a", label="dent")
        second = frame_answer(row, verdict=PartVerdict.OK, inspection="b", labels=("good",))
        records.frames.answer([first, second])
        records.frames.answer([])
        assert records.frames.find(FrameFilter(label="good", part="")).frames[0].id != row.id
        records.frames.add([row])
        (kept,) = records.frames.find(FrameFilter(frames=(row.id,))).frames
        assert kept.answer == replace(first, labels=("good",))
        records.frames.answer([replace(first, verdict=PartVerdict.OK, package="sha256:new")])
        (kept,) = records.frames.find(FrameFilter(package="sha256:new")).frames
        assert kept.answer is not None
        assert kept.answer.verdict is PartVerdict.OK
        worse = replace(second, verdict=PartVerdict.REJECT)
        records.frames.answer([worse])
        (kept,) = records.frames.find(FrameFilter(frames=(row.id,))).frames
        assert kept.answer == worse

    def test_frames_of_incomplete_parts_stay_so_in_any_order(self, records: Records) -> None:
        rows = [frame_row(60 + number) for number in range(4)]
        verdicts = (PartVerdict.OK, PartVerdict.REVIEW, PartVerdict.REJECT, PartVerdict.OK)
        said = [
            frame_answer(row, verdict=verdict, labels=("dent",))
            for row, verdict in zip(rows, verdicts, strict=True)
        ]
        incomplete = [replace(one, label="", labels=(), score=0.0) for one in said]
        records.frames.add(rows)
        records.frames.answer(said[:3])
        records.frames.note_incomplete(incomplete)
        records.frames.note_incomplete(incomplete)
        records.frames.note_incomplete([])
        records.frames.answer(said)
        named = FrameFilter(frames=tuple(row.id for row in rows))
        kept = {one.id: one.answer for one in records.frames.find(named).frames}
        expected = (PartVerdict.INCOMPLETE,) * 2 + (PartVerdict.REJECT, PartVerdict.INCOMPLETE)
        assert [kept[row.id] for row in rows] == [
            replace(one, verdict=verdict) for one, verdict in zip(said, expected, strict=True)
        ]
        found = records.frames.find(FrameFilter(verdicts=(PartVerdict.INCOMPLETE,))).frames
        assert {one.id for one in found} == {rows[0].id, rows[1].id, rows[3].id}

    def test_answers_are_forgotten_with_their_frames(self, records: Records) -> None:
        assert records.frames.has_answers()
        end = NOON + timedelta(days=1)
        records.frames.answer([frame_answer(frame_row(99), verdict=PartVerdict.OK)])
        records.frames.age_out(older_than=end)
        assert records.frames.forget(before=end) == 9  # three are held by a dataset
        found = records.frames.find(FrameFilter(label="scratch")).frames
        assert seconds(found) == [8, 4]
        assert records.frames.count(FrameFilter()).frames == 3
        records.frames.add([frame_row(99)])
        assert records.frames.find(FrameFilter(), limit=1).frames[0].answer is None

    def test_a_filter_that_cannot_be_is_refused(self, records: Records) -> None:
        with pytest.raises(NotFoundError):
            records.frames.find(FrameFilter(), before="frm_none")
        with pytest.raises(NotFoundError):
            records.frames.find(FrameFilter(order=FrameOrder.DOUBT), before="frm_none")
        for wanted in (
            FrameFilter(since=NOON.replace(tzinfo=None)),
            FrameFilter(part="nul \x00"),
            FrameFilter(frames=(FrameId("frm_1"),) * 1001),
        ):
            with pytest.raises(InvalidError):
                records.frames.find(wanted)
