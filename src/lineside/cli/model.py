"""``lineside model``: the registry, and taking a package into use."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import COMMAND_LINE, JsonFlag, add_commands, say, show, table, writable
from lineside.cli.package import metric_lines
from lineside.cli.running_hub import MODEL, HubOption, TokenOption, hub_client
from lineside.core import (
    RefusedError,
    SystemClock,
    encode,
    load_plant,
    parse_digest,
    short,
)
from lineside.core.ids import split_version

if TYPE_CHECKING:
    from lineside.hub import ModelService
    from lineside.models import ModelVersion, ModelVersions, Registry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "model", "Packages in the hub's registry.", {
        "list": list_models, "show": show_model, "add": add, "register": register_version,
        "compare": compare_version, "approve": approve, "reject": reject, "use": use, **MODEL,
    })  # fmt: skip


@contextmanager
def registry(config: Path | None) -> "Iterator[Registry]":
    """The hub's registry, opened for one command."""
    from lineside.models import Registry
    from lineside.store import open_blobs, open_records

    hub = settings(config)
    clock = SystemClock()
    with open_records(hub.records_url, clock=clock) as records:
        blobs = open_blobs(hub.blobs_url)
        try:
            yield Registry(records, blobs, clock=clock)
        finally:
            blobs.close()


@contextmanager
def model_versions(config: Path | None) -> "Iterator[ModelVersions]":
    """The numbered versions in the hub's registry, opened for one command."""
    from lineside.models import ModelVersions, Registry
    from lineside.store import open_blobs, open_records

    hub = settings(config)
    clock = SystemClock()
    with open_records(hub.records_url, clock=clock) as records:
        blobs = open_blobs(hub.blobs_url)
        try:
            yield ModelVersions(records, Registry(records, blobs, clock=clock), clock=clock)
        finally:
            blobs.close()


