"""Leaks between parts of a split: the same picture, the same group, near-duplicates.

A camera that stands still makes every whole picture alike, so similarity is taken of what is left
when the camera's own background is gone: vectors of the registered regions only, less their median
over all pictures (``region_features``).

Of two such vectors a and b,

    similarity = 1 - |a - b|² / (|a|² + |b|² + c)

where c is half the median squared distance of all pairs, and at least that of pure noise. Without c
two pictures of nothing but background, which differ by noise alone, would be unlike. The same scene
seen twice is near 1; scenes that differ as pictures of this camera usually do are far below.

Near-duplicates among vectors are found among all pairs, or among the pairs worth a look. Up to
``limits.all_pairs`` vectors each is compared with each. Beyond, each is compared with its
neighbours in the order given (names or times: what was taken one after the other), and with those
that fall into the same bucket of several random-hyperplane hashes (Charikar 2002), cut to blocks.
Time and memory are bounded by the number of vectors, never by the clock, and what was compared is
counted (a pair that lies in two blocks, twice): the same vectors give the same answer everywhere.

Where there is fine structure of each picture too, a pair counts only if that agrees as well
(``FINE``): pictures of one dull surface are alike in the large and nothing of each other. Two parts
of one kind agree in both. Of pairs between parts a second look decides: local features (SIFT) that
lie alike in both pictures (``is_same_object``).

Vectors for the leak report: what pictures of one camera differ in.

1. Where an inspection answers the labels, pictures are registered to one of them and cut at its
   regions, as training does: what lies outside is the camera's own background and takes no part.
   That takes tens of milliseconds a picture, hence it is done for at most ``limits.registered``.
2. Otherwise, and for more, a small copy of the whole picture counts, less the median picture of
   its camera: the pictures of one size (and of one ``camera``, where the source has that column).
   Two are near-duplicates if the fine structure of both agrees too, likewise less the camera's.
3. Of more than ``limits.pictures``, runs of pictures that follow one another are looked at, evenly
   spread: near-duplicates lie side by side. The report says how many were not looked at.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, Inspection, InvalidError, LinesideError, View
from lineside.datasets.samples import Part, Sample, label_names
from lineside.datasets.splitting import natural_key, number_in
from lineside.vision import Prepare, Registrar, check_picture, decode_picture, picture_size
from lineside.vision.picture import grey_of
from lineside.vision.prepare import crops_for, cut
from lineside.vision.registration import is_same_object, work_grey

Read = Callable[[Sample], bytes]
Vectors = NDArray[np.float32] | NDArray[np.float16]
Places = NDArray[np.int64]

_ROWS_AT_ONCE = 512
_SAMPLED = 200
FINE = 0.8
"""Correlation of the fine structure from which two pictures may be the same."""

_TABLES = 16
_IN_A_BUCKET = 24
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class NearLimits:
    """Limits on how much is compared.

    Attributes:
        all_pairs: up to so many vectors, each with each.
        neighbours: beyond, each with so many that follow it in the order given.
        block: beyond, each with at most so many of its bucket.
        most_listed: so many pairs between parts, and so many within them, the nearest first.
    """

    all_pairs: int = 12_000
    neighbours: int = 16
    block: int = 128
    most_listed: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """Pairs found, nearest first, between parts before within them; and what was compared."""

    pairs: tuple[tuple[int, int, float], ...]
    found: int
    compared: int
    possible: int


def near_pairs(
    features: Vectors,
    *,
    above: float,
    parts: Sequence[str],
    fine: Vectors | None = None,
    order: Sequence[int] = (),
    limits: NearLimits | None = None,
) -> Near:
    """Pairs at least so similar.

    Args:
        features: (n, d).
        above: similarity as ``leaks`` defines it.
        parts: of each vector; a pair between two parts counts more.
        fine: (n, f) the fine structure of each, of length one; None where only features count.
        order: places in the order of name or time; as they stand by default.
        limits: how much is compared.
    """
    limits = limits or NearLimits()
    count = len(features)
    codes = np.unique(np.asarray(parts, dtype=str), return_inverse=True)[1] if count else None
    best = _Best(codes=codes, most_listed=limits.most_listed)
    if count <= limits.all_pairs:
        batches = _every(count)
    else:
        batches = _likely(features, order=order or range(count), limits=limits)
    scale = _Scale(features)
    seen = 0
    for rows, columns in batches:
        similarity = scale.similarity(rows, columns)
        fresh = rows[:, None] < columns[None, :]
        seen += int(fresh.sum())
        one, other = np.nonzero((similarity >= above) & fresh)
        left, right, value = rows[one], columns[other], similarity[one, other]
        agreeing = _agree(left, right, fine=fine)
        best.take(left[agreeing], right[agreeing], value=value[agreeing])
    pairs, found = best.result()
    return Near(pairs=pairs, found=found, compared=seen, possible=count * (count - 1) // 2)


def _every(count: int) -> Iterator[tuple[Places, Places]]:
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, count))
        yield rows, np.arange(start, count)


def _likely(
    features: Vectors, *, order: Sequence[int], limits: NearLimits
) -> Iterator[tuple[Places, Places]]:
    """Blocks of neighbours in order, then blocks of every bucket; a pair may come twice."""
    places = np.asarray(order, dtype=np.int64)
    step = limits.neighbours
    for start in range(0, len(places), step):
        block = np.sort(places[start : start + 2 * step])
        yield block, block
    for code in _hashes(features):
        by_code = np.argsort(code, kind="stable")
        edges = np.flatnonzero(np.diff(code[by_code])) + 1
        for bucket in np.split(by_code, edges):
            for start in range(0, len(bucket), limits.block):
                block = np.sort(bucket[start : start + limits.block])
                if len(block) > 1:
                    yield block, block


def _hashes(features: Vectors) -> Iterator[Places]:
    """For each table the bucket of each vector: on which side of random hyperplanes it lies."""
    rng = np.random.default_rng(0)
    bits = max(4, int(np.log2(len(features) / _IN_A_BUCKET)))
    weights = (1 << np.arange(bits)).astype(np.int64)
    for _ in range(_TABLES):
        planes = rng.standard_normal((features.shape[1], bits)).astype(np.float32)
        yield (features @ planes > 0) @ weights


def _agree(left: Places, right: Places, *, fine: Vectors | None) -> NDArray[np.bool_]:
    """Of pairs, those whose fine structure agrees."""
    if fine is None:
        return np.ones(len(left), np.bool_)
    agreeing = [
        (fine[left[start:end]].astype(np.float32) * fine[right[start:end]]).sum(axis=1) >= FINE
        for start in range(0, len(left), _PAIRS_AT_ONCE)
        for end in (start + _PAIRS_AT_ONCE,)
    ]
    return np.concatenate(agreeing) if agreeing else np.zeros(0, np.bool_)


class _Scale:
    """Similarity as ``leaks`` defines it."""

    def __init__(self, features: Vectors) -> None:
        self._features = features
        self._squares = (features**2).sum(axis=1)
        self._usual = usual_difference(features)

    def similarity(self, rows: Places, columns: Places) -> NDArray[np.float32]:
        one, other = self._features[rows], self._features[columns]
        sums = self._squares[rows][:, None] + self._squares[columns][None, :]
        apart = np.maximum(sums - 2.0 * one @ other.T, 0.0)
        return np.asarray(1.0 - apart / (sums + self._usual), np.float32)


def usual_difference(features: Vectors) -> float:
    """Half the median squared distance over pairs of at most 200 pictures; at least noise's."""
    if not len(features):
        return 1.0
    few = features[np.unique(np.linspace(0, len(features) - 1, _SAMPLED).round().astype(int))]
    squares = (few**2).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2.0 * few @ few.T
    pairs = apart[np.triu_indices(len(few), k=1)]
    return max(float(np.median(pairs)) / 2 if len(pairs) else 0.0, float(features.shape[1]))


