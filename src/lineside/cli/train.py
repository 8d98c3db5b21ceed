"""``lineside train``: labelled pictures in, a package out; also the hub's training child."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.dataset import BlobsOption, RecordsOption, StoreOption, stores
from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, read_settings, say, show, stop_on_signal, writable
from lineside.cli.package import metric_lines, report_of
from lineside.core import Inspection, InvalidError, SystemClock, Task, encode
from lineside.core.drivers import SecretUrl

if TYPE_CHECKING:
    from lineside.training import Progress, TrainResult

HERE = SecretUrl("local")

OnOption = Annotated[
    SecretUrl,
    typer.Option("--on", parser=SecretUrl, metavar="TEXT", help="local, ray, or ray://HOST:PORT."),
]
WorkersOption = Annotated[int, typer.Option(help="Processes at once on a cluster.")]
StorageOption = Annotated[str, typer.Option(help="Where a cluster keeps checkpoints: s3://….")]
MlflowOption = Annotated[
    SecretUrl | None,
    typer.Option(
        parser=SecretUrl, metavar="TEXT", help="Copy the run record to this tracking server."
    ),
]


def label_names(written: str) -> tuple[str, ...]:
    """Label names that were typed with commas between them."""
    return tuple(name.strip() for name in written.split(",") if name.strip())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    *,
    task: Annotated[Task, typer.Option(help="What to learn.")] = Task.MULTILABEL,
    data: Annotated[str, typer.Option(help="Folder, .lst, .csv, or dataset://NAME/VERSION.")] = "",
    labels: Annotated[
        str, typer.Option(help="Without a plant file: label names, by comma; default: the data's.")
    ] = "",
    good: Annotated[
        list[str] | None,
        typer.Option(help="Without a plant file: a label of a good part; repeat it for more."),
    ] = None,
    plant: Annotated[Path | None, typer.Option(help="The plant file.")] = None,
    inspection: Annotated[str, typer.Option(help="Which inspection of it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the package here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report page here.")] = None,
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    images: Annotated[str, typer.Option(help="Where a list's pictures are.")] = "",
    reference: Annotated[str, typer.Option(help="Picture that the regions were drawn on.")] = "",
    backbone: Annotated[
        str,
        typer.Option(
            help="Your own network: name of an installed torch network; for anomaly, classify and"
            " multilabel also an ONNX file, which stays frozen, beside its backbone.toml."
        ),
    ] = "",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Processor that the network learns on.")
    ] = "cpu",
    note: Annotated[str, typer.Option(help="A sentence that report and package carry.")] = "",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 7,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    setting: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER of the learner, such as epochs=20.")
    ] = None,
    on: OnOption = HERE,
    workers: WorkersOption = 2,
    storage: StorageOption = "",
    mlflow: MlflowOption = None,
    job: Annotated[Path | None, typer.Option(help="Run, or go on with, this job folder.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features that trainings share; bounded.")
    ] = None,
    json_lines: Annotated[bool, typer.Option(help="Progress as JSON Lines on stdout.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train an inspection from labelled pictures and write its package."""
    from lineside.library.training import stage_teller, training_job
    from lineside.training import Cluster, frozen_data, read_job, run_job, track, train_on
    from lineside.training.run import keep_freed_memory

    keep_freed_memory()
    writable(out)
    writable(report)
    records, blobs = stores(config, store=store, records=records, blobs=blobs)
    if data:
        asked = training_job(
            task, data=data, labels=label_names(labels), good=tuple(good or ()), plant=plant,
            inspection=inspection, group=group, images=images, reference=reference, note=note,
            seed=seed,
            backbone=backbone, device=device,
            settings=read_settings(setting or ()), records=records, blobs=blobs,
        )  # fmt: skip
    elif job is not None:
        asked = read_job(job)
    else:
        raise InvalidError("nothing to train", fix="Give --data, or --job with a job folder.")
    with stop_on_signal() as cancelled, job_folder(job) as folder:
        tell = _as_lines if json_lines else stage_teller(say)
        if on == HERE:
            result = run_job(
                asked,
                folder=folder,
                progress=tell,
                cancelled=cancelled,
                clock=SystemClock(),
                records_url=records,
                blobs_url=blobs,
                cache=cache,
            )
        else:
            data = frozen_data(
                asked.data, clock=SystemClock(), records_url=records, blobs_url=blobs
            )
            result = train_on(
                Cluster(on=on, workers=workers, storage=storage),
                replace(asked, data=data),
                folder=folder,
                progress=tell,
                blobs_url=blobs,
            )
    if mlflow:
        say(f"MLflow run {track(asked, result, uri=mlflow)}")
    if out is not None:
        out.write_bytes(result.package)
        say(f"package written to {out}")
    if report is not None:
        report.write_bytes(report_of(result.package))
        say(f"report written to {report}")
    if not json_lines:
        show(
            _summary(result),
            as_json=as_json,
            text=lambda _: _sentences(result, inspection=asked.inspection),
        )


@contextmanager
def job_folder(job: Path | None) -> Iterator[Path]:
    """The folder of a job; one of its own goes when the job ends, unless it was cancelled."""
    if job is not None:
        yield job
        return
    from lineside.training import JobCancelledError

    made = Path(tempfile.mkdtemp(prefix="lineside-train-"))
    try:
        yield made
    except JobCancelledError as error:
        fix = f"Give --job {made} instead of --data to go on from here."
        raise JobCancelledError(error.message, where=error.where, fix=fix) from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    shutil.rmtree(made, ignore_errors=True)


def _as_lines(progress: "Progress") -> None:
    sys.stdout.write(encode(progress).decode() + "\n")
    sys.stdout.flush()


def _summary(result: "TrainResult") -> dict[str, object]:
    from lineside.models import Package
    from lineside.models.result import report_result

    lineage = Package.read(result.package).manifest.lineage
    measured = report_result(result.report)
    return {
        "package": result.digest,
        "metrics": result.metrics,
        "seconds": result.seconds,
        "samples_per_s": result.pictures / result.seconds if result.seconds else 0.0,
        "data_digest": lineage.data_digest,
        "warnings": lineage.warnings,
        "power": measured.power if measured else None,
    }


def _sentences(result: "TrainResult", *, inspection: Inspection) -> str:
    from lineside.models import Package
    from lineside.models.result import report_result
    from lineside.vision.verdict import reject_rule

    lineage = Package.read(result.package).manifest.lineage
    head = f"{result.digest} from {result.pictures} pictures in {result.seconds:.1f} s"
    warnings = [f"warning: {warning}" for warning in lineage.warnings]
    measured = report_result(result.report, rule=reject_rule(inspection))
    words = [measured.words] if measured else []
    return "\n".join([head, *words, *metric_lines(dict(result.metrics)), *warnings])
