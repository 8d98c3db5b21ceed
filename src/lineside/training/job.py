"""A training job: what is trained from what, and the folder that holds all of its state.

The folder has ``job.json``, ``features/`` (one file a picture), ``folds/`` (one file a fold) and,
at the end, ``result.json``, ``package.lspkg``, ``report.json`` and ``report.html``. Every file
appears whole or not at all, so a job that was killed goes on where it stood. Features and folds are
not synced: those that a power cut damaged are made again. Nothing is kept elsewhere.
"""

import io
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    Inspection,
    InvalidError,
    NotFoundError,
    UnavailableError,
    decode,
    encode,
    replace_durably,
)
from lineside.core.drivers import check_learner, check_seed
from lineside.core.files import replacing_durably, replacing_unsynced
from lineside.models import Metric

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
PACKAGE_FILE = "package.lspkg"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
LearningDevice = Literal["auto", "cpu", "cuda"]


class JobCancelledError(UnavailableError):
    """The job was asked to stop; the same folder goes on where it stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """Order of a training; the same job on the same data gives the same package bytes.

    Attributes:
        inspection: what is answered, on which view and regions, by which policy.
        data: a source as ``load_source`` takes it; or ``dataset://<name>[/<number>]``.
        name: of the package; the inspection's id by default.
        seed: of augmentation and folds.
        out: where the package is copied to as well; "" for the job folder alone.
        folds: of cross-validation; 0 leaves one group out where there are 2 to 12 groups, and
            deals into 8 otherwise.
        group: rule that groups pictures (``lineside.datasets.grouped``); "" as the source says.
        format, images: how and where a source is read, as ``load_source`` takes them.
        labels: order of a list file's label columns, where it is not the inspection's.
        reference: name of the picture whose view the regions were drawn on; "" chooses the picture
            that most others lie like.
        crop_px: side of the network's square input per region, a multiple of 48.
        variants: augmented copies of each training picture; -1 chooses by the number of pictures.
        settings: hyper-parameters of the task's learner by name, such as ``learning_rate``,
            ``batch_size`` and ``epochs``; what is not named is chosen by the learner.
        backbone: in place of the one that comes with lineside: name of an entry point of the group
            ``lineside.backbones``; or for ``anomaly``, ``classify`` and ``multilabel`` an ONNX file
            of a frozen network, with ``backbone.toml`` beside it. "": that one.
        device: that a fine-tuning or a network of objects, numbers or masks learns on, ``cuda`` or
            ``auto`` (a GPU of NVIDIA where there is one); on a GPU bytes are not the same again.
        note: a sentence that stands among the warnings of package and report, for what only a
            person knows of the data.
        created_at, trained_by, data_licence: copied into the package; not filled in here, because
            they would make two equal trainings differ.
    """

    inspection: Inspection
    data: str
    name: str = ""
    seed: int = 7
    out: str = ""
    folds: int = 0
    group: str = ""
    format: str = "auto"
    images: str = ""
    labels: tuple[str, ...] = ()
    reference: str = ""
    crop_px: int = 96
    variants: int = -1
    settings: Mapping[str, float] = field(default_factory=dict)
    backbone: str = ""
    device: LearningDevice = "cpu"
    note: str = ""
    created_at: str = ""
    trained_by: str = ""
    data_licence: str = ""
    schema: Literal["lineside.train-job/1"] = "lineside.train-job/1"

    def __post_init__(self) -> None:
        if self.crop_px % 48 or not 48 <= self.crop_px <= 480:
            raise InvalidError("a multiple of 48 up to 480", where="crop_px", fix="Write 96.")
        if self.device != "cpu" and not self.inspection.task.teaches_network:
            raise InvalidError(
                f"the task {self.inspection.task} keeps its network frozen: nothing of it learns on"
                " a GPU",
                where="device",
                fix="Leave it out.",
            )
        if self.variants > 64:
            raise InvalidError("at most 64", where="variants", fix="Write 6.")
        check_seed(self.seed)
        check_learner(self.inspection.task, settings=self.settings, backbone=self.backbone)
        if self.folds == 1 or self.folds < 0:
            raise InvalidError("0, or 2 and above", where="folds", fix="Write 0.")

    def setting(self, name: str, default: float) -> float:
        """A hyper-parameter: as the job says, else the learner's default."""
        return self.settings.get(name, default)

    @property
    def package_name(self) -> str:
        """The package's name."""
        return self.name or self.inspection.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a job.

    Attributes:
        percent: 0-100, never falling within one run.
        eta_s: seconds left at the pace so far; 0 where it cannot be said yet.
        stage: in words.
        loss: mean cross-entropy of the heads on what they were fitted to; None before a fit.
        held_out: share of right answers on pictures the heads did not see; None before.
    """

    percent: float
    eta_s: float
    stage: str
    loss: float | None = None
    held_out: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Result of a finished job.

    Attributes:
        digest: of the package, as ``Package.digest``.
        report: the report as JSON.
        seconds: of the last run alone, waiting not counted; cached work makes it short.
        pictures: that were learned from.
    """

    package: bytes = field(repr=False)
    digest: Digest
    metrics: Mapping[str, Metric]
    report: bytes = field(repr=False)
    seconds: float
    pictures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFacts:
    """Content of ``result.json``, which is written last: its presence means done."""

    digest: Digest
    metrics: dict[str, Metric]
    seconds: float
    pictures: int
    schema: Literal["lineside.train-result/1"] = "lineside.train-result/1"


