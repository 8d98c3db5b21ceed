"""What is learned from real pictures: one table, every row by the same commands with defaults.

    LINESIDE_DATA=… python benchmarks/learning.py [--rows "casting;beans"] [--seed 11]

For each row: `lineside dataset import`, then for every fold `dataset split --fold`, `freeze`,
`train`, and the fold's test part is judged once. Folds are whole groups drawn by seed; answers of
all folds are pooled, so that each picture is answered once by a package that never saw it. A row
whose source declares its parts has one fold: those parts. Rows already in the results file are
replaced, the others stay.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from measure import RESULTS, Answer, provenance, write

from lineside.core import SystemClock, to_plain
from lineside.models import Metric, Package
from lineside.training import Labelled, open_labelled
from lineside.training.evaluation.evaluate import training_evidence
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import TaskMetrics, evaluator_for, judge_all
from lineside.vision import Decision
from lineside.vision.metrics import wilson

CLOCK = SystemClock()
EXAMPLE = "casting"
Derive = Callable[[Path, Path], Path]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure to reach: at least, or at most."""

    metric: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the row.
        data: folder below the data folder.
        task: as `lineside train --task` takes it.
        goals: what is to be reached.
        folds: 1 takes the source's own parts.
        group: rule of groups, where the source names none.
        derive: writes a source of its own where a row asks for other labels or fewer pictures.
        options: further options of `lineside train`.
    """

    name: str
    data: str
    task: str
    goals: tuple[Goal, ...]
    folds: int = 5
    group: str = ""
    derive: Derive | None = None
    options: tuple[str, ...] = ()
    import_options: tuple[str, ...] = field(default=())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def derived(
    folder: Path,
    to: Path,
    *,
    change: Callable[[dict[str, str]], dict[str, str] | None],
    tables: Sequence[str] = ("labels.csv",),
) -> Path:
    """A copy of a source, its rows changed or left out; a link would lead out of its folder."""
    to.mkdir(parents=True)
    for inner in folder.iterdir():
        if inner.is_dir():
            shutil.copytree(inner, to / inner.name)
    for name in tables:
        rows = table(folder / name)
        with (to / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(new for row in rows if (new := change(row)) is not None)
    return to


def good_or_not(folder: Path, to: Path) -> Path:
    def change(row: dict[str, str]) -> dict[str, str]:
        return {**row, "label": "good" if row["label"] == "good" else "defect"}

    return derived(folder, to, change=change)


def any_doubt_is_a_defect(folder: Path, to: Path) -> Path:
    def change(row: dict[str, str]) -> dict[str, str]:
        bad = float(row["defect_probability"]) >= 0.33
        return {**row, "label": "defective" if bad else "functional"}

    return derived(folder, to, change=change)


def tested_boards(folder: Path, to: Path) -> Path:
    made = derived(folder, to, change=lambda row: row if row["template"] else None)
    shutil.copy(folder / "boxes.csv", made / "boxes.csv")
    return made


def points_alone(folder: Path, to: Path) -> Path:
    return derived(folder, to, change=lambda row: row, tables=("labels.csv", "points.csv"))


ROWS = (
    Row(
        name="magnetic-tile, 6 classes", data="magnetic-tile", task="classify",
        goals=(Goal(metric="macro_f1", least=0.82),),
    ),
    Row(
        name="magnetic-tile, good against defect", data="magnetic-tile", task="classify",
        derive=good_or_not, goals=(Goal(metric="auroc", least=0.93),),
    ),
    Row(
        name="magnetic-tile, masks", data="magnetic-tile", task="segment", folds=4,
        goals=(
            Goal(metric="pixel_f1", least=0.83),
            Goal(metric="pixel_f1_per_picture", least=0.60),
        ),
    ),
    Row(
        name="magnetic-tile, good only", data="magnetic-tile", task="anomaly", folds=3,
        derive=good_or_not, goals=(Goal(metric="auroc", least=0.68),),
    ),
    Row(
        name="mvtec-screw", data="mvtec-screw", task="anomaly", folds=1,
        goals=(Goal(metric="auroc", least=0.98), Goal(metric="pro", least=0.97)),
    ),
    Row(
        name="kolektor-sdd, good only", data="kolektor-sdd", task="anomaly", folds=4,
        goals=(Goal(metric="auroc", least=0.92),),
    ),
    Row(
        name="kolektor-sdd, with defects", data="kolektor-sdd", task="segment", folds=4,
        goals=(Goal(metric="average_precision", least=0.95),),
    ),
    Row(
        name="casting", data="casting", task="classify",
        goals=(Goal(metric="argmax_accuracy", least=0.98),),
    ),
    Row(
        name="elpv, good against any doubt", data="elpv", task="classify",
        derive=any_doubt_is_a_defect, goals=(Goal(metric="argmax_accuracy", least=0.85),),
    ),
    Row(
        name="neu-det", data="neu-det", task="classify",
        goals=(Goal(metric="argmax_accuracy", least=0.98),),
    ),
    Row(
        name="trashnet", data="trashnet", task="classify",
        goals=(Goal(metric="argmax_accuracy", least=0.88),),
    ),
    Row(
        name="screw-presence", data="screw-presence", task="multilabel", group="blocks:10",
        goals=tuple(
            Goal(metric=f"accuracy/{place}", least=0.98)
            for place in ("top_left", "top_right", "bottom_left", "bottom_right")
        ),
        options=("--plant", "benchmarks/plants/screws.toml"),
        import_options=("--labels", "top_left,top_right,bottom_left,bottom_right"),
    ),
    Row(
        name="bean-counting", data="bean-counting", task="count",
        goals=(
            Goal(metric="exact", least=0.92),
            Goal(metric="mae_share", most=0.05),
            Goal(metric="coverage", least=0.87, most=0.97),
        ),
    ),
    Row(
        name="bean-counting, points alone", data="bean-counting", task="count", folds=3,
        derive=points_alone, goals=(Goal(metric="exact", least=0.92),),
    ),
    Row(
        name="bean-counting, whole sessions held out", data="bean-counting", task="count",
        group="regex:[0-9]{8}|IMG", folds=4, goals=(Goal(metric="exact", least=0.80),),
    ),
    Row(
        name="blood-cell-counting", data="blood-cell-counting", task="detect", folds=3,
        goals=(Goal(metric="f1_iou50", least=0.82),),
    ),
    Row(
        name="sock-sort, leave one out", data="sock-sort/sock-images-sample", task="classify",
        folds=18, goals=(Goal(metric="argmax_accuracy", least=14 / 18),),
    ),
    Row(
        name="deeppcb, mixed boards", data="deeppcb", task="detect", folds=3,
        derive=tested_boards, goals=(Goal(metric="f1_iou33", least=0.94),),
    ),
    Row(
        name="deeppcb, boards held out", data="deeppcb", task="detect", folds=3,
        derive=tested_boards, group="regex:/([0-9]{5})[0-9]{3}[.]",
        goals=(Goal(metric="f1_iou33", least=0.80),),
    ),
)  # fmt: skip


def rows_asked(names: str) -> list[Row]:
    """The rows with one of these names, or parts of names, by semicolon; all where there is none.

    A whole name is of that row alone, though others contain it.
    """
    wanted = [name for name in names.split(";") if name]
    whole = {row.name for row in ROWS} & set(wanted)
    parts = [name for name in wanted if name not in whole]
    return [
        row
        for row in ROWS
        if not wanted or row.name in whole or any(part in row.name for part in parts)
    ]


def measure_rows(
    name: str,
    rows: Sequence[Row],
    measured: Callable[..., Mapping[str, Any]],
    *,
    line: Callable[[str, Mapping[str, Any]], str],
    answer: Answer,
    is_part: bool,
    is_dry: bool,
) -> None:
    """Measure rows one by one, and keep each in ``results/<name>.json`` beside the others.

    Args:
        name: of the result.
        rows: what is measured.
        measured: makes the figures of a row, with ``work``, a folder of its own.
        line: says them.
        answer: as of ``write``.
        is_part: as of ``write``.
        is_dry: nothing is kept.
    """
    stored = RESULTS / f"{name}.json"
    results = json.loads(stored.read_text())["rows"] if stored.exists() else {}
    for row in rows:
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as made:
            found = measured(row, work=Path(made))
        print(line(row.name, found), flush=True)
        if not is_dry:
            results[row.name] = {**found, "measured": provenance()}
            write(name, {"rows": results}, answer, is_part=is_part)


def lineside(*arguments: str) -> dict[str, object]:
    """Run a command; its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "lineside", *arguments, "--json"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"lineside {' '.join(arguments)}: exit {done.returncode}")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def measured(row: Row, *, data: Path, work: Path, seed: int) -> dict[str, Any]:
    """One row: all folds, pooled."""
    store = work / "store"
    source = row.derive(data / row.data, work / "source") if row.derive else data / row.data
    group = ("--group", row.group) if row.group else ()
    lineside(
        "dataset", "import", str(source), "--into", "rows", "--store", str(store), *group,
        *row.import_options,
    )  # fmt: skip
    cases: list[Case] = []
    seconds, packages, warnings = [], [], []
    for fold in range(1, row.folds + 1):
        start = perf_counter()
        package = trained(row, store=store, work=work, fold=fold, seed=seed)
        seconds.append(round(perf_counter() - start, 1))
        cases += judged(package, store=store, fold=fold)
        packages.append(package)
        warnings += [w for w in package.manifest.lineage.warnings if w not in warnings]
    last = packages[-1]
    found = pooled(cases, last) if last.manifest.rules == () else of_positions(cases, last)
    return {
        "task": row.task,
        "pictures": len(cases),
        "folds": row.folds,
        "goals": [told(goal, found.metrics) for goal in row.goals],
        "metrics": to_plain(found.metrics),
        "slices": to_plain(found.slices),
        "warnings": [*warnings, *found.warnings],
        "seconds_per_training": seconds,
        "package_mb": round(max(len(b"".join(p.files.values())) for p in packages) / 1e6, 1),
    }


