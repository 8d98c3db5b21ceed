"""``lineside train``: labelled pictures in, a package out; also the hub's training child."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.dataset import BlobsOption, RecordsOption, StoreOption, stores
from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, say, show, stop_on_signal, writable
from lineside.cli.package import metric_lines, report_of
from lineside.core import InvalidError, SystemClock, Task, encode

if TYPE_CHECKING:
    from lineside.training import Progress, TrainResult
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lineside.core import Inspection, load_plant

if TYPE_CHECKING:
    from lineside.training import Labelled, TrainJob

HERE = "local"
_NAMED = (Task.MULTILABEL, Task.CLASSIFY)

OnOption = Annotated[str, typer.Option("--on", help="local, ray, or ray://HOST:PORT.")]
WorkersOption = Annotated[int, typer.Option(help="Processes at once on a cluster.")]
StorageOption = Annotated[str, typer.Option(help="Where a cluster keeps checkpoints: s3://….")]
MlflowOption = Annotated[str, typer.Option(help="Copy the run record to this tracking server.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """A training as it was typed."""

    task: Task
    data: str
    labels: str = ""
    plant: Path | None = None
    inspection: str = ""
    group: str = ""
    images: str = ""
    reference: str = ""
    note: str = ""
    seed: int = 7
    settings: tuple[str, ...] = ()


def job_of(wish: TrainOptions, *, records: str, blobs: str) -> "TrainJob":
    """The job that was typed.

    Raises:
        InvalidError: the plant's inspection is of another task, or a setting is no number.
    """
    from lineside.training import Labelled, TrainJob

    source = Labelled(data=wish.data, images=wish.images, group=wish.group, task=str(wish.task))
    if wish.plant is None:
        names = _names(wish, source, records=records, blobs=blobs)
        made = TrainJob(inspection=_bare_inspection(source, names), data=wish.data)
    else:
        made = TrainJob(inspection=_declared(wish, wish.plant), data=wish.data)
    return replace(
        made,
        group=wish.group,
        images=wish.images,
        reference=wish.reference,
        note=wish.note,
        seed=wish.seed,
        settings=_settings(wish.settings),
    )


def _settings(written: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in written:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError as error:
            raise InvalidError(
                f"{text!r} is no setting", where="--setting", fix="Write it as epochs=20."
            ) from error
    return found


def _names(wish: TrainOptions, source: "Labelled", *, records: str, blobs: str) -> tuple[str, ...]:
    """Return the labels of a training without a plant file."""
    from lineside.training import labels_of

    named = tuple(name.strip() for name in wish.labels.split(",") if name.strip())
    if named or wish.task not in _NAMED:
        return named
    return labels_of(source, clock=SystemClock(), records_url=records, blobs_url=blobs)


def _bare_inspection(source: "Labelled", labels: tuple[str, ...]) -> Inspection:
    """The whole picture, judged by the defaults; named after the data."""
    name = source.data.removeprefix("dataset://").rstrip("/").split("/")
    stem = name[0] if source.data.startswith("dataset://") else Path(name[-1]).stem
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)
    return Inspection(id=kept or "pictures", camera="", task=Task(source.task), labels=labels)


def _declared(wish: TrainOptions, plant: Path) -> Inspection:
    declared = load_plant(plant)
    only = declared.inspection[0].id if len(declared.inspection) == 1 else ""
    found = declared.find_inspection(wish.inspection or only)
    if found.task is not wish.task:
        raise InvalidError(
            f"inspection {found.id} is of task {found.task}", where=str(plant), fix="Change --task."
        )
    return found


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
    plant: Annotated[Path | None, typer.Option(help="The plant file.")] = None,
    inspection: Annotated[str, typer.Option(help="Which inspection of it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the package here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report page here.")] = None,
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    images: Annotated[str, typer.Option(help="Where a list's pictures are.")] = "",
    reference: Annotated[str, typer.Option(help="Picture that the regions were drawn on.")] = "",
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
    mlflow: MlflowOption = "",
    job: Annotated[Path | None, typer.Option(help="Run, or go on with, this job folder.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features that trainings share; bounded.")
    ] = None,
    json_lines: Annotated[bool, typer.Option(help="Progress as JSON Lines on stdout.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train an inspection from labelled pictures and write its package."""
    from lineside.training import Cluster, Crew, frozen_data, read_job, run_job, track, train_on

    writable(out)
    writable(report)
    records, blobs = stores(config, store=store, records=records, blobs=blobs)
    if data:
        wish = TrainOptions(
            task=task, data=data, labels=labels, plant=plant, inspection=inspection, group=group,
            images=images, reference=reference, note=note, seed=seed, settings=tuple(setting or ()),
        )  # fmt: skip
        asked = job_of(wish, records=records, blobs=blobs)
    elif job is not None:
        asked = read_job(job)
    else:
        raise InvalidError("nothing to train", fix="Give --data, or --job with a job folder.")
    with _folder(job) as folder, stop_on_signal() as cancelled:
        tell = _as_lines if json_lines else _as_words()
        if on == HERE:
            result = run_job(
                asked,
                folder=folder,
                progress=tell,
                cancelled=cancelled,
                clock=SystemClock(),
                records_url=records,
                blobs_url=blobs,
                crew=Crew(cache=cache),
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
        show(_summary(result), as_json=as_json, text=lambda _: _sentences(result))


@contextmanager
def _folder(job: Path | None) -> Iterator[Path]:
    if job is not None:
        yield job
        return
    with tempfile.TemporaryDirectory(prefix="lineside-train-") as made:
        yield Path(made)


def _as_lines(progress: "Progress") -> None:
    sys.stdout.write(encode(progress).decode() + "\n")
    sys.stdout.flush()


def _as_words() -> "Callable[[Progress], None]":
    """A line for each new stage and each ten percent."""
    last = ""

    def tell(progress: "Progress") -> None:
        nonlocal last
        step = f"{progress.stage} {progress.percent // 10:.0f}"
        if step != last:
            held = f", held out {progress.held_out:.3f}" if progress.held_out is not None else ""
            say(f"{progress.percent:3.0f} % {progress.stage}, {progress.eta_s:.0f} s left{held}")
        last = step

    return tell


def _summary(result: "TrainResult") -> dict[str, object]:
    from lineside.models import Package

    lineage = Package.read(result.package).manifest.lineage
    return {
        "package": result.digest,
        "metrics": result.metrics,
        "seconds": result.seconds,
        "samples_per_s": result.pictures / result.seconds if result.seconds else 0.0,
        "data_digest": lineage.data_digest,
        "warnings": lineage.warnings,
    }


def _sentences(result: "TrainResult") -> str:
    from lineside.models import Package

    lineage = Package.read(result.package).manifest.lineage
    head = f"{result.digest} from {result.pictures} pictures in {result.seconds:.1f} s"
    warnings = [f"warning: {warning}" for warning in lineage.warnings]
    return "\n".join([head, *metric_lines(dict(result.metrics)), *warnings])
