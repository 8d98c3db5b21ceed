"""``lineside replay``: a recorded span by another package or by other rules, and what differs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.dataset import BlobsOption, RecordsOption
from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import (
    COMMAND_LINE,
    DeviceOption,
    EngineOption,
    JsonFlag,
    WarmUpOption,
    add_commands,
    read_file,
    read_span,
    say,
    show,
    writable,
)
from lineside.cli.running_hub import REPLAY
from lineside.core import (
    InvalidError,
    SystemClock,
    encode,
    load_plant,
    rfc3339,
)

if TYPE_CHECKING:
    from lineside.hub.replay.repository import ReplayResult
    from lineside.store import Blobs, Records

_STEP = 10
_HELP = """Run a recorded span through another package or other rules; say what differs.

One of --package and --rules is needed. --rules stands in place of all rules. The commands below ask
a running hub to do it, in a process of its own.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = add_commands(app, "replay", _HELP, REPLAY)
    group.callback(invoke_without_command=True, no_args_is_help=False)(replay)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the record stands."""

    plant: Path
    records: str
    blobs: str


def replay(
    context: typer.Context,
    *,
    since: Annotated[
        str, typer.Option("--from", help="Arrived at the hub from this time on.")
    ] = "",
    until: Annotated[str, typer.Option("--to", help="Arrived before this time.")] = "",
    package: Annotated[
        str,
        typer.Option(help="Digest, its first digits, GROUP/NUMBER, a .lspkg file, or recorded."),
    ] = "",
    rules: Annotated[
        Path | None, typer.Option(help="A plant file, or its [[rule]] tables, to judge by.")
    ] = None,
    inspection: Annotated[str, typer.Option(help="Whose frames; else the package's own.")] = "",
    warm_up: WarmUpOption = None,
    by: Annotated[str, typer.Option(help="Who asks; stands beside the replay.")] = COMMAND_LINE,
    keep: Annotated[bool, typer.Option(help="Keep the result, for the version's page.")] = True,
    report: Annotated[Path | None, typer.Option(help="Write the result here too, as JSON.")] = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    config: ConfigOption = None,
    plant: Annotated[Path | None, typer.Option(help="With --records: the plant file.")] = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Run a recorded span through another package or other rules; say what differs."""
    if (command := context.invoked_subcommand) is not None:
        source = context.get_parameter_source
        if any(getattr(source(name), "name", "") == "COMMANDLINE" for name in context.params):
            raise InvalidError(
                f"an option before {command} says nothing to it", where="replay",
                fix=f"Write the options after it: lineside replay {command} …",
            )  # fmt: skip
        return
    writable(report)
    place = _place(config, plant=plant, records=records, blobs=blobs)
    options = _ReplayOptions(
        package=package, rules=rules, inspection=inspection, warm_up=warm_up, engine=engine,
        device=device,
    )  # fmt: skip
    with _opened(place) as stores:
        found = _replayed(options, stores, place=place, span=(since, until))
        if keep:
            _keep(found, stores, place=place, rules=rules, by=by)
    if report is not None:
        report.write_bytes(encode(found))
    show(found, as_json=as_json, text=_words)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReplayOptions:
    """Options of a replay, as typed."""

    package: str
    rules: Path | None
    inspection: str
    warm_up: float | None
    engine: str
    device: str


def _place(config: Path | None, *, plant: Path | None, records: str, blobs: str) -> _Place:
    if not records and not blobs:
        hub = settings(config)
        return _Place(plant=plant or Path(hub.plant), records=hub.records_url, blobs=hub.blobs_url)
    if config is not None or plant is None or not (records and blobs):
        raise InvalidError(
            "half a place", where="--records",
            fix="Give --config, or all of --plant, --records and --blobs.",
        )  # fmt: skip
    return _Place(plant=plant, records=records, blobs=blobs)


