"""A stop that moves the fake clock, and a bus with somebody listening."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2  # noqa: F401  its import sets a variable, which a test would be blamed for
import pytest

from lineside.links import Bus, Mailbox, Message, open_bus
from lineside.simulator import SimulateSettings, SimulationResult, simulate
from lineside.testing import FakeClock


class MovingStop:
    """Waiting moves the clock; ends after so many seconds; runs what is planned on the way."""

    def __init__(self, clock: FakeClock, *, after_s: float) -> None:
        self._clock, self._after_s = clock, after_s
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def is_set(self) -> bool:
        return self._clock.monotonic() >= self._after_s

    def wait(self, timeout: float) -> bool:
        while self.plans and self.plans[0][0] <= self._clock.monotonic():
            self.plans.pop(0)[1]()
        self._clock.advance(timeout)
        return self.is_set()


@dataclass
class Line:
    """A simulated line on a bus of its own, and everything it said."""

    bus: Bus
    spy: Bus
    mailbox: Mailbox
    clock: FakeClock
    plans: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        self.plans.append((seconds, act))

    def order(self, payload: bytes, *, topic: str = "f/o/order") -> Callable[[], None]:
        return lambda: self.spy.publish(topic, payload)

    def run(self, settings: SimulateSettings, *, seconds: float) -> SimulationResult:
        stop = MovingStop(self.clock, after_s=self.clock.monotonic() + seconds)
        stop.plans = sorted(self.plans, key=lambda plan: plan[0])
        return simulate(settings, bus=self.bus, clock=self.clock, stop=stop)

    def said(self, topic: str = "") -> list[Message]:
        messages = self.mailbox.get_many(most=100_000, timeout_s=0)
        return [one for one in messages if one.topic.startswith(topic)]


_lines = iter(range(10_000))


@pytest.fixture
def line(clock: FakeClock) -> Iterator[Line]:
    url = f"memory://simulator-{next(_lines)}"
    bus = open_bus(url, client_id="simulator", clock=clock)
    spy = open_bus(url, client_id="spy", clock=clock)
    mailbox = spy.subscribe(("#",), size=100_000)
    yield Line(bus=bus, spy=spy, mailbox=mailbox, clock=clock)
    mailbox.close()
    bus.close()
    spy.close()
