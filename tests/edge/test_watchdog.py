"""Cameras that hang, die or fall silent, and what systemd hears."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core.processes import Supervisor, supervisor_of
from lineside.edge.messages import Counters
from lineside.edge.worker import Pulse, Watchdog, WatchedWorker, state_of
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from tests.edge.conftest import GOOD, Bench, picture

GOOD_PULSE = Pulse(busy_s=0, silent_s=0, alive=True, done=False)


@given(
    pulse=st.builds(
        Pulse, busy_s=st.floats(0, 100), silent_s=st.floats(0, 100), alive=..., done=...
    )
)
def test_a_state_is_the_worst_there_is(pulse: Pulse) -> None:
    expected = "silent" if pulse.silent_s > 30 else "fine"
    expected = "hangs" if pulse.busy_s > 30 else expected
    expected = "died" if not pulse.alive else expected
    expected = "fine" if pulse.done else expected
    assert state_of(pulse, hang_after_s=30) == expected


@dataclass
class Listener:
    """systemd's end of the socket."""

    link: socket.socket
    address: str
    heard: list[str] = field(default_factory=list)

    def read(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += self.link.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found


@pytest.fixture(params=["file", "abstract"])
def listener(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Listener]:
    name = str(tmp_path / "notify") if request.param == "file" else f"@{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.settimeout(0)
        link.bind("\0" + name[1:] if name.startswith("@") else name)
        yield Listener(link=link, address=name)


@dataclass
class Scene:
    """A watchdog over one worker whose pulse the test gives."""

    clock: FakeClock
    counters: Counters
    pulse: Pulse = GOOD_PULSE
    wrong: str = ""
    restarts: int = 0

    def made(self, supervisor: Supervisor) -> Watchdog:
        return Watchdog(
            lambda: [
                WatchedWorker(name="camera a", pulse=lambda: self.pulse, restart=self.restart)
            ],
            sound=lambda: self.wrong,
            status=lambda: "all\nis well",
            supervisor=supervisor,
            hang_after_s=30,
            counters=self.counters,
            clock=self.clock,
        )

    def restart(self) -> None:
        self.restarts += 1
        self.pulse = GOOD_PULSE


@pytest.fixture
def scene(clock: FakeClock) -> Scene:
    return Scene(clock=clock, counters=Counters())


@pytest.mark.parametrize(
    ("pulse", "words"),
    [
        (Pulse(busy_s=31, silent_s=0, alive=True, done=False), "hung"),
        (Pulse(busy_s=0, silent_s=0, alive=False, done=False), "died"),
        (Pulse(busy_s=0, silent_s=31, alive=True, done=False), "no pictures"),
    ],
)
def test_a_worker_in_trouble_is_said_and_started_anew_once(
    scene: Scene, pulse: Pulse, words: str
) -> None:
    scene.pulse = pulse
    watchdog = scene.made(Supervisor())
    watchdog.look()
    assert scene.restarts == 1
    assert words in scene.counters.read().faults[0]
    watchdog.look()
    assert scene.restarts == 1
    assert scene.counters.read().faults == ()


def test_systemd_hears_of_the_start_of_life_and_of_the_end(
    scene: Scene, listener: Listener
) -> None:
    watchdog = scene.made(Supervisor(address=listener.address, alive_every_s=10))
    watchdog.start()
    assert listener.read()[:2] == ["READY=1", "STATUS=all is well"]
    watchdog.close()
    listener.read()
    watchdog.look()
    scene.clock.advance(10)
    watchdog.look()
    assert "WATCHDOG=1" in listener.read()
    watchdog.look()
    assert listener.read() == []
    scene.wrong = "the control thread is gone"
    scene.clock.advance(100)
    watchdog.look()
    assert listener.read() == []
    assert scene.wrong in scene.counters.read().faults[0]


def test_a_supervisor_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    Supervisor(address=str(tmp_path / "nobody")).tell("READY=1")
    Supervisor().tell("READY=1")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Supervisor()),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000"},
         Supervisor(address="/run/x", alive_every_s=30.0)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())},
         Supervisor(address="@x", alive_every_s=1.0)),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"},
         Supervisor(address="/run/x")),
        ({"WATCHDOG_USEC": "soon"}, Supervisor()),
    ],
)  # fmt: skip
def test_the_environment_says_who_listens(environ: dict[str, str], expected: Supervisor) -> None:
    assert supervisor_of(environ) == expected


class TestAnAgent:
    def test_whose_network_hangs_is_given_a_new_worker_and_goes_on(self, bench: Bench) -> None:
        judge = bench.judges[GOOD]
        judge.hold.clear()
        bench.frame(1)
        wait_until(lambda: len(judge.seen) == 1)
        (guarded,) = bench.agent.guarded()
        bench.clock.advance(31)
        assert state_of(guarded.pulse(), hang_after_s=30) == "hangs"
        before = threading.active_count()
        guarded.restart()
        assert bench.agent.unsound() in ("", "the control thread is gone")
        judge.hold.set()
        wait_until(bench.looks)
        bench.frame(2)
        assert len(bench.events(2)) == 2  # the late answer, and that of the new worker
        wait_until(lambda: threading.active_count() <= before)
        (again,) = bench.agent.guarded()
        assert state_of(again.pulse(), hang_after_s=30) == "fine"

    def test_with_too_many_threads_that_hang_is_unsound(self, bench: Bench) -> None:
        judge = bench.judges[GOOD]
        judge.hold.clear()
        for number in range(3):
            bench.clock.advance(1)
            wait_until(bench.looks)
            bench.frame(number)
            wait_until(lambda seen=number: len(judge.seen) > seen)  # type: ignore[misc]  # a default of a lambda
            bench.agent.guarded()[0].restart()
        wait_until(lambda: bench.agent.unsound() == "3 threads hang")
        judge.hold.set()
        wait_until(lambda: bench.agent.unsound() == "")

    def test_sums_itself_up(self, bench: Bench) -> None:
        bench.frame(1)
        bench.events(1)
        wait_until(lambda: bench.agent.summary().startswith("1 of 1 frames judged; stock "))


class TestTheClock:
    """Time of day jumps; what is waited for goes by the monotonic clock."""

    def jump(self, bench: Bench, **by: float) -> None:
        bench.clock._now += timedelta(**by)

    def test_ahead_makes_pictures_old_until_the_camera_knows(self, bench: Bench) -> None:
        at = bench.clock.now()
        self.jump(bench, days=365)
        bench.frame(1, age_s=365 * 86_400.0)
        wait_until(lambda: sum(bench.refused().values()) == 1)
        bench.frame(2)
        (event,) = bench.events(1)
        assert event.time - at >= timedelta(days=365)

    def test_back_makes_pictures_of_the_future_and_no_answer_is_lost(self, bench: Bench) -> None:
        bench.frame(1)
        (first,) = bench.events(1)
        self.jump(bench, days=-30)
        bench.frame(2)
        (second,) = bench.events(1)
        assert (first.deviceseq, second.deviceseq) == (1, 2)
        bench.clock.advance(5)  # resent by the monotonic clock, whatever the day
        assert [event.deviceseq for event in bench.events(2)] == [1, 2]
        assert picture(1) != picture(2)

    def test_gives_no_camera_a_hang(self, bench: Bench) -> None:
        judge = bench.judges[GOOD]
        judge.hold.clear()
        bench.frame(1)
        wait_until(lambda: len(judge.seen) == 1)
        self.jump(bench, days=3650)
        (guarded,) = bench.agent.guarded()
        assert state_of(guarded.pulse(), hang_after_s=30) == "fine"
        judge.hold.set()
        bench.events(1)
