"""Plots as inline SVG that follows the page's light or dark colours: no script, no font, no file.

Every plot has a text that says what it shows, and prints its figures beside the marks.
"""

from collections.abc import Mapping, Sequence
from html import escape

from lineside.datasets.figures import Histogram, Spread

_WIDTH = 640
_ROW = 22
_NAME = 170
_FIGURE = 110
_PLOT = _WIDTH - _NAME - _FIGURE

CHART_STYLE = """
svg{display:block;max-width:100%;height:auto;margin:.4rem 0}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg .dim{fill:var(--dim)}
svg .s0{fill:var(--a)}svg .s1{fill:var(--b)}svg .s2{fill:var(--c)}svg .s3{fill:var(--d)}
svg .axis{stroke:var(--line)}svg .mark{stroke:var(--ink);stroke-width:2}
"""


def stacked_bars(
    rows: Mapping[str, Mapping[str, int]], *, series: Sequence[str], title: str
) -> str:
    """A bar a row, cut by series; the sum stands beside it."""
    longest = max((sum(row.values()) for row in rows.values()), default=0) or 1
    parts = []
    for place, (name, row) in enumerate(rows.items()):
        top, left = place * _ROW, float(_NAME)
        parts.append(_text(name, x=_NAME - 8, y=top + 15, anchor="end"))
        for number, one in enumerate(series):
            value = row.get(one, 0)
            width = value / longest * _PLOT
            hint = f"{name}, {one or 'not parted'}: {value}"
            parts.append(_rect(left, top + 4, width=width, height=_ROW - 8, kind=number, hint=hint))
            left += width
        parts.append(_text(f"{sum(row.values())}", x=left + 6, y=top + 15))
    return _svg(parts, height=len(rows) * _ROW, title=title)


def legend(series: Sequence[str]) -> str:
    """The colours of the series, in words."""
    marks = []
    left = 0
    for number, one in enumerate(series):
        name = one or "not parted"
        marks.append(_rect(left, 4, width=12, height=12, kind=number, hint=name))
        marks.append(_text(name, x=left + 18, y=15))
        left += 40 + 7 * len(name)
    return _svg(marks, height=22, title="Colours: " + ", ".join(one or "none" for one in series))


def columns(histogram: Histogram, *, title: str, unit: str = "") -> str:
    """A histogram; ends of the axis and the highest column are written."""
    highest = max(histogram.counts, default=0) or 1
    width, height = _WIDTH - 60, 130
    step = width / max(1, len(histogram.counts))
    parts = [f'<line class="axis" x1="40" x2="{40 + width}" y1="{height}" y2="{height}"/>']
    for place, count in enumerate(histogram.counts):
        tall = count / highest * (height - 16)
        low, high = histogram.edges[place], histogram.edges[place + 1]
        parts.append(
            _rect(
                40 + place * step + 1,
                height - tall,
                width=max(0.5, step - 2),
                height=tall,
                kind=0,
                hint=f"{low:g} to {high:g}{unit}: {count}",
            )
        )
    parts.append(_text(str(highest), x=34, y=24, anchor="end", dim=True))
    for edge, anchor in ((0, "start"), (len(histogram.counts) // 2, "middle"), (-1, "end")):
        place = edge % len(histogram.edges)
        told = f"{histogram.edges[place]:g}{unit}"
        parts.append(_text(told, x=40 + place * step, y=height + 16, anchor=anchor, dim=True))
    return _svg(parts, height=height + 22, title=title)


def boxes(rows: Mapping[str, Spread], *, low: float, high: float, title: str) -> str:
    """A box from quartile to quartile a row, whiskers to the ends, the median marked."""
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return _NAME + (value - low) / span * _PLOT

    parts = []
    for place, (name, spread) in enumerate(rows.items()):
        top = place * _ROW
        middle = top + _ROW / 2
        ends = f"{spread.low:g} to {spread.high:g}, median {spread.median:g}, {spread.n} pictures"
        parts += [
            _text(name, x=_NAME - 8, y=top + 15, anchor="end"),
            (
                f'<line class="axis" x1="{at(spread.low):.1f}" x2="{at(spread.high):.1f}" '
                f'y1="{middle}" y2="{middle}"/>'
            ),
            _rect(
                at(spread.lower),
                top + 4,
                width=max(1.0, at(spread.upper) - at(spread.lower)),
                height=_ROW - 8,
                kind=0,
                hint=f"{name}: {ends}",
            ),
            (
                f'<line class="mark" x1="{at(spread.median):.1f}" x2="{at(spread.median):.1f}" '
                f'y1="{top + 3}" y2="{top + _ROW - 3}"/>'
            ),
            _text(f"{spread.median:.4g} (n {spread.n})", x=_WIDTH - _FIGURE + 8, y=top + 15),
        ]
    return _svg(parts, height=len(rows) * _ROW, title=title)


def _svg(parts: Sequence[str], *, height: float, title: str) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}"'
    return f'<svg {box} role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _text(text: str, *, x: float, y: float, anchor: str = "start", dim: bool = False) -> str:
    shown = text if len(text) <= 24 or anchor != "end" else "…" + text[-23:]
    kind = ' class="dim"' if dim else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}</text>'


def _rect(x: float, y: float, *, width: float, height: float, kind: int, hint: str) -> str:
    return (
        f'<rect class="s{kind % 4}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}"><title>{escape(hint)}</title></rect>'
    )
