"""Figures are written alike on both sides; the cases are shared with the browser's test."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.web import format as written

CASES: dict[str, list[tuple[list[Any], str]]] = json.loads(
    (Path(__file__).parent / "format_cases.json").read_text()
)
KEYWORDS = {"number": ("digits",), "percent": ("digits",), "counted": ("many",)}


def call(name: str, arguments: list[Any]) -> str:
    function: Callable[..., str] = getattr(written, name)
    positional = 2 if name == "counted" else 1
    names = KEYWORDS.get(name, ())
    keywords = dict(zip(names, arguments[positional:], strict=False))
    return function(*arguments[:positional], **keywords)


@pytest.mark.parametrize("name", sorted(CASES))
def test_figures_are_written_as_the_shared_cases_say(name: str) -> None:
    for arguments, wanted in CASES[name]:
        spaced = wanted.replace("_", written.UNIT) if name != "tail" else wanted
        assert call(name, arguments).replace(written.NARROW, " ") == spaced


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_taking_the_thin_spaces_out_gives_the_number_back(value: int) -> None:
    assert int(written.number(value).replace(written.NARROW, "")) == value


@given(st.floats(min_value=0, max_value=1))
def test_a_probability_never_claims_a_certainty_it_is_not(value: float) -> None:
    text = written.probability(value)
    assert (text == "1.00") == (value == 1)
    assert (text == "0.00") == (value == 0)


@given(st.integers(min_value=0, max_value=10**8))
def test_a_span_is_never_empty_and_has_at_most_two_units(seconds: int) -> None:
    assert 1 <= len(written.span(seconds).split(" ")) <= 2


def test_times_without_script_are_utc_and_say_so() -> None:
    at = datetime(2026, 11, 20, 14, 2, 11, tzinfo=UTC)
    assert written.clock_time(at) == "14:02:11 UTC"
    assert written.day_time(at) == "2026-11-20 14:02:11 UTC"
