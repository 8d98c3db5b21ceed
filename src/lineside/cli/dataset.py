"""``lineside dataset``: labelled pictures in, from files or from the line."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lineside.cli import dataset_versions
from lineside.cli.dataset_place import (
    BlobsOption,
    ConfigOption,
    Place,
    RecordsOption,
    StoreOption,
    library,
    place_of,
)
from lineside.cli.output import JsonFlag, say, show
from lineside.core import InvalidError

By = Annotated[str, typer.Option(help="Whose labels these are.")]
Name = Annotated[str, typer.Argument(help="The dataset's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Labelled pictures.", no_args_is_help=True)
    group.command("import")(import_source)
    group.command("add")(add)
    dataset_versions.register(group)
    app.add_typer(group, name="dataset")


def import_source(
    source: Annotated[
        str, typer.Argument(help="Folder, list or table, archive, or s3://bucket/prefix.")
    ],
    *,
    into: Annotated[str, typer.Option(help="The dataset to add to.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    labels: Annotated[str, typer.Option(help="Label names in column order, by comma.")] = "",
    form: Annotated[
        str, typer.Option("--format", help="auto, or a form of docs/reference/formats.md.")
    ] = "auto",
    images: Annotated[Path | None, typer.Option(help="Where a list's pictures are.")] = None,
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    ids: Annotated[Path | None, typer.Option(help="Only these: one id or name a line.")] = None,
    sample: Annotated[int, typer.Option(help="Only so many, drawn by the seed; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    every: Annotated[int, typer.Option(help="Of a video, each so many frames.", min=1)] = 1,
    by: By = "command line",
    as_json: JsonFlag = False,
) -> None:
    """Import labelled pictures; every skipped line is reported."""
    from lineside.datasets import Choice, Reading, load_source, read_ids

    names = tuple(name for name in labels.split(",") if name)
    choice = Choice(ids=None if ids is None else read_ids(ids), most=sample, seed=seed)
    place = place_of(config=config, store=store, records=records, blobs=blobs, fresh=True)
    with _fetched() as keep, library(place) as (datasets, _):
        reading = Reading(choice=choice, every=every, keep=keep)
        found = load_source(
            source, labels=names, format=form, images=images, group=group, reading=reading
        )
        if not found.samples:
            for line in found.skipped:
                say(f"skipped {line.where}: {line.reason}")
            raise InvalidError(
                "no picture of it can be imported",
                where=source,
                fix="Replace what cannot be read; docs/reference/formats.md says what can.",
            )
        pictures = ((sample, found.read(sample)) for sample in found.samples)
        added = datasets.add(into, pictures, by=by, files=found.read_file)
    skipped = (*found.skipped, *added.reported)
    result = {
        "dataset": into, "format": found.format, "samples": added.new + added.same,
        "skipped": skipped,
    }  # fmt: skip
    show(
        result,
        as_json=as_json,
        text=lambda _: "\n".join(
            [f"{into}: {added.new} new pictures, {added.same} known, {len(skipped)} notes"]
            + [f"  {line.where}: {line.reason}" for line in skipped]
        ),
    )


@contextmanager
def _fetched() -> Iterator[Path]:
    """A folder for what is fetched, as long as the block."""
    with tempfile.TemporaryDirectory(prefix="lineside-import-") as made:
        yield Path(made)


def add(
    name: Name,
    *,
    frames: Annotated[str, typer.Option(help="FROM..TO, ids of the first and last frame.")],
    label: Annotated[list[str], typer.Option(help="A label that holds; repeatable.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    by: By = "command line",
    as_json: JsonFlag = False,
) -> None:
    """Teach from the live line: a span of stored frames with one set of labels."""
    from lineside.core import FrameId
    from lineside.datasets import judged

    first, dots, last = frames.partition("..")
    if not dots:
        raise InvalidError(f"{frames!r} is no span", where="--frames", fix="Write FROM..TO.")
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, kept):
        ends = [kept.frames.get(FrameId(end)) for end in (first, last)]
        rows = kept.frames.page(
            camera=ends[0].camera,
            since=min(end.captured_at for end in ends),
            until=max(end.captured_at for end in ends),
            limit=100_000,
        )
        names = _names(place, ends[0].camera) or tuple(label)
        added = datasets.add_frames(name, rows, label, by=by, known=judged(label, names))
    show(
        {"dataset": name, "added": added.new, "same": added.same, "skipped": added.reported},
        as_json=as_json,
        text=lambda _: f"{name}: {added.new} frames added, {added.same} were there",
    )


def _names(place: Place, camera: str) -> tuple[str, ...]:
    """What an inspection of this camera can answer; without a plant file nothing is known."""
    from lineside.datasets import label_names

    found = [one for one in place.inspections if one.camera == camera]
    return tuple(name for one in found for name in label_names(one))
