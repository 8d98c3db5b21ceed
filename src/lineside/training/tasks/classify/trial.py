"""Return whether fine-tuning pays, by pictures held out, and the network it gives where it does.

1. It is tried where there is enough to learn from and something left to gain.
2. Two folds are learned one after the other from the other folds; the first that is not better than
   the frozen network ends the trial. Better is a lower loss after calibration, by more than three
   percent, with no more wrong answers.
3. What is used is learned from all pictures for as many epochs as the folds took. It is calibrated
   by the answers to the held-out folds.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from lineside.training.common.loop import Parallel
from lineside.training.tasks.classify.features import POOLED, frozen_engine, normalised
from lineside.training.tasks.classify.head import (
    Classes,
    HeldOutLogits,
    Numbers,
    Space,
    calibrated_loss,
)
from lineside.training.tasks.classify.inputs import InputSpec
from lineside.training.tasks.classify.network import Floats
from lineside.training.tasks.classify.tuning import (
    MIRRORS,
    Image,
    Recipe,
    TrainingSet,
    Tuned,
    harmless,
    tune,
)
from lineside.vision.prepare import cut, levelled

_FEWEST_PICTURES = 80
_FEWEST_OF_CLASS = 8
_LEAST_WRONG = 0.02
_LEAST_GAIN = 0.03
_FOLDS = 2
_MOST_KEPT_BYTES = 512_000_000
_MOST_MIRRORED = 100


@dataclass(slots=True, kw_only=True, eq=False)
class Inputs:
    """Inputs of a sight by a picture's place, (h, w, 3) uint8; as many kept as there is room for.

    Attributes:
        picture: pixels of a place.
    """

    picture: Callable[[int], Image]
    spec: InputSpec
    _kept: OrderedDict[int, Image] = field(default_factory=OrderedDict, init=False)

    def __call__(self, place: int) -> Image:
        found = self._kept.get(place)
        if found is None:
            settings = self.spec.prepare
            found = levelled(cut(self.picture(place), settings), settings)[0]
            if (len(self._kept) + 1) * found.nbytes <= _MOST_KEPT_BYTES:
                self._kept[place] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuningTask:
    """Result of the frozen network.

    Attributes:
        inputs: of the sight that tuning uses, which is a single-scale one.
        features: (pictures, PER_SCALE) with that sight.
        own: held-out answers with that sight.
        best: held-out answers of what would be used without tuning.
    """

    inputs: Inputs
    features: Floats
    own: HeldOutLogits
    best: HeldOutLogits
    truth: Classes
    folds: tuple[int, ...]
    classes: int

    @property
    def spec(self) -> InputSpec:
        """That tuning uses."""
        return self.inputs.spec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Result of a trial.

    Attributes:
        tuned: learned from all pictures; None where tuning did not pay.
        places: of the pictures held out.
        logits: (places, classes), their answers.
        history: epochs of the first fold.
        words: for the report.
    """

    tuned: Tuned | None
    places: Classes
    logits: Numbers
    history: tuple[Mapping[str, float], ...]
    words: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuningContext:
    """Where a trial works, and who is told."""

    folder: Path
    parallel: Parallel
    tell: Callable[[str, int, Mapping[str, float]], None]


def worth_trying(ground: TuningTask) -> str:
    """Why fine-tuning is not tried; "" where it is."""
    counts = np.bincount(ground.truth, minlength=ground.classes)
    if len(ground.truth) < _FEWEST_PICTURES or counts.min() < _FEWEST_OF_CLASS:
        return "too few pictures"
    wrong = ground.best.logits.argmax(axis=1) != ground.truth
    if wrong.mean() < _LEAST_WRONG:
        return "the frozen network leaves hardly anything to gain"
    return ""


