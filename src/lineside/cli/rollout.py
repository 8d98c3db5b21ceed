"""``lineside rollout``: releases on their way to devices, ordered at a running hub."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, add_commands, read_file, show, table
from lineside.cli.running_hub import REASON, HubOption, TokenOption, argument, hub_client, post
from lineside.core import decode_json, short
from lineside.core.ids import split_version

_BOOK = "docs/reference/rollouts.md"
_ROLLOUT = argument("ROLLOUT", "Its id.")
_ORDERS = {
    "pause": "Let no further device begin; what is under way goes on.",
    "resume": "Go on where it was paused.",
    "abort": "End it; devices keep what they have.",
    "rollback": "Lead devices back to the package before; recorded as ordered by the token's name.",
}
Reason = Annotated[str, typer.Option(help="Why; stands in the event.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    orders = {
        name: post(f"/rollouts/{{id}}/{name}", line, text=_words, id=_ROLLOUT, reason=REASON)
        for name, line in _ORDERS.items()
    }
    add_commands(app, "rollout", "Releases on their way to devices.", {
        "start": start, "status": status, **orders,
    })  # fmt: skip


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
    name, number = split_version(version)
    wished = _plan(plan, group=group, devices=device or [], canary=canary, frames=frames)
    client = hub_client(hub, token=token, config=config)
    body = {
        "inspection" if limits else "group": name, "version": number, "plan": wished,
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
        _show(client.get(f"/rollouts/{quote(rollout, safe='')}"), as_json=as_json)
        return
    found = client.items("/rollouts")
    rows = [
        (one["id"], f"{one['release']['group']}/{one['release']['version']}", one["state"],
         one["why"])
        for one in found
    ]  # fmt: skip
    text = table([("rollout", "version", "state", "why"), *rows]) if rows else "no rollout yet"
    show({"rollouts": found}, as_json=as_json, text=lambda _: text)


def _plan(
    path: Path | None, *, group: str, devices: list[str], canary: int, frames: int
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if path is not None:
        given = decode_json(read_file(path), where=str(path))
    if group:
        given["group"] = group
    if devices:
        given["devices"] = devices
    if canary:
        given["steps"] = [{"canary": canary}, {"percent": 100}]
    if frames:
        given["limits"] = {**given.get("limits", {}), "frames": frames}
    return given


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
