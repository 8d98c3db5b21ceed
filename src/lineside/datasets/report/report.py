"""The report of labelled images: what a person should know before training on them.

Class balance by part, sizes, light and contrast (by label too: where light alone tells a label, a
network will learn the lamp), how much masks cover, how many objects there are and how large, what
stands twice, what leaks, and examples. ``report_page`` makes it one HTML file.

Figures of single pictures, and thumbnails with what is marked on them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, LinesideError
from lineside.datasets.leaks import (
    ComparisonLimits,
    Leak,
    LeakCheck,
    LeakReport,
    check_leaks,
    look_at,
    spread_out,
)
from lineside.datasets.samples import Import, Marked, Part, Sample, Skipped
from lineside.datasets.splitting import shown_count
from lineside.datasets.versions import DatasetVersion
from lineside.vision import check_picture, decode_picture, encode_jpeg
from lineside.vision.metrics import auroc

LARGEST_PICTURE = 64_000_000
THUMBNAIL_PX = 160
_MASKED = 127

Files = Callable[[Digest], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFigures:
    """Of one picture.

    Attributes:
        brightness, contrast: mean and standard deviation of its grey, 0 to 255, of a small copy.
        mask_share: of its pixels that its mask covers; None without a mask.
        size_bytes: as stored.
    """

    digest: Digest
    width_px: int
    height_px: int
    size_bytes: int
    brightness: float
    contrast: float
    mask_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Five numbers of a set of values: the ends, the quartiles and the middle."""

    n: int
    low: float
    lower: float
    median: float
    upper: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Count of values between neighbouring edges; the last edge is inside."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def figures_of(sample: Sample, *, files: Files) -> tuple[PictureFigures, bytes]:
    """A picture's figures and its thumbnail.

    Raises:
        LinesideError: the picture or its mask is damaged or gone.
    """
    encoded = files(sample.digest)
    checked = check_picture(encoded, width_px=THUMBNAIL_PX, max_bytes=LARGEST_PICTURE)
    grey = decode_picture(checked.thumbnail).astype(np.float32).mean(axis=2)
    figures = PictureFigures(
        digest=sample.digest,
        width_px=checked.width_px,
        height_px=checked.height_px,
        size_bytes=len(encoded),
        brightness=round(float(grey.mean()), 2),
        contrast=round(float(grey.std()), 2),
        mask_share=_mask_share(sample, files=files),
    )
    return figures, checked.thumbnail


def _mask_share(sample: Sample, *, files: Files) -> float | None:
    if sample.mask_digest is None:
        return None
    mask = decode_picture(files(sample.mask_digest), max_bytes=LARGEST_PICTURE)
    return round(float((mask[..., 0] > _MASKED).mean()), 6)


def figures_of_all(
    samples: Sequence[Sample], *, files: Files
) -> tuple[dict[Digest, PictureFigures], dict[Digest, str]]:
    """The figures of each picture, and of each that cannot be read why not."""
    found: dict[Digest, PictureFigures] = {}
    faults: dict[Digest, str] = {}
    for sample in samples:
        try:
            found[sample.digest] = figures_of(sample, files=files)[0]
        except LinesideError as error:
            faults[sample.digest] = error.message
    return found, faults


def spread_of(values: Sequence[float]) -> Spread:
    """Quartiles by linear interpolation; of at least one value."""
    five = np.quantile(np.asarray(values, np.float64), (0.0, 0.25, 0.5, 0.75, 1.0))
    low, lower, median, upper, high = (round(float(value), 4) for value in five)
    return Spread(n=len(values), low=low, lower=lower, median=median, upper=upper, high=high)


