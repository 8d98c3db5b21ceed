"""Definition of a pipeline: parameters with defaults, steps in order, and the same as JSON.

The gate before registration: what a model has to show, and in which words it is refused:

1. Never accuracy alone: on a set that is mostly good, a constant answer is mostly right.
2. Of each class the lower end of its recall's interval counts, so few pictures cannot pass by luck.
3. A model that gives one answer only is refused whatever its figures.
4. A split that leaks proves nothing: pairs on both sides of it may be at most a fiftieth of the
   pictures tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from lineside.core import Fault, InvalidError, Task, encode
from lineside.core.codec import faults_error
from lineside.models import Status
from lineside.models.result import Confusion
from lineside.training.evaluation.evaluate import Evaluation
from lineside.training.report.task_report import TaskReport

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
            taken = _converted(known[name], value)
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
        known: dict[str, Any] = {
            "Name": step.name,
            "Type": str(step.role),
            "Arguments": arguments,
            "DependsOn": [self.steps[place - 1].name] if place else [],
        }
        if step.cached:
            known["CacheConfig"] = {"Enabled": True, "ExpireAfter": f"{EXPIRE_AFTER_DAYS}d"}
        return known


def _converted(parameter: Parameter, value: object) -> Value | None:
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


def quality_parameters() -> tuple[Parameter, ...]:
    """Parameters of every gate: the lower end of each class's recall, and the seed."""
    return (
        Parameter(name="GateRecall", default=0.5, least=0),
        Parameter(name="Seed", default=42, least=0),
    )


_RECALL = "recall/"
_LEAKING_SHARE = 0.02


Evidence = TaskReport | Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Requirements of a quality gate.

    Attributes:
        recall: least lower end of every class's recall.
        least: further figures by name, each with the least value; its lower end must also be
            above the trivial baseline.
    """

    recall: float
    least: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at, in a sentence that holds either way."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityResult:
    """Result of a gate."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Return whether nothing speaks against the model."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Everything that speaks against it, in sentences; empty when it passed."""
        if not self.checks:
            return "nothing was measured"
        return "; ".join(check.sentence for check in self.checks if not check.passed)


def check_quality(evidence: Evidence, limits: Limits) -> QualityResult:
    """Look at everything, also after the first fault."""
    return QualityResult(
        checks=(
            *_answers(evidence),
            *_recalls(evidence, limits),
            *(_figure(evidence, name, least=least) for name, least in limits.least.items()),
            _leaks(evidence),
        )
    )


def _answers(evidence: Evidence) -> list[Check]:
    """Return whether more than one answer is given, where more than one is true."""
    found = []
    if evidence.metrics.keys() == {"refused_rate"}:
        sentence = "the model answers nothing: every picture is refused"
        found.append(Check(name="answers", passed=False, sentence=sentence))
    for name, table in evidence.confusion.items():
        true = [label for label, row in zip(table.classes, table.rows, strict=True) if sum(row)]
        answer = [
            label
            for place, label in enumerate(table.classes)
            if any(row[place] for row in table.rows)
        ]
        if len(true) < 2:
            continue
        found.append(
            Check(
                name=f"answers/{name}",
                passed=len(answer) > 1,
                sentence=_one_answer(evidence, table, answer),
            )
        )
    return found


def _one_answer(evidence: Evidence, table: Confusion, answers: list[str]) -> str:
    if len(answers) > 1:
        return f"the model gives {len(answers)} different answers"
    if not answers:
        return "the model answers nothing: every picture is unsure"
    label, total = answers[0], sum(sum(row) for row in table.rows)
    share = sum(table.rows[table.classes.index(label)])
    accuracy = evidence.metrics.get("accuracy")
    told = f"; its accuracy of {accuracy.value:.3f} is no more than that" if accuracy else ""
    return (
        f"the model predicts one class only: it always answers {label}, and {share} of {total} "
        f"pictures are {label}, so saying so without looking is right for {share / total:.3f} of "
        f"them{told}"
    )


def _recalls(evidence: Evidence, limits: Limits) -> list[Check]:
    recalls = {
        name.removeprefix(_RECALL): metric
        for name, metric in evidence.per_class.items()
        if name.startswith(_RECALL)
    }
    if not recalls:
        return [Check(name="recall", passed=False, sentence="no class's recall was measured")]
    return [
        Check(
            name=f"recall/{label}",
            passed=metric.n > 0 and metric.low >= limits.recall,
            sentence=f"recall of {label} is {metric.value:.3f} ({metric.low:.3f} to "
            f"{metric.high:.3f}, n {metric.n}); {limits.recall:.3f} is asked of the lower end",
        )
        for label, metric in recalls.items()
    ]


def _figure(evidence: Evidence, name: str, *, least: float) -> Check:
    metric = evidence.metrics.get(name)
    if metric is None:
        return Check(name=name, passed=False, sentence=f"{name} was not measured")
    passed = metric.value >= least and metric.low > metric.baseline
    return Check(
        name=name,
        passed=passed,
        sentence=f"{name} is {metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}, "
        f"n {metric.n}); {least:.3f} is asked, and a lower end above the trivial "
        f"{metric.baseline:.3f}",
    )


def _leaks(evidence: Evidence) -> Check:
    tested = max((metric.n for metric in evidence.metrics.values()), default=0)
    return Check(
        name="leaks",
        passed=evidence.leaking <= _LEAKING_SHARE * tested,
        sentence=f"{evidence.leaking} pairs of pictures stand on both sides of the split, of "
        f"{tested} pictures tested",
    )


_DEVIATIONS = 2 * 1.959963984540054
_NAMES = {"normal": "good", "anomalous": "bad"}

Scores = dict[str, float]


def published_report(found: Evidence) -> bytes:
    """Accuracy, weighted recall, precision and F1, and a row per class."""
    table = next(iter(found.confusion.values()), Confusion(classes=(), rows=()))
    classes = _classes(table)
    total = sum(row["support"] for row in classes.values()) or 1.0
    weighted = {
        name: sum(row[name] * row["support"] for row in classes.values()) / total
        for name in ("precision", "recall", "f1-score")
    }
    macro = {
        name: sum(row[name] for row in classes.values()) / (len(classes) or 1) for name in weighted
    }
    accuracy = found.metrics.get("accuracy")
    right = accuracy.value if accuracy else weighted["recall"]
    deviation = (accuracy.high - accuracy.low) / _DEVIATIONS if accuracy else 0.0
    named: Mapping[str, float] = {
        "accuracy": right,
        "weighted_recall": weighted["recall"],
        "weighted_precision": weighted["precision"],
        "weighted_f1": weighted["f1-score"],
    }
    return encode(
        {
            "multiclass_classification_metrics": {
                name: {"value": value, "standard_deviation": deviation}
                for name, value in named.items()
            },
            "classification_report": {
                **classes,
                "accuracy": right,
                "macro avg": {**macro, "support": total},
                "weighted avg": {**weighted, "support": total},
            },
        }
    )


def _classes(table: Confusion) -> dict[str, Scores]:
    found = {}
    for place, label in enumerate(table.classes):
        hit = table.rows[place][place]
        support = sum(table.rows[place])
        answer = sum(row[place] for row in table.rows)
        precision = hit / answer if answer else 0.0
        recall = hit / support if support else 0.0
        both = precision + recall
        found[_NAMES.get(label, label)] = {
            "precision": precision,
            "recall": recall,
            "f1-score": 2 * precision * recall / both if both else 0.0,
            "support": float(support),
        }
    return found
