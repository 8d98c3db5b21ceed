"""A labelled picture, what a reading of a source gives, and what it had to leave out."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, Inspection, InvalidError, Region, Task, digest_of
from lineside.store import FrameRow
from lineside.vision.decide import says_good

_FRAME_GROUP_S = 60


class Part(StrEnum):
    """The part of a split that a sample is in; the empty part is not decided yet."""

    OPEN = ""
    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


_PART_WORDS = {
    "": Part.OPEN,
    "train": Part.TRAIN,
    "training": Part.TRAIN,
    "valid": Part.VALID,
    "val": Part.VALID,
    "validation": Part.VALID,
    "test": Part.TEST,
    "testing": Part.TEST,
}


def part_of(word: str, *, where: str = "") -> Part:
    """The part a word names; ``InvalidError`` lists the known words."""
    part = _PART_WORDS.get(word.strip().lower())
    if part is None:
        known = ", ".join(sorted(word for word in _PART_WORDS if word))
        raise InvalidError(f"{word!r} is not a split", where=where, fix=f"Known: {known}.")
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One object a person marked: its box in pixels of the picture, or its centre alone.

    A box has x0_px < x1_px and y0_px < y1_px, the far corner outside it. A point has both corners
    equal: where the centre is, of no known size.
    """

    label: str
    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float

    def __post_init__(self) -> None:
        for edge in ("x0_px", "y0_px", "x1_px", "y1_px"):  # so that 1 and 1.0 are one digest
            object.__setattr__(self, edge, float(getattr(self, edge)))

    @property
    def is_point(self) -> bool:
        """Return whether only the centre is known."""
        return self.x0_px == self.x1_px and self.y0_px == self.y1_px

    def cut_at(self, width: int, *, height: int) -> "Marked":
        """The part of it that lies on a picture of this size; ``InvalidError`` where none does.

        A point less than one pixel outside moves to the edge.
        """
        if self.is_point and not (-1 < self.x0_px < width + 1 and -1 < self.y0_px < height + 1):
            raise InvalidError(f"a point outside the picture: {self.x0_px:g} {self.y0_px:g}")
        x0, x1 = (min(max(x, 0.0), width) for x in (self.x0_px, self.x1_px))
        y0, y1 = (min(max(y, 0.0), height) for y in (self.y0_px, self.y1_px))
        if not self.is_point and (x0 >= x1 or y0 >= y1):
            corners = f"{self.x0_px:g} {self.y0_px:g} {self.x1_px:g} {self.y1_px:g}"
            raise InvalidError(f"a shape without area on the picture: {corners}")
        return replace(self, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)

    @property
    def centre_px(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.x0_px + self.x1_px) / 2, (self.y0_px + self.y1_px) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One picture with what is known of it.

    Attributes:
        name: as its source calls it (file name relative to the source, or a frame id).
        digest: of the picture's bytes; two samples of one version never share it.
        labels: names that hold, sorted: ``blue``, or ``A1/blue`` for a class of region A1.
        known: names that were judged at all, sorted; a superset of ``labels``.
        group: samples of one group (part, tile, time block) never cross a split; "" for none.
        split: the part its source declared; "" where it declared none.
        captured_at: when the picture was taken, where that is known.
        author: who judged it.
        mask: name of its mask in the source; "" for none.
        count: how many objects it shows, where the source says so.
        mask_digest: of the mask's bytes (a picture of the same size; above 127 is defect); None
            for none, which on a defective picture means that nobody drew it.
        template_digest: of the picture that shows how this one should look; None for none.
        marked: objects marked on it; None where nobody marked any, empty where there are none.
        facts: further columns of the source by name, as text; never learned from.
    """

    name: str
    digest: Digest
    labels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    group: str = ""
    split: Part = Part.OPEN
    captured_at: datetime | None = None
    author: str = ""
    mask: str = ""
    count: int | None = None
    mask_digest: Digest | None = None
    template_digest: Digest | None = None
    marked: tuple[Marked, ...] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = tuple(sorted(set(self.labels))) if len(self.labels) > 1 else tuple(self.labels)
        known = tuple(sorted({*self.known, *labels})) if self.known != labels else labels
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "known", known)

    def assigned(self, *, group: str | None = None, split: Part | None = None) -> "Sample":
        """The same in another group or part; of a million, three times faster than ``replace``."""
        return Sample(
            name=self.name,
            digest=self.digest,
            labels=self.labels,
            known=self.known,
            group=self.group if group is None else group,
            split=self.split if split is None else split,
            captured_at=self.captured_at,
            author=self.author,
            mask=self.mask,
            count=self.count,
            mask_digest=self.mask_digest,
            template_digest=self.template_digest,
            marked=self.marked,
            facts=self.facts,
        )


def shows_defect(
    sample: Sample, *, mask: NDArray[np.bool_] | None = None, good: Collection[str] = ()
) -> bool | None:
    """Return whether a picture shows a defect or a marked object; None where nobody said.

    A set pixel of its mask says so, a marked object, or a label that means no good part. Without
    any of these a picture shows none if it was labelled, judged, marked or drawn on at all.

    Args:
        sample: what is known of the picture.
        mask: (height, width) bool, True on defect; None where nobody drew one.
        good: the good labels of the inspection; empty: the usual words.
    """
    if mask is not None and mask.any():
        return True
    if sample.marked or not all(says_good(name, named=good) for name in sample.labels):
        return True
    said = sample.known or sample.marked is not None or mask is not None
    return False if said else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something a reading left out or had to settle: the place, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """The content of a source.

    Attributes:
        skipped: every line and picture left out, and every double picture that was merged.
        format: how it was read, by its word in ``FORMATS``.
    """

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    format: str
    reader: Callable[[Digest], bytes] = field(repr=False, compare=False)

    def read(self, sample: Sample) -> bytes:
        """The picture's bytes; ``ConflictError`` when they changed since the source was read."""
        return self.reader(sample.digest)

    def read_file(self, digest: Digest) -> bytes:
        """The bytes of a picture, mask or template by digest."""
        return self.reader(digest)


