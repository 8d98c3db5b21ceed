"""Samples of a draft: bytes and frames checked, and judgements of one picture merged.

A judgement that contradicts an earlier one does not replace it: the disputed labels count as not
judged, a disputed count, mask or set of objects as unknown, until somebody settles it. What only
one of them says holds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lineside.core import Digest, InvalidError, NotFoundError, digest_of
from lineside.datasets.samples import Marked, Sample, Skipped, disputed_labels
from lineside.datasets.versions import Judgement
from lineside.store import Blobs, FrameRow
from lineside.vision import picture_size

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


def files_of(sample: Sample) -> tuple[Digest, ...]:
    """Digests of the picture and of what belongs to it: mask and template."""
    beside = (sample.mask_digest, sample.template_digest)
    return (sample.digest, *(digest for digest in beside if digest is not None))


_FRAME_GROUP_S = 60
_BATCH = 64
_BATCH_BYTES = 64 * 1024 * 1024

Files = Callable[[Digest], bytes]


def sample_of_frame(row: FrameRow, *, labels: Sequence[str], known: Sequence[str]) -> Sample:
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


def batches(
    items: Iterable[tuple[Sample, tuple[bytes, ...]]],
) -> Iterator[list[tuple[Sample, tuple[bytes, ...]]]]:
    """As many at a time, in pictures and in bytes, as one commit takes."""
    batch: list[tuple[Sample, tuple[bytes, ...]]] = []
    size = 0
    for sample, encoded in items:
        batch.append((sample, encoded))
        size += sum(map(len, encoded))
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Incoming:
    """Checks what is to be kept; a template that many share is read once."""

    blobs: Blobs
    files: Files | None
    there: set[Digest] = field(default_factory=set)

    def checked(self, sample: Sample, encoded: bytes) -> tuple[Sample, tuple[bytes, ...]]:
        """The sample with its bytes, then those of mask and template that are not kept yet."""
        _check(sample, encoded, digest=sample.digest)
        beside = [digest for digest in files_of(sample)[1:] if digest not in self.there]
        self.there.update(beside)
        return sample, (encoded, *(self._read(sample, digest) for digest in beside))

    def _read(self, sample: Sample, digest: Digest) -> bytes:
        try:
            encoded = self.files(digest) if self.files else self.blobs.get(digest)
        except NotFoundError as error:
            raise InvalidError(
                "its mask or template is not there", where=sample.name, fix="Hand it in."
            ) from error
        _check(sample, encoded, digest=digest)
        return encoded


def _check(sample: Sample, encoded: bytes, *, digest: Digest) -> None:
    if digest_of(encoded) != digest:
        raise InvalidError(
            "the bytes are not those of the digest", where=sample.name, fix="Read again."
        )
    picture_size(encoded)
