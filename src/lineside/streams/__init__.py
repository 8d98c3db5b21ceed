"""Predictions become events: CloudEvents records and pure operators over time-ordered records.

Main names: ``Event`` with ``encode_event`` and ``decode_event``; ``prediction_event`` and
``read_prediction``; ``freshness`` and ``feed_drift``. A plant file's rules run in a
``RuleEngine``, which takes an ``Entry`` of the log and gives an ``Output`` that ``rule_event``
makes an event; ``explain`` says a rule in words. ``LineVerdicts`` gives one verdict for each part.
Not here: reading, writing, clocks; what an event does to the line (twin).
"""

from lineside.core.webhooks import EVENT_TYPE
from lineside.streams.event import (
    PREDICTION_TYPE,
    Event,
    NotFresh,
    decode_event,
    encode_event,
    encode_prediction_event,
    freshness,
    prediction_event,
    prediction_id,
    read_prediction,
    written_time,
)
from lineside.streams.rules.contract import moment, rule_event
from lineside.streams.rules.engine import RuleEngine
from lineside.streams.rules.explain import explain
from lineside.streams.rules.records import TICK_TYPE, Entry, entry_line, read_entries
from lineside.streams.rules.replay import (
    Chain,
    RuleSet,
    closing_ticks,
    engine_of,
    entry_of,
    memory_s,
)
from lineside.streams.verdicts import (
    VERDICT_TYPE,
    LineVerdicts,
    read_verdict,
    verdict_data,
    verdict_lines,
)

__all__ = [
    "EVENT_TYPE",
    "PREDICTION_TYPE",
    "TICK_TYPE",
    "VERDICT_TYPE",
    "Chain",
    "Entry",
    "Event",
    "LineVerdicts",
    "NotFresh",
    "RuleEngine",
    "RuleSet",
    "closing_ticks",
    "decode_event",
    "encode_event",
    "encode_prediction_event",
    "engine_of",
    "entry_line",
    "entry_of",
    "explain",
    "freshness",
    "memory_s",
    "moment",
    "prediction_event",
    "prediction_id",
    "read_entries",
    "read_prediction",
    "read_verdict",
    "rule_event",
    "verdict_data",
    "verdict_lines",
    "written_time",
]