_OF_WHOLE_IMAGES = (Task.CLASSIFY, Task.SEGMENT, Task.ANOMALY)


def opposed_labels(
    labels: Iterable[str], purpose: tuple[str, Collection[str]], marked: Sequence[Marked] | None
) -> list[str]:
    """Labels that call an image good and defective at once: good ones, then others; else none.

    Where the dataset is for ``classify``, ``segment`` or ``anomaly``: for other tasks each label is
    present or absent by itself, and without a task nobody knows. Labels of regions and of marked
    objects speak of a part of the image, and may be of both kinds.

    Args:
        labels: of one image.
        purpose: the dataset's task and good labels (``Library.purpose``).
        marked: objects on the image.
    """
    task, good = purpose
    objects = {mark.label for mark in marked or ()}
    whole = [one for one in labels if "/" not in one and one not in objects]
    fine = [one for one in whole if says_good(one, named=good)]
    bad = [one for one in whole if one not in fine]
    return [*fine, *bad] if fine and bad and task in _OF_WHOLE_IMAGES else []


def check_labels(
    labels: Sequence[str], purpose: tuple[str, Collection[str]], marked: Sequence[Marked] | None
) -> None:
    """Refuse labels that call an image good and defective, with ``InvalidError``."""
    if opposed := opposed_labels(labels, purpose, marked):
        raise InvalidError(
            f"{opposed[0]!r} means a good part and {opposed[-1]!r} does not, so both cannot hold",
            where="labels",
            fix="Keep one of them. Where each is present or absent by itself, declare the task: "
            "lineside dataset label NAME --task multilabel.",
        )


def checked_import(found: Import, purpose: tuple[str, Collection[str]]) -> Import:
    """Return an import without the images that ``check_labels`` refuses; it reports them."""
    refused: dict[str, str] = {}
    for sample in found.samples:
        try:
            check_labels(sample.labels, purpose, sample.marked)
        except InvalidError as error:
            refused[sample.name] = f"{error.message}. {error.fix}"
    return replace(
        found,
        samples=tuple(one for one in found.samples if one.name not in refused),
        skipped=(*found.skipped, *(Skipped(where=n, reason=why) for n, why in refused.items())),
    )


