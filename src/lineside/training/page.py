"""The report as one page that needs nothing else: no script, no font, no address."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from lineside.models import Metric
from lineside.training.report import LabelEvidence, Report

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}h3{font-size:1rem}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid #d9dee4;
vertical-align:top}
td.n,th.n{text-align:right}
.warn{border-left:4px solid #b35900;padding:.4rem .8rem;background:#fff6ec;margin:.4rem 0}
.dim{color:#59626d}
@media (prefers-color-scheme:dark){body{color:#e6e9ed;background:#14171a}
th,td{border-color:#333a42}.warn{background:#2b2014}.dim{color:#9aa4af}}
"""

_MOST_ROWS = 15


def report_page(report: Report) -> bytes:
    """UTF-8 HTML."""
    parts = [
        f"<h1>Training of {escape(report.package)}</h1>",
        _summary(report),
        *(f'<p class="warn">{escape(warning)}</p>' for warning in report.warnings),
        "<h2>Figures</h2>",
        _how_to_read(report),
        _metrics(report.metrics),
        _mistakes(report),
        _slices(report),
        _labels(report.labels),
        _places(report),
        _left_out(report),
        _leaks(report),
    ]
    title = f"<title>Training of {escape(report.package)}</title>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{title}'
    page = f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>'
    return (page + "\n".join(parts) + "</body></html>\n").encode()


def _how_to_read(report: Report) -> str:
    return (
        f'<p class="dim">From the {escape(report.evidence)}. Unsure counts as not right. The '
        "interval is 95 %; the baseline always says what the training pictures show most.</p>"
    )


def _summary(report: Report) -> str:
    facts = {
        "Inspection": report.inspection,
        "Data": report.dataset,
        "Data digest": report.data_digest,
        "Reference view": report.reference,
        "Learned from": f"{report.training_pictures} pictures",
        "Validation part": f"{report.validation_pictures} pictures",
        "Seed": str(report.seed),
    }
    return _table((), ((key, value) for key, value in facts.items()))


def _metrics(metrics: Mapping[str, Metric]) -> str:
    rows = [(name, *_cells(metric)) for name, metric in metrics.items()]
    return _table(("", "value", "95 % interval", "count", "baseline"), rows)


def _cells(metric: Metric) -> tuple[str, ...]:
    interval = f"{metric.low:.3f} to {metric.high:.3f}"
    return f"{metric.value:.3f}", interval, str(metric.n), f"{metric.baseline:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return "<h2>Mistakes</h2><p>None.</p>"
    rows = [
        (m.picture, m.name, m.truth, m.said, f"{m.probability:.2f}", m.reason)
        for m in report.mistakes
    ]
    header = ("picture", "answer", "truth", "said", "probability", "reason")
    return "<h2>Mistakes, the surest first</h2>" + _table(header, rows)


def _slices(report: Report) -> str:
    found = []
    header = ("group", "accuracy", "95 % interval", "count")
    for title, metrics in (
        ("Groups left out, one by one", report.left_out),
        ("Groups", report.slices),
    ):
        if metrics:
            rows = [(name, *_cells(metric)[:3]) for name, metric in metrics.items()]
            found.append(f"<h2>{title}</h2>" + _table(header, rows))
    if report.cross_validation and report.evidence != "cross-validation":
        found.append("<h2>Cross-validation on the training part</h2>")
        found.append(_metrics(report.cross_validation))
    if report.stability is not None:
        metric = report.stability
        found.append(
            f"<p>Changed copies (light, move, blur, compression) answered like the picture itself: "
            f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}, {metric.n} copies).</p>"
        )
    return "".join(found)


def _labels(labels: Sequence[LabelEvidence]) -> str:
    found = ["<h2>Cuts and calibration</h2>"]
    for label in labels:
        found.append(f"<h3>{escape(label.name)}</h3>")
        found.append(
            f"<p>Present above {label.high:.3f}, absent below {label.low:.3f}, else unsure; for an "
            f"error rate of {label.error_rate:.3f} on each side, from "
            f"{label.calibration_pictures} pictures. Probabilities stay within {label.floor:.3f} "
            f"and {1 - label.floor:.3f}.</p>"
        )
        found.append(_reliability(label))
        places = range(0, len(label.limits), max(1, len(label.limits) // _MOST_ROWS))
        rows = [
            (f"{row.cut:.3f}", str(row.escapes), str(row.over_rejects), f"{row.cost:g}")
            for row in (label.limits[place] for place in places)
        ]
        found.append(_table(("cut", "escapes", "over-rejects", "cost"), rows))
    return "".join(found)


def _reliability(label: LabelEvidence) -> str:
    """Said against came true, one dot a bin, as drawing and as text."""
    dots = "".join(
        f'<circle cx="{20 + 160 * b.said:.1f}" cy="{180 - 160 * b.came_true:.1f}" r="4" '
        f'fill="#2a6fb0"><title>{b.n} answers: said {b.said:.2f}, came true {b.came_true:.2f}'
        "</title></circle>"
        for b in label.reliability
    )
    told = "; ".join(
        f"said {b.said:.2f}, came true {b.came_true:.2f} of {b.n}" for b in label.reliability
    )
    return (
        f'<svg width="200" height="200" role="img" aria-label="Reliability: {escape(told)}">'
        '<path d="M20 180H180V20H20Z" fill="none" stroke="#8a939d"/>'
        f'<path d="M20 180L180 20" stroke="#8a939d" stroke-dasharray="4 4"/>{dots}</svg>'
    )


def _places(report: Report) -> str:
    if not report.other_places:
        return ""
    rows = [(p.head, p.region, f"{p.yes} of {p.n}") for p in report.other_places]
    return (
        "<h2>What a head says of other places</h2><p>A head that says yes to what lies elsewhere "
        "recognises that something lies there, not what it is.</p>"
        + _table(("head", "shown the region of", "says yes"), rows)
    )


def _left_out(report: Report) -> str:
    found = []
    for title, notes in (
        ("Training pictures that could not be placed", report.refused),
        ("Left out or merged when the data was read", report.skipped),
    ):
        if notes:
            rows = [(note.where, note.reason) for note in notes]
            found.append(f"<h2>{title}</h2>" + _table(("where", "reason"), rows))
    return "".join(found)


def _leaks(report: Report) -> str:
    if not report.leaks:
        return "<h2>Leaks</h2><p>No near-duplicates, no shared groups across the split.</p>"
    rows = [
        (leak.a, leak.b, f"{leak.similarity:.3f}", " / ".join(leak.splits), leak.kind)
        for leak in report.leaks
    ]
    return "<h2>Leaks</h2>" + _table(("picture", "picture", "similarity", "parts", "kind"), rows)
