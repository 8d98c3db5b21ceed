"""Answers to pictures that the heads did not see: cross-validation, fold by fold, kept as it goes.

Heads for a fold are fitted to the other folds. Its rules are made from the held-out answers of the
other folds, so that neither heads nor cuts have seen the picture they are judged on.

From held-out logits to a rule: calibration, cut, unsure band, and how little few pictures allow:

1. Probability: Platt scaling (Platt 1999, with its smoothed targets), never falling with the logit,
   clamped to [floor, 1 - floor] with floor = 1 / (n + 2), n pictures of the rarer side.
2. Cut: the cheapest of the limit table on held-out answers, by the policy's costs.
3. Band: class-conditional conformal quantiles at the policy's error rate, never below 1 / (n + 1).
   Where held-out answers of the two sides overlap, everything that could be either is unsure.
4. Where they do not overlap, the gap between them holds no evidence. A new light moves scores into
   it, so it is divided at the cut, and only its middle (a tenth of it) is unsure. Cuts
   inside the gap keep the conformal rate of both sides.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy, encode
from lineside.models.result import LearningCurve
from lineside.training.common.loop import fold_rows
from lineside.training.common.methods import spread, unsure_between
from lineside.training.job import stored_arrays
from lineside.training.tasks.learning_curve import learning_curve
from lineside.training.tasks.multilabel.features import PictureFeatures
from lineside.training.tasks.multilabel.heads import (
    UNKNOWN,
    HeadPlan,
    Output,
    Truth,
    distances_of,
    fit_heads,
    logits_of,
)
from lineside.vision import LabelAnswer, LabelRule
from lineside.vision.decide import decide

Floats = NDArray[np.float32]

_LONGEST_TABLE = 101

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Held-out answers of one output, pooled over the rows that share its head.

    Attributes:
        logit: (n,) float64.
        truth: (n,) bool.
        picture: (n,) number of the picture each answer is of.
    """

    logit: Numbers
    truth: NDArray[np.bool_]
    picture: NDArray[np.intp]

    def pictures(self, *, holding: bool) -> int:
        """Different pictures with at least one answer of that side."""
        return len(np.unique(self.picture[self.truth == holding]))


def rules_for(
    plan: HeadPlan, logits: Floats, *, truth: Truth, policy: Policy, pictures: Sequence[int]
) -> tuple[LabelRule, ...]:
    """One rule per output, in the plan's order.

    Args:
        plan: the heads.
        logits: (pictures, regions, outputs) held out.
        truth: of the same shape.
        policy: error rate and costs.
        pictures: which of them may be used.
    """
    chosen = list(pictures)
    shared = {row: head for head in plan.heads for row in head.rows}
    made: dict[tuple[tuple[int, ...], int], LabelRule] = {}
    rules = []
    for output in plan.outputs:
        key = (shared[output.row].rows, output.place)
        if key not in made:
            scores = _scores(logits[chosen], truth[chosen], rows=key[0], place=output.place)
            made[key] = _rule(output, scores, policy=policy)
        rules.append(
            replace(
                made[key],
                name=output.name,
                region=output.region,
                label=output.label,
                output=output.place,
            )
        )
    return tuple(rules)


def _scores(logits: Floats, truth: Truth, *, rows: tuple[int, ...], place: int) -> Scores:
    values, answer = logits[:, list(rows), place], truth[:, list(rows), place]
    owner = np.repeat(np.arange(len(values))[:, None], len(rows), axis=1)
    judged = answer != UNKNOWN
    return Scores(
        logit=values[judged].astype(np.float64), truth=answer[judged] == 1, picture=owner[judged]
    )


