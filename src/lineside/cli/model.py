"""``lineside model``: the registry, and taking a package into use."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, say, show, table
from lineside.cli.package import metric_lines
from lineside.core import SystemClock, parse_digest, short

if TYPE_CHECKING:
    from lineside.models import Registry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Packages in the hub's registry.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("show")(show_model)
    group.command("add")(add)
    app.add_typer(group, name="model")


@contextmanager
def registry(config: Path | None) -> "Iterator[Registry]":
    """The hub's registry, opened for one command."""
    from lineside.models import Registry
    from lineside.store import open_blobs, open_records

    hub = settings(config)
    clock = SystemClock()
    with open_records(hub.records_url, clock=clock) as records:
        blobs = open_blobs(hub.blobs_url)
        try:
            yield Registry(records, blobs, clock=clock)
        finally:
            blobs.close()


def list_models(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """List packages, newest first, with who took them into use."""
    with registry(config) as models:
        found = models.list()
    rows = [(short(r.digest), r.name, r.inspection, r.approved_by or "nobody") for r in found]
    show(
        {"models": found},
        as_json=as_json,
        text=lambda _: table([("digest", "name", "inspection", "in use by"), *rows]),
    )


def show_model(
    digest: Annotated[str, typer.Argument(help="sha256:…")],
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one package's record and metrics."""
    with registry(config) as models:
        found = models.get(parse_digest(digest))
    show(
        found,
        as_json=as_json,
        text=lambda record: "\n".join(
            [f"{record.name} {record.digest}", *metric_lines(record.manifest.metrics)]
        ),
    )


def add(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    config: ConfigOption = None,
    by: Annotated[str, typer.Option(help="Who adds it.")] = "command line",
) -> None:
    """Put a package file into the registry; its page takes it into use."""
    with registry(config) as models:
        record = models.add(package.read_bytes(), by=by)
    say(f"added {record.digest}")
