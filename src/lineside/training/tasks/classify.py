"""Learn the class of whole pictures.

1. Every picture is looked at by the frozen network, at a few sights; what it saw is cached.
2. Sight and strength of a linear head are chosen by pictures held out by group. Nothing outside
   the training part is ever seen.
3. Calibration, conformal cuts and health limits rest on the same held-out answers.
4. The head of the package is fitted to all training pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lineside.core import InvalidError
from lineside.datasets import Sample, folds
from lineside.training.cache import FeatureCache
from lineside.training.classes.deciding import class_rule
from lineside.training.classes.exporting import export_classes, limits_around
from lineside.training.classes.familiar import Familiar, familiar
from lineside.training.classes.features import Looker
from lineside.training.classes.head import Classes, HeldOut, Linear, Space, choose, hold_out
from lineside.training.classes.network import ClassHead, Floats
from lineside.training.classes.reporting import baseline_of, figures_of, sections_of, warnings_for
from lineside.training.classes.sight import Sight, sights_for
from lineside.training.job import TrainJob
from lineside.training.tasks.contract import Trained, Work
from lineside.vision import HealthFigures

_FOLDS = 5
_FEWEST = 2
_GOLDEN = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Told:
    """The training pictures that show exactly one class."""

    work: Work
    labels: tuple[str, ...]
    truth: Classes
    folds: tuple[int, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.work.training


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Chosen:
    """The sight that held-out pictures speak for, and what was seen with it."""

    sight: Sight
    features: Floats
    healths: Sequence[HealthFigures]
    held_out: HeldOut
    tried: dict[str, float]


def learn(job: TrainJob, work: Work) -> Trained:
    """See ``Learner``."""
    told = _told(job, work)
    chosen = _choose(job, told)
    work.steps.at(70, "fitting")
    space = Space(chosen.features)
    linear = space.fit(told.truth, classes=len(told.labels), strength=chosen.held_out.strength)
    known = familiar(chosen.features, owners=_owners(told.samples))
    rule = class_rule(
        chosen.held_out.logits,
        told.truth,
        labels=told.labels,
        policy=job.inspection.policy,
        class_conditional=_conditional(job),
    )
    work.steps.at(80, "exporting")
    golden = _golden(told)
    exported = export_classes(
        _head(linear, known), sight=chosen.sight, pictures=[work.picture(s) for s in golden]
    )
    return Trained(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=chosen.sight.prepare,
        health=limits_around(chosen.healths, farthest=known.farthest),
        golden=golden,
        labels=told.labels,
        classes=rule,
        baseline=baseline_of(told.truth, told.labels),
        warnings=warnings_for(told.samples, told.truth, rule=rule, policy=job.inspection.policy),
        held_out=figures_of(chosen.held_out.logits, told.truth, rule=rule),
        sections=sections_of(chosen.sight, chosen.held_out, tried=chosen.tried),
    )


def _told(job: TrainJob, work: Work) -> _Told:
    """Check what there is to learn from.

    Raises:
        InvalidError: fewer than two classes, or a class with fewer than two pictures.
    """
    kept = [(s, [n for n in job.inspection.labels if n in s.labels]) for s in work.training]
    single = [(sample, held[0]) for sample, held in kept if len(held) == 1]
    labels = job.inspection.labels
    counts = {label: sum(held == label for _, held in single) for label in labels}
    lacking = [f"{label}: {n}" for label, n in counts.items() if n < _FEWEST]
    if len(labels) < 2 or lacking:
        raise InvalidError(
            "too few pictures of each class to learn and to test from"
            + (f" ({', '.join(lacking)})" if lacking else ""),
            where="data",
            fix=f"Name two classes or more, and label at least {_FEWEST} pictures of each.",
        )
    samples = tuple(sample for sample, _ in single)
    return _Told(
        work=replace(work, training=samples),
        labels=labels,
        truth=np.array([labels.index(held) for _, held in single], np.intp),
        folds=folds(samples, count=job.folds or min(_FOLDS, len(samples)), seed=job.seed),
    )


def _choose(job: TrainJob, told: _Told) -> _Chosen:
    work = told.work
    looker = Looker(
        samples=told.samples,
        files=work.files,
        picture=work.picture,
        at=work.steps.at,
        cache=FeatureCache(cache_folder(work)),
    )
    work.steps.at(2, "reading sizes")
    sights = sights_for(looker.sizes(), side_px=int(job.setting("input_px", 0)))
    healths, features = looker.look(sights, first=3, last=50)
    found = []
    for place, each in enumerate(features):
        work.steps.at(50 + 18 * place / len(sights), "cross-validating")
        found.append(hold_out(each, told.truth, folds=told.folds, classes=len(told.labels)))
    best = choose(found)
    work.steps.loss = round(found[best].loss, 4)
    return _Chosen(
        sight=sights[best],
        features=features[best],
        healths=healths,
        held_out=found[best],
        tried={s.words: round(f.loss, 4) for s, f in zip(sights, found, strict=True)},
    )


def cache_folder(work: Work) -> Path:
    """Where features are kept: shared with other jobs, or the job's own."""
    return work.cache if work.cache is not None else work.folder / "features"


def _conditional(job: TrainJob) -> bool | None:
    asked = job.setting("class_conditional", -1)
    return None if asked < 0 else bool(asked)


def _head(linear: Linear, known: Familiar) -> ClassHead:
    return ClassHead(
        weight=linear.weight.astype(np.float32),
        bias=linear.bias.astype(np.float32),
        mean=linear.mean.astype(np.float32),
        bank=known.bank,
        spread=known.spread,
        unit=known.unit,
    )


def _owners(samples: Sequence[Sample]) -> list[str]:
    return [sample.group or str(sample.digest) for sample in samples]


def _golden(told: _Told) -> list[Sample]:
    """A picture of the commonest class, of the rarest, and of one between, the first by digest."""
    order = np.argsort(-np.bincount(told.truth, minlength=len(told.labels)), kind="stable")
    places = dict.fromkeys((int(order[0]), int(order[-1]), int(order[len(order) // 2])))
    found = []
    for place in list(places)[:_GOLDEN]:
        mine = [s for s, t in zip(told.samples, told.truth, strict=True) if t == place]
        found.append(min(mine, key=lambda sample: sample.digest))
    return found
