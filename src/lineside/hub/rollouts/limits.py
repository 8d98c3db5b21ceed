"""Limits on their way to devices in waves: what differs from the rollout of a package.

1. No job brings them: the desired state of each device that is asked names the operating point,
   and the device's report says that it decides by it. One that does not read operating points,
   runs another package, refuses the point or reports a fault of it for minutes counts as failed.
2. Both limits are compared on the frames that a device decided by the new ones: their recorded
   scores are decided again by the limits before. No device judges anything twice.
3. Done for all devices, the version comes into force for the site; done for some, for these. Going
   back makes a new version of the limits before, for all, because devices take higher versions
   only. None begins while others are in force for one group alone: it would take them back too.
4. Paused or aborted, devices that have not taken the limits are told those before. One that a later
   version overtook, or whose inspection or package is gone, ends as aborted.
"""

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    NotFoundError,
    Plant,
    RefusedError,
    stable_id,
)
from lineside.fleet import Evidence, ExecutionStatus, Rollout, RolloutState, TrialReport
from lineside.fleet.evidence import add_frame
from lineside.fleet.rollout import RolloutFacts
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.models.desired import DesiredStates
from lineside.hub.models.operating_points import OperatingPoints
from lineside.hub.rollouts.repository import RolloutRepository
from lineside.hub.views import DeviceView
from lineside.models import Status
from lineside.models.operating_point import PointVersion, decide_again, ruled
from lineside.store import EventLog
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.vision.verdict import reject_rule

_PAGE = 1000
_STANDS_S = 120.0
"""A fault of a point that a device reports for so long does not pass by itself."""


