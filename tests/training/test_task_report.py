"""The report of a whole-picture task: one page with every figure and what stands beside it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Digest, decode, encode
from lineside.datasets import Leak
from lineside.datasets.samples import Skipped
from lineside.models import Metric
from lineside.models.result import Confusion, CurvePoint, LearningCurve, Mistake, TrivialFigure
from lineside.training.evaluation.shortcuts import (
    ErasedTest,
    ShortcutTests,
    with_sentences,
)
from lineside.training.report.page_parts import (
    curve_plot,
    history_part,
    interval_bar,
    metrics_table,
    picture_cards,
)
from lineside.training.report.task_report import NO_CURVE, TaskReport, task_page
from lineside.training.source import leak_warning
from lineside.vision.metrics import LimitRow, ReliabilityBin

HOSTILE = "<script>alert('x')</script>\"&.png"
GOOD = Metric(value=0.95, low=0.9, high=0.99, n=80, baseline=0.5)
POOR = Metric(value=0.5, low=0.4, high=0.6, n=80, baseline=0.5)
METER = Metric(value=0.97, low=0.93, high=1.0, n=80, baseline=0.5)


@pytest.fixture
def report() -> TaskReport:
    controls = with_sentences(
        ShortcutTests(
            alone=(
                TrivialFigure(
                    figure="mean_grey", metric="auroc", reached=METER, package=GOOD, matched=True
                ),
                TrivialFigure(
                    figure="file_size", metric="auroc", reached=POOR, package=GOOD, matched=False
                ),
            ),
            gain_plain={"auroc": GOOD},
            gain_normalised={"auroc": POOR},
            erased=ErasedTest(pictures=12, still=POOR, before=GOOD, after=POOR),
        )
    )
    return TaskReport(
        package=HOSTILE,
        task="classify",
        dataset="tiles/3",
        data_digest=Digest("sha256:" + "0" * 64),
        evidence="pictures never trained on",
        training_pictures=100,
        validation_pictures=80,
        metrics={"auroc": GOOD, "mae": replace(GOOD, value=3.0, high=4.0)},
        per_class={f"recall/{HOSTILE}": GOOD},
        confusion={"class": Confusion(classes=("bad", HOSTILE), rows=((9, 1, 0), (0, 8, 2)))},
        reliability={"bad": (ReliabilityBin(low=0.9, high=1, said=0.95, came_true=0.9, n=10),)},
        limits={
            "bad": tuple(
                LimitRow(cut=n / 40, escapes=n, over_rejects=40 - n, cost=40) for n in range(40)
            )
        },
        controls=controls,
        history=[{"epoch": n, "loss": 1 / n, "accuracy": 1 - 1 / n} for n in range(1, 6)],
        slices={"lighting": {"dark": GOOD, "bright": POOR}},
        mistakes=(Mistake(picture=HOSTILE, truth="bad", said="good", probability=0.9),),
        sections={
            "Prepared": {"side_px": 224},
            HOSTILE: [{"a": 1, "b": [1.0, 2]}],
            "Word": HOSTILE,
        },
        skipped=(Skipped(where=HOSTILE, reason="cut off"),),
        leaks=(Leak(a=HOSTILE, b="b", similarity=1.0, splits=("train", "test")),),
        leaking=1,
        leaks_by="whole pictures",
        warnings=(*controls.warnings, *leak_warning(1)),
        seed=7,
        learning_curve=LearningCurve(
            points=tuple(
                CurvePoint(
                    share=share, pictures=round(80 * share), right=GOOD, labels={HOSTILE: POOR}
                )
                for share in (0.25, 0.5, 0.75, 1.0)
            ),
            gain=POOR,
            gains={HOSTILE: POOR},
            heads=HOSTILE,
        ),
    )


class Seen(HTMLParser):
    """Every tag and every address a page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_holds_everything_and_runs_nothing(report: TaskReport) -> None:
    jpeg = b"\xff\xd8 thumbnail \xff\xd9"
    page = task_page(report, pictures={HOSTILE: jpeg}).decode()
    seen = Seen()
    seen.feed(page)
    assert "script" not in seen.tags
    assert seen.open == []  # every tag is closed
    assert all(address.startswith("data:image/jpeg;base64,") for address in seen.asked)
    for title in (
        "Figures",
        "Confusion",
        "Reliability",
        "Limits",
        "Shortcuts",
        "Mistakes",
        "Learning curve",
        "Leaks",
    ):
        assert f"<h2>{title}" in page
    for shown in ("0.900 to 0.990", "tiles/3", "sha256:", "By lighting", "Prepared", "224"):
        assert shown in page
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page
    assert seen.tags.count("svg") >= 6


