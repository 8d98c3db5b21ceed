"""How fast lists of frames are when there are many.

``python benchmarks/pictures.py [--url postgresql://…] [--frames 1000000]`` fills a database with
frames of eight cameras and answers to them (2 % rejects, 1 % unsure, a label on 20 frames alone),
then measures pages of 50: the first one and one from the middle, by each kind of filter, and the
count above them. Budget: 250 ms (p95). Results: ``results/pictures.json`` (SQLite) or
``results/pictures-postgresql.json``.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from time import perf_counter
from typing import Any

import measure
from store import START, frames

from lineside.core import SystemClock
from lineside.store import (
    FrameAnswer,
    FrameFilter,
    FrameOrder,
    FrameRow,
    Records,
    open_records,
)
from lineside.vision.verdict import PartVerdict

BUDGET_MS = 250.0
RARE = 20
_BATCH = 2000


def answer_to(row: FrameRow, number: int, *, chance: random.Random, rare: bool) -> FrameAnswer:
    score = chance.random()
    reject, unsure = number % 50 == 0, number % 100 == 1
    label = "burr" if rare else "scratch" if reject or unsure else "good"
    verdict = PartVerdict.REVIEW if unsure else PartVerdict.REJECT if reject else PartVerdict.OK
    return FrameAnswer(
        frame=row.id, camera=row.camera, captured_at=row.captured_at, inspection="plates",
        package=f"sha256:{number % 3}", verdict=verdict, label=label, labels=(label,),
        score=score, doubt=chance.random() / 2 + unsure / 2, unsure=unsure,
    )  # fmt: skip


def fill(records: Records, *, count: int) -> float:
    """Seconds that it took."""
    start, chance, number = perf_counter(), random.Random(1), 0  # noqa: S311  a simulation
    rows: Iterator[FrameRow] = frames(count)
    while batch := list(islice(rows, _BATCH)):
        batch = [replace(row, part=f"part-{number + n:07d}") for n, row in enumerate(batch)]
        said = [
            answer_to(row, number + n, chance=chance, rare=(number + n) % (count // RARE) == 0)
            for n, row in enumerate(batch)
        ]
        with records.transaction():
            records.frames.add(batch)
            records.frames.answer(said)
        number += len(batch)
    held = [row.id for row in records.frames.page(limit=_BATCH)]
    records.frames.pin(held, reason="dataset:plates")
    return perf_counter() - start


def filters(count: int) -> dict[str, FrameFilter]:
    middle = START + timedelta(milliseconds=25 * count // 2)
    five_minutes = FrameFilter(since=middle, until=middle + timedelta(minutes=5))
    reject = (PartVerdict.REJECT,)
    return {
        "all": FrameFilter(),
        "line of four cameras": FrameFilter(cameras=tuple(f"camera-{n}" for n in range(4))),
        "rejects": FrameFilter(verdicts=reject),
        "rejects and reviews of a camera": FrameFilter(
            verdicts=(*reject, PartVerdict.REVIEW), cameras=("camera-2",)
        ),
        "rejects of five minutes": replace(five_minutes, verdicts=reject),
        "unsure": FrameFilter(unsure=True),
        "label": FrameFilter(label="scratch"),
        "label of 20 frames": FrameFilter(label="burr"),
        "label and package that share none": FrameFilter(label="burr", package="sha256:9"),
        "narrow score range": FrameFilter(least_score=0.5, most_score=0.5001),
        "score range that nothing has": FrameFilter(least_score=2.0),
        "part": FrameFilter(part=f"part-{count // 2:07d}"),
        "package": FrameFilter(package="sha256:1"),
        "dataset of 2000": FrameFilter(dataset="plates"),
        "by score": FrameFilter(order=FrameOrder.SCORE),
        "by score of a camera": FrameFilter(order=FrameOrder.SCORE, cameras=("camera-5",)),
        "by doubt of five minutes": replace(five_minutes, order=FrameOrder.DOUBT),
    }


def measured(records: Records, wanted: FrameFilter, *, times: int) -> dict[str, dict[str, float]]:
    frames_of = records.frames
    deep = frames_of.find(wanted, limit=1000).following
    found = {
        "first page": measure.percentiles(
            measure.timed(lambda: frames_of.find(wanted, limit=50), times=times, warm_up=3)
        ),
        "count": measure.percentiles(
            measure.timed(lambda: frames_of.count(wanted), times=times, warm_up=1)
        ),
    }
    for _ in range(20):  # some 20,000 frames further down, where there are as many
        deep = frames_of.find(wanted, before=deep, limit=1000).following if deep else ""
    if deep:
        found["deep page"] = measure.percentiles(
            measure.timed(
                lambda: frames_of.find(wanted, before=deep, limit=50), times=times, warm_up=3
            )
        )
    return found


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    figures = (one for of_list in result["lists"].values() for one in of_list.values())
    slowest = max(figures, key=lambda one: float(one["p95_ms"]))
    noted = f", {result['note'].partition(':')[0]}" if result["note"] else ""
    late = " missed" if slowest["p95_ms"] > BUDGET_MS else ""
    return (
        f"p95 up to {slowest['p95_ms'] / 1000:.2g} s (n {slowest['n']} each, "
        f"{result.get('database', 'SQLite')}{noted}; budget {BUDGET_MS / 1000:g} s{late})."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="", help="records to fill; a new SQLite file if left out")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--note", default="", help="what else the machine did")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lineside-pictures-") as folder:
        url = asked.url or f"sqlite:///{folder}/records.db"
        with open_records(url, clock=SystemClock()) as records:
            took_s = fill(records, count=asked.frames)
            lists = {
                name: measured(records, wanted, times=asked.times)
                for name, wanted in filters(asked.frames).items()
            }
    result = {
        "note": asked.note,
        "database": "PostgreSQL" if asked.url.startswith("postgresql") else "SQLite",
        "frames": asked.frames,
        "added_per_s": round(asked.frames / took_s),
        "lists": lists,
    }
    print(measure.write("pictures" if not asked.url else "pictures-postgresql", result, answer))
    worst = max(figures["p95_ms"] for one in lists.values() for figures in one.values())
    print(f"p95 of the slowest list: {worst} ms, budget {BUDGET_MS} ms")
    return 0 if worst <= BUDGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
