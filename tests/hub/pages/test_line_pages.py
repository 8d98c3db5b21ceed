"""Figures of lines on pages, the wall, and the verdict on the page of every frame of a part."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import decode_json, encode, parse_plant
from lineside.core.plant import Line as LineRecord
from lineside.core.shifts import Shift
from lineside.hub import Services
from lineside.hub.ingest.answers import AnswerIndex
from lineside.hub.pages import line_figures
from lineside.links import Message
from lineside.streams import PREDICTION_TYPE, VERDICT_TYPE, Event, decode_event, read_prediction
from lineside.streams.verdicts import verdict_id
from lineside.testing import FakeClock
from lineside.vision import Prediction
from tests.hub.conftest import LIMITED, Line
from tests.hub.pages.test_pages import read, words

Pictures = Callable[..., bytes]


def show(line: Line, picture: bytes, *, at: datetime, part: str, package: str) -> None:
    """A picture of a part, and the device's answer to it."""
    message = line.prediction("blue", at=at, picture=picture, package=package)
    event = decode_json(message.payload, where="prediction")
    event["data"]["frame"]["part"] = part
    line.send(
        line.status(),
        line.camera(picture, at=at, part=part),
        Message(topic=message.topic, payload=encode(event), qos=1),
    )


def answers(hub: Services) -> list[tuple[str, Prediction]]:
    log = hub.records.log.read(type=PREDICTION_TYPE)
    events = [decode_event(one.entry.body, where="log") for one in log]
    return [(event.id, read_prediction(event)) for event in events]


def judge(
    hub: Services, said: list[tuple[str, Prediction]], verdict: str, *reasons: str,
    camera: str = "rack", number: int = 0, part: str = "plate-7",
) -> None:  # fmt: skip
    """The verdict on the part of these answers, as a device gives it."""
    first = said[0][1]
    given: list[dict[str, Any]] = [
        {
            "inspection": one.inspection, "event": event, "camera": camera, "frame": one.frame.id,
            "captured_at": one.frame.captured_at, "package": one.package, "verdict": verdict,
            "reasons": list(reasons),
        }
        for event, one in said
    ]  # fmt: skip
    hub.ledger.record(
        [
            Event(
                id=f"evt_{number}" if number else verdict_id(hub.plant, first),
                source="/hall/line/warehouse", type=VERDICT_TYPE, subject="warehouse",
                time=hub.clock.now(), dataschema="lineside.verdict/1",
                data={
                    "schema": "lineside.verdict/1", "line": "warehouse", "part": part,
                    "verdict": verdict, "reasons": list(reasons), "answers": given,
                    "frames": [one.frame.id for _, one in said], "missing": [], "device": "edge-1",
                },
            )
        ]
    )  # fmt: skip
    log = hub.records.log.read(type=VERDICT_TYPE)
    hub.counts.take(log)
    AnswerIndex(hub.records.frames, plant=hub.plant).take_verdicts(log)


@pytest.fixture
def part(hub: Services, line: Line, jpeg: Pictures, archive: bytes) -> list[str]:
    """Three frames of one part, seconds apart, the earliest first."""
    package = hub.packages.add(archive, by="trainer").digest
    for number in range(3):
        at, picture = line.ago(20 - 5 * number), jpeg("blue", seed=number)
        show(line, picture, at=at, part="plate-7", package=package)
    AnswerIndex(hub.records.frames, plant=hub.plant).take(
        hub.records.log.read(type=PREDICTION_TYPE)
    )
    return [one.frame.id for _, one in answers(hub)]


def test_every_frame_of_a_part_shows_the_verdict_in_the_log(
    hub: Services, browser: TestClient, part: list[str]
) -> None:
    judge(hub, answers(hub), "reject", "scratch 0.93")
    event = verdict_id(hub.plant, answers(hub)[0][1])
    for frame in part:
        page = browser.get(f"/frames/{frame}").text
        assert f"/events/{event}" in page
        assert "scratch 0.93" in words(page)


def test_frames_of_an_incomplete_part_are_found_and_shown(
    hub: Services, browser: TestClient, part: list[str]
) -> None:
    judge(hub, answers(hub), "incomplete", "no answer of gate")
    page = browser.get("/pictures?verdict=incomplete").text
    shown = [one["data-frame"] for one in read(page).all("li") if "data-frame" in one]
    assert shown == part[::-1]
    assert "3 pictures: 3 incomplete" in words(page)
    text = browser.get("/pictures").text
    shapes = [one["data-shape"] for one in read(text).all("span") if "data-shape" in one]
    assert shapes[:4] == ["ring", "triangle", "dashed", "diamond"]


