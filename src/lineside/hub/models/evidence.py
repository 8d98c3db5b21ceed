"""Evidence about a version for whoever decides about it: one record, and one HTML page of it.

Everything is read from the package, its own report, the registry and the comparison with what was
in use, which a child process made (``models/comparison.py``). Nothing is measured here, and what
nobody measured is absent rather than guessed. The page needs no other file and runs nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lineside.core import LinesideError, decode, decode_json, need, rfc3339, short
from lineside.hub.replay.repository import ReplayView, replay_words
from lineside.models import (
    Change,
    Comparison,
    Metric,
    ModelVersion,
    Package,
    PackageRecord,
    Parity,
    Speed,
    Status,
)
from lineside.models.result import (
    REPORT_FILE,
    LearningCurve,
    PowerTest,
    TrivialFigure,
    package_result,
)
from lineside.models.versions import Creation
from lineside.vision.metrics import ReliabilityBin, metric_words
from lineside.vision.verdict import RejectRule
from lineside.web.format import day_time

EVIDENCE_SCHEMA = "lineside.version-evidence/3"
_SPEEDS = ("latency", "speed", "ms_per", "_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Pictures that got better and those that got worse, as whoever registered handed them in."""

    better: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """A figure of this version and of the one in use; None where it has no such figure."""

    name: str
    this: Metric
    in_use: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageInUse:
    """The package in use."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known of a version.

    Attributes:
        result: what it means on the line, a sentence each, the headline first; empty where the
            package's report does not tell.
        in_use: None where nothing runs, or this version itself.
        comparison: with what was in use then; None while it was not made.
        compared_with: what stands of the comparison in a sentence: with what and when, that another
            package is in use meanwhile, or why there is none.
        changes: handed in at the registration; None where nobody did.
        calibration: by score; empty where the package's report has none.
        leaking: pairs on both sides of the split; None where nobody looked, else ``leaks_by`` how.
        speed: figures in time, by name.
        shortcuts: what trivial figures alone reach on the same pictures.
        shortcut_words: what follows from all controls, in a sentence; "" where none was made.
        curve: what a share of the training pictures would have reached; None where the report does
            not tell.
        power: which drawn defects are found; None likewise.
        parity: of a variant against its original.
        lineage, licences: by name.
        has_report: whether the package carries its own page.
        replays: recorded spans answered by this package, newest first.
    """

    version: ModelVersion
    result: tuple[str, ...]
    in_use: PackageInUse | None
    compared: tuple[ComparedMetric, ...]
    comparison: Comparison | None
    compared_with: str
    changes: Changes | None
    calibration: Mapping[str, tuple[ReliabilityBin, ...]]
    leaking: int | None
    leaks_by: str
    speed: Mapping[str, str]
    shortcuts: tuple[TrivialFigure, ...]
    parity: Parity | None
    lineage: Mapping[str, str]
    licences: Mapping[str, str]
    warnings: tuple[str, ...]
    task: str
    inspection: str
    has_report: bool
    replays: tuple[ReplayView, ...] = ()
    curve: LearningCurve | None = None
    power: PowerTest | None = None
    shortcut_words: str = ""
    schema: str = field(default=EVIDENCE_SCHEMA)


def collect_evidence(
    version: ModelVersion,
    *,
    package: Package | None,
    baseline: PackageRecord | None,
    comparison: Comparison | None,
    changes: Changes | None,
    replays: tuple[ReplayView, ...] = (),
    rule: RejectRule | None = None,
) -> Evidence:
    """Put together what the version, its package and what runs now say.

    Args:
        version: the one to decide about.
        package: its package; None while it is being made.
        baseline: what runs now.
        comparison: with what was in use when it was made.
        changes: where somebody handed them in.
        replays: of its package, newest first.
        rule: answers of the inspection that reject a part; None: the usual words.
    """
    report = _report(package)
    manifest = package.manifest if package else None
    metrics = dict(version.metrics) or dict(manifest.metrics if manifest else {})
    used = baseline.manifest.metrics if baseline else {}
    return Evidence(
        version=version,
        result=_result(package, rule=rule),
        in_use=PackageInUse(name=baseline.name, digest=baseline.digest) if baseline else None,
        compared=tuple(
            ComparedMetric(name=name, this=metric, in_use=used.get(name))
            for name, metric in sorted(metrics.items(), key=lambda pair: ("/" in pair[0], pair[0]))
        ),
        comparison=comparison,
        compared_with=comparison_words(comparison, in_use=baseline.digest if baseline else ""),
        changes=changes,
        calibration=_calibration(report),
        leaking=_leaking(report),
        leaks_by=str(report.get("leaks_by") or ""),
        speed=_speed(version) | (speed_words(comparison.speed) if comparison else {}),
        shortcuts=_shortcuts(report),
        shortcut_words=_shortcut_words(report),
        curve=_part(report, "learning_curve", LearningCurve),
        power=_part(report, "power", PowerTest),
        parity=manifest.parity if manifest else None,
        lineage=_lineage(version, package),
        licences=_licences(package),
        warnings=manifest.lineage.warnings if manifest else (),
        task=manifest.task if manifest else "",
        inspection=manifest.inspection if manifest else "",
        has_report=package is not None and "evidence/report.html" in package.files,
        replays=replays,
    )


