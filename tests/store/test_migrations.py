"""Formats: made by migrations, the same as the tables, newer ones refused, old ones opened."""

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from lineside.core import RefusedError
from lineside.store import FrameFilter, Records, check_anchors, open_records, restore
from lineside.store.migrations import UpgradePlan, plan_upgrade
from lineside.store.records import SqlRecords
from lineside.store.session import NEWEST, migrate
from lineside.testing import FakeClock
from lineside.testing.store import HUB, NOON, frame_row, log_entry
from tests.store.conftest import PostgresServer

FORMATS = Path(__file__).parents[1] / "data" / "formats"
PLANT = "/site/plant"


def check_the_same(migrated: sa.Engine, made: Records, *, formats: list[str]) -> None:
    """``migrated`` is an empty database, to be filled by all migrations in turn."""
    assert isinstance(made, SqlRecords)
    with migrated.begin() as connection:
        migrate(connection, found="", where="")
    with migrated.connect() as one, made._session.reading() as other:
        for query in formats:
            wanted = sorted(map(str, one.exec_driver_sql(query)))
            assert wanted
            assert sorted(map(str, other.exec_driver_sql(query))) == wanted
    migrated.dispose()


def test_an_empty_database_gets_what_the_migrations_make(tmp_path: Path, clock: FakeClock) -> None:
    migrated = sa.create_engine(f"sqlite:///{tmp_path}/migrated.db")
    formats = [
        "SELECT type, name, sql FROM sqlite_master", "SELECT * FROM lineside_format",
        "SELECT t.name, c.* FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c",
    ]  # fmt: skip
    with open_records(f"sqlite:///{tmp_path}/records.db", clock=clock) as made:
        check_the_same(migrated, made, formats=formats)


