"""A dataset version: samples, parts and leaks that never change again.

The digest covers what training sees (pictures, labels, what was judged, groups, parts), not who
froze it or when: freezing the same content again gives the same digest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lineside.core import Digest, InvalidError, decode_fast, encode, to_plain
from lineside.datasets.leaks import Leak, LeakCheck, crossing
from lineside.datasets.parting import Parting
from lineside.datasets.samples import Marked, Part, Sample

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
        parting: how it was parted; None likewise.
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
    parting: Parting | None = None
    schema: Literal["lineside.dataset-version/2"] = "lineside.dataset-version/2"

    @property
    def leaking(self) -> bool:
        """Whether figures on its split are too good to be believed."""
        return bool(crossing(self.leaks))

    @property
    def parted(self) -> tuple[Sample, ...]:
        """The samples, each with the part it stands in as the one it declares."""
        where = {digest: Part(part) for part, held in self.splits.items() for digest in held}
        return tuple(
            sample.placed(split=where.get(sample.digest, Part.OPEN)) for sample in self.samples
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
    """What training sees of a sample; what is not there leaves the digest as it always was."""
    told: dict[str, object] = {
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
    return told | {name: value for name, value in further.items() if value is not None}


def check_name(name: str) -> str:
    """A dataset name: up to 64 letters, digits, ``-``, ``_``, ``.``; a letter or digit first."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum() and name[0].isalnum() and len(name) <= 64):
        raise InvalidError(
            f"{name!r} cannot name a dataset",
            where="name",
            fix="Use up to 64 letters, digits, '-', '_' and '.', a letter or digit first.",
        )
    return name
