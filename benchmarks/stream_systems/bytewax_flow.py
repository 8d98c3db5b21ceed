"""The rule of ``benchmarks/streams.py`` as a Bytewax flow; run by a Python that has Bytewax.

``python bytewax_flow.py LINES OUT RECOVERY``: recovery snapshots every second, in batches of 5,000.
Its last line says how many seconds it took, of the processor and of the clock.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

import bytewax.operators as op
from bytewax.connectors.files import FileSink, FileSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

lines, out, recovery = (Path(word) for word in sys.argv[1:4])


def decode(batch: list[str]) -> list[tuple[str, datetime]]:
    found = []
    for line in batch:
        event = json.loads(line)
        image = event["data"]["image"]
        if image != "Blank":
            found.append((image, datetime.fromisoformat(event["time"])))
    return found


flow = Dataflow("windows")
texts = op.input("lines", flow, FileSource(lines, batch_size=5000))
seen = op.flat_map_batch("decode", texts, decode)
clock = windowing.EventClock(ts_getter=lambda item: item[1], wait_for_system_duration=timedelta(0))
windower = windowing.TumblingWindower(
    length=timedelta(seconds=5), align_to=datetime(1970, 1, 1, tzinfo=UTC)
)
counted = windowing.count_window("count", seen, clock, windower, lambda item: item[0])
many = op.filter("having", counted.down, lambda item: item[1][1] > 3)
told = op.map("told", many, lambda item: (item[0], json.dumps([item[0], item[1][0], item[1][1]])))
op.output("out", told, FileSink(out))

if not recovery.exists():
    recovery.mkdir()
    init_db_dir(recovery, 1)
begun, used = perf_counter(), process_time()
cluster_main(
    flow, [], 0, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(recovery)
)
print(process_time() - used, perf_counter() - begun, flush=True)
