"""How many events a second a rule takes, beside other ways to do the same.

``python benchmarks/streams.py [--quick] [--events 1000000] [--history 10000000] [--bytewax PYTHON]
[--without-spark] [--only-history]``. The rule: leave out ``Blank``, group by label, count in
windows of 5 s, tell those above 3. The events: answers of a sock camera, one JSON line each, in
order of time. Everybody reads the same file, decodes it and commits place, memory and results so
that a kill loses nothing (Bytewax: at least once, each second).

1. Each way in a process of its own: events a second once it is started, by the clock and by
   processor time of it and its children; the whole run with the start; largest memory, and how much
   larger that of the second half of the run was; and how long after a kill -9 in the middle the
   next process takes until it commits again. A core each. ``--bytewax`` names a Python that has it;
   Spark runs where pyspark and Java are installed.
2. Event → output of the hub's own rules over SQLite at 1,000 events a second (p99 ≤ 20 ms), with
   six keys and with ten thousand, among the hub's other readers of the log; both commits are on the
   disk. Beside it what the disk alone takes for as many bytes, in the same minute.
3. The hub's rate and latency with a long history in the log beside those with none (rate ≤ 1.1
   times lower). Ten million events take 8 GB under ``TMPDIR`` and some five minutes to write, the
   rest three; ``--history 0`` leaves this out.

``--quick`` takes a minute, with few events and a short history, and writes no results.
"""

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import measure
import stream_hub
from stream_feed import LABELS, line

from lineside.core import SystemClock
from lineside.store import open_records
from lineside.streams import EVENT_TYPE

EMBEDDED = Path(__file__).with_name("stream_embedded.py")
HERE = Path(__file__).parent / "stream_systems"
PER_FILE = 25_000
PAUSE = threading.Event()
OTHERS = {"sqlite loop": "SQLite loop", "bytewax": "Bytewax", "spark": "Spark"}
BUDGETS = {"events_per_s": 200_000, "p99_ms": 20.0, "history_ratio": 1.1}


def write_lines(folder: Path, *, count: int) -> Path:
    """All lines in one file, and the same in files of 25,000 for who reads folders."""
    draws = random.Random(7)  # noqa: S311  the same lines each time
    parts = folder / "parts"
    parts.mkdir()
    whole = folder / "events.jsonl"
    with whole.open("wb") as all_of_them:
        for begin in range(0, count, PER_FILE):
            texts = b"".join(
                line(number, draws.choice(LABELS))
                for number in range(begin, min(begin + PER_FILE, count))
            )
            all_of_them.write(texts)
            (parts / f"{begin:09d}.json").write_bytes(texts)
    return whole


# ---- each in a process of its own


def commands(lines: Path, folder: Path, *, bytewax: str, spark: bool) -> dict[str, list[str]]:
    """How each is started; what cannot run here is left out."""
    here = sys.executable
    found = {
        "lineside": [here, str(EMBEDDED), str(lines), str(folder / "lineside.db")],
        "sqlite loop": [here, str(HERE / "sqlite_loop.py"), str(lines), str(folder / "loop.db")],
    }
    if bytewax:
        flow = [bytewax, str(HERE / "bytewax_flow.py"), str(lines)]
        found["bytewax"] = [*flow, str(folder / "bytewax.out"), str(folder / "recovery")]
    if spark and importlib.util.find_spec("pyspark") and shutil.which("java"):
        job = [here, str(HERE / "spark_job.py"), str(lines.parent / "parts")]
        found["spark"] = [*job, str(folder / "spark.out"), str(folder / "checkpoint")]
        # The same rule as lineside says it on Spark; its workers must be this Python.
        names = [f"PYSPARK_PYTHON={here}", f"PYTHONPATH={Path(__file__).parent}"]
        ours = ["env", *names, here, str(HERE / "spark_rule.py"), str(lines.parent / "parts")]
        found["lineside on spark"] = [*ours, str(folder / "spark.out"), str(folder / "checkpoint")]
    return found


