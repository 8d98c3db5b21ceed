"""Whether this state of the project gives the answers that an earlier commit gave, task by task.

    python benchmarks/answers.py --before COMMIT [--images 1000] [--tasks classify,count]

1. For each task the earlier state trains a small package of drawn images, by its own command.
2. Both states answer the same further images, JPEG, with that package: `lineside predict --json`.
   The Python environment is the same for both; an earlier state whose libraries are gone, or whose
   command had other options, cannot be compared.
3. ``digest`` is that of all answers: state, verdict, labels, probabilities, boxes, counts, scores
   and masks. Times and sentences are left out, as are fields that only one of the two states has.
   ``changed`` counts images that are answered otherwise in any of these.

The default of ``--before`` is the last commit before the work on speed began. The exit status is 1
where an answer differs.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
from quantize import KINDS, SLOTS, plates, racks

from lineside.core import digest_of, encode
from lineside.testing.pictures import tray_folder
from lineside.vision import decode_picture, encode_jpeg

ROOT = Path(__file__).parents[1]
BEFORE = "674d78a8"
LEFT_OUT = frozenset({"file", "latency_ms", "reason", "reasons"})
PLANT = """
schema = "lineside.plant/1"
site = "bench"
[[line]]
id = "line"
name = "Line"
[[camera]]
id = "bench"
name = "Bench"
line = "line"
source = "mqtt:bench"
[[inspection]]
id = "bench"
camera = "bench"
task = "multilabel"
[inspection.view]
width_px = 320
height_px = 240
""" + "".join(
    f"""
[[inspection.region]]
id = "{slot}"
label = "{slot}"
box_px = {{ x0_px = {x - 26}, y0_px = {y - 26}, x1_px = {x + 26}, y1_px = {y + 26} }}
"""
    for slot, (x, y) in SLOTS.items()
)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Images of a task.

    Attributes:
        make: writes a source of at least so many into a folder.
        train: how many the package learns from.
        options: of the training.
    """

    make: Callable[[Path, int], Path]
    train: int
    options: Sequence[str]


def _plates(folder: Path, images: int) -> Path:
    return plates(folder, kinds=KINDS, each=-(-images // len(KINDS)))


def _good_plates(folder: Path, images: int) -> Path:
    return plates(folder, kinds=KINDS, each=-(-images // len(KINDS)), good_only=True)


SHORT = ("--setting", "steps=120")
TASKS: Mapping[str, Drawn] = {
    "multilabel": Drawn(
        make=lambda folder, images: racks(folder, pictures=images), train=64,
        options=("--plant", "plant.toml", "--inspection", "bench"),
    ),
    "classify": Drawn(make=_plates, train=120, options=("--setting", "tune=0")),
    "segment": Drawn(make=_plates, train=60, options=("--setting", "steps=40")),
    "anomaly": Drawn(make=_good_plates, train=90, options=()),
    "detect": Drawn(
        make=lambda folder, images: tray_folder(folder, pictures=images, marks="boxes"), train=100,
        options=SHORT,
    ),
    "count": Drawn(
        make=lambda folder, images: tray_folder(folder, pictures=images, marks="points"), train=100,
        options=SHORT,
    ),
}  # fmt: skip


def sources_of(commit: str, folder: Path) -> Path:
    """The Python sources of a commit, written into the folder."""
    command = ["git", "-C", str(ROOT), "archive", commit, "src"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    return folder / "src"


def run(sources: Path, arguments: Sequence[str], *, folder: Path) -> bytes:
    """What a command prints, by the sources named."""
    done = subprocess.run(
        [sys.executable, "-m", "lineside", *arguments], cwd=folder, capture_output=True,
        check=False, env={**os.environ, "PYTHONPATH": str(sources)},  # noqa: TID251  for children
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"{sources}: lineside {arguments[0]} failed: {done.stderr.decode()[-600:]}"
        )
    return done.stdout


def jpegs(source: Path, folder: Path) -> list[str]:
    """The images of a source as JPEG files in the folder; their names."""
    folder.mkdir()
    names = []
    for path in sorted(source.rglob("*.png")):
        if path.parent.name in {"masks", "empty"}:
            continue
        names.append(f"{folder.name}/{path.stem}.jpg")
        (folder / f"{path.stem}.jpg").write_bytes(encode_jpeg(decode_picture(path.read_bytes())))
    return names


def compared(task: str, *, before: Path, images: int, folder: Path) -> dict[str, Any]:
    """One task's row."""
    drawn = TASKS[task]
    drawn.make(folder / "train", drawn.train)
    (folder / "plant.toml").write_text(PLANT)
    options = drawn.options if "--plant" in drawn.options else ("--task", task, *drawn.options)
    run(before, ["train", "--data", "train", "--out", "it.lspkg", *options], folder=folder)
    names = jpegs(drawn.make(folder / "more", drawn.train + images), folder / "images")[-images:]
    then, now = (
        json.loads(run(sources, ["predict", "it.lspkg", *names, "--json"], folder=folder))
        for sources in (before, ROOT / "src")
    )
    kept = (then[0].keys() & now[0].keys()) - LEFT_OUT
    rows = [[{key: one[key] for key in sorted(kept)} for one in every] for every in (then, now)]
    return {
        "task": task,
        "images": len(names),
        "changed": sum(a != b for a, b in zip(*rows, strict=True)),
        "digest": {
            name: digest_of(encode(found))
            for name, found in zip(("before", "now"), rows, strict=True)
        },
        "fields": sorted(kept),
        "verdicts": Counter(str(one["verdict"]) for one in now),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default=BEFORE, help="the earlier commit")
    parser.add_argument("--images", type=int, default=1000, help="answered for each task")
    parser.add_argument("--tasks", default=",".join(TASKS), help="by comma")
    parser.add_argument("--out", type=Path, help="another file for the result")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="answers-") as name:
        before = sources_of(given.before, Path(name))
        for task in given.tasks.split(","):
            folder = Path(name) / task
            folder.mkdir()
            rows.append(compared(task, before=before, images=given.images, folder=folder))
            print(json.dumps(rows[-1]), flush=True)
    measure.write("answers", {"before": given.before, "rows": rows}, answer, out=given.out)
    return 1 if any(row["changed"] for row in rows) else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows = result["rows"]
    changed = [f"{row['changed']} of {row['task']}" for row in rows if row["changed"]]
    return (
        f"{sum(row['images'] for row in rows):,} images of {len(rows)} tasks:"
        f" {', '.join(changed) or 'none'} answered otherwise than by {result['before']}."
    )


if __name__ == "__main__":
    sys.exit(main())
