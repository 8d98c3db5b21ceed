"""A new job: checked, kept, and its things lined up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lineside.core import InvalidError, NotFoundError, digest_of, encode, to_plain
from lineside.fleet.contract import JobStatus, NewJob
from lineside.fleet.jobs.book import JobRow
from lineside.fleet.jobs.change import Change
from lineside.fleet.jobs.directory import Directory
from lineside.fleet.jobs.errors import JobThereError
from lineside.fleet.jobs.names import (
    MOST_DOCUMENT,
    MOST_TARGETS,
    check_job_id,
    check_text,
    target_of,
)
from lineside.fleet.jobs.presigned import ObjectLinks, check_links
from lineside.fleet.jobs.rates import Tally
from lineside.fleet.jobs.rollout import things_of
from lineside.fleet.jobs.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExtras:
    """What AWS' clients hand in beside the job itself."""

    tags: tuple[Mapping[str, str], ...] = ()
    document_source: str = ""


def new_row(asked: NewJob, extras: JobExtras, *, now: datetime) -> JobRow:
    """A new job, checked; its place among the others comes later.

    Raises:
        InvalidError: a limit of the contract is broken.
    """
    check_job_id(asked.job_id)
    check_text(asked.description, where="description")
    settings = to_plain(asked.settings)
    plan = read_settings(settings)
    document = _document(asked.document)
    if plan.scheduling_config.maintenance_windows and not asked.continuous:
        raise InvalidError(
            "only a CONTINUOUS job has maintenance windows", where="schedulingConfig",
            fix="Take them out, or make the job CONTINUOUS.",
        )  # fmt: skip
    targets = target_names(asked.targets)
    told = (targets, document, asked.description, asked.continuous, settings)
    return JobRow(
        job_id=asked.job_id, order=0, status=JobStatus.SCHEDULED, targets=targets,
        document=document, created_at=now, last_updated_at=now,
        fingerprint=digest_of(encode(told)).removeprefix("sha256:"),
        description=asked.description, continuous=asked.continuous,
        settings=settings, tags=extras.tags, document_source=extras.document_source,
    )  # fmt: skip


def make(
    change: Change, row: JobRow, *, directory: Directory, links: ObjectLinks | None = None
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


def _make_new(change: Change, row: JobRow, *, directory: Directory) -> JobRow:
    schedule = row.plan.scheduling_config
    if schedule.ends_at is not None and schedule.ends_at <= change.now:
        raise InvalidError("the end is over", where="endTime", fix="Choose a later one.")
    revision = directory.revision()
    things = things_of(row.targets, directory=directory)
    made = replace(row, order=change.book.next_order(), revision=revision)
    change.book.add_job(made)
    change.book.add_waiting(row.job_id, things)
    change.set_tally(row.job_id, Tally(waiting=len(things)))
    change.book.put_active(row.job_id, next_at=change.now)
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
