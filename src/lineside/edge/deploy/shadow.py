"""A trial: the package before judges frames beside the one in use, and what differs is told.

1. What the line hears is said by the package in use. The one before judges in a thread of its own,
   a frame at a time: at most ``most_per_s``, and at most ``share`` of the time. A frame that comes
   while it is busy is left and counted; nothing waits for it.
2. Figures are told in all each time, and kept on the disk before they are told, so a lost message
   loses nothing, and what was told is never more than what is known after a restart.
3. A crash is a start of the program after an end that was not a clean one, without the machine
   having been started anew; a worker that the watchdog replaced; a frame on which the package
   in use failed.
4. A trial ends when its frames were judged; the package before is let go then. Crashes are counted
   until another package or trial takes its place.
5. Where no package was before, frames of the new one are counted, and nothing is compared. Where
   the one before cannot be loaded, nothing is counted, and the fault is told.
"""

import logging
import math
import statistics
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lineside.core import (
    Clock,
    LinesideError,
    decode,
    encode,
    replace_durably,
)
from lineside.core.worker import Worker
from lineside.edge.machine import boot_id
from lineside.edge.messages import Counters
from lineside.edge.packages import Judge
from lineside.fleet import Evidence, JobDocument, TrialReport
from lineside.fleet.evidence import add_frame
from lineside.vision import Frame, Prediction
from lineside.vision.verdict import RejectRule

logger = logging.getLogger(__name__)

_FILE = "trials.json"
_LATENCIES = 501
_LATENCIES_ENOUGH = 50
_TELL_S = 2.0
_AGAIN_S = 60.0
_TURN_S = 0.25
_RETRY_S = 30.0

FindPrevious = Callable[[str, str], Judge]
"""Loads a package that was in use before, by inspection and digest; raises where it cannot."""
FindRule = Callable[[str], RejectRule]
"""The answers that reject a part, by inspection."""
Tell = Callable[[bytes], bool]
"""Hands a report to the bus; False when it did not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial as it stands; ``boot`` names the machine's start, "" after a clean end."""

    report: TrialReport
    frames: int
    boot: str = ""

    @property
    def ended(self) -> bool:
        """True once enough was judged."""
        return self.report.evidence.frames >= self.frames


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    trials: tuple[Trial, ...] = ()
    schema: Literal["lineside.trials/1"] = "lineside.trials/1"


@dataclass(slots=True, kw_only=True)
class _Times:
    """Latencies of one trial, in ms."""

    old: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    new: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))


