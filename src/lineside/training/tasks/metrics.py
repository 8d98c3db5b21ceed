"""Building blocks of every task's figures: rates, statistics, slices, reliability.

1. A rate has Wilson's interval, one over groups no narrower than groups drawn again give it.
   Anything else is drawn again over whole groups of pictures, or over pictures where no groups are
   known or all are of one. A flawless figure, which drawing again never spoils, keeps the interval
   that the number of its groups leaves; one that compares classes, that of the rarest class: two
   defects, all told from the good ones, are not twenty.
2. An undefined figure is given its widest bound: JSON has no NaN.
3. Lighting is dark, middle or bright: thirds of the judged pictures by mean grey.
"""

import importlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, InvalidError, Task
from lineside.core.worker import PICTURES_AT_ONCE, prefetch
from lineside.datasets import Sample, shows_defect
from lineside.models import Manifest, Metric, Package, Predictor
from lineside.models.result import Confusion, Mistake
from lineside.training.common.loop import apart
from lineside.training.common.methods import spread
from lineside.training.tasks.contract import (
    MOST_BYTES,
    Case,
    Files,
    Learner,
    read_mask,
    read_picture,
)
from lineside.vision import PictureState, open_frame
from lineside.vision.decide import says_good
from lineside.vision.detections import LEAST_CHANCE
from lineside.vision.metrics import (
    Interval,
    LimitRow,
    ReliabilityBin,
    auroc,
    average_precision,
    bootstrap,
    confusion,
    limit_table,
    reliability,
    wilson,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMetrics:
    """Everything that was found.

    Attributes:
        limits: per score what escapes and what is rejected too much at every cut.
        pictures: of labels, every answer.
        slices: figures per group, lighting or kind: slice → name → figure.
        warnings: sentences that stand beside every figure, such as counts that do not beat the
            median guess.
    """

    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Metric] = field(default_factory=dict)
    confusion: Mapping[str, Confusion] = field(default_factory=dict)
    reliability: Mapping[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)
    limits: Mapping[str, tuple[LimitRow, ...]] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    pictures: tuple[object, ...] = ()
    slices: Mapping[str, Mapping[str, Metric]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Evaluator(Protocol):
    """Computes a task's figures."""

    def __call__(
        self, cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
    ) -> TaskMetrics:
        """Figures of judged pictures; refused pictures count as not right, never as left out.

        Args:
            cases: at least one, each with the truth that the task needs.
            manifest: of the package that judged.
            baseline: facts of the training pictures, as ``Trained.baseline``.
        """
        ...


ROUNDS = 400
MOST_MISTAKES = 20
MOST_LIMITS = 200
_LIGHTS = ("dark", "middle", "bright")
_MOST_SLICES = 60

Numbers = NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_]
Figure = Callable[[Sequence[Case]], Metric]


def rate(rights: Iterable[bool], *, baseline: float, groups: Numbers | None = None) -> Metric:
    """Share of True with Wilson's interval, and no narrower than groups drawn again give it.

    Args:
        rights: one for each answer.
        baseline: what the trivial answer reaches.
        groups: (answers,) as ``bounded`` takes them; None where each stands by itself.
    """
    flags = [bool(right) for right in rights]
    found = share(sum(flags), len(flags), baseline=baseline)
    if groups is None or len(np.unique(groups)) == len(flags):
        return found
    drawn = bounded(mean, np.array(flags), groups=groups, baseline=baseline, pictures=len(flags))
    return replace(found, low=min(found.low, drawn.low), high=max(found.high, drawn.high))


def share(successes: int, n: int, *, baseline: float) -> Metric:
    """A counted share with Wilson's interval."""
    return as_metric(wilson(successes, n), baseline=baseline)


