"""The state of the line as a fold over events, and the decisions that rest on it.

Main names: ``initial``, ``apply``, ``replay``, ``LineState``; ``place``, ``order_event``,
``next_to_send`` and ``due`` for orders; ``patch`` for browsers; ``documents`` and
``reference_document`` for the reference's readers; ``sensor_panel``; ``Snapshot``;
``twin_export``, ``export_bytes``.
Not here: who delivers events, who publishes, any clock.
"""

from lineside.twin.asset_shell import export_bytes
from lineside.twin.documents import (
    camera_document,
    documents,
    patch,
    reference_document,
    sensor_panel,
)
from lineside.twin.export import MEDIA, ExportForm, TwinExport, export_form, twin_export
from lineside.twin.fold import (
    CHECKPOINT_EVERY,
    Snapshot,
    apply,
    first_checkpoint,
    forget_checkpoints,
    load_checkpoint,
    load_snapshot,
    moves_twin,
    rebuild,
    replay,
    save_checkpoint,
    save_snapshot,
)
from lineside.twin.orders import due, next_to_send, order_event, place, read_order
from lineside.twin.state import LineState, Order, OrderStatus, Presence, SlotState, initial

__all__ = [
    "CHECKPOINT_EVERY",
    "MEDIA",
    "ExportForm",
    "LineState",
    "Order",
    "OrderStatus",
    "Presence",
    "SlotState",
    "Snapshot",
    "TwinExport",
    "apply",
    "camera_document",
    "documents",
    "due",
    "export_bytes",
    "export_form",
    "first_checkpoint",
    "forget_checkpoints",
    "initial",
    "load_checkpoint",
    "load_snapshot",
    "moves_twin",
    "next_to_send",
    "order_event",
    "patch",
    "place",
    "read_order",
    "rebuild",
    "reference_document",
    "replay",
    "save_checkpoint",
    "save_snapshot",
    "sensor_panel",
    "twin_export",
]
