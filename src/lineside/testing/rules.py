"""Entries of a log as rules take them, made by hand, and a rule run over them."""

from collections.abc import Iterable, Mapping

import msgspec
import pytest

from lineside.core import InvalidError, Rule, decode, decode_json, decode_toml, encode
from lineside.core.plant_rules import Scalar
from lineside.streams import TICK_TYPE, Entry, RuleEngine, moment, written_time
from lineside.streams.rules.contract import MOST_CAUSES, Output, Record, RuleData, rule_event
from lineside.streams.rules.engine import rule_span_s
from lineside.streams.rules.steps import make_step

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
    """Return a rule's events for entries, each handed over alone."""
    engine = RuleEngine(rule)
    return [output for entry in entries for output in engine.take([entry])]


def record(at_s: float, fields: Mapping[str, Scalar] | None = None, *, name: str = "") -> Record:
    """A record ``at_s`` seconds after ``START_S``, as a step is handed it."""
    at_us = round((START_S + at_s) * 1e6)
    return Record(
        id=name or f"r{at_us}", source="top", at_us=at_us, arrived_us=at_us, fields=fields or {}
    )


def since_start_s(at_us: int) -> float:
    """Seconds since ``START_S``."""
    return at_us / 1e6 - START_S


Handed = tuple[Record, tuple[Scalar, ...]]


class StepContract:
    """Contract suite of a rule's steps; subclasses give ``rule`` and ``handed`` as fixtures.

    ``handed`` are records with their keys in order of time, as the engine hands them over; among
    them they make the step give out something.
    """

    def run(self, rule: Rule, handed: Iterable[Handed], *, every_us: int = 0) -> list[Output]:
        """All outputs; with ``every_us`` time is told in between as well."""
        step, found, now_us = make_step(rule), list[Output](), 0
        for record, key in handed:
            while every_us and now_us and now_us + every_us < record.at_us:
                now_us += every_us
                found += step.advance(now_us)
            now_us = record.at_us
            found += step.advance(now_us)
            found += step.feed(record, key=key)
        return [*found, *step.advance(now_us + round(rule_span_s(rule) * 1e6) + 1)]

    def test_it_gives_out_something(self, rule: Rule, handed: list[Handed]) -> None:
        assert self.run(rule, handed)

    def test_the_same_records_give_the_same(self, rule: Rule, handed: list[Handed]) -> None:
        assert self.run(rule, handed) == self.run(rule, handed)

    def test_how_often_time_is_told_changes_nothing(self, rule: Rule, handed: list[Handed]) -> None:
        assert self.run(rule, handed, every_us=70_000) == self.run(rule, handed)

    def test_names_are_used_once(self, rule: Rule, handed: list[Handed]) -> None:
        names = [(encode(dict(one.key)), one.name, one.revision) for one in self.run(rule, handed)]
        assert len(set(names)) == len(names)

    def test_a_dump_anywhere_goes_on_as_if_nothing_had_been(
        self, rule: Rule, handed: list[Handed]
    ) -> None:
        step, found = make_step(rule), list[Output]()
        for record, key in handed:
            found += step.advance(record.at_us)
            found += step.feed(record, key=key)
            kept = decode_json(encode(step.dump()), where="dump")
            step = make_step(rule)
            step.load(kept)
        end_us = handed[-1][0].at_us + round(rule_span_s(rule) * 1e6) + 1
        assert [*found, *step.advance(end_us)] == self.run(rule, handed)

    def test_causes_are_records_and_not_too_many(self, rule: Rule, handed: list[Handed]) -> None:
        ids = {record.id for record, _ in handed}
        for output in self.run(rule, handed):
            assert len(output.causes) <= MOST_CAUSES
            assert set(output.causes) <= ids

    def test_its_events_have_the_documented_data(self, rule: Rule, handed: list[Handed]) -> None:
        for output in self.run(rule, handed):
            event = rule_event(rule, output, digest="", source="/hall/hub")
            assert msgspec.convert(event.data, RuleData, strict=True) == event.data

    def test_what_is_no_memory_of_it_is_refused(self, rule: Rule) -> None:
        with pytest.raises(InvalidError):
            make_step(rule).load({"nothing": "of ours", "cells": 3, "views": 3})
