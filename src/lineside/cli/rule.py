"""``lineside rule …``: what a plant file's rules do, and one of them over recorded events."""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.output import JsonFlag, say, show, table
from lineside.cli.rule_boxes import boxes
from lineside.cli.rule_export import export
from lineside.cli.rule_learn import learn
from lineside.cli.rule_record import record
from lineside.cli.rule_spark import BATCH, program_text, run_on_spark
from lineside.cli.rule_try import try_rule
from lineside.cli.span import read_span
from lineside.core import (
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    SystemClock,
    load_plant,
)

if TYPE_CHECKING:
    from lineside.streams import Chain, Entry

PlantOption = Annotated[
    Path | None, typer.Option("--plant", help="The plant file; else that of the hub's settings.")
]


class Form(StrEnum):
    """How a rule is told."""

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
        yield from _said(rule, entries, plant=plant)


def _of_log(
    rule: Rule, plant: Plant, *, config: Path | None, span: tuple[str, str]
) -> Iterator[bytes]:
    from lineside.hub import recorded_entries
    from lineside.store import open_records

    since, until = read_span(*span)
    with open_records(settings(config).records_url, clock=SystemClock()) as records:
        entries = recorded_entries(records.log, since=since, until=until)
        yield from _said(rule, entries, plant=plant)


def _said(rule: Rule, entries: Iterable["Entry"], *, plant: Plant) -> Iterator[bytes]:
    """What the rule says, as lines; at the end a remark about the input that it left out."""
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
    """What became of no event for a fault of its own, by rule of those that were run."""
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
