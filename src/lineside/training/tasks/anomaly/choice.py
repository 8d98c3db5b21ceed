"""Choose the scorer by the good pictures alone, and say whether it is good enough.

1. Every good picture is judged as held out: places leave the patches of its group aside, surfaces
   are fitted to the other folds (whole groups kept together).
2. The yardstick is made up: local changes of held-out good pictures (``perturb``), told from
   held-out good pictures by AUROC. No real defect is looked at.
3. Places are tried first where pictures have one frame. Where they do not tell made-up changes
   apart well, a surface's scorers are fitted too, and the better one stands.
4. Where even the better one barely tells them apart, good pictures differ among each other as much
   as a defect would make them differ: not usable.

Made-up local changes of good pictures; they choose among scorers and stand in no figure.

A thin wandering line, a patch of another tone, a foreign grain, a piece of another good picture,
and a smear; each where parts are. Strength is in units of the picture's own deviation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Sample
from lineside.datasets.splitting import folds
from lineside.training.common.loop import apart, owners_of
from lineside.training.common.methods import spread
from lineside.training.tasks.anomaly.scene import STRIDE_PX, Patches, PatchExtractor
from lineside.training.tasks.anomaly.scorers import (
    ContrastPlan,
    MaskedScorer,
    Scorer,
    ScorerMean,
    fit_contrast,
    fit_local_neighbours,
    fit_mahalanobis,
    fit_memory,
    map_of,
)
from lineside.vision import AnomalyRule
from lineside.vision.anomaly import anomaly_score, smoothed_cells
from lineside.vision.metrics import auroc

Floats = NDArray[np.float32]

KINDS = ("line", "tone", "grain", "piece", "smear")
_TRIES = 30
_LEAST_PX = 12
_LEAST_DEVIATION = 8.0

Image = NDArray[np.uint8]


def perturbed(
    image: Image,
    *,
    others: Sequence[Image],
    kind: str,
    cover: NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> Image:
    """The picture with one change.

    Args:
        image: (height, width, 3) uint8.
        others: good pictures that a piece may be taken from.
        kind: one of ``KINDS``.
        cover: (height, width), where parts are; None for everywhere.
        rng: draws place, size and strength.
    """
    soft = _place(image.shape[:2], kind=kind, cover=cover, rng=rng)[..., None]
    wide = image.astype(np.float32)
    changed = _CHANGES[kind](wide, others=others, rng=rng)
    return np.asarray(np.clip(wide * (1 - soft) + changed * soft, 0, 255).round(), np.uint8)


def _place(
    size: tuple[int, int],
    *,
    kind: str,
    cover: NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> Floats:
    """(height, width) 0-1: where the change is."""
    best, most = np.zeros(size, np.float32), -1
    for _ in range(_TRIES):
        soft = line_shape(size, rng=rng) if kind == "line" else blob_shape(size, rng=rng)
        held = soft > 0.3
        observed = int(held.sum() if cover is None else (held & cover).sum())
        if observed > most:
            best, most = soft, observed
        if observed >= max(_LEAST_PX, 0.5 * held.sum()):
            break
    return best


def line_shape(
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    length_px: float | None = None,
    wide_px: float | None = None,
    middle_px: tuple[float, float] | None = None,
) -> Floats:
    """(height, width) 0-1: a thin wandering line.

    Args:
        size: of the picture.
        rng: draws its way, and of the rest what is not given.
        length_px: of the line.
        wide_px: greatest width.
        middle_px: x and y at which it begins.
    """
    import cv2

    height, width = size
    count = int(rng.integers(6, 20))
    step = (min(size) * rng.uniform(0.2, 0.6) if length_px is None else length_px) / count
    turn = rng.uniform(0, 2 * np.pi)
    points = [np.array(middle_px or (rng.uniform(0, width), rng.uniform(0, height)))]
    for _ in range(count):
        turn += rng.normal(0, 0.35)
        points.append(points[-1] + step * np.array([np.cos(turn), np.sin(turn)]))
    drawn = np.zeros(size, np.float32)
    thick = rng.uniform(2.5, 5.5) if wide_px is None else wide_px
    for number in range(count):
        wide = max(1, round(thick * (1 - 0.7 * abs(2 * number / count - 1))))
        ends = [tuple(int(value * 8) for value in points[number + one]) for one in (0, 1)]
        cv2.line(drawn, ends[0], ends[1], (1.0,), wide, cv2.LINE_8, 3)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.5, 1.0)), np.float32)


def blob_shape(
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    radius_px: float | None = None,
    blur_px: float | None = None,
    middle_px: tuple[float, float] | None = None,
) -> Floats:
    """(height, width) 0-1: an uneven spot.

    Args:
        size: of the picture.
        rng: draws its outline, and of the rest what is not given.
        radius_px: on average.
        blur_px: of its edge.
        middle_px: x and y of its middle.
    """
    import cv2

    radius = radius_px or np.exp(rng.uniform(np.log(0.05), np.log(0.2))) * min(size)
    middle = middle_px or (rng.uniform(0, size[1]), rng.uniform(0, size[0]))
    stretch, turn = np.exp(rng.normal(0, 0.4)), rng.uniform(0, np.pi)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    x, y = x - middle[0], y - middle[1]
    along = (x * np.cos(turn) + y * np.sin(turn)) / (radius * stretch)
    aside = (y * np.cos(turn) - x * np.sin(turn)) * stretch / radius
    edge = np.sqrt(along**2 + aside**2) + 0.35 * _noise(size, max(3.0, 0.7 * radius), rng=rng)
    held = np.asarray(edge < 1, np.float32)
    soft = cv2.GaussianBlur(held, (0, 0), blur_px or rng.uniform(0.6, 2.0))
    return np.asarray(soft, np.float32)


def _noise(size: tuple[int, int], grain_px: float, *, rng: np.random.Generator) -> Floats:
    import cv2

    cells = [max(2, int(length / grain_px) + 2) for length in size]
    coarse = rng.standard_normal(cells).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32
    )


def _grey_deviation(wide: Floats) -> float:
    return max(_LEAST_DEVIATION, float(wide.std()))


def _tone(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    del others
    sign = -1.0 if rng.random() < 0.65 else 1.0
    return np.asarray(wide + sign * rng.uniform(1.5, 3.0) * _grey_deviation(wide), np.float32)


def _ink(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    del others
    sign = -1.0 if rng.random() < 0.65 else 1.0
    level = float(wide.mean()) + sign * rng.uniform(2.0, 3.5) * _grey_deviation(wide)
    return np.full_like(wide, np.clip(level, 0, 255))


def _grain(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    del others
    size = (wide.shape[0], wide.shape[1])
    noise = _noise(size, float(np.exp(rng.uniform(np.log(1.5), np.log(12)))), rng=rng)
    deviation = _grey_deviation(wide)
    level = float(wide.mean()) + rng.normal() * deviation
    return np.asarray(level + noise[..., None] * deviation * rng.uniform(0.5, 1.2), np.float32)


def _piece(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    import cv2

    other = others[int(rng.integers(len(others)))].astype(np.float32)
    height, width = other.shape[:2]
    turn = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(30, 330), float(np.exp(rng.uniform(-0.4, 0.4)))
    )
    shift = rng.uniform(-0.3, 0.3, (2, 1)) * [[width], [height]]
    moved = np.hstack([turn[:, :2], turn[:, 2:] + shift])
    size = (wide.shape[1], wide.shape[0])
    laid = cv2.warpAffine(other, moved, size, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(laid * rng.uniform(0.75, 1.25), np.float32)


def _smear(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    import cv2

    del others
    reach = rng.uniform(2.5, 7)
    soft = cv2.GaussianBlur(wide, (0, 0), reach, sigmaY=reach * rng.uniform(0.5, 2))
    return np.asarray(soft + rng.normal(0, 0.3) * _grey_deviation(wide), np.float32)


_CHANGES = {"line": _ink, "tone": _tone, "grain": _grain, "piece": _piece, "smear": _smear}


USABLE_AUROC = 0.7
_ENOUGH = 0.9
_FOLDS = 5
_MOST_CHANGED = 16
_PLANS = (ContrastPlan(noise=0.5), ContrastPlan(noise=0.8))

Halves = NDArray[np.float16]
Numbers = NDArray[np.float64]
Fit = Callable[[Sequence[Halves]], Scorer]
Cells = tuple[slice, slice]
"""Rows and columns of a map."""
HeldOutMap = Callable[[int, Halves, Cells], Floats]
"""Takes a picture's number, and the features of some of its cells, as they are or changed; gives
their distances by what was learned without that picture, in the scorer's own unit."""
WHOLE: Cells = (slice(None), slice(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticBenchmark:
    """Settings that turn a map into a score while scorers are compared."""

    blur_cells: float
    top_share: float

    def score(self, grid: Floats) -> float:
        """Of a map in the scorer's own unit."""
        rule = AnomalyRule(
            limit=1.0,
            unsure_above=1.0,
            unit=1.0,
            false_reject_rate=0.5,
            calibration_pictures=1,
            top_share=self.top_share,
            stride_px=STRIDE_PX,
            blur_cells=self.blur_cells,
        )
        return anomaly_score(smoothed_cells(grid, rule), rule)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A scorer fitted to all good pictures, with what it said of held-out ones.

    Attributes:
        scores: of good pictures, held out, in order.
        changed: of made-up changes of held-out good pictures.
        kinds: the kind of each change.
        held_out: judges a good picture, as it is or changed, as held out.
    """

    name: str
    scorer: Scorer
    scores: Numbers
    changed: Numbers
    kinds: tuple[str, ...]
    held_out: HeldOutMap

    @property
    def auroc(self) -> float:
        """AUROC of made-up changes against held-out good pictures."""
        return _auroc(self.scores, self.changed)

    def auroc_by_kind(self) -> dict[str, float]:
        """The same for each kind of change."""
        kinds = np.array(self.kinds)
        return {
            kind: round(_auroc(self.scores, self.changed[kinds == kind]), 3)
            for kind in dict.fromkeys(self.kinds)
        }


def _auroc(good: Numbers, changed: Numbers) -> float:
    if not len(good) or not len(changed):
        return math.nan
    truth = np.concatenate([np.zeros(len(good)), np.ones(len(changed))]).astype(np.int64)
    return float(auroc(truth, np.concatenate([good, changed])))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScorerChoice:
    """The best candidate, and all that were tried: name → AUROC on made-up changes.

    Attributes:
        owners: whose each good picture is; empty where each is its own.
    """

    best: Candidate
    compared: dict[str, float] = field(default_factory=dict)
    owners: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Change:
    """A made-up change of a picture, as the network sees it."""

    picture: int
    kind: str
    features: Halves


def choose(
    looker: PatchExtractor, patches: Sequence[Patches], *, seed: int, benchmark: SyntheticBenchmark
) -> ScorerChoice:
    """The scorer that tells made-up changes from good pictures best."""
    changes = _changes(looker, patches, seed=seed)
    features, owners = [each.features for each in patches], owners_of([p.sample for p in patches])
    tell = looker.work.steps
    cover = looker.scene.cover(STRIDE_PX)
    found = []
    if looker.scene.one_frame:
        cells = np.ones(features[0].shape[1:], np.bool_) if cover is None else cover
        tell.at(66, "comparing places")
        found.append(
            _compare_places(
                features, changes, cells=cells, owners=owners, seed=seed, benchmark=benchmark
            )
        )
    if not found or not found[0].auroc >= _ENOUGH:
        numbers = fold_numbers([each.sample for each in patches], seed=seed)
        study = _Study(
            features=features, changes=changes, folds=numbers, cover=cover, seed=seed,
            benchmark=benchmark, coarse=looker.coarse,
        )  # fmt: skip
        found.append(study.candidate(tell=lambda: tell.at(74, "fitting surfaces")))
    best = max(found, key=lambda each: each.auroc)
    return ScorerChoice(
        best=best,
        owners=owners,
        compared={each.name: round(each.auroc, 4) for each in found},
    )


def fold_numbers(samples: Sequence[Sample], *, seed: int) -> tuple[int, ...]:
    """The fold of each picture, two or more; groups stay together unless there is one alone."""
    groups = len(set(owners_of(samples)))
    return folds(apart(samples), count=max(2, min(_FOLDS, groups)), seed=seed)


def _changes(looker: PatchExtractor, patches: Sequence[Patches], *, seed: int) -> list[_Change]:
    """Each kind of change on some pictures, evenly spread."""
    chosen = spread(range(len(patches)), _MOST_CHANGED)
    template = looker.scene.template
    cover = None if template is None else np.asarray(template[..., 1] > 127, np.bool_)
    pixels = [patches[number].pixels for number in chosen]
    found = []
    for done, number in enumerate(chosen):
        rows, columns = patches[number].features.shape[1:]
        rng = np.random.default_rng((seed, number))
        for kind in KINDS:
            image = perturbed(
                patches[number].pixels, others=pixels, kind=kind, cover=cover, rng=rng
            )
            observed = looker.features(image)[:, :rows, :columns]
            found.append(_Change(picture=number, kind=kind, features=observed))
        looker.work.steps.at(56 + 9 * (done + 1) / len(chosen), "making changes up")
    return found


def _compare_places(
    features: Sequence[Halves],
    changes: Sequence[_Change],
    *,
    cells: NDArray[np.bool_],
    owners: Sequence[str],
    seed: int,
    benchmark: SyntheticBenchmark,
) -> Candidate:
    fitted = fit_local_neighbours(features, cells=cells, owners=owners, seed=seed)
    held = [benchmark.score(fitted.without(n, each)) for n, each in enumerate(features)]
    changed = [benchmark.score(fitted.without(each.picture, each.features)) for each in changes]
    return Candidate(
        name="places",
        scorer=fitted.scorer,
        scores=np.array(held),
        changed=np.array(changed),
        kinds=tuple(each.kind for each in changes),
        held_out=lambda picture, some, within: fitted.part(within).without(picture, some),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Study:
    """Scorers of surfaces, judged fold by fold."""

    features: Sequence[Halves]
    changes: Sequence[_Change]
    folds: Sequence[int]
    cover: NDArray[np.bool_] | None
    seed: int
    benchmark: SyntheticBenchmark
    coarse: slice

    @property
    def fits(self) -> dict[str, Fit]:
        """The members by name."""
        return {
            "spread": lambda some: fit_mahalanobis(some, channels=self.coarse, seed=self.seed),
            "memory": lambda some: fit_memory(some, seed=self.seed),
            **{f"contrast {plan.noise}": partial(self._contrast, plan) for plan in _PLANS},
        }

    def _contrast(self, plan: ContrastPlan, some: Sequence[Halves]) -> Scorer:
        return fit_contrast(some, seed=self.seed, plan=plan)

    def candidate(self, *, tell: Callable[[], None]) -> Candidate:
        """All members together."""
        held = {fold: self._fitted(fold, tell=tell) for fold in sorted(set(self.folds))}
        maps = [
            [map_of(scorer, grid) for scorer in held[fold]]
            for grid, fold in zip(self.features, self.folds, strict=True)
        ]
        means = [_mean(of) for of in zip(*maps, strict=True)]
        units = [_deviation(of) for of in zip(*maps, strict=True)]
        members = self._fitted(None, tell=tell)
        together: Scorer = ScorerMean(members, means=means, units=units)
        if self.cover is not None:
            together = MaskedScorer(together, cells=self.cover)

        def joined(parts: Sequence[Floats], within: Cells) -> Floats:
            scaled = [
                (each - mean) / unit for each, mean, unit in zip(parts, means, units, strict=True)
            ]
            grid = np.logaddexp(0.0, np.mean(scaled, axis=0)).astype(np.float32)
            return np.asarray(grid if self.cover is None else grid * self.cover[within], np.float32)

        def held_out(picture: int, some: Halves, within: Cells) -> Floats:
            return joined([map_of(each, some) for each in held[self.folds[picture]]], within)

        changed = [held_out(each.picture, each.features, WHOLE) for each in self.changes]
        return Candidate(
            name="surface",
            scorer=together,
            scores=np.array([self.benchmark.score(joined(each, WHOLE)) for each in maps]),
            changed=np.array([self.benchmark.score(each) for each in changed]),
            kinds=tuple(each.kind for each in self.changes),
            held_out=held_out,
        )

    def _fitted(self, without: int | None, *, tell: Callable[[], None]) -> list[Scorer]:
        """The members, learned from all pictures but those of a fold."""
        some = [grid for grid, of in zip(self.features, self.folds, strict=True) if of != without]
        found = []
        for fit in self.fits.values():
            found.append(fit(some))
            tell()
        return found


def _mean(maps: Sequence[Floats]) -> float:
    return float(np.concatenate([each.ravel() for each in maps]).mean(dtype=np.float64))


def _deviation(maps: Sequence[Floats]) -> float:
    return max(1e-6, float(np.concatenate([each.ravel() for each in maps]).std(dtype=np.float64)))
