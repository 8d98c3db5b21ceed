"""How good packages are on images that they never saw, and whether they hold what they state.

    python benchmarks/learning.py --data /data [--rows "casting;kolektor"] [--seed 11]

1. A row's images are divided into folds, whole groups together. For each fold `lineside train` gets
   a source that lacks its images, as if nobody had taken them yet, and no test part: it states its
   rates and draws its intervals by itself, with defaults. Then the package answers the fold. The
   answers of all folds are pooled; nothing is chosen by them. A source that declares its test part
   is one fold, that part.
2. ``metrics`` are the figures of all answers, each with the number of packages whose own 95 %
   interval contains it, ``held`` of ``of``. ``goals`` are the bounds that some of them should keep.
3. ``stated`` is the mean of the rates that the packages state, ``wrong`` of the ``answered`` the
   answers that are not right: images of ``classify`` and ``segment`` (whether a defect is shown),
   labels of images of ``multilabel``, boxes of ``detect`` (right where the label is and the overlap
   is above .33, as its rate means it), good images of ``anomaly``, intervals of ``count``. ``kept``
   is the number of packages whose share of wrong answers is at most what they state. Rates and
   intervals of a row whose folds have one image each are not counted in the answer.
4. ``unsure`` is the share without an answer (of ``count``: without an interval),
   ``best_unsure`` the least share with which one cut on how sure the answers are, chosen in
   hindsight, keeps the stated rate; None for ``anomaly`` and ``count``. ``let_through`` is the
   number of ``defective`` images that were said to be good.
5. Costs: processor seconds and peak memory of a training, and processor milliseconds of the answer
   to a decoded image. They depend less than times of the clock on what else runs.
6. Each row has the commit of its run; a run of some rows leaves the others.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from time import process_time
from typing import Any

import numpy as np
from measure import RESULTS, provenance, write
from measure import Answer as Sentence

from lineside.core import SystemClock, to_plain
from lineside.datasets import Part, Sample, load_source
from lineside.datasets.splitting import folds
from lineside.models import Metric, Package, Predictor
from lineside.training import Labelled, open_labelled
from lineside.training.common.loop import apart
from lineside.training.evaluation.evaluate import training_evidence
from lineside.training.tasks.contract import MOST_BYTES, Case, read_picture
from lineside.training.tasks.detect.metrics import picture_of
from lineside.training.tasks.metrics import evaluator_for, is_defective, judge_all
from lineside.vision import AnomalyAnswer, CountAnswer, Decision, LabelAnswer, open_frame
from lineside.vision.metrics import wilson
from lineside.vision.verdict import PartVerdict, RejectRule, judge_prediction

CLOCK = SystemClock()
RULE = RejectRule()
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "classify": ("argmax_accuracy", "macro_f1", "auroc"),
    "multilabel": ("accuracy", "macro_f1"),
    "segment": ("pixel_f1", "pixel_f1_per_picture", "average_precision"),
    "detect": ("f1_iou33", "f1_iou50", "average_precision", "count_exact"),
    "count": ("exact", "mae", "mae_share", "coverage"),
    "anomaly": ("auroc", "pro", "false_reject_rate"),
}
"""Figures of each task; goals may name others."""
SORTED = ("classify", "segment", "anomaly")
"""Tasks whose answer says by itself whether a part is good."""
LEAST_OVERLAP = 0.33
TIMED_IMAGES = 20
LOOK_S = 0.1
Derive = Callable[[Path, Path], Path]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure to reach: at least, or at most."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
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
    folds: int = 3
    group: str = ""
    derive: Derive | None = None
    options: tuple[str, ...] = ()


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
        goals=(Goal(metric="macro_f1", at_least=0.82),),
    ),
    Row(
        name="magnetic-tile, good against defect", data="magnetic-tile", task="classify",
        derive=good_or_not, goals=(Goal(metric="auroc", at_least=0.93),),
    ),
    Row(
        name="magnetic-tile, masks", data="magnetic-tile", task="segment",
        goals=(
            Goal(metric="pixel_f1", at_least=0.83),
            Goal(metric="pixel_f1_per_picture", at_least=0.60),
        ),
    ),
    Row(
        name="magnetic-tile, good only", data="magnetic-tile", task="anomaly",
        derive=good_or_not, goals=(Goal(metric="auroc", at_least=0.68),),
    ),
    Row(
        name="mvtec-screw", data="mvtec-screw", task="anomaly", folds=1,
        goals=(Goal(metric="auroc", at_least=0.98), Goal(metric="pro", at_least=0.97)),
    ),
    Row(
        name="kolektor-sdd, good only", data="kolektor-sdd", task="anomaly",
        goals=(Goal(metric="auroc", at_least=0.92),),
    ),
    Row(
        name="kolektor-sdd, with defects", data="kolektor-sdd", task="segment",
        goals=(Goal(metric="average_precision", at_least=0.95),),
    ),
    Row(
        name="casting", data="casting", task="classify",
        goals=(Goal(metric="argmax_accuracy", at_least=0.98),),
    ),
    Row(
        name="elpv, good against any doubt", data="elpv", task="classify",
        derive=any_doubt_is_a_defect, goals=(Goal(metric="argmax_accuracy", at_least=0.85),),
    ),
    Row(
        name="neu-det", data="neu-det", task="classify",
        goals=(Goal(metric="argmax_accuracy", at_least=0.98),),
    ),
    Row(
        name="trashnet", data="trashnet", task="classify",
        goals=(Goal(metric="argmax_accuracy", at_least=0.88),),
    ),
    Row(
        name="screw-presence", data="screw-presence", task="multilabel", group="blocks:10",
        goals=tuple(
            Goal(metric=f"accuracy/{place}", at_least=0.98)
            for place in ("top_left", "top_right", "bottom_left", "bottom_right")
        ),
        options=(
            "--plant", "benchmarks/plants/screws.toml",
            "--labels", "top_left,top_right,bottom_left,bottom_right",
        ),
    ),
    Row(
        name="bean-counting", data="bean-counting", task="count",
        goals=(
            Goal(metric="exact", at_least=0.92),
            Goal(metric="mae_share", at_most=0.05),
            Goal(metric="coverage", at_least=0.87, at_most=0.97),
        ),
    ),
    Row(
        name="bean-counting, points alone", data="bean-counting", task="count",
        derive=points_alone, goals=(Goal(metric="exact", at_least=0.92),),
    ),
    Row(
        name="bean-counting, whole sessions held out", data="bean-counting", task="count",
        group="regex:[0-9]{8}|IMG", goals=(Goal(metric="exact", at_least=0.80),),
    ),
    Row(
        name="blood-cell-counting", data="blood-cell-counting", task="detect",
        goals=(Goal(metric="f1_iou50", at_least=0.82),),
    ),
    Row(
        name="sock-sort, leave one out", data="sock-sort/sock-images-sample", task="classify",
        folds=18, goals=(Goal(metric="argmax_accuracy", at_least=14 / 18),),
    ),
    Row(
        name="deeppcb, mixed boards", data="deeppcb", task="detect",
        derive=tested_boards, goals=(Goal(metric="f1_iou33", at_least=0.94),),
    ),
    Row(
        name="deeppcb, boards held out", data="deeppcb", task="detect",
        derive=tested_boards, group="regex:/([0-9]{5})[0-9]{3}[.]",
        goals=(Goal(metric="f1_iou33", at_least=0.80),),
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
    answer: Sentence,
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


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a package to what it never saw.

    Attributes:
        sureness: of the likeliest answer, 0-1.
        wrong: whether the likeliest answer is wrong.
        given: whether it was given, or unsure.
    """

    sureness: float
    wrong: bool
    given: bool


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A package with what its training said and cost."""

    package: Package
    metrics: Mapping[str, Mapping[str, float]]
    processor_s: float
    peak_mb: float


def seen(row: dict[str, str], *, held: set[str]) -> dict[str, str] | None:
    """A row of a source's table; None where its image is held out."""
    return None if row["file"] in held else row


