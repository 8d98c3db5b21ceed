"""``lineside twin export``: the twin of a hub as a file."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import say, writable
from lineside.core import SystemClock, load_plant, rfc3339


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(help="The twin of a hub.")
    group.command("export")(export)
    group.callback()(_group)
    app.add_typer(group, name="twin", no_args_is_help=True)


def _group() -> None:
    """Keep ``export`` a word of its own while the group has one command."""


def export(
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    form: Annotated[
        str, typer.Option("--format", help="json, aas (Asset Administration Shell) or aasx.")
    ] = "json",
    at: Annotated[str, typer.Option(help="RFC 3339: as it stood then; now without.")] = "",
    config: ConfigOption = None,
) -> None:
    """Write the twin with the plan of its plant; the hub may run meanwhile."""
    from lineside.hub.eventlog.twin_history import known_twin_at
    from lineside.store import open_records
    from lineside.twin import export_bytes, export_form, twin_export

    wanted = export_form(form, where="--format")
    writable(output)
    hub, clock = settings(config), SystemClock()
    plant, now = load_plant(Path(hub.plant)), clock.now()
    with open_records(hub.records_url, clock=clock) as records:
        state, moment = known_twin_at(records, at or rfc3339(now), plant=plant, now=now)
    software = f"lineside {version('lineside')}"
    made = twin_export(state, plant=plant, at=moment, software=software)
    output.write_bytes(export_bytes(made, wanted))
    say(f"written: {output}")
