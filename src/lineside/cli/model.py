"""``lineside model``: the registry, and taking a package into use."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, say, show, table
from lineside.cli.package import metric_lines
from lineside.core import InvalidError, SystemClock, parse_digest, short

if TYPE_CHECKING:
    from lineside.models import ModelVersion, ModelVersions, Registry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Packages in the hub's registry.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("show")(show_model)
    group.command("add")(add)
    group.command("approve")(approve)
    group.command("reject")(reject)
    app.add_typer(group, name="model")


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
    """List packages, newest first, with who took them into use, and numbered versions."""
    with registry(config) as models:
        found = models.list()
    with model_versions(config) as versions:
        numbered = [one for group in versions.groups() for one in versions.of(group)]
    rows = [(short(r.digest), r.name, r.inspection, r.approved_by or "nobody") for r in found]
    numbers = [(f"{v.group}/{v.number}", str(v.status), short(v.digest)) for v in numbered]
    text = table([("digest", "name", "inspection", "in use by"), *rows])
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
        "registered_by": found.registered_by,
        "registered_at": found.registered_at,
        "verdicts": found.verdicts,
    }


def show_model(
    name: Annotated[str, typer.Argument(metavar="DIGEST|GROUP/NUMBER", help="Which one.")],
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one package's record and metrics, or one numbered version."""
    if name.startswith("sha256:"):
        with registry(config) as models:
            found = models.get(parse_digest(name))
        lines = [f"{found.name} {found.digest}", *metric_lines(found.manifest.metrics)]
        show(found, as_json=as_json, text=lambda _: "\n".join(lines))
        return
    with model_versions(config) as versions:
        numbered = versions.one(*_named(name))
    show(_version(numbered), as_json=as_json, text=lambda _: "\n".join(_told(numbered)))


def _told(found: "ModelVersion") -> list[str]:
    return [
        f"{found.group}/{found.number} {found.status} {found.digest}",
        *(f"{key}: {value}" for key, value in found.evidence.items()),
        *metric_lines(dict(found.metrics)),
        *(f"{v.status} by {v.by}: {v.reason}" for v in found.verdicts),
    ]


VersionName = Annotated[str, typer.Argument(metavar="GROUP/NUMBER", help="Which version.")]
By = Annotated[str, typer.Option(help="Who decides.")]
Reason = Annotated[str, typer.Option(help="Why.")]


def approve(
    version: VersionName,
    *,
    by: By,
    reason: Reason,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Approve a numbered version for release."""
    _decide(version, "Approved", by=by, reason=reason, config=config, as_json=as_json)


def reject(
    version: VersionName,
    *,
    by: By,
    reason: Reason,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Reject a numbered version."""
    _decide(version, "Rejected", by=by, reason=reason, config=config, as_json=as_json)


def _decide(
    version: str, status: str, *, by: str, reason: str, config: Path | None, as_json: bool
) -> None:
    from lineside.models import Status

    group, number = _named(version)
    with model_versions(config) as versions:
        decided = versions.decide(group, number, status=Status(status), by=by, reason=reason)
    show(_version(decided), as_json=as_json, text=lambda _: "\n".join(_told(decided)))


def _named(version: str) -> tuple[str, int]:
    group, slash, number = version.rpartition("/")
    if not slash or not (number.isascii() and number.isdecimal()):
        raise InvalidError(
            f"{version!r} is neither a digest nor a version",
            where="version",
            fix="Write sha256:…, or GROUP/NUMBER such as tiles/3.",
        )
    return group, int(number)


def add(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    config: ConfigOption = None,
    by: Annotated[str, typer.Option(help="Who adds it.")] = "command line",
) -> None:
    """Put a package file into the registry; its page takes it into use."""
    with registry(config) as models:
        record = models.add(package.read_bytes(), by=by)
    say(f"added {record.digest}")
