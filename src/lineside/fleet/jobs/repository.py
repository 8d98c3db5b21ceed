"""Jobs and executions in the document store, each small enough to be written often.

| Kind | Id | Holds |
|---|---|---|
| ``iot-job`` | job | the job: targets, document, settings, state |
| ``iot-counters`` | job | how many things are in which state, and how far the rollout is |
| ``iot-waiting`` | job / chunk | things that were not told yet, 100 a document |
| ``iot-run`` | thing / job / number | an execution |
| ``iot-pending`` | thing / rank / queue time | index: open executions in the contract's order |
| ``iot-job-run`` | job / thing / number | index: executions of a job |
| ``iot-timer`` | deadline / thing / job / number | index: what times out next |
| ``iot-active`` | job | jobs that time or the directory may move, and when |
| ``iot-job-order`` | newest first | index: jobs |

Every write names the version that was read, so that of two writers one reads again.

Beside them the directory of things and groups; its revision is any text that differs whenever a
thing or a membership did.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from lineside.core import InvalidError, NotFoundError, decode_json, encode
from lineside.fleet.contract import ExecutionStatus, Job, JobStatus
from lineside.fleet.jobs.executions import Run, micros, moment_of
from lineside.fleet.jobs.requests import is_name
from lineside.fleet.jobs.settings import JobCounters, Settings, read_settings
from lineside.store import Document, Documents, Records, every_document

CHUNK = 100
_FEW = 3
_LAST = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as it is kept.

    Attributes:
        order: counts the jobs of the service from 1.
        settings: the contract's objects as they were given.
        fingerprint: of everything that was asked for; equal ones are one job.
        sweeping: whether executions are still to be cancelled.
        stopped: whether the rollout ended before everybody was told.
        revision: of the directory, when members were last compared.
        tags: of AWS' clients, kept and given back.
        document_source: where the document was read when the job was made; empty: it came along.
    """

    job_id: str
    order: int
    status: JobStatus
    targets: tuple[str, ...]
    document: Mapping[str, Any]
    created_at: datetime
    last_updated_at: datetime
    fingerprint: str
    description: str = ""
    continuous: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    completed_at: datetime | None = None
    reason_code: str = ""
    comment: str = ""
    forced: bool = False
    sweeping: bool = False
    stopped: bool = False
    revision: str = ""
    tags: tuple[Mapping[str, str], ...] = ()
    document_source: str = ""

    @property
    def plan(self) -> Settings:
        """The settings, read."""
        return _plan(encode(self.settings))

    @property
    def finished(self) -> bool:
        """Return whether nothing is rolled out any more."""
        return self.status in (JobStatus.COMPLETED, JobStatus.CANCELED)


@lru_cache(maxsize=256)
def _plan(settings: bytes) -> Settings:
    return read_settings(decode_json(settings, where="job"))


def job_of(row: JobRow) -> Job:
    """As the fleet's contract has it."""
    return Job(
        job_id=row.job_id, status=row.status, targets=row.targets, document=row.document,
        created_at=row.created_at, description=row.description, continuous=row.continuous,
        reason=row.comment or row.reason_code,
    )  # fmt: skip


