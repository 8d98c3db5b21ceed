"""A study on this machine by Optuna: kept in a file, resumed where it stood, pruned.

1. The study's journal stands in the folder; a trial that a kill left open is asked for again with
   the same settings, and its training goes on in its own folder.
2. Seeded by the trial's number, so that a study that was stopped asks for no settings twice.
3. A training that is worse than the median of the others at the same epoch is stopped.

The space of a search: a TOML file that Optuna and Ray Tune read alike.

    schema = "lineside.search-space/1"
    objective = "validation_loss"      # the smallest of its epochs; of folds the mean of these
    trials = 6

    [[parameter]]
    name = "learning_rate"
    low = 0.001
    high = 0.01
    log = true

    [[parameter]]
    name = "batch_size"
    choices = [32, 64]

An objective is what a learner watched on pictures that it did not fit to, without augmentation.
Figures of the test part are no objective: what is chosen by them can no longer be measured on them.

One trial: a training with some settings, told apart from others by these settings alone.

A trial's folder is named by its settings, so that a search that was killed goes on with the very
training that was under way.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    decode,
    decode_json,
    decode_toml,
    digest_of,
    encode,
    need,
    replace_durably,
)
from lineside.core.codec import refuse, unless
from lineside.core.drivers import check_learner
from lineside.training.job import JobCancelledError, Progress, TrainJob
from lineside.training.run import run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One training of a search.

    Attributes:
        state: ``done``, ``stopped`` (worse than most at the same epoch) or ``failed``.
        value: of the objective; None where there is none.
        package: digest of what was trained; None unless done.
        history: per epoch what was watched.
    """

    number: int
    state: str
    params: Mapping[str, float]
    value: float | None
    seconds: float
    package: Digest | None = None
    history: Sequence[Mapping[str, float]] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Every trial of a study, in order, and the best of those that are done."""

    objective: str
    direction: str
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None


Watcher = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One hyper-parameter: a range, or choices.

    Attributes:
        name: as the learner calls it: ``learning_rate``, ``batch_size``, ``epochs``, ….
        low, high: both inside the range.
        whole: whole numbers alone.
        log: drawn evenly on a logarithmic scale.
        choices: numbers to choose from, instead of a range.
    """

    name: str
    low: float | None = None
    high: float | None = None
    whole: bool = False
    log: bool = False
    choices: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ranged = self.low is not None and self.high is not None and self.low <= self.high
        positive = self.low is not None and self.low > 0
        refuse(
            self,
            unless(
                ranged != bool(self.choices),
                expected="a range with low <= high, or choices",
                fix="Write low and high, or choices.",
            ),
            unless(
                not self.log or positive, key="low", value=self.low,
                expected="above 0 where log is true", fix="Raise low, or drop log.",
            ),
        )  # fmt: skip

    @property
    def range(self) -> tuple[float, float]:
        """(low, high) of a parameter that is one."""
        if self.low is None or self.high is None:
            raise InvalidError(f"{self.name} has no range", fix="Use its choices.")
        return self.low, self.high

    @property
    def between(self) -> float:
        """A value inside the range that may be drawn; not whole where others may be drawn."""
        low, high = self.range
        return min(low + 1, high) if self.whole else low + (high - low) / math.pi


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Search space and objective.

    Attributes:
        objective: of a training's history.
        direction: whether the least or the greatest of it is best.
        trials: how many trainings by default.
        prune: whether a training may be stopped that is worse than most at the same epoch.
    """

    parameter: tuple[Parameter, ...]
    objective: str = "validation_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = 6
    prune: bool = True
    schema: Literal["lineside.search-space/1"] = "lineside.search-space/1"

    def __post_init__(self) -> None:
        names = [one.name for one in self.parameter]
        refuse(
            self,
            unless(
                names and len(set(names)) == len(names), key="parameter", value=names,
                expected="parameters of different names", fix="Name each once.",
            ),
            unless(
                self.trials >= 1, key="trials", value=self.trials,
                expected="1 or more", fix="Write trials = 6.",
            ),
        )  # fmt: skip

    def best(self, values: list[float]) -> float:
        """Of a training's epochs, or of several trainings."""
        return min(values) if self.direction == "minimize" else max(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where trials are trained.

    Attributes:
        job: without the settings that are searched.
        folder: of the study; trials stand in ``trials/`` below it.

    Raises:
        InvalidError: the space has a parameter, or a value of one, that the learner cannot use.
    """

    job: TrainJob
    space: Space
    folder: Path
    clock: Clock
    cancelled: threading.Event = field(default_factory=threading.Event)
    records_url: str = ""
    blobs_url: str = ""

    def __post_init__(self) -> None:
        for one in self.space.parameter:
            for value in one.choices or (*one.range, one.between):
                check_learner(
                    self.job.inspection.task,
                    settings={one.name: value},
                    backbone=self.job.backbone,
                )


def trial_folder(folder: Path, params: Mapping[str, float]) -> Path:
    """Where the training with these settings stands."""
    key = digest_of(encode({name: float(value) for name, value in sorted(params.items())}))
    return folder / "trials" / key.removeprefix("sha256:")[:16]


def run_trial(
    bench: Bench, params: Mapping[str, float], *, number: int, go_on: Watcher
) -> TrialRecord:
    """Train with some settings.

    Args:
        bench: the study's.
        params: the settings.
        number: of the trial in its study.
        go_on: told of each epoch; False stops the training.

    Raises:
        JobCancelledError: the search itself was cancelled.
        InvalidError: the data cannot teach this task, or the learner does not watch the objective.
    """
    started_s = bench.clock.monotonic()
    history: list[dict[str, float]] = []
    record = TrialRecord(number=number, state="stopped", params=params, value=None, seconds=0.0)

    def watch(epoch: int, figures: Mapping[str, float]) -> bool:
        history.append({"epoch": float(epoch), **figures})
        return go_on(epoch, figures)

    try:
        result = run_job(
            replace(bench.job, settings={**bench.job.settings, **params}),
            folder=trial_folder(bench.folder, params),
            progress=_ignore,
            cancelled=bench.cancelled,
            clock=bench.clock,
            records_url=bench.records_url,
            blobs_url=bench.blobs_url,
            watcher=watch,
        )
    except JobCancelledError:
        if bench.cancelled.is_set():
            raise
    else:
        history = _history(result.report)
        record = replace(record, state="done", package=result.digest)
    return replace(
        record,
        value=_value(history, bench.space) if record.state == "done" or history else None,
        seconds=round(bench.clock.monotonic() - started_s, 3),
        history=tuple(history),
    )


def _ignore(progress: Progress) -> None:
    """A search shows trials, not their steps."""


def _history(report: bytes) -> list[dict[str, float]]:
    """Of the whole training: of one that went on, the epochs before as well."""
    document = decode_json(report, where="report")
    known = document.get("history", []) if isinstance(document, dict) else []
    return [dict(row) for row in known] if isinstance(known, list) else []


def _value(history: list[dict[str, float]], space: Space) -> float:
    known = [(row.get("fit"), row[space.objective]) for row in history if space.objective in row]
    if not known:
        watched = sorted({name for row in history for name in row} - {"epoch", "fit"})
        raise InvalidError(
            f"this training does not watch {space.objective!r}",
            where="objective",
            fix=f"Watched: {', '.join(watched) or 'nothing'}.",
        )
    fits = dict.fromkeys(fit for fit, _ in known)
    return fmean(space.best([value for of, value in known if of == fit]) for fit in fits)


def read_space(path: Path) -> Space:
    """Read a space file.

    Raises:
        NotFoundError: no such file.
        InvalidError: every fault at once.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot read the space: {error.strerror}", where=str(path), fix="Name a TOML file."
        ) from error
    return decode(Space, decode_toml(raw, where=str(path)), where=str(path))


