"""What every path answers: shapes, statuses, cursors, and failures as problem documents."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from lineside.core import Json, digest_of, parse_plant, rfc3339
from lineside.hub import Services
from lineside.links import Bus
from lineside.testing import FakeClock
from tests.hub.conftest import LIMITED, Line

Pictures = Callable[..., bytes]
JPEG = {"Content-Type": "image/jpeg"}
ARCHIVE = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def digest(client: TestClient, archive: bytes) -> str:
    """A package in the registry."""
    answer = client.post("/api/v1/packages", content=archive, headers=ARCHIVE)
    assert answer.status_code == 201
    return str(answer.json()["digest"])


# ---- cameras and frames


@pytest.mark.parametrize("plant", [parse_plant(LIMITED, where="plant")])
def test_cameras_say_whether_frames_come(client: TestClient, line: Line, jpeg: Pictures) -> None:
    picture = jpeg("blue")
    line.send(line.camera(picture), line.status(), line.prediction("blue", picture=picture))
    rack, gate = client.get("/api/v1/cameras").json()["items"]
    assert (rack["id"], rack["state"], rack["inspections"]) == ("rack", "live", ["stock"])
    assert rack["newest"]["id"] == rack["prediction"]["frame"]["id"]
    assert (gate["state"], gate["since"], gate["newest"]) == ("never", None, None)
    line.wait(4.1)
    assert client.get("/api/v1/cameras/rack").json()["state"] == "no signal"


def test_an_unknown_camera_is_a_problem_that_names_the_known_ones(client: TestClient) -> None:
    answer = client.get("/api/v1/cameras/roof")
    assert answer.status_code == 404
    assert "rack" in answer.json()["fix"]


def test_frames_come_newest_first_in_pages(client: TestClient, line: Line, jpeg: Pictures) -> None:
    for number in range(5):
        line.send(line.camera(jpeg(seed=number)))
        line.wait(1)
    seen, before = [], ""
    while True:
        page = client.get("/api/v1/frames", params={"limit": 2, "before": before}).json()
        seen += [row["captured_at"] for row in page["items"]]
        if page["next"] is None:
            break
        assert page["cursor"] == "before"
        before = page["next"]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 5


def test_frames_are_chosen_by_camera_and_time(
    client: TestClient, line: Line, jpeg: Pictures, clock: FakeClock
) -> None:
    for number in range(3):
        line.send(line.camera(jpeg(seed=number)))
        line.wait(1)
    since = rfc3339(clock.now() - timedelta(seconds=2))
    found = client.get("/api/v1/frames", params={"camera": "rack", "since": since}).json()
    assert len(found["items"]) == 2
    assert client.get("/api/v1/frames", params={"camera": "gate"}).json()["items"] == []
    assert client.get("/api/v1/frames", params={"since": "now"}).status_code == 400


def test_a_frame_names_everything_that_names_it(
    client: TestClient, line: Line, jpeg: Pictures, digest: str
) -> None:
    picture = jpeg("red")
    line.send(
        line.camera(picture), line.status(), line.prediction("red", picture=picture, package=digest)
    )
    order = client.post("/api/v1/orders", json={"colour": "red"}).json()
    frame = client.get("/api/v1/frames").json()["items"][0]["id"]
    client.post("/api/v1/datasets/rack/samples", json={"frames": [frame], "labels": ["red"]})
    answer = client.get(f"/api/v1/frames/{frame}").json()
    assert answer["row"]["digest"] == digest_of(picture)
    (prediction,) = answer["predictions"]
    assert prediction["data"]["package"] == digest
    assert prediction["log"]["hash"].startswith("sha256:")
    assert answer["events"][0]["type"] == "lineside.plant.frame.v1"
    assert answer["orders"] == [order["id"]]
    assert answer["datasets"] == ["rack"]


def test_a_picture_comes_as_its_bytes_and_may_be_kept(
    client: TestClient, line: Line, jpeg: Pictures
) -> None:
    picture = jpeg("blue")
    line.send(line.camera(picture))
    frame = client.get("/api/v1/frames").json()["items"][0]["id"]
    answer = client.get(f"/api/v1/frames/{frame}/picture")
    assert answer.content == picture
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    small = client.get(f"/api/v1/frames/{frame}/thumbnail").content
    assert small.startswith(b"\xff\xd8\xff")


def test_an_aged_out_picture_is_gone_and_its_thumbnail_stays(
    hub: Services, client: TestClient, line: Line, jpeg: Pictures, clock: FakeClock
) -> None:
    line.send(line.camera(jpeg("blue")))
    frame = client.get("/api/v1/frames").json()["items"][0]["id"]
    clock.advance(10)
    hub.records.frames.age_out(older_than=clock.now())
    answer = client.get(f"/api/v1/frames/{frame}/picture")
    assert answer.status_code == 410
    assert answer.json()["tombstone"]["id"] == frame
    assert client.get(f"/api/v1/frames/{frame}/thumbnail").status_code == 200
    assert client.get(f"/api/v1/frames/{frame}").json()["row"]["aged_out_at"]


def test_activation_is_computed_on_request(
    client: TestClient, line: Line, jpeg: Pictures, digest: str
) -> None:
    picture = jpeg("blue")
    line.send(line.camera(picture))
    frame = client.get("/api/v1/frames").json()["items"][0]["id"]
    path = f"/api/v1/frames/{frame}/activation"
    assert client.get(path, params={"label": "blue"}).status_code == 404
    named = client.get(path, params={"label": "blue", "package": digest})
    assert named.content.startswith(b"\x89PNG")
    line.send(line.status(), line.prediction("blue", picture=picture, package=digest))
    assert client.get(path, params={"label": "blue"}).content == named.content
    wrong = client.get(path, params={"label": "green"})
    assert wrong.status_code == 400
    assert "blue, red, white" in wrong.json()["fix"]


# ---- data sets


def test_frames_are_taught_frozen_and_listed(
    client: TestClient, line: Line, jpeg: Pictures
) -> None:
    for number in range(4):
        line.send(line.camera(jpeg("blue", seed=number)))
        line.wait(1)
    rows = client.get("/api/v1/frames").json()["items"]
    body = {"from": rows[2]["id"], "to": rows[1]["id"], "labels": ["blue"]}
    taught = client.post("/api/v1/datasets/rack/samples", json=body)
    assert taught.status_code == 201
    assert (taught.json()["draft_samples"], taught.json()["labels"]) == (2, {"blue": 2})
    version = client.post("/api/v1/datasets/rack/freeze").json()
    assert (version["number"], version["samples"], version["created_by"]) == (1, 2, "tester")
    assert client.post("/api/v1/datasets/rack/freeze").json()["number"] == 1
    whole = client.get("/api/v1/datasets/rack/versions/1").json()
    assert whole["digest"] == version["digest"]
    assert whole["samples"][0]["known"] == ["blue", "red", "white"]
    leaks = client.get("/api/v1/datasets/rack/versions/1/leaks").json()["items"]
    assert [leak["kind"] for leak in leaks] == ["near-duplicate"] * len(leaks)
    assert version["leaks"] == len(leaks)
    assert client.get("/api/v1/datasets").json()["items"][0]["name"] == "rack"
    assert client.get("/api/v1/datasets/rack/versions/2").status_code == 404


def test_labels_come_from_what_the_factory_said_of_its_stock(
    hub: Services, client: TestClient, line: Line, jpeg: Pictures, clock: FakeClock
) -> None:
    since = rfc3339(clock.now())
    line.send(line.camera(jpeg(seed=0)))
    line.wait(1)
    for number, colour in enumerate(("RED", None)):
        piece: Json = {"id": "1", "type": colour, "state": "RAW"} if colour else None
        stock: list[Json] = [
            {"location": "A1", "workpiece": None},
            {"location": "B1", "workpiece": piece},
        ]
        line.send(line.said("f/i/stock", stockItems=stock))
        line.wait(1)
        line.send(line.camera(jpeg(seed=1 + number)))
        line.wait(1)
    body = {"camera": "rack", "since": since, "labels_from": "f/i/stock"}
    answer = client.post("/api/v1/datasets/rack/samples", json=body)
    assert answer.status_code == 201
    samples = hub.datasets.draft("rack").samples
    assert sorted(sample.labels for sample in samples) == [(), ("red",)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"frames": ["frm_0"], "labels": ["green"]},
        {"camera": "roof"},
        {"frames": "frm_0"},
        {"what": 1},
        {"camera": "rack", "labels_from": "f/i/none"},
    ],
)
def test_a_lesson_that_makes_no_sense_is_a_problem(
    client: TestClient, line: Line, jpeg: Pictures, body: dict[str, object]
) -> None:
    line.send(line.camera(jpeg()))
    if "labels" in body:
        body = {**body, "frames": [client.get("/api/v1/frames").json()["items"][0]["id"]]}
    answer = client.post("/api/v1/datasets/rack/samples", json=body)
    assert answer.status_code in (400, 404)
    assert answer.json()["fix"] or answer.json()["faults"]


# ---- packages


def test_a_package_is_added_used_and_told_to_devices(
    hub: Services, client: TestClient, line: Line, factory: Bus, archive: bytes, digest: str
) -> None:
    line.send(line.status())
    wished = factory.subscribe(("lineside/hall/device/edge-1/desired",))
    body = {"inspection": "stock", "reason": "first one"}
    used = client.post(f"/api/v1/packages/{digest}/use", json=body).json()
    assert (used["approved_by"], used["used_by"]) == ("tester", ["stock"])
    messages = wished.get_many(most=10, timeout_s=1)
    assert b'"schema":"lineside.desired/1"' in messages[-1].payload
    assert f"http://hub.test/api/v1/packages/{digest}/content".encode() in messages[-1].payload
    content = client.get(f"/api/v1/packages/{digest}/content")
    assert content.content == archive
    (event,) = hub.events.page(kind="lineside.package.v1")
    assert event.event["data"]["by"] == "tester"
    device = client.get("/api/v1/devices/edge-1").json()
    assert device["told"]["desired"][0]["digest"] == digest


def test_a_device_that_comes_later_is_told_what_is_in_use(
    client: TestClient, line: Line, factory: Bus, digest: str
) -> None:
    body = {"inspection": "stock", "reason": "first one"}
    client.post(f"/api/v1/packages/{digest}/use", json=body)
    line.send(line.status("edge-9"))
    wished = factory.subscribe(("lineside/hall/device/+/desired",))
    message = wished.get(timeout_s=1)
    assert message is not None
    assert message.topic.endswith("edge-9/desired")


@pytest.mark.parametrize(
    "body",
    [
        {"inspection": "stock", "reason": " "},
        {"inspection": "other", "reason": "x"},
        {"reason": "x"},
    ],
)
def test_using_needs_a_known_inspection_and_a_reason(
    hub: Services, client: TestClient, digest: str, body: dict[str, str]
) -> None:
    answer = client.post(f"/api/v1/packages/{digest}/use", json=body)
    assert answer.status_code == 400
    assert hub.events.page(kind="lineside.package.v1") == []


def test_a_picture_is_tried_and_nothing_is_stored(
    hub: Services, client: TestClient, jpeg: Pictures, digest: str
) -> None:
    path = f"/api/v1/packages/{digest}/predict"
    for _ in range(11):  # asking again is not a frozen camera
        client.post(path, content=jpeg("red"), headers=JPEG)
    tried = client.post(path, content=jpeg("red"), headers=JPEG).json()
    decided = {label["name"]: label["decision"] for label in tried["prediction"]["labels"]}
    assert tried["prediction"]["state"] == "ok"
    assert decided == {"blue": "absent", "red": "present", "white": "absent"}
    assert tried["heat"]["red"].startswith("data:image/png;base64,")
    assert hub.frames.page() == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\0" * 1000])
def test_what_is_no_package_is_a_problem(client: TestClient, content: bytes) -> None:
    answer = client.post("/api/v1/packages", content=content, headers=ARCHIVE)
    assert answer.status_code == 400
    assert client.get("/api/v1/packages").json()["items"] == []


def test_bytes_of_another_type_are_refused(client: TestClient, digest: str) -> None:
    text = {"Content-Type": "text/plain"}
    assert client.post("/api/v1/packages", content=b"x", headers=text).status_code == 415
    path = f"/api/v1/packages/{digest}/predict"
    assert client.post(path, content=b"x", headers=text).status_code == 415
    assert client.post(path, content=b"x", headers=JPEG).status_code == 400
