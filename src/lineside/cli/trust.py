"""``lineside trust``: the update repository's keys, roles and what they sign."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, add_commands, say, show, table, writable
from lineside.core import InvalidError, NotFoundError, SystemClock

if TYPE_CHECKING:
    from lineside.fleet import UpdateRepository
    from lineside.fleet.trust.roles import DeviceGroup, TrustView

KeysOption = Annotated[
    Path | None, typer.Option(help="Folder of the offline keys; default: keys in data_dir.")
]
PhraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File with the keys' passphrase.")
]
_LEAST_PHRASE = 8


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "trust", "Who may sign packages, and with which keys.", {
        "init": init, "show": show_trust, "renew": renew, "rotate": rotate, "group": add_group,
        "allow-rollback": allow_rollback, "withdraw": withdraw, "root": root,
    })  # fmt: skip


@contextmanager
def repository(config: Path | None) -> "Iterator[UpdateRepository]":
    """The hub's update repository, opened for one command; the hub may run meanwhile."""
    from lineside.fleet import UpdateRepository
    from lineside.store import open_blobs

    hub = settings(config)
    blobs = open_blobs(hub.blobs_url)
    try:
        opened = UpdateRepository(hub.trust_folder, clock=SystemClock(), read=blobs.get)
        if not opened.exists():
            raise NotFoundError(
                "no update repository", where=str(hub.trust_folder), fix="lineside trust init."
            )
        yield opened
    finally:
        blobs.close()


def init(
    keys: KeysOption = None,
    root_keys: Annotated[int, typer.Option(help="How many root keys there are.")] = 3,
    threshold: Annotated[int, typer.Option(help="How many of them must sign a root.")] = 2,
    group: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MODEL,MODEL: a role of its own for a group of devices."),
    ] = None,
    passphrase_file: PhraseOption = None,
    config: ConfigOption = None,
) -> None:
    """Make the update repository and its keys; the keys' folder is meant to leave the machine."""
    from lineside.fleet import create_repository
    from lineside.fleet.trust.roles import NewTrust

    hub = settings(config)
    wished = NewTrust(
        root_keys=root_keys, threshold=threshold, groups=tuple(map(_group, group or [])),
        passphrase=_phrase(passphrase_file),
    )  # fmt: skip
    folder = _keys(keys, config)
    create_repository(
        hub.trust_folder, keys=folder, clock=SystemClock(), read=_no_archive, settings=wished
    )
    say(f"made {hub.trust_folder}")
    say(f"keys of root and targets: {folder}; take them off this machine, in two places")


def show_trust(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Show every role with its keys and expiry, what is signed, and what needs a person."""
    with repository(config) as opened:
        found = opened.show()
    show(found, as_json=as_json, text=_text)


def _text(found: "TrustView") -> str:
    rows: list[tuple[str, ...]] = [("role", "version", "expires", "keys", "signs")]
    rows += [
        (
            role.role, str(role.version), f"{role.expires:%Y-%m-%d}",
            f"{role.threshold} of {', '.join(key[:12] for key in role.keys)}",
            f"{role.targets}: {', '.join(role.paths)}" if role.paths else "",
        )
        for role in found.roles
    ]  # fmt: skip
    warnings = [f"warning: {warning}" for warning in found.warnings]
    return "\n".join([table(rows), "", *found.targets, *warnings])


def renew(
    role: Annotated[
        Literal["online", "root", "targets"], typer.Argument(help="What to sign again.")
    ] = "online",
    keys: KeysOption = None,
    passphrase_file: PhraseOption = None,
    config: ConfigOption = None,
) -> None:
    """Sign again before it expires: the hub's own roles, or root or targets with their keys."""
    with repository(config) as opened:
        if role == "online":
            say(f"signed again: {', '.join(opened.renew()) or 'nothing was due'}")
            return
        phrase = _phrase(passphrase_file)
        version = opened.renew_offline(role, keys=_keys(keys, config), passphrase=phrase)
    say(f"{role} is version {version}")


def rotate(
    role: Annotated[
        str, typer.Argument(help="root, targets, snapshot, timestamp, default or a group.")
    ],
    lost: Annotated[
        str, typer.Option(help="Of the root's keys, the only one to replace (its id's start).")
    ] = "",
    keys: KeysOption = None,
    passphrase_file: PhraseOption = None,
    config: ConfigOption = None,
) -> None:
    """Give a role new keys; the old ones are worth nothing to devices from then on."""
    folder = _keys(keys, config)
    with repository(config) as opened:
        phrase = _phrase(passphrase_file)
        added = opened.rotate(role, keys=folder, passphrase=phrase, lost=lost)
    say(f"{role} has new keys: {', '.join(key[:12] for key in added)}")
    if role in ("root", "targets"):
        say(f"they are in {folder}; copy them to where the others are, destroy the old ones")


def add_group(
    group: Annotated[str, typer.Argument(metavar="NAME=MODEL,MODEL", help="Devices and models.")],
    keys: KeysOption = None,
    passphrase_file: PhraseOption = None,
    config: ConfigOption = None,
) -> None:
    """Give a group of devices a role of its own for some models; nobody else signs these then."""
    made = _group(group)
    with repository(config) as opened:
        phrase = _phrase(passphrase_file)
        opened.add_group(made, keys=_keys(keys, config), passphrase=phrase)
    say(f"{made.name} signs {', '.join(made.paths)}")


def allow_rollback(
    name: Annotated[str, typer.Argument(metavar="GROUP/VERSION|DIGEST|TARGET", help="To where.")],
    from_version: Annotated[str, typer.Option(help="From which version.")],
    config: ConfigOption = None,
) -> None:
    """Sign that devices may go back to a package from a newer version."""
    with repository(config) as opened:
        target = opened.allow_rollback(opened.find(name).path, from_version=from_version)
    say(f"{target.path} may be gone back to from {from_version}")


def withdraw(
    name: Annotated[str, typer.Argument(metavar="GROUP/VERSION|DIGEST|TARGET", help="What.")],
    config: ConfigOption = None,
) -> None:
    """Sign a package no more: devices that run it go on, no other takes it."""
    with repository(config) as opened:
        path = opened.find(name).path
        opened.withdraw(path)
    say(f"{path} is signed no more")


def root(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    config: ConfigOption = None,
) -> None:
    """Write the root that devices trust from enrolment on, to be carried to one by hand."""
    writable(to)
    with repository(config) as opened:
        to.write_bytes(opened.first_root())
    say(f"written: {to}")


def _group(text: str) -> "DeviceGroup":
    from lineside.fleet.trust.roles import DeviceGroup

    name, _, models = text.partition("=")
    return DeviceGroup(name=name, models=tuple(models.split(",")) if models else ())


def _keys(keys: Path | None, config: Path | None) -> Path:
    return keys if keys is not None else settings(config).keys_folder


def _phrase(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        phrase = path.read_bytes().rstrip(b"\r\n")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(
            "no file", where=str(path), fix="Name the file that holds the passphrase."
        ) from error
    if len(phrase) < _LEAST_PHRASE:
        raise InvalidError(
            f"a passphrase of {len(phrase)} characters",
            where=str(path),
            fix=f"Use {_LEAST_PHRASE} or more.",
        )
    return phrase


def _no_archive(digest: str) -> bytes:
    raise NotFoundError("nothing is published yet", where=digest)
