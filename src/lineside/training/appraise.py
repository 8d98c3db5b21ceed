"""Judge, measure and control a package on labelled pictures, in one go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lineside.core import Clock
from lineside.datasets import Sample
from lineside.models import Package
from lineside.training.control_records import Controls
from lineside.training.controls import Judged, controls_of
from lineside.training.judging import judge_all
from lineside.training.measures import Case, Measured, measure_for
from lineside.training.mistake_pictures import mistake_pictures
from lineside.training.tasks.contract import Files

_TELL_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraised:
    """What was found.

    Attributes:
        pictures: JPEG thumbnails of the worst mistakes, by name of the picture.
    """

    measured: Measured
    controls: Controls
    pictures: Mapping[str, bytes]


def appraise(
    package: Package,
    samples: Sequence[Sample],
    *,
    baseline: Mapping[str, float],
    files: Files,
    clock: Clock,
    tell: Callable[[], None] = lambda: None,
) -> Appraised:
    """Judge every picture, compute the figures of the task, and carry the controls out.

    Args:
        package: what is measured.
        samples: at least one, with the truth that the task needs.
        baseline: facts of the training pictures (``Trained.baseline``).
        files: gives the bytes of a picture, mask or template.
        clock: for the predictor.
        tell: called now and then; it may raise to stop.
    """
    cases: list[Case] = []
    for case in judge_all(package, samples, files=files, clock=clock):
        cases.append(case)
        if len(cases) % _TELL_EVERY == 0:
            tell()
    measure = measure_for(package.manifest.task)
    measured = measure(cases, manifest=package.manifest, baseline=baseline)
    controls = controls_of(
        Judged(
            package=package,
            cases=cases,
            measured=measured,
            measure=measure,
            baseline=baseline,
            files=files,
            clock=clock,
            tell=tell,
        )
    )
    pictures = mistake_pictures(cases, measured.mistakes, files=files)
    return Appraised(measured=measured, controls=controls, pictures=pictures)
