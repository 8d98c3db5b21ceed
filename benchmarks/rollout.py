"""How often a harmless release is taken back, and after how many frames a bad one is.

Simulated rollouts of ten devices, looked at after every frame by the hub's own tests
(``lineside.fleet.evidence``). Harmless: each figure changes exactly at its tolerance, the worst
that is allowed. Bad: one figure changes more often, or scores move further. A test of a rate rises
with the count, so the least count that wins it is looked up for each frame; scores are computed for
all frames of a path at once, and held against the hub's function. Written to
``results/rollout.json``.
"""

import argparse
import json
import math
import sys
from typing import Any

import measure
import numpy as np
from numpy.typing import NDArray

from lineside.core import SystemClock
from lineside.fleet.evidence import LiveLimits, rate_fortune, score_fortune

DEVICES = 10
FIGURES = 6
FRAMES = 200
ROLLOUTS = 1000
BAD_RUNS = 200
MOST_FRAMES = 2000
NOISE = 0.1
LIMITS = LiveLimits(frames=FRAMES)
RATES = ("changed", "rejects_gained", "rejects_lost", "unsure_gained")
SHARES = (0.15, 0.2, 0.3, 0.5, 1.0)
MOVES = (0.15, 0.2, 0.3, 0.5)


def needed(false_alarm: float) -> float:
    """Logarithm at which a bet is won."""
    return math.log(DEVICES * FIGURES / false_alarm)


def least_counts(tolerance: float, *, wanted: float, most: int) -> NDArray[np.int64]:
    """For each number of frames the least count that wins; above it where none does."""
    found, count = [], 0
    for frames in range(1, most + 1):
        while count <= frames and rate_fortune(
            min(count, frames), frames=frames, tolerance=tolerance
        ) < wanted:  # fmt: skip
            count += 1
            if count > frames:
                break
        found.append(count)
        count = max(0, count - 1)
    return np.array(found)


def rate_alarms(rng: np.random.Generator, *, share: float, least: NDArray[np.int64],
                runs: int) -> NDArray[np.int64]:  # fmt: skip
    """The frame of the first alarm of each run; 0: none."""
    counts = np.cumsum(rng.random((runs, len(least))) < share, axis=1)
    return _first(counts >= least)


def score_alarms(rng: np.random.Generator, *, moved: float, wanted: float, most: int,
                 runs: int) -> NDArray[np.int64]:  # fmt: skip
    """The same of scores that move by so much on average."""
    return np.concatenate(
        [
            _first(_fortunes(np.clip(rng.normal(moved, NOISE, most), -1, 1))[None, :] >= wanted)
            for _ in range(runs)
        ]
    )


def _fortunes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    tolerance, frames = LIMITS.score, np.arange(1, len(values) + 1)
    total, squares = np.cumsum(values), np.cumsum(values**2)
    beyond = total - frames * tolerance
    spread = np.maximum(0, squares - 2 * tolerance * total + frames * tolerance**2)
    stakes = np.arange(1, 25)[:, None] / (24 * (1 + tolerance))
    logs = stakes * beyond - stakes**2 * spread / 2
    top = logs.max(axis=0)
    grown: NDArray[np.float64] = top + np.log(np.exp(logs - top).mean(axis=0))
    ours = score_fortune(
        float(total[-1]), squares=float(squares[-1]), frames=len(values), tolerance=tolerance
    )
    assert abs(grown[-1] - ours) < 1e-6, "not the hub's test any more"
    return grown


def _first(won: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(won.any(axis=1), won.argmax(axis=1) + 1, 0)


def taken_back(rng: np.random.Generator, *, stated: float) -> dict[str, Any]:
    """How many harmless rollouts are."""
    wanted, lost = needed(stated), np.zeros(ROLLOUTS, bool)
    tables = {t: least_counts(t, wanted=wanted, most=FRAMES) for t in (0.05, 0.1)}
    for _ in range(DEVICES):
        for name in RATES:
            share = getattr(LIMITS, name)
            lost |= rate_alarms(rng, share=share, least=tables[share], runs=ROLLOUTS) > 0
        for _ in range(2):
            lost |= score_alarms(
                rng, moved=LIMITS.score, wanted=wanted, most=FRAMES, runs=ROLLOUTS
            ) > 0  # fmt: skip
    return {"roll_outs": ROLLOUTS, "taken_back": int(lost.sum()), "rate": float(lost.mean())}


def spread(found: NDArray[np.int64]) -> dict[str, float]:
    """Of the frames to the first alarm."""
    caught = found[found > 0]
    if not len(caught):
        return {"caught": 0.0}
    return {
        "caught": round(len(caught) / len(found), 3),
        "frames_median": float(np.median(caught)),
        "frames_p95": float(np.percentile(caught, 95)),
    }


def main() -> None:
    """Simulate and write."""
    argparse.ArgumentParser(description=__doc__).parse_args()  # --help, and nothing else
    began_s, rng = SystemClock().monotonic(), np.random.default_rng(11)
    wanted = needed(LIMITS.false_alarm)
    found: dict[str, Any] = {
        "devices": DEVICES, "frames_per_device": FRAMES, "stated": LIMITS.false_alarm,
        "bad_roll_outs": BAD_RUNS,
        "harmless_at_tolerance": {str(s): taken_back(rng, stated=s) for s in (0.001, 0.05, 0.5)},
    }  # fmt: skip
    for name in ("changed", "rejects_gained"):
        tolerance = getattr(LIMITS, name)
        least = least_counts(tolerance, wanted=wanted, most=MOST_FRAMES)
        found[f"{name}_above_{tolerance:g}"] = {
            str(share): spread(rate_alarms(rng, share=share, least=least, runs=BAD_RUNS))
            for share in SHARES
        }
    found[f"score_moved_above_{LIMITS.score:g}"] = {
        str(moved): spread(
            score_alarms(rng, moved=moved, wanted=wanted, most=MOST_FRAMES, runs=BAD_RUNS)
        )
        for moved in MOVES
    }
    found["seconds"] = round(SystemClock().monotonic() - began_s, 1)
    measure.write("rollout", found, answer)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    (first, one), *others = result["harmless_at_tolerance"].items()
    said = [f"{one['taken_back']} of {one['roll_outs']:,} at a stated {100 * float(first):g} %"]
    said += [f"{each['taken_back']} at {100 * float(rate):g} %" for rate, each in others]
    name = next(name for name in result if name.startswith("changed_above_"))
    bad = result[name][str(2 * float(name.rpartition("_")[2]))]
    runs, caught = result.get("bad_roll_outs", BAD_RUNS), bad["caught"]
    of = f"{runs}" if caught == 1 else f"{caught * runs:.0f} of {runs}"
    found = f"after {bad['frames_median']:.0f} frames (median of {of})" if caught else "in no run"
    return f"{', '.join(said)}; twice the tolerated changes are found {found}."


if __name__ == "__main__":
    main()
