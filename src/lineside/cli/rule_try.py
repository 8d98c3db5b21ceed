"""``lineside rule try``: a changed rule over what was recorded, against the one in use."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, show
from lineside.cli.span import read_span
from lineside.core import InvalidError, NotFoundError, SystemClock, load_plant

if TYPE_CHECKING:
    from lineside.streams import Difference

_SHOWN = 50


def try_rule(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="Id of the rule, in use or new.")],
    declared: Annotated[Path, typer.Option(help="A file with the [[rule]] table to try.")],
    since: Annotated[str, typer.Option("--from", help="Arrived from this time on.")],
    until: Annotated[str, typer.Option("--to", help="Arrived before this time.")],
    plant: Annotated[
        Path | None, typer.Option("--plant", help="The plant file; else the hub's.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What a rule declared otherwise would have said; nothing goes live, nothing is written."""
    from lineside.hub import attempt, read_rule
    from lineside.store import open_records

    found = settings(config)
    site = load_plant(plant if plant is not None else Path(found.plant))
    new = read_rule(_text(declared), plant=site)
    if new.id != rule:
        raise InvalidError(
            f"the file declares the rule {new.id!r}", where=str(declared),
            fix=f"Name that one, or write id = {rule!r}.",
        )  # fmt: skip
    begin, end = read_span(since, until)
    with open_records(found.records_url, clock=SystemClock()) as records:
        difference = attempt(new, plant=site, log=records.log, since=begin, until=end)
    show(difference, as_json=as_json, text=lambda one: "\n".join(_lines(one)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            f"cannot read the declaration: {error}", where=str(path), fix="Name a TOML file."
        ) from error


def _lines(found: "Difference") -> Iterator[str]:
    from lineside.hub import compared

    told = compared(found)
    otherwise = [f"{_event(new)}\n    was {_event(old)}" for old, new in told.otherwise]
    yield (
        f"same {found.same}, told otherwise {len(otherwise)}, added {len(told.added)}, "
        f"removed {len(told.removed)}"
    )
    yield f"late {found.late}, without key {found.keyless}, unreadable {found.unreadable}"
    yield from _some("~", otherwise)
    yield from _some("+", list(map(_event, told.added)))
    yield from _some("-", list(map(_event, told.removed)))


def _some(mark: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"{mark} {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"{mark} … {len(lines) - _SHOWN} more; --json has all"


def _event(data: dict[str, Any]) -> str:
    key = ", ".join(str(value) for value in data["key"].values())
    values = ", ".join(f"{name} {value}" for name, value in data["values"].items())
    frame = f"  frame {data['frame']}" if data.get("frame") else ""
    return f"{data['from']} to {data['to']}  {data['action']}  {key}  {values}{frame}"
