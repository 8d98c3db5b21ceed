"""What is checked before a library keeps it: bytes against digests, frames as samples."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lineside.core import Digest, InvalidError, NotFoundError, digest_of
from lineside.datasets.judging import files_of
from lineside.datasets.samples import Sample
from lineside.store import Blobs, FrameRow
from lineside.vision import picture_size

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
