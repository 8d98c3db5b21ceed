"""How often a sighting that says it is 90 % sure is right.

    python benchmarks/sightings_reliability.py [--things 500]

Belts of 3 and 10 frames a second with 10 % and 30 % flicker, twice: errors that come alone, and
with three things in ten that look like another label's, which half of their frames say. Each is
read by the rule set by two numbers, and by one that learned from a clip of 40 things of the same
belt. A sighting is right when it is the one that lies over a thing most and says its label; one
that says ``unknown`` when it lies over a thing most. Intervals are Wilson's at 95 %.

Budget: where errors come alone, neither form promises significantly more than it keeps. Things
that look like another label's are shown without a budget. ``results/sightings_reliability.json``.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import measure
from sightings import THINGS_OF_A_BELT, belt, overlap_s, seen

from lineside.core import Rule
from lineside.core.plant_rules import DwellTimes, RuleInput, TrackStep
from lineside.streams.rules.contract import UNKNOWN, Output
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.tracks.learning import Stretch, fit_dwell_times, frames_of_records
from lineside.testing.belts import BLANK, Belt, Passed, records_of_belt, things_of
from lineside.vision.metrics import wilson

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.995, 1.01)
CLIP_THINGS = 40
TOLD = (0.9, 0.95)
"""The span that the answer tells of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Sightings that said a probability from ``low`` up to ``high``."""

    low: float
    high: float
    sightings: int
    said: float
    right: float
    interval: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=500)
    things = parser.parse_args().things
    result: dict[str, object] = {"things_per_belt": things}
    over: list[Span] = []
    for name, doubles in (("alone", 0.0), ("doubles", 0.3)):
        plans = [
            replace(belt(hz, flicker, looks=12, seed=7000 + seed), doubles=doubles)
            for hz in (3.0, 10.0)
            for flicker in (0.1, 0.3)
            for seed in range(max(1, things // THINGS_OF_A_BELT))
        ]
        for form in ("two_numbers", "learned"):
            spans = reliability(plans, learns=form == "learned")
            result[f"{form}_{name}"] = [asdict(one) for one in spans]
            over += [one for one in spans if name == "alone" and one.said > one.interval[1]]
            for one in spans:
                print(form, name, one, flush=True)
    measure.write("sightings_reliability", result, answer)
    assert not over, over


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    alone = [*result["two_numbers_alone"], *result["learned_alone"]]
    over = any(one["said"] > one["interval"][1] for one in alone)
    return (
        f"{percent(TOLD[0])} to {percent(TOLD[1])} % sure: {kept(result['two_numbers_alone'])}; "
        f"with similar labels {kept(result['two_numbers_doubles'], right='')}, "
        f"learned {kept(result['learned_doubles'], right='')}"
        f"{'; budget missed where errors come alone' if over else ''}."
    )


def kept(spans: Sequence[dict[str, Any]], *, right: str = " right") -> str:
    """How many of the sightings that said so were right."""
    one = next((each for each in spans if each["low"] == TOLD[0]), None)
    if one is None:
        return "none"
    low, high = one["interval"]
    return (
        f"{percent(one['right'])} %{right} "
        f"({percent(low)} to {percent(high)} %, n {one['sightings']:,})"
    )


def percent(share: float) -> str:
    """Whole percent; above 95 with a decimal."""
    return f"{100 * share:.{3 if share > 0.95 else 2}g}"


def reliability(plans: Sequence[Belt], *, learns: bool) -> list[Span]:
    """One row for each span of probabilities that was said."""
    told: list[tuple[float, bool]] = []
    for plan in plans:
        found, truth = sightings(plan, habits=habits_of(plan) if learns else None), things_of(plan)
        told += [
            (float(one.values["probability"]), is_right(one, found=found, truth=truth))
            for one in found
        ]
    return [
        span(inside, low=low, high=high)
        for low, high in pairwise(EDGES)
        if (inside := [one for one in told if low <= one[0] < high])
    ]


def span(told: Sequence[tuple[float, bool]], *, low: float, high: float) -> Span:
    right, count = sum(one for _, one in told), len(told)
    interval = wilson(right, count)
    return Span(
        low=low, high=high, sightings=count, said=round(fmean(said for said, _ in told), 4),
        right=round(right / count, 4),
        interval=(round(interval.low, 4), round(interval.high, 4)),
    )  # fmt: skip


def habits_of(plan: Belt) -> DwellTimes:
    """Of another clip of the same kind."""
    clip = replace(plan, seed=plan.seed + 1_000_000, things=CLIP_THINGS)
    frames = frames_of_records(records_of_belt(clip), TrackStep(blank=(BLANK,)))
    return fit_dwell_times(
        frames,
        [
            Stretch(from_us=round(one.begin_s * 1e6), to_us=round(one.end_s * 1e6), label=one.label)
            for one in things_of(clip)
        ],
    )


def sightings(plan: Belt, *, habits: DwellTimes | None) -> list[Output]:
    sighting = (
        TrackStep(blank=(BLANK,), dwell_s=plan.dwell_s[0] / 2, gap_s=plan.gap_s[0] / 2)
        if habits is None
        else TrackStep(blank=(BLANK,), learned="clip.json", habits=habits)
    )
    read = RuleInput(predictions="i", answers="each")
    step = make_step(Rule(id="seen", read=read, key=("camera",), sighting=sighting))
    found = [one for record in records_of_belt(plan) for one in step.feed(record, key=("c",))]
    return [*found, *step.advance(10**15)]


def is_right(one: Output, *, found: Sequence[Output], truth: Sequence[Passed]) -> bool:
    thing = max(truth, key=lambda each: overlap_s(seen(one), each))
    over_it = max(found, key=lambda each: overlap_s(seen(each), thing))
    if overlap_s(seen(one), thing) < 0 or over_it is not one:
        return False
    return one.values["label"] in {thing.label, UNKNOWN}


if __name__ == "__main__":
    main()
