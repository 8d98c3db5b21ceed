"""``lineside edge`` and ``lineside simulate``: the programs beside the hub."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lineside.cli.config import load_edge
from lineside.cli.signals import stop_on_signal
from lineside.core import SystemClock


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("edge")(edge)
    app.command("simulate")(simulate)


def edge(
    config: Annotated[Path, typer.Option(help="The agent's TOML file.")],
) -> None:
    """Run the edge agent until it is told to stop."""
    from lineside.edge import run

    with stop_on_signal() as stop:
        run(load_edge(config).config, clock=SystemClock(), stop=stop)


def simulate(
    solution: Annotated[Literal["warehouse"], typer.Argument(help="Which line.")],
    *,
    bus: Annotated[str, typer.Option(help="URL of the broker.")],
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 1,
    lighting: Annotated[
        Literal["dark", "light", "neutral"], typer.Option(help="Of the room.")
    ] = "light",
    drift_px: Annotated[float, typer.Option(help="How far the camera may wander.")] = 4.0,
    fps: Annotated[float, typer.Option(help="Pictures a second.")] = 5.0,
    speed: Annotated[float, typer.Option(help="How much faster than the real factory.")] = 1.0,
    restock_after_s: Annotated[float, typer.Option(help="Lay shipped pieces in again; 0: no.")] = 0,
    frames: Annotated[int, typer.Option(help="End after so many pictures; 0: never.")] = 0,
    teach: Annotated[int, typer.Option(help="Show this many labelled pictures, then end.")] = 0,
    truth: Annotated[
        Path | None, typer.Option(help="Write what is true here (JSON Lines).")
    ] = None,
) -> None:
    """Run a simulated line; the rest knows it by its messages alone."""
    from lineside.links import open_bus
    from lineside.simulator import SimulateSettings
    from lineside.simulator import simulate as run

    settings = SimulateSettings(
        seed=seed,
        lighting=lighting,
        drift_px=drift_px,
        fps=fps,
        speed=speed,
        restock_after_s=restock_after_s,
        frames=frames,
        teach=teach,
        truth=str(truth) if truth else "",
    )
    clock = SystemClock()
    with stop_on_signal() as stop:
        client = open_bus(bus, client_id=f"simulator-{solution}-{seed}", clock=clock)
        try:
            run(settings, bus=client, clock=clock, stop=stop)
        finally:
            client.close()
