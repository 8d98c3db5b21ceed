"""When the hub was last heard, and how far its clock is from this one.

Acknowledgements and the job service's answers are the hub's own words; a retained message is the
broker's. The answers carry the hub's time in whole seconds, so the offset is known to one second.
"""

import math
import threading
from datetime import datetime

from lineside.core import Clock, InvalidError, decode_json

_MOST_BYTES = 262_144
_MOST_STAMP = 2**53


class Contact:
    """Safe from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._heard_at: datetime | None = None
        self._offset_s: float | None = None

    def heard(self, payload: bytes = b"") -> None:
        """The hub said something, with its time or without."""
        now = self._clock.now()
        stamp = stamp_of(payload)
        with self._lock:
            self._heard_at = now
            if stamp is not None:
                self._offset_s = stamp - math.floor(now.timestamp())

    @property
    def heard_at(self) -> datetime | None:
        """None before the hub said anything."""
        with self._lock:
            return self._heard_at

    @property
    def offset_s(self) -> float | None:
        """The hub's clock minus this one's, to one second; None before it told its time."""
        with self._lock:
            return self._offset_s


def stamp_of(payload: bytes) -> float | None:
    """``timestamp`` of an answer of the job service, in seconds since 1970; None without one."""
    if not payload or len(payload) > _MOST_BYTES:
        return None
    try:
        said = decode_json(payload, where="answer")
    except InvalidError:
        return None
    found = said.get("timestamp") if isinstance(said, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found < _MOST_STAMP else None
