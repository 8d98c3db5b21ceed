"""The four things that a device may ask, each over a change.

Each returns the body of the accepted answer, or raises ``JobRejectedError``.
"""

from typing import Any, assert_never

from lineside.core import NotFoundError
from lineside.fleet.contract import ExecutionStatus
from lineside.fleet.jobs import wire
from lineside.fleet.jobs.change import Change
from lineside.fleet.jobs.directory import Directory
from lineside.fleet.jobs.executions import Run, detailed, moved, stepped
from lineside.fleet.jobs.names import NEXT
from lineside.fleet.jobs.requests import (
    Asked,
    Code,
    Describe,
    GetPending,
    JobRejectedError,
    StartNext,
    Update,
)

_MOST_LISTED = 1_000


def carry_out(change: Change, asked: Asked, *, directory: Directory) -> dict[str, Any]:
    """The body of the answer.

    Raises:
        JobRejectedError: with the code of the contract and the client's token.
    """
    try:
        _check_thing(directory, asked.thing)
        match asked.request:
            case GetPending():
                return wire.pending_lists(change.book.pending(asked.thing, limit=_MOST_LISTED))
            case StartNext():
                return _start_next(change, asked.thing, asked=asked.request)
            case Describe():
                return _describe(change, asked.thing, asked=asked.request)
            case Update():
                return _update(change, asked.thing, asked=asked.request)
            case _:
                assert_never(asked.request)
    except NotFoundError as error:
        raise JobRejectedError(Code.RESOURCE_NOT_FOUND, error.message, token=asked.token) from error
    except JobRejectedError as error:
        raise JobRejectedError(
            error.code, error.message, token=asked.token, state=error.state
        ) from error


def _check_thing(directory: Directory, thing: str) -> None:
    if not directory.has(thing):
        raise JobRejectedError(Code.RESOURCE_NOT_FOUND, f"no thing {thing!r}")


def _start_next(change: Change, thing: str, *, asked: StartNext) -> dict[str, Any]:
    run = change.head(thing)
    if run is None:
        return {}
    if run.status is ExecutionStatus.QUEUED:
        begun = moved(run, ExecutionStatus.IN_PROGRESS, now=change.now)
        begun = stepped(detailed(begun, asked.details), asked.step_minutes, now=change.now)
        change.step(run, begun)
        run = begun
    return {"execution": change.shown(run)}


def _describe(change: Change, thing: str, *, asked: Describe) -> dict[str, Any]:
    if asked.job_id == NEXT:
        run = change.head(thing)
        if run is None:
            return {}
    else:
        run = change.run(thing, asked.job_id, number=asked.number)
    if not run.open:
        raise JobRejectedError(
            Code.TERMINAL_STATE_REACHED, f"the execution is over: {run.status.value}"
        )
    document = change.document(change.job(run.job_id)) if asked.with_document else None
    return {"execution": wire.execution(run, document)}


def _update(change: Change, thing: str, *, asked: Update) -> dict[str, Any]:
    run = change.run(thing, asked.job_id, number=asked.number)
    _check(run, asked)
    after = detailed(moved(run, asked.status, now=change.now), asked.details)
    if after.open:
        after = stepped(after, asked.step_minutes, now=change.now)
    body: dict[str, Any] = {}
    if asked.with_document:
        body["jobDocument"] = change.document(change.job(run.job_id))
    change.step(run, after)
    if asked.with_state:
        body["executionState"] = wire.state(after)
    return body


def _check(run: Run, asked: Update) -> None:
    if asked.expected_version is not None and asked.expected_version != run.version:
        raise JobRejectedError(
            Code.VERSION_MISMATCH,
            f"the execution is at version {run.version}, not {asked.expected_version}",
            state=wire.state(run),
        )
    if not run.open:
        raise JobRejectedError(
            Code.INVALID_STATE_TRANSITION,
            f"{run.status.value} is final; it does not become {asked.status.value}",
            state=wire.state(run),
        )
