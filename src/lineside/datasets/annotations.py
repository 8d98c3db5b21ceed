"""Annotation of an image: one record for every task, checked before it is kept.

1. Boxes and points lie inside their image, corners in order. A mask has the size of its image.
2. Polygons and painted pixels are one mask: a pixel is set where it is painted or where its centre
   lies inside a polygon. Only the mask is part of a version; the polygons stay with the draft, so
   that their corners can be moved later.
3. All faults are reported together, each as a sentence with its path.
4. What was said before is never overwritten by somebody who has not seen it: every write names the
   revision that it changes (``Library.annotate``).
5. A judgement that contradicts an earlier one, of an import say, does not replace it: the disputed
   labels count as not judged, a disputed count, mask or set of objects as unknown, until somebody
   settles it by a judgement of just that: a review state, or a box where labels are disputed, does
   not. What only one of them says holds. An import that was there already says nothing against what
   was corrected since.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lineside.core import Fault, InvalidError
from lineside.datasets.formats.rle import marks_of, mask_of_polygon, mask_png
from lineside.datasets.samples import Marked, Sample, Skipped, disputed_labels, opposed_labels
from lineside.datasets.versions import Judgement
from lineside.vision import decode_picture
from lineside.vision.masks import mask_of, rle_of

MOST_OBJECTS = 10_000
MOST_CORNERS = 10_000
MOST_COUNT = 1_000_000
LONGEST_COMMENT = 2000
LONGEST_LABEL = 80
LARGEST_PICTURE = 256 * 1024 * 1024

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels of the image; the edge of the first pixel is 0."""
Size = tuple[int, int]


class ReviewState(StrEnum):
    """Progress of the work on an image; ``discuss``: people have to agree on it first."""

    TO_LABEL = "todo"
    LABELLED = "labelled"
    CHECKED = "checked"
    DISCUSS = "discuss"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelMask:
    """Pixels that are set, as run lengths down the columns, zeros first (``vision.masks``)."""

    rle: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """All that a person says of an image.

    Attributes:
        labels: names that hold.
        known: names that were judged, a superset of ``labels``; None: every name of the
            dataset that belongs to the image, or to a region of which ``labels`` names one.
        marked: boxes and points; None: nobody looked for objects.
        polygons: outlines of the mask.
        mask: painted pixels; None with no polygon: nobody drew a mask.
        count: how many objects the image shows; None: nobody counted.
    """

    labels: tuple[str, ...] = ()
    known: tuple[str, ...] | None = None
    marked: tuple[Marked, ...] | None = None
    polygons: tuple[Polygon, ...] = ()
    mask: PixelMask | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """A remark on an image of a draft; it is never part of a version."""

    text: str
    by: str
    at: datetime


def annotation_faults(
    annotation: Annotation, *, size: Size, names: Collection[str]
) -> tuple[Fault, ...]:
    """Everything that is wrong with an annotation of an image.

    Args:
        annotation: as it was sent.
        size: (width, height) of the image in pixels.
        names: the labels that may be used.
    """
    return (
        *_label_faults(annotation, names),
        *_object_faults(annotation, size),
        *_mask_faults(annotation, size),
    )


def _label_faults(annotation: Annotation, names: Collection[str]) -> Iterator[Fault]:
    known = ", ".join(sorted(names)[:20]) or "none yet"
    fix = f"Known: {known}. Add a label to the dataset first, or choose one of these."
    named = [
        *((f"$.labels[{n}]", label) for n, label in enumerate(annotation.labels)),
        *((f"$.known[{n}]", label) for n, label in enumerate(annotation.known or ())),
        *((f"$.marked[{n}].label", m.label) for n, m in enumerate(annotation.marked or ())),
    ]
    for path, label in named:
        if label not in names:
            yield Fault(path=path, value=repr(label), expected="a label of the dataset", fix=fix)
    count = annotation.count
    if count is not None and not 0 <= count <= MOST_COUNT:
        yield Fault(
            path="$.count", value=str(count), expected=f"a number from 0 to {MOST_COUNT}",
            fix="Count again.",
        )  # fmt: skip


