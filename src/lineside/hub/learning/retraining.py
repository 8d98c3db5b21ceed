"""Re-training by rule: a new dataset version, or drift of the inspection, starts a run.

1. A rule names a dataset and what is learned from it (``[[retrain]]`` of the hub's file).
2. One run at a time: while another is at work the wish waits; of several wishes of one rule only
   the newest stays. It is tried again whenever a run ends.
3. What a rule starts is never taken into use by itself: a person approves.
"""

import logging
import threading

from lineside.core import ConflictError, LinesideError
from lineside.hub.config import RetrainRule
from lineside.hub.learning.jobs import RunRequest, Runs
from lineside.hub.views import RunView
from lineside.streams import Event

logger = logging.getLogger(__name__)

BY = "re-training rule"


class Retraining:
    """Rules and the wishes they have; safe from several threads."""

    def __init__(self, rules: tuple[RetrainRule, ...], *, runs: Runs) -> None:
        """Hear of runs that end from now on."""
        self._rules = rules
        self._runs = runs
        self._lock = threading.Lock()
        self._waiting: dict[RetrainRule, RunRequest] = {}
        runs.listen(self._run_moved)

    def version_frozen(self, dataset: str, number: int) -> None:
        """Start what the rules of that dataset ask for, or let it wait."""
        for rule in self._rules:
            if rule.dataset == dataset:
                self._wish(rule, version=number)

    def drifted(self, event: Event) -> None:
        """A running inspection drifted: start its rules that say so, on their newest version."""
        inspection = str(event.data.get("inspection", ""))
        for rule in self._rules:
            if rule.on_drift and inspection and rule.inspection == inspection:
                logger.info("re-training asked for inspection=%s event=%s", inspection, event.id)
                self._wish(rule, version=0)

    def _wish(self, rule: RetrainRule, *, version: int) -> None:
        request = RunRequest(
            dataset=rule.dataset, task=rule.task, version=version, inspection=rule.inspection,
            register_as=rule.register_as,
        )  # fmt: skip
        with self._lock:
            self._waiting[rule] = request
        self._try()

    def _run_moved(self, view: RunView) -> None:
        if view.state != "running":
            self._try()

    def _try(self) -> None:
        """Start the first wish that can be; what is refused is said and forgotten."""
        with self._lock:
            wishes = list(self._waiting.items())
        for rule, request in wishes:
            try:
                run = self._runs.start(request, by=BY)
            except ConflictError:
                return  # another run is at work; its end tries again
            except LinesideError as error:
                logger.warning("re-training refused dataset=%s reason=%s", rule.dataset, error)
            else:
                logger.info("re-training started run=%s dataset=%s", run.id, rule.dataset)
            self._forget(rule, request)

    def _forget(self, rule: RetrainRule, request: RunRequest) -> None:
        """Unless a newer wish came meanwhile."""
        with self._lock:
            if self._waiting.get(rule) == request:
                del self._waiting[rule]
