"""Answers to frames as lists go by them, and lists of frames over HTTP."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

from lineside.core import Inspection, Plant, digest_of, frame_id
from lineside.datasets.formats.rle import mask_of_runs, uncompressed
from lineside.hub import Services
from lineside.hub.ingest import export
from lineside.hub.ingest.answers import AnswerIndex, answer_of
from lineside.store import FrameFilter
from lineside.streams import PREDICTION_TYPE, prediction_event
from lineside.testing.store import NOON, frame_row
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
from lineside.vision.masks import mask_answer
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
        hub.records.frames.age_out(older_than=end)
        hub.records.frames.forget(before=end)
    assert kept.resume(17) == 0


def zipped(answer: Any) -> ZipFile:  # noqa: ANN401  httpx's response
    assert answer.status_code == 200, answer.text
    return ZipFile(io.BytesIO(answer.content))


@pytest.mark.usefixtures("pictures")
def test_frames_are_exported_with_images_and_labels(hub: Services, client: TestClient) -> None:
    answer = client.get("/api/v1/frames/export", params={"label": "blue", "format": "zip"})
    archive = zipped(answer)
    assert archive.testzip() is None
    rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))
    wanted = listed(client, label="blue")
    assert [row["frame"] for row in rows] == [one["id"] for one in wanted]
    assert {row["label"] for row in rows} == {"blue"}
    assert [row["part"] for row in rows] == ["part-2", "part-1", "part-0"]
    assert {row["verdict"] for row in rows} == {"ok"}
    for row, one in zip(rows, wanted, strict=True):
        assert archive.read(row["file"]) == hub.frames.picture(one["id"]).data
    assert list((hub.config.folder / "exports").iterdir()) == []


@pytest.mark.usefixtures("pictures")
def test_frames_are_exported_as_tables(client: TestClient) -> None:
    table = client.get("/api/v1/frames/export", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    frames = listed(client)
    assert [row["frame"] for row in rows] == [one["id"] for one in frames]
    assert rows[0]["verdict"] == ""
    assert (rows[1]["label"], rows[1]["line"]) == ("blue", "warehouse")
    columns = parquet.read_table(
        io.BytesIO(client.get("/api/v1/frames/export", params={"format": "parquet"}).content)
    )
    assert columns.column("frame").to_pylist() == [one["id"] for one in frames]
    assert columns.column("score").to_pylist()[1] == pytest.approx(0.97)


@pytest.mark.usefixtures("pictures")
def test_an_export_that_cannot_be_says_why(
    hub: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(**query: str) -> str:
        answer = client.get("/api/v1/frames/export", params=query)
        assert answer.status_code == 400
        return str(answer.json()["detail"])

    assert "no form 'pdf'" in fault(format="pdf")
    assert "no picture to write as coco" in fault(format="coco")
    assert "no picture to write as csv" in fault(label="none")
    monkeypatch.setattr(export, "MOST_IMAGES", 3)
    assert "more than 3 images" in fault(format="zip")
    assert list((hub.config.folder / "exports").iterdir()) == []


def exported_as_coco(hub: Services) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document of all frames, and its annotations by the names of their categories."""
    answers = AnswerIndex(hub.records.frames, plant=hub.plant)
    answers.take(hub.records.log.read(type=PREDICTION_TYPE))
    files = export.FrameFiles(
        hub.frames, hub.blobs, plant=hub.plant, folder=hub.config.folder / "exports",
        clock=hub.clock,
    )  # fmt: skip
    found = ZipFile(io.BytesIO(b"".join(files.pieces(FrameFilter(), form="coco"))))
    document = json.loads(found.read("annotations/instances_all.json"))
    names = {one["id"]: one["name"] for one in document["categories"]}
    return document, {names[one["category_id"]]: one for one in document["annotations"]}


