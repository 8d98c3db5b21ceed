"""The report as one page that needs nothing else: no script, no font, no address.

Plots as inline SVG that follows the page's light or dark colours: no script, no font, no file.

Every plot has a text that says what it shows, and prints its figures beside the marks.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from lineside.datasets.report.report import DatasetReport, Example, Histogram, Spread

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
            hint = f"{name}, {one or 'not split'}: {value}"
            parts.append(_rect(left, top + 4, width=width, height=_ROW - 8, kind=number, hint=hint))
            left += width
        parts.append(_text(f"{sum(row.values())}", x=left + 6, y=top + 15))
    return _svg(parts, height=len(rows) * _ROW, title=title)


def legend(series: Sequence[str]) -> str:
    """The colours of the series, in words."""
    marks = []
    left = 0
    for number, one in enumerate(series):
        name = one or "not split"
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


_STYLE = """
:root{--ink:#1b1f24;--dim:#59626d;--paper:#fff;--line:#c3cad2;--warn:#b35900;--warn-paper:#fff6ec;
--a:#2f6fb5;--b:#7fb2e5;--c:#c98b2b;--d:#9aa4af}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--dim:#9aa4af;--paper:#14171a;--line:#3b434c;
--warn:#e0913c;--warn-paper:#2b2014;--a:#5b9be0;--b:#2f5f93;--c:#d9a24a;--d:#66707a}}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;
color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}h3{font-size:1rem;margin-bottom:.3rem}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:anywhere}
.warn{border-left:4px solid var(--warn);padding:.4rem .8rem;background:var(--warn-paper);
margin:.4rem 0}
.dim{color:var(--dim)}
.strip{display:flex;flex-wrap:wrap;gap:.6rem}
figure{margin:0;width:160px}figure img{max-width:160px;display:block}
figcaption{font-size:12px;color:var(--dim);overflow-wrap:anywhere}
"""
_MOST_LEAKS = 50
_MOST_ROWS = 30
_MOST_SIZES = 12
_SERIES = ("train", "valid", "test", "")


def report_page(report: DatasetReport) -> bytes:
    """UTF-8 HTML."""
    parts = [
        f"<h1>Data of {escape(report.name)}</h1>",
        _summary(report),
        *(f'<p class="warn">{escape(warning)}</p>' for warning in report.warnings),
        _classes(report),
        _light(report),
        _sizes(report),
        _drawn(report),
        _leaks(report),
        _examples(report.examples),
        _left_out(report),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Data of {escape(report.name)}</title><style>{_STYLE}{CHART_STYLE}</style>"
    )
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>'
    return (page + "\n".join(part for part in parts if part) + "</body></html>\n").encode()


def _summary(report: DatasetReport) -> str:
    parts = ", ".join(f"{part or 'not split'} {count}" for part, count in report.parts.items())
    rows = [
        ("Pictures", str(report.pictures)),
        ("Parts", parts),
        ("Groups", f"{report.groups_in_all}" if report.groups_in_all else "none"),
        ("Not judged by anybody", str(report.unjudged)),
    ]
    if report.digest:
        rows.append(("Digest", report.digest))
    if report.looked_at < report.pictures:
        said = f"{report.looked_at} of them, in runs evenly spread"
        rows.append(("Light, sizes and masks are of", said))
    return _table((), rows)


def _classes(report: DatasetReport) -> str:
    if not report.labels:
        return ""
    series = [part for part in _SERIES if part in report.parts]
    shown = dict(
        sorted(report.labels.items(), key=lambda item: (-sum(item[1].values()), item[0]))[
            :_MOST_ROWS
        ]
    )
    more = len(report.labels) - len(shown)
    rows = [
        (name, str(sum(counts.values())), str(report.judged.get(name, 0)))
        for name, counts in shown.items()
    ]
    return "".join(
        [
            "<h2>Labels</h2>",
            legend(series) if len(series) > 1 else "",
            stacked_bars(shown, series=series, title="Pictures of each label, by part"),
            f'<p class="dim">and {more} labels more</p>' if more else "",
            "<details><summary>As a table</summary>",
            _table(("label", "holds on", "judged on"), rows),
            "</details>",
        ]
    )


def _light(report: DatasetReport) -> str:
    if not report.looked_at:
        return ""
    by_label = {name or "no label": one for name, one in report.brightness_by_label.items()}
    tells = sorted(report.brightness_tells.items(), key=lambda item: -item[1])
    return "".join(
        [
            "<h2>Light</h2><h3>Mean grey of each picture</h3>",
            columns(report.brightness, title="Histogram of mean grey, 0 black to 256 white"),
            "<h3>Contrast of each picture</h3>",
            columns(report.contrast, title="Histogram of the standard deviation of grey"),
            "<h3>Mean grey by label</h3>",
            boxes(by_label, low=0, high=256, title="Quartiles of mean grey by label"),
            _table(
                ("label", "told by mean grey alone (AUROC, .5 is nothing)"),
                ((name, f"{area:.3f}") for name, area in tells[:_MOST_ROWS]),
            )
            if tells
            else "",
        ]
    )


def _sizes(report: DatasetReport) -> str:
    rows = [(f"{width} x {height}", str(count)) for width, height, count in report.sizes]
    more = len(rows) - _MOST_SIZES
    note = f'<p class="dim">and at least {more} sizes more</p>' if more > 0 else ""
    listed = _table(("pixels", "pictures"), rows[:_MOST_SIZES])
    return f"<h2>Sizes</h2>{listed}{note}" if rows else ""


def _drawn(report: DatasetReport) -> str:
    parts = []
    if report.counts:
        bars = {str(count): {"": pictures} for count, pictures in report.counts}
        shown = dict(list(bars.items())[:_MOST_ROWS])
        parts.append("<h2>Objects a picture</h2>")
        parts.append(stacked_bars(shown, series=[""], title="Pictures by number of objects"))
        if len(shown) < len(bars):
            parts.append(f'<p class="dim">up to {list(bars)[-1]} objects</p>')
    if report.objects:
        objects = {name: {"": count} for name, count in report.objects.items()}
        parts.append("<h2>Marked objects</h2>")
        parts.append(stacked_bars(objects, series=[""], title="Marked objects by label"))
    if report.object_sizes_px:
        parts.append(_five("Side of a square of a box's area, in pixels", report.object_sizes_px))
    if report.mask_histogram and report.mask_share:
        parts.append(f"<h2>Masks</h2><p>{report.masks} pictures have one.</p>")
        parts.append(
            columns(report.mask_histogram, title="Share of the picture that a mask covers")
        )
        parts.append(_five("Share covered", report.mask_share))
    return "".join(parts)


def _five(title: str, spread: Spread) -> str:
    header = ("", "least", "quarter", "half", "three quarters", "most", "count")
    figures = (spread.low, spread.lower, spread.median, spread.upper, spread.high)
    return _table(header, [(title, *(f"{value:.4g}" for value in figures), str(spread.n))])


def _leaks(report: DatasetReport) -> str:
    check = report.leak_check
    if check is None:
        return ""
    across = sum(leak.crosses for leak in report.leaks)
    found = f"{len(report.leaks)} pairs, {across} of them between parts."
    said = (found, *check.describe(report.leaks_by))
    rows = [
        (
            leak.words,
            f"{leak.similarity:.3f}",
            " and ".join(p or "-" for p in leak.splits),
            leak.a,
            leak.b,
        )
        for leak in report.leaks[:_MOST_LEAKS]
    ]
    listed = _table(("kind", "similarity", "parts", "picture", "and"), rows) if rows else ""
    return "<h2>Leaks</h2>" + "".join(f"<p>{escape(line)}</p>" for line in said) + listed


def _examples(examples: Sequence[Example]) -> str:
    parts = []
    why = None
    for example in examples:
        if example.why != why:
            parts.append("</div>" * (why is not None))
            parts.append(f'<h3>{escape(example.why)}</h3><div class="strip">')
            why = example.why
        data = base64.b64encode(example.thumbnail).decode()
        told = ", ".join(example.labels) or "no label"
        parts.append(
            f'<figure><img src="data:image/jpeg;base64,{data}" alt="{escape(told)}">'
            f"<figcaption>{escape(example.name)}<br>{escape(told)} "
            f"{escape(example.part)}</figcaption></figure>"
        )
    return "<h2>Examples</h2>" + "".join(parts) + "</div>" if parts else ""


def _left_out(report: DatasetReport) -> str:
    rows = [(line.where, line.reason) for line in (*report.unreadable, *report.skipped)]
    return "<h2>Left out or merged</h2>" + _table(("where", "why"), rows) if rows else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"
