"""A difference as people read it: what is the same thing told otherwise stands together."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lineside.hub.rules.service import pair_changes
from lineside.streams import moment
from lineside.streams.rules.replay import Difference


def told(begin: float, end: float, *, key: str = "Google", count: int = 1) -> dict[str, Any]:
    since, until = (moment(round(at * 1e6)).isoformat("T", "microseconds") for at in (begin, end))
    return {"key": {"image": key}, "action": "final", "from": since, "to": until,
            "values": {"count": count}}  # fmt: skip


def difference(added: list[dict[str, Any]], removed: list[dict[str, Any]]) -> Difference:
    return Difference(
        same=0, added=tuple(added), removed=tuple(removed), late=0, keyless=0, unreadable=0
    )


def test_a_thing_of_the_same_key_and_time_is_told_otherwise() -> None:
    new, old = told(0, 5, count=3), told(0, 4)
    other, gone = told(0, 5, key="Mongo"), told(9, 10)
    found = pair_changes(difference([new, other], [old, gone]))
    assert found.otherwise == ((old, new),)
    assert (found.added, found.removed) == ((other,), (gone,))


def test_each_is_told_otherwise_once_and_in_order_of_time() -> None:
    new = [told(0, 4), told(4, 8), told(8, 12)]
    old = [told(0, 5), told(5, 10), told(10, 15)]
    assert pair_changes(difference(new, old)).otherwise == tuple(zip(old, new, strict=True))


def test_stretches_that_only_touch_are_one_thing() -> None:
    old, new = told(0, 5), told(5, 6)
    assert pair_changes(difference([new], [old])).otherwise == ((old, new),)
    assert pair_changes(difference([told(5.000001, 6)], [old])).otherwise == ()


STRETCHES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 5), st.sampled_from("ab")), max_size=15
)


@given(STRETCHES, STRETCHES)
def test_nothing_is_lost_and_nothing_counted_twice(
    new: list[tuple[int, int, str]], old: list[tuple[int, int, str]]
) -> None:
    added = [told(at, at + long, key=key, count=n) for n, (at, long, key) in enumerate(new)]
    removed = [told(at, at + long, key=key, count=n) for n, (at, long, key) in enumerate(old)]
    found = pair_changes(difference(added, removed))
    news = [*(one for _, one in found.otherwise), *found.added]
    olds = [*(one for one, _ in found.otherwise), *found.removed]
    assert sorted(map(str, news)) == sorted(map(str, added))
    assert sorted(map(str, olds)) == sorted(map(str, removed))
    for was, now in found.otherwise:
        assert was["key"] == now["key"]
        assert max(was["from"], now["from"]) <= min(was["to"], now["to"])