@pytest.mark.service
def test_an_empty_postgresql_gets_what_the_migrations_make(
    postgres_server: PostgresServer, clock: FakeClock
) -> None:
    url = sa.make_url(postgres_server.fresh_database()).set(drivername="postgresql+psycopg")
    formats = [
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
        (
            "SELECT table_name, column_name, ordinal_position, data_type, character_maximum_length,"
            " is_nullable, column_default, collation_name FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ),
        (
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
        ),
        (
            "SELECT sequencename, data_type, start_value, increment_by, cache_size, cycle"
            " FROM pg_sequences"
        ),
        "SELECT * FROM lineside_format",
    ]
    with open_records(postgres_server.fresh_database(), clock=clock) as made:
        check_the_same(sa.create_engine(url), made, formats=formats)


def test_the_newest_format_is_the_last_migration() -> None:
    from alembic.script import ScriptDirectory

    import lineside.store

    folder = Path(lineside.store.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == NEWEST


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "records.db"
    open_records(f"sqlite:///{path}", clock=clock).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE lineside_format SET version_num = '9999'")
    connection.close()
    with pytest.raises(RefusedError, match="format 9999, newer than") as caught:
        open_records(f"sqlite:///{path}", clock=clock)
    with pytest.raises(RefusedError, match="format 9999, newer than"):
        plan_upgrade(f"sqlite:///{path}")
    assert caught.value.fix.startswith("Install the lineside that wrote them")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM lineside_format").fetchall() == [("9999",)]
    connection.close()


@pytest.mark.service
def test_a_newer_format_is_refused_on_postgresql(postgres_url: str, clock: FakeClock) -> None:
    with open_records(postgres_url, clock=clock) as records:
        assert isinstance(records, SqlRecords)
        with records._session.writing() as connection:
            connection.exec_driver_sql("UPDATE lineside_format SET version_num = '9999'")
    with pytest.raises(RefusedError, match="format 9999, newer than"):
        open_records(postgres_url, clock=clock)


@pytest.mark.service
def test_a_database_of_another_encoding_is_refused(
    postgres_server: PostgresServer, clock: FakeClock
) -> None:
    url = postgres_server.fresh_database(encoding="SQL_ASCII")
    with pytest.raises(RefusedError, match=r"encoding SQL_ASCII, and .* UTF8") as caught:
        open_records(url, clock=clock)
    assert "--encoding=UTF8" in caught.value.fix


def check_first_format(records: Records) -> None:
    """What the files of the first format hold."""
    order = records.documents.get("order", "ord_1")
    assert (order.version, order.body) == (2, {"colour": "red", "state": "SHIPPED"})
    kept = records.log.read(source=PLANT)
    assert [logged.entry for logged in kept] == [
        log_entry(number, source=PLANT, subject="f/i/stock") for number in (3, 4, 5)
    ]
    assert all(records.log.verify(source).ok for source in (HUB, PLANT))
    assert check_anchors(records.log, source=HUB).ok
    assert [row.aged_out_at is None for row in records.frames.page()] == [True, True, False]
    assert records.frames.get(frame_row(1).id).pins == ("order:ord_1",)


def write_first_format(records: Records, clock: FakeClock) -> None:
    """How those files were made."""
    from lineside.store import anchor

    records.documents.put("order", "ord_1", body={"colour": "red", "state": "ORDERED"})
    records.documents.put("order", "ord_1", body={"colour": "red", "state": "SHIPPED"})
    entries = [log_entry(number, source=PLANT, subject="f/i/stock") for number in range(6)]
    records.log.append(entries[:4])
    anchor(records.log, clock=clock, source=HUB)
    clock.advance(60)
    records.log.append(entries[4:])
    assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 3
    records.frames.add([frame_row(second) for second in range(3)])
    records.frames.pin([frame_row(1).id], reason="order:ord_1")
    records.frames.age_out(older_than=NOON + timedelta(seconds=1))


def test_what_is_written_today_is_what_the_files_hold(clock: FakeClock) -> None:
    with open_records("memory://", clock=clock) as records:
        write_first_format(records, clock)
        check_first_format(records)


@pytest.mark.parametrize("form", ["0001", "0002", "0003"])
def test_a_database_of_an_earlier_format_opens(tmp_path: Path, clock: FakeClock, form: str) -> None:
    path = tmp_path / "records.db"
    shutil.copy(FORMATS / f"records-{form}.db", path)
    with open_records(f"sqlite:///{path}", clock=clock) as records:
        check_first_format(records)
        assert records.log.append([log_entry(9, source=PLANT)])[0].source_position == 7
        assert not records.frames.has_answers()
        assert (records.rule_sums.position(), records.rule_sums.find().series) == (0, ())
        (pinned,) = records.frames.find(FrameFilter(frames=(frame_row(1).id,))).frames
        assert (pinned.pins, pinned.answer) == (("order:ord_1",), None)


@pytest.mark.parametrize(
    ("form", "steps"), [("0001", ["0002", "0003", "0004"]), ("0003", ["0004"])]
)
def test_what_opening_would_change_is_said_and_nothing_changed(
    tmp_path: Path, clock: FakeClock, form: str, steps: list[str]
) -> None:
    path = tmp_path / "records.db"
    url = f"sqlite:///{path}"
    assert plan_upgrade(url) == UpgradePlan(found="", newest=NEWEST, steps=())
    assert not path.exists()
    shutil.copy(FORMATS / f"records-{form}.db", path)
    plan = plan_upgrade(url)
    assert (plan.found, plan.newest, [number for number, _ in plan.steps]) == (form, NEWEST, steps)
    assert all(what and "\n" not in what for _, what in plan.steps)
    assert plan_upgrade(url) == plan
    open_records(url, clock=clock).close()
    assert plan_upgrade(url) == UpgradePlan(found=NEWEST, newest=NEWEST, steps=())


@pytest.mark.service
def test_a_plan_for_postgresql_makes_no_tables(
    postgres_server: PostgresServer, clock: FakeClock
) -> None:
    url = postgres_server.fresh_database()
    assert [plan_upgrade(url).found for _ in range(2)] == ["", ""]
    open_records(url, clock=clock).close()
    assert plan_upgrade(url) == UpgradePlan(found=NEWEST, newest=NEWEST, steps=())


def test_a_backup_of_the_first_format_is_restored(tmp_path: Path, clock: FakeClock) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    restore(FORMATS / "backup-1.tar", records_url=url, blobs_url="memory://", clock=clock)
    with open_records(url, clock=clock) as records:
        order = records.documents.get("order", "ord_1")
        assert order.version == 2
        assert all(records.log.verify(source).ok for source in (HUB, PLANT))
