"""Strata: what samples are alike in, and how groups of them are spread over parts.

A sample is of one stratum: its rarest label (with several labels, the rare one is what a part can
lack); where no sample has a label, whether objects are marked and in which third of the counts it
lies. A mask makes a stratum of its own beside the label's. Placing takes time linear in the number
of samples, apart from sorting.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineside.datasets.samples import Part, Sample

_COUNT_BANDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A group of samples, placed together.

    Attributes:
        key: of the group.
        place: in [0, 1), of seed and key alone.
        held: how many samples of each stratum.
    """

    key: str
    place: float
    held: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(count for _, count in self.held)


def strata(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The stratum of each sample, as the module says."""
    often = Counter(name for sample in samples for name in sample.labels)
    bands = {} if often else _bands(samples)
    return tuple(_stratum(sample, often=often, bands=bands) for sample in samples)


def _stratum(sample: Sample, *, often: Mapping[str, int], bands: Mapping[int, int]) -> str:
    if sample.labels:
        name = min(sample.labels, key=lambda label: (often[label], label))
    else:
        shown = shown_count(sample)
        name = "" if shown is None or not bands else f"\0count {bands[shown]}"
    return name if sample.mask_digest is None else name + "\0mask"


def shown_count(sample: Sample) -> int | None:
    """Return the number of objects: as stated, else as marked; None where nobody said."""
    if sample.count is not None:
        return sample.count
    return None if sample.marked is None else len(sample.marked)


def _bands(samples: Sequence[Sample]) -> dict[int, int]:
    """The band of each count: 0 for none, then thirds of what is above."""
    counts = sorted(count for sample in samples if (count := shown_count(sample)) is not None)
    above = [count for count in counts if count]
    steps = range(1, _COUNT_BANDS) if above else ()
    cuts = [above[len(above) * step // _COUNT_BANDS] for step in steps]
    return {count: 1 + sum(count >= cut for cut in cuts) if count else 0 for count in set(counts)}


def spread(
    groups: Sequence[Bundle],
    singles: Mapping[str, Sequence[str]],
    *,
    shares: Mapping[Part, float],
) -> dict[str, Part]:
    """The part of each key, so that every stratum and the whole lie near the shares.

    Args:
        groups: in any order; what they hold decides, then their place.
        singles: stratum → keys of samples that stand alone, in the order of their places.
        shares: above 0.
    """
    totals = Counter({name: len(keys) for name, keys in singles.items()})
    for group in groups:
        totals.update(dict(group.held))
    ledger = _Ledger(totals, shares=shares)
    # By doublings of size alone, so that the seed has a say where all sizes differ.
    ordered = sorted(groups, key=lambda g: (-g.size.bit_length(), g.place, g.key))
    placed = {group.key: ledger.take(group) for group in ordered}
    for name in sorted(singles):
        placed.update(ledger.deal(name, singles[name]))
    return placed


class _Ledger:
    """The samples that each part still lacks, of each stratum and of all."""

    def __init__(self, totals: Counter[str], *, shares: Mapping[Part, float]) -> None:
        whole = sum(shares.values())
        self._shares = {part: share / whole for part, share in shares.items()}
        self._totals = totals
        self._lacks = {
            part: {name: share * count for name, count in totals.items()}
            for part, share in self._shares.items()
        }
        self._all = {part: share * totals.total() for part, share in self._shares.items()}

    def take(self, group: Bundle) -> Part:
        """The part that lacks most of what the group holds, against all there is of it."""

        def gain(part: Part) -> tuple[float, float]:
            lacks = self._lacks[part]
            wanted = sum(count * lacks[name] / self._totals[name] for name, count in group.held)
            return wanted, self._all[part]

        best = max(self._shares, key=gain)
        for name, count in group.held:
            self._lacks[best][name] -= count
        self._all[best] -= group.size
        return best

    def deal(self, name: str, keys: Sequence[str]) -> dict[str, Part]:
        """Single samples of one stratum, in order, by quota."""
        open_ = {part: max(0.0, self._lacks[part][name]) for part in self._shares}
        scale = len(keys) / (sum(open_.values()) or 1.0)
        ideal = {part: lack * scale for part, lack in open_.items()}
        quota = {part: int(value + 1e-9) for part, value in ideal.items()}
        for _ in range(len(keys) - sum(quota.values())):
            best = max(quota, key=lambda part: self._want(part, ideal=ideal, quota=quota))
            quota[best] += 1
        dealt: dict[str, Part] = {}
        start = 0
        for part, count in quota.items():
            dealt.update(dict.fromkeys(keys[start : start + count], part))
            self._all[part] -= count
            start += count
        return dealt

    def _want(
        self, part: Part, *, ideal: Mapping[Part, float], quota: Mapping[Part, int]
    ) -> tuple[bool, float]:
        """Of the parts whose quota was cut, the one that lacks most of the whole."""
        return ideal[part] - quota[part] > 1e-9, self._all[part] - quota[part]