class JobRepository:
    """Reads and writes; decides nothing."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    # ---- jobs

    def job(self, job_id: str) -> tuple[JobRow, int]:
        """The job and its version; ``NotFoundError``."""
        try:
            found = self._documents.get("iot-job", job_id)
        except NotFoundError as error:
            raise NotFoundError(
                f"no job {job_id!r}", where="jobId", fix="List the jobs; names are exact."
            ) from error
        row = _record(
            JobRow, found.body, status=JobStatus(found.body["status"]),
            targets=tuple(found.body["targets"]), tags=tuple(found.body["tags"]),
        )  # fmt: skip
        return row, found.version

    def put_job(self, row: JobRow, *, expect: int) -> None:
        """Write a job."""
        self._documents.put("iot-job", row.job_id, body=_body(row, "lineside.job/1"), expect=expect)

    def add_job(self, row: JobRow) -> None:
        """A new job, with its place among all."""
        self.put_job(row, expect=0)
        self._documents.put(
            "iot-job-order", _newest_first(row.order), body={"job": row.job_id}, expect=0
        )

    def forget_job(self, row: JobRow) -> None:
        """The job and everything beside it; executions are gone already."""
        for chunk in list(self._below("iot-waiting", f"{row.job_id}/")):
            self._documents.delete("iot-waiting", chunk.id)
        for kind in ("iot-tally", "iot-active", "iot-job"):
            self._documents.delete(kind, row.job_id)
        self._documents.delete("iot-job-order", _newest_first(row.order))

    def next_order(self) -> int:
        """A number above every job's so far; it is never given twice."""
        return self._documents.put("iot-order", "jobs", body={}).version

    def job_ids(self, *, after: str) -> Iterator[tuple[str, str]]:
        """Place and id of every job, newest first, behind a place."""
        for found in self._below("iot-job-order", "", after=after):
            yield found.id, found.body["job"]

    def counters(self, job_id: str) -> tuple[JobCounters, int]:
        """The job's figures and their version."""
        try:
            found = self._documents.get("iot-tally", job_id)
        except NotFoundError:
            return JobCounters(), 0
        return _record(JobCounters, found.body), found.version

    def put_counters(self, job_id: str, counters: JobCounters, *, expect: int) -> None:
        """Write the job's figures."""
        self._documents.put(
            "iot-tally", job_id, body=_body(counters, "lineside.tally/1"), expect=expect
        )

    def active(self) -> dict[str, datetime | None]:
        """Jobs that are not over, and when time moves them; None: only the directory does."""
        return {found.id: _moment(found.body["next_at"]) for found in self._below("iot-active", "")}

    def put_active(self, job_id: str, *, next_at: datetime | None) -> None:
        """Look at this job again then."""
        body = {"next_at": None if next_at is None else micros(next_at)}
        self._documents.put("iot-active", job_id, body=body)

    def drop_active(self, job_id: str) -> None:
        """Time does not move this job any more."""
        self._documents.delete("iot-active", job_id)

    # ---- things that were not told yet

    def add_waiting(self, job_id: str, things: Sequence[str]) -> None:
        """Behind those that wait already."""
        last = [found.id for found in self._below("iot-waiting", f"{job_id}/")][-1:]
        number = int(last[0].rpartition("/")[2]) + 1 if last else 0
        for start in range(0, len(things), CHUNK):
            body = {"things": list(things[start : start + CHUNK])}
            self._documents.put("iot-waiting", f"{job_id}/{number:08d}", body=body, expect=0)
            number += 1

    def take_waiting(self, job_id: str, most: int) -> list[str]:
        """The first things of those that wait; they wait no more."""
        for found in self._below("iot-waiting", f"{job_id}/", size=1):
            things: list[str] = found.body["things"]
            if len(things) <= most:
                self._documents.delete("iot-waiting", found.id)
            else:
                body = {"things": things[most:]}
                self._documents.put("iot-waiting", found.id, body=body, expect=found.version)
            return things[:most]
        return []

    def waiting(self, job_id: str) -> list[str]:
        """Every thing that was not told yet."""
        found = self._below("iot-waiting", f"{job_id}/")
        return [thing for chunk in found for thing in chunk.body["things"]]

    # ---- executions

    def run(self, thing: str, job_id: str, *, number: int | None = None) -> tuple[Run, int]:
        """An execution and its document's version; the latest one without a number."""
        prefix = f"{thing}/{job_id}/"
        try:
            if number is not None:
                found = self._documents.get("iot-run", f"{prefix}{number:06d}")
            else:
                found = list(self._below("iot-run", prefix, size=_FEW))[-1]
        except (NotFoundError, IndexError) as error:
            raise NotFoundError(
                f"no execution of job {job_id!r} on {thing!r}", where="jobId",
                fix="Ask for the pending ones.",
            ) from error  # fmt: skip
        return _run(found)

    def put_run(self, run: Run, *, before: Run | None, expect: int) -> None:
        """Write an execution and whatever points at it."""
        self._documents.put(
            "iot-run", run.id, body=_body(run, "lineside.execution/1"), expect=expect
        )
        if before is None:
            self._documents.put("iot-job-run", _by_job(run), body={})
        self._index(before, run)

    def forget_run(self, run: Run) -> None:
        """An execution and whatever points at it."""
        self._index(run, None)
        self._documents.delete("iot-run", run.id)
        self._documents.delete("iot-job-run", _by_job(run))

    def named(self, run_id: str) -> tuple[Run, int]:
        """An execution by the id that an index holds, and its document's version."""
        found = self._documents.get("iot-run", run_id)
        return _run(found)

    def head(self, thing: str) -> str:
        """Id of the next execution of a thing; empty: there is none."""
        return next(iter(self._pending(thing, limit=1)), "")

    def pending(self, thing: str, *, limit: int) -> list[Run]:
        """Open executions of a thing: in progress first, then by queue time."""
        return [self.named(run_id)[0] for run_id in self._pending(thing, limit=limit)]

    def things_pending(self) -> Iterator[str]:
        """Every thing with an open execution."""
        last = ""
        for found in self._below("iot-pending", ""):
            thing = found.id.partition("/")[0]
            if thing != last:
                yield thing
            last = thing

    def runs_of_job(self, job_id: str, *, after: str = "") -> Iterator[tuple[str, Run]]:
        """Place and execution, by thing and number, behind a place."""
        prefix = f"{job_id}/"
        for found in self._below("iot-job-run", prefix, after=after):
            thing, number = found.id.removeprefix(prefix).split("/")
            yield found.id, self.run(thing, job_id, number=int(number))[0]

    def runs_of_thing(self, thing: str, *, after: str = "") -> Iterator[tuple[str, Run]]:
        """Place and execution, by job and number, behind a place."""
        for found in self._below("iot-run", f"{thing}/", after=after):
            yield found.id, _run(found)[0]

    def overdue(self, *, now: datetime, limit: int) -> list[Run]:
        """Executions whose deadline has passed, the earliest first."""
        page = self._documents.page("iot-timer", limit=limit)
        last = f"{micros(now):017d}/~"
        return [self.named(found.body["run"])[0] for found in page if found.id < last]

    # ---- inside

    def _pending(self, thing: str, *, limit: int) -> list[str]:
        prefix = f"{thing}/"
        page = self._documents.page("iot-pending", after=prefix, limit=limit)
        return [found.body["run"] for found in page if found.id.startswith(prefix)]

    def _index(self, before: Run | None, after: Run | None) -> None:
        self._move("iot-pending", _place(before), _place(after), run=after)
        self._move("iot-timer", _timer(before), _timer(after), run=after)

    def _move(self, kind: str, old: str, new: str, *, run: Run | None) -> None:
        if old == new:
            return
        if old:
            self._documents.delete(kind, old)
        if new and run is not None:
            self._documents.put(kind, new, body={"run": run.id})

    def _below(
        self, kind: str, prefix: str, *, after: str = "", size: int = CHUNK
    ) -> Iterator[Document]:
        """Documents by id, those that begin so."""
        return every_document(self._documents, kind, prefix=prefix, after=after, size=size)


