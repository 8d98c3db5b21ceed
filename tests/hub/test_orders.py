"""Orders: one authority, one message to the factory, whatever happens in between."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lineside.core import ConflictError, decode_json
from lineside.hub import Role, Services
from lineside.links import Bus, Qos
from lineside.testing import FakeClock
from tests.hub.conftest import Line, another_hub

OUT_OF_STOCK = "The red piece you are requesting is out of stock in the Physical Factory!"


@pytest.fixture
def commands(factory: Bus) -> Callable[[], list[dict[str, str]]]:
    """What reached the factory since the last call."""
    mailbox = factory.subscribe(("f/o/order",), qos=2)

    def taken() -> list[dict[str, str]]:
        messages = mailbox.get_many(most=100, timeout_s=0)
        return [decode_json(message.payload, where="order") for message in messages]

    return taken


def steps(hub: Services, order_id: str) -> list[str]:
    return [step.name for step in hub.orders.one(order_id).steps]


def test_an_order_is_sent_once_and_only_after_it_was_written(
    hub: Services, line: Line, commands: Callable[[], list[dict[str, str]]]
) -> None:
    line.see("red")
    order = hub.orders.place("red", by="anna")
    assert commands() == []
    hub.tick()
    hub.tick()
    assert [command["type"] for command in commands()] == ["RED"]
    assert steps(hub, order.id) == ["placed", "sending", "sent"]


def test_absent_stock_gives_the_text_of_the_reference(hub: Services, line: Line) -> None:
    line.see("blue")
    with pytest.raises(ConflictError) as refused:
        hub.orders.place("red", by="anna")
    assert refused.value.message == OUT_OF_STOCK
    (event,) = hub.events.page(kind="lineside.order.v1")
    assert event.event["data"]["action"] == "refused"


def test_two_people_cannot_buy_one_piece(hub: Services, line: Line) -> None:
    """Reference defect 24."""
    line.see("red")
    ready = threading.Barrier(8)

    def buy(number: int) -> str:
        ready.wait()
        try:
            return hub.orders.place("red", by=f"person {number}").id
        except ConflictError as refused:
            return refused.message

    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(buy, range(8)))
    assert sum(answer.startswith("ord_") for answer in answers) == 1
    assert answers.count(OUT_OF_STOCK) == 7


def test_while_the_bus_is_away_an_order_waits_unsent(
    hub: Services, line: Line, bus: Bus, commands: Callable[[], list[dict[str, str]]]
) -> None:
    line.see("red")
    order = hub.orders.place("red", by="anna")
    bus.lose()  # type: ignore[attr-defined]  # the bus in memory
    hub.tick()
    assert steps(hub, order.id) == ["placed"]
    bus.regain()  # type: ignore[attr-defined]  # the bus in memory
    hub.tick()
    assert len(commands()) == 1


class Dies(Exception):  # noqa: N818  stands for a kill
    """The process ends here."""


class DyingBus:
    """Ends the process when an order is published, before or after the broker has it."""

    def __init__(self, bus: Bus, *, after: bool) -> None:
        self._bus = bus
        self._after = after

    def connected(self) -> bool:
        return True

    def publish(self, topic: str, payload: bytes, *, qos: Qos = 1, retain: bool = False) -> None:
        if self._after:
            self._bus.publish(topic, payload, qos=qos, retain=retain)
        raise Dies


@pytest.mark.parametrize("after", [False, True])
def test_an_order_cut_off_in_sending_is_never_sent_again(
    hub: Services,
    line: Line,
    bus: Bus,
    clock: FakeClock,
    commands: Callable[[], list[dict[str, str]]],
    *,
    after: bool,
) -> None:
    """Exactly once: at most one ``f/o/order``, and the reservation ends by time."""
    line.see("red")
    order = hub.orders.place("red", by="anna")
    hub.orders.bus = DyingBus(bus, after=after)  # type: ignore[assignment]  # the part that orders use
    with pytest.raises(Dies):
        hub.tick()
    again = another_hub(hub)
    again.join(bus, base_url="")
    for _ in range(5):
        again.tick()
        clock.advance(1)
    assert len(commands()) == (1 if after else 0)
    assert steps(again, order.id) == ["placed", "sending"]
    clock.advance(301)
    again.tick()
    assert again.orders.one(order.id).status == "RELEASED"


def test_the_factory_drives_the_order_and_ordered_twice_is_one_run(
    hub: Services, line: Line
) -> None:
    """Reference defects 21, 23 and 24."""
    line.see("red")
    order = hub.orders.place("red", by="anna")
    hub.tick()
    for state in ("ORDERED", "ORDERED", "IN_PROCESS", "SHIPPED", "WAITING_FOR_ORDER"):
        line.wait(1)
        message = line.said("f/i/order", state=state, type="RED")
        line.send(message, message)
    done = hub.orders.one(order.id)
    assert done.status == "SHIPPED"
    named = [step.name for step in done.steps]
    assert named == ["placed", "sending", "sent", "ORDERED", "IN_PROCESS", "SHIPPED"]
    assert hub.ledger.state.colours["red"].reserved == 0


def test_an_unanswered_order_is_released_by_time(hub: Services, line: Line) -> None:
    line.see("red")
    order = hub.orders.place("red", by="anna")
    hub.tick()
    line.wait(301)
    hub.tick()
    assert hub.orders.one(order.id).status == "RELEASED"
    assert "did not answer ORDERED" in hub.orders.one(order.id).reason


def test_the_frame_an_order_rests_on_is_pinned_even_if_it_came_later(
    hub: Services, line: Line, jpeg: Callable[..., bytes]
) -> None:
    picture = jpeg("red")
    line.send(line.status(), line.prediction("red", picture=picture))
    order = hub.orders.place("red", by="anna")
    line.send(line.camera(picture))
    (row,) = hub.frames.page()
    assert row.pins == (f"order:{order.id}",)
    assert hub.frames.view(row.id).orders == (order.id,)


def test_a_command_orders_a_piece(line: Line, lineside: Callable[..., Any]) -> None:
    line.see("red", "blue")
    placed = lineside("order", "place", "red", role=Role.OPERATOR)
    assert (placed["colour"], placed["placed_by"]) == ("red", "some operator")
    assert [one["id"] for one in lineside("order", "list")["orders"]] == [placed["id"]]
    assert f"{placed['id']}  red     Order Submitted" in lineside("order", "list", text=True)
    assert lineside("order", "place", "red")[0] == 4
    assert lineside("order", "place", "blue", text=True).endswith(": Order Submitted")
