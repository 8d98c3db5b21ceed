"""The hub's own part of ``benchmarks/streams.py``: latency, and what a long history does."""

import os
import random
import statistics
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import measure
from stream_feed import BATCH, KIND, LABELS, START, TOPIC, line, plant_of

from lineside.core import Plant, SystemClock
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.ledger import Commit, Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.models.model_service import MODEL_TYPE
from lineside.hub.rules.service import Rules, rules_follower
from lineside.store import LogEntry, Records, open_records
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, Event
from lineside.twin import Snapshot, initial, save_snapshot

PAUSE = threading.Event()
TOGETHER = 10  # events that come at the same time
MOST_TAKEN = 60  # events that the hub's readers take out of their mailbox at once
COMMIT_BYTES = 64 * 1024  # what a commit of some events writes ahead
MANY = tuple(f"key {number}" for number in range(10_000))


class Runner:
    """Ledger, rules and their follower over one database, and the hub's other readers of the log.

    The others take what they want and do nothing with it.
    """

    def __init__(self, records: Records, *, plant: Plant) -> None:
        self.ledger = Ledger(records, plant=plant, clock=SystemClock())
        self.ledger.rebuild()
        self.rules = Rules(records, ledger=self.ledger, plant=plant, clock=SystemClock())
        self.follower = rules_follower(self.rules, records=records, ledger=self.ledger)
        wanted = (
            (hub_source(plant.site), EVENT_TYPE), ("", PREDICTION_TYPE), ("", MODEL_TYPE),
            ("", MODEL_TYPE),
        )  # fmt: skip
        self._others = [
            Follower(f"other {place}", records=records, ledger=self.ledger,
                     handle=lambda _page: None, source=source, type=kind)
            for place, (source, kind) in enumerate(wanted)
        ]  # fmt: skip

    def start(self) -> None:
        """All readers, each in its thread."""
        for follower in (self.follower, *self._others):
            follower.start()

    def stop(self) -> None:
        """All readers."""
        for follower in (self.follower, *self._others):
            follower.stop()


def latencies(*, seconds: float, times: int) -> dict[str, Any]:
    """With few keys and with many; of each the run in the middle, and the p99 of all beside."""
    few = plant_of(emit="changes")
    many = plant_of(emit="changes", size_s=600, above=0)
    return {
        "six keys": _middle([_fresh(few, LABELS[:6], seconds=seconds) for _ in range(times)]),
        "10,000 keys": _middle([_fresh(many, MANY, seconds=2 * seconds) for _ in range(times)]),
    }


