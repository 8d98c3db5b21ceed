"""A package beside the one in use: the same pictures, who is right on which, how fast.

1. Pictures are those of the version's own dataset version that it was not trained on: the test part
   where there is one. What the package in use was trained on is left out for both.
2. Both judge through the code that devices run. Answers count as changed where a line would act
   otherwise on them.
3. Times are of whole predictions, both packages by turns, after a first round that is not counted.

Score of a variant: one metric a task, computed on the same images as its original:

1. multilabel and classify: ``accuracy`` (unsure is not right); detect: ``f1_iou33``; count:
   ``exact``; segment: ``pixel_f1``, ``accuracy`` where nobody drew a mask; anomaly: ``auroc``,
   ``accuracy`` where the pictures are all good or all defective.
2. The loss is original - variant. Its interval draws pictures, or whole groups of them, again for
   both at once (paired bootstrap), so that what is hard for both counts for neither.
3. A refused picture counts as not right.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, InvalidError, LinesideError
from lineside.datasets import DatasetVersion, Part, Sample
from lineside.models import Change, Comparison, Manifest, Metric, Package, Predictor, Speed
from lineside.models.manifest import Loss
from lineside.training.common.methods import spread
from lineside.training.evaluation.evaluate import training_evidence
from lineside.training.source import is_labelled, open_version
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.training.tasks.count.metrics import in_words, true_count
from lineside.training.tasks.detect.metrics import picture_of
from lineside.training.tasks.metrics import evaluator_for, is_defective, judge_all, owners
from lineside.training.tasks.multilabel.metrics import answered_pictures
from lineside.vision import Decision, Frame, PictureState, Prediction, open_frame
from lineside.vision.masks import mask_of
from lineside.vision.metrics import auroc, bootstrap, f1_of, metric_words, pixel_counts

_OVERLAP = 0.33

Rows = NDArray[np.float64]
Figure = Callable[[Rows], float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """A metric with what it is made of.

    Attributes:
        rows: (pictures, k), of each picture that the metric speaks of.
        places: (pictures,) which cases these are.
        figure: rows → value; NaN where it is undefined.
    """

    metric: str
    rows: Rows
    places: NDArray[np.intp]
    figure: Figure


def paired_loss(original: Sequence[Case], variant: Sequence[Case], *, manifest: Manifest) -> Loss:
    """Return the loss of the variant; both judged the same pictures in the same order.

    Raises:
        InvalidError: no picture tells what the metric needs.
    """
    one, other = scored(original, manifest), scored(variant, manifest)
    if not len(one.rows):
        raise InvalidError(
            f"none of the pictures tells what {metric_words(one.metric)} needs",
            where="data",
            fix="Label pictures that the package was not trained on.",
        )
    figure = one.figure
    found = bootstrap(
        lambda first, second: figure(first) - figure(second),
        one.rows,
        other.rows,
        groups=owners([original[place] for place in one.places]),
    )
    return Loss(
        metric=one.metric,
        original=_number(figure(one.rows)),
        variant=_number(figure(other.rows)),
        value=_number(found.value),
        low=_number(found.low),
        high=_number(found.high),
        n=found.n,
        changed=_changed(original, variant, places=one.places),
    )


def scored(cases: Sequence[Case], manifest: Manifest) -> Scored:
    """The metric of the manifest's task over judged pictures."""
    match manifest.task:
        case "multilabel":
            return _of_labels(cases, manifest)
        case "classify":
            return _rights(cases, "accuracy", right=_class_right)
        case "detect":
            return _of_boxes(cases, labels=manifest.labels)
        case "count":
            counted = () if manifest.count is None else manifest.count.labels
            return _rights(cases, "exact", right=lambda case: _count_right(case, counted))
        case "segment":
            return _of_masks(cases)
        case _:
            return _of_anomalies(cases)


def right_or_not(cases: Sequence[Case], manifest: Manifest) -> list[bool | None]:
    """Of each picture, whether everything that was said of it is right; None where nobody knows.

    Labels: every answer; boxes: each object met and no other box; counts: the number; masks and
    anomalies: whether there is a defect at all.
    """
    match manifest.task:
        case "multilabel":
            judged = answered_pictures(cases, manifest)
            return [each.exact if each.answers else None for each in judged]
        case "classify":
            return [_class_right(case) for case in cases]
        case "detect":
            return [_boxes_right(case, labels=manifest.labels) for case in cases]
        case "count":
            counted = () if manifest.count is None else manifest.count.labels
            return [_count_right(case, counted) for case in cases]
        case _:
            return [_defect_right(case) for case in cases]


