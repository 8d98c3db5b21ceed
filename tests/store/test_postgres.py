"""Records in PostgreSQL: writers beside each other, a server that goes away, leases, locks."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lineside.core import (
    ConflictError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.store import Records, open_records, postgres
from lineside.store.records import SqlRecords
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from lineside.testing.store import (
    HUB,
    frame_row,
    log_entry,
)
from tests.store.conftest import PostgresServer

pytestmark = pytest.mark.service


@pytest.fixture
def records(
    postgres_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Records]:
    # A transaction in which a test waits for its other thread is not ended meanwhile.
    monkeypatch.setattr(postgres, "REST_S", int(LONG_S))
    with open_records(postgres_url, clock=clock) as opened:
        yield opened


def test_writers_of_different_sources_do_not_wait_for_one_another(records: Records) -> None:
    holds, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with records.transaction():
            records.log.append([log_entry(1, source="/site/device/a")])
            records.frames.add([frame_row(1)])
            holds.set()
            assert go_on.wait(LONG_S)

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(hold)
        assert holds.wait(LONG_S)
        other = pool.submit(records.log.append, [log_entry(2, source="/site/device/b")])
        assert other.result(timeout=LONG_S)[0].source_position == 1
        assert records.log.read() == [], "the entry before it has not ended"
        assert len(records.log.read(newest_first=True)) == 1
        go_on.set()
        holder.result()
    assert len(records.log.read()) == 2


def test_appends_that_wait_for_each_other_are_told_to_redo(records: Records) -> None:
    both = threading.Barrier(2)
    first = [log_entry(0, source=source) for source in ("/a", "/b")]
    records.log.append(first)

    def append(number: int) -> bool:
        order = ("/a", "/b") if number % 2 else ("/b", "/a")
        try:
            with records.transaction():
                records.log.append([log_entry(number, source=order[0])])
                both.wait(LONG_S)
                records.log.append([log_entry(number, source=order[1])])
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(append, [1, 2])) == [False, True]
    assert all(records.log.verify(source).entries == 2 for source in ("/a", "/b"))


def test_a_server_that_was_away_is_used_again(
    records: Records, postgres_server: PostgresServer
) -> None:
    records.log.append([log_entry(1)])
    postgres_server.stop("fast")
    try:
        with pytest.raises(UnavailableError):
            records.log.append([log_entry(2)])
        with pytest.raises(UnavailableError), records.transaction():
            records.log.append([log_entry(2)])
    finally:
        postgres_server.start()
    assert records.log.append([log_entry(2)])[0].source_position == 2
    assert records.log.verify(HUB).ok


def test_a_server_that_goes_away_inside_a_transaction_keeps_nothing_of_it(
    records: Records, postgres_server: PostgresServer
) -> None:

    def write_while_it_dies() -> None:
        with records.transaction():
            records.documents.put("order", "first", body={})
            postgres_server.stop("immediate")
            postgres_server.start()
            with pytest.raises(UnavailableError):
                records.documents.put("order", "second", body={})
            records.documents.put("order", "third", body={})

    with pytest.raises(UnavailableError):
        write_while_it_dies()
    assert records.documents.page("order") == []


def test_three_ways_to_fail_at_the_start_are_told_apart(
    postgres_server: PostgresServer, clock: FakeClock
) -> None:
    host = f"?host={postgres_server.folder}"
    with pytest.raises(NotFoundError, match="no such database"):
        open_records(f"postgresql://postgres@/nowhere{host}", clock=clock)
    with pytest.raises(RefusedError, match="refused the login"):
        open_records(f"postgresql://nobody@/postgres{host}", clock=clock)
    with pytest.raises(UnavailableError):
        open_records("postgresql://postgres:hidden@127.0.0.1:9/lineside", clock=clock)


def test_a_password_in_the_url_is_never_shown(clock: FakeClock) -> None:
    with pytest.raises(UnavailableError) as caught:
        open_records("postgresql://postgres:hidden@127.0.0.1:9/lineside", clock=clock)
    assert "hidden" not in str(caught.value)


def test_reading_a_silent_source_does_not_read_the_others(records: Records) -> None:
    assert isinstance(records, SqlRecords)
    records.log.append([log_entry(0, source="/silent")])
    records.log.append([log_entry(number, source=f"/s/{number % 3}") for number in range(1, 4000)])
    with records._session.writing() as connection:
        connection.exec_driver_sql("ANALYZE")
        plan = connection.exec_driver_sql(
            "EXPLAIN SELECT * FROM entries WHERE chain = (SELECT chain FROM chains WHERE"
            " source = '/silent') AND position + 0 > 9 ORDER BY position + 0 LIMIT 100"
        ).scalars()
        assert "Index Scan using entries_source on entries" in " ".join(plan)


def test_hot_queries_use_an_index(records: Records) -> None:
    assert isinstance(records, SqlRecords)
    records.frames.add([frame_row(second, camera=f"c{second % 20}") for second in range(4000)])
    for start in range(0, 4000, 500):
        records.log.append([log_entry(start + n, source=f"/s/{n % 9}") for n in range(500)])
    with records._session.writing() as connection:
        connection.exec_driver_sql("ANALYZE")
        for table, condition in (
            ("frames", "camera = 'c1' ORDER BY captured_at_us DESC, id DESC"),
            ("frames", "aged_out_at_us IS NULL AND pinned = 0 ORDER BY captured_at_us, id"),
            ("entries", "chain = 3 AND position + 0 > 9 ORDER BY position + 0"),
            ("entries", "type = 'x' AND position + 0 > 9 ORDER BY position + 0"),
            ("entries", "id = 'evt_000001'"),
        ):
            query = f"EXPLAIN SELECT * FROM {table} WHERE {condition} LIMIT 10"  # noqa: S608  constants
            plan = connection.exec_driver_sql(query).scalars().all()
            assert any("Index" in step for step in plan), plan
            assert not any("Sort" in step for step in plan), plan


def test_a_checked_lease_is_renewed_and_not_taken_over_before_the_transaction_ends(
    records: Records,
) -> None:
    (old,) = records.leases.take(["rules"], holder="a", length_s=0.1)
    with ThreadPoolExecutor(1) as pool, records.transaction():
        records.leases.check(old)
        renew, take = records.leases.renew, records.leases.take
        assert pool.submit(renew, ["rules"], holder="a", length_s=0.1).result(timeout=LONG_S)
        threading.Event().wait(0.1)
        assert pool.submit(take, ["rules"], holder="b", length_s=60).result(timeout=LONG_S) == []
    assert records.leases.take(["rules"], holder="b", length_s=60)


def test_a_transaction_that_rests_for_long_is_ended_for_the_others(
    records: Records, monkeypatch: pytest.MonkeyPatch, postgres_url: str, clock: FakeClock
) -> None:
    monkeypatch.setattr(postgres, "REST_S", 1)

    def rest(stopped: Records) -> None:
        with stopped.transaction():
            stopped.serialise("twin")
            with records.transaction():
                records.serialise("twin")  # waits until the server has ended the other
            stopped.documents.page("cursor")

    def goes_on(stopped: Records) -> bool:
        try:
            with stopped.transaction():
                stopped.serialise("twin")
        except UnavailableError:
            return False
        return True

    with open_records(postgres_url, clock=clock) as opened:
        with pytest.raises(UnavailableError):
            rest(opened)
        wait_until(lambda: goes_on(opened))  # the limit holds for it, too


def test_transactions_of_one_name_wait_for_one_another(records: Records) -> None:
    holds, go_on, order = threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        with records.transaction():
            records.serialise("twin")
            holds.set()
            assert go_on.wait(LONG_S)
            order.append("first")

    def follow() -> None:
        with records.transaction():
            records.serialise("twin")
            order.append("second")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold)
        assert holds.wait(LONG_S)
        with records.transaction():
            records.serialise("others")  # another name does not wait
        second = pool.submit(follow)
        go_on.set()
        first.result(timeout=LONG_S)
        second.result(timeout=LONG_S)
    assert order == ["first", "second"]


def test_an_unsettled_reader_sees_past_an_append_that_has_not_ended(records: Records) -> None:
    holds, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with records.transaction():
            records.log.append([log_entry(1, source="/site/device/a")])
            holds.set()
            assert go_on.wait(LONG_S)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert holds.wait(LONG_S)
        records.log.append([log_entry(2, source="/site/device/b")])
        assert records.log.read() == []
        assert [one.position for one in records.log.read(unsettled=True)] == [2]
        go_on.set()
        holder.result()