def _rule(output: Output, scores: Scores, *, policy: Policy) -> LabelRule:
    band = unsure_between(
        scores.logit,
        scores.truth,
        rarer=min(scores.pictures(holding=True), scores.pictures(holding=False)),
        policy=policy,
        clamped=True,
    )
    return LabelRule(
        name=output.name,
        region=output.region,
        label=output.label,
        output=output.place,
        slope=band.slope,
        offset=band.offset,
        floor=band.floor,
        low=band.low,
        high=band.high,
        error_rate=band.error_rate,
        calibration_pictures=len(np.unique(scores.picture)),
        limits=tuple(spread(band.table, _LONGEST_TABLE)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossValidation:
    """Answers of heads to pictures they had not seen.

    Attributes:
        folds: of each picture.
        logits: (pictures, regions, outputs).
        varied: (pictures, variants, regions, outputs), of the pictures' changed copies.
        distances: (pictures, 1 + variants, regions) to the pictures the heads had seen.
    """

    folds: tuple[int, ...]
    logits: Floats
    varied: Floats
    distances: Floats


def cross_validate(
    plan: HeadPlan,
    pictures: Sequence[PictureFeatures],
    *,
    truth: Truth,
    folds: Sequence[int],
    folder: Path,
    report: Callable[..., None],
) -> CrossValidation:
    """Held-out answers for every picture.

    Args:
        plan: the heads.
        pictures: as training sees them.
        truth: of them.
        folds: of them.
        folder: where folds are kept.
        report: called after each fold with the share that is done, ``loss`` of the fit, and as
            ``held_out`` the share of held-out answers on their truth's side of zero; may raise.
    """
    parts = fold_rows(folds)
    shape = (len(pictures), len(plan.regions), plan.width)
    copies = pictures[0].features.shape[0]
    logits = np.zeros(shape, np.float32)
    distances = np.zeros((shape[0], copies, shape[1]), np.float32)
    varied = np.zeros((shape[0], copies - 1, *shape[1:]), np.float32)
    right = judged = 0
    for done, (inside, outside) in enumerate(parts, start=1):
        stored = _fold(plan, pictures, truth=truth, inside=inside, outside=outside, folder=folder)
        logits[outside] = cast(Floats, stored["logits"])
        varied[outside] = cast(Floats, stored["varied"])
        distances[outside] = cast(Floats, stored["distances"])
        known = truth[outside] != UNKNOWN
        right += int(((logits[outside] > 0) == (truth[outside] == 1))[known].sum())
        judged += int(known.sum())
        loss = float(cast(NDArray[np.float64], stored["loss"])[0])
        report(done / len(parts), loss=loss, held_out=right / max(judged, 1))
    return CrossValidation(folds=tuple(folds), logits=logits, varied=varied, distances=distances)


def _fold(
    plan: HeadPlan,
    pictures: Sequence[PictureFeatures],
    *,
    truth: Truth,
    inside: NDArray[np.intp],
    outside: NDArray[np.intp],
    folder: Path,
) -> dict[str, NDArray[np.generic]]:
    def make() -> dict[str, NDArray[np.generic]]:
        fitted = fit_heads(plan, [pictures[p].features for p in inside], truth=truth[inside])
        observed = np.stack([pictures[place].features for place in outside])
        answers = logits_of(fitted.heads, observed)
        return {
            "logits": answers[:, 0],
            "varied": answers[:, 1:],
            "distances": distances_of(fitted.heads, observed),
            "loss": np.array([fitted.loss]),
        }

    key = _key(plan, pictures, truth=truth, inside=inside, outside=outside)
    return stored_arrays(folder / f"{key}.npz", make)


def _key(
    plan: HeadPlan,
    pictures: Sequence[PictureFeatures],
    *,
    truth: Truth,
    inside: NDArray[np.intp],
    outside: NDArray[np.intp],
) -> str:
    """Names what a fold depends on: its pictures' features and labels, not their order alone."""
    hashed = hashlib.sha256(encode(plan))
    for places in (inside, outside):
        hashed.update(b"/")
        for place in places:
            hashed.update(pictures[place].sample.digest.encode())
            hashed.update(truth[place].tobytes())
            hashed.update(np.ascontiguousarray(pictures[place].features[:, :, ::97]).tobytes())
    return hashed.hexdigest()[:40]


def curve_of(
    plan: HeadPlan,
    pictures: Sequence[PictureFeatures],
    *,
    truth: Truth,
    held_out: CrossValidation,
    groups: Sequence[str],
    seed: int,
    folder: Path,
    report: Callable[[], None],
) -> LearningCurve:
    """Return what fewer pictures would have reached, by label and by region.

    Args:
        plan: the heads.
        pictures: as training sees them.
        truth: of them.
        held_out: their cross-validation.
        groups: of them.
        seed: of the order in which groups are taken.
        folder: where folds are kept.
        report: called before each fit; may raise.
    """

    def answer(inside: NDArray[np.intp], outside: NDArray[np.intp]) -> Numbers:
        report()
        stored = _fold(plan, pictures, truth=truth, inside=inside, outside=outside, folder=folder)
        return right_answers(plan, cast(Floats, stored["logits"]), truth=truth[outside])

    sides = (truth == 1, truth == 0)
    kinds = [
        side[:, list(head.rows), place].any(axis=1)
        for head in plan.heads
        for place in range(len(head.labels))
        for side in sides
    ]
    return learning_curve(
        answer,
        whole=right_answers(plan, held_out.logits, truth=truth),
        kinds=np.stack(kinds, axis=1),
        named=_named_answers(plan, truth),
        groups=groups,
        folds=held_out.folds,
        seed=seed,
        heads="the package's own heads on the frozen network",
    )


def right_answers(plan: HeadPlan, logits: Floats, *, truth: Truth) -> Numbers:
    """(pictures, answers) 1 right, 0 wrong, NaN not judged.

    One answer for each region of classes, its likeliest class, and one for each other label, by
    the side of zero.
    """
    columns = []
    for head in plan.heads:
        rows, width = list(head.rows), len(head.labels)
        said, held = logits[:, rows, :width], truth[:, rows, :width]
        if head.exclusive:
            known = (held == 1).any(axis=2)
            right = said.argmax(axis=2) == held.argmax(axis=2)
        else:
            known, right = (
                each.reshape(len(held), -1) for each in (held != UNKNOWN, (said > 0) == (held == 1))
            )
        columns.append(np.where(known, right.astype(np.float64), np.nan))
    return np.concatenate(columns, axis=1)


def _named_answers(plan: HeadPlan, truth: Truth) -> dict[str, NDArray[np.bool_]]:
    """(pictures, answers) by label, of classes where they are true, and by region of classes."""
    widths = [len(head.rows) * (1 if head.exclusive else len(head.labels)) for head in plan.heads]
    found: dict[str, NDArray[np.bool_]] = {}
    first = 0
    for head, width in zip(plan.heads, widths, strict=True):
        for place, label in enumerate(head.labels):
            mask = found.setdefault(label, np.zeros((len(truth), sum(widths)), np.bool_))
            if head.exclusive:
                mask[:, first : first + width] |= truth[:, list(head.rows), place] == 1
            else:
                mask[:, first + place :: len(head.labels)][:, : len(head.rows)] = True
        for n, row in enumerate(head.rows if head.exclusive else ()):
            mask = np.zeros((len(truth), sum(widths)), np.bool_)
            mask[:, first + n] = True
            found[f"region {plan.regions[row]}"] = mask
        first += width
    return found


def held_out_labels(
    plan: HeadPlan, *, held_out: CrossValidation, truth: Truth, policy: Policy
) -> list[tuple[LabelAnswer, ...]]:
    """Decide each picture by rules made without its fold, by the function devices use."""
    found: list[tuple[LabelAnswer, ...]] = [()] * len(held_out.folds)
    for inside, outside in fold_rows(held_out.folds):
        rules = rules_for(
            plan, held_out.logits, truth=truth, policy=policy, pictures=inside.tolist()
        )
        for place in outside.tolist():
            found[place] = decide(
                held_out.logits[place], rules, regions=plan.regions, policy=policy
            )
    return found