def _place(run: Run | None) -> str:
    return run.place if run is not None and run.open else ""


def _timer(run: Run | None) -> str:
    deadline = None if run is None else run.deadline
    return "" if run is None or deadline is None else f"{micros(deadline):017d}/{run.id}"


def _by_job(run: Run) -> str:
    return f"{run.job_id}/{run.thing}/{run.number:06d}"


def _newest_first(order: int) -> str:
    return f"{_LAST - order:012d}"


R = TypeVar("R", JobRow, JobCounters, Run)


def _body(record: JobRow | JobCounters | Run, schema: str) -> dict[str, Any]:
    """A record as a document; times are whole microseconds since 1970 UTC."""
    body: dict[str, Any] = {"schema": schema}
    for name in record.__dataclass_fields__:
        value = getattr(record, name)
        body[name] = micros(value) if isinstance(value, datetime) else value
    return body


def _record(kind: type[R], body: Mapping[str, Any], **parsed: object) -> R:
    """The record of a document; a field that an earlier version did not know has its default."""
    known = {name: body[name] for name in kind.__dataclass_fields__ if name in body}
    times = {name: _moment(body[name]) for name in known if name.endswith("_at")}
    return kind(**known | times | parsed)


def _run(found: Document) -> tuple[Run, int]:
    return _record(Run, found.body, status=ExecutionStatus(found.body["status"])), found.version