class ShadowDeployment:
    """Started and closed by the agent; frames come from the cameras' threads."""

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        find_old: FindPrevious,
        tell: Tell,
        counters: Counters,
        clock: Clock,
        most_per_s: float = 5.0,
        share: float = 0.5,
        find_rule: FindRule = lambda _: RejectRule(),
    ) -> None:
        """Begin nothing yet.

        Args:
            folder: of the device.
            device: its name.
            find_old: loads the package before.
            tell: hands a report to the bus.
            counters: of faults.
            clock: of pace and pauses.
            most_per_s: frames that the package before judges in a second.
            share: of the time that it may be at it.
            find_rule: answers that reject a part, as the plant file says.
        """
        self._find_rule = find_rule
        self._path = folder / _FILE
        self._device = device
        self._find_old = find_old
        self._tell = tell
        self._counters = counters
        self._clock = clock
        self._most_per_s, self._share = most_per_s, share
        self._boot = boot_id()
        self._trials: dict[str, Trial] = {}
        self._times: dict[str, _Times] = {}
        self._old: dict[str, tuple[str, Judge]] = {}
        self._given: tuple[Frame, Prediction] | None = None
        self._free_s = 0.0
        self._told: dict[str, tuple[TrialReport, float]] = {}
        self._changed = threading.Condition()
        self._worker = Worker("shadow", self._turn, report=self._note)

    def start(self) -> None:
        """Go on with what the disk has; an end that was not clean counts as a crash."""
        for trial in self._read():
            crashed = trial.boot == self._boot
            again = replace(trial, boot=self._boot)
            self._trials[_name(again)] = _crashed(again) if crashed else again
        self._keep()
        self._worker.start()

    def close(self) -> None:
        """Note that this end is a clean one."""
        self._worker.request_stop()
        with self._changed:
            self._changed.notify_all()
        self._worker.join()
        with self._changed:
            self._trials = {name: replace(one, boot="") for name, one in self._trials.items()}
        self._keep()

    def begin(self, order: JobDocument, *, before: str) -> None:
        """A job brought a package: try it where it asks for that; the same trial goes on.

        Args:
            order: of the job.
            before: digest of the package before; "": there was none.
        """
        with self._changed:
            known = self._trials.pop(order.inspection, None)
            if order.trial_frames and order.rollout:
                same = known is not None and _is_of(known, order)
                trial = known if same and known is not None else self._trial(order, before=before)
                self._trials[order.inspection] = trial
                if not same:
                    self._times.pop(order.inspection, None)
            self._old.pop(order.inspection, None)
        self._keep()

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """A frame was judged by the package in use; returns at once."""
        with self._changed:
            trial = self._trials.get(prediction.inspection)
            if trial is None or trial.ended or prediction.package != trial.report.new:
                return
            now_s = self._clock.monotonic()
            if self._given is not None or now_s < self._free_s:
                left = replace(trial.report, left=trial.report.left + 1)
                self._trials[prediction.inspection] = replace(trial, report=left)
                return
            self._given = (frame, prediction)
            self._free_s = now_s + 1 / self._most_per_s
            self._changed.notify_all()

    def failed(self, inspection: str, error: Exception | None = None) -> None:
        """The package in use failed on a frame, or its worker was replaced; a refusal is none."""
        if isinstance(error, LinesideError):
            return
        with self._changed:
            trial = self._trials.get(inspection)
            if trial is not None:
                self._trials[inspection] = _crashed(trial)
                self._changed.notify_all()

    def reports(self) -> tuple[TrialReport, ...]:
        """As they stand now."""
        with self._changed:
            return tuple(trial.report for trial in self._trials.values())

    # ---- its own thread

    def _turn(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._given or self._worker.stopping.is_set(), timeout=_TURN_S
            )
            given = self._given
        try:
            if given is not None:
                self._compare(*given)
            self._tell_what_is_new()
        finally:
            with self._changed:
                self._given = None if given is not None else self._given

    def _note(self, error: Exception | None) -> None:
        if error is not None and self._counters.fault("trial", error):
            logger.error("trial failed", exc_info=error)

    def _compare(self, frame: Frame, prediction: Prediction) -> None:
        name = prediction.inspection
        trial = self._trials.get(name)
        if trial is None:
            return
        began_s = self._clock.monotonic()
        old = self._judged_before(trial, frame) if trial.report.old else None
        if old is None and trial.report.old:
            return
        took_s = self._clock.monotonic() - began_s
        with self._changed:
            now = self._trials.get(name)
            if now is None or now.report.rollout != trial.report.rollout:
                return
            self._trials[name] = self._added(now, old=old, new=prediction)
            rest_s = took_s * (1 / self._share - 1)
            self._free_s = max(self._free_s, self._clock.monotonic() + rest_s)
            if self._trials[name].ended:
                self._old.pop(name, None)

    def _judged_before(self, trial: Trial, frame: Frame) -> Prediction | None:
        name, digest = _name(trial), trial.report.old
        try:
            if self._old.get(name, ("",))[0] != digest:
                self._old[name] = (digest, self._find_old(name, digest))
            judge = self._old[name][1]
            prediction = judge.predict(frame, device=self._device)
        except LinesideError as error:
            if self._counters.fault(f"trial of {name}", error):
                logger.warning("the package before cannot judge inspection=%s: %s", name, error)
            with self._changed:
                self._free_s = self._clock.monotonic() + _RETRY_S
            return None
        self._counters.mended(f"trial of {name}")
        return prediction

    def _added(self, trial: Trial, *, old: Prediction | None, new: Prediction) -> Trial:
        times = self._times.setdefault(_name(trial), _Times())
        times.new.append(new.latency_ms.total)
        found = trial.report.evidence
        if old is None:
            found = replace(found, frames=found.frames + 1)
        else:
            times.old.append(old.latency_ms.total)
            found = add_frame(found, old=old, new=new, rule=self._find_rule(_name(trial)))
        found = _timed(found, times)
        after = replace(trial, report=replace(trial.report, evidence=found))
        return replace(after, report=replace(after.report, ended=after.ended))

    def _tell_what_is_new(self) -> None:
        now_s = self._clock.monotonic()
        for report in self.reports():
            told, told_s = self._told.get(report.evidence.inspection, (None, -_AGAIN_S))
            news = told is None or told != report
            at_once = told is None or _is_urgent(report, told)
            patience_s = (0.0 if at_once else _TELL_S) if news else _AGAIN_S
            if now_s - told_s < patience_s:
                continue
            if news:
                self._keep()
            if self._tell(encode(report)):
                self._told[report.evidence.inspection] = (report, now_s)

    # ---- disk

    def _trial(self, order: JobDocument, *, before: str) -> Trial:
        compared = before if before != order.digest else ""
        evidence = Evidence(device=self._device, inspection=order.inspection)
        report = TrialReport(
            rollout=order.rollout, old=compared, new=order.digest, evidence=evidence
        )
        return Trial(report=report, frames=order.trial_frames, boot=self._boot)

    def _read(self) -> tuple[Trial, ...]:
        try:
            document = decode(_Document, self._path.read_bytes(), where=str(self._path))
        except FileNotFoundError:
            return ()
        except (OSError, LinesideError) as error:
            logger.warning("trials cannot be read, they begin anew when asked: %s", error)
            return ()
        return document.trials

    def _keep(self) -> None:
        with self._changed:
            document = _Document(trials=tuple(self._trials.values()))
        if not document.trials and not self._path.exists():
            return
        try:
            replace_durably(self._path, encode(document))
        except LinesideError as error:
            if self._counters.fault("trials", error):
                logger.warning("trials are not kept: %s", error)
        else:
            self._counters.mended("trials")


