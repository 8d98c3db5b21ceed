"""lineside's engine over a file, for ``benchmarks/streams.py``.

``python stream_embedded.py LINES DATABASE``: each batch's events, memory and place are one commit.
Its last line says how many seconds it took, of the processor and of the clock.
"""

import sys
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

from stream_feed import BATCH, KIND, TOPIC, plant_of

from lineside.core import SystemClock
from lineside.store import LogEntry, Records, open_records
from lineside.streams import Entry, RuleEngine, encode_event, rule_event
from lineside.streams.rules.contract import Output


def run(lines: Path, records: Records) -> None:
    """From where the last run came to, to the end of the file."""
    engine, place = RuleEngine(plant_of().rule[0]), 0
    for kept in records.documents.page("bench"):
        engine.load(kept.body["state"])
        place = kept.body["place"]
    with lines.open("rb") as texts:
        for _ in islice(texts, place):
            pass
        while batch := list(islice(texts, BATCH)):
            entries = [
                Entry(type=KIND, subject=TOPIC, arrived_us=place, body=text) for text in batch
            ]
            said = [logged(engine, one) for one in engine.take(entries)]
            place += len(batch)
            with records.transaction():
                if said:
                    records.log.append(said)
                body = {"place": place, "state": engine.dump()}
                records.documents.put("bench", "windows", body=body)


def logged(engine: RuleEngine, output: Output) -> LogEntry:
    event = rule_event(engine.rule, output, digest=engine.digest, source="/bench/hub")
    return LogEntry(
        id=event.id, source=event.source, type=event.type, subject=event.subject,
        captured_at=event.time, body=encode_event(event),
    )  # fmt: skip


def main() -> None:
    with open_records(f"sqlite:///{sys.argv[2]}", clock=SystemClock()) as records:
        begun, used = perf_counter(), process_time()
        run(Path(sys.argv[1]), records)
        print(process_time() - used, perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main()
