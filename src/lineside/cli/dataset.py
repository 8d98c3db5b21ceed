"""``lineside dataset``: labelled pictures in the hub's store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, show, table
from lineside.core import InvalidError, SystemClock, load_plant

if TYPE_CHECKING:
    from lineside.datasets import Library, Part
    from lineside.store import Records

By = Annotated[str, typer.Option(help="Whose labels these are.")]
Name = Annotated[str, typer.Argument(help="The dataset's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Labelled pictures.", no_args_is_help=True)
    group.command("import")(import_source)
    group.command("add")(add)
    group.command("list")(list_datasets)
    group.command("show")(show_dataset)
    group.command("freeze")(freeze)
    group.command("leaks")(leaks)
    app.add_typer(group, name="dataset")


@contextmanager
def library(config: Path | None) -> "Iterator[tuple[Library, Records]]":
    """The hub's datasets, opened for one command."""
    from lineside.datasets import Library
    from lineside.store import open_blobs, open_records

    hub = settings(config)
    clock = SystemClock()
    with open_records(hub.records_url, clock=clock) as records:
        blobs = open_blobs(hub.blobs_url)
        try:
            yield Library(records, blobs, clock=clock), records
        finally:
            blobs.close()


def import_source(
    source: Annotated[Path, typer.Argument(help="Folder, .lst or .csv file.")],
    *,
    into: Annotated[str, typer.Option(help="The dataset to add to.")],
    config: ConfigOption = None,
    labels: Annotated[str, typer.Option(help="Label names in column order, by comma.")] = "",
    form: Annotated[str, typer.Option("--format", help="lst, csv, folders or auto.")] = "auto",
    images: Annotated[Path | None, typer.Option(help="Where a list's pictures are.")] = None,
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    by: By = "command line",
    as_json: JsonFlag = False,
) -> None:
    """Import labelled pictures; every skipped line is reported."""
    from lineside.datasets import load_source

    names = tuple(name for name in labels.split(",") if name)
    found = load_source(source, labels=names, format=form, images=images, group=group)
    with library(config) as (datasets, _):
        added = datasets.add(into, ((s, found.read(s)) for s in found.samples), by=by)
    skipped = (*found.skipped, *added.reported)
    result = {"dataset": into, "samples": added.new + added.same, "skipped": skipped}
    show(
        result,
        as_json=as_json,
        text=lambda _: "\n".join(
            [f"{into}: {added.new} new pictures, {added.same} known, {len(skipped)} notes"]
            + [f"  {line.where}: {line.reason}" for line in skipped]
        ),
    )


def add(
    name: Name,
    *,
    frames: Annotated[str, typer.Option(help="FROM..TO, ids of the first and last frame.")],
    label: Annotated[list[str], typer.Option(help="A label that holds; repeatable.")],
    config: ConfigOption = None,
    by: By = "command line",
    as_json: JsonFlag = False,
) -> None:
    """Teach from the live line: a span of stored frames with one set of labels."""
    from lineside.core import FrameId
    from lineside.datasets import judged

    first, dots, last = frames.partition("..")
    if not dots:
        raise InvalidError(f"{frames!r} is no span", where="--frames", fix="Write FROM..TO.")
    with library(config) as (datasets, records):
        ends = [records.frames.get(FrameId(end)) for end in (first, last)]
        rows = records.frames.page(
            camera=ends[0].camera,
            since=min(end.captured_at for end in ends),
            until=max(end.captured_at for end in ends),
            limit=100_000,
        )
        names = _names(Path(settings(config).plant), ends[0].camera)
        added = datasets.add_frames(name, rows, label, by=by, known=judged(label, names))
    show(
        {"dataset": name, "added": added.new, "same": added.same, "skipped": added.reported},
        as_json=as_json,
        text=lambda _: f"{name}: {added.new} frames added, {added.same} were there",
    )


def _names(plant: Path, camera: str) -> tuple[str, ...]:
    """What an inspection of this camera can answer."""
    from lineside.datasets import label_names

    found = [one for one in load_plant(plant).inspection if one.camera == camera]
    return tuple(name for one in found for name in label_names(one))


def list_datasets(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """List datasets."""
    with library(config) as (datasets, _):
        names = datasets.names()
    show({"datasets": names}, as_json=as_json, text=lambda _: "\n".join(names))


def show_dataset(
    name: Name,
    number: Annotated[int, typer.Option("--version", help="0: the newest frozen one.")] = 0,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a frozen version: samples, labels, splits, leaks."""
    with library(config) as (datasets, _):
        version = datasets.version(name, number)
    show(
        version,
        as_json=as_json,
        text=lambda found: table(
            [
                ("version", f"{found.name}/{found.number}"),
                ("digest", found.digest),
                ("samples", str(len(found.samples))),
                ("leaks", str(len(found.leaks))),
            ]
        ),
    )


def freeze(
    name: Name,
    config: ConfigOption = None,
    shares: Annotated[
        str, typer.Option(help="TRAIN,VALID,TEST, such as 0.8,0.1,0.1; groups stay together.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Which pictures fall into which part.")] = 0,
    by: By = "command line",
    as_json: JsonFlag = False,
) -> None:
    """Freeze the draft to an immutable version, split by group, with its leak report."""
    from lineside.datasets import plan_freeze

    wanted = _shares(shares)
    inspections = load_plant(Path(settings(config).plant)).inspection
    with library(config) as (datasets, _):
        plan = plan_freeze(datasets, name, inspections=inspections)
        plan = replace(plan, shares=wanted, seed=seed)
        version = datasets.freeze(name, by=by, plan=plan)
    show(
        {
            "dataset": name,
            "version": version.number,
            "digest": version.digest,
            "splits": {part: len(members) for part, members in version.splits.items()},
        },
        as_json=as_json,
        text=lambda done: f"{name}/{done['version']} {done['digest']}",
    )


def _shares(text: str) -> "dict[Part, float]":
    from lineside.datasets import Part

    if not text:
        return {}
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 0 or abs(sum(numbers) - 1) > 1e-6:
        raise InvalidError(
            f"{text!r} is no split", where="--shares", fix="Write three shares, as in 0.8,0.1,0.1."
        )
    parts = (Part.TRAIN, Part.VALID, Part.TEST)
    return {part: share for part, share in zip(parts, numbers, strict=True) if share > 0}


def leaks(
    name: Name,
    number: Annotated[int, typer.Option("--version", help="0: the newest frozen one.")] = 0,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a version's leak report: pairs too alike, and the splits they stand in."""
    with library(config) as (datasets, _):
        found = datasets.version(name, number).leaks
    show(
        {"leaks": found},
        as_json=as_json,
        text=lambda _: "\n".join(str(leak) for leak in found) or "no leaks",
    )