def parts(row: Row, samples: Sequence[Sample], *, seed: int) -> Sequence[set[str]]:
    """Names of the images of each fold."""
    if row.folds == 1:
        return [{sample.name for sample in samples if sample.split is Part.TEST}]
    numbers = folds(apart(samples), count=row.folds, seed=seed)
    found: dict[int, set[str]] = {number: set() for number in sorted(set(numbers))}
    for sample, number in zip(samples, numbers, strict=True):
        found[number].add(sample.name)
    return list(found.values())


def resident_peak_mb(pid: int) -> float:
    """The most memory a process had so far; ``ru_maxrss`` would have its parent's too."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(one.split()[1]) / 1000 for one in lines if one.startswith("VmHWM")), 0.0)


def trained(row: Row, *, source: Path, work: Path) -> Trained:
    """A package of the row's task by the command."""
    out = work / "package.lspkg"
    group = ("--group", row.group) if row.group else ()
    command = (
        sys.executable, "-m", "lineside", "train", "--task", row.task, "--data", str(source),
        "--out", str(out), "--json", *group, *row.options,
    )  # fmt: skip
    with (work / "said.json").open("wb") as said, (work / "log.txt").open("wb") as log:
        child, peak_mb = subprocess.Popen(command, stdout=said, stderr=log), 0.0
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            peak_mb = max(peak_mb, resident_peak_mb(child.pid))
            Event().wait(LOOK_S)
        _, status, usage = ended
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.stderr.write((work / "log.txt").read_text())
        raise SystemExit(f"{' '.join(command)}: exit {child.returncode}")
    return Trained(
        package=Package.open(out),
        metrics=json.loads((work / "said.json").read_text())["metrics"],
        processor_s=usage.ru_utime + usage.ru_stime,
        peak_mb=peak_mb,
    )