def label_names(inspection: Inspection) -> tuple[str, ...]:
    """Every name an inspection can answer, in its own order: ``blue``, or ``A1/blue``."""
    if not inspection.region:
        return inspection.labels
    return tuple(name for region in inspection.region for name in region_names(region))


def region_names(region: Region) -> tuple[str, ...]:
    """Return the names that a region can answer: ``blue``, or ``A1/blue`` for a class of it."""
    return tuple(f"{region.id}/{name}" if region.classes else name for name in region.answers)


def judged(labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that were judged by a person who named these labels.

    Every bare label, and all classes of each region of which they named one; a region they did
    not mention stays open.

    Raises:
        InvalidError: a label that is not among the names.
    """
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise InvalidError(
            f"label {unknown[0]!r} is unknown", where="labels", fix=f"Known: {', '.join(names)}."
        )
    regions = {label.partition("/")[0] for label in labels if "/" in label}
    return tuple(name for name in names if "/" not in name or name.partition("/")[0] in regions)


def merge_same_pictures(
    samples: Iterable[Sample],
) -> tuple[tuple[Sample, ...], tuple[Skipped, ...]]:
    """One sample per picture, in order of first appearance.

    A label that two sources judge differently is judged by neither afterwards: it leaves both
    ``labels`` and ``known``, and the report says so. Different parts or groups are reported; the
    first stands.
    """
    by_digest: dict[Digest, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_digest[sample.digest].append(sample)
    merged: list[Sample] = []
    report: list[Skipped] = []
    for same in by_digest.values():
        one, notes = _merge(same)
        merged.append(one)
        report += notes
    return tuple(merged), tuple(report)


def _merge(same: Sequence[Sample]) -> tuple[Sample, list[Skipped]]:
    first = same[0]
    notes: list[Skipped] = []
    for other in same[1:]:
        disputed = disputed_labels(first, other)
        notes.append(
            Skipped(where=other.name, reason=_same_picture(first, other, disputed=disputed))
        )
        held = (set(first.labels) | set(other.labels)) - disputed
        judged = (set(first.known) | set(other.known)) - disputed
        first = replace(first, labels=tuple(held), known=tuple(judged))
    return first, notes


def disputed_labels(one: Sample, other: Sample) -> set[str]:
    """Labels that both judge, and not alike; of one region, classes that cannot both hold."""
    both = set(one.known) & set(other.known)
    disputed = {name for name in both if (name in one.labels) != (name in other.labels)}
    for name in one.labels:
        region, slash, _ = name.rpartition("/")
        rivals = {other_name for other_name in other.labels if other_name.startswith(region + "/")}
        if slash and rivals and name not in rivals:
            disputed |= {name, *rivals}
    return disputed


def _same_picture(first: Sample, other: Sample, *, disputed: set[str]) -> str:
    reason = f"the same picture as {first.name}; kept once"
    if disputed:
        reason += f"; the two disagree on {', '.join(sorted(disputed))}, taken as not judged"
    if other.split is not first.split:
        reason += f"; it stands in {first.split or 'no part'} and {other.split or 'no part'}"
    return reason


def sample_of_frame(row: FrameRow, *, labels: Sequence[str], known: Sequence[str]) -> Sample:
    """A frame's sample; frames of one part, or of one minute and one content, stay together.

    A minute alone would put a whole quick lesson, each frame showing something else, into one
    group, and nothing could be held out of it.
    """
    minute = int(row.captured_at.timestamp()) // _FRAME_GROUP_S
    shown = digest_of("\n".join(sorted(labels)).encode())[7:15]
    return Sample(
        name=row.id,
        digest=row.digest,
        labels=tuple(labels),
        known=tuple(known),
        group=row.part or f"{row.camera}@{minute}/{shown}",
        captured_at=row.captured_at,
    )
