"""``lineside rule record``: a span of the hub's log as a file of recorded events."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, show, writable
from lineside.cli.span import read_span
from lineside.core import (
    InvalidError,
    NotFoundError,
    SystemClock,
    load_plant,
    replacing_durably,
)

if TYPE_CHECKING:
    from lineside.streams import Entry


def record(
    out: Annotated[Path, typer.Option(help="The file to write: JSON Lines.")],
    since: Annotated[str, typer.Option("--from", help="Arrived from this time on.")],
    until: Annotated[str, typer.Option("--to", help="Arrived before this time.")],
    rule: Annotated[str, typer.Option(help="Only what this rule and those it reads need.")] = "",
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Of this type only, * for anything; may be repeated."),
    ] = None,
    plant: Annotated[
        Path | None, typer.Option("--plant", help="The plant file; else the hub's.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write what arrived at the hub in a span, as run --events reads it; the hub may go on."""
    from lineside.hub import recorded_entries
    from lineside.store import open_records
    from lineside.streams import entry_line

    if rule and types:
        raise InvalidError("two choices", where="--rule --type", fix="Give one of them.")
    writable(out)
    begin, end = read_span(since, until)
    found = settings(config)
    place = plant if plant is not None else Path(found.plant)
    with open_records(found.records_url, clock=SystemClock()) as records:
        entries = recorded_entries(records.log, since=begin, until=end)
        chosen = _of_rule(entries, rule, place) if rule else _of_types(entries, types or ["*"])
        count, size = _write(map(entry_line, chosen), out)
    told = {"file": str(out), "events": count, "bytes": size}
    show(told, as_json=as_json, text=lambda _: f"{out}: {count} events, {size} bytes")


def _of_rule(entries: "Iterable[Entry]", name: str, place: Path) -> "Iterator[Entry]":
    from lineside.streams import entries_read

    plant = load_plant(place)
    for rule in plant.rule:
        if rule.id == name:
            return entries_read(rule, entries, plant=plant)
    known = ", ".join(rule.id for rule in plant.rule) or "none"
    raise NotFoundError(f"no rule {name!r}", where="plant file", fix=f"Known: {known}.")


def _of_types(entries: "Iterable[Entry]", types: Sequence[str]) -> "Iterator[Entry]":
    return (one for one in entries if any(fnmatchcase(one.type, wanted) for wanted in types))


def _write(lines: Iterable[bytes], out: Path) -> tuple[int, int]:
    """How many lines and bytes; a file stands there whole or not at all."""
    count = size = 0
    with replacing_durably(out) as file:
        for line in lines:
            size += file.write(line)
            count += 1
    return count, size
