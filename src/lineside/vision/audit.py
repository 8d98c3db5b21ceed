"""Live quality from a random audit: escapes and false rejects with their 95 % intervals.

Parts are drawn at random, each by itself, out of those that passed and out of those that were
rejected, and a person says of each what it is. The two verdicts are the strata (Cochran 1977,
chapter 5); each may be drawn with a share of its own.

1. Within a stratum a rate is that of the parts judged: ``escape``, the bad ones among the parts
   that passed, and ``false_reject``, the good ones among the rejected. Its interval is mid-P
   (``mid_p``): it holds the truth in about 95 % of audits where that of Clopper and Pearson holds
   it in 97 % and more, and it never claims more of 0 of n than the rule of three does.
2. Across the strata, ``missed`` is the share of the bad parts that passed, and ``over_reject`` the
   share of the good parts that were rejected. Each stratum's number is weighted by the inverse of
   its share. Given their sum, one of two such numbers is binomial (Przyborowski and Wilenski 1940),
   so the interval is again mid-P, of the odds divided by those of the shares. Where one stratum
   has no judged part, nobody knows its bad and good ones, and neither rate has a value.
3. The rates are those of the process during the span: what the next part of that verdict would be.

Where less than about three bad (or good) parts are expected, no interval of a binomial share can
hold the truth in just 95 %: that of ``mid_p`` holds it in 96 to 100 %.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lineside.vision.metrics import Interval, mid_p


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStratum:
    """The audited parts of one verdict.

    Attributes:
        good, bad: how many a person found to be so.
        parts: of how many parts of that verdict they are a random choice, or its estimate; above 0
            where any were judged.
    """

    good: int = 0
    bad: int = 0
    parts: float = 0.0

    @property
    def judged(self) -> int:
        """Number of parts that a person judged."""
        return self.good + self.bad


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFigures:
    """Rates of wrong verdicts, each with its 95 % interval; see the rules of this module.

    None where no part was judged that it could rest on; ``missed`` and ``over_reject`` rest on
    parts of both strata.

    Attributes:
        escape: share of the parts passed that are bad.
        false_reject: share of the parts rejected that are good.
        missed: share of the bad parts that passed.
        over_reject: share of the good parts that were rejected.
    """

    escape: Interval | None
    false_reject: Interval | None
    missed: Interval | None
    over_reject: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two people's answers to the same pictures: share that is equal, and Cohen's kappa.

    ``kappa`` is None where all answers are alike: chance alone makes them equal.
    """

    share: Interval
    kappa: float | None


def audit_figures(*, passed: AuditStratum, rejected: AuditStratum) -> AuditFigures:
    """Return the figures of an audit; see the rules of this module."""
    missed = over_reject = None
    if passed.judged and rejected.judged:
        odds = _parts_each(passed) / _parts_each(rejected)
        missed = _share(passed.bad, passed.bad + rejected.bad, odds=odds)
        over_reject = _share(rejected.good, passed.good + rejected.good, odds=1.0 / odds)
    return AuditFigures(
        escape=_share(passed.bad, passed.judged),
        false_reject=_share(rejected.good, rejected.judged),
        missed=missed,
        over_reject=over_reject,
    )


def _parts_each(stratum: AuditStratum) -> float:
    """Number of parts of the stratum that one judged part stands for."""
    return stratum.parts / stratum.judged


def _share(number: int, n: int, *, odds: float = 1.0) -> Interval | None:
    """The share of ``number`` in ``n``, each of which weighs ``odds`` times one of the others."""
    if n == 0:
        return None
    found = mid_p(number, n)
    value, low, high = (
        one * odds / (one * odds + 1.0 - one) for one in (found.value, found.low, found.high)
    )
    return Interval(value=value, low=low, high=high, n=n)


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement | None:
    """Return how far two people agree; ``pairs``: the answers of both to each picture.

    Kappa is the agreement beyond chance (Cohen 1960): 1 is all, 0 what chance gives. None without
    a pair.
    """
    if not pairs:
        return None
    same = mid_p(sum(one == other for one, other in pairs), len(pairs))
    first, second = (Counter(pair[place] for pair in pairs) for place in (0, 1))
    chance = sum(first[one] * second[one] for one in first) / len(pairs) ** 2
    kappa = (same.value - chance) / (1.0 - chance) if chance < 1.0 else None
    return Agreement(share=same, kappa=kappa)
