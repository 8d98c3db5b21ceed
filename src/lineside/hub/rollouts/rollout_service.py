"""Rollouts as the hub runs them: begun, carried on by the timer, ordered about, looked at.

1. A rollout is one document. Every change of it is written against the version that was read, in
   the transaction of its event: of two hubs, or of a person and the timer, one comes first, and the
   other looks again.
2. What follows from a change (jobs, signatures, packages in use) is done from the document, again
   after every start until it stands: a hub may end at any moment.
3. Each decision is an event ``lineside.rollout.v1`` of the hub's chain, with the figures it rests
   on.
4. One rollout of an inspection is under way at a time; others wait, oldest first.
5. Done without a group, its package becomes the one in use of the site; done for a group, who joins
   gets it. Rolled back, the same holds of the package before.
6. What devices run is what they report. Going back writes the desired state of each device that
   runs the release or was asked to (``DesiredStates.previous`` says which package), also of those
   that the plan does not name where live evidence spoke against it; jobs carry it to the devices.
7. Limits that go in waves take the same way: ``hub.rollouts.limits`` says what differs.
8. A version that was judged bad after a rollout of it was planned is not begun; planned after, it
   is tried once more.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    RefusedError,
    new_id,
    rfc3339,
    stable_id,
)
from lineside.core.codec import refuse, unless
from lineside.core.errors import retry_stale
from lineside.fleet import (
    ExecutionStatus,
    Release,
    Rollout,
    RolloutOrder,
    RolloutPlan,
    RolloutState,
    Target,
    ThingDirectory,
    TrialReport,
    newer,
)
from lineside.fleet.evidence import Judgement
from lineside.fleet.rollout import (
    HUB,
    Begin,
    RequestJobs,
    RolloutEvent,
    RolloutFacts,
    RolloutJob,
    Wait,
    apply_action,
    apply_order,
    judge_rollout,
    may_order,
    next_step,
    share_out,
)
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.models.desired import DesiredStates
from lineside.hub.models.model_service import ModelService
from lineside.hub.models.operating_points import OperatingPoints
from lineside.hub.models.packages import Packages
from lineside.hub.models.releases import Releases
from lineside.hub.rollouts.jobs import ENDED, PAUSED, RolloutJobs
from lineside.hub.rollouts.limits import LimitWaves
from lineside.hub.rollouts.repository import RolloutRepository
from lineside.models import ModelVersion
from lineside.models.versions import may_start, next_start
from lineside.store import Records

logger = logging.getLogger(__name__)

_MOST_TURNS = 50
_NOT_DONE = (
    ExecutionStatus.FAILED, ExecutionStatus.REJECTED, ExecutionStatus.TIMED_OUT,
    ExecutionStatus.CANCELED,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRollout:
    """Body of a new rollout.

    Attributes:
        group: of models; left out for limits.
        version: an approved one of the group, or of the inspection's operating points.
        inspection: whose limits, which go in waves; of a package which one it answers for, ""
            that of its approval.
        reason: why now.
        rollback: whether devices that run a newer version go back to this one.
    """

    version: int
    group: str = ""
    inspection: str = ""
    plan: RolloutPlan = field(default_factory=RolloutPlan)
    reason: str = ""
    rollback: bool = False

    def __post_init__(self) -> None:
        refuse(
            self,
            unless(
                bool(self.group or self.inspection), key="group", value=self.group,
                expected="a group of models, or an inspection whose limits are brought",
                fix="Give group, or inspection, or both for a package's inspection.",
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDevice:
    """One device of a rollout.

    Attributes:
        step: from 1.
        status: of its last job; "WAITING" before it is asked.
        package: what it says it runs; "" where it said nothing.
        before: what it ran before it took the release; while it did not: what it runs.
        at: when it was heard last; None: never.
        alarmed: whether it passed a limit.
    """

    id: str
    step: int
    status: str
    package: str
    before: str = ""
    at: datetime | None = None
    alarmed: bool = False
    report: TrialReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout as it stands now; ``waits`` says what for, ``waits_until`` where that is known."""

    rollout: Rollout
    waits: str
    devices: tuple[RolloutDevice, ...]
    judged: Judgement
    may: tuple[RolloutOrder, ...]
    waits_until: datetime | None = None


