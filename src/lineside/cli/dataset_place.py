"""Where a dataset command finds its datasets: a hub's store, or one of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.config import load_hub
from lineside.core import Inspection, InvalidError, NotFoundError, SystemClock, load_plant

if TYPE_CHECKING:
    from lineside.datasets import Library
    from lineside.store import Records

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The hub's TOML file.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="A folder that holds datasets without a hub.")
]
RecordsOption = Annotated[str, typer.Option("--records", help="Records by URL, with --blobs.")]
BlobsOption = Annotated[str, typer.Option("--blobs", help="Blobs by URL, with --records.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where datasets are kept, and the plant file that names what they are judged by."""

    records: str
    blobs: str
    plant: Path | None = None

    @property
    def inspections(self) -> tuple[Inspection, ...]:
        """Those of the plant; none where the datasets stand alone."""
        return load_plant(self.plant).inspection if self.plant is not None else ()


def place_of(
    *, config: Path | None, store: Path | None, records: str, blobs: str, fresh: bool = False
) -> Place:
    """The place that a command's options name; ``fresh`` makes a folder that is not there."""
    named = [config is not None, store is not None, bool(records or blobs)]
    if sum(named) != 1 or bool(records) != bool(blobs):
        raise InvalidError(
            "no place of datasets named" if not any(named) else "two places of datasets named",
            where="--store",
            fix="Name the hub's file (--config), a folder (--store), or --records and --blobs.",
        )
    if config is not None:
        hub = load_hub(config).config
        return Place(records=hub.records_url, blobs=hub.blobs_url, plant=Path(hub.plant))
    if store is not None:
        return _in_folder(store.absolute(), fresh=fresh)
    return Place(records=records, blobs=blobs)


def _in_folder(folder: Path, *, fresh: bool) -> Place:
    records = folder / "records.db"
    if fresh:
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
    elif not records.is_file():
        raise NotFoundError(
            "no datasets in this folder", where=str(folder), fix="Import pictures into it first."
        )
    return Place(records=f"sqlite:///{records}", blobs=f"file://{folder / 'blobs'}")


@contextmanager
def library(place: Place) -> "Iterator[tuple[Library, Records]]":
    """The datasets of a place, opened for one command."""
    from lineside.datasets import Library
    from lineside.store import open_blobs, open_records

    clock = SystemClock()
    with open_records(place.records, clock=clock) as records:
        blobs = open_blobs(place.blobs)
        try:
            yield Library(records, blobs, clock=clock), records
        finally:
            blobs.close()
