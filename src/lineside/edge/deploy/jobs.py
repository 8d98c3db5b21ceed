"""Jobs of the hub's job service, from the message to a package in use: ``JobsClient`` with threads.

1. Messages of the service are heard on one thread, a job is carried out on another: nothing waits
   for a download. The talk is touched under one lock; its messages are handed to the bus without
   waiting, and those that the bus does not take are sent again by the talk's own timer.
2. A job that this device cannot do is REJECTED before a byte is fetched: a document it does not
   understand, a model or inspection it has not, another platform, nothing that is signed, an older
   version without a rollback.
3. A later fault is FAILED, with the sentence: bytes that are not the signed ones, a package that
   cannot be loaded, golden pictures answered differently, no room.
4. A hub that is away is waited for; the job's own timers say for how long. Closing breaks a fetch
   off; its bytes stay, and the job is taken up at the next start.
5. The service is asked once more whether the job is still wanted before the package comes into use,
   and again where the hub's desired state changed since.
6. A package that decided by an operating point here before decides by it again, from its first
   frame on; where that cannot be had, what answers goes on.
7. SUCCEEDED is told of a package that answered its golden pictures and is in use. Every part may be
   done again: a package that is in use already is a success.
"""

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from lineside.core import Clock, Digest, InvalidError, LinesideError, UnavailableError, short
from lineside.core.worker import Worker, backoff_s
from lineside.edge.deploy.loader import DesiredChangedError, Loader, Prepared
from lineside.edge.deploy.package_source import Choice, PackageSource
from lineside.edge.hub_client import BusyError, StoppingError
from lineside.edge.messages import Counters
from lineside.fleet import DevicePolicy, ExecutionStatus, JobDocument
from lineside.fleet.agent import (
    Abandon,
    Begin,
    Continue,
    JobsClient,
    Outcome,
    Step,
    Transition,
    Work,
    advance_time,
    confirm,
    read_order,
    receive,
    report_end,
    report_progress,
    start_session,
    subscriptions,
)
from lineside.fleet.jobs.wire import JobMessage
from lineside.links import Bus

_STEPS = 1000
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


T = TypeVar("T")

Placing = Callable[[JobDocument], object]


class AbandonedError(UnavailableError):
    """The job is no longer wanted."""


class Control(Protocol):
    """Operations of a job in progress on the job service."""

    def tell(self, details: Mapping[str, str]) -> None:
        """Progress.

        Raises:
            AbandonedError: the job is no longer wanted.
            StoppingError: the agent is closing.
        """
        ...

    def confirm(self) -> None:
        """Wait for the service to say that the job is still wanted; raises as ``tell``."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait; raises as ``tell``."""
        ...


