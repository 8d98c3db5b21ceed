"""What a search leaves behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineside.core import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One training of a search.

    Attributes:
        state: ``done``, ``stopped`` (worse than most at the same epoch) or ``failed``.
        value: of the objective; None where there is none.
        package: digest of what was trained; None unless done.
        history: per epoch what was watched.
    """

    number: int
    state: str
    params: Mapping[str, float]
    value: float | None
    seconds: float
    package: Digest | None = None
    history: Sequence[Mapping[str, float]] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Every trial of a study, in order, and the best of those that are done."""

    objective: str
    direction: str
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
