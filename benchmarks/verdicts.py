"""One verdict for each of 100,000 parts of three cameras, with late, doubled and missing answers.

    python benchmarks/verdicts.py [--parts 100000]

Answers arrive up to a second out of order; of a hundred one is doubled, one is missing and one is
late. Memory is written and loaded every thousand answers, as after a kill. Asserts one verdict for
each part. Results: ``results/verdicts.json``.
"""

import argparse
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import measure

from lineside.core import decode_json, parse_plant
from lineside.streams import Event, LineVerdicts, read_verdict
from lineside.streams.verdicts import InspectionAnswer
from lineside.vision.verdict import PartVerdict

NAMES = ("top", "side", "back")
PLANT = parse_plant(
    "\n".join(
        ['schema = "lineside.plant/1"', 'site = "werk"', '[[line]]\nid = "press"\nname = "Press"']
        + [f'[[camera]]\nid = "{one}"\nline = "press"\nsource = "mqtt:cam/{one}"' for one in NAMES]
        + [f'[[inspection]]\nid = "{one}"\ncamera = "{one}"\ntask = "anomaly"' for one in NAMES]
    ).encode(),
    where="plant.toml",
)
AT = datetime(2026, 1, 1, tzinfo=UTC)
SECOND_US, EVERY_US, KILL_EVERY = 1_000_000, 100_000, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=100_000)
    count = parser.parse_args().parts
    waiting = answers(count)
    began = perf_counter()
    events = judged(waiting)
    seconds = perf_counter() - began
    given = [read_verdict(event) for event in events]
    parts = Counter(one.part for one in given)
    assert len(parts) == count, len(parts)
    assert set(parts.values()) == {1}, parts.most_common(3)
    assert len({event.id for event in events}) == count
    result = {
        "parts": count, "answers": len(waiting), "seconds": round(seconds, 2),
        "us_each_answer": round(seconds / len(waiting) * 1e6, 1),
        "verdicts": dict(Counter(str(one.verdict) for one in given)),
    }  # fmt: skip
    print(result)
    measure.write("verdicts", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence; that all do is asserted before."""
    return (
        f"All {result['parts']:,} do, at {result['us_each_answer']:.0f} µs for each of "
        f"{result['answers']:,} answers."
    )


def answers(count: int) -> list[tuple[int, InspectionAnswer]]:
    """Answers in the order of arrival, with the time of it in microseconds."""
    rng = random.Random(7)  # noqa: S311  nothing secret
    found: list[tuple[int, InspectionAnswer]] = []
    for number in range(count):
        for name in NAMES:
            if name != "top" and rng.random() < 0.01:
                continue
            late_us = 10 * SECOND_US if name != "top" and rng.random() < 0.01 else 0
            told = InspectionAnswer(
                inspection=name, event=f"evt_{number}_{name}", camera=name,
                frame=f"frm_{number}_{name}", part=f"p{number}", package="sha256:0",
                captured_at=AT + timedelta(microseconds=number * EVERY_US),
                verdict=rng.choice(list(PartVerdict)[::2]),
            )  # fmt: skip
            at_us = number * EVERY_US + rng.randrange(SECOND_US) + late_us
            found += [(at_us, told)] * (1 + (rng.random() < 0.01))
    return sorted(found, key=lambda one: one[0])


def judged(waiting: list[tuple[int, InspectionAnswer]]) -> list[Event]:
    line = LineVerdicts(PLANT, "press")
    line.expect(NAMES)
    events: list[Event] = []
    for number, (at_us, told) in enumerate(waiting):
        events += line.add(told, at_us=at_us)
        if number % KILL_EVERY == 0:
            kept = decode_json(line.written(), where="memory")
            line = LineVerdicts(PLANT, "press")
            line.load(kept)
    return events + line.advance(2**60)


if __name__ == "__main__":
    main()