JOURNAL, RESULT, _NAME = "study.journal", "study.json", "lineside"
_KEPT = "record"


def search(bench: Bench, *, trials: int = 0, seed: int = 7) -> SearchResult:
    """Run trials until the study has so many.

    Args:
        bench: job, space and folder.
        trials: how many in all, those of earlier runs included; 0 takes the space's.
        seed: of what is asked for.

    Raises:
        JobCancelledError: stopped as asked; the study goes on where it stood.
        InvalidError: the data cannot teach this task, or the folder holds another search.
        MissingExtraError: Optuna is not installed.
    """
    study = _open(bench)
    _ask_again(study)
    wanted = trials or bench.space.trials
    while len(finished_trials(study)) < wanted:
        _one(study, bench, seed=seed)
    result = result_of(bench.space, finished_trials(study))
    replace_durably(bench.folder / RESULT, encode(result))
    return result


def _open(bench: Bench) -> Any:  # noqa: ANN401  untyped library
    optuna = need("optuna", extra="train")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench.folder.mkdir(parents=True, exist_ok=True)
    _check_same(bench)
    journal = optuna.storages.journal.JournalFileBackend(str(bench.folder / JOURNAL))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(journal),
        study_name=_NAME,
        direction=bench.space.direction,
        pruner=pruner if bench.space.prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def _check_same(bench: Bench) -> None:
    path, wanted = bench.folder / "search.json", encode({"job": bench.job, "space": bench.space})
    if path.exists() and path.read_bytes() != wanted:
        raise InvalidError(
            "the folder holds another search", where=str(bench.folder), fix="Use an empty folder."
        )
    replace_durably(path, wanted)


