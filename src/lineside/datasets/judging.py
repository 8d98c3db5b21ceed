"""What people said of one picture, and what holds when they disagree.

A judgement that contradicts an earlier one does not replace it: the disputed labels count as not
judged, a disputed count, mask or set of objects as unknown, until somebody settles it. What only
one of them says holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from lineside.core import Digest
from lineside.datasets.samples import Marked, Sample, Skipped, disputed_labels
from lineside.datasets.versions import Judgement

T = TypeVar("T")
COUNT, MASK, OBJECTS = "(count)", "(mask)", "(objects)"
"""How a dispute over more than labels is named beside the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A sample of a draft with every judgement of it, oldest first."""

    sample: Sample
    judgements: tuple[Judgement, ...]
    disputed: tuple[str, ...] = ()


def merged(old: Entry, sample: Sample, *, judgement: Judgement) -> Entry:
    """The entry after one more judgement; the same one again changes nothing."""
    if replace(judgement, at=old.judgements[-1].at) == old.judgements[-1]:
        return old
    odd = {*old.disputed, *disputed_labels(old.sample, sample), *_odd_drawings(old.sample, sample)}
    held = {*old.sample.labels, *sample.labels} - odd
    judged = {*old.sample.known, *sample.known} - odd
    one, other = old.sample, sample
    return Entry(
        sample=replace(
            one,
            labels=tuple(held),
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
        judgements=(*old.judgements, judgement),
        disputed=tuple(sorted(odd)),
    )


def _odd_drawings(one: Sample, other: Sample) -> set[str]:
    pairs: Mapping[str, tuple[object, object]] = {
        COUNT: (one.count, other.count),
        MASK: (one.mask_digest, other.mask_digest),
        OBJECTS: (_in_order(one.marked), _in_order(other.marked)),
    }
    return {
        name
        for name, (left, right) in pairs.items()
        if left is not None and right is not None and left != right
    }


def _in_order(marked: Iterable[Marked] | None) -> list[tuple[object, ...]] | None:
    if marked is None:
        return None
    return sorted((m.label, m.x0_px, m.y0_px, m.x1_px, m.y1_px) for m in marked)


def _either(one: T | None, other: T | None, *, unless: bool) -> T | None:
    if unless:
        return None
    return other if one is None else one


def notes(entry: Entry, sample: Sample) -> list[Skipped]:
    """What has to be reported of an entry that met one more judgement."""
    said = []
    if entry.disputed:
        odd = ", ".join(entry.disputed)
        said.append(f"judged differently before: {odd}; correct it to settle")
    if sample.split and sample.split is not entry.sample.split:
        said.append(f"stands in {entry.sample.split} already, not in {sample.split}")
    if sample.group and sample.group != entry.sample.group:
        said.append(f"is of group {entry.sample.group!r} already, not of {sample.group!r}")
    return [Skipped(where=sample.name, reason=reason) for reason in said]


def files_of(sample: Sample) -> tuple[Digest, ...]:
    """Digests of the picture and of what belongs to it: mask and template."""
    beside = (sample.mask_digest, sample.template_digest)
    return (sample.digest, *(digest for digest in beside if digest is not None))
