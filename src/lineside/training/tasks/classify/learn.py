"""Learn the class of whole pictures.

1. Every picture is looked at by the frozen network, at a few sights; what it saw is cached. The
   cheapest sight decides whether all bring pictures to one brightness.
2. Sight and strength of a linear head are chosen by pictures held out by group. Nothing outside
   the training part is ever seen.
3. Calibration, the tested cut and health limits rest on the same held-out answers.
4. Fine-tuning is tried where it can pay (``classes.trial``) and kept where it does.
5. The network of the package has learned from all training pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from lineside.core import InvalidError, Policy
from lineside.datasets import Sample
from lineside.datasets.splitting import folds
from lineside.models.engines import BANK_OUTPUT, LABEL_OUTPUTS
from lineside.models.result import ErrorBound, LearningCurve
from lineside.training.common.backbone import Backbone
from lineside.training.common.cache import FeatureCache
from lineside.training.common.export import export, limits_of
from lineside.training.common.loop import (
    apart,
    fold_rows,
    one_group,
    owners_of,
    split_lone_groups,
)
from lineside.training.common.methods import (
    FeatureBank,
    error_bound,
    feature_bank,
    rate_warning,
)
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import Steps, TrainJob
from lineside.training.tasks.classify.features import (
    FeatureReader,
    InputSpec,
    input_specs_for,
    pooled_by,
)
from lineside.training.tasks.classify.network import (
    Classes,
    ClassHead,
    ClassNetwork,
    Floats,
    Linear,
    Numbers,
    Space,
    ValidationLogits,
    choose,
    class_rule,
    hold_out,
    means_of,
    standard,
)
from lineside.training.tasks.classify.tuning import (
    Recipe,
    Tell,
    TuningTask,
    inputs_of,
    try_tuning,
    worth_trying,
)
from lineside.training.tasks.contract import Trained, Work, held_out_case
from lineside.training.tasks.learning_curve import learning_curve
from lineside.vision import (
    ClassRule,
    Decision,
    HealthFigures,
    LabelAnswer,
    prepare,
)
from lineside.vision.decide import class_decisions, class_probabilities, decide_classes
from lineside.vision.metrics import UNSURE

_FEW = 20


def baseline_of(truth: Classes, labels: Sequence[str]) -> dict[str, float]:
    """The commonest class, and each class's share."""
    counts = np.bincount(truth, minlength=len(labels)).tolist()
    shares = {f"base_rate/{n}": c / len(truth) for n, c in zip(labels, counts, strict=True)}
    return {"majority": float(counts.index(max(counts))), **shares}


def warnings_for(
    samples: Sequence[Sample],
    truth: Classes,
    *,
    rule: ClassRule,
    bound: ErrorBound,
    left_out: int = 0,
    lone: Sequence[str] = (),
) -> tuple[str, ...]:
    """Sentences that stand beside every figure.

    Args:
        samples: that were learned from.
        truth: of them.
        rule: of the package.
        bound: of its answers.
        left_out: training pictures that show none or several of the classes.
        lone: classes whose training pictures are all of one group.
    """
    found = [rate_warning(bound)] if rule.error_rate > bound.target else []
    if left_out:
        found.append(
            f"{left_out} training pictures show none or several of the classes and were left out"
        )
    counts = np.bincount(truth, minlength=len(rule.labels))
    few = [f"{n} of {name}" for name, n in zip(rule.labels, counts, strict=True) if n < _FEW]
    if few:
        found.append(f"few pictures: {', '.join(few)}; figures of these classes say little")
    if one_group(samples):
        found.append(
            "all training pictures are of one group: what was held out while learning is like what"
            " was learned from, and pictures of another group may be answered worse"
        )
    if lone:
        found.append(
            f"all training pictures of {', '.join(lone)} are of one group each: those that were "
            "held out are like those that were learned from, and pictures of another group may be "
            "answered worse"
        )
    elif not any(sample.group for sample in samples):
        found.append(
            "the pictures carry no groups: pictures of one part may stand on both sides of a split"
        )
    return tuple(found)


