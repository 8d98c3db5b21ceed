"""Predictions become events: CloudEvents records and pure operators over time-ordered records.

Main names: ``Event`` with ``encode_event`` and ``decode_event``; ``prediction_event`` and
``read_prediction``; ``freshness``, ``debounce`` and ``feed_drift``.
Not here: reading, writing, clocks; what an event does to the line (twin).
"""

from lineside.streams.codec import MAX_EVENT_BYTES, decode_event, encode_event
from lineside.streams.drift import (
    Drift,
    DriftSettings,
    DriftState,
    FigureState,
    feed_drift,
    figures_of,
    is_unsure,
)
from lineside.streams.event import EVENT_TYPE, PREDICTION_TYPE, Event
from lineside.streams.fresh import Fresh, NotFresh, freshness
from lineside.streams.predictions import (
    encode_prediction_event,
    prediction_event,
    prediction_id,
    read_prediction,
)
from lineside.streams.windows import Reading, debounce, held_for

__all__ = [
    "EVENT_TYPE",
    "MAX_EVENT_BYTES",
    "PREDICTION_TYPE",
    "Drift",
    "DriftSettings",
    "DriftState",
    "Event",
    "FigureState",
    "Fresh",
    "NotFresh",
    "Reading",
    "debounce",
    "decode_event",
    "encode_event",
    "encode_prediction_event",
    "feed_drift",
    "figures_of",
    "freshness",
    "held_for",
    "is_unsure",
    "prediction_event",
    "prediction_id",
    "read_prediction",
]
