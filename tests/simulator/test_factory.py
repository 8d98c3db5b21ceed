from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import rfc3339
from lineside.core.factory import (
    SLOTS,
    Colour,
    OrderCommand,
    OrderMessage,
    OrderState,
    PieceState,
    StationMessage,
    StockMessage,
    TagMessage,
)
from lineside.simulator.warehouse.line import QUEUE_SIZE, step, take_command
from lineside.simulator.warehouse.scene import Content
from lineside.simulator.warehouse.state import (
    STAGES,
    FactoryState,
    Moment,
    Outgoing,
    Pace,
    Place,
    first_state,
)
from lineside.testing import FakeClock

COLOURS = [Colour.BLUE, Colour.RED, Colour.WHITE]


class Factory:
    """A factory driven second by second."""

    def __init__(self, *, seed: int = 1, pace: Pace | None = None) -> None:
        self.clock = FakeClock()
        self.pace = pace or Pace()
        self.state = first_state(np.random.default_rng(seed))
        self.said: list[Outgoing] = []
        self.orders = 0

    def order(self, colour: Colour, *, ts: str = "") -> str:
        self.orders += 1
        moment = self.clock.now() + timedelta(milliseconds=self.orders)
        command = OrderCommand(ts=ts or rfc3339(moment), type=colour)
        self.state, sentence = take_command(self.state, command)
        return sentence

    def go_on(self, seconds: float, *, tick_s: float = 0.5) -> list[Outgoing]:
        said: list[Outgoing] = []
        for _ in range(round(seconds / tick_s)):
            self.clock.advance(tick_s)
            said += self.step()
        return said

    def step(self) -> tuple[Outgoing, ...]:
        moment = Moment(at=self.clock.now(), s=self.clock.monotonic())
        self.state, out = step(self.state, moment, pace=self.pace)
        self.said += out
        return out

    @property
    def pieces(self) -> list[str]:
        held = [place.piece for place in self.state.places] + [self.state.hand]
        held += [piece for piece, _ in self.state.away]
        return sorted(piece.id for piece in held if piece is not None)

    def states(self) -> list[OrderState]:
        return [m.message.state for m in self.said if isinstance(m.message, OrderMessage)]


def working(said: list[Outgoing]) -> list[str]:
    """The stations in the order in which they began to work."""
    reports = [one.message for one in said if isinstance(one.message, StationMessage)]
    shown = [report.station for report in reports if report.active]
    return [station for place, station in enumerate(shown) if station not in shown[:place]]


def test_the_rack_begins_with_two_pieces_of_each_colour() -> None:
    state = first_state(np.random.default_rng(5))
    contents = list(state.truth.values())
    assert list(state.truth) == list(SLOTS)
    assert {name: contents.count(name) for name in contents} == {
        "blue": 2, "red": 2, "white": 2, "empty": 3,
    }  # fmt: skip
    assert first_state(np.random.default_rng(5)) == state
    assert first_state(np.random.default_rng(6)).truth != state.truth


@pytest.mark.parametrize("colour", COLOURS)
def test_an_order_runs_through_its_states_and_ends_with_waiting_twice(colour: Colour) -> None:
    factory = Factory()
    assert factory.order(colour) == ""
    factory.go_on(170)
    assert factory.states() == [
        OrderState.ORDERED,
        OrderState.IN_PROCESS,
        OrderState.SHIPPED,
        OrderState.WAITING_FOR_ORDER,
        OrderState.WAITING_FOR_ORDER,
    ]
    orders = [one.message for one in factory.said if isinstance(one.message, OrderMessage)]
    assert {order.type for order in orders} == {colour}


