"""Contract suites of the store room: an adapter's test class subclasses one, with its fixtures.

Main names: ``BlobsContract`` (fixtures ``blobs`` and ``tamper``), ``DocumentsContract``,
``EventLogContract``, ``FrameIndexContract``, ``FrameFilterContract`` and ``RecordsContract``
(fixture ``records``, empty and opened with the fixture ``clock``), ``LeasesContract`` (also
``outlast``, which lets time go by);
``log_entry``, ``frame_row`` and ``frame_answer`` make rows.
Not here: adapters; they stand in the store room.
"""

from lineside.testing.clock import NOON
from lineside.testing.store.blobs import BlobsContract, Tamper
from lineside.testing.store.documents import DocumentsContract
from lineside.testing.store.frames import FrameFilterContract, FrameIndexContract
from lineside.testing.store.leases import LeasesContract, Outlast
from lineside.testing.store.log import EventLogContract
from lineside.testing.store.records import RecordsContract
from lineside.testing.store.rows import HUB, frame_answer, frame_row, log_entry

__all__ = [
    "HUB",
    "NOON",
    "BlobsContract",
    "DocumentsContract",
    "EventLogContract",
    "FrameFilterContract",
    "FrameIndexContract",
    "LeasesContract",
    "Outlast",
    "RecordsContract",
    "Tamper",
    "frame_answer",
    "frame_row",
    "log_entry",
]