def write_job(job: TrainJob, *, folder: Path) -> None:
    """Put a job into its folder; ``ConflictError`` when the folder holds another one."""
    path = folder / JOB_FILE
    if path.exists() and read_job(folder) != job:
        raise ConflictError(
            "the folder holds another job", where=str(folder), fix="Use an empty folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    replace_durably(path, encode(job))


def read_job(folder: Path) -> TrainJob:
    """The job of a folder; ``NotFoundError`` if there is none."""
    path = folder / JOB_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotFoundError("no job here", where=str(path), fix="Name a job folder.") from error
    return decode(TrainJob, raw, where=str(path))


def read_result(folder: Path) -> TrainResult | None:
    """The result of a finished job; None while it is not finished."""
    path = folder / RESULT_FILE
    if not path.exists():
        return None
    facts = decode(ResultFacts, path.read_bytes(), where=str(path))
    return TrainResult(
        package=(folder / PACKAGE_FILE).read_bytes(),
        digest=facts.digest,
        metrics=facts.metrics,
        report=(folder / REPORT_FILE).read_bytes(),
        seconds=facts.seconds,
        pictures=facts.pictures,
    )


def save_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    replacing: Callable[[Path], AbstractContextManager[BinaryIO]] = replacing_durably,
) -> None:
    """Write named arrays as one ``.npz`` file; its folder is made where there is none.

    ``replacing`` is that of ``lineside.core.files`` which says whether the file outlives a power
    cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """Named arrays of a file; None where it is absent or damaged (it is then made again)."""
    try:
        # From bytes: numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def stored_arrays(
    path: Path, make: Callable[[], dict[str, NDArray[np.generic]]]
) -> dict[str, NDArray[np.generic]]:
    """Named arrays of a file; made and stored where it is absent or damaged."""
    stored = load_arrays(path)
    if stored is None:
        stored = make()
        save_arrays(path, stored, replacing=replacing_unsynced)
    return stored


Tell = Callable[[Progress], None]
Watch = Callable[[int, Mapping[str, float]], bool]


@dataclass(slots=True)
class Steps:
    """Says how far the job is, and stops it when asked to.

    Attributes:
        progress: told after each step.
        cancelled: set it to stop after the step under way.
        watcher: told of each epoch's figures; answers whether to go on (a search's pruning).
        loss, held_out: shown with every step from when they are set.
    """

    clock: Clock
    progress: Tell
    cancelled: threading.Event
    watcher: Watch | None = None
    started_s: float = field(init=False)
    percent: float = 0.0
    loss: float | None = None
    held_out: float | None = None

    def __post_init__(self) -> None:
        self.started_s = self.clock.monotonic()

    def at(self, percent: float, stage: str) -> None:
        """Say that the job is so far; ``JobCancelledError`` when it was asked to stop."""
        self.percent = max(self.percent, percent)
        spent_s = self.clock.monotonic() - self.started_s
        left_s = spent_s * (100 - self.percent) / self.percent if self.percent > 1 else 0.0
        self.progress(
            Progress(
                percent=round(self.percent, 1),
                eta_s=round(left_s, 1),
                stage=stage,
                loss=self.loss,
                held_out=self.held_out,
            )
        )
        if self.cancelled.is_set():
            raise JobCancelledError(
                "the job was cancelled", where=stage, fix="Run it again to go on from here."
            )

    def epoch(self, number: int, **figures: float) -> None:
        """Say what an epoch came to (``loss``, ``validation_loss``, ``accuracy``, ``rmse``, …).

        Called by learners after each epoch, the same number of times on every machine of a run.
        ``JobCancelledError`` when whoever watches has seen enough.
        """
        if self.watcher is not None and not self.watcher(number, figures):
            raise JobCancelledError(
                "stopped by whoever watches it", where=f"epoch {number}", fix="Nothing to do."
            )

    @property
    def spent_s(self) -> float:
        """Seconds since this run began."""
        return self.clock.monotonic() - self.started_s
