"""Judgement of a release by two packages' results for the same frames, without labels.

1. A release is allowed to differ: each figure has a share of frames that may change, its
   tolerance. What is tested is that more than this share changes.
2. Tests are looked at after every frame, so each is a bet whose fortune stays at its start, on
   average, while the share is within the tolerance (a test martingale). By Ville's inequality it
   ever grows by 1 / error with a chance of at most ``error``, however often somebody looks.
   Shares bet on a grid of larger shares (Robbins 1970). Scores bet on
   exp(lambda x - lambda^2 x^2 / 2), which needs no variance where differences are symmetric about
   their mean (de la Pena 1999), x being what a difference lies beyond its tolerance.
3. ``false_alarm`` is for a whole roll-out: it is parted evenly among devices and figures.
4. Latency and crashes are compared with limits: they are facts, not samples.
5. A release goes on only after ``frames`` were judged by both packages on every device.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lineside.core import InvalidError
from lineside.fleet.contract import Evidence

_GRID = 24
_FRAMES_TO_TIME = 50
_MOST_FRAMES = 100_000
_RATES = ("changed", "rejects_gained", "rejects_lost", "unsure_gained")
_FIGURES = (*_RATES, "score_up", "score_down")


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
        crashes: so many are allowed.
        false_alarm: chance that a release within its tolerances is taken back, over the roll-out.
    """

    frames: int = 200
    changed: float = 0.10
    rejects_gained: float = 0.05
    rejects_lost: float = 0.05
    unsure_gained: float = 0.05
    score: float = 0.10
    latency: float = 2.0
    latency_ms: float = 5.0
    crashes: int = 0
    false_alarm: float = 0.001

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in (*_RATES, "score", "false_alarm")}
        for name, value in shares.items():
            if not 0 < value < 1:
                raise InvalidError(f"{value} is no share", where=name, fix="Above 0, below 1.")
        if not 1 <= self.frames <= _MOST_FRAMES or self.latency <= 0 or self.crashes < 0:
            raise InvalidError(
                f"frames 1 to {_MOST_FRAMES}, latency above 0, crashes 0 or more", where="limits",
                fix="Leave them out to take the defaults.",
            )  # fmt: skip


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
        devices: how many are tried in the whole roll-out; the false-alarm rate is parted among
            them.
    """
    tests = max(1, devices, len(found)) * len(_FIGURES)
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
    return rates | ups


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
    return words


_WORDS = {
    "changed": "decide otherwise",
    "rejects_gained": "are newly rejected",
    "rejects_lost": "are no longer rejected",
    "unsure_gained": "are newly unsure",
}


def _sentence(found: Evidence, figure: str, *, limits: LiveLimits) -> str:
    if figure in _RATES:
        count = getattr(found, figure)
        return (
            f"{_name(found)}: {count} of {found.frames} frames ({count / found.frames:.1%}) "
            f"{_WORDS[figure]}, {getattr(limits, figure):.1%} may"
        )
    return (
        f"{_name(found)}: scores moved by {found.score_sum / found.frames:+.3f} on average over "
        f"{found.frames} frames, {limits.score:g} may"
    )


def _name(found: Evidence) -> str:
    return f"{found.device}/{found.inspection}"
