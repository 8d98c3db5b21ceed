"""``lineside hub``: run it, and issue what clients sign in with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.config import load_hub
from lineside.cli.output import JsonFlag, say, show
from lineside.core import InvalidError, SystemClock

if TYPE_CHECKING:
    from lineside.hub import HubConfig

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The hub's TOML file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The hub: pages, store, broker.", invoke_without_command=True)
    group.callback()(hub)
    group.command("key")(key)
    group.command("link")(link)
    app.add_typer(group, name="hub")


def settings(path: Path | None) -> "HubConfig":
    """The hub's settings, or a sentence when no file was named."""
    if path is None:
        raise InvalidError(
            "no configuration named", where="--config", fix="Name the hub's TOML file."
        )
    return load_hub(path).config


def hub(
    context: typer.Context,
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(help="Where pages and API listen.")] = None,
) -> None:
    """Run the hub until it is told to stop."""
    if context.invoked_subcommand is not None:
        return
    from lineside.cli.signals import stop_on_signal
    from lineside.hub import run

    if config is None:
        settings(config)
    loaded = load_hub(config, port=port)
    with stop_on_signal() as stop:
        run(loaded.config, clock=SystemClock(), stop=stop, announce=say)


def key(
    name: Annotated[str, typer.Argument(help="Who the key is for.")],
    role: Annotated[
        Literal["viewer", "operator", "engineer", "approver", "admin"] | None,
        typer.Option(help="What it may beside inference calls; approver makes jobs."),
    ] = None,
    thing: Annotated[str, typer.Option(help="The thing whose jobs it may take.")] = "",
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Issue an access key and secret for clients that sign their requests; shown once."""
    from lineside.hub import Role, issue_access_key
    from lineside.store import open_records

    clock = SystemClock()
    with open_records(settings(config).records_url, clock=clock) as records:
        issued = issue_access_key(
            records, name=name, clock=clock, role=Role(role) if role else None, thing=thing
        )
    show(
        issued,
        as_json=as_json,
        text=lambda made: f"AWS_ACCESS_KEY_ID={made.id}\nAWS_SECRET_ACCESS_KEY={made.secret}",
    )


def link(
    name: Annotated[
        str, typer.Option(help="Who signs in; stands beside what they do.")
    ] = "operator",
    config: ConfigOption = None,
) -> None:
    """Print a further sign-in link of a running hub; it works once, within a day."""
    from lineside.hub import sign_in_link

    show(sign_in_link(settings(config), name=name, clock=SystemClock()), as_json=False, text=str)
