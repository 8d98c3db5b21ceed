"""How often the answer's set holds the truth, against what the rule promises.

    python benchmarks/coverage.py [--seeds 20] [--pictures 2400]

Every seed draws pictures anew: prints with four kinds of spots that shade into one another, so that
even the best reading of a picture is wrong now and then. A head on frozen features is fitted to one
part, the rule is made from held-out answers as a training makes it, and the sets are counted on
pictures that neither has seen. Once with the rate for each class, once over all pictures together.
Then sixteen pictures, where no rate below one in seventeen can be promised: the rule has to say so.

The result goes to benchmarks/results/coverage.json; the exit status is 1 when a target is missed.
"""

import argparse
import sys
import warnings

import cv2
import measure
import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy
from lineside.training.tasks.classify.features import frozen_engine, normalised
from lineside.training.tasks.classify.network import Space, class_rule, hold_out
from lineside.vision import ClassRule, Decision
from lineside.vision.decide import decide_classes

LABELS = ("few", "some", "more", "many")
RATE = 0.1
LOWEST, HIGHEST = 0.88, 0.93
SIDE_PX = 32
FOLDS = 5
FEW = 16

Floats = NDArray[np.float32]
Places = NDArray[np.intp]


def drawn(count: int, *, rng: np.random.Generator) -> tuple[Floats, Places]:
    """Frozen features of so many prints, and their classes."""
    _, engine = frozen_engine(1)
    truth = rng.integers(0, len(LABELS), count)
    rows = []
    for place in truth:
        image = rng.normal(120, 12, (SIDE_PX, SIDE_PX, 3)).clip(0, 255).astype(np.uint8)
        for _ in range(int(rng.poisson(3 + 4 * place))):
            x, y = (int(v) for v in rng.integers(2, SIDE_PX - 2, 2))
            cv2.circle(image, (x, y), 1, (30, 30, 30), -1)
        rows.append(engine.run(normalised(image), outputs=("pooled",))[0][0])
    return np.stack(rows), truth.astype(np.intp)


def sets(rule: ClassRule, logits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(pictures, classes): which classes belong to each answer."""
    answers = [decide_classes(row.astype(np.float32), rule) for row in logits]
    return np.array([[a.decision is not Decision.ABSENT for a in each] for each in answers])


def one_seed(
    pool: tuple[Floats, Places], *, seed: int, learned: int
) -> dict[str, dict[str, float]]:
    """Coverage of both kinds of rule on one draw from the pool."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool[1]))
    inside, outside = order[:learned], order[learned:]
    features, truth = pool[0][inside], pool[1][inside]
    folds = [place % FOLDS for place in range(learned)]
    own = hold_out(features, truth, folds=folds, classes=len(LABELS), strengths=(0.1, 1.0))
    head = Space(features).fit(truth, classes=len(LABELS), strength=own.strength)
    logits, wanted = head.logits(pool[0][outside]), pool[1][outside]
    found = {}
    for name, each_class in (("each class", True), ("all together", False)):
        rule = class_rule(
            own.logits,
            truth,
            labels=LABELS,
            policy=Policy(error_rate=RATE),
            class_conditional=each_class,
        )
        inset = sets(rule, logits)
        held = inset[np.arange(len(wanted)), wanted]
        found[name] = {
            "coverage": float(held.mean()),
            "lowest_class": float(min(held[wanted == c].mean() for c in range(len(LABELS)))),
            "set_size": float(inset.sum(axis=1).mean()),
        }
    return found


def few(pool: tuple[Floats, Places]) -> dict[str, object]:
    """Sixteen pictures: what rate the rule says it holds."""
    features, truth = pool[0][:FEW], pool[1][:FEW]
    folds = [place % 4 for place in range(FEW)]
    found = hold_out(features, truth, folds=folds, classes=len(LABELS), strengths=(0.1,))
    policy = Policy(error_rate=0.01)
    rule = class_rule(found.logits, truth, labels=LABELS, policy=policy, class_conditional=False)
    return {
        "pictures": FEW,
        "asked": policy.error_rate,
        "held": rule.error_rate,
        "floor": 1 / (FEW + 1),
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
    result: dict[str, object] = {
        "error_rate": RATE,
        "seeds": asked.seeds,
        "learned": asked.learned,
        "measured": asked.pictures - asked.learned,
    }
    met = True
    for name in ("each class", "all together"):
        coverage = [row[name]["coverage"] for row in rows]
        result[name] = {
            "coverage_mean": float(np.mean(coverage)),
            "coverage_lowest": min(coverage),
            "coverage_highest": max(coverage),
            "lowest_class_mean": float(np.mean([row[name]["lowest_class"] for row in rows])),
            "set_size_mean": float(np.mean([row[name]["set_size"] for row in rows])),
        }
        met &= LOWEST <= float(np.mean(coverage)) <= HIGHEST
        result[f"seeds within {LOWEST}-{HIGHEST}, {name}"] = sum(
            LOWEST <= value <= HIGHEST for value in coverage
        )
    sixteen = few(pool)
    result["few"] = sixteen
    met &= abs(float(str(sixteen["held"])) - 1 / (FEW + 1)) < 1e-9
    result["met"] = met
    measure.write("coverage", result)
    for name, value in result.items():
        print(name, value)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
