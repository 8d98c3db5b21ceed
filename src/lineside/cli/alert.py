"""``lineside alert``: alerts of a running hub, and their acknowledgement."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, show, table
from lineside.cli.rollout import HubOption, TokenOption, hub_client

AlertId = Annotated[str, typer.Argument(metavar="ALERT", help="Its id, as list has it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Alerts of the site and their history.", no_args_is_help=True)
    group.command("list")(list_alerts)
    group.command("acknowledge")(acknowledge)
    app.add_typer(group, name="alert")


def list_alerts(
    *, closed: Annotated[bool, typer.Option("--closed", help="Those that are over.")] = False,
    hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """List open alerts with cause, object and reason; those nobody acknowledged first."""
    client = hub_client(hub, token=token, config=config)
    found = client.items(f"/alerts?state={'closed' if closed else 'open'}")
    show({"alerts": found}, as_json=as_json, text=_alerts_text)


def acknowledge(
    alert: AlertId, *,
    note: Annotated[str, typer.Option("--note", help="What was seen or done.")] = "",
    hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Say that somebody looks after an alert."""
    client = hub_client(hub, token=token, config=config)
    client.post(f"/alerts/{quote(alert, safe='')}/acknowledge", {"note": note})


def _alerts_text(found: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("alert", "cause", "object", "since", "acknowledged", "reason")]
    rows += [
        (one["id"], one["cause"], one["object"], one["since"], one["acknowledged_by"] or "no",
         one["reason"])
        for one in found["alerts"]
    ]  # fmt: skip
    return table(rows) if found["alerts"] else "No alerts."
