"""How many events a second a rule takes, beside other ways to do the same.

``python benchmarks/streams.py [--events 1000000] [--history 1000000] [--bytewax PYTHON]``. The
rule: leave out ``Blank``, group by label, count in windows of 5 s, tell those above 3. The events:
answers of a sock camera, one JSON line each, in order of time. Everybody reads the same file,
decodes it and commits place, memory and results so that a kill loses nothing (Bytewax: at least
once, each second).

1. Each way in a process of its own: events a second once it is started, by the clock and by
   processor time of it and its children; the whole run with the start; largest memory; and how long
   after a kill -9 in the middle the next process takes until it commits again. A core each.
   ``--bytewax`` names a Python that has it; Spark runs where pyspark and Java are installed.
2. Event → output of the hub's own runner over SQLite at 1,000 events a second, ten a commit as its
   readers do (p99 ≤ 20 ms); both commits are on the disk.
3. The runner's rate with and without a long history in the log (ratio ≤ 1.1).
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
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import measure

from lineside.core import Plant, SystemClock, parse_plant
from lineside.hub.ledger import Ledger, Recorded, to_entry
from lineside.hub.rules import Rules, rules_follower
from lineside.store import LogEntry, Records, open_records
from lineside.streams import EVENT_TYPE, Entry, Event, RuleEngine, rule_event

HERE = Path(__file__).parent / "stream_systems"
LABELS = ("Confluent", "Databricks", "Github", "Google", "Mongo", "Streamsets", "Blank")
START = datetime(2026, 1, 1, tzinfo=UTC)
KIND, TOPIC, BATCH, PER_FILE = "lineside.plant.message.v1", "sockfound", 5000, 25_000
PAUSE = threading.Event()
TOGETHER = 10  # events that the hub's readers take out of their mailbox at once
BUDGETS = {"events_per_s": 200_000, "p99_ms": 20.0, "history_ratio": 1.1}
PLANT = """
schema = "lineside.plant/1"
site = "bench"
[[rule]]
id = "windows"
read = {{ topic = "sockfound" }}
where = [{{ field = "image", none_of = ["Blank"] }}]
key = ["image"]
window = {{ size_s = 5 }}
having = [{{ field = "count", above = 3 }}]
emit = "{emit}"
"""


def plant_of(emit: str = "final") -> Plant:
    return parse_plant(PLANT.format(emit=emit).encode(), where="plant")


def event(number: int, *, at: datetime, label: str) -> Event:
    return Event(
        id=f"evt_{number:026d}", source="/bench/plant", type=KIND, subject=TOPIC, time=at,
        data={"image": label, "probability": 97.314453125, "topic": TOPIC},
    )  # fmt: skip


def line(number: int, label: str) -> bytes:
    at = (START + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
    return (
        b'{"data":{"image":"%s","probability":97.314453125,"topic":"sockfound"},'
        b'"datacontenttype":"application/json","id":"evt_%026d","source":"/bench/plant",'
        b'"specversion":"1.0","subject":"sockfound","time":"%s",'
        b'"type":"lineside.plant.message.v1"}\n'
        % (label.encode(), number, at.replace("+00:00", "Z").encode())
    )


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


# ---- lineside, embedded


def embedded(lines: Path, database: str) -> None:
    """The engine over a file: each batch's events, memory and place are one commit."""
    rule = plant_of().rule[0]
    engine = RuleEngine(rule)
    with open_records(f"sqlite:///{database}", clock=SystemClock()) as records:
        documents, place = records.documents, 0
        for kept in documents.page("bench"):
            engine.load(kept.body["state"])
            place = kept.body["place"]
        begun, used = perf_counter(), process_time()
        with lines.open("rb") as texts:
            for _ in islice(texts, place):
                pass
            while batch := list(islice(texts, BATCH)):
                arrived_us = place
                entries = [
                    Entry(type=KIND, subject=TOPIC, arrived_us=arrived_us, body=text)
                    for text in batch
                ]
                said = [
                    to_entry(rule_event(rule, one, digest=engine.digest, source="/bench/hub"))
                    for one in engine.take(entries)
                ]
                place += len(batch)
                with records.transaction():
                    if said:
                        records.log.append(said)
                    body = {"place": place, "state": engine.dump()}
                    documents.put("bench", "windows", body=body)
        print(process_time() - used, perf_counter() - begun, flush=True)


# ---- each in a process of its own


def commands(lines: Path, folder: Path, *, bytewax: str, spark: bool) -> dict[str, list[str]]:
    """How each is started; what cannot run here is left out."""
    here = sys.executable
    found = {
        "lineside": [here, __file__, "--embedded", str(lines), str(folder / "lineside.db")],
        "sqlite loop": [here, str(HERE / "sqlite_loop.py"), str(lines), str(folder / "loop.db")],
    }
    if bytewax:
        flow = [bytewax, str(HERE / "bytewax_flow.py"), str(lines)]
        found["bytewax"] = [*flow, str(folder / "bytewax.out"), str(folder / "recovery")]
    if spark and importlib.util.find_spec("pyspark") and shutil.which("java"):
        job = [here, str(HERE / "spark_job.py"), str(lines.parent / "parts")]
        found["spark"] = [*job, str(folder / "spark.out"), str(folder / "checkpoint")]
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
    files = [folder / "bytewax.out"] if name == "bytewax" else (folder / "spark.out").glob("*.json")
    return sum(len(one.read_bytes().splitlines()) for one in files if one.exists())


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
        "memory_mb": round(watch.peak_kb / 1000),
    }  # fmt: skip


