"""Answers to frames as lists go by them, and lists of frames over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import Inspection, Plant, digest_of, frame_id
from lineside.hub import Services
from lineside.hub.ingest.answers import AnswerIndex, answer_of
from lineside.streams import PREDICTION_TYPE
from lineside.testing.store import NOON
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    FrameRef,
    LabelAnswer,
    PictureState,
    Prediction,
)
from tests.hub.conftest import PACKAGE, Line, answered

Pictures = Callable[..., bytes]
PRESENT, ABSENT, UNSURE = Decision.PRESENT, Decision.ABSENT, Decision.UNSURE


def classes(**said: tuple[float, Decision]) -> tuple[LabelAnswer, ...]:
    return tuple(
        LabelAnswer(name=name, region="", label=name, probability=p, decision=decision)
        for name, (p, decision) in said.items()
    )


def box(label: str, probability: float, decision: Decision) -> BoxAnswer:
    return BoxAnswer(
        label=label, x0_px=0, y0_px=0, x1_px=9, y1_px=9, probability=probability, decision=decision
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"state": PictureState.BLURRED}, ("review", "blurred", ("blurred",), 0.0, 1.0)),
        (
            {"labels": classes(good=(0.9, PRESENT), scratch=(0.1, ABSENT))},
            ("ok", "good", ("good",), 0.9, 0.1),
        ),
        (
            {"labels": classes(good=(0.4, UNSURE), scratch=(0.6, UNSURE))},
            ("review", "scratch", ("good", "scratch"), 0.6, 0.9),
        ),
        ({"labels": classes(defect=(0.04, ABSENT))}, ("ok", "", (), 0.04, 0.04)),
        ({"task": "detect"}, ("ok", "", (), 0.0, 0.0)),
        (
            {"task": "detect", "boxes": (box("dent", 0.7, UNSURE), box("stain", 0.95, PRESENT))},
            ("ok", "stain", ("dent", "stain"), 0.95, 0.8),
        ),
        (
            {"anomaly": AnomalyAnswer(score=2.0, limit=1.0, decision=PRESENT)},
            ("reject", "anomaly", ("anomaly",), 2.0, 0.25),
        ),
        (
            {"anomaly": AnomalyAnswer(score=0.5, limit=1.0, decision=ABSENT)},
            ("ok", "", (), 0.5, 0.25),
        ),
        (
            {"count": CountAnswer(value=5, low=5, high=5, decision=PRESENT)},
            ("ok", "5", ("5",), 5, 0.0),
        ),
        (
            {"count": CountAnswer(value=5, low=4, high=6, chances=(0, 0, 0, 0, 0.2, 0.6, 0.2))},
            ("review", "5", ("5",), 5, 0.7),
        ),
    ],
)  # fmt: skip
def test_the_answer_that_speaks_most_against_the_part_leads(
    said: dict[str, Any], expected: tuple[str, str, tuple[str, ...], float, float]
) -> None:
    digest = digest_of(b"a")
    name = frame_id(camera="rack", captured_at=NOON, digest=digest)
    ref = FrameRef(id=name, camera="rack", captured_at=NOON, digest=digest)
    prediction: Prediction = replace(
        answered(ref, (), package=PACKAGE), **({"labels": (), "task": "classify"} | said)
    )
    found = answer_of(prediction, Inspection(id="stock", camera="rack", labels=("good", "scratch")))
    assert (found.verdict, found.label, found.labels) == expected[:3]
    assert (found.score, found.doubt) == pytest.approx(expected[3:])
    assert found.unsure == (found.doubt >= 0.5)


@pytest.fixture
def index(hub: Services) -> Callable[[], None]:
    """Take in what the log holds, as the hub's follower does."""
    kept = AnswerIndex(hub.records.frames, plant=hub.plant)

    def take() -> None:
        kept.take(hub.records.log.read(type=PREDICTION_TYPE))

    return take


@pytest.fixture
def pictures(line: Line, jpeg: Pictures, index: Callable[[], None]) -> None:
    """Six pictures of the rack, one a second; blue on the even ones, the last not answered."""
    line.send(line.status())
    for number in range(6):
        picture, labels = jpeg(seed=number), ("blue",) if number % 2 == 0 else ()
        at = line.ago(10 - number)
        line.send(line.camera(picture, at=at, part=f"part-{number // 2}"))
        if number < 5:
            line.send(line.prediction(*labels, at=at, picture=picture))
    index()


def listed(client: TestClient, **query: Any) -> list[dict[str, Any]]:  # noqa: ANN401  parameters
    items: list[dict[str, Any]] = client.get("/api/v1/frames", params=query).json()["items"]
    return items


@pytest.mark.usefixtures("pictures")
def test_frames_are_listed_by_what_was_answered(client: TestClient) -> None:
    everything = listed(client)
    assert [one["answer"] is None for one in everything] == [True, *[False] * 5]
    assert [one["answer"]["label"] for one in everything[1:]] == ["blue", "", "blue", "", "blue"]
    assert listed(client, label="blue") == everything[1::2]
    assert listed(client, label="blue", limit=1, before=everything[1]["id"]) == [everything[3]]
    assert listed(client, part="part-1") == everything[2:4]
    assert listed(client, line="warehouse", verdict=["ok", "reject"]) == everything[1:]
    assert listed(client, verdict="reject") == []
    assert listed(client, camera=["rack", "gate"], min_score=0.5) == everything[1::2]
    assert listed(client, package=PACKAGE, max_score=0.5) == everything[2:6:2]
    assert listed(client, frame=[everything[0]["id"]]) == everything[:1]
    assert listed(client, unsure=1) == []
    by_score = [one["answer"]["score"] for one in listed(client, sort="score")]
    assert by_score == sorted(by_score, reverse=True)
    since = everything[1]["captured_at"]
    assert listed(client, since=since) == everything[:2]
    counted = client.get("/api/v1/frames/count", params={"label": "blue"}).json()
    assert counted == {"frames": 3, "verdicts": {"ok": 3}, "whole": True}


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("query", "where", "fix"),
    [
        ({"line": "none"}, "line", "Lines: warehouse."),
        ({"line": "warehouse", "camera": "yard"}, "camera", "Cameras: rack, gate."),
        ({"verdict": "bad"}, "verdict", "Known: reject, incomplete, review, ok."),
        ({"sort": "size"}, "sort", "Known: newest, score, doubt."),
        ({"min_score": "high"}, "min_score", "Write a score such as 0.5."),
        ({"max_score": "nan"}, "max_score", "Write a score such as 0.5."),
        ({"dataset": "../x"}, "dataset", "Write a name, or name/version."),
        ({"until": "yesterday"}, "until", ""),
    ],
)
def test_a_filter_that_cannot_be_is_refused_with_its_place(
    client: TestClient, query: dict[str, str], where: str, fix: str
) -> None:
    answer = client.get("/api/v1/frames", params=query)
    assert (answer.status_code, answer.json()["where"]) == (400, where)
    assert answer.json()["fix"] == fix or not fix


@pytest.mark.usefixtures("pictures")
def test_records_without_answers_get_them_from_the_log(hub: Services, plant: Plant) -> None:
    kept = AnswerIndex(hub.records.frames, plant=plant)
    assert kept.resume(17) == 17
    with hub.records.transaction():
        end = hub.clock.now()
        hub.records.frames.age_out(older_than=end, keep_bytes=None)
        hub.records.frames.forget(before=end)
    assert kept.resume(17) == 0
