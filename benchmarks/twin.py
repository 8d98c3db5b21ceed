"""What an event costs: encode, decode, fold into the twin, patch for the browsers.

    python benchmarks/twin.py [--rounds 3000]

The line is a warehouse of nine places with four classes each (36 answers), a hundred closed orders
and three open ones; every picture differs from the one before in all nine places. Figures are
processor time of this thread in microseconds: median and p99 over the rounds. Beside the patch
stands ``jsonpatch.make_patch`` on the same two states. The result goes to
benchmarks/results/twin.json.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonpatch

from lineside.core import to_plain
from lineside.core.factory import SLOTS
from lineside.streams import Event, decode_event, encode_event, prediction_event, read_prediction
from lineside.testing.events import after, picture_event, prediction_of, small_plant
from lineside.twin import LineState, apply, order_event, patch, place, replay

PLANT = small_plant()
NAMES = ("red", "blue", "empty", "white")


def busy_state() -> LineState:
    state = replay([picture_event(dict.fromkeys(SLOTS, "red"), at_s=1)], plant=PLANT)
    for number in range(103):
        name, slot = f"ord_{number}", SLOTS[number % 9]
        placed = order_event(name, "placed", at=after(2), site="hall", colour="red", slot=slot)
        closed = order_event(name, "released", at=after(3), site="hall", reason="done")
        state = replay([placed] if number > 99 else [placed, closed], plant=PLANT, state=state)
    return state


def pictures(rounds: int) -> list[Event]:
    return [
        picture_event(
            {slot: NAMES[(number + at) % 4] for at, slot in enumerate(SLOTS)}, at_s=10 + number
        )
        for number in range(rounds)
    ]


def spent_us(action: Callable[[int], object], *, rounds: int) -> dict[str, float]:
    for number in range(min(rounds, 50)):
        action(number)
    spent = []
    for number in range(rounds):
        began = time.thread_time()
        action(number)
        spent.append((time.thread_time() - began) * 1e6)
    spent.sort()
    return {
        "median_us": round(spent[rounds // 2], 1),
        "p99_us": round(spent[rounds * 99 // 100], 1),
    }


def measured(rounds: int) -> dict[str, dict[str, float]]:
    events, start = pictures(rounds), busy_state()
    raw = [encode_event(event) for event in events]
    states = [start]
    for event in events:
        states.append(apply(states[-1], event, plant=PLANT).state)
    prediction = prediction_of(dict.fromkeys(SLOTS, "red"), at_s=5)
    now = after(10 + rounds)

    def wrapped(number: int) -> Event:
        return prediction_event(prediction, site="s", device="d", sequence=number + 1, first=1)

    def by_library(number: int) -> object:
        return jsonpatch.make_patch(to_plain(states[number]), to_plain(states[number + 1]))

    def ordered(_: int) -> Event:
        return place(states[-1], colour="red", by="a", now=now, order_id="ord_x", plant=PLANT)

    actions: Sequence[tuple[str, Callable[[int], object]]] = (
        ("prediction_event", wrapped),
        ("encode_event", lambda number: encode_event(events[number])),
        ("decode_event", lambda number: decode_event(raw[number], where="")),
        ("read_prediction", lambda number: read_prediction(events[number])),
        ("apply", lambda number: apply(states[number], events[number], plant=PLANT)),
        ("patch", lambda number: patch(states[number], states[number + 1])),
        ("jsonpatch.make_patch", by_library),
        ("to_plain", lambda number: to_plain(states[number])),
        ("place", ordered),
    )
    return {name: spent_us(action, rounds=rounds) for name, action in actions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "twin.json")
    asked = parser.parse_args()
    result = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
        "rounds": asked.rounds,
        "figures": measured(asked.rounds),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
