from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, SystemClock, parse_rfc3339, rfc3339
from lineside.core.clock import duration_text, duration_toml, parse_duration

zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001  the zone is drawn beside it
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001  the zone is drawn beside it
    timezones=zones,
)


@given(moments)
def test_a_written_time_reads_back_to_its_millisecond(moment: datetime) -> None:
    again = parse_rfc3339(rfc3339(moment))
    assert again.tzinfo is UTC
    assert timedelta(0) <= moment - again < timedelta(milliseconds=1)
    assert rfc3339(again) == rfc3339(moment)


@given(moments, moments)
def test_written_times_sort_as_the_times_do(one: datetime, other: datetime) -> None:
    earlier, later = sorted([one, other])
    assert rfc3339(earlier) <= rfc3339(later)


@given(moments)
def test_a_written_time_has_the_one_documented_form(moment: datetime) -> None:
    text = rfc3339(moment)
    assert len(text) == len("2023-05-15T12:41:07.318Z")
    assert text[10] == "T"
    assert text[-5:-4] == "."
    assert text.endswith("Z")


def test_microseconds_are_cut_and_never_rounded_up() -> None:
    moment = datetime(2023, 5, 15, 12, 41, 7, 999_999, tzinfo=UTC)
    assert rfc3339(moment) == "2023-05-15T12:41:07.999Z"


def test_a_time_without_zone_cannot_be_written() -> None:
    with pytest.raises(InvalidError, match="without zone"):
        rfc3339(datetime(2023, 5, 15))  # noqa: DTZ001  the thing under test


@pytest.mark.parametrize(
    "text",
    ["", "ts", "2023-05-15", "2023-05-15T12:41:07", "2023-13-01T00:00:00Z", "12:41:07Z",
     "2023-05-15T12:41:60Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", None, 7],
)  # fmt: skip
def test_what_is_no_time_with_zone_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_rfc3339(text, where="i/cam ts")
    assert caught.value.where == "i/cam ts"
    assert repr(text) in caught.value.message


@given(st.text(max_size=40))
def test_any_text_reads_as_a_time_or_is_refused(text: str) -> None:
    try:
        moment = parse_rfc3339(text)
    except InvalidError:
        return
    assert moment.tzinfo is UTC


def test_the_systems_clock_is_aware_and_never_runs_backwards() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500 ms", 0.5), ("5 s", 5), ("10 min", 600), ("36 h", 129_600), ("1 d", 86_400),
        ("1.5 h", 5400), ("10min", 600), (" 2 s ", 2), ("4 d 6 h", 367_200), ("0.1 s", 0.1),
    ],
)  # fmt: skip
def test_a_duration_with_units_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "min", "10 m", "-1 s", "1e3 s", "10 Min", "1 h30", "nan s", "9" * 400 + " s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_duration(text)
    assert '"10 min"' in refused.value.fix


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5 s"), (59, "59 s"), (60, "1 min"), (90, "90 s"), (5400, "90 min"),
        (129_600, "36 h"), (86_400, "1 d"), (0, "0 s"), (100_000.5, "100000.5 s"),
    ],
)  # fmt: skip
def test_a_duration_is_told_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.floats(min_value=0, max_value=1e15))
def test_a_duration_in_toml_reads_back_as_it_was(seconds: float) -> None:
    written = duration_toml(seconds)
    again = parse_duration(written[1:-1]) if written.startswith('"') else float(written)
    assert again == seconds
