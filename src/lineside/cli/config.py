"""``lineside config show``: every setting of a program and where it came from."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.output import JsonFlag, show, table
from lineside.core import to_plain
from lineside.core.config import Loaded, load_config
from lineside.core.drivers import without_secret

if TYPE_CHECKING:
    from lineside.edge import EdgeConfig
    from lineside.hub import HubConfig


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Settings and their origins.", no_args_is_help=True)
    group.command("show")(show_config)
    app.add_typer(group, name="config")


def show_config(
    program: Annotated[Literal["hub", "edge"], typer.Argument(help="Whose settings.")],
    config: Annotated[Path | None, typer.Option(help="The program's TOML file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show each setting, its value, and whether file, environment or default gave it."""
    loaded = load_hub(config) if program == "hub" else load_edge(config)
    rows = [
        {"key": key, "value": value, "origin": loaded.origins.get(key, "default")}
        for key, value in _flat(to_plain(loaded.config))
    ]
    show(
        {"settings": rows},
        as_json=as_json,
        text=lambda found: table(
            [(row["key"], row["value"], row["origin"]) for row in found["settings"]]
        ),
    )


def load_hub(path: Path | None, **flags: object) -> "Loaded[HubConfig]":
    """The hub's settings from file, environment and flags."""
    from lineside.hub import HubConfig

    return load_config(HubConfig, program="hub", path=path, environ=os.environ, flags=flags)  # noqa: TID251  handed in here


def load_edge(path: Path | None, **flags: object) -> "Loaded[EdgeConfig]":
    """The edge agent's settings from file, environment and flags."""
    from lineside.edge import EdgeConfig

    return load_config(EdgeConfig, program="edge", path=path, environ=os.environ, flags=flags)  # noqa: TID251  handed in here


def _flat(document: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", without_secret(str(value))))
    return rows
