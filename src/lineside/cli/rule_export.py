"""``lineside rule export``: what rules said, out of the hub's log into a file."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, show, writable
from lineside.cli.span import read_span
from lineside.core import InvalidError, SystemClock, load_plant


def export(
    out: Annotated[
        Path | None, typer.Option(help="The file to write; without it, standard output.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="csv, jsonl or parquet; else what FILE is called.")
    ] = "",
    rule: Annotated[str, typer.Option(help="Of this rule only.")] = "",
    action: Annotated[str, typer.Option(help="final, change, begun, ended or late.")] = "",
    key: Annotated[str, typer.Option(help="A part of the key's values.")] = "",
    since: Annotated[str, typer.Option("--from", help="Ended from this time on.")] = "",
    until: Annotated[str, typer.Option("--to", help="Ended before this time.")] = "",
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write what rules said as CSV, JSON Lines or Parquet; the hub may go on running."""
    from lineside.hub import require_rule, rule_events_file, rule_filter
    from lineside.store import open_records

    writable(out)
    form = form or (out.suffix.lstrip(".") if out is not None else "csv")
    if since and until:
        read_span(since, until)
    if out is None and as_json:
        raise InvalidError("two results for one output", where="--json", fix="Give --out FILE.")
    wanted = rule_filter(rule=rule, action=action, key=key, since=since, until=until)
    found = settings(config)
    plant = load_plant(Path(found.plant))
    with open_records(found.records_url, clock=SystemClock()) as records:
        require_rule(records.log, rule, plant=plant)
        pieces = rule_events_file(records.log, wanted, plant=plant, form=form)
        written = _write(pieces, out)
    if out is not None:
        told = {"file": str(out), "format": form, "bytes": written}
        show(told, as_json=as_json, text=lambda _: f"{out}: {written} bytes")


def _write(pieces: Iterator[bytes], out: Path | None) -> int:
    """How many bytes; a file stands there whole or not at all."""
    if out is None:
        return sum(sys.stdout.buffer.write(piece) for piece in pieces)
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("wb") as file:
            written = sum(file.write(piece) for piece in pieces)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return written
