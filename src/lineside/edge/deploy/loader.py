"""Loader: from the desired state to packages in use.

1. A package is taken from the disk or fetched, proved (``source``), its digest compared, its golden
   pictures run, the cameras' last pictures shown to it, so that the line does not wait for its
   first frame; only then it replaces the one before, in one assignment, between two frames.
2. When anything of that fails the one before goes on, and the failure is told as a fault. A hub
   that is away is asked again; a package that must not run is not tried again until the desired
   changes. A device that starts and cannot have what is wanted goes on with what it ran last, or
   with the one before that. A package that was judged bad on the line does not go on: the one
   before it does, or none.
3. An inspection that nobody wants a package for has none any more.
4. The archive in use and the one before it stay on the disk. What is kept there is proved again
   each time it is loaded.
5. All packages in use may take ``max_bytes`` together, measured as they were loaded.
6. A package decides by the operating point that is desired beside it, from its first frame on. One
   that cannot be had or must not be used is told as a fault, and the former one stays. Without one
   the package's own limits decide.
7. The highest version that a package ever decided by is written before it decides. A lower one is
   refused, through any other package, "none" and restarts. A desired state that names none any more
   is told as a fault, and the last one stays: no hub means that.
8. A package does not take the place of another one without the limits that it should have: where
   its point, or the one that it decided by last, cannot be had, what answers goes on.
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    rfc3339,
    short,
)
from lineside.core.worker import Worker
from lineside.edge.deploy.deployment import (
    DeployedPackage,
    DeploymentStore,
    UsedPoint,
    check_not_older,
    settled,
    wanted_now,
)
from lineside.edge.deploy.package_source import DamagedError, PackageSource
from lineside.edge.hub_client import StoppingError
from lineside.edge.machine import give_back_memory
from lineside.edge.messages import Counters
from lineside.edge.packages import Judge, LoadedPackage, LoadPackage
from lineside.fleet import Installed
from lineside.fleet.contract import Desired, DesiredPackage, DesiredPoint, InUse
from lineside.models.operating_point import OperatingPoint
from lineside.models.predictor import GoldenError

logger = logging.getLogger(__name__)


class DesiredChangedError(UnavailableError):
    """The desired state changed after a job was confirmed: the job is to be confirmed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A package that answered its golden pictures and may come into use.

    Attributes:
        data: its archive.
        url: where it may be had again; "": the repository says so.
        installed: what is kept of it where it is signed or came with a version.
        by_job: whether a job brings it.
    """

    ready: LoadedPackage
    data: bytes
    url: str = ""
    installed: Installed | None = None
    by_job: bool = False
    desired: tuple[str, int] = ("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    ready: LoadedPackage
    loaded_at: str


class Loader:
    """Started and closed by the agent; ``judge`` is called from the camera threads."""

    def __init__(
        self,
        store: DeploymentStore,
        *,
        source: PackageSource,
        make_ready: LoadPackage,
        inspections: frozenset[str],
        most: int,
        max_bytes: int,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._store = store
        self._source = source
        self._make_ready = make_ready
        self.inspections = inspections
        self._most = most
        self._max_bytes = max_bytes
        self._counters = counters
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        self._deployed: dict[str, DeployedPackage] = {}
        self._failed: dict[str, Digest] = {}
        self._used_points: dict[tuple[str, str], UsedPoint] = {}
        self._failed_points: dict[str, Digest] = {}
        self._desired: Desired | None = None
        self._tried: Desired | None = None
        self._unfit: set[Digest] = set()
        self._changed = threading.Lock()
        self._swapping = threading.RLock()
        self._new = False
        self._worker = Worker("loader", self._turn, report=self._note_unforeseen)
        self._stop = self._worker.stopping

    def start(self) -> None:
        """Load what the disk has, then wait for wishes."""
        self._deployed, self._used_points = self._store.deployed(), self._store.used_points()
        self._desired, self._new = self._store.desired(), True
        self._worker.start()

    def set_desired(self, desired: Desired) -> None:
        """The hub wants these packages."""
        with self._changed:
            self._desired, self._new = desired, True
        self._worker.wake()

    def desired_of(self, inspection: str) -> tuple[str, int]:
        """Digest and revision that the hub wants for an inspection; ``("", 0)``: nothing heard."""
        desired = self._desired
        return desired.of(inspection) if desired is not None else ("", 0)

    def revisions(self) -> dict[str, int]:
        """Inspection → the newest revision that was heard, for the status."""
        desired = self._desired
        return dict(desired.revisions) if desired is not None else {}

    def judge(self, inspection: str) -> Judge | None:
        """Package in use for an inspection right now."""
        slot = self._slots.get(inspection)
        return slot.ready.judge if slot is not None else None

    def in_use(self) -> tuple[InUse, ...]:
        """For the status."""
        return tuple(
            InUse(
                inspection=name,
                digest=slot.ready.digest,
                loaded_at=slot.loaded_at,
                operating_point=slot.ready.judge.operating_point,
                refused_point=self._failed_points.get(name, ""),
                engine_device=slot.ready.engine_device,
            )
            for name, slot in sorted(self._slots.items())
        )

    def place(self, made: Prepared) -> None:
        """Put a package into use, now and after the next start.

        Raises:
            InvalidError: there is no room for it.
            DesiredChangedError: a job brought it, and the hub wants something else since.
            UnavailableError: the disk does not take it; the one before goes on.
        """
        with self._swapping:
            name, digest = made.ready.inspection, made.ready.digest
            if made.by_job and made.desired != self.desired_of(name):
                raise DesiredChangedError("the hub changed what it wants meanwhile", where=name)
            self._check_capacity(made.ready)
            if self._store.get(digest) != made.data:
                self._store.put(digest, made.data)
            one = self._deployed.get(name)
            changes = one is None or one.digest != digest
            deployed = self._next_deployed(made)
            self._store.keep_deployed(deployed, installed=made.installed if changes else None)
            self._deployed = deployed
            slot = _Slot(ready=made.ready, loaded_at=rfc3339(self._clock.now()))
            self._slots = {**self._slots, name: slot}
            self._failed.pop(name, None)
        give_back_memory()
        self._counters.mended(_place(name))
        self._counters.mended(_archive(name))
        self._counters.changed()
        logger.info("package in use inspection=%s package=%s", name, short(digest))

    @property
    def alive(self) -> bool:
        """True while its thread runs."""
        return self._worker.is_alive

    def close(self) -> None:
        """Stop; a load under way is finished first, a fetch is broken off."""
        self._worker.stop()

    def checked(self, data: bytes, *, inspection: str, digest: str, where: str) -> LoadedPackage:
        """Load an archive and run its golden pictures; "" for what is not known yet.

        Raises:
            RefusedError: another package, or one that does not fit the inspection, or its answers
                differ.
            InvalidError: not a package that can run.
            UnavailableError: the GPU that is to run it is away.
        """
        ready = self._make_ready(data, inspection)
        if digest and ready.digest != digest:
            raise RefusedError(
                f"the package has digest {short(ready.digest)}, wanted {short(Digest(digest))}",
                where=where,
                fix="Ask for the package that the hub has.",
            )
        return ready

    # ---- the loader's own thread

    def _turn(self) -> float:
        with self._changed:
            desired, is_new, self._new = self._desired, self._new, False
        if is_new:
            self._failed_points.clear()
            if desired != self._tried:
                self._unfit.clear()
            self._tried = desired
            self._failed = {
                name: digest for name, digest in self._failed.items() if digest in self._unfit
            }
        if not self._carry_out(desired):
            raise UnavailableError("a package cannot be had yet")
        return math.inf  # until another desired comes

    def _note_unforeseen(self, error: Exception | None) -> None:
        """Log what is not reported where it happens."""
        if error is not None and not isinstance(error, UnavailableError):
            logger.error("packages cannot be loaded", exc_info=error)

    def _carry_out(self, desired: Desired | None) -> bool:
        """Bring every wanted package into use; False when one is to be tried again."""
        if desired is None and not self._deployed:
            return True
        with self._swapping:
            self._settle(desired)
            wanted = wanted_now(desired, self._deployed)
            mine = [one for one in wanted if one.inspection in self.inspections]
            self._unload({one.inspection for one in mine})
        outcomes = [self._bring(one) for one in mine]
        for one in mine:
            self._drop_bad(one)
        self._sweep()
        return all(outcomes)

    def _settle(self, desired: Desired | None) -> None:
        after = settled(desired, self._deployed)
        if after != self._deployed:
            self._deployed = after
            self._keep_deployed(after)

    def _unload(self, keep: set[str]) -> None:
        for name in set(self._slots) - keep:
            logger.info("package no longer wanted inspection=%s", name)
            self._slots = {key: slot for key, slot in self._slots.items() if key != name}
            self._counters.changed()
        gone = {name: one for name, one in self._deployed.items() if name in keep}
        if gone != self._deployed:
            self._deployed = gone
            self._keep_deployed(gone)

    def _bring(self, wanted: DesiredPackage) -> bool:
        name = wanted.inspection
        slot = self._slots.get(name)
        if slot is not None and slot.ready.digest == wanted.digest:
            self._counters.mended(_place(name))
            return self._bring_point(slot.ready, wanted)
        if self._failed.get(name) == wanted.digest or self._stop.is_set():
            return True
        try:
            points = self._first_points(wanted)
            made = self._prepared(wanted)
            self._decide_first(made.ready, points, wanted=wanted)
            with self._swapping:
                if self._is_wanted(wanted):
                    self.place(made)
        except UnavailableError as error:
            return self._not_now(wanted, error)
        except LinesideError as error:
            return self._never(wanted, error)
        except Exception as error:  # boundary: a package must not end the agent
            logger.exception("package cannot be loaded inspection=%s", name)
            return self._never(wanted, error)
        return self.judge(name) is not made.ready.judge or self._bring_point(made.ready, wanted)

    # ---- operating points

    def _first_points(self, wanted: DesiredPackage) -> list[OperatingPoint]:
        """Points for a package that begins, the best first: the desired one, the last one it had.

        Raises:
            UnavailableError: none of them can be had, and another package answers that may go on.
        """
        asked, last = wanted.operating_point, self._last_point(wanted.inspection, wanted.digest)
        fault: LinesideError | None = None
        found: list[OperatingPoint] = []
        for one in (asked, last):
            if one is None or (one is last and asked is not None and asked.digest == one.digest):
                continue
            try:
                found.append(self._checked_point(one, wanted.inspection))
            except LinesideError as error:
                fault = fault or error
        if fault is not None and not found and self._other_answers(wanted):
            raise UnavailableError(
                f"its operating point cannot be had, what answers goes on: {fault.message}",
                where=wanted.inspection,
                fix=fault.fix,
            )
        return found

    def _decide_first(
        self, ready: LoadedPackage, points: list[OperatingPoint], *, wanted: DesiredPackage
    ) -> None:
        """Let a package that begins decide by the first of these points that fits it.

        Raises:
            LinesideError: none fits, and another package answers that may go on.
        """
        fault: LinesideError | None = None
        for point in points:
            try:
                self._decide_by(ready, point)
            except LinesideError as error:
                fault = fault or error
            else:
                return
        if fault is not None and self._other_answers(wanted):
            raise fault

    def _other_answers(self, wanted: DesiredPackage) -> bool:
        """Return whether a package that nobody judged bad answers, if need be that of before."""
        self._fall_back(wanted)
        slot = self._slots.get(wanted.inspection)
        return slot is not None and not self._is_bad(slot.ready.digest, wanted.inspection)

    def _bring_point(self, ready: LoadedPackage, wanted: DesiredPackage) -> bool:
        """Let a package decide by what is desired; False when that is to be tried again."""
        name, asked = wanted.inspection, wanted.operating_point
        if not ready.judge.operating_point and (name, ready.digest) in self._used_points:
            try:
                self.recall_point(ready)
                self._counters.changed()
            except LinesideError as error:
                logger.warning("last operating point cannot be used inspection=%s: %s", name, error)
        used = ready.judge.operating_point
        if asked is None:
            self._note_no_point(ready)
            return True
        if used == asked.digest:
            self._counters.mended(_point(name))
            return True
        if self._failed_points.get(name) == asked.digest:
            return True
        try:
            self._decide_by(ready, self._checked_point(asked, name))
            self._counters.mended(_point(name))
            self._counters.changed()
        except LinesideError as error:
            if self._stop.is_set():
                return False
            self._note(_point(name), error)
            if isinstance(error, UnavailableError):
                return False
            self._failed_points[name] = asked.digest
        return True

    def _note_no_point(self, ready: LoadedPackage) -> None:
        """Note a desired state that names no point for a package that decided by one."""
        used = self._used_points.get((ready.inspection, ready.digest))
        if used is None:
            self._counters.mended(_point(ready.inspection))
            return
        fault = RefusedError(
            f"the desired state names none, although version {used.version} was used for this"
            " package; the last one stays",
            where=ready.inspection,
            fix="Roll back on the hub: that makes a new version of the earlier limits.",
        )
        self._note(_point(ready.inspection), fault)

    def _checked_point(self, wanted: DesiredPoint, inspection: str) -> OperatingPoint:
        """Return a point that is not older than the highest one of its package."""
        point = self._source.point(wanted, inspection=inspection)
        check_not_older(point, self._used_points)
        return point

    def _last_point(self, inspection: str, package: str) -> DesiredPoint | None:
        used = self._used_points.get((inspection, package))
        return DesiredPoint(digest=used.digest, url="") if used is not None else None

    def recall_point(self, ready: LoadedPackage) -> None:
        """Let a package that begins decide by what it decided by last on this device.

        Raises:
            LinesideError: that point cannot be had, or not be decided by.
        """
        last = self._last_point(ready.inspection, ready.digest)
        if last is not None and ready.judge.operating_point != last.digest:
            self._decide_by(ready, self._checked_point(last, ready.inspection))

    def _decide_by(self, ready: LoadedPackage, point: OperatingPoint) -> None:
        """Write which point a package decides by, then let it decide by that."""
        name, digest = ready.inspection, point.digest
        used = UsedPoint(
            inspection=name, package=ready.digest, version=point.version, digest=digest
        )
        with self._swapping:
            check_not_older(point, self._used_points)
            deployed, points = self._deployed, self._used_points
            one = deployed.get(name)
            new = {**points, (name, str(ready.digest)): used}
            if one is not None and one.digest == ready.digest:
                self._keep_points({**deployed, name: replace(one, operating_point=digest)}, new)
            else:
                self._keep_points(deployed, new)
            try:
                ready.judge.decide_by(point)
            except LinesideError:
                self._keep_points(deployed, points)
                raise
        logger.info(
            "operating point inspection=%s package=%s point=%s", name, short(ready.digest), digest
        )

    def _keep_points(
        self, deployed: dict[str, DeployedPackage], points: dict[tuple[str, str], UsedPoint]
    ) -> None:
        if (deployed, points) == (self._deployed, self._used_points):
            return
        self._store.keep_deployed(deployed, points=[points[key] for key in sorted(points)])
        self._deployed, self._used_points = deployed, points

    def _drop_bad(self, wanted: DesiredPackage) -> None:
        """Drop a package that was judged bad, also where the desired one cannot be had."""
        name, slot = wanted.inspection, self._slots.get(wanted.inspection)
        failed = self._failed.get(name) == wanted.digest
        if slot is None or not failed or not self._is_bad(slot.ready.digest, name):
            return
        logger.warning("a bad package is dropped inspection=%s", name)
        with self._swapping:
            self._slots = {key: one for key, one in self._slots.items() if key != name}
        self._counters.changed()
        self._fall_back(wanted)

    def _is_bad(self, digest: str, inspection: str) -> bool:
        desired = self._desired
        return desired is not None and desired.is_bad(digest, inspection=inspection)

    def _is_wanted(self, wanted: DesiredPackage) -> bool:
        """Return whether the desired state stands and no job brought another package."""
        now = wanted_now(self._desired, self._deployed)
        return (wanted.inspection, wanted.digest) in [(one.inspection, one.digest) for one in now]

    def _not_now(self, wanted: DesiredPackage, error: UnavailableError) -> bool:
        if not self._stop.is_set() and not isinstance(error, StoppingError):
            self._note(_place(wanted.inspection), error)
            self._fall_back(wanted)
        return False

    def _never(self, wanted: DesiredPackage, error: Exception) -> bool:
        self._failed[wanted.inspection] = wanted.digest
        self._note(_place(wanted.inspection), error)
        self._fall_back(wanted)
        return True

    def _note(self, place: str, error: Exception) -> None:
        if self._counters.fault(place, error) and isinstance(error, LinesideError):
            logger.warning("%s: %s", place, error)

    def _fall_back(self, wanted: DesiredPackage) -> None:
        """Nothing answers yet: what did before this start goes on."""
        name = wanted.inspection
        one = self._deployed.get(name)
        if one is None or name in self._slots:
            return
        before = [
            DesiredPackage(inspection=name, digest=Digest(digest), url=one.url)
            for digest in (one.digest, one.previous)
            if digest and digest != wanted.digest and not self._is_bad(digest, name)
        ]
        if any(self._goes_on(each, load=self.load_previous) for each in before):
            return
        # Its own limits are better than no answer, and worse than the point that it had.
        lacking = [each for each in before if self._last_point(name, each.digest) is not None]
        if any(self._goes_on(each, load=self._load_stored) for each in lacking):
            fault = UnavailableError("the last one cannot be had, the package's own limits decide")
            self._note(_point(name), fault)

    def load_previous(self, wanted: DesiredPackage) -> LoadedPackage:
        """A package of this device's disk, verified, at the operating point that it had last.

        Raises:
            NotFoundError: it is not there any more.
            RefusedError, InvalidError: it may not or cannot run here.
            UnavailableError: its operating point cannot be had now.
        """
        ready = self._load_stored(wanted)
        self.recall_point(ready)
        return ready

    def _load_stored(self, wanted: DesiredPackage) -> LoadedPackage:
        data = self._store.get(wanted.digest)
        if data is None:
            raise NotFoundError(
                "the package before is not on this device's disk any more",
                where=wanted.inspection,
                fix="Roll the release out again.",
            )
        self._source.check(data, wanted=wanted, changes=False)
        return self.checked(
            data, inspection=wanted.inspection, digest=wanted.digest, where=wanted.url
        )

    def _goes_on(
        self, wanted: DesiredPackage, *, load: Callable[[DesiredPackage], LoadedPackage]
    ) -> bool:
        """Let a package of before answer; False where it cannot be loaded."""
        try:
            ready = load(wanted)
        except NotFoundError:
            return False
        except LinesideError as error:
            logger.warning(
                "the package before cannot go on inspection=%s: %s", wanted.inspection, error
            )
            return False
        with self._swapping:
            slot = _Slot(ready=ready, loaded_at=rfc3339(self._clock.now()))
            self._slots = {**self._slots, wanted.inspection: slot}
        self._counters.changed()
        logger.warning(
            "goes on with package=%s inspection=%s", short(wanted.digest), wanted.inspection
        )
        return True

    def _prepared(self, wanted: DesiredPackage) -> Prepared:
        others = [slot for name, slot in self._slots.items() if name != wanted.inspection]
        if len({wanted.digest, *(slot.ready.digest for slot in others)}) > self._most:
            raise InvalidError(
                f"{self._most} packages are loaded, no more are allowed",
                where="max_loaded_packages",
                fix="Raise it, or want fewer packages.",
            )
        kept = self._from_disk(wanted)
        if kept is not None:
            return kept
        choice = self._source.of_desired(wanted)
        kept = self._from_disk(wanted)  # what is signed by now may allow it
        if kept is not None:
            return kept
        data = self._source.fetch(choice, progress=self._while_open)
        self._unfit.add(wanted.digest)  # until it turns out that it can run
        try:
            ready = self.checked(
                data, inspection=wanted.inspection, digest=wanted.digest, where=wanted.url
            )
        except UnavailableError:  # of a GPU: it is checked again from the disk
            self._store.put(wanted.digest, data)
            raise
        self._unfit.discard(wanted.digest)
        self._store.put(wanted.digest, data)
        self._source.done(choice)
        return Prepared(ready=ready, data=data, url=wanted.url, installed=choice.installed)

    def _from_disk(self, wanted: DesiredPackage) -> Prepared | None:
        """The archive of this disk; None where there is none that may be loaded."""
        data, one = self._store.get(wanted.digest), self._deployed.get(wanted.inspection)
        if data is None:
            return None
        changes = one is None or one.digest != wanted.digest
        try:
            installed = self._source.check(data, wanted=wanted, changes=changes)
        except DamagedError as error:
            self._throw_away(wanted, error)
            return None
        except (RefusedError, InvalidError) as error:
            logger.debug("archive on the disk not taken, the hub is asked: %s", error)
            return None
        try:
            ready = self.checked(
                data, inspection=wanted.inspection, digest=wanted.digest, where=wanted.url
            )
        except GoldenError:
            raise  # by another engine, device or driver it may run again, and the hub may be away
        except (RefusedError, InvalidError) as error:
            self._throw_away(wanted, error)
            return None
        return Prepared(ready=ready, data=data, url=wanted.url, installed=installed)

    def _throw_away(self, wanted: DesiredPackage, error: LinesideError) -> None:
        self._note(_archive(wanted.inspection), error)
        others = (one for name, one in self._deployed.items() if name != wanted.inspection)
        if not any(wanted.digest in (one.digest, one.previous) for one in others):
            self._store.remove(wanted.digest)

    def _while_open(self, there: int, whole: int) -> None:
        del there, whole
        if self._stop.is_set():
            raise StoppingError("the agent is closing")

    # ---- room and disk

    def _check_capacity(self, ready: LoadedPackage) -> None:
        others = [slot.ready for name, slot in self._slots.items() if name != ready.inspection]
        held = sum(other.size_bytes for other in others)
        if held + ready.size_bytes > self._max_bytes:
            raise InvalidError(
                f"{ready.size_bytes} bytes more than {held} are above {self._max_bytes}",
                where="max_loaded_bytes",
                fix="Allow more, or want fewer or smaller packages.",
            )

    def _next_deployed(self, made: Prepared) -> dict[str, DeployedPackage]:
        name, digest = made.ready.inspection, made.ready.digest
        old = self._deployed.get(name)
        same = old is not None and old.digest == digest
        point = made.ready.judge.operating_point
        if old is not None and same and not made.by_job:
            kept = replace(old, url=made.url or old.url, operating_point=point)
            return {**self._deployed, name: kept}
        desired_digest, revision = made.desired if made.by_job else ("", 0)
        new = DeployedPackage(
            inspection=name,
            digest=digest,
            previous=(old.previous if same else old.digest) if old is not None else "",
            url=made.url,
            by_job=made.by_job,
            desired_digest=desired_digest,
            desired_revision=revision,
            operating_point=point,
        )
        return {**self._deployed, name: new}

    def _keep_deployed(self, deployed: dict[str, DeployedPackage]) -> None:
        try:
            self._store.keep_deployed(deployed)
        except UnavailableError as error:
            self._note("packages in use", error)

    def _sweep(self) -> None:
        with self._swapping:
            keep = {slot.ready.digest for slot in self._slots.values()}
            keep |= {used.digest for used in self._used_points.values()}
            for one in self._deployed.values():
                kept = (one.digest, one.previous, one.operating_point)
                keep |= {Digest(digest) for digest in kept if digest}
            for wanted in self._desired.packages if self._desired is not None else ():
                point = wanted.operating_point
                keep |= {wanted.digest} if point is None else {wanted.digest, point.digest}
            self._store.sweep(keep=keep)


def _place(inspection: str) -> str:
    return f"package of {inspection}"


def _point(inspection: str) -> str:
    return f"operating point of {inspection}"


def _archive(inspection: str) -> str:
    return f"archive of {inspection}"
