"""What rules said, added up: by hand, and against a plain count of anything."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lineside.hub.rules.log import MOST_BARS, MOST_SERIES, sums_of
from lineside.hub.views import EventView
from lineside.streams import EVENT_TYPE

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def said(
    second: float, image: str = "Google", *, rule: str = "windows", action: str = "final",
    name: str = "", **values: Any,  # noqa: ANN401  plain values
) -> EventView:  # fmt: skip
    at = START + timedelta(seconds=second)
    data = {"rule": rule, "action": action, "key": {"image": image}, "values": values,
            "name": name or f"{second}"}  # fmt: skip
    return EventView(
        position=1, source_position=1, id=f"evt_{rule}_{second}_{image}_{values}", source="/h/hub",
        type=EVENT_TYPE, subject=rule, time=at, arrived_at=at, hash="", previous="",
        event={"data": data},
    )  # fmt: skip


def test_nothing_adds_up_to_nothing() -> None:
    found = sums_of([])
    assert (found.events, found.keys, found.begins_s, found.series) == (0, (), (), ())


def test_windows_count_with_their_records_and_as_they_were_told_last() -> None:
    newest_first = [
        said(5, count=4, name="b"), said(5, count=2, name="b"), said(0, count=3, name="a"),
        said(0, "Mongo", count=1, name="a"),
    ]  # fmt: skip
    found = sums_of(newest_first)
    assert [(one.key, one.events, one.counted) for one in found.keys] == [
        ("Google", 3, 7), ("Mongo", 1, 1)
    ]  # fmt: skip
    assert found.width_s == 1
    assert found.series[0].counts == (3, 0, 0, 0, 0, 4)
    assert found.keys[0].pairs is None


def test_pairs_stand_as_they_were_told_last_in_each_session() -> None:
    newest_first = [
        said(9, rule="pairs", pairs=1, left_over=1, session="b"),
        said(8, rule="pairs", pairs=1, left_over=0, session="b"),
        said(5, rule="pairs", pairs=4, left_over=1, session="a"),
        said(7, "Mongo", rule="pairs", pairs=0, left_over=1, session="b"),
    ]
    found = sums_of(newest_first)
    assert {one.key: (one.pairs, one.unpaired) for one in found.keys} == {
        "Google": (5, 2), "Mongo": (0, 1)
    }  # fmt: skip
    assert (found.pairs, found.unpaired) == (5, 3)


def test_late_records_are_counted_apart() -> None:
    found = sums_of([said(3, action="late", late_by_s=2.0), said(1, count=2)])
    assert (found.events, found.late, found.keys[0].counted) == (2, 1, 2)


def test_what_is_no_count_counts_once() -> None:
    for odd in (True, "many", 2.5, None):
        assert sums_of([said(1, count=odd)]).keys[0].counted == 1


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 1e7), st.sampled_from("abcdef"), st.sampled_from(["r", "s"]),
        st.integers(0, 50),
    ),
    max_size=40,
)  # fmt: skip


@given(EVENTS)
def test_bars_hold_what_the_keys_counted(rows: list[tuple[float, str, str, int]]) -> None:
    events = [
        said(at, key, rule=rule, count=count, name=str(n))
        for n, (at, key, rule, count) in enumerate(sorted(rows, reverse=True))
    ]
    found = sums_of(events)
    plain = Counter[tuple[str, str]]()
    for _, key, rule, count in rows:
        plain[rule, key] += count
    assert {(one.rule, one.key): one.counted for one in found.keys} == dict(plain)
    assert len(found.begins_s) <= MOST_BARS
    assert all(begin % found.width_s == 0 for begin in found.begins_s)
    assert len(found.series) == min(MOST_SERIES, len(plain))
    drawn = [sum(one.counts) for one in found.series]
    assert drawn == [one.counted for one in found.keys[:MOST_SERIES]]
