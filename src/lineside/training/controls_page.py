"""Controls for shortcuts as parts of report pages."""

from html import escape

from lineside.models import Metric
from lineside.training.control_records import Controls
from lineside.training.control_words import best_first, spoken
from lineside.training.page_parts import raw_table, section, table
from lineside.training.plots import interval_bar


def short_words(controls: Controls) -> dict[str, tuple[str, ...]]:
    """The warnings of the controls in few words, by the figure they are about."""
    found: dict[str, list[str]] = {}
    for metric in controls.by_metric:
        matching = [one for one in controls.alone if one.metric == metric and one.matched]
        for one in best_first(matching)[:1]:
            found.setdefault(metric, []).append(
                f"{spoken(one.figure)} alone reaches {one.reached.value:.3f}"
            )
        if metric in controls.gain_normalised:
            after = controls.gain_normalised[metric]
            found.setdefault(metric, []).append(f"{after.value:.3f} with gain normalised")
    return {metric: tuple(words) for metric, words in found.items()}


def controls_part(controls: Controls) -> str:
    """All three controls, each beside the package's own figure."""
    alone = [
        (
            escape(one.figure.replace("_", " ")),
            escape(one.metric),
            *_figure(one.reached),
            interval_bar(one.reached),
            f"{one.package.value:.3f}",
            '<span class="beside">matches the package</span>' if one.matched else "",
        )
        for one in controls.alone
    ]
    header = ("figure alone", "of", "reaches", "95 % interval", "count", "", "package", "")
    normal = [
        (escape(name), f"{controls.gain_plain[name].value:.3f}", *_figure(after))
        for name, after in controls.gain_normalised.items()
    ]
    return section(
        "Shortcuts",
        raw_table(header, alone),
        raw_table(("", "as it is", "gain normalised", "95 % interval", "count"), normal),
        _erased(controls),
        note="What trivial figures of the same pictures reach alone, and what the package reaches "
        "when brightness and contrast are alike everywhere, or marked places are painted over.",
    )


def _figure(metric: Metric) -> tuple[str, ...]:
    return f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}", str(metric.n)


def _erased(controls: Controls) -> str:
    found = controls.erased
    if found is None:
        return ""
    rows = [("still found", *_figure(found.still), f"{found.still.baseline:.3f}")]
    if found.before is not None and found.after is not None:
        rows.append(("AUROC as it is", *_figure(found.before), "0.500"))
        rows.append(("AUROC erased", *_figure(found.after), "0.500"))
    title = f"erased on {found.pictures} pictures"
    return table((title, "value", "95 % interval", "count", "baseline"), rows)
