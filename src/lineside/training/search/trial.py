"""One trial: a training with some settings, told apart from others by these settings alone.

A trial's folder is named by its settings, so that a search that was killed goes on with the very
training that was under way.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lineside.core import Clock, Digest, InvalidError, decode_json, digest_of, encode
from lineside.training.job import JobCancelledError, Progress, TrainJob
from lineside.training.run import Crew, run_job
from lineside.training.search.space import Space
from lineside.training.tasks import check_settings


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
class Bench:
    """Where trials are trained.

    Attributes:
        job: without the settings that are searched.
        folder: of the study; trials stand in ``trials/`` below it.

    Raises:
        InvalidError: the space has a parameter that the task's learner would pass over.
    """

    job: TrainJob
    space: Space
    folder: Path
    clock: Clock
    cancelled: threading.Event = field(default_factory=threading.Event)
    records_url: str = ""
    blobs_url: str = ""

    def __post_init__(self) -> None:
        searched = [parameter.name for parameter in self.space.parameter]
        check_settings((*self.job.settings, *searched), self.job.inspection.task)


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
            crew=Crew(watcher=watch),
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
    told = document.get("history", []) if isinstance(document, dict) else []
    return [dict(row) for row in told] if isinstance(told, list) else []


def _value(history: list[dict[str, float]], space: Space) -> float:
    values = [row[space.objective] for row in history if space.objective in row]
    if not values:
        watched = sorted({name for row in history for name in row} - {"epoch"})
        raise InvalidError(
            f"this training does not watch {space.objective!r}",
            where="objective",
            fix=f"Watched: {', '.join(watched) or 'nothing'}.",
        )
    return space.best(values)
