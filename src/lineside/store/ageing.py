"""Which frames age out: the decision alone, apart from the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lineside.core import Digest
from lineside.store.contract import FrameRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """What to do.

    Attributes:
        aged: frames that become tombstones.
        freed: those of them that are the last to name their picture.
    """

    aged: tuple[FrameRow, ...]
    freed: tuple[FrameRow, ...]


def choose(
    free: Sequence[FrameRow],
    *,
    kept: Mapping[Digest, int],
    older_than: datetime | None,
    excess_bytes: int,
) -> Ageing:
    """Age frames out, oldest first, until none is too old and ``excess_bytes`` are freed.

    Args:
        free: unpinned frames that have not aged out, oldest first.
        kept: how many frames, pinned ones too, still name each of their pictures.
        older_than: frames captured before it go; None: age does not matter.
        excess_bytes: how much must go whatever its age. A picture counts once, and only when the
            last frame that names it goes.
    """
    left = dict(kept)
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
