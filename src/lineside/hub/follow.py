"""Readers of the event log that remember how far they came.

A follower handles entries in log order and writes its position down afterwards: after a crash the
last entries come once more, none is left out. What it feeds may be away for days; the log waits.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lineside.core import LinesideError, NotFoundError
from lineside.hub.ledger import Ledger
from lineside.store import Logged, Records

logger = logging.getLogger(__name__)

_PAGE = 200
_WAIT_S = 1.0
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which entries a follower wants; empty is all."""

    source: str = ""
    type: str = ""


def follow_from_now(name: str, *, records: Records, ledger: Ledger) -> None:
    """A follower that is new begins at what comes; one that was there goes on where it was."""
    try:
        records.documents.get("cursor", name)
    except NotFoundError:
        records.documents.put("cursor", name, body={"position": ledger.committed})


class Follower:
    """A thread of its own over the log."""

    def __init__(
        self, name: str, *, records: Records, ledger: Ledger,
        handle: Callable[[Sequence[Logged]], None], selection: Selection, page: int = _PAGE,
        note_every: int = 1, settled: Callable[[], int] | None = None,
    ) -> None:  # fmt: skip
        """Stand where the place was noted last.

        ``note_every``: positions after which the place is noted; what is behind comes again.
        ``settled``: the position up to which nothing need come again; else all that was handled.
        """
        self.name = name
        self._records = records
        self._ledger = ledger
        self._handle = handle
        self._selection = selection
        self._page = page
        self._note_every = note_every
        self._settled = settled or (lambda: self.position)
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._run, name=f"follow-{name}")
        self.position: int = self._load()
        self._noted = self.position
        self._looked = self.position

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End after the page in hand."""
        self._stop.set()
        with self._ledger.grown:
            self._ledger.grown.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def behind(self) -> int:
        """Log positions not looked at yet; none where nothing came of what it selected."""
        seen, selection = max(self.position, self._looked), self._selection
        if self._ledger.newest(source=selection.source, type=selection.type) <= seen:
            return 0
        return self._ledger.committed - seen

    def step(self) -> int:
        """Handle one page; how many entries it had."""
        end = self._ledger.committed if self._selection != Selection() else 0
        page = self._records.log.read(
            after=self.position, limit=self._page, source=self._selection.source,
            type=self._selection.type,
        )  # fmt: skip
        if page:
            self._looked = 0  # from here on what is not handled waits
            self._handle(page)
            self.position = page[-1].position
            self._note()
        else:  # what lies before ``end`` is of other sources or types
            self._looked = end
        return len(page)

    def _note(self) -> None:
        place = min(self.position, self._settled())
        if place - self._noted >= self._note_every:
            self._records.documents.put("cursor", self.name, body={"position": place})
            self._noted = place

    def _load(self) -> int:
        try:
            return int(self._records.documents.get("cursor", self.name).body["position"])
        except NotFoundError:
            return 0

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._guarded():
                self._wait()

    def _guarded(self) -> bool:
        try:
            handled = self.step()
        except LinesideError as error:
            if not self._lost:
                logger.warning(
                    "follower waits name=%s position=%d reason=%s", self.name, self.position, error
                )
            self._lost = True
            return False
        except Exception:  # boundary
            if not self._lost:
                logger.exception("follower failed name=%s position=%d", self.name, self.position)
            self._lost = True
            return False
        if self._lost:
            self._lost = False
            logger.info("follower goes on name=%s position=%d", self.name, self.position)
        return handled > 0

    def _wait(self) -> None:
        """Until the log grows; what came since the last look is not waited for."""
        with self._ledger.grown:
            if self._lost and not self._stop.is_set():
                self._ledger.grown.wait(_RETRY_S)
            elif not self._lost:
                self._ledger.grown.wait_for(
                    lambda: self._stop.is_set() or self.behind > 0, timeout=_WAIT_S
                )
