"""Predictions become events: CloudEvents records and pure operators over time-ordered records.

Main names: ``Event`` with ``encode_event`` and ``decode_event``; ``prediction_event`` and
``read_prediction``; ``freshness`` and ``feed_drift``. A plant file's rules run in a
``RuleEngine``, which takes an ``Entry`` of the log and gives an ``Output`` that ``rule_event``
makes an event; ``explain`` says a rule in words.
Not here: reading, writing, clocks; what an event does to the line (twin).
"""

from lineside.streams.differences import (
    ComparedEvent,
    EventChange,
    EventDifferences,
    Kind,
    Similarity,
    decided,
    largest_move,
    similarity,
)
from lineside.streams.drift import (
    Drift,
    DriftSettings,
    DriftState,
    FigureState,
    feed_drift,
    figures_of,
    is_unsure,
)
from lineside.streams.event import (
    EVENT_TYPE,
    MAX_EVENT_BYTES,
    PREDICTION_TYPE,
    Event,
    Fresh,
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
from lineside.streams.rules.contract import (
    MOST_CAUSES,
    UNKNOWN,
    Output,
    Record,
    Step,
    moment,
    rule_event,
)
from lineside.streams.rules.engine import (
    MOST_HELD,
    Counters,
    RuleEngine,
    rule_digest,
    rule_span_s,
)
from lineside.streams.rules.explain import conditions_in_words, explain
from lineside.streams.rules.records import TICK_TYPE, Entry, entry_line, read_entries
from lineside.streams.rules.replay import (
    Chain,
    Difference,
    RuleSet,
    cameras_read,
    closing_ticks,
    compare_rules,
    engine_of,
    entries_read,
    entry_of,
    memory_s,
    reading_order,
    run_rule,
    upstream,
)
from lineside.streams.rules.steps.table import make_step
from lineside.streams.rules.tracks.learning import Stretch, clip_of_rule, fit_dwell_times
from lineside.streams.rules.tracks.smoothing import Observation
from lineside.streams.spark.rule import spark_program

__all__ = [
    "EVENT_TYPE",
    "MAX_EVENT_BYTES",
    "MOST_CAUSES",
    "MOST_HELD",
    "PREDICTION_TYPE",
    "TICK_TYPE",
    "UNKNOWN",
    "Chain",
    "ComparedEvent",
    "Counters",
    "Difference",
    "Drift",
    "DriftSettings",
    "DriftState",
    "Entry",
    "Event",
    "EventChange",
    "EventDifferences",
    "FigureState",
    "Fresh",
    "Kind",
    "NotFresh",
    "Observation",
    "Output",
    "Record",
    "RuleEngine",
    "RuleSet",
    "Similarity",
    "Step",
    "Stretch",
    "cameras_read",
    "clip_of_rule",
    "closing_ticks",
    "compare_rules",
    "conditions_in_words",
    "decided",
    "decode_event",
    "encode_event",
    "encode_prediction_event",
    "engine_of",
    "entries_read",
    "entry_line",
    "entry_of",
    "explain",
    "feed_drift",
    "figures_of",
    "fit_dwell_times",
    "freshness",
    "is_unsure",
    "largest_move",
    "make_step",
    "memory_s",
    "moment",
    "prediction_event",
    "prediction_id",
    "read_entries",
    "read_prediction",
    "reading_order",
    "rule_digest",
    "rule_event",
    "rule_span_s",
    "run_rule",
    "similarity",
    "spark_program",
    "upstream",
    "written_time",
]
