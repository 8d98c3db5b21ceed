"""Background work of a hub: periodic duties, retention, and reading what other hubs wrote.

Reading the other hubs of a site, by ``Peers``:

1. The log is read several times a second: the twin folds it, followers and pages hear of it.
2. Of each camera the newest of the frames that others stored is shown, with its predictions: a
   page looks the same at whichever hub it is opened.
3. Devices, training runs, dead letters and alerts of others are read from their documents.

Rules of retention, which holds the data folder within its limit:

1. Images that nothing pins go by age, or oldest first while the data folder is larger than
   ``max_bytes``. All that lies there counts: images, thumbnails, records, packages. Their frames
   become tombstones with digest, thumbnail and predictions.
2. Where all else takes more than half of the limit, history goes too, oldest first: tombstones with
   their thumbnails, and entries of the log behind an anchor. Every chain still verifies from its
   checkpoint on. Entries that a follower has not handled stay, whatever they take.
3. Pinned frames, dataset versions and packages never go. Where they alone are too large, a warning
   is logged once, and ``lineside_data_bytes`` stays above the limit.
4. The space of deleted records is used again; the file of an SQLite database does not shrink.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic

from lineside.core import Clock, Digest, FrameId, LinesideError, NotFoundError
from lineside.core.worker import Worker
from lineside.hub.alerts.observations import LOOK_S
from lineside.hub.eventlog.ledger import Commit
from lineside.hub.eventlog.stats import CAMERAS
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.ingest.frames import needs_thumbnail
from lineside.hub.rules.service import FOLLOWER as RULES
from lineside.hub.services import Services
from lineside.store import IDLE_S, sweep
from lineside.streams import PREDICTION_TYPE, Event, read_prediction
from lineside.twin import forget_checkpoints
from lineside.vision import decode_picture
from lineside.vision.picture import picture_health

FRAME_TYPE = "lineside.plant.frame.v1"
DEVICES = "devices"
"""The part that hears the devices; its hub knows them from what they say."""
_LOG_S = 0.2
_DOCUMENTS_S = 2.0
_LONGEST_RETRY_S = 2.0
_MOST_ANSWERS = 1000


class Peers:
    """One thread that reads what other hubs wrote."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._devices = services.leases.lease(DEVICES)
        self._lock = threading.Lock()
        self._frames: dict[str, Event] = {}
        self._answers: list[Event] = []
        self._next_s = 0.0
        self._worker = Worker("peers", self.step, every_s=_LOG_S, longest_retry_s=_LONGEST_RETRY_S)
        services.ledger.listen(self._note)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End after the turn in hand."""
        self._worker.stop()

    def step(self) -> None:
        """One turn."""
        services = self._services
        services.ledger.catch_up()
        self._show()
        now_s = services.clock.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _DOCUMENTS_S
            services.devices.refresh(is_mine=self._devices.is_held)
            services.runs.refresh()
            services.dead_letters.catch_up()
            services.alerts.load()

    def _note(self, commit: Commit) -> None:
        """Hear of a commit, on the writer's thread: what of it is to be shown."""
        if not commit.by_others:
            return
        with self._lock:
            for event in commit.events:
                if event.type == FRAME_TYPE:
                    self._frames[str(event.data.get("camera", ""))] = event
                elif event.type == PREDICTION_TYPE and len(self._answers) < _MOST_ANSWERS:
                    self._answers.append(event)

    def _show(self) -> None:
        with self._lock:
            frames, self._frames = self._frames, {}
            answers, self._answers = self._answers, []
        live = self._services.cameras
        for camera, event in frames.items():
            if camera in live.ids:
                self._show_frame(event)
        for event in answers:
            answer = read_prediction(event)
            if answer.frame.camera in live.ids:
                live.prediction(answer, event.id)

    def _show_frame(self, event: Event) -> None:
        records, blobs = self._services.records, self._services.blobs
        row = records.frames.get(FrameId(str(event.data.get("frame", ""))))
        health = None
        if not needs_thumbnail(row):
            health = picture_health(decode_picture(blobs.get(Digest(row.thumbnail))))
        self._services.cameras.frame(row, blobs.get(row.digest), health)


_IDLE_WHEN_FULL_S = 30.0  # a picture is named by its frame within seconds after it was kept
_FINISHING_S = 5.0
_MOST_MEASURING = 0.02  # share of the time
_HISTORY_SHARE = 0.5
_STEP = 0.1  # of the span of the log, at a sweep
_PAGE = 1000