class _Named(Protocol):
    """Anything with the name of a figure."""

    @property
    def name(self) -> str: ...


_Figure = TypeVar("_Figure", bound=_Named)
_Part = TypeVar("_Part")
_HEADLINE = ("accuracy", "exact", "f1", "pixel f1", "auroc", "recall", "precision", "mae")
_MOST_HEADLINES = 5


def figure_groups(figures: Iterable[_Figure]) -> tuple[tuple[str, tuple[_Figure, ...]], ...]:
    """Return figures by title: the headline, those of each label, the rest; no group is empty."""
    named = [(one.name.replace("_", " "), one) for one in figures]
    whole = [(name, one) for name, one in named if "/" not in name]
    first = [
        one
        for wanted in _HEADLINE
        for name, one in whole
        if name == wanted or name.startswith(f"{wanted} ")
    ]
    first = (first or [one for _, one in whole])[:_MOST_HEADLINES]
    groups = (
        ("Figures", tuple(first)),
        ("Per label", tuple(one for name, one in named if "/" in name)),
        ("Further figures", tuple(one for _, one in whole if one not in first)),
    )
    return tuple((title, found) for title, found in groups if found)


def change_words(comparison: Comparison | None) -> str:
    """Say what got better and worse in a sentence; "" where answers were not compared."""
    if comparison is None or not comparison.n:
        return ""
    if not (comparison.better_count or comparison.worse_count):
        return f"Right and wrong on the same pictures, {comparison.n} held-out ones."
    return (
        f"Right on {comparison.better_count} pictures that {comparison.in_use_name} gets wrong,"
        f" wrong on {comparison.worse_count} that it gets right, of {comparison.n} held-out ones."
    )


def comparison_words(comparison: Comparison | None, *, in_use: str) -> str:
    """With what a version was compared, or why it was not.

    Args:
        comparison: as it is kept.
        in_use: digest of what runs now; "" for nothing.
    """
    if comparison is None or comparison.at is None:
        return (
            "Not compared yet: the hub lets both packages answer the same pictures in the "
            "background, soon after the registration."
        )
    if comparison.why_not:
        return comparison.why_not
    told = (
        f"Both answered the same {comparison.n} held-out pictures of {comparison.dataset}; in use "
        f"was {comparison.in_use_name} {short(comparison.in_use)}."
    )
    if comparison.left_out:
        told += (
            f" {comparison.left_out} further ones are left out, because the package in use was "
            "trained on them or they have no template."
        )
    if comparison.in_use != in_use:
        told += " Meanwhile another package is in use: compare again."
    return told


def speed_words(speed: Speed | None) -> dict[str, str]:
    """Return a machine's measurements, by name."""
    if speed is None:
        return {}
    baseline = "" if speed.in_use_ms is None else f"; in use {speed.in_use_ms:.1f} ms"
    return {
        "Median": f"{speed.median_ms:.1f} ms a picture{baseline}",
        "95 % within": f"{speed.p95_ms:.1f} ms",
        "Measured": f"n {speed.n}, {speed.pictures} pictures, on {speed.machine}",
        "Processor": speed.processor,
    }


def _report(package: Package | None) -> Mapping[str, Any]:
    """The package's own report; one that cannot be read is as good as none."""
    raw = package.files.get(REPORT_FILE) if package else None
    if raw is None:
        return {}
    try:
        found = decode_json(raw, where=REPORT_FILE)
    except LinesideError:
        return {}
    return found if isinstance(found, dict) else {}


