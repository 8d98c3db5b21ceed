"""``lineside edge`` and ``lineside simulate``: the programs beside the hub."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from lineside.cli.config import load_edge
from lineside.cli.output import UnitUserOption, say, show, show_unit, stop_on_signal
from lineside.core import Clock, InvalidError, SystemClock

if TYPE_CHECKING:
    from lineside.links import Bus
    from lineside.simulator import BinsSettings, SimulateSettings, SocksSettings, SurfaceSettings
from lineside.cli.output import read_password

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

    path = out or _password_path(config)
    write_page_password(read_password(password_file), path=path)
    say(f"password kept in {path}; restart the agent with page.password_file naming it")


def _password_path(config: Path | None) -> Path:
    """Return the file that the settings name, else one in the agent's own folder."""
    if config is None:
        raise InvalidError(
            "no configuration named", where="--config", fix="Name the agent's TOML file, or --out."
        )
    settings = load_edge(config).config
    named = settings.page.password_file
    return Path(named) if named else settings.folder / _NAME


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The edge agent.", invoke_without_command=True)
    group.callback()(edge)
    group.command("unit")(unit)
    group.command("page-password")(page_password)
    app.add_typer(group, name="edge")
    app.command("simulate")(simulate)


def edge(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="The agent's TOML file.")] = None,
    agent_config: Annotated[
        Path | None, typer.Option(help="A config_edge_device.json to take over.")
    ] = None,
    workdir: Annotated[Path | None, typer.Option(help="What $WORKDIR stands for in it.")] = None,
) -> None:
    """Run the edge agent until it is told to stop."""
    if context.invoked_subcommand is not None:
        return
    from lineside.core.processes import supervisor_of
    from lineside.edge import run

    if config is None:
        raise typer.BadParameter("name the agent's TOML file", param_hint="--config")
    supervisor = supervisor_of(os.environ)  # noqa: TID251  handed in here
    flags = _flags_of(agent_config, workdir=workdir) if agent_config is not None else {}
    with stop_on_signal() as stop:
        loaded = load_edge(config, **flags).config
        run(loaded, clock=SystemClock(), stop=stop, supervisor=supervisor)


def unit(
    config: Annotated[Path, typer.Option(help="The agent's TOML file.")],
    user: UnitUserOption = "lineside",
) -> None:
    """Print a systemd unit for the agent."""
    show_unit(
        "edge agent", "edge", config=config, user=user,
        writable=[load_edge(config).config.folder],
        own={"SupplementaryGroups": "video", "WatchdogSec": "60"},
    )  # fmt: skip


def _flags_of(path: Path, *, workdir: Path | None) -> dict[str, object]:
    """The settings of a managed edge agent's file; what has no effect here is said."""
    from lineside.edge import read_agent_file

    mapped = read_agent_file(path, workdir=workdir)
    for sentence in mapped.without_effect:
        say(sentence)
    return dict(mapped.settings)


