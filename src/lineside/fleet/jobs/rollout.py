"""Jobs made, and advanced by time: begin, notify things at their rate, follow groups, end.

``advance`` takes one bounded step. It returns where to go on, or None when nothing is to be done
before the time that it has noted. A step that was not taken because the process ended is taken by
the next one: everything it needs is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from lineside.core import InvalidError, NotFoundError, digest_of, encode, to_plain
from lineside.fleet.contract import ExecutionStatus, JobStatus, NewJob
from lineside.fleet.jobs.change import Change
from lineside.fleet.jobs.executions import Run, moved
from lineside.fleet.jobs.repository import CHUNK, JobRow, ThingDirectory
from lineside.fleet.jobs.requests import (
    GROUP,
    MOST_DOCUMENT,
    MOST_TARGETS,
    JobThereError,
    check_job_id,
    check_text,
    target_of,
)
from lineside.fleet.jobs.settings import (
    MINUTE,
    JobCounters,
    ObjectLinks,
    check_links,
    count_notified,
    in_minute,
    is_open,
    read_settings,
)

_ENDED = "END_TIME_REACHED"


def advance(change: Change, job_id: str, *, directory: ThingDirectory, after: str) -> str | None:
    """One step; ``after`` is what the step before returned, empty at first."""
    try:
        row = change.job(job_id)
    except NotFoundError:
        return None  # deleted by another thread between two steps
    if row.status is JobStatus.DELETION_IN_PROGRESS:
        return _delete_some(change, row)
    if row.sweeping:
        return _cancel_some(change, row, after=after)
    if row.status is JobStatus.SCHEDULED:
        return _begin(change, row)
    if row.status is JobStatus.IN_PROGRESS:
        return _roll_out(change, row, directory=directory)
    change.repository.drop_active(job_id)
    return None


def things_of(targets: Iterable[str], *, directory: ThingDirectory) -> list[str]:
    """Every thing of these targets, once, in the order of the targets.

    Raises:
        NotFoundError: a thing or group that there is not.
    """
    found: dict[str, None] = {}
    for target in targets:
        if target.startswith(GROUP):
            found |= dict.fromkeys(directory.members(target.removeprefix(GROUP)))
        elif directory.has(target):
            found[target] = None
        else:
            raise NotFoundError(
                f"no thing {target!r}", where="targets", fix="List the things of the fleet."
            )
    return list(found)


def _begin(change: Change, row: JobRow) -> str | None:
    starts_at = row.plan.scheduling_config.starts_at
    if starts_at is not None and change.now < starts_at:
        change.repository.put_active(row.job_id, next_at=starts_at)
        return None
    change.set_job(replace(row, status=JobStatus.IN_PROGRESS))
    return ""


def _roll_out(change: Change, row: JobRow, *, directory: ThingDirectory) -> str | None:
    schedule = row.plan.scheduling_config
    if schedule.ends_at is not None and change.now >= schedule.ends_at and not row.stopped:
        return _end(change, row)
    revision = directory.revision()
    if revision != row.revision:
        _follow(change, row, directory=directory)
        row = replace(change.job(row.job_id), revision=revision)
        change.set_job(row)
    may_go_on = is_open(schedule, now=change.now) and _tell_some(change, row)
    change.settle(row.job_id)
    change.repository.put_active(row.job_id, next_at=_next_at(change, row))
    return "" if may_go_on else None


def _tell_some(change: Change, row: JobRow) -> bool:
    """Tell as many as may be told now, at most a chunk; whether more may be told at once."""
    job_id = row.job_id
    if not change.counters(job_id).waiting:
        return False
    change.set_counters(
        job_id,
        in_minute(row.plan.job_executions_rollout_config, change.counters(job_id), now=change.now),
    )
    counters = change.counters(job_id)
    most = min(CHUNK, counters.minute_rate - counters.minute_used)
    things = change.repository.take_waiting(job_id, most) if most > 0 else []
    for thing in things:
        change.begin(row, thing)
    change.set_counters(job_id, count_notified(change.counters(job_id), len(things)))
    return bool(things) and change.counters(job_id).waiting > 0


def _next_at(change: Change, row: JobRow) -> datetime | None:
    """Return the time at which the job advances next."""
    schedule, counters = row.plan.scheduling_config, change.counters(row.job_id)
    moments: list[datetime] = []
    if schedule.ends_at is not None and not row.stopped:
        moments.append(schedule.ends_at)
    if counters.waiting and not is_open(schedule, now=change.now):
        moments.append(change.now.replace(second=0, microsecond=0) + timedelta(minutes=1))
    elif counters.waiting and counters.minute_at is not None:
        moments.append(counters.minute_at + MINUTE)
    return min(moments, default=None)


def _end(change: Change, row: JobRow) -> str | None:
    """The end of the schedule."""
    behaviour = row.plan.scheduling_config.end_behavior
    if behaviour in ("CANCEL", "FORCE_CANCEL"):
        forced = behaviour == "FORCE_CANCEL"
        change.cancel(row, forced=forced, code=_ENDED, comment="the end of the schedule")
        return ""
    _drop_waiting(change, row.job_id)
    change.set_job(replace(row, stopped=True))
    return ""


def _drop_waiting(change: Change, job_id: str) -> None:
    while change.repository.take_waiting(job_id, CHUNK):
        pass
    change.set_counters(job_id, replace(change.counters(job_id), waiting=0))


def _follow(change: Change, row: JobRow, *, directory: ThingDirectory) -> None:
    """Things that came into the target are told, those that left it have their work removed."""
    last: dict[str, Run] = {run.thing: run for _, run in change.repository.runs_of_job(row.job_id)}
    waiting = change.repository.waiting(row.job_id)
    wanted = _wanted(row, directory=directory, known=[*last, *waiting])
    for thing, run in last.items():
        if run.open and thing not in wanted:
            fresh = change.run(thing, run.job_id, number=run.number)
            change.step(fresh, moved(fresh, ExecutionStatus.REMOVED, now=change.now))
    stay = [thing for thing in waiting if thing in wanted]
    if row.continuous and not row.stopped:
        had = set(stay) | {
            thing for thing, run in last.items() if run.status is not ExecutionStatus.REMOVED
        }
        stay += [thing for thing in wanted if thing not in had]
    if stay != waiting:
        _drop_waiting(change, row.job_id)
        change.repository.add_waiting(row.job_id, stay)
        change.set_counters(row.job_id, replace(change.counters(row.job_id), waiting=len(stay)))


def _wanted(row: JobRow, *, directory: ThingDirectory, known: list[str]) -> dict[str, None]:
    """Things that the job is for now; of a snapshot, those of its things that there still are."""
    if not row.continuous:
        return {thing: None for thing in known if directory.has(thing)}
    found: dict[str, None] = {}
    for target in row.targets:
        try:
            found |= dict.fromkeys(things_of((target,), directory=directory))
        except NotFoundError:
            continue  # a group or thing that was taken away has nobody in it
    return found


def _cancel_some(change: Change, row: JobRow, *, after: str) -> str | None:
    """Cancel a chunk of what is queued; with ``forced`` of what is under way too."""
    rows = list(islice(change.repository.runs_of_job(row.job_id, after=after), CHUNK))
    for _, run in rows:
        if run.status is ExecutionStatus.QUEUED or (row.forced and run.open):
            fresh = change.run(run.thing, run.job_id, number=run.number)
            ended = moved(fresh, ExecutionStatus.CANCELED, now=change.now)
            under_way = fresh.status is ExecutionStatus.IN_PROGRESS
            change.step(fresh, replace(ended, forced=under_way))
    if len(rows) == CHUNK:
        return rows[-1][0]
    _drop_waiting(change, row.job_id)
    change.set_job(replace(row, sweeping=False, completed_at=change.now))
    change.repository.drop_active(row.job_id)
    change.tell_job(row.job_id, "canceled")
    return None


def _delete_some(change: Change, row: JobRow) -> str | None:
    rows = list(islice(change.repository.runs_of_job(row.job_id), CHUNK))
    for _, run in rows:
        change.forget(run)
    if len(rows) == CHUNK:
        return ""
    change.tell_job(row.job_id, "deleted")
    change.repository.forget_job(row)
    change.gone(row.job_id)
    return None


def new_row(job: NewJob, *, now: datetime) -> JobRow:
    """A new job, checked; its place among the others comes later.

    Raises:
        InvalidError: a limit of the contract is broken.
    """
    check_job_id(job.job_id)
    check_text(job.description, where="description")
    settings = to_plain(job.settings)
    plan = read_settings(settings)
    document = _document(job.document)
    if plan.scheduling_config.maintenance_windows and not job.continuous:
        raise InvalidError(
            "only a CONTINUOUS job has maintenance windows", where="schedulingConfig",
            fix="Take them out, or make the job CONTINUOUS.",
        )  # fmt: skip
    targets = target_names(job.targets)
    told = (targets, document, job.description, job.continuous, settings)
    return JobRow(
        job_id=job.job_id, order=0, status=JobStatus.SCHEDULED, targets=targets,
        document=document, created_at=now, last_updated_at=now,
        fingerprint=digest_of(encode(told)).removeprefix("sha256:"),
        description=job.description, continuous=job.continuous,
        settings=settings, tags=job.tags, document_source=job.document_source,
    )  # fmt: skip


def make(
    change: Change, row: JobRow, *, directory: ThingDirectory, links: ObjectLinks | None = None
) -> JobRow:
    """Keep the job, or find that it is there.

    Raises:
        JobThereError: with other content.
        NotFoundError: a target is unknown.
        InvalidError: a link that its document asks for cannot be made.
    """
    try:
        there = change.job(row.job_id)
    except NotFoundError:
        check_links(row.document, links)
        return _make_new(change, row, directory=directory)
    if there.fingerprint != row.fingerprint:
        raise JobThereError(
            f"job {row.job_id!r} is there already, with other content", where="jobId",
            fix="Choose another id.",
        )  # fmt: skip
    return there


def _make_new(change: Change, row: JobRow, *, directory: ThingDirectory) -> JobRow:
    schedule = row.plan.scheduling_config
    if schedule.ends_at is not None and schedule.ends_at <= change.now:
        raise InvalidError("the end is over", where="endTime", fix="Choose a later one.")
    revision = directory.revision()
    things = things_of(row.targets, directory=directory)
    made = replace(row, order=change.repository.next_order(), revision=revision)
    change.repository.add_job(made)
    change.repository.add_waiting(row.job_id, things)
    change.set_counters(row.job_id, JobCounters(waiting=len(things)))
    change.repository.put_active(row.job_id, next_at=change.now)
    change.stirred.add(row.job_id)
    return made


def target_names(targets: Sequence[str]) -> tuple[str, ...]:
    """Targets as the service keeps them, each once; ``InvalidError``."""
    names = tuple(dict.fromkeys(target_of(target) for target in targets))
    if not 1 <= len(names) <= MOST_TARGETS:
        raise InvalidError(
            f"{len(names)} targets", where="targets", fix=f"Name 1 to {MOST_TARGETS}."
        )
    return names


def _document(document: Mapping[str, object]) -> dict[str, Any]:
    try:
        written = encode(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError("the document is no JSON", where="document", fix="Mend it.") from error
    if len(written) > MOST_DOCUMENT:
        raise InvalidError(
            f"the document has {len(written)} bytes", where="document",
            fix=f"Keep it below {MOST_DOCUMENT}; name a file by its URL instead.",
        )  # fmt: skip
    plain: dict[str, Any] = to_plain(document)
    return plain
