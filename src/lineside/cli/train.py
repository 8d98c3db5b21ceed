"""``lineside train``: labelled pictures in, a package out; also the hub's training child."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.config import load_hub
from lineside.cli.output import JsonFlag, say, show, writable
from lineside.cli.package import metric_lines
from lineside.cli.signals import stop_on_signal
from lineside.core import InvalidError, SystemClock, encode, load_plant

if TYPE_CHECKING:
    from lineside.training import Progress, TrainJob, TrainResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    *,
    task: Annotated[Literal["multilabel"], typer.Option(help="What to learn.")] = "multilabel",
    data: Annotated[str, typer.Option(help="Folder, .lst, .csv, or dataset://NAME/N.")] = "",
    plant: Annotated[Path | None, typer.Option(help="The plant file.")] = None,
    inspection: Annotated[str, typer.Option(help="Which inspection of it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the package here.")] = None,
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    images: Annotated[str, typer.Option(help="Where a list's pictures are.")] = "",
    reference: Annotated[str, typer.Option(help="Picture that the regions were drawn on.")] = "",
    note: Annotated[str, typer.Option(help="A sentence that report and package carry.")] = "",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 7,
    config: Annotated[Path | None, typer.Option(help="The hub's file, for dataset://.")] = None,
    records: Annotated[str, typer.Option(help="Records that hold dataset://.")] = "",
    blobs: Annotated[str, typer.Option(help="Blobs that hold dataset://.")] = "",
    job: Annotated[Path | None, typer.Option(help="Run, or go on with, this job folder.")] = None,
    json_lines: Annotated[bool, typer.Option(help="Progress as JSON Lines on stdout.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train an inspection from labelled pictures and write its package."""
    from lineside.training import read_job, run_job

    writable(out)
    if config is not None:
        hub = load_hub(config).config
        records, blobs = hub.records_url, hub.blobs_url
    if data:
        asked = replace(
            _job(task, data, plant=plant, inspection=inspection),
            group=group,
            images=images,
            reference=reference,
            note=note,
            seed=seed,
        )
    elif job is not None:
        asked = read_job(job)
    else:
        raise InvalidError("nothing to train", fix="Give --data, or --job with a job folder.")
    with _folder(job) as folder, stop_on_signal() as cancelled:
        result = run_job(
            asked,
            folder=folder,
            progress=_as_lines if json_lines else _as_words(),
            cancelled=cancelled,
            clock=SystemClock(),
            records_url=records,
            blobs_url=blobs,
        )
    if out is not None:
        out.write_bytes(result.package)
        say(f"package written to {out}")
    if not json_lines:
        show(_summary(result), as_json=as_json, text=lambda _: _sentences(result))


def _job(task: str, data: str, *, plant: Path | None, inspection: str) -> "TrainJob":
    from lineside.training import TrainJob

    if plant is None:
        raise InvalidError("no plant file named", where="--plant", fix="Name the plant file.")
    declared = load_plant(plant)
    only = declared.inspection[0].id if len(declared.inspection) == 1 else ""
    found = declared.find_inspection(inspection or only)
    if found.task != task:
        raise InvalidError(
            f"inspection {found.id} is of task {found.task}", where=str(plant), fix="Change --task."
        )
    return TrainJob(inspection=found, data=data)


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
