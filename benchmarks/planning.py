"""What planning costs before any picture is fetched: listing, groups, split and leak check.

    python benchmarks/planning.py [--rows 1000000] [--files 200000]

Each part runs in a process of its own, whose highest memory (``ru_maxrss``) counts from its start,
libraries included. The table has a row a picture with label and count; pictures are grouped in
blocks of a hundred numbers, split by group, and the split is searched for leaks, at a tenth of the
rows and at all of them: memory and time should grow tenfold and no more. The folder holds empty
files; a thousand of them are chosen by seed, and nothing else of the folder should stay in memory.
Budgets: below 2 GB for the rows, below 64 MB above an empty run for the folder. Results:
``results/planning.json``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import measure

from lineside.datasets.leaks import find_leaks, parts_of
from lineside.datasets.sources import Choice, Reading, plan_source
from lineside.datasets.splitting import grouped, split

MOST_ROWS_GB = 2.0
MOST_FOLDER_MB = 64.0
CHOSEN = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--part", default="", help="run one part in this process")
    parser.add_argument("--place", type=Path)
    asked = parser.parse_args()
    if asked.part:
        told = PARTS[asked.part](asked.place)
        print(json.dumps({**told, "peak_mb": round(peak_mb(), 1)}))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        tables = {rows: write_table(folder, rows) for rows in (asked.rows // 10, asked.rows)}
        result = {
            "empty_run": measured("nothing", folder),
            "rows": {str(rows): measured("rows", path) for rows, path in tables.items()},
            "folder": {
                "files": asked.files,
                "chosen": CHOSEN,
                **measured("folder", write_files(folder / "files", asked.files)),
            },
        }
    check(result, rows=asked.rows)
    measure.write("planning", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows, cost = max(result["rows"].items(), key=lambda one: int(one[0]))
    late = " missed" if cost["peak_mb"] / 1024 >= MOST_ROWS_GB else ""
    return (
        f"{int(rows):,} rows: {cost['list_s']:.0f} s to list, {cost['group_s']:.0f} s to group, "
        f"{cost['split_s']:.0f} s to split, {cost['leaks_s']:.0f} s for leaks, "
        f"{cost['peak_mb']:,.0f} MB (limit {MOST_ROWS_GB:g} GB{late})."
    )


def measured(part: str, place: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--part", part, "--place", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def write_table(folder: Path, rows: int) -> Path:
    path = folder / f"{rows}.csv"
    with path.open("w") as file:
        file.write("file,label,count\n")
        for number in range(rows):
            label = "dent" if number % 9 == 0 else "good"
            file.write(f"bin-images/{number:07d}.jpg,{label},{number % 7}\n")
    return path


def write_files(folder: Path, files: int) -> Path:
    (folder / "good").mkdir(parents=True)
    for number in range(files):
        (folder / "good" / f"{number:07d}.jpg").touch()
    return folder


def plan_rows(path: Path) -> dict[str, float]:
    began = perf_counter()
    samples = plan_source(path).samples
    listed = perf_counter()
    samples = grouped(samples, rule="ids:100")
    blocked = perf_counter()
    parts = split(samples, seed=1)
    parted = perf_counter()
    leaks = find_leaks(samples, parts=parts_of(samples, parts))
    ended = perf_counter()
    assert not leaks
    return {
        "samples": len(samples),
        "list_s": round(listed - began, 2),
        "group_s": round(blocked - listed, 2),
        "split_s": round(parted - blocked, 2),
        "leaks_s": round(ended - parted, 2),
    }


def plan_folder(path: Path) -> dict[str, float]:
    began = perf_counter()
    choice = Choice(most=CHOSEN, seed=1)
    samples = plan_source(path, format="folders", reading=Reading(choice=choice)).samples
    assert len(samples) == CHOSEN
    return {"list_s": round(perf_counter() - began, 2)}


def plan_nothing(_: Path) -> dict[str, float]:
    return {}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check(result: dict[str, object], *, rows: int) -> None:
    told = json.loads(json.dumps(result))
    most = told["rows"][str(rows)]["peak_mb"] / 1024
    grown = told["folder"]["peak_mb"] - told["empty_run"]["peak_mb"]
    print(f"rows: {most:.2f} GB at most, folder: {grown:.1f} MB above an empty run")
    assert most < MOST_ROWS_GB, f"{most:.2f} GB, at most {MOST_ROWS_GB}"
    assert grown < MOST_FOLDER_MB, f"{grown:.1f} MB, at most {MOST_FOLDER_MB}"


PARTS = {"rows": plan_rows, "folder": plan_folder, "nothing": plan_nothing}

if __name__ == "__main__":
    main()
