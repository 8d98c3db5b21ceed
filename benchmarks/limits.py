"""Whether limits of every task hold on images that they were not made from, seed after seed.

    python benchmarks/limits.py --data /data [--rows "kolektor;screw"] [--seeds 20] [--folds 5]

1. The rows are those of ``learning.py``, but for ``classify``, whose networks ``promises.py`` fits
   anew for each seed. A row is trained once, by ``lineside train`` with defaults, up to where the
   training makes its limits of held-out scores: each comes from a network that had not seen the
   image. From 300 images on, ``segment`` and ``detect`` hold out a seventh.
2. For each seed the images that were held out are divided into folds, whole groups together. The
   product's own function makes limits of the other folds' scores, which decide the fold. The
   answers of all folds are pooled; nothing is chosen by them. The networks are those of the one
   training: seeds differ in which images made the limits.
3. ``stated``, ``error``, ``unsure`` and ``best_unsure`` are as in ``learning.py``, means over the
   seeds. A seed is kept where the share of wrong answers is at most the mean of the rates that its
   limits state. Seeds divide the same images, so that they are no independent trials.
4. Each row has the settings and the commit of its run; a run of some rows leaves the others.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import numpy as np
from learning import (
    Answer,
    Row,
    best_unsure,
    count_answer,
    good_answer,
    label_answer,
    measure_rows,
    rows_asked,
)
from numpy.typing import NDArray

from lineside.cli.app import app
from lineside.core import Policy
from lineside.training.common.loop import fold_rows, owners_of
from lineside.training.tasks.anomaly import learn as anomaly
from lineside.training.tasks.anomaly.choice import ScorerChoice
from lineside.training.tasks.count import learn as count
from lineside.training.tasks.detect import learn as detect
from lineside.training.tasks.multilabel import learn as multilabel
from lineside.training.tasks.multilabel.features import PictureFeatures
from lineside.training.tasks.multilabel.held_out import held_out_labels, rules_for
from lineside.training.tasks.multilabel.metrics import answers_of
from lineside.training.tasks.segment import learn as segment
from lineside.vision.anomaly import decide_anomaly
from lineside.vision.decide import decide
from lineside.vision.detections import count_found
from lineside.vision.masks import decide_score

Rows = NDArray[np.intp]
Judge = Callable[[Rows, Rows], tuple[float, list[Answer]]]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Images that were held out, with their scores.

    Attributes:
        owners: whose each image is.
        judge: makes limits of the first rows: their stated rate, and the answers to the others.
    """

    owners: Sequence[object]
    judge: Judge


class ReachedError(Exception):
    """A training came to where it makes its limits."""

    def __init__(self, held: HeldOut) -> None:
        """Keep what was held out."""
        super().__init__("the limits are made")
        self.held = held


def of_masks(held: Sequence[segment.ValidationMap], **options: Any) -> HeldOut:  # noqa: ANN401  those of the function
    policy: Policy = options["policy"]

    def judge(inside: Rows, outside: Rows) -> tuple[float, list[Answer]]:
        rule, _ = segment.mask_rule([held[place] for place in inside], **options)
        found = [
            label_answer(
                decide_score(segment.score_of(held[place], rule), rule, policy=policy),
                there=held[place].facts.defective,
            )
            for place in outside
        ]
        return rule.error_rate, found

    return HeldOut(owners=owners_of([one.facts.sample for one in held]), judge=judge)


def of_objects(held: Sequence[detect.ValidationPicture], **options: Any) -> HeldOut:  # noqa: ANN401  those of the function
    def judge(inside: Rows, outside: Rows) -> tuple[float, list[Answer]]:
        rule, limit = detect.rule_from([held[place] for place in inside], **options)
        found = detect.outcomes_of([held[place] for place in outside], rule=rule)
        answers = [
            Answer(sureness=sure, wrong=wrong, given=sure >= rule.unsure_below)
            for sure, wrong in zip(found.sureness.tolist(), found.wrong.tolist(), strict=True)
        ]
        return limit.rate, answers

    return HeldOut(owners=owners_of([one.scene.sample for one in held]), judge=judge)


def of_counts(held: Sequence[detect.ValidationPicture], **options: Any) -> HeldOut:  # noqa: ANN401  those of the function
    names, labels, most = options["rule"].labels, options["labels"], options["most"]
    counted = np.array([not labels or name in labels for name in names])

    def judge(inside: Rows, outside: Rows) -> tuple[float, list[Answer]]:
        known, policy = [held[place] for place in inside], options["policy"]
        objects, _ = detect.rule_from(known, labels=names, policy=policy, most=most)
        rule, _ = count.count_rule(known, **{**options, "rule": objects})
        answers = []
        for place in outside:
            chances = count.found_chances(held[place], rule=objects, counted=counted)
            said = count_found(chances, cut=objects.cut, rule=rule)
            true = count.truth_of(held[place], counted=counted)
            answers.append(count_answer(said, true=true))
        return rule.error_rate, answers

    return HeldOut(owners=owners_of([one.scene.sample for one in held]), judge=judge)


def of_good(chosen: ScorerChoice, **options: Any) -> HeldOut:  # noqa: ANN401  those of the function
    scores = chosen.best.scores
    owners = chosen.owners or range(len(scores))

    def judge(inside: Rows, outside: Rows) -> tuple[float, list[Answer]]:
        known = replace(
            chosen,
            best=replace(chosen.best, scores=scores[inside]),
            owners=[str(owners[place]) for place in inside],
        )
        rule = anomaly.rule_of(known, **options)
        said = [decide_anomaly(float(scores[place]) / rule.unit, rule) for place in outside]
        return rule.false_reject_rate, [good_answer(one) for one in said]

    return HeldOut(owners=owners, judge=judge)


