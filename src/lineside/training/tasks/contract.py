"""The contract of a learner.

A learner sees the training part alone. It draws what it needs for choosing, early stopping and
calibration from that part, by group (``lineside.datasets.split`` and ``folds``); where one part is
held out, pictures whose sample says ``split == Part.VALID`` are the first choice. What the package
is measured on is never handed in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, FrameId
from lineside.datasets import Leak, Sample
from lineside.datasets.samples import Skipped
from lineside.models import HealthLimits
from lineside.models.result import ErrorBound, LearningCurve, PowerTest
from lineside.training.common.loop import Fold, Parallel
from lineside.training.job import Steps, TrainJob
from lineside.training.source import LeakSearch
from lineside.vision import (
    AnomalyAnswer,
    AnomalyRule,
    ClassRule,
    CountRule,
    DetectRule,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    LabelRule,
    MaskRule,
    Matrix,
    PictureState,
    Prediction,
    Prepare,
    RegistrationFigures,
    StageTimes,
    decode_picture,
)

MOST_BYTES = 64_000_000
MAJORITY = "majority/"
"""Begins the facts of a baseline that are the commonest truth of a label or region."""

_NOT_PLACED = RegistrationFigures(state="none")


Files = Callable[[Digest], bytes]
"""Gives the bytes of a picture, mask or template by digest."""


def read_picture(digest: Digest | None, *, files: Files) -> NDArray[np.uint8] | None:
    """(height, width, 3) uint8 RGB of a template; None without a digest."""
    return None if digest is None else decode_picture(files(digest), max_bytes=MOST_BYTES)


def read_mask(sample: Sample, *, files: Files) -> NDArray[np.bool_] | None:
    """(height, width) bool, True on defect; None where nobody drew one.

    Greys are cut at 127, never interpolated.
    """
    grey = read_picture(sample.mask_digest, files=files)
    return None if grey is None else np.asarray(grey.max(axis=2) > 127, np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A labelled picture and what the package said of it.

    Attributes:
        heat: (height, width) float32 on the picture's pixels, higher is more defective, comparable
            between pictures; None where the task gives no map.
        truth_mask: (height, width) bool; None where nobody drew one (a good picture has one without
            defect).
        objects: probabilities of all possible objects that count, also of those below the limit;
            None where they were not asked for, are of several labels, or nothing was judged.
        good: labels that mean a good part; empty: the usual words.
    """

    sample: Sample
    prediction: Prediction
    heat: NDArray[np.float32] | None = None
    truth_mask: NDArray[np.bool_] | None = None
    objects: tuple[float, ...] | None = None
    good: tuple[str, ...] = ()


