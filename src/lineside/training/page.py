"""The report of regions as one page that needs nothing else: no script, no font, no address."""

from collections.abc import Sequence
from html import escape

from lineside.training.controls_page import controls_part, short_words
from lineside.training.page_parts import (
    Beside,
    confusion_table,
    leaks_part,
    limits_part,
    metrics_table,
    page,
    reliability_row,
    section,
    skipped_part,
    table,
    warnings,
)
from lineside.training.report import LabelEvidence, Report


def report_page(report: Report) -> bytes:
    """UTF-8 HTML."""
    beside = Beside(every=_leaking(report), of=short_words(report.controls))
    parts = [
        _summary(report),
        warnings(report.warnings),
        section(
            "Figures",
            metrics_table(report.metrics, beside=beside),
            note=f"From the {report.evidence}. Unsure counts as not right. The interval is 95 %; "
            "the baseline always says what the training pictures show most.",
        ),
        controls_part(report.controls),
        _mistakes(report),
        section("Per label", metrics_table(report.per_class, beside=beside)),
        section(
            "Confusion", *(confusion_table(name, one) for name, one in report.confusion.items())
        ),
        _slices(report),
        _labels(report.labels),
        _places(report),
        skipped_part("Training pictures that could not be placed", report.refused),
        skipped_part("Left out or merged when the data was read", report.skipped),
        leaks_part(report.leaks, by="regions of the registered view"),
    ]
    return page(f"Training of {report.package}", parts)


def _leaking(report: Report) -> tuple[str, ...]:
    return ("the split leaks",) if any(leak.crosses for leak in report.leaks) else ()


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
    return table((), facts.items())


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return section("Mistakes", "<p>None.</p>")
    rows = [
        (m.picture, m.name, m.truth, m.said, f"{m.probability:.2f}", m.reason)
        for m in report.mistakes
    ]
    header = ("picture", "answer", "truth", "said", "probability", "reason")
    return section("Mistakes, the surest first", table(header, rows))


def _slices(report: Report) -> str:
    found = [
        section("Groups left out, one by one", metrics_table(report.left_out, first="group")),
        section("Groups", metrics_table(report.slices, first="group")),
    ]
    if report.evidence != "cross-validation":
        found.append(
            section("Cross-validation on the training part", metrics_table(report.cross_validation))
        )
    if report.stability is not None:
        metric = report.stability
        found.append(
            f"<p>Changed copies (light, move, blur, compression) answered like the picture itself: "
            f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}, {metric.n} copies).</p>"
        )
    return "".join(found)


def _labels(labels: Sequence[LabelEvidence]) -> str:
    found = []
    for label in labels:
        found.append(
            f"<h3>{escape(label.name)}</h3>"
            f"<p>Present above {label.high:.3f}, absent below {label.low:.3f}, else unsure; for an "
            f"error rate of {label.error_rate:.3f} on each side, from "
            f"{label.calibration_pictures} pictures. Probabilities stay within {label.floor:.3f} "
            f"and {1 - label.floor:.3f}.</p>"
        )
        found.append(reliability_row({label.name: label.reliability}))
        found.append(limits_part(f"Cuts of {label.name}", label.limits))
    return section("Cuts and calibration", *found)


def _places(report: Report) -> str:
    rows = [(p.head, p.region, f"{p.yes} of {p.n}") for p in report.other_places]
    return section(
        "What a head says of other places",
        table(("head", "shown the region of", "says yes"), rows),
        note="A head that says yes to what lies elsewhere recognises that something lies there, "
        "not what it is.",
    )
