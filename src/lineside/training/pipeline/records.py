"""What is kept of a run: every step with its outcome, and why nothing was registered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from lineside.training.pipeline.definition import Value
from lineside.training.pipeline.gate import Check


class Outcome(StrEnum):
    """How a step or a run ended."""

    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    NOT_RUN = "NotRun"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step.

    Attributes:
        cached: whether its result was there already.
        key: digest that names its result; "" for steps that are never kept.
        facts: small outputs by name.
        reason: why it failed or refused; "" otherwise.
    """

    name: str
    type: str
    outcome: Outcome
    cached: bool = False
    seconds: float = 0.0
    key: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a pipeline.

    Attributes:
        outcome: ``Refused`` where the gate held the model back.
        reason: in sentences; empty only where a version was registered.
        checks: all that the gate looked at.
        version: ``GROUP/NUMBER`` as it was registered; "" for none.
        remarks: what was asked and not done, and why.
    """

    id: str
    pipeline: str
    started_at: datetime
    ended_at: datetime
    by: str
    parameters: Mapping[str, Value]
    outcome: Outcome
    steps: tuple[StepRecord, ...]
    reason: str = ""
    checks: tuple[Check, ...] = ()
    version: str = ""
    remarks: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    schema: str = "lineside.pipeline-run/1"
