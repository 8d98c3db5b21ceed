"""Answers to pictures that the heads did not see: cross-validation, fold by fold, kept as it goes.

Heads for a fold are fitted to the other folds. Its rules are made from the held-out answers of the
other folds, so that neither heads nor cuts have seen the picture they are judged on.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy, encode
from lineside.training.job import load_arrays, save_arrays
from lineside.training.tasks.multilabel.calibrate import rules_for
from lineside.training.tasks.multilabel.features import PictureFeatures
from lineside.training.tasks.multilabel.heads import (
    UNKNOWN,
    HeadPlan,
    Truth,
    distances_of,
    fit_heads,
    logits_of,
)
from lineside.vision import LabelAnswer
from lineside.vision.decide import decide

Floats = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldDone:
    """A fold is finished: how well it was fitted, and how many held-out answers were right so far.

    Attributes:
        held_out: share of answers on their truth's side of zero.
    """

    done: int
    count: int
    loss: float
    held_out: float


def cross_validate(
    plan: HeadPlan,
    pictures: Sequence[PictureFeatures],
    *,
    truth: Truth,
    folds: Sequence[int],
    folder: Path,
    report: Callable[[FoldDone], None],
) -> CrossValidation:
    """Held-out answers for every picture; ``report`` is called after each fold and may raise."""
    numbers = np.array(folds)
    order = sorted(set(folds))
    shape = (len(pictures), len(plan.regions), plan.width)
    copies = pictures[0].features.shape[0]
    logits = np.zeros(shape, np.float32)
    distances = np.zeros((shape[0], copies, shape[1]), np.float32)
    varied = np.zeros((shape[0], copies - 1, *shape[1:]), np.float32)
    right = judged = 0
    for done, fold in enumerate(order, start=1):
        inside, outside = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        kept = _fold(plan, pictures, truth=truth, inside=inside, outside=outside, folder=folder)
        logits[outside] = cast(Floats, kept["logits"])
        varied[outside] = cast(Floats, kept["varied"])
        distances[outside] = cast(Floats, kept["distances"])
        known = truth[outside] != UNKNOWN
        right += int(((logits[outside] > 0) == (truth[outside] == 1))[known].sum())
        judged += int(known.sum())
        loss = float(cast(NDArray[np.float64], kept["loss"])[0])
        share = right / max(judged, 1)
        report(FoldDone(done=done, count=len(order), loss=loss, held_out=share))
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
    path = folder / f"{_key(plan, pictures, truth=truth, inside=inside, outside=outside)}.npz"
    kept = load_arrays(path)
    if kept is not None:
        return kept
    fitted = fit_heads(plan, [pictures[p].features for p in inside], truth=truth[inside])
    seen = np.stack([pictures[place].features for place in outside])
    answers = logits_of(fitted.heads, seen)
    made: dict[str, NDArray[np.generic]] = {
        "logits": answers[:, 0],
        "varied": answers[:, 1:],
        "distances": distances_of(fitted.heads, seen),
        "loss": np.array([fitted.loss]),
    }
    save_arrays(path, made)
    return made


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


def held_out_labels(
    plan: HeadPlan, *, held_out: CrossValidation, truth: Truth, policy: Policy
) -> list[tuple[LabelAnswer, ...]]:
    """Decide each picture by rules made without its fold, by the function devices use."""
    numbers = np.array(held_out.folds)
    found: list[tuple[LabelAnswer, ...]] = [()] * len(numbers)
    for fold in sorted(set(held_out.folds)):
        others = np.flatnonzero(numbers != fold).tolist()
        rules = rules_for(plan, held_out.logits, truth=truth, policy=policy, pictures=others)
        for place in np.flatnonzero(numbers == fold).tolist():
            found[place] = decide(
                held_out.logits[place], rules, regions=plan.regions, policy=policy
            )
    return found
