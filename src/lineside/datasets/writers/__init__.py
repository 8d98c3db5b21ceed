"""Writers of labelled pictures, one file each, for ``write_source``.

Each takes pictures that have their names already (``Outgoing``) and writes what its format has for
them; what it has no words for is said, never silently left out.

Main names: ``WRITERS`` with every writer by its word, ``Outgoing``, ``Desk``.
Not here: readers (``lineside.datasets.formats``).
"""

from lineside.datasets.writers.desk import Desk, Outgoing, outgoing
from lineside.datasets.writers.marks import write_coco, write_voc, write_yolo
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
    "Desk",
    "Outgoing",
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
