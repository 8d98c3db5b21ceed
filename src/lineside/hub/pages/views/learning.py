"""Data, runs and packages in rows and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lineside.core import Json, short
from lineside.datasets import DatasetVersion, Part, Sample
from lineside.hub.pages.format import DASH, counted, number, percent, span
from lineside.hub.pages.views.answers import Mark
from lineside.hub.pages.views.datasets import SampleCard, card_of, kind_counts
from lineside.hub.pages.views.evidence import decision_facts, first_metric
from lineside.hub.pages.views.frames import dataset_href
from lineside.hub.views import DatasetView, PackageView, RunView, VersionView
from lineside.vision import DISTANCE_TASKS

GALLERY = 60
Linked = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter of a gallery as a link."""

    text: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """A dataset in the list."""

    name: str
    draft_samples: int
    labels_text: str
    versions: tuple[VersionView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """A figure that is never bare."""

    name: str
    value: str
    interval: str
    n: str
    baseline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run in the list and on its own page; ``cancels`` and ``resumes`` say what may be done."""

    id: str
    mark: Mark
    task: str
    inspection: str
    data: str
    data_href: str
    seed: int
    done: str
    percent: float
    eta: str
    stage: str
    loss: str
    held_out: str
    started_at: datetime
    started_by: str
    ended_at: datetime | None
    package: str
    register_as: str
    version: str
    reason: str
    metrics: tuple[MetricRow, ...]
    chart: Json
    log: tuple[str, ...]
    cancels: bool
    resumes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRow:
    """A package in the list."""

    digest: str
    name: str
    mark: Mark
    inspection: str
    task: str
    figure: str
    value: str
    interval: str
    pictures: str
    data: str
    data_href: str
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """One cut of a limit table; ``best`` has the lowest cost."""

    cut: str
    escapes: str
    over_rejects: str
    cost: str
    best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """How one label is decided."""

    name: str
    low: str
    high: str
    error_rate: str
    pictures: str
    limits: tuple[LimitLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFacts:
    """A package's evidence."""

    digest: str
    name: str
    mark: Mark
    inspection: str
    inspection_known: bool
    used_by: tuple[str, ...]
    approved_by: str
    approved_at: datetime | None
    reason: str
    warnings: tuple[str, ...]
    metrics: tuple[MetricRow, ...]
    labels: tuple[LabelFacts, ...]
    task: str
    decision: Linked
    lineage: Linked
    engine: Linked
    health: Linked


# ---- data


def dataset_row(view: DatasetView) -> DatasetRow:
    """A dataset in the list: its labels with their counts, at most six."""
    counts = sorted(view.labels.items(), key=lambda pair: (-pair[1], pair[0]))
    text = ", ".join(f"{name} {number(count)}" for name, count in counts[:6])
    more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
    other = ", ".join(f"{number(count)} {name}" for name, count in kind_counts(view.kinds))
    return DatasetRow(
        name=view.name,
        draft_samples=view.draft_samples,
        labels_text=(text + more) or (f"none, {other}" if other else "none yet"),
        versions=view.versions,
    )


def label_counts(samples: Sequence[Sample]) -> tuple[tuple[str, int], ...]:
    """How many pictures each label holds on, by name."""
    counts: dict[str, int] = {}
    for sample in samples:
        for label in sample.labels:
            counts[label] = counts.get(label, 0) + 1
    return tuple(sorted(counts.items()))


def gallery(dataset: str, samples: Sequence[Sample], *, label: str) -> tuple[SampleCard, ...]:
    """The newest pictures that carry the label (all of them for "")."""
    wanted = [sample for sample in samples if not label or label in sample.labels]
    ordered = sorted(wanted, key=lambda sample: (sample.captured_at is None, sample.name))
    return tuple(card_of(dataset, sample) for sample in ordered[:GALLERY])


def gallery_filters(
    path: str, counts: Sequence[tuple[str, int]], *, label: str, total: int
) -> tuple[Filter, ...]:
    """Links that narrow the gallery to one label."""
    every = Filter(text=f"all {number(total)}", href=path, current=not label)
    by_label = (
        Filter(
            text=f"{name} {number(count)}",
            href=f"{path}?label={name.replace('/', '%2F')}",
            current=name == label,
        )
        for name, count in counts
    )
    return (every, *by_label)


def split_counts(version: DatasetVersion) -> tuple[tuple[str, int], ...]:
    """Pictures of each part."""
    return tuple(
        (str(part) or "not parted", len(version.splits[part]))
        for part in (Part.TRAIN, Part.VALID, Part.TEST, Part.OPEN)
        if part in version.splits
    )


# ---- runs

_RUN_MARKS = {
    "running": Mark(shape="dot", word="running", tone="ink"),
    "done": Mark(shape="tick", word="done", tone="ok"),
    "failed": Mark(shape="diamond", word="failed", tone="bad"),
    "cancelled": Mark(shape="square", word="cancelled"),
    "lost": Mark(shape="bar", word="lost", tone="warn"),
}


def run_row(run: RunView) -> RunRow:
    """A run with everything in words."""
    return RunRow(
        id=run.id,
        mark=_RUN_MARKS.get(run.state, Mark(shape="ring", word=run.state)),
        task=run.task,
        inspection=run.inspection,
        data=f"{run.dataset}/{run.version}",
        data_href=f"/data/{run.dataset}/versions/{run.version}",
        seed=run.seed,
        done=percent(run.percent / 100, digits=0),
        percent=run.percent,
        eta=_eta(run),
        stage=run.stage,
        loss=DASH if run.loss is None else number(run.loss, digits=4),
        held_out=DASH if run.held_out is None else number(run.held_out, digits=3),
        started_at=run.started_at,
        started_by=run.started_by,
        ended_at=run.ended_at,
        package=run.package,
        register_as=run.register_as,
        version=run.version_name,
        reason=run.reason,
        metrics=metric_rows(run.metrics),
        chart=_history(run),
        log=run.log,
        cancels=run.state == "running",
        resumes=run.state in ("failed", "cancelled", "lost"),
    )


def _eta(run: RunView) -> str:
    if run.state != "running":
        took = (run.ended_at - run.started_at).total_seconds() if run.ended_at else None
        return f"took {span(took)}" if took is not None else ""
    return "time left not known yet" if run.eta_s is None else f"{span(run.eta_s)} left"


def _history(run: RunView) -> Json:
    points: list[Json] = [
        [done, loss, None if held is None else held * 100] for done, loss, held in run.history
    ]
    if not points:
        return None
    return {"series": [["loss", ""], ["held out", "%"]], "points": points, "x": "percent done"}


# ---- packages


def metric_rows(metrics: Mapping[str, Any]) -> tuple[MetricRow, ...]:
    """Figures in order: the whole first, then per label."""
    ordered = sorted(metrics.items(), key=lambda pair: ("/" in pair[0], pair[0]))
    return tuple(_metric(name, metric) for name, metric in ordered)


def _metric(name: str, metric: Mapping[str, Any]) -> MetricRow:
    return MetricRow(
        name=name.replace("_", " "),
        value=number(metric["value"], digits=3),
        interval=f"{number(metric['low'], digits=3)} to {number(metric['high'], digits=3)}",
        n=number(metric["n"]),
        baseline=number(metric["baseline"], digits=3),
    )


def package_mark(package: PackageView) -> Mark:
    """In use, or waiting for someone to take it into use."""
    if package.used_by:
        return Mark(shape="tick", word=f"in use for {', '.join(package.used_by)}", tone="ok")
    if package.approved_by:
        return Mark(shape="ring", word="was in use")
    return Mark(shape="ring", word="candidate")


def labelled(package: PackageView) -> str:
    """A package as people name it: ``stock@b21e04``."""
    return f"{package.name}@{short(package.digest)}"


def package_row(package: PackageView) -> PackageRow:
    """A package in the list."""
    lineage = package.manifest["lineage"]
    first = first_metric(package.manifest)
    row = _metric(*first) if first else None
    return PackageRow(
        digest=package.digest,
        name=package.name,
        mark=package_mark(package),
        inspection=package.inspection,
        task=package.manifest["task"],
        figure=row.name if row else "",
        value=row.value if row else DASH,
        interval=row.interval if row else DASH,
        pictures=number(lineage["pictures"]),
        data=_data_text(lineage["dataset"]),
        data_href=dataset_href(lineage["dataset"]),
        added_at=package.added_at,
        added_by=package.added_by,
    )


def _data_text(dataset: str) -> str:
    return dataset.removeprefix("dataset://")


def package_facts(package: PackageView, *, inspections: Sequence[str]) -> PackageFacts:
    """A package's evidence, all of it from its manifest."""
    manifest = package.manifest
    return PackageFacts(
        digest=package.digest,
        name=package.name,
        mark=package_mark(package),
        inspection=package.inspection,
        inspection_known=package.inspection in inspections,
        used_by=package.used_by,
        approved_by=package.approved_by,
        approved_at=package.approved_at,
        reason=package.reason,
        warnings=tuple(manifest["lineage"]["warnings"]),
        metrics=metric_rows(manifest["metrics"]),
        labels=tuple(_label(rule) for rule in manifest["rules"]),
        task=manifest["task"],
        decision=decision_facts(manifest),
        lineage=_lineage(manifest),
        engine=engine_facts(manifest),
        health=_health(manifest["health"], task=manifest["task"]),
    )


def _label(rule: Mapping[str, Any]) -> LabelFacts:
    costs = [row["cost"] for row in rule["limits"]]
    best = min(costs) if costs else 0.0
    return LabelFacts(
        name=rule["name"],
        low=number(rule["low"], digits=2),
        high=number(rule["high"], digits=2),
        error_rate=percent(rule["error_rate"]),
        pictures=counted(rule["calibration_pictures"], "picture"),
        limits=tuple(
            LimitLine(
                cut=number(row["cut"], digits=2),
                escapes=number(row["escapes"]),
                over_rejects=number(row["over_rejects"]),
                cost=number(row["cost"], digits=1),
                best=row["cost"] == best,
            )
            for row in rule["limits"]
        ),
    )


def _lineage(manifest: Mapping[str, Any]) -> Linked:
    lineage = manifest["lineage"]
    return (
        ("Dataset", _data_text(lineage["dataset"]), dataset_href(lineage["dataset"])),
        ("Data digest", short(lineage["data_digest"]), ""),
        ("Pictures", number(lineage["pictures"]), ""),
        ("Data licence", lineage["data_licence"] or "not stated", ""),
        ("Weights", lineage["weights"], ""),
        ("Seed", str(lineage["seed"]), ""),
        ("Code", lineage["code_version"], ""),
        ("Made", lineage["created_at"] or "not stated", ""),
        ("Trained by", lineage["trained_by"] or "not stated", ""),
    )


def engine_facts(manifest: Mapping[str, Any]) -> Linked:
    """The network file, and what it sees of a picture."""
    engine = manifest["engine"]
    return (
        ("Precision", engine["precision"], ""),
        ("Golden pictures", number(len(manifest["golden"])), ""),
        ("Largest difference", f"{engine['max_abs_diff']:.1e}, bound {engine['bound']:.0e}", ""),
        *_input(manifest["prepare"]),
        ("Digest", short(engine["digest"]), ""),
    )


def _input(prepare: Mapping[str, Any]) -> Linked:
    """What the network sees: each region by itself, or the whole picture."""
    size = f"{prepare['width_px']} x {prepare['height_px']} px"
    regions = [crop["region"] for crop in prepare["crops"] if crop["region"]]
    if regions:
        return ("Input", f"{size} a region", ""), ("Regions", number(len(regions)), "")
    if prepare["fit"] == "zoom":
        size = f"{percent(prepare['zoom'])} of its size"
    return (("Input", f"whole picture, {size}", ""),)


def _health(health: Mapping[str, Any], *, task: str) -> Linked:
    most = f"at most {number(health['feature_distance_max'], digits=2)}"
    grey = f"{number(health['mean_grey_min'])} to {number(health['mean_grey_max'])}"
    return (
        ("Sharpness", f"at least {number(health['sharpness_min'])}", ""),
        ("Mean grey", grey, ""),
        ("Clipped", f"at most {percent(health['clipped_share_max'])}", ""),
        ("Residual", f"at most {number(health['residual_max_px'], digits=1)} px", ""),
        ("Feature distance", most if task in DISTANCE_TASKS else "not measured", ""),
    )
