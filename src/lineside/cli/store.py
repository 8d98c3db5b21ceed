"""``lineside backup | restore | doctor | upgrade | status | trace`` …: a hub from outside."""

import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import ZIP_DEFLATED, ZipFile

import typer
from msgspec import json

from lineside.cli.config import load_hub, setting_rows
from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, say, show, table, writable
from lineside.cli.running_hub import HubOption, TokenOption, hub_client
from lineside.core import (
    Digest,
    LinesideError,
    SystemClock,
    UnavailableError,
    load_plant,
    to_plain,
)
from lineside.core.codec import faults_error
from lineside.core.drivers import without_secrets
from lineside.core.worker import WorkerState
from lineside.web.format import size, span

if TYPE_CHECKING:
    from lineside.core.webhooks import WebhookConfig
    from lineside.hub import HubConfig
    from lineside.store import Blobs, Records
    from lineside.store.migrations import UpgradePlan


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("doctor")(doctor)
    app.command("upgrade")(upgrade)
    app.command("status")(status)
    app.command("support-bundle")(support_bundle)
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
    full: Annotated[
        bool, typer.Option("--full", help="Check all history, not what is new since the last time.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every picture and package; implies --full.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check settings, plant file, certificates, store, chains and space, each with its fix."""
    checks = examine(settings(config), full=full or deep, deep=deep)
    show(
        {"checks": checks},
        as_json=as_json,
        text=lambda found: "\n".join(str(check) for check in found["checks"]),
    )
    if not all(check.ok for check in checks):
        raise typer.Exit(2)


def upgrade(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would change; change nothing.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a stopped hub's records to this release's form."""
    from lineside.store import open_records
    from lineside.store.migrations import plan_upgrade

    hub = settings(config)
    before = plan_upgrade(hub.records_url)
    if check:
        checks = upgrade_checks(hub, before)
        show(
            {"release": version("lineside"), "records": before, "checks": checks},
            as_json=as_json,
            text=lambda _: "\n".join(str(one) for one in checks),
        )
        if not all(one.ok for one in checks):
            raise typer.Exit(2)
        return
    from lineside.hub.run import only_one

    if before.steps:
        with only_one(hub):
            open_records(hub.records_url, clock=SystemClock()).close()

    def text(done: "UpgradePlan") -> str:
        if not done.steps:
            return f"in format {done.newest}, nothing to do" if done.found else _NOT_BEGUN
        return f"in format {done.newest} now, {done.found} before"

    show(before, as_json=as_json, text=lambda done: f"records: {text(done)}")


def upgrade_checks(hub: "HubConfig", plan: "UpgradePlan") -> "list[Check]":
    """Return what this release would do to a hub that ran another one, and whether it can."""

    def records(_: "HubConfig") -> str:
        if not plan.found:
            return _NOT_BEGUN
        if not plan.steps:
            return f"in format {plan.newest}, which is that of this release: nothing changes"
        steps = "".join(f"\n      {number}: {what}" for number, what in plan.steps)
        return f"in format {plan.found}, {plan.newest} with the first start of the hub:{steps}"

    def way_back(_: "HubConfig") -> str:
        return (
            "stop the hub, install the release before, start it"
            if not plan.steps
            else (
                "none without a backup: lineside backup --to FILE by the release before, now;"
                " later that release restores it into an empty data_dir"
            )
        )

    looks: list[tuple[str, Callable[[HubConfig], str]]] = [
        ("plant file", _plant),
        ("free space", partial(_free_for_upgrade, plan=plan)),
        ("records", records),
        ("way back", way_back),
    ]
    return [_look(name, look, hub) for name, look in looks]


def _free_for_upgrade(config: "HubConfig", *, plan: "UpgradePlan") -> str:
    """Return the free space; all steps are one transaction, as large as the records at most."""
    free = _space(config)
    scheme, _, path = config.records_url.partition("://")
    if not (plan.steps and scheme == "sqlite"):
        return free
    needed = Path(path).stat().st_size
    if config.free_bytes < needed + config.min_free_bytes:
        raise UnavailableError(
            f"{free} free, and the change may take as much as the records, {size(needed)}",
            fix="Free some, or set retention.max_bytes with the release before.",
        )
    return f"{free}; the change may take {size(needed)}"


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


def status(
    *, hub: HubOption = "", token: TokenOption = None, config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Show a running hub on one screen: systems, disk, certificate, cameras, devices, sinks."""
    stats = hub_client(hub, token=token, config=config).get("/stats")
    found = site_status(stats, now_s=SystemClock().now().timestamp())
    show(found, as_json=as_json, text=_status_text)
    if not found.ready:
        raise typer.Exit(UnavailableError.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """A running hub in short.

    Attributes:
        away: what keeps the hub from its work, as ``/readyz`` says it; ``ready``: nothing.
        systems: that it needs, and whether each is up.
        cameras: state of each.
        devices: for each whether it reports.
        followers: state and lag in seconds of each, sinks among them.
        certificate_days: left of the hub's own; None without TLS.
    """

    ready: bool
    away: tuple[str, ...]
    systems: dict[str, bool]
    alerts_open: int
    disk_free_bytes: int
    disk_least_bytes: int
    certificate_days: int | None
    cameras: dict[str, str]
    devices: dict[str, bool]
    followers: dict[str, tuple[str, float]]


def site_status(stats: Mapping[str, Any], *, now_s: float) -> SiteStatus:
    """Return the status that the figures of ``GET /api/v1/stats`` tell."""
    gauges, each = stats["gauges"], stats["each"]
    of = {name: each.get(name, {"figures": {}})["figures"] for name in _TABLES}
    systems = {name: bool(one["up"]) for name, one in of["system"].items()}
    followers = {name: (_state(one), one["lag_s"]) for name, one in of["follower"].items()}
    away = (
        *(name for name, is_up in systems.items() if not is_up),
        *(f"follower {name}" for name, (state, _) in followers.items() if state == "stopped"),
        *(f"worker {name}" for name, one in of["worker"].items() if one["state"] == _STUCK),
    )
    ends_s = gauges.get("certificate_ends_timestamp_s")
    return SiteStatus(
        ready=not away, away=away, systems=systems,
        alerts_open=int(gauges.get("alerts_open", 0)),
        disk_free_bytes=int(gauges["disk_free_bytes"]),
        disk_least_bytes=int(gauges["disk_least_bytes"]),
        certificate_days=None if ends_s is None else int((ends_s - now_s) // 86_400),
        cameras={name: _state(one) for name, one in of["camera"].items()},
        devices={name: bool(one["online"]) for name, one in of["device"].items()},
        followers=followers,
    )  # fmt: skip


_TABLES = ("system", "camera", "device", "follower", "worker")
_STUCK = list(WorkerState).index(WorkerState.STUCK)
_MOST_NAMED = 10


def _state(figures: Mapping[str, float]) -> str:
    on = (name for name, value in figures.items() if name.startswith("state_") and value)
    return next(on, "").removeprefix("state_")


def _status_text(found: SiteStatus) -> str:
    days = found.certificate_days
    silent = [name for name, is_online in found.devices.items() if not is_online]
    behind = [
        f"{name} {state}, {span(lag_s)} behind" for name, (state, lag_s) in found.followers.items()
        if state not in {"running", "standby"} or lag_s > _LATE_S
    ]  # fmt: skip
    faults = [f"{name} {state}" for name, state in found.cameras.items() if state != "live"]
    rows: list[tuple[str, ...]] = [
        ("hub", f"away: {', '.join(found.away)}" if found.away else "ready"),
        ("alerts", f"{found.alerts_open} open"),
        ("disk", f"{size(found.disk_free_bytes)} free, ready above {size(found.disk_least_bytes)}"),
        ("certificate", "none: pages are served without TLS" if days is None else f"{days} days"),
        ("cameras", _few(len(found.cameras), "live", faults)),
        ("devices", _few(len(found.devices), "report", silent)),
        ("sinks", _few(len(found.followers), "run", behind)),
    ]
    return table(rows)


_LATE_S = 5.0


def _few(count: int, word: str, others: list[str]) -> str:
    named = [*others[:_MOST_NAMED], *(["…"] if len(others) > _MOST_NAMED else [])]
    return f"{count - len(others)} of {count} {word}" + (f"; {', '.join(named)}" if named else "")


def support_bundle(
    to: Annotated[Path, typer.Option(help="The ZIP to write; must not exist.")],
    log: Annotated[
        Path | None, typer.Option(help="The hub's log; else the journal of --unit.")
    ] = None,
    unit: Annotated[str, typer.Option(help="The hub's systemd unit.")] = "lineside-hub",
    config: ConfigOption = None,
) -> None:
    """Write a ZIP for support: versions, settings, plant, findings, figures, log; no secrets."""
    writable(to)
    parts: dict[str, Callable[[], str]] = {
        "versions.json": lambda: _json(_versions()),
        "settings.json": lambda: _json(setting_rows(load_hub(config))),
        "plant.toml": lambda: _text_of(Path(settings(config).plant)),
        "doctor.json": lambda: _json(examine(settings(config))),
        "stats.json": lambda: _json(hub_client("", token=None, config=config).get("/stats")),
        "log.txt": lambda: _text_of(log) if log else _journal(unit),
    }
    contents = {name: _readable(read) for name, read in parts.items()}
    hidden = _tokens(config)
    to.touch(mode=0o600, exist_ok=False)
    with ZipFile(to, "w", compression=ZIP_DEFLATED) as archive:
        for name, text in contents.items():
            for secret in hidden:
                text = text.replace(secret, "…")  # noqa: PLW2901  each in turn
            archive.writestr(name, without_secrets(text))
    say(f"written: {to}; read it before you hand it on, it names cameras, devices and products")


_LOG_LINES = 2000
_LEAST_SECRET = 8


def _readable(read: Callable[[], str]) -> str:
    """Return a part of the bundle; the error in place of one that cannot be had."""
    try:
        return read()
    except LinesideError as error:
        return _json({"error": error.message, "where": error.where, "fix": error.fix})
    except Exception:  # noqa: BLE001  # boundary
        return traceback.format_exc()


def _json(found: object) -> str:
    return json.format(json.encode(to_plain(found))).decode()


def _versions() -> dict[str, object]:
    packages = {one.name: one.version for one in distributions()}
    return {
        "lineside": version("lineside"), "python": sys.version, "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
    }  # fmt: skip


def _text_of(path: Path) -> str:
    """The last lines of a file; why there are none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "\n".join(lines[-_LOG_LINES:]) + "\n"


def _journal(unit: str) -> str:
    program = shutil.which("journalctl")
    if program is None:
        return "no journalctl here; name the log with --log"
    command = [program, f"--unit={unit}", f"--lines={_LOG_LINES}", "--no-pager"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  the system's own
    return done.stdout or done.stderr


def _tokens(config: Path | None) -> list[str]:
    """Return the texts of the hub's token files that can be read, longest first."""
    try:
        hub = settings(config)
    except LinesideError:  # settings.json says why
        return []
    found = set[str]()
    for path in (*(hub.folder / "tokens").glob("*"), hub.ingest_token_path):
        with suppress(OSError, UnicodeDecodeError):
            found.add(path.read_text().strip())
    return sorted((one for one in found if len(one) >= _LEAST_SECRET), key=len, reverse=True)


_NOT_BEGUN = "none yet; the hub makes them at its first start"
_PAGE = 1000
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f"  fix: {self.fix}" if self.fix else ""
        return f"{'ok ' if self.ok else 'BAD'} {self.name}: {self.found}{fix}"


def examine(config: "HubConfig", *, full: bool = False, deep: bool = False) -> list[Check]:
    """Every check, in the order in which a broken one breaks the next.

    Args:
        config: the hub's.
        full: all entries and frames, not only entries since the last check and the newest frames.
        deep: every picture and package is read, and held against its digest.
    """
    looks: list[tuple[str, Callable[[HubConfig], str]]] = [
        ("plant file", _plant),
        ("free space", _space),
        ("certificates", _certificates),
        ("update repository", _trust),
        ("records", _records),
        ("event chains", partial(_chains, full=full)),
        ("pictures and packages", partial(_blobs, full=full or deep, deep=deep)),
    ]
    checks = [_look(name, look, config) for name, look in looks]
    return checks + [_look(name, look, config) for name, look in _others(config)]


def _others(config: "HubConfig") -> "list[tuple[str, Callable[[HubConfig], str]]]":
    """List the checks of what the settings configure besides the plant."""
    looks: list[tuple[str, Callable[[HubConfig], str]]] = []
    if config.kafka.brokers:
        looks.append(("Kafka", _kafka))
    looks += [(f"webhook {one.name}", partial(_webhook, hook=one)) for one in _webhooks(config)]
    looks += [
        (f"backbone {name}", partial(_backbone, named=named))
        for name, named in config.backbones.items()
    ]
    if config.opcua:
        looks.append(("OPC UA", _opcua))
    return looks


def _kafka(config: "HubConfig") -> str:
    from lineside.links.kafka import probe_kafka

    return f"answers, brokers: {probe_kafka(config.kafka.place)}"


def _webhooks(config: "HubConfig") -> "tuple[WebhookConfig, ...]":
    """The webhooks in force; those of the settings where the plant file cannot be read."""
    from lineside.hub.config import webhooks_in_force

    try:
        return webhooks_in_force(config, load_plant(Path(config.plant)))
    except LinesideError:  # its own check says why
        return config.webhook


def _webhook(_: "HubConfig", *, hook: "WebhookConfig") -> str:
    from lineside.links.webhook import WebhookSender

    return WebhookSender(hook).check()


def _backbone(_: "HubConfig", *, named: str) -> str:
    from lineside.core import need
    from lineside.core.drivers import resolve_backbone

    need("torch", extra="train")
    from lineside.training.common.torch_backbone import backbone_facts, open_backbone

    named = resolve_backbone(named)
    open_backbone(named)
    facts = backbone_facts(named)
    return f"{facts.weights}, licence {facts.licence}"


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
        place = f" ({error.where})" if error.where else ""
        return Check(name=name, ok=False, found=f"{error.message}{place}", fix=error.fix)
    except OSError as error:
        found = f"{error.strerror} ({error.filename})" if error.filename else str(error)
        return Check(name=name, ok=False, found=found, fix="Check path and rights.")


def _plant(config: "HubConfig") -> str:
    plant = load_plant(Path(config.plant))
    if faults := config.plant_faults(plant):
        raise faults_error(faults, where=config.plant)
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


def _chains(config: "HubConfig", *, full: bool) -> str:
    from lineside.core import RefusedError
    from lineside.hub import check_checkpoints
    from lineside.store import open_records

    if not _is_begun(config):
        return _NOT_BEGUN
    clock = SystemClock()
    with open_records(config.records_url, clock=clock) as records:
        check_checkpoints(records.documents, config.trust_folder, clock=clock)
        log = records.log
        reports = [log.verify(source, resume=not full) for source in log.sources()]
    broken = [report for report in reports if not report.ok]
    if broken:
        raise RefusedError(
            f"{broken[0].source} is broken at entry {broken[0].broken_at}: {broken[0].reason}",
            fix="Someone changed the database: restore a backup and keep this one as evidence.",
        )
    entries = sum(report.entries for report in reports)
    return f"{entries} entries hold" + ("" if full else " that are new since the last check")


def _blobs(config: "HubConfig", *, full: bool, deep: bool) -> str:
    from contextlib import closing

    from lineside.core import RefusedError
    from lineside.core.worker import prefetch
    from lineside.store import open_blobs, open_records
    from lineside.store.folder import FolderBlobs

    if not _is_begun(config):
        return _NOT_BEGUN
    with (
        open_records(config.records_url, clock=SystemClock()) as records,
        closing(open_blobs(config.blobs_url)) as blobs,
    ):
        named = _named(records, blobs, full=full)
        if full:
            present = set(blobs.digests())
        else:  # a bucket takes some 20 ms for each
            with closing(prefetch(blobs.has, named, threads=_AT_ONCE)) as kept:
                present = {one for one, is_kept in zip(named, kept, strict=True) if is_kept}
        missing = sorted(named - present)
        if missing:  # what retention deleted meanwhile is no longer named
            missing = sorted(set(missing) & _named(records, blobs, full=full))
        damaged = _damaged(blobs, present) if deep else []
        cut = blobs.shortened() if isinstance(blobs, FolderBlobs) else []
    if cut:
        raise RefusedError(
            f"{len(cut)} packs of images are cut, the first is {cut[0]}",
            fix="Look at the disk, then restore a backup; lineside backup --help.",
        )
    for wrong, what in ((missing, "missing"), (damaged, "damaged")):
        if wrong:
            raise RefusedError(
                f"{len(wrong)} of {len(present) + len(missing)} are {what}, "
                f"the first is {wrong[0]}",
                fix="Restore a backup; lineside backup --help.",
            )
    if not full:
        return f"{len(present)} kept, of packages and the newest {_PAGE:,} frames"
    return f"{len(present)} kept" + (", each read" if deep else "")


def _named(records: "Records", blobs: "Blobs", *, full: bool) -> "set[Digest]":
    """List the digests that packages and all frames need, or the newest ones alone."""
    from lineside.models import Registry

    found = {one.archive for one in Registry(records, blobs, clock=SystemClock()).list()}
    before = None
    while page := records.frames.page(before=before, limit=_PAGE):
        found |= {row.thumbnail for row in page}
        found |= {row.digest for row in page if row.aged_out_at is None}
        if not full:
            break
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