def _object_faults(annotation: Annotation, size: Size) -> Iterator[Fault]:
    width, height = size
    marked = annotation.marked or ()
    if len(marked) > MOST_OBJECTS:
        yield Fault(
            path="$.marked", value=f"{len(marked)} objects", expected=f"at most {MOST_OBJECTS}",
            fix="Count them instead.",
        )  # fmt: skip
        return
    for n, mark in enumerate(marked):
        corners = (mark.x0_px, mark.y0_px, mark.x1_px, mark.y1_px)
        shown = ", ".join(f"{corner:g}" for corner in corners)
        if not all(map(math.isfinite, corners)) or not (
            0 <= mark.x0_px <= mark.x1_px <= width and 0 <= mark.y0_px <= mark.y1_px <= height
        ):
            kind = "point" if mark.is_point else "box"
            yield Fault(
                path=f"$.marked[{n}]", value=f"{kind} {shown}",
                expected=f"inside the image of {width} x {height} pixels",
                fix=f"Draw the {kind} inside the image, or delete it.",
            )  # fmt: skip
        elif not mark.is_point and (mark.x0_px == mark.x1_px or mark.y0_px == mark.y1_px):
            yield Fault(
                path=f"$.marked[{n}]", value=f"box {shown}", expected="of a height and a width",
                fix="Draw the box larger, or mark a point.",
            )  # fmt: skip


def _mask_faults(annotation: Annotation, size: Size) -> Iterator[Fault]:
    width, height = size
    if sum(map(len, annotation.polygons)) > MOST_CORNERS:
        yield Fault(
            path="$.polygons", value="more", expected=f"at most {MOST_CORNERS} corners",
            fix="Paint the mask instead.",
        )  # fmt: skip
    for n, polygon in enumerate(annotation.polygons):
        inside = all(0 <= x <= width and 0 <= y <= height for x, y in polygon)
        if len(polygon) < 3 or not inside:
            yield Fault(
                path=f"$.polygons[{n}]", value=f"polygon of {len(polygon)} corners",
                expected=f"three corners or more inside the image of {width} x {height} pixels",
                fix="Draw it again.",
            )  # fmt: skip
    mask = annotation.mask
    if mask is None:
        return
    if (mask.width_px, mask.height_px) != size:
        yield Fault(
            path="$.mask", value=f"mask of {mask.width_px} x {mask.height_px} pixels",
            expected=f"of the image's size, {width} x {height} pixels",
            fix="Draw it on this image.",
        )  # fmt: skip
        return
    try:
        mask_of(mask.rle, width_px=width, height_px=height)
    except InvalidError as error:
        yield Fault(path="$.mask.rle", value=error.message, expected="a mask", fix=error.fix)


def mask_of_annotation(annotation: Annotation, *, size: Size) -> NDArray[np.bool_] | None:
    """The one mask of polygons and painted pixels, (height, width); None where neither stands.

    Raises:
        InvalidError: run lengths or a polygon that cannot be read.
    """
    width, height = size
    mask = annotation.mask
    if mask is None and not annotation.polygons:
        return None
    whole = (
        np.zeros((height, width), np.bool_)
        if mask is None
        else mask_of(mask.rle, width_px=width, height_px=height)
    )
    for polygon in annotation.polygons:
        flat = [number for corner in polygon for number in corner]
        whole = whole | mask_of_polygon(flat, width=width, height=height)
    return whole


def encoded_mask(annotation: Annotation, *, size: Size) -> bytes | None:
    """That mask as a PNG, 255 where it is set; None where there is none."""
    mask = mask_of_annotation(annotation, size=size)
    return None if mask is None else mask_png(mask)


def pixel_mask(encoded: bytes) -> PixelMask:
    """The run lengths of a mask's image; set is what is above 127.

    Raises:
        InvalidError: it is no image.
    """
    mask = marks_of(decode_picture(encoded, max_bytes=LARGEST_PICTURE))
    height, width = mask.shape
    return PixelMask(rle=rle_of(mask), width_px=width, height_px=height)


def check_label(label: str) -> str:
    """A new label's name: 1 to 80 characters, none of them a comma or a control character."""
    plain = label.strip()
    if not plain or len(plain) > LONGEST_LABEL or "," in plain or not plain.isprintable():
        raise InvalidError(
            f"{label[:LONGEST_LABEL]!r} cannot name a label", where="label",
            fix=f"Use up to {LONGEST_LABEL} characters without commas.",
        )  # fmt: skip
    return plain


