"""Rules against an oracle that another hand wrote, on 200 random streams for each kind of step."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lineside.core.plant_rules import Scalar
from lineside.streams import Entry, RuleEngine
from lineside.streams.rules.contract import Output
from lineside.streams.rules.replay import run_rule
from lineside.testing.events import small_plant
from lineside.testing.rules import START_S, message, rule_of, tick
from tests.streams import ksql_oracle as oracle
from tests.streams.ksql_oracle import Row, Rows

STREAMS = range(200)
HEAD = (
    'id = "r"\nkey = ["key"]\nidle_s = 1000\nwhere = [{ field = "kind", none_of = ["rejected"] }]\n'
)
FIGURES = "".join(
    f'[[aggregate]]\nname = "{of}"\nof = "{of}"\nfield = "value"\n'
    for of in ("sum", "min", "max", "mean")
)


def rows_of(draws: random.Random, *, partitions: int) -> Rows:
    """Rows in order of arrival: ties, nulls, twice the same, out of order, too late, too early."""
    rows, at = Rows(), 0
    for _ in range(draws.randrange(1, 70)):
        at += draws.choice((0, 0, 250, 250, 500, 1000, 1250, 4000))
        behind = draws.choice((0, 0, 0, 250, 1000, 2000, 2250, 9000))
        kind = draws.choice(("A", "A", "B", "C", "rejected"))
        rows.append(
            Row(
                at=at + 10**6 if kind == "rejected" else max(0, at - behind),
                key=draws.choice(("x", "x", "y", None)), kind=kind,
                value=draws.choice((None, 1, 2.5, -3, 0.1)),
                partition=f"belt/{draws.randrange(partitions)}",
            )
        )  # fmt: skip
        if draws.random() < 0.1:
            rows.append(rows[-1])
    return rows


def entries_of(rows: Rows) -> Iterator[Entry]:
    for place, row in enumerate(rows):
        fields: dict[str, Scalar] = {"kind": row.kind}
        fields |= {} if row.key is None else {"key": row.key}
        fields |= {} if row.value is None else {"value": row.value}
        # Ids in order of arrival, by which records of one time are told apart.
        yield message(row.partition, fields, at_s=row.at / 1000, arrived_s=0.0, name=f"{place:04}")


def told(
    text: str, rows: Rows, *, lateness_s: float = 0.0, topic: str = "belt/0"
) -> tuple[RuleEngine, list[Output]]:
    """What a rule gives out, and the rule; at last time passes until nothing is left."""
    read = f'read = {{ topic = "{topic}" }}\nlateness_s = {lateness_s}\n'
    engine = RuleEngine(rule_of(HEAD + read + text))
    found = [output for entry in entries_of(rows) for output in engine.take([entry])]
    return engine, [*found, *engine.take([tick(100_000.0), tick(200_000.0)])]


def span_of(output: Output) -> oracle.Span:
    return str(output.key["key"]), millis(output.start_us), millis(output.end_us)


def millis(at_us: int) -> int:
    return at_us // 1000 - START_S * 1000


def streams(*, partitions: int = 1) -> Iterator[tuple[Rows, float]]:
    """Streams with records that are too late, and how late they may be."""
    for seed in STREAMS:
        draws = random.Random(seed)  # noqa: S311  the same stream each time
        yield rows_of(draws, partitions=partitions), draws.choice((0.0, 0.25, 2.0))


def taken_of(rows: Rows, lateness_s: float) -> Rows:
    return [row for row, late in judged(rows, lateness_s) if not late]


def judged(rows: Rows, lateness_s: float) -> list[tuple[Row, bool]]:
    return list(oracle.judged(rows, lateness=round(lateness_s * 1000)))


@pytest.mark.parametrize(("size", "every"), [(5000, 5000), (5000, 2000), (2500, 1000)])
@pytest.mark.parametrize(("topic", "partitions"), [("belt/0", 1), ("belt/+", 3)])
def test_windows_aligned_to_the_epoch(size: int, every: int, topic: str, partitions: int) -> None:
    kind = "tumbling" if size == every else "hopping"
    more = "" if size == every else f", every_s = {every / 1000}"
    text = f'window = {{ kind = "{kind}", size_s = {size / 1000}{more} }}\n{FIGURES}'
    for rows, lateness_s in streams(partitions=partitions):
        engine, found = told(text, rows, lateness_s=lateness_s, topic=topic)
        expected = oracle.windows(taken_of(rows, lateness_s), size=size, every=every)
        assert {span_of(one): one.values for one in found} == {
            span: pytest.approx(oracle.figures(mine)) for span, mine in expected.items()
        }
        assert len(found) == len(expected)
        assert engine.counted().late == sum(late for _, late in judged(rows, lateness_s))


def test_what_ksqldb_drops_is_late_here_too() -> None:
    """Late by itself is stricter than late for its window, and never takes what ksqlDB drops."""
    stricter = 0
    for rows, lateness_s in streams():
        stream_time, grace = -(10**18), round(lateness_s * 1000)
        for row, late in judged(rows, lateness_s):
            stream_time = max(stream_time, row.at)
            still_open = oracle.open_windows(
                row, size=5000, every=5000, stream_time=stream_time, grace=grace
            )
            assert late or still_open
            stricter += late and bool(still_open)
    assert stricter


def test_two_statements_one_behind_the_other() -> None:
    windows = 'emit = "changes"\nwindow = { size_s = 5 }\nhaving = [{ field = "count", above = 2 }]'
    pairs = 'id = "then"\nread = { event = "r" }\nkey = ["key"]\nemit = "changes"\npair = {}'
    for rows, lateness_s in streams():
        read = f'read = {{ topic = "belt/0" }}\nlateness_s = {lateness_s}\n'
        rules = (rule_of(HEAD + read + windows), rule_of(pairs))
        found = run_rule(rules[1], entries_of(rows), plant=replace(small_plant(), rule=rules))
        told = [(one.data["key"]["key"], one.data["values"]["seen"]) for one in found]
        taken = taken_of(rows, lateness_s)
        assert told == list(oracle.windows_seen(taken, size=5000, above=2))


def test_each_change_of_a_window_is_told_as_it_comes() -> None:
    for rows, lateness_s in streams():
        text = 'emit = "changes"\nwindow = { size_s = 5 }'
        _, found = told(text, rows, lateness_s=lateness_s)
        taken, expected = taken_of(rows, lateness_s), list[tuple[str, int, float]]()
        for place, row in enumerate(taken, start=1):
            start = row.at // 5000 * 5000
            (mine,) = (
                mine for span, mine in oracle.windows(taken[:place], size=5000, every=5000).items()
                if span[:2] == (row.key, start)
            )  # fmt: skip
            expected.append((str(row.key), start, oracle.figures(mine)["count"]))
        assert [(*span_of(one)[:2], one.values["count"]) for one in found] == expected


def test_sessions() -> None:
    for rows, lateness_s in streams():
        text = 'window = { kind = "session", gap_s = 1.25 }\n'
        taken = taken_of(rows, lateness_s)
        each = list(oracle.sessions(taken, gap=1250))
        _, found = told('emit = "changes"\n' + text, rows, lateness_s=lateness_s)
        assert [(span_of(one), one.values["count"]) for one in found] == [
            (span, len(whole)) for span, whole in each
        ]
        _, final = told(text + FIGURES, rows, lateness_s=lateness_s)
        in_order = list(oracle.sessions(sorted(taken, key=lambda row: row.at), gap=1250))
        last = {(span[0], span[1]): (span, whole) for span, whole in in_order}
        assert {span_of(one): one.values for one in final} == {
            span: pytest.approx(oracle.figures(whole)) for span, whole in last.values()
        }


@pytest.mark.parametrize("missing", [False, True])
def test_sequences(missing: bool) -> None:  # noqa: FBT001  what is declared
    text = (
        f"[sequence]\nwithin_s = 2\nmissing = {str(missing).lower()}\n"
        'first = [{ field = "kind", equals = "A" }]\nthen = [{ field = "kind", equals = "B" }]'
    )
    for rows, lateness_s in streams():
        _, found = told(text, rows, lateness_s=lateness_s)
        taken = taken_of(rows, lateness_s)
        expected = oracle.sequences(taken, within=2000, missing=missing)
        assert sorted(map(span_of, found)) == sorted(expected)


def test_pairs() -> None:
    for rows, lateness_s in streams():
        _, found = told("pair = { within_s = 1.25 }", rows, lateness_s=lateness_s)
        expected = oracle.pairs(taken_of(rows, lateness_s), within=1250)
        assert sorted((span_of(one), str(one.values["pair_seen"])) for one in found) == sorted(
            expected
        )


@pytest.mark.parametrize("limit", [{"above": 3}, {"above": 1.5}, {"below": 2}, {"below": 3.5}])
def test_rates(limit: dict[str, float]) -> None:
    ((name, bound),) = limit.items()
    for rows, lateness_s in streams():
        text = f"rate = {{ per_s = 2, {name} = {bound} }}"
        _, found = told(text, rows, lateness_s=lateness_s)
        taken = taken_of(rows, lateness_s)
        expected = oracle.rates(taken, per=2000, **limit)
        assert sorted((str(one.key["key"]), one.action, millis(one.end_us)) for one in found) == (
            sorted(expected)
        )
