"""``lineside package``: look into a package file and prove it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.output import JsonFlag, show
from lineside.core import SystemClock

if TYPE_CHECKING:
    from lineside.models import Metric

PackageFile = Annotated[Path, typer.Argument(help="A .lspkg file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Package files.", no_args_is_help=True)
    group.command("show")(show_package)
    group.command("verify")(verify)
    app.add_typer(group, name="package")


def show_package(package: PackageFile, as_json: JsonFlag = False) -> None:
    """Show the manifest: labels, preparation, limits, metrics, lineage."""
    from lineside.models import Package

    opened = Package.open(package)
    show(
        {"digest": opened.digest, "signed_by": [], "manifest": opened.manifest},
        as_json=as_json,
        text=lambda _: "\n".join(
            [f"{opened.manifest.name} {opened.digest}", *metric_lines(opened.manifest.metrics)]
            + [f"warning: {warning}" for warning in opened.manifest.lineage.warnings]
        ),
    )


def verify(package: PackageFile, as_json: JsonFlag = False) -> None:
    """Check every digest and answer the golden pictures; exit code 5 when one differs."""
    from lineside.models import Package, Predictor

    opened = Package.open(package)
    found = Predictor(opened, clock=SystemClock()).check_golden()
    parity = {"max_abs_diff": found.max_abs_diff, "metric_loss": 0.0, "bound": found.bound}
    show(
        {"digest": opened.digest, "signed_by": [], "parity": parity},
        as_json=as_json,
        text=lambda _: (
            f"{opened.digest}\n{found.pictures} golden pictures answered within "
            f"{found.max_abs_diff:.2e}, {found.bound:.0e} is allowed"
        ),
    )


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
