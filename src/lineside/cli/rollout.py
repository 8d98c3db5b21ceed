"""``lineside rollout``: releases on their way to devices, ordered at a running hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, show, table
from lineside.core import InvalidError, NotFoundError, UnavailableError, decode_json, short

if TYPE_CHECKING:
    from lineside.library.client import HubClient

ADDRESS_FILE = "hub.json"
_BOOK = "docs/reference/rollouts.md"
Name = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Its id.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the event.")]
HubOption = Annotated[str, typer.Option("--hub", help="Address; left out: the hub of --config.")]
TokenOption = Annotated[
    Path | None, typer.Option("--token", help="File with a token; left out: the hub's own.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Releases on their way to devices.", no_args_is_help=True)
    group.command("start")(start)
    group.command("status")(status)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("abort")(abort)
    group.command("rollback")(rollback)
    app.add_typer(group, name="rollout")


def start(
    version: Annotated[str, typer.Argument(metavar="GROUP/NUMBER", help="An approved version.")],
    *,
    plan: Annotated[
        Path | None, typer.Option(help=f"JSON file with steps, limits, windows; see {_BOOK}.")
    ] = None,
    group: Annotated[str, typer.Option(help="For the devices of this group.")] = "",
    device: Annotated[list[str] | None, typer.Option(help="For this device; again for more.")] = (
        None
    ),
    canary: Annotated[
        int,
        typer.Option(
            help="First for so many, then for all.",
            show_default="the plan's; without one 1 device, 25 %, 100 %",
        ),
    ] = 0,
    frames: Annotated[
        int,
        typer.Option(
            help="Judged by both packages on each device.",
            show_default="the plan's; without one 200",
        ),
    ] = 0,
    back: Annotated[
        bool,
        typer.Option("--rollback", help="Devices that run a newer version go back to this one."),
    ] = False,
    inspection: Annotated[
        str,
        typer.Option(
            help="Which it answers for, of its task and labels.",
            show_default="that of its approval",
        ),
    ] = "",
    limits: Annotated[
        bool,
        typer.Option(
            "--limits", help="INSPECTION/NUMBER: a version of its operating point in waves."
        ),
    ] = False,
    preview: Annotated[
        bool, typer.Option(help="Show the devices of each step, and begin nothing.")
    ] = False,
    reason: Reason = "",
    hub: HubOption = "",
    token: TokenOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Roll an approved version out, step by step; recorded as ordered by the token's name."""
    name, slash, number = version.rpartition("/")
    if not slash or not number.isdecimal():
        raise InvalidError(
            f"{version!r} is no version", where="version", fix="Write GROUP/NUMBER, as tiles/3."
        )
    wished = _plan(plan, group=group, devices=device or [], canary=canary, frames=frames)
    client = hub_client(hub, token=token, config=config)
    body = {
        "inspection" if limits else "group": name, "version": int(number), "plan": wished,
        "reason": reason, "rollback": back,
    }  # fmt: skip
    if inspection and not limits:
        body["inspection"] = inspection
    if preview:
        view = client.post("/rollouts/preview", body)
        show(view, as_json=as_json, text=lambda _: _words(view, head=f"preview: {version}"))
        return
    made = client.post("/rollouts", body)
    _show(client.get(f"/rollouts/{made['id']}"), as_json=as_json)