class RolloutService:
    """Safe from several threads and processes."""

    def __init__(
        self, records: Records, *, ledger: Ledger, jobs: RolloutJobs, things: ThingDirectory,
        devices: DeviceRegistry, desired: DesiredStates, packages: Packages, models: ModelService,
        releases: Releases, points: OperatingPoints, plant: Plant, zone: ZoneInfo, clock: Clock,
    ) -> None:  # fmt: skip
        self.repository = RolloutRepository(records.documents, ledger=ledger, site=plant.site)
        self._limits = LimitWaves(
            records.log, repository=self.repository, desired=desired, devices=devices,
            points=points, plant=plant, clock=clock,
        )  # fmt: skip
        self._jobs = jobs
        self._things = things
        self._devices = devices
        self._desired = desired
        self._packages = packages
        self._models = models
        self._releases = releases
        self._plant = plant
        self._zone = zone
        self._clock = clock
        self._faults: dict[str, str] = {}

    # ---- looking

    def all(self) -> tuple[Rollout, ...]:
        """Newest first."""
        return self.repository.all()

    def one(self, rollout_id: str) -> Rollout:
        """``NotFoundError`` if there is none."""
        return self.repository.one(rollout_id)

    def view(self, rollout_id: str) -> RolloutView:
        """With its devices and what it waits for; ``NotFoundError`` if there is none."""
        rollout = self.one(rollout_id)
        facts = self._facts_shown(rollout)
        action = next_step(rollout, facts, now=self._clock.now())
        waits = action.why if isinstance(action, Wait) else "the hub's next look"
        judged = judge_rollout(rollout, facts)
        return RolloutView(
            rollout=rollout,
            waits=self._faults.get(rollout.id) or waits,
            devices=tuple(self._device_rows(rollout, facts, judged=judged)),
            judged=judged,
            may=tuple(order for order in RolloutOrder if may_order(rollout, order)),
            waits_until=action.until if isinstance(action, Wait) else None,
        )

    def _device_rows(
        self, rollout: Rollout, facts: RolloutFacts, *, judged: Judgement
    ) -> Iterator[RolloutDevice]:
        reports = {one.evidence.device: one for one in self.repository.reports(rollout.id)}
        heard = {one.id: one.at for one in self._devices.some(rollout.devices)}
        alarmed = {reason.partition("/")[0] for reason in judged.reasons}
        running = self._desired.running(rollout.release.inspection)
        known = facts.back if rollout.rollback_devices else facts.executions
        for number, share in enumerate(rollout.shares, start=1):
            for name in share:
                status = known.get(name) or facts.executions.get(name)
                yield RolloutDevice(
                    id=name,
                    step=number,
                    status=str(status) if status else "WAITING",
                    package=running.get(name, ""),
                    before=self._before(
                        rollout, name, running=running.get(name, ""), report=reports.get(name)
                    ),
                    at=heard.get(name),
                    alarmed=name in alarmed,
                    report=reports.get(name),
                )

    def _before(
        self, rollout: Rollout, device: str, *, running: str, report: TrialReport | None
    ) -> str:
        """The package of a device before the release; the reports of its trial name it."""
        release = rollout.release
        if report is not None and report.old:
            return report.old
        if rollout.state.final:  # another one may have changed the device since
            return rollout.previous.digest if rollout.previous is not None else ""
        if running != release.digest:
            return running
        entry = self._desired.of(device).of(release.inspection)
        return next((one for one in entry.reported if one != release.digest), "")

    # ---- beginning

    def preview(self, request: NewRollout, *, by: str) -> RolloutView:
        """Return the rollout that ``start`` would plan, with the devices of each step now.

        Nothing is kept or signed. The devices are chosen when it begins: who comes or goes
        meanwhile changes them.

        Raises:
            NotFoundError, RefusedError, ConflictError: as ``start``.
        """
        rollout = self._new(request, by=by)
        self._check(rollout)
        facts = self._facts_shown(rollout)
        action = next_step(rollout, facts, now=self._clock.now())
        shares = share_out(rollout.plan, facts.members, groups=facts.groups)
        planned = replace(rollout, shares=shares, previous=facts.previous)
        judged = judge_rollout(planned, facts)
        return RolloutView(
            rollout=planned,
            waits=action.why if isinstance(action, Wait) else "",
            devices=tuple(self._device_rows(planned, facts, judged=judged)),
            judged=judged,
            may=(),
            waits_until=action.until if isinstance(action, Wait) else None,
        )

    def start(self, request: NewRollout, *, by: str) -> Rollout:
        """Plan a rollout; it begins as soon as nothing speaks against it.

        Raises:
            NotFoundError: no such version, device or group.
            RefusedError: nobody approved it, or devices run a newer version and no rollback was
                asked for.
            ConflictError: the devices run it already.
        """
        return self._plan(self._new(request, by=by))

    def _new(self, request: NewRollout, *, by: str) -> Rollout:
        self._jobs.check_targets(request.plan, known=self._devices.known())
        if not request.group:
            point = self._limits.points.one(request.inspection, request.version)
            self._limits.check(point)
            release = self._releases.point_release(point.point) if point.point else None
        else:
            version = self._models.one(request.group, request.version)
            release = self._models.release(version, inspection=request.inspection)
        assert release is not None  # noqa: S101  what is checked is approved
        return Rollout(
            id=new_id("rol", clock=self._clock),
            release=release,
            point=0 if request.group else request.version,
            plan=request.plan,
            by=by,
            reason=request.reason,
            created_at=self._clock.now(),
            rollback=request.rollback,
        )

    def follow_approval(self, version: ModelVersion, by: str) -> None:
        """Plan what follows an approval, where the group's settings say so; twice is once.

        A version of a lower number than the latest approved one brings nothing about.
        """
        settings = self._models.settings(version.group)
        newest = self._models.latest_approved(version.group)
        if not settings.deploy_on_approval or newest.number != version.number:
            return
        decided = version.verdicts[-1]
        rollout = Rollout(
            id=stable_id("rol", version.name, rfc3339(decided.at)),
            release=self._models.release(version),
            plan=RolloutPlan(group=settings.device_group, windows=settings.windows),
            by=by,
            reason=f"{version.name} was approved: {decided.reason}"[:500],
            created_at=decided.at,
        )
        try:
            self._plan(rollout)
        except (ConflictError, InvalidError, NotFoundError, RefusedError) as error:
            logger.info("no rollout follows rollout=%s: %s", rollout.id, error)

    def _check(self, rollout: Rollout) -> None:
        """Refuse what the devices cannot take, or run already."""
        if not rollout.release.inspection:
            raise InvalidError(
                "the package was trained for no inspection", where="inspection",
                fix="Name the one that it answers for: --inspection.",
            )  # fmt: skip
        self._plant.find_inspection(rollout.release.inspection)
        if rollout.point:
            return
        self._check_changes(rollout)
        if not rollout.rollback:
            self._check_newer(rollout)

    def _plan(self, rollout: Rollout) -> Rollout:
        self._check(rollout)
        # An approval is followed in its own time, and devices run nothing unsigned. Signed here
        # only: a version that is rejected later is not signed again by a later step.
        limits = self._limits.version(rollout).point if rollout.point else None
        if limits is not None:
            self._releases.publish_point(limits)
        target = self._releases.publish(rollout.release) if limits is None else None
        release = _bound(target, rollout) if target is not None else rollout.release
        planned = replace(rollout, release=release).moved(
            RolloutState.PLANNED, now=self._clock.now(), by=rollout.by,
            why=rollout.reason or "it was ordered",
        )  # fmt: skip
        self.repository.keep(planned, expect=0)
        logger.info("rollout planned rollout=%s by=%s", rollout.id, rollout.by)
        return planned

    def _check_changes(self, rollout: Rollout) -> None:
        """Refuse what every device of the plan runs already, and should run."""
        release = rollout.release
        running = self._desired.running(release.inspection)
        members = self._members(rollout)
        runs = [
            running.get(name) == release.digest
            and self._desired.of(name).of(release.inspection).digest == release.digest
            for name in members
        ]
        if runs and all(runs):
            raise ConflictError(
                f"the devices run {release.group} {release.version} already",
                where=release.group,
                fix="Roll out another version.",
            )

    def _check_newer(self, rollout: Rollout) -> None:
        """Refuse an older version than some device runs, where nobody asked for a rollback."""
        release = rollout.release
        running = self._desired.running(release.inspection)
        for name in self._members(rollout):
            digest = running.get(name, "")
            versions = self._releases.versions_of(digest, group=release.group)
            later = [one for one in versions if newer(one, than=release.version)]
            if digest != release.digest and later:
                raise RefusedError(
                    f"{name} runs {release.group} {later[-1]}, which is newer than "
                    f"{release.version}",
                    where=release.group,
                    fix="To go back: lineside rollout start "
                    f"{release.group}/{release.version} --rollback.",
                )

    # ---- ordering

    @retry_stale
    def order(self, rollout_id: str, order: RolloutOrder, *, by: str, reason: str) -> Rollout:
        """Carry out a person's order.

        Raises:
            NotFoundError: no such rollout.
            ConflictError: that cannot be asked of it now.
        """
        rollout, version = self.repository.read(rollout_id)
        after = apply_order(rollout, order, by=by, reason=reason, now=self._clock.now())
        if after == rollout:
            return rollout
        if order is RolloutOrder.ROLLBACK:
            self._check_newest(rollout)
            self._check_previous(rollout)
        self.repository.keep(after, expect=version)
        logger.info("rollout ordered rollout=%s order=%s by=%s", rollout_id, order, by)
        self._look(rollout_id)
        return self.one(rollout_id)

    def _check_newest(self, rollout: Rollout) -> None:
        """An older one is not led back under a newer one of the same devices."""
        later = [
            one
            for one in self.all()
            if one.created_at > rollout.created_at
            and one.release.inspection == rollout.release.inspection
            and set(one.requested) & set(rollout.requested)
            and one.state is not RolloutState.ROLLED_BACK
        ]
        if later:
            raise ConflictError(
                f"rollout {later[0].id} came after it", where=rollout.id,
                fix="Roll that one back first.",
            )  # fmt: skip

    def _check_previous(self, rollout: Rollout) -> None:
        """A person does not take the only package away from every device."""
        if rollout.point or any(self._rollback_target(rollout, name) for name in rollout.requested):
            return
        fix = "Roll out another version."
        if may_order(rollout, RolloutOrder.ABORT):
            fix = f"lineside rollout abort {rollout.id} ends it; devices keep what they have."
        raise ConflictError(
            "nothing ran before this release on its devices, so there is nothing to go back to",
            where=rollout.id, fix=fix,
        )  # fmt: skip

    # ---- carrying on

    def tick(self) -> None:
        """Carry on what is not settled, and what devices reported of; about once a second."""
        for doc_id in dict.fromkeys((*self.repository.open(), *sorted(self.repository.reported()))):
            self._look(doc_id)

    def _look(self, rollout_id: str) -> None:
        """Carry it on; what does not work is told and tried again."""
        try:
            self._advance(rollout_id)
        except LinesideError as error:
            if self._faults.get(rollout_id) != error.message:
                logger.warning("rollout waits rollout=%s reason=%s", rollout_id, error)
            self._faults[rollout_id] = error.message
        else:
            self._faults.pop(rollout_id, None)

    def _advance(self, rollout_id: str) -> None:
        """Every step that can be taken now."""
        for _ in range(_MOST_TURNS):
            rollout, version = self.repository.read(rollout_id)
            self._carry_out(rollout)
            facts, now, release = self._facts(rollout), self._clock.now(), rollout.release
            action = next_step(rollout, facts, now=now)
            if isinstance(action, Wait):
                self._settle(rollout, version)
                return
            if isinstance(action, Begin) and not rollout.point:
                self._desired.forgive(release.digest, inspection=release.inspection)
            after = apply_action(rollout, action, now=now)
            evidence = None if isinstance(action, RequestJobs) else judge_rollout(rollout, facts)
            try:
                self.repository.keep(after, expect=version, judged=evidence)
            except ConflictError:
                return  # another hub, or a person, came first: looked at again in a second
            if after.state is not rollout.state:
                logger.info(
                    "rollout rollout=%s state=%s why=%s", rollout_id, after.state, after.why
                )

    def _carry_out(self, rollout: Rollout) -> None:
        """Carry out what the document asks for and is not done yet."""
        if rollout.point:
            self._limits.carry_out(rollout)
            return
        match rollout.state:
            case RolloutState.RUNNING | RolloutState.WIDENING:
                self._make_jobs(rollout)
            case RolloutState.PAUSED:
                self._jobs.call_off(rollout, code=PAUSED, force=False)
            case RolloutState.GOING_BACK:
                self._jobs.call_off(rollout, code=ENDED, force=True)
                self._jobs.stay_no_more(rollout)
                self._mark_bad(rollout)
                self._make_jobs(rollout)
            case _:
                pass

    def _make_jobs(self, rollout: Rollout) -> None:
        back = rollout.state is RolloutState.GOING_BACK
        for job in rollout.jobs:
            if job.back != back or self._jobs.exists(job):
                continue
            if back:
                self._roll_back(rollout, job)
            elif rollout.rollback:
                self._sign_rollback(rollout.release, job.devices)
            if job.remove:
                continue
            self._jobs.make(rollout, job)
            again = self.one(rollout.id)
            if again.state is not rollout.state:
                code = PAUSED if again.state is RolloutState.PAUSED else ENDED
                self._jobs.call_off(again, code=code, force=code == ENDED)
                return

    def _mark_bad(self, rollout: Rollout) -> None:
        """Where live evidence spoke against it, no device keeps it or gets it."""
        happened = _going_back(rollout)
        if happened.by == HUB:
            release = rollout.release
            self._desired.mark_bad(
                release.digest, inspection=release.inspection, rollout=rollout.id,
                why=happened.why,
            )  # fmt: skip

    def _roll_back(self, rollout: Rollout, job: RolloutJob) -> None:
        """Sign the rollback and write the desired states, once; what others wrote since stays."""
        release = None if job.remove else job.release or rollout.previous
        if release is not None:
            self._sign_rollback(release, job.devices, leaving=rollout.release.digest)
        desired, happened = self._desired, _going_back(rollout)
        inspection = rollout.release.inspection
        due = []
        for name in job.devices:
            entry = desired.of(name).of(inspection)
            stays = entry.digest != rollout.release.digest
            if not (stays and entry.at is not None and entry.at >= happened.at):
                due.append(name)
        if due:
            digest = release.digest if release is not None else ""
            reason = f"rollout {rollout.id}: {happened.why}"
            desired.write(due, inspection, digest=digest, by=happened.by, reason=reason)

    def _sign_rollback(
        self, release: Release, devices: Iterable[str], *, leaving: str = ""
    ) -> None:
        """Sign that these devices may go from what they ever ran to a release.

        Raises:
            RefusedError: it is not signed any more.
        """
        releases = self._releases
        target = releases.target_of(release.digest, inspection=release.inspection)
        if releases.repository.exists() and target is None:
            raise RefusedError(
                f"{release.group} {release.version} is not signed any more", where="trust",
                fix="Approve it again, or roll another version out.",
            )  # fmt: skip
        left = self._desired.ever_run(release.inspection, devices=devices)
        releases.allow_rollback(release.digest, leaving=(left | {leaving}) - {""})

    def _settle(self, rollout: Rollout, version: int) -> None:
        """Do what follows from an end, once all of it stands."""
        if not rollout.state.final or rollout.settled:
            return
        if rollout.point:
            self._limits.settle(rollout)
        elif rollout.state is RolloutState.ABORTED:
            self._jobs.call_off(rollout, code=ENDED, force=False)
        elif rollout.state is RolloutState.DONE:
            self._keep_release(rollout, rollout.release, back=False)
        else:
            self._settle_rollback(rollout)
        try:
            self.repository.keep(replace(rollout, settled=True), expect=version)
        except ConflictError:
            return
        self._jobs.forget(rollout)

    def _keep_release(self, rollout: Rollout, release: Release, *, back: bool) -> None:
        """From now on this is what runs there, also on devices that come later."""
        if rollout.plan.devices:
            return
        if rollout.plan.group:
            self._jobs.stay(rollout, release, back=back)
        elif self._in_use(release.inspection) != release.digest:
            self._use(rollout, release.digest, use=self._packages.use)

    def _settle_rollback(self, rollout: Rollout) -> None:
        """Devices that come later do not begin with what others went back from."""
        release, previous = rollout.release, rollout.previous
        bad = self._desired.verdict
        if previous is None or bad(previous.digest, inspection=release.inspection) is not None:
            return
        if rollout.completed and rollout.plan.group:
            self._keep_release(rollout, previous, back=True)
        elif self._in_use(release.inspection) == release.digest:
            self._use(rollout, previous.digest, use=self._packages.use_on_site)

    def _use(self, rollout: Rollout, digest: Digest, *, use: Callable[..., object]) -> None:
        reason = f"rollout {rollout.id}: {rollout.why}"
        use(digest, inspection=rollout.release.inspection, by=rollout.by, reason=reason)

    # ---- facts

    def _facts_shown(self, rollout: Rollout) -> RolloutFacts:
        """With the next window, for which many minutes are looked at: not at every turn."""
        facts, now = self._facts(rollout), self._clock.now()
        if facts.open:
            return facts
        return replace(facts, opens_at=next_start(now, rollout.plan.windows, zone=self._zone))

    def _facts(self, rollout: Rollout) -> RolloutFacts:
        if rollout.state is RolloutState.PLANNED:
            after = self._blocking_rollout(rollout)
            return RolloutFacts(
                members=self._members(rollout),
                groups={
                    step.group: self._of_group(step.group)
                    for step in rollout.plan.steps
                    if step.group
                },
                previous=None if rollout.point else self._previous(rollout),
                after=after,
                obstacle=self._limits.obstacle(rollout, after=after)
                if rollout.point
                else self._judged_since(rollout),
                open=self._is_open(rollout),
            )
        if rollout.point:
            return replace(self._limits.facts(rollout), open=self._is_open(rollout))
        executions, lost, led_back = self._jobs.executions(rollout)
        back = rollout.state is RolloutState.GOING_BACK
        members = self._members(rollout) if rollout.completed else ()
        runs_it = self._running_it(rollout) if back else ()
        return RolloutFacts(
            members=members,
            runs_it=runs_it,
            open=self._is_open(rollout),
            executions=executions,
            lost=lost,
            elsewhere=self._left_release(rollout, executions),
            back=self._reported_back(rollout, led_back) if back else led_back,
            back_to={
                name: self._rollback_target(rollout, name)
                for name in dict.fromkeys((*rollout.requested, *members, *runs_it))
                if back and name not in rollout.rollback_devices
            },
            evidence=tuple(one.evidence for one in self.repository.reports(rollout.id)),
        )

    def _left_release(
        self, rollout: Rollout, executions: Mapping[str, ExecutionStatus]
    ) -> frozenset[str]:
        """Devices that took the release and should run another package since."""
        release, desired = rollout.release, self._desired
        watched = rollout.state is RolloutState.RUNNING
        entries = {
            name: desired.of(name).of(release.inspection)
            for name, status in executions.items()
            if watched and status is ExecutionStatus.SUCCEEDED
        }
        return frozenset(
            name for name, one in entries.items() if one.revision and one.digest != release.digest
        )

    def _judged_since(self, rollout: Rollout) -> str:
        release = rollout.release
        bad = self._desired.verdict(release.digest, inspection=release.inspection)
        is_since = bad is not None and bad.at >= rollout.created_at
        return f"the version was judged bad since: {bad}" if is_since else ""

    def _running_it(self, rollout: Rollout) -> tuple[str, ...]:
        """Where the release was judged bad: every device that runs it, or should."""
        release, desired = rollout.release, self._desired
        bad = desired.verdict(release.digest, inspection=release.inspection) is not None
        if not bad:
            return ()
        running = desired.running(release.inspection)
        return tuple(
            name
            for name in self._devices.known()
            if running.get(name) == release.digest
            or desired.of(name).of(release.inspection).digest == release.digest
        )

    def _rollback_target(self, rollout: Rollout, device: str) -> Release | None:
        release = rollout.release
        target = self._desired.previous(device, release.inspection, leaving=release.digest)
        if target is not None:
            return _bound(target, rollout)
        bad = self._desired.verdict(release.digest, inspection=release.inspection)
        return None if bad is not None else rollout.previous

    def _reported_back(
        self, rollout: Rollout, back: Mapping[str, ExecutionStatus]
    ) -> dict[str, ExecutionStatus]:
        """Return the jobs' states; a device that reports another package, or none, is back."""
        release, found = rollout.release, dict(back)
        running = self._desired.running(release.inspection)
        for job in rollout.jobs:
            for name in job.devices if job.back else ():
                gone = running.get(name) != release.digest and self._devices.has_reported(name)
                if gone and (job.remove or found.get(name) in _NOT_DONE):
                    found[name] = ExecutionStatus.SUCCEEDED
                elif job.remove and not self._things.has(name):
                    found[name] = ExecutionStatus.REMOVED
        return found

    def _is_open(self, rollout: Rollout) -> bool:
        return may_start(self._clock.now(), rollout.plan.windows, zone=self._zone)

    def _members(self, rollout: Rollout) -> tuple[str, ...]:
        plan = rollout.plan
        if plan.devices:
            names = plan.devices
        elif plan.group:
            names = self._of_group(plan.group)
        else:
            names = tuple(sorted(self._desired.running(rollout.release.inspection)))
        return self._limits.members(rollout, names) if rollout.point else names

    def _of_group(self, group: str) -> tuple[str, ...]:
        try:
            return tuple(self._things.members(group))
        except NotFoundError:
            return ()

    def _blocking_rollout(self, rollout: Rollout) -> str:
        """The rollout that this one waits for."""
        opened = [
            self.one(doc_id)
            for doc_id in self.repository.open(inspection=rollout.release.inspection)
            if doc_id != rollout.id
        ]
        first = [
            one
            for one in opened
            if not one.state.final
            and (one.step >= 0 or (one.created_at, one.id) < (rollout.created_at, rollout.id))
        ]
        return min(first, key=lambda one: one.created_at).id if first else ""

    def _previous(self, rollout: Rollout) -> Release | None:
        """The package that most of its devices report; where none does, the site's."""
        running = self._desired.running(rollout.release.inspection)
        counts = Counter(running[name] for name in self._members(rollout) if name in running)
        site = self._in_use(rollout.release.inspection)
        for digest in (*(one for one, _ in counts.most_common()), site):
            if digest and digest != rollout.release.digest:
                target = self._releases.target_of(digest, inspection=rollout.release.inspection)
                if target is not None:
                    return _bound(target, rollout)
        return None

    def _in_use(self, inspection: str) -> str:
        try:
            return self._packages.in_use(inspection)
        except NotFoundError:
            return ""


def _bound(target: Target, rollout: Rollout) -> Release:
    """Return a signed target as a release for the inspection of a rollout."""
    return replace(target.release, inspection=rollout.release.inspection)


def _going_back(rollout: Rollout) -> RolloutEvent:
    """When it was last decided that it goes back, by whom and why."""
    found = [one for one in rollout.history if one.state is RolloutState.GOING_BACK]
    return found[-1]
