"""Records in one SQLite file: restarts, readers beside a writer, damage, plans of queries."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from lineside.core import InvalidError, RefusedError, UnavailableError
from lineside.store import FrameFilter, Records, open_records
from lineside.store.records import SqlRecords
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from lineside.testing.store import (
    HUB,
    NOON,
    frame_answer,
    frame_row,
    log_entry,
)
from lineside.vision.verdict import PartVerdict


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/records.db"


@pytest.fixture
def records(url: str, clock: FakeClock) -> Iterator[Records]:
    with open_records(url, clock=clock) as opened:
        yield opened


def test_what_was_written_is_there_after_a_restart(url: str, clock: FakeClock) -> None:
    with open_records(url, clock=clock) as records:
        records.documents.put("order", "1", body={"n": 1})
        records.log.append([log_entry(1), log_entry(2)])
        records.frames.add([frame_row(1)])
        before = list(records.export())
    clock.advance(60)
    with open_records(url, clock=clock) as records:
        assert list(records.export()) == before
        (third,) = records.log.append([log_entry(3)])
        assert (third.position, third.source_position) == (3, 3)
        assert records.log.verify(HUB).ok


def test_readers_do_not_wait_for_a_writer(records: Records) -> None:
    records.documents.put("order", "1", body={"n": 1})
    with ThreadPoolExecutor(1) as pool, records.transaction():
        records.documents.put("order", "1", body={"n": 2})
        seen = pool.submit(lambda: records.documents.get("order", "1")).result(timeout=LONG_S)
    assert seen.body == {"n": 1}
    assert records.documents.get("order", "1").body == {"n": 2}


def test_what_is_read_once_is_read_again_when_another_program_commits(
    url: str, records: Records, clock: FakeClock
) -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(len(records.documents.page("order")))
        return reads[-1]

    def found() -> list[int]:
        return [records.read_once("orders", read) for _ in range(3)]

    assert found() == [0] * 3
    with open_records(url, clock=clock) as other:
        other.documents.put("order", "1", body={})
        assert found() == [1] * 3
        with other.transaction():
            other.documents.put("order", "2", body={})
            assert found() == [1] * 3
        assert found() == [2] * 3
    assert reads == [0, 1, 2]


def test_an_export_sees_one_moment(records: Records) -> None:
    for number in range(1200):
        records.documents.put("order", f"{number:05d}", body={})
    rows = records.export()
    first = next(rows)
    records.documents.put("order", "99999", body={})
    records.documents.delete("order", "00700")
    assert len([first, *rows]) == 1200


def test_a_commit_is_synced_to_the_disk(records: Records) -> None:
    assert isinstance(records, SqlRecords)
    with records._session.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_another_process_that_writes_too_long_is_said(url: str, records: Records) -> None:
    assert isinstance(records, SqlRecords)
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with records._session.reading() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    with pytest.raises(UnavailableError, match="locked"):
        records.documents.put("order", "1", body={})
    other.rollback()
    other.close()
    assert records.documents.put("order", "1", body={}).version == 1


@pytest.mark.parametrize("content", [b"no database at all" * 300, bytes(8192)])
def test_a_file_that_is_no_database_is_refused(
    tmp_path: Path, clock: FakeClock, content: bytes
) -> None:
    path = tmp_path / "records.db"
    path.write_bytes(b"SQLite format 3\x00" + content)
    with pytest.raises((RefusedError, UnavailableError)):
        open_records(f"sqlite:///{path}", clock=clock)
    assert path.read_bytes() == b"SQLite format 3\x00" + content


def test_damage_inside_the_file_is_refused(url: str, clock: FakeClock) -> None:
    with open_records(url, clock=clock) as records:
        records.log.append([log_entry(number) for number in range(2000)])
    path = Path(url.removeprefix("sqlite:///"))
    content = bytearray(path.read_bytes())
    content[8192:-8192] = b"\xa5" * (len(content) - 16384)
    path.write_bytes(content)
    with (
        pytest.raises(RefusedError, match="damaged"),
        open_records(url, clock=clock) as records,
    ):
        records.log.read(limit=5000)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(UnavailableError, match="open database file"):
        open_records(f"sqlite:///{tmp_path}/none/records.db", clock=clock)


@pytest.mark.parametrize("wrong", ["sqlite://", "sqlite:///:memory:", "mysql://a/b", "nonsense"])
def test_a_url_without_a_file_or_driver_is_refused(clock: FakeClock, wrong: str) -> None:
    with pytest.raises(InvalidError):
        open_records(wrong, clock=clock)


def test_odd_characters_in_the_path_are_only_characters(tmp_path: Path, clock: FakeClock) -> None:
    folder = tmp_path / "line a; größe"
    folder.mkdir()
    with open_records(f"sqlite:///{folder}/records.db", clock=clock) as records:
        records.documents.put("order", "1", body={})
    assert (folder / "records.db").is_file()


def plans_of(records: Records, call: Callable[[], object]) -> list[str]:
    """How SQLite answers each query that a call makes."""
    assert isinstance(records, SqlRecords)
    asked: list[tuple[str, tuple[object, ...]]] = []

    def note(*words: object) -> None:
        asked.append((str(words[2]), words[3]))  # type: ignore[arg-type]  # statement, parameters

    engine = records._session.flavour.reader
    sa.event.listen(engine, "before_cursor_execute", note)
    call()
    sa.event.remove(engine, "before_cursor_execute", note)
    with records._session.reading() as connection:
        return [
            " / ".join(
                str(row[3])
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)
            )
            for query, values in asked
            if query.startswith("SELECT")
        ]


def test_no_query_of_the_hot_path_reads_or_sorts_a_whole_table(records: Records) -> None:
    row = frame_row(1)
    records.frames.add([row, frame_row(2)])
    records.log.append([log_entry(1), log_entry(2)])
    records.documents.put("twin", "state", body={})
    calls: list[Callable[[], object]] = [
        lambda: records.frames.newest("rack"),
        lambda: records.frames.page(camera="rack", before=row.id),
        lambda: records.frames.page(since=row.captured_at),
        lambda: records.named([row.digest]),
        lambda: records.log.read(after=1),
        lambda: records.log.read(after=1, source=HUB),
        lambda: records.log.read(after=1, type="lineside.event.v1", newest_first=True),
        lambda: records.log.read(after=1, source=HUB, type="lineside.event.v1"),
        lambda: records.log.read(after=1, subject="x"),
        records.log.heads,
        lambda: records.log.append([log_entry(3)]),
        lambda: records.documents.get("twin", "state"),
        lambda: records.documents.page("twin", after="a"),
        lambda: records.frames.age_out(older_than=row.captured_at),
    ]
    for call in calls:
        for plan in plans_of(records, call):
            whole = [step for step in plan.split(" / ") if step in ("SCAN frames", "SCAN entries")]
            assert not whole, plan
            assert "TEMP B-TREE FOR ORDER" not in plan, plan
    (plan,) = plans_of(
        records, lambda: records.log.read(after=1, source=HUB, type="lineside.event.v1")
    )
    assert "entries_source_type (chain=? AND type=? AND <expr>>?)" in plan


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (FrameFilter(), "frames_captured"),
        (FrameFilter(cameras=("rack", "gate"), since=NOON), "frames_camera"),
        (FrameFilter(label="dent", most_score=0.5), "answer_labels_label"),
        (FrameFilter(verdicts=(PartVerdict.REJECT,)), "answers_verdict"),
        (FrameFilter(verdicts=(PartVerdict.OK,)), "answers_captured"),
        (FrameFilter(verdicts=(PartVerdict.OK,), cameras=("rack",)), "answers_camera"),
        (FrameFilter(unsure=True), "answers_unsure"),
        (FrameFilter(part="p1", until=NOON), "frames_part"),
        (FrameFilter(package="sha256:0"), "answers_package"),
        (FrameFilter(dataset="rack"), "pins_reason"),
    ],
)
def test_each_filter_walks_the_index_of_its_narrowest_field(
    records: Records, wanted: FrameFilter, index: str
) -> None:
    rows = [frame_row(second) for second in range(3)]
    records.frames.add(rows)
    records.frames.answer([frame_answer(row, verdict=PartVerdict.OK) for row in rows])
    for call in (
        lambda: records.frames.find(wanted, before=rows[1].id),
        lambda: records.frames.count(wanted),
    ):
        (plan, *_) = [plan for plan in plans_of(records, call) if index in plan]
        assert not [step for step in plan.split(" / ") if step == "SCAN frames"], plan
        assert not [step for step in plan.split(" / ") if step == "SCAN answers"], plan
