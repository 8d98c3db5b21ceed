"""An event may name any frame: what a message said of itself stops nobody who writes it down."""

import pytest

from lineside.core import parse_plant
from lineside.hub.eventlog.ledger import Ledger
from lineside.store import open_records
from lineside.streams import EVENT_TYPE, Event
from lineside.testing import FakeClock
from tests.store.conftest import PostgresServer, postgres_server

__all__ = ["postgres_server"]


@pytest.mark.service
def test_a_frame_that_no_database_can_hold_is_passed_over(postgres_server: PostgresServer) -> None:
    plant, clock = (
        parse_plant(b'schema = "lineside.plant/1"\nsite = "hall"', where="p"),
        FakeClock(),
    )
    with open_records(postgres_server.fresh_database(), clock=clock) as records:
        ledger = Ledger(records, plant=plant, clock=clock)
        ledger.rebuild()
        said = Event(
            id="evt_1", source="/hall/hub", type=EVENT_TYPE, subject="windows", time=clock.now(),
            data={"frame": "frm\0"},
        )  # fmt: skip
        assert ledger.record([said]).logged[0].entry.id == "evt_1"
        assert [one.entry.id for one in records.log.read()] == ["evt_1"]
