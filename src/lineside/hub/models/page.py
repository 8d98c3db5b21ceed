"""The evidence of a version as one HTML file that needs no other and runs nothing."""

from pathlib import Path

from lineside.core import need
from lineside.hub.models.evidence import Evidence
from lineside.hub.replay.repository import replay_words
from lineside.models import Creation, Metric, ModelVersion, Status

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
    templates.filters |= {"figure": figure, "interval": interval}
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
