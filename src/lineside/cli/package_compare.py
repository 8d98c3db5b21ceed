"""``lineside package compare``: what a package answers otherwise than another, and how fast."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.asking import stores
from lineside.cli.dataset_place import BlobsOption, ConfigOption, RecordsOption, StoreOption
from lineside.cli.output import JsonFlag, show
from lineside.core import SystemClock

if TYPE_CHECKING:
    from lineside.models import Change, Comparison
    from lineside.training import Machine

_CPUS = Path("/proc/cpuinfo")


def register(group: typer.Typer) -> None:
    """Add the command to those of ``lineside package``."""
    group.command("compare")(compare)


def compare(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    in_use: Annotated[Path | None, typer.Argument(help="The one it would replace.")] = None,
    *,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Hold a package against another on its own dataset version's held-out pictures."""
    from lineside.models import Package
    from lineside.training import compare as compared
    from lineside.training import unseen_of

    opened = Package.open(package)
    beside = None if in_use is None else Package.open(in_use)
    records, blobs = stores(config, store=store, records=records, blobs=blobs)
    clock = SystemClock()
    with unseen_of(opened, clock=clock, records_url=records, blobs_url=blobs) as pictures:
        found = compared(opened, beside, pictures=pictures, clock=clock, machine=this_machine())
    show(found, as_json=as_json, text=lambda _: "\n".join(words(found)))


def this_machine() -> "Machine":
    """Its name and processor."""
    from lineside.training import Machine

    return Machine(name=platform.node(), processor=_processor())


def _processor() -> str:
    """As Linux names it; elsewhere the architecture."""
    try:
        lines = _CPUS.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def words(found: "Comparison") -> list[str]:
    """A comparison as lines."""
    told = [found.why_not] if found.why_not else _answers(found)
    if found.speed is not None:
        speed = found.speed
        beside = "" if speed.in_use_ms is None else f", in use {speed.in_use_ms:.1f} ms"
        told.append(
            f"speed: median {speed.median_ms:.1f} ms, 95 % {speed.p95_ms:.1f} ms{beside} "
            f"(n {speed.n}, {speed.pictures} pictures, {speed.machine}, {speed.processor})"
        )
    return told


def _answers(found: "Comparison") -> list[str]:
    right = f"{found.better_count} became right, {found.worse_count} became wrong"
    told = [f"{found.n} pictures of {found.dataset}: {right}, {found.otherwise} changed otherwise"]
    if found.left_out:
        told.append(f"{found.left_out} left out: the package in use was trained on them")
    for name, metric in sorted(found.this.items()):
        beside = found.beside.get(name)
        if "/" not in name and beside is not None:
            told.append(f"{name}: {metric.value:.3f}, in use {beside.value:.3f}")
    told += [f"better: {_change(one)}" for one in found.better]
    told += [f"worse: {_change(one)}" for one in found.worse]
    return [*told, *found.remarks]


def _change(one: "Change") -> str:
    return f"{one.picture}: {one.before} -> {one.after} (true: {one.truth or 'nobody said'})"