def of_labels(plan: Any, pictures: Sequence[PictureFeatures], **options: Any) -> HeldOut:  # noqa: ANN401  those of the function
    held, truth = options["held_out"], options["truth"]
    policy = Policy()  # that of the rows: no plant file of theirs has another

    def judge(inside: Rows, outside: Rows) -> tuple[float, list[Answer]]:
        folds = tuple(held.folds[place] for place in inside)
        known = replace(held, folds=folds, logits=held.logits[inside])
        labels = held_out_labels(plan, held_out=known, truth=truth[inside], policy=policy)
        answered = [
            answers_of(plan, pictures[place].sample, said)
            for place, said in zip(inside, labels, strict=True)
        ]
        bound = multilabel.bound_of(answered, target=policy.error_rate)
        rules = rules_for(plan, held.logits, truth=truth, policy=policy, pictures=inside.tolist())
        answers = [
            label_answer(said, there=bool(truth[place, output.row, output.place]))
            for place in outside
            for output, said in zip(
                plan.outputs,
                decide(held.logits[place], rules, regions=plan.regions, policy=policy),
                strict=True,
            )
            if truth[place, output.row, output.place] >= 0
        ]
        return bound.bound if bound else 1.0, answers

    return HeldOut(owners=options["groups"], judge=judge)


MAKERS: Mapping[str, tuple[ModuleType, str, Callable[..., HeldOut]]] = {
    "segment": (segment, "mask_rule", of_masks),
    "detect": (detect, "rule_from", of_objects),
    "count": (count, "count_rule", of_counts),
    "anomaly": (anomaly, "rule_of", of_good),
    "multilabel": (multilabel, "curve_of", of_labels),  # the first call that has the groups
}
"""By task the function that a training calls with its held-out scores, and what reads them."""


def held_out(row: Row, *, data: Path, work: Path) -> HeldOut:
    """What a training of a row makes its limits of."""
    source = row.derive(data / row.data, work / "source") if row.derive else data / row.data
    module, name, made = MAKERS[row.task]
    own = getattr(module, name)

    def stop(*given: object, **options: object) -> None:
        setattr(module, name, own)
        raise ReachedError(made(*given, **options))

    setattr(module, name, stop)
    group = ("--group", row.group) if row.group else ()
    command = (
        "train", "--task", row.task, "--data", str(source), "--out", str(work / "package.lspkg"),
        *group, *row.options,
    )  # fmt: skip
    try:
        app(command, standalone_mode=False)
    except ReachedError as reached:
        return reached.held
    finally:
        setattr(module, name, own)
    raise SystemExit(f"{row.name}: the training made no limits")


def folds_of(owners: Sequence[object], *, folds: int, seed: int) -> list[int]:
    """The fold of each image; owners are dealt in an order of their own."""
    whose, place = np.unique(np.array([str(one) for one in owners]), return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(whose)) % folds
    return [int(one) for one in dealt[place]]


def seed_figures(held: HeldOut, *, folds: int, seed: int) -> dict[str, float]:
    """Figures of one seed."""
    rates, answers = [], list[Answer]()
    for inside, outside in fold_rows(folds_of(held.owners, folds=folds, seed=seed)):
        rate, found = held.judge(inside, outside)
        rates.append(rate)
        answers += found
    given = [one.wrong for one in answers if one.given]
    stated = float(np.mean(rates))
    return {
        "stated": stated,
        "error": sum(given) / max(1, len(given)),
        "answered": len(given),
        "unsure": 1 - len(given) / max(1, len(answers)),
        "best_unsure": best_unsure(answers, rate=stated),
    }


def measured(
    row: Row, *, data: Path, work: Path, seeds: int, folds: int
) -> dict[str, float | str | None]:
    """One row: a training, and all seeds."""
    begun = process_time()
    held = held_out(row, data=data, work=work)
    found = [seed_figures(held, folds=folds, seed=seed) for seed in range(1, seeds + 1)]
    means = {name: round(float(np.mean([one[name] for one in found])), 4) for name in found[0]}
    return {
        "task": row.task,
        "pictures": len(held.owners),
        "owners": len({str(one) for one in held.owners}),
        "seeds": seeds,
        "folds": folds,
        "seeds_kept": sum(one["error"] <= one["stated"] for one in found),
        "error_highest": round(max(one["error"] for one in found), 4),
        **means,
        "best_unsure": None if row.task in ("anomaly", "count") else means["best_unsure"],
        "processor_s": round(process_time() - begun, 1),
    }


def line(name: str, row: Mapping[str, Any]) -> str:
    return (
        f"{name:38} n {row['pictures']:4} of {row['owners']:4} stated {row['stated']:.3f} error"
        f" {row['error']:.3f} to {row['error_highest']:.3f} (kept {row['seeds_kept']} of"
        f" {row['seeds']}) unsure {row['unsure']:.3f} best {row['best_unsure']}"
        f" {row['processor_s']} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", default="", help="Names of rows, or parts of them, by semicolon.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="Write no results.")
    asked = parser.parse_args()
    measure_rows(
        "limits",
        [row for row in rows_asked(asked.rows) if row.task in MAKERS],
        partial(measured, data=asked.data.resolve(), seeds=asked.seeds, folds=asked.folds),
        line=line,
        answer=answer,
        is_part=bool(asked.rows),
        is_dry=asked.dry,
    )


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows = list(result["rows"].values())
    kept = sorted({(row["seeds_kept"], row["seeds"]) for row in rows})
    span = " to ".join(dict.fromkeys(f"{few} of {seeds}" for few, seeds in (kept[0], kept[-1])))
    return (
        f"On each of {len(rows)} rows the limits stated as many wrong answers as there were, or"
        f" more, in {span} seeds."
    )


if __name__ == "__main__":
    main()
