"""When a rollout may begin: windows by the site's clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.models import Window
from lineside.models.versions import GroupSettings, ModelGroups, Weekday, may_start, next_start
from lineside.store import open_records
from lineside.testing import FakeClock

ZURICH = ZoneInfo("Europe/Zurich")
NIGHT = Window(days=(Weekday.SAT,), begins="22:00", ends="04:00")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH)


@pytest.mark.parametrize(
    ("local", "inside"),
    [
        ("2026-01-03T21:59", False),
        ("2026-01-03T22:00", True),
        ("2026-01-03T23:59", True),
        ("2026-01-04T00:00", True),
        ("2026-01-04T03:59", True),
        ("2026-01-04T04:00", False),
        ("2026-01-04T22:00", False),
        ("2026-01-02T22:30", False),
    ],
)
def test_a_window_over_midnight_is_of_the_day_it_begins_on(local: str, *, inside: bool) -> None:
    assert may_start(at(local).astimezone(UTC), (NIGHT,), zone=ZURICH) is inside


def test_the_sites_clock_counts_not_the_machines() -> None:
    window = Window(begins="06:00", ends="07:00")
    summer, winter = (
        datetime(2026, 7, 1, 4, 30, tzinfo=UTC),
        datetime(2026, 1, 1, 5, 30, tzinfo=UTC),
    )
    assert may_start(summer, (window,), zone=ZURICH)
    assert may_start(winter, (window,), zone=ZURICH)
    assert not may_start(winter, (window,), zone=UTC)


def test_without_windows_any_time_is_right() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert may_start(now, (), zone=ZURICH)
    assert next_start(now, (), zone=ZURICH) == now


def test_equal_begin_and_end_are_a_whole_day() -> None:
    day = Window(days=(Weekday.SUN,), begins="00:00", ends="00:00")
    assert may_start(at("2026-01-04T23:59"), (day,), zone=ZURICH)
    assert not may_start(at("2026-01-05T00:00"), (day,), zone=ZURICH)


def test_an_hour_that_the_clock_leaves_out_never_comes_and_the_next_week_is_told() -> None:
    gone = Window(days=(Weekday.SUN,), begins="02:00", ends="03:00")
    before = at("2026-03-29T01:30").astimezone(UTC)
    assert next_start(before, (gone,), zone=ZURICH) == at("2026-04-05T02:00").astimezone(UTC)


times = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
windows = st.builds(
    Window, days=st.lists(st.sampled_from(list(Weekday)), max_size=3).map(tuple), begins=times,
    ends=times,
)  # fmt: skip


@settings(max_examples=40)
@given(window=windows, minutes=st.integers(0, 525_600))
def test_the_next_start_is_one_and_none_lies_before_it(window: Window, minutes: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    found = next_start(now, (window,), zone=ZURICH)
    if found is None:
        return
    assert may_start(found, (window,), zone=ZURICH)
    if found > now:
        assert not may_start(found - timedelta(minutes=1), (window,), zone=ZURICH)
        local = found.astimezone(ZURICH)
        wall = f"{local.hour:02d}:{local.minute:02d}"
        assert wall == window.begins or found.date().month in (3, 10)


@pytest.mark.parametrize("text", ["", "24:00", "6:00", "06:60", "06:00:00", "noon"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="a time of day"):
        Window(begins=text, ends="04:00")


def test_settings_are_kept_and_make_sense(clock: FakeClock) -> None:
    wished = GroupSettings(deploy_on_approval=True, windows=(NIGHT,), device_group="hall-2")
    with open_records("memory://", clock=clock) as records:
        groups = ModelGroups(records)
        assert groups.settings("tiles") == GroupSettings()
        groups.put("tiles", wished)
        assert groups.settings("tiles") == wished
    with pytest.raises(InvalidError, match="for nobody"):
        GroupSettings(deploy_on_approval=True)
    with pytest.raises(InvalidError, match="33 windows"):
        GroupSettings(windows=(NIGHT,) * 33)
