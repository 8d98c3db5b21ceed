"""What every way into the log shares: patience with the store, and a place for what is refused."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from lineside.core import InvalidError, UnavailableError
from lineside.hub.eventlog.dead_letters import DeadLetters
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import DeadLetterError, Reason
from lineside.hub.views import DeadLetterView

logger = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_S = 1.0


class Keeping:
    """Tries again while the store is away; puts away what cannot be taken."""

    def __init__(self, dead: DeadLetters, *, stats: Stats, patient: bool = True) -> None:
        """``patient``: wait for a store that is away; without, the caller hears of it at once."""
        self._dead = dead
        self._stats = stats
        self._stop = threading.Event()
        if not patient:
            self._stop.set()

    def hasty(self) -> "Keeping":
        """The same without patience, for callers who can try again themselves."""
        return Keeping(self._dead, stats=self._stats, patient=False)

    def stop(self) -> None:
        """Give up waiting for a store that is away."""
        self._stop.set()

    def refuse(
        self, refusal: DeadLetterError, raw: bytes, *, topic: str, frame: bool = False
    ) -> DeadLetterView:
        """Keep one refused message and count it."""
        kept = self.patiently(lambda: self._dead.keep(refusal, raw, topic=topic))
        self._stats.refuse(str(refusal.reason), frame=frame)
        logger.debug("message refused topic=%s reason=%s", topic, refusal)
        return kept

    def patiently(self, act: Callable[[], T]) -> T:
        """Do it, again and again while the store is away."""
        lost = False
        while True:
            try:
                done = act()
            except UnavailableError as error:
                if self._stop.is_set():
                    raise
                if not lost:
                    logger.warning("store away, waiting reason=%s", error)
                lost = True
                self._stop.wait(_RETRY_S)
                continue
            if lost:
                logger.info("store back")
            return done


def keep_batch(
    items: Sequence[T],
    keep: Callable[[Sequence[T]], object],
    *,
    refuse: Callable[[T, DeadLetterError], object],
) -> None:
    """Keep all in one go; where the store refuses one of them, each alone.

    A batch is taken or refused as a whole, so one bad name would otherwise take the good ones
    with it.
    """
    if not items:
        return
    try:
        keep(items)
    except InvalidError as error:
        if len(items) == 1:
            refuse(items[0], DeadLetterError(Reason.FIELDS, str(error), where=error.where))
            return
        for item in items:
            keep_batch([item], keep, refuse=refuse)
