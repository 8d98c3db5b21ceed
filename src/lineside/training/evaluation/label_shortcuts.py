"""Controls for shortcuts of packages that answer labels: each label as its own yes or no."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lineside.core import Clock
from lineside.datasets import Sample
from lineside.models import Metric, Package
from lineside.training.evaluation.baselines import Question, trivial_figures
from lineside.training.evaluation.shortcuts import (
    MOST_JUDGED,
    MOST_LOOKED_AT,
    Alone,
    Controls,
    against,
    gain_normaliser,
    kept_figures,
    spread,
    with_sentences,
)
from lineside.training.tasks.contract import Files
from lineside.training.tasks.multilabel.metrics import PRESENCE, Answered, Majority, figures

_MOST_LABELS = 8

AnswerAll = Callable[..., list[Answered]]


def region_controls(
    package: Package,
    judged: Sequence[Answered],
    *,
    metrics: Mapping[str, Metric],
    majority: Majority,
    answer_all: AnswerAll,
    files: Files,
    clock: Clock,
) -> Controls:
    """What trivial figures reach on each presence label, and what is left without gain.

    Args:
        package: what was measured.
        judged: its answers.
        metrics: figures of those answers.
        majority: for the baseline of figures computed again.
        answer_all: judges pictures anew (``lineside.training.evaluation.evaluate.answer_all``).
        files: gives the bytes of a picture.
        clock: for the predictor.
    """
    alone = _alone(spread(judged, MOST_LOOKED_AT), metrics=metrics, files=files)
    again = spread(judged, MOST_JUDGED)
    samples = [picture.sample for picture in again]
    read = gain_normaliser(samples, files=files)
    normalised = answer_all(package, samples, read=_of(read), clock=clock)
    whole = len(again) == len(judged)
    plain = metrics if whole else figures(again, majority=majority)
    return with_sentences(
        Controls(
            alone=tuple(alone),
            gain_plain=kept_figures(plain),
            gain_normalised=kept_figures(figures(normalised, majority=majority)),
        )
    )


def label_controls(
    judged: Sequence[Answered], *, metrics: Mapping[str, Metric], files: Files
) -> Controls:
    """What trivial figures reach on each presence label; of answers that no package gave."""
    alone = _alone(spread(judged, MOST_LOOKED_AT), metrics=metrics, files=files)
    return with_sentences(Controls(alone=tuple(alone)))


def _of(read: Files) -> Callable[[Sample], bytes]:
    return lambda sample: read(sample.digest)


def _alone(
    judged: Sequence[Answered], *, metrics: Mapping[str, Metric], files: Files
) -> list[Alone]:
    found = trivial_figures([picture.sample for picture in judged], files=files)
    names = dict.fromkeys(
        answer.name for one in judged for answer in one.answers if answer.classes == PRESENCE
    )
    groups = {name: place for place, name in enumerate({p.sample.group for p in judged})}
    grouped = len(groups) > 1
    owners = np.array(
        [groups[one.sample.group] if grouped else n for n, one in enumerate(judged)], np.int64
    )
    return [
        alone
        for name in list(names)[:_MOST_LABELS]
        for alone in against(
            Question(kind="yes", truth=_truth(judged, name), owners=owners, of=name),
            figures=found,
            metrics=metrics,
        )
    ]


def _truth(judged: Sequence[Answered], name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    told = [{a.name: a.truth for a in one.answers if a.classes == PRESENCE} for one in judged]
    return np.array([answers.get(name, -1) for answers in told], np.int64)