def check_comment(text: str) -> str:
    """A comment's text: not empty, at most 2,000 characters."""
    plain = text.strip()
    if not plain or len(plain) > LONGEST_COMMENT:
        raise InvalidError(
            f"a comment of {len(plain)} characters", where="text",
            fix=f"Write 1 to {LONGEST_COMMENT} characters.",
        )  # fmt: skip
    return plain


T = TypeVar("T")
COUNT, MASK, OBJECTS = "(count)", "(mask)", "(objects)"
"""How a dispute over more than labels is named beside the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A sample of a draft with every judgement of it, oldest first.

    Attributes:
        review: its state as a person set it; None: nobody did.
        polygons, painted: what its mask was made of, where polygons are part of it.
    """

    sample: Sample
    judgements: tuple[Judgement, ...]
    disputed: tuple[str, ...] = ()
    review: ReviewState | None = None
    comments: tuple[Comment, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    painted: PixelMask | None = None

    @property
    def state(self) -> ReviewState:
        """Its review state: as a person set it, else whether anything of it is known."""
        if self.disputed:
            return ReviewState.DISCUSS
        if self.review is not None:
            return self.review
        one = self.sample
        drawn = (one.count, one.marked, one.mask_digest)
        known = bool(one.known) or any(each is not None for each in drawn)
        return ReviewState.LABELLED if known else ReviewState.TO_LABEL

    @property
    def contradicting(self) -> tuple[int, ...]:
        """Numbers of the newest judgement of each disputed name, and of the last one against it.

        All where none speaks against another: of two classes of one region, of a good label and a
        defect, or before a renaming.
        """
        numbers: set[int] = set()
        for name in self.disputed:
            said = {n: _opinion(one, name) for n, one in enumerate(self.judgements, start=1)}
            spoken = [n for n in said if said[n] is not None]
            others = [n for n in spoken if said[n] != said[spoken[-1]]]
            numbers |= {others[-1], spoken[-1]} if others else said.keys()
        return tuple(sorted(numbers))

    @property
    def names(self) -> frozenset[str]:
        """Every label that was judged, marked or disputed on it."""
        marked = (mark.label for mark in self.sample.marked or ())
        return frozenset({*self.sample.known, *marked, *self.disputed})

    def judged_again(
        self, sample: Sample, judgement: Judgement, *, disputed: tuple[str, ...] = ()
    ) -> "Entry":
        """The entry after one more judgement; polygons go with the mask that they made."""
        same = sample.mask_digest == self.sample.mask_digest
        return replace(
            self,
            sample=sample,
            judgements=(*self.judgements, judgement),
            disputed=disputed,
            polygons=self.polygons if same else (),
            painted=self.painted if same else None,
        )


def merged(
    old: Entry, sample: Sample, *, judgement: Judgement, again: slice,
    purpose: tuple[str, Collection[str]],
) -> Entry:  # fmt: skip
    """The entry after one more judgement.

    ``again``: those of the entry's judgements that it is compared with; where it is the same as one
    of them, nothing changes. ``purpose``: of the dataset (``Library.purpose``).
    """
    if any(replace(judgement, at=one.at) == one for one in old.judgements[again]):
        return old
    odd = {*old.disputed, *disputed_labels(old.sample, sample), *_odd_drawings(old.sample, sample)}
    held = {*old.sample.labels, *sample.labels} - odd
    odd |= {*opposed_labels(held, purpose, old.sample.marked or sample.marked)}
    judged = {*old.sample.known, *sample.known} - odd
    one, other = old.sample, sample
    return old.judged_again(
        replace(
            one,
            labels=tuple(held - odd),
            known=tuple(judged),
            count=_either(one.count, other.count, unless=COUNT in odd),
            mask_digest=_either(one.mask_digest, other.mask_digest, unless=MASK in odd),
            mask=one.mask or other.mask,
            marked=_either(one.marked, other.marked, unless=OBJECTS in odd),
            template_digest=one.template_digest or other.template_digest,
            group=one.group or other.group,
            split=one.split or other.split,
            captured_at=one.captured_at or other.captured_at,
            facts={**other.facts, **one.facts},
        ),
        judgement,
        disputed=tuple(sorted(odd)),
    )


def undecided(
    disputed: Iterable[str], sample: Sample, purpose: tuple[str, Collection[str]]
) -> tuple[str, ...]:
    """Return the disputed names that a later judgement says nothing of.

    It says something of a label also where it has another that excludes it: of the same region, or
    of a good part (``opposed_labels``).
    """

    def is_excluded(name: str) -> bool:
        other = replace(sample, labels=(name,), known=())
        odd = disputed_labels(sample, other)
        return bool(odd or opposed_labels({*sample.labels, name}, purpose, sample.marked))

    left = (name for name in disputed if _opinion(sample, name) is None)
    return tuple(name for name in left if name in (COUNT, MASK, OBJECTS) or not is_excluded(name))


def relabelled(
    entry: Entry, label: str, *, to: str, merges: bool
) -> tuple[Sample, tuple[str, ...]]:
    """Return the sample and the disputed names of an entry with ``to`` in the place of a label.

    ``to`` holds where either held. Where neither did it is judged where the label was; of a merge,
    where both were, because who said that one does not hold said nothing of the other.
    """
    one, pair = entry.sample, {label, to}
    disputed = {to if name == label else name for name in entry.disputed}
    judged = pair <= set(one.known) if merges else label in one.known
    unsettled = to in disputed
    holds = bool(pair & set(one.labels)) and not unsettled
    marked = one.marked and tuple(
        replace(mark, label=to) if mark.label == label else mark for mark in one.marked
    )
    return replace(
        one,
        labels=(*(n for n in one.labels if n not in pair), *([to] if holds else [])),
        known=(
            *(n for n in one.known if n not in pair),
            *([to] if holds or (judged and not unsettled) else []),
        ),
        marked=marked,
    ), tuple(sorted(disputed))


def renamed(body: Mapping[str, Any], label: str, *, to: str, merges: bool) -> dict[str, list[str]]:
    """Return the labels and good labels that a dataset's document declares, with ``to`` for one.

    Raises:
        InvalidError: one of both means a good part and the other does not.
    """
    lists = {key: body.get(key, ()) for key in ("labels", "good")}
    good = lists["good"]
    if (label in good) != (to in good) and (merges or to in good):
        means, other = (label, to) if label in good else (to, label)
        raise InvalidError(
            f"{means!r} means a good part and {other!r} does not", where="name",
            fix="Write another name, or first declare both as good (POST …/labels).",
        )  # fmt: skip
    return {
        key: list(dict.fromkeys(to if one == label else one for one in names))
        for key, names in lists.items()
    }


def _odd_drawings(one: Sample, other: Sample) -> set[str]:
    pairs = {name: {_opinion(one, name), _opinion(other, name)} for name in (COUNT, MASK, OBJECTS)}
    return {name for name, said in pairs.items() if len(said - {None}) > 1}


def _opinion(one: Sample | Judgement, name: str) -> object:
    """Return what is said of a label, or of ``COUNT``, ``MASK`` or ``OBJECTS``; None: nothing."""
    drawn = {COUNT: one.count, MASK: one.mask_digest, OBJECTS: _in_order(one.marked)}
    return drawn.get(name, name in one.labels if name in one.known else None)


def _in_order(marked: Iterable[Marked] | None) -> tuple[tuple[object, ...], ...] | None:
    if marked is None:
        return None
    return tuple(sorted((m.label, m.x0_px, m.y0_px, m.x1_px, m.y1_px) for m in marked))


def _either(one: T | None, other: T | None, *, unless: bool) -> T | None:
    if unless:
        return None
    return other if one is None else one


def notes(entry: Entry, sample: Sample) -> list[Skipped]:
    """Report of an entry that got one more judgement."""
    said = []
    if entry.disputed:
        odd = ", ".join(entry.disputed)
        said.append(f"judged differently before: {odd}; correct it to settle")
    if sample.split and sample.split is not entry.sample.split:
        said.append(f"stands in {entry.sample.split} already, not in {sample.split}")
    if sample.group and sample.group != entry.sample.group:
        said.append(f"is of group {entry.sample.group!r} already, not of {sample.group!r}")
    return [Skipped(where=sample.name, reason=reason) for reason in said]


def is_judged_once(entry: Entry, *, by: str) -> bool:
    """Return whether one judgement of labels by somebody is all there is of a frame."""
    one = entry.sample
    taught = Sample(
        name=one.name,
        digest=one.digest,
        labels=one.labels,
        known=one.known,
        group=one.group,
        captured_at=one.captured_at,
        author=by,
    )
    said = replace(entry.judgements[-1], by=by, count=None, mask_digest=None, marked=None)
    return one.name.startswith("frm_") and entry == Entry(sample=taught, judgements=(said,))