def bounded(
    figure: Callable[..., float],
    *columns: Numbers,
    groups: Numbers | None = None,
    baseline: float,
    pictures: int,
) -> Metric:
    """A figure between 0 and 1, best at 1, with its bootstrap interval.

    Args:
        figure: takes the columns, each (n, …); NaN where it is undefined.
        *columns: arrays of one length, a row per answer or per picture.
        groups: (n,) whole numbers; what belongs together is drawn together (``owners``).
        baseline: what the trivial answer reaches.
        pictures: that it rests on, of the rarest class where it compares classes (``rarest``); at
            1 or 0 the interval is as wide as that many, or the groups if they are fewer, leave it.
    """
    found = bootstrap(figure, *columns, groups=groups, rounds=ROUNDS)
    low, high = found.low, found.high
    pictures = pictures if groups is None else min(pictures, len(np.unique(groups)))
    # Drawing again from pictures without a mistake never draws one; that proves nothing.
    if found.value >= 1.0:
        low = min(low, wilson(pictures, pictures).low)
    if found.value <= 0.0:
        high = max(high, wilson(0, pictures).high)
    return as_metric(replace(found, low=low, high=high), baseline=baseline)


def statistic(
    figure: Callable[..., float],
    *columns: Numbers,
    groups: Numbers | None = None,
    baseline: float,
    flawed: Callable[[float], float] | None = None,
) -> Metric:
    """A figure without an upper bound, such as an error, with its bootstrap interval.

    Takes what ``bounded`` takes, and ``flawed``, of an error that is best at 0: its value where
    that share of the answers is wrong by the least there is. An error of 0 may be as high as the
    share that so many right answers leave.
    """
    found = bootstrap(figure, *columns, groups=groups, rounds=ROUNDS)
    value = _number(found.value, 0.0)
    high = _number(found.high, value)
    if flawed is not None and value <= 0.0 and found.n:
        n = found.n if groups is None else len(np.unique(groups))
        high = max(high, _number(flawed(wilson(0, n).high), high))
    return Metric(
        value=value,
        low=_number(found.low, value),
        high=high,
        n=found.n,
        baseline=_number(baseline, 0.0),
    )


def as_metric(interval: Interval, *, baseline: float) -> Metric:
    """An interval between 0 and 1 as a metric; what is undefined takes its widest bound."""
    return Metric(
        value=_number(interval.value, 0.0),
        low=_number(interval.low, 0.0),
        high=_number(interval.high, 1.0),
        n=interval.n,
        baseline=_number(baseline, 0.0),
    )


def _number(value: float, otherwise: float) -> float:
    return round(float(value), 6) if math.isfinite(value) else otherwise


def owners(cases: Sequence[Case]) -> NDArray[np.int64]:
    """(cases,) number of each case's group; without one, or of one alone, each is its own."""
    names: dict[str, int] = {}
    found = []
    for place, sample in enumerate(apart([case.sample for case in cases])):
        name = sample.group or f"\0{place}"
        found.append(names.setdefault(name, len(names)))
    return np.array(found, np.int64)


def lighting(cases: Sequence[Case]) -> list[str]:
    """``dark``, ``middle`` or ``bright`` of each case, thirds by mean grey."""
    grey = np.array([case.prediction.health.mean_grey for case in cases])
    if not len(grey):
        return []
    cuts = np.quantile(grey, [1 / 3, 2 / 3])
    return [_LIGHTS[int(np.searchsorted(cuts, value, side="left"))] for value in grey]


def slices(
    cases: Sequence[Case], figure: Figure, *, kinds: Mapping[str, Sequence[str]] | None = None
) -> dict[str, dict[str, Metric]]:
    """A figure per lighting, per group and per further kind: slice → name → figure.

    Args:
        cases: what was judged.
        figure: of the cases of one slice.
        kinds: further slices: title → name of each case in it, "" to leave the case out. A slice
            with one name only is left out; of many names the most frequent are kept.
    """
    named = {"lighting": lighting(cases), "group": [case.sample.group for case in cases]}
    found: dict[str, dict[str, Metric]] = {}
    for title, names in {**named, **(kinds or {})}.items():
        counted = {name: names.count(name) for name in dict.fromkeys(names) if name}
        if len(counted) < 2:
            continue
        stored = sorted(counted, key=lambda name: (-counted[name], name))[:_MOST_SLICES]
        order = _LIGHTS if title == "lighting" else sorted(stored)
        found[title] = {
            name: figure([case for case, mine in zip(cases, names, strict=True) if mine == name])
            for name in order
            if name in counted
        }
    return found


