"""``lineside train``: labelled pictures in, a package out; also the hub's training child."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.config import load_hub
from lineside.cli.output import JsonFlag, say, show, writable
from lineside.cli.package import metric_lines
from lineside.cli.signals import stop_on_signal
from lineside.core import Inspection, InvalidError, SystemClock, Task, encode, load_plant

if TYPE_CHECKING:
    from lineside.training import Labelled, Progress, TrainJob, TrainResult

_NAMED = ("multilabel", "classify")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    *,
    task: Annotated[Task, typer.Option(help="What to learn.")] = Task.MULTILABEL,
    data: Annotated[str, typer.Option(help="Folder, .lst, .csv, or dataset://NAME/N.")] = "",
    labels: Annotated[
        str, typer.Option(help="Without a plant file: label names, by comma; default: the data's.")
    ] = "",
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
    from lineside.training import Labelled, TrainJob, read_job, run_job

    writable(out)
    if config is not None:
        hub = load_hub(config).config
        records, blobs = hub.records_url, hub.blobs_url
    if data:
        source = Labelled(data=data, images=images, group=group, task=str(task))
        if plant is None:
            names = _names(labels, source, records=records, blobs=blobs)
            made = TrainJob(inspection=_bare_inspection(source, names), data=data)
        else:
            made = _job(task, data, plant=plant, inspection=inspection)
        asked = replace(
            made,
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


def _names(labels: str, source: "Labelled", *, records: str, blobs: str) -> tuple[str, ...]:
    """What a training without a plant file answers."""
    from lineside.training import labels_of

    named = tuple(name.strip() for name in labels.split(",") if name.strip())
    if named or source.task not in _NAMED:
        return named
    return labels_of(source, clock=SystemClock(), records_url=records, blobs_url=blobs)


def _bare_inspection(source: "Labelled", labels: tuple[str, ...]) -> Inspection:
    """The whole picture, judged by the defaults; named after the data."""
    name = source.data.removeprefix("dataset://").rstrip("/").split("/")
    stem = name[0] if source.data.startswith("dataset://") else Path(name[-1]).stem
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)
    return Inspection(id=kept or "pictures", camera="", task=Task(source.task), labels=labels)


def _job(task: Task, data: str, *, plant: Path, inspection: str) -> "TrainJob":
    from lineside.training import TrainJob

    declared = load_plant(plant)
    only = declared.inspection[0].id if len(declared.inspection) == 1 else ""
    found = declared.find_inspection(inspection or only)
    if found.task is not task:
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
