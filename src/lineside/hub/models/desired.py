"""Desired state of the devices: one document per device says what it should run.

1. Everybody who decides what a device runs writes this document and nothing else: the page and the
   command that take a package into use, rollouts, and jobs of the AWS contract. A job is a
   proposal: its package becomes the desired one in the transaction in which the device reports
   success, so that a package which a device could not take is never desired.
2. What a device runs is what it reports. The packages that it reported are kept in its document,
   newest first; the previous package of a device is found there.
3. A package that live evidence spoke against is marked as bad. Nothing writes a bad package, no
   device goes back to one, and no new device begins with one. A person who starts a rollout of it
   again removes the mark.
4. Each change of an inspection has a revision. A device follows a revision that is new to it, also
   where the package is the one that it was told before.
5. The document is told as a retained message: after each change, after every start, and to a device
   whose report says that it has not heard the newest revision; ever more rarely where that is in
   vain.
6. Beside each package stands the operating point in force for it, for devices that read it: the
   package decides which, so that a rollout, a rollback and a new device need nothing more. Of
   limits that go in waves the document has the number, on the devices that a rollout asked.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from lineside.core import (
    Clock,
    Digest,
    NotFoundError,
    Plant,
    UnavailableError,
    decode_fast,
    encode,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.fleet import Target, contract
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.models.operating_points import OperatingPoints
from lineside.hub.models.releases import Releases
from lineside.hub.views import DeviceView
from lineside.links import Bus
from lineside.models import Registry
from lineside.store import Records

logger = logging.getLogger(__name__)

DESIRED_KIND = "desired"
BAD_KIND = "bad-package"
_PAGE = 1000
_MOST_REPORTED = 8
_MOST_BAD = 100
_REFRESH_S = 10.0
_LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPackage:
    """Package that a device should run for one inspection.

    Attributes:
        digest: of the package; "": none.
        revision: counts the changes, from 1; 0: as the site's, since the device is known.
        by, reason, at: who changed it last, and why.
        reported: digests that the device reported for this inspection, newest first.
        point: number of the operating point that a rollout told this device of before it is in
            force for the site; 0: none.
    """

    inspection: str
    digest: str = ""
    revision: int = 0
    by: str = ""
    reason: str = ""
    at: datetime | None = None
    reported: tuple[str, ...] = ()
    point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """``lineside.desired_state/1``: document of one device."""

    packages: tuple[DesiredPackage, ...] = ()
    schema: Literal["lineside.desired_state/1"] = "lineside.desired_state/1"

    def of(self, inspection: str) -> DesiredPackage:
        """For an inspection; an empty one where nothing was said of it."""
        found = (one for one in self.packages if one.inspection == inspection)
        return next(found, DesiredPackage(inspection=inspection))

    @property
    def revisions(self) -> dict[str, int]:
        """Inspection → its revision, of those that were ever changed."""
        return {one.inspection: one.revision for one in self.packages if one.revision}

    def having(self, changed: DesiredPackage) -> "DesiredState":
        """With one inspection changed."""
        others = [one for one in self.packages if one.inspection != changed.inspection]
        packages = sorted([*others, changed], key=lambda one: one.inspection)
        return replace(self, packages=tuple(packages))


@dataclass(frozen=True, slots=True, kw_only=True)
class BadPackage:
    """Mark of a package that a rollout took back because of live evidence."""

    rollout: str
    why: str
    at: datetime

    def __str__(self) -> str:
        return f"rollout {self.rollout}: {self.why}"


class DesiredStates:
    """Safe from several threads and processes."""

    def __init__(
        self,
        records: Records,
        *,
        registry: Registry,
        releases: Releases,
        devices: DeviceRegistry,
        points: OperatingPoints,
        plant: Plant,
        clock: Clock,
    ) -> None:
        self._records = records
        self._documents = records.documents
        self._registry = registry
        self._releases = releases
        self._devices = devices
        self._points = points
        self._plant = plant
        self._clock = clock
        self._lock = threading.Lock()
        self._untold: set[str] = set()
        self._told_points: dict[str, bool] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        self._refreshed_s = clock.monotonic()
        self.bus: Bus | None = None
        self.base_url = ""

    # ---- reading

    def of(self, device: str) -> DesiredState:
        """Return the desired state of a device; the site's packages where nobody changed it."""
        return self._read(device)[0]

    def running(self, inspection: str) -> dict[str, str]:
        """Device → the package that it reports for an inspection."""
        return {
            device.id: str(one.get("digest", ""))
            for device in self._devices.all()
            for one in device.packages
            if one.get("inspection") == inspection
        }

    def ever_run(self, inspection: str, *, devices: Iterable[str] | None = None) -> set[str]:
        """Return the packages that devices run, should run or once ran for an inspection.

        A device refuses a version below the newest that it ever ran, also after that was removed
        from it, unless the rollback from there is signed.
        """
        running = self.running(inspection)
        found = set()
        for device in self._devices.known() if devices is None else devices:
            entry = self.of(device).of(inspection)
            found |= {running.get(device, ""), entry.digest, *entry.reported}
        return found - {""}

    def in_force(self) -> dict[str, tuple[Digest, ...]]:
        """Inspection → packages that devices report; the site's where no device reports one."""
        reported: dict[str, dict[str, None]] = {}
        for device in self._devices.all():
            for one in device.packages:
                name, digest = str(one.get("inspection", "")), str(one.get("digest", ""))
                if digest:
                    reported.setdefault(name, {})[digest] = None
        found = {}
        for inspection in self._plant.inspection:
            site = self._registry.in_use(inspection.id)
            digests = tuple(map(Digest, reported.get(inspection.id, {})))
            if digests or site is not None:
                found[inspection.id] = digests or ((site.digest,) if site is not None else ())
        return found

    # ---- changing

    def write(
        self, devices: Iterable[str], inspection: str, *, digest: str, by: str, reason: str
    ) -> None:
        """Let devices run a package for an inspection from now on; "" for none."""
        self._write(
            devices,
            lambda state: self._next(state, inspection, digest=digest, by=by, reason=reason),
        )

    def write_point(self, devices: Iterable[str], inspection: str, *, number: int) -> None:
        """Let devices decide by an operating point ahead of the site; 0 for that of the site."""
        self._write(
            (name for name in devices if self.of(name).of(inspection).point != number),
            lambda state: state.having(replace(state.of(inspection), point=number)),
        )

    def _write(
        self, devices: Iterable[str], change: Callable[[DesiredState], DesiredState]
    ) -> None:
        changed = []
        with self._records.transaction():
            for device in devices:
                self._change(device, change)
                changed.append(device)
        with self._lock:
            self._untold.update(changed)
        self.tell_changed()

    def _next(
        self, state: DesiredState, inspection: str, *, digest: str, by: str, reason: str
    ) -> DesiredState:
        before = state.of(inspection)
        if before.digest in before.reported:
            # A report of what ran earlier still may have come in since this one began to run.
            before = _having_run(before, before.digest)
        return state.having(
            replace(
                before, digest=digest, revision=before.revision + 1, by=by, reason=reason,
                at=self._clock.now(),
            )
        )  # fmt: skip

    def job_succeeded(self, device: str, job_id: str, document: Mapping[str, Any]) -> None:
        """Write what a job brought, inside the transaction of its success.

        Documents that name no package which this hub signed change nothing.
        """
        if document.get("type") != "new_model":
            return
        target = self._releases.target_of(
            str(document.get("digest", "")), group=str(document.get("model_name", "")),
            version=str(document.get("model_version", "")),
        )  # fmt: skip
        if target is None:
            return
        digest, asked = str(target.custom["digest"]), str(document.get("inspection", ""))
        inspection = asked if asked in target.inspections else target.inspections[0]
        if self.verdict(digest, inspection=inspection) is not None:
            logger.warning("a job brought a bad package device=%s job=%s", device, job_id)
            return

        def succeeded(state: DesiredState) -> DesiredState:
            now = self._next(
                state, inspection, digest=digest, by=f"job {job_id}",
                reason="the device reported success",
            )  # fmt: skip
            return now.having(_having_run(now.of(inspection), digest))

        self._change(device, succeeded)
        with self._lock:
            self._untold.add(device)

    def reported(self, device: DeviceView) -> None:
        """Keep what a device reports, where that is another package than before."""

        def noted(state: DesiredState) -> DesiredState:
            for one in device.packages:
                name, digest = str(one.get("inspection", "")), str(one.get("digest", ""))
                if name and digest:
                    state = state.having(_having_run(state.of(name), digest))
            return state

        self._change(device.id, noted)

    @retry_stale
    def _change(self, device: str, change: Callable[[DesiredState], DesiredState]) -> None:
        before, version = self._read(device)
        after = change(before)
        if after != before:
            self._documents.put(DESIRED_KIND, device, body=to_plain(after), expect=version)
            self._show(device, after)

    def _read(self, device: str) -> tuple[DesiredState, int]:
        try:
            found = self._documents.get(DESIRED_KIND, device)
        except NotFoundError:
            return self._site_state(), 0
        return _state(found.body), found.version

    def _site_state(self) -> DesiredState:
        packages = []
        for inspection in sorted(one.id for one in self._plant.inspection):
            record = self._registry.in_use(inspection)
            bad = record is not None and self.verdict(record.digest, inspection=inspection)
            if record is not None and not bad:
                packages.append(DesiredPackage(inspection=inspection, digest=record.digest))
        return DesiredState(packages=tuple(packages))

    # ---- bad packages

    def mark_bad(self, digest: str, *, inspection: str, rollout: str, why: str) -> None:
        """Mark a package that live evidence spoke against; twice is once."""
        bad = BadPackage(rollout=rollout, why=why, at=self._clock.now())
        if self.verdict(digest, inspection=inspection) is None:
            self._documents.put(BAD_KIND, f"{inspection}/{digest}", body=to_plain(bad))

    def forgive(self, digest: str, *, inspection: str) -> None:
        """Remove the mark: a person lets it be tried again."""
        self._documents.delete(BAD_KIND, f"{inspection}/{digest}")

    def verdict(self, digest: str, *, inspection: str) -> BadPackage | None:
        """The mark of a package; None where it has none."""
        try:
            body = self._documents.get(BAD_KIND, f"{inspection}/{digest}").body
        except NotFoundError:
            return None
        return decode_fast(BadPackage, encode(body), where=BAD_KIND)

    def previous(self, device: str, inspection: str, *, leaving: str) -> Target | None:
        """The signed package that a device goes back to from one that it leaves; None: to none.

        The one that it should run already where that is another; else the last good one that it
        reported; else the site's.
        """
        entry = self.of(device).of(inspection)
        site = self._registry.in_use(inspection)
        wanted = (entry.digest, *entry.reported, site.digest if site is not None else "")
        for digest in dict.fromkeys(wanted):
            if not digest or digest == leaving:
                continue
            if self.verdict(digest, inspection=inspection) is None:
                target = self._releases.target_of(digest, inspection=inspection)
                if target is not None:
                    return target
        return None

    # ---- telling

    def tell_all(self) -> None:
        """Say to every known device what it should run; once after the start."""
        for device in self._devices.known():
            self.tell(device)

    def tell_changed(self) -> None:
        """Say it to the devices whose documents changed since."""
        with self._lock:
            changed, self._untold = self._untold, set()
            for device in changed:
                self._pauses.pop(device, None)
        for device in sorted(changed):
            self.tell(device)

    def tell(self, device: str) -> None:
        """Say to one device what it should run; while the bus is away it is said on its return."""
        state = self.of(device)
        self._show(device, state)
        if self.bus is None:
            return
        self._told_points[device] = self._devices.reads_points(device)
        topic = f"lineside/{self._plant.site}/device/{device}/desired"
        payload = self.payload(device, state)
        try:
            self.bus.publish(topic, payload, qos=1, retain=True)
        except UnavailableError as error:
            logger.warning("desired packages not told device=%s reason=%s", device, error)

    def payload(self, device: str, state: DesiredState) -> bytes:
        """``lineside.desired/1``; revisions and bad packages only for devices that read them."""
        told = self._devices.reads(device) and bool(state.revisions)
        return contract.write_desired(
            contract.Desired(
                schema="lineside.desired/1", packages=self._wire(state, device),
                revisions=state.revisions if told else {}, bad=self._bad(state) if told else (),
            )
        )  # fmt: skip

    def _bad(self, state: DesiredState) -> tuple[str, ...]:
        """Marked packages of the inspections that the device was told of, alone and with these."""
        found: set[str] = set()
        for inspection in state.revisions:
            below = f"{inspection}/"
            page = self._documents.page(BAD_KIND, after=below, limit=_MOST_BAD)
            marks = {one.id for one in page if one.id.startswith(below)}
            found |= marks | {mark.removeprefix(below) for mark in marks}
        return tuple(sorted(found))

    def tick(self) -> None:
        """Note what devices report, and tell those that have not heard; about once a second."""
        for device in self._devices.some(self._devices.reports_changed()):
            self.reported(device)
            reads_by_now = self._devices.reads_points(device.id)
            is_new_reader = reads_by_now and self._told_points.get(device.id) is False
            if is_new_reader or self._lacks_point(device, self.of(device.id)):
                with self._lock:
                    self._untold.add(device.id)
        self.tell_changed()
        if self._clock.monotonic() - self._refreshed_s >= _REFRESH_S:
            self._refreshed_s = self._clock.monotonic()
            self._refresh()

    def _refresh(self) -> None:
        """Show what other hubs wrote, and tell devices that report an older revision.

        One that refuses what it is told is told ever more rarely, until something changes.
        """
        after = ""
        while page := self._documents.page(DESIRED_KIND, after=after, limit=_PAGE):
            after = page[-1].id
            states = {found.id: _state(found.body) for found in page}
            for device in self._devices.some(states):
                state = states[device.id]
                self._show(device.id, state)
                heard = device.status.get("desired")
                is_behind = heard not in (None, state.revisions) or self._lacks_point(device, state)
                if not is_behind:
                    self._pauses.pop(device.id, None)
                elif device.state == "online" and self._may_tell_again(device.id):
                    self.tell(device.id)

    def _may_tell_again(self, device: str) -> bool:
        """Return whether the pause is over that doubles each time a device is told in vain."""
        now_s = self._clock.monotonic()
        pause_s, until_s = self._pauses.get(device, (_REFRESH_S, now_s))
        if now_s < until_s:
            return False
        self._pauses[device] = (min(2 * pause_s, _LONGEST_PAUSE_S), now_s + pause_s)
        return True

    def _show(self, device: str, state: DesiredState) -> None:
        packages = contract.package_entries(self._wire(state, device))
        self._devices.set_desired(device, tuple(packages))

    def _wire(self, state: DesiredState, device: str) -> tuple[contract.DesiredPackage, ...]:
        reads = self._devices.reads_points(device)
        return tuple(
            contract.DesiredPackage(
                inspection=one.inspection, digest=Digest(one.digest),
                url=f"{self.base_url}/api/v1/packages/{one.digest}/content",
                operating_point=self._point(one) if reads else None,
            )
            for one in state.packages
            if one.digest
        )  # fmt: skip

    def _point(self, package: DesiredPackage) -> contract.DesiredPoint | None:
        """The operating point of a package as devices are told; None for its own limits."""
        version = self._points.on_device(package.inspection, package.digest, number=package.point)
        if version is None or version.point is None:
            return None
        place = f"{self.base_url}/api/v1/operating-points/{package.inspection}"
        return contract.DesiredPoint(
            digest=version.point.digest, url=f"{place}/versions/{version.number}/content"
        )

    def _lacks_point(self, device: DeviceView, state: DesiredState) -> bool:
        """Return whether a desired package decides by other limits than wanted, as reported."""
        wanted = {
            (one.inspection, one.digest): point.digest if (point := self._point(one)) else ""
            for one in state.packages
        }
        return any(
            wanted.get((str(one.get("inspection")), str(one.get("digest"))), told) != told
            for one in device.packages
            if (told := one.get("operating_point")) is not None
        )


def _having_run(entry: DesiredPackage, digest: str) -> DesiredPackage:
    """With the package that the device ran last in front of those that it ran before."""
    others = [other for other in entry.reported if other != digest]
    return replace(entry, reported=(digest, *others)[:_MOST_REPORTED])


def _state(body: Mapping[str, Any]) -> DesiredState:
    return decode_fast(DesiredState, encode(body), where=DESIRED_KIND)
