"""A program of its own for the tests: it writes until it is killed, and says what was kept.

Run as ``python program.py RECORDS_URL BLOBS_URL SOURCE COUNT``; after each commit it prints the
number of the step. A step is one picture, one frame and three events.
"""

import sys

from lineside.core import SystemClock
from lineside.store import open_blobs, open_records
from lineside.testing.store import frame_row, log_entry


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
            print(step, flush=True)  # noqa: T201  what the test reads


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], source=sys.argv[3], count=int(sys.argv[4]))