def changed_answers(original: Sequence[Case], variant: Sequence[Case]) -> list[bool]:
    """Of each picture, whether a line would act otherwise on what the two said."""
    pairs = zip(original, variant, strict=True)
    return [_answer(one.prediction) != _answer(other.prediction) for one, other in pairs]


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise InvalidError(
            "the metric is not defined on these pictures",
            where="data",
            fix="Test on pictures of every kind: good and defective, with and without objects.",
        )
    return round(float(value), 6)


def _rights(cases: Sequence[Case], metric: str, *, right: Callable[[Case], bool | None]) -> Scored:
    """A share of right answers; None leaves a picture out."""
    known = [
        (place, found) for place, case in enumerate(cases) if (found := right(case)) is not None
    ]
    return Scored(
        metric=metric,
        rows=np.array([[found] for _, found in known], np.float64).reshape(len(known), 1),
        places=np.array([place for place, _ in known], np.intp),
        figure=lambda rows: float(rows.mean()) if len(rows) else math.nan,
    )


def _class_right(case: Case) -> bool | None:
    if not case.sample.labels:
        return None
    answer = [each.label for each in case.prediction.labels if each.decision is Decision.PRESENT]
    return len(answer) == 1 and answer[0] in case.sample.labels


def _count_right(case: Case, labels: Sequence[str]) -> bool | None:
    truth, answer = true_count(case.sample, labels=labels), case.prediction.count
    if truth is None:
        return None
    return answer is not None and answer.value == truth


def _defect_right(case: Case) -> bool | None:
    truth, answer = is_defective(case), case.prediction
    if truth is None:
        return None
    wanted = Decision.PRESENT if truth else Decision.ABSENT
    if answer.anomaly is not None:
        return answer.anomaly.decision is wanted
    return bool(answer.labels) and answer.labels[0].decision is wanted


def _share(rows: Rows) -> float:
    """Rows of (part, whole)."""
    part, whole = rows.sum(axis=0)
    return float(part / whole) if whole else math.nan


def _of_labels(cases: Sequence[Case], manifest: Manifest) -> Scored:
    answered = answered_pictures(cases, manifest)
    rows = [(sum(a.right for a in each.answers), len(each.answers)) for each in answered]
    return _scored_where("accuracy", rows, figure=_share, mask=[bool(row[1]) for row in rows])


def metrics_of(package: Package, cases: Sequence[Case]) -> dict[str, Metric]:
    """The figures of the task, of these answers; unlike a training's without controls."""
    evidence = training_evidence(package)
    manifest = package.manifest
    measured = evaluator_for(manifest.task)(cases, manifest=manifest, baseline=evidence.baseline)
    return dict(measured.metrics)


def _boxes_right(case: Case, *, labels: Sequence[str]) -> bool | None:
    if case.sample.marked is None:
        return None
    picture = picture_of(case, labels=labels)
    hits = int(np.sum(picture.hits(least=_OVERLAP, labelled=True) >= 0))
    return hits == len(picture.answer) == len(picture.truth)


def _of_boxes(cases: Sequence[Case], *, labels: Sequence[str]) -> Scored:
    rows = []
    for case in cases:
        picture = picture_of(case, labels=labels)
        hits = int(np.sum(picture.hits(least=_OVERLAP, labelled=True) >= 0))
        rows.append((2 * hits, len(picture.answer) + len(picture.truth)))
    known = [case.sample.marked is not None for case in cases]
    return _scored_where("f1_iou33", rows, figure=_share, mask=known)


def _of_masks(cases: Sequence[Case]) -> Scored:
    drawn = [case.truth_mask is not None for case in cases]
    if not any(case.truth_mask is not None and case.truth_mask.any() for case in cases):
        return _rights(cases, "accuracy", right=_defect_right)
    rows = [_pixels(case) for case in cases]
    return _scored_where(
        "pixel_f1",
        rows,
        figure=lambda every: f1_of(every.astype(np.int64)),
        mask=drawn,
    )


