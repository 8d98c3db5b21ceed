"""From what a draft holds to the version it becomes; nothing is read or written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lineside.core import Digest
from lineside.datasets.judging import Entry
from lineside.datasets.leaks import Look, check_leaks, parts_of
from lineside.datasets.near import NearLimits
from lineside.datasets.parting import Parting, Parts, parted
from lineside.datasets.samples import Part, Sample
from lineside.datasets.versions import DatasetVersion, version_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezePlan:
    """How a version is parted and searched for leaks.

    Attributes:
        parting: how it is parted; None takes what was kept with the draft.
        features: digest → what the picture looks like without its background (``look_at``).
        features_by: what was compared, for the report.
        limits: how many pairs of vectors are compared.
    """

    parting: Parting | None = None
    features: Mapping[Digest, Look] = field(default_factory=dict)
    features_by: str = ""
    limits: NearLimits = field(default_factory=NearLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezing:
    """What a version is made from besides its samples.

    Attributes:
        parting: how it is parted.
        newest: the version before it; None for the first.
    """

    name: str
    parting: Parting
    newest: DatasetVersion | None
    created_at: datetime
    created_by: str


def frozen(entries: Sequence[Entry], freezing: Freezing, *, plan: FreezePlan) -> DatasetVersion:
    """The next version; its leak report too, unless its content is the newest version's."""
    newest = freezing.newest
    samples, parts = parted_now(entries, freezing)
    splits = {part: tuple(s.digest for s in members) for part, members in parts.items()}
    digest = version_digest(samples, splits)
    if newest is not None and newest.digest == digest:
        return newest
    report = check_leaks(samples, plan.features, parts=parts_of(samples, parts), limits=plan.limits)
    return DatasetVersion(
        name=freezing.name,
        number=(newest.number if newest else 0) + 1,
        digest=digest,
        samples=samples,
        splits=splits,
        leaks=report.leaks,
        created_at=freezing.created_at,
        created_by=freezing.created_by,
        lineage={entry.sample.digest: entry.judgements for entry in entries},
        leaks_by=plan.features_by,
        leak_check=report.check,
        parting=freezing.parting,
    )


def parted_now(entries: Sequence[Entry], freezing: Freezing) -> tuple[tuple[Sample, ...], Parts]:
    """The samples with their groups, and those of each part."""
    samples = [entry.sample for entry in entries]
    return parted(samples, freezing.parting, before=_earlier(freezing))


def _earlier(freezing: Freezing) -> dict[Digest, Part]:
    """Parts of the newest version, where it was parted in the same way."""
    newest = freezing.newest
    if newest is None or newest.parting != freezing.parting or not freezing.parting.shares:
        return {}
    return {digest: part for part, members in newest.splits.items() for digest in members}
