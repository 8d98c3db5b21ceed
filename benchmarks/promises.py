"""Promised error against measured error, on parts held out from real pictures, seed after seed.

    python benchmarks/promises.py --data /data --cache /tmp/promises --seeds 2 --sets elpv,trashnet

1. For each seed a set is divided into folds, whole groups together. Network and rule are learned
   from the other folds by the product's own function (``fit_classes``), which sees nothing of the
   fold; the fold is then decided by the rule. The answers of all folds are pooled: every picture is
   answered once by what never saw it. Nothing is chosen by these answers.
2. The frozen network's features are read once for each set, so that a seed costs its fits alone.
   Without ``--tune`` fine-tuning is off: the figures are those of ``lineside train`` with
   ``tune = 0``.
3. ``stated`` is the mean of the rates that the folds' rules state, ``error`` the share of wrong
   answers among those given. ``best unsure`` is the least share of unsure with which one cut on the
   likeliest class, chosen on the same answers, keeps the stated rate: known in hindsight only.
4. ``interval`` is the share of folds whose 95 % interval of accuracy, by their own
   cross-validation, holds the accuracy of the pooled answers.
5. ``commonest`` is the accuracy of the most frequent class; ``plain head`` that of a logistic
   regression (scikit-learn's defaults) on the pooled features at the smallest input.
6. Each row of ``results/promises.json`` has the settings of its run: a run of some sets leaves
   what is said of the others as it was.
"""

import argparse
import csv
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from measure import RESULTS, provenance, write
from numpy.typing import NDArray

from lineside.core import Inspection, Policy, SystemClock, Task, decode_json
from lineside.datasets import Sample, load_source
from lineside.datasets.splitting import folds
from lineside.training.common.cache import FeatureCache
from lineside.training.common.loop import apart, owners_of
from lineside.training.job import Steps, TrainJob
from lineside.training.tasks.classify.features import FeatureReader, InputSpec, pooled_by
from lineside.training.tasks.classify.learn import ClassFit, fit_classes
from lineside.training.tasks.classify.tuning import inputs_of
from lineside.training.tasks.contract import Work
from lineside.training.tasks.metrics import rate
from lineside.vision import Decision
from lineside.vision.decide import class_probabilities, decide_classes
from lineside.vision.metrics import UNSURE

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]


def _any_doubt(row: Mapping[str, str]) -> str:
    doubtful = float(row["defect_probability"]) >= 0.33
    return "defective" if doubtful else "functional"


def _good_or_not(row: Mapping[str, str]) -> str:
    return "good" if row["label"] == "good" else "defect"


SETS: Mapping[str, tuple[str, Callable[[Mapping[str, str]], str] | None]] = {
    "casting": ("casting", None),
    "neu-det": ("neu-det", None),
    "trashnet": ("trashnet", None),
    "elpv": ("elpv", _any_doubt),
    "magnetic-tile": ("magnetic-tile", None),
    "magnetic-tile good against defect": ("magnetic-tile", _good_or_not),
}
"""Name → folder, and the label of a row where it is not the source's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSet:
    """Pictures of one set, read once."""

    name: str
    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    truth: Places
    work: Work


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Answers to every picture by rules that never saw it.

    Attributes:
        decided: places of classes; ``UNSURE``.
        chances: (pictures, classes).
        stated: by fold the rate of its rule.
        intervals: by fold the accuracy's, as its own cross-validation says.
        seconds: of the processor.
    """

    decided: Places
    chances: Numbers
    stated: Sequence[float]
    intervals: Sequence[tuple[float, float]]
    seconds: float