@dataclass(slots=True)
class RetentionSweep:
    """One hub's sweeps, by one thread.

    Attributes:
        data_bytes: of the data folder when last measured, less the pictures that went since.
    """

    services: Services
    data_bytes: int = 0
    _picture_bytes: int = 0  # of these
    _measure_again_s: float = 0.0
    _is_over: bool = field(default=False)

    def run(self) -> int:
        """Let go what has to go now; return the number of pictures that went."""
        services, retention = self.services, self.services.retention
        oldest = None
        if retention.max_age_days:
            oldest = services.clock.now() - timedelta(days=retention.max_age_days)
        excess_bytes, idle_s = 0, IDLE_S
        if retention.max_bytes:
            self._measure()
            excess_bytes = max(0, self.data_bytes - retention.max_bytes)
            other_bytes = self.data_bytes - self._picture_bytes
            if excess_bytes:
                idle_s = _IDLE_WHEN_FULL_S
                self._finish_frames()
            if other_bytes > _HISTORY_SHARE * retention.max_bytes:
                self._forget_history()
            self._tell_limit(is_over=other_bytes >= retention.max_bytes)
        gone, gone_bytes = sweep(
            services.records, services.blobs, older_than=oldest, excess_bytes=excess_bytes,
            idle_s=idle_s,
        )  # fmt: skip
        if gone:
            self.data_bytes -= gone_bytes
            self._picture_bytes -= gone_bytes
            services.stats.count("frames_aged_out", by=gone)
            logger.info("frames aged out count=%d", gone)
        return gone

    def limited_bytes(self) -> int:
        """Return ``data_bytes``.

        Raises:
            NotFoundError: no limit, so that nothing measures it.
        """
        if not self.services.retention.max_bytes:
            raise NotFoundError("data_dir has no limit", fix="Set retention.max_bytes.")
        return self.data_bytes

    def _measure(self) -> None:
        """Measure data folder and pictures, seldom where that takes long."""
        if monotonic() >= self._measure_again_s:
            began_s, records = monotonic(), self.services.records
            self.data_bytes = folder_bytes(self.services.config.folder) - records.unused_bytes()
            self._picture_bytes = records.frames.stored_bytes()
            self._measure_again_s = monotonic() + (monotonic() - began_s) / _MOST_MEASURING

    def _finish_frames(self) -> None:
        """Make thumbnails that are due: until a frame has one, its picture stays as that."""
        thumbnails, deadline_s = self.services.thumbnails, monotonic() + _FINISHING_S
        while thumbnails.waiting and monotonic() < deadline_s:
            thumbnails.step()

    def _forget_history(self) -> None:
        """Delete the oldest tenth of the history, as far as anchors and followers allow."""
        services = self.services
        services.ledger.keep_snapshot()
        services.ledger.anchor()  # what comes before it can go at the next sweep
        found = services.records.log.read(limit=1)
        if not found:
            return
        now, first = services.clock.now(), found[0].arrived_at
        waiting_s = max((view.lag_s for view in services.followers.views()), default=0.0)
        handled = now - timedelta(seconds=waiting_s)
        before = min(first + _STEP * (now - first), handled)
        entries = self._prune(before=before)
        services.rule_counts.forget()
        if remaining := services.records.log.read(limit=1):
            forget_checkpoints(
                services.records.documents, before=remaining[0].position, plant=services.plant
            )
        tombstones = 0
        while count := services.records.frames.forget(before=before, limit=_PAGE):
            tombstones += count
        if entries or tombstones:
            logger.info(
                "history forgotten entries=%d tombstones=%d before=%s", entries, tombstones, before
            )

    def _prune(self, *, before: datetime) -> int:
        log, anchors = self.services.records.log, hub_source(self.services.plant.site)
        repository = self.services.releases.repository
        sign = repository.sign if repository.exists() else None
        return sum(
            log.prune(source, before=before, anchors=anchors, sign=sign) for source in log.heads()
        )

    def _tell_limit(self, *, is_over: bool) -> None:
        if is_over and not self._is_over:
            logger.warning(
                "data folder too large bytes=%d limit=%d: pinned pictures, packages and records "
                "that must stay take all of it; raise retention.max_bytes",
                self.data_bytes, self.services.retention.max_bytes,
            )  # fmt: skip
        self._is_over = is_over