class LimitWaves:
    """Carries out rollouts of limits; safe from several threads and processes."""

    def __init__(
        self, log: EventLog, *, repository: RolloutRepository, desired: DesiredStates,
        devices: DeviceRegistry, points: OperatingPoints, plant: Plant, clock: Clock,
    ) -> None:  # fmt: skip
        self._log = log
        self._repository = repository
        self._desired = desired
        self._devices = devices
        self._plant = plant
        self._clock = clock
        self.points = points
        self._compared: dict[str, tuple[int, dict[str, Evidence]]] = {}
        self._faults: dict[tuple[str, str], tuple[str, float]] = {}

    def version(self, rollout: Rollout) -> PointVersion:
        """The version of the operating point that a rollout brings."""
        return self.points.one(rollout.release.inspection, rollout.point)

    def check(self, version: PointVersion) -> None:
        """Refuse a version that no rollout brings.

        Raises:
            RefusedError: nobody approved it.
            InvalidError, NotFoundError: its inspection or its package is gone.
            ConflictError: it is in force already, or a later one is, or others are for one group.
        """
        if version.status is not Status.APPROVED:
            raise RefusedError(
                f"the version is {version.status}", where=version.name, fix="Approve it first."
            )
        found = self.points.in_force(version.inspection, version.package)
        if not version.waves or (found is not None and found.number > version.number):
            number = found.number if found is not None else version.number
            raise ConflictError(
                f"version {number} is in force for all devices", where=version.name,
                fix="Propose limits that go in waves.",
            )  # fmt: skip
        self.points.package(version.inspection, version.package)
        if partial := self._partial(version):
            raise ConflictError(
                partial,
                where=version.name,
                fix="Roll it out to all devices first, or roll it back.",
            )

    def obstacle(self, rollout: Rollout, *, after: str = "") -> str:
        """Why it can go no further; "" where nothing speaks against it.

        Args:
            rollout: of limits.
            after: another one that comes before it; "" for none.
        """
        version = self.version(rollout)
        found = self.points.in_force(version.inspection, version.package)
        is_back = rollout.state is RolloutState.GOING_BACK  # which brings a higher one about
        if gone := self._gone(version):
            return gone
        if found is not None and found.number > version.number and not is_back:
            return f"version {found.number} is in force by now"
        begins = rollout.state is RolloutState.PLANNED and not after
        return self._partial(version) if begins else ""

    def _gone(self, version: PointVersion) -> str:
        """That the inspection or the package of a version is gone, as a sentence, or ""."""
        try:
            self.points.package(version.inspection, version.package)
        except (InvalidError, NotFoundError) as error:
            return error.message
        return ""

    def _partial(self, version: PointVersion) -> str:
        """That one group alone decides by other limits than the site, as a sentence, or ""."""
        name, before = version.inspection, self.points.before(version)
        site = before.number if before is not None else 0
        for one in self._repository.all():
            is_part = one.plan.group or one.plan.devices
            if is_part and one.release.inspection == name and one.state is RolloutState.DONE:
                other = site < one.point != version.number
                if other and self.version(one).package == version.package:
                    return (
                        f"version {one.point} is in force for"
                        f" {one.plan.group or ', '.join(one.plan.devices)} alone"
                    )
        return ""

    def members(self, rollout: Rollout, names: tuple[str, ...]) -> tuple[str, ...]:
        """Of these devices those that run the package of the limits."""
        package = self.version(rollout).package
        running = self._desired.running(rollout.release.inspection)
        return tuple(name for name in names if running.get(name) == package)

    def executions(self, rollout: Rollout) -> dict[str, ExecutionStatus]:
        """Status of each device that was asked."""
        version = self.version(rollout)
        return {
            one.id: self._status(one, rollout, package=version.package)
            for one in self._devices.some(rollout.requested)
        }

    def _status(self, device: DeviceView, rollout: Rollout, *, package: str) -> ExecutionStatus:
        """State of a device on its way to the limits of a package."""
        name = rollout.release.inspection
        used = next((one for one in device.packages if one.get("inspection") == name), None)
        if used is None and self._desired.of(device.id).of(name).digest == package:
            return ExecutionStatus.IN_PROGRESS  # it restarts, and loads the package
        if used is None or used.get("digest") != package:
            return ExecutionStatus.REJECTED
        if not self._devices.reads_points(device.id):
            return ExecutionStatus.REJECTED
        if used.get("operating_point") == rollout.release.digest:
            return ExecutionStatus.SUCCEEDED
        if used.get("refused_point") == rollout.release.digest:
            return ExecutionStatus.FAILED
        faults = map(str, device.status.get("faults", ()) if device.state == "online" else ())
        of_point = (one for one in faults if one.startswith(f"operating point of {name}:"))
        stands = self._stands(rollout, device.id, fault=next(of_point, ""))
        return ExecutionStatus.FAILED if stands else ExecutionStatus.IN_PROGRESS

    def _stands(self, rollout: Rollout, device: str, *, fault: str) -> bool:
        """Return whether a fault is no passing one; of one that ended each counts."""
        if rollout.state.final:
            return bool(fault)
        key, now_s = (rollout.id, device), self._clock.monotonic()
        known, since_s = self._faults.get(key, ("", now_s))
        if known != fault:
            since_s = now_s
            self._faults[key] = (fault, now_s)
        return bool(fault) and now_s - since_s >= _STANDS_S

    def facts(self, rollout: Rollout) -> RolloutFacts:
        """Of one that began."""
        executions, back = self.executions(rollout), rollout.state is RolloutState.GOING_BACK
        returned = {
            name: ExecutionStatus.IN_PROGRESS
            if executions.get(name) is ExecutionStatus.SUCCEEDED
            else ExecutionStatus.SUCCEEDED
            for name in rollout.rollback_devices
        }
        return RolloutFacts(
            executions=executions,
            obstacle=self.obstacle(rollout),
            back=returned,
            back_to=dict.fromkeys(rollout.requested, rollout.release) if back else {},
            evidence=tuple(one.evidence for one in self._repository.reports(rollout.id)),
        )

    def carry_out(self, rollout: Rollout) -> None:
        """Tell the devices what the document says, and compare what they decided since."""
        inspection, gone = rollout.release.inspection, self._gone(self.version(rollout))
        match rollout.state:
            case RolloutState.RUNNING | RolloutState.WIDENING:
                self._desired.write_point(rollout.requested, inspection, number=rollout.point)
            case RolloutState.PAUSED | RolloutState.ABORTED if not rollout.settled:
                self._withdraw(rollout)
            case RolloutState.GOING_BACK if not gone:
                happened = rollout.history[-1]
                self.points.take_back(
                    inspection, rollout.point, by=happened.by,
                    reason=f"rollout {rollout.id}: {happened.why}",
                )  # fmt: skip
                self._desired.write_point(rollout.requested, inspection, number=0)
            case _:
                pass
        if not (rollout.state.final or gone) and rollout.requested:
            self._compare(rollout)

    def _withdraw(self, rollout: Rollout) -> None:
        """Let devices that were asked and have not taken the limits stay with those before."""
        name, executions = rollout.release.inspection, self.executions(rollout)
        late = [
            device
            for device in rollout.requested
            if executions.get(device) is not ExecutionStatus.SUCCEEDED
            and self._desired.of(device).of(name).point == rollout.point
        ]
        self._desired.write_point(late, name, number=0)

    def settle(self, rollout: Rollout) -> None:
        """Do what follows from an end."""
        everybody = not rollout.plan.devices and not rollout.plan.group
        if rollout.state is RolloutState.DONE and everybody:
            self.points.put_in_force(
                rollout.release.inspection, rollout.point, by=rollout.by,
                reason=f"rollout {rollout.id}: {rollout.why}",
            )  # fmt: skip
        self._compared.pop(rollout.id, None)
        for device in rollout.requested:
            self._faults.pop((rollout.id, device), None)

    def _compare(self, rollout: Rollout) -> None:
        """Decide a page of new answers again by the limits before, and note the figures."""
        version, release = self.version(rollout), rollout.release
        position, known = self._compared.get(rollout.id) or (self._begun(rollout), {})
        page = self._log.read(
            type=PREDICTION_TYPE, subject=release.inspection, after=position, limit=_PAGE
        )
        if not page:
            return
        manifest = self.points.package(release.inspection, version.package).manifest
        earlier = self.points.before(version)
        before = ruled(manifest, earlier.limits if earlier is not None else ())
        after = ruled(manifest, version.limits)
        rule = reject_rule(self._plant.find_inspection(release.inspection))
        found = dict(known)
        for one in page:
            answer = read_prediction(decode_event(one.entry.body, where=one.entry.id))
            if answer.operating_point == release.digest and answer.device in rollout.requested:
                old = decide_again(answer, before, recorded=after)
                evidence = found.get(answer.device) or Evidence(
                    device=answer.device, inspection=release.inspection
                )
                found[answer.device] = add_frame(evidence, old=old, new=answer, rule=rule)
        for name, evidence in found.items():
            if evidence != known.get(name):
                self._repository.take(
                    TrialReport(
                        rollout=rollout.id, old=version.package, new=release.digest,
                        evidence=evidence,
                    )
                )  # fmt: skip
        self._compared[rollout.id] = (page[-1].position, found)

    def _begun(self, rollout: Rollout) -> int:
        """Position of the event that planned it."""
        return self._log.get(stable_id("evt", rollout.id, "1")).position
