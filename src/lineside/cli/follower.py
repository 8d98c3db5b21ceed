"""``lineside follower``: what follows a running hub's log, and the records it set aside."""

from typing import Annotated
from urllib.parse import quote

import typer

from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, add_commands, show
from lineside.cli.running_hub import HubOption, TokenOption, argument, hub_client, listing
from lineside.core import InvalidError

Name = Annotated[str, typer.Argument(metavar="FOLLOWER", help="Its name, as list has it.")]
Position = Annotated[
    int, typer.Option("--position", min=0, help="Of one record in the log.", show_default="all")
]


_SUMMARY = "{name}: {quarantined} in quarantine".format_map
_LIST = listing(
    "/followers", "Show each follower's state, position, lag and number of quarantined records.",
    key="followers", none="No follower.",
    head=("follower", "state", "position", "lag", "quarantined", "waits for"),
    row=lambda one: (
        one["name"], one["state"], one["position"],
        f"{one['lag']} ({one['lag_s']:.0f} s)" if one["lag"] else "0", one["quarantined"],
        one["reason"],
    ),
)  # fmt: skip
_QUARANTINE = listing(
    "/followers/{follower}/quarantine",
    "List the records that a follower could not handle, oldest first, with the reason.",
    key="records", none="Nothing is quarantined.",
    head=("position", "event", "subject", "tries", "reason"),
    row=lambda one: (
        one["position"], one["event"], one["subject"], f"{one['tries']}x", one["reason"]
    ),
    follower=argument("FOLLOWER", "Its name, as list has it."),
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "follower", "Followers of the event log and their quarantines.", {
        "list": _LIST, "quarantine": _QUARANTINE, "retry": retry, "discard": discard,
    })  # fmt: skip


def retry(
    follower: Name, *, position: Position = 0, hub: HubOption = "", token: TokenOption = None,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Try quarantined records again, within a second; what fails again stays."""
    found = hub_client(hub, token=token, config=config).post(_path(follower, position, "retry"))
    show(found, as_json=as_json, text=_SUMMARY)


def discard(
    follower: Name, *, position: Position = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Discard all of them.")] = False,
    hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Discard quarantined records; their events stay in the log."""
    if not position and not yes:
        raise InvalidError(
            "this discards every record in the quarantine", where=follower,
            fix="Name one with --position, or add --yes.",
        )  # fmt: skip
    found = hub_client(hub, token=token, config=config).post(_path(follower, position, "discard"))
    show(found, as_json=as_json, text=_SUMMARY)


def _path(follower: str, position: int, action: str) -> str:
    one = f"/{position}" if position else ""
    return f"/followers/{quote(follower, safe='')}/quarantine{one}/{action}"
