"""Parts of report pages: one file that needs no script, no font and no address.

Light or dark as the reader's system says; on paper always dark ink on white.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lineside.datasets import Leak
from lineside.datasets.samples import Skipped
from lineside.models import Metric
from lineside.models.operating_point import OBJECTS
from lineside.models.result import (
    Confusion,
    ErrorBound,
    LearningCurve,
    PowerTest,
    example_file,
)
from lineside.training.evaluation.shortcuts import ShortcutTests, spoken, unexplained
from lineside.vision.metrics import LimitRow, ReliabilityBin, metric_words

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
    place = _Axes.enclosing(points)
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


def limit_plot(rows: Sequence[LimitRow], *, title: str, wrong: tuple[str, str]) -> str:
    """Both kinds of mistake at every cut; ``wrong`` names them."""
    series = {
        wrong[0]: [(row.cut, float(row.escapes)) for row in rows],
        wrong[1]: [(row.cut, float(row.over_rejects)) for row in rows],
    }
    return curve_plot(series, title=title, across="cut")


class _Axes:
    """Where values lie in a wide plot."""

    def __init__(self, *, left: float, right: float, low: float, high: float) -> None:
        self._left, self._right, self._low, self._high = left, right, low, high

    @classmethod
    def enclosing(cls, points: Points) -> "_Axes":
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


_STYLE = """
:root{--ink:#1b1f24;--paper:#fff;--rule:#d9dee4;--dim:#59626d;--warn:#b35900;--warned:#fff6ec;
--mark:#2a6fb0;--s0:#2a6fb0;--s1:#c2410c;--s2:#157f5b;--s3:#8a3ffc;--s4:#a16207;--s5:#be185d}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--paper:#14171a;--rule:#333a42;
--dim:#9aa4af;--warn:#f0a04b;--warned:#2b2014;--mark:#6db3f2;--s0:#6db3f2;--s1:#fb923c;
--s2:#4ade80;--s3:#b794f6;--s4:#facc15;--s5:#f472b6}}
@media print{:root{--ink:#000;--paper:#fff;--rule:#bbb;--dim:#444;--warn:#000;--warned:#fff;
--mark:#1d4f80;--s0:#1d4f80;--s1:#9a3412;--s2:#0f5c42;--s3:#6929c4;--s4:#713f12;--s5:#9d174d}
body{margin:0;max-width:none}figure,tr,.warn,.card{break-inside:avoid}h2,h3{break-after:avoid}}
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;
color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}h3{font-size:1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--rule);
vertical-align:top}
td.n,th.n{text-align:right}td.c{text-align:right;padding:.2rem .6rem}
.warn{border-left:4px solid var(--warn);padding:.4rem .8rem;background:var(--warned);margin:.4rem 0}
.figures td:nth-child(-n+5),.figures th{white-space:nowrap}
.dim{color:var(--dim)}.beside{color:var(--warn)}
.row{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:.4rem 0}figcaption{color:var(--dim);font-size:.85rem}svg{max-width:100%}
svg text{fill:var(--dim);font-size:11px}.frame{fill:none;stroke:var(--rule)}
.ideal{fill:none;stroke:var(--dim);stroke-dasharray:4 4}.axis{stroke:var(--rule)}
.reach{stroke:var(--mark);stroke-width:5;opacity:.4}.base{stroke:var(--warn);stroke-width:2}
.dot{fill:var(--mark)}.line{fill:none;stroke-width:2}.key{margin-right:1rem}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}
.s4{stroke:var(--s4)}.s5{stroke:var(--s5)}
.key.s0{color:var(--s0)}.key.s1{color:var(--s1)}.key.s2{color:var(--s2)}.key.s3{color:var(--s3)}
.key.s4{color:var(--s4)}.key.s5{color:var(--s5)}
.card{width:15rem}.card img{max-width:100%;max-height:15rem;border:1px solid var(--rule)}
"""

MOST_ROWS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureNotes:
    """Notes beside figures.

    Attributes:
        every: said of each figure, such as a leaking split.
        of: said of one figure, by its name.
    """

    every: tuple[str, ...] = ()
    of: Mapping[str, tuple[str, ...]] | None = None

    def notes(self, name: str) -> tuple[str, ...]:
        """Return the notes beside that figure."""
        return (*self.every, *(self.of or {}).get(name, ()))


def page(title: str, parts: Iterable[str]) -> bytes:
    """UTF-8 HTML; the title is escaped here, the parts are HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>'
        f"{body}</body></html>\n"
    ).encode()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are escaped; empty without rows."""
    return raw_table(header, ([escape(str(cell)) for cell in row] for row in rows))


def raw_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; empty without rows."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return ""
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def section(title: str, *parts: str, note: str = "") -> str:
    """A heading with what stands under it; empty where nothing does."""
    body = "".join(parts)
    if not body:
        return ""
    said = f'<p class="dim">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(title)}</h2>{said}{body}"


def warnings(lines: Iterable[str]) -> str:
    """Each in a box of its own."""
    return "".join(f'<p class="warn">{escape(line)}</p>' for line in dict.fromkeys(lines))


def metrics_table(
    metrics: Mapping[str, Metric], *, figure_notes: FigureNotes | None = None, first: str = ""
) -> str:
    """One row a figure, never bare, with what stands beside it.

    ``first``: what the names are of, such as a slice; "" for names of figures.
    """
    figure_notes = figure_notes or FigureNotes()
    rows = []
    for name, metric in metrics.items():
        notes = "<br>".join(escape(note) for note in figure_notes.notes(name))
        rows.append(
            (
                escape(name if first else metric_words(name)),
                f"{metric.value:.3f}",
                f"{metric.low:.3f} to {metric.high:.3f}",
                str(metric.n),
                f"{metric.baseline:.3f}",
                interval_bar(metric),
                f'<span class="beside">{notes}</span>',
            )
        )
    found = raw_table((first, "value", "95 % interval", "count", "baseline", "", ""), rows)
    return f'<div class="figures">{found}</div>' if found else ""


def curve_part(curve: LearningCurve) -> str:
    """Right answers by the share of training pictures; in words where there is no curve."""
    if not curve.points:
        return section("Learning curve", f"<p>{escape(curve.heads)}.</p>" if curve.heads else "")
    rows = [
        (
            f"{100 * point.share:.0f} %",
            str(point.pictures),
            *_figure(point.right),
            interval_bar(point.right),
        )
        for point in curve.points
    ]
    by_label = [
        (
            escape(name),
            *(f"{point.labels[name].value:.3f}" for point in curve.points if name in point.labels),
            f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})",
        )
        for name, gain in curve.gains.items()
    ]
    shares = [f"{100 * point.share:.0f} %" for point in curve.points]
    return section(
        "Learning curve",
        raw_table(("share", "pictures", "right", "95 % interval", "count", ""), rows),
        raw_table(("of", *shares, "50 to 100 %"), by_label),
        note=f"Right answers to held-out pictures by how many were learned from: {curve.heads}. "
        "Unsure is not asked here: the likeliest answer counts.",
    )


def confusion_table(name: str, found: Confusion) -> str:
    """Truth down, answers across, darker for a larger share of its row."""
    across = [*found.classes, "unsure"]
    if not any(row[-1] for row in found.rows if len(row) > len(found.classes)):
        across = list(found.classes)
    rows = []
    for label, row in zip(found.classes, found.rows, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td class="c" style="background:color-mix(in srgb,var(--mark) '
            f'{60 * count / total:.0f}%,transparent)">{count}</td>'
            for count in row[: len(across)]
        )
        rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    head = "".join(f'<th class="n">{escape(label)}</th>' for label in ["truth ↓ said →", *across])
    return (
        f'<h3>{escape(name)}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def reliability_row(found: Mapping[str, Sequence[ReliabilityBin]]) -> str:
    """A diagram each, side by side."""
    plots = "".join(reliability_plot(bins, title=name) for name, bins in found.items() if bins)
    return f'<div class="row">{plots}</div>' if plots else ""


def limits_part(name: str, rows: Sequence[LimitRow]) -> str:
    """Escapes against over-rejects, of counts too low against too high: plot and a short table."""
    wrong = ("too low", "too high") if name == OBJECTS else ("escapes", "over-rejects")
    places = range(0, len(rows), max(1, len(rows) // MOST_ROWS))
    cells = [
        (f"{row.cut:.3g}", str(row.escapes), str(row.over_rejects), f"{row.cost:g}")
        for row in (rows[place] for place in places)
    ]
    return limit_plot(rows, title=name, wrong=wrong) + table(("cut", *wrong, "cost"), cells)


def bound_part(found: ErrorBound | None) -> str:
    """Error among the answers in words, and at every share of answers; "" where it is not known."""
    if found is None:
        return ""
    series = {
        "wrong among answered": [(point.answered, point.error) for point in found.curve],
        f"at most, with {found.confidence:.0%} confidence": [
            (point.answered, point.bound) for point in found.curve
        ],
    }
    plot = curve_plot(series, title="Error against answered", across="share answered")
    shown = plot if found.curve else ""
    return section("Answers given", f"<p>{escape(found.words)}</p>", shown)


def power_part(power: PowerTest | None, *, pictures: Mapping[str, bytes]) -> str:
    """Smallest drawn defects that are found, with an example of each kind; "" without any.

    Args:
        power: of the training.
        pictures: JPEG by the package's file.
    """
    if power is None or not power.defects:
        return ""
    rows = [
        (
            one.kind,
            f"{one.contrast:.0f}",
            *(power.size_words(each) for each in (one.at_80, one.at_95)),
            f"{one.found[-1]} of {one.n}, {one.sizes_px[-1]:.0f} px",
        )
        for one in power.defects
    ]
    cards = [
        (pictures.get(example_file(kind), b""), (power.example(kind).words(kind),))
        for kind in power.kinds
    ]
    return section(
        "Drawn defects",
        f"<p>{escape(power.words)}</p>",
        picture_cards(cards),
        table(("kind", "contrast", "found at 80 %", "found at 95 %", "largest drawn"), rows),
        note="Defects drawn onto good pictures that were held out, judged at the package's limit: "
        "the smallest size found with its 95 % interval. Sizes are in network pixels (length of a "
        "line, diameter of others) and as a share of the inspected region's longer side; contrast "
        "is in grey levels of 255 at a mean of 127.",
    )


def history_part(history: Sequence[Mapping[str, float]]) -> str:
    """Return the curves of a training; losses, shares and errors each on their own axes."""
    series: dict[str, list[tuple[float, float]]] = {}
    for place, epoch in enumerate(history):
        at = epoch.get("epoch", float(place + 1))
        for name, value in epoch.items():
            if name not in {"epoch", "fit"} and isinstance(value, int | float):
                series.setdefault(metric_words(name), []).append((at, float(value)))
    plots = []
    for title, mine in _by_unit(series).items():
        plots.append(curve_plot(mine, title=title, across="epoch"))
    return f'<div class="row">{"".join(plots)}</div>' if plots else ""


def _by_unit(
    series: Mapping[str, list[tuple[float, float]]],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, line in series.items():
        if "loss" in name:
            title = "Loss"
        elif all(0 <= value <= 1 for _, value in line):
            title = "Shares"
        else:
            title = "Errors and others"
        found.setdefault(title, {})[name] = line
    return found


def picture_cards(cards: Iterable[tuple[bytes, Sequence[str]]]) -> str:
    """JPEG thumbnails with lines under them; an empty picture shows its lines alone."""
    made = []
    for jpeg, lines in cards:
        image = ""
        if jpeg:
            image = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        said = "<br>".join(escape(line) for line in lines if line)
        made.append(f'<div class="card">{image}<div>{said}</div></div>')
    return f'<div class="row">{"".join(made)}</div>' if made else ""


def leaks_part(leaks: Sequence[Leak], *, by: str) -> str:
    """The pairs and how they were looked for; that there are none, or that nobody looked."""
    if not by:
        return section("Leaks", "<p>Leak check not run.</p>")
    if not leaks:
        none = "<p>No near-duplicates, no shared groups across the split.</p>"
        return section("Leaks", none, note=f"Compared: {by}.")
    rows = [
        (leak.a, leak.b, f"{leak.similarity:.3f}", " / ".join(leak.splits), leak.words)
        for leak in leaks
    ]
    header = ("picture", "picture", "similarity", "parts", "kind")
    return section("Leaks", table(header, rows), note=f"Compared: {by}.")


def skipped_part(title: str, notes: Sequence[Skipped]) -> str:
    """Return the part that lists what was left out, with reasons."""
    return section(title, table(("where", "reason"), [(note.where, note.reason) for note in notes]))


def short_words(controls: ShortcutTests) -> dict[str, tuple[str, ...]]:
    """The warnings of the controls in few words, by the figure they are about."""
    found: dict[str, list[str]] = {}
    charged = unexplained(controls)
    for metric in controls.by_metric:
        for one in charged.get(metric, [])[:1]:
            found.setdefault(metric, []).append(
                f"{spoken(one.figure)} alone reaches {one.reached.value:.3f}"
            )
        if metric in controls.gain_normalised:
            after = controls.gain_normalised[metric]
            found.setdefault(metric, []).append(f"{after.value:.3f} with gain normalised")
    return {metric: tuple(words) for metric, words in found.items()}


def shortcuts_part(controls: ShortcutTests) -> str:
    """All three controls, each beside the package's own figure."""
    alone = [
        (
            escape(one.figure.replace("_", " ")),
            escape(metric_words(one.metric)),
            *_figure(one.reached),
            interval_bar(one.reached),
            f"{one.package.value:.3f}",
            '<span class="beside">matches the package</span>' if one.matched else "",
        )
        for one in controls.alone
    ]
    header = ("figure alone", "of", "reaches", "95 % interval", "count", "", "package", "")
    normal = [
        (
            escape(metric_words(name)),
            f"{controls.gain_plain[name].value:.3f}",
            *_figure(after),
        )
        for name, after in controls.gain_normalised.items()
    ]
    told = controls.conclusion
    return section(
        "Shortcuts",
        f"<p>{escape(told[:1].upper() + told[1:])}.</p>" if told else "",
        raw_table(header, alone),
        raw_table(("", "as it is", "gain normalised", "95 % interval", "count"), normal),
        _erased(controls),
        note="What trivial figures of the same pictures reach alone, and what the package reaches "
        "when brightness and contrast are alike everywhere, or marked places are painted over.",
    )


def _figure(metric: Metric) -> tuple[str, ...]:
    return f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}", str(metric.n)


def _erased(controls: ShortcutTests) -> str:
    found = controls.erased
    if found is None:
        return ""
    rows = [("still found", *_figure(found.still), f"{found.still.baseline:.3f}")]
    if found.before is not None and found.after is not None:
        rows.append(("AUROC as it is", *_figure(found.before), "0.500"))
        rows.append(("AUROC erased", *_figure(found.after), "0.500"))
    title = f"erased on {found.pictures} pictures"
    return table((title, "value", "95 % interval", "count", "baseline"), rows)
