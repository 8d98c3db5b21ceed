"""What the search for near-duplicates costs and finds, by number of pictures.

    python benchmarks/leaks.py [--most 60000]

Vectors as pictures give them (768 numbers, and 2,304 of fine structure in half precision) are drawn
at random; for one in a hundred there is another at a similarity of .96, just above what counts.
Up to 12,000 every pair is compared; beyond, neighbours by name and buckets of random hyperplanes.
Budgets: at 20,000, what ``dataset freeze`` looks at by default, 60 s on one thread, 1 GB and nine
of ten pairs found. Results: ``results/leaks.json``.
"""

import argparse
import json
import resource
import subprocess
import sys
from time import perf_counter
from typing import Any

import measure
import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest
from lineside.datasets import Part, Sample
from lineside.datasets.leaks import Appearance, check_leaks

SIZES = (2_000, 12_000, 20_000, 60_000)
DEFAULT = 20_000
MOST_S, MOST_MB, LEAST_FOUND = 60.0, 1024.0, 0.9
APART = 1.73  # of vectors whose numbers spread by 5, this much noise leaves a similarity of .96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=max(SIZES))
    parser.add_argument("--size", type=int, default=0, help="run one size in this process")
    asked = parser.parse_args()
    if asked.size:
        print(json.dumps(searched(asked.size)))
        return
    result = {str(size): in_a_process(size) for size in SIZES if size <= asked.most}
    for size, told in result.items():
        print(size, told)
    usual = result.get(str(DEFAULT))
    if usual is not None:
        assert usual["seconds"] < MOST_S, usual
        assert usual["peak_mb"] < MOST_MB, usual
        assert usual["found"] >= LEAST_FOUND * usual["pairs_alike"], usual
    measure.write("leaks", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    sizes = [size for size in SIZES if str(size) in result]
    first, *larger = [size for size in sizes if size >= DEFAULT] or sizes[-1:]

    def found(size: int, *, noun: str = "") -> str:
        one = result[str(size)]
        return f"{one['found']:,} of {one['pairs_alike']:,}{noun} among {size:,}"

    one = result[str(first)]
    said = f"{found(first, noun=' pairs')} images in {one['seconds']:.1f} s"
    more = [f"{found(size)} in {result[str(size)]['seconds']:.1f} s" for size in larger]
    return ", ".join((f"{said} and {one['peak_mb']:,.0f} MB", *more)) + "."


def in_a_process(size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def searched(size: int) -> dict[str, float]:
    samples = [
        Sample(
            name=f"{number:06d}.jpg",
            digest=Digest(f"sha256:{number:064x}"),
            split=Part.TEST if number % 5 == 0 else Part.TRAIN,
        )
        for number in range(size)
    ]
    vectors, fine = drawn(size, twins=size // 100)
    looks = {
        sample.digest: Appearance(vector=vectors[place], fine=fine[place])
        for place, sample in enumerate(samples)
    }
    began = perf_counter()
    report = check_leaks(samples, looks)
    return {
        "seconds": round(perf_counter() - began, 2),
        "pairs_alike": size // 100,
        "found": report.check.found,
        "compared_share": round(report.check.compared / report.check.pairs, 5),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def drawn(size: int, *, twins: int) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 5, (size, 768)).astype(np.float32)
    vectors[size - twins :] = vectors[:twins] + rng.normal(0, APART, (twins, 768))
    fine = np.empty((size, 2304), np.float16)
    for place in range(size):
        structure = rng.normal(0, 1, 2304).astype(np.float32)
        fine[place] = structure / np.linalg.norm(structure)
    fine[size - twins :] = fine[:twins]
    return vectors, fine


if __name__ == "__main__":
    main()
