"""A dataset version: samples, parts and leaks that never change again.

The digest covers what training sees (pictures, labels, what was judged, groups, parts), not who
froze it or when: freezing the same content again gives the same digest.


Tags: names that a person moves from version to version, such as ``prod``.
A tag is unique in its dataset and names one version at a time, or none after it was taken off.
Every move is kept with its author and time.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lineside.core import (
    Digest,
    InvalidError,
    NotFoundError,
    decode,
    decode_fast,
    encode,
    short,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.datasets.leaks import Leak, LeakCheck, crossing
from lineside.datasets.samples import Marked, Part, Sample
from lineside.datasets.splitting import SplitPlan
from lineside.store import Documents, every_document

_OLD_SCHEMA = "lineside.dataset-version/1"
_SCHEMA = "lineside.dataset-version/2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Who said what of a picture, and when; the newest stands, the older ones are its lineage."""

    labels: tuple[str, ...]
    known: tuple[str, ...]
    by: str
    at: datetime
    count: int | None = None
    mask_digest: Digest | None = None
    marked: tuple[Marked, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """A frozen dataset.

    Attributes:
        digest: of samples and splits; see the module.
        samples: in order of their digests.
        splits: digests of the samples of each part; empty where nothing is parted.
        leaks: the leak report, crossing pairs first.
        lineage: per sample digest every judgement, oldest first.
        leaks_by: how near-duplicates were looked for; "" where only digests and groups were.
        leak_check: what was compared; None in versions frozen before that was kept.
        parting: plan of its split, under the key of stored versions; None likewise.
    """

    name: str
    number: int
    digest: Digest
    samples: tuple[Sample, ...]
    splits: Mapping[Part, tuple[Digest, ...]]
    leaks: tuple[Leak, ...]
    created_at: datetime
    created_by: str
    lineage: Mapping[Digest, tuple[Judgement, ...]]
    leaks_by: str = ""
    leak_check: LeakCheck | None = None
    parting: SplitPlan | None = None
    schema: Literal["lineside.dataset-version/2"] = "lineside.dataset-version/2"

    @property
    def leaking(self) -> bool:
        """Return whether figures on its split are too good to be believed."""
        return bool(crossing(self.leaks))

    @property
    def parted(self) -> tuple[Sample, ...]:
        """The samples, each with the part it stands in as the one it declares."""
        where = {digest: Part(part) for part, held in self.splits.items() for digest in held}
        return tuple(
            sample.assigned(split=where.get(sample.digest, Part.OPEN)) for sample in self.samples
        )

    def part(self, part: Part) -> tuple[Sample, ...]:
        """The samples of one part."""
        wanted = set(self.splits.get(part, ()))
        return tuple(sample for sample in self.samples if sample.digest in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """A version in figures: what a list of versions shows."""

    number: int
    digest: Digest
    samples: int
    splits: Mapping[str, int]
    leaks: int
    leaking: bool
    created_at: datetime
    created_by: str


def facts_of(version: DatasetVersion) -> VersionFacts:
    """The figures of a version."""
    return VersionFacts(
        number=version.number,
        digest=version.digest,
        samples=len(version.samples),
        splits={str(part): len(members) for part, members in version.splits.items()},
        leaks=len(version.leaks),
        leaking=version.leaking,
        created_at=version.created_at,
        created_by=version.created_by,
    )


def decode_version(content: bytes, *, where: str) -> DatasetVersion:
    """A version as it was written, by this or an earlier lineside.

    Raises:
        InvalidError: it is no version, or of a later schema.
    """
    # 1 → 2 added keys that have defaults, to records that are otherwise the same.
    old = f'"schema":"{_OLD_SCHEMA}"'.encode()
    new = f'"schema":"{_SCHEMA}"'.encode()
    return decode_fast(DatasetVersion, content.replace(old, new, 1), where=where)


def version_digest(samples: Sequence[Sample], splits: Mapping[Part, Sequence[Digest]]) -> Digest:
    """The digest of what training sees; the order of samples does not matter.

    It is of the canonical JSON of ``{"samples": […], "splits": {…}}``, taken piece by piece: of a
    million samples that would be half a gigabyte at once.
    """
    parts = {str(part): sorted(members) for part, members in splits.items() if members}
    hashed = hashlib.sha256(b'{"samples":[')
    for place, sample in enumerate(sorted(samples, key=lambda sample: sample.digest)):
        hashed.update(b"," if place else b"")
        hashed.update(encode(_facts(sample)))
    hashed.update(b'],"splits":' + encode(parts) + b"}")
    return Digest("sha256:" + hashed.hexdigest())


def _facts(sample: Sample) -> dict[str, object]:
    """Return what training sees of a sample; absent fields leave the digest as it always was."""
    facts: dict[str, object] = {
        "digest": sample.digest,
        "labels": sample.labels,
        "known": sample.known,
        "group": sample.group,
    }
    further = {
        "count": sample.count,
        "mask": sample.mask_digest,
        "template": sample.template_digest,
        "marked": None if sample.marked is None else to_plain(sample.marked),
    }
    return facts | {name: value for name, value in further.items() if value is not None}


def check_name(name: str) -> str:
    """A dataset name: up to 64 letters, digits, ``-``, ``_``, ``.``; a letter or digit first."""
    if not (_is_plain(name, most=64) and name[0].isalnum()):
        raise InvalidError(
            f"{name!r} cannot name a dataset",
            where="name",
            fix="Use up to 64 letters, digits, '-', '_' and '.', a letter or digit first.",
        )
    return name


def _is_plain(name: str, *, most: int) -> bool:
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    return plain.isascii() and plain.isalnum() and len(name) <= most


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


def diff_versions(a: DatasetVersion, b: DatasetVersion) -> VersionDiff:
    """The changes from ``a`` to ``b``; each list in order of names."""
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
    describe: Callable[[Sample], str],
    *,
    version: DatasetVersion | None = None,
) -> tuple[Change, ...]:
    return _ordered(
        _change(new, describe(old), describe(new), version=version)
        for old, new in both
        if describe(old) != describe(new)
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


_TAGS_SCHEMA = "lineside.dataset-tag/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMove:
    """A tag was put on a version; 0 for taken off."""

    version: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag with all its moves, oldest first."""

    name: str
    history: tuple[TagMove, ...]
    schema: str = _TAGS_SCHEMA

    @property
    def version(self) -> int:
        """The version it is on; 0 for none."""
        return self.history[-1].version


def check_tag(tag: str) -> str:
    """A tag: up to 32 letters, digits, ``-``, ``_``, ``.``, a letter first."""
    if not (_is_plain(tag, most=32) and tag[0].isalpha()):
        raise InvalidError(
            f"{tag!r} cannot be a tag",
            where="tag",
            fix="Use up to 32 letters, digits, '-', '_' and '.', a letter first.",
        )
    return tag


class Tags:
    """The tags of one dataset, in documents."""

    def __init__(self, documents: Documents, *, dataset: str) -> None:
        self._documents = documents
        self._kind = f"dataset-tag:{dataset}"

    def all(self) -> tuple[Tag, ...]:
        """Every tag there ever was, by name."""
        return tuple(
            decode(Tag, document.body, where=document.id)
            for document in every_document(self._documents, self._kind)
        )

    def one(self, tag: str) -> Tag:
        """``NotFoundError`` if there never was one."""
        document = self._documents.get(self._kind, check_tag(tag))
        return decode(Tag, document.body, where=tag)

    @retry_stale
    def move(self, tag: str, move: TagMove) -> Tag:
        """Put it on the version of ``move``; on the one it is on already, nothing changes."""
        old, expect = self._read(check_tag(tag))
        if (old[-1].version if old else 0) == move.version:
            return Tag(name=tag, history=old or (move,))
        fresh = Tag(name=tag, history=(*old, move))
        self._documents.put(self._kind, tag, body=to_plain(fresh), expect=expect)
        return fresh

    def _read(self, tag: str) -> tuple[tuple[TagMove, ...], int]:
        try:
            document = self._documents.get(self._kind, tag)
        except NotFoundError:
            return (), 0
        return decode(Tag, document.body, where=tag).history, document.version
