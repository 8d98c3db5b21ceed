"""Plots as inline SVG: no script, colours from the page's style, every value readable as text."""

from collections.abc import Mapping, Sequence
from html import escape

from lineside.models import Metric
from lineside.vision.metrics import LimitRow, ReliabilityBin

SERIES = 6
_SIDE = 220
_WIDE, _HIGH = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 34
_BAR_WIDE, _BAR_HIGH = 160, 14

Points = Sequence[tuple[float, float]]


def interval_bar(metric: Metric) -> str:
    """A figure between 0 and 1: its interval as a bar, itself as a dot, the baseline as a line.

    Empty for a figure that leaves those bounds.
    """
    numbers = (metric.value, metric.low, metric.high, metric.baseline)
    if min(numbers) < 0 or max(numbers) > 1:
        return ""
    value, low, high, base = (4 + (_BAR_WIDE - 8) * number for number in numbers)
    middle = _BAR_HIGH / 2
    return (
        f'<svg class="bar" width="{_BAR_WIDE}" height="{_BAR_HIGH}" aria-hidden="true">'
        f'<path class="axis" d="M4 {middle}H{_BAR_WIDE - 4}"/>'
        f'<path class="reach" d="M{low:.1f} {middle}H{high:.1f}"/>'
        f'<path class="base" d="M{base:.1f} 1V{_BAR_HIGH - 1}"/>'
        f'<circle class="dot" cx="{value:.1f}" cy="{middle}" r="3.5"/></svg>'
    )


def reliability_plot(bins: Sequence[ReliabilityBin], *, title: str) -> str:
    """Said against came true, a dot a bin, larger for more answers."""
    most = max((each.n for each in bins), default=1)
    reach = _SIDE - _LEFT - _TOP
    floor = _SIDE - _LEFT
    dots = "".join(
        f'<circle class="dot" cx="{_LEFT + reach * b.said:.1f}" '
        f'cy="{floor - reach * b.came_true:.1f}" r="{3 + 4 * (b.n / most) ** 0.5:.1f}">'
        f"<title>{b.n} answers: said {b.said:.2f}, came true {b.came_true:.2f}</title></circle>"
        for b in bins
    )
    told = "; ".join(f"said {b.said:.2f}, came true {b.came_true:.2f} of {b.n}" for b in bins)
    corner = _LEFT + reach
    words = (
        _text((_LEFT, floor + 16), "0")
        + _text((corner, floor + 16), "1", anchor="end")
        + _text((_LEFT - 6, floor), "0", anchor="end")
        + _text((_LEFT - 6, _TOP + 8), "1", anchor="end")
        + _text((_LEFT + reach / 2, floor + 30), "said", anchor="middle")
        + _text((12, floor - reach / 2), "true")
    )
    return (
        f'<figure><svg width="{_SIDE}" height="{_SIDE}" role="img" '
        f'aria-label="Reliability of {escape(title)}: {escape(told)}">'
        f'<path class="frame" d="M{_LEFT} {floor}H{corner}V{_TOP}H{_LEFT}Z"/>'
        f'<path class="ideal" d="M{_LEFT} {floor}L{corner} {_TOP}"/>{dots}{words}'
        f"</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def curve_plot(series: Mapping[str, Points], *, title: str, across: str = "") -> str:
    """Lines over one axis; the legend names first and last value of each."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    place = _Axes.around(points)
    lines = "".join(
        f'<polyline class="line s{number % SERIES}" points="'
        + " ".join(f"{place.across(x):.1f},{place.down(y):.1f}" for x, y in line)
        + f'"><title>{escape(name)}</title></polyline>'
        for number, (name, line) in enumerate(series.items())
        if line
    )
    legend = "".join(
        f'<span class="key s{number % SERIES}">{escape(name)} {_number(line[0][1])} → '
        f"{_number(line[-1][1])}</span>"
        for number, (name, line) in enumerate(series.items())
        if line
    )
    return (
        f'<figure><svg width="{_WIDE}" height="{_HIGH}" viewBox="0 0 {_WIDE} {_HIGH}" role="img" '
        f'aria-label="{escape(title)}">{place.frame(across)}{lines}</svg>'
        f"<figcaption>{escape(title)}<br>{legend}</figcaption></figure>"
    )


def limit_plot(rows: Sequence[LimitRow], *, title: str) -> str:
    """Escapes and over-rejects at every cut."""
    series = {
        "escapes": [(row.cut, float(row.escapes)) for row in rows],
        "over-rejects": [(row.cut, float(row.over_rejects)) for row in rows],
    }
    return curve_plot(series, title=title, across="cut")


class _Axes:
    """Where values lie in a wide plot."""

    def __init__(self, *, left: float, right: float, low: float, high: float) -> None:
        self._left, self._right, self._low, self._high = left, right, low, high

    @classmethod
    def around(cls, points: Points) -> "_Axes":
        across, up = [x for x, _ in points], [y for _, y in points]
        low, high = min(0.0, *up), max(up)
        return cls(left=min(across), right=max(across), low=low, high=high)

    def across(self, x: float) -> float:
        share = (x - self._left) / ((self._right - self._left) or 1.0)
        return _LEFT + share * (_WIDE - _LEFT - _RIGHT)

    def down(self, y: float) -> float:
        share = (y - self._low) / ((self._high - self._low) or 1.0)
        return _HIGH - _BOTTOM - share * (_HIGH - _BOTTOM - _TOP)

    def frame(self, across: str) -> str:
        floor, ceiling = self.down(self._low), self.down(self._high)
        right = _WIDE - _RIGHT
        words = (
            _text((_LEFT - 6, floor), _number(self._low), anchor="end")
            + _text((_LEFT - 6, ceiling + 8), _number(self._high), anchor="end")
            + _text((_LEFT, floor + 16), _number(self._left))
            + _text((right, floor + 16), _number(self._right), anchor="end")
            + _text(((_LEFT + right) / 2, floor + 28), across, anchor="middle")
        )
        outline = f"M{_LEFT} {floor:.1f}H{right}V{ceiling:.1f}H{_LEFT}Z"
        return f'<path class="frame" d="{outline}"/>{words}'


def _number(value: float) -> str:
    return f"{value:.3g}"


def _text(at: tuple[float, float], words: str, *, anchor: str = "start") -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
