"""What is told beside a package of classes: baseline, held-out figures, warnings."""

from collections.abc import Sequence

import numpy as np

from lineside.core import Policy
from lineside.datasets import Sample
from lineside.training.classes.head import Classes, Numbers
from lineside.vision import (
    UNSURE,
    ClassRule,
    Decision,
    balanced_accuracy,
    decide_classes,
    macro_f1,
)

_FEW = 20


def baseline_of(truth: Classes, labels: Sequence[str]) -> dict[str, float]:
    """The commonest class, and each class's share."""
    counts = np.bincount(truth, minlength=len(labels)).tolist()
    shares = {f"base_rate/{n}": c / len(truth) for n, c in zip(labels, counts, strict=True)}
    return {"majority": float(counts.index(max(counts))), **shares}


def figures_of(logits: Numbers, truth: Classes, *, rule: ClassRule) -> dict[str, float]:
    """Figures over held-out training pictures; the rule was made from the same answers."""
    sets = [decide_classes(row.astype(np.float32), rule) for row in logits]
    inside = np.array([[a.decision is not Decision.ABSENT for a in each] for each in sets])
    decided = np.where(inside.sum(axis=1) == 1, inside.argmax(axis=1), UNSURE)
    likeliest = logits.argmax(axis=1)
    return {
        "accuracy": float(np.mean(decided == truth)),
        "argmax_accuracy": float(np.mean(likeliest == truth)),
        "balanced_accuracy": float(balanced_accuracy(truth, decided)),
        "macro_f1": macro_f1(truth, likeliest),
        "coverage": float(np.mean(inside[np.arange(len(truth)), truth])),
        "unsure_rate": float(np.mean(decided == UNSURE)),
    }


def warnings_for(
    samples: Sequence[Sample],
    truth: Classes,
    *,
    rule: ClassRule,
    policy: Policy,
    left_out: int = 0,
) -> tuple[str, ...]:
    """Sentences that stand beside every figure.

    Args:
        samples: that were learned from.
        truth: of them.
        rule: of the package.
        policy: of the inspection.
        left_out: training pictures that show none or several of the classes.
    """
    found = []
    if left_out:
        found.append(
            f"{left_out} training pictures show none or several of the classes and were left out"
        )
    counts = np.bincount(truth, minlength=len(rule.labels))
    few = [f"{n} of {name}" for name, n in zip(rule.labels, counts, strict=True) if n < _FEW]
    if few:
        found.append(f"few pictures: {', '.join(few)}; confidence is bounded by their number")
    if rule.error_rate > policy.error_rate:
        found.append(
            f"an error rate of {policy.error_rate:g} cannot be shown with this few pictures:"
            f" decisions hold {rule.error_rate:.3g}, which is 1 / (n + 1)"
        )
    if policy.present_above is None and not rule.class_conditional:
        found.append(
            "the error rate holds over all pictures together, not for each class:"
            " a class has too few pictures for that"
        )
    groups = {sample.group for sample in samples}
    if len(groups) == 1 and "" not in groups:
        found.append(
            "all training pictures are of one group: what was held out while learning is like what"
            " was learned from, and pictures of another group may be answered worse"
        )
    if groups == {""}:
        found.append(
            "the pictures carry no groups: pictures of one part may stand on both sides of a split"
        )
    return tuple(found)
