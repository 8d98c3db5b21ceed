"""A package beside the one in use: the same pictures, who is right on which, how fast.

1. Pictures are those of the version's own dataset version that it was not trained on: the test part
   where there is one. What the package in use was trained on is left out for both.
2. Both judge through the code that devices run. Answers count as changed where a line would act
   otherwise on them.
3. Times are of whole predictions, both packages by turns, after a first round that is not counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lineside.core import Clock, InvalidError, LinesideError
from lineside.datasets import DatasetVersion, Part, Sample
from lineside.models import Change, Comparison, Package, Predictor, Speed
from lineside.training.evaluation.evaluate import training_evidence
from lineside.training.evaluation.parity import changed_answers, metrics_of, right_or_not
from lineside.training.source import is_labelled, open_version
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.training.tasks.count.metrics import in_words
from lineside.training.tasks.metrics import is_defective, judge_all
from lineside.vision import Decision, Frame, PictureState, Prediction, open_frame

_ANOMALY = {
    Decision.PRESENT: "defective",
    Decision.ABSENT: "good",
    Decision.UNSURE: "unsure",
}
_NOTHING = "nothing"


def said_words(said: Prediction) -> str:
    """Return a prediction in words: refused and why, a count, boxes, good or defective, labels."""
    if said.state is not PictureState.OK:
        return f"{said.state}: {said.reason}" if said.reason else str(said.state)
    if said.count is not None:
        return in_words(said.count)
    if said.anomaly is not None:
        return _ANOMALY[said.anomaly.decision]
    if said.boxes or not (said.labels or said.mask):
        return _counted(
            box.label + (" (unsure)" if box.decision is Decision.UNSURE else "")
            for box in said.boxes
        )
    found = [each.name for each in said.labels if each.decision is Decision.PRESENT]
    doubtful = [f"{each.name}?" for each in said.labels if each.decision is Decision.UNSURE]
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
_TIMED_PICTURES = 8
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
    seen = set(training_evidence(package).pictures)
    part = version.part(Part.TEST) or version.samples
    samples = tuple(one for one in part if is_labelled(one) and one.digest not in seen)
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
    chosen = _spread(fit)
    files = pictures.files
    before = tuple(judge_all(in_use, chosen, files=files, clock=clock))
    after = tuple(judge_all(version, chosen, files=files, clock=clock))
    told = _remarks(version, in_use, chosen=len(chosen), of=len(fit))
    return replace(
        _changes(version, in_use, before=before, after=after),
        dataset=pictures.dataset,
        n=len(chosen),
        left_out=left_out,
        this=metrics_of(version, after),
        beside=metrics_of(in_use, before),
        remarks=told,
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
    told = []
    if chosen < of:
        told.append(f"{chosen} of {of} pictures were judged, evenly chosen by their digests.")
    if gained := sorted(this - beside):
        told.append(f"Only this version knows {', '.join(gained)}.")
    if lost := sorted(beside - this):
        told.append(f"Only the package in use knows {', '.join(lost)}.")
    return tuple(told)


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """At most ``MOST_PICTURES``, evenly over all of them in the order of their digests."""
    ordered = sorted(samples, key=lambda sample: sample.digest)
    most = min(MOST_PICTURES, len(ordered))
    return [ordered[int(place)] for place in np.linspace(0, len(ordered) - 1, most).round()]


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

    def told(places: Sequence[int]) -> tuple[Change, ...]:
        return tuple(_change(before[one], after[one]) for one in places[:MOST_LISTED])

    return Comparison(
        better=told(better),
        worse=told(worse),
        better_count=len(better),
        worse_count=len(worse),
        otherwise=otherwise,
    )


def _change(before: Case, after: Case) -> Change:
    return Change(
        picture=after.sample.name,
        digest=after.sample.digest,
        before=said_words(before.prediction),
        after=said_words(after.prediction),
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
        spent = _timed(predictors, frames, clock=clock)
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


def _timed(
    predictors: Sequence[Predictor], frames: Sequence[Frame], *, clock: Clock
) -> list[list[float]]:
    """Seconds of each predictor; of frames that all of them judged."""
    spent: list[list[float]] = [[] for _ in predictors]
    for turn in range(_TIMED_ROUNDS):
        for frame in frames:
            for seconds, predictor in zip(spent, predictors, strict=True):
                start_s = clock.monotonic()
                said = predictor.predict(frame)
                if turn and said.state is PictureState.OK:
                    seconds.append(clock.monotonic() - start_s)
    return spent


def _test_frames(pictures: Unseen, clock: Clock) -> list[Frame]:
    assert pictures.files is not None  # noqa: S101  there are samples
    data = [pictures.files(sample.digest) for sample in pictures.samples[:_TIMED_PICTURES]]
    return _frames(data, clock)


def _golden_frames(package: Package, clock: Clock) -> list[Frame]:
    golden = [one for one in package.manifest.golden if not one.template_file]
    return _frames([package.file(one.file) for one in golden[:_TIMED_PICTURES]], clock)


def _frames(pictures: Sequence[bytes], clock: Clock) -> list[Frame]:
    """Each of a camera of its own: nothing is another's repeat."""
    now = clock.now()
    return [
        open_frame(data, camera=f"compare-{number}", captured_at=now, max_bytes=MOST_BYTES)
        for number, data in enumerate(pictures)
    ]
