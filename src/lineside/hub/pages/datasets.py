"""Datasets in words: what is known of a picture, how they are parted, what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineside.datasets import Change, DatasetVersion, Marked, Part, Sample, SplitPlan
from lineside.datasets.report.report import is_drawn_on
from lineside.datasets.versions import VersionDiff
from lineside.web.format import counted

_MOST_CHANGES = 60
_MOST_PAIRS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """One picture of a gallery."""

    href: str
    src: str
    alt: str
    text: str


def truth_text(sample: Sample) -> str:
    """Return the truth of an image as text: labels, count, marked objects, mask."""
    said = [", ".join(sample.labels)] if sample.labels else []
    if sample.count is not None:
        said.append(counted(sample.count, "object"))
    if sample.marked is not None:
        said += _marks_text(sample.marked)
    if sample.mask_digest is not None:
        said.append("mask")
    return "; ".join(said) or ("none of its labels" if sample.known else "not judged")


def _marks_text(marks: Sequence[Marked]) -> list[str]:
    """Return the number of marks by kind: ``3 boxes``, ``2 points``, or ``no object``."""
    points = sum(mark.is_point for mark in marks)
    kinds = ((len(marks) - points, "box", "boxes"), (points, "point", "points"))
    said = [f"{count} {one if count == 1 else many}" for count, one, many in kinds if count]
    return said or ["no object"]


def card_of(dataset: str, sample: Sample, *, opened_on: str = "pictures/") -> SampleCard:
    """A picture of a gallery, with what is known of it.

    ``opened_on``: what stands before the digest in the address that a picture of a file leads to.
    """
    labels = truth_text(sample)
    if sample.name.startswith("frm_"):
        href, src = f"/frames/{sample.name}", f"/api/v1/frames/{sample.name}/thumbnail"
    else:
        href = f"/datasets/{dataset}/{opened_on}{sample.digest}"
        src = f"/datasets/{dataset}/pictures/{sample.digest}"
    if is_drawn_on(sample):
        src = f"/datasets/{dataset}/pictures/{sample.digest}/drawn"
    shown = sample.name if len(sample.name) <= 40 else f"…{sample.name[-38:]}"
    return SampleCard(href=href, src=src, alt=f"Picture {shown}", text=labels)


def leak_pairs(version: DatasetVersion) -> tuple[tuple[str, SampleCard, SampleCard], ...]:
    """The first pairs of a leak report as pictures, with what they have in common in words."""
    by_name = {sample.name: sample for sample in version.samples}
    pairs = [leak for leak in version.leaks if {leak.a, leak.b} <= set(by_name)]
    return tuple(
        (
            f"{leak.kind}, {' and '.join(part or 'not split' for part in leak.splits)}",
            card_of(version.name, by_name[leak.a]),
            card_of(version.name, by_name[leak.b]),
        )
        for leak in pairs[:_MOST_PAIRS]
    )


def split_text(plan: SplitPlan | None) -> str:
    """Return the split of the next version as a sentence."""
    if plan is None:
        return "Split as its sources declare; pictures that none declares are not split."
    together = "groups stay together" if plan.by == "group" else "each picture on its own"
    if plan.exact:
        words = f"Split by the exact rule {plan.exact}"
    elif plan.folds:
        words = f"Fold {plan.fold} of {plan.folds} is the test part, {together}"
    else:
        parts = (part for part in Part if part in plan.shares)
        shares = ", ".join(f"{part} {plan.shares[part]:g}" for part in parts)
        words = f"Split {shares or 'as declared'}, {together}"
    rule = f", grouped by {plan.group}" if plan.group else ""
    return f"{words}{rule}, seed {plan.seed or 0}."


_KINDS = {
    "labels": "with labels",
    "count": "with a count",
    "objects": "with marked objects",
    "mask": "with a mask",
}


def kind_counts(kinds: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Return the kinds of truth of the images as text."""
    return tuple((_KINDS[kind], count) for kind, count in kinds.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeList:
    """One kind of change between two versions."""

    title: str
    changes: tuple[Change, ...]
    more: int


def change_lists(diff: VersionDiff) -> tuple[ChangeList, ...]:
    """Every kind of which there is something, with at most so many rows as a gallery has."""
    titles = (
        ("Added", diff.added),
        ("Removed", diff.removed),
        ("Other labels", diff.relabelled),
        ("Drawn or counted anew", diff.redrawn),
        ("Moved to another part", diff.moved),
        ("In another group", diff.regrouped),
    )
    return tuple(
        ChangeList(
            title=f"{title}, {counted(len(changes), 'picture')}",
            changes=changes[:_MOST_CHANGES],
            more=max(0, len(changes) - _MOST_CHANGES),
        )
        for title, changes in titles
        if changes
    )
