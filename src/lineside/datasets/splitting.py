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

Splits as other tools make them, picture by picture, for comparing with what they published.

``cuts`` (seed 1294): by number or name, shuffled as ``numpy.random.seed(seed)`` does; train up to
``int(train * n) + 1``, valid up to ``int((train + valid) * n) + 1``, test the rest.
``draws`` (seed 42): by label and name; valid is ``int(valid * n)`` drawn from all, test
``int(test * n)`` drawn from the rest with the same seed, train what is left, as scikit-learn's
``train_test_split`` draws.
``list`` (seed 100): folder by folder as a list maker walks them, shuffled as ``random.shuffle``
does; test is the first ``int(test * n)``, train the next ``int(train * n)``, valid the rest.

None of them looks at groups or declared parts: where that leaks, the leak report says so. All are
defined for any number of pictures; `cuts` leaves later parts short or empty where there are few.

Strata: what samples are alike in, and how groups of them are spread over parts.

A sample is of one stratum: its rarest label (with several labels, the rare one is what a part can
lack); where no sample has a label, whether objects are marked and in which third of the counts it
lies. A mask makes a stratum of its own beside the label's. Placing takes time linear in the number
of samples, apart from sorting.

Groups of samples that must stay together, by a rule a person can write.

| Rule | The group is |
|---|---|
| `""` or `column` | what the source itself says (its ``group`` column) |
| `suffix: - ` | what stands in the file's stem after the last ``" - "`` |
| `regex:PATTERN` | the first bracket of the first match in the name (the whole match without one) |
| `folder` | the folder the file stands in |
| `blocks:10` | blocks of ten files in natural order of their names (``a2`` before ``a10``) |
| `ids:100` | the last number of the file's stem, in blocks of a hundred from 0 |
| `time:30` | half hours of capture time (UTC); ``time:480@06:00`` shifts of eight hours from 6 |
| `column:NAME` | what the source says in a further column |

What a rule finds nothing in shares the group ``(none)``: of such pictures nothing says that they
are apart.
"""

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from lineside.core import Digest, InvalidError
from lineside.datasets.samples import Part, Sample

_NONE = "(none)"
_LONGEST_PATTERN = 200
_LONGEST_NUMBER = 18
_NUMBERS = re.compile(r"[0-9]+")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def grouped(samples: Sequence[Sample], *, rule: str) -> tuple[Sample, ...]:
    """The samples with the groups that the rule gives them, in the same order.

    Raises:
        InvalidError: the rule is none of the known ones.
    """
    kind, _, detail = rule.partition(":")
    if rule in ("", "column"):
        return tuple(samples)
    if kind == "blocks":
        return _by_blocks(samples, size=_whole(detail, rule=rule))
    group_of = _reader(kind, detail, rule=rule)
    return tuple(sample.assigned(group=group_of(sample)) for sample in samples)


def _reader(kind: str, detail: str, *, rule: str) -> Callable[[Sample], str]:
    """Return the function that gives a sample its group; it does not depend on other samples."""
    readers: dict[str, Callable[[str], Callable[[Sample], str]]] = {
        "suffix": lambda mark: lambda sample: _suffix(sample.name, mark),
        "regex": _by_pattern,
        "ids": lambda size: _block_number(_whole(size, rule=rule)),
        "time": lambda blocks: _by_time(blocks, rule=rule),
        "column": lambda name: lambda sample: sample.facts.get(name) or _NONE,
    }
    if rule == "folder":
        return lambda sample: PurePosixPath(sample.name).parent.name or _NONE
    if kind in readers and detail:
        return readers[kind](detail)
    raise InvalidError(
        f"{rule!r} is not a rule for groups",
        fix="Known: column, column:NAME, folder, suffix:TEXT, regex:PATTERN, blocks:NUMBER, "
        "ids:NUMBER, time:MINUTES.",
    )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that counts digits as numbers: ``a2`` before ``a10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)


def _by_blocks(samples: Sequence[Sample], *, size: int) -> tuple[Sample, ...]:
    order = sorted(range(len(samples)), key=lambda place: natural_key(samples[place].name))
    block = {place: rank // size for rank, place in enumerate(order)}
    width = len(str(max(block.values(), default=0)))
    return tuple(
        sample.assigned(group=f"block {block[place]:0{width}d}")
        for place, sample in enumerate(samples)
    )


def _by_pattern(text: str) -> Callable[[Sample], str]:
    pattern = _compiled(text)
    return lambda sample: _matched(pattern, sample.name)


def _block_number(size: int) -> Callable[[Sample], str]:
    def block(sample: Sample) -> str:
        number = number_in(sample.name)
        return _NONE if number is None else f"ids {number // size * size}"

    return block


def number_in(name: str) -> int | None:
    """The last number of a file's stem, as in ``00523.jpg``; None where there is none."""
    last = name.rsplit("/", 1)[-1]
    dot = last.rfind(".")
    found = _NUMBERS.findall(last[:dot] if dot > 0 else last)
    return int(found[-1]) if found and len(found[-1]) <= _LONGEST_NUMBER else None


def _by_time(text: str, *, rule: str) -> Callable[[Sample], str]:
    minutes, _, start = text.partition("@")
    long = _whole(minutes, rule=rule) * 60
    first = _clock_time(start, rule=rule) if start else 0

    def block(sample: Sample) -> str:
        if sample.captured_at is None:
            return _NONE
        since = int((sample.captured_at - _EPOCH).total_seconds()) - first
        return f"from {(_EPOCH + timedelta(seconds=since // long * long + first)):%Y-%m-%d %H:%M}"

    return block


