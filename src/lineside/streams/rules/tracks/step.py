"""The step ``sighting``: one event for each object that passes.

Each key has its own memory (``TrackView``). A sighting is given out when nothing can change it
any more: its label was away for ``gap_s``, or another one opened. With ``emit = "changes"`` it is
told when it opens (``begun``, revision 1) and when it is over (``ended``, revision 2).

A frame is decided by the frames up to at least the lag after it (the longer of ``gap_s`` and
``dwell_s``) and never again; which frames decide it follows from their times alone. Frames are
decided in blocks of a lag, so each takes part in two smoothings.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lineside.core import InvalidError, Rule
from lineside.core.plant_rules import DwellTimes, Scalar, TrackStep
from lineside.core.rule_check import RuleAction
from lineside.streams.rules.contract import UNKNOWN, Output, Record
from lineside.streams.rules.keyed_state import NEVER_US, ViewStep
from lineside.streams.rules.tracks.smoothing import (
    BLANK,
    EDGE,
    MOST_LABELS,
    Belief,
    Gathered,
    Likelihoods,
    Observation,
    Run,
    SmoothedFrame,
    begun,
    frame_id,
    likelihoods,
    smoothed,
    steps_between,
    verdict,
    weight_of,
    widened,
)

MOST_FRAMES = 512
"""Frames of a place that wait; half of them are decided when there are so many."""

LEAST_PRESENT = 0.8
"""What cannot be named must be as sure as this to have been there at all."""

TrackChange = tuple[RuleAction, Run]
"""``begun`` or ``ended``, and the sighting as it stands at that moment."""


class TrackView:
    """See the module; a cell of the step's memory."""

    def __init__(
        self, step: TrackStep, dwell_times: DwellTimes, *, key: tuple[Scalar, ...] = ()
    ) -> None:
        """Nothing seen yet."""
        self.key = key
        self.due_us, self.born = NEVER_US, 0
        self._step, self._habits = step, dwell_times
        self._lag_us = round(max(dwell_times.gap_s, dwell_times.dwell_s) * 1e6)
        self._gap_us = round(dwell_times.gap_s * 1e6)
        self._labels: list[str] = [UNKNOWN, *(each for each in step.labels if each != UNKNOWN)]
        self._gathered: Gathered | None = None
        self._frames: list[Observation] = []
        self._heard: list[Likelihoods | None] = []
        self._belief: Belief | None = None
        self._decided_us: int | None = None
        self._open: Run | None = None
        self._candidate: Run | None = None

    def next_us(self) -> int:
        """When time alone changes something."""
        first = self._frames[0] if self._frames else self._gathered
        if first is not None:
            return first.at_us + 2 * self._lag_us + 1
        runs = [run.last_us for run in (self._open, self._candidate) if run is not None]
        return min(runs) + self._gap_us if runs else NEVER_US

    def take(self, record: Record) -> Iterator[TrackChange]:
        """One record; a frame older than what is decided cannot be taken any more."""
        if self._decided_us is not None and record.at_us <= self._decided_us:
            return
        held = self._gathered
        if held is not None and (held.id, held.at_us) == (frame_id(record), record.at_us):
            held.take(record)
            return
        yield from self._close()
        yield from self._decide(record.at_us)
        self._gathered = Gathered(record)

    def advance(self, now_us: int) -> Iterator[TrackChange]:
        """Nothing earlier than ``now_us`` will come."""
        if self._gathered is not None and self._gathered.at_us < now_us:
            yield from self._close()
        yield from self._decide(now_us)
        if self._gathered is None and not self._frames:
            yield from self._leave(now_us)

    def finish(self) -> Iterator[TrackChange]:
        """Decide everything now, because it is forgotten."""
        yield from self._close()
        while self._frames:
            yield from self._settle(len(self._frames), evidence=len(self._frames))
        yield from self._leave(NEVER_US)

    def _close(self) -> Iterator[TrackChange]:
        """The gathered frame is whole: it joins those that wait, by time."""
        held, self._gathered = self._gathered, None
        if held is None or not held.says():
            return
        yield from self._decide(held.at_us)
        self._learn_labels(held)
        place = len(self._frames)
        while place and self._frames[place - 1].at_us > held.at_us:
            place -= 1
        observed = held.observation(self._step)
        self._frames.insert(place, observed)
        self._heard.insert(place, None)
        if len(self._frames) >= MOST_FRAMES:
            yield from self._settle(MOST_FRAMES // 2, evidence=MOST_FRAMES)

    def _listened(self, place: int) -> Likelihoods:
        """Return the likelihoods of a waiting frame for the labels known now."""
        heard = self._heard[place]
        if heard is None or len(heard[2]) < len(self._labels):
            scores = self._frames[place].scores
            heard = likelihoods(scores, labels=self._labels, dwell_times=self._habits)
            self._heard[place] = heard
        return heard

    def _learn_labels(self, held: Gathered) -> None:
        """Where the rule lists no labels, those are known that were heard, the first 63."""
        if self._step.labels:
            return
        new = set(held.scores) - set(self._labels) - set(self._step.blank)
        self._labels += sorted(new)[: MOST_LABELS - len(self._labels)]

    def _decide(self, horizon_us: int) -> Iterator[TrackChange]:
        while self._frames and horizon_us > self._frames[0].at_us + 2 * self._lag_us:
            first = self._frames[0].at_us
            times = [frame.at_us for frame in self._frames]
            ready = sum(at <= first + self._lag_us for at in times)
            yield from self._settle(
                ready, evidence=sum(at <= first + 2 * self._lag_us for at in times)
            )

    def _settle(self, ready: int, *, evidence: int) -> Iterator[TrackChange]:
        """Decide the first ``ready`` frames by the first ``evidence``."""
        observed = self._frames[:evidence]
        heard = [self._listened(place) for place in range(evidence)]
        start = None if self._belief is None else widened(self._belief, len(self._labels))
        times = [one.at_us for one in observed]
        steps_s = steps_between(times, before_us=self._decided_us)
        beliefs, forward = smoothed(start, heard, steps_s=steps_s, dwell_times=self._habits)
        self._frames, self._heard = self._frames[ready:], self._heard[ready:]
        for place in range(ready):
            weight = weight_of(self._habits, seconds=steps_s[place])
            smoothed_frame = self._smoothed_frame(
                observed[place], beliefs[place], heard=heard[place], weight=weight
            )
            yield from self._follow(smoothed_frame)
            self._decided_us = smoothed_frame.at_us
        self._belief = forward[ready - 1]

    def _smoothed_frame(
        self, one: Observation, belief: Belief, *, heard: Likelihoods, weight: float
    ) -> SmoothedFrame:
        chances = dict(zip(self._labels, belief.labels(), strict=True))
        ranked = {BLANK: belief.blank, EDGE: belief.edge, **chances}
        # Against a label that was not said at all, so that one learned later starts even.
        least = self._habits.flicker / len(self._labels)
        evidence = {
            label: weight * math.log(chance / least)
            for label, chance in zip(self._labels, heard[2], strict=True)
            if label != UNKNOWN
        }
        return SmoothedFrame(
            at_us=one.at_us, id=one.id, frame=one.frame, weight=weight, evidence=evidence,
            scores=one.scores, answer=max(ranked, key=ranked.__getitem__),
            present=sum(chances.values()),
        )  # fmt: skip

    def _follow(self, smoothed_frame: SmoothedFrame) -> Iterator[TrackChange]:
        """One decided frame; see the rules in ``sighting_runs``."""
        yield from self._leave(smoothed_frame.at_us)
        thing = smoothed_frame.answer not in {BLANK, EDGE}
        if self._open is not None and self._goes_on(self._open, smoothed_frame):
            self._open.extend(smoothed_frame)
            self._candidate = None
            return
        if self._open is not None:
            self._open.pass_by(smoothed_frame)
        if not thing:
            if self._candidate is not None:
                self._candidate.pass_by(smoothed_frame)
        elif self._candidate is not None and smoothed_frame.answer == self._candidate.label:
            self._candidate.extend(smoothed_frame)
        else:
            self._candidate = begun(smoothed_frame, before_us=self._decided_us)
        yield from self._promote()

    def _goes_on(self, run: Run, smoothed_frame: SmoothedFrame) -> bool:
        """Return whether it is in view still; half in view is enough for what has no name."""
        return smoothed_frame.answer == run.label or (
            smoothed_frame.answer == EDGE and self._nameless(run)
        )

    def _promote(self) -> Iterator[TrackChange]:
        found = self._candidate
        if found is None or found.span_s() < self._habits.dwell_s:
            return
        nameless = self._nameless(found)
        if nameless and found.present < LEAST_PRESENT:
            return
        self._candidate = None
        if self._open is not None and nameless and self._nameless(self._open):
            self._open.join(found)
            return
        if self._open is not None:
            yield "ended", self._open
        self._open = found
        yield "begun", found

    def _nameless(self, run: Run) -> bool:
        return verdict(run, least=self._step.least_probability).label == UNKNOWN

    def _leave(self, now_us: int) -> Iterator[TrackChange]:
        """Close what was away for ``gap_s``; a candidate may have been there for as long."""
        found = self._candidate
        if found is not None and now_us >= found.last_us + self._gap_us:
            if not found.ended:
                found.around_us = found.last_us + self._gap_us
                yield from self._promote()
            self._candidate = None
        if self._open is not None and now_us >= self._open.last_us + self._gap_us:
            gone, self._open = self._open, None
            yield "ended", gone

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "key": list(self.key),
            "due_us": self.due_us,
            "born": self.born,
            "labels": self._labels,
            "gathered": self._gathered and self._gathered.dump(),
            "frames": [asdict(frame) for frame in self._frames],
            "belief": self._belief and asdict(self._belief),
            "decided_us": self._decided_us,
            "open": self._open and self._open.dump(),
            "candidate": self._candidate and self._candidate.dump(),
        }

    def loaded(self, memory: Mapping[str, Any]) -> "TrackView":
        """Go on from a dump."""
        self.key = tuple(memory["key"])
        self.due_us, self.born = int(memory["due_us"]), int(memory["born"])
        self._labels = [str(label) for label in memory["labels"]]
        self._gathered = Gathered.loaded(memory["gathered"]) if memory["gathered"] else None
        self._frames = [Observation(**frame) for frame in memory["frames"]]
        self._heard = [None] * len(self._frames)
        belief = memory["belief"]
        if belief:
            first, second, third = belief["phases"]
            self._belief = Belief(
                blank=belief["blank"], edge=belief["edge"], phases=(first, second, third)
            )
        self._decided_us = memory["decided_us"]
        self._open = Run.loaded(memory["open"]) if memory["open"] else None
        self._candidate = Run.loaded(memory["candidate"]) if memory["candidate"] else None
        return self