@pytest.mark.parametrize("colour", COLOURS)
def test_the_five_stages_follow_one_another_for_as_long_as_the_reference_says(
    colour: Colour,
) -> None:
    factory = Factory(pace=Pace(stations_every_s=1e9))
    factory.step()
    factory.order(colour)
    said = factory.go_on(170, tick_s=0.1)
    began: dict[tuple[str, str], datetime] = {}
    for one in said:
        if isinstance(one.message, StationMessage) and one.message.active:
            began.setdefault((one.message.station, one.message.target), one.message.at)
    stages = STAGES[colour]
    names = [("hbw", "vgr"), ("vgr", "mpo"), ("mpo", "sld"), ("sld", "vgr"), ("vgr", "dso")]
    times = [began[name] for name in names]
    lasted = [(b - a).total_seconds() for a, b in pairwise(times)]
    wanted = [stages.crane_s, stages.gripper_s, stages.processing_s, stages.sorting_s]
    assert lasted == pytest.approx(wanted, abs=0.2)
    assert ("dso", "") in began


def test_a_speed_factor_divides_the_stages() -> None:
    factory = Factory(pace=Pace(speed=10))
    factory.order(Colour.BLUE)
    factory.go_on(15.2, tick_s=0.1)
    assert factory.states()[-1] is OrderState.WAITING_FOR_ORDER


def test_the_piece_leaves_the_rack_when_the_crane_fetches_it_and_the_tray_comes_back() -> None:
    factory = Factory()
    before = factory.state
    slot = list(before.truth.values()).index("red")
    factory.order(Colour.RED)
    factory.go_on(9)
    assert factory.state.contents == before.contents
    factory.go_on(2)
    assert factory.state.contents[slot] is Content.BARE
    assert factory.state.truth[SLOTS[slot]] == "empty"
    factory.go_on(30)
    assert factory.state.contents[slot] is Content.EMPTY


def test_every_change_of_the_rack_is_told_at_once() -> None:
    factory = Factory(pace=Pace(stock_every_s=1e9))
    factory.step()
    factory.order(Colour.WHITE)
    shown = list(factory.state.places)
    for _ in range(400):
        factory.clock.advance(0.5)
        out = factory.step()
        told = [one.message for one in out if isinstance(one.message, StockMessage)]
        if list(factory.state.places) != shown:
            assert len(told) == 1
            shown = list(factory.state.places)
        for message in told:
            items = [item.workpiece for item in message.stock_items]
            assert items == [place.piece and place.piece.workpiece for place in shown]


def test_stock_and_stations_are_told_again_after_a_while() -> None:
    factory = Factory()
    said = [one.topic for one in [*factory.step(), *factory.go_on(20.5)]]
    assert said.count("f/i/stock") == 5
    assert said.count("f/i/state/mpo") == 3


def test_the_shipped_piece_is_processed_and_its_tag_tells_its_way() -> None:
    factory = Factory()
    factory.order(Colour.BLUE)
    factory.go_on(170)
    (tag,) = [one.message for one in factory.said if isinstance(one.message, TagMessage)]
    assert tag.workpiece is not None
    assert tag.workpiece.state is PieceState.PROCESSED
    assert [item.code for item in tag.history] == [400, 500, 600, 700, 800]
    assert [item.ts for item in tag.history] == sorted(item.ts for item in tag.history)


def test_the_same_command_twice_is_one_order() -> None:
    factory = Factory()
    assert factory.order(Colour.BLUE, ts="2026-01-01T12:00:00.000Z") == ""
    assert "heard before" in factory.order(Colour.BLUE, ts="2026-01-01T12:00:00.000Z")
    factory.go_on(400)
    assert factory.states().count(OrderState.ORDERED) == 1
    assert len(factory.state.away) == 1


def test_an_order_without_a_free_piece_is_ignored_with_a_sentence() -> None:
    factory = Factory()
    assert factory.order(Colour.BLUE) == ""
    factory.step()
    assert factory.order(Colour.BLUE) == ""
    assert factory.order(Colour.BLUE) == "order for blue ignored: no free blue piece in the rack"
    assert "none" in factory.order(Colour.NONE)
    factory.go_on(400)
    assert factory.states().count(OrderState.SHIPPED) == 2
    assert "blue" not in factory.state.truth.values()