_LARGEST_BANK = 128
_FOLDS = 5
_TUNED_FOLDS = 3  # each costs a fine-tuning
_FEWEST = 2
_GOLDEN = 3
_USUAL_EPOCHS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TrainingSet:
    """The training pictures that show exactly one class."""

    work: Work
    labels: tuple[str, ...]
    truth: Classes
    folds: tuple[int, ...]
    lone: tuple[str, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.work.training


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Frozen:
    """Result of the frozen network at every input specification that was tried."""

    backbone: Backbone
    specs: tuple[InputSpec, ...]
    features: Sequence[Floats]
    healths: Sequence[HealthFigures]
    held_out: Sequence[ValidationLogits]
    best: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Final:
    """Parts of the package.

    Attributes:
        features: of all training pictures with the trunk that is used.
        logits: answers to all of them by networks that had not seen the picture.
    """

    spec: InputSpec
    backbone: Backbone
    linear: Linear
    features: Floats
    logits: Numbers
    history: Sequence[Mapping[str, float]]
    words: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassFit:
    """Network with its rule, and what they were made from.

    Attributes:
        confidence: of the test of the rule's cut.
        samples, truth: what was learned from, and the place of the class of each.
        folds: of the samples, groups together.
        lone: classes whose samples are all of one group.
        logits: answers to each of networks that had not seen it.
        frozen_healths: of the samples.
        estimate_curve: fits heads of the learning curve.
        words: for the report.
    """

    spec: InputSpec
    backbone: Backbone
    linear: Linear
    rule: ClassRule
    confidence: float
    samples: tuple[Sample, ...]
    truth: Classes
    folds: tuple[int, ...]
    lone: tuple[str, ...]
    features: Floats
    logits: Numbers
    frozen_healths: Sequence[HealthFigures]
    history: Sequence[Mapping[str, float]]
    words: Mapping[str, object]
    estimate_curve: Callable[[], LearningCurve]


def fit_classes(job: TrainJob, work: Work) -> ClassFit:
    """Learn network and rule from the training part; nothing else is seen.

    Raises:
        InvalidError: fewer than two classes, or a class with fewer than two pictures.
    """
    training_set = _training_set(job, work)
    backbone = open_backbone(job.backbone, deepest=32)
    frozen = _look(job, training_set, backbone=backbone)
    final = _tuned(job, training_set, frozen=frozen) or _untuned(training_set, frozen, words={})
    rule, confidence = class_rule(
        final.logits,
        training_set.truth,
        labels=training_set.labels,
        policy=job.inspection.policy,
        owners=owners_of(training_set.samples),
    )
    return ClassFit(
        spec=final.spec,
        backbone=final.backbone,
        linear=final.linear,
        rule=rule,
        confidence=confidence,
        samples=training_set.samples,
        truth=training_set.truth,
        folds=training_set.folds,
        lone=training_set.lone,
        features=final.features,
        logits=final.logits,
        frozen_healths=frozen.healths,
        history=final.history,
        words=final.words,
        estimate_curve=partial(
            _curve, job, training_set, frozen=frozen, network=str(final.words["network"])
        ),
    )


def learn(job: TrainJob, work: Work) -> Trained:
    """See ``Learner``."""
    fit = fit_classes(job, work)
    work.steps.at(84, "exporting")
    means = fit.features[:, : means_of(fit.backbone)].astype(np.float64)
    known = feature_bank(
        means,
        spread=standard(means)[1],
        owners=owners_of(fit.samples),
        size=_LARGEST_BANK,
    )
    golden, bound = _golden(fit), _error_bound(fit, target=job.inspection.policy.error_rate)
    exported = export(
        ClassNetwork(_head(fit.linear, known), backbone=fit.backbone).eval(),
        [prepare(work.picture(sample), fit.spec.prepare) for sample in golden],
        outputs=(*LABEL_OUTPUTS, BANK_OUTPUT),
        averaged=("activation",),  # where a map reaches its maximum differs in the last digit
    )
    answers = decide_held_out(
        fit.logits,
        fit.truth,
        labels=fit.rule.labels,
        policy=job.inspection.policy,
        owners=owners_of(fit.samples),
        folds=fit.folds,
    )
    return Trained(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=fit.spec.prepare,
        health=limits_of(fit.frozen_healths, farthest=known.farthest),
        golden=golden,
        labels=fit.rule.labels,
        classes=fit.rule,
        baseline=baseline_of(fit.truth, fit.rule.labels),
        warnings=warnings_for(
            fit.samples,
            fit.truth,
            rule=fit.rule,
            bound=bound,
            left_out=len(work.training) - len(fit.samples),
            lone=fit.lone,
        ),
        history=fit.history,
        error_bound=bound,
        curve=fit.estimate_curve(),
        remembered=(tuple(fit.samples[row].digest for row in known.rows),),
        cases=[
            held_out_case(job, sample, labels=labels, health=health)
            for sample, labels, health in zip(fit.samples, answers, fit.frozen_healths, strict=True)
        ],
        sections={"How it was chosen": dict(fit.words)},
    )


def decide_held_out(
    logits: Numbers,
    truth: Classes,
    *,
    labels: Sequence[str],
    policy: Policy,
    owners: Sequence[object],
    folds: Sequence[int],
) -> list[tuple[LabelAnswer, ...]]:
    """The answers to pictures by rules that were made from the other folds.

    By the package's own rule, which was made from these very answers, fewer of few would be wrong
    than of new pictures.

    Args:
        logits: (pictures, classes) by networks that had not seen them.
        truth: (pictures,) places in ``labels``.
        labels: the classes.
        policy: of the inspection.
        owners: whose each picture is, such as its group.
        folds: of each picture; owners stay together.
    """
    found: list[tuple[LabelAnswer, ...]] = [()] * len(truth)
    for inside, outside in fold_rows(folds):
        rule, _ = class_rule(
            logits[inside],
            truth[inside],
            labels=labels,
            policy=policy,
            owners=[owners[place] for place in inside.tolist()],
        )
        for place in outside.tolist():
            found[place] = decide_classes(logits[place].astype(np.float32), rule)
    return found


def _error_bound(fit: ClassFit, *, target: float) -> ErrorBound:
    """The error among the answers that the rule gives to pictures held out."""
    chances = class_probabilities(fit.logits.astype(np.float32), fit.rule)
    said = [class_decisions(row, fit.rule) for row in chances]
    given = np.array([Decision.PRESENT in each for each in said])
    places = [each.index(Decision.PRESENT) if Decision.PRESENT in each else UNSURE for each in said]
    return error_bound(
        chances.max(axis=1),
        np.where(given, places, chances.argmax(axis=1)) != fit.truth,
        answered=given,
        owners=owners_of(fit.samples),
        target=target,
        confidence=fit.confidence,
        shown=fit.rule.error_rate,
    )


def _training_set(job: TrainJob, work: Work) -> _TrainingSet:
    """Check what there is to learn from.

    Raises:
        InvalidError: fewer than two classes, or a class with fewer than two pictures.
    """
    stored = [(s, [n for n in job.inspection.labels if n in s.labels]) for s in work.training]
    single = [(sample, held[0]) for sample, held in stored if len(held) == 1]
    labels = job.inspection.labels
    counts = {label: sum(held == label for _, held in single) for label in labels}
    lacking = [f"{label}: {n}" for label, n in counts.items() if n < _FEWEST]
    if len(labels) < 2 or lacking:
        raise InvalidError(
            "too few pictures of each class to learn and to test from"
            + (f" ({', '.join(lacking)})" if lacking else ""),
            where="training part",
            fix=f"Name two classes or more, and label at least {_FEWEST} pictures of each; those "
            "of a test part do not count, and lineside dataset split draws it anew.",
        )
    samples, lone = split_lone_groups([one for one, _ in single], [held for _, held in single])
    return _TrainingSet(
        work=replace(work, training=samples),
        labels=labels,
        truth=np.array([labels.index(held) for _, held in single], np.intp),
        folds=folds(apart(samples), count=job.folds or min(_FOLDS, len(samples)), seed=job.seed),
        lone=lone,
    )


def _look(job: TrainJob, training_set: _TrainingSet, *, backbone: Backbone) -> _Frozen:
    """Look at every picture at every sight, and choose among them."""
    work = training_set.work
    looker = FeatureReader(
        samples=training_set.samples,
        files=work.files,
        picture=work.picture,
        at=work.steps.at,
        cache=FeatureCache(cache_folder(work)),
        backbone=backbone,
    )
    work.steps.at(2, "reading sizes")
    side_px = int(job.setting("input_px", 0))
    # Clients that hand the network its values stretch to a square, and even out no brightness.
    is_square = bool(side_px and job.setting("input_scale", 0))
    sizes = [(1, 1)] if is_square else looker.sizes()
    if backbone.size_px is not None and not side_px:
        height, width = backbone.size_px
        sizes, side_px = [(width, height)], round((width * height) ** 0.5)
    cheapest, *larger = input_specs_for(sizes, side_px=side_px, most_scales=backbone.most_scales)
    specs = (cheapest,) if is_square else (cheapest, cheapest.evened)
    found = _answer_held_out(training_set, looker, specs=specs, percent=(3, 20))
    if larger:
        chosen = [s.evened if found.specs[found.best].level else s for s in larger]
        found = _both(found, _answer_held_out(training_set, looker, specs=chosen, percent=(20, 50)))
    answers = found.held_out[found.best]
    work.steps.loss = round(answers.loss, 4)
    work.steps.held_out = round(
        float((answers.logits.argmax(axis=1) == training_set.truth).mean()), 4
    )
    return found


def _answer_held_out(
    training_set: _TrainingSet,
    looker: FeatureReader,
    *,
    specs: Sequence[InputSpec],
    percent: tuple[float, float],
) -> _Frozen:
    """Return the frozen network's results at some inputs, in these percent of the job."""
    first, last = percent
    looked = first + 0.75 * (last - first)
    healths, features = looker.look(specs, first=first, last=looked)
    held_out = []
    for place, each in enumerate(features):
        at = looked + (last - looked) * place / len(specs)
        training_set.work.steps.at(at, "cross-validating")
        held_out.append(
            hold_out(
                each, training_set.truth, folds=training_set.folds, classes=len(training_set.labels)
            )
        )
    return _Frozen(
        backbone=looker.backbone,
        specs=tuple(specs),
        features=features,
        healths=healths,
        held_out=held_out,
        best=choose(held_out),
    )


def _both(one: _Frozen, other: _Frozen) -> _Frozen:
    """The sights of both, the costlier last."""
    held_out = [*one.held_out, *other.held_out]
    return _Frozen(
        backbone=one.backbone,
        specs=one.specs + other.specs,
        features=[*one.features, *other.features],
        healths=one.healths,
        held_out=held_out,
        best=choose(held_out),
    )


def _untuned(training_set: _TrainingSet, frozen: _Frozen, *, words: Mapping[str, object]) -> _Final:
    """The frozen network with a head fitted to all training pictures."""
    chosen, spec = frozen.held_out[frozen.best], frozen.specs[frozen.best]
    features = frozen.features[frozen.best]
    linear = Space(features).fit(
        training_set.truth, classes=len(training_set.labels), strength=chosen.strength
    )
    return _Final(
        spec=spec,
        backbone=frozen.backbone,
        linear=linear,
        features=features,
        logits=chosen.logits,
        history=(_frozen_epoch(training_set, chosen),),
        words=_words(spec, frozen) | {"network": "frozen"} | dict(words),
    )


def _frozen_epoch(training_set: _TrainingSet, chosen: ValidationLogits) -> dict[str, float]:
    """The frozen network's figures, as an epoch's."""
    right = chosen.logits.argmax(axis=1) == training_set.truth
    return {"epoch": 0.0, "validation_loss": chosen.loss, "accuracy": float(right.mean())}


def _curve(
    job: TrainJob, training_set: _TrainingSet, *, frozen: _Frozen, network: str
) -> LearningCurve:
    """Return what fewer pictures would have reached with the frozen network and its best input."""
    chosen, features = frozen.held_out[frozen.best], frozen.features[frozen.best]
    truth, classes = training_set.truth, len(training_set.labels)

    def answer(inside: Classes, outside: Classes) -> Numbers:
        training_set.work.steps.at(82, "estimating what more pictures bring")
        head = Space(features[inside]).fit(truth[inside], classes=classes, strength=chosen.strength)
        return _right(head.logits(features[outside]), truth[outside])

    shown = truth[:, None] == np.arange(classes)
    tuned = "" if network == "frozen" else f"; that of the package is {network}"
    return learning_curve(
        answer,
        whole=_right(chosen.logits, truth),
        kinds=shown,
        named={name: shown[:, [n]] for n, name in enumerate(training_set.labels)},
        groups=owners_of(training_set.samples),
        folds=training_set.folds,
        seed=job.seed,
        heads=f"a linear head on the frozen network{tuned}",
    )


def _right(logits: Numbers, truth: Classes) -> Numbers:
    """(pictures, 1): 1 where the likeliest class is the true one, else 0."""
    return np.asarray(logits.argmax(axis=1) == truth, np.float64)[:, None]


def _words(spec: InputSpec, frozen: _Frozen) -> dict[str, object]:
    candidates = zip(frozen.specs, frozen.held_out, strict=True)
    return {
        "input": spec.words,
        "strength of the head": frozen.held_out[frozen.best].strength,
        "frozen network's loss on held-out training pictures": {
            each.words: round(found.loss, 4) for each, found in candidates
        },
    }


def _tuned(job: TrainJob, training_set: _TrainingSet, *, frozen: _Frozen) -> _Final | None:
    """The tuned network where held-out pictures speak for it; None where it is not tried."""
    work, single = training_set.work, [s.scales == 1 for s in frozen.specs]
    work.steps.epoch(0, **_without_epoch(_frozen_epoch(training_set, frozen.held_out[frozen.best])))
    wished = job.setting("tune", 1)  # 0: never, 2: in any case
    if not (frozen.backbone.learns and wished):
        against = "switched off" if frozen.backbone.learns else "the backbone stays frozen"
        return _untuned(training_set, frozen, words={"fine-tuning": f"not tried: {against}"})
    own = min(np.flatnonzero(single).tolist(), key=lambda place: frozen.held_out[place].loss)
    samples = apart(training_set.samples)
    numbers = folds(samples, count=_TUNED_FOLDS, seed=job.seed)

    def answer(place: int) -> ValidationLogits:
        return hold_out(
            frozen.features[place],
            training_set.truth,
            folds=numbers,
            classes=len(training_set.labels),
            strengths=(frozen.held_out[place].strength,),
        )

    ground = TuningTask(
        spec=frozen.specs[own],
        backbone=frozen.backbone,
        inputs=inputs_of(
            frozen.specs[own], picture=lambda place: work.picture(training_set.samples[place])
        ),
        features=frozen.features[own],
        own=answer(own),
        best=answer(frozen.best),
        truth=training_set.truth,
        owners=np.unique(owners_of(training_set.samples), return_inverse=True)[1],
        folds=numbers,
        classes=len(training_set.labels),
    )
    if wished != 2 and (against := worth_trying(ground)):
        return _untuned(training_set, frozen, words={"fine-tuning": f"not tried: {against}"})
    trial = try_tuning(
        ground,
        _recipe(job),
        folder=work.folder / "classify",
        parallel=work.parallel,
        tell=_epoch_teller(work.steps),
    )
    if trial.tuned is None:
        return _untuned(training_set, frozen, words={"fine-tuning": "did not pay", **trial.words})
    work.steps.at(80, "looking at pictures")
    history = (_frozen_epoch(training_set, frozen.held_out[frozen.best]), *trial.history)
    return _Final(
        spec=ground.spec,
        backbone=trial.tuned.backbone,
        linear=trial.tuned.head,
        features=pooled_by(trial.tuned.backbone, ground.inputs, count=len(training_set.truth)),
        logits=trial.logits,
        history=history,
        words=_words(ground.spec, frozen) | {"network": "fine-tuned"} | trial.words,
    )


def _recipe(job: TrainJob) -> Recipe:
    usual = Recipe(seed=job.seed)
    return replace(
        usual,
        epochs=int(job.setting("epochs", usual.epochs)),
        batch=int(job.setting("batch_size", usual.batch)),
        learning_rate=job.setting("learning_rate", usual.learning_rate),
    )


def _without_epoch(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name != "epoch"}


def _epoch_teller(steps: Steps) -> Tell:
    """Counts the epochs of all fits of a trial, and tells them."""
    numbers = count(1)

    def tell(stage: str, figures: Mapping[str, float]) -> None:
        done = next(numbers)
        steps.loss = round(figures["loss"], 4)
        if "accuracy" in figures:
            steps.held_out = round(figures["accuracy"], 4)
        steps.at(50 + 30 * done / (done + _USUAL_EPOCHS), stage)
        steps.epoch(done, **_without_epoch(figures))

    return tell


def cache_folder(work: Work) -> Path:
    """Where features are kept: shared with other jobs, or the job's own."""
    return work.cache if work.cache is not None else work.folder / "features"


def _head(linear: Linear, known: FeatureBank) -> ClassHead:
    return ClassHead(
        weight=linear.weight.astype(np.float32),
        bias=linear.bias.astype(np.float32),
        mean=linear.mean.astype(np.float32),
        bank=known.bank,
        spread=known.spread,
        unit=known.unit,
    )


def _golden(fit: ClassFit) -> list[Sample]:
    """A picture of the commonest class, of the rarest, and of one between, the first by digest."""
    order = np.argsort(-np.bincount(fit.truth, minlength=len(fit.rule.labels)), kind="stable")
    places = dict.fromkeys((int(order[0]), int(order[-1]), int(order[len(order) // 2])))
    found = []
    for place in list(places)[:_GOLDEN]:
        mine = [s for s, t in zip(fit.samples, fit.truth, strict=True) if t == place]
        found.append(min(mine, key=lambda sample: sample.digest))
    return found
