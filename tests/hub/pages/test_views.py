"""Records in words: figures with their limits, runs, packages, events, devices."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lineside.core import Digest, digest_of, to_plain
from lineside.core.plant import Line
from lineside.core.shifts import Period
from lineside.datasets import Sample
from lineside.hub.ingest.line_figures import LineFigures, PartCounts, line_figures
from lineside.hub.pages.fleet import device_facts, device_packages
from lineside.hub.pages.frames import (
    AnswerRow,
    class_table,
    dataset_href,
    dataset_links,
    health_rows,
)
from lineside.hub.pages.learning import (
    RUN_WORDS,
    engine_facts,
    gallery,
    gallery_filters,
    label_counts,
    labels_text,
    metric_rows,
    run_chart,
    run_time,
)
from lineside.hub.pages.line_figures import (
    Figure,
    TwinFigures,
    figures,
    reason_rows,
    trend_of,
)
from lineside.hub.pages.lines import chart_of, unsure_share
from lineside.hub.pages.log import (
    EventQuery,
    SearchHit,
    comes_near,
    frame_of,
    shortened,
    what_happened,
)
from lineside.hub.pages.site import Site
from lineside.hub.views import DatasetView, DeviceView, EventView, RunView
from lineside.testing.bare import bare_frame, bare_manifest, bare_prediction
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    HealthFigures,
    LabelAnswer,
    MaskAnswer,
    PictureState,
    Prediction,
    Prepare,
    StageTimes,
)
from lineside.web.answers import Mark
from lineside.web.format import later

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PRESS = Line(id="press", name="Press")


def verdict(said: str, *reasons: str, part: str = "") -> dict[str, Any]:
    return {
        "schema": "lineside.verdict/1", "line": "press", "part": part, "verdict": said,
        "reasons": list(reasons), "frames": ["frm_1"], "answers": [],
    }  # fmt: skip


def event(kind: str, data: dict[str, Any]) -> EventView:
    return EventView(
        position=7,
        source_position=3,
        id="evt_1",
        source="/hall/plant",
        type=kind,
        subject="stock",
        time=NOW,
        arrived_at=NOW,
        hash="sha256:1",
        previous="",
        event={"data": data},
    )


def answered(*decisions: str, state: str = "ok", **more: Any) -> EventView:  # noqa: ANN401  fields of the record
    labels = tuple(
        LabelAnswer(
            name=f"A{n}/x", region=f"A{n}", label="x", probability=0.9, decision=Decision(one)
        )
        for n, one in enumerate(decisions)
    )
    said = replace(
        prediction(task="multilabel", distance=0.0), labels=labels, state=PictureState(state),
        reason="by 40 px", latency_ms=StageTimes(total=12.0), **more,
    )  # fmt: skip
    entry = event("lineside.prediction.v1", to_plain(said))
    whole = {"id": entry.id, "source": entry.source, "type": entry.type, "subject": entry.subject}
    return replace(entry, event={**whole, "time": to_plain(NOW), **entry.event})


def box(decision: str) -> BoxAnswer:
    return BoxAnswer(
        label="screw", x0_px=1.0, y0_px=1.0, x1_px=9.0, y1_px=9.0, probability=0.9,
        decision=Decision(decision),
    )  # fmt: skip


MASK = MaskAnswer(rle="", width_px=8, height_px=8, share=0.0312, areas_px=(2,))


def prediction(*, task: str, distance: float) -> Prediction:
    health = HealthFigures(
        sharpness=9.0, mean_grey=99.0, clipped_share=0.0, feature_distance=distance
    )
    frame = bare_frame("frm_1", camera="c", at=NOW)
    return bare_prediction(
        frame, task=task, inspection="i", health=health, dataset="d/1",
        package=digest_of(b"package"), latency_ms=StageTimes(total=5.0),
    )  # fmt: skip


DAY = Period(name="Early", begin=NOW - timedelta(hours=6), end=NOW + timedelta(hours=2))


def counted_parts(**limits: Any) -> LineFigures:  # noqa: ANN401  fields of the record
    cell = PartCounts(
        verdicts={"ok": 190, "reject": 4, "review": 5, "incomplete": 1},
        reasons={"reject": {"scratch": 3, "dent": 1}, "review": {"dent": 5}}, latency={36: 200},
    )  # fmt: skip
    line = replace(PRESS, **limits)
    return line_figures([(NOW, cell)], line="press", limits=[line], period=DAY, zone=UTC)


def strip(
    found: LineFigures, *, twin: TwinFigures | None = None, **dropped: int
) -> list[Figure]:  # fmt: skip
    return list(figures(found, period=DAY, zone=UTC, dropped=dropped, twin=twin))


def test_figures_are_quiet_within_their_limits() -> None:
    found = counted_parts(limit_reject=0.03, goal_yield=0.9, limit_latency_ms=50)
    parts, rejected, first, review, latency, differ = strip(
        found, twin=TwinFigures(discrepancies=0, waiting=1)
    )
    assert {one.tone for one in (parts, rejected, first, review, latency, differ)} == {""}
    assert (parts.value, parts.note) == ("200", "Early, 06:00\u201314:00")
    assert (rejected.value, rejected.note) == ("2.0\u00a0%", "limit 3.0\u00a0%, 4 parts")
    assert (first.value, first.note) == ("95.0\u00a0%", "goal 90.0\u00a0%")
    assert (review.value, review.note) == ("0", "3.0\u00a0% of parts for review, 1 incomplete")
    assert latency.note == "limit 50\u00a0ms, half below 30\u00a0ms"
    assert differ.note == "1 open order"
    assert "verdict=reject" in rejected.href
    assert "line=press" in rejected.href


def test_figures_past_their_limit_say_which() -> None:
    found = counted_parts(limit_reject=0.01, goal_yield=0.99, limit_latency_ms=20)
    told = strip(
        found, twin=TwinFigures(discrepancies=2, waiting=0),
        **{"not JSON": 2, "too large": 1},
    )  # fmt: skip
    assert [one.tone for one in told] == ["", "bad", "", "", "bad", "warn", "warn"]
    assert told[1].note == "Above the limit 1.0\u00a0%, 4 parts"
    assert told[2].note == "Below the goal of 99.0\u00a0%"
    assert told[4].note.startswith("Above the limit 20\u00a0ms")
    assert (told[5].value, told[5].note) == ("3", "not JSON, too large")
    assert told[6].note == "picture and stock differ"


def test_a_line_without_parts_has_no_shares_and_no_figure_of_a_twin() -> None:
    empty = line_figures([], line="", limits=[PRESS], period=DAY, zone=UTC)
    told = strip(empty)
    assert [one.name for one in told] == [
        "Parts", "Reject rate", "First-pass yield", "Open reviews", "Capture to verdict (p99)",
    ]  # fmt: skip
    assert [one.value for one in told] == ["0", "\u2013", "\u2013", "0", "\u2013"]
    assert told[1].note == "no part yet"
    assert reason_rows(empty) == ()
    assert {bar.height for bar in trend_of(empty, zone=UTC).bars} == {0}


def test_reasons_of_rejects_add_up_and_the_trend_is_red_above_the_limit_only() -> None:
    found = counted_parts(limit_reject=0.01)
    assert [(one.reason, one.parts, one.share) for one in reason_rows(found)] == [
        ("scratch", 3, 0.75), ("dent", 1, 0.25),
    ]  # fmt: skip
    trend = trend_of(found, zone=UTC)
    assert len(trend.bars) == 8
    bar = trend.bars[6]
    assert bar.text == "12:00: 2.0\u00a0%, 4 of 200 parts"
    assert bar.height == 2 * bar.over > 0
    assert trend.limit is not None
    assert trend.limit[0] == bar.y + bar.over
    many = replace(
        found, reasons=tuple(replace(found.reasons[0], reason=f"r{n}", parts=1) for n in range(11))
    )
    assert reason_rows(many)[-1].reason == "3 other reasons"


def test_a_picture_that_could_not_be_judged_counts_as_unsure() -> None:
    assert unsure_share((answered(state="camera moved"), answered("present"))) == (1, 2)


def test_counts_boxes_and_anomalies_are_answers_too() -> None:
    bare = answered()
    body = {
        "boxes": [{"decision": "present"}, {"decision": "unsure"}],
        "count": {"decision": "unsure"},
        "anomaly": {"decision": "absent"},
    }
    told = replace(bare, event={**bare.event, "data": {**bare.event["data"], **body}})
    assert unsure_share((told,)) == (2, 4)


def test_a_chart_runs_from_the_oldest_to_the_newest() -> None:
    chart = chart_of((answered("unsure"), answered("present", "present")))
    assert isinstance(chart, dict)
    assert chart["points"] == [
        [NOW.timestamp(), 12.0, 0.0],
        [NOW.timestamp(), 12.0, 100.0],
    ]
    assert chart_of(()) is None


def run(**changes: Any) -> RunView:  # noqa: ANN401  any of its fields
    base: dict[str, Any] = {
        "id": "run_1", "state": "running", "task": "multilabel", "dataset": "rack", "version": 2,
        "inspection": "stock", "seed": 7, "started_at": NOW, "started_by": "anna",
    }  # fmt: skip
    return RunView(**{**base, **changes})


def run_page(one: RunView) -> str:
    context = {"run": one, "may": lambda *_: True, **RUN_WORDS}
    return Site().text("run.html", context)


def test_a_run_says_how_far_it_is_and_what_may_be_done() -> None:
    active = run(percent=62.4, eta_s=400.0, loss=0.1234, held_out=0.9)
    said = run_page(active)
    assert "62\u00a0%" in said
    assert "6\u00a0min 40\u00a0s left" in said
    assert ("Cancel after" in said, "Resume" in said) == (True, False)
    assert 'href="/datasets/rack/versions/2"' in said
    said = run_page(run(state="failed", ended_at=NOW + timedelta(seconds=75)))
    assert ("Cancel after" in said, "Resume" in said) == (False, True)
    assert "took 1\u00a0min 15\u00a0s" in said
    assert "Resume" not in run_page(run(state="failed", refused=True))
    assert run_time(run()) == "time left not known yet"
    done = run(state="done", history=((50.0, 0.3, None), (100.0, 0.1, 0.98)))
    assert "Resume" not in run_page(done)
    chart = run_chart(done)
    assert isinstance(chart, dict)
    assert chart["points"] == [[50.0, 0.3, None], [100.0, 0.1, 98.0]]


def test_no_figure_stands_without_interval_count_and_baseline() -> None:
    figure = {"value": 0.9583, "low": 0.79, "high": 0.99, "n": 24, "baseline": 0.5}
    rows = metric_rows({"accuracy/blue": figure, "accuracy": figure})
    assert [row.name for row in rows] == ["accuracy", "accuracy/blue"]
    said = run_page(run(metrics={"accuracy": figure}))
    for cell in ("accuracy", "0.958", "0.790 to 0.990", "24", "0.500"):
        assert f">{cell}</t" in said


def sample(name: str, *labels: str, known: tuple[str, ...] = ()) -> Sample:
    return Sample(name=name, digest=Digest(f"sha256:{name}"), labels=labels, known=known)


def test_a_distance_that_nobody_measured_is_not_shown_as_a_good_one() -> None:
    measured = prediction(task="classify", distance=0.4)
    assert dict(health_rows(measured))["Feature distance"] == "0.40, usual up to 1"
    counted = dict(health_rows(prediction(task="count", distance=0.0)))
    assert counted["Feature distance"] == "not measured: count has none"
    refused = replace(prediction(task="segment", distance=0.0), state=PictureState.CAMERA_MOVED)
    assert dict(health_rows(refused))["Feature distance"].startswith("not measured: the picture")


def test_a_dataset_without_labels_says_what_it_has() -> None:
    bins = DatasetView(name="bins", draft_samples=40, labels={}, versions=(), kinds={"count": 40})
    assert labels_text(bins) == "none, 40 with a count"
    assert labels_text(replace(bins, kinds={})) == "none yet"
    labelled = replace(bins, labels={"ok": 3}, kinds={"labels": 3})
    assert labels_text(labelled) == "ok 3"


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (Prepare(crops=(), width_px=96, height_px=64), "whole picture, 96 x 64 px"),
        (
            Prepare(crops=(), width_px=32, height_px=32, fit="zoom", zoom=0.5),
            "whole picture, 50.0\u00a0% of its size",
        ),
    ],
)
def test_what_a_network_sees_of_a_whole_picture_is_no_region(prepare: Prepare, words: str) -> None:
    manifest = to_plain(bare_manifest("classify", labels=("a",), prepare=prepare))
    assert isinstance(manifest, dict)
    facts = {name: text for name, text, _ in engine_facts(manifest)}
    assert facts["Input"] == words
    assert "Regions" not in facts


def test_a_gallery_leads_to_the_frame_or_to_the_picture_of_the_file() -> None:
    samples = (sample("frm_1", "A1/blue"), sample("a.jpg", known=("A1/blue",)), sample("b.jpg"))
    cards = {card.alt: card for card in gallery("rack", samples, label="")}
    assert cards["Picture frm_1"].href == "/frames/frm_1"
    assert cards["Picture a.jpg"].src == "/datasets/rack/pictures/sha256:a.jpg"
    assert [card.text for card in cards.values()] == ["none of its labels", "not judged", "A1/blue"]
    (only,) = gallery("rack", samples, label="A1/blue", opened_on="label?picture=")
    assert (only.href, only.alt) == ("/frames/frm_1", "Picture frm_1")
    drafts = gallery("rack", samples, label="", opened_on="label?picture=")
    assert "/datasets/rack/label?picture=sha256:b.jpg" in {card.href for card in drafts}
    counts = label_counts(samples)
    filters = gallery_filters("/datasets/rack", counts, label="A1/blue", total=3)
    assert [(one.text, one.current) for one in filters] == [("all 3", False), ("A1/blue 1", True)]
    assert filters[1].href == "/datasets/rack?label=A1%2Fblue"


@pytest.mark.parametrize(
    ("dataset", "href"),
    [
        ("rack/3", "/datasets/rack/versions/3"),
        ("dataset://rack/3", "/datasets/rack/versions/3"),
        ("/srv/pictures", ""),
        ("folder", ""),
        ("", ""),
    ],
)
def test_data_leads_to_its_version_where_it_has_one(dataset: str, href: str) -> None:
    assert dataset_href(dataset) == href


def test_pins_lead_to_the_dataset_that_holds_the_frame() -> None:
    assert dataset_links(("rack/3", "rack")) == (
        ("rack", "/datasets/rack"),
        ("rack/3", "/datasets/rack/versions/3"),
    )


def answer(region: str, label: str, *, word: str, probability: float) -> AnswerRow:
    mark = Mark(shape="dot", word=word)
    name = f"{region}/{label}"
    return AnswerRow(
        name=name, region=region, label=label, probability=probability, mark=mark, cuts=""
    )


def test_classes_become_columns_and_single_labels_stay_rows() -> None:
    table = class_table(
        (
            answer("A1", "empty", word="absent", probability=0.1),
            answer("A1", "blue", word="present", probability=0.9),
            answer("A2", "empty", word="unsure", probability=0.5),
            answer("A2", "blue", word="unsure", probability=0.45),
            answer("top", "red", word="present", probability=0.8),
        )
    )
    assert table.classes == ("empty", "blue")
    assert [row.mark.word for row in table.rows] == ["blue", "unsure: empty or blue"]
    assert [row.region for row in table.single] == ["top"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (answered("present", "unsure"), "A0/x 0.90, 1 unsure"),
        (answered("absent"), "nothing present"),
        (answered(*["present"] * 5), "A0/x 0.90, A1/x 0.90, A2/x 0.90, 2 more"),
        (answered(state="camera moved"), "camera moved: by 40 px"),
        (answered(task="count", count=CountAnswer(value=5, low=4, high=6)), "5 (4 to 6)"),
        (
            answered(
                task="anomaly",
                anomaly=AnomalyAnswer(score=2.5, limit=2.0, decision=Decision.PRESENT),
            ),
            "differs from good parts, 2.50 against 2.00",
        ),
        (
            answered(task="detect", boxes=(box("present"), box("present"), box("unsure"))),
            "2\u00a0screw, 1\u00a0unsure",
        ),
        (answered(task="detect"), "none"),
        (answered("present", task="segment", mask=MASK), "x on 3.12\u00a0%"),
        (event("lineside.plant.frame.v1", {"camera": "rack"}), "picture of rack"),
        (event("lineside.plant.sensor.v1", {"ts": "…", "t": 25.1, "h": 40}), "t 25.1, h 40"),
        (event("lineside.plant.stock.v1", {"stockItems": [1, 2]}), "stockItems: 2"),
        (
            event("lineside.order.v1", {"action": "refused", "colour": "red", "reason": "none"}),
            "refused, red, none",
        ),
        (
            event("lineside.verdict.v1", verdict("reject", "scratch 0.94", part="A-17")),
            "reject: scratch 0.94 (part A-17)",
        ),
        (event("lineside.verdict.v1", verdict("ok")), "ok"),
        (event("lineside.anchor.v1", {}), "heads of all chains written down"),
        (event("lineside.plant.message.v1", {"message": "x" * 200}), "message " + "x" * 81 + "…"),
    ],
)
def test_an_event_is_said_in_one_line(entry: EventView, words: str) -> None:
    assert what_happened(entry) == words


def test_an_event_leads_to_its_frame_however_it_names_it() -> None:
    assert frame_of(event("x", {"frame": "frm_1"})) == "frm_1"
    assert frame_of(event("x", {"frame": {"id": "frm_2"}})) == "frm_2"
    assert frame_of(event("x", {"frame": 7})) == ""
    assert frame_of(event("x", {})) == ""


def test_a_picture_inside_an_event_is_not_printed() -> None:
    told = shortened({"data": "a" * 5000, "list": ["b"], "n": 1})
    assert isinstance(told, dict)
    assert told["data"] == "a" * 60 + "… (5\u202f000 characters)"
    assert (told["list"], told["n"]) == (["b"], 1)


def test_filters_make_the_address_and_nothing_else() -> None:
    query = EventQuery(type="a.b", subject="x y", before=9)
    assert query.href() == "/events?type=a.b&subject=x+y&before=9"
    assert query.href(before=0, subject="") == "/events?type=a.b"
    assert EventQuery().href() == "/events"
    assert not EventQuery(before=3).filtered


@pytest.mark.parametrize(
    ("kind", "name", "wanted", "near"),
    [
        ("device", "edge-1", "EDGE", True),
        ("package", "sha256:b21e04ff", "b21e", True),
        ("package", "sha256:b21e04ff", "sha256:b21e04", True),
        ("package", "sha256:b21e04ff", "b2", False),
        ("package", "sha256:b21e04ff", "1e04", False),
    ],
)
def test_the_search_knows_what_comes_near(*, kind: str, name: str, wanted: str, near: bool) -> None:
    assert comes_near(SearchHit(kind=kind, name=name, href="/"), wanted) is near


def device(**changes: Any) -> DeviceView:  # noqa: ANN401  any of its fields
    base: dict[str, Any] = {
        "id": "edge-1", "state": "online", "at": NOW, "version": "0.1.0", "packages": (),
        "desired": (), "spool_depth": 0, "acked": 5, "status": {},
    }  # fmt: skip
    return DeviceView(**{**base, **changes})


def test_a_device_says_what_it_runs_against_what_is_wished() -> None:
    told = device(
            packages=({"inspection": "a", "digest": "1", "engine_device": "cuda"},
                      {"inspection": "b", "digest": "1"}),
            desired=({"inspection": "a", "digest": "1"}, {"inspection": "b", "digest": "2"},
                     {"inspection": "c", "digest": "3"}),
            status={"refused": {"too old": 2}},
    )  # fmt: skip
    found = device_packages(told)
    assert [agree.word for *_, agree in found] == ["up to date", "swapping", "loading"]
    assert [processor for _, _, processor, *_ in found] == ["cuda", "", ""]
    assert dict(device_facts(told))["Passed over"] == "2 too old"
    only = device_packages(device(packages=({"inspection": "a", "digest": "1"},)))[0]
    assert only[-1].word == "unexpected version"


def test_how_much_later_names_a_clock_that_runs_ahead() -> None:
    assert later(NOW, NOW + timedelta(milliseconds=12)) == "12\u00a0ms later"
    assert later(NOW, NOW + timedelta(minutes=2)) == "2\u00a0min later"
    assert "ahead" in later(NOW, NOW - timedelta(seconds=2))