def read_set(name: str, *, data: Path, cache: Path) -> LabelledSet:
    folder, relabel = SETS[name]
    loaded = load_source(str(data / folder), labels=())
    samples = loaded.samples
    if relabel is not None:
        with (data / folder / "labels.csv").open(newline="") as file:
            rows = {row["file"]: row for row in csv.DictReader(file)}
        samples = tuple(_relabelled(s, relabel(rows[s.name])) for s in samples)
    labels = tuple(sorted({label for sample in samples for label in sample.labels}))
    work = Work(
        folder=cache / "jobs",
        steps=Steps(SystemClock(), lambda _: None, threading.Event()),
        training=samples,
        files=loaded.read_file,
        cache=cache / "features",
    )
    truth = np.array([labels.index(sample.labels[0]) for sample in samples], np.intp)
    return LabelledSet(name=name, samples=samples, labels=labels, truth=truth, work=work)


def _relabelled(sample: Sample, label: str) -> Sample:
    return replace(sample, labels=(label,), known=(label,))


def answer_set(found: LabelledSet, *, seed: int, count: int, rate: float, tune: bool) -> Answers:
    numbers = np.array(folds(apart(found.samples), count=count, seed=seed))
    job = TrainJob(
        inspection=Inspection(
            id="promises", camera="", task=Task.CLASSIFY, labels=found.labels,
            policy=Policy(error_rate=rate),
        ),
        data="", seed=seed, settings={} if tune else {"tune": 0.0},
    )  # fmt: skip
    decided = np.full(len(found.truth), UNSURE, np.intp)
    chances = np.zeros((len(found.truth), len(found.labels)))
    stated, intervals, begun = [], [], process_time()
    for fold in sorted(set(numbers.tolist())):
        inside, outside = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        training = tuple(found.samples[place] for place in inside)
        with tempfile.TemporaryDirectory() as folder:
            fit = fit_classes(job, replace(found.work, training=training, folder=Path(folder)))
        logits = logits_of(fit, [found.samples[place] for place in outside], work=found.work)
        chances[outside] = class_probabilities(logits.astype(np.float32), fit.rule)
        for place, row in zip(outside, logits.astype(np.float32), strict=True):
            said = [answer.decision for answer in decide_classes(row, fit.rule)]
            if Decision.PRESENT in said:
                decided[place] = said.index(Decision.PRESENT)
        stated.append(fit.rule.error_rate)
        intervals.append(accuracy_interval(fit))
    return Answers(
        decided=decided, chances=chances, stated=stated, intervals=intervals,
        seconds=process_time() - begun,
    )  # fmt: skip


def logits_of(fit: ClassFit, samples: Sequence[Sample], *, work: Work) -> Numbers:
    if fit.words["network"] == "frozen":
        return fit.linear.logits(features_of(fit.spec, samples, work=work))
    inputs = inputs_of(fit.spec, picture=lambda place: work.picture(samples[place]))
    return fit.linear.logits(pooled_by(fit.backbone, inputs, count=len(samples)))


def features_of(spec: InputSpec, samples: Sequence[Sample], *, work: Work) -> NDArray[np.float32]:
    assert work.cache is not None
    reader = FeatureReader(
        samples=samples, files=work.files, picture=work.picture, at=lambda *_: None,
        cache=FeatureCache(work.cache),
    )  # fmt: skip
    return reader.look([spec], first=0.0, last=1.0)[1][0]


def accuracy_interval(fit: ClassFit) -> tuple[float, float]:
    right = fit.logits.argmax(axis=1) == fit.truth
    owners = np.unique(owners_of(fit.samples), return_inverse=True)[1]
    interval = rate(right, baseline=0.0, groups=owners)
    return interval.low, interval.high


def best_unsure(chances: Numbers, truth: Places, *, rate: float) -> float:
    """The least share of unsure at which one cut on the likeliest class keeps the rate."""
    order = np.argsort(-chances.max(axis=1), kind="stable")
    wrong = np.cumsum((chances.argmax(axis=1) != truth)[order])
    kept = np.flatnonzero(wrong <= rate * np.arange(1, len(order) + 1))
    return 1.0 - (int(kept[-1]) + 1 if len(kept) else 0) / len(order)