def _pixels(case: Case) -> tuple[float, ...]:
    truth, answer = case.truth_mask, case.prediction.mask
    if truth is None:
        return (0.0, 0.0, 0.0)
    found = np.zeros(truth.shape, np.bool_)
    if answer is not None:
        found = mask_of(answer.rle, width_px=answer.width_px, height_px=answer.height_px)
    return tuple(pixel_counts([found], [truth])[0].astype(float).tolist())


def _of_anomalies(cases: Sequence[Case]) -> Scored:
    truth = [is_defective(case) for case in cases]
    known = {found for found in truth if found is not None}
    if len(known) < 2:
        return _rights(cases, "accuracy", right=_defect_right)
    answer = [case.prediction.anomaly for case in cases]
    highest = max((each.score for each in answer if each is not None), default=0.0)
    rows = [
        (
            float(bool(defective)),
            (0.0 if defective else highest + 1.0) if each is None else each.score,
        )
        for defective, each in zip(truth, answer, strict=True)
    ]
    return _scored_where(
        "auroc",
        rows,
        figure=lambda every: auroc(every[:, 0] > 0, every[:, 1]),
        mask=[found is not None for found in truth],
    )


def _scored_where(
    metric: str, rows: Sequence[Sequence[float]], *, figure: Figure, mask: Sequence[bool]
) -> Scored:
    places = np.flatnonzero(np.array(mask, np.bool_))
    stored = np.array(rows, np.float64)[places] if len(rows) else np.zeros((0, 2))
    return Scored(metric=metric, rows=stored, places=places, figure=figure)


def _changed(original: Sequence[Case], variant: Sequence[Case], *, places: NDArray[np.intp]) -> int:
    changed = changed_answers(original, variant)
    return sum(changed[place] for place in places.tolist())


def _answer(prediction: Prediction) -> tuple[object, ...]:
    """Return what a line would act on, without its digits."""
    return (
        prediction.state,
        tuple((each.name, each.decision) for each in prediction.labels),
        tuple(sorted((each.label, each.decision) for each in prediction.boxes)),
        None if prediction.count is None else (prediction.count.value, prediction.count.decision),
        None if prediction.anomaly is None else prediction.anomaly.decision,
    )


_ANOMALY = {
    Decision.PRESENT: "defective",
    Decision.ABSENT: "good",
    Decision.UNSURE: "unsure",
}
_NOTHING = "nothing"


def answer_words(prediction: Prediction) -> str:
    """Return a prediction in words: refused and why, a count, boxes, good or defective, labels."""
    if prediction.state is not PictureState.OK:
        return (
            f"{prediction.state}: {prediction.reason}"
            if prediction.reason
            else str(prediction.state)
        )
    if prediction.count is not None:
        return in_words(prediction.count)
    if prediction.anomaly is not None:
        return _ANOMALY[prediction.anomaly.decision]
    if prediction.boxes or not (prediction.labels or prediction.mask):
        return _counted(
            box.label + (" (unsure)" if box.decision is Decision.UNSURE else "")
            for box in prediction.boxes
        )
    found = [each.name for each in prediction.labels if each.decision is Decision.PRESENT]
    doubtful = [f"{each.name}?" for each in prediction.labels if each.decision is Decision.UNSURE]
    return ", ".join([*found, *doubtful]) or _NOTHING


def truth_words(case: Case) -> str:
    """Return the labels of the picture in words."""
    sample = case.sample
    if case.prediction.task == "count" and sample.count is not None:
        return str(sample.count)
    if sample.marked is not None:
        return _counted(mark.label for mark in sample.marked)
    if case.prediction.task in ("segment", "anomaly"):
        return "defective" if is_defective(case) else "good"
    return ", ".join(sample.labels) or _NOTHING


def _counted(labels: Iterable[str]) -> str:
    """``2 bolt, 1 nut``."""
    return ", ".join(f"{n} {label}" for label, n in sorted(Counter(labels).items())) or _NOTHING


