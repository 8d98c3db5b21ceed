"""Debounce: only what lasted comes out, however the readings are handed over."""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lineside.streams import Reading, debounce, held_for
from lineside.testing.events import after

STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab")), max_size=40)


def readings(steps: list[tuple[int, str]]) -> list[Reading[str]]:
    at, made = 0, []
    for step, value in steps:
        at += step
        made.append(Reading(at=after(at), value=value))
    return made


def settled(text: str, *, hold_s: float = 3) -> list[tuple[float, str]]:
    source = [Reading(at=after(second), value=value) for second, value in enumerate(text)]
    out = debounce(source, hold_s=hold_s)
    return [((reading.at - after(0)).total_seconds(), reading.value) for reading in out]


def test_a_value_comes_out_once_when_it_has_lasted() -> None:
    assert settled("aaaaaabbbbbb") == [(0, "a"), (6, "b")]


def test_a_flicker_shorter_than_the_hold_is_not_said() -> None:
    assert settled("aaaabbaaaa") == [(0, "a")]
    assert settled("aaaabbbaaaa", hold_s=2) == [(0, "a"), (4, "b"), (7, "a")]


def test_a_hold_of_nought_lets_every_change_through() -> None:
    assert settled("aabba", hold_s=0) == [(0, "a"), (2, "b"), (4, "a")]


def test_nothing_comes_out_of_nothing() -> None:
    assert settled("") == []


def test_exactly_the_hold_counts_as_lasted() -> None:
    assert held_for(after(0), after(3), hold_s=3)
    assert not held_for(after(0), after(2.999), hold_s=3)


@given(STEPS, st.integers(0, 5))
def test_what_comes_out_alternates_and_keeps_its_order(
    steps: list[tuple[int, str]], hold_s: int
) -> None:
    out = list(debounce(readings(steps), hold_s=hold_s))
    assert all(one.value != two.value and one.at <= two.at for one, two in pairwise(out))


@given(steps=STEPS, hold_s=st.integers(0, 5), cut=st.integers(0, 40))
def test_how_the_readings_are_cut_into_chunks_makes_no_difference(
    *, steps: list[tuple[int, str]], hold_s: int, cut: int
) -> None:
    whole = readings(steps)

    def chunks() -> Iterator[Reading[str]]:
        yield from whole[:cut]
        yield from whole[cut:]

    assert list(debounce(chunks(), hold_s=hold_s)) == list(debounce(whole, hold_s=hold_s))


@given(steps=STEPS, hold_s=st.integers(0, 5), data=st.data())
def test_an_older_reading_in_between_changes_nothing(
    *, steps: list[tuple[int, str]], hold_s: int, data: st.DataObject
) -> None:
    whole = readings(steps)
    place = data.draw(st.integers(0, len(whole)))
    old = Reading(at=after(-60), value="b")
    disturbed = [*whole[:place], old, *whole[place:]] if place else whole
    assert list(debounce(disturbed, hold_s=hold_s)) == list(debounce(whole, hold_s=hold_s))
