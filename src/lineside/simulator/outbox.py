"""Hands messages to the bus, whether the broker is there or not.

While it is away pictures are dropped and counted; all other messages wait, as the firmware's
QoS 1 messages do, the newest ``_WAITING`` of them.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Literal

from lineside.core import UnavailableError
from lineside.links import Bus

logger = logging.getLogger(__name__)

_WAITING = 500
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    topic: str
    payload: bytes


class Outbox:
    """The one place that publishes; logs loss and return of the broker once each."""

    def __init__(self, bus: Bus, *, topic_prefix: str) -> None:
        self._bus = bus
        self._prefix = topic_prefix
        self._waiting: deque[_Letter] = deque(maxlen=_WAITING)
        self._lost = False
        self.dropped = 0

    def say(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1, now or as soon as the broker is back, in order."""
        self.dropped += len(self._waiting) == _WAITING
        self._waiting.append(_Letter(topic=self._prefix + topic, payload=payload))
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        while self._waiting and self._publish(self._waiting[0], qos=1):
            self._waiting.popleft()

    def show(self, topic: str, payload: bytes) -> bool:
        """Send a picture with QoS 0; False when it was dropped instead."""
        return self._publish(_Letter(topic=self._prefix + topic, payload=payload), qos=0)

    def _publish(self, letter: _Letter, *, qos: Literal[0, 1]) -> bool:
        if not self._bus.connected():
            return self._away("not connected")
        try:
            self._bus.publish(letter.topic, letter.payload, qos=qos, timeout_s=_TIMEOUT_S)
        except UnavailableError as error:
            return self._away(error.message)
        if self._lost:
            logger.info("broker is back waiting=%d", len(self._waiting))
        self._lost = False
        return True

    def _away(self, reason: str) -> bool:
        if not self._lost:
            logger.warning("broker lost reason=%s", reason)
        self._lost = True
        return False
