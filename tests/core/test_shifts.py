"""Shifts and days: by the local clock, over midnight, and on the days on which it is changed."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, parse_plant
from lineside.core.shifts import Period, Shift, Weekday, day_at, instant, shift_at, shifts_of

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
THREE = (
    Shift(name="Early", begin="06:00", end="14:00"),
    Shift(name="Late", begin="14:00", end="22:00"),
    Shift(name="Night", begin="22:00", end="06:00"),
)
BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
clocks = st.integers(0, 287).map(lambda step: f"{step // 12:02}:{step % 12 * 5:02}")
JANUARY, DECEMBER = datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2026-12-31")
moments = st.datetimes(JANUARY, DECEMBER, timezones=st.just(UTC))


def hours(period: Period) -> float:
    return (period.end - period.begin) / timedelta(hours=1)


def shift_of(name: str, day: date) -> Period:
    return next(one for one in shifts_of(THREE, day, zone=BERLIN) if one.name == name)


def test_a_shift_over_midnight_is_that_of_the_day_on_which_it_begins() -> None:
    only = Shift(name="Night", begin="22:00", end="06:00", days=(Weekday.FRI,))
    at = datetime(2026, 1, 3, 3, tzinfo=BERLIN)  # a Saturday
    found = shift_at([only], at, zone=BERLIN)
    assert found is not None
    assert found.begin == datetime(2026, 1, 2, 21, tzinfo=UTC)
    assert found.end == datetime(2026, 1, 3, 5, tzinfo=UTC)
    assert shift_at([only], at + timedelta(days=1), zone=BERLIN) is None


def test_a_night_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    assert hours(shift_of("Night", SPRING - timedelta(days=1))) == 7
    assert hours(shift_of("Night", AUTUMN - timedelta(days=1))) == 9
    assert hours(day_at(datetime(2026, 3, 29, 12, tzinfo=BERLIN), zone=BERLIN)) == 23
    assert hours(day_at(datetime(2026, 10, 25, 12, tzinfo=BERLIN), zone=BERLIN)) == 25


def test_a_time_that_the_clock_skips_is_the_moment_of_the_change() -> None:
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)
    skipped = [datetime.fromisoformat(f"2026-03-29T02:{minute}") for minute in ("00", "30", "55")]
    assert {instant(one, zone=BERLIN) for one in skipped} == {change}


@given(cuts=st.lists(clocks, min_size=1, max_size=6, unique=True), at=moments,
       zone=st.sampled_from(ZONES))  # fmt: skip
def test_shifts_that_meet_on_the_clock_fill_time_without_gap_or_overlap(
    cuts: list[str], at: datetime, zone: str
) -> None:
    cuts.sort()
    shifts = [
        Shift(name=begin, begin=begin, end=end)
        for begin, end in zip(cuts, [*cuts[1:], cuts[0]], strict=True)
    ]
    local = ZoneInfo(zone)
    day = at.astimezone(local).date()
    near = [day + timedelta(days=by) for by in (-2, -1, 0, 1)]
    spans = [one for each in near for one in shifts_of(shifts, each, zone=local)]
    assert sum(at in one for one in spans) == 1
    assert shift_at(shifts, at, zone=local) in spans
    assert at in day_at(at, zone=local)


@given(local=st.datetimes(JANUARY, DECEMBER),
       later_s=st.integers(0, 7200), zone=st.sampled_from(ZONES))  # fmt: skip
def test_a_later_time_of_the_clock_is_never_an_earlier_moment(
    local: datetime, later_s: int, zone: str
) -> None:
    local = local.replace(microsecond=0)
    later = instant(local + timedelta(seconds=later_s), zone=ZoneInfo(zone))
    assert instant(local, zone=ZoneInfo(zone)) <= later


PLANT = 'schema = "lineside.plant/1"\nsite = "hall"\n'
EARLY = '[[shift]]\nname = "Early"\nbegin = "06:00"\nend = "14:00"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EARLY.replace("06:00", "6:00"), "steps of five minutes"),
        (EARLY.replace("14:00", "14:02"), "steps of five minutes"),
        (EARLY.replace("Early", ""), "a name"),
        (EARLY + 'days = ["mo"]\n', "mon"),
        (EARLY + EARLY.replace("Early", "Late"), "does not overlap 'Early'"),
        (EARLY + EARLY.replace("06:00", "22:00").replace("14:00", "06:05"), "does not overlap"),
        ('time_zone = "Europe/Berlim"\n', "Europe/Berlin"),
        ('[[line]]\nid = "a"\nname = "A"\nlimit_reject = 2\n', "between 0 and 1"),
    ],
)
def test_a_plant_file_with_faulty_shifts_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_plant((PLANT + text).encode(), where="plant.toml")
    told = [str(refused.value), refused.value.fix, *map(str, refused.value.faults)]
    assert any(said in one for one in told)


def test_shifts_of_other_days_may_have_the_same_times() -> None:
    week = EARLY + 'days = ["mon", "tue", "wed", "thu", "fri"]\n'
    weekend = EARLY.replace("14:00", "12:00") + 'days = ["sat", "sun"]\n'
    text = PLANT + 'time_zone = "Europe/Berlin"\n' + week + weekend
    plant = parse_plant(text.encode(), where="plant.toml")
    assert [len(one.days) for one in plant.shift] == [5, 2]