MOST_PICTURES = 2000
MOST_LISTED = 200
TIMED_PICTURES = 8
_TIMED_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Machine that took the measurement."""

    name: str
    processor: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unseen:
    """Pictures that a package may be measured on.

    Attributes:
        dataset: ``rack/3``; "" where there is none.
        why_not: why there are none; "" where there are.
    """

    dataset: str = ""
    samples: tuple[Sample, ...] = ()
    files: Files | None = None
    why_not: str = ""


@contextmanager
def unseen_of(
    package: Package, *, clock: Clock, records_url: str, blobs_url: str
) -> Iterator[Unseen]:
    """The pictures of the package's own dataset version, open as long as the block."""
    dataset = package.manifest.lineage.dataset
    name, slash, number = dataset.rpartition("/")
    if not (slash and name and number.isdecimal()):
        yield Unseen(
            why_not=f"It was trained on {dataset or 'data without a name'}, which is no version of "
            "a dataset of this hub, so there are no pictures to compare answers on."
        )
        return
    with ExitStack() as stack:
        opened = open_version(
            f"dataset://{dataset}", clock=clock, records_url=records_url, blobs_url=blobs_url
        )
        try:
            version, files = stack.enter_context(opened)
            found = _unseen(package, version, files=files)
        except LinesideError as error:
            found = Unseen(why_not=f"Its data {dataset} cannot be read here: {error.message}.")
        yield found


def _unseen(package: Package, version: DatasetVersion, *, files: Files) -> Unseen:
    name = f"{version.name}/{version.number}"
    if version.digest != package.manifest.lineage.data_digest:
        return Unseen(
            why_not=f"{name} of this hub is not the data it was trained on: the digests differ."
        )
    observed = set(training_evidence(package).pictures)
    part = version.part(Part.TEST) or version.samples
    samples = tuple(one for one in part if is_labelled(one) and one.digest not in observed)
    if not samples:
        return Unseen(
            why_not=f"Every labelled picture of {name} was trained on; with a test part there "
            "would be some to compare answers on."
        )
    return Unseen(dataset=name, samples=samples, files=files)


def compare(
    version: Package,
    in_use: Package | None,
    *,
    pictures: Unseen,
    clock: Clock,
    machine: Machine,
) -> Comparison:
    """Both lists of changed answers, the figures of both, and the speed.

    Args:
        version: what somebody will decide about.
        in_use: what runs now; None for nothing.
        pictures: to judge.
        clock: for times.
        machine: what measures.
    """
    found = _answers(version, in_use, pictures=pictures, clock=clock)
    return replace(
        found,
        in_use=in_use.digest if in_use else "",
        in_use_name=in_use.manifest.name if in_use else "",
        at=clock.now(),
        speed=_speed(version, in_use, pictures=pictures, clock=clock, machine=machine),
    )


def _answers(
    version: Package, in_use: Package | None, *, pictures: Unseen, clock: Clock
) -> Comparison:
    why_not = _why_not(version, in_use) or pictures.why_not
    if in_use is None or why_not or pictures.files is None:
        return Comparison(why_not=why_not)
    both = {*training_evidence(in_use).pictures}
    fit = [one for one in pictures.samples if one.digest not in both]
    fit = [one for one in fit if not _wants_template(version, in_use) or one.template_digest]
    left_out = len(pictures.samples) - len(fit)
    if not fit:
        return Comparison(
            left_out=left_out,
            why_not="The package in use was trained on every picture that this one was not, so "
            "none is left that both can be held against.",
        )
    chosen = spread(by_digest(fit), MOST_PICTURES)
    files = pictures.files
    before = tuple(judge_all(in_use, chosen, files=files, clock=clock))
    after = tuple(judge_all(version, chosen, files=files, clock=clock))
    known = _remarks(version, in_use, chosen=len(chosen), of=len(fit))
    return replace(
        _changes(version, in_use, before=before, after=after),
        dataset=pictures.dataset,
        n=len(chosen),
        left_out=left_out,
        this=metrics_of(version, after),
        beside=metrics_of(in_use, before),
        remarks=known,
    )


def _why_not(version: Package, in_use: Package | None) -> str:
    if in_use is None:
        return "Nothing is in use for its inspection and nothing else of its group is approved."
    one, other = version.manifest.task, in_use.manifest.task
    if one != other:
        return f"The package in use answers the task {other}, this one {one}."
    return ""


def _wants_template(*packages: Package) -> bool:
    return any(package.manifest.template for package in packages)


