"""The datasets of a site, on the store: drafts that grow, versions that never change.

1. A picture is kept by content digest; the same picture added twice is one sample.
2. A judgement that contradicts an earlier one does not replace it: the disputed labels are reported
   and count as not judged until ``correct`` settles them.
3. Frames are pinned before they are looked at, so that they cannot age out in between.
4. A version is written once. Freezing unchanged content returns the version that holds it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    FrameId,
    InvalidError,
    NotFoundError,
    decode,
    digest_of,
    encode,
    to_plain,
)
from lineside.datasets.leaks import Leak, find_leaks, merge_leaks, parts_of
from lineside.datasets.samples import Part, Sample, Skipped, disputed_labels
from lineside.datasets.split import By, split
from lineside.datasets.versions import DatasetVersion, Judgement, check_name, version_digest
from lineside.store import Blobs, Document, FrameRow, Records
from lineside.vision import picture_size

_DATASET = "dataset"
_PAGE = 500
_ATTEMPTS = 8
_FRAME_GROUP_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A sample of a draft with every judgement of it, oldest first."""

    sample: Sample
    judgements: tuple[Judgement, ...]
    disputed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What the next version would hold, and what a person should look at first."""

    name: str
    entries: tuple[Entry, ...]
    versions: int

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples, in order of their digests."""
        return tuple(entry.sample for entry in self.entries)

    @property
    def review(self) -> tuple[Entry, ...]:
        """Disputed samples first, then those that nobody judged."""
        disputed = [entry for entry in self.entries if entry.disputed]
        return (*disputed, *(e for e in self.entries if not e.disputed and not e.sample.known))


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What adding did: new pictures, pictures that were there, and what needs a look."""

    new: int
    same: int
    reported: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezePlan:
    """How a version is parted and searched for leaks.

    Attributes:
        by, seed, shares: as ``split`` takes them; empty ``shares`` parts only where every sample's
            group declares a part, and leaves the rest to cross-validation.
        features: digest → vector with the background removed (``region_vectors``).
        features_by: what the vectors are, for the report.
    """

    by: By = "group"
    seed: int = 0
    shares: Mapping[Part, float] = field(default_factory=dict)
    features: Mapping[Digest, NDArray[np.float32]] = field(default_factory=dict)
    features_by: str = ""


class Library:
    """Datasets by name."""

    def __init__(self, records: Records, blobs: Blobs, *, clock: Clock) -> None:
        self._records = records
        self._blobs = blobs
        self._clock = clock

    def names(self) -> tuple[str, ...]:
        """Every dataset's name, in order."""
        return tuple(sorted(document.id for document in self._all(_DATASET)))

    def add(self, name: str, samples: Iterable[tuple[Sample, bytes]], *, by: str) -> Added:
        """Add pictures with their labels; the bytes are a JPEG or PNG of the sample's digest."""
        self._open(name)
        new = same = 0
        reported: list[Skipped] = []
        for sample, encoded in samples:
            if digest_of(encoded) != sample.digest:
                raise InvalidError(
                    "the bytes are not those of the digest", where=sample.name, fix="Read again."
                )
            picture_size(encoded)
            self._blobs.put(encoded)
            fresh, notes = self._judge(name, sample, by=sample.author or by)
            new, same = new + fresh, same + (not fresh)
            reported += notes
        return Added(new=new, same=same, reported=tuple(reported))

    def add_frames(  # noqa: PLR0917  name, frames and labels read like a sentence
        self,
        name: str,
        rows: Sequence[FrameRow],
        labels: Sequence[str] = (),
        *,
        by: str,
        known: Sequence[str] = (),
    ) -> Added:
        """Add frames of the live line with one judgement for all of them; pins the frames.

        Args:
            name: of the dataset; made when it is new.
            rows: from the frame index; a tombstone has no picture any more and is reported.
            labels: names that hold on each of the frames.
            by: who says so.
            known: further names that were judged and do not hold.
        """
        self._open(name)
        self._records.frames.pin([row.id for row in rows], reason=f"dataset:{name}")
        new = same = 0
        reported: list[Skipped] = []
        for row in rows:
            if self._records.frames.get(row.id).aged_out_at is not None:
                reported.append(Skipped(where=row.id, reason="the picture has aged out"))
                continue
            fresh, notes = self._judge(name, _of_frame(row, labels=labels, known=known), by=by)
            new, same = new + fresh, same + (not fresh)
            reported += notes
        return Added(new=new, same=same, reported=tuple(reported))

    def correct(
        self,
        name: str,
        digest: Digest,
        *,
        labels: Sequence[str],
        known: Sequence[str],
        by: str,
    ) -> Entry:
        """Settle a sample's labels; what was said before stays as its lineage."""

        def settled(entry: Entry) -> Entry:
            sample = replace(entry.sample, labels=tuple(labels), known=tuple(known), author=by)
            judgement = self._judgement(sample, by=by)
            return Entry(sample=sample, judgements=(*entry.judgements, judgement))

        return self._update(name, digest, change=settled)

    def remove(self, name: str, digest: Digest) -> None:
        """Take a picture out of the draft; versions keep it."""
        self._open(name)
        self._records.documents.delete(_samples_of(name), digest)

    def draft(self, name: str) -> Draft:
        """What the next version would hold; ``NotFoundError`` for an unknown name."""
        body = self._records.documents.get(_DATASET, check_name(name)).body
        entries = (decode(Entry, d.body, where=d.id) for d in self._all(_samples_of(name)))
        ordered = sorted(entries, key=lambda entry: entry.sample.digest)
        return Draft(name=name, entries=tuple(ordered), versions=int(body["versions"]))

    def freeze(self, name: str, *, by: str, plan: FreezePlan | None = None) -> DatasetVersion:
        """Make the draft an immutable version with its split and its leak report.

        Raises:
            NotFoundError: no such dataset.
            InvalidError: it is empty.
        """
        plan = plan or FreezePlan()
        draft = self.draft(name)
        if not draft.entries:
            raise InvalidError("nothing to freeze", where=name, fix="Add labelled pictures first.")
        parts = _parts(draft.samples, plan)
        splits = {part: tuple(s.digest for s in members) for part, members in parts.items()}
        digest = version_digest(draft.samples, splits)
        if draft.versions and self.version(name, draft.versions).digest == digest:
            return self.version(name, draft.versions)
        version = DatasetVersion(
            name=name,
            number=draft.versions + 1,
            digest=digest,
            samples=draft.samples,
            splits=splits,
            leaks=_leaks(draft, plan, parts=parts),
            created_at=self._clock.now(),
            created_by=by,
            lineage={entry.sample.digest: entry.judgements for entry in draft.entries},
            leaks_by=plan.features_by,
        )
        self._write(version)
        return version

    def version(self, name: str, number: int = 0) -> DatasetVersion:
        """A frozen version; 0 is the newest. ``NotFoundError`` if there is none."""
        content = self._blobs.get(self.content(name, number))
        return decode(DatasetVersion, content, where=f"{name}/{number or 'newest'}")

    def content(self, name: str, number: int = 0) -> Digest:
        """The digest of the document that ``version`` reads, a blob like any other."""
        check_name(name)
        newest = int(self._records.documents.get(_DATASET, name).body["versions"])
        wanted = number or newest
        if not 1 <= wanted <= newest:
            raise NotFoundError(
                f"no version {wanted} of {name!r}",
                where=name,
                fix=f"Versions 1 to {newest}." if newest else "Freeze it first.",
            )
        row = self._records.documents.get(_versions_of(name), f"{wanted:06d}")
        return Digest(str(row.body["content"]))

    def read(self, sample: Sample) -> bytes:
        """The picture's bytes."""
        return self._blobs.get(sample.digest)

    def read_file(self, digest: Digest) -> bytes:
        """The bytes of a picture, mask or template by digest."""
        return self._blobs.get(digest)

    def _open(self, name: str) -> None:
        """Make the dataset known; one that is there stays as it is."""
        body = {"schema": "lineside.dataset/1", "versions": 0}
        try:
            self._records.documents.put(_DATASET, check_name(name), body=body, expect=0)
        except ConflictError:
            return

    def _judge(self, name: str, sample: Sample, *, by: str) -> tuple[bool, list[Skipped]]:
        """Add one judgement; whether the picture is new, and what has to be reported."""
        sample = replace(sample, author=by)
        judgement = self._judgement(sample, by=by)
        entry = Entry(sample=sample, judgements=(judgement,))
        try:
            self._records.documents.put(
                _samples_of(name), sample.digest, body=to_plain(entry), expect=0
            )
        except ConflictError:
            merged = self._update(
                name, sample.digest, change=lambda old: _merged(old, sample, judgement=judgement)
            )
            return False, _note(merged, sample)
        return True, []

    def _judgement(self, sample: Sample, *, by: str) -> Judgement:
        now = self._clock.now()
        return Judgement(labels=sample.labels, known=sample.known, by=by, at=now)

    def _update(self, name: str, digest: Digest, *, change: Callable[[Entry], Entry]) -> Entry:
        """Read, change, write; again when somebody else wrote in between."""
        kind = _samples_of(name)
        for _ in range(_ATTEMPTS):
            document = self._records.documents.get(kind, digest)
            entry = change(decode(Entry, document.body, where=digest))
            try:
                self._records.documents.put(
                    kind, digest, body=to_plain(entry), expect=document.version
                )
            except ConflictError:
                continue
            return entry
        raise ConflictError(
            "the sample is being changed by others all the time", where=digest, fix="Try again."
        )

    def _write(self, version: DatasetVersion) -> None:
        """Content first, then the rows, then the count: what is counted is there."""
        content = self._blobs.put(encode(version))
        self._pin(version)
        dataset = self._records.documents.get(_DATASET, version.name)
        if int(dataset.body["versions"]) != version.number - 1:
            raise ConflictError(
                "somebody froze it meanwhile", where=version.name, fix="Freeze again."
            )
        key = f"{version.number:06d}"
        with self._records.transaction():
            self._keep_pictures(version)
            self._records.documents.put(
                _versions_of(version.name),
                key,
                body={
                    "content": content,
                    "digest": version.digest,
                    "samples": len(version.samples),
                },
            )
            self._records.documents.put(
                _DATASET,
                version.name,
                body={**dataset.body, "versions": version.number},
                expect=dataset.version,
            )

    def _pin(self, version: DatasetVersion) -> None:
        frames = [FrameId(s.name) for s in version.samples if s.name.startswith("frm_")]
        if frames:
            reason = f"dataset:{version.name}/{version.number}"
            self._records.frames.pin(frames, reason=reason)

    def _keep_pictures(self, version: DatasetVersion) -> None:
        """Name the version's pictures in documents, so that the store keeps their bytes."""
        digests = [sample.digest for sample in version.samples]
        for start in range(0, len(digests), _PAGE):
            self._records.documents.put(
                f"dataset-pictures:{version.name}",
                f"{version.number:06d}-{start:08d}",
                body={"pictures": digests[start : start + _PAGE]},
            )

    def _all(self, kind: str) -> Iterator[Document]:
        after = ""
        while True:
            page = self._records.documents.page(kind, after=after, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].id


