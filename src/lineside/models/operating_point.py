"""Operating point of an inspection: its limits and what mistakes cost, apart from the package.

1. A point belongs to one inspection and one package, which it names by its digest. It replaces the
   package's own limits by others of the same names and changes nothing else: no weights, no
   calibration. A package without a point decides by its own limits.
2. A limit is a pair on one score: from ``low`` on a part is for review, above ``high`` it has what
   the score stands for. The score is a calibrated probability (0-1) for labels, classes, masks and
   objects, and the distance from good parts for anomalies. Of more than two classes each has one
   limit (low = high): from there on the class is possible. So has a count of objects: what is above
   it is counted. A count of numbers has none.
3. A limit that a picture's score can never reach says nothing. Probabilities of classes and masks
   are recorded within the floor of the package: a limit lies inside, or is 0 or 1 for never.
4. ``ruled`` (what a device decides by) and ``decide_again`` (what a recorded answer becomes) give
   the same decisions; objects below the limit of their time were not recorded.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from lineside.core import Digest, Fault, InvalidError, RefusedError, decode_fast, digest_of, encode
from lineside.core.codec import faults_error
from lineside.models.manifest import Manifest
from lineside.models.versions import Status, Verdict
from lineside.vision import ClassRule, Decision, Prediction
from lineside.vision.anomaly import decide_anomaly
from lineside.vision.decide import class_decisions, decide_probabilities, says_good
from lineside.vision.detections import count_again
from lineside.vision.masks import MaskRule, probability_score, score_probability
from lineside.vision.metrics import LimitRow
from lineside.vision.prediction import PictureState
from lineside.vision.verdict import PartVerdict, RejectRule, judge_prediction

if TYPE_CHECKING:
    from lineside.store import Document, Documents

POINT_KIND = "operating-point"
OBJECTS, ANOMALY = "objects", "anomaly"
_DEFECT = "defect"  # the score of reports whose classes are a good one and others
_HIGHEST_SCORE = 1e6
_HIGHEST_COST = 1e9
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one score.

    Attributes:
        name: of the label or class; ``objects`` of boxes, ``anomaly`` of anomalies.
        low: from here on (above it, for anomalies and objects) a part is for review.
        high: above it the answer is given; from ``low`` to ``high`` it is unsure.
    """

    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Cost of each mistake, in the plant's own currency; 0 and above."""

    good_rejected: float = 1.0
    bad_passed: float = 10.0
    review: float = 0.2

    def __post_init__(self) -> None:
        for name in ("good_rejected", "bad_passed", "review"):
            if not 0 <= getattr(self, name) <= _HIGHEST_COST:
                raise InvalidError("a cost from 0", where=f"costs.{name}", fix="Write its price.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """``lineside.operating_point/1``: what is signed and what a device decides by.

    Attributes:
        version: of the inspection's points, from 1; a device takes no lower one for its package.
        limits: those that differ from the package's own, and any others of it.
        by, at, reason: of the proposal.
        approved_by, approved_at: of the decision.
    """

    inspection: str
    package: Digest
    version: int
    limits: tuple[Limits, ...]
    by: str
    at: datetime
    reason: str
    approved_by: str
    approved_at: datetime
    costs: Costs = field(default_factory=Costs)
    schema: Literal["lineside.operating_point/1"] = "lineside.operating_point/1"

    @property
    def digest(self) -> Digest:
        """Of its canonical bytes; predictions name it."""
        return digest_of(encode(self))

    @property
    def words(self) -> str:
        """Version, limits and approval in a line."""
        limits = ", ".join(f"{one.name} {one.low:.3g} / {one.high:.3g}" for one in self.limits)
        return (
            f"decided by operating point {self.version} ({limits}),"
            f" approved by {self.approved_by}: {self.reason}"
        )


def own_limits(manifest: Manifest) -> tuple[Limits, ...]:
    """Return the limits that a package brings; none for a task that has no limit to set."""
    cut = manifest.policy.present_above
    match manifest.task:
        case "multilabel":
            return tuple(
                Limits(name=one.name, low=one.low, high=one.high)
                if cut is None
                else Limits(name=one.name, low=cut, high=cut)
                for one in manifest.rules
            )
        case "classify" if manifest.classes is not None:
            return _class_limits(manifest.classes, good=manifest.good)
        case "segment" if (mask := manifest.mask) is not None:
            low, high = (
                score_probability(score, mask) if cut is None else cut
                for score in (mask.absent_below, mask.present_above)
            )
            return (Limits(name=mask.label, low=min(low, high), high=high),)
        case "detect" | "count" if (boxes := manifest.detect) is not None:
            high = boxes.cut if manifest.task == "count" else boxes.unsure_below
            return (Limits(name=OBJECTS, low=boxes.cut, high=high),)
        case "anomaly" if (anomaly := manifest.anomaly) is not None and anomaly.usable:
            return (Limits(name=ANOMALY, low=anomaly.unsure_above, high=anomaly.limit),)
        case _:
            return ()


def _class_limits(rule: ClassRule, *, good: Collection[str]) -> tuple[Limits, ...]:
    """Of two classes one pair for the bad one; of more, one limit for each."""
    if len(rule.labels) != 2:
        pairs = zip(rule.labels, rule.cuts, strict=True)
        return tuple(Limits(name=name, low=cut, high=cut) for name, cut in pairs)
    bad = _bad_class(rule, good=good)
    possible, other = rule.cuts[bad], 1.0 - rule.cuts[1 - bad]
    return (Limits(name=rule.labels[bad], low=min(possible, other), high=max(possible, other)),)


def _bad_class(rule: ClassRule, *, good: Collection[str]) -> int:
    first, second = (says_good(one, named=good) for one in rule.labels)
    return 0 if second and not first else 1


def has_single_limits(manifest: Manifest) -> bool:
    """Return whether each limit is one number: of counts, and of more than two classes."""
    many = manifest.classes is not None and len(manifest.classes.labels) > 2
    return manifest.task == "count" or (manifest.task == "classify" and many)


def check_limits(manifest: Manifest, limits: Iterable[Limits]) -> tuple[Limits, ...]:
    """Return limits that a package can decide by.

    Raises:
        InvalidError: a fault for each name that the package does not have or that comes twice, and
            for each pair that is out of range or the wrong way round.
    """
    known = {one.name: one for one in own_limits(manifest)}
    if not known:
        raise InvalidError(
            f"this package of the task {manifest.task} has no limits to set",
            where=manifest.name,
            fix="Train a package of another task, or on marked objects where it counts.",
        )
    given = tuple(limits)
    most = _HIGHEST_SCORE if manifest.task == "anomaly" else 1.0
    single = has_single_limits(manifest)
    floor = _recorded_floor(manifest)
    faults = [
        fault
        for place, one in enumerate(given)
        for fault in (
            *_faults(one, place, known=known, most=most, single=single),
            *_floor_faults(one, place, own=known.get(one.name), floor=floor),
        )
    ]
    names = [one.name for one in given]
    if not given or len(set(names)) != len(names):
        faults.append(_fault("limits", names, "one pair or more, each name once"))
    if manifest.task == "segment" and manifest.mask is not None and not manifest.mask.slope > 0:
        faults.append(_fault("limits", manifest.mask.slope, "a mask rule whose slope is above 0"))
    if faults:
        raise faults_error(faults, where="operating point")
    return given


def _faults(
    one: Limits, place: int, *, known: Mapping[str, Limits], most: float, single: bool
) -> list[Fault]:
    path, found = f"limits[{place}]", []
    if one.name not in known:
        found.append(_fault(f"{path}.name", one.name, f"one of {', '.join(known)}"))
    for name, value in (("low", one.low), ("high", one.high)):
        if not 0 <= value <= most:
            found.append(_fault(f"{path}.{name}", value, f"a number from 0 to {most:g}"))
    if not one.low <= one.high:
        found.append(_fault(f"{path}.low", one.low, f"at most high, {one.high:g}"))
    if single and one.low != one.high:
        found.append(_fault(f"{path}.high", one.high, "low again: one limit decides here"))
    if one.name == OBJECTS and not one.low > 0:
        found.append(_fault(f"{path}.low", one.low, "above 0"))
    return found


def _recorded_floor(manifest: Manifest) -> float:
    """Return how near to 0 and 1 probabilities are recorded that decisions see exactly; 0: all."""
    if manifest.task == "classify" and manifest.classes is not None:
        return manifest.classes.floor
    return manifest.mask.floor if manifest.task == "segment" and manifest.mask is not None else 0.0


def _floor_faults(one: Limits, place: int, *, own: Limits | None, floor: float) -> list[Fault]:
    """Refuse what recorded answers cannot be held against; the package's own limits may stay."""
    found, pairs = [], [("low", one.low, 0), ("high", one.high, 1)]
    for name, value, never in pairs[: 1 if one.low == one.high else 2]:
        is_own = own is not None and value == getattr(own, name)
        inside = not floor or floor < value < 1 - floor
        if 0 <= value <= 1 and not inside and not is_own and value != never:
            expected = (
                f"above {floor:g} and below {1 - floor:g}, as probabilities are recorded no nearer"
                f" to 0 and 1; or {never} for never"
            )
            found.append(_fault(f"limits[{place}].{name}", value, expected))
    return found


def _fault(path: str, value: object, expected: str) -> Fault:
    return Fault(path=f"$.{path}", value=repr(value)[:80], expected=expected, fix="Correct it.")


def check_point(point: OperatingPoint, manifest: Manifest, *, package: str) -> None:
    """Refuse an operating point that is not for this package.

    Raises:
        InvalidError: for another package or inspection, or limits that it cannot decide by.
    """
    if point.package != package or manifest.inspection not in ("", point.inspection):
        raise InvalidError(
            f"the operating point is for {point.package} of {point.inspection!r}",
            where=f"operating point {point.version}",
            fix="Propose one for the package that is in use.",
        )
    check_limits(manifest, point.limits)


def ruled(manifest: Manifest, limits: Iterable[Limits]) -> Manifest:
    """Return the manifest with these limits in place of its own; those not named stay."""
    given = {one.name: one for one in limits}
    if not given:
        return manifest
    effective = [given.get(one.name, one) for one in own_limits(manifest)]
    changed = replace(manifest, policy=replace(manifest.policy, present_above=None))
    match manifest.task:
        case "multilabel":
            pairs = zip(manifest.rules, effective, strict=True)
            rules = tuple(replace(rule, low=one.low, high=one.high) for rule, one in pairs)
            changed = replace(changed, rules=rules)
        case "classify" if (classes := manifest.classes) is not None:
            cuts = _cuts(classes, effective, good=manifest.good)
            changed = replace(changed, classes=replace(classes, cuts=cuts))
        case "segment" if (mask := manifest.mask) is not None:
            low, high = effective[0].low, effective[0].high
            rule = replace(
                mask,
                absent_below=probability_score(low, mask) if low > 0 else 0.0,
                present_above=probability_score(high, mask) if high < 1 else 1.0,
            )
            changed = replace(changed, mask=rule)
        case "detect" | "count" if (boxes := manifest.detect) is not None:
            low, high = effective[0].low, effective[0].high
            if manifest.task == "count":
                high = max(low, boxes.unsure_below)
            changed = replace(changed, detect=replace(boxes, cut=low, unsure_below=high))
        case "anomaly" if (anomaly := manifest.anomaly) is not None:
            low, high = effective[0].low, effective[0].high
            changed = replace(changed, anomaly=replace(anomaly, unsure_above=low, limit=high))
    return changed


def _cuts(rule: ClassRule, limits: list[Limits], *, good: Collection[str]) -> tuple[float, ...]:
    if len(rule.labels) != 2:
        return tuple(one.low for one in limits)
    cuts, bad = [0.0, 0.0], _bad_class(rule, good=good)
    cuts[bad], cuts[1 - bad] = limits[0].low, 1.0 - limits[0].high
    return tuple(cuts)


def decide_again(
    prediction: Prediction, manifest: Manifest, *, recorded: Manifest | None = None
) -> Prediction:
    """Return a recorded answer as a package with these rules would have decided it.

    Args:
        prediction: by the package of the manifest, whatever its limits were.
        manifest: of ``ruled``.
        recorded: the rules that decided then, where they are known. An object's recorded
            probability is that of its label as well, so that a cut which is not higher than theirs
            leaves out none.
    """
    if prediction.state is not PictureState.OK:
        return prediction
    labels, again = prediction.labels, prediction
    match manifest.task:
        case "multilabel" if len(labels) == len(manifest.rules):
            chances = np.array([one.probability for one in labels])
            found = decide_probabilities(chances, manifest.rules, policy=manifest.policy)
            again = replace(prediction, labels=found)
        case "classify" if (classes := manifest.classes) is not None and labels:
            words = class_decisions(np.array([one.probability for one in labels]), classes)
            pairs = zip(labels, words, strict=True)
            found = tuple(replace(one, decision=word) for one, word in pairs)
            again = replace(prediction, labels=found)
        case "segment" if manifest.mask is not None and labels:
            (limits,) = own_limits(manifest)
            decision = _decision(labels[0].probability, limits)
            again = replace(prediction, labels=(replace(labels[0], decision=decision),))
        case "detect" | "count" if (rule := manifest.detect) is not None:
            earlier = recorded.detect if recorded is not None else None
            keeps_all = earlier is not None and rule.cut <= earlier.cut
            boxes = tuple(
                replace(one, decision=_of_box(one.probability >= rule.unsure_below))
                for one in prediction.boxes
                if keeps_all or one.probability > rule.cut
            )
            again = replace(prediction, boxes=boxes)
            if prediction.count is not None and manifest.count is not None:
                count = count_again(prediction.count, value=len(boxes), rule=manifest.count)
                again = replace(again, count=count)
        case "anomaly" if manifest.anomaly is not None and prediction.anomaly is not None:
            answer = decide_anomaly(prediction.anomaly.score, manifest.anomaly)
            again = replace(prediction, anomaly=answer)
    return again


def _of_box(sure: bool) -> Decision:  # noqa: FBT001  what a comparison gave
    return Decision.PRESENT if sure else Decision.UNSURE


def _decision(chance: float, limits: Limits) -> Decision:
    if chance > limits.high:
        return Decision.PRESENT
    return Decision.ABSENT if chance < limits.low else Decision.UNSURE


def score_of(prediction: Prediction, name: str) -> float | None:
    """Return the score that a limit of this name is held against; None where there is none."""
    if prediction.state is not PictureState.OK:
        return None
    if name == ANOMALY and prediction.anomaly is not None:
        return prediction.anomaly.score
    if name == OBJECTS:
        return max((one.probability for one in prediction.boxes), default=0.0)
    return next((one.probability for one in prediction.labels if one.name == name), None)


# ---- effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Parts of one kind of change, with the frames of a few."""

    before: PartVerdict
    after: PartVerdict
    count: int
    frames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEffect:
    """Effect of limits on recorded frames; each counts as a part.

    Attributes:
        before, after: verdict → frames; each adds up to ``frames``.
        changes: by kind, the most frequent first; they add up to ``changed``.
        note: a sentence where the effect cannot be told exactly; "": it can.
    """

    frames: int
    before: Mapping[PartVerdict, int]
    after: Mapping[PartVerdict, int]
    changed: int
    changes: tuple[Change, ...]
    note: str = ""


def recorded_effect(
    predictions: Iterable[Prediction],
    *,
    before: Manifest,
    after: Manifest,
    rule: RejectRule,
    decided_by: str | None = None,
    examples: int = 6,
) -> RecordedEffect:
    """Return what changes on recorded frames from one manifest of ``ruled`` to another.

    Args:
        predictions: recorded answers of the package.
        before: its manifest with the limits in force.
        after: its manifest with other limits.
        rule: from answers to verdicts.
        decided_by: digest of the point of ``before``, "" for the package's own limits: what was
            recorded by it stands as it was decided. None: everything is decided again.
        examples: frames named of each kind.
    """
    kinds: dict[tuple[PartVerdict, PartVerdict], list[str]] = {}
    for one in predictions:
        stands = decided_by is not None and one.operating_point == decided_by
        recorded = before if stands else None
        was = one if stands else decide_again(one, before)
        now = was if after == before else decide_again(one, after, recorded=recorded)
        kind = (judge_prediction(was, rule).verdict, judge_prediction(now, rule).verdict)
        kinds.setdefault(kind, []).append(one.frame.id)
    changes = [
        Change(before=old, after=new, count=len(frames), frames=tuple(frames[:examples]))
        for (old, new), frames in kinds.items()
        if old is not new
    ]
    return RecordedEffect(
        frames=sum(map(len, kinds.values())),
        before=_sums(kinds, lambda kind: kind[0]),
        after=_sums(kinds, lambda kind: kind[1]),
        changed=sum(one.count for one in changes),
        changes=tuple(sorted(changes, key=lambda one: (-one.count, one.before, one.after))),
        note=_note(before, after),
    )


def _note(before: Manifest, after: Manifest) -> str:
    one, other = before.detect, after.detect
    if one is None or other is None:
        return ""
    several = (
        "Of several labels an object's recorded probability is that of its label as well: with a"
        " higher low limit some objects count as gone that the device would still tell."
        if len(one.labels) > 1 and other.cut > one.cut
        else ""
    )
    if after.task == "count" and other.cut != one.cut:
        below = (
            "; objects below the limit of their time were not recorded, so more would be counted"
        )
        return (
            "The interval of a count is as wide as with the package's own limit, for which alone"
            f" it was measured how often it holds{below if other.cut < one.cut else ''}. {several}"
        ).rstrip()
    return several


def _sums(
    kinds: Mapping[tuple[PartVerdict, PartVerdict], list[str]],
    side: Callable[[tuple[PartVerdict, PartVerdict]], PartVerdict],
) -> dict[PartVerdict, int]:
    found = dict.fromkeys((PartVerdict.OK, PartVerdict.REVIEW, PartVerdict.REJECT), 0)
    for kind, frames in kinds.items():
        found[side(kind)] += len(frames)
    return found


# ---- parts that the package has not seen


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenEffect:
    """Effect of limits on the held-out parts of a package's own report.

    Attributes:
        bad, good: parts with and without what the limit's name stands for; of counts all, twice.
        escapes, bad_review: of the bad, those below both limits, and those between them.
        false_rejects, good_review: of the good, those above both, and those between them. Of
            counts ``escapes`` were counted too low and ``false_rejects`` too high.
    """

    bad: int
    good: int
    escapes: int
    bad_review: int
    false_rejects: int
    good_review: int

    def cost(self, costs: Costs, *, bad_share: float) -> float:
        """Cost of a thousand parts, of which ``bad_share`` (0-1) are bad."""
        bad, good = 1000.0 * bad_share / max(1, self.bad), 1000.0 * (1 - bad_share)
        good /= max(1, self.good)
        return bad * (self.escapes * costs.bad_passed + self.bad_review * costs.review) + good * (
            self.false_rejects * costs.good_rejected + self.good_review * costs.review
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenScores:
    """Held-out scores of one limit: how many lie at or below each cut.

    Attributes:
        cuts: ascending.
        bad_below: bad parts at or below the cut; the last one is all of them.
        good_above: good parts above the cut; the first one is all of them.
        floor: limits lie above it and below 1 - floor, or are 0 or 1.
        scope: words for what the scores are of where that is more than the limit's own name.
    """

    cuts: tuple[float, ...]
    bad_below: tuple[int, ...]
    good_above: tuple[int, ...]
    floor: float = 0.0
    scope: str = ""

    def effect(self, limits: Limits) -> UnseenEffect:
        """Return what becomes of the parts with these limits.

        Exact where a limit is a cut. Between two cuts every bad part there counts as below it and
        every good one as above it, so that no mistake is left out.
        """
        escapes, missed = self._bad_at(limits.low), self._bad_at(limits.high)
        rejects, doubted = self._good_at(limits.high), self._good_at(limits.low)
        return UnseenEffect(
            bad=self.bad_below[-1], good=self.good_above[0], escapes=escapes,
            bad_review=missed - escapes, false_rejects=rejects, good_review=doubted - rejects,
        )  # fmt: skip

    def bars(self, edges: Iterable[float]) -> tuple[tuple[int, int], ...]:
        """Return the (good, bad) parts between each edge and the next one; edges ascend."""
        counts = [(self._good_at(edge), self._bad_at(edge)) for edge in edges]
        counts[:1] = [(self.good_above[0], 0)]
        return tuple(
            (good - good_after, bad_after - bad)
            for (good, bad), (good_after, bad_after) in pairwise(counts)
        )

    def cheapest(
        self, name: str, costs: Costs, *, bad_share: float, single: bool = False
    ) -> Limits:
        """Return the limits of least cost, the lowest of several; ``single``: with low = high."""
        bad, good = np.array(self.bad_below, float), np.array(self.good_above, float)
        of_bad = bad_share / max(1.0, bad[-1])
        of_good = (1.0 - bad_share) / max(1.0, good[0])
        low = of_bad * bad * (costs.bad_passed - costs.review) + of_good * good * costs.review
        high = of_bad * bad * costs.review + of_good * good * (costs.good_rejected - costs.review)
        if self.floor:
            cuts = np.array(self.cuts)
            inside = (cuts > self.floor) & (cuts < 1 - self.floor)
            low = np.where(inside | (cuts == 0), low, np.inf)
            high = np.where(inside | (cuts == 1), high, np.inf)
        best = low if single else np.minimum.accumulate(low)
        upper = int(np.argmin(best + high))
        lower = upper if single else int(np.argmin(low[: upper + 1]))
        return Limits(name=name, low=self.cuts[lower], high=self.cuts[upper])

    def _bad_at(self, limit: float) -> int:
        """Bad parts at or below the first cut that is not below a limit; all where all are."""
        return self.bad_below[min(bisect_left(self.cuts, limit), len(self.cuts) - 1)]

    def _good_at(self, limit: float) -> int:
        """Good parts above the last cut that is not above a limit; all where all are."""
        return self.good_above[max(0, bisect_right(self.cuts, limit) - 1)]


def unseen_scores(
    manifest: Manifest, tables: Mapping[str, tuple[LimitRow, ...]]
) -> dict[str, UnseenScores]:
    """Return the held-out scores of each limit that the package's report has a table of.

    Args:
        manifest: of the package.
        tables: ``limits`` of its report, by score.
    """
    found, labels = {}, {rule.name: rule.label for rule in manifest.rules}
    for one in own_limits(manifest):
        is_pair = manifest.task == "classify" and len(own_limits(manifest)) == 1
        rows, scope = tables.get(one.name) or (tables.get(_DEFECT) if is_pair else None), ""
        if not rows and (rows := tables.get(labels.get(one.name, ""))):
            scope = f"{labels[one.name]} over all regions"
        if not rows:
            continue
        if manifest.task == "segment" and manifest.mask is not None:
            rows = _probability_rows(rows, manifest.mask)
        found[one.name] = UnseenScores(
            cuts=tuple(row.cut for row in rows), bad_below=tuple(row.escapes for row in rows),
            good_above=tuple(row.over_rejects for row in rows), floor=_recorded_floor(manifest),
            scope=scope,
        )  # fmt: skip
    return found


def _probability_rows(rows: Iterable[LimitRow], mask: MaskRule) -> tuple[LimitRow, ...]:
    """Return the rows of a mask's scores as those of probabilities, one at 0 and one at 1 each."""
    found: list[LimitRow] = []
    for row in rows:
        chance = score_probability(row.cut, mask)
        if chance >= 1 - mask.floor:
            found = [*(one for one in found if one.cut < 1), replace(row, cut=1.0)]
        elif chance > mask.floor or not found:
            found.append(replace(row, cut=chance if chance > mask.floor else 0.0))
    return tuple(found)


# ---- versions


@dataclass(frozen=True, slots=True, kw_only=True)
class PointVersion:
    """A version of an inspection's operating point, with every decision about it.

    Attributes:
        number: of the inspection's versions, from 1.
        rolled_back_to: the version whose limits it takes over; 0: it was proposed.
        waves: whether a rollout brings it to devices, so that it is not in force for the site yet.
    """

    inspection: str
    number: int
    package: Digest
    limits: tuple[Limits, ...]
    costs: Costs
    by: str
    at: datetime
    reason: str
    status: Status = Status.PENDING
    verdicts: tuple[Verdict, ...] = ()
    rolled_back_to: int = 0
    waves: bool = False

    @property
    def name(self) -> str:
        """``inspection/number``."""
        return f"{self.inspection}/{self.number}"

    @property
    def point(self) -> OperatingPoint | None:
        """The point that is signed and carried out; None unless it is approved."""
        if self.status is not Status.APPROVED:
            return None
        verdict = self.verdicts[-1]
        return OperatingPoint(
            inspection=self.inspection, package=self.package, version=self.number,
            limits=self.limits, costs=self.costs, by=self.by, at=self.at, reason=self.reason,
            approved_by=verdict.by, approved_at=verdict.at,
        )  # fmt: skip


def point_versions(documents: "Documents", inspection: str) -> tuple[PointVersion, ...]:
    """Return the versions of an inspection, by number."""
    found: list[PointVersion] = []
    after = f"{inspection}/"
    while page := documents.page(POINT_KIND, after=after, limit=_PAGE):
        mine = [one for one in page if one.id.startswith(f"{inspection}/")]
        found += map(read_version, mine)
        if len(mine) < len(page):
            break
        after = page[-1].id
    return tuple(found)


def version_in_force(documents: "Documents", inspection: str, package: str) -> PointVersion | None:
    """Return the version that a package decides by; None for its own limits.

    One that goes in waves is not: devices that it came to are told of it one by one.
    """
    approved = approved_versions(documents, inspection, package)
    return next((one for one in approved if not one.waves), None)


def approved_versions(
    documents: "Documents", inspection: str, package: str
) -> tuple[PointVersion, ...]:
    """Return the approved versions of a package, the highest number first."""
    return tuple(
        one
        for one in reversed(point_versions(documents, inspection))
        if one.package == package and one.status is Status.APPROVED
    )


def point_named(documents: "Documents", inspection: str, digest: str) -> OperatingPoint | None:
    """Return an approved point by its digest; None for "", the package's own limits.

    Raises:
        RefusedError: no approved point of the inspection has it.
    """
    if not digest:
        return None
    for one in point_versions(documents, inspection):
        if one.point is not None and one.point.digest == digest:
            return one.point
    raise RefusedError(
        f"the operating point {digest} is not known here",
        where=inspection,
        fix="Ask the hub that approved it.",
    )


def read_version(document: "Document") -> PointVersion:
    """The version that a document holds."""
    return decode_fast(PointVersion, encode(document.body), where=f"{document.kind} {document.id}")
