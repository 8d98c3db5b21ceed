"""How many answers the job service gives a second, and how long a rollout takes.

``python benchmarks/jobs.py [--things 1000]``: SQLite on disk, every answer durable. Each thing
starts its job, tells of progress and ends it: one message a commit, then 64 messages a commit (what
the hub takes at once when many wait), then the job is made and cancelled for all things. No broker
is in it. The time of the processor alone is given too, for a busy machine. Results:
``results/jobs.json``.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter, process_time
from typing import Any

import measure

from lineside.core import SystemClock
from lineside.fleet import JobService, NewJob, ThingDirectory
from lineside.store import open_records

BATCH = 64
DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}
Message = tuple[str, bytes]


def topic(thing: str, what: str) -> str:
    return f"$aws/things/{thing}/jobs/{what}"


def start(things: Sequence[str]) -> list[Message]:
    return [(topic(thing, "start-next"), b'{"statusDetails":{"step":"fetch"}}') for thing in things]


def update(things: Sequence[str], *, job: str, status: str) -> list[Message]:
    body = json.dumps({"status": status, "statusDetails": {"step": status.lower()}}).encode()
    return [(topic(thing, f"{job}/update"), body) for thing in things]


def rounds(things: Sequence[str], *, job: str) -> list[tuple[str, list[Message]]]:
    return [
        ("start-next", start(things)),
        ("update in progress", update(things, job=job, status="IN_PROGRESS")),
        ("update succeeded", update(things, job=job, status="SUCCEEDED")),
    ]


def answered(service: JobService, messages: Sequence[Message], *, batch: int) -> list[float]:
    """Seconds of each call; every request must have been accepted."""
    times_s = []
    for first in range(0, len(messages), batch):
        before_s = perf_counter()
        said = service.answers(messages[first : first + batch])
        times_s.append(perf_counter() - before_s)
        accepted = sum(one.topic.endswith("/accepted") for one in said)
        assert accepted == len(messages[first : first + batch])
    return times_s


def make(service: JobService, job: str, *, things: Sequence[str]) -> float:
    before_s = perf_counter()
    service.create(NewJob(job_id=job, targets=tuple(things), document=DOCUMENT))
    return perf_counter() - before_s


def rates(service: JobService, *, things: Sequence[str], batch: int) -> dict[str, object]:
    job = f"batch-{batch}"
    make(service, job, things=things)
    found: dict[str, object] = {}
    for name, messages in rounds(things, job=job):
        began_s = process_time()
        times_s = answered(service, messages, batch=batch)
        used_s = process_time() - began_s
        found[name] = {
            "answers_per_s": round(len(messages) / sum(times_s), 1),
            "processor_ms_per_answer": round(1000 * used_s / len(messages), 3),
            "call": measure.percentiles(times_s),
        }
    assert service.job(job).status == "COMPLETED"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=1000)
    asked = parser.parse_args()
    things = [f"edge-{number:04d}" for number in range(asked.things)]
    clock = SystemClock()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_records(f"sqlite:///{folder}/records.db", clock=clock) as records,
    ):
        directory = ThingDirectory(records)
        with records.transaction():
            for thing in things:
                directory.add(thing)
        service = JobService(records, clock=clock, directory=directory)
        make(service, "warm", things=things[:BATCH])
        service.cancel("warm", reason="warm-up")
        result: dict[str, object] = {
            "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "things": asked.things,
            "one_message_a_commit": rates(service, things=things, batch=1),
            "64_messages_a_commit": rates(service, things=things, batch=BATCH),
        }
        made_s = make(service, "all", things=things)
        before_s = perf_counter()
        service.cancel("all", reason="measured")
        result["create_s"] = round(made_s, 3)
        result["cancel_s"] = round(perf_counter() - before_s, 3)
    print(json.dumps(result, indent=2))
    print(measure.write("jobs", result, answer))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    single, together = (
        sorted(each["answers_per_s"] for each in result[f"{name}_a_commit"].values())
        for name in ("one_message", f"{BATCH}_messages")
    )
    return (
        f"{single[0]:,.0f} to {single[-1]:,.0f} with one message a commit, {together[0]:,.0f} to"
        f" {together[-1]:,.0f} with {BATCH} ({result['things']:,} devices)."
    )


if __name__ == "__main__":
    main()
