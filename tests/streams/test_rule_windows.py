"""Windows by a clock of their own, and the begin and end of what they say."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineside.core import InvalidError, Rule
from lineside.streams import explain
from lineside.streams.rules.contract import Output
from lineside.streams.rules.records import microseconds
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.steps.window import WallClock
from lineside.testing.rules import Handed, StepContract, record, rule_of, since_start_s

HEAD = 'id = "r"\nread = { topic = "a" }\n'
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC",
         "Pacific/Apia", "Africa/Casablanca")  # fmt: skip
HOUR_US = 3_600_000_000


def hours(span: tuple[int, int]) -> float:
    return (span[1] - span[0]) / HOUR_US


def told(rule: Rule, *at_s: float) -> list[Output]:
    step, found = make_step(rule), list[Output]()
    for at in at_s:
        one = record(at)
        found += [*step.advance(one.at_us), *step.feed(one, key=())]
    return [*found, *step.advance(record(10_000).at_us)]


def spans(outputs: list[Output]) -> list[tuple[str, float, float]]:
    return [(one.action, since_start_s(one.start_us), since_start_s(one.end_us)) for one in outputs]


# ---- offset and zone


def test_an_offset_moves_the_windows() -> None:
    found = told(rule_of(HEAD + "window = { size_s = 5, offset_s = 2 }"), 0.0, 1.999, 2.0, 6.9)
    assert spans(found) == [("final", -3, 2), ("final", 2, 7)]
    hopping = HEAD + 'window = { kind = "hopping", size_s = 4, every_s = 2, offset_s = 1 }'
    assert spans(told(rule_of(hopping), 2.0)) == [("final", -1, 3), ("final", 1, 5)]


@pytest.mark.parametrize(
    ("day", "lasts_h"), [("2024-03-30", 23), ("2024-03-29", 24), ("2024-10-26", 25)]
)
def test_a_day_by_the_clock_of_berlin_has_23_24_or_25_hours(day: str, lasts_h: float) -> None:
    begin = datetime.fromisoformat(f"{day}T06:00").replace(tzinfo=ZoneInfo("Europe/Berlin"))
    rule = rule_of(HEAD + 'window = { size_s = "1 d", offset_s = "6 h", zone = "Europe/Berlin" }')
    step = make_step(rule)
    inside = begin + timedelta(hours=3)
    at_us = microseconds(inside)
    list(step.feed(record(at_us / 1e6 - 1_700_000_000), key=()))
    (one,) = step.advance(at_us + 26 * HOUR_US)
    assert one.start_us == microseconds(begin)
    assert hours((one.start_us, one.end_us)) == lasts_h


def test_shifts_begin_when_the_clock_says_so_on_the_night_it_is_changed() -> None:
    clock = WallClock("Europe/Berlin", 8 * HOUR_US, 6 * HOUR_US)
    summer = microseconds(datetime(2024, 3, 30, 22, 30, tzinfo=UTC))  # 23:30, an hour is left out
    winter = microseconds(datetime(2024, 10, 26, 22, 30, tzinfo=UTC))  # 00:30, an hour comes twice
    assert (hours(clock.span(summer)), hours(clock.span(winter))) == (7, 9)


@example(zone="Europe/Berlin", at_us=1_729_990_800_000_000, minutes=30, offset=0)
@example(zone="Pacific/Apia", at_us=1_325_239_200_000_000, minutes=1440, offset=360)
@given(
    zone=st.sampled_from(ZONES), at_us=st.integers(0, 2**51),
    minutes=st.sampled_from([7, 30, 60, 480, 1440, 10_080]), offset=st.integers(0, 3000),
)  # fmt: skip
def test_every_moment_lies_in_one_window_and_windows_follow_one_another(
    zone: str, at_us: int, minutes: int, offset: int
) -> None:
    clock = WallClock(zone, minutes * 60_000_000, offset * 60_000_000)
    begin_us, end_us = clock.span(at_us)
    assert begin_us <= at_us < end_us
    assert (
        WallClock(zone, minutes * 60_000_000, offset * 60_000_000).span(end_us - 1)[0] == begin_us
    )
    assert clock.span(end_us)[0] == end_us
    assert clock.span(begin_us - 1)[1] == begin_us


@pytest.mark.parametrize("year", [1, 9999])
def test_times_at_the_end_of_the_calendar_have_a_window_too(year: int) -> None:
    at_us = microseconds(datetime(year, 6, 1, tzinfo=UTC))
    begin_us, end_us = WallClock("America/New_York", 24 * HOUR_US, 0).span(at_us)
    assert begin_us <= at_us < end_us


@pytest.mark.parametrize(
    ("window", "told"),
    [
        ('size_s = 5, zone = "Europe/Berln"', "Did you mean 'Europe/Berlin'?"),
        ('size_s = 5, zone = "../etc/passwd"', "Europe/Berlin"),
        ('kind = "hopping", size_s = 5, every_s = 1, zone = "UTC"', "tumbling"),
        ('kind = "session", gap_s = 5, offset_s = 1', "sessions"),
        ("size_s = 5, offset_s = -1", "0 or more"),
    ],
)
def test_what_a_window_cannot_have_is_refused(window: str, told: str) -> None:
    with pytest.raises(InvalidError) as refused:
        rule_of(f"{HEAD}window = {{ {window} }}")
    assert told in "".join(map(str, refused.value.faults))


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ('size_s = "8 h", offset_s = "6 h", zone = "Europe/Berlin"',
         "stretches of 8 h, one after the other, counted from 06:00 by the clock of Europe/Berlin"),
        ('size_s = "7 d", offset_s = "4 d 6 h"', "counted from 102 h after midnight of 1970-01-01"),
    ],
)  # fmt: skip
def test_clocks_are_said_in_words(window: str, words: str) -> None:
    assert words in explain(rule_of(f"{HEAD}window = {{ {window} }}"))


# ---- begin and end

HOPPING = 'window = { kind = "hopping", size_s = 4, every_s = 2 }\n'
EDGES = HEAD + HOPPING + 'having = [{ field = "count", above = 1 }]\nemit = "edges"\n'


def test_begin_and_end_are_told_instead_of_every_window() -> None:
    at_s = (1.0, 3.0, 5.0, 7.0, 9.0, 15.0, 19.0, 20.0)
    every = told(rule_of(EDGES.replace('emit = "edges"', "")), *at_s)
    assert spans([one for one in every if one.values["count"] != 1]) == [
        ("final", 0, 4), ("final", 2, 6), ("final", 4, 8), ("final", 6, 10), ("final", 18, 22),
    ]  # fmt: skip
    found = told(rule_of(EDGES), *at_s)
    assert spans(found) == [
        ("begun", 0, 4), ("ended", 0, 10), ("begun", 18, 22), ("ended", 18, 22),
    ]  # fmt: skip
    assert [one.values for one in found[:2]] == [
        {"count": 2, "windows": 1}, {"count": 2, "windows": 4},
    ]  # fmt: skip


def test_a_stretch_without_any_record_ends_it() -> None:
    found = told(rule_of(EDGES.replace('"count", above = 1', '"count", above = 0')), 1.0, 9.0)
    assert spans(found) == [
        ("begun", -2, 2), ("ended", -2, 4), ("begun", 6, 10), ("ended", 6, 12),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        EDGES.replace("having", "where"), HEAD + 'emit = "edges"\nrate = { per_s = 1, above = 1 }',
        EDGES.replace('"hopping", size_s = 4, every_s = 2', '"session", gap_s = 2'),
    ],
)  # fmt: skip
def test_edges_are_of_windows_with_having(text: str) -> None:
    with pytest.raises(InvalidError, match="windows with having"):
        rule_of(text)


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40).map(sorted), st.sampled_from([1, 2, 4])
)
def test_edges_are_the_runs_of_windows_that_having_holds_for(at: list[int], every_s: int) -> None:
    text = EDGES.replace("every_s = 2", f"every_s = {every_s}")
    at_s = [0.13 * one for one in at]
    held = [
        one for one in told(rule_of(text.replace('emit = "edges"', "")), *at_s)
        if isinstance(one.values["count"], int) and one.values["count"] > 1
    ]  # fmt: skip
    runs: list[list[Output]] = []
    for one in held:
        if runs and one.start_us == runs[-1][-1].start_us + every_s * 1_000_000:
            runs[-1].append(one)
        else:
            runs.append([one])
    expected = [
        (action, since_start_s(run[0].start_us), since_start_s(last.end_us), windows)
        for run in runs
        for action, last, windows in (("begun", run[0], 1), ("ended", run[-1], len(run)))
    ]
    found = told(rule_of(text), *at_s)
    assert [
        (*span, one.values["windows"]) for span, one in zip(spans(found), found, strict=True)
    ] == expected


def test_edges_are_said_in_words() -> None:
    words = explain(rule_of(EDGES))
    assert "from one stretch to the next, count is above 1 begins to hold, and when that" in words


class TestEdges(StepContract):
    @pytest.fixture(params=["", "most_keys = 2\n", 'window = { size_s = 2, zone = "UTC" }\n'])
    def rule(self, request: pytest.FixtureRequest) -> Rule:
        text = EDGES.replace(HOPPING, "") if "window" in request.param else EDGES
        return rule_of('key = ["k"]\n' + request.param + text)

    @pytest.fixture
    def handed(self) -> list[Handed]:
        return [
            (record(0.31 * n + 3 * (n // 20), name=f"r{n}"), ("abcd"[n * n % 7 % 4],))
            for n in range(120)
        ]


class TestByTheClock(StepContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'window = { size_s = 7, offset_s = 3, zone = "Australia/Lord_Howe" }')

    @pytest.fixture
    def handed(self) -> list[Handed]:
        return [(record(1.3 * n), ()) for n in range(60)]