def _ask_again(study: Any) -> None:  # noqa: ANN401
    """Trials left open by a kill: closed, and queued with the same settings."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)


def _one(study: Any, bench: Bench, *, seed: int) -> None:  # noqa: ANN401
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    study.sampler = TPESampler(seed=seed + len(study.trials), n_startup_trials=4)
    trial = study.ask()
    params = {one.name: _suggested(trial, one) for one in bench.space.parameter}

    def go_on(epoch: int, figures: Mapping[str, float]) -> bool:
        if bench.space.objective in figures:
            trial.report(figures[bench.space.objective], epoch)
        return not trial.should_prune()

    record = run_trial(bench, params, number=trial.number, go_on=go_on)
    trial.set_user_attr(_KEPT, encode(record).decode())
    if record.state == "done":
        study.tell(trial, record.value)
    else:
        study.tell(trial, state=TrialState.PRUNED)


def _suggested(trial: Any, parameter: Parameter) -> float:  # noqa: ANN401
    if parameter.choices:
        return float(trial.suggest_categorical(parameter.name, list(parameter.choices)))
    low, high = parameter.range
    if parameter.whole:
        return float(trial.suggest_int(parameter.name, int(low), int(high), log=parameter.log))
    return float(trial.suggest_float(parameter.name, low, high, log=parameter.log))


def finished_trials(study: Any) -> list[TrialRecord]:  # noqa: ANN401
    """Trials that came to an end, in order."""
    from lineside.core import decode

    return [
        decode(TrialRecord, trial.user_attrs[_KEPT], where=f"trial {trial.number}")
        for trial in study.get_trials()
        if trial.state.is_finished() and _KEPT in trial.user_attrs
    ]


def result_of(space: Space, records: list[TrialRecord]) -> SearchResult:
    """Records as a result; the earlier of equally good trials is the best."""
    done = [record for record in records if record.state == "done" and record.value is not None]
    sign = 1.0 if space.direction == "minimize" else -1.0
    return SearchResult(
        objective=space.objective,
        direction=space.direction,
        trials=tuple(records),
        best=min(done, key=lambda one: sign * (one.value or 0.0), default=None),
    )
