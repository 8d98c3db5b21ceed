"""``lineside backup | restore | doctor | trace``: what the hub keeps, from outside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, say, show
from lineside.core import SystemClock

if TYPE_CHECKING:
    from lineside.hub import HubConfig


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("doctor")(doctor)
    app.command("trace")(trace)


def backup(
    to: Annotated[Path, typer.Option(help="The archive to write; must not exist.")],
    config: ConfigOption = None,
) -> None:
    """Write one archive of everything the hub keeps; the hub may run meanwhile."""
    from lineside.fleet.trust.files import held_still
    from lineside.store import backup as write
    from lineside.store import open_blobs, open_records

    hub = settings(config)
    clock = SystemClock()
    kept = {name: place for name, place in _site_folders(hub).items() if place.is_dir()}
    with open_records(hub.records_url, clock=clock) as records:
        blobs = open_blobs(hub.blobs_url)
        try:
            write(
                records, blobs, to=to, extra={"plant.toml": Path(hub.plant), **kept},
                held=lambda: held_still(*kept.values()),
            )  # fmt: skip
        finally:
            blobs.close()
    say(f"written: {to}")


def restore(
    archive: Annotated[Path, typer.Argument(help="An archive that backup wrote.")],
    config: ConfigOption = None,
) -> None:
    """Fill an empty hub from an archive; every digest and chain is verified."""
    from lineside.store import restore as read

    hub = settings(config)
    hub.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    read(
        archive,
        records_url=hub.records_url,
        blobs_url=hub.blobs_url,
        clock=SystemClock(),
        extra=_site_folders(hub),
    )
    say(f"restored into {hub.data_dir}")


def _site_folders(hub: "HubConfig") -> dict[str, Path]:
    """What the site signs with: the update repository, and the authority of its devices."""
    return {"trust": hub.trust_folder, "authority": hub.authority_folder}


def doctor(
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every picture and package that is kept.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check settings, plant file, certificates, store, chains and space, each with its fix."""
    from lineside.cli.health import examine

    checks = examine(settings(config), deep=deep)
    show(
        {"checks": checks},
        as_json=as_json,
        text=lambda found: "\n".join(str(check) for check in found["checks"]),
    )
    if not all(check.ok for check in checks):
        raise typer.Exit(2)


def trace(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="An event's or frame's id.")],
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Walk an event or frame back to picture, package, data and approver; prove the chain."""
    from lineside.hub import trace as walk
    from lineside.store import open_records

    clock = SystemClock()
    with open_records(settings(config).records_url, clock=clock) as records:
        found = walk(records, identifier)
    show(
        found,
        as_json=as_json,
        text=lambda result: "\n".join(
            [f"chain {'holds' if result.chain_ok else 'is BROKEN'}"]
            + [f"  {step.kind}: {step.text}" for step in result.steps]
        ),
    )
    if not found.chain_ok:
        raise typer.Exit(5)
