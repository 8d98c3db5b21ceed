"""Run records for MLflow, where a site keeps its experiments there.

Written after the training from its own records: nothing waits for a tracking server while it
trains, and a server that is away costs the copy, never the training.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lineside.core import UnavailableError, decode_json, need, to_plain
from lineside.core.drivers import SecretUrl, without_secrets
from lineside.training.job import REPORT_FILE, TrainJob, TrainResult

_LONGEST = 500


def track(job: TrainJob, result: TrainResult, *, uri: SecretUrl, experiment: str = "") -> str:
    """Write one run: settings, every epoch's figures, the package's figures, the report.

    Args:
        job: that was run.
        result: that came of it.
        uri: of the tracking server or store.
        experiment: by default the package's name.

    Returns:
        MLflow's id of the run.

    Raises:
        UnavailableError: the server is away.
        MissingExtraError: MLflow is not installed.
    """
    mlflow = need("mlflow", extra="mlflow")
    try:
        client = mlflow.MlflowClient(tracking_uri=uri.reveal())
        return _written(client, job, result=result, experiment=experiment or job.package_name)
    except mlflow.exceptions.MlflowException as error:
        raise UnavailableError(
            f"MLflow did not take the run: {without_secrets(str(error))[:200]}",
            where=uri,
            fix="Start the tracking server, or leave --mlflow out; the run's own record is kept.",
        ) from error


def _written(
    client: Any,  # noqa: ANN401  untyped library
    job: TrainJob,
    *,
    result: TrainResult,
    experiment: str,
) -> str:
    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)
    run = client.create_run(place, run_name=str(result.digest)).info.run_id
    for name, value in _parameters(job).items():
        client.log_param(run, name, value)
    for name, figure, step in _figures(result):
        client.log_metric(run, name, figure, step=step)
    client.log_text(run, result.report.decode(), REPORT_FILE)
    client.set_terminated(run)
    return str(run)


def _parameters(job: TrainJob) -> dict[str, str]:
    facts = {
        "task": str(job.inspection.task),
        "data": job.data,
        "seed": job.seed,
        "policy": to_plain(job.inspection.policy),
        **job.settings,
    }
    return {name: _short(value) for name, value in facts.items()}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:_LONGEST]


def _figures(result: TrainResult) -> Iterator[tuple[str, float, int]]:
    """Name, value and epoch; the package's own figures stand at epoch 0."""
    for name, metric in result.metrics.items():
        yield _plain(f"final/{name}"), metric.value, 0
    document = decode_json(result.report, where=REPORT_FILE)
    history = document.get("history", []) if isinstance(document, dict) else []
    for number, row in enumerate(history if isinstance(history, list) else []):
        yield from _of_epoch(row if isinstance(row, Mapping) else {}, number=number)


def _of_epoch(row: Mapping[str, Any], *, number: int) -> Iterator[tuple[str, float, int]]:
    step = int(row.get("epoch", number))
    for name, value in row.items():
        if name not in {"epoch", "fit"} and isinstance(value, int | float):
            yield _plain(name), float(value), step


def _plain(name: str) -> str:
    """MLflow takes letters, digits, ``_ - . / :`` and blanks."""
    return "".join(c if c.isalnum() or c in "_-. /:" else "_" for c in name)
