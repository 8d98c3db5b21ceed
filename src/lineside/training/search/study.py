"""A study on this machine by Optuna: kept in a file, resumed where it stood, pruned.

1. The study's journal stands in the folder; a trial that a kill left open is asked for again with
   the same settings, and its training goes on in its own folder.
2. Seeded by the trial's number, so that a study that was stopped asks for no settings twice.
3. A training that is worse than the median of the others at the same epoch is stopped.
"""

from collections.abc import Mapping
from typing import Any

from lineside.core import InvalidError, encode, need, replace_durably
from lineside.training.search.space import Parameter, Space
from lineside.training.search.trial import Bench, SearchResult, TrialRecord, run_trial

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
    while len(told(study)) < wanted:
        _one(study, bench, seed=seed)
    result = result_of(bench.space, told(study))
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
    params = {one.name: _asked(trial, one) for one in bench.space.parameter}

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


def _asked(trial: Any, parameter: Parameter) -> float:  # noqa: ANN401
    if parameter.choices:
        return float(trial.suggest_categorical(parameter.name, list(parameter.choices)))
    low, high = parameter.range
    if parameter.whole:
        return float(trial.suggest_int(parameter.name, int(low), int(high), log=parameter.log))
    return float(trial.suggest_float(parameter.name, low, high, log=parameter.log))


def told(study: Any) -> list[TrialRecord]:  # noqa: ANN401
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
