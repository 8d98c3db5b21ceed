"""Formats: made by migrations, the same as the tables, newer ones refused, old ones opened."""

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from lineside.core import RefusedError
from lineside.store import FrameFilter, Records, check_anchors, open_records, restore
from lineside.store.records import SqlRecords
from lineside.store.session import NEWEST
from lineside.store.tables import metadata
from lineside.testing import FakeClock
from lineside.testing.store import HUB, NOON, frame_row, log_entry
from tests.store.conftest import PostgresServer

FORMATS = Path(__file__).parents[1] / "data" / "formats"
PLANT = "/site/plant"


def differences(records: Records) -> list[object]:
    """Between the migrated database and the tables the code uses, indexes left out."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    def wanted(*words: object) -> bool:
        return words[2] != "index"

    assert isinstance(records, SqlRecords)
    with records._session.reading() as connection:
        options = {"version_table": "lineside_format", "include_object": wanted}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


def indexes_of(engine: sa.Engine, *, query: str) -> set[str]:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(query).scalars()
        return {text for text in found if "lineside_format" not in text}


def check_the_same(records: Records, made: sa.Engine, *, indexes: str) -> None:
    """``made`` is an empty database, to be filled from the tables as the code has them."""
    assert differences(records) == []
    metadata.create_all(made)
    assert isinstance(records, SqlRecords)
    migrated = indexes_of(records._session.flavour.reader, query=indexes)
    assert migrated == indexes_of(made, query=indexes)
    assert len(migrated) > 10
    made.dispose()


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based")
def test_migrations_end_at_the_tables(tmp_path: Path, clock: FakeClock) -> None:
    with open_records(f"sqlite:///{tmp_path}/records.db", clock=clock) as records:
        query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        check_the_same(records, sa.create_engine(f"sqlite:///{tmp_path}/made.db"), indexes=query)


@pytest.mark.service
def test_migrations_end_at_the_tables_on_postgresql(
    postgres_server: PostgresServer, clock: FakeClock
) -> None:
    with open_records(postgres_server.fresh_database(), clock=clock) as records:
        query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        url = sa.make_url(postgres_server.fresh_database()).set(drivername="postgresql+psycopg")
        check_the_same(records, sa.create_engine(url), indexes=query)


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
    records.frames.age_out(older_than=NOON + timedelta(seconds=1), keep_bytes=None)


def test_what_is_written_today_is_what_the_files_hold(clock: FakeClock) -> None:
    with open_records("memory://", clock=clock) as records:
        write_first_format(records, clock)
        check_first_format(records)


@pytest.mark.parametrize("form", ["0001", "0002"])
def test_a_database_of_an_earlier_format_opens(tmp_path: Path, clock: FakeClock, form: str) -> None:
    path = tmp_path / "records.db"
    shutil.copy(FORMATS / f"records-{form}.db", path)
    with open_records(f"sqlite:///{path}", clock=clock) as records:
        check_first_format(records)
        assert records.log.append([log_entry(9, source=PLANT)])[0].source_position == 7
        assert not records.frames.has_answers()
        (pinned,) = records.frames.find(FrameFilter(frames=(frame_row(1).id,))).frames
        assert (pinned.pins, pinned.answer) == (("order:ord_1",), None)


def test_a_backup_of_the_first_format_is_restored(tmp_path: Path, clock: FakeClock) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    restore(FORMATS / "backup-1.tar", records_url=url, blobs_url="memory://", clock=clock)
    with open_records(url, clock=clock) as records:
        order = records.documents.get("order", "ord_1")
        assert order.version == 2
        assert all(records.log.verify(source).ok for source in (HUB, PLANT))
