"""The report as one page that needs nothing else: no script, no font, no address."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from lineside.datasets.charts import CHART_STYLE, boxes, columns, legend, stacked_bars
from lineside.datasets.figures import Spread
from lineside.datasets.report import DatasetReport, Example

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
    parts = ", ".join(f"{part or 'not parted'} {count}" for part, count in report.parts.items())
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
    said = (found, *check.said(report.leaks_by))
    rows = [
        (
            leak.kind,
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
