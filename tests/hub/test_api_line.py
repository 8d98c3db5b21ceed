"""The line over HTTP: twin, orders, events, documents, ingest; failures as problem documents."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lineside.core import InvalidError, Plant, rfc3339
from lineside.core.drivers import SecretUrl
from lineside.core.worker import Worker, WorkerState
from lineside.hub import HubConfig, Services, create_app
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.stats import worker_figures
from lineside.links import Bus, Message
from lineside.store import Logged
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import Line, drain, open_hub

Pictures = Callable[..., bytes]
JPEG = {"Content-Type": "image/jpeg"}
ARCHIVE = {"Content-Type": "application/octet-stream"}


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
    line.send(line.status(), line.prediction("blue", imagemissing="no room"))
    line.send(line.said("i/ldr", ldr=1))
    everything = client.get("/api/v1/events").json()["items"]
    assert [event["log"]["position"] for event in everything] == [1, 2]
    kind = "lineside.prediction.v1"
    (only,) = client.get("/api/v1/events", params={"type": kind}).json()["items"]
    assert (only["data"]["inspection"], only["imagemissing"]) == ("stock", "no room")
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


def test_records_that_a_sink_set_aside_are_listed_tried_again_and_discarded(
    client: TestClient, hub: Services, line: Line
) -> None:
    def handle(entries: Sequence[Logged]) -> None:
        raise InvalidError("a key begins with $", where=entries[0].entry.subject)

    line.send(line.said("i/ldr", ldr=1), line.said("i/ldr", ldr=2))
    with ExitStack() as stack:
        sink = Follower(
            "mongo", records=hub.records, ledger=hub.ledger, handle=handle,
            source="/hall/plant",
        )  # fmt: skip
        drain(sink)
        hub.followers.start(sink, stack=stack)
        hub.stats.watch_each("follower", "follower", read=hub.followers.figures)
        (view,) = client.get("/api/v1/followers").json()["items"]
        assert (view["name"], view["state"], view["lag"]) == ("mongo", "running", 0)
        assert view["quarantined"] == 2
        (told,) = client.get("/readyz").json()["followers"]
        assert (told["name"], told["quarantined"]) == ("mongo", 2)
        assert 'lineside_follower_quarantined{follower="mongo"} 2.0' in client.get("/metrics").text
        page = client.get("/api/v1/followers/mongo/quarantine", params={"limit": 1}).json()
        (first,) = page["items"]
        assert first["reason"] == "i/ldr: a key begins with $"
        rest = client.get("/api/v1/followers/mongo/quarantine", params={"after": page["next"]})
        (second,) = rest.json()["items"]
        base = "/api/v1/followers/mongo/quarantine"
        assert client.post(f"{base}/{first['position']}/retry").status_code == 202
        while (hub.followers.quarantined("mongo"))[0].tries < 2:
            threading.Event().wait(0.02)
        assert client.post(f"{base}/{first['position']}/discard").status_code == 200
        assert client.post(f"{base}/{first['position']}/retry").status_code == 404
        assert client.post(f"{base}/0/discard").status_code == 400
        (left,) = client.get(base).json()["items"]
        assert left["position"] == second["position"]
        assert client.post(f"{base}/retry").status_code == 202
        assert client.post(f"{base}/discard").json()["quarantined"] == 0
        assert client.get("/api/v1/followers/other/quarantine").status_code == 404
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["away"] == ["follower mongo"]


def test_a_hub_whose_store_another_process_holds_is_not_ready(
    config: HubConfig, plant: Plant, clock: FakeClock, tmp_path: Path
) -> None:
    stored = replace(config, records=SecretUrl(f"sqlite:///{tmp_path}/records.db"))
    with (
        open_hub(stored, plant=plant, clock=clock) as hub,
        closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None)) as other,
        TestClient(create_app(hub), base_url="http://localhost") as asking,
    ):

        def later() -> list[str]:
            clock.advance(1)
            return list(asking.get("/readyz").json()["away"])

        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: later() == ["records", "bus"])
        other.execute("ROLLBACK")
        wait_until(lambda: later() == ["bus"])


def test_a_hub_without_room_on_its_disk_is_not_ready(hub: Services) -> None:
    full = replace(hub, config=replace(hub.config, min_free_bytes=10**18))
    with TestClient(create_app(full), base_url="http://localhost") as asking:
        answer = asking.get("/readyz")
    assert (answer.status_code, answer.json().get("away")) == (503, ["disk"]), answer.text
    assert "min_free_bytes" in answer.json()["fix"]


def test_figures_count_what_came_and_went(client: TestClient, line: Line, jpeg: Pictures) -> None:
    line.send(line.camera(jpeg()), line.status(), line.prediction("blue"))
    line.send(Message(topic="i/cam", payload=b"no"))
    stats = client.get("/api/v1/stats").json()
    assert (stats["frames_published"], stats["frames_stored"], stats["predictions"]) == (2, 1, 1)
    assert stats["frames_dropped"] == {"not JSON": 1}
    assert set(stats["latency_ms"]) == {"n", "p50", "p95", "p99"}
    text = client.get("/metrics").text
    for part in (
        "lineside_frames_stored_total 1.0",
        'lineside_frames_dropped_total{camera="rack",reason="not JSON"} 1.0',
        'lineside_camera_frames_total{camera="rack"} 1.0',
        'lineside_inspection_answers_total{inspection="stock",verdict="ok"} 1.0',
    ):
        assert part in text
    stages = 'lineside_inspection_stage_seconds_bucket{inspection="stock",le="0.005",stage="total"}'
    assert f"{stages} 1.0" in text


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
        ("GET", "/api/v1/orders?verdict=", 400),
        ("POST", "/api/v1/runs?seed=1", 400),
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
    refused = client.get("/api/v1/frames?limit=0").json()
    assert refused["detail"] == "query.limit: '0' is not greater than or equal to 1"
    refused = client.get("/api/v1/frames?verdit=reject&limit=0&sort=").json()
    assert (refused["detail"], refused["fix"].partition(", limit")[0]) == (
        "query.verdit: 'verdit' is not a declared query parameter",
        "Did you mean 'verdict'? Known: before",
    )
    many = "&".join(map(str, range(999)))
    assert len(client.get(f"/api/v1/orders?{many}").json()["faults"]) == 10


def test_every_fault_of_a_body_is_named_at_once(client: TestClient) -> None:
    answer = client.post("/api/v1/runs", json={"seed": "x", "dataset": 1, "other": 2})
    assert answer.status_code == 400
    assert {fault["path"] for fault in answer.json()["faults"]} == {
        "$.seed", "$.dataset", "$.other",
    }  # fmt: skip


def test_an_unforeseen_failure_is_a_problem_without_details(
    client: TestClient, hub: Services, caplog: pytest.LogCaptureFixture
) -> None:
    hub.stats.watch("alerts_open", lambda: 1 / 0)
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
    assert client.get("/readyz").json() == {"ready": True, "away": [], "followers": []}
    bus.close()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["away"]) == (503, ["bus"])
    assert client.get("/healthz?x=1").text == "ok\n"
    assert client.get("/ping?x=1").status_code == 200


def test_a_stuck_worker_makes_the_hub_unready_and_shows_in_the_metrics(
    client: TestClient, hub: Services
) -> None:
    hub.stats.watch_each("worker", "worker", read=worker_figures)
    began, go_on = threading.Event(), threading.Event()

    def step() -> None:
        began.set()
        go_on.wait()

    worker = Worker("sorter", step, every_s=60.0, stuck_s=0.0)
    worker.start()
    try:
        assert began.wait(LONG_S)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["away"]) == (503, ["worker sorter"])
        assert 'lineside_worker_state{worker="sorter"} 3.0' in client.get("/metrics").text
    finally:
        go_on.set()
    wait_until(lambda: worker.state is WorkerState.WAITING)
    lines = client.get("/metrics").text.splitlines()
    worker.stop()
    assert client.get("/readyz").status_code == 200
    assert 'lineside_worker_state{worker="sorter"} 0.0' in lines
    assert 'lineside_worker_failures{worker="sorter"} 0.0' in lines
    assert any(line.startswith('lineside_worker_age_seconds{worker="sorter"}') for line in lines)