def _clock_time(text: str, *, rule: str) -> int:
    """Seconds after midnight of ``HH:MM``."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise InvalidError(f"{rule!r} has no start", fix='Write it as "time:480@06:00".')
    return (int(match[1]) * 60 + int(match[2])) * 60


def _suffix(name: str, mark: str) -> str:
    _, found, tail = PurePosixPath(name).stem.rpartition(mark)
    return tail.strip() if found and tail.strip() else _NONE


def _matched(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.search(name)
    if match is None:
        return _NONE
    return (match.group(1) if pattern.groups else match.group(0)) or _NONE


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidError("a pattern above 200 characters", fix="Shorten it.")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidError(
            f"{pattern!r} is not a pattern: {error}",
            where="group",
            fix="Write a regular expression with one bracket, as in regex:^(part[0-9]+)_.",
        ) from error


def _whole(text: str, *, rule: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise InvalidError(f"{rule!r} has no block size", fix="Write a whole number from 1.")
    return int(text)


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
    assigned = {group.key: ledger.take(group) for group in ordered}
    for name in sorted(singles):
        assigned.update(ledger.deal(name, singles[name]))
    return assigned


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
        assigned = _spread(samples, keys, units=units, shares=wanted)
    else:
        assigned = _by_hash(units, shares=wanted)
    if len(units) >= len(wanted):
        _fill_empty(assigned, units=units, shares=wanted)
    assigned.update(declared)
    parts: dict[Part, list[Sample]] = {part: [] for part in _PARTS}
    for sample, key in zip(samples, keys, strict=True):
        # A declared part is the source's word even where its group says two; the leak report tells.
        parts[sample.split or assigned[key]].append(sample)
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
    assigned: dict[str, Part], *, units: Mapping[str, float], shares: Mapping[Part, float]
) -> None:
    """Give each empty part the nearest group of a part that has several."""
    counts = Counter(assigned.values())
    for part, (low, high) in _edges(shares).items():
        if counts[part]:
            continue
        middle = (low + high) / 2
        spare = (key for key, held in assigned.items() if counts[held] > 1)
        nearest = min(spare, key=lambda key: (abs(units[key] - middle), key))
        counts[assigned[nearest]] -= 1
        counts[part] += 1
        assigned[nearest] = part


_SEEDS = 2**32
Parts = Mapping[Part, tuple[Sample, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """The settings of a split.

    Attributes:
        shares: by part (``train``, ``valid``, ``test``), of what declares none; empty parts only
            where the source declares parts, and leaves the rest to cross-validation.
        by: ``group`` keeps groups together, ``sample`` places each on its own.
        stratified: whether labels are spread evenly.
        group: a rule of ``grouped``; "" keeps the groups there are.
        seed: another seed, another split; None for 0, or for the own one of an exact rule.
        fold, folds: the test part is the fold of that number, counted from 1, of so many; the rest
            trains. Places every picture, whatever was declared; 0 for none.
        exact: ``cuts``, ``draws`` or ``list``, see ``split_exactly``; places every picture too.
        anew: whether declared parts, and those of an earlier version, are passed over.
        is_default: whether nobody chose these settings. Plans that differ in it alone are equal.
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
    is_default: bool = field(default=False, compare=False)

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
    samples: Sequence[Sample], plan: SplitPlan, *, before: Mapping[Digest, Part] | None = None
) -> tuple[tuple[Sample, ...], Parts]:
    """The samples with their groups, in the order given, and those of each part.

    Args:
        samples: with different digests.
        plan: how.
        before: digest → part of pictures that keep the part they had in an earlier version, so
            that what a network was once tested on is never trained on later.
    """
    regrouped = grouped(samples, rule=plan.group)
    if plan.exact:
        parts: Parts = split_exactly(
            regrouped, rule=plan.exact, seed=plan.seed, shares=plan.shares or None
        )
    elif plan.folds:
        parts = _fold(regrouped, plan)
    else:
        parts = _shared(regrouped, plan, before=before or {})
    return regrouped, parts


def _fold(samples: Sequence[Sample], plan: SplitPlan) -> Parts:
    numbers = folds(samples, count=plan.folds, seed=plan.seed or 0)
    there = max(numbers, default=-1) + 1
    if there < plan.folds:
        raise InvalidError(
            f"no {plan.folds} folds: the pictures make {there}",
            where="fold",
            fix="Ask for fewer folds, or for smaller groups.",
        )
    held_out = [number == plan.fold - 1 for number in numbers]
    return {
        part: tuple(s for s, out in zip(samples, held_out, strict=True) if out is wanted)
        for part, wanted in ((Part.TRAIN, False), (Part.TEST, True))
    }


def _shared(samples: Sequence[Sample], plan: SplitPlan, *, before: Mapping[Digest, Part]) -> Parts:
    declared = [
        sample.assigned(split=Part.OPEN)
        if plan.anew
        else sample.assigned(split=sample.split or before.get(sample.digest, Part.OPEN))
        for sample in samples
    ]
    shares = plan.shares
    if not shares:
        if all(sample.split is Part.OPEN for sample in declared):
            return {}
        shares = {Part.TRAIN: 1.0}  # undeclared samples beside declared ones are for training
    parts = split(
        declared,
        by=plan.by,
        seed=plan.seed or 0,
        shares=shares,
        stratified=plan.stratified,
    )
    assigned = {sample.digest: sample for sample in samples}
    return {part: tuple(assigned[s.digest] for s in members) for part, members in parts.items()}
