"""A dataset version: samples, parts and leaks that never change again.

The digest covers what training sees (pictures, labels, what was judged, groups, parts), not who
froze it or when: freezing the same content again gives the same digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lineside.core import Digest, InvalidError, digest_of, encode, to_plain
from lineside.datasets.leaks import Leak, crossing
from lineside.datasets.samples import Part, Sample

VERSION_SCHEMA = "lineside.dataset-version/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Who said what of a picture, and when; the newest stands, the older ones are its lineage."""

    labels: tuple[str, ...]
    known: tuple[str, ...]
    by: str
    at: datetime


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
    schema: Literal["lineside.dataset-version/1"] = "lineside.dataset-version/1"

    @property
    def leaking(self) -> bool:
        """Whether figures on its split are too good to be believed."""
        return bool(crossing(self.leaks))

    def part(self, part: Part) -> tuple[Sample, ...]:
        """The samples of one part."""
        wanted = set(self.splits.get(part, ()))
        return tuple(sample for sample in self.samples if sample.digest in wanted)


def version_digest(samples: Sequence[Sample], splits: Mapping[Part, Sequence[Digest]]) -> Digest:
    """The digest of what training sees; the order of samples does not matter."""
    facts = [_facts(s) for s in sorted(samples, key=lambda sample: sample.digest)]
    parts = {str(part): sorted(members) for part, members in splits.items() if members}
    return digest_of(encode({"samples": facts, "splits": parts}))


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
