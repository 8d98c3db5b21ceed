"""``lineside device``: how devices become the site's, and which there are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.config import load_edge
from lineside.cli.hub import By, ConfigOption, settings
from lineside.cli.output import COMMAND_LINE, JsonFlag, add_commands, ask, say, show, table
from lineside.core import InvalidError, SystemClock, rfc3339

if TYPE_CHECKING:
    from lineside.hub import DeviceDetails, DeviceSummary

_MOST = 1000

Device = Annotated[str, typer.Argument(help="Its name.")]
EdgeOption = Annotated[Path | None, typer.Option("--config", help="The device's TOML file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "device", "Devices of the site.", {
        "invite": invite, "withdraw": withdraw, "enrol": enrol, "list": list_devices,
        "show": show_device, "renew": renew, "revoke": revoke, "group": group_device,
    })  # fmt: skip


def invite(
    name: Annotated[str, typer.Option(help="Name of the device; generated if absent.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="Group it will be in.")] = None,
    line: Annotated[list[str] | None, typer.Option(help="Line at whose cameras it looks.")] = None,
    hours: Annotated[float, typer.Option(help="How long the code works.")] = 24.0,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
    as_json: JsonFlag = False,
) -> None:
    """Print a code by which a device is enrolled; it works once."""
    from lineside.fleet import NewInvitation
    from lineside.hub import open_inventory

    wish = NewInvitation(
        device=name, groups=tuple(group or ()), lines=tuple(line or ()), hours=hours
    )
    hub = settings(config)
    with open_inventory(hub, clock=SystemClock()) as inventory:
        made = inventory.enrolment.invite(wish, by=by)
    show(made, as_json=as_json, text=lambda found: found.code)
    until = rfc3339(made.invitation.ends_at)
    say(f"for {made.invitation.device}, until {until}; it is not shown again. On the device:")
    say(f"lineside device enrol --hub {hub.public_url or 'https://HUB:PORT'} --code {made.code}")


def withdraw(device: Device, config: ConfigOption = None, by: By = COMMAND_LINE) -> None:
    """Take the unused codes for a device back."""
    from lineside.hub import open_inventory

    with open_inventory(settings(config), clock=SystemClock()) as inventory:
        inventory.enrolment.withdraw(device, by=by)
    say(f"no code is open for {device}")


def enrol(
    hub: Annotated[str, typer.Option(help="The hub's address, https://host:port.")],
    code: Annotated[
        str,
        typer.Option(help="What lineside device invite printed.", envvar="LINESIDE_ENROLMENT_CODE"),
    ],
    data_dir: Annotated[
        Path, typer.Option(help="The agent's folder: key, certificate, spool, packages.")
    ] = Path("/var/lib/lineside"),
    config: Annotated[
        Path | None, typer.Option(help="Where its settings go; else edge.toml in --data-dir.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Enrol this device: try the way to the hub, make a key, get a certificate and settings."""
    from lineside.edge import check_bus
    from lineside.edge import enrol as enrol_device

    clock = SystemClock()
    done = enrol_device(hub, code, data_dir=data_dir, config=config, clock=clock, say=say)
    check_bus(load_edge(done.config).config, clock=clock)
    say("bus: it lets this device in")
    show(done, as_json=as_json, text=lambda made: f"lineside edge --config {made.config}")


def list_devices(
    q: Annotated[str, typer.Option(help="A part of the name.")] = "",
    group: Annotated[str, typer.Option(help="Only of this group.")] = "",
    state: Annotated[
        Literal["online", "silent", "offline", "never", "revoked"] | None,
        typer.Option(help="Only in this state."),
    ] = None,
    after: Annotated[str, typer.Option(help="Only names behind this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="How many at most.")] = _MOST,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List devices with certificate, groups and what they told last."""
    from lineside.hub import DeviceQuery, open_inventory

    query = DeviceQuery(text=q, group=group, state=state or "", after=after, limit=limit)
    with open_inventory(settings(config), clock=SystemClock()) as inventory:
        page = inventory.page(query)
    show(page.items, as_json=as_json, text=lambda found: table([_HEAD, *map(_row, found)]))
    if page.following:
        say(f"there are more: --after {page.following}")


_HEAD = ("name", "state", "heard", "version", "packages", "waiting", "certificate", "groups")
_TOLD = ("packages", "waiting")


def _row(line: "DeviceSummary") -> tuple[str, ...]:
    ends = line.certificate_ends_at
    return (
        line.id, line.state, rfc3339(line.at)[:19] if line.at else "never", line.version,
        str(len(line.packages)), str(line.spool_depth),
        f"{ends:%Y-%m-%d}" if ends else "none", ",".join(line.groups),
    )  # fmt: skip


def show_device(device: Device, config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Show one device: certificate, packages, jobs."""
    from lineside.hub import open_inventory

    with open_inventory(settings(config), clock=SystemClock()) as inventory:
        found = inventory.one(device)
    show(found, as_json=as_json, text=_text)


def _text(found: "DeviceDetails") -> str:
    rows: list[tuple[str, ...]] = list(zip(_HEAD, _row(found.line), strict=True))
    if found.line.state == "offline":
        rows = [(key, f"{told} (as last reported)" if key in _TOLD else told) for key, told in rows]
    if found.enrolled is not None and found.line.certified:
        rows += [
            ("enrolled", f"{rfc3339(found.enrolled.enrolled_at)} by {found.enrolled.enrolled_by}"),
            ("serial", found.enrolled.serial),
            ("lines", ",".join(found.enrolled.lines)),
        ]
    if found.enrolled is not None and not found.enrolled.active:
        rows.append(("revoked", f"by {found.enrolled.revoked_by}: {found.enrolled.reason}"))
    rows += [("job", f"{job.job_id} {job.status}") for job in found.jobs]
    return table(rows)


def renew(config: EdgeOption = None) -> None:
    """Renew this device's certificate now; the agent does so by itself when it is due."""
    from lineside.edge import renew as renew_device

    if config is None:
        raise InvalidError(
            "no configuration named", where="--config", fix="Name the device's TOML file."
        )
    say(f"renewed: good until {renew_device(load_edge(config).config)}")


def revoke(
    device: Device,
    reason: Annotated[str, typer.Option(help="Why; stands in the event and in its row.")],
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a device out: bus, hub and job service refuse it from now on."""
    from lineside.hub import open_inventory

    ask(f"Revoke {device}?", yes=yes)
    with open_inventory(settings(config), clock=SystemClock()) as inventory:
        inventory.enrolment.revoke(device, by=by, reason=reason)
    say(f"revoked {device}")


def group_device(
    device: Device,
    groups: Annotated[
        list[str] | None, typer.Argument(help="All its groups; none: in none.")
    ] = None,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
) -> None:
    """Say which groups a device is in, all of them."""
    from lineside.hub import open_inventory

    with open_inventory(settings(config), clock=SystemClock()) as inventory:
        found = inventory.enrolment.set_groups(device, groups or (), by=by)
    say(f"{device} is in {', '.join(found) or 'no group'}")
