"""Stored data: records (documents, event log, frame index) and blobs, by URL.

Main names: ``open_records`` and ``open_blobs``; the contracts ``Records``, ``Documents``,
``EventLog``, ``FrameIndex``, ``Blobs`` with their records; ``anchor`` and ``check_anchors`` for
the log's chains; ``open_objects`` for a bucket of somebody else; ``open_place`` to put bytes under
names; ``sweep`` for retention; ``backup`` and ``restore``.
Not here: what a dataset, device or prediction is; anything live (links).
"""

from lineside.store.archive import ArchiveLimits, BackupReport, backup
from lineside.store.bucket import BucketObjects, open_objects
from lineside.store.chain import ANCHOR_TYPE, anchor, check_anchors, checkpoint_bytes
from lineside.store.contract import (
    CHECKPOINT,
    LEAVING,
    MOST_COUNTED,
    Blobs,
    ChainReport,
    Document,
    Documents,
    EventLog,
    FrameAnswer,
    FrameCount,
    FrameFilter,
    FrameIndex,
    FrameOrder,
    FramePage,
    FrameRow,
    FrameWithAnswer,
    Lease,
    Leases,
    LogEntry,
    Logged,
    Place,
    Records,
    Row,
    every_document,
    open_blobs,
    open_records,
)
from lineside.store.places import open_place
from lineside.store.restore import RestoreReport, restore
from lineside.store.sweep import IDLE_S, sweep

__all__ = [
    "ANCHOR_TYPE",
    "CHECKPOINT",
    "IDLE_S",
    "LEAVING",
    "MOST_COUNTED",
    "ArchiveLimits",
    "BackupReport",
    "Blobs",
    "BucketObjects",
    "ChainReport",
    "Document",
    "Documents",
    "EventLog",
    "FrameAnswer",
    "FrameCount",
    "FrameFilter",
    "FrameIndex",
    "FrameOrder",
    "FramePage",
    "FrameRow",
    "FrameWithAnswer",
    "Lease",
    "Leases",
    "LogEntry",
    "Logged",
    "Place",
    "Records",
    "RestoreReport",
    "Row",
    "anchor",
    "backup",
    "check_anchors",
    "checkpoint_bytes",
    "every_document",
    "open_blobs",
    "open_objects",
    "open_place",
    "open_records",
    "restore",
    "sweep",
]