def status(
    rollout: Annotated[
        str, typer.Argument(metavar="[ROLLOUT]", help="Its id; left out: all of them.")
    ] = "",
    *,
    hub: HubOption = "",
    token: TokenOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one rollout with its devices, or all of them, newest first."""
    client = hub_client(hub, token=token, config=config)
    if rollout:
        _show(client.get(f"/rollouts/{rollout}"), as_json=as_json)
        return
    found = client.items("/rollouts")
    rows = [
        (one["id"], f"{one['release']['group']}/{one['release']['version']}", one["state"],
         one["why"])
        for one in found
    ]  # fmt: skip
    text = table([("rollout", "version", "state", "why"), *rows]) if rows else "no rollout yet"
    show({"rollouts": found}, as_json=as_json, text=lambda _: text)


def pause(
    rollout: Name, *, reason: Reason = "", hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Let no further device begin; what is under way goes on."""
    _order(rollout, "pause", reason, hub_client(hub, token=token, config=config), as_json=as_json)


def resume(
    rollout: Name, *, reason: Reason = "", hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Go on where it was paused."""
    _order(rollout, "resume", reason, hub_client(hub, token=token, config=config), as_json=as_json)


def abort(
    rollout: Name, *, reason: Reason = "", hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """End it; devices keep what they have."""
    _order(rollout, "abort", reason, hub_client(hub, token=token, config=config), as_json=as_json)


def rollback(
    rollout: Name, *, reason: Reason = "", hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Lead devices back to the package before; recorded as ordered by the token's name."""
    _order(
        rollout, "rollback", reason, hub_client(hub, token=token, config=config), as_json=as_json
    )


def _order(rollout: str, order: str, reason: str, client: "HubClient", *, as_json: bool) -> None:
    _show(client.post(f"/rollouts/{rollout}/{order}", {"reason": reason}), as_json=as_json)


def _plan(
    path: Path | None, *, group: str, devices: list[str], canary: int, frames: int
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise NotFoundError("no such file", where=str(path), fix="Name the plan's file.")
        given = decode_json(path.read_bytes(), where=str(path))
    if group:
        given["group"] = group
    if devices:
        given["devices"] = devices
    if canary:
        given["steps"] = [{"canary": canary}, {"percent": 100}]
    if frames:
        given["limits"] = {**given.get("limits", {}), "frames": frames}
    return given


def hub_client(hub: str, *, token: Path | None, config: Path | None) -> "HubClient":
    """Return a client of the hub at an address, or of the one that runs by these settings.

    Raises:
        UnavailableError: no hub runs on this data folder.
    """
    from lineside.library.client import HubClient

    if hub and token is not None:
        return HubClient(hub, token=token.read_text().strip())
    found = settings(config)
    address = found.folder / ADDRESS_FILE
    if not hub and not address.is_file():
        raise UnavailableError(
            "no hub runs on this data folder", where=str(found.folder),
            fix="Start it, or name another with --hub and --token.",
        )  # fmt: skip
    url = hub or str(decode_json(address.read_bytes(), where=str(address))["url"])
    file = token or found.folder / "tokens" / "admin.token"
    # Behind a certificate of its own (tls_cert), the usual authorities vouch for this hub.
    ca = found.folder / "authority" / "authority.crt" if hub or found.tls else None
    return HubClient(url, token=file.read_text().strip(), ca=ca)


def _show(view: dict[str, Any], *, as_json: bool) -> None:
    show(view, as_json=as_json, text=lambda _: _words(view))


def _words(view: dict[str, Any], *, head: str = "") -> str:
    release = view["release"]
    name = f"{release['group']}/{release['version']}"
    head = head or f"{view['id']} {name} {view['state']}: {view['why']}"
    rows = [
        (one["id"], str(one["step"]), one["status"], short(one["package"]), _figures(one))
        for one in view["devices"]
    ]
    until = f", until {view['waits_until']}" if view.get("waits_until") else ""
    point = view.get("operating_point")
    limits = f"operating point {point}" if point else "the package's own"
    lines = [head, f"waits: {view['waits'] or 'nothing'}{until}", f"limits: {limits}"]
    lines += [view["guard"], *view["reasons"]]
    if rows:
        lines.append(table([("device", "step", "status", "runs", "evidence"), *rows]))
    return "\n".join(lines)


def _figures(device: dict[str, Any]) -> str:
    if device["report"] is None:
        return ""
    report, found = device["report"], device["report"]["evidence"]
    if not report["old"]:
        seen = f"{found['frames']} frames seen" if found["frames"] else "no frame yet"
        words = f"{seen}; nothing ran before, so nothing is compared"
    elif not found["frames"]:
        words = "no frame yet"
    else:
        words = f"{found['changed']} of {found['frames']} frames decided otherwise"
    return f"{words}, {found['crashes']} crashes" if found["crashes"] else words
