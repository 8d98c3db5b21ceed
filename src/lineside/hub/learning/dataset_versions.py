"""Versions of datasets as the hub shows them: figures, tags, what changed, their reports."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lineside.core import Digest, InvalidError, NotFoundError, encode
from lineside.datasets import (
    Library,
    Parting,
    Sample,
    Tag,
    VersionDiff,
    VersionFacts,
    dataset_report,
    diff_versions,
    report_page,
    subject_of_version,
)
from lineside.hub.views import VersionView
from lineside.store import Blobs, Documents

_REPORT = "dataset-report"
_MOST_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMoved:
    """Body of ``POST …/tags``; version 0 takes the tag off."""

    tag: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """How the next version would be parted.

    Attributes:
        splits: part → pictures.
        labels: label → part → pictures.
    """

    name: str
    splits: dict[str, int]
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


class Versions:
    """What a library's versions are asked for."""

    def __init__(self, library: Library, documents: Documents, *, blobs: Blobs) -> None:
        self._library = library
        self._documents = documents
        self._blobs = blobs

    def all(self, name: str) -> tuple[VersionView, ...]:
        """Every version in figures, newest first."""
        tags = self._library.tags(name)
        return tuple(view_of(facts, tags) for facts in self._library.versions(name))

    def one(self, name: str, number: int) -> VersionView:
        """The figures of one; ``NotFoundError`` if there is none."""
        for view in self.all(name):
            if view.number == number:
                return view
        raise NotFoundError(f"no version {number} of {name!r}", where=name, fix="List them.")

    def tags(self, name: str) -> tuple[Tag, ...]:
        """Every tag with its moves."""
        return self._library.tags(name)

    def tag(self, name: str, moved: TagMoved, *, by: str) -> Tag:
        """Put a tag on a version, or take it off."""
        if moved.version == 0:
            return self._library.untag(name, moved.tag, by=by)
        return self._library.tag(name, moved.tag, number=moved.version, by=by)

    def diff(self, name: str, *, a: str, b: str) -> VersionDiff:
        """What changed from version or tag ``a`` to ``b``; "" is the newest."""
        return diff_versions(self._library.find(name, a), self._library.find(name, b))

    def split(self, name: str, parting: Parting) -> Parted:
        """Say how the next version is parted.

        Raises:
            InvalidError: it cannot be parted like that, or by a pattern: one that takes for ever
                would stop the hub.
        """
        if parting.group.startswith("regex:"):
            raise InvalidError(
                "patterns are taken on the command line only",
                where="group",
                fix="Use another rule, or lineside dataset split.",
            )
        parts = self._library.split(name, parting)
        labels: dict[str, dict[str, int]] = {}
        for part, members in parts.items():
            for label, count in Counter(name for s in members for name in s.labels).items():
                labels.setdefault(label, {})[str(part)] = count
        splits = {str(part): len(members) for part, members in parts.items()}
        return Parted(name=name, splits=splits, labels=dict(sorted(labels.items())))

    def report(self, name: str, number: int) -> bytes:
        """A version's report as one HTML file; made once, then kept with the version."""
        return self._report(name, number)[0]

    def report_json(self, name: str, number: int) -> bytes:
        """The same as JSON."""
        return self._report(name, number)[1]

    def _report(self, name: str, number: int) -> tuple[bytes, bytes]:
        version = self._library.version(name, number)
        key = f"{name}/{version.number:06d}"
        try:
            kept = self._documents.get(_REPORT, key).body
            return self._blobs.get(Digest(kept["page"])), self._blobs.get(Digest(kept["json"]))
        except NotFoundError:
            pass
        subject = subject_of_version(version, most_looked_at=_MOST_LOOKED_AT)
        made = dataset_report(subject, files=self._library.read_file)
        page, told = report_page(made), encode(made)
        digests = self._blobs.put_many([page, told])
        body = {"schema": "lineside.dataset-report-kept/1", "page": digests[0], "json": digests[1]}
        self._documents.put(_REPORT, key, body=body)
        return page, told


def view_of(facts: VersionFacts, tags: Sequence[Tag] = ()) -> VersionView:
    """The figures of a version, with the tags that are on it."""
    return VersionView(
        number=facts.number,
        digest=facts.digest,
        samples=facts.samples,
        splits=dict(facts.splits),
        leaks=facts.leaks,
        leaking=facts.leaking,
        created_at=facts.created_at,
        created_by=facts.created_by,
        tags=tuple(tag.name for tag in tags if tag.version == facts.number),
    )


def kinds_of(samples: Sequence[Sample]) -> dict[str, int]:
    """What kinds of truth pictures carry, and how many of each; none of a kind, no kind."""
    counts = {
        "labels": sum(bool(sample.known) for sample in samples),
        "count": sum(sample.count is not None for sample in samples),
        "objects": sum(sample.marked is not None for sample in samples),
        "mask": sum(sample.mask_digest is not None for sample in samples),
    }
    return {kind: count for kind, count in counts.items() if count}