class _Best:
    """The nearest pairs so far, of each kind, in bounded memory."""

    def __init__(self, *, codes: Places | None, most_listed: int) -> None:
        self._codes = codes
        self._most_listed = most_listed
        self._found = 0
        self._pairs: dict[bool, dict[tuple[int, int], float]] = {True: {}, False: {}}

    def take(self, left: Places, right: Places, *, value: NDArray[np.float32]) -> None:
        if self._codes is None or not len(left):
            return
        between = self._codes[left] != self._codes[right]
        for crossing in (True, False):
            chosen = np.flatnonzero(between == crossing)
            nearest = chosen[np.lexsort((right[chosen], left[chosen], -value[chosen]))]
            held = self._pairs[crossing]
            before = len(held)
            for place in nearest[: self._most_listed].tolist():
                held.setdefault((int(left[place]), int(right[place])), float(value[place]))
            self._found += len(held) - before + max(0, len(nearest) - self._most_listed)
            self._cut(crossing=crossing)

    def _cut(self, *, crossing: bool) -> None:
        held = self._pairs[crossing]
        if len(held) > 4 * self._most_listed:
            self._pairs[crossing] = dict(_nearest_first(held)[: self._most_listed])

    def result(self) -> tuple[tuple[tuple[int, int, float], ...], int]:
        pairs = [
            (one, other, value)
            for crossing in (True, False)
            for (one, other), value in _nearest_first(self._pairs[crossing])[: self._most_listed]
        ]
        return tuple(pairs), self._found