def judged(row: Row, package: Package, *, source: Path, held: set[str]) -> tuple[list[Case], float]:
    """The images held out as the package answers them, and processor milliseconds of an answer."""
    wanted = Labelled(
        data=str(source), labels=package.manifest.labels, task=row.task, group=row.group
    )
    with open_labelled(wanted, clock=CLOCK) as found:
        samples = [sample for sample in found.samples if sample.name in held]
        cases = list(judge_all(package, samples, files=found.files, clock=CLOCK))
        beside = package.manifest.template
        predictor, taken = Predictor(package, clock=CLOCK), []
        for sample in samples[: TIMED_IMAGES + 1]:
            frame = open_frame(
                found.files(sample.digest), camera=row.name, captured_at=CLOCK.now(),
                max_bytes=MOST_BYTES,
            )  # fmt: skip
            template = read_picture(sample.template_digest if beside else None, files=found.files)
            begun = process_time()
            predictor.predict_single(frame, template=template)
            taken.append(process_time() - begun)
    return cases, 1000 * float(np.median(taken[1:] or taken))


def stated(package: Package) -> float:
    """The rate that the package states: of wrong answers, rejected good images, missed counts."""
    manifest = package.manifest
    if manifest.anomaly is not None:
        return manifest.anomaly.false_reject_rate
    rules = (manifest.classes, manifest.mask, manifest.count, *manifest.rules)
    if known := [rule.error_rate for rule in rules if rule is not None]:
        return max(known)
    bound = json.loads(package.files["evidence/report.json"])["error_bound"]  # of boxes
    return max(manifest.policy.error_rate, bound["bound"] if bound else 1.0)


def label_answer(said: LabelAnswer, *, there: bool) -> Answer:
    """The answer whether a label, or a defect, is there."""
    given = said.decision is not Decision.UNSURE
    says = said.decision is Decision.PRESENT if given else said.probability > 0.5
    sureness = max(said.probability, 1 - said.probability)
    return Answer(sureness=sureness, wrong=says != there, given=given)


