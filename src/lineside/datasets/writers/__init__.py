"""Writers of labelled pictures for ``write_source``, whose folders ``load_source`` reads again.

Each writer takes pictures that have their names already (``Outgoing``) and writes what its format
has for them; what it has no words for is noted, never silently left out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lineside.core import ConflictError, Digest, InvalidError, NotFoundError
from lineside.core.files import replacing_folder
from lineside.datasets.samples import Sample, Skipped
from lineside.datasets.writers.marks import write_coco, write_voc, write_yolo
from lineside.datasets.writers.output import Outgoing, Output, outgoing
from lineside.datasets.writers.tables import (
    write_csv,
    write_folders,
    write_lists,
    write_masks,
    write_records,
)

WRITERS = {
    "csv": write_csv,
    "folders": write_folders,
    "lst": write_lists,
    "records": write_records,
    "masks": write_masks,
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}

__all__ = [
    "WRITERS",
    "Outgoing",
    "Output",
    "outgoing",
    "write_coco",
    "write_csv",
    "write_folders",
    "write_lists",
    "write_masks",
    "write_records",
    "write_voc",
    "write_yolo",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """The result of writing.

    Attributes:
        samples: pictures written.
        notes: what the format has no words for.
    """

    format: str
    samples: int
    notes: tuple[Skipped, ...] = ()


def write_source(
    samples: Iterable[Sample],
    *,
    files: Callable[[Digest], bytes],
    to: Path,
    format: str,  # noqa: A002  the command line's word
) -> WriteResult:
    """Write pictures with what is known of them; the folder appears whole or not at all.

    Args:
        samples: their ``split`` is the part they are written to.
        files: gives bytes by digest.
        to: a folder that is not there yet, or empty.
        format: one of ``WRITERS``: csv, folders, lst, records, masks, coco, yolo or voc.

    Raises:
        InvalidError: no such format, a picture that cannot be read, or none that the format has
            words for.
        ConflictError: something is there already.
        NotFoundError: the folder above is not there.
    """
    writer = WRITERS.get(format)
    if writer is None:
        raise InvalidError(
            f"format {format!r} cannot be written", fix=f"Known: {', '.join(sorted(WRITERS))}."
        )
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConflictError(
            "something is there already", where=str(to), fix="Name a folder that is empty or new."
        )
    if not to.absolute().parent.is_dir():
        raise NotFoundError("no such folder", where=str(to.parent), fix="Make it first.")
    with replacing_folder(to) as made:
        output = Output(folder=made, files=files)
        count = writer(outgoing(samples, files=files), output)
        if not count:
            raise _nothing(output, format, to=to)
    return WriteResult(format=format, samples=count, notes=tuple(output.notes))


def _nothing(output: Output, form: str, *, to: Path) -> InvalidError:
    """That no picture fits the format, and why the first one does not."""
    why = f": {output.notes[0].where}: {output.notes[0].reason}" if output.notes else ""
    return InvalidError(
        f"no picture to write as {form}{why}", where=str(to), fix="Choose another format."
    )
