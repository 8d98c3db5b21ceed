"""What changed from one version to another."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lineside.core import Digest, short
from lineside.datasets.samples import Part, Sample
from lineside.datasets.versions import DatasetVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A picture of which something changed.

    Attributes:
        name, digest: of the picture, as the later version has it.
        before, after: in words: labels, a part, a group, or what is drawn on it.
        by, at: who judged it last, and when; of pictures that were not judged anew "" and None.
    """

    name: str
    digest: Digest
    before: str
    after: str
    by: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """From version ``a`` to version ``b``; a picture may stand in several of the lists.

    Attributes:
        added, removed: pictures that only the later, or only the earlier one holds.
        relabelled: pictures of both, with other labels or other names judged.
        redrawn: with another count, mask, template or other marked objects.
        moved: in another part.
        regrouped: in another group.
    """

    a: str
    b: str
    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    relabelled: tuple[Change, ...]
    redrawn: tuple[Change, ...]
    moved: tuple[Change, ...]
    regrouped: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether both hold the same."""
        lists = (self.added, self.removed, self.relabelled, self.redrawn, self.moved)
        return not any((*lists, self.regrouped))


def diff_versions(a: DatasetVersion, b: DatasetVersion) -> VersionDiff:
    """What changed from ``a`` to ``b``; each list in order of names."""
    before = {sample.digest: sample for sample in a.samples}
    after = {sample.digest: sample for sample in b.samples}
    both = [(before[digest], sample) for digest, sample in after.items() if digest in before]
    parts = _parts(a), _parts(b)
    return VersionDiff(
        a=f"{a.name}/{a.number}",
        b=f"{b.name}/{b.number}",
        added=_ordered(
            _change(s, "", _labels(s), version=b) for s in b.samples if s.digest not in before
        ),
        removed=_ordered(
            _change(s, _labels(s), "", version=a) for s in a.samples if s.digest not in after
        ),
        relabelled=_changed(both, _labels, version=b),
        redrawn=_changed(both, _drawn, version=b),
        moved=_ordered(
            _change(s, parts[0].get(s.digest, Part.OPEN), parts[1].get(s.digest, Part.OPEN))
            for _, s in both
            if parts[0].get(s.digest, Part.OPEN) != parts[1].get(s.digest, Part.OPEN)
        ),
        regrouped=_changed(both, lambda sample: sample.group),
    )


def _changed(
    both: Iterable[tuple[Sample, Sample]],
    told: Callable[[Sample], str],
    *,
    version: DatasetVersion | None = None,
) -> tuple[Change, ...]:
    return _ordered(
        _change(new, told(old), told(new), version=version)
        for old, new in both
        if told(old) != told(new)
    )


def _change(
    sample: Sample, before: str, after: str, *, version: DatasetVersion | None = None
) -> Change:
    judged = version.lineage.get(sample.digest, ()) if version else ()
    return Change(
        name=sample.name,
        digest=sample.digest,
        before=str(before),
        after=str(after),
        by=judged[-1].by if judged else "",
        at=judged[-1].at if judged else None,
    )


def _labels(sample: Sample) -> str:
    """The labels that hold, then those judged not to: ``blue, not red``."""
    no = [f"not {name}" for name in sample.known if name not in sample.labels]
    return ", ".join([*sample.labels, *no]) or "not judged"


def _drawn(sample: Sample) -> str:
    said = [] if sample.count is None else [f"count {sample.count}"]
    if sample.marked is not None:
        marks = sorted(
            f"{m.label} {m.x0_px:g},{m.y0_px:g},{m.x1_px:g},{m.y1_px:g}" for m in sample.marked
        )
        said.append(f"{len(marks)} objects ({'; '.join(marks)})" if marks else "no objects")
    for word, digest in (("mask", sample.mask_digest), ("template", sample.template_digest)):
        said += [f"{word} {short(digest)}"] if digest else []
    return ", ".join(said) or "nothing drawn"


def _parts(version: DatasetVersion) -> Mapping[Digest, Part]:
    return {digest: part for part, members in version.splits.items() for digest in members}


def _ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: (change.name, change.digest)))