def _calibration(report: Mapping[str, Any]) -> dict[str, tuple[ReliabilityBin, ...]]:
    """The tables of the report; of another form they are as good as none."""
    try:
        found = decode(
            dict[str, tuple[ReliabilityBin, ...]], report.get("reliability", {}), where=REPORT_FILE
        )
    except LinesideError:
        return {}
    return {name: bins for name, bins in found.items() if bins}


def _result(package: Package | None, *, rule: RejectRule | None) -> tuple[str, ...]:
    found = package_result(package, rule=rule) if package else None
    if found is None:
        return ()
    gaps = found.gaps if found.shares else ()
    power = found.power.words if found.power else ""
    told = (found.headline, *gaps, found.measured, found.bounded, power, found.advice)
    return tuple(one for one in told if one)


def _shortcuts(report: Mapping[str, Any]) -> tuple[TrivialFigure, ...]:
    """The trivial figures of the report; of another form they are as good as none."""
    controls = report.get("controls")
    found = controls.get("alone", []) if isinstance(controls, dict) else []
    try:
        return decode(tuple[TrivialFigure, ...], found, where=REPORT_FILE)
    except LinesideError:
        return ()


def _shortcut_words(report: Mapping[str, Any]) -> str:
    controls = report.get("controls")
    told = str(controls.get("conclusion") or "") if isinstance(controls, dict) else ""
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def _part(report: Mapping[str, Any], name: str, kind: type[_Part]) -> _Part | None:
    """A part of the report; one of another form is as good as none."""
    raw = report.get(name)
    try:
        return decode(kind, raw, where=REPORT_FILE) if raw else None
    except LinesideError:
        return None


def _leaking(report: Mapping[str, Any]) -> int | None:
    count = report.get("leaking")
    return count if report.get("leaks_by") and isinstance(count, int) else None


def _speed(version: ModelVersion) -> dict[str, str]:
    return {
        name: value
        for name, value in version.evidence.items()
        if any(part in name for part in _SPEEDS)
    }


def _lineage(version: ModelVersion, package: Package | None) -> dict[str, str]:
    found = {
        name.replace("_", " ").capitalize(): value
        for name, value in version.evidence.items()
        if not any(part in name for part in _SPEEDS)
    }
    if package is None:
        return found
    lineage = package.manifest.lineage
    return found | {
        "Dataset": lineage.dataset,
        "Data digest": lineage.data_digest,
        "Pictures": str(lineage.pictures),
        "Seed": str(lineage.seed),
        "Code": lineage.code_version,
        "Made": lineage.created_at or rfc3339(version.registered_at),
        "Trained by": lineage.trained_by or "not stated",
    }


def _licences(package: Package | None) -> dict[str, str]:
    if package is None:
        return {}
    lineage = package.manifest.lineage
    weights = f"{lineage.weights} {lineage.weights_licence}".strip()
    return {"Data": lineage.data_licence or "not stated", "Weights": weights or "none"}


_TEMPLATES = Path(__file__).parents[1] / "pages" / "templates"
_WORDS = {
    Status.PENDING: "awaiting approval",
    Status.APPROVED: "approved",
    Status.REJECTED: "rejected",
}


def version_page(evidence: Evidence) -> bytes:
    """The page; everything that came from outside is escaped."""
    need("jinja2", extra="hub")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {
        "figure": figure, "interval": interval, "figure_groups": figure_groups,
        "metric_words": metric_words,
        "change_words": change_words, "day_time": day_time,
    }  # fmt: skip
    page = templates.get_template("version_report.html")
    verdicts = {one.id: replay_words(one) for one in evidence.replays}
    status = status_words(evidence.version)
    return page.render(evidence=evidence, status=status, verdicts=verdicts).encode()


def status_words(version: ModelVersion) -> str:
    """Where a version stands, in words."""
    if version.creation is not Creation.COMPLETED:
        return {
            Creation.PENDING: "still to be made",
            Creation.IN_PROGRESS: "being made",
            Creation.FAILED: f"failed: {version.creation_reason}",
            Creation.DELETING: f"goes: {version.creation_reason}",
        }[version.creation]
    own = version.verdicts[-1].own if version.verdicts else False
    return _WORDS[version.status] + (" by its own maker" if own else "")


def figure(value: float) -> str:
    """Three digits after the point."""
    return f"{value:.3f}"


def interval(metric: Metric) -> str:
    """``0.950 to 0.990``."""
    return f"{metric.low:.3f} to {metric.high:.3f}"
