"""Predictions become events: CloudEvents records and pure operators over time-ordered records.

Main names: ``Event`` with ``encode_event`` and ``decode_event``; ``prediction_event`` and
``read_prediction``; ``freshness`` and ``debounce``.
Not here: reading, writing, clocks; what an event does to the line (twin).
"""

from lineside.streams.codec import MAX_EVENT_BYTES, decode_event, encode_event
from lineside.streams.event import EVENT_TYPE, PREDICTION_TYPE, Event
from lineside.streams.fresh import Fresh, NotFresh, freshness
from lineside.streams.predictions import (
    encode_prediction_event,
    prediction_event,
    read_prediction,
)
from lineside.streams.windows import Reading, debounce, held_for

__all__ = [
    "EVENT_TYPE",
    "MAX_EVENT_BYTES",
    "PREDICTION_TYPE",
    "Event",
    "Fresh",
    "NotFresh",
    "Reading",
    "debounce",
    "decode_event",
    "encode_event",
    "encode_prediction_event",
    "freshness",
    "held_for",
    "prediction_event",
    "read_prediction",
]
