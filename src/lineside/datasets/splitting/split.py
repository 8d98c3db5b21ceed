"""Splits and folds without surprises: by group, by content, the same on every machine.

1. What shares a group stays together; a sample without a group stands alone.
2. A declared part is honoured, and draws the rest of its group with it.
3. Stratified, each stratum (label, count or mask: ``strata``) is spread over the parts by
   the shares: groups first, the largest first, each to the part that lacks most of what it holds;
   then single samples in the order of a hash of seed and sample, exactly by quota, and what
   is left of the quotas goes where the whole lacks most.
4. Not stratified, a hash of seed and group alone places each, so that adding samples moves none
   of the old ones.
5. The order of samples changes nothing. Only a part that would stay empty takes the group that lay
   nearest to it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from lineside.core import Digest, InvalidError
from lineside.datasets.samples import Part, Sample
from lineside.datasets.splitting.exact import EXACT_RULES, split_exactly
from lineside.datasets.splitting.grouping import grouped
from lineside.datasets.splitting.strata import Bundle, spread, strata

By = Literal["group", "sample"]
_DEFAULT_SHARES = {Part.TRAIN: 0.8, Part.VALID: 0.2}
_GROUP = "g:"
_PARTS = (Part.TRAIN, Part.VALID, Part.TEST)


def split(
    samples: Sequence[Sample],
    *,
    by: By = "group",
    seed: int = 0,
    shares: Mapping[Part, float] | None = None,
    stratified: bool = True,
) -> dict[Part, tuple[Sample, ...]]:
    """Samples by part; every sample in exactly one, each part in the order given.

    Args:
        samples: with different digests.
        by: ``group`` keeps groups together, ``sample`` places each on its own.
        seed: another seed, another split.
        shares: of the samples whose group declares no part; 0.8 train, 0.2 valid by default.
        stratified: whether labels are spread evenly; see the module.
    """
    shares = _checked(shares if shares is not None else _DEFAULT_SHARES)
    keys = [_key(sample, by) for sample in samples]
    declared = _declared(samples, keys)
    wanted = {part: shares[part] for part in _PARTS if shares.get(part, 0) > 0}
    units = {key: _unit(key, seed) for key in keys if key not in declared}
    if stratified:
        placed = _spread(samples, keys, units=units, shares=wanted)
    else:
        placed = _by_hash(units, shares=wanted)
    if len(units) >= len(wanted):
        _fill_empty(placed, units=units, shares=wanted)
    placed.update(declared)
    parts: dict[Part, list[Sample]] = {part: [] for part in _PARTS}
    for sample, key in zip(samples, keys, strict=True):
        # A declared part is the source's word even where its group says two; the leak report tells.
        parts[sample.split or placed[key]].append(sample)
    return {part: tuple(members) for part, members in parts.items() if members}


def folds(samples: Sequence[Sample], *, count: int = 0, seed: int = 0) -> tuple[int, ...]:
    """The fold of each sample, for cross-validation; groups stay together.

    With groups and ``count`` 0 or at least their number, each group is a fold of its own
    (leave one group out). Otherwise groups, or samples without one, are dealt into ``count`` folds
    (8 when 0) so that every label is spread as evenly as its groups allow.
    """
    by_key: dict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        by_key[_key(sample, "group")].append(place)
    all_grouped = all(sample.group for sample in samples)
    few = 2 <= len(by_key) <= (count or 12)
    if all_grouped and few:
        order = {key: rank for rank, key in enumerate(sorted(by_key))}
    else:
        order = _deal(samples, by_key, count=min(count or 8, len(by_key)), seed=seed)
    return tuple(order[_key(sample, "group")] for sample in samples)


def _deal(
    samples: Sequence[Sample], by_key: Mapping[str, Sequence[int]], *, count: int, seed: int
) -> dict[str, int]:
    """Deal groups out, the rarest labels first, each to the fold that holds least of its labels."""
    often = Counter(name for sample in samples for name in sample.labels)
    held = {
        key: Counter(n for p in places for n in samples[p].labels) for key, places in by_key.items()
    }

    def rank(key: str) -> tuple[int, float]:
        return min((often[name] for name in held[key]), default=len(samples) + 1), _unit(key, seed)

    loads: list[Counter[str]] = [Counter() for _ in range(max(1, count))]
    sizes = [0] * len(loads)
    order: dict[str, int] = {}
    for key in sorted(by_key, key=rank):
        best = min(
            range(len(loads)),
            key=lambda fold: (
                sum(loads[fold][name] / often[name] for name in held[key]),
                sizes[fold],
                fold,
            ),
        )
        loads[best].update(held[key])
        sizes[best] += len(by_key[key])
        order[key] = best
    return order


def _key(sample: Sample, by: By) -> str:
    return f"{_GROUP}{sample.group}" if by == "group" and sample.group else f"s:{sample.digest}"


def _checked(shares: Mapping[Part, float]) -> Mapping[Part, float]:
    sound = all(isfinite(share) and share >= 0 for share in shares.values())
    if not (sound and set(shares) <= set(_PARTS) and sum(shares.values()) > 0):
        told = {str(part): share for part, share in shares.items()}
        raise InvalidError(
            f"shares {told} cannot be used",
            where="shares",
            fix="Give train, valid and test shares from 0, at least one above.",
        )
    return shares


def _declared(samples: Sequence[Sample], keys: Sequence[str]) -> dict[str, Part]:
    """Per group the part most of its samples declare (train before valid before test on a tie)."""
    votes: dict[str, Counter[Part]] = defaultdict(Counter)
    for sample, key in zip(samples, keys, strict=True):
        if sample.split is not Part.OPEN:
            votes[key][sample.split] += 1
    order = list(Part)
    return {key: max(c, key=lambda part: (c[part], -order.index(part))) for key, c in votes.items()}


def _spread(
    samples: Sequence[Sample],
    keys: Sequence[str],
    *,
    units: Mapping[str, float],
    shares: Mapping[Part, float],
) -> dict[str, Part]:
    free = [place for place, key in enumerate(keys) if key in units]
    names = strata([samples[place] for place in free])
    alone: dict[str, list[str]] = defaultdict(list)
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for place, name in zip(free, names, strict=True):
        if keys[place].startswith(_GROUP):
            held[keys[place]][name] += 1
        else:
            alone[name].append(keys[place])
    singles = {name: sorted(one, key=lambda key: (units[key], key)) for name, one in alone.items()}
    groups = [
        Bundle(key=key, place=units[key], held=tuple(sorted(counts.items())))
        for key, counts in held.items()
    ]
    return spread(groups, singles, shares=shares)


def _unit(key: str, seed: int) -> float:
    """A number in [0, 1) of seed and key alone."""
    hashed = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64


def _edges(shares: Mapping[Part, float]) -> dict[Part, tuple[float, float]]:
    total, low = sum(shares.values()), 0.0
    edges = {}
    for part, share in shares.items():
        edges[part] = (low, low + share / total)
        low = edges[part][1]
    return edges


def _by_hash(units: Mapping[str, float], *, shares: Mapping[Part, float]) -> dict[str, Part]:
    edges = _edges(shares)
    last = list(edges)[-1]
    return {
        key: next((part for part, (_, high) in edges.items() if value < high), last)
        for key, value in units.items()
    }


def _fill_empty(
    placed: dict[str, Part], *, units: Mapping[str, float], shares: Mapping[Part, float]
) -> None:
    """Give each empty part the nearest group of a part that has several."""
    counts = Counter(placed.values())
    for part, (low, high) in _edges(shares).items():
        if counts[part]:
            continue
        middle = (low + high) / 2
        spare = (key for key, held in placed.items() if counts[held] > 1)
        nearest = min(spare, key=lambda key: (abs(units[key] - middle), key))
        counts[placed[nearest]] -= 1
        counts[part] += 1
        placed[nearest] = part


_SEEDS = 2**32
Parts = Mapping[Part, tuple[Sample, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """The settings of a split.

    Attributes:
        shares: of what declares no part; empty parts only where the source declares parts, and
            leaves the rest to cross-validation.
        by, stratified: as ``split`` takes them.
        group: a rule of ``grouped``; "" keeps the groups there are.
        seed: another seed, another split; None for 0, or for the own one of an exact rule.
        fold, folds: the test part is the fold of that number, counted from 1, of so many; the rest
            trains. Places every picture, whatever was declared; 0 for none.
        exact: a rule of ``split_exactly``; it places every picture too.
        anew: whether declared parts, and those of an earlier version, are passed over.
    """

    shares: Mapping[Part, float] = field(default_factory=dict)
    by: By = "group"
    stratified: bool = True
    group: str = ""
    seed: int | None = None
    fold: int = 0
    folds: int = 0
    exact: str = ""
    anew: bool = False

    def __post_init__(self) -> None:
        if self.exact and self.exact not in EXACT_RULES:
            raise InvalidError(
                f"{self.exact!r} is no exact split",
                where="exact",
                fix=f"Known: {', '.join(EXACT_RULES)}.",
            )
        if bool(self.folds) != bool(self.fold) or not 0 <= self.fold <= self.folds != 1:
            raise InvalidError(
                f"fold {self.fold} of {self.folds} cannot be held out",
                where="fold",
                fix="Write I/K, with K from 2 and I from 1 to K.",
            )
        if self.exact and self.folds:
            raise InvalidError("a fold and an exact rule", where="fold", fix="Choose one of them.")
        if self.seed is not None and not 0 <= self.seed < _SEEDS:
            raise InvalidError(
                f"seed {self.seed}", where="seed", fix=f"Write a whole number below {_SEEDS}."
            )
        grouped((), rule=self.group)
        if self.shares:
            split((), shares=self.shares)


def parted(
    samples: Sequence[Sample], parting: SplitPlan, *, before: Mapping[Digest, Part] | None = None
) -> tuple[tuple[Sample, ...], Parts]:
    """The samples with their groups, in the order given, and those of each part.

    Args:
        samples: with different digests.
        parting: how.
        before: digest → part of pictures that keep the part they had in an earlier version, so
            that what a network was once tested on is never trained on later.
    """
    regrouped = grouped(samples, rule=parting.group)
    if parting.exact:
        parts: Parts = split_exactly(
            regrouped, rule=parting.exact, seed=parting.seed, shares=parting.shares or None
        )
    elif parting.folds:
        parts = _fold(regrouped, parting)
    else:
        parts = _shared(regrouped, parting, before=before or {})
    return regrouped, parts


def _fold(samples: Sequence[Sample], parting: SplitPlan) -> Parts:
    numbers = folds(samples, count=parting.folds, seed=parting.seed or 0)
    there = max(numbers, default=-1) + 1
    if there < parting.folds:
        raise InvalidError(
            f"no {parting.folds} folds: the pictures make {there}",
            where="fold",
            fix="Ask for fewer folds, or for smaller groups.",
        )
    held_out = [number == parting.fold - 1 for number in numbers]
    return {
        part: tuple(s for s, out in zip(samples, held_out, strict=True) if out is wanted)
        for part, wanted in ((Part.TRAIN, False), (Part.TEST, True))
    }


def _shared(
    samples: Sequence[Sample], parting: SplitPlan, *, before: Mapping[Digest, Part]
) -> Parts:
    declared = [
        sample.placed(split=Part.OPEN)
        if parting.anew
        else sample.placed(split=sample.split or before.get(sample.digest, Part.OPEN))
        for sample in samples
    ]
    shares = parting.shares
    if not shares:
        if all(sample.split is Part.OPEN for sample in declared):
            return {}
        shares = {Part.TRAIN: 1.0}  # undeclared samples beside declared ones are for training
    parts = split(
        declared,
        by=parting.by,
        seed=parting.seed or 0,
        shares=shares,
        stratified=parting.stratified,
    )
    placed = {sample.digest: sample for sample in samples}
    return {part: tuple(placed[s.digest] for s in members) for part, members in parts.items()}
