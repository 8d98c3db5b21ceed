"""From the predict thread to the bus: batches, windows, failures."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from lineside.core import UnavailableError
from lineside.edge.delivery.shipper import Shipper
from lineside.edge.delivery.spool import Draft, Spool, open_spool
from lineside.edge.messages import Counters
from lineside.links import Bus, Qos
from lineside.testing import FakeClock
from lineside.testing.links import wait_until


class NarrowBus:
    """Takes messages only while it has room; counts what it took and how often it was asked."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.room = 10**9
        self.refusals = 0
        self.connection = 1
        self.is_acknowledged = True

    def publish_soon(
        self,
        topic: str,  # noqa: ARG002
        payload: bytes,
        *,
        qos: Qos = 1,  # noqa: ARG002
        retain: bool = False,  # noqa: ARG002
    ) -> Callable[[], bool] | None:
        if self.room <= 0:
            self.refusals += 1
            return None
        self.room -= 1
        self.taken.append(payload)
        return lambda: self.is_acknowledged

    def connected(self) -> bool:
        return True

    def connections(self) -> int:
        return self.connection


class Rig:
    def __init__(self, spool: Spool, clock: FakeClock) -> None:
        self.bus = NarrowBus()
        self.counters = Counters()
        self.announced = 0
        self.announce_fails = 0
        self.may_fail = threading.Event()
        self.may_fail.set()
        self.spool = spool
        self.shipper = Shipper(
            spool,
            bus=cast("Bus", self.bus),
            clock=clock,
            counters=self.counters,
            resend_after_s=5.0,
            announce=self.announce,
        )

    def announce(self) -> None:
        if self.announce_fails:
            self.announce_fails -= 1
            self.may_fail.wait()
            raise UnavailableError("away")
        self.announced += 1

    def ship(self, count: int, *, image: bytes | None = None) -> None:
        for _ in range(count):
            draft = Draft(topic="t", make=lambda number: str(number).encode(), image=image)
            assert self.shipper.ship(draft)

    def sent(self) -> list[int]:
        return [int(payload) for payload in self.bus.taken]


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Iterator[Rig]:
    spool = open_spool(tmp_path / "spool.db", max_bytes=10**9)
    rig = Rig(spool, clock)
    yield rig
    rig.shipper.close()
    spool.close()


def test_everything_is_sent_in_order_and_once(rig: Rig) -> None:
    rig.shipper.start()
    rig.ship(450)
    wait_until(lambda: len(rig.bus.taken) == 450)
    assert rig.sent() == list(range(1, 451))
    assert rig.announced == 1


def test_no_more_than_the_window_is_sent_before_the_hub_answers(rig: Rig) -> None:
    rig.shipper.start()
    rig.ship(700)
    wait_until(lambda: rig.spool.last == 700)
    wait_until(lambda: len(rig.bus.taken) == 500)
    rig.shipper.acknowledge(300)
    wait_until(lambda: len(rig.bus.taken) == 700)
    assert rig.sent() == list(range(1, 701))


def test_a_full_client_is_tried_again_where_it_refused(rig: Rig) -> None:
    rig.bus.room = 3
    rig.shipper.start()
    rig.ship(10, image=b"0")
    wait_until(lambda: rig.bus.refusals > 2)
    rig.bus.room = 10**9
    wait_until(lambda: len(rig.bus.taken) == 20)
    assert rig.sent() == [one for number in range(1, 11) for one in (0, number)]


def test_an_event_is_kept_until_the_broker_acknowledged_its_image(rig: Rig) -> None:
    rig.bus.is_acknowledged = False
    rig.ship(2, image=b"0")
    for sequence in (2, 0):
        rig.shipper._turn()
        rig.shipper.acknowledge(sequence)
    assert rig.shipper.depth() == 2
    rig.bus.is_acknowledged = True
    rig.shipper._turn()
    assert (rig.shipper.depth(), rig.sent()) == (0, [0, 1, 0, 2])


def test_nothing_is_sent_before_the_status_was_said(rig: Rig) -> None:
    rig.announce_fails = 3
    rig.shipper.start()
    rig.ship(1)
    wait_until(lambda: len(rig.bus.taken) == 1)
    assert (rig.announced, rig.announce_fails) == (1, 0)


def test_the_status_is_not_tried_again_at_the_end(rig: Rig) -> None:
    rig.announce_fails = 9
    rig.may_fail.clear()
    rig.shipper.start()
    wait_until(lambda: rig.announce_fails == 8)
    closing = threading.Thread(target=rig.shipper.close, name="closing")
    closing.start()
    wait_until(lambda: not rig.shipper.ship(Draft(topic="t", make=lambda _: b"")))
    rig.may_fail.set()
    closing.join()
    assert rig.announce_fails == 8


def test_a_new_connection_gets_everything_that_is_not_acknowledged(rig: Rig) -> None:
    rig.shipper.start()
    rig.ship(5, image=b"0")
    wait_until(lambda: len(rig.bus.taken) == 10)
    rig.shipper.acknowledge(2)
    wait_until(lambda: rig.shipper.depth() == 3)
    rig.bus.connection = 2
    wait_until(lambda: len(rig.bus.taken) == 16)
    assert rig.sent()[10:] == [0, 3, 0, 4, 0, 5]
    assert rig.announced == 2


def test_a_writer_that_fails_is_a_fault_and_the_thread_goes_on(rig: Rig) -> None:
    failing = threading.Event()
    failing.set()

    def make(number: int) -> bytes:
        if failing.is_set():
            raise RuntimeError("cannot write")
        return str(number).encode()

    rig.shipper.start()
    rig.shipper.ship(Draft(topic="t", make=make))
    wait_until(lambda: rig.counters.read().faults != ())
    failing.clear()
    wait_until(lambda: rig.sent() == [1])
    wait_until(lambda: rig.counters.read().faults == ())


def test_what_was_handed_in_is_committed_when_it_closes(rig: Rig) -> None:
    rig.bus.room = 0
    rig.shipper.start()
    rig.ship(150)
    rig.shipper.close()
    assert rig.spool.depth == 150
    assert not rig.shipper.ship(Draft(topic="t", make=lambda _: b""))