@pytest.mark.usefixtures("part")
@pytest.mark.parametrize("plant", [parse_plant(LIMITED, where="plant")], scope="session")
def test_the_wall_says_verdict_reason_rate_and_what_a_silent_camera_costs(
    hub: Services, browser: TestClient, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = answers(hub)
    judge(hub, said[:1], "reject", "scratch 0.93")
    text = words(browser.get("/lines?wall=1").text)
    for told in ("reject", "scratch 0.93", "plate-7", "Reject rate 100.0 % 1 part", "Parts 1"):
        assert told in text.replace("\u00a0", " "), told
    assert "no picture" not in text
    clock.advance(60)
    judge(hub, said[:1], "reject", camera="gate", number=3)
    judge(hub, said[:1], "ok", camera="gate", number=4, part="")
    for number in (1, 2):
        judge(hub, said[:1], "ok", camera="gate", number=number)
    page = browser.get("/lines?wall=1&line=warehouse").text
    told = "Rack camera: no picture since"
    assert told in words(page)
    assert "2 parts without this camera's inspection" in words(page)
    assert "/lines/warehouse/rack" in browser.get("/lines").text
    assert "2 parts without this camera's inspection" in words(browser.get("/lines").text)
    monkeypatch.setattr(line_figures, "_LOOKED_AT", 1)
    assert "at least 1 part without this camera's" in words(browser.get("/lines").text)
    assert len(read(browser.get("/lines?wall=1").text).all("article")) == 1


@pytest.mark.usefixtures("part")
def test_lines_are_narrowed_by_line_and_period_in_the_address(
    hub: Services, browser: TestClient
) -> None:
    judge(hub, answers(hub)[:1], "reject", "scratch 0.93")
    page = browser.get("/lines?line=warehouse&span=hour").text
    for address in (
        "/lines/figures?line=warehouse&amp;span=hour", "/lines/panels?line=warehouse&amp;span=hour",
        "/lines?line=warehouse&amp;span=hour&amp;wall=1",
        "/api/v1/lines/warehouse/figures?span=hour&amp;format=csv",
    ):  # fmt: skip
        assert address in page, address
    rows = [one for one in read(page).all("th") if one.get("scope") == "row"]
    assert len(rows) == 1
    judge(hub, answers(hub)[:1], "reject", "blue 0.97", number=1)
    judge(hub, answers(hub)[:1], "reject", "not like good parts: 2.41, limit 1.10", number=2)
    linked = [one for one in read(browser.get("/lines").text).links() if "label=" in one]
    assert sorted(one.rpartition("=")[2] for one in linked) == ["anomaly", "blue"]
    earlier = words(browser.get("/lines?span=today&at=2025-12-01T12:00:00Z").text)
    assert "Parts 0 2025-12-01" in earlier
    for wrong in ("/lines?line=none", "/lines?span=week", "/lines?at=noon", "/lines/none"):
        answer = browser.get(wrong, headers={"Accept": "text/html"})
        assert answer.status_code in (400, 404), wrong
    newest = words(browser.get("/lines").text)
    assert "Warehouse, newest part plate-7 reject not like good parts" in newest


@pytest.mark.usefixtures("part")
def test_a_line_without_cameras_has_no_rejects_of_other_lines(
    hub: Services, browser: TestClient
) -> None:
    packing = LineRecord(id="packing", name="Packing")
    inspection = replace(hub.plant.inspection[0], expected=("red",))
    hub.plant.become(replace(hub.plant, line=(*hub.plant.line, packing), inspection=(inspection,)))
    index = AnswerIndex(hub.records.frames, plant=hub.plant)
    index.take(hub.records.log.read(type=PREDICTION_TYPE))
    frame = answers(hub)[0][1].frame.id
    assert f"/frames/{frame}" in browser.get("/lines?line=warehouse").text
    assert frame not in browser.get("/lines?line=packing").text


def test_the_shift_to_choose_is_that_of_the_time_in_the_address(
    hub: Services, browser: TestClient
) -> None:
    early = Shift(name="Early", begin="06:00", end="14:00")
    late = Shift(name="Late", begin="14:00", end="22:00")
    hub.plant.become(replace(hub.plant, shift=(early, late), time_zone="UTC"))
    early_text, late_text = "Early, 06:00", "Late, 14:00"
    for hour, shown, other in (("07", early_text, late_text), ("15", late_text, early_text)):
        text = words(browser.get(f"/lines?at=2025-12-01T{hour}:00:00Z").text)
        assert shown in text
        assert other not in text
