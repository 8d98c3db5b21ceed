"""A program of its own for the tests: it writes until it is killed, and says what was kept.

Run as ``python program.py RECORDS_URL BLOBS_URL SOURCE COUNT``; after each commit it prints the
number of the step. A step is one picture, one frame and three events. Behind them the program adds
up every event of the log, whoever wrote it.
"""

import sys
from datetime import timedelta

from lineside.core import SystemClock
from lineside.store import Records, open_blobs, open_records
from lineside.store.sums import SumEvent
from lineside.testing.clock import NOON
from lineside.testing.store import frame_row, log_entry


def event_at(position: int) -> SumEvent:
    """An entry of the log as sums take it: of one of seven names, at one of some hundred times."""
    return SumEvent(
        rule="r", key="Google", action="final", name=str(position % 7), position=position,
        at=NOON + timedelta(seconds=position * 7 % 101), counted=position,
    )  # fmt: skip


def add_up(records: Records) -> None:
    """What a follower of the log does."""
    while page := records.log.read(after=records.rule_sums.position(), limit=100):
        events = [event_at(one.position) for one in page]
        records.rule_sums.add(events)


def main(records_url: str, blobs_url: str, *, source: str, count: int) -> None:
    clock = SystemClock()
    blobs = open_blobs(blobs_url, clock=clock)
    with open_records(records_url, clock=clock) as records:
        first = sum(1 for _ in records.log.read(source=source, limit=1_000_000)) // 3
        for step in range(first, first + count):
            picture = f"{source} {step}".encode() * 50
            blobs.put(picture)
            with records.transaction():
                records.log.append([log_entry(step * 3, source=source)])
                records.frames.add([frame_row(step, camera=source, picture=picture)])
                records.log.append([log_entry(step * 3 + part, source=source) for part in (1, 2)])
            add_up(records)
            print(step, flush=True)  # noqa: T201  what the test reads


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], source=sys.argv[3], count=int(sys.argv[4]))