class Watch:
    """Memory and processor time of a process and its children, looked at twenty times a second."""

    def __init__(self, pid: int) -> None:
        self.peak_kb = 0
        self._used: dict[int, float] = {}
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def processor_s(self) -> float:
        return sum(self._used.values())

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            family = list(_family(self._pid))
            self.peak_kb = max(self.peak_kb, sum(_resident_kb(one) for one in family))
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
    }[name]  # fmt: skip
    found = []
    for path in (folder / one for one in watched):
        if path.is_dir():
            found.append(len(list(path.iterdir())))
        elif path.exists():
            found.append(path.stat().st_mtime_ns)
    return found


def compare(count: int, *, bytewax: str, spark: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        lines = write_lines(Path(name), count=count)
        for system in commands(lines, Path(name), bytewax=bytewax, spark=spark):
            whole, torn = Path(name) / f"{system}-whole", Path(name) / f"{system}-torn"
            whole.mkdir()
            torn.mkdir()
            run = commands(lines, whole, bytewax=bytewax, spark=spark)[system]
            found[system] = run_whole(run, events=count)
            found[system]["results"] = results_of(system, whole)
            again = commands(lines, torn, bytewax=bytewax, spark=spark)[system]
            half_s = found[system]["with_start_s"] / 2
            found[system] |= recover(system, again, folder=torn, after_s=half_s)
            found[system]["results_after_kill"] = results_of(system, torn)
            print(system, found[system], file=sys.stderr)
    return found


# ---- the hub's runner


class Runner:
    """Ledger, rules and their follower over one database."""

    def __init__(self, records: Records, *, emit: str) -> None:
        plant = plant_of(emit)
        self.ledger = Ledger(records, plant=plant, clock=SystemClock())
        self.ledger.rebuild()
        rules = Rules(records, ledger=self.ledger, plant=plant, clock=SystemClock())
        self.follower = rules_follower(rules, records=records, ledger=self.ledger)


def latency(*, per_s: int, seconds: float) -> dict[str, float]:
    """From before events are recorded to after the commit of what the rule said of each."""
    begun: dict[str, float] = {}
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/hub.db"
        with open_records(url, clock=SystemClock()) as records:
            runner = Runner(records, emit="changes")

            def heard(recorded: Recorded) -> None:
                now = perf_counter()
                for one in recorded.events:
                    last = one.data.get("causes", ())[-1:]
                    taken.extend(now - begun.pop(cause) for cause in last if cause in begun)

            runner.ledger.listen(heard)
            runner.follower.start()
            start, clock = perf_counter(), datetime.now(tz=UTC)
            for begin in range(0, round(per_s * seconds), TOGETHER):
                while (ahead := start + begin / per_s - perf_counter()) > 0:
                    PAUSE.wait(ahead)
                batch = [
                    event(number, at=clock + timedelta(seconds=number / per_s),
                          label=LABELS[number % 6])
                    for number in range(begin, begin + TOGETHER)
                ]  # fmt: skip
                begun |= dict.fromkeys((one.id for one in batch), perf_counter())
                runner.ledger.record(batch)
            spent = perf_counter() - start
            PAUSE.wait(1.0)
            runner.follower.stop()
    return {**measure.percentiles(taken), "per_s": round(per_s * seconds / spent)}


def history(count: int, *, measured: int) -> dict[str, float]:
    """Entries of the log a second through the runner, with nothing before them and with much."""
    rates = []
    for before in (0, count):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/hub.db"
            with open_records(url, clock=SystemClock()) as records:
                fill(records, range(before))
                runner = Runner(records, emit="final")
                fill(records, range(before, before + measured))
                begun = perf_counter()
                handled = 0
                while handled < measured:
                    handled += runner.follower.step()
                rates.append(measured / (perf_counter() - begun))
    return {
        "history": count, "events_per_s_empty": round(rates[0]),
        "events_per_s_full": round(rates[1]), "ratio": round(rates[0] / rates[1], 3),
    }  # fmt: skip


def fill(records: Records, numbers: range) -> None:
    draws = random.Random(3)  # noqa: S311  as above
    for begin in range(numbers.start, numbers.stop, BATCH):
        batch = []
        for number in range(begin, min(begin + BATCH, numbers.stop)):
            at = START + timedelta(milliseconds=number)
            body = line(number, draws.choice(LABELS)).strip()
            batch.append(
                LogEntry(id=f"evt_{number:026d}", source="/bench/plant", type=KIND, subject=TOPIC,
                         captured_at=at, body=body)
            )  # fmt: skip
        records.log.append(batch)


def best(call: Callable[[], dict[str, float]], *, times: int, by: str) -> dict[str, float]:
    """The run least disturbed by whatever else the machine does; all values stand beside it."""
    runs = [call() for _ in range(times)]
    return {**min(runs, key=lambda run: run[by]), "all": [run[by] for run in runs]}  # type: ignore[dict-item]  # a list beside figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--measured", type=int, default=100_000)
    parser.add_argument("--bytewax", default="", help="a Python that has Bytewax")
    parser.add_argument("--without-spark", action="store_true", help="it takes minutes")
    parser.add_argument("--embedded", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.embedded:
        embedded(Path(asked.embedded[0]), asked.embedded[1])
        return
    result: dict[str, Any] = {"events": asked.events, "budgets": BUDGETS}
    result["systems"] = compare(asked.events, bytewax=asked.bytewax, spark=not asked.without_spark)
    result["latency"] = best(lambda: latency(per_s=1000, seconds=10), times=3, by="p99_ms")
    result["history"] = best(
        lambda: history(asked.history, measured=asked.measured), times=2, by="ratio"
    )
    if not asked.bytewax:
        result["bytewax"] = "not run: name a Python that has it with --bytewax"
    if asked.without_spark:
        result["spark"] = "not run: --without-spark"
    print(json.dumps(result, indent=2))
    measure.write("streams", result)


if __name__ == "__main__":
    main()
