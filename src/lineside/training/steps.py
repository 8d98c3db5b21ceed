"""How far a running job is: told after each step, and the place where it can be stopped."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lineside.core import Clock
from lineside.training.job import JobCancelledError, Progress

Tell = Callable[[Progress], None]
Watch = Callable[[int, Mapping[str, float]], bool]


@dataclass(slots=True)
class Steps:
    """Says how far the job is, and stops it when asked to.

    Attributes:
        progress: told after each step.
        cancelled: set it to stop after the step under way.
        watcher: told of each epoch's figures; answers whether to go on (a search's pruning).
        loss, held_out: shown with every step from when they are set.
    """

    clock: Clock
    progress: Tell
    cancelled: threading.Event
    watcher: Watch | None = None
    started_s: float = field(init=False)
    percent: float = 0.0
    loss: float | None = None
    held_out: float | None = None

    def __post_init__(self) -> None:
        self.started_s = self.clock.monotonic()

    def at(self, percent: float, stage: str) -> None:
        """Say that the job is so far; ``JobCancelledError`` when it was asked to stop."""
        self.percent = max(self.percent, percent)
        spent_s = self.clock.monotonic() - self.started_s
        left_s = spent_s * (100 - self.percent) / self.percent if self.percent > 1 else 0.0
        self.progress(
            Progress(
                percent=round(self.percent, 1),
                eta_s=round(left_s, 1),
                stage=stage,
                loss=self.loss,
                held_out=self.held_out,
            )
        )
        if self.cancelled.is_set():
            raise JobCancelledError(
                "the job was cancelled", where=stage, fix="Run it again to go on from here."
            )

    def epoch(self, number: int, **figures: float) -> None:
        """Say what an epoch came to (``loss``, ``validation_loss``, ``accuracy``, ``rmse``, …).

        Called by learners after each epoch, the same number of times on every machine of a run.
        ``JobCancelledError`` when whoever watches has seen enough.
        """
        if self.watcher is not None and not self.watcher(number, figures):
            raise JobCancelledError(
                "stopped by whoever watches it", where=f"epoch {number}", fix="Nothing to do."
            )

    @property
    def spent_s(self) -> float:
        """Seconds since this run began."""
        return self.clock.monotonic() - self.started_s