def results_of(name: str, folder: Path) -> int:
    """How many results stand there now."""
    if name == "lineside":
        with open_records(f"sqlite:///{folder / 'lineside.db'}", clock=SystemClock()) as records:
            return len(records.log.read(type=EVENT_TYPE, limit=1_000_000))
    if name == "sqlite loop":
        import sqlite3

        base = sqlite3.connect(folder / "loop.db")
        try:
            return int(base.execute("SELECT count(*) FROM told").fetchone()[0])
        finally:
            base.close()
    files = [folder / "bytewax.out"] if name == "bytewax" else _whole(folder / "spark.out")
    return sum(len(one.read_bytes().splitlines()) for one in files if one.exists())


def _whole(folder: Path) -> list[Path]:
    """The files that Spark's sink has committed: a kill leaves others behind."""
    told = [
        one for one in (folder / "_spark_metadata").glob("[0-9]*") if one.suffix in {"", ".compact"}
    ]
    rows = [row for one in told for row in one.read_text().splitlines() if row.startswith("{")]
    return [folder / name for name in {Path(json.loads(row)["path"]).name for row in rows}]


def run_whole(command: Sequence[str], *, events: int) -> dict[str, float]:
    begun = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        watch = Watch(process.pid)
        assert process.stdout is not None
        used_s, steady_s = (float(word) for word in process.stdout.read().split()[-2:])
        watch.stop()
    wall_s = perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{command[1]} ended with {process.returncode}")
    return {
        "events_per_s": round(events / steady_s), "steady_s": round(steady_s, 3),
        "with_start_s": round(wall_s, 3), "processor_s": round(watch.processor_s, 2),
        "events_per_processor_s": round(events / (used_s or watch.processor_s)),
        "memory_mb": round(watch.peak_kb / 1000), "memory_grew_mb": round(watch.grew_kb / 1000),
    }  # fmt: skip


class Watch:
    """Memory and processor time of a process and its children, looked at twenty times a second."""

    def __init__(self, pid: int) -> None:
        self._kb: list[int] = []
        self._used: dict[int, float] = {}
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def processor_s(self) -> float:
        return sum(self._used.values())

    @property
    def peak_kb(self) -> int:
        return max(self._kb, default=0)

    @property
    def grew_kb(self) -> int:
        """How much more the last quarter of the run took than the second."""
        quarter = max(1, len(self._kb) // 4)
        return max(self._kb[-quarter:], default=0) - max(self._kb[quarter : 2 * quarter], default=0)

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            family = list(_family(self._pid))
            self._kb.append(sum(_resident_kb(one) for one in family))
            self._used |= {one: used for one in family if (used := _processor_s(one))}


def _processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [one for task in tasks for one in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _resident_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(row.split()[1]) for row in status.splitlines() if row.startswith("VmRSS")), 0)


def recover(name: str, command: Sequence[str], *, folder: Path, after_s: float) -> dict[str, float]:
    """Killed in the middle; how long the next process takes until it adds to the results."""
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    PAUSE.wait(after_s)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = _progress(name, folder)
    begun = perf_counter()
    second = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while _progress(name, folder) == before and second.poll() is None:
        PAUSE.wait(0.02)
    taken_s = perf_counter() - begun
    second.wait()
    return {"killed_after_s": round(after_s, 2), "recovery_s": round(taken_s, 2)}


def _progress(name: str, folder: Path) -> object:
    """Something that changes with each commit, read without opening what is written."""
    watched = {
        "lineside": ["lineside.db-wal"], "sqlite loop": ["loop.db-wal"],
        "bytewax": ["bytewax.out"], "spark": ["checkpoint/commits"],
        "lineside on spark": ["checkpoint/commits"],
    }[name]  # fmt: skip
    found = []
    for path in (folder / one for one in watched):
        if path.is_dir():
            found.append(len(list(path.iterdir())))
        elif path.exists():
            found.append(path.stat().st_mtime_ns)
    return found


