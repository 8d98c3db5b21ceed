"""``lineside dataset report``: what a person should know of pictures before learning from them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.dataset_place import (
    BlobsOption,
    ConfigOption,
    RecordsOption,
    StoreOption,
    library,
    place_of,
)
from lineside.cli.output import JsonFlag, show, writable
from lineside.core import Digest, encode

if TYPE_CHECKING:
    from lineside.datasets import Subject

Files = Callable[[Digest], bytes]


def report(
    source: Annotated[
        str, typer.Argument(help="A dataset's name where a place is named, else files.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write it here: one HTML file, or JSON for .json.")
    ] = None,
    which: Annotated[
        str, typer.Option("--version", help="A number or a tag; else the newest.")
    ] = "",
    labels: Annotated[str, typer.Option(help="Of files: label names, by comma.")] = "",
    group: Annotated[
        str, typer.Option(help="Of files, how pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    pictures: Annotated[int, typer.Option(min=1, help="Look at so many at most.")] = 5000,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Sum up labelled pictures: balance, sizes, light, masks, counts, doubles, leaks, examples."""
    from lineside.datasets import dataset_report, report_page

    writable(out)
    placed = config is not None or store is not None or bool(records or blobs)
    names = tuple(name for name in labels.split(",") if name)
    opened = (
        _version(source, which, place_options=(config, store, records, blobs))
        if placed
        else _files(Path(source), labels=names, group=group)
    )
    with opened as (subject, files):
        made = dataset_report(replace(subject, most_looked_at=pictures), files=files)
    if out is not None:
        out.write_bytes(encode(made) if out.suffix == ".json" else report_page(made))
    told = [f"{made.pictures} pictures of {made.name}", *made.warnings]
    show(
        replace(made, examples=()),
        as_json=as_json,
        text=lambda _: "\n".join([*told, *([f"report in {out}"] if out else [])]),
    )


@contextmanager
def _version(
    name: str, which: str, *, place_options: tuple[Path | None, Path | None, str, str]
) -> "Iterator[tuple[Subject, Files]]":
    from lineside.datasets import subject_of_version

    config, store, records, blobs = place_options
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        yield subject_of_version(datasets.find(name, which)), datasets.read_file


@contextmanager
def _files(
    source: Path, *, labels: tuple[str, ...], group: str
) -> "Iterator[tuple[Subject, Files]]":
    from lineside.datasets import load_source, subject_of_source

    found = load_source(source, labels=labels, group=group)
    yield subject_of_source(source.resolve().name, found), found.read_file