def _samples_of(name: str) -> str:
    return f"dataset-sample:{check_name(name)}"


def _versions_of(name: str) -> str:
    return f"dataset-version:{check_name(name)}"


def _of_frame(row: FrameRow, *, labels: Sequence[str], known: Sequence[str]) -> Sample:
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


def _merged(old: Entry, sample: Sample, *, judgement: Judgement) -> Entry:
    said = (judgement.labels, judgement.known, judgement.by)
    last = old.judgements[-1]
    if said == (last.labels, last.known, last.by):
        return old
    disputed = {*old.disputed, *disputed_labels(old.sample, sample)}
    held = {*old.sample.labels, *sample.labels} - disputed
    judged = {*old.sample.known, *sample.known} - disputed
    merged = replace(old.sample, labels=tuple(held), known=tuple(judged))
    return Entry(
        sample=merged,
        judgements=(*old.judgements, judgement),
        disputed=tuple(sorted(disputed)),
    )


def _note(entry: Entry, sample: Sample) -> list[Skipped]:
    if not entry.disputed:
        return []
    reason = f"judged differently before: {', '.join(entry.disputed)}; correct it to settle"
    return [Skipped(where=sample.name, reason=reason)]


def _parts(samples: Sequence[Sample], plan: FreezePlan) -> dict[Part, tuple[Sample, ...]]:
    if plan.shares:
        return split(samples, by=plan.by, seed=plan.seed, shares=plan.shares)
    if any(sample.split is not Part.OPEN for sample in samples):
        # Undeclared samples beside declared ones are for training.
        return split(samples, by=plan.by, seed=plan.seed, shares={Part.TRAIN: 1.0})
    return {}


def _leaks(
    draft: Draft, plan: FreezePlan, *, parts: Mapping[Part, tuple[Sample, ...]]
) -> tuple[Leak, ...]:
    """By digest and group over all samples, by likeness over those that have a vector."""
    samples = draft.samples
    found = find_leaks(samples, parts=parts_of(samples, parts))
    seen = [sample for sample in samples if sample.digest in plan.features]
    if not seen:
        return found
    vectors = np.stack([plan.features[sample.digest] for sample in seen])
    return merge_leaks(found, find_leaks(seen, vectors, parts=parts_of(seen, parts)))