def mean(values: Numbers) -> float:
    """NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def rarest(truth: Numbers, groups: Numbers | None = None) -> int:
    """Groups, or pictures where there are none, of the class that has fewest; 0 of nothing."""
    own = np.arange(len(truth)) if groups is None else groups
    return min((len(np.unique(own[truth == each])) for each in np.unique(truth)), default=0)


def ranking(
    truth: Numbers, scores: Numbers, *, groups: Numbers, ending: str = ""
) -> dict[str, Metric]:
    """``auroc`` and ``average_precision`` of scores, the names with an ending.

    Takes what ``bounded`` takes.
    """
    pictures = rarest(truth, groups)
    figures = (("auroc", auroc, 0.5), ("average_precision", average_precision, float(truth.mean())))
    return {
        name + ending: bounded(
            figure, truth, scores, groups=groups, baseline=trivial, pictures=pictures
        )
        for name, figure, trivial in figures
    }


def confusion_table(
    classes: Sequence[str],
    truth: Sequence[int] | Numbers,
    answers: Sequence[int] | Numbers,
    *,
    groups: Numbers | None = None,
) -> Confusion:
    """Counts of truth against answers, both places in ``classes``; -1 is unsure.

    Args:
        classes: names.
        truth: of each picture.
        answers: of each picture.
        groups: (pictures,) whole numbers, as of ``owners``; None where each stands by itself.
    """
    true = np.asarray(truth)
    rows = confusion(true, np.asarray(answers), classes=len(classes))
    counted: tuple[int, ...] = ()
    if groups is not None and len(np.unique(groups)) < len(true):
        counted = tuple(len(np.unique(groups[true == place])) for place in range(len(classes)))
    table = tuple(tuple(row) for row in rows.tolist())
    return Confusion(classes=tuple(classes), rows=table, groups=counted)


def reliability_of(truth: Sequence[bool], chances: Sequence[float]) -> tuple[ReliabilityBin, ...]:
    """Reliability in ten bins; empty where nothing was said."""
    if not len(truth):
        return ()
    return reliability(np.array(truth, bool), np.array(chances, np.float64))


def limits_of(truth: Sequence[bool], scores: Sequence[float]) -> tuple[LimitRow, ...]:
    """Escapes against over-rejects at every cut, each cost 1; at most ``MOST_LIMITS`` rows.

    Scores need not be probabilities. Of a long table, rows evenly spread over it are kept.
    """
    flags, values = np.array(truth, bool), np.array(scores, np.float64)
    if not len(flags):
        return ()
    unit = max(1.0, float(values.max()))
    table = limit_table(flags, values / unit)
    return tuple(replace(row, cut=row.cut * unit) for row in spread(table, MOST_LIMITS))


def worst_first(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """The worst ``MOST_MISTAKES``: wrong before unsure, the surer the worse."""
    ordered = sorted(mistakes, key=lambda m: (m.said == "unsure", -m.probability, m.picture))
    return tuple(ordered[:MOST_MISTAKES])


def refused(cases: Sequence[Case]) -> Metric:
    """Share of pictures that were not judged at all: ``refused_rate``."""
    return rate((case.prediction.state is not PictureState.OK for case in cases), baseline=0.0)


def picture_words(case: Case) -> str:
    """Why a picture was refused, in words; "" where it was judged."""
    said = case.prediction
    if said.state is PictureState.OK:
        return ""
    return f"{said.state}: {said.reason}" if said.reason else str(said.state)


def is_defective(case: Case) -> bool | None:
    """Return whether the picture shows a defect, as ``shows_defect`` says."""
    return shows_defect(case.sample, mask=case.truth_mask, good=case.good)


def good_class(labels: Sequence[str], *, good: Collection[str]) -> int | None:
    """Place of the class that means that nothing is wrong; None where there is no one such."""
    places = [place for place, label in enumerate(labels) if says_good(label, named=good)]
    return places[0] if len(places) == 1 else None


_MAPPED = ("segment", "anomaly")


def judge_all(
    package: Package,
    samples: Sequence[Sample],
    *,
    files: Files,
    clock: Clock,
    objects: bool = False,
) -> Iterator[Case]:
    """Every picture with what the package says of it; maps where the task gives them.

    Where the package judges beside a template, samples without one are passed over. With
    ``objects`` a count of objects of one label also lists those below its limit.
    """
    predictor = Predictor(package, clock=clock)
    listing = _listing(package, clock=clock) if objects else None

    def judge(sample: Sample) -> Case:
        frame = open_frame(
            files(sample.digest),
            camera="evaluation",
            captured_at=sample.captured_at or clock.now(),
            max_bytes=MOST_BYTES,
        )
        template = read_picture(
            sample.template_digest if package.manifest.template else None, files=files
        )
        answer = predictor.predict_single(frame, template=template)
        mapped = package.manifest.task in _MAPPED and answer.state is PictureState.OK
        return Case(
            sample=sample,
            prediction=answer,
            heat=predictor.heat(frame, template=template) if mapped else None,
            truth_mask=read_mask(sample, files=files),
            objects=tuple(
                one.probability for one in listing.predict_single(frame, template=template).boxes
            )
            if listing is not None and answer.state is PictureState.OK
            else None,
            good=package.manifest.good,
        )

    is_beside = package.manifest.template
    judged = (one for one in samples if not (is_beside and one.template_digest is None))
    with closing(prefetch(judge, judged, threads=PICTURES_AT_ONCE)) as cases:
        yield from cases


def _listing(package: Package, *, clock: Clock) -> Predictor | None:
    """The package with the lowest limit on its objects; None where it counts none.

    Of several labels an object's probability is that of its label as well, and not what it is
    counted by: None too.
    """
    rule = package.manifest.detect
    if package.manifest.task != Task.COUNT or rule is None or len(rule.labels) > 1:
        return None
    manifest = replace(package.manifest, detect=replace(rule, cut=min(rule.cut, LEAST_CHANCE)))
    return Predictor(replace(package, manifest=manifest), clock=clock)


_LEARNERS = {
    Task.MULTILABEL: "lineside.training.tasks.multilabel.learn",
    Task.CLASSIFY: "lineside.training.tasks.classify.learn",
    Task.DETECT: "lineside.training.tasks.detect.learn",
    Task.COUNT: "lineside.training.tasks.count.learn",
    Task.SEGMENT: "lineside.training.tasks.segment.learn",
    Task.ANOMALY: "lineside.training.tasks.anomaly.learn",
}


def learner_for(task: Task) -> Learner:
    """Return the learner of a task."""
    found: Learner = importlib.import_module(_LEARNERS[task]).learn
    return found


_MEASURES = {
    "multilabel": "lineside.training.tasks.multilabel.metrics",
    "classify": "lineside.training.tasks.classify.metrics",
    "detect": "lineside.training.tasks.detect.metrics",
    "count": "lineside.training.tasks.count.metrics",
    "segment": "lineside.training.tasks.segment.metrics",
    "anomaly": "lineside.training.tasks.anomaly.metrics",
}


def evaluator_for(task: str) -> Evaluator:
    """The figures of a task; ``InvalidError`` for an unknown one."""
    if task not in _MEASURES:
        raise InvalidError(f"no task {task!r}", fix=f"Known: {', '.join(_MEASURES)}.")
    found: Evaluator = importlib.import_module(_MEASURES[task]).measure
    return found
