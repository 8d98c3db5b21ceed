"""Cameras that hang or die are noticed, said, and started anew.

1. A worker that is at one picture, or at opening its camera, for longer than ``hang_after_s``
   hangs; one whose thread ended by an error died; a live source that gives nothing for as long is
   silent. Each is said as a fault and started anew. A thread that hangs cannot be ended: it is left
   behind.
2. Where ``MOST_STUCK`` threads were left behind, or a thread that everything needs is gone, only a
   start of the whole program helps: systemd is no longer told that we are alive, and does it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lineside.core import Clock, LinesideError
from lineside.core.processes import Supervisor
from lineside.core.worker import Worker
from lineside.edge.counters import Counters

logger = logging.getLogger(__name__)

MOST_STUCK = 3
_TURN_S = 0.5
_PLACE = "watchdog"

State = Literal["fine", "hangs", "died", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Pulse of a worker.

    Attributes:
        busy_s: how long it is at what it is at; 0 while it waits.
        silent_s: how long its source gave nothing; 0 where that is the source's own business.
        alive: whether its thread runs.
        done: whether it came to its end as it should.
    """

    busy_s: float
    silent_s: float
    alive: bool
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedWorker:
    """A worker under watch, and how it is started anew."""

    name: str
    pulse: Callable[[], Pulse]
    restart: Callable[[], None]


def state_of(pulse: Pulse, *, hang_after_s: float) -> State:
    """State of a worker, for the log."""
    if pulse.done:
        return "fine"
    if not pulse.alive:
        return "died"
    if pulse.busy_s > hang_after_s:
        return "hangs"
    return "silent" if pulse.silent_s > hang_after_s else "fine"


class Watchdog:
    """Started and closed by the program."""

    def __init__(
        self,
        guarded: Callable[[], Sequence[WatchedWorker]],
        *,
        sound: Callable[[], str],
        status: Callable[[], str],
        supervisor: Supervisor,
        hang_after_s: float,
        counters: Counters,
        clock: Clock,
    ) -> None:
        """Watch nothing yet.

        Args:
            guarded: workers, as they are now.
            sound: "" while everything else is; else what is wrong, for good.
            status: a sentence for systemd.
            supervisor: told that we are ready, and alive.
            hang_after_s: the limit.
            counters: where it is said.
            clock: of the supervisor's period.
        """
        self._guarded = guarded
        self._sound = sound
        self._status = status
        self._supervisor = supervisor
        self._hang_after_s = hang_after_s
        self._counters = counters
        self._clock = clock
        self._told_s: float | None = None
        self._said: dict[str, State] = {}
        self._worker = Worker(
            "watchdog", self.look, every_s=_TURN_S, delay_s=_TURN_S, longest_retry_s=_TURN_S
        )

    def start(self) -> None:
        """Say that the program is ready, and watch."""
        self._supervisor.tell("READY=1", f"STATUS={self._status()}")
        self._worker.start()

    def close(self) -> None:
        """Watch no more."""
        self._supervisor.tell("STOPPING=1")
        self._worker.stop()

    def look(self) -> None:
        """One round; the thread calls it twice a second."""
        for one in self._guarded():
            state = state_of(one.pulse(), hang_after_s=self._hang_after_s)
            if state != "fine":
                self._say(one, state)
                one.restart()
            elif self._said.pop(one.name, None) is not None:
                self._counters.mended(f"{one.name} ({_PLACE})")
        wrong = self._sound()
        if wrong:
            if self._counters.fault(_PLACE, LinesideError(wrong)):
                logger.error("only a new start helps: %s", wrong)
            return
        self._tell_alive()

    def _say(self, one: WatchedWorker, state: State) -> None:
        words = {"hangs": "hung", "died": "had died", "silent": "gave no pictures"}[state]
        self._said[one.name] = state
        error = LinesideError(f"{words} and was started anew")
        self._counters.fault(f"{one.name} ({_PLACE})", error)
        logger.warning("%s %s and is started anew", one.name, words)

    def _tell_alive(self) -> None:
        every_s, now_s = self._supervisor.alive_every_s, self._clock.monotonic()
        if self._told_s is not None and now_s - self._told_s < every_s:
            return
        self._told_s = now_s
        words = ("WATCHDOG=1",) if every_s else ()
        if self._supervisor.address:
            self._supervisor.tell(*words, f"STATUS={self._status()}")
