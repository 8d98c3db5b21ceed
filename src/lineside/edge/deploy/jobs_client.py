"""The device's side of the job service on the bus: ``fleet.Talk`` with threads around it.

1. What the service says is heard on one thread, a job is carried out on another: nothing waits for
   a download.
2. The talk is touched under one lock; what it wants said is handed to the bus without waiting. What
   the bus does not take is said again by the talk's own timer.
3. Closing breaks a fetch off; what came of it stays, and the job is taken up at the next start.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lineside.core import Clock, LinesideError
from lineside.edge.counters import Tally
from lineside.edge.deploy.job_runner import AbandonedError, Control
from lineside.edge.deploy.loader import StoppingError
from lineside.fleet import ExecutionStatus
from lineside.fleet.agent_steps import (
    Abandon,
    Begin,
    GoOn,
    Outcome,
    Say,
    Step,
    Talk,
    Turn,
    Work,
    confirm,
    ended,
    heard,
    joined,
    progressed,
    subscriptions,
    ticked,
)
from lineside.links import Bus

logger = logging.getLogger(__name__)

_TURN_S = 0.25
_MAILBOX = 1000
_PLACE = "job"

CarryOut = Callable[[Work, Control], Outcome]
Heard = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """A job that is carried out right now, with the details it told last."""

    work: Work
    details: Mapping[str, str]


def _nobody(payload: bytes) -> None:
    """Nobody asks when the service was heard."""
    del payload


class JobClient:
    """Started and closed by the agent."""

    def __init__(
        self,
        bus: Bus,
        *,
        thing: str,
        carry_out: CarryOut,
        tally: Tally,
        clock: Clock,
        heard: Heard = _nobody,
    ) -> None:
        self._bus = bus
        self._carry_out = carry_out
        self._heard = heard
        self._tally = tally
        self._clock = clock
        self._thing = thing
        self._talk = Talk(thing=thing, prefix=secrets.token_hex(6))
        self._lock = threading.RLock()
        self._next: Work | None = None
        self._given = threading.Condition(self._lock)
        self._current: _Control | None = None
        self._stop = threading.Event()
        self._connections = 0
        self._threads = (
            threading.Thread(target=self._listen, name="jobs", daemon=True),
            threading.Thread(target=self._run, name="job-work", daemon=True),
        )

    def start(self) -> None:
        """Subscribe, and ask for jobs as soon as the bus is there."""
        self._mailbox = self._bus.subscribe(subscriptions(self._thing), size=_MAILBOX, name="jobs")
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether its work goes on."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Break off what is under way."""
        self._stop.set()
        with self._lock:
            if self._current is not None:
                self._current.stop()
            self._given.notify_all()
        self._mailbox.close()
        for thread in self._threads:
            thread.join()

    def doing(self) -> Doing | None:
        """What is under way."""
        with self._lock:
            control = self._current
        return Doing(work=control.work, details=control.details) if control is not None else None

    # ---- talking

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception as error:  # boundary: one message must not end the device
                logger.exception("jobs: a message failed")
                self._tally.fault("jobs", error)

    def _turn(self) -> None:
        messages = self._mailbox.get_many(most=100, timeout_s=_TURN_S)
        now_s = self._clock.monotonic()
        if self._is_new_connection():
            self._act(lambda talk: joined(talk, now_s=now_s))
        for message in messages:
            self._heard(message.payload)
            self._act(
                lambda talk, one=message: heard(  # type: ignore[misc]  # a default of a lambda
                    talk, one.topic, payload=one.payload, now_s=now_s
                )
            )
        self._act(lambda talk: ticked(talk, now_s=now_s))

    def _is_new_connection(self) -> bool:
        if not self._bus.connected() or self._bus.connections() == self._connections:
            return False
        self._connections = self._bus.connections()
        return True

    def _act(self, change: Callable[[Talk], Turn]) -> None:
        with self._lock:
            self._talk, steps = change(self._talk)
            for step in steps:
                self._carry(step)

    def _carry(self, step: Step) -> None:
        match step:
            case Say():
                self._bus.publish_soon(step.topic, step.payload, qos=1)
            case Begin():
                logger.info("job begins job=%s number=%d", step.work.job_id, step.work.number)
                self._next = step.work  # one that waits there was called off
                self._given.notify_all()
            case GoOn():
                if self._current is not None:
                    self._current.confirmed(step.work)
            case Abandon():
                logger.info("job left job=%s: %s", step.work.job_id, step.reason)
                if self._current is not None:
                    self._current.abandon(step.work)

    # ---- working

    def _run(self) -> None:
        while (control := self._take()) is not None:
            self._carry_out_one(control)

    def _take(self) -> "_Control | None":
        """The next job; None when the agent is closing."""
        with self._lock:
            self._given.wait_for(lambda: self._next is not None or self._stop.is_set())
            work, self._next = self._next, None
            if work is None or self._stop.is_set():
                return None
            self._current = _Control(work, self)
            if not work.same(self._talk.work):
                self._current.abandon(work)
            return self._current

    def _carry_out_one(self, control: "_Control") -> None:
        work = control.work
        try:
            outcome = self._carry_out(work, control)
        except (AbandonedError, StoppingError):
            return
        except Exception as error:  # boundary: a job must not end the device
            logger.exception("job failed job=%s", work.job_id)
            outcome = Outcome(status=ExecutionStatus.FAILED, details={"reason": repr(error)})
        finally:
            with self._lock:
                self._current = None
        self._end(work, outcome)

    def _end(self, work: Work, outcome: Outcome) -> None:
        reason = outcome.details.get("reason", "")
        logger.info("job ended job=%s status=%s %s", work.job_id, outcome.status, reason)
        if outcome.status is ExecutionStatus.SUCCEEDED:
            self._tally.mended(_PLACE)
        else:
            said = LinesideError(f"{work.job_id} {outcome.status.lower()}: {reason}")
            self._tally.fault(_PLACE, said)
        now_s = self._clock.monotonic()
        self._act(lambda talk: ended(talk, work, outcome=outcome, now_s=now_s))

    def tell(self, details: Mapping[str, str]) -> None:
        """Progress of the job under way."""
        now_s = self._clock.monotonic()
        self._act(lambda talk: progressed(talk, details, now_s=now_s))

    def ask(self, work: Work) -> None:
        """Is it still wanted?"""
        now_s = self._clock.monotonic()
        self._act(lambda talk: confirm(talk, work, now_s=now_s))


