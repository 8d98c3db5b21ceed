"""Trivial baselines: guesses from an image's brightness, size, format or time alone.

1. Figures: ``mean_grey``, ``contrast`` (deviation of grey), ``sharpness``, ``picture_size`` and
   ``file_size``, ``time_of_day`` and ``order`` where they are known, and all of them ``together``.
   A figure that is the same for every picture is left out.
2. Order is by time of capture, else by the number in names that differ in it alone.
3. Each is read by a small tree (and, of yes or no, by its order too), learned by cross-validation
   on the very pictures the package is measured on, with groups kept whole; so a figure that says
   nothing reaches no more than the baseline.

Erase a marked defect by real material: what good pictures, or the rest of this one, show there.

Paint leaves a smooth place, and where good parts alone were learned a smooth place is an anomaly of
its own. Material is taken from where its surroundings fit the mark's best: from good parts laid
over this one (``Pose``), a few pixels about, or from anywhere else in the same picture.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core.worker import look_at_each
from lineside.datasets import Sample
from lineside.models import Metric, Package
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.training.tasks.metrics import bounded, rarest, rate, statistic
from lineside.vision import Matrix, decode_picture, encode_png, grey_of, picture_health
from lineside.vision.geometry import compose, invert
from lineside.vision.metrics import auroc, balanced_accuracy
from lineside.vision.pose import PoseEstimator

TOGETHER = "together"
_FOLDS = 5
_LEAVES = 4
_DAY_S = 86_400

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """Question about each picture that trivial figures are asked.

    Attributes:
        kind: ``yes`` (0 or 1), ``class`` (places of classes) or ``count``.
        of: the label, where the figures are named after one.
        truth: (n,) whole numbers; -1 where it is not known.
        owners: (n,) number of each picture's group.
    """

    kind: Literal["yes", "class", "count"]
    truth: Integers
    owners: Integers
    of: str = ""


def trivial_figures(samples: Sequence[Sample], *, files: Files) -> dict[str, Floats]:
    """Figure → (samples,) values; those that are unknown or alike for all are left out."""
    rows = look_at_each(lambda sample: _of_picture(files(sample.digest)), samples)
    found = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    times = [sample.captured_at for sample in samples]
    if all(times):
        stamps = np.array([time.timestamp() for time in times if time is not None])
        found["time_of_day"] = stamps % _DAY_S
        found["order"] = _ranks(stamps)
    elif (numbers := _numbered(samples)) is not None:
        found["order"] = _ranks(numbers)
    return {name: column for name, column in found.items() if np.ptp(column) > 0}


def _of_picture(encoded: bytes) -> dict[str, float]:
    image = decode_picture(encoded, max_bytes=MOST_BYTES)
    health = picture_health(image)
    return {
        "mean_grey": health.mean_grey,
        "contrast": float(grey_of(image).std()),
        "sharpness": health.sharpness,
        "picture_size": float(image.shape[0] * image.shape[1]),
        "file_size": float(len(encoded)),
    }


def _ranks(values: Floats) -> Floats:
    return np.unique(values, return_inverse=True)[1].astype(np.float64)


def _numbered(samples: Sequence[Sample]) -> Floats | None:
    """The last number of each name, where names differ in it alone."""
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", sample.name) for sample in samples]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len({(part[1], part[3]) for part in found}) != 1:
        return None
    return np.array([float(part[2][-15:]) for part in found])


def reached(question: Question, figures: Mapping[str, Floats]) -> Iterator[tuple[str, str, Metric]]:
    """(figure, metric, what it reaches) of every figure and of all together.

    Metrics are named as the package's own: ``auroc``, ``accuracy``, ``balanced_accuracy``,
    ``exact``, ``mae``. Nothing where the pictures are too few or too alike to learn from.
    """
    known = question.truth >= 0
    if question.kind == "class":  # a class shown once cannot be learned and tested
        known &= np.isin(question.truth, _often(question.truth[known]))
    requested = Question(
        kind=question.kind,
        truth=question.truth[known],
        owners=question.owners[known],
        of=question.of,
    )
    folds = _folds(requested)
    if not folds or not figures:
        return
    columns = {name: column[known][:, None] for name, column in figures.items()}
    if len(columns) > 1:
        columns[TOGETHER] = np.concatenate(list(columns.values()), axis=1)
    for name, column in columns.items():
        for metric, value in _READERS[requested.kind](requested, column, folds):
            yield name, metric, value


def _often(truth: Integers) -> Integers:
    values, counts = np.unique(truth, return_counts=True)
    return values[counts > 1]


Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def _folds(question: Question) -> list[Fold]:
    """(training, tested) rows; no group on both sides. Empty where it cannot be done."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    truth, owners = question.truth, question.owners
    if len(np.unique(truth)) < 2:
        return []
    groups = len(np.unique(owners))
    if groups < 4:  # too few to keep whole: single pictures
        owners, groups = np.arange(len(truth)), len(truth)
    rows = np.zeros((len(truth), 1))
    if question.kind == "count":
        cut = GroupKFold(n_splits=min(_FOLDS, groups))
        return [(a, b) for a, b in cut.split(rows, truth, owners)] if groups >= 4 else []
    rarest = min(Counter(truth.tolist()).values())
    splits = min(_FOLDS, groups, rarest)
    if splits < 2:
        return []
    dealt = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=0)
    folds = [(a, b) for a, b in dealt.split(rows, truth, owners)]
    return [(a, b) for a, b in folds if len(b) and len(np.unique(truth[a])) > 1]


