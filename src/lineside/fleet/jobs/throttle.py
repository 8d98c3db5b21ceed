"""Rate limit per thing, so that one that misbehaves does not slow the others.

1. A thing has an allowance of requests that refills evenly: ``burst`` at once, ``per_s`` a second
   for ever. What goes beyond is refused (``RequestThrottled``), and changes nothing.
2. Refusals have an allowance too, a tenth as large: what goes beyond that is passed over without an
   answer, so that a flood does not become one of answers. It is counted.
3. Things are remembered up to ``most_things``; the one that was silent longest is forgotten, and
   has its whole allowance when it asks again. What is no name of a thing shares one allowance.

Sources: AWS IoT developer guide, "ErrorResponse" (``RequestThrottled``); AWS limits an account
(200 requests a second of each kind) and not a thing; the figures here are our own.
"""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum

from lineside.core import Clock
from lineside.fleet.jobs.names import is_name

logger = logging.getLogger(__name__)

_SHARE = 0.1
_WARN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Limits on the requests of one thing.

    Attributes:
        per_s: requests of one thing a second, in the long run.
        burst: requests of one thing at once.
        most_things: how many are remembered.
    """

    per_s: float = 10.0
    burst: int = 100
    most_things: int = 20_000


class Passage(StrEnum):
    """Outcome of a request: served, refused with an answer, or ignored."""

    SERVED = "served"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Remaining allowance of a thing.

    Attributes:
        requests: 0 to ``burst``.
        refusals: 0 to a tenth of it.
        at_s: of the monotonic clock, when it was counted.
    """

    requests: float
    refusals: float
    at_s: float


def full_allowance(limits: RateLimits, *, now_s: float) -> Allowance:
    """Of a thing that did not ask lately."""
    return Allowance(requests=limits.burst, refusals=max(1.0, _SHARE * limits.burst), at_s=now_s)


def spend(left: Allowance, limits: RateLimits, *, now_s: float) -> tuple[Passage, Allowance]:
    """Return the outcome of one more request and the allowance after it."""
    most, since_s = full_allowance(limits, now_s=now_s), max(0.0, now_s - left.at_s)
    left = Allowance(
        requests=min(most.requests, left.requests + limits.per_s * since_s),
        refusals=min(most.refusals, left.refusals + _SHARE * limits.per_s * since_s),
        at_s=max(now_s, left.at_s),
    )
    if left.requests >= 1:
        return Passage.SERVED, replace(left, requests=left.requests - 1)
    if left.refusals >= 1:
        return Passage.REFUSED, replace(left, refusals=left.refusals - 1)
    return Passage.IGNORED, left


class Throttle:
    """Every thing's allowance; safe from several threads."""

    def __init__(self, limits: RateLimits, *, clock: Clock) -> None:
        """Nobody has asked yet."""
        self.limits = limits
        self.refused = 0
        self.ignored = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, Allowance] = OrderedDict()
        self._warned_s: float | None = None

    def take(self, thing: str) -> Passage:
        """Count a request of this thing."""
        now_s, thing = self._clock.monotonic(), thing if is_name(thing) else ""
        with self._lock:
            left = self._left.pop(thing, None) or full_allowance(self.limits, now_s=now_s)
            passage, self._left[thing] = spend(left, self.limits, now_s=now_s)
            while len(self._left) > self.limits.most_things:
                self._left.popitem(last=False)
            self.refused += passage is Passage.REFUSED
            self.ignored += passage is Passage.IGNORED
            if passage is not Passage.SERVED:
                self._warn(thing, now_s=now_s)
        return passage

    def _warn(self, thing: str, *, now_s: float) -> None:
        if self._warned_s is None or now_s - self._warned_s >= _WARN_S:
            self._warned_s = now_s
            logger.warning(
                "a thing asks for jobs too often thing=%s refused=%d ignored=%d",
                thing, self.refused, self.ignored,
            )  # fmt: skip
