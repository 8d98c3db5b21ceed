"""How often each parser of bytes from outside was handed spoilt ones, and what came of it.

``python benchmarks/fuzz.py [--runs 2000] [--seed 1] [--only NAME]``: so many spoilt bytes for each
parser of ``tests/fuzz/parsers.py``. A run is *taken* or *refused* (with a sentence); anything else
is a fault, and printed with the seed that makes it again. Results: ``results/fuzz.json``, which
``--only`` leaves as it is.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import measure

sys.path.insert(0, str(Path(__file__).parents[1]))
from lineside.core import LinesideError
from tests.fuzz.parsers import PARSERS, Parser, drawn


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=2000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--only", default="")
    given = asked.parse_args()
    parsers = [one for one in PARSERS if given.only in ("", one.name)]
    found = {one.name: counted(one, runs=given.runs, seed=given.seed) for one in parsers}
    faults = sum(int(one["faults"]) for one in found.values())
    if not given.only:
        result = {
            "seed": given.seed, "runs": given.runs * len(parsers), "faults": faults,
            "parsers": found,
        }  # fmt: skip
        measure.write("fuzz", result, answer)
    return 1 if faults else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    parsers, runs = result["parsers"], f"{result['runs']:,}"
    failing = sum(one["faults"] > 0 for one in parsers.values())
    if not failing:
        return f"None of {len(parsers)} parsers in {runs} runs."
    return f"{failing} of {len(parsers)} parsers, with {result['faults']:,} faults in {runs} runs."


def counted(parser: Parser, *, runs: int, seed: int) -> dict[str, float]:
    """The counts of one parser."""
    seeds = list(parser.seeds())
    taken = refused = faults = 0
    longest_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(seed * 1_000_000, seed * 1_000_000 + runs):
            raw = drawn(random.Random(number), seeds)  # noqa: S311  the same bytes each time
            began_s = perf_counter()
            try:
                parser.read(raw, Path(folder))
                taken += 1
            except LinesideError:
                refused += 1
            except Exception as error:  # noqa: BLE001  counted, and the rest goes on
                faults += 1
                print(f"{parser.name} draw {number}: {type(error).__name__}: {error}"[:300])
            longest_s = max(longest_s, perf_counter() - began_s)
    told = {"runs": runs, "taken": taken, "refused": refused, "faults": faults}
    print(f"{parser.name}: {told}, longest {longest_s * 1000:.0f} ms", flush=True)
    return {**told, "longest_ms": round(longest_s * 1000, 1)}


if __name__ == "__main__":
    sys.exit(main())
