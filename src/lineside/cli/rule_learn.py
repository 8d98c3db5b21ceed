"""``lineside rule learn``: what a labelled clip says about how things pass and answers flicker."""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.output import JsonFlag, show
from lineside.core import (
    Habits,
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    load_plant,
    parse_rfc3339,
    replace_durably,
    to_plain,
)

if TYPE_CHECKING:
    from lineside.streams import Observation, Stretch

_COLUMNS = {"t_from", "t_to", "label"}
_MOST_ROWS = 100_000


def learn(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A sighting rule of the plant file.")],
    plant: Annotated[Path, typer.Option(help="The plant file.")],
    events: Annotated[Path, typer.Option(help="Recorded events, one JSON document a line.")],
    labels: Annotated[Path, typer.Option(help="CSV: t_from, t_to, label.")],
    out: Annotated[Path, typer.Option(help="The file to write; name it as learned = …")],
    as_json: JsonFlag = False,
) -> None:
    """Learn dwell, gap and flicker from a clip and what was in view in it."""
    from lineside.streams import learn_habits

    declared = load_plant(plant)
    frames = _frames(_sighting(declared, rule), declared, path=events)
    first_us = frames[0].at_us if frames else 0
    habits = learn_habits(frames, _stretches(labels, first_us=first_us))
    text = json.dumps(to_plain(habits), indent=1, sort_keys=True) + "\n"
    replace_durably(out, text.encode())
    show(habits, as_json=as_json, text=lambda one: _sentences(one, out))


def _sentences(habits: Habits, out: Path) -> str:
    rows = [
        f"{true or 'nothing'}: right in {row.get(true, 0.0):.1%} of its frames"
        for true, row in habits.confusion.items()
    ]
    head = f"{out}: learned from {habits.things} things in {habits.frames} frames"
    times = f"dwell_s {habits.dwell_s}, gap_s {habits.gap_s}, look_s {habits.look}"
    return "\n".join([head, f"  {times}", *(f"  {row}" for row in rows)])


def _sighting(plant: Plant, name: str) -> Rule:
    for rule in plant.rule:
        if rule.id == name and rule.sighting is not None:
            return rule
    known = ", ".join(rule.id for rule in plant.rule if rule.sighting is not None) or "none"
    raise NotFoundError(
        f"no sighting rule {name!r}", where="plant file", fix=f"Sighting rules: {known}."
    )


def _frames(rule: Rule, plant: Plant, *, path: Path) -> "list[Observation]":
    from lineside.streams import clip_of_rule, read_entries

    try:
        lines = path.open("rb")
    except OSError as error:
        raise _unreadable("events", path, error) from error
    with lines:
        return clip_of_rule(rule, read_entries(lines, plant=plant, where=str(path)))


def _stretches(path: Path, *, first_us: int) -> Iterator["Stretch"]:
    from lineside.streams import Stretch

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(_rows(file, where=str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable("labels", path, error) from error
    for number, row in enumerate(rows, start=2):
        where = f"{path}:{number}"
        since, until = (
            _moment_us(row[name], first_us=first_us, where=where) for name in ("t_from", "t_to")
        )
        yield Stretch(from_us=since, to_us=until, label=row["label"].strip())


def _rows(file: Iterable[str], *, where: str) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(file)
    missing = _COLUMNS - set(reader.fieldnames or ())
    if missing:
        raise InvalidError(
            f"no column {', '.join(sorted(missing))}", where=where,
            fix="Write a first line: t_from,t_to,label.",
        )  # fmt: skip
    for number, row in enumerate(reader, start=2):
        if number > _MOST_ROWS or any(row.get(name) is None for name in _COLUMNS):
            raise InvalidError(
                "a line with too few columns, or too many lines", where=f"{where}:{number}",
                fix=f"Three columns, at most {_MOST_ROWS} lines.",
            )  # fmt: skip
        yield row


def _moment_us(text: str, *, first_us: int, where: str) -> int:
    """RFC 3339, or seconds after the first event."""
    try:
        seconds = float(text)
    except ValueError:
        moment: datetime = parse_rfc3339(text.strip(), where=where)
        return round(moment.timestamp() * 1e6)
    if not abs(seconds) < 1e9:
        raise InvalidError(f"{text!r} seconds", where=where, fix="Write seconds, or RFC 3339.")
    return first_us + round(seconds * 1e6)


def _unreadable(what: str, path: Path, error: Exception) -> NotFoundError:
    return NotFoundError(f"cannot read the {what}: {error}", where=str(path), fix="Name a file.")
