"""``lineside rule``: list, explain, run, try, record, learn and export rules over events."""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, read_span, say, show, table
from lineside.cli.rule_spark import BATCH, program_text, run_on_spark
from lineside.core import (
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    SystemClock,
    load_plant,
)
from lineside.core.drivers import SecretUrl

if TYPE_CHECKING:
    from lineside.streams import Chain, Entry
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from lineside.core import (
    Camera,
    digest_of,
    replace_durably,
)

if TYPE_CHECKING:
    from lineside.vision import Frame, Prediction
import csv
import json
from datetime import datetime
from typing import TYPE_CHECKING

from lineside.cli.output import writable
from lineside.core import parse_rfc3339, to_plain
from lineside.core.plant_rules import DwellTimes

if TYPE_CHECKING:
    from lineside.streams.rules.tracks.learning import Stretch
    from lineside.streams.rules.tracks.smoothing import Observation
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lineside.core.files import replacing_durably

if TYPE_CHECKING:
    from lineside.streams import Entry
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lineside.streams.rules.replay import Difference

_MOST_SHOWN = 50


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
    """Show the events of a changed rule on recorded data; nothing goes live, nothing is written."""
    from lineside.hub.rules.service import run_trial
    from lineside.hub.rules.text import read_rule
    from lineside.store import open_records

    found = settings(config)
    site = load_plant(plant if plant is not None else Path(found.plant))
    new = read_rule(_declaration(declared), plant=site)
    if new.id != rule:
        raise InvalidError(
            f"the file declares the rule {new.id!r}", where=str(declared),
            fix=f"Name that one, or write id = {rule!r}.",
        )  # fmt: skip
    begin, end = read_span(since, until)
    with open_records(found.records_url, clock=SystemClock()) as records:
        difference = run_trial(new, plant=site, log=records.log, since=begin, until=end)
    show(difference, as_json=as_json, text=lambda one: "\n".join(_difference_lines(one)))


def _declaration(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            f"cannot read the declaration: {error}", where=str(path), fix="Name a TOML file."
        ) from error


def _difference_lines(found: "Difference") -> Iterator[str]:
    from lineside.hub.rules.service import pair_changes

    told = pair_changes(found)
    otherwise = [f"{_event_line(new)}\n    was {_event_line(old)}" for old, new in told.otherwise]
    yield (
        f"same {found.same}, changed {len(otherwise)}, added {len(told.added)}, "
        f"removed {len(told.removed)}"
    )
    yield f"late {found.late}, without key {found.keyless}, unreadable {found.unreadable}"
    yield from _first_lines("~", otherwise)
    yield from _first_lines("+", list(map(_event_line, told.added)))
    yield from _first_lines("-", list(map(_event_line, told.removed)))


def _first_lines(mark: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"{mark} {line}" for line in lines[:_MOST_SHOWN])
    if len(lines) > _MOST_SHOWN:
        yield f"{mark} … {len(lines) - _MOST_SHOWN} more; --json has all"


def _event_line(data: dict[str, Any]) -> str:
    key = ", ".join(str(value) for value in data["key"].values())
    values = ", ".join(f"{name} {value}" for name, value in data["values"].items())
    frame = f"  frame {data['frame']}" if data.get("frame") else ""
    return f"{data['from']} to {data['to']}  {data['action']}  {key}  {values}{frame}"


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
    from lineside.hub.rules.service import recorded_entries
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
    from lineside.streams.rules.replay import entries_read

    plant = load_plant(place)
    for rule in plant.rule:
        if rule.id == name:
            return entries_read(rule, entries, plant=plant)
    known = ", ".join(rule.id for rule in plant.rule) or "none"
    raise NotFoundError(f"no rule {name!r}", where="plant file", fix=f"Known: {known}.")


def _of_types(entries: "Iterable[Entry]", types: Sequence[str]) -> "Iterator[Entry]":
    return (one for one in entries if any(fnmatchcase(one.type, wanted) for wanted in types))