def _timed(found: Evidence, times: _Times) -> Evidence:
    """The evidence with the latencies of this program's run, once they are enough of the frames.

    After a restart few latencies would stand for many frames. Figures before it stay until there
    are 50 new ones; those of less than 50 frames do not outlast it.
    """
    if len(times.new) >= min(_LATENCIES_ENOUGH, found.frames):
        return replace(
            found,
            latency_ms_old=statistics.median(times.old) if times.old else 0.0,
            latency_ms_new=statistics.median(times.new),
            latency_p95_ms=percentile_95(times.new),
        )
    if found.frames <= _LATENCIES_ENOUGH:
        return replace(found, latency_ms_old=0.0, latency_ms_new=0.0, latency_p95_ms=0.0)
    return found


def percentile_95(values: Collection[float]) -> float:
    """The nearest-rank 95th percentile of at least one value, in their unit."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _name(trial: Trial) -> str:
    return trial.report.evidence.inspection


def _is_of(trial: Trial, order: JobDocument) -> bool:
    return (trial.report.rollout, trial.report.new) == (order.rollout, order.digest)


def _is_urgent(report: TrialReport, trial_report: TrialReport) -> bool:
    crashed = report.evidence.crashes > trial_report.evidence.crashes
    return crashed or report.ended > trial_report.ended or report.rollout != trial_report.rollout


def _crashed(trial: Trial) -> Trial:
    found = trial.report.evidence
    again = replace(found, crashes=found.crashes + 1)
    return replace(trial, report=replace(trial.report, evidence=again))