def _leaf(rows: int) -> int:
    return max(2, rows // 40)


def _read_yes(
    question: Question, column: Floats, folds: Sequence[Fold]
) -> Iterator[tuple[str, Metric]]:
    truth = question.truth
    tested = np.sort(np.concatenate([b for _, b in folds]))
    readings = [_by_tree(truth, column, folds=folds)]
    if column.shape[1] == 1:
        readings.append(_by_order(truth, column[:, 0], folds=folds))
    best = max(readings, key=lambda scores: _known(auroc(truth[tested], scores[tested])))
    yield (
        "auroc",
        bounded(
            auroc,
            truth[tested],
            best[tested],
            groups=question.owners[tested],
            baseline=0.5,
            pictures=rarest(truth[tested], question.owners[tested]),
        ),
    )


def _known(value: float) -> float:
    return 0.5 if np.isnan(value) else value


def _by_order(truth: Integers, column: Floats, *, folds: Sequence[Fold]) -> Floats:
    """The figure itself, upwards or downwards as the other folds say."""
    scores = np.zeros(len(truth))
    for learned, tested in folds:
        upwards = _known(auroc(truth[learned], column[learned])) >= 0.5
        scores[tested] = column[tested] if upwards else -column[tested]
    return scores


def _by_tree(truth: Integers, column: Floats, *, folds: Sequence[Fold]) -> Floats:
    from sklearn.tree import DecisionTreeClassifier

    scores = np.zeros(len(truth))
    for learned, tested in folds:
        tree = DecisionTreeClassifier(
            max_leaf_nodes=_LEAVES * min(2, column.shape[1]),
            min_samples_leaf=_leaf(len(learned)),
            class_weight="balanced",
            random_state=0,
        ).fit(column[learned], truth[learned])
        scores[tested] = tree.predict_proba(column[tested])[:, 1]
    return scores


def _read_class(
    question: Question, column: Floats, folds: Sequence[Fold]
) -> Iterator[tuple[str, Metric]]:
    from sklearn.tree import DecisionTreeClassifier

    _, truth = np.unique(question.truth, return_inverse=True)
    classes = int(truth.max()) + 1
    often = np.bincount(truth).max() / len(truth)
    answer: dict[str, Integers] = {}
    for name, weight in (("accuracy", None), ("balanced_accuracy", "balanced")):
        answer[name] = np.full(len(truth), -1, np.int64)
        for learned, tested in folds:
            tree = DecisionTreeClassifier(
                max_leaf_nodes=2 * classes,
                min_samples_leaf=_leaf(len(learned)),
                class_weight=weight,
                random_state=0,
            ).fit(column[learned], truth[learned])
            answer[name][tested] = tree.predict(column[tested])
    yield "accuracy", rate((truth == answer["accuracy"]).tolist(), baseline=float(often))
    yield (
        "balanced_accuracy",
        bounded(
            balanced_accuracy,
            truth,
            answer["balanced_accuracy"],
            groups=question.owners,
            baseline=1 / classes,
            pictures=rarest(truth, question.owners),
        ),
    )


def _read_count(
    question: Question, column: Floats, folds: Sequence[Fold]
) -> Iterator[tuple[str, Metric]]:
    from sklearn.tree import DecisionTreeRegressor

    truth = question.truth
    answer = np.zeros(len(truth))
    for learned, tested in folds:
        tree = DecisionTreeRegressor(
            max_leaf_nodes=2 * _LEAVES,
            min_samples_leaf=_leaf(len(learned)),
            random_state=0,
        ).fit(column[learned], truth[learned])
        answer[tested] = tree.predict(column[tested])
    whole = answer.round().astype(np.int64)
    often = np.bincount(truth).max() / len(truth)
    middle = float(np.abs(truth - np.median(truth)).mean())
    yield "exact", rate((truth == whole).tolist(), baseline=float(often))
    yield (
        "mae",
        statistic(
            lambda a, b: float(np.abs(a - b).mean()),
            truth,
            whole,
            groups=question.owners,
            baseline=middle,
        ),
    )


Reader = Callable[[Question, Floats, Sequence[Fold]], Iterator[tuple[str, Metric]]]

_READERS: Mapping[str, Reader] = {
    "yes": _read_yes,
    "class": _read_class,
    "count": _read_count,
}


_MOST_ERASED_SHARE = 0.3
_MARGIN_SHARE = 0.015
_LEAST_MARGIN_PX = 3
_RADIUS_PX = 5
_ERASED_AROUND_PX = 24


def marked_area(case: Case) -> NDArray[np.bool_] | None:
    """Where the mark lies, (height, width) bool; None without one that has an area.

    Of boxes, an array just large enough for them; ``erased`` lays it onto the picture.
    """
    if case.truth_mask is not None and case.truth_mask.any():
        return case.truth_mask
    boxes = [mark for mark in case.sample.marked or () if not mark.is_point]
    if not boxes:
        return None
    width = max(1, round(max(box.x1_px for box in boxes)))
    height = max(1, round(max(box.y1_px for box in boxes)))
    area = np.zeros((height, width), np.bool_)
    for box in boxes:
        area[
            max(0, int(box.y0_px)) : round(box.y1_px), max(0, int(box.x0_px)) : round(box.x1_px)
        ] = True
    return area


def erased(encoded: bytes, case: Case) -> bytes:
    """The picture as PNG with its mark painted over, some pixels wider than it was drawn.

    A mark that covers a third of the picture leaves too little to paint from: then it is one grey,
    the median of the rest.
    """
    import cv2

    image = np.array(decode_picture(encoded, max_bytes=MOST_BYTES))
    wide = wide_mark(marked_area(case), image.shape[:2]).astype(np.uint8)
    if not wide.any():
        return encoded
    if wide.mean() > _MOST_ERASED_SHARE:
        rest = image[wide == 0]
        image[wide > 0] = np.median(rest, axis=0) if len(rest) else 127
        return encode_png(image)
    rows, columns = _window(wide > 0, margin_px=_ERASED_AROUND_PX)
    image[rows, columns] = cv2.inpaint(
        np.ascontiguousarray(image[rows, columns]),
        np.ascontiguousarray(wide[rows, columns]),
        _RADIUS_PX,
        cv2.INPAINT_TELEA,
    )
    return encode_png(image)


def wide_mark(area: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mark on a picture of that (height, width), some pixels wider than it was drawn."""
    import cv2

    laid = _on_picture(area, shape)
    margin = max(_LEAST_MARGIN_PX, round(_MARGIN_SHARE * max(shape)))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return np.asarray(cv2.dilate(laid.astype(np.uint8), brush) > 0, np.bool_)


def _on_picture(area: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    laid = np.zeros(shape, np.bool_)
    if area is not None:
        part = area[: shape[0], : shape[1]]
        laid[: part.shape[0], : part.shape[1]] = part
    return laid


def _window(wide: NDArray[np.bool_], *, margin_px: int) -> tuple[slice, slice]:
    """The mark with some picture around it."""
    down, across = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
    return (
        slice(max(0, int(down[0]) - margin_px), int(down[-1]) + 1 + margin_px),
        slice(max(0, int(across[0]) - margin_px), int(across[-1]) + 1 + margin_px),
    )


_MOST_DONORS = 16
_INPAINTED_AROUND_PX = 10
_REACH_PX = 10
_MOST_SHARE = 0.25
_SOFT_PX = 1.5

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]


Donor = tuple[Image, Matrix]
"""A good picture and where its part lies (frame px → picture px)."""


def inpainted(
    encoded: bytes, case: Case, *, poses: PoseEstimator | None, donors: Sequence[Donor] = ()
) -> bytes:
    """The picture as PNG with real material in place of its mark.

    Args:
        encoded: the picture.
        case: of it, with its mark.
        poses: says where parts lie; None where they are not posed.
        donors: good pictures with their part's place, where parts are posed.
    """
    image = np.array(decode_picture(encoded, max_bytes=MOST_BYTES))
    wide = wide_mark(marked_area(case), image.shape[:2])
    if not wide.any() or wide.mean() > _MOST_SHARE:
        return erased(encoded, case)
    box = _window(wide, margin_px=_INPAINTED_AROUND_PX)
    sources = _aligned(image, poses, donors)
    found = [_fitting(image, wide, source=laid, box=box, own=False) for laid in sources]
    if not sources:
        found = [_fitting(image, wide, source=image, box=box, own=True)]
    usable = [each for each in found if each is not None]
    if not usable:
        return erased(encoded, case)
    material, _ = min(usable, key=lambda each: each[1])
    return encode_png(_filled(image, wide, material=material, box=box))


def _aligned(image: Image, poses: PoseEstimator | None, donors: Sequence[Donor]) -> list[Image]:
    """Good pictures, their parts where this one's part is."""
    import cv2

    matrix = None if poses is None else poses.find(grey_of(image)).matrix
    if matrix is None:
        return []
    size = (image.shape[1], image.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return [
        np.asarray(
            cv2.warpAffine(
                good,
                compose(place, invert(matrix)),
                size,
                flags=flags,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.uint8,
        )
        for good, place in donors
    ]


def inpainter_of(
    package: Package, good: Sequence[Case], *, files: Files
) -> Callable[[bytes, Case], bytes]:
    """Inpaints with material from good pictures that a package of good parts was not trained on."""
    settings = package.manifest.prepare
    if settings.pose is None:
        return partial(inpainted, poses=None)
    template = decode_picture(package.file(settings.pose.template_file), max_bytes=MOST_BYTES)
    poses = PoseEstimator(settings.pose, template)
    step = max(1, len(good) // _MOST_DONORS)
    donors = []
    for case in good[::step][:_MOST_DONORS]:
        image = decode_picture(files(case.sample.digest), max_bytes=MOST_BYTES)
        matrix = poses.find(grey_of(image)).matrix
        if matrix is not None:
            donors.append((image, matrix))
    return partial(inpainted, poses=poses, donors=donors)


def _fitting(
    image: Image, wide: Mask, *, source: Image, box: tuple[slice, slice], own: bool
) -> tuple[Pixels, float] | None:
    """Material for the mark's box from a source, and how badly its surroundings fit."""
    import cv2

    patch, hole = image[box].astype(np.float32), wide[box]
    gain = 1.0 if own else float(image[~wide].mean()) / max(1.0, float(source[~wide].mean()))
    scaled = np.clip(source.astype(np.float32) * gain, 0, 255)
    window = scaled if own else _about(scaled, box)
    if any(a < b for a, b in zip(window.shape[:2], patch.shape[:2], strict=True)):
        return None
    ring = np.repeat((~hole)[..., None].astype(np.float32), 3, axis=2)
    errors = np.asarray(cv2.matchTemplate(window, patch, cv2.TM_SQDIFF, mask=ring), np.float32)
    if own:  # not from under the mark itself
        under = cv2.matchTemplate(wide.astype(np.float32), hole.astype(np.float32), cv2.TM_CCORR)
        errors = np.where(np.asarray(under) > 0.5, np.float32(np.inf), errors)
    y, x = np.unravel_index(int(np.argmin(errors)), errors.shape)
    if not np.isfinite(errors[y, x]):
        return None
    height, width = patch.shape[:2]
    return window[y : y + height, x : x + width], float(errors[y, x])


def _about(source: Pixels, box: tuple[slice, slice]) -> Pixels:
    """The box in a source, some pixels wider."""
    rows, columns = box
    return source[
        max(0, rows.start - _REACH_PX) : rows.stop + _REACH_PX,
        max(0, columns.start - _REACH_PX) : columns.stop + _REACH_PX,
    ]


def _filled(image: Image, wide: Mask, *, material: Pixels, box: tuple[slice, slice]) -> Image:
    """The material in the hole, at its surroundings' light, with a soft seam inside the mark."""
    import cv2

    hole, patch = wide[box], image[box].astype(np.float32)
    around = ~hole
    gain = float(patch[around].mean()) / max(1.0, float(material[around].mean()))
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), _SOFT_PX)[..., None] * hole[..., None]
    mixed = patch * (1 - soft) + np.clip(material * gain, 0, 255) * soft
    found = image.copy()
    found[box] = mixed.round().astype(np.uint8)
    return found
