"""The report of a whole-picture task as one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from html import escape

from lineside.core import to_plain
from lineside.training.controls_page import controls_part, short_words
from lineside.training.measures import Worst
from lineside.training.page_parts import (
    Beside,
    confusion_table,
    history_part,
    leaks_part,
    limits_part,
    metrics_table,
    page,
    picture_cards,
    reliability_row,
    section,
    skipped_part,
    table,
    warnings,
)
from lineside.training.task_report import TaskReport

_MOST_SHOWN = 400


def task_page(
    report: TaskReport, *, pictures: Mapping[str, bytes] | None = None, title: str = ""
) -> bytes:
    """UTF-8 HTML.

    Args:
        report: what is shown.
        pictures: JPEG thumbnails of the mistakes, by name of the picture.
        title: of the page, where it is not of a training.
    """
    beside = beside_figures(report)
    parts = [
        _summary(report),
        warnings(report.warnings),
        section(
            "Figures",
            metrics_table(report.metrics, beside=beside),
            note=f"On {report.evidence or 'no pictures'}. Unsure counts as not right. The interval "
            "is 95 %; the baseline is what the trivial answer reaches.",
        ),
        section("Per class", metrics_table(report.per_class, beside=beside)),
        section(
            "Confusion", *(confusion_table(name, one) for name, one in report.confusion.items())
        ),
        section("Reliability", reliability_row(report.reliability)),
        section(
            "Limits",
            *(limits_part(name, rows) for name, rows in report.limits.items() if rows),
            note="Escapes are defects let through at a cut, over-rejects good pictures stopped.",
        ),
        controls_part(report.controls),
        mistakes_part(report.mistakes, pictures=pictures or {}),
        *(
            section(f"By {title}", metrics_table(found, first=title, beside=_every(beside)))
            for title, found in report.slices.items()
        ),
        section("Training", history_part(report.history), _held_out(report.held_out)),
        *(_further(title, facts) for title, facts in report.sections.items()),
        skipped_part("Left out or merged when the data was read", report.skipped),
        leaks_part(report.leaks, by=report.leaks_by),
    ]
    return page(title or f"Training of {report.package}", parts)


def beside_figures(report: TaskReport) -> Beside:
    """What stands beside the report's figures: leaks at each, shortcuts at those they meet."""
    leaking = ("the split leaks",) if report.leaking else ()
    return Beside(every=leaking, of=short_words(report.controls))


def _every(beside: Beside) -> Beside:
    return Beside(every=beside.every)


def _summary(report: TaskReport) -> str:
    facts = {
        "Task": report.task,
        "Data": report.dataset,
        "Data digest": report.data_digest,
        "Learned from": f"{report.training_pictures} pictures",
        "Measured on": f"{report.validation_pictures} pictures",
        "Seed": str(report.seed),
    }
    return table((), facts.items())


def mistakes_part(mistakes: Sequence[Worst], *, pictures: Mapping[str, bytes]) -> str:
    """The worst answers, with their pictures where they are given."""
    if not mistakes:
        return section("Mistakes", "<p>None.</p>")
    cards = [
        (
            pictures.get(worst.picture, b""),
            (
                worst.picture,
                f"truth: {worst.truth}",
                f"said: {worst.said} ({worst.probability:.2f})",
                worst.reason,
            ),
        )
        for worst in mistakes
    ]
    return section("Mistakes, the worst first", picture_cards(cards))


def _held_out(held_out: Mapping[str, float]) -> str:
    rows = [(name, f"{value:.3f}") for name, value in held_out.items()]
    return table(("on training pictures, by networks that had not seen them", "value"), rows)


def _further(title: str, facts: object) -> str:
    """JSON-like facts as a table or a list, whatever they are."""
    plain = to_plain(facts)
    if isinstance(plain, dict):
        return section(
            title, table((), ((str(key), _short(value)) for key, value in plain.items()))
        )
    if isinstance(plain, list) and plain and all(isinstance(row, dict) for row in plain):
        header = list(dict.fromkeys(str(key) for row in plain for key in row))
        rows = [[_short(row.get(key, "")) for key in header] for row in plain]
        return section(title, table(header, rows))
    return section(title, f"<p>{escape(_short(plain))}</p>" if plain not in (None, "", []) else "")


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        value = ", ".join(_short(one) for one in value)
    said = str(value)
    return said if len(said) <= _MOST_SHOWN else said[:_MOST_SHOWN] + "…"
