"""One job carried out: from its document to a package in use.

1. What this device cannot do is REJECTED before a byte is fetched: a document it does not
   understand, a model or inspection it has not, another platform, nothing that is signed, an older
   version without a way back.
2. What goes wrong later is FAILED, with the sentence: bytes that are not the signed ones, a package
   that cannot be loaded, golden pictures answered differently, no room.
3. A hub that is away is waited for; the job's own timers say for how long.
4. Whether the job is still wanted is asked once more before the package comes into use, and again
   where the hub's desired state changed since it was asked.
5. SUCCEEDED is said of a package that answered its golden pictures and is in use. Every part may
   be done again: a package that is in use already is a success.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Protocol

from lineside.core import Digest, InvalidError, LinesideError, UnavailableError, short
from lineside.core.worker import backoff_s
from lineside.edge.deploy.loader import DesiredChangedError, Loader, Prepared, StoppingError
from lineside.edge.deploy.package_source import Choice, Supply
from lineside.edge.hub_client import BusyError
from lineside.fleet import DevicePolicy, ExecutionStatus, JobDocument
from lineside.fleet.agent_order import read_order
from lineside.fleet.agent_steps import Outcome, Work

logger = logging.getLogger(__name__)

_STEPS = 1000
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


Placing = Callable[[JobDocument], object]


class AbandonedError(UnavailableError):
    """The job is no longer wanted."""


class Control(Protocol):
    """What a job under way may ask of whoever talks with the service."""

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
        supply: Supply,
        policy: DevicePolicy,
        placed: Placing = lambda _: None,
    ) -> None:
        """``placed`` is told of each order whose package is in use."""
        self._loader = loader
        self._supply = supply
        self._policy = policy
        self._placed = placed

    def carry_out(self, work: Work, control: Control) -> Outcome:
        """Do what a job says.

        Raises:
            AbandonedError: the job was called off; nothing was changed.
            StoppingError: the agent is closing; the job is taken up at its next start.
        """
        control.tell({"step": "begun"})
        try:
            order = read_order(work.document, policy=self._policy)
        except LinesideError as error:
            return _ended(ExecutionStatus.REJECTED, error)
        try:
            self._refreshed(control)
        except (AbandonedError, StoppingError):
            raise
        except LinesideError as error:
            return _ended(_FAILED, error)
        outcome = self._ordered(order, control)
        if outcome.status is ExecutionStatus.SUCCEEDED:
            self._placed(order)
        return outcome

    def _ordered(self, order: JobDocument, control: Control) -> Outcome:
        try:
            choice = self._supply.ordered(order)
            self._check_inspection(choice.inspection)
        except LinesideError as error:
            return _ended(ExecutionStatus.REJECTED, error)
        if self._in_use(choice):
            self._supply.done(choice)  # a kill may have come between its use and the tidying
            return _succeeded(choice.digest, how="was in use already")
        try:
            return self._brought(choice, control)
        except (AbandonedError, StoppingError):
            raise
        except LinesideError as error:
            return _ended(_FAILED, error)
        except Exception as error:  # boundary: a package must not end the agent
            logger.exception("job failed target=%s", order.target)
            return Outcome(status=_FAILED, details={"step": "failed", "reason": repr(error)})

    def _brought(self, choice: Choice, control: Control) -> Outcome:
        data = self._fetched(choice, control)
        control.tell({"step": "checking"})
        ready = self._loader.checked(
            data, inspection=choice.inspection, digest=choice.digest, where="job"
        )
        self._check_inspection(ready.inspection)
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
        self._supply.done(choice)
        if self._loader.judge(ready.inspection) is not ready.judge:
            raise UnavailableError("another package took its place at once", where="wish")
        return _succeeded(ready.digest, how="in use")

    def _refreshed(self, control: Control) -> None:
        attempt = 0
        while True:
            try:
                self._supply.refresh()
            except UnavailableError as error:
                logger.info("job waits: %s", error)
                control.wait(pause_s(error, attempt=attempt))
                attempt += 1
            else:
                return

    def _fetched(self, choice: Choice, control: Control) -> bytes:
        def progress(there: int, whole: int) -> None:
            control.tell({"step": "fetching", "bytes": str(there), "bytes_total": str(whole)})

        attempt = 0
        while True:
            try:
                return self._supply.fetch(choice, progress=progress)
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

    def _in_use(self, choice: Choice) -> bool:
        used = {one.inspection: one.digest for one in self._loader.in_use()}
        return bool(choice.digest) and used.get(choice.inspection) == choice.digest


_FAILED = ExecutionStatus.FAILED


def pause_s(error: UnavailableError, *, attempt: int) -> float:
    """How long to wait before the next try; never the same for two devices.

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


def _ended(status: ExecutionStatus, error: LinesideError) -> Outcome:
    return Outcome(status=status, details={"step": status.value.lower(), "reason": str(error)})