def _nearest_first(held: dict[tuple[int, int], float]) -> list[tuple[tuple[int, int], float]]:
    return sorted(held.items(), key=lambda item: (-item[1], item[0]))


NEAR_DUPLICATE = 0.95
NOISE_GREY = 4.0
_CELL_PX = 8
_MOST_PAIRS = 1000
_SECOND_LOOKS = 200
_LAST_NUMBER = re.compile(r"[0-9]+(?=[^0-9]*$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Two samples that are nearer than a split may ignore.

    Attributes:
        a, b: names of the samples.
        similarity: 1 for the same picture; of a shared group as measured, 0 where not measured.
        splits: the parts (or folds) the two stand in.
        kind: ``same picture``, ``same group`` or ``near-duplicate``.
    """

    a: str
    b: str
    similarity: float
    splits: tuple[str, str]
    kind: str = "near-duplicate"

    @property
    def crosses(self) -> bool:
        """Return whether the two stand in different parts, so that figures on them are too good."""
        return self.splits[0] != self.splits[1]

    @property
    def words(self) -> str:
        """The kind, and whether it harms."""
        if self.crosses:
            return f"{self.kind}, leaks"
        return f"{self.kind}, harmless in one part" if self.splits[0] else self.kind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Appearance:
    """The appearance of an image, less its camera's background.

    Attributes:
        vector: (d,) float32 in units of noise; near-duplicates are near in it.
        fine: (f,) float16 of length one: its fine structure; None where only the vector counts.
    """

    vector: NDArray[np.float32]
    fine: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCheck:
    """The scope of a leak report: what was compared, and what was not.

    Attributes:
        pictures: all that were to be parted.
        looked_at: those of which there is a vector.
        pairs, compared: pairs of the latter, and how many of them were compared.
        found: leaks before the list was cut to 1,000.
        neighbours, neighbours_across: pairs of pictures whose numbers follow one another
            (``00007.jpg``, ``00008.jpg``), and those of them that stand in different parts. They
            are often the same scene a moment later, and no leak by themselves.
        similar: pairs between parts that look alike and show different objects; they are no leaks.
    """

    pictures: int
    looked_at: int = 0
    pairs: int = 0
    compared: int = 0
    found: int = 0
    neighbours: int = 0
    neighbours_across: int = 0
    similar: int = 0

    def describe(self, by: str) -> tuple[str, ...]:
        """Describe the search for leaks in sentences; ``by``: what was compared, "" for nothing."""
        if not self.looked_at:
            first = f"{self.pictures} pictures were compared by digests and groups alone"
        else:
            first = f"{self.looked_at} of {self.pictures} pictures were compared by {by}"
        return tuple(f"{line}." for line in (first, *self.gaps))

    @property
    def gaps(self) -> tuple[str, ...]:
        """In a sentence each, what was not compared and what was left out."""
        sentences = []
        if 0 < self.looked_at < self.pictures:
            blind = self.pictures - self.looked_at
            sentences.append(
                f"{blind} of {self.pictures} pictures were not compared by their looks"
            )
        if self.compared < self.pairs:
            sentences.append(
                f"{self.compared} of {self.pairs} pairs were compared, the likeliest ones"
            )
        if self.neighbours_across:
            sentences.append(
                f"{self.neighbours_across} of {self.neighbours} pairs of pictures numbered one "
                "after the other stand in different parts"
            )
        if self.similar:
            sentences.append(
                f"{self.similar} pairs between parts are alike and show different objects, as "
                "their local features say, which is no leak"
            )
        return tuple(sentences)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """The leaks found, and how they were looked for."""

    leaks: tuple[Leak, ...]
    check: LeakCheck


def find_leaks(
    samples: Sequence[Sample],
    features: NDArray[np.float32] | None = None,
    *,
    parts: Sequence[str] = (),
    above: float = NEAR_DUPLICATE,
) -> tuple[Leak, ...]:
    """Pairs of one picture, pairs of one group across parts, and near-duplicates.

    Args:
        samples: the pictures.
        features: (samples, d) float32 with the background removed, in units of noise
            (``region_features``); None looks at digests and groups alone.
        parts: the part of each sample; by default what the sample declares.
        above: pairs at least this similar are near-duplicates.

    Returns:
        Crossing pairs first, then by falling similarity; at most 1,000.
    """
    if features is not None and len(features) != len(samples):
        raise InvalidError(
            f"{len(samples)} samples, {len(features)} vectors", fix="Hand in one of each."
        )
    looks = () if features is None else (Appearance(vector=vector) for vector in features)
    vectors = dict(enumerate(looks))
    return _checked(samples, vectors, parts=parts, above=above, limits=None).leaks


def check_leaks(
    samples: Sequence[Sample],
    features: Mapping[Digest, Appearance],
    *,
    parts: Sequence[str] = (),
    above: float = NEAR_DUPLICATE,
    limits: NearLimits | None = None,
    read: Read | None = None,
) -> LeakReport:
    """As ``find_leaks``, by digest, of samples of which not all have a vector; with its coverage.

    Args:
        samples: the pictures, with different digests.
        features: digest → its look; a picture without one is compared by digest and group alone.
        parts: the part of each sample; by default what the sample declares.
        above: pairs at least this similar are near-duplicates.
        limits: how many pairs of vectors are compared.
        read: gives a sample's encoded picture, for the second look; None leaves that out.
    """
    vectors = {
        place: features[sample.digest]
        for place, sample in enumerate(samples)
        if sample.digest in features
    }
    return _checked(samples, vectors, parts=parts, above=above, limits=limits, read=read)


def _checked(
    samples: Sequence[Sample],
    vectors: Mapping[int, Appearance],
    *,
    parts: Sequence[str],
    above: float,
    limits: NearLimits | None,
    read: Read | None = None,
) -> LeakReport:
    assigned = tuple(parts) or tuple(sample.split for sample in samples)
    if len(assigned) != len(samples):
        raise InvalidError(
            f"{len(samples)} samples, {len(assigned)} parts", fix="Hand in one of each per sample."
        )
    near = _near(samples, vectors, assigned=assigned, above=above, limits=limits)
    similar: frozenset[tuple[int, int]] = frozenset()
    if read is not None and all(look.fine is not None for look in vectors.values()):
        similar = _similar_pairs(samples, near.pairs, assigned=assigned, read=read)
    found: dict[tuple[int, int], Leak] = {}
    for kind, pairs in (
        ("same picture", _same_picture(samples)),
        ("same group", _group_across(samples, assigned)),
        ("near-duplicate", [pair for pair in near.pairs if pair[:2] not in similar]),
    ):
        for one, other, similarity in pairs:
            leak = Leak(
                a=samples[one].name,
                b=samples[other].name,
                similarity=round(similarity, 4),
                splits=(assigned[one], assigned[other]),
                kind=kind,
            )
            found.setdefault((one, other), leak)
    neighbours = _numbered_pairs(samples)
    check = LeakCheck(
        pictures=len(samples),
        looked_at=len(vectors),
        pairs=near.possible,
        compared=min(near.compared, near.possible),
        found=len(found) + near.found - len(near.pairs),
        similar=len(similar),
        neighbours=len(neighbours),
        neighbours_across=sum(assigned[one] != assigned[other] for one, other in neighbours),
    )
    return LeakReport(leaks=_ordered(found.values()), check=check)


def _near(
    samples: Sequence[Sample],
    vectors: Mapping[int, Appearance],
    *,
    assigned: Sequence[str],
    above: float,
    limits: NearLimits | None,
) -> Near:
    if not vectors:
        return Near(pairs=(), found=0, compared=0, possible=0)
    places = list(vectors)
    order = sorted(range(len(places)), key=lambda row: natural_key(samples[places[row]].name))
    fine = [look.fine for look in vectors.values() if look.fine is not None]
    near = near_pairs(
        np.stack([look.vector for look in vectors.values()]),
        fine=np.stack(fine) if len(fine) == len(vectors) else None,
        above=above,
        parts=[assigned[place] for place in places],
        order=order,
        limits=limits,
    )
    pairs = tuple((places[one], places[other], value) for one, other, value in near.pairs)
    return replace(near, pairs=pairs)


def _similar_pairs(
    samples: Sequence[Sample],
    pairs: Iterable[tuple[int, int, float]],
    *,
    assigned: Sequence[str],
    read: Read,
) -> frozenset[tuple[int, int]]:
    """Pairs between parts that show different objects, of the nearest ``_SECOND_LOOKS``."""
    between = [(one, other) for one, other, _ in pairs if assigned[one] != assigned[other]]
    chosen = between[:_SECOND_LOOKS]
    greys: dict[int, NDArray[np.uint8] | None] = {}
    for place in {place for pair in chosen for place in pair}:
        image = _decoded(read(samples[place]))
        greys[place] = None if image is None else work_grey(grey_of(image))
    return frozenset(
        (one, other)
        for one, other in chosen
        if (first := greys[one]) is not None
        and (second := greys[other]) is not None
        and not is_same_object(first, second)
    )


def _numbered_pairs(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """Places of pictures of one folder and suffix whose numbers differ by one."""
    by_number: dict[tuple[str, int], int] = {}
    for place, sample in enumerate(samples):
        number = number_in(sample.name)
        if number is not None:
            by_number.setdefault((_without_number(sample.name), number), place)
    return [
        (place, by_number[beside, number + 1])
        for (beside, number), place in by_number.items()
        if (beside, number + 1) in by_number
    ]


def _without_number(name: str) -> str:
    """A name without the last number of its stem; names of one series have it in common."""
    head, _, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    bare = _LAST_NUMBER.sub("", stem if dot else last, count=1)
    return f"{head}/{bare}.{suffix}"


def merge_leaks(*reports: Sequence[Leak]) -> tuple[Leak, ...]:
    """Several reports on the same samples as one; of a pair reported twice the first stands."""
    found: dict[tuple[str, str], Leak] = {}
    for leak in (leak for report in reports for leak in report):
        found.setdefault((min(leak.a, leak.b), max(leak.a, leak.b)), leak)
    return _ordered(found.values())


def _ordered(leaks: Iterable[Leak]) -> tuple[Leak, ...]:
    ordered = sorted(leaks, key=lambda x: (not x.crosses, -x.similarity, x.a, x.b))
    return tuple(ordered[:_MOST_PAIRS])


def region_features(crops: NDArray[np.uint8], *, cell_px: int = _CELL_PX) -> NDArray[np.float32]:
    """Return the differences between images of one camera, as vectors in units of its noise.

    Args:
        crops: (pictures, regions, height, width, 3) uint8 RGB, cut from registered pictures; for a
            camera without regions, one crop of the whole view.
        cell_px: crops are averaged over squares of this side; 1 for crops that are so already.

    Returns:
        (pictures, d) float32: regions averaged over their cells, less the median picture, over four
        grey levels of noise.
    """
    count, regions, height, width, _ = crops.shape
    down, across = max(1, height // cell_px), max(1, width // cell_px)
    high, wide = height // down, width // across
    cells = crops[:, :, : down * high, : across * wide].reshape(
        count, regions, down, high, across, wide, 3
    )
    vectors = cells.mean(axis=(3, 5), dtype=np.float32).reshape(count, -1)
    if count > 2:
        vectors -= np.median(vectors, axis=0)
    return np.asarray(vectors / np.float32(NOISE_GREY), np.float32)


def _same_picture(samples: Sequence[Sample]) -> list[tuple[int, int, float]]:
    first: dict[Digest, int] = {}
    pairs = []
    for place, sample in enumerate(samples):
        earlier = first.setdefault(sample.digest, place)
        if earlier != place:
            pairs.append((earlier, place, 1.0))
    return pairs


def _group_across(
    samples: Sequence[Sample], assigned: Sequence[str]
) -> list[tuple[int, int, float]]:
    """One pair for every two parts that a group stands in."""
    first: dict[str, dict[str, int]] = {}
    pairs = []
    for place, sample in enumerate(samples):
        if not sample.group:
            continue
        seen = first.setdefault(sample.group, {})
        if assigned[place] not in seen:
            pairs += [(earlier, place, 0.0) for earlier in seen.values()]
            seen[assigned[place]] = place
    return pairs


def crossing(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    """The leaks that stand between different parts."""
    return tuple(leak for leak in leaks if leak.crosses)


def parts_of(
    samples: Sequence[Sample], splits: Mapping[Part, tuple[Sample, ...]]
) -> tuple[str, ...]:
    """The part of each sample, in the order of ``samples``."""
    where = {sample.digest: part for part, members in splits.items() for sample in members}
    return tuple(where.get(sample.digest, Part.OPEN) for sample in samples)


_CROP_PX = 96
_LARGEST_PICTURE = 64_000_000
_CELLS = 16
_THUMBNAIL_PX = 96
_FINE_CELLS = 48
_BLUR_CELLS = 9
_RUN = 50

Appearances = dict[Digest, Appearance]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonLimits:
    """Limits on how many images are compared.

    Attributes:
        pictures: by a small copy, about three milliseconds each.
        registered: assigned in the view and cut at its regions, about thirty milliseconds each.
    """

    pictures: int = 20_000
    registered: int = 200


def inspection_of(
    samples: Sequence[Sample], inspections: Sequence[Inspection]
) -> Inspection | None:
    """The inspection that answers the names these samples are judged by; None where none does."""
    names = {name for sample in samples for name in sample.known}
    for inspection in inspections:
        if names and names <= set(label_names(inspection)):
            return inspection
    return None


def look_at(
    samples: Sequence[Sample],
    *,
    read: Read,
    inspections: Sequence[Inspection] = (),
    limits: ComparisonLimits | None = None,
) -> tuple[Appearances, str]:
    """Return the appearance of each image looked at, and in words what was compared."""
    limits = limits or ComparisonLimits()
    inspection = inspection_of(samples, inspections)
    if inspection is not None and inspection.region and len(samples) <= limits.registered:
        features = leak_features(samples, read=read, inspection=inspection)
        if features:
            return features, f"regions of inspection {inspection.id}"
    features = appearances(spread_out(samples, most=limits.pictures), read=read)
    return features, "whole pictures, less the median picture of their camera" if features else ""


def spread_out(samples: Sequence[Sample], *, most: int) -> tuple[Sample, ...]:
    """At most so many, in runs of neighbours by name, evenly spread."""
    if len(samples) <= most:
        return tuple(samples)
    ordered = sorted(samples, key=lambda sample: natural_key(sample.name))
    runs = max(1, most // _RUN)
    starts = np.linspace(0, len(ordered) - min(_RUN, most), runs).round().astype(int).tolist()
    places = sorted({start + step for start in starts for step in range(min(_RUN, most))})
    return tuple(ordered[place] for place in places)


def appearances(samples: Sequence[Sample], *, read: Read) -> Appearances:
    """Return the appearance of each image that can be decoded, less its camera's median image."""
    cameras: dict[tuple[int, int, str], dict[Digest, _Small]] = defaultdict(dict)
    for sample in samples:
        small = _small(sample, read=read)
        if small is not None:
            camera = (*small.size, sample.facts.get("camera", ""))
            cameras[camera][sample.digest] = small
    found: Appearances = {}
    for same in cameras.values():
        vectors = _less_camera(np.stack([small.cells for small in same.values()]))
        fine = _fine(np.stack([small.fine for small in same.values()]))
        looks = (Appearance(vector=v, fine=f) for v, f in zip(vectors, fine, strict=True))
        found.update(zip(same, looks, strict=True))
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Small:
    """Of one picture: (width, height), (16, 16, 3) uint8 cells, (48, 48) float32 fine structure."""

    size: tuple[int, int]
    cells: NDArray[np.uint8]
    fine: NDArray[np.float32]


def _small(sample: Sample, *, read: Read) -> _Small | None:
    """None for a picture that is damaged or gone."""
    import cv2

    try:
        checked = check_picture(read(sample), width_px=_THUMBNAIL_PX, max_bytes=_LARGEST_PICTURE)
        image = decode_picture(checked.thumbnail)
    except LinesideError:
        return None
    cells = cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    shrunk = cv2.resize(image, (_FINE_CELLS, _FINE_CELLS), interpolation=cv2.INTER_AREA)
    grey = shrunk.astype(np.float32).mean(axis=2)
    return _Small(
        size=(checked.width_px, checked.height_px),
        cells=np.asarray(cells, np.uint8),
        fine=np.asarray(grey - cv2.blur(grey, (_BLUR_CELLS, _BLUR_CELLS)), np.float32),
    )


def _less_camera(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, h, w, 3) to (n, d): less the median picture; of one or two, less their own mean."""
    if len(cells) > 2:
        return region_features(cells[:, None], cell_px=1)
    level = cells.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return np.asarray((cells - level).reshape(len(cells), -1) / NOISE_GREY, np.float32)


def _fine(structure: NDArray[np.float32]) -> NDArray[np.float16]:
    """(n, h, w) to (n, h * w) of length one, less the median where there are more than two."""
    flat = structure.reshape(len(structure), -1)
    if len(flat) > 2:
        flat = (flat - np.median(flat, axis=0)).astype(np.float32)
    length = np.sqrt((flat**2).sum(axis=1, keepdims=True)) + 1e-6
    return np.asarray(flat / length, np.float16)


def leak_features(samples: Sequence[Sample], *, read: Read, inspection: Inspection) -> Appearances:
    """The look of each picture that can be registered: its regions, registered to one view.

    Args:
        samples: all of them are looked at.
        read: gives a sample's encoded picture.
        inspection: its view and regions; without a view, pictures of the first one's size.
    """
    if len(samples) < 2:
        return {}
    view = inspection.view or _own_view(read(samples[0]))
    reference = _reference(samples, read=read, view=view)
    if reference is None:
        return {}
    registrar = Registrar(view, reference)
    settings = Prepare(
        crops=crops_for(
            inspection.region, width_px=view.width_px, height_px=view.height_px, margin=0.0
        ),
        width_px=_CROP_PX,
        height_px=_CROP_PX,
        view=view,
    )
    registered: dict[Digest, NDArray[np.uint8]] = {}
    for sample in samples:
        image = _decoded(read(sample))
        matrix = None if image is None else registrar.register(image).matrix
        if image is not None and matrix is not None:
            registered[sample.digest] = cut(image, settings, matrix=matrix)
    if not registered:
        return {}
    vectors = region_features(np.stack(list(registered.values())))
    return {digest: Appearance(vector=one) for digest, one in zip(registered, vectors, strict=True)}


def _reference(samples: Sequence[Sample], *, read: Read, view: View) -> NDArray[np.uint8] | None:
    """The first picture of the view's size that can be decoded; any of them gives the place."""
    for sample in samples:
        encoded = read(sample)
        if picture_size(encoded) == (view.width_px, view.height_px):
            image = _decoded(encoded)
            if image is not None:
                return image
    return None


def _own_view(encoded: bytes) -> View:
    width, height = picture_size(encoded)
    return View(width_px=width, height_px=height, register=False)


def _decoded(encoded: bytes) -> NDArray[np.uint8] | None:
    """The picture, or None for one that is damaged: it takes no part in the leak report."""
    try:
        return decode_picture(encoded, max_bytes=_LARGEST_PICTURE)
    except InvalidError:
        return None
