"""What the agent needs of a package at work; ``models.Predictor`` is one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lineside.core import Digest, UnavailableError
from lineside.vision import Frame, Prediction


class FullError(UnavailableError):
    """No room for more right now: memory, a buffer, listeners."""


class Judge(Protocol):
    """From a frame to a prediction; safe from several threads."""

    def predict(self, frame: Frame, *, device: str = "", decode_ms: float = 0.0) -> Prediction:
        """Judge one frame."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A package that was checked and answered its golden pictures.

    Attributes:
        size_bytes: of memory it took, measured as it was loaded; at least those of its archive.
    """

    digest: Digest
    inspection: str
    judge: Judge
    size_bytes: int = 0


MakeReady = Callable[[bytes], Ready]
"""Reads an archive, loads it and runs its golden pictures; raises when it must not run."""