def _remarks(version: Package, in_use: Package, *, chosen: int, of: int) -> tuple[str, ...]:
    this, beside = set(version.manifest.labels), set(in_use.manifest.labels)
    known = []
    if chosen < of:
        known.append(f"{chosen} of {of} pictures were judged, evenly chosen by their digests.")
    if gained := sorted(this - beside):
        known.append(f"Only this version knows {', '.join(gained)}.")
    if lost := sorted(beside - this):
        known.append(f"Only the package in use knows {', '.join(lost)}.")
    return tuple(known)


def by_digest(samples: Sequence[Sample]) -> list[Sample]:
    """Samples in the order of their digests."""
    return sorted(samples, key=lambda sample: sample.digest)


def _changes(
    version: Package, in_use: Package, *, before: Sequence[Case], after: Sequence[Case]
) -> Comparison:
    """Who was right on which picture."""
    was, now = right_or_not(before, in_use.manifest), right_or_not(after, version.manifest)
    changed = changed_answers(before, after)
    better = [place for place in range(len(now)) if was[place] is False and now[place]]
    worse = [place for place in range(len(now)) if was[place] and now[place] is False]
    listed = {*better, *worse}
    otherwise = sum(one and place not in listed for place, one in enumerate(changed))

    def listed_changes(places: Sequence[int]) -> tuple[Change, ...]:
        return tuple(_change(before[one], after[one]) for one in places[:MOST_LISTED])

    return Comparison(
        better=listed_changes(better),
        worse=listed_changes(worse),
        better_count=len(better),
        worse_count=len(worse),
        otherwise=otherwise,
    )


def _change(before: Case, after: Case) -> Change:
    return Change(
        picture=after.sample.name,
        digest=after.sample.digest,
        before=answer_words(before.prediction),
        after=answer_words(after.prediction),
        truth=truth_words(after),
    )


# ---- speed


def _speed(
    version: Package, in_use: Package | None, *, pictures: Unseen, clock: Clock, machine: Machine
) -> Speed | None:
    """On pictures to compare on, else on the golden ones; None where a picture is not placed."""
    beside = in_use if in_use and not _why_not(version, in_use) else None
    compared = bool(pictures.samples) and not _wants_template(version)
    frames = _test_frames(pictures, clock) if compared else _golden_frames(version, clock)
    predictors = [Predictor(each, clock=clock) for each in (version, beside) if each is not None]
    try:
        spent = timed(predictors, [(frame, None) for frame in frames], clock=clock)
    except InvalidError:
        return None  # one of the two wants a template beside each picture
    if not spent[0]:
        return None
    return Speed(
        median_ms=_ms(spent[0], 50),
        p95_ms=_ms(spent[0], 95),
        in_use_ms=_ms(spent[1], 50) if len(spent) > 1 else None,
        n=len(spent[0]),
        machine=machine.name,
        processor=machine.processor,
        pictures="test" if compared else "golden",
    )


def _ms(spent_s: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(spent_s, percent)) * 1000, 3)


def timed(
    predictors: Sequence[Predictor],
    frames: Sequence[tuple[Frame, NDArray[np.uint8] | None]],
    *,
    clock: Clock,
) -> list[list[float]]:
    """Seconds of each predictor, by turns, of frames (and their templates) that it judged."""
    spent: list[list[float]] = [[] for _ in predictors]
    for turn in range(_TIMED_ROUNDS):
        for frame, template in frames:
            for seconds, predictor in zip(spent, predictors, strict=True):
                start_s = clock.monotonic()
                answer = predictor.predict(frame, template=template)
                if turn and answer.state is PictureState.OK:
                    seconds.append(clock.monotonic() - start_s)
    return spent


def _test_frames(pictures: Unseen, clock: Clock) -> list[Frame]:
    assert pictures.files is not None  # noqa: S101  there are samples
    data = [pictures.files(sample.digest) for sample in pictures.samples[:TIMED_PICTURES]]
    return _frames(data, clock)


def _golden_frames(package: Package, clock: Clock) -> list[Frame]:
    golden = [one for one in package.manifest.golden if not one.template_file]
    return _frames([package.file(one.file) for one in golden[:TIMED_PICTURES]], clock)


def _frames(pictures: Sequence[bytes], clock: Clock) -> list[Frame]:
    """Each of a camera of its own: nothing is another's repeat."""
    now = clock.now()
    return [
        open_frame(data, camera=f"compare-{number}", captured_at=now, max_bytes=MOST_BYTES)
        for number, data in enumerate(pictures)
    ]
