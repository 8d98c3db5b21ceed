"""``lineside check``, ``plant`` and ``camera``: a plant file, its versions, cameras for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import COMMAND_LINE, JsonFlag, add_commands, say, show, table, writable
from lineside.cli.running_hub import HubOption, TokenOption, hub_client
from lineside.core import (
    Fault,
    InvalidError,
    LinesideError,
    SystemClock,
    UnavailableError,
    load_plant,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.core.errors import MissingExtraError
from lineside.core.plant_check import plant_schema

if TYPE_CHECKING:
    from lineside.hub.setup.versions import PlantVersions

Number = Annotated[int, typer.Argument(help="Of the version; lineside plant history.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the history.")]
By = Annotated[str, typer.Option(help="Who does this; stands in the history.")]
_ONVIF = "ONVIF"
_Row = dict[str, str | tuple[str, ...]]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check")(check)
    add_commands(app, "plant", "The plant file's form and versions.", {
        "schema": schema, "history": history, "diff": diff, "apply": apply, "rollback": rollback,
        "restore": restore,
    })  # fmt: skip
    add_commands(app, "camera", "Cameras that this machine or the hub can reach.", {
        "list": list_cameras, "test": take_test_picture,
    })  # fmt: skip


def take_test_picture(
    source: Annotated[
        SecretUrl,
        typer.Argument(
            parser=SecretUrl,
            metavar="SOURCE",
            help=(
                "As in the plant file, with … in place of the secret of --camera; - reads it from "
                "standard input. Other users of this machine see a password that is written here."
            ),
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the picture here.")],
    camera: Annotated[str, typer.Option(help="Whose secret counts.")] = "",
    hub: HubOption = "",
    token: TokenOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a running hub take a test picture of a network or USB camera; nothing is kept."""
    writable(out)
    whole = source.reveal()
    body = {"source": sys.stdin.readline().strip() if whole == "-" else whole, "camera": camera}
    taken = hub_client(hub, token=token, config=config).post_bytes("/cameras/test", body)
    out.write_bytes(taken)
    found = {"file": str(out), "bytes": len(taken)}
    show(found, as_json=as_json, text="{file}: {bytes} bytes".format_map)


def list_cameras(as_json: JsonFlag = False) -> None:
    """Find GigE Vision, USB3 Vision and ONVIF cameras, and print a ``source`` for each."""
    searches = (
        ("GigE Vision and USB3 Vision cameras", _genicam_cameras),
        ("ONVIF cameras", _onvif_cameras),
    )
    found, failures = list[_Row](), list[LinesideError]()
    for kind, search in searches:
        try:
            found += search()
        except (MissingExtraError, UnavailableError) as error:
            failures.append(error)
            say(f"{kind} were not searched for: {error.message}. {error.fix}")
    if len(failures) == len(searches):
        raise failures[-1]
    show(found, as_json=as_json, text=_camera_table)


def _genicam_cameras() -> list[_Row]:
    from lineside.links.camera_aravis import find_cameras

    return [
        {
            "source": f"aravis://{id_}", "address": address, "protocol": protocol, "name": name,
            "services": (),
        }
        for id_, address, protocol, name in find_cameras()
    ]  # fmt: skip


def _onvif_cameras() -> list[_Row]:
    from lineside.links.onvif import find_onvif_cameras

    return [
        {
            "source": f"rtsp://USER:PASSWORD@{address}/PATH", "address": address,
            "protocol": _ONVIF, "name": name if hardware in name else f"{name} {hardware}".strip(),
            "services": services,
        }
        for address, name, hardware, services in find_onvif_cameras(clock=SystemClock())
    ]  # fmt: skip


def _camera_table(found: list[_Row]) -> str:
    if not found:
        return "no camera answers"
    columns = ("source", "address", "protocol", "name")
    text = table([columns, *(tuple(str(one[column]) for column in columns) for one in found)])
    if any(one["protocol"] == _ONVIF for one in found):
        text += (
            "\nAn ONVIF camera tells its RTSP path only after a login: take PATH from its manual"
            " or its own page, and put USER and PASSWORD in."
        )
    return text


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


@contextmanager
def versions(config: Path | None) -> "Iterator[PlantVersions]":
    """The hub's versions of its plant file, opened for one command."""
    from lineside.hub.run import hub_id
    from lineside.hub.setup.versions import open_plant_versions

    hub, clock = settings(config), SystemClock()
    name = hub_id(hub.folder, clock=clock)
    with open_plant_versions(
        hub.records_url, path=Path(hub.plant), hub=name, clock=clock,
        faults=hub.plant_faults,
    ) as opened:  # fmt: skip
        yield opened


def history(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """List the versions of the plant file, newest first, and whether it was changed by hand."""
    with versions(config) as opened:
        found, file = opened.page(limit=1000), opened.file()
    rows = [
        (str(one.number), rfc3339(one.at)[:16], one.by, one.action, one.reason) for one in found
    ]
    text = table([("version", "at", "by", "action", "reason"), *rows])
    if file["by_hand"]:
        text += "\nThe file was changed by hand: lineside plant apply, or lineside plant restore."
    show({"versions": found, "file": file}, as_json=as_json, text=lambda _: text)


def diff(number: Number, config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Show the lines that a version changed."""
    with versions(config) as opened:
        lines = opened.diff(number)
    show({"diff": lines}, as_json=as_json, text=lambda found: "\n".join(found["diff"]))


def apply(
    reason: Reason,
    file: Annotated[
        Path | None, typer.Argument(help="The new file; without it, the hub's own as it stands.")
    ] = None,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
    base: Annotated[
        int, typer.Option(min=0, help="Version that was edited; refused where a newer one is.")
    ] = 0,
) -> None:
    """Make a plant file the next version; a running hub applies it within a second."""
    with versions(config) as opened:
        if file is None:
            made = opened.adopt(by=by, reason=reason, base=base)
        else:
            made = opened.change(text=file.read_text(), by=by, reason=reason, base=base)
    say(f"version {made.number} is in force")


def rollback(
    number: Number, reason: Reason, config: ConfigOption = None, by: By = COMMAND_LINE
) -> None:
    """Make an earlier version the next one."""
    with versions(config) as opened:
        made = opened.roll_back(number, by=by, reason=reason)
    say(f"version {made.number} is in force, with the text of version {number}")


def restore(config: ConfigOption = None) -> None:
    """Write the version in force over a plant file that was changed by hand."""
    with versions(config) as opened:
        written = opened.restore()
    say(f"version {written.number} is in the file again")
