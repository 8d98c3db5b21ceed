"""Which event of a webhook is next: any answers, any number at a time, any kill."""

from collections import Counter
from itertools import chain, cycle

from hypothesis import given
from hypothesis import strategies as st

from lineside.hub.sinks.webhooks import MOST_HELD, MOST_LANES, Lanes
from lineside.store import LogEntry, Logged
from lineside.testing import FakeClock

AT = FakeClock().now()


def logged(position: int) -> Logged:
    entry = LogEntry(
        id=f"evt_{position}", source="/hall/hub", type="t", subject="s", captured_at=AT, body=b"{}"
    )
    return Logged(
        position=position, source_position=position, entry=entry, arrived_at=AT, previous="",
        hash="h",
    )  # fmt: skip


def look(lanes: Lanes, key: str, log: list[tuple[Logged, str]], *, most: int) -> None:
    """As the hub looks: all up to where was read, or the first few."""
    lane, end = lanes._lanes[key], lanes.read_to
    mine = [one for one, of in log if of == key and lane.position <= one.position <= end]
    rest = mine[most:]
    lanes.found(key, mine[:most], looked_to=rest[0].position - 1 if rest else end)
    lanes.release(key, due_s=0.0)


acts = st.sampled_from(["read", "claim", "finish", "finish", "miss", "kill"])
GO_ON = ("read", 9), ("claim", 3), ("finish", 1)


@given(
    st.lists(st.sampled_from("abc"), max_size=30),
    st.integers(1, 4),
    st.lists(st.tuples(acts, st.integers(1, 9)), max_size=60),
)
def test_each_key_keeps_its_order_and_a_kill_repeats_what_was_under_way(
    keys: list[str], parallel: int, drawn: list[tuple[str, int]]
) -> None:
    log = [(logged(place + 1), key) for place, key in enumerate(keys)]
    positions, posted, repeated = Lanes().plain(), list[int](), 0
    lanes = Lanes(positions)
    place, kills, misses = 0, 0, 0
    under_way: list[str] = []
    following = chain(drawn, cycle(GO_ON))
    while place < len(log) or len(lanes):
        act, most = next(following)
        if act == "kill" and kills < 4:
            kills, repeated = kills + 1, repeated + len(under_way)
            lanes, under_way, place = Lanes(positions), [], max(0, place - 5)
        elif act == "miss" and under_way and misses < 10:
            misses += 1
            lanes.missed(under_way.pop(), due_s=0.0, away=False)
            positions = lanes.plain()
        elif act in ("finish", "miss", "kill") and under_way:
            lanes.mark_delivered(under_way.pop(0))
            positions = lanes.plain()
        elif act == "claim" and len(under_way) < parallel and (found := lanes.claim(0.0)):
            key, lane = found
            if lane.held:
                posted.append(lane.held[0].position)
                under_way.append(key)
            else:
                look(lanes, key, log, most=min(most, 3))
        else:
            place += lanes.read(log[place : place + most])
            positions = lanes.plain()
    for key in "abc":
        mine = [one for one in posted if keys[one - 1] == key]
        assert list(dict.fromkeys(mine)) == [one.position for one, of in log if of == key]
    assert sum(Counter(posted).values()) - len(log) <= repeated + misses


def test_what_waits_is_bounded_and_a_full_house_reads_no_further() -> None:
    lanes = Lanes()
    crowd = [(logged(place), f"key {place}") for place in range(1, MOST_LANES + 5)]
    assert lanes.read(crowd) == MOST_LANES
    assert lanes.read(crowd) == MOST_LANES
    assert lanes.read([(logged(MOST_LANES + 1), None)]) == 1
    of_one = [(logged(place), "key 1") for place in range(1000, 1000 + 3 * MOST_HELD)]
    assert lanes.read(of_one) == len(of_one)
    assert len(lanes._lanes["key 1"].held) == MOST_HELD
    assert len(lanes.plain()["lanes"]) == len(lanes) == MOST_LANES
    key, _ = lanes.claim(0.0) or ("", None)
    lanes.mark_delivered(key)
    assert key == "key 1"
    assert lanes.read([(logged(5000), "new")]) == 0  # it has others behind the first
    key, _ = lanes.claim(0.0) or ("", None)
    lanes.mark_delivered(key)
    assert lanes.read([(logged(5000), "new")]) == 1


def test_a_lane_waits_for_its_time_and_the_next_one_goes() -> None:
    lanes = Lanes()
    lanes.read([(logged(1), "a"), (logged(2), "b"), (logged(3), "a")])
    for key in ("a", "b"):
        assert (lanes.claim(0.0) or ("",))[0] == key
        lanes.missed(key, due_s=5.0, away=key == "b")
    assert lanes.claim(4.9) is None
    assert (lanes.next_due_s(), lanes.failing) == (5.0, True)
    lanes.answered(1.0)
    assert (lanes.claim(1.0) or ("",))[0] == "b"  # nobody had answered; a was refused itself
    assert lanes.claim(1.0) is None
    assert lanes.claim(5.0) is not None


def test_events_that_were_pruned_hold_nothing_up() -> None:
    lanes = Lanes({"position": 9, "lanes": [["a", 4, "2024-01-01T00:00:00Z"]]})
    lanes.claim(0.0)
    lanes.found("a", [], looked_to=6)
    assert lanes.plain()["lanes"] == [["a", 7, ""]]
    lanes.found("a", [], looked_to=9)
    assert len(lanes) == 0