def histogram_of(values: Sequence[float], *, bins: int, low: float, high: float) -> Histogram:
    """Values in so many equal bins; what lies outside counts at the ends."""
    clipped = np.clip(np.asarray(values, np.float64), low, high)
    counts, edges = np.histogram(clipped, bins=bins, range=(low, high))
    return Histogram(
        edges=tuple(round(float(edge), 4) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


DRAWN_PX = 320
_COLOURS = (
    *((255, 176, 0), (214, 0, 147), (0, 176, 255), (44, 182, 125)),
    *((170, 110, 255), (190, 220, 40)),
)
_MASK = (255, 64, 64)


def is_drawn_on(sample: Sample) -> bool:
    """Return whether there is something to draw."""
    return bool(sample.marked) or sample.mask_digest is not None


def marked_labels(samples: Iterable[Sample]) -> set[str]:
    """Labels of the objects that are marked on samples."""
    return {mark.label for sample in samples for mark in sample.marked or ()}


def drawn_thumbnail(
    sample: Sample, *, labels: Iterable[str], files: Files, width_px: int = DRAWN_PX
) -> bytes:
    """A JPEG at most so wide, with the sample's objects and its mask's outline on it.

    ``labels`` are those of the whole dataset: each has a colour of its own, the same on every
    picture, as long as there are no more than six.

    Raises:
        InvalidError: the picture or its mask is damaged.
    """
    image = decode_picture(files(sample.digest), max_bytes=LARGEST_PICTURE)
    scale = min(1.0, width_px / image.shape[1])
    small = _scaled(image, scale)
    if sample.mask_digest is not None:
        mask = decode_picture(files(sample.mask_digest), max_bytes=LARGEST_PICTURE)
        _outline(small, mask)
    places = {label: place for place, label in enumerate(sorted({*labels}))}
    for mark in sample.marked or ():
        colour = _COLOURS[places[mark.label] % len(_COLOURS)]
        _draw(small, mark, scale=scale, colour=colour)
    return encode_jpeg(small, quality=80)


def _scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _outline(small: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    import cv2

    size = (small.shape[1], small.shape[0])
    shrunk = cv2.resize(mask[..., 0], size, interpolation=cv2.INTER_AREA)
    found = cv2.findContours(
        (shrunk > _MASKED).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )[0]
    cv2.drawContours(small, found, -1, _MASK, 1)


def _draw(
    small: NDArray[np.uint8], mark: Marked, *, scale: float, colour: tuple[int, int, int]
) -> None:
    import cv2

    if mark.is_point:
        x, y = mark.centre_px
        cv2.circle(small, (round(x * scale), round(y * scale)), 4, colour, 1)
    else:
        start = (round(mark.x0_px * scale), round(mark.y0_px * scale))
        cv2.rectangle(
            small, start, (round(mark.x1_px * scale), round(mark.y1_px * scale)), colour, 1
        )


_MOST_LABELS = 40
_EXAMPLE_LABELS = 12
_EXAMPLES_EACH = 5
_EXTREMES = 3
_PAIRS = 6
_MOST_SKIPPED = 200
_FEW = 5
_TELLING = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture to look at: a small JPEG of it, and why it was chosen."""

    name: str
    labels: tuple[str, ...]
    part: str
    why: str
    thumbnail: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetReport:
    """Everything known of a set of labelled pictures.

    Attributes:
        digest: of the version; "" for a source that is not frozen.
        pictures, looked_at: all, and those whose pixels the figures are of.
        parts: part → pictures; the empty part is not parted.
        labels: label → part → pictures it holds on.
        judged: label → pictures on which somebody judged it, whether it holds or not.
        unjudged: pictures of which nobody said anything.
        groups: pictures of each group, the largest first, at most 40.
        groups_in_all: how many groups there are.
        sizes: (width, height, pictures), the most frequent first.
        brightness, contrast: of all pictures looked at.
        brightness_by_label: of the pictures on which it holds; "" for those without a label.
        brightness_tells: label → AUROC of mean grey alone for it, against all other pictures.
        mask_share: of pictures with a mask.
        masks: pictures with a mask.
        counts: (objects shown, pictures), by number of objects.
        objects: label → marked objects.
        object_sizes_px: square root of the area of marked boxes.
        unreadable: pictures that cannot be decoded, with the reason.
    """

    name: str
    digest: str
    pictures: int
    looked_at: int
    parts: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]
    judged: Mapping[str, int]
    unjudged: int
    groups: Mapping[str, int]
    groups_in_all: int
    sizes: tuple[tuple[int, int, int], ...]
    brightness: Histogram
    contrast: Histogram
    brightness_by_label: Mapping[str, Spread]
    brightness_tells: Mapping[str, float]
    masks: int
    mask_share: Spread | None
    mask_histogram: Histogram | None
    counts: tuple[tuple[int, int], ...]
    objects: Mapping[str, int]
    object_sizes_px: Spread | None
    leaks: tuple[Leak, ...]
    leaks_by: str
    leak_check: LeakCheck | None
    skipped: tuple[Skipped, ...]
    unreadable: tuple[Skipped, ...]
    examples: tuple[Example, ...]
    warnings: tuple[str, ...]
    schema: str = "lineside.dataset-report/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The subject of a report.

    Attributes:
        samples: with the part they stand in as the one they declare.
        leaks, leaks_by: what is known of leaks, and what was compared; None where nobody looked.
        skipped: what a reading left out or merged.
        most_looked_at: of how many pictures pixels are read; of more, runs evenly spread.
    """

    name: str
    samples: Sequence[Sample]
    digest: str = ""
    leaks: LeakReport | None = None
    leaks_by: str = ""
    skipped: tuple[Skipped, ...] = ()
    most_looked_at: int = field(default=5000)


def subject_of_version(version: DatasetVersion, *, most_looked_at: int = 5000) -> Subject:
    """A frozen version, with the leak report it carries."""
    check = version.leak_check or LeakCheck(pictures=len(version.samples))
    return Subject(
        name=f"{version.name}, version {version.number}",
        samples=version.parted,
        digest=version.digest,
        leaks=LeakReport(leaks=version.leaks, check=check),
        leaks_by=version.leaks_by,
        most_looked_at=most_looked_at,
    )


def subject_of_source(
    name: str, found: Import, *, limits: ComparisonLimits | None = None
) -> Subject:
    """A source as it was read; leaks are looked for between the parts it declares."""
    looks, by = look_at(found.samples, read=found.read, limits=limits)
    return Subject(
        name=name,
        samples=found.samples,
        leaks=check_leaks(found.samples, looks, read=found.read),
        leaks_by=by,
        skipped=found.skipped,
    )


def dataset_report(subject: Subject, *, files: Files) -> DatasetReport:
    """Look at the pictures and sum up; a damaged one is reported and left out of the figures."""
    samples = subject.samples
    looked = spread_out(samples, most=subject.most_looked_at)
    figures, faults = figures_of_all(looked, files=files)
    seen = [sample for sample in looked if sample.digest in figures]
    light = [figures[sample.digest].brightness for sample in seen]
    shares = [share for f in figures.values() if (share := f.mask_share) is not None]
    boxes = [
        ((mark.x1_px - mark.x0_px) * (mark.y1_px - mark.y0_px)) ** 0.5
        for sample in samples
        for mark in sample.marked or ()
        if not mark.is_point
    ]
    groups = Counter(sample.group for sample in samples if sample.group)
    tells = _brightness_tells(seen, light)
    return DatasetReport(
        name=subject.name,
        digest=subject.digest,
        pictures=len(samples),
        looked_at=len(seen),
        parts=_by_part(samples),
        labels=_labels(samples),
        judged=dict(sorted(Counter(name for s in samples for name in s.known).items())),
        unjudged=sum(not _is_judged(sample) for sample in samples),
        groups=dict(groups.most_common(_MOST_LABELS)),
        groups_in_all=len(groups),
        sizes=_sizes(figures),
        brightness=histogram_of(light, bins=32, low=0, high=256),
        contrast=histogram_of(
            [figures[sample.digest].contrast for sample in seen], bins=32, low=0, high=128
        ),
        brightness_by_label=_light_by_label(seen, light),
        brightness_tells=tells,
        masks=sum(sample.mask_digest is not None for sample in samples),
        mask_share=spread_of(shares) if shares else None,
        mask_histogram=histogram_of(shares, bins=20, low=0, high=1) if shares else None,
        counts=_counts(samples),
        objects=dict(sorted(Counter(m.label for s in samples for m in s.marked or ()).items())),
        object_sizes_px=spread_of(boxes) if boxes else None,
        leaks=subject.leaks.leaks if subject.leaks else (),
        leaks_by=subject.leaks_by,
        leak_check=subject.leaks.check if subject.leaks else None,
        skipped=subject.skipped[:_MOST_SKIPPED],
        unreadable=tuple(
            Skipped(where=sample.name, reason=faults[sample.digest])
            for sample in looked
            if sample.digest in faults
        )[:_MOST_SKIPPED],
        examples=_examples(
            seen, subject.leaks.leaks if subject.leaks else (), figures=figures, files=files
        ),
        warnings=_warnings(subject, tells=tells, faults=len(faults)),
    )


def _is_judged(sample: Sample) -> bool:
    drawn = sample.marked is not None or sample.mask_digest is not None
    return bool(sample.known) or drawn or sample.count is not None


def _by_part(samples: Sequence[Sample]) -> dict[str, int]:
    counts = Counter(sample.split for sample in samples)
    order = (Part.TRAIN, Part.VALID, Part.TEST, Part.OPEN)
    return {str(part): counts[part] for part in order if counts[part]}


def _labels(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    parts = _by_part(samples)
    found: dict[str, dict[str, int]] = {}
    for sample in samples:
        for label in sample.labels:
            held = found.setdefault(label, dict.fromkeys(parts, 0))
            held[str(sample.split)] += 1
    return dict(sorted(found.items()))


def _sizes(figures: Mapping[Digest, PictureFigures]) -> tuple[tuple[int, int, int], ...]:
    counts = Counter((one.width_px, one.height_px) for one in figures.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((width, height, count) for (width, height), count in ordered[:_MOST_LABELS])


def _light_by_label(samples: Sequence[Sample], light: Sequence[float]) -> dict[str, Spread]:
    values: dict[str, list[float]] = {}
    for sample, value in zip(samples, light, strict=True):
        for label in sample.labels or ("",):
            values.setdefault(label, []).append(value)
    return {label: spread_of(values[label]) for label in sorted(values)[:_MOST_LABELS]}


def _brightness_tells(samples: Sequence[Sample], light: Sequence[float]) -> dict[str, float]:
    """From 0.5, nothing, to 1, everything; only where both sides have at least five pictures."""
    told = {}
    for label in sorted({name for sample in samples for name in sample.labels})[:_MOST_LABELS]:
        judged = [
            (value, label in sample.labels)
            for sample, value in zip(samples, light, strict=True)
            if label in sample.known or sample.labels
        ]
        holds = sum(truth for _, truth in judged)
        if min(holds, len(judged) - holds) >= _FEW:
            area = auroc(
                np.array([truth for _, truth in judged]), np.array([value for value, _ in judged])
            )
            told[label] = round(max(area, 1 - area), 4)
    return told


def _counts(samples: Sequence[Sample]) -> tuple[tuple[int, int], ...]:
    counts = Counter(c for sample in samples if (c := shown_count(sample)) is not None)
    return tuple(sorted(counts.items()))


def _examples(
    samples: Sequence[Sample],
    leaks: Sequence[Leak],
    *,
    figures: Mapping[Digest, PictureFigures],
    files: Files,
) -> tuple[Example, ...]:
    """Pairs that leak; a few of each label, in order of digests, hence by chance; the extremes."""
    wanted = _similar(samples, leaks)
    by_digest = sorted(samples, key=lambda sample: sample.digest)
    often = Counter(label for sample in samples for label in sample.labels)
    for label, _ in often.most_common(_EXAMPLE_LABELS):
        held = [sample for sample in by_digest if label in sample.labels]
        wanted += [(label, sample) for sample in held[:_EXAMPLES_EACH]]
    bare = [sample for sample in by_digest if not sample.labels]
    wanted += [("no label", sample) for sample in bare[:_EXAMPLES_EACH]]
    by_light = sorted(samples, key=lambda sample: figures[sample.digest].brightness)
    wanted += [("darkest", sample) for sample in by_light[:_EXTREMES]]
    wanted += [("brightest", sample) for sample in by_light[::-1][:_EXTREMES]]
    by_contrast = sorted(samples, key=lambda sample: figures[sample.digest].contrast)
    wanted += [("least contrast", sample) for sample in by_contrast[:_EXTREMES]]
    draw = partial(drawn_thumbnail, labels=marked_labels(samples), width_px=THUMBNAIL_PX)
    found = (_example(sample, why=why, draw=draw, files=files) for why, sample in wanted)
    return tuple(example for example in found if example is not None)


def _similar(samples: Sequence[Sample], leaks: Sequence[Leak]) -> list[tuple[str, Sample]]:
    """The pairs between parts that are most alike, side by side."""
    by_name = {sample.name: sample for sample in samples}
    pairs = [leak for leak in leaks if leak.crosses and {leak.a, leak.b} <= set(by_name)]
    return [
        (
            f"{leak.kind}, {' and '.join(leak.splits)}, similarity {leak.similarity:.3f}",
            by_name[name],
        )
        for leak in pairs[:_PAIRS]
        for name in (leak.a, leak.b)
    ]


def _example(
    sample: Sample, *, why: str, draw: Callable[..., bytes], files: Files
) -> Example | None:
    try:
        drawn = is_drawn_on(sample)
        thumbnail = draw(sample, files=files) if drawn else figures_of(sample, files=files)[1]
    except LinesideError:  # it could be read a moment ago
        return None
    return Example(
        name=sample.name,
        labels=sample.labels,
        part=str(sample.split),
        why=why,
        thumbnail=thumbnail,
    )


def _warnings(subject: Subject, *, tells: Mapping[str, float], faults: int) -> tuple[str, ...]:
    said = []
    across = sum(leak.crosses for leak in subject.leaks.leaks) if subject.leaks else 0
    if across:
        said.append(
            f"{across} pairs of pictures that are the same, of one group, or nearly alike stand in "
            "different parts: figures on this split are too good."
        )
    said += [
        f"Mean grey alone tells {label!r} with an AUROC of {area:.2f}: a network may learn the "
        "light instead of the part."
        for label, area in tells.items()
        if area >= _TELLING
    ]
    often = Counter(label for sample in subject.samples for label in sample.labels)
    said += [
        f"Only {count} pictures show {label!r}: its figures will have wide intervals."
        for label, count in sorted(often.items())
        if count < 2 * _FEW
    ]
    parts = {sample.split for sample in subject.samples} - {Part.OPEN}
    for part in sorted(parts):
        held = {name for s in subject.samples if s.split is part for name in s.labels}
        missing = sorted(set(often) - held)
        if missing:
            said.append(f"The part {part} shows no {', '.join(missing)}.")
    if faults:
        said.append(f"{faults} pictures cannot be read.")
    return tuple(said)