def simulate(
    solution: Annotated[
        Literal["warehouse", "bins", "surface", "socks"], typer.Argument(help="Which line.")
    ],
    *,
    bus: Annotated[str, typer.Option(help="URL of the broker.")] = "",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 1,
    lighting: Annotated[
        Literal["dark", "light", "neutral"], typer.Option(help="Of the warehouse's room.")
    ] = "light",
    drift_px: Annotated[
        float, typer.Option(help="How far the warehouse's camera may wander.")
    ] = 4.0,
    fps: Annotated[float, typer.Option(help="Pictures a second.")] = 5.0,
    speed: Annotated[float, typer.Option(help="How much faster than the real factory.")] = 1.0,
    restock_after_s: Annotated[float, typer.Option(help="Lay shipped pieces in again; 0: no.")] = 0,
    frames: Annotated[int, typer.Option(help="End after so many pictures; 0: never.")] = 0,
    teach: Annotated[int, typer.Option(help="Show this many labelled pictures, then end.")] = 0,
    truth: Annotated[
        Path | None, typer.Option(help="Write what is true here (JSON Lines).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--folder",
            help="Bins, surface, socks: write pictures and truth here, on no bus.",
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="How many, with --out.")] = 500,
    faulty_share: Annotated[
        float, typer.Option(help="Of the surface's parts, how many have a fault, 0 to 1.")
    ] = 0.3,
) -> None:
    """Run a simulated line; the rest knows it by its messages alone."""
    if out is not None:
        _write(solution, out, pictures=pictures, seed=seed, faulty_share=faulty_share)
        return
    from lineside.simulator import BinsSettings, SimulateSettings, SocksSettings, SurfaceSettings

    written = str(truth) if truth else ""
    if solution == "bins":
        _run(bus, BinsSettings(seed=seed, fps=fps, frames=frames, truth=written))
        return
    if solution == "socks":
        _run(bus, SocksSettings(seed=seed, fps=fps, frames=frames, truth=written))
        return
    if solution == "surface":
        _run(bus, SurfaceSettings(
            seed=seed, fps=fps, frames=frames, faulty_share=faulty_share, truth=written
        ))  # fmt: skip
        return
    settings = SimulateSettings(
        seed=seed,
        lighting=lighting,
        drift_px=drift_px,
        fps=fps,
        speed=speed,
        restock_after_s=restock_after_s,
        frames=frames,
        teach=teach,
        truth=written,
    )
    _run(bus, settings)


_Settings: TypeAlias = "SimulateSettings | BinsSettings | SurfaceSettings | SocksSettings"


def _run(bus: str, settings: _Settings) -> None:
    from lineside.links import open_bus

    if not bus:
        raise InvalidError(
            "no broker", where="--bus", fix="Give --bus URL, or --out for bins, surface or socks."
        )
    solution = type(settings).__name__.removesuffix("Settings").lower()
    clock = SystemClock()
    with stop_on_signal() as stop:
        client = open_bus(bus, client_id=f"simulator-{solution}-{settings.seed}", clock=clock)
        try:
            _simulated(settings, bus=client, clock=clock, stop=stop)
        finally:
            client.close()


def _simulated(settings: _Settings, *, bus: "Bus", clock: Clock, stop: threading.Event) -> None:
    from lineside.simulator import (
        BinsSettings,
        SimulateSettings,
        SocksSettings,
        SurfaceSettings,
        simulate_bins,
        simulate_socks,
        simulate_surface,
    )
    from lineside.simulator import (
        simulate as simulate_warehouse,
    )

    match settings:
        case BinsSettings():
            simulate_bins(settings, bus=bus, clock=clock, stop=stop)
        case SurfaceSettings():
            simulate_surface(settings, bus=bus, clock=clock, stop=stop)
        case SocksSettings():
            simulate_socks(settings, bus=bus, clock=clock, stop=stop)
        case SimulateSettings():
            simulate_warehouse(settings, bus=bus, clock=clock, stop=stop)


def _write(solution: str, out: Path, *, pictures: int, seed: int, faulty_share: float) -> None:
    from lineside.simulator import write_bins, write_socks, write_surface

    if solution == "warehouse":
        raise InvalidError(
            f"the {solution} writes no folder", where="--out", fix="Give --bus URL instead."
        )

    def tell(number: int) -> None:
        if number % max(1, pictures // 10) == 0:
            say(f"{100 * number // pictures} %, {number} pictures")

    if solution == "bins":
        truth = write_bins(out, pictures=pictures, seed=seed, progress=tell)
    elif solution == "socks":
        truth = write_socks(out, pictures=pictures, seed=seed, progress=tell)
    else:
        truth = write_surface(
            out, pictures=pictures, seed=seed, faulty_share=faulty_share, progress=tell
        )
    show(
        {"folder": str(out), "pictures": pictures, "truth": str(truth)}, as_json=False, text=_where
    )


def _where(written: dict[str, object]) -> str:
    return f"{written['pictures']} pictures in {written['folder']}; truth: {written['truth']}"
