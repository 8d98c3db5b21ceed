"""Judgement of a release by two packages' results for the same frames, without labels.

1. A release is allowed to differ: each figure has a share of frames that may change, its
   tolerance. What is tested is that more than this share changes.
2. Tests are looked at after every frame, so each is a bet whose fortune stays at its start, on
   average, while the share is within the tolerance (a test martingale). By Ville's inequality it
   ever grows by 1 / error with a chance of at most ``error``, however often somebody looks.
   Shares bet on a grid of larger shares (Robbins 1970). Scores bet on
   exp(lambda x - lambda^2 x^2 / 2), which needs no variance where differences are symmetric about
   their mean (de la Pena 1999), x being what a difference lies beyond its tolerance.
3. ``false_alarm`` is for a whole rollout: it is parted evenly among devices and figures.
4. Latency and crashes are compared with limits: they are facts, not samples.
5. A release goes on only after ``frames`` were judged by both packages on every device.
6. The share of rejects may have a band: a bet that it is above, and one that it is below. Rejects
   are verdicts by the plant file; a device that tells none is not tested.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lineside.core import InvalidError
from lineside.core.codec import above_zero, refuse, unless, zero_or_more
from lineside.fleet.contract import Evidence
from lineside.vision import Prediction
from lineside.vision.difference import difference
from lineside.vision.verdict import PartVerdict, RejectRule, judge_prediction

_GRID = 24
_FRAMES_TO_TIME = 50
_MOST_FRAMES = 100_000
_RATES = ("changed", "rejects_gained", "rejects_lost", "unsure_gained")
_FIGURES = (*_RATES, "score_up", "score_down")
_BAND = ("rejects_below", "rejects_above")


class Verdict(StrEnum):
    """Verdict of the evidence on a release."""

    WAIT = "wait"
    GO_ON = "go on"
    GO_BACK = "go back"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """Limits on how a release may behave on the line.

    Attributes:
        frames: judged by both packages on each device before it goes on.
        changed, rejects_gained, rejects_lost, unsure_gained: shares of frames that may.
        score: mean difference of scores that may be, in [0, 1).
        latency: the new package's median at most, as a multiple of the old one's; looked at after
            50 frames, for few are at the mercy of whatever else the device does.
        latency_ms: what it may be slower in any case: a multiple of next to nothing is nothing.
        latency_p95_ms: limit on the new package's 95th percentile while both packages run, from 50
            frames on; 0: none.
        rejects_least, rejects_most: band of the share of frames that the new package rejects, in
            [0, 1]; 0 and 1: none. Judged where a package before it judges the same frames, and the
            device tells their verdicts by the plant file.
        crashes: so many are allowed.
        false_alarm: chance that a release within its tolerances is taken back, over the rollout.
    """

    frames: int = 200
    changed: float = 0.10
    rejects_gained: float = 0.05
    rejects_lost: float = 0.05
    unsure_gained: float = 0.05
    score: float = 0.10
    latency: float = 2.0
    latency_ms: float = 5.0
    latency_p95_ms: float = 0.0
    rejects_least: float = 0.0
    rejects_most: float = 1.0
    crashes: int = 0
    false_alarm: float = 0.001

    def __post_init__(self) -> None:
        shares = (*_RATES, "score", "false_alarm")
        refuse(
            self,
            *(
                unless(
                    0 < getattr(self, name) < 1, key=name, value=getattr(self, name),
                    expected="a share above 0 and below 1", fix="Write 0.05 for 5 %.",
                )
                for name in shares
            ),
            unless(
                0 <= self.rejects_least < self.rejects_most <= 1, key="rejects_most",
                value=self.rejects_most,
                expected=f"above the least share, {100 * self.rejects_least:g} %, up to 100 %",
                fix="Let rejects_most be the larger one.",
            ),
            unless(
                1 <= self.frames <= _MOST_FRAMES, key="frames", value=self.frames,
                expected=f"from 1 to {_MOST_FRAMES}", fix="Leave it out to take 200.",
            ),
            above_zero(self, "latency"),
            zero_or_more(self, "latency_ms", "latency_p95_ms", "crashes"),
        )  # fmt: skip

    @property
    def figures(self) -> tuple[str, ...]:
        """Figures that are tested: those of every release, and the ends of the band."""
        ends = (self.rejects_least > 0, self.rejects_most < 1)
        return (*_FIGURES, *(name for name, is_set in zip(_BAND, ends, strict=True) if is_set))

    @property
    def sentence(self) -> str:
        """The guard in words: what takes a release back without a person, and when it counts."""
        words = []
        if self.rejects_least > 0 or self.rejects_most < 1:
            words.append(
                f"rejects leave {100 * self.rejects_least:g}-{100 * self.rejects_most:g} %"
            )
        if self.latency_p95_ms:
            words.append(f"p95 > {self.latency_p95_ms:g} ms")
        words.append(f"answers take more than {self.latency:g} times as long")
        words += [
            f"more than {100 * getattr(self, name):g} % of frames {_WORDS[name]}" for name in _RATES
        ]
        words.append(f"scores move by more than {self.score:g}")
        words.append(f"more than {self.crashes} crashes" if self.crashes else "it crashes")
        return (
            f"Goes back by itself if {', '.join(words[:-1])} or {words[-1]}. Shares and scores of a"
            " few frames may lie beyond their limits by chance: they count once the frames show it"
            f" (false alarms in at most {100 * self.false_alarm:g} % of rollouts)."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Verdict on a release with its reasons.

    Attributes:
        reasons: a sentence for each alarm, with its figures; empty without one.
        fortunes: device → figure → logarithm of what the bet grew to.
        needed: logarithm at which a bet is won.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    fortunes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    needed: float


def judge_evidence(found: Sequence[Evidence], limits: LiveLimits, *, devices: int) -> Judgement:
    """Return the verdict on a release.

    Args:
        found: one for each device and inspection that told something.
        limits: what is allowed.
        devices: how many are tried in the whole rollout; the false-alarm rate is parted among
            them.
    """
    tests = max(1, devices, len(found)) * len(limits.figures)
    needed = math.log(tests / limits.false_alarm)
    fortunes = {_name(each): fortunes_of(each, limits) for each in found}
    reasons = [
        *(
            _sentence(each, figure, limits=limits)
            for each in found
            for figure, grown in fortunes[_name(each)].items()
            if grown >= needed
        ),
        *(words for each in found for words in _facts(each, limits)),
    ]
    return Judgement(
        verdict=_verdict(found, limits, alarmed=bool(reasons)),
        reasons=tuple(reasons),
        fortunes=fortunes,
        needed=needed,
    )


def _verdict(found: Sequence[Evidence], limits: LiveLimits, *, alarmed: bool) -> Verdict:
    if alarmed:
        return Verdict.GO_BACK
    enough = bool(found) and all(each.frames >= limits.frames for each in found)
    return Verdict.GO_ON if enough else Verdict.WAIT


def fortunes_of(found: Evidence, limits: LiveLimits) -> dict[str, float]:
    """Figure → logarithm of what its bet grew to."""
    rates = {
        name: rate_fortune(
            getattr(found, name), frames=found.frames, tolerance=getattr(limits, name)
        )
        for name in _RATES
    }
    ups = {
        name: score_fortune(
            sign * found.score_sum,
            squares=found.score_squares,
            frames=found.frames,
            tolerance=limits.score,
        )
        for name, sign in (("score_up", 1), ("score_down", -1))
    }
    return rates | ups | _band_fortunes(found, limits)


def _band_fortunes(found: Evidence, limits: LiveLimits) -> dict[str, float]:
    """The bets that the share of rejects is outside the band, at the ends that are set."""
    if not found.verdicts:
        return {}
    rejects = found.verdict_rejects_new
    ends = {
        "rejects_below": (found.verdicts - rejects, 1 - limits.rejects_least),
        "rejects_above": (rejects, limits.rejects_most),
    }
    return {
        name: rate_fortune(count, frames=found.verdicts, tolerance=share)
        for name, (count, share) in ends.items()
        if name in limits.figures
    }


def rate_fortune(happened: int, *, frames: int, tolerance: float) -> float:
    """Logarithm of a bet that something happens to more than ``tolerance`` of frames.

    Args:
        happened: how often it did.
        frames: out of how many, at least as many.
        tolerance: share in (0, 1).

    Raises:
        InvalidError: it happened more often than there were frames.
    """
    if not 0 <= happened <= frames:
        raise InvalidError(
            f"{happened} of {frames} frames", where="evidence", fix="Count each frame once."
        )
    step = (1 - tolerance) / (_GRID + 1)
    shares = [tolerance + step * (place + 1) for place in range(_GRID)]
    return _mean_of_logs(
        happened * math.log(share / tolerance)
        + (frames - happened) * math.log((1 - share) / (1 - tolerance))
        for share in shares
    )


def score_fortune(total: float, *, squares: float, frames: int, tolerance: float) -> float:
    """Logarithm of a bet that differences are larger than ``tolerance`` on average.

    Args:
        total: sum of the differences, each in [-1, 1].
        squares: sum of their squares.
        frames: how many.
        tolerance: of their mean.
    """
    beyond = total - frames * tolerance
    spread = max(0.0, squares - 2 * tolerance * total + frames * tolerance**2)
    # Below 1 / (1 + tolerance) the bet's gain rises with the difference, so that a mean below the
    # tolerance can only lose.
    largest = 1 / (1 + tolerance)
    stakes = [largest * (place + 1) / _GRID for place in range(_GRID)]
    return _mean_of_logs(stake * beyond - stake**2 * spread / 2 for stake in stakes)


def _mean_of_logs(logs: Iterable[float]) -> float:
    found = list(logs)
    top = max(found)
    return float(top + math.log(math.fsum(math.exp(each - top) for each in found) / len(found)))


def _facts(found: Evidence, limits: LiveLimits) -> list[str]:
    words = []
    if found.crashes > limits.crashes:
        words.append(
            f"{_name(found)}: {found.crashes} crashes since it runs, {limits.crashes} are allowed"
        )
    slow = found.latency_ms_new > limits.latency * found.latency_ms_old > 0
    felt = found.latency_ms_new - found.latency_ms_old > limits.latency_ms
    if slow and felt and found.frames >= _FRAMES_TO_TIME:
        words.append(
            f"{_name(found)}: answers take {found.latency_ms_new:.1f} ms instead of "
            f"{found.latency_ms_old:.1f} ms, {limits.latency:g} times as long is allowed"
        )
    # A device that tells no percentile tells its median, which is below it.
    p95_ms = found.latency_p95_ms or found.latency_ms_new
    if 0 < limits.latency_p95_ms < p95_ms and found.frames >= _FRAMES_TO_TIME:
        words.append(
            f"{_name(found)}: the latency's p95 is {p95_ms:.1f} ms, "
            f"{limits.latency_p95_ms:g} ms is allowed"
        )
    return words


_WORDS = {
    "changed": "decide otherwise",
    "rejects_gained": "have new findings",
    "rejects_lost": "lose findings",
    "unsure_gained": "are newly unsure",
}


def _sentence(found: Evidence, figure: str, *, limits: LiveLimits) -> str:
    if figure in _RATES:
        count = getattr(found, figure)
        return (
            f"{_name(found)}: {count} of {found.frames} frames ({count / found.frames:.1%}) "
            f"{_WORDS[figure]}, {getattr(limits, figure):.1%} may"
        )
    if figure in _BAND:
        return (
            f"{_name(found)}: {found.verdict_rejects_new} of {found.verdicts} frames "
            f"({found.verdict_rejects_new / found.verdicts:.1%}) are rejected, "
            f"{limits.rejects_least:.1%} to {limits.rejects_most:.1%} may"
        )
    return (
        f"{_name(found)}: scores moved by {found.score_sum / found.frames:+.3f} on average over "
        f"{found.frames} frames, {limits.score:g} may"
    )


def _name(found: Evidence) -> str:
    return f"{found.device}/{found.inspection}"


def add_frame(found: Evidence, *, old: Prediction, new: Prediction, rule: RejectRule) -> Evidence:
    """The evidence with one more frame that both judged; ``rule``: which answers reject."""
    if old.count is not None and new.count is not None:  # the trigger's message is about both
        old = replace(old, count=replace(old.count, expected=new.count.expected))
    seen = difference(old, new, good=rule.good)
    return replace(
        found,
        frames=found.frames + 1,
        changed=found.changed + seen.changed,
        rejects_old=found.rejects_old + seen.found_before,
        rejects_gained=found.rejects_gained + seen.gained,
        rejects_lost=found.rejects_lost + seen.lost,
        verdicts=found.verdicts + 1,
        verdict_rejects_old=found.verdict_rejects_old + _rejects(old, rule),
        verdict_rejects_new=found.verdict_rejects_new + _rejects(new, rule),
        unsure_old=found.unsure_old + seen.unsure_before,
        unsure_gained=found.unsure_gained + seen.unsure_gained,
        score_sum=found.score_sum + seen.score,
        score_squares=found.score_squares + seen.score**2,
    )


def _rejects(prediction: Prediction, rule: RejectRule) -> bool:
    return judge_prediction(prediction, rule).verdict is PartVerdict.REJECT