@contextmanager
def _opened(place: _Place) -> "Iterator[tuple[Records, Blobs]]":
    from lineside.store import open_blobs, open_records

    with open_records(place.records, clock=SystemClock()) as records:
        blobs = open_blobs(place.blobs)
        try:
            yield records, blobs
        finally:
            blobs.close()


def _replayed(
    options: _ReplayOptions, stores: "tuple[Records, Blobs]", *, place: _Place,
    span: tuple[str, str],
) -> "ReplayResult":  # fmt: skip
    from lineside.hub.replay.repository import AS_RECORDED, ReplayOrder
    from lineside.hub.replay.run import named_package, package_file
    from lineside.hub.replay.run import replay as replayed
    from lineside.models import EngineDevice, EngineName, ModelVersions, Registry

    file = package_file(options.package) if options.package not in ("", AS_RECORDED) else None
    digest = options.package if file is None else file.digest
    if file is None and digest not in ("", AS_RECORDED):
        registry = Registry(*stores, clock=SystemClock())
        versions = ModelVersions(stores[0], registry, clock=SystemClock())
        digest = named_package(digest, registry, versions=versions)
    since, until = read_span(*span)
    order = ReplayOrder(
        since=since, until=until, package=digest, inspection=options.inspection,
        warm_up_s=options.warm_up,
    )  # fmt: skip
    return replayed(
        order, *stores, plant=load_plant(place.plant), clock=SystemClock(), tell=_progress(),
        package=file, rules=read_file(options.rules) if options.rules is not None else b"",
        where=str(options.rules or ""), engine=EngineName(options.engine),
        device=EngineDevice(options.device),
    )  # fmt: skip


def _progress() -> Callable[[float], None]:
    """A line on stderr for each tenth."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        percent = int(100 * share) // _STEP * _STEP
        if percent > told:
            told = percent
            say(f"{percent} %")

    return tell


def _keep(
    found: "ReplayResult", stores: "tuple[Records, Blobs]", *, place: _Place, rules: Path | None,
    by: str,
) -> None:  # fmt: skip
    from lineside.hub import RecordsJournal
    from lineside.hub.replay.repository import ReplayRepository

    records, _ = stores
    book = ReplayRepository(
        records, journal=RecordsJournal(records), site=load_plant(place.plant).site,
        clock=SystemClock(),
    )  # fmt: skip
    view = book.keep(found, rules=read_file(rules) if rules is not None else b"", by=by)
    say(f"kept as {view.id}: /replays/{view.id} on the hub's pages")


def _words(found: "ReplayResult") -> str:
    """A short summary."""
    from lineside.hub.replay.repository import lines_of

    counts = found.counts
    span = f"{rfc3339(found.since)} to {rfc3339(found.until)}"
    answers = (
        f"  answers: {counts.identical} identical, {counts.figures_moved} with other figures "
        f"(at most {counts.largest_move:.4f}), {counts.decisions_changed} decided otherwise"
    )
    events = (
        f"  events: {counts.events_same} the same, {counts.events_moved} with other figures, "
        f"{counts.events_changed} differ"
    )
    told = [
        f"{span}: {found.frames} frames, {counts.entries} entries of the log",
        "nothing differs, to the last bit" if found.bit_identical else "differences:",
        answers,
        events,
        f"  parts: {counts.verdicts_changed} get another verdict",
        f"  twin: {counts.twin_changed} places differed",
    ]
    lines = [
        f"    {one.kind} {one.what} {rfc3339(one.at)}: {one.before} -> {one.after} {one.frame}"
        for one in lines_of(found)
    ]
    more = (
        counts.decisions_changed
        + counts.verdicts_changed
        + counts.events_changed
        + counts.twin_changed
        - len(lines)
    )
    told += [*lines, *([f"    … {more} more; --json lists them"] if more > 0 else [])]
    if counts.frames:
        told.append(f"{found.ms_per_frame:.1f} ms a frame, {found.seconds:.1f} s in all")
    return "\n".join([*told, *found.remarks])
