"""What rules said, added up: by hand, and against a plain count of anything."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Plant, stable_id
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.ledger import to_entry
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.rules import log as rule_log
from lineside.hub.rules.log import (
    LAG,
    MOST_BARS,
    MOST_SERIES,
    KeySum,
    RuleCounts,
    RuleFilter,
    RuleSums,
    Series,
    key_words,
)
from lineside.hub.views import EventView, view_of
from lineside.store import LogEntry, Logged, open_records
from lineside.streams import EVENT_TYPE, Event
from lineside.testing import FakeClock
from tests.hub.conftest import drain, open_hub

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALL = RuleFilter()
_WIDTHS_S = rule_log._WIDTHS_S


def said(
    second: float, image: str = "Google", *, rule: str = "windows", action: str = "final",
    name: str = "", number: int = 0, source: str = "/h/hub", **values: Any,  # noqa: ANN401  plain values
) -> LogEntry:  # fmt: skip
    at = START + timedelta(seconds=second)
    data = {"rule": rule, "action": action, "key": {"image": image}, "values": values,
            "name": name or f"{second}"}  # fmt: skip
    event_id = stable_id("evt", rule, str(second), image, str(values), str(number))
    return to_entry(
        Event(id=event_id, source=source, type=EVENT_TYPE, subject=rule, time=at, data=data)
    )


def append(hub: Services, entries: Sequence[LogEntry]) -> None:
    hub.records.log.append(entries)


def add(counts: RuleCounts, page: Sequence[Logged]) -> None:
    if page:
        counts.take(page)


def sums_of(newest_first: Sequence[LogEntry], wanted: RuleFilter = ALL) -> RuleSums:
    """Sums as the hub keeps them."""
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        counts = RuleCounts(records, clock=clock)
        add(counts, records.log.append(newest_first[::-1]))
        return counts.sums(wanted)


def plain_sums(events: Iterable[EventView]) -> RuleSums:
    """Add up by looking at each event; they come newest first."""
    told = list(events)
    kept = [one for one in told if _data(one).get("action") != "late"]
    newest = _newest(kept)
    keys = sorted(_keys(kept, newest), key=lambda one: (-one.counted, one.rule, one.key))
    begins, width_s = _bars([one.time for one in newest])
    return RuleSums(
        events=len(told), late=len(told) - len(kept), keys=tuple(keys),
        key_count=len(keys), pair_events=_said_pairs(kept),
        pairs=sum(one.pairs or 0 for one in keys),
        unpaired=sum(one.unpaired or 0 for one in keys),
        begins_s=begins, width_s=width_s,
        series=_series(newest, keys[:MOST_SERIES], bars=(begins, width_s)),
    )  # fmt: skip


def _newest(events: Iterable[EventView]) -> list[EventView]:
    """Of what was told several times the last telling."""
    found: dict[tuple[str, str, str], EventView] = {}
    for event in events:
        found.setdefault((*_place(event), str(_data(event).get("name") or event.id)), event)
    return list(found.values())


def _keys(rule_events: Sequence[EventView], newest: Sequence[EventView]) -> Iterable[KeySum]:
    events, counts = Counter(map(_place, rule_events)), Counter[tuple[str, str]]()
    for event in newest:
        counts[_place(event)] += _counted(event)
    pairs = _pairs(rule_events)
    last = {_place(event): event.time for event in reversed(rule_events)}
    for place, count in counts.items():
        made, alone = pairs.get(place, (None, None))
        yield KeySum(
            rule=place[0], key=place[1], events=events[place], counted=count, pairs=made,
            unpaired=alone, last=last[place],
        )  # fmt: skip


def _pairs(events: Iterable[EventView]) -> dict[tuple[str, str], tuple[int, int]]:
    """Pairs and what is left over of each rule and key, over the last word of each session."""
    sessions: dict[tuple[str, str, str], tuple[int, int]] = {}
    for event in events:
        values = _values(event)
        made, alone = values.get("pairs"), values.get("left_over")
        if _is_whole(made) and _is_whole(alone):
            session = (*_place(event), str(values.get("session", "")))
            sessions.setdefault(session, (made, alone))
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (rule, key, _), (made, alone) in sessions.items():
        before = found.get((rule, key), (0, 0))
        found[rule, key] = (before[0] + made, before[1] + alone)
    return found


def _said_pairs(events: Iterable[EventView]) -> int:
    values = map(_values, events)
    return sum(_is_whole(one.get("pairs")) and _is_whole(one.get("left_over")) for one in values)


def _series(
    newest: Iterable[EventView], keys: Iterable[KeySum], *, bars: tuple[Sequence[int], int]
) -> tuple[Series, ...]:
    begins, width_s = bars
    counts = {(one.rule, one.key): [0] * len(begins) for one in keys}
    for event in newest:
        if (row := counts.get(_place(event))) is not None:
            row[(int(event.time.timestamp()) - begins[0]) // width_s] += _counted(event)
    alike = len({rule for rule, _ in counts}) == 1
    return tuple(
        Series(name=key or rule if alike else f"{rule} {key}".strip(), counts=tuple(row))
        for (rule, key), row in counts.items()
    )


def _bars(times: Sequence[datetime]) -> tuple[tuple[int, ...], int]:
    """Bars aligned to the epoch, from the first time to the last."""
    if not times:
        return (), 1
    first, last = int(min(times).timestamp()), int(max(times).timestamp())
    fits = (one for one in _WIDTHS_S if last // one - first // one < MOST_BARS)
    width_s = next(fits, (last - first) // (MOST_BARS - 1) + 1)
    start = first - first % width_s
    return tuple(range(start, last + 1, width_s)), width_s


def _counted(event: EventView) -> int:
    count = _values(event).get("count")
    return count if _is_whole(count) else 1


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _place(event: EventView) -> tuple[str, str]:
    return event.subject, key_words(_data(event).get("key", {}))


def _values(event: EventView) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _data(event).get("values", {})
    return found


def _data(event: EventView) -> Mapping[str, Any]:
    found: Mapping[str, Any] = event.event.get("data", {})
    return found


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


@pytest.mark.parametrize("odd", [True, "many", 2.5, None])
def test_what_is_no_whole_number_counts_once_and_makes_no_pairs(hub: Services, odd: object) -> None:
    append(hub, [said(1, count=odd, pairs=odd, left_over=0), said(2, pairs=1, left_over=odd)])
    counts = RuleCounts(hub.records, clock=hub.clock)
    drain(follow(hub, counts))
    (found,) = counts.sums(ALL).keys
    assert (found.counted, found.pairs) == (2, None)


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
        said(at, key, rule=rule, count=count, name=str(n), number=n)
        for n, (at, key, rule, count) in enumerate(sorted(rows, reverse=True))
    ]
    found = plain_sums(
        view_of(Logged(position=1, source_position=1, entry=one, arrived_at=START, previous="",
                       hash=""))
        for one in events
    )  # fmt: skip
    plain = Counter[tuple[str, str]]()
    for _, key, rule, count in rows:
        plain[rule, key] += count
    assert {(one.rule, one.key): one.counted for one in found.keys} == dict(plain)
    assert len(found.begins_s) <= MOST_BARS
    assert all(begin % found.width_s == 0 for begin in found.begins_s)
    assert len(found.series) == min(MOST_SERIES, len(plain))
    drawn = [sum(one.counts) for one in found.series]
    assert drawn == [one.counted for one in found.keys[:MOST_SERIES]]


class Steps(NamedTuple):
    """Events, how they are read, and what is asked for."""

    events: list[LogEntry]
    pages: list[tuple[int, int]]
    wanted: list[RuleFilter]


@st.composite
def steps(draw: st.DrawFn) -> Steps:
    span_s = draw(st.sampled_from([90.0, 4000.0, 200_000.0, 1e7]))
    seconds = st.floats(0, span_s) | st.sampled_from([0.0, 60.0, 3600.0, 43_200.0])
    events = []
    for number in range(draw(st.integers(1, 25))):
        values: dict[str, Any] = {"count": draw(st.sampled_from([0, 1, 7, None, True, "x", -2]))}
        if draw(st.booleans()):
            values |= {"pairs": draw(st.integers(0, 9)), "left_over": number,
                       "session": draw(st.sampled_from(["", "s"]))}  # fmt: skip
        events.append(
            said(
                draw(seconds), draw(st.sampled_from(["Google", "mongo"])),
                rule=draw(st.sampled_from("rs")), name=draw(st.sampled_from("abc")),
                action=draw(st.sampled_from(["final", "begun", "ended", "late"])), number=number,
                **values,
            )
        )  # fmt: skip
    places = st.integers(0, len(events))
    pages = draw(st.lists(st.tuples(places, places), max_size=6))
    times = st.sampled_from([one.captured_at for one in events]) | st.builds(
        lambda second: START + timedelta(seconds=second), seconds
    )
    bound = st.none() | times
    wanted = draw(
        st.lists(
            st.builds(
                RuleFilter, rule=st.sampled_from(["", "r"]), key=st.sampled_from(["", "GO", "z"]),
                action=st.sampled_from(["", "begun", "late"]), since=bound, until=bound,
            ),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    return Steps(events, pages, wanted)


@pytest.mark.slow
@given(steps())
def test_sums_are_those_of_a_plain_fold_however_the_log_is_read(given_steps: Steps) -> None:
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        log = records.log.append(given_steps.events)
        for begin, length in given_steps.pages:  # restarts, and another hub that reads the same
            place = min(begin, records.rule_sums.position())
            add(RuleCounts(records, clock=clock), log[place : place + length])
        counts = RuleCounts(records, clock=clock)
        add(counts, log[counts.resume(99) :])
        views = [view_of(logged) for logged in reversed(log)]
        for wanted in given_steps.wanted:
            assert counts.sums(wanted) == plain_sums(filter(wanted.passes, views))


@pytest.fixture
def counts(hub: Services) -> RuleCounts:
    return RuleCounts(hub.records, clock=hub.clock)


def follow(hub: Services, counts: RuleCounts, *, page: int = 200, note: int = 1) -> Follower:
    return Follower(
        "rule-sums", records=hub.records, ledger=hub.ledger, handle=counts.take, type=EVENT_TYPE,
        page=page, note_every=note, skip=counts.skip, resume=counts.resume,
    )  # fmt: skip


@pytest.mark.parametrize(("page", "note"), [(1, 1), (3, 1), (200, 1), (2, 1000)])
def test_each_event_counts_once_over_restarts_and_two_hubs(
    hub: Services, counts: RuleCounts, page: int, note: int
) -> None:
    events = [said(second, count=1) for second in range(12)]
    append(hub, events[:7])
    first = follow(hub, counts, page=page, note=note)
    first.step()
    append(hub, events)
    other = RuleCounts(hub.records, clock=hub.clock)
    for again in (follow(hub, other, page=page, note=note), first, follow(hub, other)):
        drain(again)
    assert counts.sums(ALL).keys[0].counted == 12


def test_an_event_with_an_odd_key_or_count_counts_once(hub: Services, counts: RuleCounts) -> None:
    append(
        hub,
        [
            said(1, count=1),
            said(2, count=10**30),
            said(3, "a\x00", count=1),
            said(4),
            said(5, "a" * 300_000),
            said(6, pairs=2**63, left_over=0),
        ],
    )
    follower = follow(hub, counts)
    drain(follower)
    assert not follower.quarantine
    keys = counts.sums(ALL).keys
    assert {one.key: (one.counted, one.pairs) for one in keys} == {
        "Google": (4, None), "a\ufffd": (1, None), "a" * 10_000: (1, None),
    }  # fmt: skip
    assert follow(hub, counts).step() == 0


def test_bars_begin_no_earlier_than_time_does(hub: Services, counts: RuleCounts) -> None:
    first = datetime.min.replace(tzinfo=UTC)
    append(hub, [said((first - START).total_seconds()), said(2)])
    drain(follow(hub, counts))
    found = counts.sums(ALL)
    assert datetime.fromtimestamp(found.begins_s[0], UTC) == first
    assert sum(found.series[0].counts) == 2


def test_sums_are_whole_until_an_event_has_waited_for_long(
    hub: Services, counts: RuleCounts, clock: FakeClock
) -> None:
    assert counts.is_whole()
    append(hub, [said(1)])
    assert counts.is_whole()
    clock.advance(LAG.total_seconds() + 1)
    assert not counts.is_whole()
    drain(follow(hub, counts))
    assert counts.is_whole()


def test_a_store_from_before_there_were_sums_gets_them_from_its_log(
    config: HubConfig, plant: Plant, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "records.db"
    config = replace(config, records=SecretUrl(f"sqlite:///{path}"))
    with open_hub(config, plant=plant, clock=clock) as hub:
        append(hub, [said(second, count=1) for second in range(9)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE rule_events")
        connection.execute("UPDATE lineside_format SET version_num = '0003'")
    clock.advance(60)
    with open_hub(config, plant=plant, clock=clock) as hub:
        assert (hub.rule_counts.sums(ALL).events, hub.rule_counts.is_whole()) == (0, False)
        drain(follow(hub, hub.rule_counts))
        assert (hub.rule_counts.sums(ALL).events, hub.rule_counts.is_whole()) == (9, True)


def test_sums_stay_whole_where_the_newest_rule_event_was_forgotten(
    hub: Services, counts: RuleCounts, clock: FakeClock
) -> None:
    source = hub_source(hub.plant.site)
    odd = Event(
        id="evt_odd", source="/silent/hub", type=EVENT_TYPE, subject="r", time=START, data={}
    )
    append(hub, [said(1, source="/silent/hub"), to_entry(odd), said(2, source=source)])
    drain(follow(hub, counts))
    for number in range(2):
        order = replace(
            odd, id=f"evt_{number}", source=source, type="lineside.order.v1", time=clock.now()
        )
        hub.ledger.record([order])
        hub.ledger.anchor()
        clock.advance(86_400.0)
    assert hub.records.log.prune(source, before=clock.now(), anchors=source)
    counts.forget()
    assert (counts.sums(ALL).events, counts.is_whole()) == (1, True)


def test_events_that_the_log_forgot_leave_the_sums(
    hub: Services, counts: RuleCounts, clock: FakeClock
) -> None:
    day_s, source = 86_400.0, hub_source(hub.plant.site)
    append(hub, [said(0, source="/silent/hub", count=1)])  # its chain has no anchor and stays
    for day in range(4):
        append(hub, [said(day * day_s + one, source=source, count=1) for one in range(3)])
        hub.ledger.anchor()
        clock.advance(day_s)
    drain(follow(hub, counts))
    views = [view_of(one) for one in hub.records.log.read(type=EVENT_TYPE, newest_first=True)]
    assert counts.sums(ALL) == plain_sums(views)
    hub.records.log.prune(source, before=clock.now() - timedelta(days=1), anchors=source)
    counts.forget()
    left = [view_of(one) for one in hub.records.log.read(type=EVENT_TYPE, newest_first=True)]
    assert counts.sums(ALL) == plain_sums(left)
    assert 1 < len(left) < len(views)
    for _ in range(2):
        hub.ledger.record([Event(id=f"evt_{clock.now()}", source=source, type="lineside.order.v1",
                                 subject="o", time=clock.now(), data={})])  # fmt: skip
        hub.ledger.anchor()
        clock.advance(day_s)
    hub.records.log.prune(source, before=clock.now(), anchors=source)
    counts.forget()
    assert counts.sums(ALL) == plain_sums([views[-1]])