def _write(lines: Iterable[bytes], out: Path) -> tuple[int, int]:
    """Write the file atomically and return its number of lines and bytes."""
    count = size = 0
    with replacing_durably(out) as file:
        for line in lines:
            size += file.write(line)
            count += 1
    return count, size


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
    from lineside.streams.rules.tracks.learning import fit_dwell_times

    declared = load_plant(plant)
    frames = _observed_frames(_track_rule(declared, rule), declared, path=events)
    first_us = frames[0].at_us if frames else 0
    dwell = fit_dwell_times(frames, _stretches(labels, first_us=first_us))
    text = json.dumps(to_plain(dwell), indent=1, sort_keys=True) + "\n"
    replace_durably(out, text.encode())
    show(dwell, as_json=as_json, text=lambda one: _sentences(one, out))


def _sentences(dwell: DwellTimes, out: Path) -> str:
    rows = [
        f"{true or 'nothing'}: right in {row.get(true, 0.0):.1%} of its frames"
        for true, row in dwell.confusion.items()
    ]
    head = f"{out}: learned from {dwell.things} things in {dwell.frames} frames"
    times = f"dwell_s {dwell.dwell_s}, gap_s {dwell.gap_s}, look_s {dwell.look}"
    return "\n".join([head, f"  {times}", *(f"  {row}" for row in rows)])


def _track_rule(plant: Plant, name: str) -> Rule:
    for rule in plant.rule:
        if rule.id == name and rule.sighting is not None:
            return rule
    known = ", ".join(rule.id for rule in plant.rule if rule.sighting is not None) or "none"
    raise NotFoundError(
        f"no sighting rule {name!r}", where="plant file", fix=f"Sighting rules: {known}."
    )


def _observed_frames(rule: Rule, plant: Plant, *, path: Path) -> "list[Observation]":
    from lineside.streams import read_entries
    from lineside.streams.rules.tracks.learning import clip_of_rule

    try:
        lines = path.open("rb")
    except OSError as error:
        raise _unreadable("events", path, error) from error
    with lines:
        return clip_of_rule(rule, read_entries(lines, plant=plant, where=str(path)))