_MEMORY = "lineside.sighting-memory/2"
Key = tuple[Scalar, ...]


class TrackEvents(ViewStep[TrackView]):
    """The step ``sighting`` of one rule."""

    def __init__(self, rule: Rule, declared: TrackStep) -> None:
        """Raise ``InvalidError`` where the rule names a learned file that nobody has read."""
        if declared.learned and declared.habits is None:
            raise InvalidError(
                f"what {declared.learned!r} says is not known", where=f"rule {rule.id}",
                fix="Read the plant file with its folder, or write dwell_s and gap_s.",
            )  # fmt: skip
        set_by_hand = DwellTimes(dwell_s=declared.dwell_s, gap_s=declared.gap_s)
        self._habits = declared.habits or set_by_hand
        super().__init__(
            rule, schema=_MEMORY, of="sighting",
            lost="what was in view then is told twice or not at all",
            load=lambda one: TrackView(self._step, self._habits).loaded(one),
        )  # fmt: skip
        self._step = declared
        self._changes = rule.emit == "changes"

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        """Take one record."""
        made = list(self.advance(record.at_us))
        view = self._cells.use(key)
        if view is None:
            view = TrackView(self._step, self._habits, key=key)
            made += self._forgotten(self._cells.add(key, view))
        made += self._outputs(view.take(record), key=key)
        self._cells.move(key, view, due_us=view.next_us())
        return made

    def advance(self, now_us: int) -> Iterable[Output]:
        """Decide what no later frame can change."""
        if now_us < self._cells.next_us:
            return ()
        made: list[Output] = []
        for name, view in self._cells.due(now_us):
            made += self._outputs(view.advance(view.due_us), key=view.key)
            view.due_us = view.next_us()
            self._cells.keep(name, view)
        return made

    def _forgotten(self, view: TrackView | None) -> Iterator[Output]:
        """Return the outputs of a key that was evicted."""
        if view is not None:
            yield from self._outputs(view.finish(), key=view.key)

    def _outputs(self, track_changes: Iterable[TrackChange], *, key: Key) -> Iterator[Output]:
        for action, run in track_changes:
            if self._changes:
                yield self._output(run, key=key, action=action)
            elif action == "ended":
                yield self._output(run, key=key, action="final")

    def _output(self, run: Run, *, key: Key, action: RuleAction) -> Output:
        return Output(
            name=str(run.first_us),
            key=dict(zip(self._names, key, strict=True)),
            action=action,
            start_us=run.first_us,
            end_us=run.last_us,
            values=self._values(run),
            causes=tuple(dict.fromkeys((run.first_id, run.best_look().id, run.last_id))),
            revision=("final", "begun", "ended").index(action),
        )

    def _values(self, run: Run) -> dict[str, Scalar]:
        found = verdict(run, least=self._step.least_probability)
        best = run.best_look()
        return {
            "label": found.label,
            "probability": round(found.probability, 6),
            "runner_up": found.runner_up,
            "runner_up_probability": round(found.runner_up_probability, 6),
            "dwell_s": (run.last_us - run.first_us) / 1e6,
            "frames": run.inside.frames,
            "frame": best.frame,
            "first_frame": run.first_frame,
            "last_frame": run.last_frame,
            "best_score": run.best.score,
            "best_after_s": (best.at_us - run.first_us) / 1e6,
        }
