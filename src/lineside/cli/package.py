"""``lineside package``: look into a package file and prove it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli import package_compare, package_making, package_trust
from lineside.cli.output import JsonFlag, show
from lineside.core import decode_json

if TYPE_CHECKING:
    from lineside.models import Metric, Package

PackageFile = Annotated[Path, typer.Argument(help="A .lspkg file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Package files.", no_args_is_help=True)
    group.command("show")(show_package)
    package_making.register(group)
    package_compare.register(group)
    package_trust.register(group)
    app.add_typer(group, name="package")


def show_package(
    package: PackageFile,
    trust: package_trust.TrustOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the manifest: labels, preparation, metrics, lineage, licence, platforms, parity."""
    from lineside.models import Package

    opened = Package.open(package)
    by = package_trust.vouched_by(package, trust)
    signed = [] if by is None else [package_trust.signed_words(by)]
    show(
        {**_told(opened), "signed_by": package_trust.signed_by(by)},
        as_json=as_json,
        text=lambda _: "\n".join([*_words(opened), *signed]),
    )


def _told(opened: "Package") -> dict[str, object]:
    manifest = opened.manifest
    return {
        "digest": opened.digest,
        "precision": manifest.engine.precision,
        "parity": None if manifest.parity is None else package_making.parity_told(manifest.parity),
        "licence": {
            "weights": manifest.lineage.weights_licence,
            "data": manifest.lineage.data_licence,
        },
        "targets": manifest.targets,
        "sbom": _sbom(opened),
        "manifest": manifest,
    }


def _sbom(opened: "Package") -> list[dict[str, str]]:
    """Name, version and kind of what is inside; empty where the package does not say."""
    if not opened.manifest.sbom_file:
        return []
    document = decode_json(opened.file(opened.manifest.sbom_file), where=opened.manifest.sbom_file)
    return [
        {"name": each["name"], "version": each.get("version", ""), "type": each["type"]}
        for each in document.get("components", [])
    ]


def _words(opened: "Package") -> list[str]:
    manifest, lineage = opened.manifest, opened.manifest.lineage
    inside = [f"{one['name']} {one['version']}".strip() for one in _sbom(opened)]
    return [
        f"{manifest.name} {opened.digest}",
        f"task {manifest.task}, {manifest.engine.precision}, made by {lineage.code_version}",
        f"weights: {lineage.weights}; licence {lineage.weights_licence or 'unknown'}",
        f"data: {lineage.dataset}; licence {lineage.data_licence or 'unknown'}",
        f"runs on: {', '.join(manifest.targets) or 'not said'}",
        *([f"inside: {', '.join(inside)}"] if inside else []),
        *([f"parity: {package_making.parity_words(manifest.parity)}"] if manifest.parity else []),
        *metric_lines(manifest.metrics),
        *(f"warning: {warning}" for warning in lineage.warnings),
    ]


def report_of(package: bytes) -> bytes:
    """The page of evidence that a package carries."""
    from lineside.models import Package

    return Package.read(package).file("evidence/report.html")


def metric_lines(metrics: "dict[str, Metric]") -> list[str]:
    """One line a metric, never bare."""
    return [
        f"{name}: {metric.value:.3f} (95 % {metric.low:.3f}-{metric.high:.3f}, n {metric.n}, "
        f"baseline {metric.baseline:.3f})"
        for name, metric in metrics.items()
    ]
