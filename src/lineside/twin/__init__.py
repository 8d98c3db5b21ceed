"""The state of the line as a fold over events, and the decisions that rest on it.

Main names: ``initial``, ``apply``, ``replay``, ``LineState``; ``place``, ``order_event``,
``next_to_send`` and ``due`` for orders; ``patch`` for browsers; ``documents`` and
``reference_document`` for the reference's readers; ``sensor_panel``; ``Snapshot``.
Not here: who delivers events, who publishes, any clock.
"""

from lineside.twin.documents import (
    PANEL_TITLE,
    PanelLine,
    camera_document,
    documents,
    order_document,
    reference_document,
    sensor_panel,
    stock_document,
)
from lineside.twin.due import due, next_to_send
from lineside.twin.fold import Snapshot, apply, load_snapshot, rebuild, replay, save_snapshot
from lineside.twin.orders import (
    ORDER_TYPE,
    OrderAction,
    OrderData,
    Refusal,
    order_event,
    place,
    read_order,
)
from lineside.twin.patches import patch
from lineside.twin.runs import TwinChange, TwinDifferences, TwinRun, moves_twin, raised_anew
from lineside.twin.state import (
    TWIN_SCHEMA,
    Alert,
    Applied,
    ColourState,
    Discrepancy,
    Evidence,
    FactoryState,
    LineState,
    Order,
    OrderStatus,
    OrderStep,
    Outcome,
    PictureView,
    Presence,
    SensorState,
    SlotState,
    StationState,
    initial,
)

__all__ = [
    "ORDER_TYPE",
    "PANEL_TITLE",
    "TWIN_SCHEMA",
    "Alert",
    "Applied",
    "ColourState",
    "Discrepancy",
    "Evidence",
    "FactoryState",
    "LineState",
    "Order",
    "OrderAction",
    "OrderData",
    "OrderStatus",
    "OrderStep",
    "Outcome",
    "PanelLine",
    "PictureView",
    "Presence",
    "Refusal",
    "SensorState",
    "SlotState",
    "Snapshot",
    "StationState",
    "TwinChange",
    "TwinDifferences",
    "TwinRun",
    "apply",
    "camera_document",
    "documents",
    "due",
    "initial",
    "load_snapshot",
    "moves_twin",
    "next_to_send",
    "order_document",
    "order_event",
    "patch",
    "place",
    "raised_anew",
    "read_order",
    "rebuild",
    "reference_document",
    "replay",
    "save_snapshot",
    "sensor_panel",
    "stock_document",
]
