"""A supervised program: what it says, what it is started with again, and its end."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from lineside.core import SystemClock, UnavailableError
from lineside.core.processes import SupervisedProgram, inherited_environment
from lineside.testing.links import wait_until

WAITS = "import sys, time; print(sys.argv[1], file=sys.stderr, flush=True); time.sleep(600)"
FAILS = "import os, sys; sys.exit(os.environ['WHY'])"


@contextmanager
def program(
    command: Callable[[], Sequence[str]], *, ended: Callable[[int], bool] = lambda _: False
) -> Iterator[tuple[SupervisedProgram, list[str]]]:
    """A supervised program that was started, and what it said."""
    said: list[str] = []
    made = SupervisedProgram(
        "helper", command=command, environment=lambda: {"WHY": "no camera"}, hear=said.append,
        ended=ended, clock=SystemClock(),
    )  # fmt: skip
    made.start()
    try:
        yield made, said
    finally:
        made.stop()


def test_a_program_that_ends_is_started_again_and_the_log_says_what_it_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with program(lambda: [sys.executable, "-c", FAILS]) as (made, said):
        made.last_words = "no camera"
        wait_until(lambda: len(said) >= 2)
    assert set(said) == {"no camera"}
    assert "helper ended, it is started again code=1" in caplog.text
    assert "said=no camera" in caplog.text


def test_a_restart_ends_it_and_asks_for_its_command_anew(caplog: pytest.LogCaptureFixture) -> None:
    names = iter(("one", "two"))
    with program(lambda: [sys.executable, "-c", WAITS, next(names)]) as (made, said):
        wait_until(lambda: said == ["one"])
        first = made.pid
        made.restart()
        wait_until(lambda: said == ["one", "two"])
        assert made.pid not in (0, first)
    assert made.pid == 0
    assert "ended" not in caplog.text


def test_what_keeps_it_from_starting_is_told_and_tried_again() -> None:
    tries: list[int] = []

    def command() -> list[str]:
        tries.append(1)
        if len(tries) < 3:
            raise UnavailableError("the hub does not answer yet")
        return [sys.executable, "-c", WAITS, "here"]

    with program(command) as (made, said):
        wait_until(lambda: isinstance(made.failure, UnavailableError))
        wait_until(lambda: said == ["here"])


def test_one_that_is_not_to_be_started_again_stays_ended() -> None:
    codes: list[int] = []

    def note(code: int) -> bool:
        codes.append(code)
        return True

    with program(lambda: [sys.executable, "-c", FAILS], ended=note) as (made, said):
        wait_until(lambda: codes == [1])
    assert (said, made.pid) == (["no camera"], 0)


def test_a_child_gets_neither_the_hubs_settings_nor_its_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LINESIDE_HUB__RECORDS", "LINESIDE_EDGE__HUB"):
        monkeypatch.setenv(name, "x")
    assert {"LINESIDE_EDGE__HUB", "PATH"} <= inherited_environment().keys()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LINESIDE_HUB__RECORDS"} & (
        inherited_environment().keys()
    )
