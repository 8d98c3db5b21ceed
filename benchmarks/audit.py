"""Coverage of the 95 % intervals that the random audit of the review queue states.

A simulated line passes and rejects parts with true rates of its own: of its parts some are bad,
of the bad ones some pass, of the good ones some are rejected. The audit draws each part by itself
with the line's shares. The figures of ``vision.audit`` are then compared with the true rates.

Rates and numbers are those of lines whose audit is large enough to say something: 10,000 to
500,000 parts in a week, 1 to 10 % of them bad, 2 to 20 % of the bad ones missed, 0.2 to 5 % of the
good ones rejected, 2 to 20 % of the passed and 5 to 100 % of the rejected parts audited; each drawn
evenly over its logarithm. A second table has also lines that expect hardly an audited escape: there
the interval holds the truth more often than stated, because a share of a few parts has few values.

Run ``python benchmarks/audit.py``; writes ``benchmarks/results/audit.json``.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import measure
import numpy as np

from lineside.vision.audit import AuditFigures, AuditStratum, audit_figures
from lineside.vision.metrics import Interval, wilson

FIGURES = ("escape", "false_reject", "missed", "over_reject")
RANGES = {
    "parts": (10_000, 500_000), "bad": (0.01, 0.1), "missed": (0.02, 0.2),
    "over_reject": (0.002, 0.05), "audit": (0.02, 0.2), "audit_rejects": (0.05, 1.0),
}  # fmt: skip
SMALL = {**RANGES, "parts": (2_000, 200_000), "missed": (0.002, 0.2), "audit": (0.005, 0.2)}
LINES = 1_000
BINS = (0.0, 1.0, 3.0, 10.0, 100.0, np.inf)


def simulate_audit(
    rng: np.random.Generator, ranges: Mapping[str, tuple[float, float]] = RANGES
) -> tuple[AuditFigures, dict[str, float], float]:
    """One line: what the audit states, the true rates, and how many audited escapes it expects."""
    drawn = {
        name: float(np.exp(rng.uniform(np.log(low), np.log(high))))
        for name, (low, high) in ranges.items()
    }
    parts = round(drawn["parts"])
    bad, missed, over = drawn["bad"], drawn["missed"], drawn["over_reject"]
    chances = [(1 - bad) * (1 - over), (1 - bad) * over, bad * missed, bad * (1 - missed)]
    good_passed, good_rejected, bad_passed, bad_rejected = rng.multinomial(parts, chances)
    shares = {"passed": drawn["audit"], "rejected": drawn["audit_rejects"]}
    strata = {
        verdict: AuditStratum(
            good=(g := int(rng.binomial(good, shares[verdict]))),
            bad=(b := int(rng.binomial(bads, shares[verdict]))),
            parts=(g + b) / shares[verdict],
        )
        for verdict, good, bads in (
            ("passed", good_passed, bad_passed), ("rejected", good_rejected, bad_rejected)
        )
    }  # fmt: skip
    truth = {
        "escape": chances[2] / (chances[0] + chances[2]),
        "false_reject": chances[1] / (chances[1] + chances[3]),
        "missed": missed, "over_reject": over,
    }  # fmt: skip
    found = audit_figures(passed=strata["passed"], rejected=strata["rejected"])
    return found, truth, parts * chances[2] * shares["passed"]


def holds(interval: Interval | None, truth: float) -> bool:
    """Whether the interval holds the truth; a figure that is not stated claims nothing."""
    return interval is None or interval.low <= truth <= interval.high


def coverage(*, lines: int, seed: int) -> dict[str, float]:
    """Of each figure the share of simulated lines whose interval holds the truth."""
    rng = np.random.default_rng(seed)
    held = dict.fromkeys(FIGURES, 0)
    for _ in range(lines):
        found, truth, _expected = simulate_audit(rng)
        for name in FIGURES:
            held[name] += holds(getattr(found, name), truth[name])
    return {name: count / lines for name, count in held.items()}


def by_expected(*, lines: int, seed: int) -> list[dict[str, float]]:
    """Coverage of the escape rate by how many audited escapes a line expects; Wilson beside it."""
    rng = np.random.default_rng(seed)
    found_by: dict[int, list[tuple[bool, bool]]] = defaultdict(list)
    for _ in range(lines):
        found, truth, expected = simulate_audit(rng, SMALL)
        escape = found.escape
        if escape is None:
            continue
        score = wilson(round(escape.value * escape.n), escape.n)
        place = int(np.searchsorted(BINS, expected, side="right"))
        found_by[place].append((holds(escape, truth["escape"]), holds(score, truth["escape"])))
    return [
        {
            "expected_from": float(BINS[place - 1]), "lines": len(pairs),
            "mid_p": round(float(np.mean([one for one, _ in pairs])), 4),
            "wilson": round(float(np.mean([two for _, two in pairs])), 4),
        }
        for place, pairs in sorted(found_by.items())
    ]  # fmt: skip


def main() -> None:
    """Measure, print and keep."""
    argparse.ArgumentParser(description=__doc__).parse_args()  # --help, and nothing else
    measure.write(
        "audit",
        {
            "stated": 0.95,
            "ranges": RANGES,
            "ranges_of_small_audits": SMALL,
            "thousand_lines": coverage(lines=LINES, seed=1),
            "ten_thousand_lines": coverage(lines=10_000, seed=2),
            "escape_by_expected_number": by_expected(lines=10_000, seed=3),
        },
        answer,
    )


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    held = result["thousand_lines"].values()
    return (
        f"They do in {100 * min(held):.1f} to {100 * max(held):.1f} % of {LINES:,} simulated lines."
    )


if __name__ == "__main__":
    main()
