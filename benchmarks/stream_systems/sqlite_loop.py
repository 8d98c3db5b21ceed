"""The rule of ``benchmarks/streams.py`` as a plain loop: one dict, one SQLite transaction a batch.

``python sqlite_loop.py LINES DATABASE``: what somebody would write by hand who trusts that lines
come in order of time. Place, open windows and results are one commit, so it survives a kill too.
Its last line says how many seconds it took, of the processor and of the clock.
"""

import json
import sqlite3
import sys
from datetime import datetime
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

SIZE_S, BATCH = 5, 5000
lines, database = sys.argv[1:3]
base = sqlite3.connect(database, isolation_level=None)
base.execute("PRAGMA journal_mode = WAL")
base.execute("CREATE TABLE IF NOT EXISTS told (begin INTEGER, image TEXT, many INTEGER)")
base.execute("CREATE TABLE IF NOT EXISTS memory (id INTEGER PRIMARY KEY, place INTEGER, body TEXT)")
kept = base.execute("SELECT place, body FROM memory WHERE id = 1").fetchone() or (0, "{}")
place = kept[0]
windows = {tuple(json.loads(name)): many for name, many in json.loads(kept[1]).items()}

begun, used = perf_counter(), process_time()
with Path(lines).open("rb") as texts:
    for _ in islice(texts, place):
        pass
    while batch := list(islice(texts, BATCH)):
        told = []
        for text in batch:
            event = json.loads(text)
            image = event["data"]["image"]
            if image == "Blank":
                continue
            at = datetime.fromisoformat(event["time"]).timestamp()
            begin = int(at // SIZE_S) * SIZE_S
            for name in [name for name in windows if name[0] < begin]:
                many = windows.pop(name)
                if many > 3:
                    told.append((*name, many))
            windows[begin, image] = windows.get((begin, image), 0) + 1
        place += len(batch)
        body = json.dumps({json.dumps(name): many for name, many in windows.items()})
        base.execute("BEGIN IMMEDIATE")
        base.executemany("INSERT INTO told VALUES (?, ?, ?)", told)
        base.execute("INSERT OR REPLACE INTO memory VALUES (1, ?, ?)", (place, body))
        base.execute("COMMIT")
print(process_time() - used, perf_counter() - begun, flush=True)
