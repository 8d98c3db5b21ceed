"""Time and memory of `lineside train` for `classify`, beside the least that makes a classifier.

    LINESIDE_DATA=… python benchmarks/training_speed.py [--rounds 3] [--epochs 1]

Each round runs four programs, one after the other, on the 332 images of casting:

1. ``frozen``: `lineside train` without fine-tuning and with an empty feature cache: features at
   three input sizes, folds, evaluation, report and package.
2. ``peer``: ``training_peer.py``: features at one size and one logistic regression, no evidence.
3. ``tuned``: `lineside train` with fine-tuning in any case and few epochs, its frozen features from
   the cache of the first.
4. ``tuned, memory given back``: the same with malloc as glibc sets it; its package has to have the
   same bytes.

Beside them 1,328 entries of a feature cache are written, four for each image as ``frozen`` does,
synced and not synced: the time that the program waits, as the system writes later.

Each program is a process of its own on one thread. Wall, user and kernel seconds, page faults and
peak memory are the system's (wait4); figures are medians over rounds, ratios medians of the ratios
within a round. The exit status is 1 where a target is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import measure
import numpy as np

from lineside.core.files import replacing_durably, replacing_unsynced
from lineside.models import Package
from lineside.training.common.backbone import lite0_full
from lineside.training.job import save_arrays
from lineside.training.tasks.classify.features import features_bytes

SET = "casting"
PEER = Path(__file__).with_name("training_peer.py")
MOST_S, MOST_KERNEL_S = 12.0, 3.5
ENTRIES = 1328
GIVES_BACK = (
    "import lineside.training.run as run; run.keep_freed_memory = lambda: None;"
    "from lineside.cli import main; main()"
)
BACK = "tuned, memory given back"
RATIOS = {
    "frozen to peer, wall": (("frozen", "wall_s"), ("peer", "wall_s")),
    "frozen to peer, user": (("frozen", "user_s"), ("peer", "user_s")),
    "tuned to memory given back, kernel": (("tuned", "kernel_s"), (BACK, "kernel_s")),
    "tuned to memory given back, wall": (("tuned", "wall_s"), (BACK, "wall_s")),
    "tuned to memory given back, peak memory": (("tuned", "peak_mb"), (BACK, "peak_mb")),
    "entries not synced to synced": (("entries", "not synced_s"), ("entries", "synced_s")),
}
Spent = dict[str, float]


def spent_by(*arguments: str | Path) -> Spent:
    """Figures of a Python program that has to end well."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # noqa: TID251  handed on to a child
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started_s = perf_counter()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = perf_counter() - started_s
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"exit status {child.returncode}: {command}")
    return {
        "wall_s": round(wall_s, 2),
        "user_s": round(usage.ru_utime, 2),
        "kernel_s": round(usage.ru_stime, 2),
        "page_faults": usage.ru_minflt,
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
        "load": round(os.getloadavg()[0], 2),
    }


def entries_written(folder: Path) -> Spent:
    """Seconds of writing the entries, by how they are written."""
    arrays = {"pooled": np.random.default_rng(0).normal(size=3424).astype(np.float32)}
    told = {}
    for name, replacing in (("synced", replacing_durably), ("not synced", replacing_unsynced)):
        started_s = perf_counter()
        for number in range(ENTRIES):
            path = folder / name / f"{number % 256:02x}" / f"{number}.npz"
            save_arrays(path, arrays, replacing=replacing)
        told[f"{name}_s"] = round(perf_counter() - started_s, 3)
    return told


def one_round(data: Path, work: Path, *, epochs: int, swapped: bool) -> dict[str, Spent]:
    """Figures of each program; ``work`` is an empty folder; ``swapped`` turns the last two."""
    network, cache = work / "network.onnx", work / "cache"
    network.write_bytes(features_bytes(lite0_full(), scales=1))
    train = ("train", "--task", "classify", "--data", data, "--cache", cache)
    tune = (*train, "--setting", "tune=2", "--setting", f"epochs={epochs}")
    kept, given_back = work / "kept.lspkg", work / "given-back.lspkg"
    runs: dict[str, tuple[str | Path, ...]] = {
        "frozen": ("-m", "lineside", *train, "--setting", "tune=0"),
        "peer": (PEER, network, data, work / "model.npz"),
        "tuned": ("-m", "lineside", *tune, "--out", kept),
        BACK: ("-c", GIVES_BACK, *tune, "--out", given_back),
    }
    last = (BACK, "tuned") if swapped else ("tuned", BACK)
    told = {name: spent_by(*runs[name]) for name in ("frozen", "peer", *last)}
    if Package.open(kept).digest != Package.open(given_back).digest:
        raise SystemExit("malloc's settings changed the package")
    return {**told, "entries": entries_written(work / "entries")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = os.environ.get("LINESIDE_DATA")  # noqa: TID251  the benchmark's own switch
    parser.add_argument("--data", type=Path, default=known)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("name the folder of data sets by --data or LINESIDE_DATA")
    rounds = []
    for number in range(asked.rounds):
        with tempfile.TemporaryDirectory(prefix="training-speed-") as made:
            data = Path(asked.data).resolve() / SET
            rounds.append(one_round(
                data, Path(made), epochs=asked.epochs, swapped=number % 2 == 1
            ))  # fmt: skip
        print(f"round {number + 1} of {asked.rounds}: {rounds[-1]}", flush=True)
    figures = {
        name: {key: median(one[name][key] for one in rounds) for key in rounds[0][name]}
        for name in rounds[0]
    }
    met = {
        f"training within {MOST_S:g} s": figures["frozen"]["wall_s"] <= MOST_S,
        f"kernel time of fine-tuning within {MOST_KERNEL_S:g} s": (
            figures["tuned"]["kernel_s"] <= MOST_KERNEL_S
        ),
    }
    ratios = {
        name: round(median(one[a][key] / one[b][other] for one in rounds), 3)
        for name, ((a, key), (b, other)) in RATIOS.items()
    }
    settings = {"data": SET, "rounds": asked.rounds, "epochs": asked.epochs, "threads": 1}
    result = {"ratios": ratios, **settings, "targets": met, "medians": figures, "each": rounds}
    measure.write("training_speed", result, answer)
    return 0 if all(met.values()) else 1


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    ratios, medians = result["ratios"], result["medians"]
    frozen, tuned = medians["frozen"], medians["tuned"]
    late = " missed" if frozen["wall_s"] > MOST_S else ""
    slow = " missed" if tuned["kernel_s"] > MOST_KERNEL_S else ""
    return (
        f"{ratios['frozen to peer, user']:.1f} times the processor time of a script without"
        f" evidence: {frozen['user_s']:.0f} s, and {frozen['wall_s']:.0f} s of the clock at load"
        f" {frozen['load']:.0f} (target {MOST_S:g} s{late}). With {result['epochs']} epoch of"
        f" fine-tuning {ratios['tuned to memory given back, kernel']:.2f} of the kernel time with"
        f" malloc's defaults: {tuned['kernel_s']:.1f} s (target {MOST_KERNEL_S:g} s{slow}); medians"
        f" of {result['rounds']} rounds."
    )


if __name__ == "__main__":
    sys.exit(main())