def count_answer(said: CountAnswer, *, true: int) -> Answer:
    """The answer of an interval."""
    missed = not (said.low <= true and (true <= said.high or said.more))
    return Answer(sureness=0.0, wrong=missed, given=not said.more or said.low > 0)


def good_answer(said: AnomalyAnswer) -> Answer:
    """The answer to a good image."""
    wrong, given = said.decision is Decision.PRESENT, said.decision is not Decision.UNSURE
    return Answer(sureness=0.0, wrong=wrong, given=given)


def answers(case: Case, *, task: str, labels: Sequence[str]) -> Iterator[Answer]:
    """What the package answered, and where it is unsure what it would have."""
    said, truth = case.prediction, case.sample.labels
    if task == "detect":
        picture = picture_of(case, labels=labels)
        right = picture.hits(least=LEAST_OVERLAP, labelled=True) >= 0
        boxes = sorted(
            (box for box in said.boxes if box.label in labels), key=lambda box: -box.probability
        )
        for box, hit in zip(boxes, right.tolist(), strict=True):
            given = box.decision is Decision.PRESENT
            yield Answer(sureness=box.probability, wrong=not hit, given=given)
    elif task == "count" and said.count is not None and case.sample.count is not None:
        yield count_answer(said.count, true=case.sample.count)
    elif task == "anomaly" and said.anomaly is not None and is_defective(case) is False:
        yield good_answer(said.anomaly)
    elif task == "classify" and said.labels:
        likeliest = max(said.labels, key=lambda label: label.probability)
        present = [label for label in said.labels if label.decision is Decision.PRESENT]
        wrong = (present or [likeliest])[0].label not in truth
        yield Answer(sureness=likeliest.probability, wrong=wrong, given=bool(present))
    elif task in ("multilabel", "segment"):
        for label in said.labels:
            there = label.name in truth if task == "multilabel" else is_defective(case)
            if there is None or (task == "multilabel" and label.name not in case.sample.known):
                continue
            yield label_answer(label, there=there)


def best_unsure(found: Sequence[Answer], *, rate: float) -> float:
    """The least share of unsure at which one cut on sureness keeps the rate."""
    order = sorted(found, key=lambda one: -one.sureness)
    wrong = np.cumsum([one.wrong for one in order])
    kept = np.flatnonzero(wrong <= rate * np.arange(1, len(order) + 1))
    return 1.0 - (int(kept[-1]) + 1 if len(kept) else 0) / len(order)


def let_through(cases: Sequence[Case], *, task: str) -> tuple[int, int]:
    """Defective images said to be good, and all defective images."""
    bad = [case for case in cases if is_defective(case)] if task in SORTED else []
    ok = [judge_prediction(case.prediction, RULE).verdict is PartVerdict.OK for case in bad]
    return sum(ok), len(ok)


