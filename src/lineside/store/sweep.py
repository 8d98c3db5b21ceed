"""Retention: frames age out, then their pictures are deleted.

1. Frames become tombstones in a commit that also notes which pictures have to go (documents of
   kind ``blob-leaving``). Pictures are deleted after it, notes after that: a crash in between
   leaves a picture with its note, and the next sweep goes on from there.
2. A picture goes only if nothing names it (``Records.named``) and nobody put it during the last
   ``idle_s`` seconds. Whoever puts bytes and then writes the record that names them therefore has
   that long, also when the bytes were there already. What is named again or too fresh keeps its
   note and waits for a later sweep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lineside.core import Digest
from lineside.store.contract import LEAVING, Blobs, FrameRow, Records

IDLE_S = 300.0
_PAGE = 100  # a page is one commit, for which other writers wait


def sweep(
    records: Records,
    blobs: Blobs,
    *,
    older_than: datetime | None,
    excess_bytes: int = 0,
    idle_s: float = IDLE_S,
) -> tuple[int, int]:
    """Age frames out and delete what they alone named.

    Args:
        records: whose frames.
        blobs: where their pictures are.
        older_than: unpinned frames captured before it go; None: age does not matter.
        excess_bytes: then the oldest unpinned ones go until their pictures are as large.
        idle_s: a picture put less than this many seconds ago stays until a later sweep.

    Returns:
        How many pictures frames let go of, and their bytes.
    """
    let_go, freed_bytes = 0, 0
    while aged := records.frames.age_out(
        older_than=older_than, excess_bytes=excess_bytes - freed_bytes
    ):
        let_go += len(aged)
        freed_bytes += sum(row.size_bytes for row in aged)
    delete_leaving(records, blobs, idle_s=idle_s)
    return let_go, freed_bytes


def delete_leaving(records: Records, blobs: Blobs, *, idle_s: float = IDLE_S) -> int:
    """Delete the pictures that are noted as leaving; how many are gone."""
    gone = 0
    after = ""
    while page := records.documents.page(LEAVING, after=after, limit=_PAGE):
        after = page[-1].id
        leaving = [Digest(note.id) for note in page]
        named = records.named(leaving)
        done = [
            digest
            for digest in leaving
            if digest not in named and blobs.discard(digest, idle_s=idle_s)
        ]
        with records.transaction():
            for digest in done:
                records.documents.delete(LEAVING, digest)
        gone += len(done)
    return gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """Frames and blobs that a sweep removes.

    Attributes:
        aged: frames that become tombstones.
        freed: those of them that are the last to name their picture.
    """

    aged: tuple[FrameRow, ...]
    freed: tuple[FrameRow, ...]


def choose(
    free: Sequence[FrameRow],
    *,
    sizes: Mapping[Digest, int],
    older_than: datetime | None,
    excess_bytes: int,
) -> Ageing:
    """Age frames out, oldest first, until none is too old and ``excess_bytes`` are freed.

    Args:
        free: unpinned frames that have not aged out, oldest first.
        sizes: how many frames, pinned ones too, still name each of their pictures.
        older_than: frames captured before it go; None: age does not matter.
        excess_bytes: how much must go whatever its age. A picture counts once, and only when the
            last frame that names it goes.
    """
    left = dict(sizes)
    aged: list[FrameRow] = []
    freed: list[FrameRow] = []
    for row in free:
        too_old = older_than is not None and row.captured_at < older_than
        if not too_old and excess_bytes <= 0:
            break
        aged.append(row)
        left[row.digest] -= 1
        if left[row.digest] == 0:
            freed.append(row)
            excess_bytes -= row.size_bytes
    return Ageing(aged=tuple(aged), freed=tuple(freed))
