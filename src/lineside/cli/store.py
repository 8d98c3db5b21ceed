"""``lineside backup | restore | doctor | trace``: what the hub keeps, from outside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, say, show
from lineside.core import SystemClock

if TYPE_CHECKING:
    from lineside.hub import HubConfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lineside.core import Digest, LinesideError, load_plant

if TYPE_CHECKING:
    from lineside.hub import HubConfig
    from lineside.store import Blobs, Records


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
    from lineside.fleet.trust.repository import lock_folders
    from lineside.store import backup as write
    from lineside.store import open_blobs, open_records

    hub = settings(config)
    clock = SystemClock()
    present = {name: place for name, place in _site_folders(hub).items() if place.is_dir()}
    with open_records(hub.records_url, clock=clock) as records:
        blobs = open_blobs(hub.blobs_url)
        try:
            write(
                records, blobs, to=to, extra={"plant.toml": Path(hub.plant), **present},
                held=lambda: lock_folders(*present.values()),
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
    """Return the folders that the site signs with: update repository and device CA."""
    return {"trust": hub.trust_folder, "authority": hub.ca_folder}


def doctor(
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every picture and package that is kept.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check settings, plant file, certificates, store, chains and space, each with its fix."""
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


_NOT_BEGUN = "none yet; the hub makes them at its first start"
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def __str__(self) -> str:
        mend = f"  fix: {self.fix}" if self.fix else ""
        return f"{'ok ' if self.ok else 'BAD'} {self.name}: {self.found}{mend}"


def examine(config: "HubConfig", *, deep: bool = False) -> list[Check]:
    """Every check, in the order in which a broken one breaks the next.

    ``deep``: every picture and package is read, and held against its digest.
    """
    looks: list[tuple[str, Callable[[HubConfig], str]]] = [
        ("plant file", _plant),
        ("free space", _space),
        ("certificates", _certificates),
        ("update repository", _trust),
        ("records", _records),
        ("event chains", _chains),
        ("pictures and packages", partial(_blobs, deep=deep)),
    ]
    checks = [_look(name, look, config) for name, look in looks]
    return checks + [_look(name, look, config) for name, look in _others(config)]


def _others(config: "HubConfig") -> "list[tuple[str, Callable[[HubConfig], str]]]":
    """List the checks of what the settings configure besides the plant."""
    looks: list[tuple[str, Callable[[HubConfig], str]]] = []
    if config.kafka.brokers:
        looks.append(("Kafka", _kafka))
    looks += [(f"webhook {one.name}", partial(_webhook, name=one.name)) for one in config.webhook]
    if config.opcua:
        looks.append(("OPC UA", _opcua))
    return looks


def _kafka(config: "HubConfig") -> str:
    from lineside.links.kafka import probe_kafka

    return f"answers, brokers: {probe_kafka(config.kafka.place)}"


def _webhook(config: "HubConfig", *, name: str) -> str:
    from lineside.links.webhook import WebhookSender

    hook = next(one for one in config.webhook if one.name == name)
    return WebhookSender(hook.target).check()


def _opcua(config: "HubConfig") -> str:
    from lineside.core import InvalidError, need

    need("asyncua", extra="opcua")
    signed_in = (config.ca_folder / "authority.key").exists()
    if not (signed_in or config.opcua_anonymous):
        raise InvalidError(
            "nobody could sign in", fix="Run lineside hub init, or set opcua_anonymous = true."
        )
    ways = ["name and password"] * signed_in + ["anybody"] * config.opcua_anonymous
    return f"read by {' and '.join(ways)}"


def _look(name: str, look: "Callable[[HubConfig], str]", config: "HubConfig") -> Check:
    try:
        return Check(name=name, ok=True, found=look(config))
    except LinesideError as error:
        return Check(name=name, ok=False, found=error.message, fix=error.fix)


def _plant(config: "HubConfig") -> str:
    plant = load_plant(Path(config.plant))
    return f"{len(plant.camera)} cameras, {len(plant.inspection)} inspections"


