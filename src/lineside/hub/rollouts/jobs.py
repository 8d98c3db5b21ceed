"""Jobs of rollouts: made, watched and cancelled at the job service.

1. A job is decided in the rollout's document first and made afterwards, under the id that stands
   there: a hub that ends in between makes it at its next start, and twice is once.
2. After making one the document is read again: where another hub stopped the rollout meanwhile,
   the job is called off at once.
3. Jobs of a rollout that is paused are called off without force: what is under way goes on, and
   devices that had not begun are asked again when it is resumed. Going back calls off by force.
4. Who joins the group of a rollout that is done gets its package by a CONTINUOUS job, which the
   next one that is done for this group takes the place of.
"""

from collections.abc import Collection

from lineside.compat.aws.sigv4 import BUCKET
from lineside.core import NotFoundError, to_plain
from lineside.fleet import (
    ExecutionStatus,
    JobDocument,
    JobService,
    JobStatus,
    NewJob,
    Release,
    Rollout,
    RolloutPlan,
    ThingDirectory,
)
from lineside.fleet.jobs.repository import JobRow
from lineside.fleet.jobs.requests import JobTransitionError
from lineside.fleet.jobs.settings import JobCounters
from lineside.fleet.rollout import RolloutJob
from lineside.hub.rollouts.bucket import tar_key
from lineside.store import Documents

PAUSED = "ROLLOUT_PAUSED"
ENDED = "ROLLOUT_ENDED"
STAY_KIND = "rollout-stay"
_CANCELLED = (JobStatus.CANCELED, JobStatus.DELETION_IN_PROGRESS)
_RETRIES = 3
_WATCHED = 10
"""Devices are watched on while later steps are out: small faults need more frames than a step."""