def pooled(cases: Sequence[Case], package: Package) -> TaskMetrics:
    measure = evaluator_for(package.manifest.task)
    facts = training_evidence(package).facts
    return measure(cases, manifest=package.manifest, baseline=facts)


def of_positions(cases: Sequence[Case], package: Package) -> TaskMetrics:
    """Presence labels: share of right answers at each; unsure and refused count as not right."""
    metrics = {}
    for name in package.manifest.labels:
        told = [case for case in cases if name in case.sample.known]
        right = sum(decided(case, name) == (name in case.sample.labels) for case in told)
        held = sum(name in case.sample.labels for case in told)
        found = wilson(right, len(told))
        metrics[f"accuracy/{name}"] = Metric(
            value=found.value, low=found.low, high=found.high, n=found.n,
            baseline=max(held, len(told) - held) / max(1, len(told)),
        )  # fmt: skip
    return TaskMetrics(metrics=metrics)


def decided(case: Case, name: str) -> bool | None:
    said = {label.name: label.decision for label in case.prediction.labels}
    decision = said.get(name, Decision.UNSURE)
    return None if decision is Decision.UNSURE else decision is Decision.PRESENT


def trained(row: Row, *, store: Path, work: Path, fold: int, seed: int) -> Package:
    out = work / f"{fold}.lspkg"
    if row.folds > 1:
        lineside(
            "dataset", "split", "rows", "--store", str(store), "--seed", str(seed),
            "--fold", f"{fold}/{row.folds}",
        )  # fmt: skip
    lineside("dataset", "freeze", "rows", "--store", str(store))
    lineside(
        "train", "--task", row.task, "--data", f"dataset://rows/{fold}", "--out", str(out),
        "--store", str(store), *row.options,
    )  # fmt: skip
    return Package.open(out)


