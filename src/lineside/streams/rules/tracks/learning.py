"""The dwell-time model of a rule, fitted to a labelled clip.

1. ``confusion``: for each label, and for nothing, how often each label was the likeliest; two
   frames' worth of the usual flicker is added, so that what was never seen is not impossible.
2. ``dwell_s``: half of the shortest stretch, because the next thing may be quicker. ``gap_s``: the
   geometric mean of the longest time for which a label was not said although it was in view and
   the shortest true absence, but within 0.5 to 0.7 of that absence, for the same reason.
3. ``look_s``: twice the time after which errors are forgotten (the statistical inefficiency of
   correlated samples; Sokal, *Monte Carlo methods in statistical mechanics*, 1997, section 3), from
   the share of errors that follow an error, at most half of ``dwell_s``.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from lineside.core import InvalidError, Rule
from lineside.core.plant_rules import DwellTimes, TrackStep
from lineside.streams.rules.conditions import compile_conditions
from lineside.streams.rules.contract import Record
from lineside.streams.rules.records import Entry, reader_of
from lineside.streams.rules.tracks.smoothing import BLANK, Gathered, Observation, frame_id

LEAST_FRAMES = 20
_ADDED = 2.0
_USUAL_GAP_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Stretch:
    """One thing in view, as a person labelled it; its end is not part of it."""

    from_us: int
    to_us: int
    label: str

    def __post_init__(self) -> None:
        if self.to_us <= self.from_us or not self.label:
            raise InvalidError(
                "a stretch that ends before it begins, or has no label",
                where=f"stretch {self.label!r}", fix="Write t_from < t_to and a label.",
            )  # fmt: skip


def clip_of_rule(rule: Rule, entries: Iterable[Entry]) -> list[Observation]:
    """Return the observations of all that a sighting rule reads, in order of time.

    Raises:
        InvalidError: no sighting rule, or frames of several places.
    """
    if rule.sighting is None:
        raise InvalidError("no sighting rule", where=f"rule {rule.id}", fix="Name another.")
    reader, where = reader_of(rule), compile_conditions(rule.where)
    records = [
        record
        for entry in entries
        if reader.takes(entry.type, entry.subject)
        for record in reader.read(entry)
        if where is None or where(record.fields)
    ]
    places = {tuple(record.fields.get(name) for name in rule.key) for record in records}
    if len(places) > 1:
        raise InvalidError(
            f"the events are of {len(places)} places ({', '.join(rule.key)})", where="events",
            fix="Learn from the events of one camera or region, that which was labelled.",
        )  # fmt: skip
    return frames_of_records(records, rule.sighting)


def frames_of_records(records: Iterable[Record], step: TrackStep) -> list[Observation]:
    """Return the observation of each frame, in order of time."""
    gathered: dict[tuple[int, str], Gathered] = {}
    for record in records:
        name = record.at_us, frame_id(record)
        if name in gathered:
            gathered[name].take(record)
        else:
            gathered[name] = Gathered(record)
    return [gathered[name].observation(step) for name in sorted(gathered) if gathered[name].says()]


def fit_dwell_times(frames: Sequence[Observation], stretches: Iterable[Stretch]) -> DwellTimes:
    """DwellTimes of a clip.

    Args:
        frames: in order of time, of one place.
        stretches: every thing that was in view between the first frame and the last.

    Raises:
        InvalidError: too few frames, no stretch with a frame in it, or stretches that overlap.
    """
    things = sorted(stretches)
    _check(frames, things)
    truth = [_truth(things, frame.at_us) for frame in frames]
    predicted = [_top_label(frame) for frame in frames]
    wrong = [told != true for told, true in zip(predicted, truth, strict=True)]
    flicker = min(0.5, max(0.02, (sum(wrong) + 1) / (len(wrong) + 10)))
    dwell_s = 0.5 * min(thing.to_us - thing.from_us for thing in things) / 1e6
    return DwellTimes(
        dwell_s=round(dwell_s, 3),
        gap_s=round(_gap_s(frames, things, predicted=predicted), 3),
        look_s=round(min(_look_s(frames, wrong), dwell_s / 2), 3),
        flicker=round(flicker, 4),
        confusion=_confusion(truth, predicted, flicker=flicker),
        things=len(things),
        frames=len(frames),
    )


def _check(frames: Sequence[Observation], things: Sequence[Stretch]) -> None:
    if len(frames) < LEAST_FRAMES:
        raise InvalidError(
            f"{len(frames)} frames, fewer than {LEAST_FRAMES}", where="events",
            fix="Record a longer clip; some minutes with every label are good.",
        )  # fmt: skip
    for one, other in pairwise(things):
        if other.from_us < one.to_us:
            raise InvalidError(
                f"{one.label!r} and {other.label!r} overlap", where="labels",
                fix="Learn from a clip with one thing at a time, or one region of it.",
            )  # fmt: skip
    if not any(_truth(things, frame.at_us) for frame in frames):
        raise InvalidError(
            "no frame lies in a labelled stretch", where="labels",
            fix="Write t_from and t_to as RFC 3339, or as seconds after the first event.",
        )  # fmt: skip


def _truth(things: Sequence[Stretch], at_us: int) -> str:
    return next((one.label for one in things if one.from_us <= at_us < one.to_us), BLANK)


def _top_label(frame: Observation) -> str:
    """The likeliest; nothing where no label reaches what is left."""
    left = 1.0 - sum(frame.scores.values())
    told = {BLANK: left, **frame.scores} if BLANK not in frame.scores else frame.scores
    return min(told, key=lambda label: (-told[label], label))


def _confusion(
    truth: Sequence[str], predicted: Sequence[str], *, flicker: float
) -> dict[str, dict[str, float]]:
    states = sorted({*truth, *predicted, BLANK})
    pairs = Counter(zip(truth, predicted, strict=True))
    return {
        true: _row({told: pairs[true, told] for told in states}, true=true, flicker=flicker)
        for true in states
        if true in truth
    }


def _row(counts: Mapping[str, int], *, true: str, flicker: float) -> dict[str, float]:
    whole = sum(counts.values()) + _ADDED
    usual = {told: (1.0 - flicker) * (told == true) + flicker / len(counts) for told in counts}
    return {told: round((counts[told] + _ADDED * usual[told]) / whole, 6) for told in counts}


def _gap_s(
    frames: Sequence[Observation], things: Sequence[Stretch], *, predicted: Sequence[str]
) -> float:
    true_s = [(b.from_us - a.to_us) / 1e6 for a, b in pairwise(things) if b.from_us > a.to_us]
    shortest = min(true_s, default=_USUAL_GAP_S)
    longest = max(_absent_s(frames, thing, predicted=predicted) for thing in things)
    return min(0.7 * shortest, max(0.5 * shortest, math.sqrt(longest * shortest)))


def _absent_s(frames: Sequence[Observation], thing: Stretch, *, predicted: Sequence[str]) -> float:
    """The longest time between two frames that say the thing's label while it is in view."""
    times = [
        frame.at_us
        for frame, told in zip(frames, predicted, strict=True)
        if told == thing.label and thing.from_us <= frame.at_us < thing.to_us
    ]
    return max(((b - a) / 1e6 for a, b in pairwise(times)), default=0.0)


def _look_s(frames: Sequence[Observation], wrong: Sequence[bool]) -> float:
    """0 where errors do not follow errors more often than chance has it."""
    share = sum(wrong) / len(wrong)
    after = [second for first, second in pairwise(wrong) if first]
    if not after or share >= 1.0:
        return 0.0
    alike = (sum(after) / len(after) - share) / (1.0 - share)
    step_s = median((b.at_us - a.at_us) / 1e6 for a, b in pairwise(frames))
    if alike <= 0.0 or step_s <= 0.0:
        return 0.0
    return 2 * step_s / -math.log(min(alike, 0.99))
