"""``lineside edge page-password``: who may see a device's own page."""

from pathlib import Path
from typing import Annotated

import typer

from lineside.cli.config import load_edge
from lineside.cli.output import say
from lineside.cli.password import read_password
from lineside.core import InvalidError

_NAME = "page.password"


def page_password(
    config: Annotated[Path | None, typer.Option(help="The agent's TOML file.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="A file with the password; - for standard input.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where it is kept, where no configuration says page.password_file."),
    ] = None,
) -> None:
    """Set the password of the device's own page; whoever is signed in stays so until a restart."""
    from lineside.edge import write_page_password

    path = out or _kept_at(config)
    write_page_password(read_password(password_file), path=path)
    say(f"password kept in {path}; restart the agent with page.password_file naming it")


def _kept_at(config: Path | None) -> Path:
    """What the settings name, else a file in the agent's own folder."""
    if config is None:
        raise InvalidError(
            "no configuration named", where="--config", fix="Name the agent's TOML file, or --out."
        )
    settings = load_edge(config).config
    named = settings.page.password_file
    return Path(named) if named else settings.folder / _NAME
