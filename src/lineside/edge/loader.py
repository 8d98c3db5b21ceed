"""From a wish of the hub to a package that answers.

1. A package is taken from the disk or fetched, its digest compared, its golden pictures run; only
   then it replaces the one before, in one assignment, between two frames.
2. When anything of that fails the one before goes on, and the failure is told as a fault. A hub
   that is away is asked again; a package that must not run is not tried again until the wish
   changes.
3. An inspection that a wish leaves out has no package any more.
4. The archive in use and the one before it stay on the disk.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    LinesideError,
    RefusedError,
    UnavailableError,
    rfc3339,
    short,
)
from lineside.edge.contract import Judge, MakeReady, Ready
from lineside.edge.messages import Desired, InUse, Wanted
from lineside.edge.shelf import Shelf
from lineside.edge.tally import Tally

logger = logging.getLogger(__name__)

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0

Fetch = Callable[[str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    ready: Ready
    loaded_at: str


class Loader:
    """Started and closed by the agent; ``judge`` is called from the camera threads."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        fetch: Fetch,
        make_ready: MakeReady,
        inspections: frozenset[str],
        most: int,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self._shelf = shelf
        self._fetch = fetch
        self._make_ready = make_ready
        self._inspections = inspections
        self._most = most
        self._tally = tally
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        self._before: dict[str, Digest] = {}
        self._failed: dict[str, Digest] = {}
        self._wish: Desired | None = None
        self._changed = threading.Condition()
        self._new = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Load what the disk has, then wait for wishes."""
        self._wish, self._new = self._shelf.desired(), True
        self._thread.start()

    def wish(self, desired: Desired) -> None:
        """The hub wants these packages."""
        with self._changed:
            self._wish, self._new = desired, True
            self._changed.notify_all()

    def judge(self, inspection: str) -> Judge | None:
        """What answers for an inspection right now."""
        slot = self._slots.get(inspection)
        return slot.ready.judge if slot is not None else None

    def in_use(self) -> tuple[InUse, ...]:
        """For the status."""
        return tuple(
            InUse(inspection=name, digest=slot.ready.digest, loaded_at=slot.loaded_at)
            for name, slot in sorted(self._slots.items())
        )

    def close(self) -> None:
        """Stop; a load under way is finished first."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._stop.is_set():
            with self._changed:
                wish, self._new = self._wish, False
            done = self._carry_out(wish) if wish is not None else True
            retry_s = _FIRST_RETRY_S if done else min(2 * retry_s, _LONGEST_RETRY_S)
            with self._changed:
                self._changed.wait_for(
                    lambda: self._new or self._stop.is_set(), timeout=None if done else retry_s
                )
                if self._new:
                    retry_s = _FIRST_RETRY_S
                    self._failed.clear()

    def _carry_out(self, wish: Desired) -> bool:
        """Bring every wished package into use; False when one is to be tried again."""
        mine = [wanted for wanted in wish.packages if wanted.inspection in self._inspections]
        self._unload({wanted.inspection for wanted in mine})
        outcomes = [self._bring(wanted) for wanted in mine]
        self._sweep()
        return all(outcomes)

    def _unload(self, keep: set[str]) -> None:
        for name in set(self._slots) - keep:
            logger.info("package no longer wanted inspection=%s", name)
            self._slots = {key: slot for key, slot in self._slots.items() if key != name}
            self._tally.changed()

    def _bring(self, wanted: Wanted) -> bool:
        name, place = wanted.inspection, f"package of {wanted.inspection}"
        slot = self._slots.get(name)
        if slot is not None and slot.ready.digest == wanted.digest:
            self._tally.mended(place)
            return True
        if self._failed.get(name) == wanted.digest or self._stop.is_set():
            return True
        try:
            ready = self._load(wanted)
        except UnavailableError as error:
            self._note(place, error)
            return False
        except LinesideError as error:
            self._failed[name] = wanted.digest
            self._note(place, error)
            return True
        except Exception as error:  # boundary: a package must not end the agent
            self._failed[name] = wanted.digest
            logger.exception("package cannot be loaded inspection=%s", name)
            self._tally.fault(place, error)
            return True
        self._swap(name, ready)
        self._tally.mended(place)
        return True

    def _note(self, place: str, error: LinesideError) -> None:
        if self._tally.fault(place, error):
            logger.warning("%s: %s", place, error)

    def _swap(self, name: str, ready: Ready) -> None:
        old = self._slots.get(name)
        if old is not None:
            self._before[name] = old.ready.digest
        slot = _Slot(ready=ready, loaded_at=rfc3339(self._clock.now()))
        self._slots = {**self._slots, name: slot}
        self._tally.changed()
        logger.info("package in use inspection=%s package=%s", name, short(ready.digest))

    def _load(self, wanted: Wanted) -> Ready:
        if wanted.inspection not in self._slots and len(self._slots) >= self._most:
            raise InvalidError(
                f"{self._most} packages are loaded, no more are allowed",
                where="max_loaded_packages",
                fix="Raise it, or want fewer packages.",
            )
        data = self._shelf.get(wanted.digest)
        if data is not None:
            try:
                return self._checked(data, wanted)
            except (RefusedError, InvalidError) as error:
                logger.warning("package on the disk is not usable, fetching it: %s", error)
                self._shelf.remove(wanted.digest)
        data = self._fetch(wanted.url)
        ready = self._checked(data, wanted)
        self._shelf.put(wanted.digest, data)
        return ready

    def _checked(self, data: bytes, wanted: Wanted) -> Ready:
        ready = self._make_ready(data)
        if ready.digest != wanted.digest:
            raise RefusedError(
                f"the package has digest {short(ready.digest)}, wanted {short(wanted.digest)}",
                where=wanted.url,
                fix="Ask for the package that the hub has.",
            )
        if ready.inspection != wanted.inspection:
            raise RefusedError(
                f"the package is made for inspection {ready.inspection!r}",
                where=wanted.inspection,
                fix="Use a package of this inspection.",
            )
        return ready

    def _sweep(self) -> None:
        keep = {slot.ready.digest for slot in self._slots.values()} | set(self._before.values())
        wished = self._wish.packages if self._wish is not None else ()
        self._shelf.sweep(keep=keep | {wanted.digest for wanted in wished})
