"""Ray Tune: the same space file, trials side by side on a cluster.

Trials ask Optuna's sampler for settings; a trial worse than the median at the same epoch is
stopped. A trial whose worker died is taken up again.
"""

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lineside.core import (
    InvalidError,
    SystemClock,
    UnavailableError,
    decode,
    encode,
    replace_durably,
)
from lineside.training.distributed.cluster import Cluster, check_reachable, connected
from lineside.training.distributed.train import decode_refusal
from lineside.training.job import TrainJob
from lineside.training.search.space import Parameter, Space
from lineside.training.search.study import RESULT, result_of
from lineside.training.search.trial import Bench, SearchResult, TrialRecord, run_trial

_RECORD, _REFUSED = "record", "refused"


def search_on(
    cluster: Cluster,
    bench: Bench,
    *,
    trials: int = 0,
    seed: int = 7,
) -> SearchResult:
    """Search on a cluster; the result stands in the bench's folder.

    Args:
        cluster: where; ``workers`` trials run at once.
        bench: job, space and folder here.
        trials: how many; 0 takes the space's.
        seed: of what is asked for.

    Raises:
        InvalidError: as ``search``, or data that other machines cannot read.
        UnavailableError: the cluster is away.
    """
    check_reachable(cluster, data=bench.job.data, blobs_url=bench.blobs_url)
    facts = {
        "job": encode(bench.job),
        "space": encode(bench.space),
        "blobs": bench.blobs_url,
        "trials": trials or bench.space.trials,
        "seed": seed,
        "workers": cluster.workers,
        "retries": cluster.retries,
        "storage": cluster.storage,
    }
    with connected(cluster) as ray:
        lead = ray.remote(num_cpus=0, max_retries=0)(_lead)
        try:
            rows: list[dict[str, Any]] = ray.get(lead.remote(facts))
        except ray.exceptions.RayError as error:
            raise UnavailableError(
                f"the search did not come to an end: {error}", where=cluster.on, fix="Run it again."
            ) from error
    result = result_of(bench.space, _records(rows))
    replace_durably(bench.folder / RESULT, encode(result))
    return result


def _records(rows: list[dict[str, Any]]) -> list[TrialRecord]:
    found = []
    for number, row in enumerate(rows):
        if row.get(_REFUSED):
            raise decode_refusal(str(row[_REFUSED]).encode())
        if row.get(_RECORD):
            found.append(decode(TrialRecord, row[_RECORD], where=f"trial {number}"))
        else:
            found.append(_stopped(number, row))
    return found


def _stopped(number: int, row: Mapping[str, Any]) -> TrialRecord:
    """A trial that Ray stopped between two epochs, or lost for good."""
    return TrialRecord(
        number=number,
        state="failed" if row.get("error") else "stopped",
        params=row["config"],
        value=None,
        seconds=float(row.get("seconds", 0.0)),
        reason=str(row.get("error", "")),
    )


def _lead(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs on the cluster: one row a trial, in the order they were asked for."""
    from ray import tune
    from ray.tune.schedulers import MedianStoppingRule
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    space = decode(Space, facts["space"], where="space")
    mode = "min" if space.direction == "minimize" else "max"
    asked = OptunaSearch(seed=facts["seed"], metric=space.objective, mode=mode)
    stopping = MedianStoppingRule(
        time_attr="training_iteration",
        metric=space.objective,
        mode=mode,
        grace_period=3,
        min_samples_required=3,
    )
    with tempfile.TemporaryDirectory(prefix="lineside-tune-") as own:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_try, facts=facts), {"cpu": 1}),
            param_space={one.name: _drawn(one) for one in space.parameter},
            tune_config=tune.TuneConfig(
                num_samples=facts["trials"],
                search_alg=ConcurrencyLimiter(asked, max_concurrent=facts["workers"]),
                scheduler=stopping if space.prune else None,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=facts["storage"] or own,
                failure_config=tune.FailureConfig(max_failures=facts["retries"]),
                verbose=0,
            ),
        )
        grid = tuner.fit()
        return [_row(grid[place]) for place in range(len(grid))]


def _row(result: Any) -> dict[str, Any]:  # noqa: ANN401  untyped library
    metrics = result.metrics or {}
    return {
        _RECORD: metrics.get(_RECORD, ""),
        _REFUSED: metrics.get(_REFUSED, ""),
        "config": dict(result.config or {}),
        "seconds": float(metrics.get("time_total_s", 0.0)),
        "error": "" if result.error is None else str(result.error)[:300],
    }


def _drawn(parameter: Parameter) -> Any:  # noqa: ANN401
    from ray import tune

    if parameter.choices:
        return tune.choice(list(parameter.choices))
    low, high = parameter.range
    if parameter.whole:
        draw = tune.lograndint if parameter.log else tune.randint
        return draw(int(low), int(high) + 1)
    return (tune.loguniform if parameter.log else tune.uniform)(low, high)


def _try(config: dict[str, float], *, facts: dict[str, Any]) -> None:
    """One trial on one worker."""
    from ray import tune

    space = decode(Space, facts["space"], where="space")
    with tempfile.TemporaryDirectory(prefix="lineside-trial-") as made:
        bench = Bench(
            job=decode(TrainJob, facts["job"], where="job"),
            space=space,
            folder=Path(made),
            clock=SystemClock(),
            cancelled=threading.Event(),
            blobs_url=facts["blobs"],
        )

        def go_on(epoch: int, figures: Mapping[str, float]) -> bool:
            tune.report({"epoch": float(epoch), **figures})
            return True

        numbers = {name: float(value) for name, value in config.items()}
        try:
            record = run_trial(bench, numbers, number=0, go_on=go_on)
        except InvalidError as error:
            told = {"message": error.message, "where": error.where, "fix": error.fix}
            tune.report({_REFUSED: encode(told).decode(), space.objective: _worst(space)})
            return
    tune.report({_RECORD: encode(record).decode(), space.objective: record.value})


def _worst(space: Space) -> float:
    return float("inf") if space.direction == "minimize" else float("-inf")
