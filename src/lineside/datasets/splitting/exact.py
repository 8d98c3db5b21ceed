"""Splits as other tools make them, picture by picture, for comparing with what they published.

| Rule | Order | Parts | Seed |
|---|---|---|---|
| `cuts` | by number or name, shuffled as `numpy.random.seed(seed)` does | train up to `int(train * n) + 1`, valid up to `int((train + valid) * n) + 1`, test the rest | 1294 |
| `draws` | by label and name | valid is `int(valid * n)` drawn from all, test `int(test * n)` drawn from the rest with the same seed, train what is left, as scikit-learn's `train_test_split` draws | 42 |
| `list` | folder by folder as a list maker walks them, shuffled as `random.shuffle` does | test is the first `int(test * n)`, train the next `int(train * n)`, valid the rest | 100 |

None of them looks at groups or declared parts: where that leaks, the leak report says so. All are
defined for any number of pictures; `cuts` leaves later parts short or empty where there are few.
"""  # noqa: E501  a table's rows are lines

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from lineside.core import InvalidError
from lineside.datasets.samples import Part, Sample
from lineside.datasets.splitting.grouping import natural_key

Shares = Mapping[Part, float]


def split_exactly(
    samples: Sequence[Sample],
    *,
    rule: str,
    seed: int | None = None,
    shares: Shares | None = None,
) -> dict[Part, tuple[Sample, ...]]:
    """Samples by part, as the rule of that name places them.

    Args:
        samples: with different names.
        rule: ``cuts``, ``draws`` or ``list``.
        seed: None for the rule's own.
        shares: of the parts; None for the rule's own: 0.8, 0.1, 0.1, or for ``list`` 0.8 and 0.2.

    Returns:
        Each part in the rule's own order; empty parts are left out.
    """
    if rule not in _RULES:
        raise InvalidError(
            f"{rule!r} is no exact split", where="rule", fix=f"Known: {', '.join(_RULES)}."
        )
    known = _RULES[rule]
    how = _How(known.how.seed if seed is None else seed, shares or known.how.shares)
    parts = known.cut(known.order(samples), how)
    return {part: tuple(members) for part, members in parts.items() if members}


Ordered = list[Sample]


@dataclass(frozen=True, slots=True)
class _How:
    seed: int
    shares: Shares

    def share(self, part: Part) -> float:
        return self.shares.get(part, 0.0)


@dataclass(frozen=True, slots=True)
class _Rule:
    order: Callable[[Sequence[Sample]], Ordered]
    cut: Callable[[Ordered, _How], dict[Part, Ordered]]
    how: _How


def _by_number(samples: Sequence[Sample]) -> Ordered:
    return sorted(samples, key=lambda sample: natural_key(sample.name))


def _by_label(samples: Sequence[Sample]) -> Ordered:
    return sorted(samples, key=lambda sample: (sample.labels, sample.name))


def _by_walk(samples: Sequence[Sample]) -> Ordered:
    return sorted(samples, key=lambda sample: PurePosixPath(sample.name).parts)


def _shuffled(count: int, seed: int) -> list[int]:
    # NumPy keeps this stream the same for ever; its new generators promise no such thing.
    places: list[int] = np.random.RandomState(seed).permutation(count).tolist()
    return places


def _cuts(ordered: Ordered, how: _How) -> dict[Part, Ordered]:
    count = len(ordered)
    train = int(how.share(Part.TRAIN) * count) + 1
    valid = int((how.share(Part.TRAIN) + how.share(Part.VALID)) * count) + 1
    places = _shuffled(count, how.seed)
    pieces = places[:train], places[train:valid], places[max(train, valid) :]
    return {
        part: [ordered[place] for place in sorted(piece)]
        for part, piece in zip((Part.TRAIN, Part.VALID, Part.TEST), pieces, strict=True)
    }


def _draws(ordered: Ordered, how: _How) -> dict[Part, Ordered]:
    count = len(ordered)
    rest = ordered
    drawn: dict[Part, Ordered] = {}
    for part in (Part.VALID, Part.TEST):
        places = _shuffled(len(rest), how.seed)
        take = min(int(how.share(part) * count), len(rest))
        drawn[part] = [rest[place] for place in places[:take]]
        rest = [rest[place] for place in places[take:]]
    return {Part.TRAIN: rest, **drawn}


def _list(ordered: Ordered, how: _How) -> dict[Part, Ordered]:
    shuffled = list(ordered)
    random.Random(how.seed).shuffle(shuffled)  # noqa: S311  a split, no secret
    test = int(len(shuffled) * how.share(Part.TEST))
    train = int(len(shuffled) * how.share(Part.TRAIN))
    return {
        Part.TRAIN: shuffled[test : test + train],
        Part.VALID: shuffled[test + train :],
        Part.TEST: shuffled[:test],
    }


_THREE: Shares = {Part.TRAIN: 0.8, Part.VALID: 0.1, Part.TEST: 0.1}
_RULES = {
    "cuts": _Rule(_by_number, _cuts, _How(1294, _THREE)),
    "draws": _Rule(_by_label, _draws, _How(42, _THREE)),
    "list": _Rule(_by_walk, _list, _How(100, {Part.TRAIN: 0.8, Part.VALID: 0.2})),
}
EXACT_RULES = tuple(_RULES)
