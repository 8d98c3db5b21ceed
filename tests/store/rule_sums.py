"""The suite of sums of rule events, against a plain fold over the events."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from lineside.core import InvalidError
from lineside.store import Records, sums
from lineside.store.sums import PairCount, SumEvent
from lineside.testing.clock import NOON
from lineside.testing.store.rows import log_entry

Found = dict[tuple[str, str], tuple[Any, ...]]
_DAY = timedelta(days=1)


def plain_sums(
    events: Iterable[SumEvent], *, rule: str = "", action: str = "", key: str = "",
    since: datetime | None = None, until: datetime | None = None,
) -> tuple[Found, int, list[SumEvent]]:  # fmt: skip
    """Sums by rule and key, late events, and what counts, by looking at each event."""
    passed = [
        one for one in events
        if rule in ("", one.rule) and action in ("", one.action)
        and key.lower() in one.key.lower()
        and (since is None or one.at >= since) and (until is None or one.at < until)
    ]  # fmt: skip
    kept = [one for one in passed if not one.late]
    newest = {(one.rule, one.key, one.name): one for one in kept}
    sessions = {
        (one.rule, one.key, one.pairs.session): one.pairs for one in kept if one.pairs is not None
    }
    found: Found = {}
    for place in {(one.rule, one.key) for one in kept}:
        mine = [one for one in kept if (one.rule, one.key) == place]
        pairs = [one for (*of, _), one in sessions.items() if tuple(of) == place]
        found[place] = (
            len(mine),
            sum(one.counted for (*of, _), one in newest.items() if tuple(of) == place),
            sum(one.pairs is not None for one in mine),
            sum(one.pairs for one in pairs), sum(one.unpaired for one in pairs),
            mine[-1].at,
        )  # fmt: skip
    late = len(passed) - len(kept)
    return found, late, list(newest.values())


def check_sums(records: Records, events: Sequence[SumEvent], **wanted: Any) -> None:  # noqa: ANN401  as of ``find``
    """Sums over these bounds are those of a plain fold, and so are bars of several widths."""
    sums = records.rule_sums.find(**wanted)
    plain, late, newest = plain_sums(events, **wanted)
    order = sorted(plain, key=lambda place: (-plain[place][1], place))
    assert [(one.rule, one.key) for one in sums.series] == order
    assert [one[3:] for one in sums.series] == [plain[place] for place in order]
    totals = [sum(one[place] for one in plain.values()) for place in (0, 2, 3, 4)]
    assert sums[1:7] == (len(plain), totals[0], late, *totals[1:])
    if len(plain) > 1:
        first = records.rule_sums.find(**wanted, most=1)
        assert first == sums._replace(series=sums.series[:1])
    times = [one.at for one in newest]
    assert (sums.first, sums.last) == ((min(times), max(times)) if times else (None, None))
    if sums.first is None or sums.last is None:
        return
    span = {name: wanted[name] for name in ("since", "until", "action") if name in wanted}
    first_s, last_s = int(sums.first.timestamp()), int(sums.last.timestamp())
    names = {one.series: (one.rule, one.key) for one in sums.series}
    for width_s in (7, 60, 3600, 100_003):
        begins_s = range(first_s - first_s % width_s, last_s + 1, width_s)
        if len(begins_s) > 200:
            continue
        bars = records.rule_sums.bars(list(names), begins_s=begins_s, width_s=width_s, **span)
        counts = Counter[tuple[tuple[str, str], int]]()
        for one in newest:
            place = (int(one.at.timestamp()) - begins_s[0]) // width_s
            counts[(one.rule, one.key), place] += one.counted
        assert {
            (names[number], place): count
            for number, row in bars.items() for place, count in enumerate(row) if count
        } == {at: count for at, count in counts.items() if count}  # fmt: skip


def bounds_of(events: Sequence[SumEvent]) -> list[datetime]:
    """Times at, before and behind events, and where minutes, hours and days begin."""
    found = {one.at + timedelta(microseconds=us) for one in events for us in (0, 1)}
    for one in events:
        at = one.at.replace(second=0, microsecond=0)
        found |= {at, at.replace(minute=0), at.replace(hour=0, minute=0) + _DAY}
    return sorted(found)


class RuleSumsContract:
    """Contract suite of sums of rule events."""

    def test_without_events_there_are_no_sums(self, records: Records) -> None:
        assert records.rule_sums.position() == 0
        assert records.rule_sums.find(since=NOON, key="a") == ((), 0, 0, 0, 0, 0, 0, None, None)
        assert records.rule_sums.bars([], begins_s=[0], width_s=60) == {}

    @pytest.mark.parametrize("seed", range(2))
    def test_sums_are_those_of_a_plain_fold(self, records: Records, seed: int) -> None:
        random = Random(seed)  # noqa: S311  the same in every run
        events = [
            sum_event(
                position, seconds=random.choice([0, 59, 60, 3599, 86_400]) + random.random() * 90,
                rule=random.choice("rs"), key=random.choice(["Google", "Mongo, rack", "ö"]),
                action=random.choice(["final", "change"]), name=random.choice("abcd"),
                counted=random.randrange(9), late=not random.randrange(6),
                pairs=random.choice([None, PairCount(random.choice("xy"), position, 1)]),
            )
            for position in range(1, 60)
        ]  # fmt: skip
        for first in range(0, len(events), 11):
            again = events[: first + 3]  # of a hub that read from the beginning
            records.rule_sums.add(again)
            batch = events[first : first + 11]
            records.rule_sums.add(batch)
        assert records.rule_sums.position() == 59
        check_sums(records, events)
        places = bounds_of(events)
        for _ in range(6):
            since, until = sorted(random.sample(places, 2))
            named = {"rule": random.choice(["", "r"]), "key": random.choice(["", "o", "Ö"])}
            check_sums(records, events, since=since, until=until, **named)
            check_sums(records, events, since=since, action="change")
            check_sums(records, events, until=until)

    def test_events_that_are_not_in_the_log_are_forgotten(
        self, records: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sums, "_FORGOTTEN", 2)
        records.log.append([log_entry(number) for number in range(3)])
        events = [
            sum_event(position, seconds=-position, name="ab"[position % 2])
            for position in range(1, 9)
        ]
        records.rule_sums.add(events, left_out=[9])
        for _ in range(2):
            records.rule_sums.forget()
            check_sums(records, events[:3])
        assert records.rule_sums.position() == 3
        records.rule_sums.add(events, left_out=[9])
        check_sums(records, events)

    def test_the_newest_events_begin_at_a_time(self, records: Records) -> None:
        assert records.rule_sums.newest_since(1) is None
        events = [sum_event(place, seconds=at) for place, at in ((1, 60), (2, 30), (4, 90))]
        records.rule_sums.add(events, left_out=[3])
        found = [records.rule_sums.newest_since(most) for most in (1, 2, 3, 4)]
        assert found == [NOON + timedelta(seconds=at) for at in (90, 60, 30)] + [None]

    def test_what_is_loaded_is_added_up_anew(self, records: Records) -> None:
        records.rule_sums.add([sum_event(7)])
        records.load([])
        assert records.rule_sums.position() == 0

    def test_what_is_undone_is_added_again(self, records: Records) -> None:
        def fail() -> None:
            with records.transaction():
                records.rule_sums.add([sum_event(1)])
                raise InvalidError("undone", where="test")

        with pytest.raises(InvalidError):
            fail()
        assert records.rule_sums.position() == 0
        records.rule_sums.add([sum_event(1)])
        check_sums(records, [sum_event(1)])

    def test_names_of_any_text_are_told_apart(self, records: Records) -> None:
        names = ["", "=", "a", "=a", "a" * 65, "a" * 66, "ä", "a\x00", "\ud800", "/", "late/1"]
        events = [
            sum_event(place + 1, name=name, pairs=PairCount(name, 1, 0))
            for place, name in enumerate(names)
        ]
        records.rule_sums.add(events)
        check_sums(records, events)

    def test_times_may_lie_anywhere(self, records: Records) -> None:
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        events = [
            sum_event(number + 1, name="a", key="k")._replace(at=at)
            for number, at in enumerate([last, first, NOON, first])
        ]
        records.rule_sums.add(events)
        for since in (None, first, NOON):
            for until in (None, NOON, last):
                check_sums(records, events, since=since, until=until)


def sum_event(
    position: int, *, seconds: float = 0.0, rule: str = "r", key: str = "Google",
    action: str = "final", name: str = "", counted: int = 1, pairs: PairCount | None = None,
    late: bool = False,
) -> SumEvent:  # fmt: skip
    """An event so many seconds after noon."""
    return SumEvent(
        rule=rule, key=key, action="late" if late else action, name=name, position=position,
        at=NOON + timedelta(seconds=seconds), counted=counted, pairs=pairs, late=late,
    )  # fmt: skip