def _stretches(path: Path, *, first_us: int) -> Iterator["Stretch"]:
    from lineside.streams.rules.tracks.learning import Stretch

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(_csv_rows(file, where=str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable("labels", path, error) from error
    for number, row in enumerate(rows, start=2):
        where = f"{path}:{number}"
        since, until = (
            _moment_us(row[name], first_us=first_us, where=where) for name in ("t_from", "t_to")
        )
        yield Stretch(from_us=since, to_us=until, label=row["label"].strip())


def _csv_rows(file: Iterable[str], *, where: str) -> Iterator[dict[str, str]]:
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
    """Write events of rules as CSV, JSON Lines or Parquet; the hub may go on running."""
    from lineside.hub.rules.log import require_rule, rule_events_file, rule_filter
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
        written = _write_export(pieces, out)
    if out is not None:
        told = {"file": str(out), "format": form, "bytes": written}
        show(told, as_json=as_json, text=lambda _: f"{out}: {written} bytes")


def _write_export(pieces: Iterator[bytes], out: Path | None) -> int:
    """Write the export atomically and return its size in bytes."""
    if out is None:
        return sum(sys.stdout.buffer.write(piece) for piece in pieces)
    return _write(pieces, out)[1]


def boxes(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A crossing rule of the plant file.")],
    plant: Annotated[Path, typer.Option(help="The plant file.")],
    out: Annotated[Path, typer.Option(help="The file of events to write.")],
    video: Annotated[Path | None, typer.Option(help="A video; else what the camera is.")] = None,
    contrast: Annotated[float, typer.Option(help="Least difference from the belt.")] = 28.0,
    least_px: Annotated[int, typer.Option(help="Smallest area of a thing.")] = 500,
    as_json: JsonFlag = False,
) -> None:
    """Find what stands out on a belt that moves up or down a video; one event for each picture."""
    from lineside.streams import encode_prediction_event

    declared = load_plant(plant)
    found, camera = _camera(declared, rule, video=video)
    lines, count = list[bytes](), 0
    for number, frame in enumerate(_clip_frames(camera), start=1):
        told = _prediction(frame, found, contrast=contrast, least_px=least_px)
        count += len(told.boxes)
        lines.append(
            encode_prediction_event(
                told, site=declared.site, device="lineside", sequence=number, first=1
            )
        )
    replace_durably(out, b"".join(line + b"\n" for line in lines))
    told_of = {"pictures": len(lines), "boxes": count, "file": str(out)}
    show(told_of, as_json=as_json, text=lambda _: f"{out}: {len(lines)} pictures, {count} boxes")


def _camera(plant: Plant, name: str, *, video: Path | None) -> tuple[Rule, Camera]:
    rules = [one for one in plant.rule if one.crossing is not None and one.read.inspections]
    for rule in rules:
        if rule.id == name:
            inspection = plant.find_inspection(rule.read.inspections[0])
            camera = plant.find_camera(inspection.camera)
            return rule, camera if video is None else replace(
                camera, source=SecretUrl(f"video:{video}")
            )
    known = ", ".join(rule.id for rule in rules) or "none"
    raise NotFoundError(
        f"no crossing rule {name!r} that reads predictions", where="plant file",
        fix=f"Crossing rules: {known}.",
    )  # fmt: skip


def _clip_frames(camera: Camera) -> "Iterator[Frame]":
    from lineside.links import open_camera

    if camera.source.partition(":")[0] not in {"video", "folder"}:
        raise InvalidError(
            "a camera that never ends", where=f"camera {camera.id}", fix="Give --video FILE."
        )
    with closing(open_camera(camera, clock=SystemClock())) as opened:
        yield from opened.frames()


def _prediction(frame: "Frame", rule: Rule, *, contrast: float, least_px: int) -> "Prediction":
    from lineside.vision import (
        PictureState,
        Prediction,
        RegistrationFigures,
        StageTimes,
        picture_health,
    )
    from lineside.vision.difference import foreground_boxes

    return Prediction(
        frame=frame.ref, inspection=rule.read.inspections[0], task="detect", state=PictureState.OK,
        labels=(), package=digest_of(b"lineside.vision.standing_out"), dataset="",
        registration=RegistrationFigures(state="none"), health=picture_health(frame.image),
        latency_ms=StageTimes(),
        boxes=foreground_boxes(frame.image, contrast=contrast, least_px=least_px),
    )  # fmt: skip


PlantOption = Annotated[
    Path | None, typer.Option("--plant", help="The plant file; else that of the hub's settings.")
]


class Form(StrEnum):
    """Output forms of a rule."""

    WORDS = "words"
    SPARK = "spark"


RuleName = Annotated[str, typer.Argument(metavar="RULE", help="Id of a rule of the plant file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rule = typer.Typer(help="Rules over what was seen and said.", no_args_is_help=True)
    rule.command("list")(list_rules)
    rule.command("explain")(explain_rule)
    rule.command("run")(run)
    rule.command("try")(try_rule)
    rule.command("export")(export)
    rule.command("record")(record)
    rule.command("learn")(learn)
    rule.command("boxes")(boxes)
    app.add_typer(rule, name="rule")


def list_rules(
    plant: PlantOption = None, config: ConfigOption = None, as_json: JsonFlag = False
) -> None:
    """Every rule of the plant file: what it reads, its step, when it tells."""
    declared = _plant(plant, config).rule
    rows = [("rule", "reads", "step", "emit", "name"), *(_row(rule) for rule in declared)]
    show({"rules": declared}, as_json=as_json, text=lambda _: table(rows))


def explain_rule(
    rule: RuleName,
    form: Annotated[
        Form, typer.Option("--as", help="In words, or the same rule as Spark code.")
    ] = Form.WORDS,
    plant: PlantOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say in plain words what a rule does, or as a program of Spark."""
    from lineside.streams import explain

    declared = _plant(plant, config)
    found = _find(declared, rule)
    words = program_text(found, declared) if form is Form.SPARK else explain(found)
    show({"rule": rule, "explanation": words}, as_json=as_json, text=lambda _: words)


def run(
    rule: RuleName,
    events: Annotated[
        Path | None, typer.Option(help="Recorded events, one JSON document a line.")
    ] = None,
    since: Annotated[str, typer.Option("--from", help="Arrived from this time on.")] = "",
    until: Annotated[str, typer.Option("--to", help="Arrived before this time.")] = "",
    on: Annotated[
        str, typer.Option(help="spark, or a master such as spark://host:7077; else right here.")
    ] = "",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Kept by Spark: the same command goes on after a kill.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help=f"Events that Spark takes at a time; else {BATCH}.")
    ] = None,
    plant: PlantOption = None,
    config: ConfigOption = None,
) -> None:
    """Run a rule over recorded events; one event a line. Nothing is written to the hub.

    What was left out of the input is said at the end, on stderr.
    """
    if not on and (checkpoint is not None or batch is not None):
        raise InvalidError(
            "a setting of Spark without Spark", where="--checkpoint, --batch",
            fix="Add --on spark, or leave them out.",
        )  # fmt: skip
    if (events is None) == (not since and not until):
        raise InvalidError("one source of events is needed", fix="Give --events, or --from --to.")
    declared = _plant(plant, config)
    found = _find(declared, rule)
    if on:
        if events is None:
            raise InvalidError("Spark reads files", where="--on", fix="Give --events FILE.")
        told = run_on_spark(
            found, plant=declared, events=events, master=on, checkpoint=checkpoint,
            batch=batch or BATCH,
        )  # fmt: skip
        for event in told:
            sys.stdout.write(event.decode() + "\n")
        return
    for event in (
        _of_log(found, declared, config=config, span=(since, until))
        if events is None
        else _of_file(found, declared, path=events)
    ):
        sys.stdout.write(event.decode() + "\n")


def _of_file(rule: Rule, plant: Plant, *, path: Path) -> Iterator[bytes]:
    from lineside.streams import read_entries

    try:
        lines = path.open("rb")
    except OSError as error:
        raise NotFoundError(
            f"cannot read the events: {error.strerror}", where=str(path), fix="Name a file."
        ) from error
    with lines:
        entries = read_entries(lines, plant=plant, where=str(path))
        yield from _event_lines(rule, entries, plant=plant)


def _of_log(
    rule: Rule, plant: Plant, *, config: Path | None, span: tuple[str, str]
) -> Iterator[bytes]:
    from lineside.hub.rules.service import recorded_entries
    from lineside.store import open_records

    since, until = read_span(*span)
    with open_records(settings(config).records_url, clock=SystemClock()) as records:
        entries = recorded_entries(records.log, since=since, until=until)
        yield from _event_lines(rule, entries, plant=plant)


def _event_lines(rule: Rule, entries: Iterable["Entry"], *, plant: Plant) -> Iterator[bytes]:
    """Return the rule's events as lines; at the end a remark about skipped input."""
    from lineside.streams import Chain, encode_event

    chain = Chain(rule, plant=plant)
    count = read = 0
    for entry in entries:
        count, read = count + 1, read + chain.reads(entry)
        yield from map(encode_event, chain.take(entry))
    yield from map(encode_event, chain.finish())
    if not read:
        say(f"none of {count} entries is read by this rule")
    if left := "; ".join(_left_out(chain)):
        say(f"left out: {left}")


def _left_out(chain: "Chain") -> Iterator[str]:
    """Return the number of skipped records by rule."""
    for engine in chain.engines:
        counted = engine.counted()
        if counted.late or counted.keyless or counted.unreadable:
            of = f" ({engine.rule.id})" if len(chain.engines) > 1 else ""
            yield (
                f"late {counted.late}, without key {counted.keyless}, "
                f"unreadable {counted.unreadable}{of}"
            )


def _plant(path: Path | None, config: Path | None) -> Plant:
    return load_plant(path if path is not None else Path(settings(config).plant))


def _find(plant: Plant, name: str) -> Rule:
    for rule in plant.rule:
        if rule.id == name:
            return rule
    known = ", ".join(rule.id for rule in plant.rule) or "none"
    raise NotFoundError(f"no rule {name!r}", where="plant file", fix=f"Known: {known}.")


def _row(rule: Rule) -> tuple[str, ...]:
    return rule.id, " ".join(rule.read.source), rule.step, rule.emit, rule.name