def try_tuning(ground: TuningTask, recipe: Recipe, *, room: TuningContext) -> Trial:
    """Learn the folds, and all of it where that pays."""
    mirrors = mirrors_for(ground)
    recipe = replace(recipe, mirrors=mirrors)
    done: list[Tuned] = []
    outsides: list[Classes] = []
    gains: list[str] = []
    for fold in sorted(set(ground.folds))[:_FOLDS]:
        inside, outside = _parts(ground, fold)
        lesson = _lesson(ground, inside=inside, outside=outside, name=f"fold {fold}")
        tuned = tune(
            lesson,
            recipe,
            folder=room.folder,
            parallel=room.parallel,
            tell=partial(room.tell, f"fine-tuning fold {fold}"),
        )
        done.append(tuned)
        outsides.append(outside)
        gain = _gain(ground, outside, logits=tuned.logits)
        gains.append(f"{gain:+.3f}")
        if gain <= _LEAST_GAIN:
            break
    places = np.concatenate(outsides)
    logits = np.concatenate([tuned.logits for tuned in done])
    words: dict[str, object] = {
        "relative gain in calibrated loss, by fold": gains,
        "mirrored": list(mirrors),
        "epochs": [tuned.epochs for tuned in done],
    }
    pays = len(done) == _FOLDS and _pays(ground, places, logits=logits)
    final = _all(ground, recipe, epochs=_mean_epochs(done), room=room) if pays else None
    return Trial(tuned=final, places=places, logits=logits, history=done[0].history, words=words)


def _mean_epochs(done: Sequence[Tuned]) -> int:
    return max(1, round(sum(tuned.epochs for tuned in done) / len(done)))


def _parts(ground: TuningTask, fold: int) -> tuple[Classes, Classes]:
    numbers = np.array(ground.folds)
    return np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)


def _lesson(ground: TuningTask, *, inside: Classes, outside: Classes, name: str) -> TrainingSet:
    start = Space(ground.features[inside]).fit(
        ground.truth[inside], classes=ground.classes, strength=ground.own.strength
    )
    return TrainingSet(
        pictures=ground.inputs,
        truth=ground.truth,
        inside=inside,
        outside=outside,
        start=start,
        name=name,
    )


def _all(ground: TuningTask, recipe: Recipe, *, epochs: int, room: TuningContext) -> Tuned:
    everyone = np.arange(len(ground.truth))
    lesson = _lesson(ground, inside=everyone, outside=everyone[:0], name="all")
    return tune(
        lesson,
        replace(recipe, stop_after=epochs),
        folder=room.folder,
        parallel=room.parallel,
        tell=partial(room.tell, "fine-tuning"),
    )


def _gain(ground: TuningTask, outside: Classes, *, logits: Numbers) -> float:
    """By which share the loss on held-out pictures fell, both calibrated on them."""
    truth = ground.truth[outside]
    before = calibrated_loss(ground.best.logits[outside], truth)
    return 1 - calibrated_loss(logits, truth) / max(before, 1e-9)


def _pays(ground: TuningTask, places: Classes, *, logits: Numbers) -> bool:
    truth = ground.truth[places]
    before = int((ground.best.logits[places].argmax(axis=1) == truth).sum())
    after = int((logits.argmax(axis=1) == truth).sum())
    return after >= before and _gain(ground, places, logits=logits) > _LEAST_GAIN


def mirrors_for(ground: TuningTask) -> tuple[str, ...]:
    """Return the mirrorings that change no class, by a head that saw no image of the first fold."""
    inside, outside = _parts(ground, min(ground.folds))
    shown = outside[:_MOST_MIRRORED]
    head = Space(ground.features[inside]).fit(
        ground.truth[inside], classes=ground.classes, strength=ground.own.strength
    )
    truth = ground.truth[shown]
    right = int((head.logits(ground.features[shown]).argmax(axis=1) == truth).sum())
    _, engine = frozen_engine(1)
    found = []
    for name, mirror in MIRRORS.items():
        if name == "over" and ground.spec.width_px != ground.spec.height_px:
            continue
        seen = [
            engine.run(
                normalised(np.ascontiguousarray(mirror(ground.inputs(place)))),
                outputs=(POOLED,),
            )[0][0]
            for place in shown.tolist()
        ]
        mirrored = int((head.logits(np.stack(seen)).argmax(axis=1) == truth).sum())
        if harmless(right, mirrored, pictures=len(shown)):
            found.append(name)
    return tuple(found)
