"""How many of the answers given are wrong, against what the rule states.

    python benchmarks/coverage.py [--seeds 20] [--pictures 2400]

The pictures are drawn once: prints with four kinds of spots that shade into one another, so that
even the best reading of a picture is wrong now and then. Every seed divides them anew. A head on
frozen features is fitted to one part, the rule is made from held-out answers as a training makes
it, and the answers are counted on the other part, which neither has seen. In nine of ten seeds the
stated rate has to hold. Then sixteen pictures, that show no rate below 1 - 0.1 ** (1 / 16): the
rule has to say so.

The result goes to benchmarks/results/coverage.json; the exit status is 1 when a target is missed.
"""

import argparse
import sys
import warnings
from typing import Any

import cv2
import measure
import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy
from lineside.training.common.backbone import lite0_full
from lineside.training.tasks.classify.features import frozen_engine, normalised
from lineside.training.tasks.classify.network import Space, class_rule, hold_out
from lineside.vision import ClassRule
from lineside.vision.decide import class_probabilities

LABELS = ("few", "some", "more", "many")
RATE = 0.1
HELD = 0.9
SIDE_PX = 32
FOLDS = 5
FEW = 16

Floats = NDArray[np.float32]
Places = NDArray[np.intp]


def drawn(count: int, *, rng: np.random.Generator) -> tuple[Floats, Places]:
    """Frozen features of so many prints, and their classes."""
    _, engine = frozen_engine(1, backbone=lite0_full())
    truth = rng.integers(0, len(LABELS), count)
    rows = []
    for place in truth:
        image = rng.normal(120, 12, (SIDE_PX, SIDE_PX, 3)).clip(0, 255).astype(np.uint8)
        for _ in range(int(rng.poisson(3 + 4 * place))):
            x, y = (int(v) for v in rng.integers(2, SIDE_PX - 2, 2))
            cv2.circle(image, (x, y), 1, (30, 30, 30), -1)
        rows.append(engine.run(normalised(image), outputs=("pooled",))[0][0])
    return np.stack(rows), truth.astype(np.intp)


def one_seed(pool: tuple[Floats, Places], *, seed: int, learned: int) -> dict[str, float]:
    """Stated and measured error of one draw from the pool."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool[1]))
    inside, outside = order[:learned], order[learned:]
    features, truth = pool[0][inside], pool[1][inside]
    folds = [place % FOLDS for place in range(learned)]
    own = hold_out(features, truth, folds=folds, classes=len(LABELS), strengths=(0.1, 1.0))
    head = Space(features).fit(truth, classes=len(LABELS), strength=own.strength)
    rule = rule_of(own.logits, truth, rate=RATE)
    chances = class_probabilities(head.logits(pool[0][outside]).astype(np.float32), rule)
    given = chances.max(axis=1) >= rule.cuts[0]
    wrong = chances.argmax(axis=1) != pool[1][outside]
    return {
        "stated": rule.error_rate,
        "error": float(wrong[given].mean()) if given.any() else 0.0,
        "unsure": float(1 - given.mean()),
    }


def rule_of(logits: NDArray[np.float64], truth: Places, *, rate: float) -> ClassRule:
    policy = Policy(error_rate=rate)
    return class_rule(logits, truth, labels=LABELS, policy=policy, owners=range(len(truth)))[0]


def few(pool: tuple[Floats, Places]) -> dict[str, float]:
    """Sixteen pictures: what rate the rule states."""
    features, truth = pool[0][:FEW], pool[1][:FEW]
    folds = [place % 4 for place in range(FEW)]
    found = hold_out(features, truth, folds=folds, classes=len(LABELS), strengths=(0.1,))
    rule = rule_of(found.logits, truth, rate=0.01)
    return {
        "pictures": FEW,
        "asked": 0.01,
        "stated": rule.error_rate,
        "floor": 1 - 0.1 ** (1 / FEW),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=2400)
    parser.add_argument("--learned", type=int, default=600)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    pool = drawn(asked.pictures, rng=np.random.default_rng(0))
    rows = [one_seed(pool, seed=seed, learned=asked.learned) for seed in range(asked.seeds)]
    held = sum(row["error"] <= row["stated"] for row in rows)
    sixteen = few(pool)
    met = held >= HELD * len(rows) and sixteen["stated"] >= sixteen["floor"] - 1e-9
    result: dict[str, object] = {
        "error_rate": RATE,
        "seeds": asked.seeds,
        "learned": asked.learned,
        "judged": asked.pictures - asked.learned,
        "seeds_held": held,
        **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
        "error_highest": max(row["error"] for row in rows),
        "few": sixteen,
        "met": met,
    }
    measure.write("coverage", result, answer)
    for name, value in result.items():
        print(name, value)
    return 0 if met else 1


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    held, seeds = result["seeds_held"], result["seeds"]
    missed = "" if held >= HELD * seeds else f" (target {100 * HELD:.0f} % missed)"
    return (
        f"In {held} of {seeds} seeds{missed}: {100 * result['error']:.1f} % wrong on average where"
        f" {100 * result['stated']:.1f} % is stated, {100 * result['unsure']:.1f} % unsure."
    )


if __name__ == "__main__":
    sys.exit(main())