def judged(package: Package, *, store: Path, fold: int) -> list[Case]:
    source = Labelled(
        data=f"dataset://rows/{fold}", labels=package.manifest.labels, part="test",
        task=package.manifest.task,
    )  # fmt: skip
    records, blobs = f"sqlite:///{store}/records.db", f"file://{store}/blobs"
    with open_labelled(source, clock=CLOCK, records_url=records, blobs_url=blobs) as found:
        return list(judge_all(package, found.samples, files=found.files, clock=CLOCK))


def told(goal: Goal, metrics: Mapping[str, object]) -> dict[str, object]:
    found = metrics.get(goal.metric)
    value = getattr(found, "value", float("nan"))
    return {
        "metric": goal.metric,
        "at_least": goal.least,
        "at_most": goal.most,
        **(to_plain(found) if found is not None else {}),
        "met": goal.met(value),
    }


def lines(results: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    found = []
    for name, row in results.items():
        for goal in row["goals"]:
            wanted = f">= {goal['at_least']}" if goal["at_least"] else ""
            wanted += f" <= {goal['at_most']}" if goal["at_most"] else ""
            shown = f"{goal.get('value', float('nan')):.3f}"
            between = f"[{goal.get('low', 0):.3f}-{goal.get('high', 0):.3f}]"
            verdict = "met" if goal["met"] else "NOT MET"
            found.append(
                f"{name:42} {goal['metric']:22} {shown} {between} n {goal.get('n')}"
                f" baseline {goal.get('baseline', 0):.3f} wanted {wanted}: {verdict}"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", default="", help="Names of rows, or parts of them, by semicolon.")
    parser.add_argument("--seed", type=int, default=11)
    asked = parser.parse_args()
    kept = RESULTS / "learning.json"
    results = json.loads(kept.read_text())["rows"] if kept.exists() else {}
    for row in rows_asked(asked.rows):
        with tempfile.TemporaryDirectory(prefix="learning-") as made:
            found = measured(row, data=asked.data.resolve(), work=Path(made), seed=asked.seed)
            results[row.name] = {**found, "measured": provenance()}
        result = {"seed": asked.seed, "rows": results}
        write("learning", result, answer, is_part=bool(asked.rows))
        print("\n".join(lines({row.name: results[row.name]})), flush=True)
    print("\n".join(lines(results)))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows = result["rows"]
    goals = [goal for row in rows.values() for goal in row["goals"]]
    said = f"{sum(goal['met'] for goal in goals)} of {len(goals)} goals met on {len(rows)} tasks"
    if EXAMPLE not in rows:
        return f"{said}."
    goal = rows[EXAMPLE]["goals"][0]
    value, low, high, common = (
        f"{100 * goal[name]:.1f}" for name in ("value", "low", "high", "baseline")
    )
    return (
        f"{said}, for example {EXAMPLE} {value} % ({low} to {high} %, n {goal['n']};"
        f" commonest class {common} %)."
    )


if __name__ == "__main__":
    main()
