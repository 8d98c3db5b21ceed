"""``lineside follower``: what follows a running hub's log, and the records it set aside."""

from typing import Annotated, Any

import typer

from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, show, table
from lineside.cli.rollout import HubOption, TokenOption, hub_client
from lineside.core import InvalidError

Name = Annotated[str, typer.Argument(metavar="FOLLOWER", help="Its name, as list has it.")]
Position = Annotated[
    int, typer.Option("--position", min=0, help="Of one record in the log.", show_default="all")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Followers of the event log and their quarantines.", no_args_is_help=True
    )
    group.command("list")(list_followers)
    group.command("quarantine")(quarantine)
    group.command("retry")(retry)
    group.command("discard")(discard)
    app.add_typer(group, name="follower")


def list_followers(
    *, hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Show each follower's state, position, lag and number of quarantined records."""
    found = hub_client(hub, token=token, config=config).items("/followers")
    show({"followers": found}, as_json=as_json, text=_followers_text)


def quarantine(
    follower: Name, *, hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """List the records that a follower could not handle, oldest first, with the reason."""
    client = hub_client(hub, token=token, config=config)
    found = client.items(f"/followers/{follower}/quarantine")
    show({"records": found}, as_json=as_json, text=_records_text)


def retry(
    follower: Name, *, position: Position = 0, hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """Try quarantined records again, within a second; what fails again stays."""
    hub_client(hub, token=token, config=config).post(_path(follower, position, "retry"))


def discard(
    follower: Name, *, position: Position = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Discard all of them.")] = False,
    hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Discard quarantined records; their events stay in the log."""
    if not position and not yes:
        raise InvalidError(
            "this discards every record in the quarantine", where=follower,
            fix="Name one with --position, or add --yes.",
        )  # fmt: skip
    hub_client(hub, token=token, config=config).post(_path(follower, position, "discard"))


def _path(follower: str, position: int, action: str) -> str:
    one = f"/{position}" if position else ""
    return f"/followers/{follower}/quarantine{one}/{action}"


def _followers_text(found: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        ("follower", "state", "position", "lag", "quarantined", "waits for")
    ]
    for one in found["followers"]:
        lag = f"{one['lag']} ({one['lag_s']:.0f} s)" if one["lag"] else "0"
        rows.append(
            (one["name"], one["state"], str(one["position"]), lag, str(one["quarantined"]),
             one["reason"])
        )  # fmt: skip
    return table(rows)


def _records_text(found: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        (str(one["position"]), one["event"], one["subject"], f"{one['tries']}x", one["reason"])
        for one in found["records"]
    ]
    return table(rows) or "Nothing is quarantined."
