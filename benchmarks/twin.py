"""What an event costs: encode, decode, fold into the twin, patch for the browsers.

    python benchmarks/twin.py [--rounds 3000] [--history 1000000]

The line is a warehouse of nine places with four classes each (36 answers), a hundred closed orders
and three open ones; every picture differs from the one before in all nine places. Figures are
processor time of this thread in microseconds: median and p99 over the rounds. Beside the patch
stands ``jsonpatch.make_patch`` on the same two states.

History: a ledger writes ``--history`` events to SQLite, ten a second (of twenty one picture, one
station, else sensors), and keeps checkpoints as a hub does. Then the twin is asked for at times
spread over all of it, as ``GET /twin?at=`` does, twice; after that once more without any
checkpoint, as for a log that was written before there were some. Wall time in milliseconds.
Budget: 2 s for each first request where checkpoints stand.

The result goes to benchmarks/results/twin.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import jsonpatch
import measure

from lineside.core import rfc3339, to_plain
from lineside.core.factory import SLOTS
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.twin_history import known_twin_at
from lineside.store import Records, open_records
from lineside.streams import Event, decode_event, encode_event, prediction_event, read_prediction
from lineside.testing import FakeClock
from lineside.testing.clock import NOON
from lineside.testing.events import (
    after,
    picture_event,
    plant_event,
    prediction_of,
    small_plant,
    station_event,
)
from lineside.twin import LineState, apply, order_event, patch, place, replay
from lineside.twin.fold import forget_checkpoints

PLANT = small_plant()
_TOGETHER = 500
_EVENTS_PER_S = 10
_ASKED = 20
LIMIT_S = 2.0
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


def written(records: Records, *, clock: FakeClock, count: int) -> float:
    """Write a long log by a ledger; seconds that it took."""
    begin = perf_counter()
    ledger = Ledger(records, plant=PLANT, clock=clock)
    stations = [one.code for one in PLANT.twin.station] if PLANT.twin else []
    for first in range(0, count, _TOGETHER):
        events = []
        for number in range(first, min(count, first + _TOGETHER)):
            at_s = number / _EVENTS_PER_S
            if number % 20 == 0:
                seen = {slot: NAMES[(number // 20 + at) % 4] for at, slot in enumerate(SLOTS)}
                events.append(picture_event(seen, at_s=at_s))
            elif number % 20 == 10:
                code = stations[number // 20 % len(stations)]
                events.append(station_event(code, active=number % 40 == 10, at_s=at_s))
            else:
                events.append(plant_event("sensor", at_s=at_s, t=20 + number % 7))
        ledger.record(events)
        clock.advance(_TOGETHER / _EVENTS_PER_S)
    return perf_counter() - begin


def history(count: int) -> dict[str, object]:
    """Milliseconds to tell the twin at times of a long log."""
    clock = FakeClock(NOON)
    with (
        tempfile.TemporaryDirectory(prefix="lineside-twin-") as folder,
        open_records(f"sqlite:///{folder}/records.db", clock=clock) as records,
    ):
        took_s = written(records, clock=clock, count=count)
        span_s = (clock.now() - NOON).total_seconds()
        times = [NOON + timedelta(seconds=span_s * (n + 0.5) / _ASKED) for n in range(_ASKED)]

        def asked(of: Sequence[datetime]) -> list[float]:
            spent = []
            for at in of:
                began = perf_counter()
                known_twin_at(
                    records, rfc3339(at), plant=PLANT, now=clock.now(), keep=records.documents
                )
                spent.append(perf_counter() - began)
            return spent

        first, again = asked(times), asked(times)
        forget_checkpoints(records.documents, before=2 * count, plant=PLANT)
        middle = [times[_ASKED // 2]]
        return {
            "events": count,
            "written_per_s": round(count / took_s),
            "first": measure.percentiles(first),
            "again": measure.percentiles(again),
            "without_checkpoints": {
                "first_ms": round(asked(middle)[0] * 1e3, 1),
                "again_ms": round(asked(middle)[0] * 1e3, 1),
                "others": measure.percentiles(asked(times[: _ASKED // 2])),
            },
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=None, help="another file")
    asked = parser.parse_args()
    result = {
        "rounds": asked.rounds,
        "figures": measured(asked.rounds),
        "history": history(asked.history),
    }
    measure.write("twin", result, answer, out=asked.out)
    print(json.dumps(result, indent=2))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    fold, own, library = (
        f"{result['figures'][name]['median_us']:,.0f} µs"
        for name in ("apply", "patch", "jsonpatch.make_patch")
    )
    first = result["history"]["first"]
    missed = " missed" if first["max_ms"] > LIMIT_S * 1000 else ""
    return (
        f"Fold {fold} and patch {own} (medians, n {result['rounds']:,}), `jsonpatch` {library}; "
        f"an earlier state of {result['history']['events']:,} events within "
        f"{first['max_ms']:,.0f} ms (n {first['n']}; limit {LIMIT_S:g} s{missed})."
    )


if __name__ == "__main__":
    main()