def folder_bytes(folder: Path) -> int:
    """Return how much a folder and all below it take on the disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_blocks * 512
            except FileNotFoundError:  # deleted meanwhile
                continue
    return total


logger = logging.getLogger(__name__)

ORDERS, HOUSEKEEPING = "orders", "housekeeping"
"""Parts whose leases are of this module; the duties of other parts go with those."""
_TICK_S = 0.5
_JOBS_S = 1.0
_DEVICES_S = 2.0
_ALERTS_S = 2.0
_ANCHOR_S = 60.0
_SNAPSHOT_S = 30.0
_PLANT_S = 1.0
_SWEEP_S = 10.0
_HOUSEKEEPING_S = 600.0
_STUCK_S = 600.0


@dataclass(slots=True, kw_only=True)
class _Duty:
    """Something to do every so often, by the hub that has the lease of its part; "": by all."""

    name: str
    every_s: float
    act: Callable[[], object]
    part: str = ""
    next_s: float = 0.0
    failed: bool = False


class Timers:
    """One thread that does what is due; a failure of one duty does not stop the others."""

    def __init__(self, services: Services, *, clock: Clock) -> None:
        self._services = services
        self._clock = clock
        desk = services.job_requests
        self._duties = [
            _Duty(name="orders", every_s=_TICK_S, act=services.tick, part=ORDERS),
            _Duty(name="jobs", every_s=_JOBS_S, act=desk.tick, part=DEVICES),
            _Duty(name="job messages", every_s=_JOBS_S, act=desk.say_waiting),
            _Duty(name="desired states", every_s=_JOBS_S, act=services.desired.tick),
            _Duty(name="roll-outs", every_s=_JOBS_S, act=services.rollouts.tick, part=DEVICES),
            _Duty(name="devices", every_s=_DEVICES_S, act=services.devices.flush, part=DEVICES),
            _Duty(name="snapshot", every_s=_SNAPSHOT_S, act=services.ledger.keep_snapshot),
            *_housekeeping(services),
            _Duty(name="alerts", every_s=_ALERTS_S, act=services.alert_watch.tick, part=CAMERAS),
            _Duty(name="shared followers", every_s=LOOK_S, act=services.alert_watch.tick_shared),
            _Duty(name="rules", every_s=_TICK_S, act=services.rules.tick, part=RULES),
            _Duty(name="plant file", every_s=_PLANT_S, act=services.plants.follow),
        ]
        self._own = [services.leases.lease(name) for name in (ORDERS, HOUSEKEEPING)]
        self._leases = {
            duty.part: services.leases.lease(duty.part) for duty in self._duties if duty.part
        }
        self._worker = Worker(
            "timers", self.step, every_s=_TICK_S / 2, delay_s=_TICK_S / 2, stuck_s=_STUCK_S
        )

    def add(self, name: str, act: Callable[[], object], *, every_s: float, part: str = "") -> None:
        """Take on a further duty, before the start."""
        self._duties.append(_Duty(name=name, every_s=every_s, act=act, part=part))
        if part:
            self._leases[part] = self._services.leases.lease(part)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End after the duty in hand."""
        self._worker.stop()
        for lease in self._own:
            lease.release()

    def step(self) -> None:
        """Do what is due now."""
        for lease in self._own:
            lease.hold()
        for duty in self._duties:
            now_s = self._clock.monotonic()
            if now_s >= duty.next_s and self._may(duty):
                duty.next_s = now_s + duty.every_s
                _do(duty)

    def _may(self, duty: _Duty) -> bool:
        return not duty.part or self._leases[duty.part].is_held


def _housekeeping(services: Services) -> list[_Duty]:
    retained = RetentionSweep(services)
    services.stats.watch("data_bytes", retained.limited_bytes)
    duties = [
        _Duty(name="codes", every_s=_HOUSEKEEPING_S, act=services.enrolment.sweep),
        _Duty(name="trust", every_s=_HOUSEKEEPING_S, act=services.releases.renew),
        _Duty(name="anchor", every_s=_ANCHOR_S, act=services.ledger.anchor),
        _Duty(name="sessions", every_s=_HOUSEKEEPING_S, act=services.auth.sweep),
        _Duty(name="retention", every_s=_SWEEP_S, act=retained.run),
    ]
    return [replace(duty, part=HOUSEKEEPING) for duty in duties]


def _do(duty: _Duty) -> None:
    try:
        duty.act()
    except LinesideError as error:
        if not duty.failed:
            logger.warning("duty failed name=%s reason=%s", duty.name, error)
        duty.failed = True
    except Exception:  # boundary
        logger.exception("duty failed name=%s", duty.name)
        duty.failed = True
    else:
        if duty.failed:
            logger.info("duty works again name=%s", duty.name)
        duty.failed = False