class _Control:
    """``deploying.Control`` of one job."""

    def __init__(self, work: Work, client: JobClient) -> None:
        self.work = work
        self.details: Mapping[str, str] = {}
        self._client = client
        self._changed = threading.Condition()
        self._abandoned = False
        self._stopped = False
        self._confirmed = False

    def tell(self, details: Mapping[str, str]) -> None:
        self._check()
        self.details = dict(details)
        self._client.tell(details)

    def confirm(self) -> None:
        self._confirmed = False
        self._client.ask(self.work)
        with self._changed:
            self._changed.wait_for(lambda: self._confirmed or self._over)
        self._check()

    def wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._over, timeout=seconds)
        self._check()

    def confirmed(self, work: Work) -> None:
        """The service said so."""
        with self._changed:
            self._confirmed = self._confirmed or work.same(self.work)
            self._changed.notify_all()

    def abandon(self, work: Work) -> None:
        """The service said otherwise."""
        with self._changed:
            self._abandoned = self._abandoned or work.same(self.work)
            self._changed.notify_all()

    def stop(self) -> None:
        """The agent is closing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def _over(self) -> bool:
        return self._abandoned or self._stopped

    def _check(self) -> None:
        if self._stopped:
            raise StoppingError("the agent is closing")
        if self._abandoned:
            raise AbandonedError("the job was called off", where=self.work.job_id)
