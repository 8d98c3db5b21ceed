"""What every path answers: shapes, statuses, cursors, and failures as problem documents."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from lineside.core import Json, digest_of, rfc3339
from lineside.hub import Services
from lineside.links import Bus, Message
from lineside.testing import FakeClock
from tests.hub.conftest import Line

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
    hub.records.frames.age_out(older_than=clock.now(), keep_bytes=None)
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
    assert client.get("/api/v1/datasets/rack/versions/1/leaks").json()["items"] == []
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
    (device,) = client.get("/api/v1/devices").json()["items"]
    assert device["desired"][0]["digest"] == digest


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


# ---- line


def test_the_twin_is_answered_whole_and_in_parts(client: TestClient, line: Line) -> None:
    line.see("blue")
    whole = client.get("/api/v1/twin").json()
    assert whole["schema"] == "lineside.twin/1"
    slot = client.get("/api/v1/twin/slots/A1").json()
    assert slot == whole["slots"]["A1"]
    some = client.get("/api/v1/twin/slots", params={"fields": "seen,probability"}).json()
    assert some["A1"] == {"seen": "present", "probability": 0.97}
    assert client.get("/api/v1/twin/slots/A1/seen").json() == "present"
    missing = client.get("/api/v1/twin/slots/Z9")
    assert missing.status_code == 404
    assert "A1" in missing.json()["fix"]


def test_an_order_is_placed_refused_and_listed(client: TestClient, line: Line) -> None:
    line.see("blue")
    placed = client.post("/api/v1/orders", json={"colour": "blue"})
    assert placed.status_code == 201
    assert placed.json()["placed_by"] == "tester"
    refused = client.post("/api/v1/orders", json={"colour": "red"})
    assert refused.status_code == 409
    assert refused.json()["detail"] == (
        "The red piece you are requesting is out of stock in the Physical Factory!"
    )
    assert client.post("/api/v1/orders", json={"colour": "green"}).status_code == 400
    order = placed.json()["id"]
    assert [item["id"] for item in client.get("/api/v1/orders").json()["items"]] == [order]
    assert client.get(f"/api/v1/orders/{order}").json()["colour"] == "blue"
    assert client.get("/api/v1/orders/ord_0").status_code == 404


def test_events_come_in_order_with_filters_and_cursor(client: TestClient, line: Line) -> None:
    line.see("blue")
    line.send(line.said("i/ldr", ldr=1))
    everything = client.get("/api/v1/events").json()["items"]
    assert [event["log"]["position"] for event in everything] == [1, 2]
    kind = "lineside.prediction.v1"
    (only,) = client.get("/api/v1/events", params={"type": kind}).json()["items"]
    assert only["data"]["inspection"] == "stock"
    page = client.get("/api/v1/events", params={"limit": 1}).json()
    rest = client.get("/api/v1/events", params={"after": page["next"]}).json()
    assert [event["id"] for event in rest["items"]] == [everything[1]["id"]]
    newest = client.get("/api/v1/events", params={"newest_first": True, "limit": 1}).json()
    assert newest["items"][0]["id"] == everything[1]["id"]
    assert client.get(f"/api/v1/events/{only['id']}").json() == only
    assert client.get("/api/v1/events", params={"after": "x"}).status_code == 400
    assert client.get("/api/v1/events", params={"source": "/hall/plant"}).json()["items"]


def test_dead_letters_are_listed_with_counts_and_bytes(client: TestClient, line: Line) -> None:
    line.send(Message(topic="i/none", payload=b"<script>"))
    answer = client.get("/api/v1/dead-letters").json()
    (letter,) = answer["items"]
    assert answer["counts"] == {"unknown topic": 1}
    payload = client.get(f"/api/v1/dead-letters/{letter['id']}/payload")
    assert payload.content == b"<script>"
    assert payload.headers["content-type"] == "application/octet-stream"
    assert "attachment" in payload.headers["content-disposition"]
    assert client.get(f"/api/v1/dead-letters/{letter['id']}").json() == letter
    assert client.get("/api/v1/dead-letters/dlt_0").status_code == 404


def test_figures_count_what_came_and_went(client: TestClient, line: Line, jpeg: Pictures) -> None:
    line.send(line.camera(jpeg()), line.status(), line.prediction("blue"))
    line.send(Message(topic="i/cam", payload=b"no"))
    stats = client.get("/api/v1/stats").json()
    assert (stats["frames_published"], stats["frames_stored"], stats["predictions"]) == (2, 1, 1)
    assert stats["frames_dropped"] == {"not JSON": 1}
    assert set(stats["latency_ms"]) == {"n", "p50", "p95", "p99"}
    text = client.get("/metrics").text
    assert "lineside_frames_stored_total 1.0" in text
    assert 'lineside_frames_dropped_total{reason="not JSON"} 1.0' in text


# ---- the reference's documents


def test_documents_stand_in_the_collections_of_the_reference(
    client: TestClient, line: Line, jpeg: Pictures
) -> None:
    """Reference section 3."""
    line.send(line.camera(jpeg("blue")), line.said("i/ldr", ldr=2355, br="84.3"))
    line.send(line.said("f/i/order", state="ORDERED", type="RED"))
    at = "/api/v1/twin/documents/"
    (picture,) = client.get(f"{at}factory_camera").json()["items"]
    assert picture["data"].startswith("data:image/jpeg;base64,/9j/")
    assert (picture["topic"], picture["_partition"]) == ("i/cam", "DTPartition")
    (sensor,) = client.get(f"{at}sensors").json()["items"]
    assert sensor["br"] == "84.3"
    (message,) = client.get(f"{at}mqtt").json()["items"]
    assert (message["state"], message["type"]) == ("ORDERED", "RED")
    assert client.get(f"{at}other").status_code == 404


def test_the_first_result_creates_the_stock_document(client: TestClient, line: Line) -> None:
    """Reference defects 2 and 4."""
    at = "/api/v1/twin/documents/sagemaker_stock_inference"
    assert client.get(at).json()["items"] == []
    line.see("blue")
    (document,) = client.get(at).json()["items"]
    assert document["is_present"] == {"blue": True, "red": False, "white": False}
    assert document["_partition"] == "DTPartition"
    assert document["probability"]["blue"] == 0.97
    assert document["evidence"]["blue"]["package"].startswith("sha256:")


def test_an_order_stands_in_the_collection_of_the_reference(client: TestClient, line: Line) -> None:
    line.see("red")
    client.post("/api/v1/orders", json={"colour": "red"})
    (order,) = client.get("/api/v1/twin/documents/digital_twin_orders").json()["items"]
    assert (order["color"], order["orderStatus"]) == ("red", "Order Submitted")
    assert (order["ship_from"], order["ship_to"]) == ("North York", "Barcelona")


# ---- ingest over HTTP


def test_ingest_answers_2xx_only_after_the_message_is_stored(
    hub: Services, client: TestClient, clock: FakeClock
) -> None:
    """Reference defect 6."""
    body = {"topic": "i/ldr", "ts": rfc3339(clock.now()), "ldr": 2355, "br": "84.3"}
    first = client.post("/mqttingest", json=body)
    assert first.status_code == 201
    assert hub.events.one(first.json()["id"]).subject == "i/ldr"
    second = client.post("/mqttingest", json=body)
    assert (second.status_code, second.json()["duplicate"]) == (200, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b'{"ts":"2026-01-01T12:00:00.000Z"}', "missing topic"),
        (b'{"topic":"i/none","ts":"2026-01-01T12:00:00.000Z"}', "unknown topic"),
        (b'{"topic":"i/ldr","ts":"x"}', "bad ts"),
        (b'{"topic":"i/cam","ts":"2026-01-01T12:00:00.000Z","data":"x"}', "picture cannot be read"),
    ],
)
def test_a_refused_message_says_where_its_bytes_are(
    client: TestClient, content: bytes, reason: str
) -> None:
    """Reference section 9: each lands where defects 7 to 9 say."""
    answer = client.post("/mqttingest", content=content)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(reason)
    letter = client.get(answer.json()["where"]).json()
    assert letter["reason"] == reason
    assert client.get(answer.json()["where"] + "/payload").content == content


# ---- the rest


def test_failures_are_problem_documents_whoever_raised_them(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1/orders", 405),
        ("GET", "/api/v1/frames?limit=0", 400),
        ("GET", "/api/v1/frames?limit=many", 400),
        ("GET", "/api/v1/frames/frm_0", 404),
        ("GET", "/api/v1/packages/x", 400),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json", path
        document = answer.json()
        assert set(document) == {
            "type", "title", "status", "detail", "where", "fix", "faults",
        }  # fmt: skip
        assert document["status"] == status


def test_every_fault_of_a_body_is_named_at_once(client: TestClient) -> None:
    answer = client.post("/api/v1/runs", json={"seed": "x", "dataset": 1, "other": 2})
    assert answer.status_code == 400
    assert {fault["path"] for fault in answer.json()["faults"]} == {
        "$.seed", "$.dataset", "$.other",
    }  # fmt: skip


def test_an_unforeseen_failure_is_a_problem_without_details(
    client: TestClient, hub: Services, caplog: pytest.LogCaptureFixture
) -> None:
    hub.stats.watch("broken", lambda: 1 / 0)
    answer = client.get("/api/v1/stats")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "division" in caplog.text


def test_the_documentation_lists_every_path_of_the_reference(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = set(document["paths"])
    for path in (
        "/api/v1/cameras", "/api/v1/cameras/{camera}", "/api/v1/frames",
        "/api/v1/frames/{frame}/activation", "/api/v1/datasets/{name}/samples", "/api/v1/runs",
        "/api/v1/runs/{run}/resume", "/api/v1/packages/{digest}/use", "/api/v1/events",
        "/api/v1/trace/{identifier}", "/api/v1/twin", "/api/v1/twin/live", "/api/v1/orders",
        "/api/v1/twin/documents/{collection}", "/api/v1/devices", "/api/v1/dead-letters",
        "/api/v1/stats", "/mqttingest", "/endpoints/{name}/invocations", "/ping", "/metrics",
        "/healthz", "/readyz",
    ):  # fmt: skip
        assert path in paths, path
    page = client.get("/api/docs")
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "GET /api/v1/frames" in page.text


def test_readiness_says_what_is_away(client: TestClient, bus: Bus) -> None:
    assert client.get("/readyz").json() == {"ready": True, "away": []}
    bus.close()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["away"]) == (503, ["bus"])
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/ping").status_code == 200
