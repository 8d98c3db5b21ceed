"""What follows from the controls for shortcuts, in sentences beside the figures."""

from collections.abc import Sequence
from dataclasses import replace

from lineside.models import Metric
from lineside.training.control_records import LOWER_IS_BETTER, Alone, Controls, Erased
from lineside.training.light_meter import TOGETHER

_SPOKEN = {
    "mean_grey": "mean grey",
    "picture_size": "the picture's size",
    "file_size": "the file's size",
    "time_of_day": "the time of day",
    "order": "the order of pictures",
    "together": "grey, contrast, sharpness and size together",
}
_LOST_SHARE = 0.1


def with_sentences(found: Controls) -> Controls:
    """The controls with what follows from them."""
    return replace(found, by_metric=_sentences(found))


def _sentences(found: Controls) -> dict[str, tuple[str, ...]]:
    lines: dict[str, list[str]] = {}
    for metric, matching in _matching(found.alone).items():
        best = matching[0]
        lines.setdefault(metric, []).append(
            f"{metric}: {spoken(best.figure)} alone reaches "
            f"{_figure(best.reached)} on the same pictures, the package {_figure(best.package)}; "
            f"this figure does not show that the package sees more"
            f"{_normal_words(metric, found)}"
        )
    for metric, after in found.gain_normalised.items():
        before = found.gain_plain[metric]
        if _falls(before, after, lower=metric in LOWER_IS_BETTER):
            lines.setdefault(metric, []).append(
                f"{metric}: with brightness and contrast normalised the package reaches "
                f"{_figure(after)} instead of {before.value:.3f}; the answer leans on the light"
            )
    if found.erased is not None and _survives(found.erased):
        lines.setdefault("erased", []).append(_erased_words(found.erased))
    return {metric: tuple(some) for metric, some in lines.items()}


def _matching(alone: Sequence[Alone]) -> dict[str, list[Alone]]:
    """The trivial figures that match, by metric, the best first; single ones before all."""
    found: dict[str, list[Alone]] = {}
    for one in alone:
        if one.matched:
            found.setdefault(one.metric, []).append(one)
    return {metric: best_first(some) for metric, some in found.items()}


def best_first(some: Sequence[Alone]) -> list[Alone]:
    """Trivial figures of one metric, the best first; single ones before all together."""
    return sorted(
        some,
        key=lambda one: (
            one.figure == TOGETHER,
            one.reached.value if one.metric in LOWER_IS_BETTER else -one.reached.value,
        ),
    )


def spoken(figure: str) -> str:
    """A trivial figure in words."""
    return _SPOKEN.get(figure, figure)


def _figure(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}, n {metric.n})"


def _normal_words(metric: str, found: Controls) -> str:
    after = found.gain_normalised.get(metric)
    if after is None:
        return ""
    return f" (with brightness and contrast normalised it reaches {_figure(after)})"


def _falls(before: Metric, after: Metric, *, lower: bool) -> bool:
    """Whether the figure leaves its interval and loses a tenth of what it has over the baseline."""
    outside = after.value > before.high if lower else after.value < before.low
    lost = abs(before.value - after.value)
    return outside and lost > _LOST_SHARE * abs(before.value - before.baseline)


def _survives(found: Erased) -> bool:
    """Whether the package goes on without the defect."""
    if found.before is not None and found.after is not None:
        kept = found.after.value - 0.5 > 0.5 * (found.before.value - 0.5)
        return found.before.low > 0.5 and found.after.low > 0.5 and kept
    return found.still.n > 0 and found.still.low > max(0.5, found.still.baseline)


def _erased_words(found: Erased) -> str:
    if found.before is not None and found.after is not None:
        return (
            f"with the marked defect erased, pictures are still told from good ones by AUROC "
            f"{_figure(found.after)}, {found.before.value:.3f} with it; it is not the defect alone "
            "that is seen"
        )
    return (
        f"with what was marked erased, {found.still.value:.0%} of {found.still.n} pictures are "
        "still answered as before; it is not the marked place alone that is seen"
    )
