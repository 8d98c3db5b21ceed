"""Rules that read rules: who reads waits as long as what it reads can still be late."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Plant
from lineside.core.plant_rules import Scalar
from lineside.streams import Chain, Entry
from lineside.testing.events import small_plant
from lineside.testing.rules import START_S, message, rule_of, tick

READ = 'id = "first"\nread = { topic = "belt" }\nkey = ["k"]\nidle_s = 1000\n'
CHANGES = READ + 'emit = "changes"\n'
FIRST = {
    "tumbling": READ + "window = { size_s = 2 }",
    "tumbling changes": CHANGES + "window = { size_s = 2 }",
    "hopping": READ + 'window = { kind = "hopping", size_s = 3, every_s = 1 }',
    "hopping changes": CHANGES + 'window = { kind = "hopping", size_s = 3, every_s = 1 }',
    "session": READ + 'window = { kind = "session", gap_s = 1 }',
    "session changes": CHANGES + 'window = { kind = "session", gap_s = 1 }',
    "pair": READ + "pair = { within_s = 3 }",
    "pair changes": CHANGES + "pair = { within_s = 3 }",
    "above": READ + "rate = { per_s = 2, above = 3 }",
    "below": READ + "rate = { per_s = 2, below = 2 }",
    "steady": READ + 'hold = { for_s = 1, field = "label" }',
    "lasting": READ + 'where = [{ field = "label", equals = "x" }]\n'
    "hold = { for_s = 1, gap_s = 2 }",
    "sighting": READ + "sighting = { dwell_s = 0.5, gap_s = 1 }",
    "sighting changes": CHANGES + "sighting = { dwell_s = 0.5, gap_s = 1 }",
    "missing": READ + '[sequence]\nwithin_s = 2\nmissing = true\n'
    'first = [{ field = "label", equals = "x" }]\nthen = [{ field = "label", equals = "y" }]',
}  # fmt: skip
THEN = 'id = "then"\nread = { event = "first" }\nwindow = { size_s = 4 }\nidle_s = 1000\n'
SEEN = 'id = "then"\nread = { event = "first" }\nkey = ["k"]\nemit = "changes"\npair = {}\n'


def chain(first: str, then: str, *, lateness_s: float = 0.0) -> Chain:
    rules = (replace(rule_of(first), lateness_s=lateness_s), rule_of(then))
    plant: Plant = replace(small_plant(), rule=rules)
    return Chain(plant.rule[1], plant=plant)


def told(of: Chain, entries: Sequence[Entry]) -> list[dict[str, Scalar]]:
    said = [*(event for entry in entries for event in of.take(entry)), *of.finish()]
    return [event.data["values"] for event in said]


def seen(at_s: float, key: str = "a", label: str = "x") -> Entry:
    fields: dict[str, Scalar] = {"k": key, "label": label, "frame": f"f{at_s}"}
    return message("belt", fields, at_s=at_s, arrived_s=0.0, name=f"{at_s}-{key}")


def stream(draws: random.Random, *, lateness_s: float) -> Iterator[Entry]:
    """Records that come out of order by less than is allowed, then one much later of each key."""
    at_s = [round(0.25 * draws.randrange(160), 6) for _ in range(120)]
    for at in sorted(at_s, key=lambda one: one + draws.random() * lateness_s):
        yield seen(at, draws.choice("abc"), draws.choice("xxxy"))
    yield from (seen(500.0, key, "y") for key in "abc")


@pytest.mark.parametrize("name", FIRST)
@settings(max_examples=12, deadline=None)
@given(draws=st.randoms(use_true_random=False), lateness_s=st.sampled_from([0.0, 1.0, 5.0]))
def test_nothing_that_a_rule_says_is_late_for_the_rule_that_reads_it(
    name: str, draws: random.Random, lateness_s: float
) -> None:
    both = chain(FIRST[name], THEN, lateness_s=lateness_s)
    counts = [one["count"] for one in told(both, list(stream(draws, lateness_s=lateness_s)))]
    first, then = both.engines
    assert (first.counted().late, then.counted().late) == (0, 0)
    assert sum(map(int, counts)) == first.counted().given


def test_a_window_that_a_late_record_fills_is_counted_by_the_rule_that_reads_it() -> None:
    """The record of 4 s comes behind that of 6 s, and only then the first window has two."""
    first = CHANGES + "window = { size_s = 5 }\nhaving = [{ field = 'count', equals = 2 }]"
    found = told(chain(first, SEEN, lateness_s=4), [seen(at) for at in (1.0, 6.0, 7.0, 4.0)])
    assert [one["seen"] for one in found] == [1, 2]


def test_as_many_windows_are_known_again_as_can_still_be_refined() -> None:
    both = chain(CHANGES + "window = { size_s = 1 }", SEEN, lateness_s=100)
    again = [seen(at + 0.25) for at in range(60)] + [seen(at + 0.75) for at in range(60)]
    found = [event for entry in again for event in both.take(entry)]
    assert [event.data["values"]["seen"] for event in found] == [*range(1, 61), *[60] * 60]
    assert len(both.engine.dump()["step"]["cells"][0]["known"]) == 60
    told(both, [seen(1000.0 + at) for at in range(20)])
    assert len(both.engine.dump()["step"]["cells"][0]["known"]) == 20


def test_a_memory_of_before_goes_on() -> None:
    """A list of the last 16 names stood where the names now have their times."""
    both = chain(CHANGES + "window = { size_s = 1 }", SEEN)
    memory = both.engine.dump()
    memory["step"]["cells"] = [
        {"key": ["a"], "seen": 1, "names": [str(START_S * 1_000_000)], "revisions": 1}
    ]
    both.engine.load(memory)
    assert [one["seen"] for one in told(both, [seen(0.5), seen(1.5)])] == [1, 2]


def test_a_tick_that_comes_late_makes_nothing_late_for_the_rule_that_reads() -> None:
    """What a busy hub's late tick brings to light stands behind that tick in the log."""
    names = ("first", "second", "third")
    rules = [rule_of('id = "first"\nread = { topic = "belt" }\nkey = ["k"]\nidle_s = 0.2\n'
                     'window = { size_s = 0.2 }')]  # fmt: skip
    rules += [
        rule_of(f'id = "{name}"\nread = {{ event = "{read}" }}\nkey = ["k"]\nidle_s = 0.2\n'
                'window = { size_s = 0.2 }')
        for read, name in pairwise(names)
    ]  # fmt: skip
    both = Chain(rules[-1], plant=replace(small_plant(), rule=tuple(rules)))
    entries: list[Entry] = []
    for at_s, key in ((0.0, "a"), (20.0, "b"), (40.0, "c")):
        fields: dict[str, Scalar] = {"k": key, "label": "x"}
        entries += [message("belt", fields, at_s=at_s), tick(at_s + 9)]  # seconds, not 0.2 s, later
    said = [*(event for entry in entries for event in both.take(entry)), *both.finish()]
    assert [event.data["key"]["k"] for event in said] == ["a", "b", "c"]
    assert [engine.counted().late for engine in both.engines] == [0, 0, 0]
    assert all(engine.ticks_at_us() is None for engine in both.engines)
