"""Predictions in words, marks and drawings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.core import Json, Plant, parse_plant
from lineside.hub.pages.lines import trigger_text
from lineside.testing.events import prediction_of, small_plant
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    LabelAnswer,
    MaskAnswer,
    PictureState,
    Prediction,
)
from lineside.web.answers import Mark, answer_text, mark_of, overlay_of, summary, unsure_count

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "answer_cases.json").read_text())


def prediction(case: dict[str, Any]) -> Prediction:
    labels = tuple(
        LabelAnswer(
            name=name, region=region, label=label, probability=p, decision=Decision(decision)
        )
        for name, region, label, p, decision in case["labels"]
    )
    bare = prediction_of({}, at_s=1.0)
    return replace(
        bare,
        task=case.get("task", bare.task),
        labels=labels,
        state=PictureState(case["state"]),
        **further(case),
    )


def further(case: dict[str, Any]) -> dict[str, Any]:
    """What a case says beside labels."""
    found: dict[str, Any] = {}
    if "count" in case:
        value, low, high, more, decision = case["count"]
        found["count"] = CountAnswer(
            value=value, low=low, high=high, more=more, decision=Decision(decision)
        )
    if "boxes" in case:
        found["boxes"] = tuple(
            BoxAnswer(
                label=label, x0_px=0, y0_px=0, x1_px=9, y1_px=9, probability=p,
                decision=Decision(decision),
            )
            for label, p, decision in case["boxes"]
        )  # fmt: skip
    if "anomaly" in case:
        score, limit, decision = case["anomaly"]
        found["anomaly"] = AnomalyAnswer(score=score, limit=limit, decision=Decision(decision))
    if "mask" in case:
        rle, width, height, share = case["mask"]
        found["mask"] = MaskAnswer(rle=rle, width_px=width, height_px=height, share=share)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["what"])
def test_a_prediction_is_said_in_the_words_of_the_shared_cases(case: dict[str, Any]) -> None:
    assert answer_text(prediction(case)).replace("\u00a0", " ") == case["text"]
    assert unsure_count(prediction(case)) == case["unsure"]


@pytest.mark.parametrize(
    ("decision", "mark"),
    [
        ("present", Mark(shape="diamond", word="reject", tone="bad")),
        ("unsure", Mark(shape="triangle", word="review", tone="warn")),
        ("absent", Mark(shape="ring", word="ok")),
    ],
)
def test_an_answer_is_marked_by_its_verdict(decision: str, mark: Mark) -> None:
    score = AnomalyAnswer(score=2.41, limit=1.1, decision=Decision(decision))
    answered = replace(prediction_of({}, at_s=1.0), task="anomaly", labels=(), anomaly=score)
    assert mark_of("live", answered) == mark


def test_a_camera_is_quiet_when_all_is_well_and_loud_otherwise() -> None:
    fine = prediction_of({"A1": "blue"}, at_s=1.0)
    doubted = prediction_of({"A1": "?blue"}, at_s=1.0)
    moved = prediction_of({}, at_s=1.0, state=PictureState.CAMERA_MOVED)
    marks = [
        mark_of("live", fine),
        mark_of("live", None),
        mark_of("live", doubted),
        mark_of("live", moved),
        mark_of("no signal", fine, silent_s=14.2),
        mark_of("never", None),
    ]
    assert [(mark.shape, mark.tone) for mark in marks] == [
        ("ring", ""), ("ring", ""), ("triangle", "warn"), ("square", "bad"), ("struck", "warn"),
        ("struck", "warn"),
    ]  # fmt: skip
    assert marks[0].word == "ok"
    assert marks[4].word == "no signal for 14\u00a0s"
    assert len({mark.shape for mark in marks[2:5]}) == 3


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        ([], "no cameras"),
        (["live"], "1 camera, live"),
        (["no signal"], "1 camera, without signal"),
        (["live"] * 6, "6 cameras, all live"),
        (["live", "no signal", "never"], "3 cameras, 2 without signal"),
    ],
)
def test_the_heading_never_claims_more_than_the_tiles(states: list[str], sentence: str) -> None:
    assert summary(states) == sentence


def test_what_is_drawn_has_its_text_and_no_more_than_was_said() -> None:
    plant = small_plant(slots=("A1", "A2", "A3"))
    said = prediction_of({"A1": "blue", "A2": "?red"}, at_s=1.0)
    drawn = overlay_of(said, plant.inspection[0])
    assert isinstance(drawn, dict)
    assert drawn["view"] == [320, 240]
    assert drawn["regions"] == [
        {"box": [0.0, 0.0, 9.0, 9.0], "decision": "present", "text": "blue 0.97"},
        {"box": [10.0, 0.0, 19.0, 9.0], "decision": "unsure", "text": "red? 0.50"},
    ]
    assert (drawn["objects"], drawn["mask"]) == ([], None)
    moved = replace(said, state=PictureState.CAMERA_MOVED)
    assert overlay_of(moved, plant.inspection[0]) is None
    found = prediction({"state": "ok", "labels": [], "boxes": [["screw", 0.999, "present"]]})
    objects = overlay_of(found, None)
    assert isinstance(objects, dict)
    box: Json = {"box": [0, 0, 9, 9], "decision": "present", "text": "screw 0.99"}
    assert objects["objects"] == [box]


def with_trigger(text: str) -> Plant:
    return parse_plant(
        f"""
        schema = "lineside.plant/1"
        site = "hall"
        line = [{{ id = "l", name = "L" }}]
        camera = [{{ id = "rack", line = "l", source = "mqtt:i/cam" }}]
        inspection = [{{ id = "stock", camera = "rack", labels = ["blue"], trigger = {text} }}]
        """.encode(),
        where="plant",
    )


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ('{ on = "frame" }', "every picture"),
        ('{ on = "interval", interval_s = 2.5 }', "at most every 2.5 s"),
        ('{ on = "topic", topic = "f/i/stock" }', "after a message on f/i/stock"),
        ('{ on = "part" }', "when a part is named"),
    ],
)
def test_a_trigger_is_said_in_words(trigger: str, words: str) -> None:
    assert trigger_text(with_trigger(trigger).inspection[0].trigger) == words
