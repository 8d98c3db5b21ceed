"""How a dataset is parted: asked for once, kept with the draft, and written into each version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lineside.core import Digest, InvalidError
from lineside.datasets.exact import EXACT_RULES, split_exactly
from lineside.datasets.grouping import grouped
from lineside.datasets.samples import Part, Sample
from lineside.datasets.split import By, folds, split

_SEEDS = 2**32
Parts = Mapping[Part, tuple[Sample, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """How a version is parted.

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
    samples: Sequence[Sample], parting: Parting, *, before: Mapping[Digest, Part] | None = None
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


def _fold(samples: Sequence[Sample], parting: Parting) -> Parts:
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


def _shared(samples: Sequence[Sample], parting: Parting, *, before: Mapping[Digest, Part]) -> Parts:
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
