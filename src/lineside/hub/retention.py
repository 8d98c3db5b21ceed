"""Retention: what the hub lets go, so that its data folder stays within its limit.

1. Pictures that nothing pins go by age, or oldest first while the data folder is larger than
   ``max_bytes``. All that lies there counts: pictures, thumbnails, records, packages. Their frames
   become tombstones with digest, thumbnail and answers.
2. Where all else takes more than half of the limit, history goes too, oldest first: tombstones with
   their thumbnails, and entries of the log behind an anchor. Every chain still verifies from its
   checkpoint on. Entries that a follower has not handled stay, whatever they take.
3. Pinned frames, dataset versions and packages never go. Where they alone are too large, the log
   says so once, and ``lineside_data_bytes`` stays above the limit.
4. The space of records that went is used again; the file of an SQLite database does not shrink.
"""

import logging
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic

from lineside.hub.eventlog.topics import hub_source
from lineside.hub.services import Services
from lineside.store import IDLE_S, sweep

logger = logging.getLogger(__name__)

_IDLE_WHEN_FULL_S = 30.0  # a picture is named by its frame within seconds after it was kept
_FINISHING_S = 5.0
_MOST_MEASURING = 0.02  # share of the time
_HISTORY_SHARE = 0.5
_STEP = 0.1  # of the span of the log, at a sweep
_PAGE = 1000


@dataclass(slots=True)
class RetentionSweep:
    """One hub's sweeps, by one thread. ``data_bytes``: the data folder when last measured."""

    services: Services
    data_bytes: int = 0
    _measure_again_s: float = 0.0
    _is_over: bool = field(default=False)

    def run(self) -> int:
        """Let go what has to go now; return the number of pictures that went."""
        services, retention = self.services, self.services.config.retention
        oldest = None
        if retention.max_age_days:
            oldest = services.clock.now() - timedelta(days=retention.max_age_days)
        keep_bytes, idle_s = None, IDLE_S
        if retention.max_bytes:
            other_bytes = max(0, self._measured() - services.records.frames.kept_bytes())
            keep_bytes = max(0, retention.max_bytes - other_bytes)
            if self.data_bytes > retention.max_bytes:
                idle_s = _IDLE_WHEN_FULL_S
                self._finish_frames()
            if other_bytes > _HISTORY_SHARE * retention.max_bytes:
                self._forget_history()
        gone = sweep(
            services.records, services.blobs, older_than=oldest, keep_bytes=keep_bytes,
            idle_s=idle_s,
        )  # fmt: skip
        if gone:
            services.stats.count("frames_aged_out", by=gone)
            logger.info("frames aged out count=%d", gone)
        self._tell_limit(keep_bytes)
        return gone

    def _measured(self) -> int:
        """Return the bytes in the data folder, measured seldom where that takes long."""
        if monotonic() >= self._measure_again_s:
            began_s = monotonic()
            unused = self.services.records.unused_bytes()
            self.data_bytes = folder_bytes(self.services.config.folder) - unused
            self._measure_again_s = monotonic() + (monotonic() - began_s) / _MOST_MEASURING
        return self.data_bytes

    def _finish_frames(self) -> None:
        """Make thumbnails that are due: until a frame has one, its picture stays as that."""
        finisher, deadline_s = self.services.finisher, monotonic() + _FINISHING_S
        while finisher.waiting and monotonic() < deadline_s:
            finisher.step()

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
        tombstones = 0
        while count := services.records.frames.forget(before=before, limit=_PAGE):
            tombstones += count
        if entries or tombstones:
            logger.info(
                "history forgotten entries=%d tombstones=%d before=%s", entries, tombstones, before
            )

    def _prune(self, *, before: datetime) -> int:
        log, site = self.services.records.log, self.services.plant.site
        anchors = hub_source(site)
        return sum(log.prune(source, before=before, anchors=anchors) for source in log.heads())

    def _tell_limit(self, keep_bytes: int | None) -> None:
        is_over = keep_bytes == 0
        if is_over and not self._is_over:
            logger.warning(
                "data folder too large bytes=%d limit=%d: pinned pictures, packages and records "
                "that must stay take all of it; raise retention.max_bytes",
                self.data_bytes, self.services.config.retention.max_bytes,
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
