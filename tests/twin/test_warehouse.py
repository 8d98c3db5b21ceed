"""A warehouse of real pieces against the twin that sells them: nothing is sold twice.

The machine holds the truth: which piece lies where, which command the factory took or lost. The
crane takes any piece of the colour, not the one the twin had in mind; pictures may come late,
twice, unsure or not at all; messages of the factory may come twice.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lineside.core.factory import SLOTS
from lineside.streams import Event
from lineside.testing.events import (
    COLOURS,
    after,
    factory_event,
    picture_event,
    small_plant,
    station_event,
)
from lineside.twin import due, initial, next_to_send, order_event, patch, place, replay
from lineside.vision import PictureState

PLANT = small_plant()
TIME_OUT_S = 300.0


class Warehouse(RuleBasedStateMachine):
    """One factory, one twin."""

    @initialize(pieces=st.lists(st.sampled_from(["empty", *COLOURS]), min_size=9, max_size=9))
    def fill(self, pieces: list[str]) -> None:
        self.rack = dict(zip(SLOTS, pieces, strict=True))
        self.state = initial(PLANT)
        self.now_s = 1.0
        self.heard: list[Event] = []
        self.pictures: list[Event] = []
        self.orders = 0
        self.commands: list[str] = []
        self.run: tuple[str, str] | None = None
        self.shipped: list[str] = []

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        before = self.state
        self.state = replay([event], plant=PLANT, state=before)
        assert (patch(before, self.state) == []) is (before == self.state)

    def tick(self, seconds: float = 1.0) -> None:
        self.now_s += seconds

    @rule(hidden=st.sets(st.sampled_from(SLOTS), max_size=3), deliver=st.booleans())
    def take_picture(self, *, hidden: set[str], deliver: bool) -> None:
        self.tick()
        shown = {slot: "?" if slot in hidden else name for slot, name in self.rack.items()}
        event = picture_event(shown, at_s=self.now_s)
        self.pictures.append(event)
        if deliver:
            self.hear(event)

    @rule()
    def move_the_camera(self) -> None:
        self.tick()
        self.hear(picture_event({}, at_s=self.now_s, state=PictureState.CAMERA_MOVED))

    @precondition(lambda self: self.pictures)
    @rule(data=st.data())
    def deliver_an_old_picture(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from(self.pictures)))

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def deliver_something_again(self, data: st.DataObject) -> None:
        before = self.state
        self.hear(data.draw(st.sampled_from(self.heard)))
        assert self.state == before

    @rule(colour=st.sampled_from(COLOURS))
    def order(self, colour: str) -> None:
        self.orders += 1
        event = place(
            self.state, colour=colour, by="a", now=after(self.now_s),
            order_id=f"ord_{self.orders}", plant=PLANT,
        )  # fmt: skip
        if event.data["action"] == "placed":
            self.hear(event)

    @rule(lost=st.booleans())
    def send(self, *, lost: bool) -> None:
        """``lost``: the hub died, or the factory did, between ``sending`` and the factory."""
        order = next_to_send(self.state, now=after(self.now_s), plant=PLANT)
        if order is None:
            return
        self.hear(order_event(order.id, "sending", at=after(self.now_s), site="hall"))
        if lost:
            self.tick(TIME_OUT_S)
            self.hear_due()
        else:
            self.hear(order_event(order.id, "sent", at=after(self.now_s), site="hall"))
            self.commands.append(order.colour)
            self.begin_run(order.id, order.colour)

    def begin_run(self, order: str, colour: str) -> None:
        assert self.run is None, "two runs at a time"
        self.run = (order, colour)
        self.tick()
        self.hear(factory_event("ORDERED", colour, at_s=self.now_s))

    @precondition(lambda self: self.run is not None)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        """The crane takes a piece of the colour, if this run has not taken one yet."""
        assert self.run is not None
        order, colour = self.run
        if order in self.shipped or f"{order} fetched" in self.shipped:
            return
        held = [slot for slot, name in self.rack.items() if name == colour]
        assert held, f"{colour} was sold, but there is none"
        self.tick()
        self.rack[data.draw(st.sampled_from(held))] = "empty"
        self.shipped.append(f"{order} fetched")
        self.hear(station_event("hbw", active=True, at_s=self.now_s))
        self.hear(factory_event("IN_PROCESS", colour, at_s=self.now_s))

    @precondition(lambda self: self.run is not None and f"{self.run[0]} fetched" in self.shipped)
    @rule()
    def ship(self) -> None:
        assert self.run is not None
        order, colour = self.run
        self.tick()
        self.hear(factory_event("SHIPPED", colour, at_s=self.now_s))
        for _ in range(2):
            self.tick()
            self.hear(factory_event("WAITING_FOR_ORDER", at_s=self.now_s))
        self.shipped.append(order)
        self.run = None
        found = self.state.order(order)
        assert found is not None
        assert found.status == "SHIPPED"

    @rule()
    def hear_due(self) -> None:
        for event in due(self.state, now=after(self.now_s), plant=PLANT):
            self.hear(event)

    @invariant()
    def no_piece_is_sold_twice(self) -> None:
        waiting = [
            order.colour
            for order in self.state.orders
            if order.open and f"{order.id} fetched" not in self.shipped
        ]
        lying = list(self.rack.values())
        assert all(waiting.count(colour) <= lying.count(colour) for colour in COLOURS)

    @invariant()
    def every_open_order_holds_one_place(self) -> None:
        held = sorted(slot.reserved_by for slot in self.state.slots.values() if slot.reserved_by)
        assert held == sorted(order.id for order in self.state.orders if order.open)

    @invariant()
    def one_command_for_each_order_begun(self) -> None:
        begun = [order for order in self.state.orders if order.status in ("IN_PROCESS", "SHIPPED")]
        assert len(begun) <= len(self.commands)

    def teardown(self) -> None:
        assert replay(self.heard, plant=PLANT) == self.state


Warehouse.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestWarehouse = Warehouse.TestCase
