"""Entries of a log as rules take them, made by hand, and a rule run over them."""

from collections.abc import Iterable, Mapping

from lineside.core import Rule, Scalar, decode, decode_toml, encode
from lineside.streams import TICK_TYPE, Entry, Output, RuleEngine, moment, written_time

START_S = 1_700_000_000
"""A moment that is a multiple of 5 s."""


def rule_of(text: str) -> Rule:
    """A rule from the TOML of its table."""
    return decode(Rule, decode_toml(text.encode(), where="rule"), where="rule")


def message(
    topic: str, fields: Mapping[str, Scalar], *, at_s: float, arrived_s: float | None = None,
    kind: str = "message", name: str = "",
) -> Entry:  # fmt: skip
    """A message of the plant, ``at_s`` seconds after ``START_S``."""
    at_us = round((START_S + at_s) * 1e6)
    arrived_us = at_us if arrived_s is None else round((START_S + arrived_s) * 1e6)
    body = {
        "id": name or f"{topic}@{at_us:020d}", "time": written_time(moment(at_us)),
        "type": f"lineside.plant.{kind}.v1", "data": {**fields, "topic": topic},
    }  # fmt: skip
    return Entry(
        type=f"lineside.plant.{kind}.v1", subject=topic, arrived_us=arrived_us, body=encode(body)
    )


def tick(at_s: float) -> Entry:
    """An entry that says only that time has passed."""
    return Entry(type=TICK_TYPE, subject="", arrived_us=round((START_S + at_s) * 1e6), body=b"{}")


def outputs_of(rule: Rule, entries: Iterable[Entry]) -> list[Output]:
    """What a rule gives out of entries, each handed over alone."""
    engine = RuleEngine(rule)
    return [output for entry in entries for output in engine.take([entry])]


def since_start_s(at_us: int) -> float:
    """Seconds since ``START_S``."""
    return at_us / 1e6 - START_S