class RolloutJobs:
    """Between rollouts and jobs; safe from several threads and processes."""

    def __init__(self, jobs: JobService, *, things: ThingDirectory, documents: Documents) -> None:
        self._jobs = jobs
        self._things = things
        self._documents = documents
        self._cached: dict[str, tuple[JobRow, JobCounters, dict[str, ExecutionStatus]]] = {}

    # ---- learning

    def executions(
        self, rollout: Rollout
    ) -> tuple[dict[str, ExecutionStatus], frozenset[str], dict[str, ExecutionStatus]]:
        """Return the last job of every device: forward, lost by a pause, and back."""
        forward: dict[str, ExecutionStatus | None] = {}
        back: dict[str, ExecutionStatus | None] = {}
        lost: set[str] = set()
        for job in rollout.jobs:
            row, found = self._found(job)
            for name in job.devices:
                status = found.get(name)
                lost.discard(name)
                if not job.back and _was_paused(status, row):
                    lost.add(name)
                    forward[name] = None
                else:
                    (back if job.back else forward)[name] = _current_status(status, row)
        return (
            {name: one for name, one in forward.items() if one is not None},
            frozenset(lost),
            {name: one for name, one in back.items() if one is not None},
        )

    def _found(self, job: RolloutJob) -> tuple[JobRow | None, dict[str, ExecutionStatus]]:
        """A job as the service knows it; read in full only where its figures moved."""
        try:
            row, tally = self._jobs.look(job.job_id)
        except NotFoundError:
            return None, {}
        cached = self._cached.get(job.job_id)
        if cached is not None and cached[:2] == (row, tally):
            return row, cached[2]
        found = {one.thing: one.status for one in self._jobs.executions(job.job_id)}
        self._cached[job.job_id] = (row, tally, found)
        return row, found

    def forget(self, rollout: Rollout) -> None:
        """It is over: nothing of it is read again and again any more."""
        for job in rollout.jobs:
            self._cached.pop(job.job_id, None)

    # ---- asking

    def check_targets(self, plan: RolloutPlan, *, known: Collection[str]) -> None:
        """Refuse a plan for devices or groups that are not there.

        Raises:
            NotFoundError: the first of them.
        """
        for group in (plan.group, *(step.group for step in plan.steps)):
            if group:
                self._things.members(group)
        for name in plan.devices:
            if name not in known and not self._things.has(name):
                raise NotFoundError(
                    f"no device {name[:80]!r}",
                    where="devices",
                    fix="List them: lineside device list.",
                )

    def exists(self, job: RolloutJob) -> bool:
        """Return whether the service knows a job already."""
        try:
            self._jobs.job(job.job_id)
        except NotFoundError:
            return False
        return True

    def make(self, rollout: Rollout, job: RolloutJob) -> None:
        """Make a job that was decided; devices that told of themselves are things."""
        for name in job.devices:
            if not self._things.has(name):
                self._things.add(name)
        release = (job.release or rollout.previous) if job.back else rollout.release
        assert release is not None  # noqa: S101  one that leads to no package makes no job
        step = rollout.plan.steps[max(0, job.step)]
        rate = {} if job.back else {"maximumPerMinute": step.per_minute}
        settings: dict[str, object] = {"jobExecutionsRolloutConfig": rate} if rate else {}
        if job.back:
            retry = {"failureType": "ALL", "numberOfRetries": _RETRIES}
            settings["jobExecutionsRetryConfig"] = {"criteriaList": [retry]}
        document = document_of(
            release, rollout=rollout.id, back=job.back or rollout.rollback,
            trial_frames=0 if job.back else _WATCHED * rollout.plan.limits.frames,
        )  # fmt: skip
        words = f"roll-out {rollout.id}: " + ("rollback" if job.back else f"step {job.step + 1}")
        self._jobs.create(
            NewJob(
                job_id=job.job_id, targets=job.devices, document=document, description=words,
                settings=settings,
            )
        )  # fmt: skip

    def call_off(self, rollout: Rollout, *, code: str, force: bool) -> None:
        """Cancel what of the way forward is not over."""
        for job in rollout.jobs:
            if not job.back:
                self._cancel(job.job_id, code=code, force=force)

    def _cancel(self, job_id: str, *, code: str, force: bool) -> None:
        try:
            row, tally = self._jobs.look(job_id)
            open_still = row.status not in _CANCELLED or (force and tally.pending)
            if open_still and row.status is not JobStatus.COMPLETED:
                self._jobs.cancel(job_id, code=code, force=force)
        except (NotFoundError, JobTransitionError):
            return  # it is over by itself

    # ---- who joins later

    def stay(self, rollout: Rollout, release: Release, *, back: bool) -> None:
        """From now on, who joins the rollout's group gets this release."""
        group, job_id = rollout.plan.group, f"{rollout.id}-{'back' if back else 'stay'}"
        key = f"{release.inspection}/{group}"
        try:
            before = str(self._documents.get(STAY_KIND, key).body["job"])
        except NotFoundError:
            before = ""
        if before == job_id:
            return
        document = document_of(release, rollout="", back=back, trial_frames=0)
        self._jobs.create(
            NewJob(
                job_id=job_id, targets=(f"group/{group}",), document=document, continuous=True,
                description=f"{release.group} {release.version} for who joins {group}",
            )
        )  # fmt: skip
        self._documents.put(STAY_KIND, key, body={"job": job_id})
        if before:
            self._cancel(before, code=ENDED, force=False)

    def stay_no_more(self, rollout: Rollout) -> None:
        """Nobody who joins gets this rollout's release any more."""
        self._cancel(f"{rollout.id}-stay", code=ENDED, force=True)


def document_of(
    release: Release, *, rollout: str, back: bool, trial_frames: int
) -> dict[str, object]:
    """The job document of a release."""
    return dict(
        to_plain(
            JobDocument(
                model_name=release.group,
                model_version=release.version,
                model_package_bucket=BUCKET,
                model_package_key=tar_key(release.target),
                inspection=release.inspection,
                target=release.target,
                digest=release.digest,
                sha256=release.sha256,
                size_bytes=release.size_bytes,
                rollback=back,
                rollout=rollout,
                trial_frames=trial_frames,
            )
        )
    )


def _was_paused(status: ExecutionStatus | None, row: JobRow | None) -> bool:
    by_pause = row is not None and row.reason_code == PAUSED
    return by_pause and status in (None, ExecutionStatus.CANCELED)


def _current_status(status: ExecutionStatus | None, row: JobRow | None) -> ExecutionStatus | None:
    """A device that was not told of a job before it was called off will not be."""
    if status is None and row is not None and row.status in _CANCELLED:
        return ExecutionStatus.CANCELED
    return status