def test_what_a_light_meter_reaches_stands_beside_the_figure(report: TaskReport) -> None:
    page = task_page(report).decode()
    row = next(line for line in page.split("<tr>") if line.startswith("<td>AUROC</td>"))
    assert "brightness (mean grey) alone reaches 0.970" in row
    assert "0.500 with gain normalised" in row
    assert "brightness (mean grey) alone answers" in " ".join(report.warnings)


def test_people_read_words_and_no_record_of_the_program(report: TaskReport) -> None:
    sections = {"objects": {"marked": {"dark_blue": 2, "red": 1}, "stretched": False, "cut": None}}
    page = task_page(
        replace(
            report, sections=sections, metrics={"f1_iou33": GOOD}, history=({"argmax_recall": 1},)
        )
    ).decode()
    assert "<h2>Objects</h2>" in page
    for shown in ("dark_blue: 2, red: 1", "<td>no</td>", "<td>unknown</td>"):
        assert shown in page
    assert "<td>boxes found (F1 at overlap .33)</td>" in page
    assert "recall of the likeliest class" in page


def test_a_leaking_split_stands_beside_every_figure(report: TaskReport) -> None:
    page = task_page(report).decode()
    figures = page[page.index("<h2>Figures") : page.index("<h2>Confusion")]
    assert figures.count("the split leaks") == len(report.metrics) + len(report.per_class)
    sound = task_page(replace(report, leaking=0, leaks=())).decode()
    assert "the split leaks" not in sound
    assert "No near-duplicates" in sound
    assert "Compared: whole pictures." in sound
    assert "Leak check not run" in task_page(replace(report, leaks=(), leaks_by="")).decode()


def test_a_report_of_nothing_still_makes_a_page(report: TaskReport) -> None:
    bare = replace(
        report, metrics={}, per_class={}, confusion={}, reliability={}, limits={}, slices={},
        controls=ShortcutTests(), mistakes=(), history=(), sections={}, evidence="",
    )  # fmt: skip
    assert "None." in task_page(bare).decode()
    untold = replace(bare, learning_curve=LearningCurve(heads=NO_CURVE["anomaly"]))
    assert "not estimated: it learns from good parts alone" in task_page(untold).decode()
    assert (
        "<h2>Learning curve"
        not in task_page(replace(bare, learning_curve=LearningCurve())).decode()
    )


def test_the_json_is_the_same_record(report: TaskReport) -> None:
    read = decode(TaskReport, encode(report), where="report.json")
    assert read.controls.by_metric == report.controls.by_metric


def test_an_error_has_no_bar_between_0_and_1() -> None:
    assert interval_bar(replace(GOOD, value=3.0, high=4.0)) == ""
    assert "circle" in interval_bar(GOOD)


def test_history_parts_losses_from_shares_and_errors() -> None:
    history = [{"epoch": 1, "loss": 2.0, "accuracy": 0.5, "rmse": 3.0}, {"epoch": 2, "loss": 1.0}]
    page = history_part(history)
    assert re.findall(r'aria-label="([^"]+)"', page) == ["Loss", "Shares", "Errors and others"]
    assert history_part([]) == ""


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=6))
def test_a_plot_stays_inside_its_frame(line: list[tuple[float, float]]) -> None:
    drawn = curve_plot({"a": line}, title="t")
    found = re.search(r'points="([^"]+)"', drawn)
    assert (found is None) == (not line)
    for point in (found[1] if found else "").split():
        across, down = (float(value) for value in point.split(","))
        assert 40 <= across <= 520
        assert 10 <= down <= 220


def test_figures_and_pictures_of_nothing_leave_no_empty_table() -> None:
    assert metrics_table({}) == ""
    assert picture_cards([]) == ""
