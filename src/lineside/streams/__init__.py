"""Predictions become events: CloudEvents records and pure operators over time-ordered records.

Main names: ``Event``. Not here: reading, writing, clocks.
"""

from lineside.streams.event import EVENT_TYPE, PREDICTION_TYPE, Event

__all__ = ["EVENT_TYPE", "PREDICTION_TYPE", "Event"]
