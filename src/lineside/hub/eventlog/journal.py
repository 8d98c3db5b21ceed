"""Changes by people, each an event of the hub's chain in the transaction that makes the change.

Inside the hub the ledger is the journal; a command that runs beside it writes into the same chain
through ``BesideJournal``, which folds no twin.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lineside.core import Clock, Json, new_id
from lineside.hub.eventlog.ledger import SERIAL, to_entry
from lineside.hub.eventlog.topics import hub_source
from lineside.store import Logged, Records
from lineside.streams import Event


class Journal(Protocol):
    """Where events are written, with further writes of the same transaction."""

    def record(
        self, events: Sequence[Event], *, within: Callable[[list[Logged]], None] | None = None
    ) -> object:
        """Commit the events, and what ``within`` writes, or nothing of both."""
        ...


class BesideJournal:
    """For programs beside the hub, over records they opened."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def record(
        self, events: Sequence[Event], *, within: Callable[[list[Logged]], None] | None = None
    ) -> object:
        with self._records.transaction():
            self._records.serialise(SERIAL)
            logged = self._records.log.append([to_entry(event) for event in events])
            if within is not None:
                within(logged)
        return logged


def person_event(
    kind: str, *, subject: str, site: str, clock: Clock, told: Mapping[str, Json]
) -> Event:
    """An event about what a person did; every one is its own."""
    return Event(
        id=new_id("evt", clock=clock),
        source=hub_source(site),
        type=kind,
        subject=subject,
        time=clock.now(),
        data=dict(told),
    )
