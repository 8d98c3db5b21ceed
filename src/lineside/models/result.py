"""Result of a measurement on held-out pictures, in the words of a line.

1. Everything is counted from the confusion that the package's own report carries; nothing is
   measured here. Every share has its Wilson interval, rounded outwards.
2. Where some classes reject a part and others do not, by the rule of the verdict on the line, the
   result is about parts: bad ones that slip through, good ones that are rejected, and those that
   go to review.
3. Of kinds, objects, counts and presence labels it is about wrong answers.
4. More pictures help most of the label whose share of right answers surely rose most from half to
   all of the training pictures (the learning curve). Where none surely did, or the report has no
   curve, of the class whose share of answers that were not right may be the highest: the upper end
   of its interval, so that few pictures count as doubt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor

from lineside.core import LinesideError, decode, decode_json
from lineside.models.archive import Package
from lineside.models.manifest import Metric
from lineside.vision.metrics import Interval, is_below, wilson
from lineside.vision.verdict import RejectRule

REPORT_FILE = "evidence/report.json"
_POWER_FILE = "evidence/power-{}.jpeg"
GIVEN_PART = "the data's own test part"
RANDOM_PART = "a test part drawn at random"
PRESENCE = ("absent", "present")
"""Classes of a presence label."""
_NO_DOUBT = 0.05
_INTERVAL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of truth (rows) against answers (columns; the last one is unsure).

    Attributes:
        groups: of each row, how many groups (parts) its pictures are of; () where each picture is
            its own, or rows are no pictures.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """An answer that was not right, the worst first; truth and answer in words.

    The answer is ``said``, as reports have it.
    """

    picture: str
    truth: str
    said: str
    probability: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialFigure:
    """Result of a trivial figure beside the package's.

    Attributes:
        figure: ``mean_grey``, ``contrast``, … (``training.evaluation.baselines``).
        metric: which figure of the package it stands against.
        matched: whether it surely beats the baseline and reaches the package's interval.
    """

    figure: str
    metric: str
    reached: Metric
    package: Metric
    matched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Held-out answers of heads that learned from a share of the training pictures.

    Attributes:
        share: from 0 to 1, of the pictures that a fold learns from; ``pictures``: on average.
        right: share of right answers.
        labels: the same of each class, label or region.
    """

    share: float
    pictures: int
    right: Metric
    labels: Mapping[str, Metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """Results that a share of the training pictures would have reached.

    Attributes:
        points: by share, the last of all pictures; empty where it was not estimated.
        gain: rise of right answers from half to all pictures, -1 to 1, its ``low`` above 0 only
            where a sign test over groups rejects chance too; None without points.
        gains: the same of each class, label or region.
        heads: what learned, in words; where there are no points why not.
    """

    points: tuple[CurvePoint, ...] = ()
    gain: Metric | None = None
    gains: Mapping[str, Metric] = field(default_factory=dict)
    heads: str = ""

    @property
    def helped(self) -> str:
        """The label that surely gained most from the second half; "" for none."""
        sure = {name: gain.value for name, gain in self.gains.items() if gain.low > 0}
        return max(sure, key=sure.__getitem__) if sure else ""

    @property
    def words(self) -> str:
        """Right answers from half of the pictures beside all of them; "" without points."""
        half = next((one for one in self.points if one.share == 0.5), None)
        if half is None or self.gain is None:
            return ""
        small, whole = half.right, self.points[-1].right
        told = (
            f"Of 100 answers {_hundred(small)} would have been right from half of the pictures,"
            f" {_hundred(whole)} from all of them"
        )
        name = self.helped
        if name in half.labels:
            one, other = half.labels[name], self.points[-1].labels[name]
            told += f"; of those on {name} {_hundred(one)} and {_hundred(other)}"
        elif self.gain.low <= 0:
            told += "; that more of the same would help is not sure"
        return f"{told}."


def _hundred(metric: Metric) -> str:
    low, high = floor(100 * metric.low + 1e-9), ceil(100 * metric.high - 1e-9)
    return f"{round(100 * metric.value)} ({low} to {high})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallestSize:
    """Smallest size of which a share of drawn defects is found, with its 95 % interval.

    Each is in network pixels; None: larger than the largest that was drawn.
    """

    size_px: float | None = None
    low_px: float | None = None
    high_px: float | None = None

    @property
    def words(self) -> str:
        """``12 px (8 to more than drawn)``."""
        size, high = (
            "more than drawn" if each is None else f"{each:.0f}"
            for each in (self.size_px, self.high_px)
        )
        if self.size_px is None:
            return "not found" if self.low_px is None else f"not found ({self.low_px:.0f} or more)"
        low = 0.0 if self.low_px is None else self.low_px
        return f"{size} px ({low:.0f} to {high})"


def example_file(kind: str) -> str:
    """Return the package's file that shows an example of a drawn defect."""
    return _POWER_FILE.format(kind.replace(" ", "-"))


def smallest_size(
    sizes_px: Sequence[float], found: Sequence[int], *, n: int, share: float
) -> SmallestSize:
    """The smallest size of which that share is found, as a quantile of n defects.

    The interval is that of order statistics (David and Nagaraja, Order Statistics, 2003, section
    7.1), and assumes nothing but that defects are drawn alike.

    Args:
        sizes_px: that were tried, growing.
        found: of n defects those found at each size or below.
        n: defects.
        share: that is to be found, 0 to 1.
    """

    def size(rank: int) -> float | None:
        """Of the defect of this rank, counted from 1 by the size at which it is found."""
        return next((px for px, count in zip(sizes_px, found, strict=True) if count >= rank), None)

    tail = 1 - (1 - _INTERVAL) / 2
    low = max((k for k in range(1, n + 1) if is_below(share, wrong=k - 1, n=n, confidence=tail)),
              default=0)  # fmt: skip
    high = min((k for k in range(1, n + 1) if is_below(1 - share, wrong=n - k, n=n,
                confidence=tail)), default=n + 1)  # fmt: skip
    middle = ceil(share * n - 1e-9)
    return SmallestSize(size_px=size(middle), low_px=size(low) if low else 0.0, high_px=size(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectPower:
    """Drawn defects of one kind and contrast that are found, by size.

    Attributes:
        contrast: greatest difference from the surroundings, in grey levels of 255 at a mean of 127.
        n: good pictures that such a defect was drawn onto, one each.
        sizes_px: that were tried, growing, in network pixels: length of a line, else diameter.
        found: of n those found at each size or below.
        at_80: smallest size of which 80 % are found; ``at_95`` likewise.
    """

    kind: str
    contrast: float
    n: int
    sizes_px: tuple[float, ...]
    found: tuple[int, ...]
    at_80: SmallestSize
    at_95: SmallestSize


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnExample:
    """Size and contrast of a drawn defect that is shown; whether 80 % of such are found."""

    size_px: float
    contrast: float
    is_found: bool

    def words(self, kind: str) -> str:
        """``hairline of 64 px, 40 grey levels: found in 80 of 100``."""
        answer = "found in 80 of 100" if self.is_found else "not found, the largest drawn"
        return f"{kind} of {self.size_px:.0f} px, {self.contrast:.0f} grey levels: {answer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTest:
    """Defects that a package learned from good parts alone would find.

    Attributes:
        defects: by kind and contrast, the strongest of each kind first; empty where none was drawn.
        pictures: good ones that defects were drawn onto.
        part_px: longer side of the inspected region, in network pixels.
    """

    defects: tuple[DefectPower, ...] = ()
    pictures: int = 0
    part_px: float = 0.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of defects that were drawn."""
        return tuple(dict.fromkeys(one.kind for one in self.defects))

    def example(self, kind: str) -> DrawnExample:
        """The faintest of a kind that is found, at its smallest size; else the largest."""
        mine = [one for one in self.defects if one.kind == kind]
        for one in reversed(mine):
            if one.at_80.size_px is not None:
                size = one.at_80.size_px
                return DrawnExample(size_px=size, contrast=one.contrast, is_found=True)
        strongest = mine[0]
        size = strongest.sizes_px[-1]
        return DrawnExample(size_px=size, contrast=strongest.contrast, is_found=False)

    def size_words(self, smallest: SmallestSize) -> str:
        """Size with interval and share of the part: ``12 px (8 to 16), 3.0 % of the part``."""
        if smallest.size_px is None:
            return smallest.words
        return f"{smallest.words}, {100 * smallest.size_px / self.part_px:.1f} % of the part"

    @property
    def gaps(self) -> tuple[str, ...]:
        """Sentences on what is not found: of each kind the strongest that falls short of 80 %."""
        missed: dict[float, list[DefectPower]] = {}
        for kind in self.kinds:
            mine = [one for one in self.defects if one.kind == kind]
            lost = [one for one in mine if one.at_80.size_px is None]
            if lost:
                missed.setdefault(lost[0].contrast, []).append(lost[0])
        strongest = max((one.contrast for one in self.defects), default=0.0)
        return tuple(
            _gap(of, is_strongest=contrast == strongest)
            for contrast, of in sorted(missed.items(), reverse=True)
        )

    @property
    def words(self) -> str:
        """Smallest sizes at the middle contrast, in a sentence; "" where nothing was drawn."""
        contrasts = sorted({one.contrast for one in self.defects})
        if not contrasts:
            return ""
        contrast = contrasts[len(contrasts) // 2]
        mine = [one for one in self.defects if one.contrast == contrast]
        sizes = [
            f"{_plural(one.kind)} from {one.at_80.words}"
            for one in mine
            if one.at_80.size_px is not None
        ]
        told = f"Of defects drawn onto {self.pictures} good pictures, {contrast:.0f} grey levels"
        if not sizes:
            return f"{told} from their surroundings, no kind is found in 80 of 100."
        return f"{told} from their surroundings, 80 of 100 are found: {', '.join(sizes)}."


def _gap(defects: Sequence[DefectPower], *, is_strongest: bool) -> str:
    names = " and ".join(_plural(one.kind) for one in defects)
    counts = ", ".join(
        f"{one.found[-1]} of {one.n} {_plural(one.kind)} of {one.sizes_px[-1]:.0f} px"
        for one in defects
    )
    level = f"{defects[0].contrast:.0f} grey levels"
    kind = names if is_strongest else f"{names} of {level} or less"
    return f"not usable for {kind}: drawn {level} from their surroundings, {counts} are found"


def _plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("ch") else f"{kind}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveragePoint:
    """Share of pictures answered at one cut, that of wrong answers among them, and its bound.

    Attributes:
        bound: that the error does not exceed, by the same test as ``ErrorBound.bound``.
    """

    answered: float
    error: float
    bound: float


PICTURES = "pictures"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBound:
    """Upper bound of the error among the answers given; unsure ones are none.

    Attributes:
        target: error rate of the policy.
        bound: that the share of wrong answers does not exceed, at the confidence.
        pictures: whose answers it rests on; those of one group are taken as right or wrong
            together, so that the bound is never below the share of wrong answers. Of tasks that
            answer more than once for a picture, so many answers.
        answered: of them.
        wrong: of the answered.
        more: pictures beyond these with which the target rate would be shown, if as many were
            answered and wrong as here; 0 where it is, or where more pictures alone would not do.
        more_groups: the groups that they would be of; 0 where each picture is its own group.
        curve: error against the share answered, the surest first.
        noun: of what is answered, in the plural.
    """

    target: float
    bound: float
    confidence: float
    pictures: int
    answered: int
    wrong: int
    more: int
    curve: tuple[CoveragePoint, ...]
    more_groups: int = 0
    noun: str = PICTURES

    @property
    def need(self) -> str:
        """Images or parts that would show the target rate; "" where it is shown."""
        if self.bound <= self.target:
            return ""
        if not self.more:
            return "more pictures alone would not show it, because too many answers were wrong"
        pictures = f"{self.more} more {self.noun}"
        if self.more_groups and self.noun != PICTURES:
            return f"about {self.more_groups} more pictures, each of another part, would show it"
        if self.more_groups:
            pictures = f"{self.more_groups} more parts (groups) with {pictures}"
        return f"about {pictures} like these would show it"

    @property
    def words(self) -> str:
        """For people: what holds, on what it rests, and what would be needed."""
        if not self.answered:
            return (
                f"None of {self.pictures} {self.noun} held back in training was answered: all are"
                " unsure."
            )
        to = "" if self.noun == PICTURES else f" for {self.noun}"
        shown = f"Of the answers given{to} at most {_percent(self.bound)} are wrong, with"
        told = (
            f"{shown if self.bound < 1 else f'No share of wrong answers{to} could be shown with'}"
            f" {_percent(self.confidence)} confidence: of {self.pictures} {self.noun} held back in"
            f" training {self.answered} were answered, {self.wrong} of them wrongly."
        )
        return f"{told} {_percent(self.target)} was the target: {self.need}." if self.need else told


def _percent(share: float) -> str:
    """Rounded up to a tenth of a percent, so that no bound is made smaller."""
    return f"{ceil(share * 1000 - 1e-6) / 10:g} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredShare:
    """A share of held-out pictures, parts or objects with its words.

    Attributes:
        of: the whole, such as "bad parts".
        does: the predicate, such as "slip through".
        interval: share from 0 to 1, with its 95 % interval and the number it rests on.
    """

    of: str
    does: str
    interval: Interval

    @property
    def count(self) -> str:
        """Of 100; ``fewer than 1`` where some did and rounding would hide them."""
        hundred = 100 * self.interval.value
        return "fewer than 1" if 0 < hundred < 0.5 else str(round(hundred))

    @property
    def bounds(self) -> str:
        """Of 100, rounded outwards: ``1 to 7``."""
        low, high = 100 * self.interval.low, 100 * self.interval.high
        return f"{floor(low + 1e-9)} to {ceil(high - 1e-9)}"

    @property
    def pieces(self) -> tuple[str, str, str]:
        """Words before the count, the count, and the words after it."""
        about = "about " if self.count.isdigit() and self.count != "0" else ""
        return f"of 100 {self.of} {about}", self.count, f" {self.does} ({self.bounds})"

    @property
    def words(self) -> str:
        """``of 100 bad parts about 3 slip through (1 to 7)``."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredResult:
    """Result of a package on held-out pictures.

    Attributes:
        shares: of answers that were wrong or for review, the costliest first.
        gaps: sentences on what could not be measured.
        measured: the pictures that it rests on, as a sentence.
        bounded: how many of the answers given are wrong at most; "" where that is not known.
        advice: of what more pictures would help most, and what half of them would have reached; ""
            where nothing stands out and no curve is known.
        help_label: that class, label or region; "" for none.
        curve: what a share of the training pictures would have reached; None in older reports.
        power: which drawn defects are found, of packages learned from good parts alone.
        confusion: by label or class list.
        mistakes: the worst first.
        warnings: of the report.
    """

    shares: tuple[MeasuredShare, ...]
    gaps: tuple[str, ...]
    measured: str
    bounded: str
    advice: str
    help_label: str
    confusion: Mapping[str, Confusion]
    mistakes: tuple[Mistake, ...]
    warnings: tuple[str, ...]
    curve: LearningCurve | None = None
    power: PowerTest | None = None

    @property
    def headline(self) -> str:
        """Every share in one sentence; the gaps where there is none."""
        told = "; ".join(one.words for one in self.shares)
        return f"{told[:1].upper()}{told[1:]}." if told else " ".join(self.gaps)

    @property
    def words(self) -> str:
        """Headline, gaps, pictures and advice in one line."""
        parts = (
            self.headline, *(self.gaps if self.shares else ()), self.measured, self.bounded,
            "" if self.power is None else self.power.words, self.advice,
        )  # fmt: skip
        return " ".join(part for part in parts if part)


def package_result(package: Package, *, rule: RejectRule | None = None) -> MeasuredResult | None:
    """Return the result that a package's own report tells; None where it has none to tell.

    Args:
        package: whose ``evidence/report.json`` is read.
        rule: answers of the inspection that reject a part; None: by the good labels of its
            training.
    """
    raw = package.files.get(REPORT_FILE)
    own = rule or RejectRule(good=package.manifest.good)
    return None if raw is None else report_result(raw, rule=own)


def report_result(report: bytes, *, rule: RejectRule | None = None) -> MeasuredResult | None:
    """Return the result of a report (JSON); None where it is of another form or measured nothing.

    Args:
        report: of a training or an evaluation.
        rule: answers of the inspection that reject a part; None: the usual words.
    """
    try:
        body = decode_json(report, where=REPORT_FILE)
        if not isinstance(body, dict):
            return None
        confusion = decode(dict[str, Confusion], body.get("confusion", {}), where=REPORT_FILE)
        metrics = decode(dict[str, Metric], body.get("metrics", {}), where=REPORT_FILE)
        mistakes = decode(tuple[Mistake, ...], body.get("mistakes", []), where=REPORT_FILE)
        warnings = decode(tuple[str, ...], body.get("warnings", []), where=REPORT_FILE)
        pictures = decode(int, body.get("validation_pictures", 0), where=REPORT_FILE)
        raw = body.get("error_bound")
        bound = decode(ErrorBound, raw, where=REPORT_FILE) if raw else None
        curve = (
            decode(LearningCurve, raw, where=REPORT_FILE)
            if (raw := body.get("learning_curve"))
            else None
        )
        power = decode(PowerTest, raw, where=REPORT_FILE) if (raw := body.get("power")) else None
    except LinesideError:
        return None
    return measured_result(
        str(body.get("task", "")), confusion=confusion, metrics=metrics, mistakes=mistakes,
        warnings=warnings, pictures=pictures, rule=rule, curve=curve, bound=bound, power=power,
        evidence=str(body.get("evidence", "")),
    )  # fmt: skip


def measured_result(
    task: str,
    *,
    confusion: Mapping[str, Confusion],
    metrics: Mapping[str, Metric],
    mistakes: tuple[Mistake, ...] = (),
    warnings: tuple[str, ...] = (),
    pictures: int,
    rule: RejectRule | None = None,
    curve: LearningCurve | None = None,
    bound: ErrorBound | None = None,
    power: PowerTest | None = None,
    evidence: str = "",
) -> MeasuredResult | None:
    """Return the result of figures; None where they tell nothing of parts, objects or answers.

    Args:
        task: of the package.
        confusion: by label or class list; of objects the last class is nothing.
        metrics: figures by name.
        mistakes: the worst first.
        warnings: sentences that stand beside every figure.
        pictures: held out; 0 where the figures are of cross-validation.
        rule: answers of the inspection that reject a part; None: the usual words.
        curve: of the training; None where none is known.
        bound: of the answers given; None where none is known.
        power: drawn defects that are found; None where none were drawn.
        evidence: where the figures come from; ``GIVEN_PART`` and ``RANDOM_PART`` are named.
    """
    shares, gaps = _shares(task, confusion, metrics=metrics, rule=rule)
    if not shares and not gaps:
        return None
    label = (curve.helped if curve else "") or _most_doubtful(task, confusion)
    is_open = curve is not None and curve.points and not curve.helped
    most = (
        f"The widest doubt is on {label}."
        if is_open
        else f"More pictures of {label} would help most."
    )
    return MeasuredResult(
        shares=shares,
        gaps=gaps,
        measured=_measured(
            pictures, task=task, tables=confusion, metrics=metrics, evidence=evidence
        ),
        bounded="" if bound is None else bound.words,
        advice=" ".join(
            one for one in (most if label else "", curve.words if curve else "") if one
        ),
        help_label=label,
        confusion=confusion,
        mistakes=mistakes,
        warnings=warnings,
        curve=curve,
        power=power,
    )


Shares = tuple[tuple[MeasuredShare, ...], tuple[str, ...]]


def _shares(
    task: str,
    tables: Mapping[str, Confusion],
    *,
    metrics: Mapping[str, Metric],
    rule: RejectRule | None,
) -> Shares:
    if task == "count":
        return _of_counts(metrics)
    if not tables:
        return (), ()
    if task == "multilabel":
        return _of_answers(tables, of="answers", does="are wrong"), ()
    table = next(iter(tables.values()))
    if task == "detect":
        return _of_objects(table, metrics=metrics)
    of_line = rule if rule is not None and task == "classify" else RejectRule()
    is_good = [not of_line.rejects(name) for name in table.classes]
    if any(is_good) and not all(is_good):
        return _of_parts(table, is_good)
    return _of_answers(tables, of="parts", does="are taken for another kind"), ()


def _of_parts(table: Confusion, is_good: list[bool]) -> Shares:
    """Escapes, false rejects and reviews; columns of classes that do not reject let it pass."""
    rows = list(zip(is_good, table.rows, strict=True))
    bad = sum(sum(row) for fine, row in rows if not fine)
    fine = sum(sum(row) for ok, row in rows if ok)
    passed = sum(_sum(row, is_good, wanted=True) for ok, row in rows if not ok)
    rejected = sum(_sum(row, is_good, wanted=False) for ok, row in rows if ok)
    groups = table.groups or tuple(map(sum, table.rows))
    bad_groups = sum(count for count, ok in zip(groups, is_good, strict=True) if not ok)
    fine_groups = sum(groups) - bad_groups
    shares, gaps = [], []
    if bad:
        shares.append(_share(passed, bad, bad_groups, of="bad parts", does="slip through"))
    else:
        gaps.append("No bad part was measured: nothing is known of how many slip through.")
    if fine:
        shares.append(_share(rejected, fine, fine_groups, of="good parts", does="are rejected"))
    else:
        gaps.append("No good part was measured: nothing is known of how many are rejected.")
    unsure = sum(row[-1] for row in table.rows)
    if bad + fine:
        shares.append(
            _share(unsure, bad + fine, sum(groups), of="measured parts", does="go to review")
        )
    return tuple(shares), tuple(gaps)


def _sum(row: tuple[int, ...], is_good: list[bool], *, wanted: bool) -> int:
    return sum(count for count, ok in zip(row, is_good, strict=False) if ok is wanted)


def _of_answers(
    tables: Mapping[str, Confusion], *, of: str, does: str
) -> tuple[MeasuredShare, ...]:
    every = [(place, row) for table in tables.values() for place, row in enumerate(table.rows)]
    whole = sum(sum(row) for _, row in every)
    unsure = sum(row[-1] for _, row in every)
    wrong = whole - unsure - sum(row[place] for place, row in every)
    if not whole:
        return ()
    groups = sum(sum(one.groups or map(sum, one.rows)) for one in tables.values())
    return (
        _share(wrong, whole, groups, of=of, does=does),
        _share(unsure, whole, groups, of=of, does="go to review"),
    )


def _of_objects(table: Confusion, *, metrics: Mapping[str, Metric]) -> Shares:
    """Missed and misnamed objects, and finds where there is none: the last class is nothing.

    Intervals are those of the figures, which are drawn over pictures or groups; of older reports,
    which lack them, as wide as the number of pictures leaves them.
    """
    nothing = len(table.classes) - 1
    truths = table.rows[:nothing]
    there = sum(map(sum, truths))
    found = sum(sum(row) - row[nothing] for row in table.rows)
    pictures = metrics["f1_iou33"].n if "f1_iou33" in metrics else None

    def share(name: str, part: int, whole: int, *, of: str, does: str) -> MeasuredShare:
        if (own := metrics.get(name)) is None:
            return _share(part, whole, pictures, of=of, does=does)
        interval = Interval(value=own.value, low=own.low, high=own.high, n=own.n)
        return MeasuredShare(of=of, does=does, interval=interval)

    shares, gaps = [], []
    if there:
        missed = sum(row[nothing] for row in truths)
        wrong = sum(
            count
            for place, row in enumerate(truths)
            for other, count in enumerate(row[:nothing])
            if other != place
        )
        shares.append(share("missed_objects", missed, there, of="objects", does="are missed"))
        if nothing > 1:
            does = "get another label"
            shares.append(share("mislabelled_objects", wrong, there, of="objects", does=does))
    else:
        gaps.append("No object was in the pictures measured: nothing is known of what is missed.")
    if found:
        empty = sum(table.rows[nothing]) - table.rows[nothing][nothing]
        shares.append(share("empty_boxes", empty, found, of="finds", does="are none"))
    return tuple(shares), tuple(gaps)


def _of_counts(metrics: Mapping[str, Metric]) -> Shares:
    exact = metrics.get("exact")
    if exact is None or not exact.n:
        return (), ()
    wrong = Interval(value=1 - exact.value, low=1 - exact.high, high=1 - exact.low, n=exact.n)
    return (MeasuredShare(of="pictures", does="are counted wrongly", interval=wrong),), ()


def _share(
    part: int, whole: int, groups: int | None = None, *, of: str, does: str
) -> MeasuredShare:
    """A share whose interval is that of so many ``groups``; None: of ``whole``."""
    return MeasuredShare(of=of, does=does, interval=wilson(part, whole, groups=groups))


def _measured(
    pictures: int,
    *,
    task: str,
    tables: Mapping[str, Confusion],
    metrics: Mapping[str, Metric],
    evidence: str,
) -> str:
    if pictures:
        part = f", {evidence}" if evidence in (GIVEN_PART, RANDOM_PART) else ""
        return f"Measured on {_counted(pictures)} it had not seen{part}."
    count = max((metric.n for metric in metrics.values()), default=0)
    if task in ("classify", "segment", "anomaly") and tables:
        count = sum(map(sum, next(iter(tables.values())).rows))
    return f"Cross-validated on {_counted(count)}: each answered by a network that had not seen it."


def _counted(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


def _most_doubtful(task: str, tables: Mapping[str, Confusion]) -> str:
    """Return the class of the worst upper bound of answers that were not right; "" for none."""
    if task == "count":
        return ""
    doubts = [
        (wilson(sum(row) - row[place], sum(row)).high, name)
        for name, place, row in _classes(task, tables)
    ]
    if len(doubts) < 2:
        return ""
    worst, name = max(doubts, key=lambda one: one[0])
    return name if worst > _NO_DOUBT and worst > min(doubts)[0] else ""


def _classes(
    task: str, tables: Mapping[str, Confusion]
) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Every class with its place and its row; of presence labels those that are present."""
    for kind, table in tables.items():
        presence = task == "multilabel" and table.classes == PRESENCE
        for place, (name, row) in enumerate(zip(table.classes, table.rows, strict=True)):
            if task == "detect" and place == len(table.classes) - 1:
                continue
            if presence and place == 0:
                continue
            yield (kind if presence else name), place, row
