"""``lineside hub``: run it, and issue what clients sign in with."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.config import load_hub
from lineside.cli.output import (
    COMMAND_LINE,
    JsonFlag,
    UnitUserOption,
    add_commands,
    read_password,
    say,
    show,
    show_unit,
)
from lineside.core import InvalidError, SystemClock, load_plant

if TYPE_CHECKING:
    from lineside.hub import Accounts, HubConfig, NewSite

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The hub's TOML file.")]
By = Annotated[str, typer.Option(help="Who does this; stands in the event.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = add_commands(app, "hub", "The hub: pages, store, broker.", {
        "init": init, "certificate": certificate, "key": key, "link": link,
        "bus-password": bus_password, "mosquitto-config": mosquitto_config, "unit": unit,
    })  # fmt: skip
    group.callback(invoke_without_command=True, no_args_is_help=False)(hub)


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
    with_device: Annotated[
        bool, typer.Option("--with-device", help="Also start a device on this machine.")
    ] = False,
) -> None:
    """Run the hub until it is told to stop."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        settings(config)
    gc.disable()  # until it is ready: what a start makes stays
    try:
        _run(load_hub(config, port=port, device_here=with_device or None).config)
    finally:
        gc.enable()


def _run(config: "HubConfig") -> None:
    from lineside.cli.output import stop_on_signal
    from lineside.core.processes import supervisor_of
    from lineside.hub.run import run

    def announce(line: str) -> None:
        """Say a line; the first comes when the hub is ready."""
        gc.freeze()  # to look through it again and again would halt the hub for 50 ms each time
        gc.enable()
        say(line)

    supervisor = supervisor_of(os.environ)  # noqa: TID251  handed in here
    with stop_on_signal() as stop:
        run(config, clock=SystemClock(), stop=stop, announce=announce, supervisor=supervisor)


def init(
    config: ConfigOption = None,
    name: Annotated[str, typer.Option(help="Of the authority; else the plant file's site.")] = "",
    hosts: Annotated[
        str,
        typer.Option(help="Further names of the hub, by commas; else its settings'."),
    ] = "",
    user: Annotated[str, typer.Option(help="The first administrator, by name.")] = "",
    password_file: Annotated[
        Path | None,
        typer.Option(help="File with that user's password; - for input.", allow_dash=True),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the site's authority, the hub's certificate, the first user and the trust root."""
    from lineside.hub import init_site

    hub = settings(config)
    made = init_site(
        hub,
        clock=SystemClock(),
        name=name,
        hosts=tuple(host.strip() for host in hosts.split(",") if host.strip()),
        user=user,
        password=lambda: read_password(password_file),
    )
    show(made, as_json=as_json, text=lambda found: "\n".join(_site_lines(found)))
    if not hub.secure:
        say(f'HTTPS is off: add tls = "site" to {config}')


def _site_lines(found: "NewSite") -> list[str]:
    return [
        *(f"{'made' if one.made else 'kept'} {one.what}: {one.detail}" for one in found.steps),
        *(f"take off this machine: {one}" for one in found.take_offline),
    ]


def certificate(
    hosts: Annotated[
        str, typer.Option(help="Names and addresses of the server, by commas, such as edge-1.lan.")
    ],
    to: Annotated[Path, typer.Option(help="Folder for server.crt and server.key.")],
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Issue a certificate of the site's authority for another server, such as a device's page."""
    from lineside.hub import issue_for

    named = tuple(host.strip() for host in hosts.split(",") if host.strip())
    made = issue_for(settings(config), hosts=named, folder=to, clock=SystemClock())
    found = {"certificate": str(made.certificate), "key": str(made.key), "hosts": list(named)}
    show(
        found,
        as_json=as_json,
        text=lambda one: f'tls_cert = "{one["certificate"]}"\ntls_key = "{one["key"]}"',
    )


@contextmanager
def accounts(config: Path | None) -> "Iterator[Accounts]":
    """The hub's users and tokens, opened for one command."""
    from lineside.hub import open_accounts

    found = settings(config)
    site = load_plant(Path(found.plant)).site
    with open_accounts(found.records_url, site=site, clock=SystemClock()) as opened:
        yield opened


def key(
    name: Annotated[str, typer.Argument(help="Who the key is for.")],
    role: Annotated[
        Literal["viewer", "operator", "engineer", "approver", "admin"] | None,
        typer.Option(help="What it may beside inference calls; approver makes jobs."),
    ] = None,
    thing: Annotated[str, typer.Option(help="The thing whose jobs it may take.")] = "",
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
    as_json: JsonFlag = False,
) -> None:
    """Issue an access key and secret for clients that sign their requests; shown once."""
    from lineside.hub import Role

    with accounts(config) as opened:
        issued = opened.issue_key(name, role=Role(role) if role else None, thing=thing, by=by)
    show(
        issued,
        as_json=as_json,
        text=lambda made: f"AWS_ACCESS_KEY_ID={made.id}\nAWS_SECRET_ACCESS_KEY={made.secret}",
    )


def link(
    name: Annotated[str, typer.Option(help="Who signs in; stands beside what they do.")] = "admin",
    config: ConfigOption = None,
) -> None:
    """Print a further sign-in link of a running hub; it works once, within a day."""
    from lineside.hub import sign_in_link

    show(sign_in_link(settings(config), name=name, clock=SystemClock()), as_json=False, text=str)


def bus_password(
    name: Annotated[str, typer.Argument(help="By which a device or program joins the bus.")],
    config: ConfigOption = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="File with the password; - for input.", allow_dash=True),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file, where no settings name a bus_password_file.")
    ] = None,
) -> None:
    """Set a password of the embedded broker; it counts from the hub's next start."""
    from lineside.links import set_bus_password

    named = out or Path(settings(config).bus_password_file or "bus.passwords")
    set_bus_password(named, name=name, password=read_password(password_file))
    say(f"password of {name} kept in {named}; start the hub again with bus_password_file naming it")


def mosquitto_config(
    to: Annotated[Path, typer.Option(help="Folder for mosquitto.conf and access.list.")],
    port: Annotated[int, typer.Option(help="Where devices connect.")] = 8883,
    config: ConfigOption = None,
) -> None:
    """Write the configuration of a mosquitto that serves this site's devices."""
    from lineside.hub import mosquitto_files

    made = mosquitto_files(settings(config), to=to, port=port, clock=SystemClock())
    say(f"{made.access}: {made.devices} devices; a mosquitto that runs reads it at SIGHUP")
    show(made.config, as_json=False, text=lambda path: f"mosquitto -c {path}")


def unit(config: ConfigOption = None, user: UnitUserOption = "lineside") -> None:
    """Print a systemd unit for the hub."""
    hub = settings(config)
    folders = [hub.folder, Path(hub.plant).absolute().parent]  # pages write the plant file
    for url in (hub.records_url, hub.blobs_url):
        scheme, _, path = url.partition("://")
        if scheme in {"file", "sqlite"}:
            place = Path("/", path.removeprefix("/"))
            folders.append(place.parent if scheme == "sqlite" else place)
    outside = [each for each in folders[1:] if not each.is_relative_to(hub.folder)]
    writable = list(dict.fromkeys([hub.folder, *outside]))
    own = {"TimeoutStartSec": "infinity"}  # an upgrade of the store may take long
    if hub.device_here:
        own["SupplementaryGroups"] = "video"
    show_unit("hub", "hub", config=config, user=user, writable=writable, own=own)