def figures_of(found: LabelledSet, answers: Answers) -> dict[str, float]:
    """Figures of one seed."""
    answered = answers.decided != UNSURE
    wrong = answered & (answers.decided != found.truth)
    likeliest = float(np.mean(answers.chances.argmax(axis=1) == found.truth))
    stated = float(np.mean(answers.stated))
    held = [low <= likeliest <= high for low, high in answers.intervals]
    return {
        "stated": stated,
        "error": float(wrong.sum() / max(1, answered.sum())),
        "unsure": float(1 - answered.mean()),
        "best_unsure": best_unsure(answers.chances, found.truth, rate=stated),
        "accuracy": likeliest,
        "interval": float(np.mean(held)),
        "seconds": answers.seconds,
    }


def plain_head(found: LabelledSet, *, count: int) -> float:
    """Accuracy of a plain logistic regression on pooled features, by folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    spec = InputSpec(width_px=224, height_px=224)
    features = features_of(spec, found.samples, work=found.work)
    numbers = np.array(folds(apart(found.samples), count=count, seed=0))
    right = 0
    for fold in sorted(set(numbers.tolist())):
        inside = numbers != fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[inside], found.truth[inside])
        right += int((model.predict(features[~inside]) == found.truth[~inside]).sum())
    return right / len(found.truth)


def summary(
    found: LabelledSet, rows: Sequence[Mapping[str, float]], *, plain: float
) -> dict[str, float]:
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    kept = sum(row["error"] <= row["stated"] for row in rows)
    return {
        "pictures": len(found.truth),
        "classes": len(found.labels),
        "seeds": len(rows),
        "seeds_kept": kept,
        "error_highest": round(max(row["error"] for row in rows), 4),
        **means,
        "commonest": round(float(np.bincount(found.truth).max() / len(found.truth)), 4),
        "plain_head": round(plain, 4),
    }


def line(name: str, row: Mapping[str, float]) -> str:
    return (
        f"{name:34} n {row['pictures']:4} stated {row['stated']:.3f} error {row['error']:.3f}"
        f" (kept {row['seeds_kept']} of {row['seeds']}) unsure {row['unsure']:.3f}"
        f" best {row['best_unsure']:.3f} accuracy {row['accuracy']:.3f}"
        f" plain {row['plain_head']:.3f} commonest {row['commonest']:.3f}"
        f" interval {row['interval']:.2f} {row['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    usual = Path(tempfile.gettempdir()) / "lineside-promises"
    parser.add_argument("--cache", type=Path, default=usual, help="Folder of features.")
    parser.add_argument("--sets", default=",".join(SETS), help="Names, by comma.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--tune", action="store_true", help="With fine-tuning, as by default.")
    parser.add_argument("--dry", action="store_true", help="Write no results.")
    asked = parser.parse_args()
    kept = RESULTS / "promises.json"
    results = decode_json(kept.read_bytes(), where=str(kept))["sets"] if kept.exists() else {}
    for name in asked.sets.split(","):
        found = read_set(name, data=asked.data.resolve(), cache=asked.cache)
        plain = plain_head(found, count=asked.folds)
        rows = []
        for seed in range(1, asked.seeds + 1):
            answers = answer_set(
                found, seed=seed, count=asked.folds, rate=asked.rate, tune=asked.tune
            )
            rows.append(figures_of(found, answers))
        settings = {"rate": asked.rate, "tune": asked.tune, "folds": asked.folds}
        made = summary(found, rows, plain=plain) | settings
        results[name] = made | {"measured": provenance()}
        print(line(name, made), flush=True)
        if not asked.dry:
            write("promises", {"sets": results}, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows = list(result["sets"].values())

    def span(name: str, form: str) -> str:
        ends = [format(end([row[name] for row in rows]), form) for end in (min, max)]
        return " to ".join(dict.fromkeys(ends))

    return (
        f"In {span('seeds_kept', 'd')} of {span('seeds', 'd')} seeds on each of {len(rows)} sets; "
        f"accuracy {span('accuracy', '.2f')}, a plain classifier {span('plain_head', '.2f')}."
    )


if __name__ == "__main__":
    main()
