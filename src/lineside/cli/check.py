"""``lineside check`` and ``lineside plant schema``: is a plant file right?"""

from pathlib import Path
from typing import Annotated

import typer

from lineside.cli.output import JsonFlag, show
from lineside.core import Fault, InvalidError, load_plant
from lineside.core.plant_check import plant_schema


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check")(check)
    plant = typer.Typer(help="The plant file's form.", no_args_is_help=True)
    plant.command("schema")(schema)
    app.add_typer(plant, name="plant")


def check(
    plant: Annotated[Path, typer.Argument(help="The plant file (TOML).")],
    as_json: JsonFlag = False,
) -> None:
    """Report every fault of a plant file at once; exit code 2 when there is one."""
    faults: tuple[Fault, ...] = ()
    try:
        load_plant(plant)
    except InvalidError as error:
        faults = error.faults
        if not faults:
            raise
    show({"faults": faults}, as_json=as_json, text=lambda found: _sentences(plant, found["faults"]))
    if faults:
        raise typer.Exit(InvalidError.exit_code)


def _sentences(path: Path, faults: tuple[Fault, ...]) -> str:
    if not faults:
        return f"{path}: no faults"
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join([f"{path}: {count}", *(f"  {fault}" for fault in faults)])


def schema() -> None:
    """Print the plant file's JSON Schema, for editors."""
    show(plant_schema(), as_json=True, text=str)