def test_boxes_and_pixels_of_answers_are_exported_as_coco(
    hub: Services, jpeg: Pictures, archive: bytes
) -> None:
    package = hub.packages.add(archive, by="anna").digest
    pixels = np.zeros((120, 160), np.bool_)
    pixels[10:20, 30:50] = pixels[40:44, 60:62] = True
    drawn: list[dict[str, Any]] = [
        {"boxes": (box("dent", 0.9, PRESENT),)},
        {"labels": classes(scratch=(0.8, UNSURE)), "mask": mask_answer(pixels, (200, 8))},
        {"labels": classes(good=(0.9, PRESENT)), "mask": mask_answer(pixels & False, ())},
    ]
    for n, one in enumerate(drawn, start=1):
        row = replace(frame_row(n), digest=hub.blobs.put(jpeg(seed=n)))
        hub.records.frames.add([row])
        ref = FrameRef(id=row.id, camera=row.camera, captured_at=row.captured_at, digest=row.digest)
        said = replace(answered(ref, (), package=package), **one)
        event = prediction_event(said, site="hall", device="edge-1", sequence=n, first=1)
        hub.ledger.record([event])
    document, by_name = exported_as_coco(hub)
    assert len(document["images"]) == len(drawn)
    assert (len(document["annotations"]), by_name["dent"]["bbox"]) == (2, [0, 0, 9, 9])
    runs = uncompressed(by_name["scratch"]["segmentation"]["counts"])
    assert (mask_of_runs(runs, width=160, height=120) == pixels).all()
    assert (by_name["scratch"]["area"], by_name["scratch"]["iscrowd"]) == (208, 0)


def test_the_pixels_of_two_inspections_of_a_frame_keep_their_own_labels(
    hub: Services, jpeg: Pictures, archive: bytes
) -> None:
    package = hub.packages.add(archive, by="anna").digest
    row = replace(frame_row(1), digest=hub.blobs.put(jpeg(seed=1)))
    hub.records.frames.add([row])
    ref = FrameRef(id=row.id, camera=row.camera, captured_at=row.captured_at, digest=row.digest)
    areas: dict[str, Any] = {}
    stock = hub.plant.inspection[0]
    both = (replace(stock, id="stock-1"), replace(stock, id="stock-2"))
    hub.plant.become(replace(hub.plant, inspection=both))
    for n, (label, decision) in enumerate({"scratch": PRESENT, "stain": UNSURE}.items(), start=1):
        areas[label] = np.zeros((120, 160), np.bool_)
        areas[label][40 * n : 40 * n + 8, 30:50] = True
        said = replace(
            answered(ref, (), package=package), inspection=f"stock-{n}",
            labels=classes(good=(0.1, ABSENT), **{label: (0.9, decision)}),
            mask=mask_answer(areas[label], (160,)),
        )  # fmt: skip
        event = prediction_event(said, site="hall", device="edge-1", sequence=n, first=1)
        hub.ledger.record([event])
    document, by_name = exported_as_coco(hub)
    assert len(document["annotations"]) == 2
    for label, area in areas.items():
        runs = uncompressed(by_name[label]["segmentation"]["counts"])
        assert (mask_of_runs(runs, width=160, height=120) == area).all()
        assert by_name[label]["iscrowd"] == 0


@pytest.mark.usefixtures("pictures")
def test_what_passes_a_filter_is_labelled_or_added_unlabelled(
    hub: Services, client: TestClient
) -> None:
    path = "/api/v1/datasets/plates/samples"
    made = client.post(path, json={"where": {"label": "blue"}, "labels": ["blue"]})
    assert (made.status_code, made.json()["labels"]) == (201, {"blue": 3})
    assert {one.known for one in hub.datasets.draft("plates").samples} == {("blue", "red", "white")}
    chosen = [one["id"] for one in listed(client, part="part-2")]
    made = client.post(path, json={"frames": chosen, "judged": False})
    assert (made.json()["draft_samples"], made.json()["labels"]) == (4, {"blue": 3})
    assert len(listed(client, dataset="plates")) == 4
    wrong = client.post(path, json={"frames": chosen, "judged": False, "labels": ["blue"]})
    assert (wrong.status_code, wrong.json()["where"]) == (400, "judged")
    assert client.post(path, json={"where": {"verdict": ["bad"]}}).status_code == 400
    none = client.post(path, json={"where": {"part": "part-9"}, "judged": False})
    assert none.json()["detail"] == "no frame chosen"