def figures(
    pooled: Mapping[str, Metric], packages: Sequence[Trained], *, names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """By figure its value in all answers, and how many packages' own interval contains that."""
    found = {}
    for name in (one for one in names if one in pooled):
        value = pooled[name].value
        own = [one.metrics[name] for one in packages if name in one.metrics]
        found[name] = {
            **to_plain(pooled[name]),
            "own_least": min((one["low"] for one in own), default=None),
            "own_most": max((one["high"] for one in own), default=None),
            "held": sum(one["low"] <= value <= one["high"] for one in own),
            "of": len(own),
        }
    return found


def measured(row: Row, *, data: Path, work: Path, seed: int) -> dict[str, Any]:
    """One row: all folds, pooled."""
    whole = row.derive(data / row.data, work / "whole") if row.derive else data / row.data
    samples = load_source(str(whole), labels=(), group=row.group).samples
    packages, rates, kept, cases, all_answers, ms = [], [], 0, list[Case](), list[Answer](), []
    for number, held in enumerate(parts(row, samples, seed=seed)):
        source = derived(
            whole, work / str(number), tables=[one.name for one in whole.glob("*.csv")],
            change=partial(seen, held=held),
        )  # fmt: skip
        one = trained(row, source=source, work=work)
        shutil.rmtree(source)
        own, taken = judged(row, one.package, source=whole, held=held)
        labels = one.package.manifest.labels
        found = [each for case in own for each in answers(case, task=row.task, labels=labels)]
        given = [each.wrong for each in found if each.given]
        rates.append(stated(one.package))
        kept += sum(given) <= rates[-1] * len(given)
        packages.append(one)
        cases += own
        all_answers += found
        ms.append(taken)
    last = packages[-1].package
    facts = training_evidence(last).baseline
    pooled = evaluator_for(row.task)(cases, manifest=last.manifest, baseline=facts).metrics
    given = [each.wrong for each in all_answers if each.given]
    error = wilson(sum(given), len(given))
    rate = float(np.mean(rates))
    passed, bad = let_through(cases, task=row.task)
    ranked = row.task not in ("anomaly", "count")
    names = dict.fromkeys((*HEADLINES[row.task], *(goal.metric for goal in row.goals)))
    return {
        "task": row.task,
        "seed": seed,
        "pictures": len(cases),
        "folds": len(packages),
        "goals": [
            {**to_plain(goal), "met": goal.met(pooled[goal.metric].value)} for goal in row.goals
        ],
        "metrics": figures(pooled, packages, names=tuple(names)),
        "stated": round(rate, 4),
        "kept": kept,
        "answered": len(given),
        "wrong": sum(given),
        "error": round(error.value, 4),
        "error_low": round(error.low, 4),
        "error_high": round(error.high, 4),
        "unsure": round(1 - len(given) / len(all_answers), 4),
        "best_unsure": round(best_unsure(all_answers, rate=rate), 4) if ranked else None,
        "let_through": passed,
        "defective": bad,
        "processor_s": round(float(np.median([one.processor_s for one in packages])), 1),
        "peak_mb": round(max(one.peak_mb for one in packages)),
        "answer_ms": round(float(np.median(ms)), 2),
    }


def line(name: str, row: Mapping[str, Any]) -> str:
    held = ", ".join(
        f"{figure} {one['value']:.3f} in {one['held']} of {one['of']}"
        for figure, one in row["metrics"].items()
    )
    missed = [goal["metric"] for goal in row["goals"] if not goal["met"]]
    return (
        f"{name:38} n {row['pictures']:4} stated {row['stated']:.3f} wrong {row['wrong']} of"
        f" {row['answered']} ({row['error']:.3f}; kept {row['kept']} of {row['folds']})"
        f" unsure {row['unsure']:.3f} best {row['best_unsure']} let through {row['let_through']}"
        f" of {row['defective']}; {held}; goals missed: {', '.join(missed) or 'none'};"
        f" {row['processor_s']} s {row['peak_mb']} MB {row['answer_ms']} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", default="", help="Names of rows, or parts of them, by semicolon.")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dry", action="store_true", help="Write no results.")
    asked = parser.parse_args()
    measure_rows(
        "learning",
        rows_asked(asked.rows),
        partial(measured, data=asked.data.resolve(), seed=asked.seed),
        line=line,
        answer=answer,
        is_part=bool(asked.rows),
        is_dry=asked.dry,
    )


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows = list(result["rows"].values())
    goals = [goal["met"] for row in rows for goal in row["goals"]]
    tested = [row for row in rows if row["folds"] < row["pictures"]]
    checked = [one for row in tested for one in row["metrics"].values()]
    return (
        f"{sum(goals)} of {len(goals)} goals met on {len(rows)} tasks; "
        f"{sum(row['kept'] for row in tested)} of {sum(row['folds'] for row in tested)} packages"
        " were wrong at most as often as they state; "
        f"{sum(one['held'] for one in checked)} of {sum(one['of'] for one in checked)} of their "
        "95 % intervals contain the figure on unseen images."
    )


if __name__ == "__main__":
    main()
