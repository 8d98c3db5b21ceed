"""Several hubs share the parts: one runs each, whoever is killed, stopped or added."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import ConflictError
from lineside.hub.eventlog.leases import LENGTH_S, TURN_S, HubLeases, PartLease, shares
from lineside.store import Records, open_records
from lineside.testing import FakeClock

PARTS = ("plant", "rules", "devices", "orders", "events", "drift", "replays")
names = st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=12)


@given(parts=names, hubs=st.integers(1, 5), data=st.data())
def test_a_share_is_never_too_large_and_nothing_of_others_is_taken(
    parts: list[str], hubs: int, data: st.DataObject
) -> None:
    holders = st.sampled_from([f"hub_{number}" for number in range(hubs)])
    held = data.draw(st.dictionaries(st.sampled_from(parts), holders)) if parts else {}
    plan = shares(parts, held=held, hubs=hubs, me="hub_0")
    mine = [part for part in parts if held.get(part) == "hub_0"]
    most = -(-len(parts) // hubs)
    assert not set(plan.take) & set(held)
    assert set(plan.give) <= set(mine)
    assert not (plan.take and plan.give)
    assert len(mine) + len(plan.take) <= max(most, len(mine))
    assert len(mine) - len(plan.give) >= min(most, len(mine))
    assert bool(plan.give) == (len(mine) > most)


def test_one_hub_takes_everything() -> None:
    assert set(shares(PARTS, held={}, hubs=1, me="a").take) == set(PARTS)


@dataclass
class Site:
    """Hubs at one database, with a clock that only the test moves."""

    records: Records
    clock: FakeClock
    parts: dict[str, list[PartLease]] = field(default_factory=dict)
    running: dict[str, HubLeases] = field(default_factory=dict)

    def start(self, hub: str, *, parts: tuple[str, ...] = PARTS) -> None:
        leases = HubLeases(self.records, hub=hub, clock=self.clock, alone=False)
        self.parts[hub] = [leases.lease(name) for name in parts]
        self.running[hub] = leases

    def kill(self, hub: str) -> None:
        del self.running[hub]
        del self.parts[hub]

    def turn(self, *, still: tuple[str, ...] = ()) -> None:
        """A turn of every hub that is not ``still``; their parts look whether they may go on."""
        self.clock.advance(TURN_S)
        for hub, leases in self.running.items():
            if hub in still:
                continue
            for part in self.parts[hub]:
                part.hold()
            leases.step()
            self.check()

    def turns(self, count: int, *, still: tuple[str, ...] = ()) -> None:
        for _ in range(count):
            self.turn(still=still)

    def holding(self, hub: str) -> set[str]:
        return {part.name for part in self.parts[hub] if part.is_held}

    def check(self) -> None:
        held = [name for hub in self.running for name in self.holding(hub)]
        assert len(set(held)) == len(held), "two hubs at one part"


@pytest.fixture
def site(clock: FakeClock) -> Iterator[Site]:
    with open_records("memory://", clock=clock) as records:
        yield Site(records, clock)


def test_a_hub_that_joins_gets_its_share(site: Site) -> None:
    site.start("a")
    site.turn()
    assert site.holding("a") == set(PARTS)
    site.start("b")
    site.turns(4)
    assert site.holding("a") | site.holding("b") == set(PARTS)
    assert {len(site.holding("a")), len(site.holding("b"))} == {3, 4}
    before = site.holding("a"), site.holding("b")
    site.turns(10)
    assert (site.holding("a"), site.holding("b")) == before


def test_the_parts_of_a_killed_hub_are_taken_over_within_seven_seconds(site: Site) -> None:
    site.start("a")
    site.start("b")
    site.turns(5)
    site.kill("a")
    site.turns(round((LENGTH_S + 2) / TURN_S))
    assert site.holding("b") == set(PARTS)


def test_a_hub_that_stood_still_holds_nothing_when_it_wakes(site: Site) -> None:
    site.start("a")
    site.start("b")
    site.turns(5)
    had = site.parts["a"][0] if site.parts["a"][0].is_held else site.parts["a"][1]
    site.turns(7, still=("a",))
    assert site.holding("a") == set()
    assert site.holding("b") == set(PARTS)
    assert not had.hold(), "it was not told, and knows by its own clock"
    with pytest.raises(ConflictError), site.records.transaction():
        had.check()
    site.turns(5)
    assert len(site.holding("a")) == 3


def test_a_short_stop_changes_nothing(site: Site) -> None:
    site.start("a")
    site.start("b")
    site.turns(5)
    before = site.holding("a")
    site.turns(2, still=("a",))
    site.turns(2)
    assert site.holding("a") == before


def test_a_hub_that_ends_leaves_nothing_to_wait_for(site: Site) -> None:
    site.start("a")
    site.turn()
    for part in site.parts["a"]:
        part.release()
    site.running["a"].step()
    assert site.holding("a") == set()
    site.start("b")
    site.kill("a")
    site.records.leases.release(["hub/a"], holder="a")
    site.turn()
    assert site.holding("b") == set(PARTS)


def test_a_part_that_ended_is_run_again_when_it_is_wanted_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its lease is released, or while it is."""
    site.start("a")
    site.turn()
    leases, (first, second, *_) = site.running["a"], site.parts["a"]
    first.release()
    site.parts["a"][0] = leases.lease(first.name)
    site.turns(2)
    assert site.holding("a") == set(PARTS)
    second.release()
    release = site.records.leases.release

    def want_again(names: Sequence[str], *, holder: str) -> None:
        release(names, holder=holder)
        site.parts["a"][1] = leases.lease(second.name)

    monkeypatch.setattr(site.records.leases, "release", want_again)
    leases.step()
    monkeypatch.undo()
    site.turns(2)
    assert site.holding("a") == set(PARTS)


def test_a_hub_started_again_goes_on_at_once(site: Site) -> None:
    site.start("a")
    site.turn()
    site.kill("a")
    site.start("a")
    site.turn()
    assert site.holding("a") == set(PARTS)


def test_what_only_one_hub_can_do_stays_with_it(site: Site) -> None:
    site.start("a")
    site.start("b", parts=PARTS[:2])
    site.turns(30)
    before = site.holding("a"), site.holding("b")
    assert site.holding("a") | site.holding("b") == set(PARTS)
    site.turns(20)
    assert (site.holding("a"), site.holding("b")) == before


def test_at_a_file_of_its_own_a_hub_does_everything(clock: FakeClock) -> None:
    with open_records("memory://", clock=clock) as records:
        leases = HubLeases(records, hub="a", clock=clock, alone=not records.shared)
        part = leases.lease("plant")
        leases.start()
        assert part.hold()
        part.check()
        leases.stop()
        assert records.leases.held() == []


@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["start", "kill", "still", "turn"]), st.sampled_from("abc")),
        max_size=40,
    )
)
def test_whatever_happens_one_hub_runs_each_part_and_soon_all_are_run(
    moves: list[tuple[str, str]],
) -> None:
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        site = Site(records, clock)
        for move, hub in moves:
            if move == "start" and hub not in site.running:
                site.start(hub)
            elif move == "kill" and hub in site.running:
                site.kill(hub)
            site.turn(still=(hub,) if move == "still" else ())
        if site.running:
            site.turns(20)
            sizes = [len(site.holding(hub)) for hub in site.running]
            assert sum(sizes) == len(PARTS)
            assert max(sizes) - min(sizes) <= 2
