"""``lineside user`` and ``lineside token``: who may sign in, and what programs may ask."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.hub import By, ConfigOption, accounts
from lineside.cli.output import (
    COMMAND_LINE,
    JsonFlag,
    add_commands,
    ask,
    read_password,
    say,
    show,
    table,
)
from lineside.core import rfc3339

if TYPE_CHECKING:
    from lineside.hub import TokenInfo, User

RoleName = Literal["viewer", "operator", "engineer", "approver", "admin"]
Name = Annotated[str, typer.Argument(help="Of the user.")]
TokenName = Annotated[str, typer.Argument(help="Of the program it is for.")]
RoleOption = Annotated[RoleName, typer.Option(help="What it may do: docs/reference/users.md.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="A file whose first line is the password; - reads it from standard input.",
        allow_dash=True,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "user", "People who sign in.", {
        "add": add, "list": list_users, "role": role_of, "password": password, "remove": remove,
    })  # fmt: skip
    add_commands(app, "token", "Tokens of programs.", {
        "issue": issue, "list": list_tokens, "revoke": revoke,
    })  # fmt: skip


def add(
    name: Name,
    role: RoleOption = "viewer",
    password_file: PasswordFile = None,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
) -> None:
    """Add a user who signs in by name and password."""
    from lineside.hub import Role

    with accounts(config) as opened:
        made = opened.add(name, role=Role(role), password=read_password(password_file), by=by)
    say(f"added {made.name}, {made.role}")


def list_users(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """List users with their roles."""
    with accounts(config) as opened:
        found = opened.users()
    rows = [(one.name, str(one.role), rfc3339(one.added_at)[:10], one.added_by) for one in found]
    show(
        [_user(one) for one in found],
        as_json=as_json,
        text=lambda _: table([("name", "role", "added", "by"), *rows]),
    )


def _user(user: "User") -> dict[str, object]:
    """Without the password's hash."""
    return {
        "name": user.name,
        "role": user.role,
        "added_at": user.added_at,
        "added_by": user.added_by,
    }


def role_of(
    name: Name,
    role: Annotated[RoleName, typer.Argument(help="The new role.")],
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
) -> None:
    """Give a user another role; it holds from the next request on."""
    from lineside.hub import Role

    with accounts(config) as opened:
        changed = opened.set_role(name, role=Role(role), by=by)
    say(f"{changed.name} is {changed.role}")


def password(
    name: Name,
    password_file: PasswordFile = None,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
) -> None:
    """Set a user's password; every session of the user ends."""
    with accounts(config) as opened:
        opened.set_password(name, password=read_password(password_file), by=by)
    say(f"{name} has a new password; the sessions before it are over")


def remove(
    name: Name,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a user; what the user did stays in the log."""
    ask(f"Remove {name}?", yes=yes)
    with accounts(config) as opened:
        opened.remove(name, by=by)
    say(f"removed {name}")


def issue(
    name: TokenName,
    role: RoleOption = "viewer",
    kind: Annotated[
        Literal["api", "device", "ingest"],
        typer.Option(help="device: fetches packages; ingest: hands in messages. No role then."),
    ] = "api",
    days: Annotated[float, typer.Option(help="How long it holds; 0: until revoked.")] = 90.0,
    config: ConfigOption = None,
    by: By = COMMAND_LINE,
) -> None:
    """Issue a token for a program; it is printed once."""
    from lineside.hub import NewToken, Role

    with accounts(config) as opened:
        token = opened.issue(NewToken(name=name, kind=kind, role=Role(role), days=days), by=by)
    sys.stdout.write(token + "\n")


def list_tokens(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """List tokens and access keys without their secrets."""
    with accounts(config) as opened:
        found = opened.tokens()
    show(found, as_json=as_json, text=lambda tokens: table([_HEAD, *map(_row, tokens)]))


_HEAD = ("name", "kind", "role", "issued", "until")


def _row(token: "TokenInfo") -> tuple[str, ...]:
    until = rfc3339(token.ends_at)[:10] if token.ends_at else "until revoked"
    kind = f"{token.kind} {token.id}".strip()
    return token.name, kind, str(token.role or ""), rfc3339(token.issued_at)[:10], until


def revoke(name: TokenName, config: ConfigOption = None, by: By = COMMAND_LINE) -> None:
    """Take every token and access key of a name out of use."""
    with accounts(config) as opened:
        count = opened.revoke(name, by=by)
    say(f"revoked {count}")