def test_orders_wait_in_a_queue_of_bounded_length() -> None:
    factory = Factory()
    many = tuple(Colour.RED for _ in range(QUEUE_SIZE))
    factory.state = replace(factory.state, queue=many)
    assert "8 orders are waiting" in factory.order(Colour.BLUE)


def test_one_order_runs_at_a_time_in_the_order_of_arrival() -> None:
    factory = Factory()
    for colour in (Colour.WHITE, Colour.BLUE, Colour.RED):
        assert factory.order(colour) == ""
    factory.go_on(500)
    orders = [one.message for one in factory.said if isinstance(one.message, OrderMessage)]
    assert [order.type for order in orders if order.state is OrderState.ORDERED] == [
        Colour.WHITE, Colour.BLUE, Colour.RED,
    ]  # fmt: skip
    for first, then in pairwise(orders):
        if then.state is OrderState.ORDERED:
            assert first.state is OrderState.WAITING_FOR_ORDER


def test_a_shipped_piece_comes_back_by_the_input_when_restocking_is_on() -> None:
    factory = Factory(pace=Pace(restock_after_s=60))
    before = factory.state.truth
    factory.order(Colour.RED)
    factory.go_on(175)
    assert factory.state.truth != before
    said = factory.go_on(60)
    assert sorted(factory.state.truth.values()) == sorted(before.values())
    assert working(said) == ["dsi", "vgr", "hbw"]
    back = [place.piece for place in factory.state.places if place.piece and place.piece.history]
    assert [(piece.state, [item.code for item in piece.history]) for piece in back] == [
        (PieceState.RAW, [100, 200, 300])
    ]


def test_an_order_heard_while_restocking_runs_afterwards() -> None:
    factory = Factory(pace=Pace(restock_after_s=1))
    factory.order(Colour.RED)
    factory.go_on(155)
    factory.order(Colour.BLUE)
    factory.go_on(200)
    assert factory.states().count(OrderState.SHIPPED) == 2
    assert all(place.tray for place in factory.state.places)


def test_an_agenda_out_of_order_is_an_error_and_not_a_lost_piece() -> None:
    from lineside.simulator.warehouse.state import Transfer

    state = FactoryState(places=(Place(),) * 9, agenda=((0.0, Transfer.OUT),))
    with pytest.raises(LookupError, match="no piece"):
        step(state, Moment(at=FakeClock().now(), s=1), pace=Pace())


@given(
    seed=st.integers(0, 1000),
    waits=st.lists(st.tuples(st.sampled_from(COLOURS), st.floats(0, 200)), max_size=6),
    restock_after_s=st.sampled_from([0.0, 5.0, 60.0]),
    tick_s=st.sampled_from([0.5, 7.0, 90.0]),
)
def test_pieces_are_conserved_and_states_come_in_order(
    seed: int,
    waits: list[tuple[Colour, float]],
    restock_after_s: float,
    tick_s: float,
) -> None:
    factory = Factory(seed=seed, pace=Pace(restock_after_s=restock_after_s))
    pieces = factory.pieces
    accepted = 0
    for colour, seconds in waits:
        accepted += factory.order(colour) == ""
        factory.go_on(seconds, tick_s=tick_s)
        assert factory.pieces == pieces
    factory.go_on(400 * (len(waits) + 1), tick_s=tick_s)
    assert factory.pieces == pieces
    assert factory.states() == accepted * [
        OrderState.ORDERED,
        OrderState.IN_PROCESS,
        OrderState.SHIPPED,
        OrderState.WAITING_FOR_ORDER,
        OrderState.WAITING_FOR_ORDER,
    ]
    assert not factory.state.queue
    assert factory.state.hand is None
    assert not any(report.active for report in factory.state.stations)
    if restock_after_s:
        assert not factory.state.away
    else:
        assert len(factory.state.away) == accepted