def list_models(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """List packages, newest first, with the inspections they are in use for, and versions."""
    with registry(config) as models:
        found = models.list()
        names = sorted({approval.inspection for one in found for approval in one.approvals})
        used = [(name, models.in_use(name)) for name in names]
    with model_versions(config) as versions:
        numbered = [one for group in versions.groups() for one in versions.of(group)]
    rows = [
        (
            short(one.digest), one.name, one.inspection,
            ", ".join(name for name, now in used if now == one) or "none",
        )
        for one in found
    ]  # fmt: skip
    numbers = [(f"{v.group}/{v.number}", str(v.status), short(v.digest)) for v in numbered]
    text = table([("digest", "name", "inspection", "in use for"), *rows])
    if numbers:
        text += "\n\n" + table([("version", "status", "digest"), *numbers])
    show(
        {"models": found, "versions": [_version(one) for one in numbered]},
        as_json=as_json,
        text=lambda _: text,
    )


def _version(found: "ModelVersion") -> dict[str, object]:
    return {
        "name": found.group,
        "version": found.number,
        "status": found.status,
        "evidence": found.evidence,
        "digest": found.digest,
        "metrics": found.metrics,
        "creation": found.creation,
        "trained_by": found.trained_by,
        "registered_by": found.registered_by,
        "registered_at": found.registered_at,
        "verdicts": found.verdicts,
    }


def show_model(
    name: Annotated[str, typer.Argument(metavar="DIGEST|GROUP/NUMBER", help="Which one.")],
    number: Annotated[
        int | None, typer.Argument(help="Of a group, where the first names one.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a version's evidence: .html, or .json.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one package's record and metrics, or one numbered version with its evidence."""
    writable(report)
    name = name if number is None else f"{name}/{number}"
    if name.startswith("sha256:"):
        with registry(config) as models:
            found = models.get(parse_digest(name))
        lines = [f"{found.name} {found.digest}", *metric_lines(found.manifest.metrics)]
        show(found, as_json=as_json, text=lambda _: "\n".join(lines))
        return
    if report is not None:
        _write_report(*split_version(name), report=report, config=config)
    with model_versions(config) as versions:
        numbered = versions.one(*split_version(name))
    show(_version(numbered), as_json=as_json, text=lambda _: "\n".join(_version_lines(numbered)))


def _write_report(group: str, number: int, *, report: Path, config: Path | None) -> None:
    from lineside.hub import version_page

    with models(config) as opened:
        evidence = opened.evidence(group, number)
    as_json = report.suffix.lower() == ".json"
    report.write_bytes(encode(evidence) if as_json else version_page(evidence))
    say(f"wrote {report}")


@contextmanager
def models(config: Path | None) -> "Iterator[ModelService]":
    """Groups and versions with their events, opened for one command."""
    from lineside.hub import open_models

    hub = settings(config)
    plant = load_plant(Path(hub.plant))
    with open_models(hub, plant=plant, clock=SystemClock()) as opened:
        yield opened


def _version_lines(found: "ModelVersion") -> list[str]:
    return [
        f"{found.group}/{found.number} {found.status} {found.digest}",
        *(f"{key}: {value}" for key, value in found.evidence.items()),
        *metric_lines(dict(found.metrics)),
        *(f"{v.status} by {v.by}: {v.reason}" for v in found.verdicts),
    ]


VersionName = Annotated[str, typer.Argument(metavar="GROUP/NUMBER", help="Which version.")]


def register_version(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="Such as tiles.")],
    package: Annotated[
        str, typer.Argument(metavar="FILE|DIGEST", help="A .lspkg file, or digest.")
    ],
    *,
    by: Annotated[str, typer.Option(help="Who registers it; somebody else approves.")],
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Register a package as a group's next version; the hub compares it with what is in use."""
    from lineside.hub import Registration

    if not package.startswith("sha256:"):
        data = _archive(Path(package))
        with registry(config) as kept:
            package = kept.add(data, by=by).digest
    with models(config) as opened:
        version = opened.register(group, Registration(package=package), by=by)
    show(_version(version), as_json=as_json, text=lambda _: "\n".join(_version_lines(version)))
    say(f"the hub compares {version.name} in the background; here: lineside model compare")


def compare_version(
    version: VersionName, *, config: ConfigOption = None, as_json: JsonFlag = False
) -> None:
    """Compare a version with what is in use, here and now, and keep it as its evidence."""
    from lineside.cli.package import this_machine, words
    from lineside.models import Package
    from lineside.training import compare, unseen_of

    clock, hub = SystemClock(), settings(config)
    with models(config) as opened:
        found = opened.one(*split_version(version))
        beside = opened.baseline(found)
        other = None if beside is None else Package.read(opened.content(beside.digest))
        package = Package.read(opened.content(found.digest))
        with unseen_of(
            package, clock=clock, records_url=hub.records_url, blobs_url=hub.blobs_url
        ) as pictures:
            told = compare(package, other, pictures=pictures, clock=clock, machine=this_machine())
        opened.store_comparison(found, told)
    show(told, as_json=as_json, text=lambda _: "\n".join(words(told)))


By = Annotated[str, typer.Option(help="Who decides.")]
Reason = Annotated[str, typer.Option(help="Why.")]


def approve(
    version: VersionName,
    *,
    by: By,
    reason: Reason,
    inspection: Annotated[
        str,
        typer.Option(
            help="Which it is released for, of its task and labels.",
            show_default="the one it was trained for",
        ),
    ] = "",
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Approve a numbered version for release."""
    group, number = split_version(version)
    check_person(by, config=config)
    with models(config) as opened:
        decided = opened.approve(group, number, by=by, reason=reason, inspection=inspection)
    _show_decision(decided, as_json=as_json)


def reject(
    version: VersionName,
    *,
    by: By,
    reason: Reason,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Reject a numbered version."""
    group, number = split_version(version)
    check_person(by, config=config)
    with models(config) as opened:
        decided = opened.reject(group, number, by=by, reason=reason)
    _show_decision(decided, as_json=as_json)


def use(
    version: Annotated[str, typer.Argument(metavar="DIGEST|GROUP/NUMBER", help="Which one.")],
    *,
    reason: Reason,
    inspection: Annotated[
        str,
        typer.Option(
            help="Which it answers for, of its task and labels.",
            show_default="that of its approval",
        ),
    ] = "",
    hub: HubOption = "",
    token: TokenOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a package or an approved version into use on every device, at a running hub."""
    client = hub_client(hub, token=token, config=config)
    found: dict[str, Any] = {"digest": version, "verdicts": []}
    if not version.startswith("sha256:"):
        group, number = split_version(version)
        found = client.get(f"/models/{quote(group, safe='')}/versions/{number}")
    path = f"/packages/{quote(found['digest'], safe='')}"
    approved = [one["inspection"] for one in found["verdicts"]]
    inspection = inspection or "".join(approved[-1:]) or client.get(path)["inspection"]
    used = client.post(f"{path}/use", {"inspection": inspection, "reason": reason})
    show(used, as_json=as_json, text=lambda _: f"{version} is in use for {inspection}")


def _show_decision(decided: "ModelVersion", *, as_json: bool) -> None:
    last = decided.verdicts[-1]
    text = f"{last.status} by {last.by}: {last.reason}\n{decided.name} {decided.digest}"
    show(_version(decided), as_json=as_json, text=lambda _: text)


def check_person(by: str, *, config: Path | None) -> None:
    """Where there are users, one of them who may release decides."""
    from lineside.cli.hub import accounts
    from lineside.hub import Right, roles_with

    with accounts(config) as opened:
        users = opened.users()
    able = [user.name for user in users if user.role in roles_with(Right.RELEASE)]
    if users and by.strip().casefold() not in {name.casefold() for name in able}:
        raise RefusedError(
            f"{by!r} may not decide about versions",
            where="--by",
            fix=f"Who may: {', '.join(able) or 'nobody; give somebody the role approver'}.",
        )


def add(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    config: ConfigOption = None,
    by: Annotated[str, typer.Option(help="Who adds it.")] = COMMAND_LINE,
) -> None:
    """Put a package file into the registry; its page takes it into use."""
    with registry(config) as models:
        record = models.add(_archive(package), by=by)
    say(f"added {record.digest}")


def _archive(path: Path) -> bytes:
    """The bytes of a package that can be read."""
    from lineside.models import Package

    Package.open(path)
    return path.read_bytes()