def _certificates(config: "HubConfig") -> str:
    from lineside.hub import certificate_words

    return certificate_words(config, clock=SystemClock())


def _trust(config: "HubConfig") -> str:
    from lineside.core import UnavailableError
    from lineside.fleet import UpdateRepository

    repository = UpdateRepository(
        config.trust_folder, clock=SystemClock(), read=lambda digest: digest.encode()
    )
    if not repository.exists():
        return "none yet; the hub makes it at its first start"
    found = repository.show()
    if found.warnings:
        raise UnavailableError(found.warnings[0], fix="Renew it: docs/reference/trust.md.")
    keys = f"; take {config.keys_folder} off the machine" if config.keys_folder.exists() else ""
    return f"{len(found.targets)} signed{keys}"


def _space(config: "HubConfig") -> str:
    from lineside.core import UnavailableError

    free = config.free_bytes
    if free < config.min_free_bytes:
        raise UnavailableError(
            f"{free / 1e9:.1f} GB free for {config.folder}, less than min_free_bytes",
            fix="Free some, or set retention.max_bytes.",
        )
    return f"{free / 1e9:.0f} GB"


def _is_begun(config: "HubConfig") -> bool:
    """Return True where records exist; opening them would create them."""
    scheme, _, path = config.records_url.partition("://")
    return scheme != "sqlite" or Path(path).exists()


def _records(config: "HubConfig") -> str:
    from lineside.store import open_records

    if not _is_begun(config):
        return _NOT_BEGUN
    with open_records(config.records_url, clock=SystemClock()) as records:
        return f"{len(records.log.sources())} chains in the event log"


def _chains(config: "HubConfig") -> str:
    from lineside.core import RefusedError
    from lineside.hub import check_checkpoints
    from lineside.store import open_records

    if not _is_begun(config):
        return _NOT_BEGUN
    clock = SystemClock()
    with open_records(config.records_url, clock=clock) as records:
        check_checkpoints(records.documents, config.trust_folder, clock=clock)
        reports = [records.log.verify(source) for source in records.log.sources()]
    broken = [report for report in reports if not report.ok]
    if broken:
        raise RefusedError(
            f"{broken[0].source} is broken at entry {broken[0].broken_at}: {broken[0].reason}",
            fix="Someone changed the database: restore a backup and keep this one as evidence.",
        )
    return f"{sum(report.entries for report in reports)} entries hold"


def _blobs(config: "HubConfig", *, deep: bool) -> str:
    from contextlib import closing

    from lineside.core import RefusedError
    from lineside.store import open_blobs, open_records

    if not _is_begun(config):
        return _NOT_BEGUN
    with (
        open_records(config.records_url, clock=SystemClock()) as records,
        closing(open_blobs(config.blobs_url)) as blobs,
    ):
        present = set(blobs.digests())
        missing = sorted(_named(records, blobs) - present)
        damaged = _damaged(blobs, present) if deep else []
    for wrong, what in ((missing, "missing"), (damaged, "damaged")):
        if wrong:
            raise RefusedError(
                f"{len(wrong)} of {len(present) + len(missing)} are {what}, "
                f"the first is {wrong[0]}",
                fix="Restore a backup; lineside backup --help.",
            )
    return f"{len(present)} kept" + (", each read" if deep else "")


def _named(records: "Records", blobs: "Blobs") -> "set[Digest]":
    """List the digests that frames and packages need."""
    from lineside.models import Registry

    found = {one.archive for one in Registry(records, blobs, clock=SystemClock()).list()}
    before = None
    while page := records.frames.page(before=before, limit=_PAGE):
        found |= {row.thumbnail for row in page}
        found |= {row.digest for row in page if row.aged_out_at is None}
        before = page[-1].id
    return found


def _damaged(blobs: "Blobs", present: "Iterable[Digest]") -> "list[Digest]":
    found = []
    for digest in sorted(present):
        try:
            blobs.get(digest)
        except LinesideError:
            found.append(digest)
    return found
