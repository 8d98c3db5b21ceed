"""``lineside tune`` and ``lineside score``: many trainings, many frames, here or on a cluster."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from lineside.cli.dataset import (
    BlobsOption,
    RecordsOption,
    StoreOption,
    library,
    place_of,
    stores,
)
from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, say, show, stop_on_signal, table
from lineside.cli.package import PackageFile
from lineside.cli.train import HERE, OnOption, StorageOption, WorkersOption, label_names
from lineside.core import FrameId, InvalidError, SystemClock, Task

if TYPE_CHECKING:
    from lineside.store import Records
    from lineside.training import Bench, Cluster, ScoredFrame, SearchResult

_MOST_FRAMES = 1_000_000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("tune")(tune)
    app.command("score")(score)


def tune(
    *,
    space: Annotated[Path, typer.Option(help="The space file, TOML.")],
    data: Annotated[str, typer.Option(help="Folder, .lst, .csv, or dataset://NAME/VERSION.")],
    folder: Annotated[Path, typer.Option(help="The study's folder; the same one goes on.")],
    task: Annotated[Task, typer.Option(help="What to learn.")] = Task.CLASSIFY,
    labels: Annotated[str, typer.Option(help="Label names, by comma; default: the data's.")] = "",
    plant: Annotated[Path | None, typer.Option(help="The plant file.")] = None,
    inspection: Annotated[str, typer.Option(help="Which inspection of it.")] = "",
    group: Annotated[str, typer.Option(help="How pictures are grouped.")] = "",
    trials: Annotated[int, typer.Option(help="How many in all; 0: as the space says.")] = 0,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 7,
    on: OnOption = HERE,
    workers: WorkersOption = 2,
    storage: StorageOption = "",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Search hyper-parameters by validation loss; a search that was stopped goes on."""
    from lineside.library.training import training_job
    from lineside.training import Bench, Cluster, read_space

    records, blobs = stores(config, store=store, records=records, blobs=blobs)
    job = training_job(
        task, data=data, labels=label_names(labels), plant=plant, inspection=inspection,
        group=group, seed=seed, records=records, blobs=blobs,
    )  # fmt: skip
    with stop_on_signal() as cancelled:
        bench = Bench(
            job=job, space=read_space(space), folder=folder, clock=SystemClock(),
            cancelled=cancelled, records_url=records, blobs_url=blobs,
        )  # fmt: skip
        cluster = None if on == HERE else Cluster(on=on, workers=workers, storage=storage)
        found = _searched(bench, cluster, trials=trials, seed=seed)
        show(found, as_json=as_json, text=_words)


def _searched(
    bench: "Bench", cluster: "Cluster | None", *, trials: int, seed: int
) -> "SearchResult":
    from lineside.training import frozen_data, search, search_on

    if cluster is None:
        return search(bench, trials=trials, seed=seed)
    data = frozen_data(
        bench.job.data,
        clock=bench.clock,
        records_url=bench.records_url,
        blobs_url=bench.blobs_url,
    )
    moved = replace(bench, job=replace(bench.job, data=data))
    return search_on(cluster, moved, trials=trials, seed=seed)


def _words(found: "SearchResult") -> str:
    rows: list[tuple[str, ...]] = [("trial", "state", found.objective, "seconds", "settings")]
    for trial in found.trials:
        value = "" if trial.value is None else f"{trial.value:.4f}"
        shown = " ".join(f"{name}={number:g}" for name, number in trial.params.items())
        rows.append((str(trial.number), trial.state, value, f"{trial.seconds:.1f}", shown))
    best = "none" if found.best is None else str(found.best.number)
    return table(rows) + f"\nbest: {best}"


def score(
    package: PackageFile,
    *,
    out: Annotated[Path | None, typer.Option(help="JSON Lines file; default: stdout.")] = None,
    frames: Annotated[str, typer.Option(help="FROM..TO, ids of the first and last frame.")] = "",
    camera: Annotated[str, typer.Option(help="All frames of this camera.")] = "",
    on: OnOption = HERE,
    workers: WorkersOption = 2,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
) -> None:
    """Judge stored frames with a package: a line a frame, in the order they were taken."""
    from lineside.training import Cluster, ScoreJob, score_here, score_on

    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (_, kept):
        wanted = _frames(kept, span=frames, camera=camera)
    job = ScoreJob(package=package.read_bytes(), frames=wanted, blobs_url=place.blobs)
    lines = score_here(job) if on == HERE else score_on(Cluster(on=on, workers=workers), job)
    count = _write(lines, out)
    say(f"{count} frames scored")


def _frames(records: "Records", *, span: str, camera: str) -> "list[ScoredFrame]":
    from lineside.training import ScoredFrame

    first, dots, last = span.partition("..")
    if bool(dots) == bool(camera):
        raise InvalidError("no frames named", fix="Give --frames FROM..TO, or --camera.")
    if dots:
        ends = [records.frames.get(FrameId(end)) for end in (first, last)]
        rows = records.frames.page(
            camera=ends[0].camera,
            since=min(end.captured_at for end in ends),
            until=max(end.captured_at for end in ends),
            limit=_MOST_FRAMES,
        )
    else:
        rows = records.frames.page(camera=camera, limit=_MOST_FRAMES)
    return [
        ScoredFrame(id=row.id, digest=row.digest, camera=row.camera, captured_at=row.captured_at)
        for row in rows
        if row.aged_out_at is None
    ]


def _write(lines: Iterator[bytes], out: Path | None) -> int:
    if out is not None:
        with out.open("wb") as file:
            return _written(lines, file)
    return _written(lines, sys.stdout.buffer)


def _written(lines: Iterator[bytes], to: BinaryIO) -> int:
    count = 0
    for line in lines:
        to.write(line + b"\n")
        count += 1
    return count