class Deployer:
    """Carries out jobs, one after the other."""

    def __init__(
        self,
        loader: Loader,
        *,
        source: PackageSource,
        policy: DevicePolicy,
        on_deployed: Placing = lambda _: None,
    ) -> None:
        """``on_deployed`` is called with each order whose package is in use."""
        self._loader = loader
        self._source = source
        self._policy = policy
        self._placed = on_deployed

    def carry_out(self, work: Work, control: Control) -> Outcome:
        """Do what a job says.

        Raises:
            AbandonedError: the job was called off; nothing was changed.
            StoppingError: the agent is closing; the job is taken up at its next start.
        """
        control.tell({"step": "begun"})
        fault = ExecutionStatus.REJECTED
        try:
            order = read_order(work.document, policy=self._policy)
            fault = ExecutionStatus.FAILED
            self._retried(self._source.refresh, control)
            fault = ExecutionStatus.REJECTED
            choice = self._source.of_job(order)
            self._check_inspection(choice.inspection)
            fault = ExecutionStatus.FAILED
            outcome = self._brought(choice, control)
        except (AbandonedError, StoppingError):
            raise
        except LinesideError as error:
            details = {"step": fault.value.lower(), "reason": str(error)}
            return Outcome(status=fault, details=details)
        except Exception as error:  # boundary: a package must not end the agent
            logger.exception("job failed job=%s", work.job_id)
            details = {"step": "failed", "reason": repr(error)}
            return Outcome(status=ExecutionStatus.FAILED, details=details)
        self._placed(order)
        return outcome

    def _brought(self, choice: Choice, control: Control) -> Outcome:
        used = {one.inspection: one.digest for one in self._loader.in_use()}
        if choice.digest and used.get(choice.inspection) == choice.digest:
            self._source.done(choice)  # a kill may have come between its use and the tidying
            return _succeeded(choice.digest, how="was in use already")

        def progress(there: int, whole: int) -> None:
            control.tell({"step": "fetching", "bytes": str(there), "bytes_total": str(whole)})

        data = self._retried(lambda: self._source.fetch(choice, progress=progress), control)
        control.tell({"step": "checking"})
        ready = self._loader.checked(
            data, inspection=choice.inspection, digest=choice.digest, where="job"
        )
        self._check_inspection(ready.inspection)
        self._retried(lambda: self._loader.recall_point(ready), control)
        control.tell({"step": "switching"})
        while True:
            desired = self._loader.desired_of(ready.inspection)
            control.confirm()
            made = Prepared(
                ready=ready, data=data, url=choice.url, installed=choice.installed, by_job=True,
                desired=desired,
            )  # fmt: skip
            with contextlib.suppress(DesiredChangedError):
                self._loader.place(made)
                break
        self._source.done(choice)
        if self._loader.judge(ready.inspection) is not ready.judge:
            raise UnavailableError("another package took its place at once", where="wish")
        return _succeeded(ready.digest, how="in use")

    def _retried(self, call: Callable[[], T], control: Control) -> T:
        """The result of a call; while the hub is away it is waited for."""
        attempt = 0
        while True:
            try:
                return call()
            except (AbandonedError, StoppingError):
                raise
            except UnavailableError as error:
                logger.info("job waits: %s", error)
                control.wait(pause_s(error, attempt=attempt))
                attempt += 1

    def _check_inspection(self, inspection: str) -> None:
        if inspection and inspection not in self._policy.inspections:
            raise InvalidError(
                f"this device has no inspection {inspection[:60]!r}",
                where="inspection",
                fix=f"It has {', '.join(sorted(self._policy.inspections)) or 'none'}.",
            )


def pause_s(error: UnavailableError, *, attempt: int) -> float:
    """Seconds before the next try; never the same for two devices.

    A busy hub says how long at least; else it doubles, from a second to a minute.

    Args:
        error: why the last try failed.
        attempt: 0 is the first.
    """
    if isinstance(error, BusyError):
        return error.after_s * (1.0 + secrets.randbelow(_STEPS) / _STEPS)
    return backoff_s(attempt, first_s=_FIRST_WAIT_S, most_s=_LONGEST_WAIT_S)


def _succeeded(digest: str, *, how: str) -> Outcome:
    details = {"step": "done", "digest": digest, "package": short(Digest(digest)), "how": how}
    return Outcome(status=ExecutionStatus.SUCCEEDED, details=details)


logger = logging.getLogger(__name__)

_TURN_S = 0.25
_MAILBOX = 1000
_PLACE = "job"

CarryOut = Callable[[Work, Control], Outcome]
Heard = Callable[[bytes], None]