def _fresh(plant: Plant, labels: Sequence[str], *, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hub.db"
        with open_records(f"sqlite:///{path}", clock=SystemClock()) as records:
            found = latency(records, plant, labels=labels, seconds=seconds)
        with open_records(f"sqlite:///{path}", clock=SystemClock()) as records:
            found |= restart(records, plant)
        return found | beside(found, disk(path.parent))


def latency(
    records: Records, plant: Plant, *, labels: Sequence[str], seconds: float, per_s: int = 1000
) -> dict[str, Any]:
    """From when each event comes to after the commit of what the rule said of it.

    Ten come together, as of ten cameras; who writes them takes what is there, as the hub's readers
    do. The rules are left as a kill leaves them.
    """
    begun: dict[str, float] = {}
    taken: list[float] = []
    runner = Runner(records, plant=plant)

    def heard(recorded: Commit) -> None:
        now = perf_counter()
        for one in recorded.events:
            last = one.data.get("causes", ())[-1:]
            taken.extend(now - begun.pop(cause) for cause in last if cause in begun)

    runner.ledger.listen(heard)
    runner.start()
    start, used, clock = perf_counter(), process_time(), datetime.now(tz=UTC)
    done, total, commits = 0, round(per_s * seconds), 0
    while done < total:
        while (ahead := start + done / per_s - perf_counter()) > 0:
            PAUSE.wait(ahead)
        came = TOGETHER * (1 + int((perf_counter() - start) * per_s / TOGETHER))
        came = min(total, came, done + MOST_TAKEN)
        batch = [
            event(number, at=clock + timedelta(seconds=number / per_s),
                  label=labels[number % len(labels)])
            for number in range(done, came)
        ]  # fmt: skip
        begun |= {
            one.id: start + number // TOGETHER * TOGETHER / per_s
            for number, one in enumerate(batch, start=done)
        }
        runner.ledger.record(batch)
        done, commits = came, commits + 1
    spent = perf_counter() - start
    PAUSE.wait(1.0)
    runner.stop()
    return {
        **measure.percentiles(taken), "per_s": round(per_s * seconds / spent),
        "events_per_commit": round(total / commits, 1),
        "processor_share": round((process_time() - used) / spent, 2),
    }  # fmt: skip


def event(number: int, *, at: datetime, label: str) -> Event:
    return Event(
        id=f"evt_{at.timestamp():017.6f}_{number}", source="/bench/plant", type=KIND, subject=TOPIC,
        time=at, data={"image": label, "probability": 97.314453125, "topic": TOPIC},
    )  # fmt: skip


def restart(records: Records, plant: Plant) -> dict[str, float]:
    """How long the next process takes until its rules stand where the killed one's stood."""
    begun = perf_counter()
    runner = Runner(records, plant=plant)
    again = 0
    while handled := runner.follower.step():
        again += handled
    runner.rules.keep()
    state_bytes = runner.rules.all()[0].state_bytes
    return {
        "restart_s": round(perf_counter() - begun, 3), "taken_again": again,
        "memory_bytes": state_bytes,
    }  # fmt: skip


def disk(folder: Path, *, times: int = 400) -> dict[str, float]:
    """What the disk takes for the bytes of a commit, at the pace of the events."""
    taken = []
    with (folder / "disk").open("wb", buffering=0) as file:
        file.write(bytes(COMMIT_BYTES * times))
        os.fsync(file.fileno())
        for place in range(times):
            PAUSE.wait(0.005)
            file.seek(COMMIT_BYTES * place)
            begun = perf_counter()
            file.write(os.urandom(COMMIT_BYTES))
            os.fdatasync(file.fileno())
            taken.append(perf_counter() - begun)
    return measure.percentiles(taken)


def beside(found: dict[str, Any], floor: dict[str, float]) -> dict[str, Any]:
    """The disk's figures, and p99 as a multiple of two such writes."""
    ratio = found.get("p99_ms", 0.0) / (2 * floor["p99_ms"])
    return {
        "disk_p50_ms": floor["p50_ms"], "disk_p99_ms": floor["p99_ms"],
        "p99_to_two_writes": round(ratio, 2),
    }  # fmt: skip


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run whose p99 is the median; the p99 of all beside it, for disks are shared."""
    ordered = sorted(runs, key=lambda run: float(run.get("p99_ms", 0.0)))
    return {**ordered[len(ordered) // 2], "all_p99_ms": [run.get("p99_ms") for run in runs]}


# ---- with and without a history


def history(count: int, *, measured: int, seconds: float, times: int) -> dict[str, Any]:
    """The rules' rate and latency with nothing before them and with much, turn by turn."""
    plant = plant_of()
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.db"
        begun = perf_counter()
        with open_records(f"sqlite:///{full}", clock=SystemClock()) as records:
            fill(records, range(count))
            _keep_twin(records, plant)
        filled_s = perf_counter() - begun
        runs = []
        for turn in range(times):
            empty = Path(folder) / f"empty{turn}.db"
            begin = count + turn * measured
            runs.append((rate(empty, plant, numbers=range(measured)),
                         rate(full, plant, numbers=range(begin, begin + measured))))  # fmt: skip
        found = _compared(runs)
        found |= {"history": count, "filled_per_s": round(count / filled_s)}
        found["history_gb"] = round(full.stat().st_size / 1e9, 2)
        changes = plant_of(emit="changes")
        for name, path in (("empty", Path(folder) / "latency.db"), ("full", full)):
            with open_records(f"sqlite:///{path}", clock=SystemClock()) as records:
                _keep_twin(records, changes)
                late = latency(records, changes, labels=LABELS[:6], seconds=seconds)
                found[f"latency_{name}"] = late
        return found


def _compared(runs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    def ratio(name: str) -> float:
        return round(statistics.median(empty[name] / full[name] for empty, full in runs), 3)

    return {
        "ratio": ratio("events_per_s"), "processor_ratio": ratio("events_per_processor_s"),
        "empty": [empty for empty, _ in runs], "full": [full for _, full in runs],
    }  # fmt: skip


def rate(path: Path, plant: Plant, *, numbers: range) -> dict[str, float]:
    """Entries of the log a second through the rules, what stands in it before aside."""
    with open_records(f"sqlite:///{path}", clock=SystemClock()) as records:
        begun = perf_counter()
        runner = Runner(records, plant=plant)
        start_s = perf_counter() - begun
        fill(records, numbers)
        begun, used, handled = perf_counter(), process_time(), 0
        while handled < len(numbers):
            handled += runner.follower.step()
        spent_s, used_s = perf_counter() - begun, process_time() - used
        runner.rules.keep()
        _keep_twin(records, plant)
    return {
        "events_per_s": round(len(numbers) / spent_s), "start_s": round(start_s, 3),
        "events_per_processor_s": round(len(numbers) / used_s),
    }  # fmt: skip


def _keep_twin(records: Records, plant: Plant) -> None:
    """As a hub does every 2,000 positions: its next start does not read the log from its start."""
    newest = records.log.read(newest_first=True, limit=1)
    if newest:
        snapshot = Snapshot(state=initial(plant), position=newest[0].position)
        save_snapshot(records.documents, snapshot, plant=plant)


def fill(records: Records, numbers: range) -> None:
    """Events straight into the log."""
    draws = random.Random(3)  # noqa: S311  the same each time
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
