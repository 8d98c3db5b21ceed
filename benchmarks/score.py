"""Ten thousand stored frames through a package: Ray Data on this machine against the plain loop.

    python benchmarks/score.py [--frames 10000] [--workers 2]

Frames are rendered here and stored in a folder of blobs; the package is trained here on a few of
them. Both ways give the same lines, which is checked.
"""

import argparse
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from measure import write

from lineside.core import Digest, Inspection, SystemClock, Task
from lineside.store import open_blobs
from lineside.training import (
    Cluster,
    ScoredFrame,
    ScoreJob,
    TrainJob,
    run_job,
    score_here,
    score_on,
)
from lineside.vision import encode_jpeg

START = datetime(2026, 1, 1, tzinfo=UTC)
SIDE = 160


def picture(rng: np.random.Generator, *, dark: bool) -> bytes:
    image = rng.integers(100, 140, (SIDE, SIDE, 3)).astype(np.uint8)
    x, y = rng.integers(20, SIDE - 60, 2)
    image[y : y + 40, x : x + 40] = 30 if dark else 220
    return encode_jpeg(image)


def lessons(folder: Path, rng: np.random.Generator) -> None:
    for name, dark in (("dark", True), ("bright", False)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            (folder / name / f"{number}.jpeg").write_bytes(picture(rng, dark=dark))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    if find_spec("ray") is None:
        print("left out: Ray is not installed")
        return
    rng = np.random.default_rng(5)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        lessons(root / "lessons", rng)
        package = trained(root)
        url = f"file://{root}/blobs"
        blobs = open_blobs(url)
        frames = [stored(blobs.put(picture(rng, dark=bool(n % 2))), n) for n in range(asked.frames)]
        blobs.close()
        job = ScoreJob(package=package, frames=frames, blobs_url=url)
        result = compared(job, workers=asked.workers)
    print(result)
    print(write("score", {"frames": asked.frames, "workers": asked.workers, **result}, answer))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    same = "same answers" if result["same_answers"] else "the answers differ"
    return (
        f"With {result['workers']} workers at {result['ratio']:.2f} of a plain loop's rate "
        f"(n {result['frames']:,}), {same}."
    )


def trained(root: Path) -> bytes:
    inspection = Inspection(id="squares", camera="", task=Task.CLASSIFY, labels=("bright", "dark"))
    done = run_job(
        TrainJob(inspection=inspection, data=str(root / "lessons")),
        folder=root / "job",
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=SystemClock(),
    )
    return done.package


def stored(digest: Digest, number: int) -> ScoredFrame:
    return ScoredFrame(
        id=f"frm_{number:06d}",
        digest=digest,
        camera="line",
        captured_at=START + timedelta(seconds=number),
    )


def compared(job: ScoreJob, *, workers: int) -> dict[str, object]:
    """Plain, cluster, plain again: what the machine does meanwhile weighs on both."""
    first, plain = timed(job)
    start = perf_counter()
    lines = list(score_on(Cluster(workers=workers), job))
    cluster_s = perf_counter() - start
    second, _ = timed(job)
    plain_s = (first + second) / 2
    return {
        "plain_per_s": round(len(job.frames) / plain_s, 1),
        "cluster_per_s": round(len(job.frames) / cluster_s, 1),
        "ratio": round(plain_s / cluster_s, 3),
        "cluster_seconds_with_start": round(cluster_s, 1),
        "same_answers": [untimed(one) for one in lines] == [untimed(one) for one in plain],
    }


def timed(job: ScoreJob) -> tuple[float, list[bytes]]:
    start = perf_counter()
    lines = list(score_here(job))
    return perf_counter() - start, lines


def untimed(line: bytes) -> str:
    """A line without what took how long."""
    import json

    document = json.loads(line)
    document.get("prediction", {}).pop("latency_ms", None)
    return json.dumps(document, sort_keys=True)


if __name__ == "__main__":
    main()