class JobClient:
    """Started and closed by the agent."""

    def __init__(
        self,
        bus: Bus,
        *,
        thing: str,
        carry_out: CarryOut,
        counters: Counters,
        clock: Clock,
        heard: Heard = lambda _: None,
    ) -> None:
        self._bus = bus
        self._carry_out = carry_out
        self._heard = heard
        self._counters = counters
        self._clock = clock
        self._thing = thing
        self._talk = JobsClient(thing=thing, prefix=secrets.token_hex(6))
        self._lock = threading.RLock()
        self._next: Work | None = None
        self._given = threading.Condition(self._lock)
        self._current: JobInProgress | None = None
        self._connections = 0
        self._listener = Worker("jobs", self._turn, report=self._note, clock=clock)
        self._runner = Worker("job-work", self._run_one)
        self._stop = self._runner.stopping

    def start(self) -> None:
        """Subscribe, and ask for jobs as soon as the bus is there."""
        self._mailbox = self._bus.subscribe(subscriptions(self._thing), size=_MAILBOX, name="jobs")
        self._listener.start()
        self._runner.start()

    @property
    def alive(self) -> bool:
        """True while its threads run."""
        return self._listener.is_alive and self._runner.is_alive

    def close(self) -> None:
        """Break off what is under way."""
        self._listener.request_stop()
        self._runner.request_stop()
        with self._lock:
            if self._current is not None:
                self._current.stop()
            self._given.notify_all()
        self._mailbox.close()
        self._listener.join()
        self._runner.join()

    def doing(self) -> "JobInProgress | None":
        """The job in progress."""
        with self._lock:
            return self._current

    # ---- talking

    def _note(self, error: Exception | None) -> None:
        if error is not None:
            logger.error("jobs: a message failed", exc_info=error)
            self._counters.fault("jobs", error)

    def _turn(self) -> None:
        messages = self._mailbox.get_many(most=100, timeout_s=_TURN_S)
        now_s = self._clock.monotonic()
        if self._is_new_connection():
            self._act(lambda session: start_session(session, now_s=now_s))
        for message in messages:
            self._heard(message.payload)
            self._act(
                lambda session, one=message: receive(  # type: ignore[misc]  # a default of a lambda
                    session, one.topic, payload=one.payload, now_s=now_s
                )
            )
        self._act(lambda session: advance_time(session, now_s=now_s))

    def _is_new_connection(self) -> bool:
        if not self._bus.connected() or self._bus.connections() == self._connections:
            return False
        self._connections = self._bus.connections()
        return True

    def _act(self, change: Callable[[JobsClient], Transition]) -> None:
        with self._lock:
            self._talk, steps = change(self._talk)
            for step in steps:
                self._carry(step)

    def _carry(self, step: Step) -> None:
        match step:
            case JobMessage():
                self._bus.publish_soon(step.topic, step.payload, qos=1)
            case Begin():
                logger.info("job begins job=%s number=%d", step.work.job_id, step.work.number)
                self._next = step.work  # one that waits there was called off
                self._given.notify_all()
            case Continue():
                if self._current is not None:
                    self._current.confirmed(step.work)
            case Abandon():
                logger.info("job left job=%s: %s", step.work.job_id, step.reason)
                if self._current is not None:
                    self._current.abandon(step.work)

    # ---- working

    def _run_one(self) -> None:
        control = self._take()
        if control is not None:
            self._carry_out_one(control)

    def _take(self) -> "JobInProgress | None":
        """The next job; None when the agent is closing."""
        with self._lock:
            self._given.wait_for(lambda: self._next is not None or self._stop.is_set())
            work, self._next = self._next, None
            if work is None or self._stop.is_set():
                return None
            self._current = JobInProgress(work, self)
            if not work.same(self._talk.work):
                self._current.abandon(work)
            return self._current

    def _carry_out_one(self, control: "JobInProgress") -> None:
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
            self._counters.mended(_PLACE)
        else:
            said = LinesideError(f"{work.job_id} {outcome.status.lower()}: {reason}")
            self._counters.fault(_PLACE, said)
        now_s = self._clock.monotonic()
        self._act(lambda session: report_end(session, work, outcome=outcome, now_s=now_s))

    def tell(self, details: Mapping[str, str]) -> None:
        """Progress of the job under way."""
        now_s = self._clock.monotonic()
        self._act(lambda session: report_progress(session, details, now_s=now_s))

    def ask(self, work: Work) -> None:
        """Is it still wanted?"""
        now_s = self._clock.monotonic()
        self._act(lambda session: confirm(session, work, now_s=now_s))


class JobInProgress:
    """A job that is carried out right now, with the details it told last: its ``Control``."""

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