def compare(count: int, *, bytewax: str, spark: bool, rounds: int) -> dict[str, Any]:
    """Everybody in turn, ``rounds`` times; of each the fastest run, then one with a kill."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        lines = write_lines(Path(name), count=count)

        def named(folder: Path) -> dict[str, list[str]]:
            return commands(lines, folder, bytewax=bytewax, spark=spark)

        for turn in range(rounds):
            for system in named(Path(name)):
                folder = Path(name) / f"{system}-{turn}"
                folder.mkdir()
                run = run_whole(named(folder)[system], events=count)
                run["results"] = results_of(system, folder)
                slower = found.get(system, run)
                found[system] = max(run, slower, key=lambda one: one["events_per_s"])
                shutil.rmtree(folder)
        for system, whole in found.items():
            torn = Path(name) / f"{system}-torn"
            torn.mkdir()
            half_s = whole["with_start_s"] / 2
            found[system] |= recover(system, named(torn)[system], folder=torn, after_s=half_s)
            found[system]["results_after_kill"] = results_of(system, torn)
            print(system, found[system], file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--history", type=int, default=10_000_000, help="8 GB; 0: not")
    parser.add_argument("--bytewax", default="", help="a Python that has Bytewax")
    parser.add_argument("--without-spark", action="store_true", help="it takes minutes")
    parser.add_argument("--quick", action="store_true", help="a minute; nothing is written")
    parser.add_argument("--only-history", action="store_true", help="part 3, in a file of its own")
    asked = parser.parse_args()
    quick = asked.quick
    events, before = (100_000, 50_000) if quick else (asked.events, asked.history)
    seconds, times = (3, 1) if quick else (10, 3)
    if asked.only_history:
        found = stream_hub.history(before, measured=100_000, seconds=seconds, times=times)
        print(json.dumps(found, indent=2))
        if not quick:
            measure.write("streams_history", {"budgets": BUDGETS, "history": found}, history_answer)
        return
    result: dict[str, Any] = {"events": events, "budgets": BUDGETS}
    spark = not asked.without_spark
    result["systems"] = compare(events, bytewax=asked.bytewax, spark=spark, rounds=min(times, 2))
    result["latency"] = stream_hub.latencies(seconds=seconds, times=times)
    if before:
        result["history"] = stream_hub.history(
            before, measured=5000 if quick else 100_000, seconds=seconds, times=times
        )
    if not asked.bytewax:
        result["bytewax"] = "not run: name a Python that has it with --bytewax"
    if asked.without_spark:
        result["spark"] = "not run: --without-spark"
    print(json.dumps(result, indent=2))
    if not quick:
        measure.write("streams", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The comparison and the latency in one sentence."""
    budgets, systems = result["budgets"], result["systems"]
    own, least = systems["lineside"]["events_per_s"], budgets["events_per_s"]
    others = [
        f"{name} {systems[key]['events_per_s']:,}" for key, name in OTHERS.items() if key in systems
    ]
    late = [
        f"{one['p99_ms']:.1f} ms with {keys} (n {one['n']:,})"
        for keys, one in result["latency"].items()
    ]
    slowest = max(one["p99_ms"] for one in result["latency"].values())
    missed = f"; target {least:,} missed" if own < least else ""
    return (
        f"{own:,} events a second (n {result['events']:,}{missed}); {', '.join(others)}; "
        f"p99 {', '.join(late)}, {limit(slowest, most=budgets['p99_ms'], unit=' ms')}."
    )


def history_answer(result: dict[str, Any]) -> str:
    """What a long log does, in one sentence."""
    found, most = result["history"], result["budgets"]["history_ratio"]
    return (
        f"With {found['history']:,} events in the log {found['ratio']:.3g} of the time with none "
        f"(median of {len(found['full'])}; {limit(found['ratio'], most=most)})."
    )


def limit(figure: float, *, most: float, unit: str = "") -> str:
    return f"limit {most:g}{unit}{' missed' if figure > most else ''}"


if __name__ == "__main__":
    main()
