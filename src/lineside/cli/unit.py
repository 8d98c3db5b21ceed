"""``lineside hub unit`` and ``lineside edge unit``: systemd units that start from anywhere."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lineside.cli.output import say, show
from lineside.core import InvalidError
from lineside.core.systemd import STATE_FOLDER, unit_file

UnitUserOption = Annotated[str, typer.Option("--user", help="Whom the program runs as.")]


def show_unit(
    name: str, noun: str, *, config: Path | None, user: str, writable: Sequence[Path],
    own: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Print the unit of a program; what has to be made by hand goes to stderr."""
    if config is None:
        raise InvalidError("no configuration named", where="--config", fix="Name the TOML file.")
    program = Path(sys.argv[0]).absolute()
    called = [str(program)] if os.access(program, os.X_OK) else [sys.executable, "-m", "lineside"]
    text = unit_file(
        name, command=[*called, noun, "--config", str(config.absolute())], working=Path.cwd(),
        writable=writable, user=user, own=own,
    )  # fmt: skip
    show({"unit": text}, as_json=False, text=lambda found: found["unit"].rstrip())
    missing = [str(each) for each in writable if not each.exists() and each.parent != STATE_FOLDER]
    say(f"before the first start: useradd --system --shell /usr/sbin/nologin {user}")
    for folder in missing:
        say(f"before the first start: install -d -m 700 -o {user} {folder}")