def _moment(count: int | None) -> datetime | None:
    return None if count is None else moment_of(count)


_KEY = "all"


class ThingDirectory:
    """Things and groups; safe from several threads."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def add_group(self, group: str) -> None:
        """Make a group; one that is there stays as it is."""
        _check(group)
        with self._records.transaction():
            self._documents.put("thing-group", group, body={"schema": "lineside.group/1"})
            self._touch()

    def add(self, thing: str, *, groups: Sequence[str] = ()) -> None:
        """Make a thing, or say anew which groups it is in; groups are made as needed."""
        for name in (thing, *groups):
            _check(name)
        with self._records.transaction():
            for group in groups:
                self.add_group(group)
            self._leave(thing, stay=groups)
            body = {"schema": "lineside.thing/1", "groups": sorted(set(groups))}
            self._documents.put("thing", thing, body=body)
            for group in groups:
                self._documents.put("thing-member", f"{group}/{thing}", body={})
            self._touch()

    def remove(self, thing: str) -> None:
        """Forget a thing; one that is not there is fine."""
        with self._records.transaction():
            self._leave(thing, stay=())
            self._documents.delete("thing", thing)
            self._touch()

    def has(self, thing: str) -> bool:
        """Return whether there is such a thing."""
        return _there(self._documents, kind="thing", name=thing)

    def things(self) -> list[str]:
        """All of them, in order."""
        return [one.id for one in every_document(self._documents, "thing")]

    def members(self, group: str) -> list[str]:
        """Things of a group, in order; ``NotFoundError`` where there is no such group."""
        if not _there(self._documents, kind="thing-group", name=group):
            raise NotFoundError(
                f"no group {group!r}", where="targets", fix="List the groups of the fleet."
            )
        prefix = f"{group}/"
        found = every_document(self._documents, "thing-member", prefix=prefix)
        return [one.id.removeprefix(prefix) for one in found]

    def all_groups(self) -> list[str]:
        """Every group there is, in order."""
        return [one.id for one in every_document(self._documents, "thing-group")]

    def groups(self, thing: str) -> list[str]:
        """Groups of a thing, in order."""
        try:
            return list(self._documents.get("thing", thing).body["groups"])
        except NotFoundError:
            return []

    def revision(self) -> str:
        """Another text after every change."""
        try:
            return str(self._documents.get("thing-revision", _KEY).version)
        except NotFoundError:
            return "0"

    @property
    def _documents(self) -> Documents:
        return self._records.documents

    def _leave(self, thing: str, *, stay: Sequence[str]) -> None:
        for group in self.groups(thing):
            if group not in stay:
                self._documents.delete("thing-member", f"{group}/{thing}")

    def _touch(self) -> None:
        self._documents.put("thing-revision", _KEY, body={})


def _check(name: str) -> None:
    if not is_name(name):
        raise InvalidError(
            f"{name[:80]!r} is no name of a thing or group", where="name",
            fix="Use 1 to 128 of a-z A-Z 0-9 : _ -.",
        )  # fmt: skip


def _there(documents: Documents, *, kind: str, name: str) -> bool:
    try:
        documents.get(kind, name)
    except NotFoundError:
        return False
    return True
