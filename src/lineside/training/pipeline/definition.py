"""Definition of a pipeline: parameters with defaults, steps in order, and the same as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from lineside.core import Fault, InvalidError, Task
from lineside.core.codec import faults_error
from lineside.models import Status

Value = str | int | float

EXPIRE_AFTER_DAYS = 30


class Role(StrEnum):
    """Work of a step."""

    PREPARE = "Processing"
    TRAIN = "Training"
    EVALUATE = "Evaluation"
    GATE = "Condition"
    REGISTER = "RegisterModel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: its default says its type.

    Attributes:
        least: smallest number taken; None for text.
        choices: the only texts taken; empty for any.
    """

    name: str
    default: Value
    least: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``String``, ``Integer`` or ``Float``."""
        if isinstance(self.default, str):
            return "String"
        return "Integer" if isinstance(self.default, int) else "Float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step: what it does, under which name, from which parameters."""

    name: str
    role: Role
    parameters: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        """Return whether it is done once for the same inputs."""
        return self.role in (Role.PREPARE, Role.TRAIN, Role.EVALUATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Steps, each on the results of those before it.

    Attributes:
        task: what is learned: ``classify`` or ``segment``.
        base_job_prefix: names the package.
        split: share of the pictures in the validation part, and again in the test part.
        values: parameters that were set when the pipeline was made, over their defaults.
    """

    name: str
    base_job_prefix: str
    task: Task
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    split: float = 0.1
    values: Mapping[str, Value] = field(default_factory=dict)

    def with_values(self, given: Mapping[str, object]) -> "Pipeline":
        """The pipeline with these parameters set.

        Numbers may be given as text, as a person types them.

        Raises:
            InvalidError: every parameter that is unknown or has a value of another kind.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        faults, values = [], dict(self.values)
        for name, value in given.items():
            if name not in known:
                faults.append(_fault(name, value, f"one of {', '.join(known)}"))
                continue
            taken = _taken(known[name], value)
            if taken is None:
                faults.append(_fault(name, value, _wanted(known[name])))
            else:
                values[name] = taken
        if faults:
            raise faults_error(faults, where="parameters")
        return replace(self, values=values)

    def value(self, name: str) -> Value:
        """Return the value of a parameter."""
        if name in self.values:
            return self.values[name]
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter.default
        raise InvalidError(f"no parameter {name!r}", where=self.name, fix="Declare it.")

    def text(self, name: str) -> str:
        """A text parameter."""
        return str(self.value(name))

    def number(self, name: str) -> float:
        """A number parameter."""
        return float(self.value(name))

    def definition(self) -> dict[str, Any]:
        """The definition as JSON: version, parameters, steps."""
        return {
            "Version": "2020-12-01",
            "Metadata": {"Name": self.name, "Task": str(self.task)},
            "Parameters": [
                {"Name": p.name, "Type": p.kind, "DefaultValue": self.value(p.name)}
                for p in self.parameters
            ],
            "Steps": [self._step(place) for place in range(len(self.steps))],
        }

    def _step(self, place: int) -> dict[str, Any]:
        step = self.steps[place]
        arguments: dict[str, Any] = {
            name: {"Get": f"Parameters.{name}"} for name in step.parameters
        }
        if step.role is Role.PREPARE:
            arguments["Split"] = self.split
        told: dict[str, Any] = {
            "Name": step.name,
            "Type": str(step.role),
            "Arguments": arguments,
            "DependsOn": [self.steps[place - 1].name] if place else [],
        }
        if step.cached:
            told["CacheConfig"] = {"Enabled": True, "ExpireAfter": f"{EXPIRE_AFTER_DAYS}d"}
        return told


def _taken(parameter: Parameter, value: object) -> Value | None:
    """The value as the parameter's kind; None where it is none."""
    if isinstance(parameter.default, str):
        fits = isinstance(value, str) and (not parameter.choices or value in parameter.choices)
        return str(value) if fits else None
    number = _number(value)
    if number is None or (parameter.least is not None and number < parameter.least):
        return None
    if isinstance(parameter.default, int):
        return int(number) if number == int(number) else None
    return number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= 1e12 else None


def _wanted(parameter: Parameter) -> str:
    if parameter.choices:
        return f"one of {', '.join(parameter.choices)}"
    least = "" if parameter.least is None else f" of at least {parameter.least:g}"
    return f"{parameter.kind}{least}"


def _fault(name: str, value: object, expected: str) -> Fault:
    return Fault(path=f"$.{name}", value=repr(value)[:60], expected=expected, fix="")


def machines(*, training: str) -> tuple[Parameter, ...]:
    """Kinds and numbers of machines: kept with the run, this machine does the work."""
    return (
        Parameter(name="ProcessingInstanceType", default="ml.m5.xlarge"),
        Parameter(name="ProcessingInstanceCount", default=1, least=1),
        Parameter(name="TrainingInstanceType", default=training),
        Parameter(name="TrainingInstanceCount", default=1, least=1),
    )


def registration(*, group: str) -> tuple[Parameter, ...]:
    """Under which name a version is registered; a person approves it, whatever is wished here."""
    return (
        Parameter(
            name="ModelApprovalStatus",
            default=str(Status.PENDING),
            choices=tuple(str(status) for status in Status),
        ),
        Parameter(name="ModelPackageGroupName", default=group),
    )


def gates() -> tuple[Parameter, ...]:
    """Parameters of every gate: the lower end of each class's recall, and the seed."""
    return (
        Parameter(name="GateRecall", default=0.5, least=0),
        Parameter(name="Seed", default=42, least=0),
    )