def held_out_case(
    job: TrainJob,
    sample: Sample,
    *,
    health: HealthFigures,
    labels: tuple[LabelAnswer, ...] = (),
    anomaly: AnomalyAnswer | None = None,
    place: RegistrationFigures = _NOT_PLACED,
    mask: NDArray[np.bool_] | None = None,
) -> Case:
    """A training picture with the answer of a network that had not seen it, as of a package."""
    answer = Prediction(
        frame=FrameRef(
            id=FrameId(sample.name),
            camera=job.inspection.camera,
            captured_at=sample.captured_at or datetime.fromtimestamp(0, UTC),
            digest=sample.digest,
        ),
        inspection=job.inspection.id,
        task=str(job.inspection.task),
        state=PictureState.OK,
        labels=labels,
        anomaly=anomaly,
        package=Digest(""),
        dataset="",
        registration=place,
        health=health,
        latency_ms=StageTimes(),
    )
    return Case(sample=sample, prediction=answer, truth_mask=mask, good=job.inspection.good)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """Everything that a learner works with.

    Attributes:
        folder: the job's own; a learner keeps its checkpoints under ``folder / "<task>"``.
        steps: told after each step, from 2 to 88 percent; ``steps.at`` raises when cancelled.
        training: the samples to learn from.
        files: gives bytes by digest.
        leaks: known of the data.
        parallel: this process's share of each batch, where several train together.
        cache: what frozen networks see of pictures is kept here, shared with other jobs; None keeps
            it in the job's own folder.
    """

    folder: Path
    steps: Steps
    training: tuple[Sample, ...]
    files: Files
    leaks: tuple[Leak, ...] = ()
    parallel: Parallel = field(default_factory=Parallel)
    cache: Path | None = None

    def encoded(self, sample: Sample) -> bytes:
        """The picture's file."""
        return self.files(sample.digest)

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB; ``InvalidError`` names the sample."""
        return decode_picture(self.files(sample.digest), max_bytes=MOST_BYTES)

    def template(self, sample: Sample) -> NDArray[np.uint8] | None:
        """The sample's template, of its size; None where it has none."""
        return read_picture(sample.template_digest, files=self.files)

    def mask(self, sample: Sample) -> NDArray[np.bool_] | None:
        """(height, width) bool, True on defect; None where nobody drew one."""
        return read_mask(sample, files=self.files)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """Result of a learner; the package is put together from it.

    Attributes:
        network: ONNX bytes; inputs and outputs as ``lineside.models.Engine`` says of the task.
        max_abs_diff: of the network's outputs between torch and ONNX Runtime on golden pictures.
        prepare: as it was used in training.
        health: limits learned from the training pictures.
        golden: up to three training samples that the package carries with their answers.
        labels: names the package can answer, in order.
        baseline: facts behind the trivial baseline: ``majority`` (place of the commonest class in
            ``labels``; ``majority/<name>`` of labels and regions), ``median_count``,
            ``mean_count``, ``defect_share``, ``base_rate/<label>``.
        warnings: sentences that stand beside every figure.
        history: per epoch what was watched: ``epoch``, ``loss``, ``validation_loss``, ``accuracy``,
            ``rmse``, ….
        sections: further facts for the report, JSON-like, by title.
        files: further files of the package, by name.
        reference_file: which of them shows the reference view; "" where nothing is registered.
        matrices: reference px → picture px of each golden sample; empty without a reference view.
        refused: training pictures that were not learned from.
        remembered: of each crop, the training pictures that the network's ``bank_distances`` are
            from, in order; empty where it gives none.
        cases: held-out training pictures with the answers of networks that had not seen them;
            they are measured where the data declares no part to measure on, together with the part
            that was drawn at random.
        folds: training pictures with what was trained without them; it judges them, and they are
            measured as ``cases`` are.
        error_bound: of the answers given; None where it is not known.
        curve: what a share of the training pictures would have reached, or why it is not known.
        power: of good parts alone, which drawn defects are found; None of other tasks.
        find_leaks: compares the learned pictures with others; None for the usual way.
    """

    network: bytes
    max_abs_diff: float
    prepare: Prepare
    health: HealthLimits
    golden: Sequence[Sample]
    labels: tuple[str, ...]
    rules: tuple[LabelRule, ...] = ()
    classes: ClassRule | None = None
    detect: DetectRule | None = None
    count: CountRule | None = None
    mask: MaskRule | None = None
    anomaly: AnomalyRule | None = None
    template: bool = False
    baseline: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    history: Sequence[Mapping[str, float]] = ()
    sections: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    reference_file: str = ""
    matrices: Sequence[Matrix] = ()
    refused: tuple[Skipped, ...] = ()
    remembered: tuple[tuple[Digest, ...], ...] = ()
    cases: Sequence[Case] = ()
    folds: Sequence["Fold[Trained]"] = ()
    error_bound: ErrorBound | None = None
    curve: LearningCurve = field(default_factory=LearningCurve)
    power: PowerTest | None = None
    find_leaks: Callable[[Sequence[Sample]], LeakSearch] | None = None


class Learner(Protocol):
    """Learns one task; the same job on the same data gives the same ``Trained``."""

    def __call__(self, job: TrainJob, work: Work, /) -> Trained:
        """Learn.

        Raises:
            JobCancelledError: stopped as asked.
            InvalidError: the data cannot teach this task; the sentence says what is missing.
        """
        ...
